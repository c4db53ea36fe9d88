//! Ops on small integers: 8-bit activations and weights, 32-bit sums.
//!
//! A stored activation is a byte q that stands for the value s (q - z). A product over such values is
//! s_x s_w Σ (q_x - z_x) q_w: a sum of integers, and one real factor for each output, which [`requantize`] applies in
//! fixed point. Everything between the images and the logits is so computed without floats, and bit for bit the same on
//! every processor.
//! Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
//! arXiv:1712.05877, section 2.
//! Activations are (B, H, W, C), channels last, one byte each.

pub mod activations;
pub mod conv2d;
pub mod depthwise_conv2d;
mod kernel;
mod lines;
pub mod path;
pub mod pool;
pub mod requantize;
mod winograd;
mod words;

pub use path::{Path, Products};

/// Bytes behind the end of every activation that may be read, and count for nothing: a word of four may begin at the last.
pub const SLACK: usize = 64;

/// Buffers of the kernels, one for each part of the work.
#[derive(Debug, Default)]
pub struct Scratch(Vec<Buffers>);

/// Copied lines, transformed tiles and sums of a part.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    bytes: Vec<u8>,
    shorts: Vec<i16>,
    sums: Vec<i32>,
    rows: Vec<usize>,
}

impl Scratch {
    /// Those of `n` parts.
    fn lend(&mut self, n: usize) -> &mut [Buffers] {
        if self.0.len() < n {
            self.0.resize_with(n, Buffers::default);
        }
        &mut self.0[..n]
    }
}

/// The first `n` values of a buffer, which grows as needed. What they hold is left over.
fn grown<T: Clone + Default>(buffer: &mut Vec<T>, n: usize) -> &mut [T] {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
    &mut buffer[..n]
}
