//! Winograd's minimal filtering F(4x4, 3x3): 36 products for 16 outputs of a 3x3 kernel instead of 144.
//!
//! Tiles of 4x4 outputs: Y = Aᵀ [ Σ_c (G g Gᵀ) ⊙ (Bᵀ d B) ] A with the 6x6 inputs d under a tile and the kernel g. For each of
//! the 36 frequencies the sum over channels is a matrix product, tiles by channels by outputs.
//! The gradient of the input is the same filtering of the output's gradient with the mirrored kernel.
//! Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", arXiv:1509.09308, section 4; its matrices.
//! Results differ from the plain sum's by some 1e-6 of the largest, since the transforms add numbers up to 8 times as
//! large.

use std::ops::Range;

use rayon::prelude::*;

use super::panels::{self, Finish, Left, Segment, product};
use super::{Conv2d, Operands, Saved, Then, lines};
use crate::nn::op::{Packed, Scratch, grown, parts};

mod transforms;
mod weights;

use transforms::{MOST, Row, finish_row, transform_kernels, transform_row};
pub(super) use weights::weights;

/// Outputs of a tile along a side.
const TILE: usize = 4;

/// Inputs of a tile along a side.
const SPAN: usize = 6;

/// Products of a tile.
const FREQUENCIES: usize = SPAN * SPAN;

/// Values of the widest register. Where channels are no multiple of it the last registers overlap, which is done where no
/// value is added to.
const LANES: usize = 16;

/// Tiles of one product at least: the transformed kernels are read once for as many.
const TILES: usize = 24;

/// Transformed tiles up to this many values stay in a core's own cache.
const CHUNK: usize = 96 * 1024;

/// Whether this way is open and shorter.
pub(super) fn suits(conv: &Conv2d) -> bool {
    let g = &conv.geometry;
    let fits = g.kernel == 3 && g.stride == 1 && g.padding <= 2;
    let pools = match conv.then {
        Then::ReluMaxPool(windows) => TILE.is_multiple_of(windows.stride),
        Then::Nothing | Then::Relu => true,
    };
    fits && pools && pays(g.out_height(), g.out_width(), g.channels, conv.outputs)
}

/// The same of the gradient of the weights, which is summed up.
pub(super) fn suits_weights(conv: &Conv2d) -> bool {
    let is_even = |channels: usize| channels.is_multiple_of(LANES);
    suits(conv) && is_even(conv.geometry.channels) && is_even(conv.outputs)
}

/// The same of the gradient of the input.
pub(super) fn suits_data(conv: &Conv2d) -> bool {
    let g = &conv.geometry;
    suits_weights(conv) && pays(g.height, g.width, conv.outputs, g.channels)
}

/// Whether products saved outweigh the transforms, which cost about as much as 40 multiply-accumulates a channel and
/// frequency, and tiles that reach beyond the edge.
fn pays(height: usize, width: usize, from: usize, to: usize) -> bool {
    let tiles = height.div_ceil(TILE) * width.div_ceil(TILE);
    let transformed = tiles * FREQUENCIES * (from * to + 40 * (from + to));
    from >= 2 * LANES && to >= 2 * LANES && transformed * 5 < height * width * 9 * from * to * 4
}

/// A filtering over planes of `height` x `width` outputs.
struct Filter<'a> {
    height: usize,
    width: usize,
    from: usize,
    to: usize,
    padding: usize,
    /// For each frequency panels of the transformed kernels.
    kernels: &'a [f32],
}

/// What becomes of the outputs.
#[derive(Clone, Copy)]
struct End<'a> {
    bias: Option<&'a [f32]>,
    add: Option<&'a [f32]>,
    /// Whether what is there already is added.
    adds: bool,
    relu: bool,
}

/// y = the convolution, with what follows.
pub(super) fn forward(
    conv: &Conv2d,
    x: &[f32],
    operands: Operands<'_>,
    y: &mut [f32],
    place: &mut [u8],
    scratch: &mut Scratch,
) {
    let g = &conv.geometry;
    let kernel = |o: usize, c: usize| {
        let at = (o * g.channels + c) * 9;
        std::array::from_fn(|tap| operands.w[at + tap])
    };
    let size = FREQUENCIES * panels::size(g.channels, conv.outputs);
    let (packed, buffers) = scratch.lend_packed(rayon::current_num_threads(), size);
    let kernels = transformed(
        g.channels,
        conv.outputs,
        operands.scale.map(Scale::Column),
        kernel,
        packed,
    );
    let filter = Filter {
        height: g.out_height(),
        width: g.out_width(),
        from: g.channels,
        to: conv.outputs,
        padding: g.padding,
        kernels,
    };
    let source = |image: usize, line: usize, target: &mut [f32]| {
        let length = g.width * g.channels;
        target.copy_from_slice(&x[image * g.image() + line * length..][..length]);
    };
    let end = End {
        bias: operands.b,
        add: operands.add,
        adds: false,
        relu: conv.then != Then::Nothing,
    };
    let batch = x.len() / g.image();
    filter.run(
        batch,
        (g.height, g.width),
        &source,
        end,
        conv.then,
        y,
        place,
        buffers,
    );
}

