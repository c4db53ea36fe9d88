//! What can go wrong while the lab works.

use std::path::PathBuf;

use crate::nn::device;

/// The lab's error. Printed, each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody asked the study to stop; carried upward by `?`.
    #[error("the study was stopped")]
    Cancelled,
    #[error("{0}")]
    Tensor(candle_core::Error),
    /// Not even a batch of one image goes through.
    #[error(
        "the GPU's memory does not hold this network and an image; --device cpu computes in main memory"
    )]
    DeviceMemory,
    /// A data file that cannot be used: which, what was wrong, what is allowed.
    #[error("{path}: {problem}", path = path.display())]
    Data { path: PathBuf, problem: String },
    /// A data set that is not there: the folders looked into, and how to get it.
    #[error("{0}")]
    Missing(String),
    /// A download that did not work: from where, what was wrong, what helps.
    #[error("{address}: {problem}")]
    Fetch { address: String, problem: String },
    /// The loss was not finite.
    #[error("the loss was not finite at step {step}; a smaller learning-rate may help")]
    Diverged { step: u64 },
    /// A request that only the data shows to be impossible (a batch larger than the training set).
    #[error("{knob}: {problem}")]
    Impossible { knob: String, problem: String },
    /// An attack moved an image farther than it may, or out of the pixels' range: a fault of the attack.
    #[error(
        "{attack} moved image {image} by {distance:.6} where {budget:.6} are allowed, or out of the range of pixels; its numbers are left out"
    )]
    BudgetExceeded {
        attack: String,
        image: u64,
        distance: f64,
        budget: f64,
    },
    #[error("{context}: {source}")]
    File {
        context: String,
        source: std::io::Error,
    },
    /// A broken promise inside the program.
    #[error("{0}")]
    Internal(String),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        if device::is_out_of_memory(&error) {
            return Self::DeviceMemory;
        }
        Self::Tensor(device::told(error))
    }
}

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
