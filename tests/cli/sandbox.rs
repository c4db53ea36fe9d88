//! Folders of a test's own, the program inside them, and a tiny study.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// One epoch on 360 images; a branch brings a twin.
pub(crate) const TINY: [&str; 12] = [
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
    "--no-cache",
];
/// The branch of the tiny study.
pub(crate) const BRANCH: [&str; 6] = [
    "--compress",
    "magnitude-pruning",
    "--ratio",
    ".5",
    "--fine-tune-epochs",
    "1",
];

/// Folders of a test's own.
pub(crate) struct Sandbox(TempDir);

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file in the sandbox.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The program, which sees nothing of the machine's own folders.
    pub(crate) fn program(&self) -> Command {
        self.program_of(env!("CARGO_BIN_EXE_shrinklab"))
    }

    /// Another program that sees as little.
    pub(crate) fn program_of(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        let root = self.0.path();
        command
            .current_dir(root)
            .env("HOME", root)
            .env("XDG_DATA_HOME", root.join("data"))
            .env("XDG_CACHE_HOME", root.join("cache"));
        for name in ["SHRINKLAB_DATA", "XDG_DATA_DIRS", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.program().args(arguments).output().unwrap())
    }

    /// Runs the program with a file as its last argument.
    pub(crate) fn run_on(&self, arguments: &[&str], file: &Path) -> Ran {
        Ran::of(&self.program().args(arguments).arg(file).output().unwrap())
    }
}

/// What became of a process.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Standard output of a process that went well.
    pub(crate) fn well(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        assert_eq!(self.err, "");
        self.out
    }

    /// Standard error of a process that ended with `status` and printed nothing else.
    pub(crate) fn refused(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.out, "");
        assert!(!self.err.contains('\u{1b}'), "{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// The session of a tiny study with one branch, run once for all tests, and what was printed.
pub(crate) fn tiny() -> (&'static Path, &'static str) {
    static RAN: OnceLock<(PathBuf, String)> = OnceLock::new();
    let (path, printed) = RAN.get_or_init(|| {
        let sandbox = Sandbox::new();
        let file = sandbox.path("tiny.jsonl");
        let printed = Ran::of(
            &sandbox
                .program()
                .args(TINY)
                .args(BRANCH)
                .arg("--session")
                .arg(&file)
                .output()
                .unwrap(),
        )
        .well();
        // Into a name of its own that outlives the folder; a later run of the tests writes it again.
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny.jsonl");
        fs::copy(&file, &kept).unwrap();
        (kept, printed)
    });
    (path, printed)
}

/// The records of a session, as kind and facts.
pub(crate) fn records(session: &Path) -> Vec<(String, Value)> {
    fs::read_to_string(session)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .skip(1)
        .map(|line| match serde_json::from_str::<Value>(line).unwrap() {
            Value::Array(mut parts) if parts.len() == 3 => {
                let facts = parts.pop().unwrap();
                (parts[1].as_str().unwrap().to_owned(), facts)
            }
            other => panic!("no record: {other}"),
        })
        .collect()
}

/// How many records of a kind there are.
pub(crate) fn count(records: &[(String, Value)], kind: &str) -> usize {
    records.iter().filter(|(found, _)| found == kind).count()
}
