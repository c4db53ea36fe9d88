//! `shrinklab bench screen`: what the screen costs a training, and how soon it answers a key.
//!
//! The program is started again on a pseudo-terminal of 120 x 40, where it trains and draws as it always does.
//! First a training in peace, for the bytes that it draws; then keys: a letter is typed into the note's line and timed
//! until the terminal gets it. Then a second training, whose reports reach recorder and screen in every other second
//! alone, for the slow-down: seconds with them beside the seconds without them before and after.
//! Beside it stands the share of the processors that all threads but the lab's use, where the system says it (Linux);
//! it is no estimate from a difference, and so knows no noise.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Serialize;

use super::show::{Show, Source};
use super::studio::{Studio, checked, settle};
use crate::cli::Ending;
use crate::lab;
use crate::lab::bench::{Alternating, Stretch, slow_down};
use crate::lab::cache::Cache;
use crate::lab::run::Means;
use crate::lab::statistics::quantile;
use crate::lab::worker::THREAD;
use crate::spec::{KnobValue, Method, Setting, Study};

/// Columns and rows of the pseudo-terminal.
const SIZE: (u16, u16) = (120, 40);

/// Keys that are timed; the 99th percentile of 200 rests on the two slowest.
const KEYS: usize = 200;

/// Typed into the note's line: it stands nowhere else on the screen.
const LETTER: &str = "\u{436}";

/// Letters that a note gets before it is thrown away: fewer than fit in its line.
const NOTE: usize = 40;

/// Milliseconds between two keys: as fast as people type, and no divisor of the time between two frames.
const BETWEEN_KEYS: std::ops::Range<u64> = 40..90;

/// How long the bytes of a training in peace are counted.
const PEACE: Duration = Duration::from_secs(5);

/// A training that draws nothing for so long is not at work.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is asked.
pub(crate) struct Asked {
    pub architecture: String,
    pub threads: u32,
    /// How long the training with and without listeners goes on.
    pub seconds: Duration,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub architecture: String,
    pub threads: u32,
    pub columns: u16,
    pub rows: u16,
    pub keys: usize,
    pub key_p50_ms: f64,
    pub key_p99_ms: f64,
    pub bytes_per_s: f64,
    /// Share of its time by which a step takes longer, and its 95 % interval.
    pub slow_down: f64,
    pub slow_down_low: f64,
    pub slow_down_high: f64,
    /// Seconds with and without listeners that were compared.
    pub stretches: usize,
    /// Share of the threads' time that all but the lab's threads used.
    pub screen_cpu_share: Option<f64>,
}

