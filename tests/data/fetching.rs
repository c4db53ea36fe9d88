//! Fetching from a server that the test plays itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use shrinklab::lab::data::fetch::{Fetched, Progress, fetch};
use shrinklab::lab::data::remote::{Kind, Remote, RemoteFile};
use shrinklab::lab::error::Result;

use super::server::{Answer, Server};
use super::{home, official, sha256};

/// A file too long for one block, and not the same everywhere.
fn long() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n / 7 + n % 251) as u8).collect()
}

fn fetch_quietly(home: &Remote, root: &Path, server: &Server) -> Result<Fetched> {
    fetch(home, root, Some(&server.base), &mut |_| {})
}

#[test]
fn files_are_fetched_checked_and_moved_into_place() {
    let bytes = long();
    let home = home(&[("a.gz", &bytes), ("b.gz", b"short")]);
    let server = Server::new(move |request| match request.path.as_str() {
        "/data/a.gz" => Answer::whole(&long()),
        "/data/b.gz" => Answer::whole(b"short"),
        _ => Answer::status(404),
    });
    let root = tempfile::tempdir().unwrap();
    let mut last = BTreeMap::new();
    let fetched = fetch(
        &home,
        root.path(),
        Some(&format!("{}data", server.base)),
        &mut |progress| {
            if let Progress::Downloading { file, done, total } = progress {
                let before = last.insert(file.to_owned(), done).unwrap_or(0);
                assert!(before <= done && done <= total, "{file}: {before} {done}");
            }
        },
    )
    .unwrap();
    assert_eq!(fetched.files, ["a.gz", "b.gz"]);
    assert_eq!(last, [("a.gz".into(), 300_000), ("b.gz".into(), 5)].into());
    assert_eq!(fs::read(root.path().join("tiny/a.gz")).unwrap(), bytes);
    assert_eq!(names_in(root.path()), ["tiny"]);

    // All there: nothing is asked for again. One gone: only that one is.
    let before = server.requests().len();
    assert!(
        fetch_quietly(&home, root.path(), &server)
            .unwrap()
            .files
            .is_empty()
    );
    assert_eq!(server.requests().len(), before);
}

#[test]
fn only_what_is_missing_or_wrong_is_fetched_into_an_existing_folder() {
    let home = home(&[("a", b"one"), ("b", b"two"), ("c", b"three")]);
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("tiny");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("a"), "one").unwrap();
    fs::write(place.join("b"), "tw0").unwrap();
    fs::write(place.join("own.txt"), "mine").unwrap();
    let server = Server::new(|request| match request.path.as_str() {
        "/b" => Answer::whole(b"two"),
        "/c" => Answer::whole(b"three"),
        _ => Answer::status(404),
    });
    let fetched = fetch_quietly(&home, root.path(), &server).unwrap();
    assert_eq!(fetched.files, ["b", "c"]);
    assert_eq!(names_in(&place), ["a", "b", "c", "own.txt"]);
    assert_eq!(fs::read(place.join("b")).unwrap(), b"two");
    assert_eq!(names_in(root.path()), ["tiny"]);
}

#[test]
fn a_transfer_that_breaks_off_is_resumed_where_it_ended() {
    let bytes = long();
    let home = home(&[("a", &bytes)]);
    // Sends 100,000 bytes at a time, whatever was asked for.
    let server = Server::new(|request| {
        let bytes = long();
        let start = request.range_start.unwrap_or(0);
        let end = (start + 100_000).min(bytes.len());
        Answer::part(&bytes, start).cut_to(end - start)
    });
    let root = tempfile::tempdir().unwrap();
    fetch_quietly(&home, root.path(), &server).unwrap();
    assert_eq!(fs::read(root.path().join("tiny/a")).unwrap(), bytes);
    let starts: Vec<Option<usize>> = server.requests().iter().map(|r| r.range_start).collect();
    assert_eq!(starts, [None, Some(100_000), Some(200_000)]);
}

