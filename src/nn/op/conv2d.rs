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
use super::patches::{Geometry, gather, scatter};
use super::relu::{masked, rectified};
use super::{Scratch, grown, parts, shares};

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
        let (rows, positions) = (g.rows(), g.positions());
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
                let columns_size = rows * positions;
                let buffer = grown(buffer, columns_size + self.outputs * positions);
                let (columns, raw) = buffer.split_at_mut(columns_size);
                for (at, image) in part.enumerate() {
                    let x = &x[image * g.image()..][..g.image()];
                    let y = &mut y[at * self.values()..][..self.values()];
                    let place = &mut place[at * self.places()..][..self.places()];
                    let columns = columns_of(g, x, columns);
                    self.forward_channels(0..self.outputs, columns, w, b, y, place, raw);
                }
            });
    }

    /// Fewer images than threads: the output channels are divided.
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
        let positions = g.positions();
        let parts = parts(self.outputs);
        let [columns, buffers @ ..] = scratch.parts(parts.len() + 1) else {
            return;
        };
        let columns = grown(columns, g.rows() * positions);
        for (image, x) in x.chunks_exact(g.image()).enumerate() {
            let columns = columns_of(g, x, columns);
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
                    let raw = grown(buffer, part.len() * positions);
                    self.forward_channels(part.clone(), columns, w, b, y, place, raw);
                });
        }
    }

    /// Some channels of one image, from its columns.
    #[expect(
        clippy::too_many_arguments,
        reason = "slices of one pass, each named for what it is"
    )]
    fn forward_channels(
        &self,
        channels: Range<usize>,
        columns: &[f32],
        w: &[f32],
        b: Option<&[f32]>,
        y: &mut [f32],
        place: &mut [u8],
        raw: &mut [f32],
    ) {
        let g = &self.geometry;
        let (rows, positions, values) = (g.rows(), g.positions(), self.then.values(g));
        let size = (channels.len(), positions, rows);
        let w = Matrix::rows(&w[channels.start * rows..channels.end * rows], rows);
        let columns = Matrix::rows(columns, positions);
        let bias = |channel: usize| b.map_or(0.0, |b| b[channels.start + channel]);
        if let Then::ReluMaxPool(windows) = self.then {
            multiply(size, raw, positions, Into::Replace, w, columns);
            for (channel, ((raw, y), place)) in raw
                .chunks_exact_mut(positions)
                .zip(y.chunks_exact_mut(values))
                .zip(place.chunks_exact_mut(values))
                .enumerate()
            {
                let bias = bias(channel);
                for raw in raw.iter_mut() {
                    *raw += bias;
                }
                maxima(&windows, g.out_width(), raw, |at, value, where_| {
                    y[at] = rectified(value);
                    place[at] = where_;
                });
            }
            return;
        }
        multiply(size, y, positions, Into::Replace, w, columns);
        for (channel, y) in y.chunks_exact_mut(positions).enumerate() {
            let bias = bias(channel);
            if self.then == Then::Relu {
                for y in y {
                    *y = rectified(*y + bias);
                }
            } else {
                for y in y {
                    *y += bias;
                }
            }
        }
    }

    /// How many places of maxima an image has.
    pub fn places(&self) -> usize {
        match self.then {
            Then::ReluMaxPool(_) => self.values(),
            Then::Nothing | Then::Relu => 0,
        }
    }
}

