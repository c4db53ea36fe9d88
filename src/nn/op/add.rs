//! Sum of two tensors of one shape, with the ReLU that follows it in the same pass.
//!
//! y = a + b, or max(a + b, 0). da = db = dy, behind `relu::backward` if rectified.

use candle_core::Tensor;
use rayon::prelude::*;

use super::relu::CHUNK;
use super::simd::vectorized;
use super::{read, write};
use crate::nn::Result;

/// sum = sum + added, wherever they lie.
pub fn sum_up(sum: &Tensor, added: &Tensor) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Some(engine) = super::cuda::engine_of(sum)? {
        return cuda::forward(&engine, sum, added, false, sum);
    }
    let added = read(added)?;
    write(sum, |sum| forward_in_place(sum, &added, false))
}

/// y = a + b, rectified where asked for.
pub fn forward(a: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
    y.par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)))
        .for_each(|(y, (a, b))| sum(a, b, floor(relu), y));
}

/// a = a + b: for gradients that meet, or a sum whose first term nobody needs any more.
pub fn forward_in_place(a: &mut [f32], b: &[f32], relu: bool) {
    a.par_chunks_mut(CHUNK)
        .zip(b.par_chunks(CHUNK))
        .for_each(|(a, b)| sum_in_place(a, b, floor(relu)));
}

fn floor(relu: bool) -> f32 {
    if relu { 0.0 } else { f32::NEG_INFINITY }
}

vectorized! {
    fn sum<V>(a: &[f32], b: &[f32], floor: f32, y: &mut [f32]) {
        for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
            let sum = V::fused(*a, 1.0, *b);
            // Not `max`, which would hide a NaN.
            *y = if sum < floor { floor } else { sum };
        }
    }
}

vectorized! {
    fn sum_in_place<V>(a: &mut [f32], b: &[f32], floor: f32) {
        for (a, b) in a.iter_mut().zip(b) {
            let sum = V::fused(*a, 1.0, *b);
            *a = if sum < floor { floor } else { sum };
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
KERNEL add_forward(const float *a, const float *b, float *y, int relu, int wide, int n) {
    each_value(wide, n, y, [=](float a, float b) {
        float sum = a + b;
        return relu && sum < 0.0f ? 0.0f : sum;
    }, a, b);
}
";

    /// As [`super::forward`]; y may be a.
    pub(crate) fn forward(
        engine: &Engine,
        a: &Tensor,
        b: &Tensor,
        relu: bool,
        y: &Tensor,
    ) -> Result<()> {
        let n = a.elem_count();
        let (a, b, y) = (at(a)?, at(b)?, at(y)?);
        let (grid, wide) = Grid::over_values(n, &[a, b, y]);
        let args = [a.into(), b.into(), y.into(), relu.into(), wide, n.into()];
        engine.launch("add_forward", grid, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::op::relu;

    /// Longer than a chunk, so that its seam is seen.
    #[test]
    fn sums_and_their_gradients() {
        let n = CHUNK + 5;
        let a: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 3.0).collect();
        let b: Vec<f32> = (0..n).map(|i| (i % 5) as f32 - 2.0).collect();
        let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n]);
        for relu in [false, true] {
            forward(&a, &b, relu, &mut y);
            let expected = |i: usize| {
                let sum = a[i] + b[i];
                if relu { sum.max(0.0) } else { sum }
            };
            assert!((0..n).all(|i| y[i] == expected(i)));
            let mut alone = a.clone();
            forward_in_place(&mut alone, &b, relu);
            assert_eq!(alone, y);
        }
        relu::backward(&y, &b, &mut dx);
        assert!((0..n).all(|i| dx[i] == if a[i] + b[i] > 0.0 { b[i] } else { 0.0 }));
    }

    #[test]
    fn nan_stays() {
        let mut y = [0.0];
        forward(&[f32::NAN], &[1.0], true, &mut y);
        assert!(y[0].is_nan());
    }
}