#[test]
fn a_try_that_failed_is_resumed_by_the_next() {
    let bytes = long();
    let home = home(&[("a", &bytes)]);
    let root = tempfile::tempdir().unwrap();
    {
        // The rest never comes.
        let server = Server::new(|request| match request.range_start {
            None => Answer::whole(&long()).cut_to(70_000),
            Some(start) => Answer::part(&long(), start).cut_to(0),
        });
        let said = fetch_quietly(&home, root.path(), &server)
            .unwrap_err()
            .to_string();
        assert!(said.contains("70000 of 300000"), "{said}");
        assert!(said.contains(&format!("{}a", server.base)), "{said}");
        assert!(!root.path().join("tiny").exists());
    }
    let server = Server::new(|request| Answer::part(&long(), request.range_start.unwrap_or(0)));
    fetch_quietly(&home, root.path(), &server).unwrap();
    assert_eq!(server.requests()[0].range_start, Some(70_000));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(fs::read(root.path().join("tiny/a")).unwrap(), bytes);
}

/// A staging folder with the beginning of `a`.
fn begun(beginning: &[u8]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let staging = root.path().join("tiny.fetching");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("a.part"), beginning).unwrap();
    root
}

#[test]
fn servers_that_know_no_ranges_or_give_others_start_from_the_beginning() {
    let bytes = long();
    let home = home(&[("a", &bytes)]);
    let whole = || Answer::whole(&long());
    let servers = [
        // Ignores the range.
        Server::new(move |_| whole()),
        // Refuses it.
        Server::new(move |request| match request.range_start {
            Some(_) => Answer::status(416),
            None => whole(),
        }),
        // Sends another one.
        Server::new(move |request| match request.range_start {
            Some(_) => Answer::part(&long(), 3),
            None => whole(),
        }),
    ];
    for (kind, server) in servers.iter().enumerate() {
        let root = begun(&bytes[..1000]);
        fetch_quietly(&home, root.path(), server).unwrap();
        assert_eq!(
            fs::read(root.path().join("tiny/a")).unwrap(),
            bytes,
            "server {kind}"
        );
        assert_eq!(server.requests()[0].range_start, Some(1000));
    }
}

#[test]
fn a_beginning_of_another_version_is_thrown_away_once() {
    let bytes = long();
    let home = home(&[("a", &bytes)]);
    let root = begun(b"from another version");
    let server = Server::new(|request| Answer::part(&long(), request.range_start.unwrap_or(0)));
    fetch_quietly(&home, root.path(), &server).unwrap();
    let starts: Vec<Option<usize>> = server.requests().iter().map(|r| r.range_start).collect();
    assert_eq!(starts, [Some(20), None]);
    assert_eq!(fs::read(root.path().join("tiny/a")).unwrap(), bytes);
}

#[test]
fn two_downloads_of_the_same_file_do_not_mix() {
    let home = home(&[("a", b"right")]);
    let root = begun(b"ri");
    let other = fs::File::open(root.path().join("tiny.fetching/a.part")).unwrap();
    other.lock().unwrap();
    let server = Server::new(|_| Answer::whole(b"right"));
    let said = fetch_quietly(&home, root.path(), &server)
        .unwrap_err()
        .to_string();
    assert!(said.contains("another process"), "{said}");
    assert!(server.requests().is_empty());
    drop(other);
    fetch_quietly(&home, root.path(), &server).unwrap();
}

