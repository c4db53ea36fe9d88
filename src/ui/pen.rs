//! Writing on a part of the screen: nothing leaves its area, and nothing unclean reaches the buffer.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::text;

/// A part of the buffer to write on, with its own coordinates from the top left.
pub struct Pen<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
}

impl<'a> Pen<'a> {
    /// A pen for that part of the buffer.
    pub fn new(area: Rect, buffer: &'a mut Buffer) -> Self {
        Self {
            area: area.intersection(buffer.area),
            buffer,
        }
    }

    /// Cells from left to right.
    pub fn width(&self) -> u16 {
        self.area.width
    }

    /// Cells from top to bottom.
    pub fn height(&self) -> u16 {
        self.area.height
    }

    /// Whether there is no cell at all.
    pub fn is_empty(&self) -> bool {
        self.area.is_empty()
    }

    /// A pen for a part of this part.
    pub fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pen<'_> {
        let asked = Rect {
            x: self.area.x.saturating_add(x),
            y: self.area.y.saturating_add(y),
            width,
            height,
        };
        Pen {
            area: asked.intersection(self.area),
            buffer: self.buffer,
        }
    }

    /// Writes a text and returns where it ended.
    pub fn put(&mut self, x: u16, y: u16, words: &str, style: Style) -> u16 {
        if y >= self.area.height || x >= self.area.width {
            return x;
        }
        let room = self.area.width - x;
        let (end, _) = self.buffer.set_stringn(
            self.area.x + x,
            self.area.y + y,
            text::clean(words),
            usize::from(room),
            // What was written there before must not shine through.
            Style::reset().patch(style),
        );
        end - self.area.x
    }

    /// Writes pieces one after another and returns where they ended.
    pub fn run(&mut self, x: u16, y: u16, pieces: &[(&str, Style)]) -> u16 {
        let mut at = x;
        for (words, style) in pieces {
            at = self.put(at, y, words, *style);
        }
        at
    }

    /// Writes a text that ends before column `end`; it is cut at the left edge of the area.
    pub fn put_right(&mut self, end: u16, y: u16, words: &str, style: Style) {
        let end = end.min(self.area.width);
        let words = text::fit(&text::clean(words), usize::from(end));
        let x = end - text::width(&words) as u16;
        self.put(x, y, &words, style);
    }

    /// Writes a text in the middle of a line.
    pub fn put_center(&mut self, y: u16, words: &str, style: Style) {
        let words = text::fit(&text::clean(words), usize::from(self.area.width));
        let x = (self.area.width - text::width(&words) as u16) / 2;
        self.put(x, y, &words, style);
    }

    /// Writes lines below each other, wrapped to the area, and returns the next free line.
    pub fn put_wrapped(&mut self, y: u16, words: &str, style: Style) -> u16 {
        let mut y = y;
        for line in text::wrap(&text::clean(words), usize::from(self.area.width)) {
            self.put(0, y, &line, style);
            y = y.saturating_add(1);
        }
        y
    }

    /// One cell.
    pub fn cell(&mut self, x: u16, y: u16, symbol: char, style: Style) {
        if x < self.area.width
            && y < self.area.height
            && let Some(cell) = self.buffer.cell_mut((self.area.x + x, self.area.y + y))
        {
            cell.set_char(symbol).set_style(Style::reset().patch(style));
        }
    }

    /// Changes the style of a line's part without changing its text.
    pub fn shade(&mut self, x: u16, y: u16, cells: u16, style: Style) {
        let row = self.part(x, y, cells, 1);
        let area = row.area;
        self.buffer.set_style(area, style);
    }

    /// Wipes the part, for what lies over something else.
    pub fn clear(&mut self) {
        for y in 0..self.area.height {
            for x in 0..self.area.width {
                if let Some(cell) = self.buffer.cell_mut((self.area.x + x, self.area.y + y)) {
                    cell.reset();
                }
            }
        }
    }
}
