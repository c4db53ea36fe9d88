//! How a run ends before its end, and goes on.

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
        .args(["--epochs", epochs, "--session"])
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
            format!("ulimit -f 100; exec '{program}' run {study} {flags} --session full.jsonl");
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
