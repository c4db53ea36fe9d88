//! Weights packed for the products, once per pass.

use rayon::prelude::*;

use super::Conv2d;
use super::panels::{size, width};
use crate::nn::op::grown;

/// For the forward pass: columns are outputs, rows (ky, kx, c).
pub(super) fn by_output<'a>(
    conv: &Conv2d,
    w: &[f32],
    scale: Option<&[f32]>,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let g = &conv.geometry;
    let (depth, area) = (g.depth(), g.kernel * g.kernel);
    let packed = grown(buffer, size(depth, conv.outputs));
    packed
        .par_chunks_mut(depth * width())
        .enumerate()
        .for_each(|(panel, packed)| {
            let from = panel * width();
            let outputs = width().min(conv.outputs - from);
            if outputs < width() {
                packed.fill(0.0);
            }
            for j in 0..outputs {
                let w = &w[(from + j) * depth..(from + j + 1) * depth];
                let scale = scale.map_or(1.0, |scale| scale[from + j]);
                for (c, w) in w.chunks_exact(area).enumerate() {
                    for (tap, w) in w.iter().enumerate() {
                        packed[(tap * g.channels + c) * width() + j] = w * scale;
                    }
                }
            }
        });
    packed
}

/// For the gradient of x: columns are channels, rows (tap, o) for some taps (ky, kx) in the order given.
pub(super) fn by_channel(
    conv: &Conv2d,
    w: &[f32],
    scale: Option<&[f32]>,
    taps: &[(usize, usize)],
    packed: &mut [f32],
) {
    let g = &conv.geometry;
    let area = g.kernel * g.kernel;
    let depth = taps.len() * conv.outputs;
    packed
        .par_chunks_mut(depth * width())
        .enumerate()
        .for_each(|(panel, packed)| {
            let from = panel * width();
            let channels = width().min(g.channels - from);
            for (at, (ky, kx)) in taps.iter().enumerate() {
                let rows = packed[at * conv.outputs * width()..].chunks_exact_mut(width());
                for (o, row) in rows.take(conv.outputs).enumerate() {
                    let w = &w[(o * g.channels + from) * area + ky * g.kernel + kx..];
                    let scale = scale.map_or(1.0, |scale| scale[o]);
                    let (row, rest) = row.split_at_mut(channels);
                    for (packed, w) in row.iter_mut().zip(w.iter().step_by(area)) {
                        *packed = w * scale;
                    }
                    rest.fill(0.0);
                }
            }
        });
}

/// For narrow inputs' gradient: columns are (ky, kx, c), rows o.
pub(super) fn by_weight(conv: &Conv2d, w: &[f32], scale: Option<&[f32]>, packed: &mut [f32]) {
    let g = &conv.geometry;
    let (depth, area) = (g.depth(), g.kernel * g.kernel);
    packed.fill(0.0);
    for (o, w) in w.chunks_exact(depth).enumerate() {
        let scale = scale.map_or(1.0, |scale| scale[o]);
        for (at, w) in w.iter().enumerate() {
            let column = at % area * g.channels + at / area;
            let (panel, j) = (column / width(), column % width());
            packed[(panel * conv.outputs + o) * width() + j] = w * scale;
        }
    }
}
