//! Dots of half a cell by a quarter of a cell, drawn as braille patterns.
//!
//! A cell has one color. Where two series meet, the later one takes the cell over instead of lending it a wrong color.

use ratatui::style::Style;

use crate::ui::pen::Pen;

/// Dots per cell from left to right.
pub const ACROSS: i32 = 2;
/// Dots per cell from top to bottom.
pub const DOWN: i32 = 4;

#[derive(Clone, Copy, Default)]
struct Cell {
    dots: u8,
    /// A character that covers the dots.
    glyph: Option<char>,
    ink: u16,
}

/// A rectangle of cells to draw on; what lies outside is not drawn.
pub struct Grid {
    width: u16,
    height: u16,
    cells: Vec<Cell>,
}

impl Grid {
    /// An empty grid of so many cells.
    pub fn new(width: u16, height: u16) -> Self {
        Self {
            width,
            height,
            cells: vec![Cell::default(); usize::from(width) * usize::from(height)],
        }
    }

    /// Dots from left to right.
    pub fn across(&self) -> i32 {
        i32::from(self.width) * ACROSS
    }

    /// Dots from top to bottom.
    pub fn down(&self) -> i32 {
        i32::from(self.height) * DOWN
    }

    fn cell(&mut self, x: i32, y: i32) -> Option<&mut Cell> {
        let inside = x >= 0 && y >= 0 && x < i32::from(self.width) && y < i32::from(self.height);
        inside.then(|| &mut self.cells[y as usize * usize::from(self.width) + x as usize])
    }

    /// One dot. `ink` is a number that [`Self::paint`] turns into a style.
    pub fn dot(&mut self, x: i32, y: i32, ink: u16) {
        /// Unicode numbers the dots down the left column, down the right one, then the fourth row.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let bit = BITS[y.rem_euclid(DOWN) as usize][x.rem_euclid(ACROSS) as usize];
        if let Some(cell) = self.cell(x.div_euclid(ACROSS), y.div_euclid(DOWN)) {
            if cell.ink != ink {
                cell.dots = 0;
                cell.ink = ink;
            }
            cell.dots |= bit;
        }
    }

    /// A vertical line.
    pub fn column(&mut self, x: i32, top: i32, bottom: i32, ink: u16) {
        for y in top.max(0)..=bottom.min(self.down() - 1) {
            self.dot(x, y, ink);
        }
    }

    /// A straight line, by Bresenham's algorithm.
    pub fn line(&mut self, from: (i32, i32), to: (i32, i32), ink: u16) {
        let (mut x, mut y) = from;
        let (dx, dy) = ((to.0 - x).abs(), -(to.1 - y).abs());
        let (sx, sy) = ((to.0 - x).signum(), (to.1 - y).signum());
        let mut error = dx + dy;
        // Lines come from figures that were clamped to the grid; this bounds what a slip could cost.
        for _ in 0..=(dx - dy) {
            self.dot(x, y, ink);
            if (x, y) == to {
                break;
            }
            let twice = 2 * error;
            if twice >= dy {
                error += dy;
                x += sx;
            }
            if twice <= dx {
                error += dx;
                y += sy;
            }
        }
    }

    /// A character that covers its cell.
    pub fn glyph(&mut self, x: i32, y: i32, glyph: char, ink: u16) {
        if let Some(cell) = self.cell(x, y) {
            *cell = Cell {
                dots: 0,
                glyph: Some(glyph),
                ink,
            };
        }
    }

    /// Whether nothing was drawn in the cell.
    pub fn is_free(&self, x: i32, y: i32) -> bool {
        x >= 0 && y >= 0 && x < i32::from(self.width) && y < i32::from(self.height) && {
            let cell = self.cells[y as usize * usize::from(self.width) + x as usize];
            cell.dots == 0 && cell.glyph.is_none()
        }
    }

    /// Writes a text over free cells, if all of its cells are free and so are the two beside it.
    pub fn label(&mut self, x: i32, y: i32, words: &str, ink: u16) -> bool {
        let count = words.chars().count() as i32;
        let beside = |x: i32| x < 0 || x >= i32::from(self.width) || self.is_free(x, y);
        let free = (0..count).all(|offset| self.is_free(x + offset, y))
            && beside(x - 1)
            && beside(x + count);
        if free {
            for (offset, letter) in words.chars().enumerate() {
                self.glyph(x + offset as i32, y, letter, ink);
            }
        }
        free
    }

    /// Puts the drawing on the screen; empty cells are left as they are.
    pub fn paint(&self, pen: &mut Pen<'_>, style: impl Fn(u16) -> Style) {
        for y in 0..self.height {
            for x in 0..self.width {
                let cell = self.cells[usize::from(y) * usize::from(self.width) + usize::from(x)];
                let symbol = match (cell.glyph, cell.dots) {
                    (Some(glyph), _) => glyph,
                    (None, 0) => continue,
                    (None, dots) => char::from_u32(0x2800 + u32::from(dots)).unwrap_or('⣿'),
                };
                pen.cell(x, y, symbol, style(cell.ink));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    use super::*;

    fn drawn(grid: &Grid) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, grid.width, grid.height));
        let area = buffer.area;
        grid.paint(&mut Pen::new(area, &mut buffer), |_| Style::new());
        crate::ui::export::plain_text(&buffer)
    }

    #[test]
    fn dots_are_where_they_were_put() {
        let mut grid = Grid::new(2, 1);
        grid.dot(0, 0, 1);
        grid.dot(3, 3, 1);
        grid.dot(-1, 0, 1);
        grid.dot(4, 0, 1);
        assert_eq!(drawn(&grid), "⠁⢀\n");
    }

    #[test]
    fn a_later_series_takes_the_cell_over() {
        let mut grid = Grid::new(1, 1);
        grid.column(0, 0, 3, 1);
        grid.dot(1, 0, 2);
        assert_eq!(drawn(&grid), "⠈\n");
        assert_eq!(grid.cells[0].ink, 2);
    }

    #[test]
    fn a_line_reaches_both_ends() {
        let mut grid = Grid::new(3, 2);
        grid.line((0, 0), (5, 7), 1);
        assert!(!grid.is_free(0, 0) && !grid.is_free(2, 1));
        assert_eq!(drawn(&grid).chars().filter(|c| *c > '\u{2800}').count(), 4);
    }
}
