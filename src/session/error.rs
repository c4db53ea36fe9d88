//! What can go wrong with a session file. Printed, each is one sentence.

use std::io;
use std::path::{Path, PathBuf};

use super::VERSION;

/// The log's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} {path}: {cause}", path = path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("{path} exists already; a session never overwrites a file, choose another name", path = .0.display())]
    Exists(PathBuf),
    #[error("{path} is being written by another shrinklab; use `attach` to watch it", path = .0.display())]
    Busy(PathBuf),
    #[error("{path} is not a shrinklab session: {problem}", path = path.display())]
    NotASession { path: PathBuf, problem: String },
    #[error(
        "{path} is a session of version {version}, and this program reads versions up to {VERSION}; a newer shrinklab \
         opens it",
        path = path.display()
    )]
    Newer { path: PathBuf, version: u64 },
    #[error("{path}, line {line}: {problem}", path = path.display())]
    Line {
        path: PathBuf,
        line: u64,
        problem: String,
    },
    #[error("{path} became shorter while it was followed; it is no longer the same session", path = .0.display())]
    Shrunk(PathBuf),
}

impl Error {
    pub(super) fn file(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            doing,
            path: path.to_owned(),
            cause: source,
        }
    }

    pub(super) fn not_a_session(path: &Path, problem: impl Into<String>) -> Self {
        Self::NotASession {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
