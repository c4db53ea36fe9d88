//! The gradient of the weights in Winograd's way: dg = Gᵀ [ Σ_tiles (A dy Aᵀ) ⊙ (Bᵀ d B) ] G.
//!
//! For each frequency a product over tiles: outputs by tiles by channels. First the threads divide the tiles and transform
//! them, then they divide the frequencies.

use std::ops::Range;

use rayon::prelude::*;

use super::super::weights::{SPARE, add_up, copy, interleave};
use super::super::{Add, Conv2d, Finish, Left, Saved, Segment, lines, panels, product};
use super::transforms::{kernels_back, transform_gradients, transform_row};
use super::{FREQUENCIES, SPAN, TILE};
use crate::nn::op::{Scratch, grown, parts, shares};

/// Transformed tiles of one part up to this many values: a share of the cache that the cores have in common.
const CHUNK: usize = 1024 * 1024;

/// Tiles of one part at least, so that sums are not fetched and put back too often.
const TILES: usize = 64;

/// dW and db.
pub(in super::super) fn weights(
    conv: &Conv2d,
    saved: &Saved<'_>,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let g = &conv.geometry;
    let (from, to) = (g.channels, conv.outputs);
    let batch = saved.x.len() / g.image();
    let tiles = Tiles {
        conv,
        saved,
        down: g.out_height().div_ceil(TILE),
        across: g.out_width().div_ceil(TILE),
    };
    let rows = batch * tiles.down;
    let threads = rayon::current_num_threads();
    let most = (CHUNK / (FREQUENCIES * (from + to))).max(TILES);
    let chunk = most.div_ceil(tiles.across) * threads;
    // Each part's transformed tiles, and room for each thread's panels behind them.
    let (sums, buffers) = scratch.lend(2 * threads);
    let (of_parts, rooms) = buffers.split_at_mut(threads);
    let sums = grown(sums, FREQUENCIES * to * from);
    let mut of_bias = vec![0.0; to];
    for first in (0..rows).step_by(chunk) {
        let of_chunk = first..rows.min(first + chunk);
        let parts: Vec<Range<usize>> = parts(of_chunk.len())
            .into_iter()
            .map(|part| first + part.start..first + part.end)
            .collect();
        let of_biases: Vec<Vec<f32>> = parts
            .par_iter()
            .zip(&mut *of_parts)
            .map(|(part, buffer)| tiles.transform(part.clone(), buffer))
            .collect();
        for of_part in &of_biases {
            for (sum, of_part) in of_bias.iter_mut().zip(of_part) {
                *sum += of_part;
            }
        }
        let of_parts: Vec<(usize, &[f32])> = parts
            .iter()
            .zip(&*of_parts)
            .map(|(part, buffer)| (part.len() * tiles.across, &**buffer))
            .collect();
        let of_threads = crate::nn::op::parts(FREQUENCIES);
        let sums = shares(sums, &of_threads, to * from);
        of_threads
            .par_iter()
            .zip(sums)
            .zip(&mut *rooms)
            .for_each(|((frequencies, sums), room)| {
                for (frequency, sums) in frequencies.clone().zip(sums.chunks_exact_mut(to * from)) {
                    for (at, (count, values)) in of_parts.iter().enumerate() {
                        let add = first > 0 || at > 0;
                        tiles.product(frequency, *count, values, add, sums, room);
                    }
                }
            });
    }
    if let Some(db) = db {
        db.copy_from_slice(&of_bias);
    }
    let sums = &*sums;
    let of_threads = crate::nn::op::parts(to);
    let dws = shares(dw, &of_threads, from * 9);
    of_threads.par_iter().zip(dws).for_each(|(outputs, dw)| {
        for (o, dw) in outputs.clone().zip(dw.chunks_exact_mut(from * 9)) {
            kernels_back(&sums[o * from..], to * from, dw);
        }
    });
}

