//! On a GPU: one kernel sums over the batch, one walks over its values. Statistics lie there as four numbers for each
//! channel: mean, biased variance, 1 / √(variance + ε), and what rounding took from the mean.

use candle_core::Tensor;

use crate::nn::Result;
use crate::nn::op::cuda::{Arg, BLOCK, Engine, Grid, Slot, are_aligned, at, at_option, countable};

/// Blocks that walk over values: as many as the largest cards (132 processors of 2048 threads) hold at once.
const RESIDENT: usize = 132 * 8;

/// `along_channels`: over `n` values, `V` at a time; a thread stays with its channels, because the stride of the whole grid is
/// a number of rows (see `along`). `of(v, c)` is called for each of them, then `at(i)` for each place.
pub(crate) const SOURCE: &str = r"
template <int V, typename Of, typename At>
__device__ __forceinline__ void along_channels(int channels, int n, Of of, At at) {
    int i = (blockIdx.x * blockDim.x + threadIdx.x) * V, step = gridDim.x * blockDim.x * V;
    if (i >= n) return;
#pragma unroll
    for (int v = 0; v < V; v++) of(v, i % channels + v);
    // The last step is not taken: it may lead beyond 32 bits.
    for (;; i += step) {
        at(i);
        if (n - i <= step) return;
    }
}

struct Gradient {
    float x, y, dy;
    __device__ __forceinline__ float behind(int relu) const { return relu && !(y > 0.0f) ? 0.0f : dy; }
};

KERNEL batch_norm_statistics(const float *x, float *statistics, double epsilon, int rows, int channels, int block_width,
                             double *partial, unsigned int *counters) {
    over_rows<2, 16>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        return x[r * channels + c];
    }, [&](int r, int c, float value, float *sums) {
        float d = value - x[c];
        sums[0] += d;
        sums[1] = fmaf(d, d, sums[1]);
    }, [&](int c, double *sums) {
        double shift = sums[0] / rows, mean = (double)x[c] + shift, variance = sums[1] / rows - shift * shift;
        // Not a maximum, which would hide a NaN.
        variance = variance < 0.0 ? 0.0 : variance;
        statistics[c] = (float)mean;
        statistics[channels + c] = (float)variance;
        statistics[2 * channels + c] = (float)(1.0 / sqrt(variance + epsilon));
        statistics[3 * channels + c] = (float)(mean - (double)(float)mean);
    });
}

template <int V, typename Of>
__device__ __forceinline__ void batch_norm_apply(const float *x, const float *residual, float *y, int relu, int channels,
                                                 int n, Of of) {
    float center[V], scale[V], shift[V];
    along_channels<V>(channels, n, [&](int v, int c) { of(c, center[v], scale[v], shift[v]); }, [&](int i) {
        Floats<V> a = loaded<V>(x + i), r;
        if (residual) r = loaded<V>(residual + i);
#pragma unroll
        for (int v = 0; v < V; v++) {
            float value = fmaf(a.v[v] - center[v], scale[v], shift[v]);
            if (residual) value += r.v[v];
            a.v[v] = relu && value < 0.0f ? 0.0f : value;
        }
        stored<V>(y + i, a);
    });
}

KERNEL batch_norm_train(const float *x, const float *residual, float *y, const float *weight, const float *bias,
                        const float *statistics, int relu, int wide, int channels, int n) {
    auto of = [&](int c, float &center, float &scale, float &shift) {
        center = statistics[c];
        scale = weight[c] * statistics[2 * channels + c];
        shift = fmaf(-statistics[3 * channels + c], scale, bias[c]);
    };
    if (wide) batch_norm_apply<4>(x, residual, y, relu, channels, n, of);
    else batch_norm_apply<1>(x, residual, y, relu, channels, n, of);
}

