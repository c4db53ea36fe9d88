//! How a run ends before its end, and goes on.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::sandbox::{BRANCH, Ran, Sandbox, TINY, count, records};

/// Asks until it is so.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < Duration::from_mins(2),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A study that would take minutes, at work in its second epoch.
fn at_work(sandbox: &Sandbox, session: &Path, epochs: &str) -> Child {
    at_work_with(&[], sandbox, session, epochs)
}

fn at_work_with(flags: &[&str], sandbox: &Sandbox, session: &Path, epochs: &str) -> Child {
    let process = sandbox
        .program()
        .args([
            "run",
            "-d",
            "glyphs",
            "-a",
            "lenet5",
            "--train-limit",
            "1000",
            "--test-limit",
            "100",
        ])
        .args(["--epochs", epochs])
        .args(flags)
        .arg("--session")
        .arg(session)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the first epoch", || {
        std::fs::read_to_string(session).is_ok_and(|text| text.contains("\"epoch-ended\""))
    });
    process
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {}", process.id())])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn resumed(sandbox: &Sandbox, session: &Path, epochs: usize) {
    let said = sandbox.run_on(&["run", "--resume"], session).well();
    assert!(said.contains(&format!("epoch {epochs} ")), "{said}");
    let checked = sandbox.run_on(&["check"], session).well();
    assert!(!checked.contains("torn"), "{checked}");
    let records = records(session);
    assert_eq!(
        count(&records, "epoch-ended"),
        epochs,
        "no epoch is missing or told twice"
    );
    assert_eq!(count(&records, "continued"), 1);
    assert_eq!(records.last().unwrap().1["outcome"]["is"], "completed");
}

#[test]
fn an_interrupt_ends_at_the_next_step_and_the_study_can_go_on() {
    let sandbox = Sandbox::new();
    let session = sandbox.path("stopped.jsonl");
    let process = at_work(&sandbox, &session, "6");
    signal(&process, "INT");
    let ran = Ran::of(&process.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(130), "{ran:?}");
    assert!(
        ran.out.contains("stopped; what was recorded stays"),
        "{ran:?}"
    );
    let stopped = records(&session);
    assert_eq!(stopped.last().unwrap().1["outcome"]["is"], "cancelled");
    let checked = sandbox.run_on(&["check"], &session).well();
    assert!(checked.contains("a session of"), "{checked}");
    resumed(&sandbox, &session, 6);
}

#[test]
fn a_killed_run_leaves_a_session_that_goes_on() {
    let sandbox = Sandbox::new();
    let session = sandbox.path("killed.jsonl");
    let mut process = at_work(&sandbox, &session, "6");
    process.kill().unwrap();
    process.wait().unwrap();
    sandbox.run_on(&["check"], &session).well();
    sandbox
        .run_on(&["report", "--format", "json"], &session)
        .well();
    resumed(&sandbox, &session, 6);
}

/// Without the cache a study keeps its checkpoints to itself, remembers to when it goes on, and leaves nothing.
#[test]
fn a_killed_run_without_the_cache_goes_on_without_it() {
    let sandbox = Sandbox::new();
    let (killed, whole) = (sandbox.path("killed.jsonl"), sandbox.path("whole.jsonl"));
    let checkpoints = sandbox.path("killed.jsonl.checkpoints");
    let mut process = at_work_with(&["--no-cache"], &sandbox, &killed, "6");
    // The checkpoint of the first epoch is kept before a step of the second one is reported.
    wait_for("the second epoch", || {
        let text = std::fs::read_to_string(&killed).unwrap();
        text.lines()
            .skip_while(|line| !line.contains("\"epoch-ended\""))
            .any(|line| line.contains("\"steps-trained\""))
    });
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(checkpoints.is_dir());
    resumed(&sandbox, &killed, 6);
    let text = std::fs::read_to_string(&killed).unwrap();
    assert!(text.contains("is restored from its checkpoint"), "{text}");
    assert!(!checkpoints.exists(), "the study has ended");
    let ran = at_work_with(&["--no-cache"], &sandbox, &whole, "6");
    Ran::of(&ran.wait_with_output().unwrap()).well();
    assert!(!sandbox.path("cache").exists(), "the cache was left alone");
    let facts = |session: &Path| {
        let mut facts = records(session);
        facts.retain(|(kind, fact)| {
            let metric = fact["metric"].as_str().unwrap_or_default();
            let reads_the_clock = metric.contains("latency") || metric.contains("throughput");
            kind != "continued" && !reads_the_clock
        });
        facts
    };
    assert_eq!(facts(&killed), facts(&whole));
}

