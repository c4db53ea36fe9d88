//! What is refused: one clear sentence, the right status, and nothing left behind.

use super::sandbox::{Sandbox, tiny};

/// A study on glyphs with these flags is refused as impossible, in a sentence with these words.
fn impossible(flags: &[&str], words: &[&str]) {
    let sandbox = Sandbox::new();
    let base = [
        "run",
        "-d",
        "glyphs",
        "-a",
        "lenet5",
        "--session",
        "never.jsonl",
    ];
    let error = sandbox.run(&[&base[..], flags].concat()).refused(2);
    for word in words {
        assert!(
            error.contains(word),
            "{flags:?}: {word} is missing: {error}"
        );
    }
    assert!(!sandbox.path("never.jsonl").exists(), "{flags:?}");
}

const PRUNE: [&str; 2] = ["--compress", "magnitude-pruning"];
const QUANTIZE: [&str; 2] = ["--compress", "post-training-quantization"];

#[test]
fn names_that_are_not_known() {
    impossible(&["--compress", "zip"], &["zip", "magnitude-pruning"]);
    let sandbox = Sandbox::new();
    let error = sandbox
        .run(&["run", "-d", "imagenet", "-a", "gpt2"])
        .refused(2);
    for word in [
        "dataset",
        "imagenet",
        "glyphs",
        "architecture",
        "gpt2",
        "lenet5",
    ] {
        assert!(error.contains(word), "both are said at once: {error}");
    }
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn knobs_out_of_their_range() {
    impossible(
        &[&PRUNE[..], &["--ratio", "1.5"]].concat(),
        &["ratio", "1.5", "0.999"],
    );
    impossible(
        &[&PRUNE[..], &["--ratio", "-0.1"]].concat(),
        &["ratio", "-0.1", "0.999"],
    );
    impossible(
        &[&PRUNE[..], &["--ratio", "-.1"]].concat(),
        &["ratio", "-0.1", "0.999"],
    );
    impossible(
        &[&PRUNE[..], &["--ratio", "-.5,.5"]].concat(),
        &["branch 1: ratio", "-0.5", "0.999"],
    );
    impossible(
        &[&PRUNE[..], &["--ratio", "half"]].concat(),
        &["ratio", "half", "no number"],
    );
    impossible(
        &[&QUANTIZE[..], &["--ratio", ".5"]].concat(),
        &["ratio", "has no ratio"],
    );
    impossible(
        &[&QUANTIZE[..], &["--set", "bits=1"]].concat(),
        &["bits", "1 is not allowed", "from 2 to 16"],
    );
    impossible(
        &[&PRUNE[..], &["--fine-tune-epochs", "0"]].concat(),
        &["epochs", "0 is not allowed"],
    );
    impossible(&["--epochs", "0"], &["epochs", "0 is not allowed"]);
    impossible(&["--epochs", "-3"], &["epochs", "-3 is not allowed"]);
    impossible(&["--train-limit", "3"], &["train-limit", "20"]);
    for (flag, allowed) in [
        ("--train-limit", "20 or more"),
        ("--test-limit", "20 or more"),
        ("--twins", "0 to 100"),
        ("--threads", "1 to 1024"),
        ("--seed", "0 to "),
    ] {
        let words = [flag, "-1 is not allowed", allowed];
        impossible(&[flag, "-1"], &words);
    }
    impossible(
        &["--seed", "99999999999999999999"],
        &["--seed", "18446744073709551615"],
    );
    impossible(&["--twins", "101"], &["twins", "101", "100"]);
    impossible(
        &["--train-limit", "50", "--set", "batch=64"],
        &["batch", "64", "45"],
    );
    impossible(&["--device", "tpu"], &["device", "tpu", "cpu"]);
}

#[test]
fn knobs_that_nothing_has() {
    impossible(&["--set", "temperature=2"], &["temperature"]);
    impossible(&["--set", "batch"], &["--set", "batch", "KNOB=VALUE"]);
    impossible(
        &[&PRUNE[..], &["--set", "bits=4"]].concat(),
        &["bits", "magnitude-pruning", "scope"],
    );
    impossible(&["--ratio", ".5"], &["--ratio", "--compress"]);
    impossible(&["--fast"], &["--fast"]);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let flags = [
        &["--epochs", "0", "--test-limit", "1"],
        &PRUNE[..],
        &["--ratio", "2"],
        &QUANTIZE[..],
        &["--set", "bits=99"],
    ]
    .concat();
    impossible(
        &flags,
        &[
            "epochs: 0",
            "test-limit",
            "branch 1: ratio: 2",
            "branch 2: bits: 99",
        ],
    );
}

#[test]
fn a_spec_with_a_field_that_nothing_has() {
    let sandbox = Sandbox::new();
    let spec = sandbox.file("study.toml", "seed = 3\nspeed = 9\n");
    for word in ["check", "run"] {
        let error = sandbox.run_on(&[word], &spec).refused(2);
        for word in ["study.toml", "line 2", "speed"] {
            assert!(error.contains(word), "{word} is missing: {error}");
        }
    }
    let wrong = "[[references]]\ndataset = \"glyphs\"\narchitecture = \"lenet5\"\ntwins = -1\nbranches = 2\n";
    let spec = sandbox.file("wrong.toml", wrong);
    let error = sandbox.run_on(&["check"], &spec).refused(2);
    for line in [
        "wrong.toml, line 4: twins: -1 is not allowed; a whole number from 0 to 100\n",
        "wrong.toml, line 5: branches: 2 is not allowed; a list\n",
    ] {
        assert!(error.contains(line), "{error}");
    }
    let spec = sandbox.file("broken.toml", "[[references]\n");
    let error = sandbox.run_on(&["check"], &spec).refused(2);
    assert!(error.contains("broken.toml, line 1"), "{error}");
    let error = sandbox.run(&["run", "nowhere.toml"]).refused(1);
    assert!(error.contains("nowhere.toml"), "{error}");
}

#[test]
fn a_session_file_that_exists_is_not_overwritten() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("mine.jsonl", "Dear all,\n");
    let error = sandbox
        .run(&[
            "run",
            "-d",
            "glyphs",
            "-a",
            "lenet5",
            "--session",
            "mine.jsonl",
        ])
        .refused(1);
    assert!(
        error.contains("mine.jsonl") && error.contains("exists"),
        "{error}"
    );
    assert_eq!(std::fs::read(file).unwrap(), b"Dear all,\n");
}

