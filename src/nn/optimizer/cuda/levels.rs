//! Parameters on levels on a GPU, between two steps: as [`super::super::levels`] on the CPU. The levels lie beside the weights
//! while they move, and nothing of them is read back.

use candle_core::Tensor;

use super::Memory;
use crate::nn::Result;
use crate::nn::op::cuda::{Arg, Engine, Grid, at, at_option};
use crate::nn::parameters::{Moves, Parameter, Parameters, RowLevels};
use crate::nn::trace::Gradients;

/// `levels` are four numbers for each row: scale, zero point, least and greatest integer. Rows of `run` values lie one after
/// the other; those of one value lie side by side, as often as there are values in a row.
pub(crate) const SOURCE: &str = r"
__device__ __forceinline__ int place_in_row(int row, int j, int run, int rows) {
    return run == 1 ? j * rows + row : row * run + j;
}

KERNEL learn_levels(const float *unrounded, float *gradient, const float *levels, float *d_steps, int run, int rows,
                    int count, int blocks, double *partial, unsigned int *counters) {
    int row = blockIdx.x / blocks;
    const float *of = levels + 4 * row;
    float scale = of[0], zero = of[1], lowest = of[2], highest = of[3];
    double total;
    bool ends = sum_of_row(count, blocks, partial, counters, &total, [&](int j) {
        int i = place_in_row(row, j, run, rows);
        float value = unrounded[i], g = gradient[i];
        if (!on_levels(value, scale, zero, lowest, highest)) gradient[i] = 0.0f;
        return (double)level_growth(value, scale, zero, lowest, highest) * (double)g;
    });
    if (ends && threadIdx.x == 0) d_steps[row] = of_scale(total, count, highest - zero);
}

