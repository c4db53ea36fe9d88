//! Curves over optimizer steps: the band of single steps, the smooth line, points at the ends of epochs.

use ratatui::style::Style;

use super::super::pen::Pen;
use super::super::text;
use super::super::theme::Theme;
use super::axis::Axis;
use super::grid::{DOWN, Grid};
use crate::state::{Block, Series, Smoothing};

/// One network's curve.
pub struct Line<'a> {
    pub series: &'a Series,
    /// Steps by which it is drawn further to the right: a branch goes on where its reference ended.
    pub offset: u64,
    /// Told apart by it where there is no color.
    pub glyph: char,
    pub style: Style,
    pub band: Style,
    /// Values at the ends of epochs, by step.
    pub points: Vec<(u64, f64)>,
}

/// Everything about a picture of curves but its place.
pub struct Chart<'a> {
    pub lines: Vec<Line<'a>>,
    /// The steps that the axis spans: the one before the first, and the last.
    pub start: u64,
    pub end: u64,
    /// Steps per unit of the horizontal axis, and what the unit is called.
    pub unit: (f64, &'a str),
    pub smoothing: Smoothing,
    pub is_logarithmic: bool,
    /// A cross-hair, as a share of the horizontal axis.
    pub cursor: Option<f64>,
    pub theme: Theme,
}

