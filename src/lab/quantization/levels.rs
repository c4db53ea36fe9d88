//! Levels for weights and activations: how many, how far apart, and which integer is 0.
//!
//! Weights, for each tensor or each output channel (Krishnamoorthi 2018, arXiv:1806.08342, section 3.1):
//! - `symmetric`, restricted: z = 0, s = max|w| / q_max, ±q_max with q_max = 2^(b-1) - 1: -127 to 127 at 8 bits, -1 to 1,
//!   which is ternary, at 2. Nagel et al. 2021, arXiv:2106.08295, section 2.2.
//! - `full`: one level more below, s = max|w| / (q_max + 1/2), as PyTorch's observers have it.
//! - `asymmetric`: as activations, around a zero point.
//!
//! Activations: 0 to 2^b - 1 over a range [min, max] that is widened to hold 0, s = (max - min) / (2^b - 1),
//! z = -round(min / s). One bit would be a symmetric range of 0 alone: no knob goes below 2.

use rayon::prelude::*;

use crate::lab::quantization::ranges;
use crate::nn::op::fake_quant::{LEAST_SCALE, Levels};
use crate::nn::parameters::RowLevels;

/// Where the levels of weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symmetry {
    Symmetric,
    Full,
    Asymmetric,
}

/// How the levels of weights are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    pub bits: u32,
    pub symmetry: Symmetry,
    /// Whether each output channel has its own.
    pub per_channel: bool,
    /// Whether the range is the one of least squared error instead of that of all weights.
    pub least_error: bool,
}

impl Weights {
    /// The levels of weights with so many output channels.
    pub fn levels(self, values: &[f32], channels: usize) -> RowLevels {
        let run = if self.per_channel {
            values.len() / channels.max(1)
        } else {
            values.len()
        };
        let rows: Vec<Levels> = values
            .par_chunks(run.max(1))
            .map(|row| self.of(row))
            .collect();
        let nothing = symmetric(0.0, self.bits).into();
        RowLevels::new(rows).unwrap_or(nothing)
    }

    fn of(self, row: &[f32]) -> Levels {
        let (least, greatest) = row
            .iter()
            .fold((0.0_f32, 0.0_f32), |(least, greatest), value| {
                (least.min(*value), greatest.max(*value))
            });
        let made = |(least, greatest): (f32, f32)| self.reaching(least, greatest);
        if !self.least_error {
            return made((least, greatest));
        }
        let values = ranges::Histogram::of(row, least, greatest);
        made(match self.symmetry {
            Symmetry::Asymmetric => ranges::least_error(&values, &made),
            _ => ranges::least_error_around_zero(&values, &made),
        })
    }

    fn reaching(self, least: f32, greatest: f32) -> Levels {
        let largest = greatest.max(-least);
        match self.symmetry {
            Symmetry::Symmetric => symmetric(largest, self.bits),
            Symmetry::Full => full(largest, self.bits),
            Symmetry::Asymmetric => asymmetric((least, greatest), self.bits),
        }
    }
}

/// The levels of a bias: 32-bit multiples of the scale of the sums that it is added to.
pub fn of_sums(scale: f32) -> Levels {
    Levels {
        scale: scale.max(f32::MIN_POSITIVE),
        zero_point: 0,
        q_min: i32::MIN,
        q_max: i32::MAX,
    }
}

/// Symmetric, restricted levels for values up to this size.
pub fn symmetric(largest: f32, bits: u32) -> Levels {
    let q_max = (1 << (bits - 1)) - 1;
    Levels {
        scale: (largest / q_max as f32).max(LEAST_SCALE),
        zero_point: 0,
        q_min: -q_max,
        q_max,
    }
}

/// Symmetric levels for values up to this size that use every integer.
pub fn full(largest: f32, bits: u32) -> Levels {
    let half = 1 << (bits - 1);
    Levels {
        scale: (largest / (half as f32 - 0.5)).max(LEAST_SCALE),
        zero_point: 0,
        q_min: -half,
        q_max: half - 1,
    }
}

