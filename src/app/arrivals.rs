//! What comes from outside while the screen is shown: keys, clicks and sizes from the terminal, and signals.

use anyhow::Result;
use crossbeam_channel::{Receiver, unbounded};
use crossterm::event::Event as Input;

/// Keys and clicks, read by a thread of their own for as long as this value lives. The channel ends when the terminal
/// does.
pub(super) struct Keys {
    pub found: Receiver<Input>,
    #[cfg(unix)]
    _until: std::os::unix::net::UnixStream,
}

impl Keys {
    /// Begins to read.
    ///
    /// # Errors
    /// When the system gives no thread, or the terminal cannot be read.
    pub(super) fn listen() -> Result<Self> {
        let (find, found) = unbounded();
        let thread = std::thread::Builder::new().name("keys".into());
        #[cfg(unix)]
        {
            let (until, ended) = std::os::unix::net::UnixStream::pair()?;
            let line = line::Line::open(ended)?;
            thread.spawn(move || line.read(|input| find.send(input).is_ok()))?;
            Ok(Self {
                found,
                _until: until,
            })
        }
        #[cfg(not(unix))]
        {
            thread.spawn(move || {
                while let Ok(input) = crossterm::event::read() {
                    if find.send(input).is_err() {
                        break;
                    }
                }
            })?;
            Ok(Self { found })
        }
    }
}

/// The terminal's line. It is waited on together with the end of this program's interest, since a thread that is inside
/// a read cannot be called off, and a process in the background that reads is stopped.
#[cfg(unix)]
mod line {
    use std::fs::File;
    use std::io::{self, ErrorKind, IsTerminal as _, Read as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use crossterm::event::Event as Input;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    use crate::ui::input::Decoder;

    /// How long the rest of a key that came in pieces is waited for: 30 ms, less than anybody notices.
    const PIECES: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 30_000_000,
    };

    pub(super) struct Line {
        terminal: File,
        /// Its other end closes when nobody listens any more.
        ended: UnixStream,
    }

    /// What came of waiting.
    enum Waited {
        ForBytes,
        InVain,
        /// The terminal is gone, or nobody listens.
        ToTheEnd,
    }

    impl Line {
        /// Standard input if it is a terminal, else the process's own.
        pub(super) fn open(ended: UnixStream) -> io::Result<Self> {
            let input = io::stdin();
            let terminal = if input.is_terminal() {
                input.as_fd().try_clone_to_owned()?.into()
            } else {
                File::open("/dev/tty")?
            };
            Ok(Self { terminal, ended })
        }

        /// Passes on what is typed until nobody takes it or the terminal is gone.
        pub(super) fn read(mut self, take: impl Fn(Input) -> bool) {
            let mut decoder = Decoder::default();
            let mut bytes = [0; 4096];
            loop {
                let found = match self.wait(decoder.is_waiting()) {
                    Waited::ForBytes => match self.terminal.read(&mut bytes) {
                        // A terminal that was hung up is at its end.
                        Ok(0) => return,
                        Ok(count) => decoder.take(&bytes[..count]),
                        Err(error) if is_passing(&error) => continue,
                        Err(_) => return,
                    },
                    Waited::InVain => decoder.flush(),
                    Waited::ToTheEnd => return,
                };
                if !found.into_iter().all(&take) {
                    return;
                }
            }
        }

        fn wait(&self, briefly: bool) -> Waited {
            let patience = briefly.then_some(&PIECES);
            loop {
                let mut ends = [
                    PollFd::new(&self.terminal, PollFlags::IN),
                    PollFd::new(&self.ended, PollFlags::IN),
                ];
                match poll(&mut ends, patience) {
                    Err(Errno::INTR) => {}
                    Err(_) => return Waited::ToTheEnd,
                    Ok(0) => return Waited::InVain,
                    Ok(_) if !ends[1].revents().is_empty() => return Waited::ToTheEnd,
                    // What was hung up is readable too, up to its end.
                    Ok(_) => return Waited::ForBytes,
                }
            }
        }
    }

    fn is_passing(error: &io::Error) -> bool {
        matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
    }
}

/// Signals that concern the screen.
///
/// # Errors
/// When the system gives no thread, or takes no handler.
pub(super) fn signals() -> Result<Receiver<i32>> {
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGCONT, SIGWINCH])?;
    let (found, caught) = unbounded();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if found.send(signal).is_err() {
                    break;
                }
            }
        })?;
    Ok(caught)
}
