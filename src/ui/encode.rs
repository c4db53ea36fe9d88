//! Cells to bytes: the shortest way to tell a terminal what changed.
//!
//! ratatui's own backend ends each draw with resets and hides the cursor again, 25 bytes even when nothing changed;
//! here a frame begins and ends with plain attributes and an empty one is empty.

use std::fmt::Write as _;

use ratatui::buffer::Cell;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// Collects the bytes of one frame.
#[derive(Default)]
pub(crate) struct Encoder {
    out: String,
    /// Where the cursor stands, if we know.
    at: Option<(u16, u16)>,
    foreground: Color,
    background: Color,
    modifier: Modifier,
}

/// The modifiers in use, with the number that switches each on.
const MODIFIERS: [(Modifier, u8); 5] = [
    (Modifier::BOLD, 1),
    (Modifier::DIM, 2),
    (Modifier::ITALIC, 3),
    (Modifier::UNDERLINED, 4),
    (Modifier::REVERSED, 7),
];

impl Encoder {
    /// Wipes the screen.
    pub(crate) fn clear(&mut self) {
        self.out.push_str("\x1b[2J");
    }

    /// Sets the window's title. The caller has cleaned it.
    pub(crate) fn title(&mut self, title: &str) {
        let _ = write!(self.out, "\x1b]2;{title}\x1b\\");
    }

    /// One changed cell.
    pub(crate) fn cell(&mut self, x: u16, y: u16, cell: &Cell) {
        if self.at != Some((x, y)) {
            let _ = write!(self.out, "\x1b[{};{}H", y + 1, x + 1);
        }
        self.look(cell);
        self.out.push_str(cell.symbol());
        // After a wide character terminals disagree about where they stand.
        self.at = (cell.symbol().width() == 1).then_some((x + 1, y));
    }

    fn look(&mut self, cell: &Cell) {
        let modifier = cell.modifier
            & (Modifier::BOLD
                | Modifier::DIM
                | Modifier::ITALIC
                | Modifier::UNDERLINED
                | Modifier::REVERSED);
        let mut codes: Vec<String> = Vec::new();
        if !(self.modifier - modifier).is_empty() {
            // Switching one off costs as much as starting over.
            codes.push("0".to_owned());
            self.modifier = Modifier::empty();
            self.foreground = Color::Reset;
            self.background = Color::Reset;
        }
        for (flag, code) in MODIFIERS {
            if (modifier - self.modifier).contains(flag) {
                codes.push(code.to_string());
            }
        }
        self.modifier = modifier;
        if self.foreground != cell.fg {
            codes.push(color(cell.fg, 30));
            self.foreground = cell.fg;
        }
        if self.background != cell.bg {
            codes.push(color(cell.bg, 40));
            self.background = cell.bg;
        }
        if !codes.is_empty() {
            let _ = write!(self.out, "\x1b[{}m", codes.join(";"));
        }
    }

    /// The bytes, or `None` if nothing was said.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.out.is_empty() {
            return None;
        }
        if self.foreground != Color::Reset
            || self.background != Color::Reset
            || !self.modifier.is_empty()
        {
            self.out.push_str("\x1b[0m");
        }
        Some(self.out.into_bytes())
    }
}

/// `base` is 30 for the foreground and 40 for the background.
fn color(color: Color, base: u16) -> String {
    let plain = |n: u16| (base + n).to_string();
    let bright = |n: u16| (base + 60 + n).to_string();
    match color {
        Color::Reset => plain(9),
        Color::Black => plain(0),
        Color::Red => plain(1),
        Color::Green => plain(2),
        Color::Yellow => plain(3),
        Color::Blue => plain(4),
        Color::Magenta => plain(5),
        Color::Cyan => plain(6),
        Color::Gray => plain(7),
        Color::DarkGray => bright(0),
        Color::LightRed => bright(1),
        Color::LightGreen => bright(2),
        Color::LightYellow => bright(3),
        Color::LightBlue => bright(4),
        Color::LightMagenta => bright(5),
        Color::LightCyan => bright(6),
        Color::White => bright(7),
        Color::Indexed(index) => format!("{};5;{index}", base + 8),
        Color::Rgb(r, g, b) => format!("{};2;{r};{g};{b}", base + 8),
    }
}
