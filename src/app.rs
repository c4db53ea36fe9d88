//! The wiring: terminal, lab, log and clock. The only place that knows them all.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::{Ending, ReplayArguments};
use crate::lab::cache::Cache;
use crate::lab::run::Means;

pub(crate) mod alone;
mod arrivals;
#[cfg(unix)]
pub(crate) mod bench;
pub(crate) mod door;
mod energy;
pub(crate) mod gpu;
mod library;
mod once;
mod show;
pub(crate) mod studio;

use show::{Show, Source};

fn means(folders: &[PathBuf]) -> Means {
    Means {
        folders: folders.to_vec(),
        cache: Cache::standard(),
        save: None,
    }
}

/// How the lab on screen begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'a> {
    pub folders: &'a [PathBuf],
    pub bell: bool,
    /// Where the form's study computes.
    pub device: Option<&'a str>,
    /// A file with a study to begin at once; it is removed.
    pub begin: Option<&'a Path>,
}

/// `shrinklab`: the lab on screen.
///
/// # Errors
/// When there is no terminal, or no such device.
pub(crate) fn lab(opening: Opening<'_>) -> Result<Ending> {
    let mut show = Show::new(Source::Form, means(opening.folders), opening.bell)?;
    if let Some(device) = opening.device {
        let (device, remark) = door::way(device)?.take()?;
        show.compute_on(&device, remark);
    }
    if let Some(file) = opening.begin {
        let mut study = door::handed_over(file)?;
        (study.device, _) = door::way(&study.device)?.take()?;
        // One that stays is in nobody's way.
        let _ = std::fs::remove_file(file);
        show.begin_here(study);
    }
    show.run()
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
