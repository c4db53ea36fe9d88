//! The wiring: terminal, lab, log and clock. The only place that knows them all.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::{Ending, ReplayArguments};
use crate::lab::cache::Cache;
use crate::lab::run::Means;

#[cfg(unix)]
pub(crate) mod bench;
mod library;
mod once;
mod show;
pub(crate) mod studio;

use show::{Show, Source};

fn means(folders: &[PathBuf]) -> Means {
    Means {
        folders: folders.to_vec(),
        cache: Cache::standard(),
    }
}

/// `shrinklab`: the lab on screen.
///
/// # Errors
/// When there is no terminal.
pub(crate) fn lab(folders: &[PathBuf], bell: bool) -> Result<Ending> {
    Show::new(Source::Form, means(folders), bell)?.run()
}

/// `shrinklab replay`
///
/// # Errors
/// When the file is no session, or there is no terminal.
pub(crate) fn replay(arguments: &ReplayArguments) -> Result<Ending> {
    if arguments.once {
        return once::once(arguments);
    }
    let speed = once::speed(&arguments.speed)?;
    let session = crate::session::Session::open(&arguments.file)?;
    let source = Source::Replay {
        session: Box::new(session),
        speed,
        again: arguments.again,
    };
    Show::new(source, means(&[]), true)?.run()
}

/// `shrinklab attach`
///
/// # Errors
/// When the file is no session, or there is no terminal.
pub(crate) fn attach(file: &Path, folders: &[PathBuf]) -> Result<Ending> {
    let follower = crate::session::Follower::open(file)?;
    Show::new(Source::Attach(Box::new(follower)), means(folders), true)?.run()
}

/// `shrinklab demo`
///
/// # Errors
/// When there is no terminal.
pub(crate) fn demo(folders: &[PathBuf]) -> Result<Ending> {
    Show::new(Source::Demo, means(folders), true)?.run()
}
