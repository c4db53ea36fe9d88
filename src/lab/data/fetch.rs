//! Fetching a data set's official files: download, check, unpack, move into place.
//!
//! Everything happens in `<root>/<id>.fetching`, beside the place where it shall stand, until every file has its
//! published SHA-256; then it is moved by renaming. What was interrupted is resumed by the next try.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::remote::{self, Kind, Official, Remote, RemoteFile};
use super::usps;
use super::verify::sha256_of;
use crate::lab::error::{Error, Result};

#[cfg(feature = "download")]
mod download;
mod unpack;

/// How a fetch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// This file is here already, with the right sum.
    Present { file: &'a str },
    /// `done` of `total` bytes are here.
    Downloading {
        file: &'a str,
        done: u64,
        total: u64,
    },
    /// Its sum is being computed.
    Checking { file: &'a str },
    /// It is being unpacked.
    Unpacking { file: &'a str },
}

/// What a fetch did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where the data set stands now.
    pub directory: PathBuf,
    /// Files that were fetched; empty when all were there.
    pub files: Vec<String>,
}

/// The home of a data set's files, or one sentence why it cannot be fetched.
pub fn fetchable(id: &str) -> Result<Remote> {
    if let Some(remote) = remote::remote(id) {
        return Ok(remote);
    }
    Err(Error::Missing(match id {
        "usps" => format!("data set usps: {}", usps::WAY_OUT),
        _ if remote::is_known(id) => {
            format!("data set {id} is built in: there is nothing to fetch")
        }
        _ => remote::unknown(id),
    }))
}

/// Fetches a data set into `<root>/<id>`.
///
/// Files that are there with the right sum are left as they are. `base` is another address of the folder that holds the
/// files; without one the environment variable `SHRINKLAB_BASE` names it, or else it is the data set's official home.
///
/// # Errors
/// One sentence that names the address or the file, and what helps. Nothing in `<root>/<id>` was touched then.
pub fn fetch(
    remote: &Remote,
    root: &Path,
    base: Option<&str>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched> {
    let base = base_address(remote, base)?;
    let directory = root.join(&remote.id);
    let staging = root.join(format!("{}.fetching", remote.id));
    let mut fetched = Vec::new();
    for file in &remote.files {
        let wanted = installed(file);
        let is_there = |official: &&Official| {
            has_sum(&directory.join(&official.name), official)
                || has_sum(&staging.join(&official.name), official)
        };
        if wanted.iter().all(is_there) {
            progress(Progress::Present {
                file: &file.official.name,
            });
        } else {
            fs::create_dir_all(&staging).map_err(|source| cannot("create", &staging, source))?;
            one_file(file, &base, &staging, progress)?;
            fetched.push(file.official.name.clone());
        }
    }
    if staging.is_dir() {
        move_into_place(remote, &staging, &directory)?;
    }
    Ok(Fetched {
        directory,
        files: fetched,
    })
}

/// What stands in the folder once this file was fetched.
fn installed(file: &RemoteFile) -> Vec<&Official> {
    match &file.kind {
        Kind::Kept { .. } => vec![&file.official],
        Kind::Archive { members } => members.iter().collect(),
    }
}

fn has_sum(path: &Path, official: &Official) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == official.bytes)
        && sha256_of(path).is_ok_and(|sum| sum == official.sha256)
}

/// Address of the folder that holds the files, ending in a slash.
fn base_address(remote: &Remote, base: Option<&str>) -> Result<String> {
    let from_environment = std::env::var("SHRINKLAB_BASE")
        .ok()
        .filter(|base| !base.is_empty());
    let mut base = base
        .map(str::to_owned)
        .or(from_environment)
        .unwrap_or_else(|| remote.base.clone());
    if !(base.starts_with("http://") || base.starts_with("https://")) {
        return Err(Error::Fetch {
            address: base,
            problem:
                "is no address to fetch from; one that begins with http:// or https:// is needed"
                    .to_owned(),
        });
    }
    if !base.ends_with('/') {
        base.push('/');
    }
    Ok(base)
}

