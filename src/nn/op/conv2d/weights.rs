//! The gradients of weights and bias.
//!
//! dW[o, c, ky, kx] = Σ_p dy[p, o] · x[s·oy + ky - padding, s·ox + kx - padding, c], db[o] = Σ_p dy[p, o].
//! A product over positions: rows are outputs, columns (ky, kx, c). Some hundred positions at a time, both sides are laid
//! side by side in the order in which the product reads them.

use rayon::prelude::*;

use super::{
    Add, CHUNK, Conv2d, Finish, Left, Saved, Segment, chunks, lines, panels, pieces, product,
    winograd,
};
use crate::nn::op::panels::rows as tile_rows;
use crate::nn::op::simd::vectorized;
use crate::nn::op::{Scratch, grown, parts, shares};

/// Positions of one product: a panel of as many rows (16 KiB of them) stays in the first cache.
const POSITIONS: usize = 256;

pub(super) fn backward(
    conv: &Conv2d,
    saved: Saved<'_>,
    dw: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let mut dw = dw;
    if let Some(dw) = dw.as_deref_mut()
        && winograd::suits(conv)
    {
        winograd::weights(conv, &saved, dw, db, scratch);
        return;
    }
    let g = &conv.geometry;
    let (outputs, depth) = (conv.outputs, g.depth());
    let batch = saved.x.len() / g.image();
    let parts = parts(batch * g.out_height());
    let weights = if dw.is_some() { outputs * depth } else { 0 };
    let size = weights + outputs;
    let buffers = scratch.parts(parts.len());
    parts
        .par_iter()
        .zip(&mut *buffers)
        .for_each(|(part, buffer)| {
            let of_part = Part {
                conv,
                saved: &saved,
            };
            of_part.sum(part.clone(), weights > 0, buffer, size);
        });
    let sums: Vec<&[f32]> = buffers.iter().map(|buffer| &buffer[..size]).collect();
    if let Some(db) = db {
        for (o, db) in db.iter_mut().enumerate() {
            *db = sums.iter().map(|sums| sums[weights + o]).sum();
        }
    }
    if let Some(dw) = dw {
        let of_threads = crate::nn::op::parts(outputs);
        let dws = shares(dw, &of_threads, depth);
        of_threads.par_iter().zip(dws).for_each(|(of, dw)| {
            let mut total = vec![0.0; depth];
            for (o, dw) in of.clone().zip(dw.chunks_exact_mut(depth)) {
                let of_output = o * depth..(o + 1) * depth;
                // Parts in their order, whatever thread adds them.
                let add_all = |total: &mut [f32]| {
                    total.copy_from_slice(&sums[0][of_output.clone()]);
                    for sums in &sums[1..] {
                        for (total, sum) in total.iter_mut().zip(&sums[of_output.clone()]) {
                            *total += sum;
                        }
                    }
                };
                let area = g.kernel * g.kernel;
                if area == 1 {
                    add_all(dw);
                    continue;
                }
                add_all(&mut total);
                // (ky, kx, c) becomes (c, ky, kx).
                for (tap, total) in total.chunks_exact(g.channels).enumerate() {
                    for (dw, total) in dw[tap..].iter_mut().step_by(area).zip(total) {
                        *dw = *total;
                    }
                }
            }
        });
    }
}

struct Part<'a> {
    conv: &'a Conv2d,
    saved: &'a Saved<'a>,
}

