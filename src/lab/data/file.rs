//! Finding a data set's folder and reading its files without believing them.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::Examples;
use crate::event::Warning;
use crate::lab::error::{Error, Result};

/// No file of a data set here comes near it; whatever claims more is refused before it is read.
pub(super) const MOST_BYTES: u64 = 1 << 30;

/// The error of a data file.
pub(super) fn wrong(path: &Path, problem: impl Into<String>) -> Error {
    Error::Data {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}

/// The error of a data set that is nowhere.
pub(super) fn missing(id: &str, folders: &[PathBuf], way_out: &str) -> Error {
    let places: Vec<String> = folders
        .iter()
        .map(|folder| folder.join(id).display().to_string())
        .collect();
    let places = match places.as_slice() {
        [] => "no folder to look into is known".to_owned(),
        [one] => format!("it is not in {one}"),
        [all @ .., last] => format!("it is neither in {} nor in {last}", all.join(" nor in ")),
    };
    Error::Missing(format!("data set {id}: {places}; {way_out}"))
}

/// How to get a data set that can be fetched.
pub(super) fn by_fetching(id: &str) -> String {
    format!("`shrinklab data fetch {id}` downloads it, and --data-dir names another folder")
}

/// A file's content, unpacked if it is gzip, of which at most `limit` bytes are read.
pub(super) struct Content<'a> {
    path: &'a Path,
    reader: Box<dyn Read>,
}

impl<'a> Content<'a> {
    /// Opens a file; that it is gzip shows in its first two bytes, whatever its name.
    pub(super) fn open(path: &'a Path) -> Result<Self> {
        let open = || File::open(path).map_err(|error| wrong(path, cannot_read(&error)));
        let mut start = [0; 2];
        let is_gzip = open()?.read_exact(&mut start).is_ok() && start == [0x1f, 0x8b];
        let file = BufReader::with_capacity(1 << 16, open()?);
        Ok(Self {
            path,
            reader: if is_gzip {
                Box::new(MultiGzDecoder::new(file))
            } else {
                Box::new(file)
            },
        })
    }

    /// At most `limit` further bytes. Memory grows with what the file holds, not with what somebody claims.
    pub(super) fn read_up_to(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(wrong(
                self.path,
                format!(
                    "is cut off: its gzip stream ends after {} bytes of content; a complete file is needed",
                    bytes.len()
                ),
            )),
            Err(error) => Err(wrong(self.path, cannot_read(&error))),
        }
    }
}

fn cannot_read(error: &std::io::Error) -> String {
    format!("cannot be read ({error}); a readable file, plain or gzip, is needed")
}

/// A warning where parts of the official set are not there.
pub(super) fn completeness(
    id: &str,
    train: &Examples,
    test: &Examples,
    official: (usize, usize),
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if train.len() < official.0 {
        warnings.push(Warning::DataIncomplete {
            dataset: id.to_owned(),
            found: train.len() as u64,
            official: official.0 as u64,
        });
    }
    if test.len() < official.1 {
        warnings.push(Warning::Other {
            message: format!(
                "data set {id}: {} test images are here, the official set has {}",
                test.len(),
                official.1
            ),
        });
    }
    warnings
}