/// The gradient of the input.
pub(super) fn data(
    conv: &Conv2d,
    saved: Saved<'_>,
    dx: &mut [f32],
    adds: bool,
    scratch: &mut Scratch,
) {
    let g = &conv.geometry;
    let kernel = |c: usize, o: usize| {
        let at = (o * g.channels + c) * 9;
        std::array::from_fn(|tap| saved.w[at + 8 - tap])
    };
    let size = FREQUENCIES * panels::size(conv.outputs, g.channels);
    let (packed, buffers) = scratch.lend_packed(rayon::current_num_threads(), size);
    let kernels = transformed(
        conv.outputs,
        g.channels,
        saved.scale.map(Scale::Row),
        kernel,
        packed,
    );
    let filter = Filter {
        height: g.height,
        width: g.width,
        from: conv.outputs,
        to: g.channels,
        padding: 2 - g.padding,
        kernels,
    };
    let source = |image: usize, line: usize, target: &mut [f32]| {
        lines::gradient(conv, &saved, image, line, target);
    };
    let end = End {
        bias: None,
        add: None,
        adds,
        relu: false,
    };
    let batch = dx.len() / g.image();
    let size = (g.out_height(), g.out_width());
    filter.run(
        batch,
        size,
        &source,
        end,
        Then::Nothing,
        dx,
        &mut [],
        buffers,
    );
}

/// A factor of the kernels, per output or per input of the product.
#[derive(Clone, Copy)]
enum Scale<'a> {
    Column(&'a [f32]),
    Row(&'a [f32]),
}

/// The kernels of all pairs, transformed: (36, panels of `to`, `from`, width).
fn transformed<'a>(
    from: usize,
    to: usize,
    scale: Option<Scale<'_>>,
    kernel: impl Fn(usize, usize) -> [f32; 9] + Sync,
    packed: Packed<'a>,
) -> &'a [f32] {
    let kernels = packed.values;
    if packed.is_made {
        return kernels;
    }
    let width = panels::width();
    let size = panels::size(from, to);
    let panel = from * width;
    // Panels are divided among the threads; each lies at 36 places.
    let mut of_panels: Vec<Vec<&mut [f32]>> = (0..size / panel).map(|_| Vec::new()).collect();
    for frequency in kernels.chunks_exact_mut(size) {
        for (of_panel, values) in of_panels.iter_mut().zip(frequency.chunks_exact_mut(panel)) {
            of_panel.push(values);
        }
    }
    of_panels
        .into_par_iter()
        .enumerate()
        .for_each(|(at, mut of_panel)| {
            let first = at * width;
            let columns = width.min(to - first);
            let mut taps = [[0.0; MOST]; 9];
            for row in 0..from {
                for j in 0..columns {
                    let factor = match scale {
                        None => 1.0,
                        Some(Scale::Column(scale)) => scale[first + j],
                        Some(Scale::Row(scale)) => scale[row],
                    };
                    for (tap, value) in taps.iter_mut().zip(kernel(first + j, row)) {
                        tap[j] = value * factor;
                    }
                }
                transform_kernels(&taps, row * width, width, &mut of_panel);
            }
        });
    kernels
}

/// Fills a line of a plane.
type Source<'a> = dyn Fn(usize, usize, &mut [f32]) + Sync + 'a;