/// Asymmetric levels from 0 for values of this range, in which 0 lies.
pub fn asymmetric((least, greatest): (f32, f32), bits: u32) -> Levels {
    let q_max = (1 << bits) - 1;
    let (least, greatest) = (least.min(0.0), greatest.max(0.0));
    let scale = ((greatest - least) / q_max as f32).max(LEAST_SCALE);
    let zero_point = (-(least / scale).round_ties_even() as i32).clamp(0, q_max);
    Levels {
        scale,
        zero_point,
        q_min: 0,
        q_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// -1 to .8; PyTorch 2.15's `fake_quantize_per_tensor_affine` with these scales gives the same integers.
    const VALUES: [f32; 5] = [-1.0, -0.52, 0.0, 0.25, 0.8];

    fn check(levels: Levels, scale: f32, integers: [i32; 5], error: f64) {
        assert!((levels.scale - scale).abs() < 2e-8, "{levels:?}");
        assert_eq!(VALUES.map(|value| levels.quantize(value)), integers);
        let squares = VALUES
            .iter()
            .map(|&value| (f64::from(levels.simulate(value)) - f64::from(value)).powi(2));
        let found = squares.sum::<f64>() / 5.0;
        assert!(
            (found - error).abs() < 1e-4 * error,
            "{found} is not {error}"
        );
    }

    fn weights(bits: u32, symmetry: Symmetry) -> Weights {
        Weights {
            bits,
            symmetry,
            per_channel: false,
            least_error: false,
        }
    }

    /// By hand: s = 1/127, and 1/7; the errors in NumPy 2.4.6 in double precision.
    #[test]
    fn symmetric_levels_are_restricted() {
        let of = |bits| *weights(bits, Symmetry::Symmetric).levels(&VALUES, 5).of(0);
        check(
            of(8),
            0.007_874_016,
            [-127, -66, 0, 32, 102],
            2.778_845_6e-6,
        );
        check(of(4), 0.142_857_14, [-7, -4, 0, 2, 6], 1.437_142_9e-3);
        // Two bits are ternary.
        check(of(2), 1.0, [-1, -1, 0, 0, 1], 0.066_58);
        assert_eq!(of(16).q_max, 32_767);
    }

    /// By hand: s = 1/127.5 and 1/7.5. In exact arithmetic -1 / s is a tie that goes to the even -128 and -8; with a scale
    /// of 32 bits it is none, and PyTorch 2.15 itself gives -127 and -7.
    #[test]
    fn full_levels_use_every_integer() {
        let of = |bits| *weights(bits, Symmetry::Full).levels(&VALUES, 5).of(0);
        for (bits, scale, rest, least) in [
            (8, 0.007_843_137, [-66, 0, 32, 102], -128),
            (4, 0.133_333_33, [-4, 0, 2, 6], -8),
        ] {
            let levels = of(bits);
            assert!((levels.scale - scale).abs() < 2e-8, "{levels:?}");
            assert_eq!(VALUES.map(|value| levels.quantize(value))[1..], rest);
            assert_eq!(levels.q_min, least);
            assert_eq!(levels.quantize(-1.001), least);
        }
    }

    /// By hand: the range [-.6, 2] at 8 bits is s = 2.6/255, z = 59.
    #[test]
    fn asymmetric_levels_hold_zero_exactly() {
        let levels = asymmetric((-0.6, 2.0), 8);
        assert!((levels.scale - 0.010_196_078).abs() < 1e-9);
        assert_eq!(levels.zero_point, 59);
        let found = [-0.6, -0.1, 0.0, 1.0, 2.0, 2.5].map(|value| levels.quantize(value));
        assert_eq!(found, [0, 49, 59, 157, 255, 255]);
        assert_eq!(levels.simulate(0.0), 0.0);
        // A range on one side of 0 is widened to it.
        assert_eq!(asymmetric((1.0, 2.0), 8).zero_point, 0);
        assert_eq!(asymmetric((-2.0, -1.0), 4).zero_point, 15);
    }

    #[test]
    fn what_is_all_zero_has_a_scale() {
        assert_eq!(symmetric(0.0, 8).scale, f32::EPSILON);
        assert_eq!(
            asymmetric((0.0, 0.0), 8),
            Levels {
                scale: f32::EPSILON,
                zero_point: 0,
                q_min: 0,
                q_max: 255
            }
        );
    }

    /// NumPy 2.4.6's `rint`: halves go to the even neighbor, which Rust's `round` does not do.
    #[test]
    fn halves_go_to_the_even_neighbor() {
        let levels = Levels {
            scale: 1.0,
            zero_point: 0,
            q_min: -8,
            q_max: 7,
        };
        assert_eq!(
            [0.5, 1.5, 2.5, -0.5].map(|value| levels.quantize(value)),
            [0, 2, 2, 0]
        );
    }

    #[test]
    fn each_channel_has_its_own_scale() {
        let rows = Weights {
            per_channel: true,
            ..weights(8, Symmetry::Symmetric)
        };
        let rows = rows.levels(&[1.27, -0.5, 0.0, -12.7], 2);
        let scales: Vec<f32> = rows.all().iter().map(|levels| levels.scale).collect();
        assert!((scales[0] - 0.01).abs() < 1e-8 && (scales[1] - 0.1).abs() < 1e-7);
    }

    /// One far value: the range of least error leaves it out.
    #[test]
    fn the_range_of_least_error_is_no_worse() {
        let values: Vec<f32> = (0..1000)
            .map(|i| ((i * 37) % 1000) as f32 / 500.0 - 1.0)
            .chain([6.0])
            .collect();
        for symmetry in [Symmetry::Symmetric, Symmetry::Full, Symmetry::Asymmetric] {
            let error = |least_error| {
                let levels = Weights {
                    least_error,
                    ..weights(4, symmetry)
                };
                let rounded = levels.levels(&values, 1);
                let off = |v: &f32| f64::from(rounded.of(0).simulate(*v) - v).powi(2);
                values.iter().map(off).sum::<f64>()
            };
            let (plain, least) = (error(false), error(true));
            assert!(least < 0.9 * plain, "{symmetry:?}: {least} {plain}");
        }
    }
}
