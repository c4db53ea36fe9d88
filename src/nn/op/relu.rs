//! Rectified linear unit: y = max(x, 0); its derivative at exactly 0 is 0, as in PyTorch.

use rayon::prelude::*;

use super::simd::vectorized;

/// How many values one task takes: large enough that starting it costs nothing beside it.
pub(crate) const CHUNK: usize = 16_384;

/// y = max(x, 0).
pub fn forward(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| rectify(x, y));
}

/// dx = dy where y > 0, else 0.
pub fn backward(y: &[f32], dy: &[f32], dx: &mut [f32]) {
    dx.par_chunks_mut(CHUNK)
        .zip(y.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK)))
        .for_each(|(dx, (y, dy))| masked(y, dy, dx));
}

/// max(x, 0), keeping a NaN: a diverged network must not look healthy.
#[expect(clippy::inline_always, reason = "part of vectorized bodies")]
#[inline(always)]
pub(crate) fn rectified(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

vectorized! {
    fn rectify<V>(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = rectified(*x);
        }
    }
}

vectorized! {
    /// `target` = `dy` where `y` > 0, else 0.
    pub(crate) fn masked<V>(y: &[f32], dy: &[f32], target: &mut [f32]) {
        for ((t, y), dy) in target.iter_mut().zip(y).zip(dy) {
            // A choice by bits: with a branch the compiler would not use vectors, and signs are hard to predict.
            *t = f32::from_bits(dy.to_bits() & u32::from(*y > 0.0).wrapping_neg());
        }
    }
}

/// On a GPU.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use candle_core::Tensor;

    use crate::nn::Result;
    use crate::nn::op::cuda::{Engine, Grid, at};

    pub(crate) const SOURCE: &str = r"
__device__ __forceinline__ float rectified(float x) { return x < 0.0f ? 0.0f : x; }

KERNEL relu_forward(const float *x, float *y, int wide, int n) {
    each_value(wide, n, y, [](float x) { return rectified(x); }, x);
}

KERNEL relu_backward(const float *y, const float *dy, float *dx, int wide, int n) {
    each_value(wide, n, dx, [](float y, float dy) { return y > 0.0f ? dy : 0.0f; }, y, dy);
}
";

    /// As [`super::forward`].
    pub(crate) fn forward(engine: &Engine, x: &Tensor, y: &Tensor) -> Result<()> {
        let n = x.elem_count();
        let (x, y) = (at(x)?, at(y)?);
        let (grid, wide) = Grid::over_values(n, &[x, y]);
        engine.launch("relu_forward", grid, &[x.into(), y.into(), wide, n.into()])
    }

    /// As [`super::backward`], to an address.
    pub(crate) fn backward(engine: &Engine, y: &Tensor, dy: &Tensor, dx: u64) -> Result<()> {
        let n = dy.elem_count();
        let (y, dy) = (at(y)?, at(dy)?);
        let (grid, wide) = Grid::over_values(n, &[y, dy, dx]);
        let args = [y.into(), dy.into(), dx.into(), wide, n.into()];
        engine.launch("relu_backward", grid, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivative_at_zero_is_zero() {
        let (mut y, mut dx) = ([9.0; 3], [9.0; 3]);
        forward(&[-1.0, 0.0, 2.0], &mut y);
        backward(&y, &[1.0, 1.0, 1.0], &mut dx);
        assert_eq!((y, dx), ([0.0, 0.0, 2.0], [0.0, 0.0, 1.0]));
    }

    #[test]
    fn nan_stays() {
        assert!(rectified(f32::NAN).is_nan());
    }
}