KERNEL batch_norm_eval(const float *x, const float *residual, float *y, const float *weight, const float *bias,
                       const float *mean, const float *variance, float epsilon, int relu, int wide, int channels, int n) {
    auto of = [&](int c, float &center, float &scale, float &shift) {
        center = mean[c];
        scale = weight[c] / sqrtf(variance[c] + epsilon);
        shift = bias[c];
    };
    if (wide) batch_norm_apply<4>(x, residual, y, relu, channels, n, of);
    else batch_norm_apply<1>(x, residual, y, relu, channels, n, of);
}

KERNEL batch_norm_train_sums(const float *x, const float *y, const float *dy, const float *weight, const float *statistics,
                             float *d_weight, float *d_bias, float *lines, int relu, int rows, int channels,
                             int block_width, double *partial, unsigned int *counters) {
    // Without a ReLU dy stands in for y: loads have no branch.
    const float *mask = relu ? y : dy;
    over_rows<2, 8>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        int i = r * channels + c;
        return Gradient{x[i], mask[i], dy[i]};
    }, [&](int r, int c, Gradient of, float *sums) {
        float g = of.behind(relu);
        sums[0] += g;
        sums[1] = fmaf(g, of.x - statistics[c], sums[1]);
    }, [&](int c, double *sums) {
        double inverse = statistics[2 * channels + c], lost = statistics[3 * channels + c];
        double dw = inverse * (sums[1] - lost * sums[0]), scale = weight[c] * inverse, slope = scale * inverse * dw / rows;
        if (d_weight) d_weight[c] = (float)dw;
        if (d_bias) d_bias[c] = (float)sums[0];
        lines[c] = (float)scale;
        lines[channels + c] = (float)(lost * slope - scale * sums[0] / rows);
        lines[2 * channels + c] = (float)slope;
    });
}

KERNEL batch_norm_eval_sums(const float *x, const float *y, const float *dy, const float *mean, const float *variance,
                            float *d_weight, float *d_bias, double epsilon, int relu, int rows, int channels,
                            int block_width, double *partial, unsigned int *counters) {
    const float *mask = relu ? y : dy;
    over_rows<2, 8>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        int i = r * channels + c;
        return Gradient{x[i], mask[i], dy[i]};
    }, [&](int r, int c, Gradient of, float *sums) {
        float g = of.behind(relu);
        sums[0] += g;
        sums[1] = fmaf(g, of.x - mean[c], sums[1]);
    }, [&](int c, double *sums) {
        if (d_weight) d_weight[c] = (float)(sums[1] / sqrt((double)variance[c] + epsilon));
        if (d_bias) d_bias[c] = (float)sums[0];
    });
}

template <int V>
__device__ __forceinline__ void batch_norm_follow(const float *x, const float *y, const float *dy, const float *statistics,
                                                  const float *lines, float *dx, float *d_residual, int relu,
                                                  int channels, int n) {
    float center[V], scale[V], offset[V], slope[V];
    along_channels<V>(channels, n, [&](int v, int c) {
        center[v] = statistics[c];
        scale[v] = lines[c];
        offset[v] = lines[channels + c];
        slope[v] = lines[2 * channels + c];
    }, [&](int i) {
        Floats<V> g = loaded<V>(dy + i), of_x, of_y;
        if (relu) of_y = loaded<V>(y + i);
        if (dx) of_x = loaded<V>(x + i);
#pragma unroll
        for (int v = 0; v < V; v++) if (relu && !(of_y.v[v] > 0.0f)) g.v[v] = 0.0f;
        if (d_residual) stored<V>(d_residual + i, g);
        if (!dx) return;
#pragma unroll
        for (int v = 0; v < V; v++)
            g.v[v] = fmaf(-slope[v], of_x.v[v] - center[v], fmaf(scale[v], g.v[v], offset[v]));
        stored<V>(dx + i, g);
    });
}

