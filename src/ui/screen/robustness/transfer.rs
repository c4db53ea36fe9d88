//! Images made against one network, asked of every other of the same reference.

use crate::measurement::{Measurement, Metric};
use crate::state::NetworkState;
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;

/// What was found of `to` on images made against `from`.
fn asked<'a>(to: &'a NetworkState, from: &NetworkState) -> Option<&'a Measurement> {
    let mut found = to.measurements.iter();
    found.rfind(|found| {
        found.metric == Metric::TransferAccuracy && found.against == Some(from.plan.id)
    })
}

/// The networks of the shown reference that were asked.
fn networks<'a>(scene: &Scene<'a>, view: &View) -> Vec<&'a NetworkState> {
    let Some(shown) = scene.candidate(view).or_else(|| scene.reference(view)) else {
        return Vec::new();
    };
    let of = |network: &&NetworkState| {
        network.plan.reference == shown.plan.reference && asked(network, network).is_some()
    };
    let all = scene.state().networks.iter().map(|network| &**network);
    all.filter(of).collect()
}

/// With what they were made, and how many.
pub fn note(scene: &Scene<'_>, view: &View) -> String {
    let networks = networks(scene, view);
    let Some(found) = networks.first().and_then(|network| asked(network, network)) else {
        return String::new();
    };
    let budget = found.budget.map_or(String::new(), |budget| {
        format!(" ε {}", figure::digits(budget.0, 2))
    });
    let n = found
        .n
        .map_or(String::new(), |n| format!(" · n {}", figure::count(n)));
    format!("{}{budget}{n}", found.condition.as_deref().unwrap_or("pgd"))
}

/// Draws the panel; `false` where nothing was asked of another.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, scroll: usize) -> bool {
    let networks = networks(scene, view);
    if networks.is_empty() {
        return false;
    }
    let theme = scene.theme();
    // Intervals where there is room for them.
    let count = networks.len() as u16;
    let width = pen.width();
    let each = if width >= 20 + count * 12 { 12 } else { 6 };
    let has_margin = each == 12;
    let columns = ((width.saturating_sub(12)) / each).max(1).min(count);
    let label = width.saturating_sub(columns * each).min(34);
    let place = |column: u16| label + (column + 1) * each;
    pen.put(1, 0, "made against ↓ asked of →", theme.dim());
    for (column, network) in networks.iter().take(usize::from(columns)).enumerate() {
        let id = network.plan.id;
        pen.put_right(
            place(column as u16),
            0,
            &format!(" {}", scene.glyph(id)),
            scene.style(id),
        );
    }
    let height = usize::from(pen.height());
    let fits = height.saturating_sub(2).max(1);
    let skip = scroll.min(networks.len().saturating_sub(fits));
    for (line, from) in networks.iter().skip(skip).take(fits).enumerate() {
        let y = 1 + line as u16;
        let id = from.plan.id;
        let name = text::fit(
            &text::clean(&from.plan.name),
            usize::from(label).saturating_sub(4),
        );
        pen.run(
            1,
            y,
            &[
                (&format!("{} ", scene.glyph(id)), scene.style(id)),
                (&name, theme.text()),
            ],
        );
        for (column, to) in networks.iter().take(usize::from(columns)).enumerate() {
            let words = match asked(to, from) {
                None => "—".to_owned(),
                Some(found) => {
                    let margin = found.interval.filter(|_| has_margin);
                    let margin = margin.map_or(String::new(), |(low, high)| {
                        format!(" ±{}", figure::percent((high.0 - low.0) / 2.0))
                    });
                    found.scalar().map_or("—".to_owned(), figure::percent) + &margin
                }
            };
            // What was made against a network itself is what the others are held against.
            let style = if to.plan.id == id {
                theme.title()
            } else {
                theme.text()
            };
            pen.put_right(place(column as u16), y, &words, style);
        }
    }
    if height >= 3 {
        let hidden = networks.len().saturating_sub(skip + fits);
        let more = match (hidden, count - columns) {
            (0, 0) => "share of images that stay right, in %".to_owned(),
            (0, right) => format!("→ {right} more in full (f)"),
            (down, _) => format!("↓ {down} more"),
        };
        pen.put(1, pen.height() - 1, &more, theme.dim());
    }
    true
}