/// Downloads one file into `staging`, checks it and unpacks it if it is an archive.
fn one_file(
    file: &RemoteFile,
    base: &str,
    staging: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let official = &file.official;
    let address = format!("{base}{}", official.name);
    let whole = staging.join(&official.name);
    if !has_sum(&whole, official) {
        let part = staging.join(format!("{}.part", official.name));
        checked_download(&address, &part, official, progress)?;
        fs::rename(&part, &whole).map_err(|source| cannot("rename", &part, source))?;
    }
    if let Kind::Archive { members } = &file.kind {
        progress(Progress::Unpacking {
            file: &official.name,
        });
        unpack::unpack(&whole, members, staging)?;
        fs::remove_file(&whole).map_err(|source| cannot("remove", &whole, source))?;
    }
    Ok(())
}

/// Downloads until the sum is right. A file that was resumed and has the wrong sum is downloaded once more from its
/// beginning, since its first part may have been another version.
fn checked_download(
    address: &str,
    part: &Path,
    official: &Official,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    loop {
        let was_resumed = fs::metadata(part).is_ok_and(|found| found.len() > 0);
        download(address, part, official, progress)?;
        progress(Progress::Checking {
            file: &official.name,
        });
        let sum = sha256_of(part)?;
        if sum == official.sha256 {
            return Ok(());
        }
        fs::remove_file(part).map_err(|source| cannot("remove", part, source))?;
        if !was_resumed {
            return Err(Error::Fetch {
                address: address.to_owned(),
                problem: format!(
                    "what came has the SHA-256 {sum}; {} is needed, so it was thrown away",
                    official.sha256
                ),
            });
        }
    }
}

#[cfg(feature = "download")]
use download::download;

#[cfg(not(feature = "download"))]
fn download(address: &str, _: &Path, _: &Official, _: &mut dyn FnMut(Progress<'_>)) -> Result<()> {
    Err(Error::Fetch {
        address: address.to_owned(),
        problem: "this program was built without the feature `download`; build it with it, or download the file by hand"
            .to_owned(),
    })
}

/// Moves everything that was fetched to where it shall stand: the whole folder at once if there is none yet, otherwise
/// file by file.
fn move_into_place(remote: &Remote, staging: &Path, directory: &Path) -> Result<()> {
    let names: Vec<&Official> = remote
        .installed()
        .into_iter()
        .filter(|official| staging.join(&official.name).is_file())
        .collect();
    for official in &names {
        let path = staging.join(&official.name);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|source| cannot("write", &path, source))?;
    }
    if directory.exists() {
        for official in &names {
            let path = staging.join(&official.name);
            fs::rename(&path, directory.join(&official.name))
                .map_err(|source| cannot("move", &path, source))?;
        }
        fs::remove_dir_all(staging).map_err(|source| cannot("remove", staging, source))?;
    } else {
        fs::rename(staging, directory).map_err(|source| cannot("move", staging, source))?;
    }
    // The renaming itself is on the disk once the folder is. Not every system lets a folder be opened for that.
    for folder in [Some(directory), directory.parent()].into_iter().flatten() {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

fn cannot(what: &str, path: &Path, source: std::io::Error) -> Error {
    Error::File {
        context: format!("{}: cannot {what} it", path.display()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_fetched_says_why() {
        let said = |id| fetchable(id).unwrap_err().to_string();
        assert!(said("glyphs").contains("built in"));
        assert!(said("usps").contains("IDX") && said("usps").contains("16x16"));
        assert!(said("nmist").contains("fashion-mnist"));
        assert_eq!(fetchable("mnist").unwrap().files.len(), 4);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let remote = remote::remote("mnist").unwrap();
        let said = base_address(&remote, Some("ftp://x")).unwrap_err();
        assert!(said.to_string().contains("http://"), "{said}");
        assert_eq!(
            base_address(&remote, Some("http://x/y")).unwrap(),
            "http://x/y/"
        );
    }
}