KERNEL batch_norm_train_backward(const float *x, const float *y, const float *dy, const float *statistics,
                                 const float *lines, float *dx, float *d_residual, int relu, int wide, int channels,
                                 int n) {
    if (wide) batch_norm_follow<4>(x, y, dy, statistics, lines, dx, d_residual, relu, channels, n);
    else batch_norm_follow<1>(x, y, dy, statistics, lines, dx, d_residual, relu, channels, n);
}

template <int V>
__device__ __forceinline__ void batch_norm_scale(const float *y, const float *dy, const float *weight,
                                                 const float *variance, float *dx, float *d_residual, float epsilon,
                                                 int relu, int channels, int n) {
    float scale[V];
    along_channels<V>(channels, n, [&](int v, int c) { scale[v] = weight[c] / sqrtf(variance[c] + epsilon); }, [&](int i) {
        Floats<V> g = loaded<V>(dy + i), of_y;
        if (relu) of_y = loaded<V>(y + i);
#pragma unroll
        for (int v = 0; v < V; v++) if (relu && !(of_y.v[v] > 0.0f)) g.v[v] = 0.0f;
        if (d_residual) stored<V>(d_residual + i, g);
        if (!dx) return;
#pragma unroll
        for (int v = 0; v < V; v++) g.v[v] *= scale[v];
        stored<V>(dx + i, g);
    });
}

KERNEL batch_norm_eval_backward(const float *y, const float *dy, const float *weight, const float *variance, float *dx,
                                float *d_residual, float epsilon, int relu, int wide, int channels, int n) {
    if (wide) batch_norm_scale<4>(y, dy, weight, variance, dx, d_residual, epsilon, relu, channels, n);
    else batch_norm_scale<1>(y, dy, weight, variance, dx, d_residual, epsilon, relu, channels, n);
}

struct Committed { float *mean, *variance; const float *statistics; double momentum; long long count, channels; };

KERNEL batch_norm_commit(const Committed *table, const int *halt) {
    if (*halt) return;
    Committed of = table[blockIdx.y];
    EACH(c, of.channels) {
        double of_batch = (double)of.statistics[c] + (double)of.statistics[3 * of.channels + c];
        of.mean[c] = (float)((1.0 - of.momentum) * of.mean[c] + of.momentum * of_batch);
        if (of.count > 1) {
            double unbiased = of.statistics[of.channels + c] * ((double)of.count / (of.count - 1));
            of.variance[c] = (float)((1.0 - of.momentum) * of.variance[c] + of.momentum * unbiased);
        }
    }
}
";

/// As [`super::Affine`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnDevice<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: &'a Tensor,
    pub(crate) epsilon: f64,
}

/// What a backward pass writes: as much as is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) dx: Option<&'a Tensor>,
    /// dγ.
    pub(crate) d_weight: Option<&'a Tensor>,
    /// dβ.
    pub(crate) d_bias: Option<&'a Tensor>,
    /// dr, of the residual: dy behind the ReLU.
    pub(crate) residual: Option<&'a Tensor>,
}

/// How many floats the statistics of that many channels are.
pub(crate) fn statistics_len(channels: usize) -> usize {
    4 * channels
}

/// As [`super::forward_train`]; writes the [`statistics_len`] floats of `statistics`.
pub(crate) fn forward_train(
    engine: &Engine,
    affine: &OnDevice<'_>,
    x: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    y: &Tensor,
    statistics: &Tensor,
) -> Result<()> {
    let channels = affine.weight.elem_count();
    let n = x.elem_count();
    countable(n)?;
    let rows = n / channels;
    let (x, r, y) = (at(x)?, at_option(residual)?, at(y)?);
    let statistics = at(statistics)?;
    let (grid, rest) = engine.over_rows(rows, channels, 2)?;
    let first = [
        x.into(),
        statistics.into(),
        affine.epsilon.into(),
        rows.into(),
        channels.into(),
    ];
    engine.launch("batch_norm_statistics", grid, &[&first[..], &rest].concat())?;
    let (grid, wide) = along(n, channels, &[x, r, y]);
    let args = [
        x.into(),
        r.into(),
        y.into(),
        at(affine.weight)?.into(),
        at(affine.bias)?.into(),
        statistics.into(),
        relu.into(),
        wide,
        channels.into(),
        n.into(),
    ];
    engine.launch("batch_norm_train", grid, &args)
}

