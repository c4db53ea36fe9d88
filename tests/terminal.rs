//! The program in a real pseudo-terminal: opened, driven by keys, resized, left.

#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use shrinklab::event::Outcome;
use shrinklab::session::Session;
use shrinklab::state::State;

/// Longer than any step takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_mins(2);

struct Seat {
    home: tempfile::TempDir,
    child: Box<dyn Child + Send + Sync>,
    master: Option<Box<dyn MasterPty + Send>>,
    keys: Option<Box<dyn std::io::Write + Send>>,
    /// Nobody reads any more: the reader lets go of the terminal.
    is_closed: Arc<AtomicBool>,
    /// Everything that was written to the terminal, and the screen that it makes.
    seen: Arc<Mutex<(Vec<u8>, vt100::Parser)>>,
    reader: std::thread::JoinHandle<()>,
}

fn size((rows, cols): (u16, u16)) -> PtySize {
    PtySize {
        rows,
        cols,
        pixel_width: 0,
        pixel_height: 0,
    }
}

fn cells(n: u16) -> NonZero<u16> {
    NonZero::new(n).expect("some cells")
}

impl Seat {
    fn take(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_shrinklab"));
        command.args(arguments);
        Self::before(command, environment)
    }

    /// In front of a terminal on which that command is started.
    fn before(mut command: CommandBuilder, environment: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let pair = native_pty_system()
            .openpty(size((30, 100)))
            .expect("a pseudo-terminal");
        command.cwd(home.path());
        for name in ["SHRINKLAB_DATA", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color");
        command.env("XDG_DATA_HOME", home.path().join("data"));
        command.env("XDG_CACHE_HOME", home.path().join("cache"));
        for (name, value) in environment {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).expect("the program runs");
        drop(pair.slave);
        let mut output = pair.master.try_clone_reader().expect("a reader");
        let keys = pair.master.take_writer().expect("a writer");
        let seen = Arc::new(Mutex::new((
            Vec::new(),
            vt100::Parser::new(cells(30), cells(100), 0),
        )));
        let shared = Arc::clone(&seen);
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; 65536];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                if closed.load(Ordering::Acquire) {
                    break;
                }
                let mut seen = shared.lock().expect("no reader panics");
                seen.0.extend_from_slice(&bytes[..n]);
                seen.1.process(&bytes[..n]);
            }
        });
        Self {
            home,
            child,
            master: Some(pair.master),
            keys: Some(keys),
            is_closed,
            seen,
            reader,
        }
    }

    fn screen(&self) -> String {
        self.seen
            .lock()
            .expect("no reader panics")
            .1
            .screen()
            .contents()
    }

    fn bytes(&self) -> usize {
        self.seen.lock().expect("no reader panics").0.len()
    }

    fn press(&mut self, keys: &str) {
        let writer = self.keys.as_mut().expect("the terminal is there");
        writer.write_all(keys.as_bytes()).expect("keys are taken");
        writer.flush().expect("keys are taken");
    }

    /// Waits until the screen is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "no {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closes the terminal. The reader, which waits for output, lets go of it at the next picture.
    fn hang_up(&mut self) {
        self.is_closed.store(true, Ordering::Release);
        self.keys = None;
        self.master = None;
    }

    /// A new size. The program draws everything anew then, so the screen that it makes starts blank, too.
    fn resize(&self, rows: u16, columns: u16) {
        let blank = vt100::Parser::new(cells(rows), cells(columns), 0);
        self.seen.lock().expect("no reader panics").1 = blank;
        let master = self.master.as_ref().expect("the terminal is there");
        master.resize(size((rows, columns))).expect("a new size");
    }

    fn exit(&mut self) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                // What it wrote last may still be on its way; the end of the terminal's output says that all is here.
                while self.master.is_some()
                    && !self.reader.is_finished()
                    && Instant::now() < deadline
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return status.exit_code();
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.process_id().expect("it runs").to_string();
        let status = std::process::Command::new("kill")
            .args([signal, &id])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// The one session that was saved.
    fn saved(&self) -> PathBuf {
        let folder = self.home.path().join("data/shrinklab/sessions");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .expect("sessions were saved")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(files.len(), 1);
        files.remove(0)
    }

    /// The default study with few images, started from the form.
    fn start_small(&mut self) {
        self.until("form", |screen| {
            screen.contains("Data set") && screen.contains("about")
        });
        // All knobs; down to the limit of training images, and type one.
        self.press("a");
        self.go_to("Train on");
        self.press("600");
        self.until("600 images", |screen| row_at(screen).contains("600"));
        self.press("\r");
    }

    /// Puts the form's cursor on a row further down.
    fn go_to(&mut self, row: &str) {
        // A row may lie further down than the panel reaches.
        self.until("all knobs", |screen| screen.contains(" all knobs ╮"));
        while !row_at(&self.screen()).contains(row) {
            let before = row_at(&self.screen());
            self.press("j");
            self.until("next row", |screen| row_at(screen) != before);
        }
    }
}

