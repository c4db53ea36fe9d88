//! Winograd's minimal filtering F(4x4, 3x3) with integers alone: 36 products for 16 outputs instead of 144, and equal sums.
//!
//! Tiles of 4x4 outputs: Y = Aᵀ [ Σ_c (G g Gᵀ) ⊙ (Bᵀ d B) ] A, as with floats (`op::conv2d`); Lavin and Gray 2016,
//! arXiv:1509.09308, section 4. Here no step rounds:
//!
//! - Bᵀ d B: a row of Bᵀ adds at most 10 times a value, so activations of ±255 give at most 25,500: 16 bits.
//! - G: its rows times 4, 6, 6, 24, 24 and 1 are integers, and kernels of ±127 give at most 49 · 127: 16 bits.
//! - The sums are kept modulo 2^32. With the rows' factors undone inside Aᵀ, its own rows times 24, 12, 6 and 6 are
//!   integers, and what comes out is 24², ..., 6² times the sum that is wanted: times 9 and a power of two, 64 at
//!   most. 9 has an inverse modulo 2^32, and the power is shifted away. That is the sum itself if it lies within
//!   ±2^25. The weights say how large a sum can be: channels are divided into as many groups as it takes, each
//!   filtered by itself, and their sums are added.
//!
//! Meng and Brothers 2019, "Efficient Winograd convolution via integer arithmetic", arXiv:1901.01965, take complex points
//! to keep numbers small; here the words are wide enough.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{self, Left, Segment, pack, product};
use super::lines::{bytes_of, spread};
use super::path::{Group, Products, Unit};
use super::requantize::Requantize;
use super::{Buffers, Scratch, grown};
use crate::nn::op::geometry::Geometry;
use crate::nn::op::{parts, shares};

mod transforms;

use transforms::{Row, finish_row, kernel_side, transform_row};

/// Outputs of a tile along a side.
const TILE: usize = 4;

/// Inputs of a tile along a side.
const SPAN: usize = 6;

/// Products of a tile.
const FREQUENCIES: usize = SPAN * SPAN;

/// Channels come in multiples of a register of 16-bit integers.
const LANES: usize = 16;

/// A sum beyond this does not survive the shift.
const LARGEST: f64 = (1 << 25) as f64;

/// Bytes of transformed tiles and sums that stay in a core's own cache.
const CHUNK: usize = 320 * 1024;

/// Tiles of one product at least: the transformed kernels are read once for as many.
const TILES: usize = 24;

/// Tiles of a batch below which the kernels, four times as many when transformed, cost more to read than products save: a
/// tile saves 108 products a kernel, and 54 bytes more are read of it, at 8 GB/s from memory as long as 5 tiles save.
const FEW: usize = 8;

/// A filtering.
#[derive(Debug)]
pub(super) struct Filter {
    geometry: Geometry,
    zero: u8,
    outputs: usize,
    unit: Unit,
    /// Groups of channels whose sums survive.
    groups: Vec<Share>,
}

/// A group of channels, and its transformed kernels: for each frequency the panels of all outputs.
#[derive(Debug)]
struct Share {
    channels: Range<usize>,
    kernels: Vec<i32>,
}

impl Filter {
    /// Whether this way is open and shorter.
    pub(super) fn suits(g: &Geometry, outputs: usize, products: &Products) -> bool {
        let (height, width) = (g.out_height(), g.out_width());
        let tiles = height.div_ceil(TILE) * width.div_ceil(TILE);
        let from = g.channels.next_multiple_of(LANES);
        let to = outputs.next_multiple_of(products.pairs.width);
        // In products of the direct way: measured on 64 to 64, 64 to 16, 32 to 32 and 16 to 64 channels with AVX2, a tile's
        // transforms take as long as 6 products for each channel and frequency on the way in, and 40 on the way out. Where
        // products are quicker, transforms are as many more of them.
        let (quads, quicker) = match products.direct.group {
            Group::Pairs => (1, products.pairs.width / 16),
            Group::Quads => (2, products.pairs.width / 8),
        };
        let transforms = quicker.max(1) * (6 * from + 40 * to);
        let filtered = tiles * FREQUENCIES * (from * to + transforms);
        let direct = height * width * 9 * g.channels * outputs / quads;
        g.kernel == 3 && g.stride == 1 && g.padding <= 2 && filtered < direct
    }

