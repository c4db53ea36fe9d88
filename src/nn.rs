//! Networks: layers with their own forward and backward, on candle's tensors; nothing of the lab.
//!
//! The letters in all shape comments: `B` batch, `C` channels, `H` height, `W` width, `K` classes, `D` features.

use serde::{Deserialize, Serialize};

pub mod rng;

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
