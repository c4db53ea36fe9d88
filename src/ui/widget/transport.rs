//! The time line of a recording: play head, stages, notes.

use super::super::figure;
use super::super::pen::Pen;
use super::super::scene::Scene;
use super::super::text;
use super::super::theme::Theme;
use crate::spec::NetworkId;
use crate::state::Mode;
use crate::state::timeline::MarkKind;

/// Draws the play head over the stages of the study.
///
/// ```text
/// ▶ ×4   02:13 / 06:40   ├─reference────┼─twin─┼──●─pruned─◆──┼8 bit┤  note 2/3
/// ```
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, theme: Theme) {
    let timeline = scene.timeline;
    let mode = match timeline.mode() {
        Mode::Following => "● live",
        Mode::Playing => "▶",
        Mode::Paused => "‖",
    };
    let (at, end) = timeline.time();
    let looping = if timeline.is_looping() { " ↻" } else { "" };
    let mut x = pen.run(
        1,
        0,
        &[
            (mode, theme.accent()),
            (&format!(" ×{}{looping}", timeline.speed()), theme.text()),
            (
                &format!("   {} / {}   ", figure::clock(at), figure::clock(end)),
                theme.text(),
            ),
        ],
    );
    let notes = timeline
        .marks()
        .iter()
        .filter(|mark| matches!(mark.what, MarkKind::Note(_)));
    let all = notes.clone().count();
    let passed = notes
        .filter(|mark| mark.position <= timeline.position())
        .count();
    let counter = if all > 0 {
        format!("  note {passed}/{all}")
    } else {
        String::new()
    };
    let room = pen
        .width()
        .saturating_sub(x)
        .saturating_sub(text::width(&counter) as u16 + 1);
    if room >= 8 {
        x = track(pen, x, room, scene, theme);
    }
    pen.put(x, 0, &counter, theme.dim());
}

fn track(pen: &mut Pen<'_>, x: u16, room: u16, scene: &Scene<'_>, theme: Theme) -> u16 {
    let timeline = scene.timeline;
    let place = |position: usize| {
        let share = timeline.share_at(position).clamp(0.0, 1.0);
        (share * f64::from(room - 1)).round() as u16
    };
    pen.put(x, 0, &"─".repeat(usize::from(room)), theme.border());
    pen.cell(x, 0, '├', theme.border());
    pen.cell(x + room - 1, 0, '┤', theme.border());
    // A section per network, with its name where it fits.
    let mut sections: Vec<(u16, NetworkId)> = Vec::new();
    for mark in timeline.marks() {
        if let MarkKind::Stage { network, .. } = &mark.what
            && sections.last().is_none_or(|(_, last)| last != network)
        {
            let from = if sections.is_empty() {
                0
            } else {
                place(mark.position)
            };
            sections.push((from, *network));
        }
    }
    for (index, (from, network)) in sections.iter().enumerate() {
        let to = sections.get(index + 1).map_or(room - 1, |(to, _)| *to);
        if *from > 0 && *from < room - 1 {
            pen.cell(x + from, 0, '┼', theme.border());
        }
        let name = text::clean(&scene.name(*network));
        let free = usize::from(to.saturating_sub(*from)).saturating_sub(3);
        let label = if text::width(&name) <= free {
            name
        } else if free >= 1 {
            scene.glyph(*network).to_string()
        } else {
            continue;
        };
        pen.put(x + from + 2, 0, &label, scene.style(*network));
    }
    for mark in timeline.marks() {
        if matches!(mark.what, MarkKind::Note(_)) {
            pen.cell(x + place(mark.position), 0, '◆', theme.warning());
        }
    }
    pen.cell(x + place(timeline.position()), 0, '●', theme.accent());
    x + room
}

/// The note that the play head has passed last, if any.
pub fn note<'a>(scene: &'a Scene<'_>) -> Option<&'a str> {
    scene.state().notes.last().map(|note| note.text.as_str())
}
