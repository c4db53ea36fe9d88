//! What is seen is what is saved: live and replayed logs fold to the same state, and old logs to what they always said.

#![expect(
    clippy::unwrap_used,
    clippy::naive_bytecount,
    reason = "a test ends where something is not as expected"
)]

use std::fs;
use std::path::{Path, PathBuf};

use shrinklab::catalog::Catalog;
use shrinklab::event::Said;
use shrinklab::event::{Event, Record};
use shrinklab::session::{Follower, Header, Recorded, Recorder, Session, Writer, codec};
use shrinklab::spec::Study;
use shrinklab::state::{State, Timeline};

/// Set to write what comes out where it is expected.
const BLESS: &str = "SHRINKLAB_BLESS";

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    files.sort();
    files
}

fn records(scenario: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for line in fs::read(scenario).unwrap().split(|byte| *byte == b'\n') {
        match codec::decode(line, records.len() as u64) {
            codec::Decoded::Record { record, .. } => records.push(record),
            codec::Decoded::Blank | codec::Decoded::Comment(_) => {}
            codec::Decoded::Damaged(problem) => panic!("{}: {problem}", scenario.display()),
        }
    }
    records
}

/// Folds the scenario's records and compares the summary with the text beside it.
fn check(scenario: &Path) {
    let summary = State::fold(&records(scenario)).summary();
    let beside = scenario.with_extension("txt");
    if std::env::var_os(BLESS).is_some() {
        fs::write(&beside, &summary).unwrap();
    }
    let expected = fs::read_to_string(&beside)
        .unwrap_or_else(|_| panic!("{} is missing; {BLESS}=1 writes it", beside.display()));
    assert_eq!(
        summary,
        expected,
        "{}; {BLESS}=1 accepts it",
        scenario.display()
    );
}

#[test]
fn scenarios_fold_to_their_summaries() {
    let scenarios = scenarios();
    assert!(scenarios.len() >= 8);
    for scenario in scenarios {
        check(&scenario);
    }
}

fn header() -> Header {
    let study: Study = toml::from_str("references = []").unwrap();
    let mut header: Header = serde_json::from_value(serde_json::json!({
        "format": "shrinklab-session", "version": 1, "app": "0.1.0", "commit": "unknown", "seed": 7, "threads": 2,
        "device": "cpu", "study": study,
    }))
    .unwrap();
    header.catalog = Catalog::default();
    header
}

/// Every scenario as if it happened now: what the screen saw, what a follower sees, and what the file says later.
#[test]
fn live_is_followed_is_replayed() {
    for scenario in scenarios() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.jsonl");
        let writer = Writer::create(&path, &header()).unwrap();
        let mut follower = Follower::open(&path).unwrap();
        let (lab, entries) = crossbeam_channel::bounded::<Said>(8);
        let (app, shown) = crossbeam_channel::unbounded();
        let recorder = Recorder::spawn(writer, entries, app);
        let mut live = Timeline::following();
        let mut followed = Timeline::following();
        let events: Vec<Event> = records(&scenario).into_iter().map(|r| r.event).collect();
        for event in events {
            lab.send(Said::Fact(event)).unwrap();
            match shown.recv().unwrap() {
                Recorded::Record(record) => live.push(record),
                Recorded::Failed(problem) => panic!("{problem}"),
            }
            for record in follower.poll().unwrap() {
                followed.push(record);
            }
        }
        drop(lab);
        recorder.join();

        let session = Session::open(&path).unwrap();
        assert_eq!(session.oddities.len(), follower.oddities().len());
        assert_eq!(session.records, live.records());
        let replayed = State::fold(&session.records);
        assert!(*live.state() == replayed, "{}", scenario.display());
        assert!(*followed.state() == replayed, "{}", scenario.display());
        assert_eq!(live.state().summary(), replayed.summary());
    }
}

/// A log that is cut off anywhere opens, and says what was said before the cut.
#[test]
fn a_log_cut_off_anywhere_opens() {
    let scenario = scenarios()
        .into_iter()
        .find(|path| path.ends_with("failed-branch.jsonl"))
        .unwrap();
    let mut bytes = codec::encode_header(&header());
    let start = bytes.len();
    let records = records(&scenario);
    for record in &records {
        codec::encode(record, &mut bytes);
    }
    for cut in (start..bytes.len()).step_by(7) {
        let session = Session::from_bytes(Path::new("cut"), &bytes[..cut]).unwrap();
        let whole = bytes[start..cut]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        // A record whose line feed alone is missing is whole.
        assert!((whole..=whole + 1).contains(&session.records.len()));
        assert_eq!(session.records, records[..session.records.len()]);
        assert_eq!(session.oddities, []);
    }
}
