//! A screen as a document: plain text, or a standalone SVG picture.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// The text of a screen, without colors and without blanks at the ends of lines.
pub fn plain_text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = symbol(buffer, x, y);
            skip = symbol.width().saturating_sub(1);
            line.push_str(symbol);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cell(buffer: &Buffer, x: u16, y: u16) -> Option<&Cell> {
    buffer.cell((buffer.area.x + x, buffer.area.y + y))
}

fn symbol(buffer: &Buffer, x: u16, y: u16) -> &str {
    cell(buffer, x, y).map_or(" ", Cell::symbol)
}

/// Width of a cell in the picture; with [`LINE`] the proportions of DejaVu Sans Mono at 14 pixels.
const ADVANCE: f64 = 8.43;
/// Height of a cell in the picture.
const LINE: f64 = 17.0;
const INK: &str = "#d7dae0";
const PAPER: &str = "#16181d";

/// The screen as a picture that needs nothing beside it: a dark card with rounded corners.
///
/// Braille patterns, blocks and box lines are drawn as shapes, since fonts disagree about them.
pub fn svg(buffer: &Buffer) -> String {
    let width = f64::from(buffer.area.width) * ADVANCE + 24.0;
    let height = f64::from(buffer.area.height) * LINE + 24.0;
    let mut out = String::new();
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">"#
    );
    let _ = writeln!(
        out,
        r#"<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>"#
    );
    for y in 0..buffer.area.height {
        let mut x = 0;
        while x < buffer.area.width {
            let Some(first) = cell(buffer, x, y) else {
                break;
            };
            let look = look(first);
            let left = 12.0 + f64::from(x) * ADVANCE;
            let top = 12.0 + f64::from(y) * LINE;
            if let Some(shape) = shape(first.symbol(), left, top) {
                backdrop(&mut out, &look, left, top, 1);
                if !shape.is_empty() {
                    let _ = writeln!(out, r#"<path d="{shape}" {}/>"#, look.paint(first.symbol()));
                }
                x += 1;
                continue;
            }
            // A run of ordinary characters of one look becomes one text.
            let mut run = String::new();
            let start = x;
            while x < buffer.area.width {
                let Some(next) = cell(buffer, x, y) else {
                    break;
                };
                let symbol = next.symbol();
                if self::look(next) != look || shape_of(symbol) {
                    break;
                }
                // Each glyph outside ASCII stands alone, so that a fallback font cannot push its neighbors.
                if !symbol.is_ascii() && x > start {
                    break;
                }
                run.push_str(symbol);
                x += (symbol.width() as u16).max(1);
                if !symbol.is_ascii() {
                    break;
                }
            }
            let cells = x - start;
            backdrop(&mut out, &look, left, top, cells);
            if !run.trim().is_empty() {
                let _ = writeln!(
                    out,
                    r#"<text x="{left:.1}" y="{:.1}" xml:space="preserve" textLength="{:.1}" {}>{}</text>"#,
                    top + 13.0,
                    f64::from(cells) * ADVANCE,
                    look.font(),
                    escape(&run)
                );
            }
        }
    }
    out.push_str("</svg>\n");
    out
}

#[derive(PartialEq)]
struct Look {
    ink: String,
    paper: Option<String>,
    bold: bool,
    dim: bool,
}

