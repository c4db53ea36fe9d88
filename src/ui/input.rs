//! What a terminal sends, as keys, clicks and pasted text.
//!
//! crossterm's types, and not its reader: that one never comes back from a terminal that was hung up, leaves what is
//! beyond a kilobyte of pasted text lying until the next key, and loses a key that meets a new size.
//! The codes are those of xterm (XTerm Control Sequences, "PC-Style Function Keys" and "Extended coordinates") and of
//! the Linux console.

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

/// Longer than any sequence that means something.
const LONGEST: usize = 64;
/// More pasted text than this is cut off.
const MOST_PASTED: usize = 1 << 20;
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// Turns bytes into events, however they were cut into pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    waiting: Vec<u8>,
    pasted: Option<Vec<u8>>,
}

/// What the first bytes are.
enum First {
    /// An event, or nothing that is known, of so many bytes.
    Whole(Option<Event>, usize),
    PasteBegins(usize),
    /// The beginning of something.
    Part,
}

impl Decoder {
    /// Takes bytes, and answers what is complete.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.waiting.extend_from_slice(bytes);
        let mut found = Vec::new();
        while !self.waiting.is_empty() {
            if self.pasted.is_some() {
                match self.paste() {
                    Some(event) => found.push(event),
                    None => break,
                }
                continue;
            }
            let used = match first(&self.waiting) {
                First::Whole(event, used) => {
                    found.extend(event);
                    used
                }
                First::PasteBegins(used) => {
                    self.pasted = Some(Vec::new());
                    used
                }
                First::Part if self.waiting.len() > LONGEST => 1,
                First::Part => break,
            };
            self.waiting.drain(..used);
        }
        found
    }

    /// Whether a moment should be waited for the rest of a key.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.pasted.is_none()
    }

    /// Nothing more came: an escape alone was the key, and so was what follows one.
    pub fn flush(&mut self) -> Vec<Event> {
        if !self.is_waiting() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        match waiting[..] {
            [0x1b] => vec![key(KeyCode::Esc, KeyModifiers::NONE)],
            [0x1b, letter] if letter.is_ascii_graphic() => {
                vec![key(KeyCode::Char(char::from(letter)), KeyModifiers::ALT)]
            }
            _ => Vec::new(),
        }
    }

    /// Moves what was pasted aside; the text when its end has come.
    fn paste(&mut self) -> Option<Event> {
        let pasted = self.pasted.as_mut()?;
        let end = self
            .waiting
            .windows(PASTE_ENDS.len())
            .position(|window| window == PASTE_ENDS);
        // What could be the beginning of the end stays.
        let until = end.unwrap_or(self.waiting.len().saturating_sub(PASTE_ENDS.len() - 1));
        let room = MOST_PASTED - pasted.len();
        pasted.extend(self.waiting.drain(..until).take(room));
        end?;
        self.waiting.drain(..PASTE_ENDS.len());
        let text = self.pasted.take()?;
        Some(Event::Paste(String::from_utf8_lossy(&text).into_owned()))
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Event {
    Event::Key(KeyEvent::new(code, modifiers))
}

fn first(bytes: &[u8]) -> First {
    let plain = |code| First::Whole(Some(key(code, KeyModifiers::NONE)), 1);
    let control = |letter: u8| {
        let code = KeyCode::Char(char::from(letter));
        First::Whole(Some(key(code, KeyModifiers::CONTROL)), 1)
    };
    match bytes[0] {
        0x1b => escape(bytes),
        b'\r' => plain(KeyCode::Enter),
        b'\t' => plain(KeyCode::Tab),
        0x7f => plain(KeyCode::Backspace),
        0 => control(b' '),
        letter @ 1..=0x1a => control(letter - 1 + b'a'),
        digit @ 0x1c..=0x1f => control(digit - 0x1c + b'4'),
        _ => letter(bytes),
    }
}

/// A letter in UTF-8.
fn letter(bytes: &[u8]) -> First {
    let length = match bytes[0] {
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        // No letter begins so.
        _ => return First::Whole(None, 1),
    };
    let here = &bytes[..length.min(bytes.len())];
    match std::str::from_utf8(here) {
        Ok(text) => {
            let letter = text.chars().next().map(|letter| {
                let shift = if letter.is_uppercase() {
                    KeyModifiers::SHIFT
                } else {
                    KeyModifiers::NONE
                };
                key(KeyCode::Char(letter), shift)
            });
            First::Whole(letter, length)
        }
        Err(error) if error.error_len().is_none() => First::Part,
        Err(_) => First::Whole(None, 1),
    }
}

fn escape(bytes: &[u8]) -> First {
    let Some(next) = bytes.get(1) else {
        return First::Part;
    };
    match next {
        b'[' => sequence(bytes),
        b'O' => match bytes.get(2) {
            None => First::Part,
            Some(last) => {
                let code = function(*last);
                First::Whole(code.map(|code| key(code, KeyModifiers::NONE)), 3)
            }
        },
        // Two escapes: the first was a key.
        0x1b => First::Whole(Some(key(KeyCode::Esc, KeyModifiers::NONE)), 1),
        _ => match first(&bytes[1..]) {
            First::Whole(Some(Event::Key(mut pressed)), used) => {
                pressed.modifiers |= KeyModifiers::ALT;
                First::Whole(Some(Event::Key(pressed)), used + 1)
            }
            First::Whole(other, used) => First::Whole(other, used + 1),
            other => other,
        },
    }
}

/// `ESC [`, parameters, and a last byte that says what it is.
fn sequence(bytes: &[u8]) -> First {
    // The Linux console has `ESC [ [ A` for F1.
    if bytes.get(2) == Some(&b'[') {
        return match bytes.get(3) {
            None => First::Part,
            Some(last @ b'A'..=b'E') => {
                let code = KeyCode::F(last - b'A' + 1);
                First::Whole(Some(key(code, KeyModifiers::NONE)), 4)
            }
            Some(_) => First::Whole(None, 4),
        };
    }
    let Some(length) = bytes[2..]
        .iter()
        .position(|byte| (0x40..=0x7e).contains(byte))
    else {
        return First::Part;
    };
    let (parameters, last) = (&bytes[2..2 + length], bytes[2 + length]);
    let used = length + 3;
    if let Some(click) = parameters.strip_prefix(b"<") {
        return First::Whole(mouse(click, last), used);
    }
    let numbers = numbers(parameters);
    let held = modifiers(numbers.get(1).copied().unwrap_or(1));
    let code = match last {
        b'Z' => Some(KeyCode::BackTab),
        b'~' => match numbers.first() {
            Some(200) => return First::PasteBegins(used),
            Some(1 | 7) => Some(KeyCode::Home),
            Some(2) => Some(KeyCode::Insert),
            Some(3) => Some(KeyCode::Delete),
            Some(4 | 8) => Some(KeyCode::End),
            Some(5) => Some(KeyCode::PageUp),
            Some(6) => Some(KeyCode::PageDown),
            // There are gaps after F5, F10 and F14.
            Some(n @ 11..=15) => Some(KeyCode::F(*n as u8 - 10)),
            Some(n @ 17..=21) => Some(KeyCode::F(*n as u8 - 11)),
            Some(n @ 23..=26) => Some(KeyCode::F(*n as u8 - 12)),
            _ => None,
        },
        b'I' => return First::Whole(Some(Event::FocusGained), used),
        b'O' => return First::Whole(Some(Event::FocusLost), used),
        other => function(other),
    };
    First::Whole(code.map(|code| key(code, held)), used)
}

/// The last byte of a key without a number.
fn function(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'M' => KeyCode::Enter,
        b'P'..=b'S' => KeyCode::F(last - b'P' + 1),
        _ => return None,
    })
}

