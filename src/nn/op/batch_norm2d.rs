//! Batch normalization over channels, with the sum and the ReLU that follow it in the same pass.
//!
//! y = γ (x - μ) / √(σ² + ε) + β for each channel; then + r (the residual) and max(·, 0) where asked for.
//! In training μ and σ² are the batch's own mean and biased variance over B·H·W; in evaluation the running ones.
//! x, y, r (B, H, W, C); γ, β and the statistics (C). Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1 and the
//! gradients of section 3; numbers as PyTorch's `BatchNorm2d`.
//!
//! Each pass walks memory once. Channels are few beside positions, so the per-channel numbers are repeated until a row
//! of them ([`tile`]) fills vectors whatever C is.

use rayon::prelude::*;

use super::relu::rectified;
use super::simd::vectorized;
use super::{parts, shares};

mod backward;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

pub use backward::{Flow, Relu, Saved, Wanted, backward_eval, backward_train};

/// How many rows of tiles are summed in 32 bits before the sums go to 64: few, so that rounding stays near one unit.
const ROWS: usize = 64;

/// A tile has at least this many values: then starting a loop costs nothing beside it.
const TILE: usize = 256;

/// What is learnt, per channel, and the ε that keeps the root away from zero (PyTorch: 1e-5).
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub epsilon: f64,
}

/// Mean and biased variance per channel, over `count` = B·H·W values each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
    pub count: usize,
}

impl Statistics {
    /// 1 / √(σ² + ε) of each channel.
    fn inverse_deviations(&self, epsilon: f64) -> impl Iterator<Item = f64> {
        self.variance
            .iter()
            .map(move |v| (v + epsilon).sqrt().recip())
    }
}

/// The per-channel numbers of a pass, each repeated to the length of a tile: y = (x - center) scale + shift.
#[derive(Clone, Debug)]
struct Tiles {
    center: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Tiles {
    /// Of the batch's own statistics. What rounding takes from the mean is given to the shift, so that a mean far from
    /// zero costs no accuracy.
    fn train(affine: &Affine<'_>, statistics: &Statistics) -> Self {
        let n = affine.weight.len();
        let (mut scale, mut shift) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let channels = affine.weight.iter().zip(affine.bias).zip(&statistics.mean);
        for (((w, b), mean), inverse) in channels.zip(statistics.inverse_deviations(affine.epsilon))
        {
            let s = f64::from(*w) * inverse;
            let lost = mean - f64::from(*mean as f32);
            scale.push(s as f32);
            shift.push((f64::from(*b) - lost * s) as f32);
        }
        let center: Vec<f32> = statistics.mean.iter().map(|mean| *mean as f32).collect();
        Self {
            center: tile(&center),
            scale: tile(&scale),
            shift: tile(&shift),
        }
    }

    /// Of numbers that [`fold`] gave.
    fn eval(scale: &[f32], shift: &[f32]) -> Self {
        Self {
            center: tile(&vec![0.0; scale.len()]),
            scale: tile(scale),
            shift: tile(shift),
        }
    }
}

/// Values repeated until there are enough.
fn tile(values: &[f32]) -> Vec<f32> {
    values.repeat(TILE.div_ceil(values.len().max(1)))
}

/// Mean and variance of each of `channels`, in one pass.
///
/// Sums of x - K and of its square, where K is a mean of a few values: nothing cancels where the mean is far larger than
/// the deviation. Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
pub fn statistics(x: &[f32], channels: usize) -> Statistics {
    let count = x.len() / channels;
    let near = near_mean(x, channels);
    let center = tile(&near);
    let of_parts: Vec<Vec<f64>> = parts(count)
        .into_par_iter()
        .map(|part| {
            let mut totals = Totals::new(channels, center.len());
            for x in x[part.start * channels..part.end * channels].chunks(ROWS * center.len()) {
                let [sums, squares] = &mut totals.tiles;
                add_moments(x, &center, sums, squares);
                totals.flush();
            }
            totals.wide
        })
        .collect();
    let wide = merged(&of_parts);
    let n = count as f64;
    let (sums, squares) = wide.split_at(channels);
    let mean = |(near, sum): (&f32, &f64)| f64::from(*near) + sum / n;
    let variance = |(sum, square): (&f64, &f64)| {
        let variance = square / n - (sum / n).powi(2);
        // Not `max`, which would hide a NaN.
        if variance < 0.0 { 0.0 } else { variance }
    };
    Statistics {
        mean: near.iter().zip(sums).map(mean).collect(),
        variance: sums.iter().zip(squares).map(variance).collect(),
        count,
    }
}

/// The mean of each channel over a few positions spread over the batch.
fn near_mean(x: &[f32], channels: usize) -> Vec<f32> {
    let count = x.len() / channels;
    let step = count.div_ceil(16).max(1);
    let mut sums = vec![0.0_f64; channels];
    let mut n = 0.0;
    for row in x.chunks_exact(channels).step_by(step) {
        n += 1.0;
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += f64::from(*x);
        }
    }
    sums.iter().map(|sum| (sum / n) as f32).collect()
}

