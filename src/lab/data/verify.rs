//! Which data sets are here, and whether their files are the official ones.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::file::{by_fetching, missing};
use super::remote::{self, Kind, Official, Remote};
use super::{ALL, hexadecimal, idx, usps};
use crate::lab::error::{Error, Result};

/// Where a data set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Drawn by the program itself.
    BuiltIn,
    /// In this folder, with so many files and bytes.
    Here {
        directory: PathBuf,
        files: usize,
        bytes: u64,
    },
    /// In none of the folders.
    Absent,
}

/// One line of the list of data sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub title: String,
    pub presence: Presence,
    pub can_be_fetched: bool,
    pub license: String,
}

impl fmt::Display for Listed {
    /// Where it is, or how to get it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.presence {
            Presence::BuiltIn => f.write_str("built in"),
            Presence::Here {
                directory,
                files,
                bytes,
            } => {
                write!(
                    f,
                    "{} ({files} files, {:.1} MB)",
                    directory.display(),
                    *bytes as f64 / 1e6
                )
            }
            Presence::Absent if self.can_be_fetched => {
                write!(f, "not here; shrinklab data fetch {}", self.id)
            }
            Presence::Absent => f.write_str("not here"),
        }
    }
}

/// Every data set, in the order of the table, with where it is.
pub fn list(folders: &[PathBuf]) -> Vec<Listed> {
    // A folder of anybody's pictures is nowhere in particular.
    let named = ALL.iter().filter(|entry| entry.info.family != "folder");
    named
        .map(|entry| {
            let id: &str = &entry.info.id;
            let home = remote::remote(id);
            let presence = if entry.info.family == "built-in" {
                Presence::BuiltIn
            } else {
                match found(id, home.as_ref(), folders) {
                    Some((directory, files)) => Presence::Here {
                        directory,
                        files: files.len(),
                        bytes: files
                            .iter()
                            .filter_map(|(_, path)| Some(path.metadata().ok()?.len()))
                            .sum(),
                    },
                    None => Presence::Absent,
                }
            };
            Listed {
                id: id.to_owned(),
                title: entry.info.title.to_string(),
                license: match (&presence, &home) {
                    (Presence::BuiltIn, _) => "that of the program".to_owned(),
                    (_, Some(home)) => home.license.clone(),
                    (_, None) => "none stated".to_owned(),
                },
                presence,
                can_be_fetched: home.is_some(),
            }
        })
        .collect()
}

/// What a file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Bit for bit the official one, as published or unpacked.
    Official,
    /// Another one.
    Differs { official: Official },
    /// Not there.
    Missing,
    /// No official sum exists for this data set.
    NothingToCompare,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Official => f.write_str("official"),
            Self::Differs { official } => write!(
                f,
                "differs from the official file, which has {} bytes and the SHA-256 {}",
                official.bytes, official.sha256
            ),
            Self::Missing => f.write_str("missing"),
            Self::NothingToCompare => {
                f.write_str("no official SHA-256 is known: compare it with your source's")
            }
        }
    }
}

/// One file that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// As it is called here, or officially where it is missing.
    pub name: String,
    pub bytes: u64,
    /// In hexadecimal; empty where it is missing.
    pub sha256: String,
    pub verdict: Verdict,
}

/// A data set that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub directory: PathBuf,
    pub files: Vec<FileReport>,
    /// What the format itself tells to be wrong, as one sentence; looked at where no official sum is known.
    pub trouble: Option<String>,
}

impl Verified {
    /// Whether there are no official sums.
    pub fn has_nothing_to_compare(&self) -> bool {
        let nothing = |file: &FileReport| file.verdict == Verdict::NothingToCompare;
        self.files.iter().any(nothing)
    }

    /// Whether no file is missing, differs or cannot be what it should be.
    pub fn is_sound(&self) -> bool {
        self.trouble.is_none()
            && self
                .files
                .iter()
                .all(|file| matches!(file.verdict, Verdict::Official | Verdict::NothingToCompare))
    }
}

