//! Two-dimensional convolution (cross-correlation, as everywhere in this field), with bias, and with the ReLU, the residual
//! or the maximum pooling that follow it in the same pass.
//!
//! y[p, o] = b[o] + Σ W[o, c, ky, kx] · x[s·oy + ky - padding, s·ox + kx - padding, c] at each output position p = (oy, ox).
//! x (B, H, W, C), W (O, C, k, k), b (O), y (B, OH, OW, O): channels last within the network, weights as in PyTorch.
//!
//! Channels last, what the kernel's row ky sees at a position is k·C values side by side, so the product kernel reads
//! patches where they lie: no matrix of patches (im2col) is made. Lines of the images are copied once, with zeros
//! around them for the padding, as many as stay in a core's own cache. The three passes are the same product:
//! forward over (ky, kx, c), the gradient of x over (ky, kx, o) from the gradient of y, that of W over positions.
//! Work is divided by lines of the output, through all images.
//! Georganas et al. 2018, "Anatomy of high-performance deep learning convolutions on SIMD architectures".
//! Deviation from a plain call of the `gemm` crate: that one packs both matrices on every call, which costs
//! narrow layers more than their product.

use std::ops::Range;

use rayon::prelude::*;

pub use super::geometry::Geometry;
use super::geometry::{Piece, chunks, pieces};
use super::max_pool2d::Windows;
use super::panels::{self, Add, Finish, Left, Segment, product};
use super::{Scratch, grown, parts, shares};

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod data;
mod lines;
mod pack;
mod weights;
mod winograd;

/// Lines are copied as many at a time as have, or give, about this many values: 192 KiB, so that they are still in a core's own
/// cache (512 KiB and more) when they are read, together with a panel of weights and as many results.
const CHUNK: usize = 48 * 1024;

/// What follows a convolution in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Relu,
    /// A pooling whose windows do not overlap and have no padding.
    ReluMaxPool(Windows),
}

/// A convolution's shape and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    pub geometry: Geometry,
    pub outputs: usize,
    pub then: Then,
}

/// What a forward pass reads beside the input.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    pub w: &'a [f32],
    /// A factor for each output's weights: a batch normalization folded in.
    pub scale: Option<&'a [f32]>,
    pub b: Option<&'a [f32]>,
    /// A residual that is added before the ReLU, of the output's shape; not with a pooling.
    pub add: Option<&'a [f32]>,
}

/// What a backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    /// As in the forward pass.
    pub scale: Option<&'a [f32]>,
    /// The output; read if a ReLU followed.
    pub y: &'a [f32],
    /// Where the maxima were, if a pooling followed.
    pub place: &'a [u8],
    pub dy: &'a [f32],
}

/// What a backward pass writes: as much as is wanted.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub dx: Option<&'a mut [f32]>,
    /// Whether dx is added to what is there.
    pub adds: bool,
    /// The gradient of the weights as they were used: not yet multiplied by `scale`.
    pub dw: Option<&'a mut [f32]>,
    pub db: Option<&'a mut [f32]>,
}

impl Conv2d {
    /// Height and width of what comes out at the end.
    fn end(&self) -> (usize, usize) {
        let g = &self.geometry;
        match self.then {
            Then::Nothing | Then::Relu => (g.out_height(), g.out_width()),
            Then::ReluMaxPool(windows) => (windows.out_height(), windows.out_width()),
        }
    }

    /// Values of one image that come out at the end.
    pub fn values(&self) -> usize {
        let (height, width) = self.end();
        height * width * self.outputs
    }

    /// The convolution's own lines under lines of the end.
    fn under(&self, piece: Piece) -> Piece {
        match self.then {
            Then::Nothing | Then::Relu => piece,
            Then::ReluMaxPool(windows) => Piece {
                first: piece.first * windows.stride,
                count: (piece.count - 1) * windows.stride + windows.kernel,
                ..piece
            },
        }
    }