/// Measures.
///
/// # Errors
/// When the system has no pseudo-terminal to give, or the training ends before it was measured.
pub(crate) fn screen(asked: &Asked) -> Result<Found> {
    let folder = tempfile::tempdir()?;
    let mut seat = Seat::take(asked, folder.path(), "heard")?;
    seat.settle()?;
    let (bytes_per_s, screen_cpu_share) = seat.peace(asked.threads);
    let mut milliseconds = seat.type_letters()?;
    seat.leave()?;
    milliseconds.sort_by(f64::total_cmp);

    let mut seat = Seat::take(asked, folder.path(), "alternating")?;
    seat.settle()?;
    seat.watch(asked.seconds);
    let stretches: Vec<Stretch> = seat
        .leave()?
        .lines()
        .filter_map(|line| {
            let (heard, seconds) = line.split_once(' ')?;
            Some(Stretch {
                heard: heard.parse().ok()?,
                seconds_per_step: seconds.parse().ok()?,
            })
        })
        .collect();
    let (slow_down, (low, high)) = slow_down(&stretches).ok_or_else(|| {
        anyhow!(
            "{} stretches of training are too few to compare; more --seconds give more",
            stretches.len()
        )
    })?;
    Ok(Found {
        architecture: asked.architecture.clone(),
        threads: asked.threads,
        columns: SIZE.0,
        rows: SIZE.1,
        keys: milliseconds.len(),
        key_p50_ms: rounded(quantile(&milliseconds, 0.5), 1e3),
        key_p99_ms: rounded(quantile(&milliseconds, 0.99), 1e3),
        bytes_per_s: rounded(bytes_per_s, 10.0),
        slow_down: rounded(slow_down, 1e6),
        slow_down_low: rounded(low, 1e6),
        slow_down_high: rounded(high, 1e6),
        stretches: stretches.len(),
        screen_cpu_share: screen_cpu_share.map(|share| rounded(share, 1e6)),
    })
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The program at work on a pseudo-terminal, and what it writes there.
struct Seat {
    child: Child,
    keys: File,
    /// What was written, and when it arrived.
    seen: Receiver<(Instant, Vec<u8>)>,
    session: std::path::PathBuf,
}

impl Seat {
    fn take(asked: &Asked, folder: &Path, listening: &str) -> Result<Self> {
        let (master, slave) = pseudo_terminal().context("a pseudo-terminal")?;
        let session = folder.join(format!("{listening}.jsonl"));
        let child = Process::new(std::env::current_exe()?)
            .args(["bench", "seat", "--architecture", &asked.architecture])
            .args(["--threads", &asked.threads.to_string()])
            .args(["--listening", listening, "--session"])
            .arg(&session)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave))
            .stderr(Stdio::piped())
            .spawn()
            .context("the program on a pseudo-terminal")?;
        let mut output = File::from(master.try_clone()?);
        let (found, seen) = unbounded();
        std::thread::Builder::new()
            .name("seat".into())
            .spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                // A terminal that nobody writes to any more answers with an error.
                while let Ok(n @ 1..) = output.read(&mut bytes) {
                    if found.send((Instant::now(), bytes[..n].to_vec())).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            child,
            keys: File::from(master),
            seen,
            session,
        })
    }

    /// Waits until it trains, and a little longer.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&self.session)
            .is_ok_and(|text| text.contains("\"steps-trained\""))
        {
            if Instant::now() > deadline || self.child.try_wait()?.is_some() {
                let said = self.end()?;
                bail!("the program did not train on its pseudo-terminal: {said}");
            }
            self.watch(Duration::from_millis(50));
        }
        self.watch(Duration::from_secs(2));
        Ok(())
    }

    /// Looks on for a while; how many bytes were written.
    fn watch(&self, time: Duration) -> usize {
        let deadline = Instant::now() + time;
        let mut bytes = 0;
        while let Ok((_, written)) = self.seen.recv_deadline(deadline) {
            bytes += written.len();
        }
        // Where the terminal is gone there is nothing to wait for, but whoever asked wants the time to pass.
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        bytes
    }

    /// Bytes per second while nobody types, and the share of the threads' time that is not the lab's.
    fn peace(&self, threads: u32) -> (f64, Option<f64>) {
        let (before, began) = (self.others_time(), Instant::now());
        let bytes = self.watch(PEACE);
        let seconds = began.elapsed().as_secs_f64();
        let share = before
            .zip(self.others_time())
            .map(|(before, after)| (after - before) / seconds / f64::from(threads));
        (bytes as f64 / seconds, share)
    }

    /// Seconds of processor that all threads but the lab's have used.
    fn others_time(&self) -> Option<f64> {
        let folder = format!("/proc/{}/task", self.child.id());
        let mut times = BTreeMap::new();
        for task in std::fs::read_dir(folder).ok()?.flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).ok();
            let (Some(name), Some(used)) = (read("comm"), read("schedstat")) else {
                continue;
            };
            let nanoseconds: f64 = used.split_whitespace().next()?.parse().ok()?;
            *times.entry(name.starts_with(THREAD)).or_insert(0.0) += nanoseconds / 1e9;
        }
        times.get(&false).copied()
    }

    /// Milliseconds from each letter typed to the letter shown.
    fn type_letters(&mut self) -> Result<Vec<f64>> {
        let mut milliseconds = Vec::new();
        for key in 0..KEYS {
            if key % NOTE == 0 {
                // The note before is thrown away, and a new one begun.
                for word in ["\x1b", "n"] {
                    self.keys.write_all(word.as_bytes())?;
                    self.watch(Duration::from_millis(300));
                }
            }
            let span = BETWEEN_KEYS.end - BETWEEN_KEYS.start;
            // 17 and 50 have no common divisor: every pause comes about equally often.
            let pause = BETWEEN_KEYS.start + key as u64 * 17 % span;
            self.watch(Duration::from_millis(pause));
            let typed = Instant::now();
            self.keys.write_all(LETTER.as_bytes())?;
            milliseconds.push(self.shown(typed)?.as_secs_f64() * 1e3);
        }
        Ok(milliseconds)
    }

    /// How long the letter took.
    fn shown(&self, typed: Instant) -> Result<Duration> {
        let letter = LETTER.as_bytes();
        let mut bytes = Vec::new();
        loop {
            let (at, written) = self
                .seen
                .recv_deadline(typed + PATIENCE)
                .map_err(|_| anyhow!("a key that was typed never showed on the screen"))?;
            bytes.extend(written);
            if bytes.windows(letter.len()).any(|window| window == letter) {
                return Ok(at - typed);
            }
        }
    }

    /// Stops the study; what the program says at its end.
    fn leave(&mut self) -> Result<String> {
        if let Some(child) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            kill_process(child, Signal::TERM)?;
        }
        self.end()
    }

    fn end(&mut self) -> Result<String> {
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut said)?;
        }
        self.child.wait()?;
        Ok(said)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // After an ordinary end there is nobody to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both ends.