impl Filter<'_> {
    fn tiles(&self) -> (usize, usize) {
        (self.height.div_ceil(TILE), self.width.div_ceil(TILE))
    }

    /// Divides the tiles' rows among the threads.
    #[expect(clippy::too_many_arguments, reason = "the slices of a pass")]
    fn run(
        &self,
        batch: usize,
        input: (usize, usize),
        source: &Source<'_>,
        end: End<'_>,
        then: Then,
        y: &mut [f32],
        place: &mut [u8],
        buffers: &mut [Vec<f32>],
    ) {
        let (down, _) = self.tiles();
        let parts = parts(batch * down);
        let pooled = |line: usize| match then {
            Then::ReluMaxPool(windows) => (line / windows.stride).min(windows.out_height()),
            _ => line.min(self.height),
        };
        let (height, width) = match then {
            Then::ReluMaxPool(windows) => (windows.out_height(), windows.out_width()),
            _ => (self.height, self.width),
        };
        let line = width * self.to;
        // Where a row of tiles begins in the output, in lines of the end.
        let begin = |row: usize| row / down * height + pooled(row % down * TILE);
        let mut ys = Vec::new();
        let (mut y, mut place) = (y, place);
        let pools = matches!(then, Then::ReluMaxPool(_));
        for part in &parts {
            let n = (begin(part.end) - begin(part.start)) * line;
            let (own, rest) = std::mem::take(&mut y).split_at_mut(n);
            let (own_place, rest_place) =
                std::mem::take(&mut place).split_at_mut(if pools { n } else { 0 });
            (y, place) = (rest, rest_place);
            ys.push((own, own_place));
        }
        parts
            .into_par_iter()
            .zip(ys)
            .zip(buffers)
            .for_each(|((part, (y, place)), buffer)| {
                let first = begin(part.start);
                let block = self.block();
                let mut raw = if pools {
                    vec![0.0; TILE * self.width * self.to]
                } else {
                    Vec::new()
                };
                for from in part.clone().step_by(block) {
                    let rows = from..part.end.min(from + block);
                    let values = self.products(rows.clone(), input, source, buffer);
                    let tiles = rows.len() * self.tiles().1;
                    for (at, row) in rows.enumerate() {
                        let own = (begin(row) - first) * line..(begin(row + 1) - first) * line;
                        let (image, top) = (row / down, row % down * TILE);
                        let of_row = Row {
                            tiles,
                            first: at * self.tiles().1,
                            lines: TILE.min(self.height - top),
                        };
                        let Then::ReluMaxPool(windows) = then else {
                            let add = end
                                .add
                                .map(|add| &add[(image * self.height + top) * line..][..own.len()]);
                            self.finish(of_row, values, End { add, ..end }, &mut y[own]);
                            continue;
                        };
                        self.finish(of_row, values, end, &mut raw);
                        let pitch = self.width * self.to;
                        let of_windows = y[own.clone()]
                            .chunks_exact_mut(line)
                            .zip(place[own].chunks_exact_mut(line));
                        for (at, (y, place)) in of_windows.enumerate() {
                            let raw = &raw[at * windows.stride * pitch..];
                            lines::pool(&windows, raw, pitch, y, place, self.to);
                        }
                    }
                }
            });
    }

    /// How many rows of tiles go into one product.
    fn block(&self) -> usize {
        let (_, across) = self.tiles();
        let tiles = (CHUNK / (FREQUENCIES * (self.from + self.to))).max(TILES);
        tiles.div_ceil(across)
    }

    /// The products of all frequencies for some rows of tiles: (36, tiles, `to`).
    fn products<'b>(
        &self,
        rows: Range<usize>,
        (in_height, in_width): (usize, usize),
        source: &Source<'_>,
        buffer: &'b mut Vec<f32>,
    ) -> &'b [f32] {
        let (down, across) = self.tiles();
        let tiles = rows.len() * across;
        let pitch = (across * TILE + SPAN - TILE) * self.from;
        let sizes = [
            SPAN * pitch,
            FREQUENCIES * tiles * self.from,
            FREQUENCIES * tiles * self.to,
        ];
        let mut rest = grown(buffer, sizes.iter().sum());
        let [copied, transformed, products] = sizes.map(|size| {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(size);
            rest = after;
            own
        });
        for (at, row) in rows.enumerate() {
            let (image, top) = (row / down, row % down * TILE);
            for (i, copied) in copied.chunks_exact_mut(pitch).enumerate() {
                let line = (top + i).wrapping_sub(self.padding);
                if line >= in_height {
                    copied.fill(0.0);
                    continue;
                }
                let margin = self.padding * self.from;
                let length = in_width * self.from;
                copied[..margin].fill(0.0);
                source(image, line, &mut copied[margin..margin + length]);
                copied[margin + length..].fill(0.0);
            }
            let first = at * across;
            transform_row(copied, pitch, across, self.from, tiles, first, transformed);
        }
        let segments = [Segment {
            offset: 0,
            length: self.from,
        }];
        let a_rows: Vec<usize> = (0..tiles).map(|tile| tile * self.from).collect();
        let c_rows: Vec<usize> = (0..tiles).map(|tile| tile * self.to).collect();
        let kernels = self.kernels.chunks_exact(panels::size(self.from, self.to));
        let of_frequencies = transformed
            .chunks_exact(tiles * self.from)
            .zip(products.chunks_exact_mut(tiles * self.to));
        for ((values, products), kernels) in of_frequencies.zip(kernels) {
            let left = Left {
                values,
                rows: &a_rows,
                segments: &segments,
                step: 1,
            };
            product(left, kernels, self.to, products, &c_rows, Finish::default());
        }
        products
    }

    /// Transforms a row of tiles back, into lines of the output.
    fn finish(&self, row: Row, products: &[f32], end: End<'_>, y: &mut [f32]) {
        finish_row(row, self.width, self.to, products, end, y);
    }
}
