//! Accuracy under corruption: what does it stand up to? Reference beside candidate, bar under bar.

use ratatui::style::Style;

use crate::state::comparison::{AccuracyRow, Comparison, Estimate};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widget::bar;

/// What stands beside what: the candidate with its reference, or the reference alone.
fn rows(scene: &Scene<'_>, view: &View) -> Option<Comparison> {
    let of = scene.candidate(view).or_else(|| scene.reference(view))?;
    Comparison::of(scene.state(), of.plan.id)
}

/// What the title line says on the right: how many images, how strong.
pub fn note(scene: &Scene<'_>, view: &View, width: u16) -> String {
    let n = rows(scene, view).and_then(|comparison| {
        comparison
            .at_severity(view.severity)
            .filter(|row| row.condition.is_some())
            .find_map(|row| row.candidate.or(row.reference)?.n)
    });
    let word = if width < 56 { "sev" } else { "severity" };
    let severity = format!("{word} {}", view.severity);
    match n {
        Some(n) if width >= 72 => {
            let images = figure::count(n);
            format!("{severity} · n {images}{}", source(scene))
        }
        Some(n) => format!("{severity} · n {}", figure::count(n)),
        None => severity,
    }
}

/// Whose images they are, where it could be others' than the program's own.
fn source(scene: &Scene<'_>) -> String {
    let data = &scene.state().data;
    let official: usize = data.iter().map(|facts| facts.official.len()).sum();
    if official > 0 {
        format!(" · {official} official")
    } else if data.iter().any(|facts| facts.dataset == "cifar10") {
        " · made here".to_owned()
    } else {
        String::new()
    }
}

/// Columns of a row, from how wide the panel is.
struct Columns {
    label: u16,
    bar: u16,
    /// Cells for the value, and for the difference behind it.
    value: u16,
    difference: u16,
    margins: bool,
}

impl Columns {
    fn of(width: u16) -> Self {
        let margins = width >= 46;
        let label = if width >= 46 { 15 } else { 11 };
        let difference = if margins { 11 } else { 6 };
        Self {
            label,
            bar: width.saturating_sub(label + 3 + 7 + difference),
            value: 6,
            difference,
            margins,
        }
    }

    fn bar_at(&self) -> u16 {
        self.label + 3
    }
}

/// The panel.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let Some(comparison) = rows(scene, view).filter(|found| !found.accuracies.is_empty()) else {
        let middle = pen.height() / 2;
        pen.put_center(middle, &waiting(scene), theme.dim());
        return;
    };
    let columns = Columns::of(pen.width());
    let is_alone = comparison.reference == comparison.candidate;
    let rows: Vec<&AccuracyRow> = comparison.at_severity(view.severity).collect();
    let each = if is_alone { 1 } else { 2 };
    let foot = u16::from(pen.height() > 6);
    // The scale is the first to go: each bar has its figure.
    let has_scale = usize::from(pen.height() - foot) > rows.len() * each;
    let top = u16::from(has_scale);
    if has_scale {
        scale(pen, &columns, theme);
    }
    let room = usize::from(pen.height() - top - foot);
    let fits = (room / each).max(1);
    let skip = view.scroll.min(rows.len().saturating_sub(fits));
    for (place, row) in rows.iter().skip(skip).take(fits).enumerate() {
        let y = top + (place * each) as u16;
        pair(pen, y, row, &columns, scene, &comparison);
    }
    let hidden = rows.len().saturating_sub(skip + fits);
    if foot == 1 {
        let mut legend: Vec<(String, Style)> = vec![
            (
                scene.glyph(comparison.reference).to_string(),
                scene.style(comparison.reference),
            ),
            (" reference".to_owned(), theme.dim()),
        ];
        if !is_alone {
            let candidate = scene.glyph(comparison.candidate).to_string();
            legend.push((format!("  {candidate}"), scene.style(comparison.candidate)));
            let room = usize::from(pen.width()).saturating_sub(if hidden > 0 { 28 } else { 17 });
            let name = text::fit(&text::clean(&scene.name(comparison.candidate)), room);
            legend.push((format!(" {name}"), theme.dim()));
        }
        if hidden > 0 {
            legend.push((format!("  ↓ {hidden} more"), theme.dim()));
        }
        let y = pen.height() - 1;
        let mut x = 1;
        for (words, style) in legend {
            x = pen.put(x, y, &words, style);
        }
    }
}

fn waiting(scene: &Scene<'_>) -> String {
    if scene.state().study.is_none() {
        return "nothing measured yet".to_owned();
    }
    match scene.state().current_stage() {
        Some((network, stage)) => format!(
            "waits for {} ({})",
            network.plan.name,
            text::clean(&stage.title).to_lowercase()
        ),
        None => "nothing measured yet".to_owned(),
    }
}

