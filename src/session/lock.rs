//! Whether somebody is writing a session: its file's lock, which the system lets go when the writer dies.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{Error, codec};
use crate::event::{Event, Outcome};

/// What became of a session's writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is at work.
    Writing,
    /// It is gone, and the study did not end.
    Interrupted,
    /// The study ended.
    Ended,
}

impl Presence {
    /// What became of the writer of this file.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(|source| Error::file("open", path, source))?;
        Ok(look(&mut file)
            .map_err(|source| Error::file("read", path, source))?
            .0)
    }
}

/// What became of the writer, and how the study ended if it did.
pub(super) fn look(file: &mut File) -> io::Result<(Presence, Option<Outcome>)> {
    let is_locked = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let outcome = ending(file)?;
    Ok(match outcome {
        _ if is_locked => (Presence::Writing, outcome),
        Some(_) => (Presence::Ended, outcome),
        None => (Presence::Interrupted, outcome),
    })
}

/// Takes the lock for as long as the file stays open. File systems that know no locks are believed.
pub(super) fn hold(file: &File, path: &Path) -> Result<(), Error> {
    /// A reader that looks who is there holds the file for a moment.
    const TRIES: u32 = 10;
    const BETWEEN: Duration = Duration::from_millis(5);
    for attempt in 1..=TRIES {
        match file.try_lock() {
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
            Err(TryLockError::WouldBlock) if attempt < TRIES => thread::sleep(BETWEEN),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    Err(Error::Busy(path.to_owned()))
}

/// How the study ended, if that is the last thing that happened, notes aside. Reads the end of the file alone.
fn ending(file: &mut File) -> io::Result<Option<Outcome>> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut window = 1 << 14;
    loop {
        let start = length.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.by_ref().take(length - start).read_to_end(&mut bytes)?;
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        if start > 0 {
            // The first line is not whole.
            lines.remove(0);
        }
        for line in lines.into_iter().rev() {
            if let codec::Decoded::Record { record, .. } = codec::decode(line, 0) {
                if let Event::StudyEnded { outcome } = record.event {
                    return Ok(Some(outcome));
                } else if !record.event.is_aside() {
                    return Ok(None);
                }
            }
        }
        if start == 0 {
            return Ok(None);
        }
        window *= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Writer, sample};

    #[test]
    fn a_writer_at_work_is_told_from_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let mut writer = Writer::create(&path, &sample::header()).unwrap();
        assert_eq!(Presence::of(&path).unwrap(), Presence::Writing);
        writer.append(Event::Paused).unwrap();
        drop(writer);
        assert_eq!(Presence::of(&path).unwrap(), Presence::Interrupted);

        let (mut writer, _) = Writer::resume(&path).unwrap();
        let outcome = Outcome::Completed;
        writer.append(Event::StudyEnded { outcome }).unwrap();
        // A long note after the end does not hide it.
        let text = "x".repeat(100_000);
        writer.append(Event::NoteAdded { text }).unwrap();
        assert_eq!(Presence::of(&path).unwrap(), Presence::Writing);
        drop(writer);
        assert_eq!(Presence::of(&path).unwrap(), Presence::Ended);
    }
}
