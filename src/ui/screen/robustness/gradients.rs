//! Whether gradients tell the truth: a verdict per network, and every check that fails, in words.

use ratatui::style::Style;

use crate::measurement::{CheckOutcome, Masking, MaskingCheck, Value};
use crate::spec::NetworkId;
use crate::state::{rounded, suspicion};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;

/// Pieces of a line.
type Pieces = Vec<(String, Style)>;

/// Draws the panel; `false` where nobody was judged.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, scroll: usize) -> bool {
    let lines = lines(scene, view, usize::from(pen.width()));
    if lines.is_empty() {
        return false;
    }
    let theme = scene.theme();
    let fits = usize::from(pen.height());
    let skip = scroll.min(lines.len().saturating_sub(fits));
    let hidden = lines.len().saturating_sub(skip + fits);
    for (y, line) in lines.iter().skip(skip).take(fits).enumerate() {
        let pieces: Vec<(&str, Style)> = line
            .iter()
            .map(|(words, style)| (words.as_str(), *style))
            .collect();
        pen.run(1, y as u16, &pieces);
    }
    if hidden > 0 {
        let (width, y) = (pen.width(), pen.height() - 1);
        pen.put_right(width, y, &format!(" ↓ {hidden} more"), theme.dim());
    }
    true
}

/// The candidate first, then its reference: what is wrong, then what is unclear, then what is in order.
fn lines(scene: &Scene<'_>, view: &View, width: usize) -> Vec<Pieces> {
    let Some(candidate) = scene.candidate(view).or_else(|| scene.reference(view)) else {
        return Vec::new();
    };
    let mut ids = vec![candidate.plan.id];
    if candidate.plan.against != candidate.plan.id {
        ids.push(candidate.plan.against);
    }
    let mut lines = Vec::new();
    for id in ids {
        network(scene, id, width, &mut lines);
    }
    lines
}

fn network(scene: &Scene<'_>, id: NetworkId, width: usize, lines: &mut Vec<Pieces>) {
    let theme = scene.theme();
    let Some(found) = scene
        .state()
        .network(id)
        .and_then(|network| network.masking.as_deref())
    else {
        return;
    };
    let Value::Masking { verdict, checks } = &found.value else {
        return;
    };
    if !lines.is_empty() {
        lines.push(Vec::new());
    }
    // Loud where attacks cannot be believed.
    let (words, style) = match verdict {
        Masking::Masked => (" MASKED ".to_owned(), theme.selected().patch(theme.error())),
        Masking::NotMasked => (verdict.word().to_owned(), theme.good()),
        Masking::Inconclusive => (verdict.word().to_owned(), theme.warning()),
    };
    let all = suspicion::images(scene.state(), found);
    let all = all.map_or(String::new(), |all| {
        format!(" of {} right", figure::count(all))
    });
    let n = found
        .n
        .map_or(String::new(), |n| format!("  n {}{all}", figure::count(n)));
    let room = width.saturating_sub(text::width(&words) + text::width(&n) + 6);
    let name = text::fit(&text::clean(&scene.name(id)), room);
    lines.push(vec![
        (format!("{} ", scene.glyph(id)), scene.style(id)),
        (name + "  ", theme.title()),
        (words, style),
        (n, theme.dim()),
    ]);
    if *verdict == Masking::Masked {
        let words = "its accuracy under attack is no lower bound; found:";
        lines.extend(wrapped(words, width, theme.text()));
    }
    let mut is_told = false;
    for outcome in [
        CheckOutcome::Failed,
        CheckOutcome::Unclear,
        CheckOutcome::Passed,
    ] {
        for check in checks.iter().filter(|check| check.outcome == outcome) {
            // A check is called by what would be suspicious.
            if outcome == CheckOutcome::Passed && !is_told {
                is_told = true;
                lines.extend(wrapped("looked for and not found:", width, theme.dim()));
            }
            let (mark, style) = match outcome {
                CheckOutcome::Failed => ("✗", theme.error()),
                CheckOutcome::Unclear => ("?", theme.warning()),
                CheckOutcome::Passed => ("·", theme.dim()),
            };
            let told = told(check, outcome != CheckOutcome::Passed);
            for (place, line) in text::wrap(&told, width.saturating_sub(4))
                .into_iter()
                .enumerate()
            {
                let mark = if place == 0 { mark } else { " " };
                let ink = if outcome == CheckOutcome::Passed {
                    theme.dim()
                } else {
                    theme.text()
                };
                lines.push(vec![(format!("{mark} "), style), (line, ink)]);
            }
        }
    }
    if let Some(estimator) = &found.estimator {
        let words = suspicion::through(*estimator);
        lines.extend(wrapped(words, width, theme.dim()));
    }
}

fn wrapped(words: &str, width: usize, style: Style) -> impl Iterator<Item = Pieces> {
    text::wrap(words, width.saturating_sub(2))
        .into_iter()
        .map(move |line| vec![(line, style)])
}

/// The check in words, with both numbers where something is the matter.
fn told(check: &MaskingCheck, has_numbers: bool) -> String {
    let title = text::clean(&suspicion::said(check));
    if !has_numbers {
        return title;
    }
    let number = |place: usize| {
        let value = rounded(check.numbers[place].0, 3);
        format!("{} {value}", text::clean(&check.names[place]))
    };
    format!("{title}: {}, {}", number(0), number(1))
}