/// The form's row with the cursor.
fn row_at(screen: &str) -> String {
    let row = screen.lines().find(|line| line.starts_with("│ ▸"));
    row.unwrap_or_default().to_owned()
}

/// Where the screen was left as it was found: no alternate screen, no mouse, no pasting brackets, a cursor.
fn assert_restored(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (on, off) in [
        ("\x1b[?1049h", "\x1b[?1049l"),
        ("\x1b[?25l", "\x1b[?25h"),
        ("\x1b[?1000h", "\x1b[?1000l"),
        ("\x1b[?2004h", "\x1b[?2004l"),
        ("\x1b[?2026h", "\x1b[?2026l"),
    ] {
        if let Some(last_on) = text.rfind(on) {
            assert!(
                text.rfind(off).is_some_and(|last_off| last_off > last_on),
                "{on:?} stays on"
            );
        }
    }
}

fn state(path: &Path) -> State {
    State::fold(&Session::open(path).expect("a session").records)
}

#[test]
fn a_study_from_the_form_to_the_end_with_a_branch_added() {
    let mut seat = Seat::take(&[], &[]);
    seat.start_small();
    seat.until("training", |screen| {
        screen.contains("Loss") && screen.contains("training")
    });
    seat.press("b");
    seat.until("branch form", |screen| screen.contains("Add a branch"));
    seat.press("\r");
    seat.until("second branch", |screen| {
        screen.contains("(2)") || screen.matches("magnitude").count() >= 2
    });
    // Every size has a picture; nothing panics.
    seat.resize(24, 80);
    seat.until("compact screen", |screen| {
        screen.contains("Corruption") && screen.contains("Function")
    });
    seat.resize(11, 39);
    seat.until("message", |screen| {
        screen.contains("40") && !screen.contains("Function")
    });
    seat.resize(30, 100);
    seat.until("full screen", |screen| {
        screen.contains("Accuracy under corruption")
    });
    seat.press("?");
    let helps = |screen: &str| screen.contains("give the keys to the next panel");
    seat.until("help", helps);
    // A key right behind Esc would be one with Alt.
    seat.press("\x1b");
    seat.until("no help", |screen| !helps(screen));
    seat.press(":table");
    seat.until("palette", |screen| screen.contains("table of measurements"));
    seat.press("\x1b");
    seat.until("no palette", |screen| {
        !screen.contains("table of measurements")
    });
    let screen = seat.until("end", |screen| screen.contains("done in"));
    assert!(
        screen.contains("nearer than a twin?") && screen.contains("undecided"),
        "{screen}"
    );
    assert!(
        screen.contains("latency") && screen.contains("gaussian noise"),
        "{screen}"
    );
    // Nothing changes any more, so nothing is written.
    let before = seat.bytes();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(seat.bytes(), before, "an idle screen writes nothing");
    seat.press("q");
    assert_eq!(seat.exit(), 0);
    assert_restored(&seat.seen.lock().expect("no reader panics").0);
    let state = state(&seat.saved());
    assert_eq!(state.outcome, Some(Outcome::Completed));
    assert_eq!(state.networks.len(), 4, "reference, twin and two branches");
    assert!(state.oddities.is_empty(), "{:?}", state.oddities);
}