/// Two sums per channel of one part: in 32 bits over a few rows of tiles, in 64 beyond.
struct Totals {
    tiles: [Vec<f32>; 2],
    /// The first sum of every channel, then the second.
    wide: Vec<f64>,
}

impl Totals {
    fn new(channels: usize, tile: usize) -> Self {
        Self {
            tiles: [vec![0.0; tile], vec![0.0; tile]],
            wide: vec![0.0; 2 * channels],
        }
    }

    fn flush(&mut self) {
        let channels = self.wide.len() / 2;
        let halves = self.wide.chunks_exact_mut(channels.max(1));
        for (wide, tile) in halves.zip(&mut self.tiles) {
            for sums in tile.chunks_exact_mut(channels) {
                for (wide, sum) in wide.iter_mut().zip(sums) {
                    *wide += f64::from(std::mem::take(sum));
                }
            }
        }
    }
}

/// The parts' sums, added in order.
fn merged(of_parts: &[Vec<f64>]) -> Vec<f64> {
    let mut sums = of_parts.first().cloned().unwrap_or_default();
    for part in of_parts.iter().skip(1) {
        for (sum, part) in sums.iter_mut().zip(part) {
            *sum += part;
        }
    }
    sums
}

vectorized! {
    /// Adds x - center and its square, summed over rows as long as the tiles.
    fn add_moments<V>(x: &[f32], center: &[f32], sums: &mut [f32], squares: &mut [f32]) {
        let n = center.len();
        let (sums, squares) = (&mut sums[..n], &mut squares[..n]);
        let quads = x.chunks_exact(4 * n);
        for row in quads.remainder().chunks(n) {
            for ((x, k), (s, q)) in row.iter().zip(center).zip(sums.iter_mut().zip(squares.iter_mut())) {
                let d = x - k;
                *s += d;
                *q = V::fused(d, d, *q);
            }
        }
        // Four rows at a time: the sums travel to the cache and back a quarter as often.
        for quad in quads {
            let (a, rest) = quad.split_at(n);
            let (b, rest) = rest.split_at(n);
            let (c, d) = rest.split_at(n);
            let d = &d[..n];
            for i in 0..n {
                let k = center[i];
                let (a, b, c, d) = (a[i] - k, b[i] - k, c[i] - k, d[i] - k);
                sums[i] += (a + b) + (c + d);
                squares[i] += V::fused(a, a, b * b) + V::fused(c, c, d * d);
            }
        }
    }
}

/// y from x with the batch's own statistics, which are returned; `residual` is added and `relu` applied in the same pass.
pub fn forward_train(
    affine: &Affine<'_>,
    x: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) -> Statistics {
    let statistics = statistics(x, affine.weight.len());
    apply(
        &Tiles::train(affine, &statistics),
        affine.weight.len(),
        x,
        residual,
        relu,
        y,
    );
    statistics
}