struct Tiles<'a> {
    conv: &'a Conv2d,
    saved: &'a Saved<'a>,
    down: usize,
    across: usize,
}

impl Tiles<'_> {
    /// Transforms some rows of tiles: (36, tiles, C) of x, then (36, tiles, O) of dy, at the buffer's beginning. Gives the
    /// sums of dy.
    fn transform(&self, rows: Range<usize>, buffer: &mut Vec<f32>) -> Vec<f32> {
        let g = &self.conv.geometry;
        let (from, to) = (g.channels, self.conv.outputs);
        let tiles = rows.len() * self.across;
        let columns = self.across * TILE;
        let pitch = (columns + SPAN - TILE) * from;
        let sizes = [
            FREQUENCIES * tiles * from,
            FREQUENCIES * tiles * to,
            SPAN * pitch,
            TILE * columns * to,
        ];
        let mut rest = grown(buffer, sizes.iter().sum());
        let [of_x, of_dy, copied, dy] = sizes.map(|size| {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(size);
            rest = after;
            own
        });
        let mut of_bias = vec![0.0; to];
        for (at, row) in rows.enumerate() {
            let (image, top) = (row / self.down, row % self.down * TILE);
            for (i, copied) in copied.chunks_exact_mut(pitch).enumerate() {
                let line = (top + i).wrapping_sub(g.padding);
                lines::copy_line(
                    g,
                    &self.saved.x[image * g.image()..][..g.image()],
                    line,
                    copied,
                );
            }
            let first = at * self.across;
            transform_row(copied, pitch, self.across, from, tiles, first, of_x);
            for (i, dy) in dy.chunks_exact_mut(columns * to).enumerate() {
                if top + i >= g.out_height() {
                    dy.fill(0.0);
                    continue;
                }
                let (dy, beyond) = dy.split_at_mut(g.out_width() * to);
                lines::gradient(self.conv, self.saved, image, top + i, dy);
                add_up(dy, to, &mut of_bias);
                beyond.fill(0.0);
            }
            transform_gradients(dy, self.across, to, tiles, first, of_dy);
        }
        of_bias
    }

    /// The product of one frequency over a part's tiles, (O, C).
    fn product(
        &self,
        frequency: usize,
        tiles: usize,
        values: &[f32],
        add: bool,
        sums: &mut [f32],
        room: &mut Vec<f32>,
    ) {
        let (from, to) = (self.conv.geometry.channels, self.conv.outputs);
        let each = panels::rows();
        let pitch = each * tiles + SPARE;
        let width = panels::width();
        let size = to.div_ceil(each) * pitch;
        let (interleaved, panel) = grown(room, size + tiles * width).split_at_mut(size);
        let of_x = &values[frequency * tiles * from..][..tiles * from];
        let of_dy = &values[FREQUENCIES * tiles * from + frequency * tiles * to..][..tiles * to];
        interleave(of_dy.chunks_exact(to), 0, pitch, interleaved);
        let rows: Vec<usize> = (0..to).map(|o| o / each * pitch + o % each).collect();
        let c_rows: Vec<usize> = (0..to).map(|o| o * from).collect();
        let begins: Vec<usize> = (0..tiles).map(|tile| tile * from).collect();
        let segments = [Segment {
            offset: 0,
            length: tiles,
        }];
        let left = Left {
            values: interleaved,
            rows: &rows,
            segments: &segments,
            step: each,
        };
        let finish = Finish {
            add: if add { Add::Itself } else { Add::Nothing },
            ..Finish::default()
        };
        for first in (0..from).step_by(width) {
            let columns = width.min(from - first);
            if columns == 16 {
                copy::<16>(of_x, &begins, first, panel, width, 0, columns);
            } else {
                copy::<32>(of_x, &begins, first, panel, width, 0, columns);
            }
            product(left, panel, columns, &mut sums[first..], &c_rows, finish);
        }
    }
}
