//! Two-dimensional convolution (cross-correlation, as everywhere in this field), with bias, and with the ReLU and the
//! maximum pooling that follow it in the same pass.
//!
//! y[o, p] = b[o] + Σ_r W[o, r] · columns[r, p], where the columns hold the patch at each output position (`patches`).
//! x (B, C, H, W), W (O, C, k, k), b (O), y (B, O, OH, OW).
//! Backward, per image: dW += dy columnsᵀ; db += the row sums of dy; columns' = Wᵀ dy, added back onto the image.
//! One matrix product per image, the images divided among the threads; with fewer images than threads the channels are.
//! Chetlur et al. 2014, "cuDNN: efficient primitives for deep learning", section 3, compares the ways.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Into, Matrix, multiply};
use super::max_pool2d::{Windows, maxima, spread};
use super::patches::Geometry;
use super::relu::{masked, rectified};
use super::{Scratch, grown, parts, shares};

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

/// What a backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    /// The output of the whole pass; unused where nothing follows the convolution.
    pub y: &'a [f32],
    pub place: &'a [u8],
    pub dy: &'a [f32],
}

/// What a backward pass writes: as much as is wanted.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub dx: Option<&'a mut [f32]>,
    pub dw: Option<&'a mut [f32]>,
    pub db: Option<&'a mut [f32]>,
}

impl Conv2d {
    /// The gradients that are wanted.
    pub fn backward(&self, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let batch = saved.x.len() / self.geometry.image();
        if batch < rayon::current_num_threads() {
            self.backward_few(saved, wanted, scratch);
        } else {
            self.backward_many(saved, wanted, scratch);
        }
    }

    /// The gradient of the convolution's own output, before what followed it: (O, images·OH·OW).
    ///
    /// `rectified` has room for one pooled channel.
    fn raw_gradient(
        &self,
        saved: &Saved<'_>,
        images: Range<usize>,
        raw: &mut [f32],
        rectified: &mut [f32],
    ) {
        let (positions, values) = (self.geometry.positions(), self.then.values(&self.geometry));
        let count = images.len();
        for channel in 0..self.outputs {
            for (at, image) in images.clone().enumerate() {
                let raw = &mut raw[(channel * count + at) * positions..][..positions];
                let first = (image * self.outputs + channel) * values;
                let dy = &saved.dy[first..first + values];
                match self.then {
                    Then::Nothing => raw.copy_from_slice(dy),
                    Then::Relu => masked(&saved.y[first..first + values], dy, raw),
                    Then::ReluMaxPool(windows) => {
                        let (y, place) = (
                            &saved.y[first..first + values],
                            &saved.place[first..first + values],
                        );
                        masked(y, dy, rectified);
                        spread(&windows, place, rectified, raw);
                    }
                }
            }
        }
    }

    fn backward_many(&self, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let g = &self.geometry;
        let (rows, area) = (g.rows(), g.kernel * g.kernel);
        let parts = parts(saved.x.len() / g.image());
        let (wants_w, wants_b) = (wanted.dw.is_some(), wanted.db.is_some());
        let dxs: Vec<Option<&mut [f32]>> = match wanted.dx {
            Some(dx) => shares(dx, &parts, g.image())
                .into_iter()
                .map(Some)
                .collect(),
            None => parts.iter().map(|_| None).collect(),
        };
        let buffers = scratch.parts(parts.len());
        parts
            .into_par_iter()
            .zip(dxs)
            .zip(buffers.par_iter_mut())
            .for_each(|((part, mut dx), buffer)| {
                let group = self.group(part.len());
                let room = Room::of(self, group, buffer);
                room.db.fill(0.0);
                for first in part.clone().step_by(group) {
                    let images = first..part.end.min(first + group);
                    let width = images.len() * g.positions();
                    self.raw_gradient(&saved, images.clone(), room.raw, room.pooled);
                    if wants_b {
                        row_sums(room.raw, width, room.db);
                    }
                    let dy = Matrix::rows(room.raw, width);
                    for slab in self.slabs(group) {
                        let share = slab.start * area..slab.end * area;
                        if wants_w {
                            let x = &saved.x[images.start * g.image()..images.end * g.image()];
                            let columns = columns_of(g, &slab, x, room.spread, room.columns);
                            let columns = Matrix::transposed(columns, width);
                            let into = if first == part.start {
                                Into::Replace
                            } else {
                                Into::Add
                            };
                            let size = (self.outputs, share.len(), width);
                            multiply(size, &mut room.dw[share.start..], rows, into, dy, columns);
                        }
                        if let Some(dx) = &mut dx {
                            let w = Matrix::transposed(&saved.w[share.start..], rows);
                            let first = (images.start - part.start) * g.image();
                            let dx = &mut dx[first..first + images.len() * g.image()];
                            let plane = g.height * g.width;
                            let targets = dx
                                .chunks_exact_mut(g.image())
                                .map(|dx| &mut dx[slab.start * plane..slab.end * plane]);
                            self.input_gradient(w, dy, targets, room.columns, room.spread);
                        }
                    }
                }
            });
        // The parts' sums, in order.
        if let Some(dw) = wanted.dw {
            add_up(dw, buffers, 0);
        }
        if let Some(db) = wanted.db {
            add_up(db, buffers, self.outputs * rows);
        }
    }

