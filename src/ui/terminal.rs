//! The terminal itself: entering and leaving the alternate screen, and getting frames out without ever waiting.
//!
//! A frame is the difference between what the terminal shows and what it should show, encoded into one block of bytes,
//! bracketed as a synchronized update (`CSI ? 2026 h` to `l`), and written by a thread of its own in one call.
//! The thread's mailbox holds one frame. While it is busy no further difference is computed, so a slow line costs
//! skipped frames and nothing else, and the next difference is against what was really sent.
//! A frame without a difference writes nothing at all.

use std::io;
use std::thread;

use crossbeam_channel::Receiver;
use crossterm::terminal as raw;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::encode::Encoder;
use super::writer::write_all;
pub use super::writer::{Report, Writer};

/// Save the title, which [`LEAVE`] brings back.
const KEEP_TITLE: &str = "\x1b[22;0t";
/// Alternate screen, hide the cursor, report the mouse's buttons and wheel, bracket pasted text.
const ENTER: &str = "\x1b[?1049h\x1b[2J\x1b[?25l\x1b[?1000h\x1b[?1006h\x1b[?2004h";
/// Everything [`KEEP_TITLE`] and [`ENTER`] did, undone, after closing a synchronized update that may be open.
const LEAVE: &str =
    "\x1b[?2026l\x1b[?2004l\x1b[?1006l\x1b[?1000l\x1b[0m\x1b[?25h\x1b[?1049l\x1b[23;0t";
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// It is on its way.
    Sent,
    /// The terminal shows it already; nothing was written.
    Unchanged,
    /// The terminal has not taken the last one yet; try again after [`Report::Ready`].
    Busy,
    /// Nobody is there any more.
    Vanished,
}

/// Turns buffers into frames: it remembers what the terminal shows.
#[derive(Default)]
pub struct Painter {
    shown: Option<Buffer>,
    title: String,
}

impl Painter {
    /// The bytes that lead from what is shown to `next`, or `None` if there are none.
    /// Call it only when the bytes will be sent.
    pub fn frame(&mut self, next: &Buffer, title: &str) -> Option<Vec<u8>> {
        let mut encoder = Encoder::default();
        match &self.shown {
            Some(shown) if shown.area == next.area => {
                for (x, y, cell) in shown.diff_iter(next) {
                    encoder.cell(x, y, cell);
                }
            }
            _ => {
                encoder.clear();
                for (x, y, cell) in Buffer::empty(next.area).diff_iter(next) {
                    encoder.cell(x, y, cell);
                }
            }
        }
        if self.title != title {
            title.clone_into(&mut self.title);
            encoder.title(&super::text::clean(title));
        }
        let body = encoder.finish()?;
        self.shown = Some(next.clone());
        let mut frame = Vec::with_capacity(body.len() + BEGIN.len() + END.len());
        frame.extend_from_slice(BEGIN.as_bytes());
        frame.extend_from_slice(&body);
        frame.extend_from_slice(END.as_bytes());
        Some(frame)
    }

    /// Forgets what is shown, so that the next frame draws everything.
    pub fn forget(&mut self) {
        self.shown = None;
        self.title.clear();
    }
}

/// The alternate screen, for as long as this value lives.
pub struct Terminal {
    writer: Writer,
    painter: Painter,
    bell: bool,
    /// Given back until the process goes on.
    is_suspended: bool,
}

impl Terminal {
    /// Enters raw mode and the alternate screen, and makes sure that a panic of this thread leaves them first.
    ///
    /// # Errors
    /// When standard output is no terminal, or it refuses.
    pub fn enter() -> io::Result<Self> {
        let writer = Writer::start(output()?)?;
        restore_on_panic();
        raw::enable_raw_mode()?;
        if let Err(error) = enter(true) {
            let _ = raw::disable_raw_mode();
            return Err(error);
        }
        Ok(Self {
            writer,
            painter: Painter::default(),
            bell: false,
            is_suspended: false,
        })
    }

    /// Columns and lines.
    ///
    /// # Errors
    /// When the terminal does not say.
    pub fn size() -> io::Result<(u16, u16)> {
        raw::size()
    }

    /// Draws if the terminal is ready for it and anything changed.
    pub fn draw(
        &mut self,
        (width, height): (u16, u16),
        title: &str,
        paint: impl FnOnce(Rect, &mut Buffer),
    ) -> Drawn {
        if self.writer.has_vanished() {
            return Drawn::Vanished;
        }
        if !self.writer.is_ready() {
            return Drawn::Busy;
        }
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        paint(area, &mut buffer);
        let frame = self.painter.frame(&buffer, title);
        let frame = match (frame, std::mem::take(&mut self.bell)) {
            (None, false) => return Drawn::Unchanged,
            (frame, bell) => {
                let mut frame = frame.unwrap_or_default();
                if bell {
                    frame.push(0x07);
                }
                frame
            }
        };
        if self.writer.send(frame) {
            Drawn::Sent
        } else {
            // The thread ended between the two questions; what was not sent is not shown.
            self.painter.forget();
            Drawn::Vanished
        }
    }

