//! The program as it is called from a shell: what it prints, and how it ends.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use shrinklab::event::Outcome;
use shrinklab::session::Session;
use shrinklab::state::State;

/// A place of its own for one test: no cache, no sessions, no data of anybody else.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shrinklab"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("XDG_DATA_HOME", self.file("data-home"))
            .env("XDG_CACHE_HOME", self.file("cache-home"))
            .env_remove("SHRINKLAB_DATA")
            .env_remove("NO_COLOR");
        command
    }

    /// Exit status, standard output, standard error.
    fn call(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (
            status.code().expect("no signal ended it"),
            text(stdout),
            text(stderr),
        )
    }

    fn session(&self, name: &str) -> Session {
        Session::open(&self.file(name)).expect("a session")
    }
}

/// Some images, one epoch, a pruned and fine-tuned branch.
const TINY: &[&str] = &[
    "run",
    "-d",
    "glyphs",
    "-a",
    "lenet5",
    "--epochs",
    "1",
    "--train-limit",
    "400",
    "--test-limit",
    "100",
    "--compress",
    "magnitude-pruning",
    "--ratio",
    ".5",
    "--fine-tune-epochs",
    "1",
];

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

#[test]
fn a_study_is_run_reported_replayed_and_run_again_alike() {
    let place = Place::new();
    let (code, said, _) = place.call(&with(TINY, &["--session", "a.jsonl"]));
    assert_eq!(code, 0);
    assert!(!said.contains('\u{1b}'), "a pipe gets plain lines");
    assert!(
        said.contains("reference: epoch 1") && said.contains("n=100"),
        "{said}"
    );

    let (code, said, _) = place.call(&["check", "a.jsonl"]);
    assert_eq!(code, 0, "{said}");

    let (code, json, _) = place.call(&["report", "a.jsonl", "--format", "json"]);
    assert_eq!(code, 0);
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let rows = report["measurements"].as_array().expect("rows");
    assert!(rows.len() > 150, "{}", rows.len());
    let mut keys = [
        "network",
        "role",
        "stage",
        "epoch",
        "probe",
        "metric",
        "condition",
        "severity",
        "against",
        "value",
        "unit",
        "low",
        "high",
        "n",
    ];
    keys.sort_unstable();
    for row in rows {
        let mut found: Vec<&str> = row
            .as_object()
            .expect("a row")
            .keys()
            .map(String::as_str)
            .collect();
        found.sort_unstable();
        assert_eq!(found, keys);
        if row["unit"] == "fraction" {
            let value = row["value"].as_f64().expect("a number");
            assert!((0.0..=1.0).contains(&value), "{row}");
            assert!(
                row["n"].is_u64() && row["low"].is_f64() && row["high"].is_f64(),
                "{row}"
            );
        }
    }
    let (_, csv, _) = place.call(&["report", "a.jsonl", "--format", "csv"]);
    assert_eq!(csv.lines().count(), rows.len() + 1);
    let (code, _, _) = place.call(&["report", "a.jsonl", "--format", "markdown", "-o", "a.md"]);
    assert_eq!(code, 0);
    assert!(
        fs::read_to_string(place.file("a.md"))
            .expect("a report")
            .contains("magnitude pruning")
    );
    let (_, svg, _) = place.call(&["report", "a.jsonl", "--format", "svg"]);
    assert!(
        svg.starts_with("<svg") || svg.starts_with("<?xml"),
        "{svg:.40}"
    );

    let (code, picture, _) = place.call(&["replay", "a.jsonl", "--once", "--size", "120x40"]);
    assert_eq!(code, 0);
    assert_eq!(picture.lines().count(), 40);
    assert!(
        picture.contains("Loss") && picture.contains("nearer than a twin?"),
        "{picture}"
    );
    for name in ["table", "loss", "corruption", "function", "numbers", "help"] {
        let (code, picture, problem) =
            place.call(&["replay", "a.jsonl", "--once", "--screen", name, "--at", "9"]);
        assert_eq!(code, 0, "{name}: {problem}");
        assert!(!picture.trim().is_empty());
    }
    let (_, svg, _) = place.call(&["replay", "a.jsonl", "--once", "--svg"]);
    assert!(svg.contains("<svg"));

    // The second time from the cache, word for word.
    let (code, _, _) = place.call(&with(TINY, &["--session", "b.jsonl", "--quiet"]));
    assert_eq!(code, 0);
    let (first, again) = (place.session("a.jsonl"), place.session("b.jsonl"));
    assert!(
        again
            .comments
            .iter()
            .any(|(_, text)| text.contains("cache"))
    );
    assert_eq!(first.records.len(), again.records.len());
    for (a, b) in first.records.iter().zip(&again.records) {
        assert!(b.event.repeats(&a.event), "{:?}\n{:?}", a.event, b.event);
    }
}