/// As [`super::forward_eval`], of the running statistics themselves.
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel reads and writes many tensors"
)]
pub(crate) fn forward_eval(
    engine: &Engine,
    affine: &OnDevice<'_>,
    running_mean: &Tensor,
    running_variance: &Tensor,
    x: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    y: &Tensor,
) -> Result<()> {
    let channels = affine.weight.elem_count();
    let n = x.elem_count();
    countable(n)?;
    let (x, r, y) = (at(x)?, at_option(residual)?, at(y)?);
    let (grid, wide) = along(n, channels, &[x, r, y]);
    let args = [
        x.into(),
        r.into(),
        y.into(),
        at(affine.weight)?.into(),
        at(affine.bias)?.into(),
        at(running_mean)?.into(),
        at(running_variance)?.into(),
        (affine.epsilon as f32).into(),
        relu.into(),
        wide,
        channels.into(),
        n.into(),
    ];
    engine.launch("batch_norm_eval", grid, &args)
}

/// As [`super::backward_train`]; dx or the residual's gradient may be dy.
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel reads and writes many tensors"
)]
pub(crate) fn backward_train(
    engine: &Engine,
    affine: &OnDevice<'_>,
    statistics: &Tensor,
    x: &Tensor,
    y: &Tensor,
    relu: bool,
    dy: &Tensor,
    wanted: Wanted<'_>,
) -> Result<()> {
    let channels = affine.weight.elem_count();
    let n = dy.elem_count();
    countable(n)?;
    let rows = n / channels;
    let (x, y, dy, statistics) = (at(x)?, at(y)?, at(dy)?, at(statistics)?);
    let (dx, d_residual) = (at_option(wanted.dx)?, at_option(wanted.residual)?);
    let lines = engine.scratch(Slot::Workspace, 3 * channels)?;
    let (grid, rest) = engine.over_rows(rows, channels, 2)?;
    let first = [
        x.into(),
        y.into(),
        dy.into(),
        at(affine.weight)?.into(),
        statistics.into(),
        at_option(wanted.d_weight)?.into(),
        at_option(wanted.d_bias)?.into(),
        lines.into(),
        relu.into(),
        rows.into(),
        channels.into(),
    ];
    engine.launch("batch_norm_train_sums", grid, &[&first[..], &rest].concat())?;
    if dx == 0 && d_residual == 0 {
        return Ok(());
    }
    let (grid, wide) = along(n, channels, &[x, y, dy, dx, d_residual]);
    let args = [
        x.into(),
        y.into(),
        dy.into(),
        statistics.into(),
        lines.into(),
        dx.into(),
        d_residual.into(),
        relu.into(),
        wide,
        channels.into(),
        n.into(),
    ];
    engine.launch("batch_norm_train_backward", grid, &args)
}