fn scale(pen: &mut Pen<'_>, columns: &Columns, theme: Theme) {
    let at = columns.bar_at();
    if columns.bar >= 9 {
        pen.put(at, 0, "0", theme.dim());
        pen.put(at + columns.bar / 2 - 1, 0, "50", theme.dim());
        pen.put_right(at + columns.bar, 0, "100", theme.dim());
    }
    let end = at + columns.bar + columns.value + columns.difference;
    let words = if columns.margins { "Δ ±95 %" } else { "Δ" };
    pen.put_right(end, 0, words, theme.dim());
}

fn pair(
    pen: &mut Pen<'_>,
    y: u16,
    row: &AccuracyRow,
    columns: &Columns,
    scene: &Scene<'_>,
    comparison: &Comparison,
) {
    let theme = scene.theme();
    let label = row
        .condition
        .as_deref()
        .map_or("clean".to_owned(), |id| scene.title_of(id));
    pen.put(
        0,
        y,
        &text::fit(&text::clean(&label), usize::from(columns.label) - 1),
        theme.text(),
    );
    one(pen, y, row.reference, columns, scene, comparison.reference);
    if comparison.reference == comparison.candidate {
        return;
    }
    one(
        pen,
        y + 1,
        row.candidate,
        columns,
        scene,
        comparison.candidate,
    );
    if let Some(difference) = row.difference {
        let words = if columns.margins {
            figure::points(difference.value)
                + &difference.margin().map_or(String::new(), |margin| {
                    format!(" ±{}", figure::percent(margin))
                })
        } else {
            figure::points(difference.value)
        };
        let style = change_style(difference.value, row.is_within_noise(), theme);
        let end = columns.bar_at() + columns.bar + columns.value + columns.difference;
        pen.put_right(end, y + 1, &words, style);
    }
}

/// Within noise a change is grey, whatever its sign.
fn change_style(value: f64, within_noise: Option<bool>, theme: Theme) -> Style {
    match within_noise {
        Some(true) => theme.dim(),
        _ if value < 0.0 => theme.bad(),
        _ if value > 0.0 => theme.good(),
        _ => theme.dim(),
    }
}

fn one(
    pen: &mut Pen<'_>,
    y: u16,
    found: Option<Estimate>,
    columns: &Columns,
    scene: &Scene<'_>,
    id: crate::spec::NetworkId,
) {
    let theme = scene.theme();
    let at = columns.bar_at();
    pen.put(
        columns.label,
        y,
        &scene.glyph(id).to_string(),
        scene.style(id),
    );
    pen.cell(at - 1, y, '▐', theme.border());
    match found {
        Some(found) => {
            bar::draw(
                pen,
                (at, y),
                columns.bar,
                found.value,
                found.interval,
                scene.style(id),
                theme.dim(),
            );
            pen.put_right(
                at + columns.bar + columns.value - 1,
                y,
                &figure::percent(found.value),
                theme.text(),
            );
        }
        None => {
            pen.put(at, y, "not measured yet", theme.dim());
        }
    }
}

/// Every corruption at every severity: one line of five bars each, with the difference under them.
pub fn draw_full(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let Some(comparison) = rows(scene, view).filter(|found| !found.accuracies.is_empty()) else {
        draw(pen, scene, view);
        return;
    };
    let severities = comparison.severities();
    if severities.is_empty() || pen.width() < 20 + 11 * severities.len() as u16 {
        draw(pen, scene, view);
        return;
    }
    let mut conditions: Vec<&str> = Vec::new();
    for row in &comparison.accuracies {
        // Attacks have budgets and no severities.
        if let Some(condition) = row.condition.as_deref().filter(|_| row.severity.is_some())
            && !conditions.contains(&condition)
        {
            conditions.push(condition);
        }
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
    let foot = 1;
    let room = usize::from(pen.height().saturating_sub(1 + foot));
    let is_alone = comparison.reference == comparison.candidate;
    let lines = if is_alone { 2 } else { 4 };
    // The clean images are a block of their own, above the others.
    let mut blocks: Vec<Option<&str>> = vec![None];
    blocks.extend(conditions.into_iter().map(Some));
    let fits = (room / lines).max(1);
    let skip = view.scroll.min(blocks.len().saturating_sub(fits));
    for (place, condition) in blocks.iter().skip(skip).take(fits).enumerate() {
        let y = 1 + (place * lines) as u16;
        let title = condition.map_or("clean".to_owned(), |id| scene.title_of(id));
        pen.put(0, y, &text::fit(&text::clean(&title), 16), theme.text());
        for (column, severity) in severities.iter().enumerate() {
            if condition.is_none() && column > 0 {
                break;
            }
            let Some(row) = comparison.accuracies.iter().find(|row| {
                // What has no severity stands in the first column alone, as clean images do.
                row.condition.as_deref() == *condition
                    && (condition.is_none()
                        || row.severity == Some(*severity)
                        || (row.severity.is_none() && column == 0))
            }) else {
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
                &format!(" {}", scene.name(comparison.candidate)),
                theme.dim(),
            ),
            ("   grey Δ: within noise", theme.dim()),
            (&more, theme.dim()),
        ],
    );
}
