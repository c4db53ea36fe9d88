//! Data sets from outside: fetching, verifying, listing, and the real sets where they are.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use shrinklab::lab::data::folders;
use shrinklab::lab::data::remote::{Kind, Official, Remote, RemoteFile};
use shrinklab::lab::data::verify::{Presence, Verdict, list, verify, verify_against};

#[cfg(feature = "download")]
#[path = "data/fetching.rs"]
mod fetching;
#[path = "data/real.rs"]
mod real;
#[cfg(feature = "download")]
#[path = "data/server.rs"]
mod server;

fn sha256(bytes: &[u8]) -> String {
    let mut digits = String::new();
    for byte in Sha256::digest(bytes) {
        write!(digits, "{byte:02x}").unwrap();
    }
    digits
}

fn official(name: &str, bytes: &[u8]) -> Official {
    Official {
        name: name.into(),
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
    }
}

/// A home with files that are kept as they are.
fn home(files: &[(&str, &[u8])]) -> Remote {
    Remote {
        id: "tiny".into(),
        base: "http://nowhere.invalid/".into(),
        license: "none".into(),
        files: files
            .iter()
            .map(|(name, bytes)| RemoteFile {
                official: official(name, bytes),
                kind: Kind::Kept { content: None },
            })
            .collect(),
    }
}

#[test]
fn verify_tells_official_other_and_missing_files_apart() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("tiny");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("a"), "one").unwrap();
    fs::write(place.join("b"), "tw0").unwrap();
    let home = home(&[("a", b"one"), ("b", b"two"), ("c", b"three")]);
    let verified = verify_against(&home, &[root.path().to_path_buf()]).unwrap();
    assert_eq!(verified.directory, place);
    assert!(!verified.is_sound());
    let verdicts: Vec<&Verdict> = verified.files.iter().map(|file| &file.verdict).collect();
    assert_eq!(
        verdicts,
        [
            &Verdict::Official,
            &Verdict::Differs {
                official: official("b", b"two")
            },
            &Verdict::Missing
        ]
    );
    let said = verify_against(&home, &[PathBuf::from("nowhere")])
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("nowhere") && said.contains("fetch tiny"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_verified_says_why() {
    assert!(
        verify("glyphs", &[])
            .unwrap_err()
            .to_string()
            .contains("built in")
    );
    assert!(verify("usps", &[]).unwrap_err().to_string().contains("IDX"));
    assert!(verify("x", &[]).unwrap_err().to_string().contains("mnist"));
}

/// No official sum of USPS is known, so that its files are held against their format.
#[test]
fn verify_reads_usps_where_there_is_no_sum_to_compare_with() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("usps");
    fs::create_dir(&place).unwrap();
    let idx = |sizes: &[u32], value: u8| {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        let content: u32 = sizes.iter().product();
        file.extend(std::iter::repeat_n(value, content as usize));
        file
    };
    let write = |train: u32, label: u8| {
        for (name, bytes) in [
            ("train-images-idx3-ubyte", idx(&[train, 16, 16], 200)),
            ("train-labels-idx1-ubyte", idx(&[train], 9)),
            ("t10k-images-idx3-ubyte", idx(&[2_007, 16, 16], 200)),
            ("t10k-labels-idx1-ubyte", idx(&[2_007], label)),
        ] {
            fs::write(place.join(name), bytes).unwrap();
        }
        verify("usps", &[root.path().to_path_buf()]).unwrap()
    };
    let sound = write(7_291, 0);
    assert!(
        sound.is_sound() && sound.has_nothing_to_compare(),
        "{sound:?}"
    );
    for (train, label, words) in [(7_290, 0, "7290 + 2007 images"), (7_291, 10, "label 10")] {
        let verified = write(train, label);
        assert!(!verified.is_sound());
        let trouble = verified.trouble.unwrap();
        assert!(trouble.contains(words), "{trouble}");
    }
}

#[test]
fn the_list_shows_what_is_here() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("mnist");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("train-images.idx3-ubyte"), "12345").unwrap();
    let listed = list(&[root.path().to_path_buf()]);
    let ids: Vec<&str> = listed.iter().map(|line| line.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "glyphs",
            "mnist",
            "fashion-mnist",
            "usps",
            "cifar10",
            "cifar100"
        ]
    );
    assert_eq!(listed[0].presence, Presence::BuiltIn);
    assert_eq!(
        listed[1].presence,
        Presence::Here {
            directory: place,
            files: 1,
            bytes: 5
        }
    );
    assert_eq!(listed[4].presence, Presence::Absent);
    assert!(listed[4].can_be_fetched && !listed[3].can_be_fetched && !listed[0].can_be_fetched);
}

#[test]
fn the_folder_asked_for_comes_first() {
    let asked = Path::new("asked-for");
    assert_eq!(folders(Some(asked))[0], asked);
    assert_eq!(folders(Some(asked)).len(), folders(None).len() + 1);
}