impl Part<'_> {
    /// Sums over some output lines: the weights' gradient, (O, ky, kx, c), then the bias's, at the buffer's beginning.
    fn sum(&self, part: std::ops::Range<usize>, weights: bool, buffer: &mut Vec<f32>, size: usize) {
        let (conv, g) = (self.conv, &self.conv.geometry);
        let (outputs, depth) = (conv.outputs, g.depth());
        let wanted = POSITIONS
            .div_ceil(g.out_width())
            .min((CHUNK / (g.stride * lines::padded_width(g) * g.channels)).max(1));
        let c_rows: Vec<usize> = (0..outputs).map(|o| o * depth).collect();
        let groups = outputs.div_ceil(tile_rows());
        let mut begins = Vec::new();
        let mut first = true;
        for chunk in chunks(part, g.out_height(), wanted) {
            let positions = chunk.len() * g.out_width();
            let own = || pieces(chunk.clone(), g.out_height());
            let line = g.out_width() * outputs;
            // Where a group's rows begin; copies of eight may reach beyond the last one.
            let pitch = tile_rows() * positions + SPARE;
            let interleaved = groups * pitch;
            let panel = positions * panels::width();
            let sizes = [size, line, interleaved, panel, lines::padded_size(g, own())];
            let mut rest = grown(buffer, sizes.iter().sum());
            let [sums, dy, interleaved, panel, copied] = sizes.map(|size| {
                let (own, after) = std::mem::take(&mut rest).split_at_mut(size);
                rest = after;
                own
            });
            let (dw, db) = sums.split_at_mut(size - outputs);
            if first {
                db.fill(0.0);
            }
            let mut at = 0;
            for piece in own() {
                for line in piece.first..piece.first + piece.count {
                    lines::gradient(conv, self.saved, piece.image, line, dy);
                    add_up(dy, db);
                    if weights {
                        interleave(dy, outputs, at, pitch, interleaved);
                    }
                    at += g.out_width();
                }
            }
            if !weights {
                first = false;
                continue;
            }
            begins.clear();
            let values = lines::patches(g, own(), self.saved.x, copied, &mut begins);
            let segments = [Segment {
                offset: 0,
                length: positions,
            }];
            let rows: Vec<usize> = (0..outputs)
                .map(|o| o / tile_rows() * pitch + o % tile_rows())
                .collect();
            let left = Left {
                values: interleaved,
                rows: &rows,
                segments: &segments,
                step: tile_rows(),
            };
            let finish = Finish {
                add: if first { Add::Nothing } else { Add::Itself },
                ..Finish::default()
            };
            let windows = lines::windows(g);
            for from in (0..depth).step_by(panels::width()) {
                let columns = panels::width().min(depth - from);
                fill_panel(values, &begins, &windows, from, columns, panel);
                product(left, panel, columns, &mut dw[from..], &c_rows, finish);
            }
            first = false;
        }
    }
}

/// Values copied at once.
pub(super) const SPARE: usize = 8;

vectorized! {
    /// sums += every row of `values`.
    pub(super) fn add_up<V>(values: &[f32], sums: &mut [f32]) {
        for row in values.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// Lays the rows of a line, one per position, side by side in groups of a tile's rows: (groups, positions, rows).
pub(super) fn interleave(
    line: &[f32],
    outputs: usize,
    at: usize,
    pitch: usize,
    interleaved: &mut [f32],
) {
    let each = tile_rows();
    for (position, row) in line.chunks_exact(outputs).enumerate() {
        for (group, values) in row.chunks(each).enumerate() {
            let target = &mut interleaved[group * pitch + (at + position) * each..];
            // Eight at once where there are eight: the next position overwrites the surplus, or nobody reads it.
            match (
                row[group * each..].first_chunk::<SPARE>(),
                target.first_chunk_mut::<SPARE>(),
            ) {
                (Some(source), Some(target)) => *target = *source,
                _ => target[..values.len()].copy_from_slice(values),
            }
        }
    }
}

/// A panel: for each position some columns of its patch.
fn fill_panel(
    values: &[f32],
    begins: &[usize],
    windows: &[Segment],
    from: usize,
    columns: usize,
    panel: &mut [f32],
) {
    let width = panels::width();
    // Stretches of the windows' rows: where from, to which columns.
    let row = windows.first().map_or(1, |window| window.length);
    let mut stretches = Vec::new();
    let mut column = 0;
    while column < columns {
        let (ky, at) = ((from + column) / row, (from + column) % row);
        let length = (row - at).min(columns - column);
        stretches.push((windows[ky].offset + at, column, length));
        column += length;
    }
    // What lies behind the last stretch is computed with and never written, so no zeros are needed there; but the
    // numbers that an earlier use has left may be slow ones (denormal).
    if columns < width {
        panel.fill(0.0);
    }
    for (source, target, length) in stretches {
        match length {
            9..=16 => copy::<16>(values, begins, source, panel, width, target, length),
            5..=8 => copy::<8>(values, begins, source, panel, width, target, length),
            0..=4 => copy::<4>(values, begins, source, panel, width, target, length),
            _ => copy::<32>(values, begins, source, panel, width, target, length),
        }
    }
}

/// Copies a stretch of every position's patch to its columns: N values at once where there is room for them, of which
/// later stretches overwrite the surplus.
pub(super) fn copy<const N: usize>(
    values: &[f32],
    begins: &[usize],
    source: usize,
    panel: &mut [f32],
    width: usize,
    target: usize,
    length: usize,
) {
    for (panel, begin) in panel.chunks_exact_mut(width).zip(begins) {
        let (panel, values) = (&mut panel[target..], &values[begin + source..]);
        match (panel.first_chunk_mut::<N>(), values.first_chunk::<N>()) {
            (Some(panel), Some(values)) => *panel = *values,
            _ => panel[..length].copy_from_slice(&values[..length]),
        }
    }
}