    /// Whether a batch is large enough.
    pub(super) fn pays(g: &Geometry, batch: usize) -> bool {
        batch * g.out_height().div_ceil(TILE) * g.out_width().div_ceil(TILE) >= FEW
    }

    /// Of weights (O, 3, 3, C).
    pub(super) fn new(geometry: Geometry, zero: u8, weights: &[i8], unit: Unit) -> Self {
        let c = geometry.channels;
        let outputs = weights.len() / (9 * c);
        let groups = groups(weights, c, zero).into_iter().map(|channels| {
            let kernels = transformed(weights, c, channels.clone(), outputs, &unit);
            Share { channels, kernels }
        });
        Self {
            geometry,
            zero,
            outputs,
            unit,
            groups: groups.collect(),
        }
    }

    fn tiles(&self) -> (usize, usize) {
        let g = &self.geometry;
        (g.out_height().div_ceil(TILE), g.out_width().div_ceil(TILE))
    }

    /// Channels with those that fill a register.
    fn spread(&self) -> usize {
        self.geometry.channels.next_multiple_of(LANES)
    }

    /// Outputs with those that fill a panel.
    fn pitch(&self) -> usize {
        self.outputs.next_multiple_of(self.unit.width)
    }

    /// y = what the sums are stored as.
    pub(super) fn forward(&self, x: &[u8], then: &Requantize, y: &mut [u8], scratch: &mut Scratch) {
        let (down, _) = self.tiles();
        let g = &self.geometry;
        let line = g.out_width() * self.outputs;
        let batch = y.len() / (g.out_height() * line);
        let parts = parts(batch * down);
        // Where a row of tiles begins, in lines of the output.
        let begin = |row: usize| row / down * g.out_height() + row % down * TILE;
        let lines: Vec<Range<usize>> = parts
            .iter()
            .map(|part| begin(part.start)..begin(part.end))
            .collect();
        let ys = shares(y, &lines, line);
        let buffers = scratch.lend(parts.len());
        parts
            .into_par_iter()
            .zip(ys)
            .zip(buffers)
            .for_each(|((part, y), buffers)| {
                let first = begin(part.start);
                for from in part.clone().step_by(self.block()) {
                    let rows = from..part.end.min(from + self.block());
                    let tiles = rows.len() * self.tiles().1;
                    let sums = self.products(rows.clone(), x, buffers);
                    for (at, row) in rows.enumerate() {
                        let y =
                            &mut y[(begin(row) - first) * line..(begin(row + 1) - first) * line];
                        let of_row = Row {
                            tiles,
                            first: at * self.tiles().1,
                            pitch: self.pitch(),
                            width: g.out_width(),
                            outputs: self.outputs,
                        };
                        finish_row(of_row, sums, then, y);
                    }
                }
            });
    }

    /// How many rows of tiles go into one product.
    fn block(&self) -> usize {
        let (_, across) = self.tiles();
        let of_tile = FREQUENCIES * (2 * self.spread() + 4 * self.groups.len() * self.pitch());
        (CHUNK / of_tile).max(TILES).div_ceil(across)
    }

