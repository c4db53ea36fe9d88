//! `shrinklab data`: which data sets are here, getting them, checking them.

use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::{Ending, print};
use crate::lab::data::fetch::{self, Progress};
use crate::lab::data::verify;

/// Prints every data set with where it is.
pub(crate) fn list(folders: &[PathBuf]) -> Result<Ending> {
    for found in verify::list(folders) {
        print(&format!(
            "{:16} {found}; licence: {}\n",
            found.id, found.license
        ))?;
    }
    print("looked for in:\n")?;
    for folder in folders {
        print(&format!("  {}\n", folder.display()))?;
    }
    Ok(Ending::Success)
}

/// Fetches a data set into the folder that was named, or the platform's.
pub(crate) fn fetch(name: &str, base: Option<&str>, data_dir: Option<&Path>) -> Result<Ending> {
    let remote = fetch::fetchable(name)?;
    let root = match data_dir {
        Some(folder) => folder.to_owned(),
        None => crate::lab::data::folders(None)
            .pop()
            .ok_or_else(|| anyhow!("no folder for data is known here; name one with --data-dir"))?,
    };
    let mut bar = Bar {
        in_place: stderr().is_terminal(),
        said: String::new(),
    };
    let fetched = fetch::fetch(&remote, &root, base, &mut |progress| bar.show(progress));
    bar.end();
    let fetched = fetched?;
    let what = if fetched.files.is_empty() {
        "all files are here already".to_owned()
    } else {
        fetched.files.join(", ")
    };
    print(&format!(
        "{name}: {} ({what}); licence: {}\n",
        fetched.directory.display(),
        remote.license
    ))?;
    Ok(Ending::Success)
}

/// Compares a data set's files with the published sums.
pub(crate) fn verify(name: &str, folders: &[PathBuf]) -> Result<Ending> {
    let verified = verify::verify(name, folders)?;
    print(&format!("{}\n", verified.directory.display()))?;
    for file in &verified.files {
        print(&format!(
            "  {:32} {:>12} bytes  {}  {}\n",
            file.name, file.bytes, file.sha256, file.verdict
        ))?;
    }
    match &verified.trouble {
        Some(trouble) => print(&format!("not sound: {trouble}\n"))?,
        None if verified.has_nothing_to_compare() => {
            print(
                "the format is sound: sizes, labels and numbers of images; values are not compared\n",
            )?;
        }
        None => {}
    }
    Ok(if verified.is_sound() {
        Ending::Success
    } else {
        Ending::Failure
    })
}

/// A bar on a terminal, a line for each file into a pipe; on standard error, so that output stays clean.
struct Bar {
    in_place: bool,
    said: String,
}

/// Cells of the bar.
const CELLS: u64 = 30;

impl Bar {
    fn show(&mut self, progress: Progress<'_>) {
        let (line, lasting) = match progress {
            Progress::Present { file } => (format!("{file}: here already"), true),
            Progress::Downloading { file, done, total } => {
                let share = done * CELLS / total.max(1);
                let bar: String = (0..CELLS)
                    .map(|cell| if cell < share { '━' } else { '─' })
                    .collect();
                let (done, total) = (done as f64 / 1e6, total as f64 / 1e6);
                if self.in_place {
                    (format!("{file} {bar} {done:.1} of {total:.1} MB"), false)
                } else {
                    (format!("{file}: downloading {total:.1} MB"), false)
                }
            }
            Progress::Checking { file } => (format!("{file}: checking its SHA-256"), false),
            Progress::Unpacking { file } => (format!("{file}: unpacking"), false),
        };
        if line == self.said {
            return;
        }
        let (before, after) = if self.in_place {
            ("\r\x1b[K", if lasting { "\n" } else { "" })
        } else {
            ("", "\n")
        };
        let _ = std::io::Write::write_fmt(&mut stderr(), format_args!("{before}{line}{after}"));
        self.said = line;
    }

    fn end(&mut self) {
        if self.in_place {
            let _ = std::io::Write::write_all(&mut stderr(), b"\r\x1b[K");
        }
    }
}