    /// dx = the transposed convolution of dy, for some channels of some images; `w` is their rows of Wᵀ.
    fn input_gradient<'a>(
        &self,
        w: Matrix<'_>,
        dy: Matrix<'_>,
        dx: impl ExactSizeIterator<Item = &'a mut [f32]>,
        columns: &mut [f32],
        spread: &mut [f32],
    ) {
        let g = &self.geometry;
        let mut dx = dx.peekable();
        let Some(image) = dx.peek() else { return };
        let channels = image.len() / (g.height * g.width);
        let size = (channels * g.kernel * g.kernel, dy.row, self.outputs);
        multiply(size, columns, dy.row, Into::Replace, w, dy);
        g.scatter(channels, columns, spread, dx);
    }

    /// Fewer images than threads: the output channels are divided for dW, the input channels for dx.
    fn backward_few(&self, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let g = &self.geometry;
        let (rows, positions, area) = (g.rows(), g.positions(), g.kernel * g.kernel);
        let (of_outputs, of_inputs) = (parts(self.outputs), parts(g.channels));
        let [first, buffers @ ..] = scratch.parts(of_inputs.len() + 1) else {
            return;
        };
        let room = Room::of(self, 1, first);
        let Wanted {
            mut dx,
            mut dw,
            mut db,
        } = wanted;
        if let Some(db) = &mut db {
            db.fill(0.0);
        }
        for image in 0..saved.x.len() / g.image() {
            self.raw_gradient(&saved, image..image + 1, room.raw, room.pooled);
            let raw = &*room.raw;
            if let Some(db) = &mut db {
                row_sums(raw, positions, db);
            }
            if let Some(dw) = &mut dw {
                let x = &saved.x[image * g.image()..][..g.image()];
                for slab in self.slabs(1) {
                    let share = slab.start * area..slab.end * area;
                    let columns = columns_of(g, &slab, x, room.spread, room.columns);
                    let into = if image == 0 { Into::Replace } else { Into::Add };
                    let dws = shares(dw, &of_outputs, rows);
                    of_outputs.par_iter().zip(dws).for_each(|(part, dw)| {
                        let size = (part.len(), share.len(), positions);
                        let dy = Matrix::rows(&raw[part.start * positions..], positions);
                        let columns = Matrix::transposed(columns, positions);
                        multiply(size, &mut dw[share.start..], rows, into, dy, columns);
                    });
                }
            }
            if let Some(dx) = &mut dx {
                let dx = &mut dx[image * g.image()..][..g.image()];
                let dxs = shares(dx, &of_inputs, g.height * g.width);
                of_inputs
                    .par_iter()
                    .zip(dxs)
                    .zip(buffers.par_iter_mut())
                    .for_each(|((part, dx), buffer)| {
                        let columns = part.len() * area * positions;
                        let spread = part.len() * g.spread_values();
                        let (columns, spread) =
                            grown(buffer, columns + spread).split_at_mut(columns);
                        let w = Matrix::transposed(&saved.w[part.start * area..], rows);
                        let dy = Matrix::rows(raw, positions);
                        self.input_gradient(w, dy, std::iter::once(dx), columns, spread);
                    });
            }
        }
    }
}

/// Adds each row's sum.
fn row_sums(values: &[f32], width: usize, sums: &mut [f32]) {
    for (sum, row) in sums.iter_mut().zip(values.chunks_exact(width)) {
        // Eight running sums, which the compiler turns into one vector.
        let mut lanes = [0.0; 8];
        let chunks = row.chunks_exact(8);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        *sum += lanes.iter().sum::<f32>() + rest;
    }
}

/// `total` = the sum over the parts of what their buffers hold from `offset` on.
fn add_up(total: &mut [f32], buffers: &[Vec<f32>], offset: usize) {
    for (at, buffer) in buffers.iter().enumerate() {
        let part = &buffer[offset..offset + total.len()];
        if at == 0 {
            total.copy_from_slice(part);
        } else {
            for (total, value) in total.iter_mut().zip(part) {
                *total += value;
            }
        }
    }
}
