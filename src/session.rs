//! A session: the log of a study in a file that people, `grep` and `diff` can read.
//!
//! ```text
//! {"format":"shrinklab-session","version":1,"app":"0.1.0","commit":"…","seed":7,"threads":2,"device":"cpu","study":{…},"catalog":{…}}
//! # one record per line: milliseconds since the start, kind, facts
//! [0,"study-started",{"study":{…},"networks":[…]}]
//! [8412,"epoch-ended",{"network":0,"stage":0,"epoch":1,…}]
//! [9002,"note-added",{"text":"accuracy holds, agreement does not"}]
//! ```
//!
//! The header suffices to repeat the run, and its catalog gives old methods their titles.
//! Lines that begin with `#` are comments and may stand anywhere. Times are absolute, so there is no drift; a record's
//! place in the log is the order of its line. What a newer version wrote is kept word for word; a last line that was
//! cut off is set aside. A damaged line never keeps the others from being read.

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::catalog::Catalog;
use crate::event::Record;
use crate::spec::{CheckedStudy, Study};

pub mod codec;
mod error;

pub use error::Error;

/// What the first line calls the format.
pub const FORMAT: &str = "shrinklab-session";

/// The version that this program writes, and the newest that it reads.
pub const VERSION: u64 = 1;

/// The first line: enough to run the study again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// Version and commit of the program that wrote it.
    pub app: String,
    pub commit: String,
    pub seed: u64,
    /// Threads that computed.
    pub threads: u32,
    /// `cpu` or `cuda:N`, as it turned out to be.
    pub device: String,
    /// The question, complete.
    pub study: Study,
    /// What could be asked at that time, with the titles of that time.
    #[serde(default)]
    pub catalog: Catalog,
}

impl Header {
    /// The header of a session that this program begins now.
    pub fn new(study: &CheckedStudy, threads: u32, device: &str, catalog: &Catalog) -> Self {
        let study = study.study().clone();
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            app: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("SHRINKLAB_COMMIT").to_owned(),
            seed: study.seed,
            threads,
            device: device.to_owned(),
            study,
            catalog: catalog.clone(),
        }
    }
}

/// Something in a file that was tolerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oddity {
    /// From 1.
    pub line: u64,
    /// One sentence.
    pub problem: String,
}

/// A session, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub path: PathBuf,
    pub header: Header,
    pub records: Vec<Record>,
    /// Comment lines with their line numbers, without the `#`.
    pub comments: Vec<(u64, String)>,
    /// Lines that could not be understood; the records of known kinds among them are kept as unknown ones.
    pub oddities: Vec<Oddity>,
    /// The beginning of a last line whose end was never written.
    pub torn: Option<String>,
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub digest: String,
}

/// Bytes of a record of training, of which a long file has most.
const TYPICAL: usize = 160;

impl Session {
    /// Reads a session from a file, which may still be growing.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::file("read", path, source))?;
        Self::from_bytes(path, &bytes)
    }

    /// Reads a session from memory; `path` is what messages call it.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let mut lines = Lines::new(bytes);
        let mut comments = Vec::new();
        let header = loop {
            let Some(line) = lines.next() else {
                return Err(Error::not_a_session(path, "it has no header line"));
            };
            match codec::comment(line.text) {
                Some(comment) => comments.push((line.number, comment)),
                None if line.text.trim_ascii().is_empty() => {}
                None => break codec::decode_header(path, line.number, line.text)?,
            }
        };
        let mut session = Self {
            path: path.to_owned(),
            header,
            records: Vec::with_capacity(bytes.len() / TYPICAL),
            comments,
            oddities: Vec::new(),
            torn: None,
            digest: digest(bytes),
        };
        for line in lines {
            session.take(&line);
        }
        session.records.shrink_to_fit();
        Ok(session)
    }

    fn take(&mut self, line: &Line<'_>) {
        match codec::decode(line.text, self.records.len() as u64) {
            codec::Decoded::Blank => {}
            codec::Decoded::Comment(text) => self.comments.push((line.number, text)),
            codec::Decoded::Record { record, problem } => {
                self.records.push(record);
                if let Some(problem) = problem {
                    self.oddities.push(Oddity {
                        line: line.number,
                        problem,
                    });
                }
            }
            // A record closes its own bracket, so what does not is unfinished.
            codec::Decoded::Damaged(_) if !line.ended => {
                self.torn = Some(String::from_utf8_lossy(line.text).into_owned());
            }
            codec::Decoded::Damaged(problem) => self.oddities.push(Oddity {
                line: line.number,
                problem,
            }),
        }
    }

    /// The name by which people know the file.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(
            || self.path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    }
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
}

/// One line of a file.
struct Line<'a> {
    /// From 1.
    number: u64,
    /// Without the line feed.
    text: &'a [u8],
    /// Whether the line feed was there.
    ended: bool,
}

/// The lines of a file, without copying them.
struct Lines<'a> {
    rest: &'a [u8],
    number: u64,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        // Some editors put a byte order mark in front.
        let rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        Self { rest, number: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let before = self.rest;
        let length = self
            .rest
            .skip_until(b'\n')
            .expect("memory can always be read");
        if length == 0 {
            return None;
        }
        self.number += 1;
        let text = &before[..length];
        Some(Line {
            number: self.number,
            ended: text.ends_with(b"\n"),
            text: text.strip_suffix(b"\n").unwrap_or(text),
        })
    }
}