fn pseudo_terminal() -> Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::io::{FdFlags, fcntl_setfd};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    // Held by the child, too, it would never report the child's end.
    fcntl_setfd(&master, FdFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = open(name.as_c_str(), flags, Mode::empty())?;
    let (ws_col, ws_row) = SIZE;
    let size = Winsize {
        ws_col,
        ws_row,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size)?;
    Ok((master, slave))
}

/// The program on the pseudo-terminal: a training without end under the screen as it always is.
///
/// # Errors
/// As the screen's.
pub(crate) fn seat(
    architecture: &str,
    threads: u32,
    session: &Path,
    alternating: bool,
) -> Result<Ending> {
    // The pseudo-terminal becomes the process's own, as it would under a shell.
    setsid()?;
    ioctl_tiocsctty(std::io::stdin())?;
    let catalog = lab::catalog();
    let mut study = Study {
        threads: Some(threads),
        test_limit: Some(100),
        ..Study::default()
    };
    let reference = &mut study.references[0];
    reference.architecture = Method::plain(architecture);
    reference.training = Setting::default()
        .with("epochs", KnobValue::Integer(10_000))
        // Small enough that no number of steps makes the loss diverge; the curves move all the same.
        .with("learning-rate", KnobValue::Real(0.01));
    reference.branches.clear();
    reference.twins = 0;
    study.suite.probes = vec![Method::plain("accuracy")];
    let study = checked(settle(study)?, &catalog)?;
    let means = Means {
        folders: Vec::new(),
        cache: Cache::off(),
        save: None,
    };
    let (commands, listening) = unbounded();
    let stretches = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&stretches);
    let studio = Studio::begin_through(
        study,
        &catalog,
        Some(session),
        means.clone(),
        listening,
        move |facts| {
            if alternating {
                Box::new(Alternating::new(facts, found))
            } else {
                Box::new(facts)
            }
        },
    )?;
    let ending = Show::new(Source::Begun(Box::new(studio), commands), means, false)?.run()?;
    let stretches = stretches
        .lock()
        .map_err(|_| anyhow!("the lab ended in a panic"))?;
    let mut errors = std::io::stderr().lock();
    for stretch in stretches.iter() {
        writeln!(errors, "{} {}", stretch.heard, stretch.seconds_per_step)?;
    }
    Ok(ending)
}
