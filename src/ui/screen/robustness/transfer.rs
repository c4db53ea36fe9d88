//! Images made against one network, asked of every other.

use super::further;
use crate::state::NetworkState;
use crate::state::transfer::{asked, matrices};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;

/// The networks that were asked the same images as the shown one, whatever their reference.
fn networks<'a>(scene: &Scene<'a>, view: &View) -> Vec<&'a NetworkState> {
    let Some(shown) = scene.candidate(view).or_else(|| scene.reference(view)) else {
        return Vec::new();
    };
    let all = matrices(scene.state());
    let is_in = |network: &&NetworkState| network.plan.reference == shown.plan.reference;
    let of = all.into_iter().find(|matrix| matrix.iter().any(is_in));
    of.unwrap_or_default()
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
    // Intervals where there is room for them, tenths where there is less, whole percents before columns are left out.
    let count = networks.len() as u16;
    let width = pen.width();
    let each = [12, 6]
        .into_iter()
        .find(|each| width >= 20 + count * each)
        .unwrap_or(4);
    let columns = (width.saturating_sub(14) / each).clamp(1, count);
    let label = width.saturating_sub(columns * each).min(34);
    let place = |column: u16| label + (column + 1) * each;
    let room = usize::from(label).saturating_sub(1);
    let heads = ["made against ↓ asked of →", "made ↓ asked →", "↓ →"];
    let head = heads.into_iter().find(|head| text::width(head) <= room);
    pen.put(1, 0, head.unwrap_or(""), theme.dim());
    // Networks of a family share a glyph: numbers tell them apart.
    for (column, network) in networks.iter().take(usize::from(columns)).enumerate() {
        let words = (column + 1).to_string();
        let style = scene.style(network.plan.id);
        pen.put_right(place(column as u16), 0, &words, style);
    }
    let height = usize::from(pen.height());
    let fits = height.saturating_sub(2).max(1);
    let skip = scroll.min(networks.len().saturating_sub(fits));
    let digits = networks.len().to_string().len();
    for (line, from) in networks.iter().enumerate().skip(skip).take(fits) {
        let y = 1 + (line - skip) as u16;
        let id = from.plan.id;
        let mark = format!("{:>digits$} {} ", line + 1, scene.glyph(id));
        let room = usize::from(label).saturating_sub(text::width(&mark) + 1);
        let name = text::fit(&text::clean(&from.plan.name), room);
        pen.run(1, y, &[(&mark, scene.style(id)), (&name, theme.text())]);
        for (column, to) in networks.iter().take(usize::from(columns)).enumerate() {
            let words = match asked(to, from) {
                None => "—".to_owned(),
                Some(found) => {
                    let margin = found.interval.filter(|_| each == 12).zip(found.scalar());
                    let margin = margin.map_or(String::new(), |((low, high), value)| {
                        figure::margin(value, (low.0, high.0))
                    });
                    let share = |value: f64| match each {
                        4 => format!("{:.0}", 100.0 * value),
                        _ => figure::percent(value),
                    };
                    found.scalar().map_or("—".to_owned(), share) + &margin
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
            (0, right) => further(right.into(), view),
            (down, 0) => format!("↓ {down} more"),
            (down, right) => format!("↓ {down} more   {}", further(right.into(), view)),
        };
        pen.put(1, pen.height() - 1, &more, theme.dim());
    }
    true
}