/// The columns of an image: itself where every patch is one pixel, else gathered into the buffer.
fn columns_of<'a>(g: &Geometry, image: &'a [f32], buffer: &'a mut [f32]) -> &'a [f32] {
    if g.is_identity() {
        return image;
    }
    gather(g, image, 0..g.rows(), buffer);
    buffer
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

    /// The gradient of the convolution's own output, before what followed it, for one image.
    fn raw_gradient<'a>(
        &self,
        saved: &Saved<'a>,
        image: usize,
        buffer: &'a mut [f32],
    ) -> &'a [f32] {
        let values = image * self.values()..(image + 1) * self.values();
        let (y, dy) = (&saved.y[values.clone()], &saved.dy[values]);
        match self.then {
            Then::Nothing => return dy,
            Then::Relu => masked(y, dy, buffer),
            Then::ReluMaxPool(windows) => {
                buffer.fill(0.0);
                let place = &saved.place[image * self.places()..][..self.places()];
                let count = windows.count();
                for (channel, raw) in buffer
                    .chunks_exact_mut(self.geometry.positions())
                    .enumerate()
                {
                    let of = channel * count..(channel + 1) * count;
                    let (y, dy) = (&y[of.clone()], &dy[of.clone()]);
                    let gradient = |at: usize| if y[at] > 0.0 { dy[at] } else { 0.0 };
                    spread(&windows, &place[of], gradient, raw);
                }
            }
        }
        buffer
    }

    fn backward_many(&self, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let g = &self.geometry;
        let (rows, positions) = (g.rows(), g.positions());
        let (weights, columns_size) = (self.outputs * rows, rows * positions);
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
                let size = weights + self.outputs + columns_size + self.outputs * positions;
                let (dw, rest) = grown(buffer, size).split_at_mut(weights);
                let (db, rest) = rest.split_at_mut(self.outputs);
                let (columns, raw) = rest.split_at_mut(columns_size);
                db.fill(0.0);
                for (at, image) in part.enumerate() {
                    let dy = self.raw_gradient(&saved, image, raw);
                    if wants_b {
                        row_sums(dy, positions, db);
                    }
                    if wants_w {
                        let x = &saved.x[image * g.image()..][..g.image()];
                        let columns = Matrix::transposed(columns_of(g, x, columns), positions);
                        let into = if at == 0 { Into::Replace } else { Into::Add };
                        let size = (self.outputs, rows, positions);
                        multiply(size, dw, rows, into, Matrix::rows(dy, positions), columns);
                    }
                    if let Some(dx) = &mut dx {
                        let dx = &mut dx[at * g.image()..][..g.image()];
                        self.input_gradient(0..g.channels, saved.w, dy, dx, columns);
                    }
                }
            });
        // The parts' sums, in order.
        if let Some(dw) = wanted.dw {
            add_up(dw, buffers, 0);
        }
        if let Some(db) = wanted.db {
            add_up(db, buffers, weights);
        }
    }

    /// The gradient of some channels of one image.
    fn input_gradient(
        &self,
        channels: Range<usize>,
        w: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        columns: &mut [f32],
    ) {
        let g = &self.geometry;
        let (rows, positions) = (g.rows(), g.positions());
        let area = g.kernel * g.kernel;
        let share = channels.start * area..channels.end * area;
        let size = (share.len(), positions, self.outputs);
        let w = Matrix::transposed(&w[share.start..], rows);
        let dy = Matrix::rows(dy, positions);
        if g.is_identity() {
            multiply(size, dx, positions, Into::Replace, w, dy);
            return;
        }
        multiply(size, columns, positions, Into::Replace, w, dy);
        dx.fill(0.0);
        scatter(g, columns, share, dx);
    }

    /// Fewer images than threads: the output channels are divided for dW, the input channels for dx.
    fn backward_few(&self, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
        let g = &self.geometry;
        let (rows, positions, area) = (g.rows(), g.positions(), g.kernel * g.kernel);
        let (of_outputs, of_inputs) = (parts(self.outputs), parts(g.channels));
        let [first, buffers @ ..] = scratch.parts(of_inputs.len() + 1) else {
            return;
        };
        let buffer = grown(first, (rows + self.outputs) * positions);
        let (columns, raw) = buffer.split_at_mut(rows * positions);
        let Wanted {
            mut dx,
            mut dw,
            mut db,
        } = wanted;
        if let Some(db) = &mut db {
            db.fill(0.0);
        }
        for image in 0..saved.x.len() / g.image() {
            let dy = self.raw_gradient(&saved, image, raw);
            if let Some(db) = &mut db {
                row_sums(dy, positions, db);
            }
            if let Some(dw) = &mut dw {
                let x = &saved.x[image * g.image()..][..g.image()];
                let columns = columns_of(g, x, columns);
                let into = if image == 0 { Into::Replace } else { Into::Add };
                let dws = shares(dw, &of_outputs, rows);
                of_outputs.par_iter().zip(dws).for_each(|(part, dw)| {
                    let size = (part.len(), rows, positions);
                    let dy = Matrix::rows(&dy[part.start * positions..], positions);
                    let columns = Matrix::transposed(columns, positions);
                    multiply(size, dw, rows, into, dy, columns);
                });
            }
            if let Some(dx) = &mut dx {
                let dx = &mut dx[image * g.image()..][..g.image()];
                let dxs = shares(dx, &of_inputs, g.height * g.width);
                of_inputs
                    .par_iter()
                    .zip(dxs)
                    .zip(buffers.par_iter_mut())
                    .for_each(|((part, dx), buffer)| {
                        let columns = grown(buffer, part.len() * area * positions);
                        self.input_gradient(part.clone(), saved.w, dy, dx, columns);
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