#[test]
fn flags_find_their_branch() {
    let place = Place::new();
    let (code, json, problem) = place.call(&[
        "run",
        "-d",
        "glyphs",
        "-a",
        "lenet5",
        "--set",
        "learning-rate=0.02",
        "--set",
        "domain=chalk",
        "--epochs",
        "1",
        "--train-limit",
        "200",
        "--test-limit",
        "40",
        "--twins",
        "0",
        "--compress",
        "magnitude-pruning",
        "--ratio",
        "0,.9",
        "--set",
        "scope=per-layer",
        "--compress",
        "post-training-quantization",
        "--set",
        "bits=4",
        "--fine-tune-epochs",
        "2",
        "--json",
        "--session",
        "a.jsonl",
    ]);
    assert_eq!(code, 0, "{problem}");
    for line in json.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("one event per line");
        assert!(value.is_array());
    }
    let study = place.session("a.jsonl").header.study;
    let reference = &study.references[0];
    assert_eq!(reference.training.real("learning-rate"), 0.02);
    assert_eq!(reference.dataset.setting.choice("domain"), "chalk");
    assert_eq!(reference.branches.len(), 3);
    assert_eq!(reference.branches[0].stages.len(), 1);
    assert_eq!(reference.branches[2].stages.len(), 2);
    let state = State::fold(&place.session("a.jsonl").records);
    let reached: Vec<Option<f64>> = state
        .branches()
        .map(|branch| branch.compressions[0].reached)
        .collect();
    assert_eq!(reached[0], Some(0.0), "ratio 0 is the identity");
    assert!((reached[1].expect("a ratio") - 0.9).abs() < 1e-4);
    assert_eq!(reached[2], None, "quantization has no ratio");
}

#[test]
fn what_is_impossible_is_said_in_a_sentence_that_names_it() {
    let place = Place::new();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["run", "-d", "mnits"],
            2,
            &["dataset", "mnits", "mnist", "glyphs"],
        ),
        (
            &["run", "-a", "lenet"],
            2,
            &["architecture", "lenet5", "cnn8"],
        ),
        (
            &["run", "--compress", "prune"],
            2,
            &["branch 1", "compression", "magnitude-pruning"],
        ),
        (
            &["run", "--compress", "magnitude-pruning", "--ratio", "1.5"],
            2,
            &["ratio", "1.5", "0 to 0.999"],
        ),
        (
            &["run", "--compress", "magnitude-pruning", "--ratio", "much"],
            2,
            &["--ratio", "much"],
        ),
        (
            &[
                "run",
                "--compress",
                "post-training-quantization",
                "--ratio",
                ".5",
            ],
            2,
            &["ratio", "post-training-quantization"],
        ),
        (
            &[
                "run",
                "--compress",
                "post-training-quantization",
                "--set",
                "bits=1",
            ],
            2,
            &["bits", "1", "16, 8, 4"],
        ),
        (
            &["run", "-d", "glyphs", "--epochs", "0"],
            2,
            &["epochs", "0", "1 to"],
        ),
        (
            &[
                "run",
                "--compress",
                "magnitude-pruning",
                "--fine-tune-epochs",
                "0",
            ],
            2,
            &["epochs", "1 to"],
        ),
        (
            &["run", "-d", "glyphs", "--train-limit", "3"],
            2,
            &["train-limit", "20"],
        ),
        (
            &[
                "run",
                "-d",
                "glyphs",
                "--train-limit",
                "100",
                "--set",
                "batch=100",
            ],
            2,
            &["batch", "90"],
        ),
        (
            &["run", "-d", "glyphs", "--set", "speed=9"],
            2,
            &["--set", "speed"],
        ),
        (
            &["run", "-d", "glyphs", "--set", "momentum"],
            2,
            &["--set", "KNOB=VALUE"],
        ),
        (
            &["run", "-d", "glyphs", "--ratio", ".5"],
            2,
            &["--ratio", "--compress"],
        ),
        (
            &["run", "-d", "glyphs", "--device", "tpu"],
            2,
            &["device", "tpu", "cpu"],
        ),
        (
            &["run", "-d", "mnist", "--epochs", "1"],
            1,
            &["mnist", "shrinklab data fetch mnist"],
        ),
        (
            &["run", "-d", "glyphs", "--frobnicate"],
            2,
            &["--frobnicate"],
        ),
        (&["replay", "absent.jsonl", "--once"], 1, &["absent.jsonl"]),
        (&["data", "verify", "nothing"], 1, &["nothing", "mnist"]),
    ];
    for (arguments, code, words) in cases {
        let (found, out, problem) = place.call(arguments);
        assert_eq!(found, *code, "{arguments:?}: {problem}");
        let said = format!("{out}{problem}");
        for word in *words {
            assert!(
                said.contains(word),
                "{arguments:?} does not say {word}: {said}"
            );
        }
        assert!(!said.contains("panicked"), "{said}");
    }
    // Everything that is wrong, at once.
    let (_, _, problem) = place.call(&["run", "-d", "mnits", "-a", "lenet", "--epochs", "0"]);
    assert!(
        ["mnits", "lenet", "epochs"]
            .iter()
            .all(|word| problem.contains(word)),
        "{problem}"
    );
}

