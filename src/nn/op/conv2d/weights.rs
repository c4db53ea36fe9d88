//! The gradients of weights and bias.
//!
//! dW[o, c, ky, kx] = Σ_p dy[p, o] · x[s·oy + ky - padding, s·ox + kx - padding, c], db[o] = Σ_p dy[p, o].
//! A product over positions: rows are outputs, columns (ky, kx, c). Some hundred positions at a time, both sides are laid
//! side by side in the order in which the product reads them.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Add, CHUNK, Conv2d, Finish, Left, Saved, Segment, chunks, lines, panels, pieces, product,
    winograd,
};
use crate::nn::op::panels::rows as tile_rows;
use crate::nn::op::{Scratch, cut, grown, parts, shares};

mod side_by_side;

use side_by_side::fill_panel;
pub(super) use side_by_side::{SPARE, add_up, copy, interleave};

/// Positions of one product: a panel of as many rows (16 KiB of them) stays in the first cache.
const POSITIONS: usize = 256;

/// From this many weights on (1 MiB of them, which no core's own cache holds beside the rest) the threads divide the
/// weights instead of the lines: each then reads all positions, and no weight's gradient is kept more than once.
const LARGE: usize = 256 * 1024;

pub(super) fn backward(
    conv: &Conv2d,
    saved: Saved<'_>,
    dw: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let mut dw = dw;
    if let Some(dw) = dw.as_deref_mut()
        && winograd::suits_weights(conv)
    {
        winograd::weights(conv, &saved, dw, db, scratch);
        return;
    }
    let g = &conv.geometry;
    let (outputs, depth) = (conv.outputs, g.depth());
    let lines = saved.x.len() / g.image() * g.out_height();
    let parts_of = match dw {
        Some(_) => divided(outputs, depth, lines, rayon::current_num_threads()),
        None => by_lines(outputs, 0, lines, rayon::current_num_threads()),
    };
    let (_, buffers) = scratch.lend(parts_of.len());
    parts_of
        .par_iter()
        .zip(&mut *buffers)
        .for_each(|(part, buffer)| part.sum(conv, &saved, buffer));
    let sums = || parts_of.iter().zip(&*buffers);
    if let Some(db) = db {
        db.fill(0.0);
        for (part, sums) in sums().filter(|(part, _)| part.columns.start == 0) {
            let of_bias = &sums[part.weights()..part.size()];
            for (db, sum) in db[part.outputs.clone()].iter_mut().zip(of_bias) {
                *db += sum;
            }
        }
    }
    if let Some(dw) = dw {
        let of_threads = parts(outputs);
        let dws = shares(dw, &of_threads, depth);
        of_threads.par_iter().zip(dws).for_each(|(of, dw)| {
            let mut total = vec![0.0; depth];
            for (o, dw) in of.clone().zip(dw.chunks_exact_mut(depth)) {
                // Parts in their order, whatever thread adds them.
                let add_all = |total: &mut [f32]| {
                    total.fill(0.0);
                    for (part, sums) in sums().filter(|(part, _)| part.outputs.contains(&o)) {
                        let n = part.columns.len();
                        let of_output = &sums[(o - part.outputs.start) * n..][..n];
                        for (total, sum) in total[part.columns.clone()].iter_mut().zip(of_output) {
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

/// What one thread sums over: some lines of the output; and what it sums: some outputs' gradients of some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    lines: Range<usize>,
    outputs: Range<usize>,
    columns: Range<usize>,
}

/// Lines divided among the threads: each sums everything over its own.
fn by_lines(outputs: usize, depth: usize, lines: usize, threads: usize) -> Vec<Part> {
    let part = |lines| Part {
        lines,
        outputs: 0..outputs,
        columns: 0..depth,
    };
    cut(lines, threads).map(part).collect()
}

/// Lines, or whole tiles of the product where there are many weights.
fn divided(outputs: usize, depth: usize, lines: usize, threads: usize) -> Vec<Part> {
    if outputs * depth < LARGE {
        return by_lines(outputs, depth, lines, threads);
    }
    let (rows, width) = (tile_rows(), panels::width());
    let (groups, panels) = (outputs.div_ceil(rows), depth.div_ceil(width));
    // As evenly as can be; and among such divisions that where each thread lays the fewest values side by side.
    let cost = |across: &usize| {
        let down = groups.div_ceil(threads / across);
        let across = panels.div_ceil(*across);
        (down * across, down * rows + across * width)
    };
    let across = (1..=threads)
        .filter(|across| threads.is_multiple_of(*across))
        .min_by_key(cost)
        .unwrap_or(1);
    let mut parts = Vec::new();
    for groups in cut(groups, threads / across) {
        for panels in cut(panels, across) {
            parts.push(Part {
                lines: 0..lines,
                outputs: groups.start * rows..outputs.min(groups.end * rows),
                columns: panels.start * width..depth.min(panels.end * width),
            });
        }
    }
    parts
}

impl Part {
    fn weights(&self) -> usize {
        self.outputs.len() * self.columns.len()
    }

    /// Sums of a part: the weights' gradient and the bias's.
    fn size(&self) -> usize {
        self.weights() + self.outputs.len()
    }

    /// The weights' gradient, (outputs, columns), columns being (ky, kx, c), then the bias's, at the buffer's beginning.
    fn sum(&self, conv: &Conv2d, saved: &Saved<'_>, buffer: &mut Vec<f32>) {
        let g = &conv.geometry;
        let outputs = self.outputs.len();
        let wanted = POSITIONS
            .div_ceil(g.out_width())
            .min((CHUNK / (g.stride * lines::padded_width(g) * g.channels)).max(1));
        let c_rows: Vec<usize> = (0..outputs).map(|o| o * self.columns.len()).collect();
        let groups = outputs.div_ceil(tile_rows());
        let mut begins = Vec::new();
        let mut first = true;
        for chunk in chunks(self.lines.clone(), g.out_height(), wanted) {
            let positions = chunk.len() * g.out_width();
            let own = || pieces(chunk.clone(), g.out_height());
            let line = g.out_width() * conv.outputs;
            // Where a group's rows begin; copies of eight may reach beyond the last one.
            let pitch = tile_rows() * positions + SPARE;
            let interleaved = groups * pitch;
            let panel = positions * panels::width();
            let copied = lines::padded_size(g, own());
            let sizes = [self.size(), line, interleaved, panel, copied];
            let mut rest = grown(buffer, sizes.iter().sum());
            let [sums, dy, interleaved, panel, copied] = sizes.map(|size| {
                let (own, after) = std::mem::take(&mut rest).split_at_mut(size);
                rest = after;
                own
            });
            let (dw, db) = sums.split_at_mut(self.weights());
            if first {
                db.fill(0.0);
            }
            let mut at = 0;
            for piece in own() {
                for line in piece.first..piece.first + piece.count {
                    lines::gradient(conv, saved, piece.image, line, dy);
                    if self.columns.start == 0 {
                        add_up(&dy[self.outputs.start..], conv.outputs, db);
                    }
                    if !self.columns.is_empty() {
                        let of_positions = dy.chunks_exact(conv.outputs);
                        let rows = of_positions.map(|row| &row[self.outputs.clone()]);
                        interleave(rows, at, pitch, interleaved);
                    }
                    at += g.out_width();
                }
            }
            if self.columns.is_empty() {
                first = false;
                continue;
            }
            begins.clear();
            let values = lines::patches(g, own(), saved.x, copied, &mut begins);
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
            for from in self.columns.clone().step_by(panels::width()) {
                let columns = panels::width().min(self.columns.end - from);
                fill_panel(values, &begins, &windows, from, columns, panel);
                let target = &mut dw[from - self.columns.start..];
                product(left, panel, columns, target, &c_rows, finish);
            }
            first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_weights_are_divided_and_few_are_not() {
        for threads in [1, 2, 3, 8] {
            assert_eq!(
                divided(128, 1152, 64, threads),
                by_lines(128, 1152, 64, threads)
            );
            for (outputs, depth) in [(512, 4608), (2048, 512), (10, 30_000), (300_000, 3)] {
                let mut seen = vec![0_u8; outputs * depth];
                let parts = divided(outputs, depth, 64, threads);
                for part in &parts {
                    assert_eq!(part.lines, 0..64);
                    for o in part.outputs.clone() {
                        for column in part.columns.clone() {
                            seen[o * depth + column] += 1;
                        }
                    }
                }
                assert!(
                    seen.iter().all(|n| *n == 1),
                    "{outputs} x {depth}, {threads}"
                );
                // Nobody has more than a fifth above his share, in whole tiles.
                let most = parts.iter().map(Part::weights).max().unwrap_or(0);
                let share = (outputs * depth).div_ceil(threads);
                let tile = tile_rows() * depth + panels::width() * outputs;
                assert!(
                    most <= share + share / 5 + tile,
                    "{outputs} x {depth}, {threads}"
                );
            }
        }
    }

    /// The same gradients whichever way the work is divided, and a bias's from no weights at all.
    #[test]
    fn divided_weights_have_the_same_gradients() {
        let conv = Conv2d {
            geometry: super::super::Geometry {
                channels: 5,
                height: 7,
                width: 6,
                kernel: 3,
                stride: 2,
                padding: 1,
            },
            outputs: 21,
            then: super::super::Then::Relu,
        };
        let g = &conv.geometry;
        let value = |i: usize| ((i * 37) % 19) as f32 - 9.0;
        let x: Vec<f32> = (0..2 * g.image()).map(value).collect();
        let y: Vec<f32> = (0..2 * conv.values()).map(|i| value(i + 3)).collect();
        let dy: Vec<f32> = (0..2 * conv.values()).map(|i| value(i + 7)).collect();
        let saved = Saved {
            x: &x,
            w: &[],
            scale: None,
            y: &y,
            place: &[],
            dy: &dy,
        };
        let (depth, lines) = (g.depth(), 2 * g.out_height());
        let mut whole = Vec::new();
        by_lines(21, depth, lines, 1)[0].sum(&conv, &saved, &mut whole);
        for (outputs, columns) in [(0..8, 0..32), (8..21, 32..depth), (16..21, 0..depth)] {
            let part = Part {
                lines: 0..lines,
                outputs: outputs.clone(),
                columns: columns.clone(),
            };
            let mut sums = Vec::new();
            part.sum(&conv, &saved, &mut sums);
            for (at, o) in outputs.enumerate() {
                // Sums of whole numbers below 2^24 are exact in any order.
                let of_output = &whole[o * depth..][columns.clone()];
                assert_eq!(sums[at * columns.len()..][..columns.len()], *of_output);
                if columns.start == 0 {
                    assert_eq!(sums[part.weights() + at], whole[21 * depth + o]);
                }
            }
        }
    }
}
