//! A horizontal bar in eighths of a cell, with the whisker of its interval.

use ratatui::style::Style;

use super::super::pen::Pen;

/// Full to empty in eighths, from the left.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// The characters of a bar that fills this share of so many cells, without blanks behind it.
pub fn bar(share: f64, cells: u16) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let eighths = (share * f64::from(cells) * 8.0).round() as usize;
    let mut written = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        written.push(EIGHTHS[eighths % 8]);
    }
    written
}

/// Draws a bar of so many cells. Where its interval is wide enough to be seen, its uncertain end is shaded and a whisker
/// reaches to the upper bound.
pub fn draw(
    pen: &mut Pen<'_>,
    (x, y): (u16, u16),
    cells: u16,
    share: f64,
    interval: Option<(f64, f64)>,
    style: Style,
    whisker: Style,
) {
    pen.put(x, y, &bar(share, cells), style);
    let Some((low, high)) = interval else {
        return;
    };
    let place = |share: f64| (share.clamp(0.0, 1.0) * f64::from(cells)).round() as u16;
    // Narrower than a cell and a half it would only blur the bar's end; the margin stands there as a number.
    let cells_wide = (high - low) * f64::from(cells);
    if !(share.is_finite() && cells_wide.is_finite() && cells_wide >= 1.5) {
        return;
    }
    let (low, end, high) = (place(low), place(share), place(high));
    for cell in low..end {
        pen.cell(x + cell, y, '▓', style);
    }
    if high > end {
        for cell in end..high - 1 {
            pen.cell(x + cell, y, '─', whisker);
        }
        pen.cell(x + high - 1, y, '┤', whisker);
    }
}

/// `━━━━━╸────`: progress, in halves of a cell.
pub fn progress(share: f64, cells: usize) -> (String, String) {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let halves = (share * cells as f64 * 2.0).floor() as usize;
    let mut done = "━".repeat(halves / 2);
    if halves % 2 == 1 {
        done.push('╸');
    }
    let rest = "─".repeat(cells - halves.div_ceil(2).min(cells));
    (done, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eighths that a bar is long.
    fn length(share: f64, cells: u16) -> usize {
        bar(share, cells)
            .chars()
            .map(|c| match c {
                '█' => 8,
                c => EIGHTHS.iter().position(|e| *e == c).unwrap(),
            })
            .sum()
    }

    #[test]
    fn bars_are_as_long_as_their_shares() {
        for percent in 0..=100 {
            let share = f64::from(percent) / 100.0;
            let exact = share * 20.0 * 8.0;
            assert!((length(share, 20) as f64 - exact).abs() <= 0.5, "{percent}");
        }
        assert_eq!(bar(f64::NAN, 10), "");
        assert_eq!(bar(7.0, 2), "██");
    }

    #[test]
    fn progress_always_has_the_same_width() {
        for step in 0..=40 {
            let (done, rest) = progress(f64::from(step) / 40.0, 7);
            assert_eq!(done.chars().count() + rest.chars().count(), 7);
        }
        assert_eq!(progress(0.5, 3), ("━╸".to_owned(), "─".to_owned()));
    }
}
