//! Backward of batch normalization: of the input, the weights and the residual, as many of them as are wanted.
//!
//! With g the gradient behind the ReLU's mask, x̂ = (x - μ) / √(σ² + ε), n = B·H·W and s = γ / √(σ² + ε):
//! dβ = Σ g; dγ = Σ g x̂; dr = g; training: dx = s (g - dβ/n - x̂ dγ/n); evaluation: dx = s g.
//! Training walks memory twice, first for the sums, then to write.

use rayon::prelude::*;

use super::{Affine, ROWS, Statistics, Tiles, Totals, merged, tile};
use crate::nn::op::{parts, shares};

mod rows;

use rows::{Mask, add_products, follow, follow_in_place, mask_into};

/// Where the gradient of the output lies and the gradient of the input goes.
#[derive(Debug)]
pub enum Flow<'a> {
    /// Apart; without `dx` only the other gradients are computed.
    Apart {
        dy: &'a [f32],
        dx: Option<&'a mut [f32]>,
    },
    /// dx overwrites dy.
    InPlace(&'a mut [f32]),
}

/// The ReLU behind the normalization, and how its mask is found.
#[derive(Clone, Copy, Debug)]
pub enum Relu<'a> {
    Absent,
    /// From x, computed again: one read less than from y. Only without a residual.
    FromInput,
    /// From the output y, which is above 0 where the gradient passes.
    FromOutput(&'a [f32]),
}

/// What a backward pass reads beside dy.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    pub x: &'a [f32],
    pub relu: Relu<'a>,
}

/// What a backward pass writes beside dx: as much as is wanted.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// dγ.
    pub weight: Option<&'a mut [f32]>,
    /// dβ.
    pub bias: Option<&'a mut [f32]>,
    /// dr, of the residual.
    pub residual: Option<&'a mut [f32]>,
}

/// One line per channel from g and x to dx, beside the [`Tiles`] of forward: dx = scale g + offset - (x - center) slope.
struct Line {
    tiles: Tiles,
    /// Offset and slope; none in evaluation.
    correction: Option<(Vec<f32>, Vec<f32>)>,
}

/// The gradients in training, where the statistics depend on x.
pub fn backward_train(
    affine: &Affine<'_>,
    statistics: &Statistics,
    saved: Saved<'_>,
    mut flow: Flow<'_>,
    wanted: Wanted<'_>,
) {
    let tiles = Tiles::train(affine, statistics);
    let channels = affine.weight.len();
    let Wanted {
        weight,
        bias,
        residual,
    } = wanted;
    let mut residual = residual;
    let sums = reduce(
        &tiles,
        &tiles.center,
        channels,
        saved,
        dy_of(&flow),
        residual.as_deref_mut(),
    );
    let (plain, products) = sums.split_at(channels);
    let n = statistics.count as f64;
    let (mut offset, mut slope) = (Vec::new(), Vec::new());
    let (mut d_weight, mut d_bias) = (Vec::new(), Vec::new());
    let inverses = statistics.inverse_deviations(affine.epsilon);
    for ((((s, p), mean), w), inverse) in plain
        .iter()
        .zip(products)
        .zip(&statistics.mean)
        .zip(affine.weight)
        .zip(inverses)
    {
        let lost = mean - f64::from(*mean as f32);
        let dw = inverse * (p - lost * s);
        let scale = f64::from(*w) * inverse;
        let steep = scale * inverse * dw / n;
        offset.push((lost * steep - scale * s / n) as f32);
        slope.push(steep as f32);
        d_weight.push(dw as f32);
        d_bias.push(*s as f32);
    }
    put(weight, &d_weight);
    put(bias, &d_bias);
    let line = Line {
        tiles,
        correction: Some((tile(&offset), tile(&slope))),
    };
    match residual {
        // The mask is already in the residual's gradient.
        Some(g) => {
            let (x, relu) = (saved.x, Relu::Absent);
            write_from(&line, channels, Saved { x, relu }, g, &mut flow);
        }
        None => write(&line, channels, saved, flow),
    }
}

/// The gradients in evaluation, with the `scale` and `shift` of [`fold`](super::fold) and the running statistics.
///
/// dγ needs those: without `running` (mean, variance) only dx, dβ and dr are there to be wanted.
pub fn backward_eval(
    (scale, shift): (&[f32], &[f32]),
    running: Option<(&[f32], &[f32], f64)>,
    saved: Saved<'_>,
    mut flow: Flow<'_>,
    wanted: Wanted<'_>,
) {
    let tiles = Tiles::eval(scale, shift);
    let channels = scale.len();
    let mut residual = wanted.residual;
    if wanted.weight.is_some() || wanted.bias.is_some() {
        let center = running.map_or_else(|| tiles.center.clone(), |(mean, ..)| tile(mean));
        let masked = residual.as_deref_mut();
        let sums = reduce(&tiles, &center, channels, saved, dy_of(&flow), masked);
        let (plain, products) = sums.split_at(channels);
        if let Some((_, variance, epsilon)) = running {
            let of = |(p, v): (&f64, &f32)| (p / (f64::from(*v) + epsilon).sqrt()) as f32;
            let d_weight: Vec<f32> = products.iter().zip(variance).map(of).collect();
            put(wanted.weight, &d_weight);
        }
        let d_bias: Vec<f32> = plain.iter().map(|s| *s as f32).collect();
        put(wanted.bias, &d_bias);
    } else if let Some(residual) = residual.as_deref_mut() {
        copy_masked(&tiles, channels, saved, dy_of(&flow), residual);
    }
    let line = Line {
        tiles,
        correction: None,
    };
    match residual {
        Some(g) => {
            let (x, relu) = (saved.x, Relu::Absent);
            write_from(&line, channels, Saved { x, relu }, g, &mut flow);
        }
        None => write(&line, channels, saved, flow),
    }
}

