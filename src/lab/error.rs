//! What can go wrong while the lab works.

use std::path::PathBuf;

/// The lab's error. Printed, each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody asked the study to stop; carried upward by `?`.
    #[error("the study was stopped")]
    Cancelled,
    #[error("{0}")]
    Tensor(#[from] candle_core::Error),
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
    #[error("{context}: {source}")]
    File {
        context: String,
        source: std::io::Error,
    },
    /// A broken promise inside the program.
    #[error("{0}")]
    Internal(String),
}

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