impl Chart<'_> {
    /// The step under the cross-hair.
    pub fn cursor_step(&self) -> Option<u64> {
        self.cursor
            .map(|share| self.start + (share * self.span() as f64).round() as u64)
    }

    /// How many steps the axis spans.
    fn span(&self) -> u64 {
        self.end.saturating_sub(self.start).max(1)
    }

    /// The steps of a line that the axis shows, in its own count.
    fn own(&self, line: &Line<'_>) -> (u64, u64) {
        let first = (self.start + 1).saturating_sub(line.offset).max(1);
        (first, self.end.saturating_sub(line.offset))
    }

    /// The columns of a line over so many dots, from which dot on.
    fn columns(&self, line: &Line<'_>, across: i32) -> (i32, Vec<Option<Block>>) {
        let first = self.dot(line.offset.max(self.start), across);
        let count = (across - first).max(0) as usize;
        let (from, to) = self.own(line);
        if count == 0 || to == 0 {
            return (first, Vec::new());
        }
        (first, line.series.columns(from, to, count))
    }

    fn dot(&self, step: u64, across: i32) -> i32 {
        let share = (step as f64 - self.start as f64) / self.span() as f64;
        (share * f64::from(across - 1)).round() as i32
    }

    /// The points of a line that the axis shows.
    fn points<'a>(&'a self, line: &'a Line<'_>) -> impl Iterator<Item = (u64, f64)> {
        line.points
            .iter()
            .map(|(step, value)| (step + line.offset, *value))
            .filter(|(step, _)| (self.start..=self.end).contains(step))
    }

    /// The least and the greatest value of all lines.
    fn bounds(&self) -> Option<(f64, f64)> {
        let mut bounds: Option<(f64, f64)> = None;
        let mut take = |low: f64, high: f64| {
            if low.is_finite() && high.is_finite() {
                bounds = Some(match bounds {
                    Some((a, b)) => (a.min(low), b.max(high)),
                    None => (low, high),
                });
            }
        };
        for line in &self.lines {
            let (from, to) = self.own(line);
            if let Some(all) = line.series.window(from, to)
                && all.count > 0
            {
                let floor = if self.is_logarithmic {
                    all.min.max(all.max * 1e-6)
                } else {
                    all.min
                };
                take(floor, all.max);
            }
            for (_, value) in self.points(line) {
                if !self.is_logarithmic || value > 0.0 {
                    take(value, value);
                }
            }
        }
        bounds
    }

    /// Draws axes and curves; `false` if there is nothing to draw yet.
    pub fn draw(&self, pen: &mut Pen<'_>) -> bool {
        let Some((low, high)) = self.bounds() else {
            return false;
        };
        let (width, height) = (pen.width(), pen.height());
        if width < 12 || height < 4 {
            return true;
        }
        let rows = height - 2;
        let most_ticks = usize::from(rows / 2).clamp(2, 9);
        let vertical = if self.is_logarithmic {
            Axis::logarithmic(low, high, most_ticks)
        } else {
            Axis::linear(low, high, most_ticks)
        };
        let gutter = vertical
            .ticks()
            .iter()
            .map(|tick| text::width(&vertical.label(*tick)))
            .max()
            .unwrap_or(1)
            .min(7) as u16;
        let left = gutter + 1;
        let mut grid = Grid::new(width - left, rows);
        self.paint_axes(pen, &vertical, gutter, rows);
        self.paint_lines(&mut grid, &vertical);
        let mut inside = pen.part(left, 0, width - left, rows);
        grid.paint(&mut inside, |ink| {
            match self.lines.get(usize::from(ink / 2)) {
                Some(line) if ink.is_multiple_of(2) => line.band,
                Some(line) => line.style,
                None => self.theme.dim(),
            }
        });
        true
    }

    fn paint_axes(&self, pen: &mut Pen<'_>, vertical: &Axis, gutter: u16, rows: u16) {
        let dim = self.theme.dim();
        let line = self.theme.border();
        for y in 0..rows {
            pen.cell(gutter, y, '│', line);
        }
        let mut taken: Vec<u16> = Vec::new();
        for tick in vertical.ticks().iter().rev() {
            let Some(row) = row_of(vertical, *tick, rows) else {
                continue;
            };
            let row = row as u16;
            if taken.contains(&row) {
                continue;
            }
            taken.push(row);
            pen.put_right(gutter, row, &vertical.label(*tick), dim);
            pen.cell(gutter, row, '┤', line);
        }
        let across = pen.width() - gutter - 1;
        pen.cell(gutter, rows, '└', line);
        pen.put(gutter + 1, rows, &"─".repeat(usize::from(across)), line);
        let (unit, name) = (self.unit.0.max(1e-9), self.unit.1);
        let (start, end) = (self.start as f64 / unit, self.end as f64 / unit);
        let axis = Axis::exact(start, end, usize::from(across / 8).clamp(2, 12));
        let mut free = 0;
        // A space is left before the unit's name.
        let name_at = pen.width().saturating_sub(text::width(name) as u16 + 1);
        for tick in axis.ticks() {
            let Some(place) = axis.place(*tick) else {
                continue;
            };
            let x = gutter + 1 + (place * f64::from(across.max(1) - 1)).round() as u16;
            let label = if tick.fract() == 0.0 {
                super::super::figure::short_count(*tick)
            } else {
                axis.label(*tick)
            };
            let half = text::width(&label) as u16 / 2;
            let at = x.saturating_sub(half);
            if at < free || at + text::width(&label) as u16 >= name_at {
                continue;
            }
            pen.cell(x, rows, '┬', line);
            pen.put(at, rows + 1, &label, dim);
            free = at + text::width(&label) as u16 + 1;
        }
        pen.put(name_at, rows + 1, name, dim);
    }

    fn paint_lines(&self, grid: &mut Grid, vertical: &Axis) {
        let (across, down) = (grid.across(), grid.down());
        let row = |value: f64| -> Option<i32> {
            let place = vertical.place(value)?.clamp(0.0, 1.0);
            Some(((1.0 - place) * f64::from(down - 1)).round() as i32)
        };
        let columns: Vec<(i32, Vec<Option<Block>>)> = self
            .lines
            .iter()
            .map(|line| self.columns(line, across))
            .collect();
        for (number, (first, columns)) in columns.iter().enumerate() {
            for (offset, block) in columns.iter().enumerate() {
                let Some(block) = block.filter(|block| block.count > 0) else {
                    continue;
                };
                if let (Some(top), Some(bottom)) =
                    (row(block.max), row(block.min.max(vertical.value(0.0))))
                {
                    grid.column(first + offset as i32, top, bottom, number as u16 * 2);
                }
            }
        }
        for (number, (first, columns)) in columns.iter().enumerate() {
            let ink = number as u16 * 2 + 1;
            let mut before: Option<(i32, i32)> = None;
            for (offset, block) in columns.iter().enumerate() {
                let Some(block) = block else {
                    continue;
                };
                let Some(y) = block.smooth(self.smoothing).and_then(row) else {
                    // Steps that are not finite break the line.
                    before = None;
                    continue;
                };
                let here = (first + offset as i32, y);
                grid.line(before.unwrap_or(here), here, ink);
                before = if block.not_finite > 0 {
                    None
                } else {
                    Some(here)
                };
            }
        }
        for (number, line) in self.lines.iter().enumerate() {
            let ink = number as u16 * 2 + 1;
            for (step, value) in self.points(line) {
                if let Some(y) = row(value) {
                    let x = self.dot(step, across);
                    grid.glyph(x / 2, y / DOWN, line.glyph, ink);
                }
            }
        }
        if let Some(share) = self.cursor {
            let x = (share * f64::from(across - 1)).round() as i32 / 2;
            for y in 0..down / DOWN {
                if grid.is_free(x, y) {
                    grid.glyph(x, y, '┊', u16::MAX);
                }
            }
        }
    }
}

/// The cell row of a value.
fn row_of(axis: &Axis, value: f64, rows: u16) -> Option<i32> {
    let place = axis.place(value)?;
    let down = i32::from(rows) * DOWN;
    Some(((1.0 - place) * f64::from(down - 1)).round() as i32 / DOWN)
}