/// Compares a data set's files, where they are found first, with the published sums.
///
/// # Errors
/// When the id is unknown, the data set is built in, or it is in none of the folders.
pub fn verify(id: &str, folders: &[PathBuf]) -> Result<Verified> {
    match remote::remote(id) {
        Some(home) => verify_against(&home, folders),
        None if id == "usps" => {
            let (directory, files) =
                found(id, None, folders).ok_or_else(|| missing(id, folders, usps::WAY_OUT))?;
            let files = files
                .iter()
                .map(|(_, path)| report(path, |_, _| Verdict::NothingToCompare))
                .collect::<Result<_>>()?;
            let parent = directory.parent().map(Path::to_path_buf);
            let trouble = usps::trouble(&Vec::from_iter(parent));
            Ok(Verified {
                directory,
                files,
                trouble,
            })
        }
        None if remote::is_known(id) => Err(Error::Missing(format!(
            "data set {id} is built in: there are no files to verify"
        ))),
        None => Err(Error::Missing(remote::unknown(id))),
    }
}

/// Compares the files of a data set with the sums of the home given.
///
/// # Errors
/// When it is in none of the folders, or a file cannot be read.
pub fn verify_against(home: &Remote, folders: &[PathBuf]) -> Result<Verified> {
    let (directory, files) = found(&home.id, Some(home), folders)
        .ok_or_else(|| missing(&home.id, folders, &by_fetching(&home.id)))?;
    let mut reports = Vec::new();
    for official in home.installed() {
        let Some((_, path)) = files.iter().find(|(name, _)| *name == official.name) else {
            reports.push(FileReport {
                name: official.name.clone(),
                bytes: 0,
                sha256: String::new(),
                verdict: Verdict::Missing,
            });
            continue;
        };
        let content = home.files.iter().find_map(|file| match &file.kind {
            Kind::Kept { content } if file.official == *official => content.as_ref(),
            _ => None,
        });
        reports.push(report(path, |bytes, sum| {
            let is_official = (bytes, sum) == (official.bytes, &official.sha256)
                || content.is_some_and(|(content_bytes, content_sum)| {
                    (bytes, sum) == (*content_bytes, content_sum.as_str())
                });
            if is_official {
                Verdict::Official
            } else {
                Verdict::Differs {
                    official: official.clone(),
                }
            }
        })?);
    }
    Ok(Verified {
        directory,
        files: reports,
        trouble: None,
    })
}

fn report(path: &Path, judge: impl FnOnce(u64, &str) -> Verdict) -> Result<FileReport> {
    let sha256 = sha256_of(path)?;
    let bytes = path.metadata().map_or(0, |found| found.len());
    Ok(FileReport {
        name: path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        bytes,
        verdict: judge(bytes, &sha256),
        sha256,
    })
}

/// The first folder that holds any of the data set's files, and those files by their official names.
fn found(
    id: &str,
    home: Option<&Remote>,
    folders: &[PathBuf],
) -> Option<(PathBuf, Vec<(String, PathBuf)>)> {
    let names: Vec<String> = match home {
        Some(home) => home
            .installed()
            .iter()
            .map(|official| official.name.clone())
            .collect(),
        None => idx::FILES
            .iter()
            .map(|(name, kind)| format!("{name}-{kind}.gz"))
            .collect(),
    };
    for folder in folders {
        let directory = folder.join(id);
        // The official archives unpack to a folder of their own.
        let unpacked =
            ["cifar-10-batches-bin", "cifar-100-binary"].map(|name| directory.join(name));
        for directory in [directory].into_iter().chain(unpacked) {
            let files: Vec<(String, PathBuf)> = names
                .iter()
                .filter_map(|name| Some((name.clone(), any_spelling(&directory, name)?)))
                .collect();
            if !files.is_empty() {
                return Some((directory, files));
            }
        }
    }
    None
}

/// The file of that official name, under any spelling that the readers take.
fn any_spelling(directory: &Path, name: &str) -> Option<PathBuf> {
    let of_idx = idx::FILES
        .iter()
        .find(|(start, kind)| name == format!("{start}-{kind}.gz"));
    match of_idx {
        Some((start, kind)) => idx::spelled(directory, start, kind),
        None => Some(directory.join(name)).filter(|path| path.is_file()),
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> Result<String> {
    let unreadable = |source| Error::File {
        context: format!("{}: cannot read it", path.display()),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut block).map_err(unreadable)?;
        if read == 0 {
            return Ok(hexadecimal(&hash.finalize()));
        }
        hash.update(&block[..read]);
    }
}