fn dy_of<'a>(flow: &'a Flow<'_>) -> &'a [f32] {
    match flow {
        Flow::Apart { dy, .. } => dy,
        Flow::InPlace(dy) => dy,
    }
}

fn put(target: Option<&mut [f32]>, values: &[f32]) {
    if let Some(target) = target {
        target.copy_from_slice(values);
    }
}

/// Σ g and Σ g (x - center) of each channel; the masked g is written to `residual` where that is wanted.
fn reduce(
    tiles: &Tiles,
    center: &[f32],
    channels: usize,
    saved: Saved<'_>,
    dy: &[f32],
    residual: Option<&mut [f32]>,
) -> Vec<f64> {
    let parts = parts(dy.len() / channels);
    let each = if residual.is_some() { channels } else { 0 };
    let residuals = shares(residual.unwrap_or_default(), &parts, each);
    let of_parts: Vec<Vec<f64>> = parts
        .into_par_iter()
        .zip(residuals)
        .map(|(part, residual)| {
            let mut totals = Totals::new(channels, center.len());
            let rows = ROWS * center.len();
            let (first, end) = (part.start * channels, part.end * channels);
            let mut residual = residual;
            for at in (first..end).step_by(rows) {
                let range = at..end.min(at + rows);
                let (x, y, mask) = saved.of(range.clone());
                let dy = &dy[range.clone()];
                let [sums, products] = &mut totals.tiles;
                if each == 0 {
                    add_products(x, y, mask, dy, center, tiles, sums, products);
                } else {
                    let (g, rest) = residual.split_at_mut(range.len());
                    residual = rest;
                    mask_into(x, y, mask, dy, tiles, g);
                    add_products(x, y, Mask::None, g, center, tiles, sums, products);
                }
                totals.flush();
            }
            totals.wide
        })
        .collect();
    merged(&of_parts)
}

/// The masked gradient alone.
fn copy_masked(tiles: &Tiles, channels: usize, saved: Saved<'_>, dy: &[f32], g: &mut [f32]) {
    let parts = parts(dy.len() / channels);
    let gs = shares(g, &parts, channels);
    parts.into_par_iter().zip(gs).for_each(|(part, g)| {
        let range = part.start * channels..part.end * channels;
        let (x, y, mask) = saved.of(range.clone());
        mask_into(x, y, mask, &dy[range], tiles, g);
    });
}

/// dx from dy, masked on the way.
fn write(line: &Line, channels: usize, saved: Saved<'_>, flow: Flow<'_>) {
    match flow {
        Flow::Apart { dx: None, .. } => {}
        Flow::Apart { dy, dx: Some(dx) } => {
            let parts = parts(dx.len() / channels);
            let dxs = shares(dx, &parts, channels);
            parts.into_par_iter().zip(dxs).for_each(|(part, dx)| {
                let range = part.start * channels..part.end * channels;
                let (x, y, mask) = saved.of(range.clone());
                follow(line, x, y, mask, &dy[range], dx);
            });
        }
        Flow::InPlace(dx) => {
            let parts = parts(dx.len() / channels);
            let dxs = shares(dx, &parts, channels);
            parts.into_par_iter().zip(dxs).for_each(|(part, dx)| {
                let (x, y, mask) = saved.of(part.start * channels..part.end * channels);
                follow_in_place(line, x, y, mask, dx);
            });
        }
    }
}

/// dx from a gradient that lies elsewhere.
fn write_from(line: &Line, channels: usize, saved: Saved<'_>, g: &[f32], flow: &mut Flow<'_>) {
    let dx = match flow {
        Flow::Apart { dx, .. } => dx.as_deref_mut(),
        Flow::InPlace(dx) => Some(&mut **dx),
    };
    write(line, channels, saved, Flow::Apart { dy: g, dx });
}

impl<'a> Saved<'a> {
    /// x, y and the mask of some values; x stands in for a y that is not read.
    fn of(&self, range: std::ops::Range<usize>) -> (&'a [f32], &'a [f32], Mask) {
        let x = &self.x[range.clone()];
        match self.relu {
            Relu::Absent => (x, x, Mask::None),
            Relu::FromInput => (x, x, Mask::Input),
            Relu::FromOutput(y) => (x, &y[range], Mask::Output),
        }
    }
}
