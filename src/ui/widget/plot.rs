//! Points with their intervals over an axis of numbers, joined where they belong together.

use ratatui::style::Style;

use super::super::figure;
use super::super::pen::Pen;
use super::super::text;
use super::super::theme::Theme;
use super::axis::Axis;
use super::grid::{ACROSS, DOWN, Grid};

/// One point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub interval: Option<(f64, f64)>,
    /// Only the line's turning point where there is none.
    pub glyph: Option<char>,
    pub style: Style,
}

/// Points that are joined, from left to right.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub points: Vec<Point>,
    pub style: Style,
}

/// A level drawn through the whole picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub y: f64,
    pub glyph: char,
    pub style: Style,
}

/// How the numbers of an axis are written: what they are divided by, and the unit that this makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    pub divisor: f64,
    pub unit: String,
}

impl Scale {
    /// As they are.
    pub fn plain(unit: &str) -> Self {
        Self {
            divisor: 1.0,
            unit: unit.to_owned(),
        }
    }
}

/// Everything about a picture but its place.
pub struct Plot {
    pub lines: Vec<Line>,
    pub levels: Vec<Level>,
    /// How the figures of the axes are written.
    pub across: Scale,
    pub up: Scale,
    /// Where somebody looks: a line from top to bottom.
    pub cursor: Option<f64>,
    pub theme: Theme,
}

