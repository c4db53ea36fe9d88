//! Backward of the convolution: the gradients of the input, the weights and the biases, as many of them as are wanted.
//!
//! Per group of images, with dy the gradient of the convolution's own output, (O, G·OH·OW):
//! dW += dy columnsᵀ; db += the row sums of dy; columns' = Wᵀ dy, added back onto the images.

use std::ops::Range;

use rayon::prelude::*;

use super::{Conv2d, Room, Then, columns_of};
use crate::nn::op::gemm::{Into, Matrix, multiply};
use crate::nn::op::max_pool2d::spread;
use crate::nn::op::relu::masked;
use crate::nn::op::{Scratch, grown, parts, shares};

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