/// y = scale x + shift with what [`fold`] gave; `residual` and `relu` as in training.
pub fn forward_eval(
    scale: &[f32],
    shift: &[f32],
    x: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    apply(
        &Tiles::eval(scale, shift),
        scale.len(),
        x,
        residual,
        relu,
        y,
    );
}

/// Evaluation as one line per channel: scale = γ / √(σ² + ε), shift = β - μ scale.
pub fn fold(affine: &Affine<'_>, mean: &[f32], variance: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let statistics = mean.iter().zip(variance);
    let line = |((w, b), (mean, variance)): ((&f32, &f32), (&f32, &f32))| {
        let scale = f64::from(*w) / (f64::from(*variance) + affine.epsilon).sqrt();
        let shift = f64::from(*b) - f64::from(*mean) * scale;
        (scale as f32, shift as f32)
    };
    let channels = affine.weight.iter().zip(affine.bias).zip(statistics);
    channels.map(line).unzip()
}

/// Moves running statistics towards a batch's: running = (1 - momentum) running + momentum · batch.
///
/// The variance that is kept is the unbiased one, as in PyTorch; a batch of one value per channel has none and leaves the
/// running one alone.
pub fn commit(
    running_mean: &mut [f32],
    running_variance: &mut [f32],
    statistics: &Statistics,
    momentum: f64,
) {
    let toward = |running: &mut f32, batch: f64| {
        *running = ((1.0 - momentum) * f64::from(*running) + momentum * batch) as f32;
    };
    for (running, mean) in running_mean.iter_mut().zip(&statistics.mean) {
        toward(running, *mean);
    }
    if statistics.count > 1 {
        let unbiased = statistics.count as f64 / (statistics.count - 1) as f64;
        for (running, variance) in running_variance.iter_mut().zip(&statistics.variance) {
            toward(running, variance * unbiased);
        }
    }
}

/// y = (x - center) scale + shift, plus the residual, rectified.
fn apply(
    tiles: &Tiles,
    channels: usize,
    x: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    let parts = parts(x.len() / channels);
    let ys = shares(y, &parts, channels);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        let range = part.start * channels..part.end * channels;
        let residual = residual.map(|residual| &residual[range.clone()]);
        normalize(
            &x[range],
            residual,
            relu,
            &tiles.center,
            &tiles.scale,
            &tiles.shift,
            y,
        );
    });
}

vectorized! {
    /// [`apply`] for one part.
    fn normalize<V>(
        x: &[f32],
        residual: Option<&[f32]>,
        relu: bool,
        center: &[f32],
        scale: &[f32],
        shift: &[f32],
        y: &mut [f32],
    ) {
        let tiles = (center, scale, shift);
        // Without a residual `x` stands in for it and is not read twice.
        match (residual, relu) {
            (None, false) => each(x, x, tiles, y, |x, _, c, w, b| V::fused(x - c, w, b)),
            (None, true) => each(x, x, tiles, y, |x, _, c, w, b| {
                rectified(V::fused(x - c, w, b))
            }),
            (Some(r), false) => each(x, r, tiles, y, |x, r, c, w, b| V::fused(x - c, w, b) + r),
            (Some(r), true) => each(x, r, tiles, y, |x, r, c, w, b| {
                rectified(V::fused(x - c, w, b) + r)
            }),
        }
    }
}

#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
fn each(
    x: &[f32],
    r: &[f32],
    (center, scale, shift): (&[f32], &[f32], &[f32]),
    y: &mut [f32],
    value: impl Fn(f32, f32, f32, f32, f32) -> f32,
) {
    let n = center.len();
    for ((x, r), y) in x.chunks(n).zip(r.chunks(n)).zip(y.chunks_mut(n)) {
        let n = y.len();
        let (x, r) = (&x[..n], &r[..n]);
        let (center, scale, shift) = (&center[..n], &scale[..n], &shift[..n]);
        for i in 0..n {
            y[i] = value(x[i], r[i], center[i], scale[i], shift[i]);
        }
    }
}