#[test]
fn a_hang_up_does_not_end_a_run_and_a_second_writer_is_refused() {
    let sandbox = Sandbox::new();
    let session = sandbox.path("alone.jsonl");
    let process = at_work(&sandbox, &session, "6");
    let error = sandbox.run_on(&["run", "--resume"], &session).refused(1);
    assert!(error.contains("alone.jsonl"), "{error}");
    signal(&process, "HUP");
    let ran = Ran::of(&process.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let records = records(&session);
    assert_eq!(count(&records, "epoch-ended"), 6);
    assert_eq!(records.last().unwrap().1["outcome"]["is"], "completed");
}

/// A run that is killed between two steps, once for each kind of recipe, ends with the bytes of one that was not.
/// `SHRINKLAB_SLOW_TESTS=1` asks for it.
#[test]
fn a_killed_run_ends_bit_for_bit_as_one_that_was_not() {
    if std::env::var_os("SHRINKLAB_SLOW_TESTS").is_none() {
        return;
    }
    let study: &[&str] = &[
        "run",
        "-d",
        "glyphs",
        "-a",
        "lenet5",
        "--epochs",
        "3",
        "--train-limit",
        "2000",
        "--test-limit",
        "100",
        "--threads",
        "2",
        "--json",
    ];
    let recipes: [&[&str]; 4] = [
        &[],
        &[
            "--set",
            "schedule=one-cycle",
            "--set",
            "cycle-momentum=true",
            "--set",
            "augmentation=crop-flip",
            "--set",
            "label-smoothing=0.1",
        ],
        &[
            "--set",
            "optimizer=adamw",
            "--set",
            "learning-rate=0.001",
            "--set",
            "augmentation=crop",
        ],
        &[
            "--set",
            "schedule=step",
            "--set",
            "patience=1",
            "--set",
            "learning-rate=0.3",
        ],
    ];
    for (at, recipe) in recipes.iter().enumerate() {
        let (whole, broken) = (Sandbox::new(), Sandbox::new());
        let arguments: Vec<&str> = study.iter().chain(*recipe).copied().collect();
        let session = |sandbox: &Sandbox| sandbox.path("a.jsonl");
        let mut all = whole.program();
        all.args(&arguments).arg("--session").arg(session(&whole));
        Ran::of(&all.output().unwrap()).well();

        let mut process = broken.program();
        process
            .args(&arguments)
            .arg("--session")
            .arg(session(&broken));
        let mut process = process.stdout(Stdio::piped()).spawn().unwrap();
        // Somewhere in the second epoch: 1,800 images are 29 steps of 64, and so four reports.
        let said = BufReader::new(process.stdout.take().unwrap());
        let reports = said
            .lines()
            .map_while(Result::ok)
            .filter(|line| line.contains("\"steps-trained\""))
            .take(5 + at % 3)
            .count();
        assert_eq!(reports, 5 + at % 3);
        process.kill().unwrap();
        process.wait().unwrap();
        broken
            .run_on(&["run", "--resume"], &session(&broken))
            .well();

        let facts = |sandbox: &Sandbox| -> Vec<(String, serde_json::Value)> {
            let mut facts = records(&session(sandbox));
            facts.retain(|(kind, fact)| {
                let metric = fact["metric"].as_str().unwrap_or_default();
                let reads_the_clock = metric.contains("latency") || metric.contains("throughput");
                kind != "continued" && !reads_the_clock
            });
            facts
        };
        assert_eq!(facts(&broken), facts(&whole), "{recipe:?}");
        let networks = |sandbox: &Sandbox| {
            let folder = sandbox.path("cache").join("shrinklab/networks");
            let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
                // What was measured holds latencies; weights and outputs do not.
                .filter(|(_, bytes)| !bytes.windows(7).any(|word| word == b"latency"))
                .map(|(path, bytes)| {
                    (
                        path.rsplit('/').next().unwrap_or_default().to_owned(),
                        bytes,
                    )
                })
                .collect();
            files.sort();
            files
        };
        assert!(networks(&broken).len() >= 3, "{recipe:?}");
        assert!(networks(&broken) == networks(&whole), "{recipe:?}");
    }
}

/// A limit on the size of files is what a full disk is: the study goes on, and both the beginning and the end say so.
#[cfg(target_os = "linux")]
#[test]
fn a_session_that_cannot_be_written_to_its_end_is_a_failure_in_one_sentence() {
    let sandbox = Sandbox::new();
    let session = sandbox.path("full.jsonl");
    let run = |flags: &str| {
        let program = env!("CARGO_BIN_EXE_shrinklab");
        let study = [&TINY[1..], &BRANCH].concat().join(" ");
        // In blocks of 512 bytes: more than a header, less than a study.
        let script =
            format!("ulimit -f 125; exec '{program}' run {study} {flags} --session full.jsonl");
        let mut shell = sandbox.program_of("sh");
        Ran::of(&shell.args(["-c", &script]).output().unwrap())
    };
    for (flags, words) in [("", "the study goes on unrecorded"), ("--quiet", "")] {
        let ran = run(flags);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.out.contains(words), "{ran:?}");
        let last = ran.err.lines().last().unwrap();
        assert!(
            last.contains("full.jsonl") && last.contains("--resume"),
            "{ran:?}"
        );
        let checked = sandbox.run_on(&["check"], &session).well();
        assert!(checked.contains("a session of"), "{checked}");
        std::fs::remove_file(&session).unwrap();
    }
}
