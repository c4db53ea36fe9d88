//! Unpacking an archive without trusting it.
//!
//! Only regular files and folders with plain relative names may be in it, and no more bytes than are expected.
//! Of those only the expected files are written, under their own last name, each to its published length and SHA-256.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path};

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use super::super::file::wrong;
use super::super::hexadecimal;
use super::{Official, cannot};
use crate::lab::error::{Error, Result};

/// What an archive may hold beyond the expected files: headers, a description, names of classes.
const SLACK: u64 = 16 << 20;

/// Unpacks the expected members of a `.tar.gz` into a folder.
pub(super) fn unpack(archive: &Path, members: &[Official], into: &Path) -> Result<()> {
    let result = checked_unpack(archive, members, into);
    if result.is_err() {
        for member in members {
            // What is not there need not be removed.
            let _ = fs::remove_file(into.join(&member.name));
        }
    }
    result
}

fn checked_unpack(archive: &Path, members: &[Official], into: &Path) -> Result<()> {
    let unreadable = |error: std::io::Error| {
        wrong(
            archive,
            format!("cannot be unpacked ({error}); a sound .tar.gz is needed"),
        )
    };
    let most = SLACK + members.iter().map(|member| member.bytes).sum::<u64>();
    let file = File::open(archive).map_err(|source| cannot("open", archive, source))?;
    let mut content = Archive::new(GzDecoder::new(BufReader::new(file)).take(most));
    let mut missing: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    for entry in content.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let Some(name) = plain_name(archive, &entry)? else {
            continue;
        };
        let Some(member) = members.iter().find(|member| member.name == name) else {
            continue;
        };
        if !missing.remove(name.as_str()) {
            return Err(wrong(
                archive,
                format!("holds {name} twice; one of each is needed"),
            ));
        }
        if entry.size() != member.bytes {
            return Err(wrong(
                archive,
                format!(
                    "its {name} is {} bytes long; {} are needed",
                    entry.size(),
                    member.bytes
                ),
            ));
        }
        write_member(archive, &mut entry, member, into)?;
    }
    match missing.first() {
        None => Ok(()),
        Some(name) => Err(wrong(archive, format!("{name} is missing in it"))),
    }
}

/// The last part of a regular file's name; `None` for a folder. Anything that could reach elsewhere is refused.
fn plain_name(archive: &Path, entry: &Entry<'_, impl Read>) -> Result<Option<String>> {
    let shown = String::from_utf8_lossy(&entry.path_bytes())
        .escape_debug()
        .to_string();
    let refuse = |what: &str| -> Error {
        wrong(
            archive,
            format!(
                "refused, since it holds {what} (`{shown}`); only plain files under plain relative names are allowed"
            ),
        )
    };
    let path = entry.path().map_err(|_| refuse("an unreadable name"))?;
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // A backslash is a separator elsewhere, and a colon names a drive there.
    if !is_plain || shown.contains(['\\', ':']) {
        return Err(refuse("a name that leads elsewhere"));
    }
    match entry.header().entry_type() {
        EntryType::Directory => Ok(None),
        EntryType::Regular => Ok(path
            .file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)),
        _ => Err(refuse("a link or a device")),
    }
}

fn write_member(
    archive: &Path,
    entry: &mut impl Read,
    member: &Official,
    into: &Path,
) -> Result<()> {
    let path = into.join(&member.name);
    let mut file = File::create(&path).map_err(|source| cannot("create", &path, source))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let read = entry.read(&mut block).map_err(|error| {
            wrong(
                archive,
                format!("cannot be unpacked ({error}); a sound .tar.gz is needed"),
            )
        })?;
        if read == 0 {
            break;
        }
        hash.update(&block[..read]);
        file.write_all(&block[..read])
            .map_err(|source| cannot("write", &path, source))?;
    }
    let sum = hexadecimal(&hash.finalize());
    if sum != member.sha256 {
        return Err(wrong(
            archive,
            format!(
                "its {} has the SHA-256 {sum}; {} is needed",
                member.name, member.sha256
            ),
        ));
    }
    Ok(())
}
