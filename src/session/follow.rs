//! Following a session that somebody else writes, as `tail -f` does.
//!
//! By asking again and again, since network file systems send no notice. A last line that is not finished is left for
//! the next time; it is read again from its beginning, since a resumed session replaces a torn line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Error, Header, Lines, Oddity, Presence, codec};
use crate::event::Record;

/// Reads what is added to a session's file.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: File,
    header: Header,
    /// Bytes and lines that were read.
    offset: u64,
    lines: u64,
    records: u64,
    oddities: Vec<Oddity>,
    left_out: Vec<Oddity>,
}

impl Follower {
    /// Opens a session and reads its header; the first [`Self::poll`] answers all records there are.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::file("read", path, source);
        let file = File::open(path).map_err(|source| Error::file("open", path, source))?;
        let mut reader = BufReader::new(&file);
        let (mut offset, mut lines) = (0, 0);
        let (header, newer) = loop {
            let mut line = Vec::new();
            let length = reader.read_until(b'\n', &mut line).map_err(fail)?;
            if length == 0 {
                return Err(Error::not_a_session(path, "it has no header line"));
            }
            offset += length as u64;
            lines += 1;
            let text = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line);
            if codec::comment(text).is_none() && !text.trim_ascii().is_empty() {
                break codec::decode_header(path, lines, text)?;
            }
        };
        Ok(Self {
            path: path.to_owned(),
            left_out: newer
                .iter()
                .map(|field| Oddity::newer(lines, field))
                .collect(),
            header,
            offset,
            lines,
            records: 0,
            oddities: Vec::new(),
            file,
        })
    }

    /// The session's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that could not be understood so far.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// Everything about the file that was tolerated so far, as sentences.
    pub fn tolerated(&self) -> Vec<String> {
        let all = self.left_out.iter().chain(&self.oddities);
        all.map(ToString::to_string).collect()
    }

    /// Whether the writer is at work, gone, or done.
    pub fn presence(&self) -> Result<Presence, Error> {
        Presence::of(&self.path)
    }

    /// The records whose lines were finished since the last time.
    pub fn poll(&mut self) -> Result<Vec<Record>, Error> {
        let fail = |source| Error::file("read", &self.path, source);
        let length = self.file.metadata().map_err(fail)?.len();
        if length < self.offset {
            return Err(Error::Shrunk(self.path.clone()));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.offset)).map_err(fail)?;
        self.file.read_to_end(&mut bytes).map_err(fail)?;
        let finished = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let mut records = Vec::new();
        let mut last = self.lines;
        for line in Lines::new(&bytes[..finished]) {
            last = self.lines + line.number;
            let problem = match codec::decode(line.text, self.records) {
                codec::Decoded::Blank | codec::Decoded::Comment(_) => None,
                codec::Decoded::Record {
                    record,
                    problem,
                    newer,
                } => {
                    self.records += 1;
                    let newer = newer
                        .iter()
                        .flatten()
                        .map(|field| Oddity::newer(last, field));
                    self.left_out.extend(newer);
                    records.push(record);
                    problem
                }
                codec::Decoded::Damaged(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                self.oddities.push(Oddity {
                    line: last,
                    problem,
                });
            }
        }
        self.lines = last;
        self.offset += finished as u64;
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::event::Event;
    use crate::session::{Session, Writer, sample};

    #[test]
    fn a_follower_waits_at_an_unfinished_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let mut writer = Writer::create(&path, &sample::header()).unwrap();
        let mut follower = Follower::open(&path).unwrap();
        assert_eq!(follower.header(), &sample::header());
        assert_eq!(follower.poll().unwrap(), []);
        let first = writer.append(Event::Paused).unwrap();
        assert_eq!(follower.poll().unwrap(), [first]);
        drop(writer);

        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"[9,\"resu").unwrap();
        assert_eq!(follower.poll().unwrap(), []);
        file.write_all(b"med\",{}]").unwrap();
        assert_eq!(follower.poll().unwrap(), []);
        file.write_all(b"\n").unwrap();
        let records = follower.poll().unwrap();
        assert_eq!((records[0].seq, records[0].at), (1, 9));
        assert_eq!(records[0].event, Event::Resumed);
    }

    #[test]
    fn a_follower_sees_a_torn_line_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        drop(Writer::create(&path, &sample::header()).unwrap());
        let mut follower = Follower::open(&path).unwrap();
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"[9,\"resu").unwrap();
        assert_eq!(follower.poll().unwrap(), []);
        let (mut writer, _) = Writer::resume(&path).unwrap();
        let record = writer.append(Event::Continued).unwrap();
        assert_eq!(follower.poll().unwrap(), [record]);
        assert!(follower.oddities().is_empty());
    }

    #[test]
    fn however_a_file_arrives_its_follower_sees_what_a_reader_sees() {
        let folder = tempfile::tempdir().unwrap();
        let whole = sample::file();
        let all = Session::from_bytes(Path::new("whole"), &whole).unwrap();
        for chunk in [1, 7, 100, 4_096] {
            let path = folder.path().join(format!("{chunk}.jsonl"));
            let header = whole
                .split(|byte| *byte == b'\n')
                .take(2)
                .map(|line| line.len() + 1)
                .sum();
            std::fs::write(&path, &whole[..header]).unwrap();
            let mut follower = Follower::open(&path).unwrap();
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap();
            let mut records = Vec::new();
            for part in whole[header..].chunks(chunk) {
                file.write_all(part).unwrap();
                records.extend(follower.poll().unwrap());
            }
            assert_eq!(records, all.records, "in pieces of {chunk}");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_no_longer_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        drop(Writer::create(&path, &sample::header()).unwrap());
        let mut follower = Follower::open(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(follower.poll(), Err(Error::Shrunk(_))));
    }
}