    /// Rings with the next frame.
    pub fn ring(&mut self) {
        self.bell = true;
    }

    /// What the writer thread says: wait on it beside keys and facts.
    pub fn reports(&self) -> Receiver<Report> {
        self.writer.reports().clone()
    }

    /// Gives the terminal back for a while, before the process is stopped by SIGTSTP.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn suspend(&mut self) -> io::Result<()> {
        self.is_suspended = true;
        leave()
    }

    /// Takes it again after SIGCONT; the next frame draws everything. Whoever stopped the process without asking it
    /// may have changed the terminal's settings, so they are made anew.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn resume(&mut self) -> io::Result<()> {
        raw::disable_raw_mode()?;
        raw::enable_raw_mode()?;
        self.painter.forget();
        enter(std::mem::take(&mut self.is_suspended))
    }

    /// Whether the terminal is gone.
    pub fn has_vanished(&self) -> bool {
        self.writer.has_vanished()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !self.writer.has_vanished() {
            let _ = leave();
        }
    }
}

/// Enters the alternate screen; the title is kept once for each time that it is brought back.
fn enter(keep_title: bool) -> io::Result<()> {
    let keep = if keep_title { KEEP_TITLE } else { "" };
    write_all(&mut output()?, format!("{keep}{ENTER}").as_bytes())
}

/// Leaves the alternate screen and raw mode. Safe to call at any time, from any thread, more than once.
///
/// # Errors
/// When the terminal refuses.
pub fn leave() -> io::Result<()> {
    let written = output().and_then(|mut out| write_all(&mut out, LEAVE.as_bytes()));
    raw::disable_raw_mode()?;
    written
}

/// Standard output past the lock and the line buffer of [`io::stdout`], so that a panic can restore the terminal while
/// the writer thread is inside a write.
#[cfg(unix)]
fn output() -> io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    Ok(std::fs::File::from(
        io::stdout().as_fd().try_clone_to_owned()?,
    ))
}

#[cfg(not(unix))]
fn output() -> io::Result<io::Stdout> {
    Ok(io::stdout())
}

/// A panic of the calling thread restores the terminal before its message is printed.
/// A panic of another thread prints nothing: the lab catches its own and states them as facts, and a message would
/// destroy the picture.
fn restore_on_panic() {
    let screen = thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().id() == screen {
            let _ = leave();
            before(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use ratatui::style::{Color, Modifier, Style};

    use super::*;

    fn buffer(words: &str, style: Style) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 2));
        buffer.set_string(2, 1, words, style);
        buffer
    }

    #[test]
    fn a_frame_without_a_change_writes_nothing() {
        let mut painter = Painter::default();
        assert!(painter.frame(&buffer("one", Style::new()), "t").is_some());
        assert_eq!(painter.frame(&buffer("one", Style::new()), "t"), None);
        let frame = painter.frame(&buffer("onx", Style::new()), "t").unwrap();
        assert_eq!(
            String::from_utf8(frame).unwrap(),
            "\x1b[?2026h\x1b[2;5Hx\x1b[?2026l"
        );
    }

    /// The terminal emulator that the tests of the binary use shows what the buffer holds, after any change.
    #[test]
    fn an_emulator_shows_what_the_buffer_holds() {
        let mut painter = Painter::default();
        let size = |n: u16| n.try_into().unwrap();
        let mut emulator = vt100::Parser::new(size(2), size(20), 0);
        let bold = Style::new()
            .fg(Color::Indexed(75))
            .add_modifier(Modifier::BOLD);
        for (words, style) in [
            ("first 日本", Style::new()),
            ("second", bold),
            ("sec⣿nd", Style::new().fg(Color::Indexed(209))),
            ("third", Style::new().add_modifier(Modifier::REVERSED)),
            ("", Style::new()),
        ] {
            let next = buffer(words, style);
            if let Some(frame) = painter.frame(&next, "") {
                emulator.process(&frame);
            }
            let shown: Vec<String> = emulator.screen().rows(0, 20).collect();
            assert_eq!(
                shown.join("\n").trim_end(),
                super::super::export::plain_text(&next).trim_end()
            );
            if let Some(cell) = emulator.screen().cell(1, 2).filter(|_| !words.is_empty()) {
                let asked = next.cell((2, 1)).unwrap();
                assert_eq!(cell.bold(), asked.modifier.contains(Modifier::BOLD));
                assert_eq!(cell.inverse(), asked.modifier.contains(Modifier::REVERSED));
                let color = match asked.fg {
                    Color::Indexed(index) => vt100::Color::Idx(index),
                    _ => vt100::Color::Default,
                };
                assert_eq!(cell.fgcolor(), color);
            }
        }
    }
}
