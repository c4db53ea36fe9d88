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
mod follow;
mod lock;
mod log;
mod newer;
mod recorder;
#[cfg(test)]
pub(crate) mod sample;
pub mod store;

pub use error::Error;
pub use follow::Follower;
pub use lock::Presence;
pub use log::{FLUSH_WITHIN, Stamp, Writer};
pub use recorder::{Recorded, Recorder};
pub use store::Listed;

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
    /// Whether nothing was taken from the cache and nothing left there: a study that goes on does as it did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncached: bool,
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
            uncached: false,
            study,
            catalog: catalog.clone(),
        }
    }

    /// What the session is about, in a few words: data set, architecture, branches, seed.
    pub fn title(&self) -> String {
        /// More branches than these are counted and not named.
        const NAMED: usize = 3;
        let mut parts = Vec::new();
        for reference in &self.study.references {
            let mut names = vec![
                reference.dataset.id.clone(),
                reference.architecture.id.clone(),
            ];
            if reference.branches.len() > NAMED {
                names.push(format!("{} branches", reference.branches.len()));
            } else {
                names.extend(reference.branches.iter().map(|branch| {
                    if branch.name.is_empty() {
                        branch.label(&self.catalog)
                    } else {
                        branch.name.clone()
                    }
                }));
            }
            let names = names.join(" · ");
            // What reads the same, as repetitions with other seeds do, is said once.
            if !parts.contains(&names) {
                parts.push(names);
            }
        }
        parts.push(self.study.seeds_in_words());
        parts.join(" · ")
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

impl std::fmt::Display for Oddity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl Oddity {
    fn newer(line: u64, field: &str) -> Self {
        Self {
            line,
            problem: format!("{field} was written by a newer shrinklab and is left out"),
        }
    }
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
    /// Fields of the question that a newer version wrote and this one leaves out. Nothing is wrong with such a file.
    pub left_out: Vec<Oddity>,
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
        let (header, left_out) = loop {
            let Some(line) = lines.next() else {
                return Err(Error::not_a_session(path, "it has no header line"));
            };
            match codec::comment(line.text) {
                Some(comment) => comments.push((line.number, comment)),
                None if line.text.trim_ascii().is_empty() => {}
                None => {
                    let (header, newer) = codec::decode_header(path, line.number, line.text)?;
                    let newer = newer.iter().map(|field| Oddity::newer(line.number, field));
                    break (header, newer.collect());
                }
            }
        };
        let mut session = Self {
            path: path.to_owned(),
            header,
            records: Vec::with_capacity(bytes.len() / TYPICAL),
            comments,
            oddities: Vec::new(),
            left_out,
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
            codec::Decoded::Record {
                record,
                problem,
                newer,
            } => {
                self.records.push(record);
                let newer = newer.iter().flatten();
                let newer = newer.map(|field| Oddity::newer(line.number, field));
                self.left_out.extend(newer);
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

    /// Everything about the file that was tolerated, as sentences.
    pub fn tolerated(&self) -> Vec<String> {
        let all = self.left_out.iter().chain(&self.oddities);
        all.map(ToString::to_string).collect()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Event;
    use crate::measurement::Score;

    fn read(bytes: &[u8]) -> Result<Session, Error> {
        Session::from_bytes(Path::new("test.jsonl"), bytes)
    }

    fn with_header(rest: &[u8]) -> Session {
        let mut bytes = codec::encode_header(&sample::header());
        bytes.extend_from_slice(rest);
        read(&bytes).unwrap()
    }

    #[test]
    fn a_session_is_read_back() {
        let session = read(&sample::file()).unwrap();
        assert_eq!(session.header, sample::header());
        assert_eq!(session.records, sample::records(sample::events()));
        let comments = [(1, "a sample".to_owned()), (7, "in between".to_owned())];
        assert_eq!(session.comments, comments);
        assert_eq!((session.oddities, session.torn), (vec![], None));
    }

    #[test]
    fn an_empty_log_is_a_session_and_an_empty_file_is_none() {
        assert_eq!(with_header(b"").records, []);
        for nothing in ["", "\n\n", "# only remarks\n"] {
            let error = read(nothing.as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "test.jsonl is not a shrinklab session: it has no header line"
            );
        }
    }

    #[test]
    fn what_is_no_session_is_one_sentence() {
        for (text, expected) in [
            (
                "Dear \u{1b}[2J all,\n",
                "not a shrinklab session: line 1 should be a header",
            ),
            (
                "{\"format\":\"asciicast\",\"version\":2}\n",
                "not a shrinklab session",
            ),
            (
                "{\"format\":\"shrinklab-session\",\"version\":2}\n",
                "version 2, and this program reads",
            ),
            (
                "{\"format\":\"shrinklab-session\",\"version\":1}\n",
                "line 1: the header of the session",
            ),
            (
                "{\"format\":\"shrinklab-session\",\"ver",
                "not a shrinklab session",
            ),
            ("\u{0}\u{0}", "not a shrinklab session"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn a_question_of_a_newer_version_opens_without_what_is_new() {
        let mut header = serde_json::to_value(sample::header()).unwrap();
        header["study"]["suite"]["speed"] = 3.into();
        header["weather"] = "sun".into();
        let session = read(format!("{header}\n[1,\"paused\",{{}}]\n").as_bytes()).unwrap();
        assert_eq!(session.header, sample::header());
        assert_eq!(session.records.len(), 1);
        assert_eq!(session.oddities, []);
        let words = "line 1: suite.speed was written by a newer shrinklab and is left out";
        assert_eq!(session.tolerated(), [words]);
    }

    #[test]
    fn a_torn_last_line_is_set_aside() {
        let session = with_header(b"[1,\"paused\",{}]\n[2,\"note-added\",{\"te");
        assert_eq!(session.records.len(), 1);
        assert_eq!(session.torn.as_deref(), Some("[2,\"note-added\",{\"te"));
        assert_eq!(session.oddities, []);
    }

    #[test]
    fn garbage_between_records_is_told_and_passed_over() {
        let session =
            with_header(b"\x00\xff\n[1,\"paused\",{}]\r\nhello\n[]\n[2,\"resumed\",{}]\n{}\n");
        let events: Vec<&Event> = session.records.iter().map(|record| &record.event).collect();
        assert_eq!(events, [&Event::Paused, &Event::Resumed]);
        assert_eq!(session.records[1].seq, 1);
        let lines: Vec<u64> = session.oddities.iter().map(|oddity| oddity.line).collect();
        assert_eq!(lines, [2, 4, 5, 7]);
    }

    #[test]
    fn numbers_that_are_too_large_keep_the_record_as_unknown_or_pass_it_over() {
        let session = with_header(
            b"[99999999999999999999999,\"paused\",{}]\n[-1,\"paused\",{}]\n\
              [1,\"progressed\",{\"network\":0,\"stage\":0,\"done\":1e400,\"total\":0,\"what\":\"\"}]\n\
              [18446744073709551615,\"paused\",{}]\n",
        );
        assert_eq!(session.records.len(), 2);
        assert!(
            matches!(&session.records[0].event, Event::Unknown { kind, .. } if kind == "progressed")
        );
        assert_eq!(session.records[1].at, u64::MAX);
        assert_eq!(session.oddities.len(), 3);
    }

    #[test]
    fn a_carriage_return_among_unknown_facts_is_a_space() {
        let session = with_header(b"[1,\"of-tomorrow\",{\"a\"\r:1}]\n");
        let mut written = codec::encode_header(&session.header);
        codec::encode(&session.records[0], &mut written);
        assert_eq!(read(&written).unwrap().records, session.records);
    }

    #[test]
    fn a_loss_that_is_not_a_number_survives() {
        let session = read(&sample::file()).unwrap();
        let loss = session
            .records
            .iter()
            .find_map(|record| match &record.event {
                Event::StepsTrained { loss_mean, .. } => Some(*loss_mean),
                _ => None,
            });
        assert_eq!(loss, Some(Score(f64::NAN)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever happens to the bytes of a file, reading it never panics, and what it yields can be written.
        #[test]
        fn damaged_files_never_panic(
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..8),
        ) {
            let mut bytes = sample::file();
            for (place, byte, how) in cuts {
                let place = place.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                match how {
                    0 => bytes.truncate(place),
                    1 => bytes.insert(place, byte),
                    2 if !bytes.is_empty() => drop(bytes.remove(place)),
                    _ if !bytes.is_empty() => bytes[place] = byte,
                    _ => {}
                }
            }
            if let Ok(session) = read(&bytes) {
                let mut written = codec::encode_header(&session.header);
                for record in &session.records {
                    codec::encode(record, &mut written);
                }
                prop_assert_eq!(read(&written).unwrap().records, session.records.clone());
                crate::state::State::fold(&session.records).summary();
            }
        }
    }
}