/// `1;5` as numbers; what is none is 0.
fn numbers(parameters: &[u8]) -> Vec<u32> {
    parameters
        .split(|byte| *byte == b';')
        .map(|digits| {
            std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0)
        })
        .collect()
}

/// 1 and a bit for each key that is held.
fn modifiers(number: u32) -> KeyModifiers {
    let bits = number.saturating_sub(1);
    [
        (1, KeyModifiers::SHIFT),
        (2, KeyModifiers::ALT),
        (4, KeyModifiers::CONTROL),
    ]
    .into_iter()
    .filter(|(bit, _)| bits & bit != 0)
    .fold(KeyModifiers::NONE, |all, (_, held)| all | held)
}

/// `button;column;row`, counted from 1, and `M` for pressed or `m` for let go.
fn mouse(parameters: &[u8], last: u8) -> Option<Event> {
    let [what, column, row] = numbers(parameters)[..] else {
        return None;
    };
    let button = match what & 3 {
        0 => Some(MouseButton::Left),
        1 => Some(MouseButton::Middle),
        2 => Some(MouseButton::Right),
        _ => None,
    };
    let (wheel, motion, pressed) = (what & 64 != 0, what & 32 != 0, last == b'M');
    let kind = match (button, wheel, motion, pressed) {
        (Some(MouseButton::Left), true, ..) => MouseEventKind::ScrollUp,
        (Some(MouseButton::Middle), true, ..) => MouseEventKind::ScrollDown,
        (Some(MouseButton::Right), true, ..) => MouseEventKind::ScrollLeft,
        (None, true, ..) => MouseEventKind::ScrollRight,
        (Some(button), _, true, _) => MouseEventKind::Drag(button),
        (Some(button), _, _, true) => MouseEventKind::Down(button),
        (Some(button), ..) => MouseEventKind::Up(button),
        (None, ..) => MouseEventKind::Moved,
    };
    let cell = |n: u32| u16::try_from(n).ok()?.checked_sub(1);
    Some(Event::Mouse(MouseEvent {
        kind,
        column: cell(column)?,
        row: cell(row)?,
        // Shift, alt and control are bits 2 to 4 here.
        modifiers: modifiers(((what >> 2) & 7) + 1),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: KeyModifiers = KeyModifiers::NONE;
    const ALT: KeyModifiers = KeyModifiers::ALT;
    const CONTROL: KeyModifiers = KeyModifiers::CONTROL;
    const SHIFT: KeyModifiers = KeyModifiers::SHIFT;

    #[test]
    fn keys_are_what_xterm_says() {
        use KeyCode::{Char, F};
        for (bytes, code, held) in [
            ("a", Char('a'), NONE),
            ("Ä", Char('Ä'), SHIFT),
            ("日", Char('日'), NONE),
            ("🦀", Char('🦀'), NONE),
            ("\r", KeyCode::Enter, NONE),
            ("\t", KeyCode::Tab, NONE),
            ("\x1b[Z", KeyCode::BackTab, NONE),
            ("\x7f", KeyCode::Backspace, NONE),
            ("\x03", Char('c'), CONTROL),
            ("\x1a", Char('z'), CONTROL),
            ("\x13", Char('s'), CONTROL),
            ("\0", Char(' '), CONTROL),
            ("\x1bx", Char('x'), ALT),
            ("\x1b\x03", Char('c'), ALT | CONTROL),
            ("\x1b[A", KeyCode::Up, NONE),
            ("\x1bOB", KeyCode::Down, NONE),
            ("\x1b[1;5C", KeyCode::Right, CONTROL),
            ("\x1b[1;2D", KeyCode::Left, SHIFT),
            ("\x1b[H", KeyCode::Home, NONE),
            ("\x1b[4~", KeyCode::End, NONE),
            ("\x1b[3~", KeyCode::Delete, NONE),
            ("\x1b[5~", KeyCode::PageUp, NONE),
            ("\x1b[6;3~", KeyCode::PageDown, ALT),
            ("\x1bOP", F(1), NONE),
            ("\x1b[[B", F(2), NONE),
            ("\x1b[13~", F(3), NONE),
            ("\x1b[15~", F(5), NONE),
            ("\x1b[17~", F(6), NONE),
            ("\x1b[21~", F(10), NONE),
            ("\x1b[24;2~", F(12), SHIFT),
        ] {
            let mut decoder = Decoder::default();
            assert_eq!(
                decoder.take(bytes.as_bytes()),
                [key(code, held)],
                "{bytes:?}"
            );
            assert!(!decoder.is_waiting(), "{bytes:?}");
        }
    }

    #[test]
    fn an_escape_alone_is_a_key_when_nothing_follows() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(b"\x1b"), []);
        assert!(decoder.is_waiting());
        assert_eq!(decoder.flush(), [key(KeyCode::Esc, NONE)]);
        assert_eq!(decoder.flush(), []);
        assert_eq!(decoder.take(b"\x1b\x1b"), [key(KeyCode::Esc, NONE)]);
        assert_eq!(decoder.flush(), [key(KeyCode::Esc, NONE)]);
        // It came in two pieces.
        assert_eq!(decoder.take(b"\x1b["), []);
        assert_eq!(decoder.take(b"A"), [key(KeyCode::Up, NONE)]);
        assert_eq!(decoder.take(b"\x1b["), []);
        assert_eq!(decoder.flush(), [key(KeyCode::Char('['), ALT)]);
    }

    #[test]
    fn clicks_and_the_wheel_have_their_cells() {
        let at = |kind, column, row, modifiers| {
            Event::Mouse(MouseEvent {
                kind,
                column,
                row,
                modifiers,
            })
        };
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.take(b"\x1b[<0;5;10M\x1b[<0;5;10m\x1b[<65;400;120M\x1b[<18;1;1M\x1b[<0;0;1M"),
            [
                at(MouseEventKind::Down(MouseButton::Left), 4, 9, NONE),
                at(MouseEventKind::Up(MouseButton::Left), 4, 9, NONE),
                at(MouseEventKind::ScrollDown, 399, 119, NONE),
                at(MouseEventKind::Down(MouseButton::Right), 0, 0, CONTROL),
            ]
        );
    }

    #[test]
    fn pasted_text_is_no_key_whatever_it_holds_and_however_it_comes() {
        let text = format!("q\x1b[A\n{}é", "x".repeat(5_000));
        let bytes = format!("\x1b[200~{text}\x1b[201~j").into_bytes();
        let expected = [Event::Paste(text), key(KeyCode::Char('j'), NONE)];
        for size in [1, 7, 1_024, 10_000] {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                found.extend(decoder.take(piece));
            }
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    proptest! {
        /// Noise is passed over, and never keeps what follows from being read.
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.take(&bytes);
            decoder.take(PASTE_ENDS);
            decoder.flush();
            prop_assert_eq!(decoder.take(b"j"), [key(KeyCode::Char('j'), NONE)]);
        }

        /// However bytes are cut into pieces, they mean the same.
        #[test]
        fn pieces_change_nothing(bytes in r"(\x1b\[[0-9;<]{0,6}[A-Z~]|[a-z]|é|日){0,20}", size in 1_usize..9) {
            let whole = Decoder::default().take(bytes.as_bytes());
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in bytes.as_bytes().chunks(size) {
                found.extend(decoder.take(piece));
            }
            prop_assert_eq!(found, whole);
        }
    }
}
