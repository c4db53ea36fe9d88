//! The border of a panel: a short title, and at the right end what its figures rest on.

use super::super::pen::Pen;
use super::super::text;
use super::super::theme::Theme;

/// Draws a border around the whole part and returns a pen for its inside.
///
/// ```text
/// ╭ Loss ───────────────── smoothing .9 ╮
/// ╰─────────────────────────────────────╯
/// ```
pub fn frame<'a>(
    pen: &'a mut Pen<'_>,
    title: &str,
    note: &str,
    is_focused: bool,
    theme: Theme,
) -> Pen<'a> {
    let (width, height) = (pen.width(), pen.height());
    if width < 2 || height < 2 {
        return pen.part(0, 0, 0, 0);
    }
    let border = if is_focused {
        theme.focus()
    } else {
        theme.border()
    };
    let middle = "─".repeat(usize::from(width) - 2);
    pen.put(0, 0, &format!("╭{middle}╮"), border);
    for y in 1..height - 1 {
        pen.cell(0, y, '│', border);
        pen.cell(width - 1, y, '│', border);
    }
    pen.put(0, height - 1, &format!("╰{middle}╯"), border);
    let room = usize::from(width).saturating_sub(4);
    let title = text::fit(&text::clean(title), room);
    if !title.is_empty() {
        let style = if is_focused {
            theme.title().patch(theme.focus())
        } else {
            theme.title()
        };
        pen.put(1, 0, &format!(" {title} "), style);
    }
    let left = room.saturating_sub(text::width(&title) + 3);
    if !note.is_empty() && left >= text::width(note).min(4) {
        let note = text::fit(&text::clean(note), left);
        pen.put_right(width - 1, 0, &format!(" {note} "), theme.dim());
    }
    pen.part(1, 1, width - 2, height - 2)
}
