//! Networks: layers with their own forward and backward, on candle's tensors; nothing of the lab.
//!
//! The letters in all shape comments: `B` batch, `C` channels, `H` height, `W` width, `K` classes, `D` features.

use serde::{Deserialize, Serialize};

pub use candle_core::Result;

pub mod channels;
pub mod cost;
pub mod device;
pub mod integer;
pub mod layer;
pub mod loss;
pub mod network;
pub mod op;
pub mod optimizer;
pub mod parameters;
pub mod repeat;
pub mod rng;
pub mod schedule;
pub mod step;
pub mod trace;
pub mod workspace;

/// Whether a network is being trained or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Train,
    Eval,
}

/// An error of this floor: one sentence.
pub(crate) fn invalid(sentence: impl Into<String>) -> candle_core::Error {
    candle_core::Error::Msg(sentence.into())
}

/// The shape of one image: channels, height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl ImageShape {
    /// How many values one image has.
    pub fn values(self) -> usize {
        self.channels * self.height * self.width
    }
}
