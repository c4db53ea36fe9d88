//! The folder of sessions: what lies there, and names for what comes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{Error, Header, Presence, Writer, codec, lock};
use crate::event::Outcome;
use crate::spec::{Stage, Study};

/// How the names of session files end.
pub const EXTENSION: &str = "jsonl";

/// The longest part of a file name that is made from ids, so that no file system refuses it.
const LONGEST_NAME: usize = 80;

/// A session in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub path: PathBuf,
    /// The file's name without its ending.
    pub name: String,
    pub bytes: u64,
    /// Seconds since 1970 at which it was written last.
    pub modified: u64,
    /// How long it is: the time of its last record.
    pub milliseconds: u64,
    /// What it is about, or why it cannot be opened, in one sentence.
    pub header: Result<Header, String>,
    pub presence: Presence,
    /// How the study ended, if it did.
    pub outcome: Option<Outcome>,
}

/// Where sessions are saved by themselves: `sessions` in the platform's data folder.
pub fn default_folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "shrinklab").map(|dirs| dirs.data_dir().join("sessions"))
}

/// The sessions in a folder, the latest first. A folder that is not there has none; other files are passed over.
pub fn list(folder: &Path) -> Result<Vec<Listed>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("list", folder, error)),
    };
    let mut sessions: Vec<Listed> = entries
        .filter_map(|entry| listed(&entry.ok()?.path()))
        .collect();
    sessions.sort_by(|a, b| (b.modified, &a.name).cmp(&(a.modified, &b.name)));
    Ok(sessions)
}

/// One session as it stands in the list; nothing if the file is none or cannot be read.
pub fn listed(path: &Path) -> Option<Listed> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let header = match header(path, &file) {
        Err(Error::NotASession { .. } | Error::File { .. }) => return None,
        other => other.map_err(|error| error.to_string()),
    };
    let (presence, outcome) = lock::look(&mut file).ok()?;
    let milliseconds = last_time(&mut file).unwrap_or(0);
    let modified = metadata.modified().ok()?;
    Some(Listed {
        path: path.to_owned(),
        name: path.file_stem()?.to_string_lossy().into_owned(),
        bytes: metadata.len(),
        milliseconds,
        modified: modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        header,
        presence,
        outcome,
    })
}

fn header(path: &Path, file: &File) -> Result<Header, Error> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = reader
            .read_until(b'\n', &mut line)
            .map_err(|source| Error::file("read", path, source))?;
        if length == 0 {
            break;
        }
        let text = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line);
        if codec::comment(text).is_none() && !text.trim_ascii().is_empty() {
            return codec::decode_header(path, number, text).map(|(header, _)| header);
        }
    }
    Err(Error::not_a_session(path, "it has no header line"))
}

/// The time of the last whole record, from the end of the file alone.
fn last_time(file: &mut File) -> Option<u64> {
    /// Longer than any record but the first ones.
    const TAIL: u64 = 1 << 16;
    let length = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    tail.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let digits = line
            .strip_prefix(b"[")?
            .split(|byte| *byte == b',')
            .next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

/// Begins a session in a new file of the folder, which is made if it is not there.
///
/// The file is called after the study, `glyphs-lenet5-magnitude-pruning-3.jsonl`, with the first number that is free.
pub fn create(folder: &Path, header: &Header) -> Result<Writer, Error> {
    fs::create_dir_all(folder).map_err(|source| Error::file("create", folder, source))?;
    let stem = stem(&header.study);
    for number in 1_u64.. {
        let path = folder.join(format!("{stem}-{number}.{EXTENSION}"));
        if path.exists() {
            continue;
        }
        match Writer::create(&path, header) {
            // Somebody else was faster.
            Err(Error::Exists(_)) => {}
            other => return other,
        }
    }
    Err(Error::Exists(folder.join(stem)))
}

/// Data set, architecture and first compression, in letters that any file system takes.
fn stem(study: &Study) -> String {
    let mut words: Vec<&str> = Vec::new();
    if let Some(reference) = study.references.first() {
        words.push(&reference.dataset.id);
        words.push(&reference.architecture.id);
        let compression = reference
            .branches
            .iter()
            .flat_map(|branch| &branch.stages)
            .find_map(|stage| match stage {
                Stage::Compress(method) => Some(&method.id),
                Stage::FineTune(_) => None,
            });
        words.extend(compression.map(|id| &**id));
    }
    let mut stem = String::new();
    for letter in words.join("-").chars().take(LONGEST_NAME) {
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_alphanumeric() {
            stem.push(letter);
        } else if !stem.is_empty() && !stem.ends_with('-') {
            stem.push('-');
        }
    }
    let stem = stem.trim_end_matches('-');
    if stem.is_empty() {
        "session".to_owned()
    } else {
        stem.to_owned()
    }
}

/// A time in seconds since 1970 as `2026-08-23 14:05`, in UTC.
pub fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: years begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (rest / 3_600, rest / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::session::sample;

    #[test]
    fn sessions_are_listed_with_what_became_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("not/yet/there");
        assert_eq!(list(&folder).unwrap(), []);
        let mut ended = create(&folder, &sample::header()).unwrap();
        let outcome = Outcome::Completed;
        ended.append(Event::StudyEnded { outcome }).unwrap();
        drop(ended);
        let running = create(&folder, &sample::header()).unwrap();
        fs::write(folder.join("letter.jsonl"), "Dear all,\n").unwrap();
        fs::write(folder.join("letter.txt"), "Dear all,\n").unwrap();
        let newer = "{\"format\":\"shrinklab-session\",\"version\":9}\n";
        fs::write(folder.join("newer.jsonl"), newer).unwrap();

        let mut found = list(&folder).unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<&str> = found.iter().map(|session| &*session.name).collect();
        let stem = "glyphs-lenet5-magnitude-pruning";
        assert_eq!(names, [&format!("{stem}-1"), &format!("{stem}-2"), "newer"]);
        assert_eq!(found[0].presence, Presence::Ended);
        assert_eq!(found[0].outcome, Some(Outcome::Completed));
        assert_eq!(found[1].presence, Presence::Writing);
        assert_eq!(found[1].outcome, None);
        assert_eq!(found[0].header, Ok(sample::header()));
        assert!(found[2].header.as_ref().unwrap_err().contains("version 9"));
        drop(running);
    }

    #[test]
    fn no_id_leads_out_of_the_folder() {
        let mut study = sample::header().study;
        study.references[0].dataset.id = "../../etc/Passwd\u{1b}".into();
        study.references[0].architecture.id = "ä".repeat(300);
        assert_eq!(stem(&study), "etc-passwd");
        study.references.clear();
        assert_eq!(stem(&study), "session");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @N '+%F %R'`, GNU coreutils 9.1.
        for (seconds, expected) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_787_493_900, "2026-08-23 14:05"),
            (4_107_542_399, "2100-02-28 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