#[test]
fn a_wrong_sum_a_wrong_length_and_a_missing_file_leave_nothing() {
    let home = home(&[("a", b"right")]);
    for (answer, expected) in [
        (Answer::whole(b"wrong"), sha256(b"right")),
        (Answer::whole(b"far too long"), "more than 5 bytes".into()),
        (Answer::whole(b"ri"), "2 of 5 bytes".into()),
        (Answer::status(404), "404".into()),
        (Answer::status(500), "500".into()),
    ] {
        let server = Server::new(move |_| answer.clone());
        let root = tempfile::tempdir().unwrap();
        let said = fetch_quietly(&home, root.path(), &server)
            .unwrap_err()
            .to_string();
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains("/a: "), "{said}");
        assert!(!root.path().join("tiny").exists(), "{said}");
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let home = home(&[("a", b"right")]);
    let base = {
        let server = Server::new(|_| Answer::status(404));
        server.base.clone()
    };
    let root = tempfile::tempdir().unwrap();
    let said = fetch(&home, root.path(), Some(&base), &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(said.contains(&base), "{said}");
}

/// A `.tar.gz` of these entries: name as it stands in the header, kind, content.
fn tar_gz(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        // Written by hand: the builder itself would refuse `..`.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    let mut packer = builder.into_inner().unwrap();
    packer.flush().unwrap();
    packer.finish().unwrap()
}

fn archive_home(archive: &[u8], members: &[(&str, &[u8])]) -> Remote {
    Remote {
        files: vec![RemoteFile {
            official: official("set.tar.gz", archive),
            kind: Kind::Archive {
                members: members
                    .iter()
                    .map(|(name, bytes)| official(name, bytes))
                    .collect(),
            },
        }],
        ..home(&[])
    }
}

#[test]
fn an_archive_is_unpacked_without_its_folder_and_without_what_is_not_asked_for() {
    use tar::EntryType::{Directory, Regular};
    let archive = tar_gz(&[
        ("set/", Directory, b""),
        ("set/train.bin", Regular, b"train"),
        ("set/readme.html", Regular, b"hello"),
        ("set/test.bin", Regular, b"test"),
    ]);
    let members: [(&str, &[u8]); 2] = [("train.bin", b"train"), ("test.bin", b"test")];
    let home = archive_home(&archive, &members);
    let server = Server::new(move |_| Answer::whole(&archive));
    let root = tempfile::tempdir().unwrap();
    fetch_quietly(&home, root.path(), &server).unwrap();
    assert_eq!(
        names_in(&root.path().join("tiny")),
        ["test.bin", "train.bin"]
    );
    assert_eq!(names_in(root.path()), ["tiny"]);
    // All members there: the archive is not fetched again.
    assert!(
        fetch_quietly(&home, root.path(), &server)
            .unwrap()
            .files
            .is_empty()
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_archive_that_reaches_elsewhere_or_is_not_as_published_is_refused() {
    use tar::EntryType::{Link, Regular, Symlink};
    type Entries<'a> = &'a [(&'a str, tar::EntryType, &'a [u8])];
    let good = ("train.bin", Regular, b"train" as &[u8]);
    let cases: [(Entries, &str); 9] = [
        (&[good, ("../evil", Regular, b"x")], "leads elsewhere"),
        (&[good, ("/tmp/evil", Regular, b"x")], "leads elsewhere"),
        (
            &[("set/../../train.bin", Regular, b"train")],
            "leads elsewhere",
        ),
        (&[good, ("..\\evil", Regular, b"x")], "leads elsewhere"),
        (&[("train.bin", Symlink, b"")], "link"),
        (&[good, ("hard", Link, b"")], "link"),
        (&[good, good], "twice"),
        (&[("train.bin", Regular, b"brain")], "SHA-256"),
        (&[("other.bin", Regular, b"train")], "train.bin is missing"),
    ];
    for (entries, expected) in cases {
        let archive = tar_gz(entries);
        let home = archive_home(&archive, &[("train.bin", b"train")]);
        let server = Server::new(move |_| Answer::whole(&archive));
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        let said = fetch_quietly(&home, &root, &server)
            .unwrap_err()
            .to_string();
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("set.tar.gz"), "{said}");
        assert_eq!(names_in(parent.path()), ["root"], "{said}");
        assert_eq!(names_in(&root), ["tiny.fetching"], "{said}");
        assert_eq!(
            names_in(&root.join("tiny.fetching")),
            ["set.tar.gz"],
            "{said}"
        );
    }
}

#[test]
fn an_archive_that_unpacks_to_far_more_than_expected_is_cut() {
    // 40 MiB of zeros in a file that is not asked for: allowed are 16 MiB beyond the members.
    let zeros = vec![0; 40 << 20];
    let archive = tar_gz(&[
        ("bomb", tar::EntryType::Regular, &zeros),
        ("train.bin", tar::EntryType::Regular, b"train"),
    ]);
    let home = archive_home(&archive, &[("train.bin", b"train")]);
    let server = Server::new(move |_| Answer::whole(&archive));
    let root = tempfile::tempdir().unwrap();
    let said = fetch_quietly(&home, root.path(), &server)
        .unwrap_err()
        .to_string();
    assert!(said.contains("set.tar.gz"), "{said}");
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
