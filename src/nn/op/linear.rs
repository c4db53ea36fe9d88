//! Fully connected layer: y = x Wᵀ + b, with a ReLU in the same pass if one follows.
//!
//! x (B, D), W (O, D), b (O), y (B, O).
//! Backward: dW = dyᵀ x, db = the sum of dy over the batch, dx = dy W.

use rayon::prelude::*;

use super::gemm::{Into, Matrix, multiply};
use super::relu::{masked, rectified};
use super::{Scratch, grown, parts, shares};

/// D and O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub inputs: usize,
    pub outputs: usize,
}

/// y = x Wᵀ + b, rectified if `relu`.
pub fn forward(size: Size, relu: bool, x: &[f32], w: &[f32], b: Option<&[f32]>, y: &mut [f32]) {
    let Size { inputs, outputs } = size;
    let batch = x.len() / inputs;
    let finish = |y: &mut [f32], b: Option<&[f32]>| {
        if let Some(b) = b {
            for (y, b) in y.iter_mut().zip(b) {
                *y += b;
            }
        }
        if relu {
            for y in y.iter_mut() {
                *y = rectified(*y);
            }
        }
    };
    if batch < rayon::current_num_threads() {
        // Few images: the outputs are divided.
        let parts = parts(outputs);
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
            let ys = shares(y, &parts, 1);
            parts.par_iter().zip(ys).for_each(|(part, y)| {
                let w = &w[part.start * inputs..part.end * inputs];
                let (w, x) = (Matrix::rows(w, inputs), Matrix::rows(x, 1));
                multiply((part.len(), 1, inputs), y, 1, Into::Replace, w, x);
                finish(y, b.map(|b| &b[part.clone()]));
            });
        }
        return;
    }
    let parts = parts(batch);
    let ys = shares(y, &parts, outputs);
    parts.par_iter().zip(ys).for_each(|(part, y)| {
        let x = Matrix::rows(&x[part.start * inputs..part.end * inputs], inputs);
        let size = (part.len(), outputs, inputs);
        let w = Matrix::transposed(w, inputs);
        multiply(size, y, outputs, Into::Replace, x, w);
        for y in y.chunks_exact_mut(outputs) {
            finish(y, b);
        }
    });
}

/// What a backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    /// The output, if it was rectified.
    pub y: Option<&'a [f32]>,
    pub dy: &'a [f32],
}

/// What a backward pass writes: as much as is wanted.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub dx: Option<&'a mut [f32]>,
    pub dw: Option<&'a mut [f32]>,
    pub db: Option<&'a mut [f32]>,
}

/// The gradients that are wanted.
pub fn backward(size: Size, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
    let Size { inputs, outputs } = size;
    let Saved { x, w, y, dy } = saved;
    let batch = x.len() / inputs;
    let dy = match y {
        Some(y) => {
            let buffer = grown(&mut scratch.parts(1)[0], dy.len());
            masked(y, dy, buffer);
            &*buffer
        }
        None => dy,
    };
    if let Some(db) = wanted.db {
        db.fill(0.0);
        for dy in dy.chunks_exact(outputs) {
            for (db, dy) in db.iter_mut().zip(dy) {
                *db += dy;
            }
        }
    }
    if let Some(dw) = wanted.dw {
        let parts = parts(outputs);
        let dws = shares(dw, &parts, inputs);
        parts.par_iter().zip(dws).for_each(|(part, dw)| {
            let dy = Matrix::transposed(&dy[part.start..], outputs);
            let x = Matrix::rows(x, inputs);
            multiply(
                (part.len(), inputs, batch),
                dw,
                inputs,
                Into::Replace,
                dy,
                x,
            );
        });
    }
    if let Some(dx) = wanted.dx {
        let parts = parts(batch);
        let dxs = shares(dx, &parts, inputs);
        parts.par_iter().zip(dxs).for_each(|(part, dx)| {
            let dy = Matrix::rows(&dy[part.start * outputs..part.end * outputs], outputs);
            let w = Matrix::rows(w, inputs);
            multiply(
                (part.len(), inputs, outputs),
                dx,
                inputs,
                Into::Replace,
                dy,
                w,
            );
        });
    }
}
