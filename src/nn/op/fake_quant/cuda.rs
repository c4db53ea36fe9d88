//! On a GPU: a scale that is learned is read where it lies, and its gradient is a sum by blocks in one order.

use candle_core::Tensor;

use super::Levels;
use crate::nn::Result;
use crate::nn::op::cuda::{Arg, BLOCK, Engine, Grid, SUMMING, Slot, at, at_option};

/// `sum_of_row`: the sum of `of(j)` over the `count` values of a row, by the `blocks` blocks that each row has, in one order
/// always; whether this block is the last of its row, whose threads then all know the total.
pub(crate) const SOURCE: &str = r"
// As on the host.
#define LEAST_SCALE 1.1920929e-7f

// Rounded as the host does it, whatever the compiler is told about fast division.
__device__ __forceinline__ float nearest_level(float x, float scale, float zero) { return rintf(__fdiv_rn(x, scale)) + zero; }

__device__ __forceinline__ bool on_levels(float x, float scale, float zero, float lowest, float highest) {
    float q = nearest_level(x, scale, zero);
    return q >= lowest && q <= highest;
}

// How much the simulated value grows with the scale.
__device__ __forceinline__ float level_growth(float x, float scale, float zero, float lowest, float highest) {
    float v = __fdiv_rn(x, scale), rounded = rintf(v);
    return rounded < lowest - zero ? lowest - zero : rounded > highest - zero ? highest - zero : rounded - v;
}

// The gradient of a scale that `count` values share, from the sum of its parts.
__device__ __forceinline__ float of_scale(double sum, int count, float most) {
    return (float)(sum / sqrt(fmax((double)count * (double)most, 1.0)));
}

template <typename Of>
__device__ __forceinline__ bool sum_of_row(int count, int blocks, double *partial, unsigned int *counters, double *total, Of of) {
    int row = blockIdx.x / blocks, block = blockIdx.x % blocks;
    double sum = 0.0;
    for (int j = block * blockDim.x + threadIdx.x; j < count; j += blocks * blockDim.x) sum += of(j);
    sum = of_block(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
    if (!is_last(counters + row, blocks)) return false;
    sum = 0.0;
    for (int b = threadIdx.x; b < blocks; b += blockDim.x) sum += partial[row * blocks + b];
    *total = of_block(sum);
    return true;
}

KERNEL fake_quant_forward(const float *x, float *y, const float *learned, float fixed, float zero, float lowest,
                          float highest, int n) {
    float scale = learned ? *learned : fixed;
    EACH(i, n) {
        float q = nearest_level(x[i], scale, zero);
        // A NaN is neither below nor above, and stays.
        q = q < lowest ? lowest : q > highest ? highest : q;
        y[i] = scale * (q - zero);
    }
}

KERNEL fake_quant_backward(const float *x, const float *dy, float *dx, const float *learned, float fixed, float zero,
                           float lowest, float highest, int n) {
    float scale = learned ? *learned : fixed;
    EACH(i, n) dx[i] = on_levels(x[i], scale, zero, lowest, highest) ? dy[i] : 0.0f;
}

KERNEL fake_quant_backward_scale(const float *x, const float *dy, float *dx, float *d_scale, int shared,
                                 const float *learned, float fixed, float zero, float lowest, float highest, int n,
                                 int blocks, double *partial, unsigned int *counters) {
    float scale = learned ? *learned : fixed;
    double total;
    bool ends = sum_of_row(n, blocks, partial, counters, &total, [&](int i) {
        float value = x[i], gradient = dy[i];
        if (dx) dx[i] = on_levels(value, scale, zero, lowest, highest) ? gradient : 0.0f;
        return (double)level_growth(value, scale, zero, lowest, highest) * (double)gradient;
    });
    if (ends && threadIdx.x == 0) *d_scale = of_scale(total, shared, highest - zero);
}
";

/// Values that a thread of `sum_of_row` adds by itself, at least.
const VALUES: usize = 8;

impl Engine {
    /// The grid of a kernel made of `sum_of_row` over rows of `count` values, and its last arguments: the blocks of a row,
    /// memory for partial sums, counters.
    pub(crate) fn over_row_values(&self, rows: usize, count: usize) -> Result<(Grid, [Arg; 3])> {
        let most = (SUMMING / rows.max(1)).max(1);
        let blocks = count.div_ceil(BLOCK * VALUES).clamp(1, most);
        let partial = self.scratch(Slot::Partial, 2 * rows * blocks)?;
        let counters = self.counters(rows)?;
        let args = [blocks.into(), partial.into(), counters.into()];
        Ok((Grid::blocks(rows * blocks, 1), args))
    }
}

/// Levels whose scale may be learned: then it is a parameter on the device, and that of `levels` counts for nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnDevice<'a> {
    pub(crate) levels: Levels,
    pub(crate) learned: Option<&'a Tensor>,
}

impl OnDevice<'_> {
    fn args(&self) -> Result<[Arg; 5]> {
        let levels = &self.levels;
        Ok([
            at_option(self.learned)?.into(),
            levels.scale.into(),
            (levels.zero_point as f32).into(),
            (levels.q_min as f32).into(),
            (levels.q_max as f32).into(),
        ])
    }
}

/// As [`super::forward`].
pub(crate) fn forward(engine: &Engine, levels: OnDevice<'_>, x: &Tensor, y: &Tensor) -> Result<()> {
    let n = x.elem_count();
    let first = [at(x)?.into(), at(y)?.into()];
    let args = [&first[..], &levels.args()?, &[n.into()]].concat();
    engine.launch("fake_quant_forward", Grid::over(n), &args)
}

/// As [`super::backward`]; dx may be dy.
pub(crate) fn backward(
    engine: &Engine,
    levels: OnDevice<'_>,
    x: &Tensor,
    dy: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    let n = dy.elem_count();
    let first = [at(x)?.into(), at(dy)?.into(), at(dx)?.into()];
    let args = [&first[..], &levels.args()?, &[n.into()]].concat();
    engine.launch("fake_quant_backward", Grid::over(n), &args)
}

/// As [`super::backward_scale`] for a scale that `count` values of each example share; writes dx, too, if it is there.
pub(crate) fn backward_scale(
    engine: &Engine,
    levels: OnDevice<'_>,
    (x, dy): (&Tensor, &Tensor),
    count: usize,
    dx: Option<&Tensor>,
    d_scale: &Tensor,
) -> Result<()> {
    let n = dy.elem_count();
    let (grid, last) = engine.over_row_values(1, n)?;
    let first = [
        at(x)?.into(),
        at(dy)?.into(),
        at_option(dx)?.into(),
        at(d_scale)?.into(),
        count.into(),
    ];
    let args = [&first[..], &levels.args()?, &[n.into()], &last].concat();
    engine.launch("fake_quant_backward_scale", grid, &args)
}
