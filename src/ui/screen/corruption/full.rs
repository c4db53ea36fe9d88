//! Accuracy under corruption on the whole screen: every corruption at every severity.

use super::{Spread, change_style, means, packed, remark, rows};
use crate::state::comparison::AccuracyRow;
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;
use crate::ui::widget::bar;

/// Every corruption at every severity: one line of five bars each, with the difference under them.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let Some(comparison) = rows(scene, view).filter(|found| !found.accuracies.is_empty()) else {
        super::draw(pen, scene, view);
        return;
    };
    let severities = comparison.severities();
    let has_room = pen.width() >= 20 + 11 * severities.len() as u16;
    if severities.is_empty() || !has_room || view.spread == Spread::Mean {
        super::draw(pen, scene, view);
        return;
    }
    let label = 19;
    let each = (pen.width() - label) / severities.len() as u16;
    let width = each - 8;
    for (column, severity) in severities.iter().enumerate() {
        let words = format!("severity {severity}");
        let style = if *severity == view.severity {
            theme.accent()
        } else {
            theme.dim()
        };
        pen.put(label + column as u16 * each, 0, &words, style);
    }
    let wide = usize::from(pen.width()).saturating_sub(2);
    let sums = packed(&means(scene, view, &comparison), wide);
    let foot = 1 + sums.len();
    let room = usize::from(pen.height()).saturating_sub(1 + foot);
    let is_alone = comparison.reference == comparison.candidate;
    let lines = if is_alone { 2 } else { 4 };
    // The clean images are a block of their own, above the others.
    let blocks = comparison.by_condition();
    let fits = (room / lines).max(1);
    let skip = view.scroll.min(blocks.len().saturating_sub(fits));
    for (place, block) in blocks.iter().skip(skip).take(fits).enumerate() {
        let y = 1 + (place * lines) as u16;
        let condition = block[0].condition.as_deref();
        let title = condition.map_or("clean".to_owned(), |id| {
            scene.title_of(id.split(':').next().unwrap_or(id))
        });
        pen.put(0, y, &text::fit(&text::clean(&title), 16), theme.text());
        let strongest = severities.last().copied();
        let severity = strongest.filter(|_| block[0].severity.is_some());
        if let Some((words, is_loud)) = remark(scene, &comparison, condition, severity) {
            let style = if is_loud {
                theme.warning()
            } else {
                theme.dim()
            };
            pen.put(1, y + 1, &text::fit(&words, 15), style);
        }
        for (column, severity) in severities.iter().enumerate() {
            // What has no severity stands in the first column alone, as clean images do.
            let is_here = |row: &&&AccuracyRow| match row.severity {
                Some(own) => own == *severity,
                None => column == 0,
            };
            let Some(row) = block.iter().find(is_here) else {
                continue;
            };
            let x = label + column as u16 * each;
            let mut shown = vec![(row.reference, comparison.reference)];
            if !is_alone {
                shown.push((row.candidate, comparison.candidate));
            }
            for (line, (found, id)) in shown.into_iter().enumerate() {
                let y = y + line as u16;
                if column == 0 {
                    pen.put(label - 2, y, &scene.glyph(id).to_string(), scene.style(id));
                }
                let Some(found) = found else {
                    continue;
                };
                let place = (x, y);
                bar::draw(
                    pen,
                    place,
                    width,
                    found.value,
                    found.interval,
                    scene.style(id),
                    theme.dim(),
                );
                pen.put(
                    x + width + 1,
                    y,
                    &text::right(&figure::percent(found.value), 5),
                    theme.text(),
                );
            }
            if let Some(difference) = row.difference.filter(|_| !is_alone) {
                let words = difference.points();
                let style = change_style(difference.value, row.is_within_noise(), theme);
                pen.put_right(x + width + 6, y + 2, &words, style);
            }
        }
    }
    for (place, line) in sums.iter().enumerate() {
        let y = pen.height().saturating_sub(foot as u16) + place as u16;
        pen.put(1, y, line, theme.text());
    }
    let y = pen.height() - 1;
    let hidden = blocks.len().saturating_sub(skip + fits);
    let more = if hidden > 0 {
        format!("   ↓ {hidden} more")
    } else {
        String::new()
    };
    pen.run(
        1,
        y,
        &[
            (
                &scene.glyph(comparison.reference).to_string(),
                scene.style(comparison.reference),
            ),
            (" reference   ", theme.dim()),
            (
                &scene.glyph(comparison.candidate).to_string(),
                scene.style(comparison.candidate),
            ),
            (
                &format!(" {}", scene.told(view, comparison.candidate)),
                theme.dim(),
            ),
            ("   grey Δ: within noise", theme.dim()),
            (&more, theme.dim()),
        ],
    );
}
