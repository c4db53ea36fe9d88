//! Weights packed for the products, once per pass.

use rayon::prelude::*;

use super::Conv2d;
use super::panels::width;

/// For the forward pass: columns are outputs, rows (ky, kx, c).
pub(super) fn by_output(conv: &Conv2d, w: &[f32], scale: Option<&[f32]>, packed: &mut [f32]) {
    let g = &conv.geometry;
    let depth = g.depth();
    packed
        .par_chunks_mut(depth * width())
        .enumerate()
        .for_each(|(panel, packed)| {
            let from = panel * width();
            let outputs = width().min(conv.outputs - from);
            if outputs < width() {
                packed.fill(0.0);
            }
            // Output by output would write to another cache line every time.
            let (w, area) = (&w[from * depth..], g.kernel * g.kernel);
            let scales: Vec<f32> = (from..from + outputs)
                .map(|o| scale.map_or(1.0, |scale| scale[o]))
                .collect();
            for (c, tap) in (0..g.channels).flat_map(|c| (0..area).map(move |tap| (c, tap))) {
                let row = &mut packed[(tap * g.channels + c) * width()..][..outputs];
                let w = w[c * area + tap..].iter().step_by(depth);
                for (packed, (w, scale)) in row.iter_mut().zip(w.zip(&scales)) {
                    *packed = w * scale;
                }
            }
        });
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
            for o in 0..conv.outputs {
                let w = &w[(o * g.channels + from) * area..][..channels * area];
                let scale = scale.map_or(1.0, |scale| scale[o]);
                for (at, (ky, kx)) in taps.iter().enumerate() {
                    let row = &mut packed[(at * conv.outputs + o) * width()..][..width()];
                    let (row, rest) = row.split_at_mut(channels);
                    let w = w[ky * g.kernel + kx..].iter().step_by(area);
                    for (packed, w) in row.iter_mut().zip(w) {
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