#[test]
fn files_that_are_no_sessions_are_refused_and_torn_ones_are_read() {
    let place = Place::new();
    fs::write(place.file("empty.jsonl"), "").expect("written");
    fs::write(
        place.file("poem.jsonl"),
        "Shall I compare thee\nto a summer's day?\n",
    )
    .expect("written");
    let newer = r#"{"format":"shrinklab-session","version":9}"#;
    fs::write(place.file("newer.jsonl"), format!("{newer}\n")).expect("written");
    fs::write(
        place.file("odd.toml"),
        "seed = 1\nspeed = 9\nreferences = []\n",
    )
    .expect("written");
    for (file, words) in [
        ("empty.jsonl", &["empty.jsonl"][..]),
        ("poem.jsonl", &["poem.jsonl", "session"]),
        ("newer.jsonl", &["newer.jsonl", "9", "1"]),
        ("odd.toml", &["odd.toml", "speed"]),
    ] {
        let (code, _, problem) = place.call(&["check", file]);
        assert_ne!(code, 0, "{file}");
        for word in words {
            assert!(problem.contains(word), "{file}: {problem}");
        }
        assert_eq!(problem.trim().lines().count(), 1, "one sentence: {problem}");
    }
    let recorded = include_bytes!("../sessions/glyphs-lenet5.jsonl");
    fs::write(
        place.file("torn.jsonl"),
        &recorded[..recorded.len() * 2 / 3],
    )
    .expect("written");
    let (code, said, _) = place.call(&["check", "torn.jsonl"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("torn"));
    // A session that exists is never written over.
    let (code, _, problem) = place.call(&with(TINY, &["--session", "torn.jsonl"]));
    assert_eq!(code, 1);
    assert!(problem.contains("torn.jsonl"), "{problem}");
}

#[test]
fn the_lists_name_every_method() {
    let place = Place::new();
    let (code, said, _) = place.call(&["list"]);
    assert_eq!(code, 0);
    for id in [
        "glyphs",
        "cnn8",
        "self-distillation",
        "pixel-dropout",
        "functional-landscape",
    ] {
        assert!(said.contains(id), "{id}");
    }
    let (_, json, _) = place.call(&["list", "corruptions", "--json"]);
    let tables: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(tables["corruptions"].as_array().map(Vec::len), Some(5));
    let (code, said, _) = place.call(&["data", "list"]);
    assert_eq!(code, 0);
    assert!(
        said.contains("data fetch mnist") && said.contains("built in"),
        "{said}"
    );
    assert_eq!(place.call(&["doctor"]).0, 0);
}

/// Starts a longer study, waits until `enough` of it is in the file, and ends it with that signal.
#[cfg(unix)]
fn interrupted(place: &Place, signal: &str) -> Option<i32> {
    let arguments = [
        "run",
        "-d",
        "glyphs",
        "-a",
        "lenet5",
        "--epochs",
        "3",
        "--train-limit",
        "1500",
        "--test-limit",
        "100",
        "--twins",
        "0",
        "--session",
        "a.jsonl",
        "--quiet",
    ];
    let mut child = place.command(&arguments).spawn().expect("the program runs");
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(2);
    // The second epoch has begun.
    let begun = |text: &str| text.matches("\"epoch-ended\"").count() >= 1;
    while !fs::read_to_string(place.file("a.jsonl")).is_ok_and(|text| begun(&text)) {
        assert!(std::time::Instant::now() < deadline, "nothing was recorded");
        std::thread::yield_now();
    }
    let killed = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    child.wait().expect("it ends").code()
}

#[cfg(unix)]
#[test]
fn an_interrupted_study_goes_on_in_the_same_file() {
    for signal in ["-INT", "-KILL"] {
        let place = Place::new();
        let code = interrupted(&place, signal);
        if signal == "-INT" {
            assert_eq!(code, Some(130));
            let state = State::fold(&place.session("a.jsonl").records);
            assert_eq!(state.outcome, Some(Outcome::Cancelled));
        }
        let (code, _, problem) = place.call(&["run", "--resume", "a.jsonl", "--quiet"]);
        assert_eq!(code, 0, "{signal}: {problem}");
        let session = place.session("a.jsonl");
        assert!(session.oddities.is_empty(), "{:?}", session.oddities);
        let state = State::fold(&session.records);
        assert_eq!(state.outcome, Some(Outcome::Completed));
        assert_eq!(state.networks[0].epochs.len(), 3);
        let (code, _, problem) = place.call(&["run", "--resume", "a.jsonl"]);
        assert_eq!(code, 1, "it is complete: {problem}");
    }
}