/// As [`super::backward_eval`], of the running statistics themselves; dx or the residual's gradient may be dy.
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel reads and writes many tensors"
)]
pub(crate) fn backward_eval(
    engine: &Engine,
    affine: &OnDevice<'_>,
    running_mean: &Tensor,
    running_variance: &Tensor,
    x: &Tensor,
    y: &Tensor,
    relu: bool,
    dy: &Tensor,
    wanted: Wanted<'_>,
) -> Result<()> {
    let channels = affine.weight.elem_count();
    let n = dy.elem_count();
    countable(n)?;
    let (y, dy, variance) = (at(y)?, at(dy)?, at(running_variance)?);
    if wanted.d_weight.is_some() || wanted.d_bias.is_some() {
        let rows = n / channels;
        let (grid, rest) = engine.over_rows(rows, channels, 2)?;
        let first = [
            at(x)?.into(),
            y.into(),
            dy.into(),
            at(running_mean)?.into(),
            variance.into(),
            at_option(wanted.d_weight)?.into(),
            at_option(wanted.d_bias)?.into(),
            affine.epsilon.into(),
            relu.into(),
            rows.into(),
            channels.into(),
        ];
        engine.launch("batch_norm_eval_sums", grid, &[&first[..], &rest].concat())?;
    }
    let (dx, d_residual) = (at_option(wanted.dx)?, at_option(wanted.residual)?);
    if dx == 0 && d_residual == 0 {
        return Ok(());
    }
    let (grid, wide) = along(n, channels, &[y, dy, dx, d_residual]);
    let args = [
        y.into(),
        dy.into(),
        at(affine.weight)?.into(),
        variance.into(),
        dx.into(),
        d_residual.into(),
        (affine.epsilon as f32).into(),
        relu.into(),
        wide,
        channels.into(),
        n.into(),
    ];
    engine.launch("batch_norm_eval_backward", grid, &args)
}

/// What one batch normalization keeps of a batch: its running statistics, the batch's, over so many values of each
/// channel.
pub(crate) struct Kept<'a> {
    pub(crate) mean: &'a Tensor,
    pub(crate) variance: &'a Tensor,
    pub(crate) statistics: &'a Tensor,
    pub(crate) count: usize,
    pub(crate) momentum: f64,
}

/// As [`super::commit`], for all batch normalizations of a network at once; does nothing after a loss that was not finite.
pub(crate) fn commit(engine: &Engine, all: &[Kept<'_>]) -> Result<()> {
    let channels = |kept: &Kept<'_>| kept.mean.elem_count();
    let Some(most) = all.iter().map(channels).max() else {
        return Ok(());
    };
    let mut words = Vec::new();
    for kept in all {
        words.extend([
            at(kept.mean)?,
            at(kept.variance)?,
            at(kept.statistics)?,
            kept.momentum.to_bits(),
            kept.count as u64,
            channels(kept) as u64,
        ]);
    }
    let args = [engine.table(words)?.into(), engine.halt()?.into()];
    let grid = Grid::blocks(most.div_ceil(BLOCK), all.len());
    engine.launch("batch_norm_commit", grid, &args)
}

/// The grid of `along_channels`, and whether four values go at once: where channels are fours and all addresses are
/// aligned. Blocks are as many as make the grid's stride a number of rows.
pub(crate) fn along(n: usize, channels: usize, addresses: &[u64]) -> (Grid, Arg) {
    let wide = is_wide(channels, addresses);
    let values = if wide { 4 } else { 1 };
    let groups = channels / values;
    let shared = 1 << groups.trailing_zeros().min(BLOCK.trailing_zeros());
    let blocks = (n / values).div_ceil(BLOCK).clamp(1, RESIDENT);
    let blocks = blocks.next_multiple_of(groups / shared);
    (Grid::blocks(blocks, 1), wide.into())
}

/// Whether rows of that many channels can be read four values at once.
pub(crate) fn is_wide(channels: usize, addresses: &[u64]) -> bool {
    channels.is_multiple_of(4) && are_aligned(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_stay_with_their_channels() {
        for (channels, address) in [
            (64, 256),
            (64, 4),
            (48, 256),
            (23, 256),
            (1, 256),
            (3, 256),
            (2048, 256),
        ] {
            for rows in [1, 100, 65_536] {
                let (grid, wide) = along(rows * channels, channels, &[address]);
                let values = match wide {
                    Arg::Int(0) => 1,
                    _ => 4,
                };
                assert_eq!(values == 4, address == 256 && channels > 23);
                let stride = grid.blocks.0 * grid.threads * values;
                assert!(stride.is_multiple_of(channels), "{channels} {stride}");
            }
        }
    }
}
