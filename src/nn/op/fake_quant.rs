//! Simulated quantization: values are rounded to the levels that an integer would have, and stay floats.
//!
//! q = clamp(round(x / s) + z, q_min, q_max), y = s (q - z); ties round to even, as in PyTorch and NumPy.
//! Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference".
//! Backward is the caller's choice of an [`Estimator`]: the straight-through one (Bengio et al. 2013) is 1 where the value
//! was inside the range and 0 outside.
//! A learned step size (Esser et al. 2020, arXiv:1902.08153, equation 3): ∂y/∂s = round(x / s) - x / s inside the range,
//! q_min - z below and q_max - z above.
//! Deviation: PyTorch's kernel multiplies by the rounded 1/s; dividing by s itself is exact at the ends of a range.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::relu::CHUNK;
use super::simd::vectorized;

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// How a gradient goes back through rounded values, whose own derivative is 0 almost everywhere.
///
/// Attacks on a quantized network differ by it: with [`Estimator::Nothing`] its gradient is masked and it looks robust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// As if nothing had been rounded inside the range, and nothing passes outside: what training wants.
    #[default]
    StraightThrough,
    /// The derivative as it is: 0.
    #[serde(rename = "none")]
    Nothing,
    /// As if there were no levels and no range: NNI's simulator.
    #[serde(rename = "as-the-simulator")]
    Identity,
}

impl Estimator {
    /// The word under which it is recorded.
    pub fn word(self) -> &'static str {
        match self {
            Self::StraightThrough => "straight-through",
            Self::Nothing => "none",
            Self::Identity => "as-the-simulator",
        }
    }
}

/// The least scale: 2^-23, the spacing of floats at 1, as in PyTorch's observers; what is all zero gets it.
pub const LEAST_SCALE: f32 = f32::EPSILON;

/// The levels of a simulated integer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// The distance between two levels.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: i32,
    pub q_min: i32,
    pub q_max: i32,
}

impl Levels {
    /// The integer nearest to a value, before it is clamped.
    #[expect(clippy::inline_always, reason = "part of vectorized bodies")]
    #[inline(always)]
    fn nearest(&self, x: f32) -> f32 {
        (x / self.scale).round_ties_even() + self.zero_point as f32
    }

    /// The integer of a value; of NaN the zero point.
    pub fn quantize(&self, x: f32) -> i32 {
        if x.is_nan() {
            return self.zero_point;
        }
        self.nearest(x).clamp(self.q_min as f32, self.q_max as f32) as i32
    }

    /// The value of an integer.
    pub fn dequantize(&self, q: i32) -> f32 {
        self.scale * (i64::from(q) - i64::from(self.zero_point)) as f32
    }

    /// The least and the greatest level.
    pub fn range(&self) -> (f32, f32) {
        (self.dequantize(self.q_min), self.dequantize(self.q_max))
    }

    /// The value that comes back after quantizing; NaN stays NaN.
    #[expect(clippy::inline_always, reason = "part of vectorized bodies")]
    #[inline(always)]
    pub fn simulate(&self, x: f32) -> f32 {
        let q = self.nearest(x).clamp(self.q_min as f32, self.q_max as f32);
        self.scale * (q - self.zero_point as f32)
    }

    /// How much the simulated value grows with the scale.
    fn growth(&self, x: f32) -> f32 {
        let (least, greatest) = (
            (self.q_min - self.zero_point) as f32,
            (self.q_max - self.zero_point) as f32,
        );
        let v = x / self.scale;
        let rounded = v.round_ties_even();
        if rounded < least {
            least
        } else if rounded > greatest {
            greatest
        } else {
            rounded - v
        }
    }

    /// Whether a value's integer needs no clamping.
    #[expect(clippy::inline_always, reason = "part of vectorized bodies")]
    #[inline(always)]
    pub fn holds(&self, x: f32) -> bool {
        let q = self.nearest(x);
        q >= self.q_min as f32 && q <= self.q_max as f32
    }
}

/// y = the simulated values.
pub fn forward(levels: &Levels, x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| simulate_all(levels, x, y));
}

/// dx = dy inside the range, 0 outside.
pub fn backward(levels: &Levels, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    dx.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK)))
        .for_each(|(dx, (x, dy))| pass_held(levels, x, dy, dx));
}

/// The gradient of a learned scale from that of the simulated values, g Σ dy ∂y/∂s with g = 1 / √(count · q_max), where
/// `count` is how many values share the scale (of one example, if they are activations).
pub fn backward_scale(levels: &Levels, x: &[f32], dy: &[f32], count: usize) -> f32 {
    let of_chunk = |(x, dy): (&[f32], &[f32])| -> f64 {
        let each = x.iter().zip(dy);
        each.map(|(x, dy)| f64::from(levels.growth(*x)) * f64::from(*dy))
            .sum()
    };
    // Parts are added in order: the same on every number of threads.
    let chunks = x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK));
    let sums: Vec<f64> = chunks.map(of_chunk).collect();
    let most = f64::from(levels.q_max - levels.zero_point);
    let g = (count as f64 * most).max(1.0).sqrt().recip();
    (g * sums.iter().sum::<f64>()) as f32
}

vectorized! {
    fn simulate_all<V>(levels: &Levels, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = levels.simulate(*x);
        }
    }
}

vectorized! {
    fn pass_held<V>(levels: &Levels, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = if levels.holds(*x) { *dy } else { 0.0 };
        }
    }
}
