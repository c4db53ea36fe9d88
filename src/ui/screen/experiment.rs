//! The form of a new study: what to ask, what it means, what it costs, and the command that asks the same.

use ratatui::style::Style;

use super::loss;
use crate::ui::command_line;
use crate::ui::form::{Form, Kind, Place, Row};
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widget::{footer, frame};

mod told;

use told::tell;

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    pen.run(
        1,
        0,
        &[("shrinklab", theme.title()), ("   new study", theme.dim())],
    );
    if scene.state().study.is_some() {
        pen.put_right(width - 1, 0, "esc: back to the panels", theme.dim());
    }
    let side = if width >= 72 {
        (width * 9 / 25).min(48)
    } else {
        0
    };
    // Estimate, command and keys; the command may need a second line.
    let below = if height >= 24 { 4 } else { 3 };
    let panel_height = height - 1 - below;
    // On the very first start nobody meets an empty screen.
    let demo = if scene.demo && side > 0 && panel_height >= 20 {
        panel_height * 11 / 25
    } else {
        0
    };
    {
        let mut panel = pen.part(0, 1, width - side, panel_height);
        let note = if view.form.shows_all() {
            "all knobs"
        } else {
            ""
        };
        let mut inside = frame::frame(&mut panel, "Study", note, view.popups.is_empty(), theme);
        rows(&mut inside, &view.form, scene, theme);
    }
    if side > 0 {
        let mut panel = pen.part(width - side, 1, side, panel_height - demo);
        let mut inside = frame::frame(&mut panel, "What this is", "", false, theme);
        explain(&mut inside, &view.form, scene, theme);
    }
    if demo > 0 {
        let mut panel = pen.part(width - side, 1 + panel_height - demo, side, demo);
        let mut inside = frame::frame(
            &mut panel,
            "A recorded session",
            "esc: watch it",
            false,
            theme,
        );
        loss::draw(&mut inside, scene, view);
    }
    let y = height - below;
    pen.put(1, y, scene.estimate, theme.text());
    let command = command_line::command_line(view.form.study(), scene.lab);
    let lines = text::wrap(&command, usize::from(width).saturating_sub(4));
    let room = usize::from(below) - 2;
    for (row, line) in lines.iter().take(room).enumerate() {
        let y = y + 1 + row as u16;
        let mark = if row == 0 { "$ " } else { "  " };
        let cut = row + 1 == room && lines.len() > room;
        let tail = if cut { " …" } else { "" };
        pen.run(
            1,
            y,
            &[
                (mark, theme.dim()),
                (line, theme.dim()),
                (tail, theme.dim()),
            ],
        );
    }
    footer::draw(&mut pen.part(0, height - 1, width, 1), scene, view, theme);
}

/// Draws the rows of a form, scrolled so that the cursor is seen, and at the end what belongs to no row.
pub fn rows(pen: &mut Pen<'_>, form: &Form, scene: &Scene<'_>, theme: Theme) {
    let rows = form.rows(scene.lab);
    let mut lines: Vec<(usize, Option<String>)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        lines.push((index, None));
        for error in &row.errors {
            lines.push((index, Some(error.clone())));
        }
    }
    for error in form.homeless(scene.lab) {
        lines.push((usize::MAX, Some(error)));
    }
    let room = usize::from(pen.height()).max(1);
    let at = lines
        .iter()
        .position(|(index, error)| *index == form.cursor() && error.is_none())
        .unwrap_or(0);
    // The errors of the row under the cursor are seen too.
    let below = lines[at..]
        .iter()
        .take_while(|(index, _)| *index == form.cursor())
        .count();
    let skip = if lines.len() <= room {
        0
    } else {
        (at + below.max(2))
            .saturating_sub(room)
            .max(at.saturating_sub(room * 2 / 3))
            .min(lines.len() - room)
    };
    for (place, (index, error)) in lines.iter().skip(skip).take(room).enumerate() {
        let y = place as u16;
        match error {
            Some(error) => {
                pen.run(4, y, &[("✗ ", theme.error()), (error, theme.error())]);
            }
            None => row(pen, y, &rows[*index], *index == form.cursor(), form, scene),
        }
    }
    if skip + room < lines.len() {
        let (x, y) = (pen.width(), pen.height() - 1);
        pen.put_right(x, y, "↓", theme.dim());
    }
    if skip > 0 {
        let x = pen.width();
        pen.put_right(x, 0, "↑", theme.dim());
    }
}

