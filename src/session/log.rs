//! The log: the single funnel of facts, which stamps place and time and appends lines to the session's file.
//!
//! The only place of the right tower that reads the clock. Each line goes out in one write, so whatever kills the
//! program leaves whole lines and at most one beginning. The writer holds the file's lock as long as it lives.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Error, Header, Lines, Session, codec, lock};
use crate::event::{Event, Record};

/// What was written reaches the disk within this time.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Stamps place and time.
#[derive(Debug)]
pub struct Stamp {
    next: u64,
    /// Time of the log when `began` was read.
    base: u64,
    began: Instant,
}

impl Stamp {
    /// A log that begins now.
    pub fn new() -> Self {
        Self::after(0, 0)
    }

    /// A log of so many records goes on now, at this time.
    fn after(records: u64, at: u64) -> Self {
        Self {
            next: records,
            base: at,
            began: Instant::now(),
        }
    }

    /// The event with its place and time.
    pub fn record(&mut self, event: Event) -> Record {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = Record {
            seq: self.next,
            at: self.base.saturating_add(passed),
            event,
        };
        self.next += 1;
        record
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends to a session's file.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    /// Bytes of whole lines.
    length: u64,
    line: Vec<u8>,
    /// When the first line was written that may not have reached the disk.
    waiting_since: Option<Instant>,
}

impl Writer {
    /// Begins a session in a new file. One that exists is refused.
    pub fn create(path: &Path, header: &Header) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => Error::Exists(path.to_owned()),
                _ => Error::file("create", path, source),
            })?;
        lock::hold(&file, path)?;
        let mut writer = Self {
            path: path.to_owned(),
            file,
            stamp: Stamp::new(),
            length: 0,
            line: codec::encode_header(header),
            waiting_since: None,
        };
        writer.write_line()?;
        Ok(writer)
    }

    /// Opens a session to go on in it, and answers what it says so far.
    ///
    /// A line that was cut off becomes a comment; nothing else changes. Time goes on from the last record's.
    pub fn resume(path: &Path) -> Result<(Self, Session), Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| Error::file("open", path, source))?;
        lock::hold(&file, path)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)
            .map_err(|source| Error::file("read", path, source))?;
        let mut session = Session::from_bytes(path, &bytes)?;
        let mut length = bytes.len();
        let mut line = Vec::new();
        if let Some(torn) = session.torn.take() {
            length = bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            // Longer than what it replaces, so that no rest of it stays.
            line = format!("# torn: {}\n", torn.replace('\r', "\\r")).into_bytes();
            let text = format!("torn: {}", torn.trim());
            let number = Lines::new(&bytes).count() as u64;
            session.comments.push((number, text));
        } else if !bytes.ends_with(b"\n") {
            line.push(b'\n');
        }
        let last = session.records.last().map_or(0, |record| record.at);
        let mut writer = Self {
            path: path.to_owned(),
            file,
            stamp: Stamp::after(session.records.len() as u64, last),
            length: length as u64,
            line,
            waiting_since: None,
        };
        writer
            .file
            .seek(SeekFrom::Start(writer.length))
            .map_err(|source| Error::file("write", path, source))?;
        if !writer.line.is_empty() {
            writer.write_line()?;
        }
        Ok((writer, session))
    }

    /// Where it writes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the event its place and time without writing it.
    pub fn stamp(&mut self, event: Event) -> Record {
        self.stamp.record(event)
    }

    /// Writes a record that this writer stamped.
    pub fn write(&mut self, record: &Record) -> Result<(), Error> {
        self.line.clear();
        codec::encode(record, &mut self.line);
        self.write_line()
    }

    /// Stamps and writes.
    pub fn append(&mut self, event: Event) -> Result<Record, Error> {
        let record = self.stamp(event);
        self.write(&record)?;
        Ok(record)
    }

    /// Writes a remark that is no fact: that a network came from the cache, say.
    pub fn comment(&mut self, text: &str) -> Result<(), Error> {
        self.line.clear();
        for part in text.lines() {
            self.line.extend_from_slice(b"# ");
            self.line.extend_from_slice(part.trim_end().as_bytes());
            self.line.push(b'\n');
        }
        self.write_line()
    }

    /// How long the disk may still be left waiting; nothing if it has everything.
    pub fn due(&self) -> Option<Duration> {
        self.waiting_since
            .map(|since| FLUSH_WITHIN.saturating_sub(since.elapsed()))
    }

    /// Lets everything reach the disk.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.waiting_since.take().is_some() {
            match self.file.sync_data() {
                // Not every kind of file can be asked.
                Err(source)
                    if !matches!(
                        source.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                    ) =>
                {
                    return Err(Error::file("write", &self.path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The same writer onto another file, for the tests of full disks.
    #[cfg(test)]
    pub(super) fn onto(mut self, file: File) -> Self {
        self.file = file;
        self
    }

    fn write_line(&mut self) -> Result<(), Error> {
        if let Err(source) = self.file.write_all(&self.line) {
            // What was written of the line goes, so that the file ends with a whole one; if that fails too, readers
            // tolerate the fragment.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(Error::file("write", &self.path, source));
        }
        self.length += self.line.len() as u64;
        self.waiting_since.get_or_insert_with(Instant::now);
        if self.due() == Some(Duration::ZERO) {
            self.flush()?;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sample;

    fn note(text: &str) -> Event {
        Event::NoteAdded {
            text: text.to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let mut writer = Writer::create(&path, &sample::header()).unwrap();
        let mut records = Vec::new();
        for event in sample::events() {
            records.push(writer.append(event).unwrap());
        }
        writer.comment("two\nlines\n").unwrap();
        let session = Session::open(&path).unwrap();
        assert_eq!(session.records, records);
        assert_eq!(session.header, sample::header());
        assert_eq!(session.torn, None);
        assert!(session.oddities.is_empty(), "{:?}", session.oddities);
        let comments: Vec<&str> = session.comments.iter().map(|(_, text)| &**text).collect();
        assert_eq!(comments, ["two", "lines"]);
    }

    #[test]
    fn a_file_that_exists_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "mine").unwrap();
        let error = Writer::create(&path, &sample::header()).unwrap_err();
        assert!(matches!(error, Error::Exists(_)), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_resumed_session_loses_nothing_but_the_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let mut writer = Writer::create(&path, &sample::header()).unwrap();
        writer.append(note("first")).unwrap();
        drop(writer);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"[70000,\"note-added\",{\"text\":\"whole\"}]\n");
        let whole = bytes.clone();
        bytes.extend_from_slice(b"[70001,\"note-added\",{\"te");
        std::fs::write(&path, &bytes).unwrap();

        let (mut writer, before) = Writer::resume(&path).unwrap();
        assert_eq!(before.records.len(), 2);
        let added = writer.append(Event::Continued).unwrap();
        assert_eq!(added.seq, 2);
        assert!((70_000..80_000).contains(&added.at), "{}", added.at);

        let after = std::fs::read(&path).unwrap();
        assert!(after.starts_with(&whole));
        let session = Session::open(&path).unwrap();
        assert_eq!(session.records.len(), 3);
        assert_eq!(session.records[..2], before.records);
        assert_eq!(session.comments, before.comments);
        assert_eq!(session.comments[0].1, "torn: [70001,\"note-added\",{\"te");
        assert!(session.oddities.is_empty());
    }

    #[test]
    fn a_last_line_without_a_line_feed_is_kept_by_resuming() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        drop(Writer::create(&path, &sample::header()).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"[5,\"paused\",{}]");
        std::fs::write(&path, &bytes).unwrap();
        let (mut writer, _) = Writer::resume(&path).unwrap();
        writer.append(Event::Resumed).unwrap();
        let events: Vec<Event> = Session::open(&path)
            .unwrap()
            .records
            .into_iter()
            .map(|record| record.event)
            .collect();
        assert_eq!(events, [Event::Paused, Event::Resumed]);
    }

    #[test]
    fn two_writers_never_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let writer = Writer::create(&path, &sample::header()).unwrap();
        let error = Writer::resume(&path).unwrap_err();
        assert!(matches!(error, Error::Busy(_)), "{error}");
        drop(writer);
        Writer::resume(&path).unwrap();
    }
}