#[test]
fn leaving_a_running_study_asks_and_a_termination_stops_it() {
    let mut seat = Seat::take(&[], &[("NO_COLOR", "1")]);
    seat.until("form", |screen| screen.contains("Data set"));
    seat.press("\r");
    seat.until("training", |screen| {
        screen.contains("╭ Loss") && screen.contains("step")
    });
    seat.press("q");
    seat.until("question", |screen| {
        screen.to_lowercase().contains("cancel")
    });
    seat.press("\x1b");
    seat.until("back", |screen| !screen.to_lowercase().contains("cancel"));
    seat.signal("-TERM");
    assert_eq!(seat.exit(), 130);
    let bytes = seat.seen.lock().expect("no reader panics").0.clone();
    assert_restored(&bytes);
    let text = String::from_utf8_lossy(&bytes);
    for color in ["\x1b[38;", "\x1b[48;", ";38;", "\x1b[3", "\x1b[4"] {
        let colored = text.match_indices(color).any(|(at, _)| {
            // `CSI 3…m` with a second digit is a color; `CSI 3;…H` moves the cursor.
            let rest = &text[at..];
            let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
            rest[end..].starts_with('m')
                && (color.contains("8;") || rest.as_bytes().get(3).is_some_and(u8::is_ascii_digit))
        });
        assert!(!colored, "NO_COLOR: {color:?}");
    }
    assert_eq!(state(&seat.saved()).outcome, Some(Outcome::Cancelled));
}

/// Its last end is closed, as when a window is closed or a connection breaks: the system says so, and nobody else.
#[test]
fn a_terminal_that_vanishes_leaves_the_study_running() {
    let mut seat = Seat::take(&[], &[]);
    seat.start_small();
    seat.until("training", |screen| {
        screen.contains("╭ Loss") && screen.contains("step")
    });
    seat.hang_up();
    assert_eq!(seat.exit(), 0);
    assert_eq!(state(&seat.saved()).outcome, Some(Outcome::Completed));
}

#[test]
fn without_a_study_a_terminal_that_vanishes_ends_the_program() {
    // On a first start a recording plays beside the form.
    let mut seat = Seat::take(&[], &[]);
    seat.until("form and recording", |screen| {
        screen.contains("Data set") && screen.contains("A recorded session")
    });
    seat.hang_up();
    assert_eq!(seat.exit(), 1);
}

/// Everything that a stopped program would have left on a shell's screen is taken back, and drawn again on `fg`.
#[test]
fn ctrl_z_gives_the_terminal_back_until_the_program_goes_on() {
    let script = r#"set -m; "$0"; echo "stopped=$?"; stty -a | grep -o '.icanon'; fg >/dev/null; echo "left=$?""#;
    let mut command = CommandBuilder::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_shrinklab")]);
    let mut seat = Seat::before(command, &[]);
    let form = |screen: &str| screen.contains("Data set") && screen.contains("quit");
    seat.until("form", form);
    seat.press("\x1a");
    // The shell says so, and at once lets the program go on.
    let said = |seat: &Seat| {
        let bytes = seat.seen.lock().expect("no reader panics").0.clone();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let deadline = Instant::now() + PATIENCE;
    while said(&seat).matches("\x1b[?1049h").count() < 2 {
        assert!(Instant::now() < deadline, "{}", said(&seat));
        std::thread::sleep(Duration::from_millis(10));
    }
    seat.until("form again", form);
    let all = said(&seat);
    let between = all.split("\x1b[?1049l").nth(1).expect("it was left");
    // 128 + SIGSTOP or SIGTSTP, whichever way it stopped.
    assert!(
        between.contains("stopped=147") || between.contains("stopped=148"),
        "{between:?}"
    );
    assert!(
        between.contains("icanon") && !between.contains("-icanon"),
        "{between:?}"
    );
    seat.press("q");
    seat.exit();
    let bytes = seat.seen.lock().expect("no reader panics").0.clone();
    assert_restored(&bytes);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("left=0"), "{text:?}");
    let count = |code: &str| text.matches(code).count();
    assert_eq!(
        count("\x1b[22;0t"),
        count("\x1b[23;0t"),
        "titles kept and brought back"
    );
}

#[test]
fn a_study_left_running_says_where_it_is_and_prints_as_run_does() {
    let mut seat = Seat::take(&[], &[]);
    seat.start_small();
    seat.until("training", |screen| {
        screen.contains("╭ Loss") && screen.contains("step")
    });
    seat.press("q");
    seat.until("question", |screen| screen.contains("leave it running"));
    seat.press("l");
    let screen = seat.until("words", |screen| screen.contains("shrinklab attach "));
    let file = seat.saved();
    let name = file
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    assert!(screen.replace('\n', "").contains(&name), "{screen}");
    assert_eq!(seat.exit(), 0);
    let screen = seat.screen();
    assert!(screen.contains("nearer than a twin?"), "{screen}");
    assert!(
        screen.contains("magnitude pruning 50 % + 1 epoch: "),
        "{screen}"
    );
    assert_restored(&seat.seen.lock().expect("no reader panics").0);
    assert_eq!(state(&file).outcome, Some(Outcome::Completed));
}

