//! Memory that is used again from step to step.
//!
//! Passes take buffers and give them back when they are over, so that a training step allocates nothing after the first.

use candle_core::{DType, Tensor};

use super::Result;
use super::op::{Scratch, zeros};
use super::trace::Gradients;

/// Buffers for activations, gradients and the kernels' own use.
#[derive(Debug, Default)]
pub struct Workspace {
    floats: Vec<Tensor>,
    bytes: Vec<Tensor>,
    pub(crate) scratch: Scratch,
}

impl Workspace {
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives gradients back that nobody will read again, so that the next step allocates none.
    pub fn recycle(&mut self, gradients: Gradients) {
        self.floats.extend(gradients.into_buffers());
    }

    /// A buffer of at least `n` floats; what it holds is left over.
    pub(crate) fn take(&mut self, n: usize) -> Result<Tensor> {
        take(&mut self.floats, n, DType::F32)
    }

    /// A buffer of at least `n` bytes; what it holds is left over.
    pub(crate) fn take_bytes(&mut self, n: usize) -> Result<Tensor> {
        take(&mut self.bytes, n, DType::U8)
    }

    pub(crate) fn put(&mut self, buffer: Tensor) {
        match buffer.dtype() {
            DType::U8 => self.bytes.push(buffer),
            _ => self.floats.push(buffer),
        }
    }
}

/// The smallest buffer that is large enough, and at most twice as large as needed; or a new one.
fn take(free: &mut Vec<Tensor>, n: usize, dtype: DType) -> Result<Tensor> {
    let fitting = (0..free.len())
        .filter(|at| (n..=2 * n).contains(&free[*at].elem_count()))
        .min_by_key(|at| free[*at].elem_count());
    match fitting {
        Some(at) => Ok(free.swap_remove(at)),
        None => zeros(n, dtype),
    }
}