__device__ __forceinline__ float largest_of_block(float value) {
    __shared__ float found[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    for (int offset = 16; offset > 0; offset >>= 1) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    __syncthreads();
    if (lane == 0) found[warp] = value;
    __syncthreads();
    value = found[0];
    for (int w = 1; w < warps; w++) value = fmaxf(value, found[w]);
    return value;
}

KERNEL follow_weights(const float *unrounded, float *levels, int run, int rows, int count, int blocks, float *partial,
                      unsigned int *counters) {
    int row = blockIdx.x / blocks, block = blockIdx.x % blocks;
    // As on the host a NaN is no largest value.
    float largest = 0.0f;
    for (int j = block * blockDim.x + threadIdx.x; j < count; j += blocks * blockDim.x)
        largest = fmaxf(largest, fabsf(unrounded[place_in_row(row, j, run, rows)]));
    largest = largest_of_block(largest);
    if (threadIdx.x == 0) partial[blockIdx.x] = largest;
    if (!is_last(counters + row, blocks)) return;
    largest = 0.0f;
    for (int b = threadIdx.x; b < blocks; b += blockDim.x) largest = fmaxf(largest, partial[row * blocks + b]);
    largest = largest_of_block(largest);
    if (threadIdx.x == 0) levels[4 * row] = fmaxf(__fdiv_rn(largest, levels[4 * row + 3]), LEAST_SCALE);
}

KERNEL round_to_levels(float *unrounded, float *p, float *levels, const float *steps, int stays, int run, int rows, int n) {
    EACH(i, n) {
        int row = i / run % rows;
        float *of = levels + 4 * row;
        // Nobody reads a scale here that is written here: steps are what is learned, levels are where it is kept.
        float scale = steps ? steps[row] : of[0], zero = of[1], lowest = of[2], highest = of[3], value = unrounded[i];
        if (steps && i == place_in_row(row, 0, run, rows)) of[0] = scale;
        if (stays) {
            float least = scale * (lowest - zero), greatest = scale * (highest - zero);
            // No minima and maxima: a NaN is neither below nor above, and stays.
            value = value < least ? least : value > greatest ? greatest : value;
            unrounded[i] = value;
        }
        float q = nearest_level(value, scale, zero);
        q = q < lowest ? lowest : q > highest ? highest : q;
        p[i] = scale * (q - zero);
    }
}
";

/// By their places, memory for the gradients of the steps that are learned from weights.
pub(in crate::nn::optimizer) fn of_steps(
    parameters: &Parameters,
    steps: &[Option<usize>],
) -> Result<Vec<Option<Tensor>>> {
    let mut found = vec![None; parameters.len()];
    for step in steps.iter().flatten() {
        found[*step] = Some(parameters.at(*step).value.copy()?);
    }
    Ok(found)
}

/// How a parameter's values lie in rows: how many of one row lie side by side, and how many rows there are.
fn rows(value: &Tensor, levels: &RowLevels) -> (usize, usize) {
    let rows = levels.all().len();
    // In every order rows lie one after the other, but those of a depthwise convolution lie side by side.
    match value.stride() {
        [1, ..] if rows > 1 => (1, rows),
        _ => (levels.run(value.elem_count()), rows),
    }
}

impl<const N: usize> Memory<N> {
    /// The gradient that each parameter is stepped with: its own, which what lies outside of learned levels loses here, or
    /// that of a learned step, which is found here.
    pub(super) fn learn_on_device<'g>(
        &'g self,
        engine: &Engine,
        parameters: &mut Parameters,
        gradients: &'g Gradients,
    ) -> Result<Vec<Option<&'g Tensor>>> {
        let mut stepped: Vec<_> = gradients.parameters.iter().map(Option::as_ref).collect();
        for (index, gradient) in gradients.parameters.iter().enumerate() {
            let (Some(step), Some(unrounded), Some(gradient)) =
                (self.steps[index], &self.unrounded[index], gradient)
            else {
                continue;
            };
            let Parameter { value, levels, .. } = parameters.at_mut(index);
            let (Some(levels), Some(d_steps)) = (levels, &self.of_steps[step]) else {
                continue;
            };
            let (run, rows) = rows(value, levels);
            let count = value.elem_count() / rows;
            let (grid, last) = engine.over_row_values(rows, count)?;
            let first: [Arg; 7] = [
                at(unrounded)?.into(),
                at(gradient)?.into(),
                levels.resident(engine)?.into(),
                at(d_steps)?.into(),
                run.into(),
                rows.into(),
                count.into(),
            ];
            engine.launch("learn_levels", grid, &[&first[..], &last].concat())?;
            stepped[step] = Some(d_steps);
        }
        Ok(stepped)
    }

    /// Moves the levels of each parameter that was stepped, and puts it on the nearest ones.
    pub(super) fn round_on_device(
        &self,
        engine: &Engine,
        parameters: &mut Parameters,
        gradients: &Gradients,
    ) -> Result<()> {
        for index in 0..parameters.len() {
            let (Some(unrounded), Some(_)) = (&self.unrounded[index], &gradients.parameters[index])
            else {
                continue;
            };
            let steps = self.steps[index].map(|step| &parameters.at(step).value);
            let steps = at_option(steps)?;
            let Parameter { value, levels, .. } = parameters.at_mut(index);
            let Some(levels) = levels else { continue };
            let (run, rows) = rows(value, levels);
            if levels.moves() == Moves::Follow {
                let count = value.elem_count() / rows;
                let (grid, last) = engine.over_row_values(rows, count)?;
                let first: [Arg; 5] = [
                    at(unrounded)?.into(),
                    levels.resident(engine)?.into(),
                    run.into(),
                    rows.into(),
                    count.into(),
                ];
                engine.launch("follow_weights", grid, &[&first[..], &last].concat())?;
            }
            let n = value.elem_count();
            let args = [
                at(unrounded)?.into(),
                at(value)?.into(),
                levels.resident(engine)?.into(),
                steps.into(),
                (levels.moves() == Moves::Stay).into(),
                run.into(),
                rows.into(),
                n.into(),
            ];
            engine.launch("round_to_levels", Grid::over(n), &args)?;
        }
        Ok(())
    }
}