    /// y = the output; `place` = where the pooling found its maxima (empty without pooling).
    pub fn forward(
        &self,
        x: &[f32],
        operands: Operands<'_>,
        y: &mut [f32],
        place: &mut [u8],
        scratch: &mut Scratch,
    ) {
        if winograd::suits(self) {
            winograd::forward(self, x, operands, y, place, scratch);
            return;
        }
        let g = &self.geometry;
        let batch = x.len() / g.image();
        let (height, width) = self.end();
        let parts = parts(batch * height);
        let size = panels::size(g.depth(), self.outputs);
        let (packed, buffers) = scratch.lend_packed(parts.len(), size);
        if !packed.is_made {
            pack::by_output(self, operands.w, operands.scale, packed.values);
        }
        let packed = &*packed.values;
        let line = width * self.outputs;
        let pools = matches!(self.then, Then::ReluMaxPool(_));
        let ys = shares(y, &parts, line);
        let places = shares(place, &parts, if pools { line } else { 0 });
        parts
            .into_par_iter()
            .zip(ys)
            .zip(places)
            .zip(buffers)
            .for_each(|(((part, y), place), buffer)| {
                self.forward_part(part, x, packed, operands, y, place, buffer);
            });
    }

    /// Some lines of the end.
    #[expect(
        clippy::too_many_arguments,
        reason = "one part of each of the pass's slices"
    )]
    fn forward_part(
        &self,
        part: Range<usize>,
        x: &[f32],
        packed: &[f32],
        operands: Operands<'_>,
        y: &mut [f32],
        place: &mut [u8],
        buffer: &mut Vec<f32>,
    ) {
        let g = &self.geometry;
        let (height, width) = self.end();
        let line = width * self.outputs;
        let begin = part.start;
        // Copied lines under one line of the end.
        let stride = match self.then {
            Then::ReluMaxPool(windows) => g.stride * windows.stride,
            _ => g.stride,
        };
        let copied = stride * lines::padded_width(g) * g.channels;
        let wanted = CHUNK / copied.max(g.out_width() * self.outputs);
        let (mut rows, mut c_rows) = (Vec::new(), Vec::new());
        for chunk in chunks(part, height, wanted) {
            let of_chunk = (chunk.start - begin) * line..(chunk.end - begin) * line;
            let own = || pieces(chunk.clone(), height).map(|piece| self.under(piece));
            let conv_lines: usize = own().map(|piece| piece.count).sum();
            let raw_size = match self.then {
                Then::ReluMaxPool(_) => conv_lines * g.out_width() * self.outputs,
                _ => 0,
            };
            let copied_size = lines::padded_size(g, own());
            let (raw, rest) = grown(buffer, raw_size + copied_size).split_at_mut(raw_size);
            rows.clear();
            let values = lines::patches(g, own(), x, rest, &mut rows);
            c_rows.clear();
            c_rows.extend((0..rows.len()).map(|position| position * self.outputs));
            let left = Left {
                values,
                rows: &rows,
                segments: &lines::windows(g),
                step: 1,
            };
            let mut finish = Finish {
                bias: operands.b,
                add: match operands.add {
                    Some(add) => Add::Values(&add[chunk.start * line..chunk.end * line]),
                    None => Add::Nothing,
                },
                relu: self.then == Then::Relu,
            };
            let y = &mut y[of_chunk.clone()];
            let Then::ReluMaxPool(windows) = self.then else {
                product(left, packed, self.outputs, y, &c_rows, finish);
                continue;
            };
            // The maximum of rectified values is the rectified maximum, and which is the first is asked of the
            // rectified ones: all zeros, and it is the first.
            finish.relu = true;
            product(left, packed, self.outputs, raw, &c_rows, finish);
            let mut place = place[of_chunk].chunks_exact_mut(line);
            let mut y = y.chunks_exact_mut(line);
            let pitch = g.out_width() * self.outputs;
            let mut raw = &*raw;
            for piece in pieces(chunk.clone(), height) {
                let of_piece = y.by_ref().zip(place.by_ref()).take(piece.count);
                for (at, (y, place)) in of_piece.enumerate() {
                    let raw = &raw[at * windows.stride * pitch..];
                    lines::pool(&windows, raw, pitch, y, place, self.outputs);
                }
                raw = &raw[self.under(piece).count * pitch..];
            }
        }
    }

    /// The gradients that are wanted.
    pub fn backward(&self, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let Wanted { dx, adds, dw, db } = wanted;
        if dw.is_some() || db.is_some() {
            weights::backward(self, saved, dw, db, scratch);
        }
        if let Some(dx) = dx {
            data::backward(self, saved, dx, adds, scratch);
        }
    }
}
