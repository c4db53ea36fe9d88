//! Two-dimensional convolution (cross-correlation, as everywhere in this field), with bias, and with the ReLU and the
//! maximum pooling that follow it in the same pass.
//!
//! y[o, p] = b[o] + Σ_r W[o, r] · columns[r, p], where the columns hold the patch at each output position (`patches`).
//! x (B, C, H, W), W (O, C, k, k), b (O), y (B, O, OH, OW).
//! One matrix product for one or a few images, the images divided among the threads; with fewer images than threads the
//! channels are divided.
//! Chetlur et al. 2014, "cuDNN: efficient primitives for deep learning", section 3, compares the ways.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Into, Matrix, multiply};
use super::max_pool2d::{Windows, maxima};
use super::patches::Geometry;
use super::relu::rectified;
use super::{Scratch, grown, parts, shares};

mod backward;

pub use backward::{Saved, Wanted};

/// A product at least this wide keeps the GEMM kernels busy: narrower ones waste lanes and pack the weights too often.
/// Measured on cnn8's 7x7 and 4x4 maps.
const WIDTH: usize = 192;

/// Columns are made for as many channels at a time as keep them below this many values: 192 KiB, so that they are still
/// in a core's own cache (512 KiB and more) when the product reads them.
const SLAB: usize = 48 * 1024;

/// What follows a convolution in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Relu,
    ReluMaxPool(Windows),
}

impl Then {
    /// Values per channel that come out at the end.
    fn values(self, geometry: &Geometry) -> usize {
        match self {
            Self::Nothing | Self::Relu => geometry.positions(),
            Self::ReluMaxPool(windows) => windows.count(),
        }
    }
}

/// A convolution's shape and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    pub geometry: Geometry,
    pub outputs: usize,
    pub then: Then,
}

impl Conv2d {
    /// Values of one image that come out at the end.
    pub fn values(&self) -> usize {
        self.outputs * self.then.values(&self.geometry)
    }

    /// How many places of maxima an image has.
    pub fn places(&self) -> usize {
        match self.then {
            Then::ReluMaxPool(_) => self.values(),
            Then::Nothing | Then::Relu => 0,
        }
    }

    /// How many of `images` go into one product: small maps are joined until the product is wide enough.
    fn group(&self, images: usize) -> usize {
        WIDTH
            .div_ceil(self.geometry.positions())
            .clamp(1, images.max(1))
    }

    /// The input channels in shares whose columns for `images` stay in the cache.
    fn slabs(&self, images: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (all, each) = (self.geometry.channels, self.slab(images));
        (0..all)
            .step_by(each)
            .map(move |first| first..all.min(first + each))
    }

    /// How many channels the largest share has.
    fn slab(&self, images: usize) -> usize {
        let g = &self.geometry;
        (SLAB / (g.kernel * g.kernel * images * g.positions())).clamp(1, g.channels)
    }