    /// The products of all frequencies for some rows of tiles: (groups, 36, tiles, pitch).
    fn products<'b>(&self, rows: Range<usize>, x: &[u8], buffers: &'b mut Buffers) -> &'b [i32] {
        let (down, across) = self.tiles();
        let (g, c, pitch) = (&self.geometry, self.spread(), self.pitch());
        let tiles = rows.len() * across;
        let line = (across * TILE + SPAN - TILE) * c;
        let Buffers {
            bytes,
            shorts,
            sums,
            rows: begins,
        } = buffers;
        let copied = grown(bytes, SPAN * line);
        let transformed = grown(shorts, FREQUENCIES * tiles * c);
        let sums = grown(sums, self.groups.len() * FREQUENCIES * tiles * pitch);
        for (at, row) in rows.enumerate() {
            let (image, top) = (row / down, row % down * TILE);
            let image = &x[image * g.image()..][..g.image()];
            for (i, copied) in copied.chunks_exact_mut(line).enumerate() {
                let y = (top + i).wrapping_sub(g.padding);
                spread(g, self.zero, c, image, y, copied);
            }
            transform_row(
                copied,
                across,
                c,
                self.zero,
                (tiles, at * across),
                transformed,
            );
        }
        let sets = sums.chunks_exact_mut(FREQUENCIES * tiles * pitch);
        for (group, sums) in self.groups.iter().zip(sets) {
            begins.clear();
            begins.extend((0..tiles).map(|tile| 2 * (tile * c + group.channels.start)));
            let segments = [Segment {
                offset: 0,
                words: group.channels.len() / 2,
            }];
            let panel = kernel::panel(&self.unit, &[group.channels.len()]);
            let kernels = group
                .kernels
                .chunks_exact(panel * (pitch / self.unit.width));
            let frequencies = transformed
                .chunks_exact(tiles * c)
                .zip(sums.chunks_exact_mut(tiles * pitch));
            for ((values, sums), kernels) in frequencies.zip(kernels) {
                let left = Left::new(bytes_of(values), begins, &segments);
                for (at, panel) in kernels.chunks_exact(panel).enumerate() {
                    let sums = &mut sums[at * self.unit.width..];
                    product(&self.unit, &left, 0..tiles, panel, sums, pitch);
                }
            }
        }
        sums
    }
}

/// Channels in groups whose sums lie within ±[`LARGEST`].
fn groups(weights: &[i8], channels: usize, zero: u8) -> Vec<Range<usize>> {
    let (down, up) = (f64::from(zero), f64::from(255 - zero));
    let most = |range: Range<usize>| {
        let of_output = |own: &[i8]| {
            let own = own
                .chunks_exact(channels)
                .flat_map(|tap| &tap[range.clone()]);
            let (above, below) = own.fold((0.0, 0.0), |(above, below), w| {
                let w = f64::from(*w);
                (above + w.max(0.0), below + (-w).max(0.0))
            });
            (up * above + down * below).max(down * above + up * below)
        };
        weights
            .chunks_exact(9 * channels)
            .map(of_output)
            .fold(0.0, f64::max)
    };
    // Groups of equal size, as few as will do: a block of 16 channels always fits.
    let blocks = channels.div_ceil(LANES);
    let cut = |n: usize| -> Vec<Range<usize>> {
        let edge = move |at: usize| at * blocks / n * LANES;
        (0..n).map(|at| edge(at)..edge(at + 1)).collect()
    };
    let real = |range: &Range<usize>| range.start..range.end.min(channels);
    let mut all = (1..=blocks).map(cut);
    let found = all.find(|groups| groups.iter().all(|group| most(real(group)) < LARGEST));
    found.unwrap_or_else(|| cut(blocks))
}

/// The transformed kernels of some channels.
fn transformed(
    weights: &[i8],
    channels: usize,
    group: Range<usize>,
    outputs: usize,
    unit: &Unit,
) -> Vec<i32> {
    // (36, channels of the group, outputs).
    let mut values = vec![0_i16; FREQUENCIES * group.len() * outputs];
    for (o, own) in weights.chunks_exact(9 * channels).enumerate() {
        for c in group.start..group.end.min(channels) {
            let tap = |at: usize| i32::from(own[at * channels + c]);
            let half = [0, 1, 2].map(|kx| kernel_side([tap(kx), tap(3 + kx), tap(6 + kx)]));
            for i in 0..SPAN {
                let row = kernel_side(half.map(|column| column[i]));
                for (j, value) in row.into_iter().enumerate() {
                    let at = ((i * SPAN + j) * group.len() + c - group.start) * outputs + o;
                    values[at] = value as i16;
                }
            }
        }
    }
    let of_frequency = |values: &[i16]| {
        pack(
            unit,
            &[group.len()],
            outputs,
            |_| 0,
            |_, at, o| i32::from(values[at * outputs + o]),
        )
    };
    values
        .chunks_exact(group.len() * outputs)
        .flat_map(of_frequency)
        .collect()
}