impl Look {
    fn font(&self) -> String {
        format!(
            r#"fill="{}"{}{}"#,
            self.ink,
            if self.bold {
                r#" font-weight="bold""#
            } else {
                ""
            },
            if self.dim { r#" opacity="0.6""# } else { "" }
        )
    }

    fn paint(&self, symbol: &str) -> String {
        let stroke = symbol
            .chars()
            .next()
            .is_some_and(|c| ('\u{2500}'..='\u{257f}').contains(&c));
        if stroke {
            format!(r#"fill="none" stroke="{}" stroke-width="1.2""#, self.ink)
        } else {
            self.font()
        }
    }
}

fn look(cell: &Cell) -> Look {
    let reversed = cell.modifier.contains(Modifier::REVERSED);
    let ink = rgb(cell.fg);
    let paper = rgb(cell.bg);
    let (ink, paper) = if reversed {
        (
            Some(paper.unwrap_or_else(|| PAPER.to_owned())),
            Some(ink.unwrap_or_else(|| INK.to_owned())),
        )
    } else {
        (ink, paper)
    };
    Look {
        ink: ink.unwrap_or_else(|| INK.to_owned()),
        paper,
        bold: cell.modifier.contains(Modifier::BOLD),
        dim: cell.modifier.contains(Modifier::DIM),
    }
}

fn backdrop(out: &mut String, look: &Look, left: f64, top: f64, cells: u16) {
    if let Some(paper) = &look.paper {
        let _ = writeln!(
            out,
            r#"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{LINE}" fill="{paper}"/>"#,
            f64::from(cells) * ADVANCE
        );
    }
}

fn shape_of(symbol: &str) -> bool {
    shape(symbol, 0.0, 0.0).is_some()
}

/// The outline of a character that fonts draw differently, or `None` for an ordinary one.
fn shape(symbol: &str, left: f64, top: f64) -> Option<String> {
    let mut chars = symbol.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else {
        return None;
    };
    let rect = |x: f64, y: f64, w: f64, h: f64| {
        format!("M{:.1} {:.1}h{w:.1}v{h:.1}h-{w:.1}z", left + x, top + y)
    };
    let code = c as u32;
    match c {
        ' ' => Some(String::new()),
        '\u{2800}'..='\u{28ff}' => {
            // Dots 1, 2, 3, 7 are the left column from above, 4, 5, 6, 8 the right one.
            const ROWS: [(u32, u32); 4] = [(0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80)];
            let mut path = String::new();
            for (row, (west, east)) in ROWS.into_iter().enumerate() {
                for (column, bit) in [(0.0, west), (1.0, east)] {
                    if (code - 0x2800) & bit != 0 {
                        let x = (column + 0.5) * ADVANCE / 2.0 - 1.1;
                        let y = (row as f64 + 0.5) * LINE / 4.0 - 1.1;
                        path += &rect(x, y, 2.2, 2.2);
                    }
                }
            }
            Some(path)
        }
        // One eighth to full, from the left.
        '\u{2588}'..='\u{258f}' => {
            let eighths = f64::from(0x2590 - code);
            // Full ones overlap a little, so that no seams are seen between them.
            let seam = if eighths == 8.0 { 0.4 } else { 0.0 };
            let width = ADVANCE * eighths / 8.0 + seam;
            Some(rect(0.0, LINE * 0.14, width, LINE * 0.72))
        }
        // The upper half of a cell, and eighths from below.
        '▀' => Some(rect(0.0, 0.0, ADVANCE + 0.3, LINE / 2.0)),
        '\u{2581}'..='\u{2587}' => {
            let high = LINE * f64::from(code - 0x2580) / 8.0;
            Some(rect(0.0, LINE - high, ADVANCE, high))
        }
        '▐' => Some(rect(ADVANCE / 2.0, LINE * 0.14, ADVANCE / 2.0, LINE * 0.72)),
        '─' | '│' | '╭' | '╮' | '╰' | '╯' | '├' | '┤' | '┬' | '┴' | '┼' | '└' | '┘' | '┌' | '┐'
        | '━' => {
            let (cx, cy) = (left + ADVANCE / 2.0, top + LINE / 2.0);
            let (north, south) = (top, top + LINE);
            let (west, east) = (left, left + ADVANCE);
            let round = match c {
                '╭' => Some((south, east)),
                '╮' => Some((south, west)),
                '╰' => Some((north, east)),
                '╯' => Some((north, west)),
                _ => None,
            };
            if let Some((y, x)) = round {
                return Some(format!("M{cx:.1} {y:.1}Q{cx:.1} {cy:.1} {x:.1} {cy:.1}"));
            }
            let arms = match c {
                '─' | '━' => "we",
                '│' => "ns",
                '┌' => "se",
                '┐' => "sw",
                '└' => "ne",
                '┘' => "nw",
                '├' => "nse",
                '┤' => "nsw",
                '┬' => "swe",
                '┴' => "nwe",
                _ => "nswe",
            };
            let mut path = String::new();
            for arm in arms.chars() {
                let (x, y) = match arm {
                    'n' => (cx, north),
                    's' => (cx, south),
                    'w' => (west, cy),
                    _ => (east, cy),
                };
                let _ = write!(path, "M{cx:.1} {cy:.1}L{x:.1} {y:.1}");
            }
            Some(path)
        }
        _ => None,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The sixteen colors of xterm.
const BASE: [&str; 16] = [
    "#000000", "#cd0000", "#00cd00", "#cdcd00", "#0000ee", "#cd00cd", "#00cdcd", "#e5e5e5",
    "#7f7f7f", "#ff0000", "#00ff00", "#ffff00", "#5c5cff", "#ff00ff", "#00ffff", "#ffffff",
];

/// The color that xterm shows for a palette index, or `None` for the terminal's own.
fn rgb(color: Color) -> Option<String> {
    let index = match color {
        Color::Indexed(index) => index,
        Color::Rgb(r, g, b) => return Some(format!("#{r:02x}{g:02x}{b:02x}")),
        Color::Reset => return None,
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 8,
        Color::LightRed => 9,
        Color::LightGreen => 10,
        Color::LightYellow => 11,
        Color::LightBlue => 12,
        Color::LightMagenta => 13,
        Color::LightCyan => 14,
        Color::White => 15,
    };
    Some(match index {
        0..16 => BASE[usize::from(index)].to_owned(),
        16..232 => {
            // The cube has the levels 0, 95, 135, 175, 215, 255.
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * u32::from(n) };
            let n = index - 16;
            let (r, g, b) = (level(n / 36), level(n / 6 % 6), level(n % 6));
            format!("#{r:02x}{g:02x}{b:02x}")
        }
        232.. => {
            let grey = 8 + 10 * u32::from(index - 232);
            format!("#{grey:02x}{grey:02x}{grey:02x}")
        }
    })
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn text_and_picture_hold_what_the_screen_holds() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 2));
        buffer.set_string(0, 0, "a <b> 日本", Style::new().fg(Color::Indexed(75)));
        buffer.set_string(0, 1, "⣿█─", Style::new());
        assert_eq!(plain_text(&buffer), "a <b> 日本\n⣿█─\n");
        let picture = svg(&buffer);
        assert!(picture.contains("&lt;b&gt;"), "{picture}");
        assert!(picture.contains("#5fafff"), "{picture}");
        assert_eq!(picture.matches("<path").count(), 3, "{picture}");
    }
}