    /// y = the output; `place` = where the pooling found its maxima (empty without pooling).
    pub fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        b: Option<&[f32]>,
        y: &mut [f32],
        place: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        let batch = x.len() / g.image();
        if batch < rayon::current_num_threads() {
            self.forward_few(x, w, b, y, place, scratch);
            return;
        }
        let parts = parts(batch);
        let ys = shares(y, &parts, self.values());
        let places = shares(place, &parts, self.places());
        let buffers = scratch.parts(parts.len());
        parts
            .into_par_iter()
            .zip(ys)
            .zip(places)
            .zip(buffers)
            .for_each(|(((part, y), place), buffer)| {
                let group = self.group(part.len());
                let room = Room::of(self, group, buffer);
                let x = &x[part.start * g.image()..part.end * g.image()];
                let mut place = place;
                for (x, y) in x
                    .chunks(group * g.image())
                    .zip(y.chunks_mut(group * self.values()))
                {
                    let images = x.len() / g.image();
                    let (of_these, rest) = place.split_at_mut(images * self.places());
                    place = rest;
                    let channels = 0..self.outputs;
                    for slab in self.slabs(group) {
                        let columns = columns_of(g, &slab, x, room.spread, room.columns);
                        self.product(&channels, &slab, w, columns, images, room.raw);
                    }
                    self.finish(&channels, images, b, room.raw, y, of_these);
                }
            });
    }

    /// Fewer images than threads: the output channels are divided, one image after another.
    fn forward_few(
        &self,
        x: &[f32],
        w: &[f32],
        b: Option<&[f32]>,
        y: &mut [f32],
        place: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let g = &self.geometry;
        let parts = parts(self.outputs);
        let [first, buffers @ ..] = scratch.parts(parts.len() + 1) else {
            return;
        };
        let room = Room::of(self, 1, first);
        for (image, x) in x.chunks_exact(g.image()).enumerate() {
            for slab in self.slabs(1) {
                let columns = columns_of(g, &slab, x, room.spread, room.columns);
                parts
                    .par_iter()
                    .zip(buffers.par_iter_mut())
                    .for_each(|(part, buffer)| {
                        let raw = grown(buffer, part.len() * g.positions());
                        self.product(part, &slab, w, columns, 1, raw);
                    });
            }
            let y = &mut y[image * self.values()..][..self.values()];
            let place = &mut place[image * self.places()..][..self.places()];
            let ys = shares(y, &parts, self.then.values(g));
            let places = shares(place, &parts, self.places() / self.outputs);
            parts
                .par_iter()
                .zip(ys)
                .zip(places)
                .zip(buffers.par_iter_mut())
                .for_each(|(((part, y), place), buffer)| {
                    self.finish(part, 1, b, buffer, y, place);
                });
        }
    }

    /// raw = W columns, or raw += for later slabs: some output channels, (channels, images·OH·OW).
    fn product(
        &self,
        channels: &Range<usize>,
        slab: &Range<usize>,
        w: &[f32],
        columns: &[f32],
        images: usize,
        raw: &mut [f32],
    ) {
        let g = &self.geometry;
        let (rows, width, area) = (g.rows(), images * g.positions(), g.kernel * g.kernel);
        let w = Matrix::rows(&w[channels.start * rows + slab.start * area..], rows);
        let size = (channels.len(), width, slab.len() * area);
        let columns = Matrix::rows(columns, width);
        multiply(size, raw, width, first_replaces(slab), w, columns);
    }

    /// Adds the bias, does what follows, and puts each image's channels at their place.
    fn finish(
        &self,
        channels: &Range<usize>,
        images: usize,
        b: Option<&[f32]>,
        raw: &mut [f32],
        y: &mut [f32],
        place: &mut [u8],
    ) {
        let g = &self.geometry;
        let (positions, values) = (g.positions(), self.then.values(g));
        for channel in 0..channels.len() {
            let bias = b.map_or(0.0, |b| b[channels.start + channel]);
            for image in 0..images {
                let raw = &mut raw[(channel * images + image) * positions..][..positions];
                let at = (image * channels.len() + channel) * values;
                let y = &mut y[at..at + values];
                match self.then {
                    Then::Nothing => {
                        for (y, raw) in y.iter_mut().zip(raw.iter()) {
                            *y = raw + bias;
                        }
                    }
                    Then::Relu => {
                        for (y, raw) in y.iter_mut().zip(raw.iter()) {
                            *y = rectified(raw + bias);
                        }
                    }
                    Then::ReluMaxPool(windows) => {
                        for raw in raw.iter_mut() {
                            *raw += bias;
                        }
                        let place = &mut place[at..at + values];
                        maxima(&windows, raw, y, place);
                        for y in y.iter_mut() {
                            *y = rectified(*y);
                        }
                    }
                }
            }
        }
    }
}

/// A buffer divided up for one task.
struct Room<'a> {
    /// Sums of the weights' and biases' gradients.
    dw: &'a mut [f32],
    db: &'a mut [f32],
    columns: &'a mut [f32],
    spread: &'a mut [f32],
    /// The convolution's own output, or its gradient: (O, images·OH·OW).
    raw: &'a mut [f32],
    /// One pooled channel.
    pooled: &'a mut [f32],
}

impl<'a> Room<'a> {
    fn of(conv: &Conv2d, images: usize, buffer: &'a mut Vec<f32>) -> Self {
        let g = &conv.geometry;
        let (weights, channels) = (conv.outputs * g.rows(), conv.slab(images));
        let columns = g.columns(channels, images);
        let spread = images * channels * g.spread_values();
        let raw = conv.outputs * images * g.positions();
        let pooled = conv.places() / conv.outputs;
        let size = weights + conv.outputs + columns + spread + raw + pooled;
        let buffer = grown(buffer, size);
        let (dw, buffer) = buffer.split_at_mut(weights);
        let (db, buffer) = buffer.split_at_mut(conv.outputs);
        let (columns, buffer) = buffer.split_at_mut(columns);
        let (spread, buffer) = buffer.split_at_mut(spread);
        let (raw, pooled) = buffer.split_at_mut(raw);
        Self {
            dw,
            db,
            columns,
            spread,
            raw,
            pooled,
        }
    }
}

/// The first slab's product replaces what is there, the others add.
fn first_replaces(slab: &Range<usize>) -> Into {
    if slab.start == 0 {
        Into::Replace
    } else {
        Into::Add
    }
}

/// The columns of some channels: the one image itself where every patch is one pixel, else gathered into the buffer.
fn columns_of<'a>(
    g: &Geometry,
    channels: &Range<usize>,
    images: &'a [f32],
    spread: &mut [f32],
    columns: &'a mut [f32],
) -> &'a [f32] {
    if g.is_identity() && images.len() == g.image() {
        return &images[channels.start * g.positions()..];
    }
    g.gather(channels.clone(), images, spread, columns);
    columns
}