impl Plot {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.lines.iter().flat_map(|line| &line.points)
    }

    /// The horizontal and the vertical axis; nothing where there is no point.
    fn axes(&self, across: u16, rows: u16) -> Option<(Axis, Axis)> {
        let (mut x, mut y) = (
            (f64::INFINITY, f64::NEG_INFINITY),
            (f64::INFINITY, f64::NEG_INFINITY),
        );
        let take = |range: &mut (f64, f64), value: f64| {
            if value.is_finite() {
                *range = (range.0.min(value), range.1.max(value));
            }
        };
        for point in self.points() {
            take(&mut x, point.x / self.across.divisor);
            take(&mut y, point.y / self.up.divisor);
            if let Some((low, high)) = point.interval {
                take(&mut y, low / self.up.divisor);
                take(&mut y, high / self.up.divisor);
            }
        }
        for level in &self.levels {
            take(&mut y, level.y / self.up.divisor);
        }
        if x.0 > x.1 || y.0 > y.1 {
            return None;
        }
        let most_across = usize::from(across / 8).clamp(2, 11);
        let most_up = usize::from(rows / 2).clamp(2, 9);
        Some((
            Axis::linear(x.0, x.1, most_across),
            Axis::linear(y.0, y.1, most_up),
        ))
    }

    /// Draws axes and points; `false` if there is nothing to draw.
    pub fn draw(&self, pen: &mut Pen<'_>) -> bool {
        let (width, height) = (pen.width(), pen.height());
        if width < 14 || height < 4 {
            return self.points().next().is_some();
        }
        let rows = height - 2;
        let Some((horizontal, vertical)) = self.axes(width, rows) else {
            return false;
        };
        let labels = vertical.ticks().iter().map(|tick| vertical.label(*tick));
        let gutter = labels.map(|label| text::width(&label)).max().unwrap_or(1);
        let gutter = gutter.clamp(text::width(&self.up.unit), 8) as u16;
        let left = gutter + 1;
        self.paint_axes(pen, (&horizontal, &vertical), gutter, rows);
        let mut styles = vec![self.theme.dim()];
        let mut grid = Grid::new(width - left, rows);
        self.paint(&mut grid, (&horizontal, &vertical), &mut styles);
        let mut inside = pen.part(left, 0, width - left, rows);
        grid.paint(&mut inside, |ink| {
            styles.get(usize::from(ink)).copied().unwrap_or_default()
        });
        true
    }

    fn paint_axes(&self, pen: &mut Pen<'_>, axes: (&Axis, &Axis), gutter: u16, rows: u16) {
        let (dim, line) = (self.theme.dim(), self.theme.border());
        for y in 0..rows {
            pen.cell(gutter, y, '│', line);
        }
        let mut taken: Vec<u16> = Vec::new();
        for tick in axes.1.ticks().iter().rev() {
            let Some(place) = axes.1.place(*tick) else {
                continue;
            };
            let row = ((1.0 - place) * f64::from(rows.max(1) - 1)).round() as u16;
            if !taken.contains(&row) {
                taken.push(row);
                pen.put_right(gutter, row, &axes.1.label(*tick), dim);
                pen.cell(gutter, row, '┤', line);
            }
        }
        if !taken.contains(&(rows - 1)) {
            pen.put_right(gutter, rows - 1, &self.up.unit, dim);
        }
        let across = pen.width() - gutter - 1;
        pen.cell(gutter, rows, '└', line);
        pen.put(gutter + 1, rows, &"─".repeat(usize::from(across)), line);
        // What the axis is called stands in the panel's title; here is what it is counted in.
        let name = &self.across.unit;
        let name_at = match text::width(name) as u16 {
            0 => pen.width(),
            cells => pen.width().saturating_sub(cells + 1),
        };
        let mut free = 0;
        for tick in axes.0.ticks() {
            let Some(place) = axes.0.place(*tick) else {
                continue;
            };
            let x = gutter + 1 + (place * f64::from(across.max(1) - 1)).round() as u16;
            let label = if tick.fract() == 0.0 {
                figure::short_count(*tick)
            } else {
                axes.0.label(*tick)
            };
            let wide = text::width(&label) as u16;
            let at = x.saturating_sub(wide / 2);
            let at = at.min(pen.width().saturating_sub(wide));
            if at < free || at + wide > name_at {
                continue;
            }
            pen.cell(x, rows, '┬', line);
            pen.put(at, rows + 1, &label, dim);
            free = at + wide + 1;
        }
        pen.put(name_at, rows + 1, name, dim);
    }

    fn paint(&self, grid: &mut Grid, axes: (&Axis, &Axis), styles: &mut Vec<Style>) {
        let (across, down) = (grid.across(), grid.down());
        // In the middle of a cell, so that glyph, whisker and line meet.
        let column = |x: f64| -> Option<i32> {
            let place = axes.0.place(x / self.across.divisor)?.clamp(0.0, 1.0);
            let cell = (place * f64::from(across / ACROSS - 1)).round() as i32;
            Some(cell * ACROSS)
        };
        let row = |y: f64| -> Option<i32> {
            let place = axes.1.place(y / self.up.divisor)?.clamp(0.0, 1.0);
            Some(((1.0 - place) * f64::from(down - 1)).round() as i32)
        };
        let mut ink = |style: Style| -> u16 {
            let place = styles.iter().position(|known| *known == style);
            place.unwrap_or_else(|| {
                styles.push(style);
                styles.len() - 1
            }) as u16
        };
        for level in &self.levels {
            if let Some(y) = row(level.y) {
                let ink = ink(level.style);
                for x in (0..across).step_by(6) {
                    grid.dot(x, y, ink);
                }
                grid.glyph(across / ACROSS - 1, y / DOWN, level.glyph, ink);
            }
        }
        for line in &self.lines {
            let ink = ink(line.style);
            let dots: Vec<(i32, i32)> = line
                .points
                .iter()
                .filter_map(|point| Some((column(point.x)?, row(point.y)?)))
                .collect();
            for pair in dots.windows(2) {
                grid.line(pair[0], pair[1], ink);
            }
        }
        for point in self.points() {
            let (Some(x), Some((low, high))) = (column(point.x), point.interval) else {
                continue;
            };
            if let (Some(top), Some(bottom)) = (row(high), row(low)) {
                let ink = ink(point.style);
                grid.column(x, top, bottom, ink);
            }
        }
        let mut taken: Vec<(i32, i32)> = Vec::new();
        for point in self.points() {
            let (Some(glyph), Some(x), Some(y)) = (point.glyph, column(point.x), row(point.y))
            else {
                continue;
            };
            let (x, y) = (x / ACROSS, y / DOWN);
            // Where two stand in the same cell, the later one stands beside the earlier one.
            let x = [0, 1, -1, 2, -2]
                .into_iter()
                .map(|aside| x + aside)
                .find(|x| !taken.contains(&(*x, y)))
                .unwrap_or(x);
            taken.push((x, y));
            let ink = ink(point.style);
            grid.glyph(x, y, glyph, ink);
        }
        if let Some(x) = self.cursor.and_then(column) {
            for y in 0..down / DOWN {
                if grid.is_free(x / ACROSS, y) {
                    grid.glyph(x / ACROSS, y, '┊', 0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    use super::*;

    fn drawn(plot: &Plot, width: u16, height: u16) -> Option<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        let area = buffer.area;
        let any = plot.draw(&mut Pen::new(area, &mut buffer));
        any.then(|| crate::ui::export::plain_text(&buffer))
    }

    fn plot(points: &[(f64, f64)]) -> Plot {
        let point = |&(x, y): &(f64, f64)| Point {
            x,
            y,
            interval: Some((y - 0.05, y + 0.05)),
            glyph: Some('▲'),
            style: Style::new(),
        };
        Plot {
            lines: vec![Line {
                points: points.iter().map(point).collect(),
                style: Style::new(),
            }],
            levels: Vec::new(),
            across: Scale::plain("of weights"),
            up: Scale {
                divisor: 0.01,
                unit: "%".to_owned(),
            },
            cursor: None,
            theme: Theme::new(true),
        }
    }

    #[test]
    fn every_point_has_its_glyph_and_the_axes_their_names() {
        let text = drawn(&plot(&[(0.1, 0.9), (0.5, 0.8), (0.9, 0.2)]), 50, 14).unwrap();
        assert_eq!(text.matches('▲').count(), 3, "{text}");
        assert!(
            text.contains("of weights") && text.contains("100"),
            "{text}"
        );
    }

    #[test]
    fn two_points_in_one_cell_stand_side_by_side() {
        let text = drawn(&plot(&[(0.1, 0.9), (0.1, 0.9)]), 50, 14).unwrap();
        assert_eq!(text.matches('▲').count(), 2, "{text}");
    }

    #[test]
    fn nothing_and_odd_values_break_nothing() {
        assert_eq!(drawn(&plot(&[]), 50, 14), None);
        assert_eq!(drawn(&plot(&[(f64::NAN, 1.0)]), 50, 14), None);
        for (width, height) in [(1, 1), (14, 4), (15, 5), (200, 60)] {
            drawn(
                &plot(&[(f64::INFINITY, 1.0), (0.0, -1e300), (1e-9, 5.0)]),
                width,
                height,
            );
        }
    }
}