/// A limit on the size of files is what a full disk is.
#[cfg(target_os = "linux")]
#[test]
fn a_recording_that_was_lost_stays_on_the_screen_and_is_the_last_word() {
    let mut command = CommandBuilder::new("sh");
    let script = r#"ulimit -f 130; exec "$0""#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_shrinklab")]);
    let mut seat = Seat::before(command, &[]);
    seat.start_small();
    seat.until("loss of the recording", |screen| {
        screen.contains("not recorded")
    });
    let screen = seat.until("end", |screen| screen.contains("done in"));
    assert!(screen.contains("✗ not recorded"), "{screen}");
    seat.press("!");
    seat.until("warnings", |screen| {
        screen.contains("not recorded any more")
    });
    seat.press("q");
    assert_eq!(seat.exit(), 1);
    let screen = seat.screen().replace('\n', "");
    assert!(screen.contains("run --resume"), "{screen}");
}

/// As a shell sees it: started, and left by Ctrl-C.
#[test]
fn a_shell_gets_its_terminal_back_as_it_was() {
    let script = r#"stty -g; "$0"; echo "status=$?"; stty -g; echo over; read -r line"#;
    let mut command = CommandBuilder::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_shrinklab")]);
    let mut seat = Seat::before(command, &[]);
    // On a first start a recording plays beside the form.
    seat.until("form and recording", |screen| {
        screen.contains("Data set") && screen.contains("A recorded session")
    });
    seat.press("\x03");
    let screen = seat.until("shell", |screen| screen.contains("over"));
    let lines: Vec<&str> = screen.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 4, "the shell's own screen is back: {screen}");
    assert_eq!(lines[1], "status=0");
    assert_eq!(lines[0], lines[2], "the terminal's settings");
    let seen = seat.seen.lock().expect("no reader panics");
    assert_restored(&seen.0);
    let screen = seen.1.screen();
    assert!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste());
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
}

#[test]
fn the_demonstration_plays_and_can_be_walked() {
    let mut seat = Seat::take(&["demo"], &[]);
    seat.until("picture", |screen| {
        screen.contains("Loss") && screen.contains('▶')
    });
    seat.press(" ");
    seat.until("pause", |screen| screen.contains('‖'));
    seat.press("G");
    seat.until("end", |screen| screen.contains("done in"));
    seat.press("q");
    assert_eq!(seat.exit(), 0);
}

#[test]
fn a_study_for_a_gpu_is_handed_to_the_cuda_program() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("shrinklab");
    let built = env!("CARGO_BIN_EXE_shrinklab");
    if std::fs::hard_link(built, &program).is_err() {
        std::fs::copy(built, &program).expect("a copy");
    }
    let other = folder.path().join("shrinklab-cuda");
    let script = "#!/bin/sh\necho\necho \"$$ took over: $*\"\nwhile read -r line; do echo \"asked: $line\"; done <\"$2\"\n\
                  cat \"$2\" >taken.json\nrm \"$2\"\n";
    std::fs::write(&other, script).expect("a script");
    let mut command = CommandBuilder::new(&program);
    command.args(["--data-dir", "my data", "--no-bell"]);
    let mut seat = Seat::before(command, &[]);
    let id = seat.child.process_id().expect("it runs");
    seat.until("form", |screen| {
        screen.contains("Data set") && screen.contains("about")
    });
    seat.press("a");
    seat.go_to("Device");
    seat.press("l");
    seat.until("auto", |screen| row_at(screen).contains("auto"));
    seat.press("l");
    seat.until("cuda", |screen| row_at(screen).contains("‹ cuda ›"));
    // What may not be run is as good as absent, and said where the form is.
    seat.press("\r");
    seat.until("refusal", |screen| {
        screen.contains("lies neither") && screen.contains("‹ cuda ›")
    });
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).expect("it may run");
    seat.press("\r");
    assert_eq!(seat.exit(), 0);
    let screen = seat.screen();
    let took = format!("{id} took over: --begin ");
    assert!(screen.contains(&took), "the same process:\n{screen}");
    let flat = screen.replace('\n', "");
    assert!(flat.contains("--data-dir my data --no-bell"), "{screen}");
    assert_restored(&seat.seen.lock().expect("no reader panics").0);
    let taken = std::fs::read_to_string(seat.home.path().join("taken.json")).expect("the study");
    let study: shrinklab::spec::Study = serde_json::from_str(&taken).expect("a study");
    assert_eq!(study.device, "cuda");
}
