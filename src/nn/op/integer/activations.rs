//! Stored activations: from images, from one set of levels to another, and sums of two.

use rayon::prelude::*;

use super::requantize::Affine;
use crate::nn::op::fake_quant::Levels;
use crate::nn::op::relu::CHUNK;
use crate::nn::op::simd::vectorized;
use crate::nn::op::{parts, shares};
use crate::nn::{Result, invalid};

/// Normalizes images and stores them: (B, C, H, W) -> (B, H, W, C), with the levels' least integer as 0.
///
/// The same arithmetic as the simulated network's, so that both begin with the same integers.
pub fn store_images(
    mean: &[f32],
    std: &[f32],
    levels: &Levels,
    pixels: usize,
    x: &[f32],
    y: &mut [u8],
) {
    let channels = mean.len();
    let image = channels * pixels;
    let parts = parts(y.len() / image);
    let ys = shares(y, &parts, image);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        let x = x[part.start * image..part.end * image].chunks_exact(image);
        for (x, y) in x.zip(y.chunks_exact_mut(image)) {
            for (channel, x) in x.chunks_exact(pixels).enumerate() {
                store_plane(
                    x,
                    mean[channel],
                    std[channel],
                    levels,
                    &mut y[channel..],
                    channels,
                );
            }
        }
    });
}

/// As many values as fit a buffer on the stack.
const BLOCK: usize = 256;

fn store_plane(x: &[f32], mean: f32, std: f32, levels: &Levels, y: &mut [u8], channels: usize) {
    let mut block = [0; BLOCK];
    for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK * channels)) {
        store_block(x, mean, std, levels, &mut block[..x.len()]);
        for (y, stored) in y.iter_mut().step_by(channels).zip(&block[..x.len()]) {
            *y = *stored;
        }
    }
}

vectorized! {
    fn store_block<V>(x: &[f32], mean: f32, std: f32, levels: &Levels, y: &mut [u8]) {
        let (low, high) = (levels.q_min as f32, levels.q_max as f32);
        for (y, x) in y.iter_mut().zip(x) {
            let q = (((x - mean) / std) / levels.scale).round_ties_even() + levels.zero_point as f32;
            // A NaN fails both comparisons and becomes the least.
            let q = if q > low { q } else { low };
            let q = if q < high { q } else { high };
            *y = (q - low) as i32 as u8;
        }
    }
}

/// Each byte's own: another set of levels, or a ReLU.
pub fn look_up(table: &[u8; 256], x: &[u8], y: &mut [u8]) {
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| {
            for (y, x) in y.iter_mut().zip(x) {
                *y = table[usize::from(*x)];
            }
        });
}

/// y = clamp(⌊(a f_a + b f_b + c) / 2^s + ½⌋, low, high): a sum of activations with levels of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    factors: [i32; 2],
    offset: i32,
    shift: u32,
    low: u8,
    high: u8,
}

impl Sum {
    /// Of two activations' factors, s_a / s_y and s_b / s_y, and the offset in steps, with all zero points.
    ///
    /// # Errors
    /// When a sum can reach so many steps that 32 bits do not hold it with a fraction that matters.
    pub fn new(factors: [f64; 2], offset: f64, low: u8, high: u8) -> Result<Self> {
        let reach = 255.0 * (factors[0].abs() + factors[1].abs()) + offset.abs() + 1.0;
        let shift = (1..=30)
            .rev()
            .find(|shift| reach * f64::from(*shift).exp2() < f64::from(1 << 30));
        // An eighth of a step, after 255 roundings of half a unit each, and as many of the other.
        let shift = shift.filter(|shift| *shift >= 11).ok_or_else(|| {
            invalid(format!(
                "a sum reaches {reach:.3e} steps of the levels that store it, more than 32 bits hold"
            ))
        })?;
        let unit = f64::from(shift).exp2();
        let half = 1 << (shift - 1);
        Ok(Self {
            factors: factors.map(|factor| (factor * unit).round() as i32),
            offset: (offset * unit).round() as i32 + half,
            shift,
            low,
            high,
        })
    }

    /// y = the sums.
    pub fn forward(&self, a: &[u8], b: &[u8], y: &mut [u8]) {
        y.par_chunks_mut(CHUNK)
            .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)))
            .for_each(|(y, (a, b))| sums(self, a, b, y));
    }
}

vectorized! {
    fn sums<V>(sum: &Sum, a: &[u8], b: &[u8], y: &mut [u8]) {
        let [of_a, of_b] = sum.factors;
        let (low, high) = (i32::from(sum.low), i32::from(sum.high));
        for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
            let q = (i32::from(*a) * of_a + i32::from(*b) * of_b + sum.offset) >> sum.shift;
            *y = q.max(low).min(high) as u8;
        }
    }
}

/// What a mean over so many pixels is, of activations with this scale, stored with that scale and zero point.
pub fn mean(pixels: usize, from: f64, to: f64, zero: u8) -> Affine {
    Affine {
        factor: from / (to * pixels as f64),
        offset: f64::from(zero),
        most: 255.0 * pixels as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Levels = Levels {
        scale: 0.05,
        zero_point: 3,
        q_min: -10,
        q_max: 100,
    };

    #[test]
    fn images_are_stored_as_the_simulation_rounds_them() {
        let (mean, std) = ([0.4, 0.5], [0.2, 0.3]);
        let x: Vec<f32> = (0..2 * 2 * 300)
            .map(|i| (i * 37 % 1001) as f32 / 300.0 - 1.0)
            .collect();
        let mut y = vec![0; x.len()];
        store_images(&mean, &std, &LEVELS, 300, &x, &mut y);
        for (at, q) in y.into_iter().enumerate() {
            let (image, pixel, channel) = (at / 600, at % 600 / 2, at % 2);
            let x = x[image * 600 + channel * 300 + pixel];
            let expected = LEVELS.quantize((x - mean[channel]) / std[channel]);
            assert_eq!(i32::from(q) - 10, expected, "{at}");
        }
    }

    #[test]
    fn sums_are_those_of_the_values_within_rounding() {
        let factors = [0.731, 1.618];
        let sum = Sum::new(factors, -20.25, 5, 240).unwrap();
        let pairs: Vec<(u8, u8)> = (0..=255)
            .flat_map(|a| (0..=255).map(move |b| (a, b)))
            .collect();
        let (a, b): (Vec<u8>, Vec<u8>) = pairs.iter().copied().unzip();
        let mut y = vec![0; a.len()];
        sum.forward(&a, &b, &mut y);
        for ((a, b), y) in pairs.into_iter().zip(y) {
            let exact = factors[0] * f64::from(a) + factors[1] * f64::from(b) - 20.25;
            let error = f64::from(y) - exact.clamp(5.0, 240.0);
            assert!(error.abs() <= 0.5 + 1e-3, "{a} {b}: {y} is not {exact}");
        }
        assert!(Sum::new([1e5, 1.0], 0.0, 0, 255).is_err());
    }

    #[test]
    fn a_table_is_looked_up() {
        let table = std::array::from_fn(|i| (255 - i) as u8);
        let mut y = [0; 3];
        look_up(&table, &[0, 100, 255], &mut y);
        assert_eq!(y, [255, 155, 0]);
    }
}