#[test]
fn a_data_set_that_is_not_here() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("pictures");
    std::fs::create_dir(&folder).unwrap();
    for extra in [&[][..], &["--quiet"], &["--json"]] {
        let mut arguments = vec!["run", "-d", "fashion-mnist", "-a", "lenet5", "--data-dir"];
        arguments.push(folder.to_str().unwrap());
        arguments.extend(extra);
        let ran = sandbox.run(&arguments);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        for word in [
            folder.to_str().unwrap(),
            "shrinklab data fetch fashion-mnist",
        ] {
            assert!(ran.out.contains(word), "{word} is missing: {ran:?}");
        }
    }
    let error = sandbox.run(&["data", "verify", "fashion-mnist"]).refused(1);
    assert!(error.contains("fashion-mnist"), "{error}");
}

#[test]
fn what_is_no_session() {
    let sandbox = Sandbox::new();
    let empty = sandbox.file("empty.jsonl", "");
    let error = sandbox.run_on(&["check"], &empty).refused(1);
    assert!(
        error.contains("empty.jsonl") && error.contains("no header line"),
        "{error}"
    );
    let strange = sandbox.file("letter.jsonl", "Dear \u{1b}[2J all,\n");
    let newer = sandbox.file(
        "newer.jsonl",
        "{\"format\":\"shrinklab-session\",\"version\":9}\n",
    );
    for command in [
        &["check"][..],
        &["replay", "--once"],
        &["report", "--format", "json"],
        &["run", "--resume"],
    ] {
        let error = sandbox.run_on(command, &strange).refused(1);
        assert!(
            error.contains("letter.jsonl") && error.contains("not a shrinklab session"),
            "{error}"
        );
        let error = sandbox.run_on(command, &newer).refused(1);
        assert!(
            error.contains("newer.jsonl") && error.contains("version 9"),
            "{error}"
        );
        let error = sandbox
            .run_on(command, &sandbox.path("nowhere.jsonl"))
            .refused(1);
        assert!(error.contains("nowhere.jsonl"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// The tiny session as a newer program might have written it: its question has fields that nobody knows here.
fn of_tomorrow(sandbox: &Sandbox) -> std::path::PathBuf {
    let text = std::fs::read_to_string(tiny().0).unwrap();
    let newer = text.replace(
        "\"train-limit\":400",
        "\"color\":\"red\",\"train-limit\":400",
    );
    assert_ne!(newer, text);
    sandbox.file("newer.jsonl", newer)
}

#[test]
fn a_session_of_a_newer_program_opens_with_a_warning() {
    let sandbox = Sandbox::new();
    let file = of_tomorrow(&sandbox);
    let picture = sandbox.run_on(&["replay", "--once"], &file).well();
    assert!(picture.contains("2 warnings"), "{picture}");
    assert!(picture.contains("done in"), "{picture}");
    let screen = sandbox
        .run_on(&["replay", "--once", "--screen", "warnings"], &file)
        .well();
    assert!(screen.contains("color was written by a newer"), "{screen}");
    let checked = sandbox.run_on(&["check"], &file).well();
    assert!(checked.contains("line 1: color was written"), "{checked}");
    let table = |file| sandbox.run_on(&["report", "--format", "csv"], file).well();
    assert_eq!(table(&file), table(tiny().0));
    // What is not understood is not gone on with.
    let text = std::fs::read_to_string(&file).unwrap();
    let beginning: String = text
        .lines()
        .take(20)
        .flat_map(|line| [line, "\n"])
        .collect();
    let unfinished = sandbox.file("unfinished.jsonl", beginning);
    let error = sandbox.run_on(&["run", "--resume"], &unfinished).refused(1);
    assert!(
        error.contains("unfinished.jsonl") && error.contains("color"),
        "{error}"
    );
}

#[test]
fn a_report_never_overwrites_a_session() {
    let sandbox = Sandbox::new();
    let before = std::fs::read(tiny().0).unwrap();
    let copy = sandbox.file("mine.jsonl", &before);
    let csv = ["report", "--format", "csv", "-o", "mine.jsonl"];
    let error = sandbox.run_on(&csv, tiny().0).refused(1);
    assert!(
        error.contains("mine.jsonl") && error.contains("is a session"),
        "{error}"
    );
    assert_eq!(std::fs::read(copy).unwrap(), before);
    let csv = ["report", "--format", "csv", "-o", "mine.csv"];
    for _ in 0..2 {
        sandbox.run_on(&csv, tiny().0).well();
    }
    assert!(
        sandbox.path("mine.csv").exists(),
        "a report may be made anew"
    );
}

#[test]
fn names_of_files_cannot_steer_the_terminal() {
    let sandbox = Sandbox::new();
    let name = sandbox.path("no\u{1b}[31mfile.jsonl");
    let error = sandbox.run_on(&["check"], &name).refused(1);
    assert!(error.contains("no\\u{1b}[31mfile"), "{error}");
    assert_eq!(error.matches("No such file").count(), 1, "{error}");
    std::fs::copy(tiny().0, &name).unwrap();
    let checked = sandbox.run_on(&["check"], &name).well();
    assert!(checked.contains("no\\u{1b}[31mfile"), "{checked:?}");
    let ran = sandbox
        .program()
        .args(["run", "-d", "glyphs", "-a", "lenet5", "--epochs", "1"])
        .args([
            "--train-limit",
            "100",
            "--test-limit",
            "20",
            "--no-cache",
            "--session",
        ])
        .arg(sandbox.path("new\u{1b}[31m.jsonl"))
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0));
    assert!(!ran.stdout.contains(&0x1b), "{ran:?}");
}

#[test]
fn a_session_that_is_complete_is_not_resumed() {
    let sandbox = Sandbox::new();
    let before = std::fs::read(tiny().0).unwrap();
    let copy = sandbox.file("tiny.jsonl", &before);
    let error = sandbox.run_on(&["run", "--resume"], &copy).refused(1);
    assert!(
        error.contains("tiny.jsonl") && error.contains("complete"),
        "{error}"
    );
    assert_eq!(std::fs::read(copy).unwrap(), before);
}
