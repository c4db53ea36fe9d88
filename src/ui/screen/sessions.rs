//! The list of saved sessions.

use crate::state::counted;
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::{Presence, Scene, SessionRow};
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widget::{footer, frame};

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    pen.run(
        1,
        0,
        &[
            ("shrinklab", theme.title()),
            ("   saved sessions", theme.dim()),
        ],
    );
    let count = scene.sessions.len();
    let note = counted(count as u64, "session");
    let mut panel = pen.part(0, 1, width, height - 3);
    let has_keys = view.popups.is_empty();
    let mut inside = frame::frame(&mut panel, "Sessions", &note, has_keys, theme);
    if count == 0 {
        let middle = inside.height() / 2;
        inside.put_center(
            middle,
            "no session yet: 1 makes a new study, which is saved while it runs",
            theme.dim(),
        );
    } else {
        list(&mut inside, scene, view);
    }
    if let Some(row) = scene.sessions.get(view.session.min(count.max(1) - 1)) {
        let words = format!("{}  {}", row.name, row.study);
        pen.put(1, height - 2, &words, theme.dim());
    }
    footer::draw(&mut pen.part(0, height - 1, width, 1), scene, view, theme);
}

fn list(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let room = usize::from(pen.height()).max(1);
    let cursor = view.session.min(scene.sessions.len() - 1);
    let skip = cursor
        .saturating_sub(room / 2)
        .min(scene.sessions.len().saturating_sub(room));
    for (place, row) in scene.sessions.iter().enumerate().skip(skip).take(room) {
        let y = (place - skip) as u16;
        line(&mut pen.part(0, y, u16::MAX, 1), row, theme);
        if place == cursor {
            let width = pen.width();
            pen.shade(0, y, width, theme.selected());
        }
    }
}

fn line(pen: &mut Pen<'_>, row: &SessionRow, theme: Theme) {
    let (mark, word, style) = match row.presence {
        Presence::Writing => ("▸", "writing", theme.accent()),
        Presence::Interrupted => ("✗", "interrupted", theme.warning()),
        Presence::Ended => ("✓", "", theme.good()),
    };
    let width = usize::from(pen.width());
    let tail = format!(
        "{:<12}{:>8}{:>11}",
        word,
        figure::clock(row.milliseconds),
        figure::bytes(row.bytes as f64)
    );
    let started = text::left(&text::clean(&row.started), 17);
    let middle = width.saturating_sub(3 + 17 + text::width(&tail) + 3);
    let x = pen.run(
        1,
        0,
        &[(mark, style), (" ", theme.text()), (&started, theme.dim())],
    );
    let study = text::left(&text::clean(&row.study), middle);
    let x = pen.put(x, 0, &study, theme.text());
    pen.put(x + 1, 0, &tail, theme.dim());
}