fn row(pen: &mut Pen<'_>, y: u16, row: &Row, has_cursor: bool, form: &Form, scene: &Scene<'_>) {
    let theme = scene.theme();
    let mark = if has_cursor { "▸ " } else { "  " };
    let indent = if row.is_inner { "  " } else { "" };
    let label_style = match (has_cursor, row.is_inner) {
        (true, _) => theme.accent(),
        (false, true) => theme.dim(),
        (false, false) => theme.text(),
    };
    if row.kind == Kind::Button {
        pen.run(1, y, &[(mark, theme.accent()), (&row.label, label_style)]);
        return;
    }
    let label = text::left(&format!("{indent}{}", row.label), 16);
    let mut x = pen.run(1, y, &[(mark, theme.accent()), (&label, label_style)]);
    let typed = form.typed().filter(|_| has_cursor);
    let value = typed.unwrap_or(&row.value);
    let style = if row.errors.is_empty() {
        theme.title()
    } else {
        theme.error()
    };
    let dim = theme.dim();
    match &row.kind {
        Kind::Choice | Kind::Flag => {
            x = pen.run(x, y, &[("‹ ", dim), (value, style), (" ›", dim)]);
        }
        Kind::Number { slider } => {
            if let Some(share) = slider.filter(|_| pen.width() >= 50 && typed.is_none()) {
                x = slide(pen, x, y, share, theme);
            }
            x = pen.put(x, y, value, style);
            if typed.is_some() {
                pen.cell(x, y, ' ', theme.selected());
                x += 1;
            }
        }
        Kind::Fixed => {
            let room = usize::from(pen.width().saturating_sub(x + 1));
            x = pen.put(x, y, &text::fit(value, room), dim);
        }
        Kind::Button => {}
    }
    let note = match &row.place {
        Place::Dataset => scene
            .data_notes
            .get(&row.value)
            .cloned()
            .unwrap_or_default(),
        _ if row.errors.is_empty() => row.note.clone(),
        _ => String::new(),
    };
    let room = usize::from(pen.width().saturating_sub(x + 3));
    pen.put(x + 2, y, &text::fit(&text::clean(&note), room), dim);
}

/// `◂━━━━━━━━●━━━━▸ `
fn slide(pen: &mut Pen<'_>, x: u16, y: u16, share: f64, theme: Theme) -> u16 {
    /// Cells between the arrows.
    const TRACK: usize = 13;
    let at = (share * (TRACK - 1) as f64).round() as usize;
    let accent: Style = theme.accent();
    pen.run(
        x,
        y,
        &[
            ("◂", theme.dim()),
            (&"━".repeat(at), accent),
            ("●", accent),
            (&"─".repeat(TRACK - 1 - at), theme.border()),
            ("▸ ", theme.dim()),
        ],
    )
}

/// What the cursor is on: title, what it does, what it takes, where it was published.
pub fn explain(pen: &mut Pen<'_>, form: &Form, scene: &Scene<'_>, theme: Theme) {
    let catalog = scene.lab;
    let Some(place) = form.place(catalog) else {
        return;
    };
    let told = tell(&place, form, catalog);
    let width = pen.width().saturating_sub(1);
    let mut y = pen.put_wrapped(0, &told.title, theme.title()) + 1;
    for paragraph in &told.paragraphs {
        let height = pen.height().saturating_sub(y);
        let mut part = pen.part(0, y, width, height);
        y += part.put_wrapped(0, paragraph, theme.text()) + 1;
    }
    if !told.source.is_empty() {
        let height = pen.height().saturating_sub(y);
        let mut part = pen.part(0, y, width, height);
        part.put_wrapped(0, &told.source, theme.dim());
    }
}
