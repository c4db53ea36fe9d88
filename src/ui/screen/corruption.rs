//! Accuracy under corruption: what does it stand up to? Reference beside candidate, bar under bar.

use ratatui::style::Style;

use crate::measurement::{Measurement, Metric};
use crate::spec::NetworkId;
use crate::state::comparison::{AccuracyRow, Comparison, Estimate};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widget::bar;

mod full;

pub use full::draw as draw_full;

/// What the bars are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// One severity.
    #[default]
    One,
    /// All severities, a column each, side by side.
    All,
    /// Their mean.
    Mean,
}

impl Spread {
    /// The next, round at the end.
    pub fn next(self) -> Self {
        match self {
            Self::One => Self::All,
            Self::All => Self::Mean,
            Self::Mean => Self::One,
        }
    }
}

/// What stands beside what: the candidate with its reference, or the reference alone. Attacks and other domains have a
/// screen of their own.
fn rows(scene: &Scene<'_>, view: &View) -> Option<Comparison> {
    let of = scene.candidate(view).or_else(|| scene.reference(view))?;
    let mut found = scene.comparison(view, of.plan.id)?;
    let others = ["adversarial-accuracy", "domain-accuracy"];
    found
        .accuracies
        .retain(|row| row.budget.is_none() && !others.contains(&row.probe.as_str()));
    Some(found)
}

/// Within noise where every severity is; unknown where one of them is.
fn is_within_noise(rows: &[&AccuracyRow]) -> Option<bool> {
    let all: Option<Vec<bool>> = rows.iter().map(|row| row.is_within_noise()).collect();
    all.map(|all| all.iter().all(|within| *within))
}

/// Less than this, of 255, and rounding hides it.
const UNCHANGED: f64 = 0.5;

/// What to know of a condition beside its name: that it changes nothing, or that it has one strength only.
fn remark(
    scene: &Scene<'_>,
    comparison: &Comparison,
    condition: Option<&str>,
    severity: Option<u8>,
) -> Option<(String, bool)> {
    let id = condition?;
    let reference = scene.state().network(comparison.reference)?;
    let change = reference
        .measurements
        .latest(Metric::MeanAbsoluteChange, Some(id), severity)
        .and_then(Measurement::scalar);
    if change.is_some_and(|change| change < UNCHANGED) {
        return Some(("≈ unchanged".to_owned(), true));
    }
    let variant = id.split_once(':').map(|(_, variant)| text::clean(variant));
    let others = comparison.accuracies.iter();
    let mut own = others.filter(|row| row.condition.as_deref() == Some(id));
    match variant {
        Some(variant) => Some((variant, false)),
        None if own.all(|row| row.severity.is_none()) => Some(("one strength".to_owned(), false)),
        None => None,
    }
}

/// The means over all corruptions, with their intervals, in pieces that may stand on several lines.
fn means(scene: &Scene<'_>, view: &View, comparison: &Comparison) -> Vec<String> {
    // Those of one seed would stand among means over seeds.
    if !scene.seeds(view, comparison.candidate).is_empty() {
        return vec!["mean error: of each seed alone (S)".to_owned()];
    }
    let latest = |id: NetworkId, metric| {
        let network = scene.state().network(id)?;
        network.measurements.latest(metric, None, None)
    };
    let written = |found: &Measurement, scale: f64, decimals: usize| {
        let number = |value: f64| figure::plain(value * scale, decimals);
        let range = found.interval.map_or(String::new(), |(low, high)| {
            format!(" [{}, {}]", number(low.0), number(high.0))
        });
        number(found.scalar().unwrap_or(f64::NAN)) + &range
    };
    let mut pieces = Vec::new();
    let error = |id: NetworkId| {
        let found = latest(id, Metric::MeanCorruptionError)?;
        let share = found.scalar()?;
        let margin = found.interval.map_or(String::new(), |(low, high)| {
            figure::margin(share, (low.0, high.0))
        });
        let value = figure::percent(share);
        Some(format!(" {} {value}{margin}", scene.glyph(id)))
    };
    let is_alone = comparison.reference == comparison.candidate;
    let own = error(comparison.candidate).filter(|_| !is_alone);
    let errors: String = [error(comparison.reference), own]
        .into_iter()
        .flatten()
        .collect();
    if !errors.is_empty() {
        pieces.push(format!("mean error{errors}"));
    }
    if is_alone {
        return pieces;
    }
    for (metric, name) in [
        (Metric::RelativeCorruptionError, "relative error"),
        (Metric::RelativeMce, "relative mCE"),
    ] {
        if let Some(found) = latest(comparison.candidate, metric) {
            pieces.push(format!("{name} ×{}", written(found, 1.0, 2)));
        }
    }
    pieces
}

/// The pieces on lines of at most so many cells.
fn packed(pieces: &[String], most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if text::width(line) + 2 + text::width(piece) <= most => {
                line.push_str("  ");
                line.push_str(piece);
            }
            _ => lines.push(piece.clone()),
        }
    }
    lines
}

/// What the title line says on the right: how many images, how strong.
pub fn note(scene: &Scene<'_>, view: &View, width: u16) -> String {
    let found = rows(scene, view);
    let seeds = found
        .as_ref()
        .map_or(String::new(), |found| scene.seeds(view, found.candidate));
    let n = found.and_then(|comparison| {
        comparison
            .at_severity(view.severity)
            .filter(|row| row.condition.is_some())
            .find_map(|row| row.candidate.or(row.reference)?.n)
    });
    let word = if width < 56 { "sev" } else { "severity" };
    let severity = match view.spread {
        Spread::One => format!("{word} {}", view.severity),
        Spread::All => "sev 1-5".to_owned(),
        Spread::Mean => format!("mean {word}"),
    };
    match n {
        Some(n) if width >= 72 => {
            let images = figure::count(n);
            format!("{seeds}{severity} · n {images}{}", source(scene))
        }
        Some(n) => format!("{seeds}{severity} · n {}", figure::count(n)),
        None => seeds + &severity,
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
    let rows = lines(&comparison, view);
    let each = if is_alone { 1 } else { 2 };
    let wide = usize::from(pen.width()).saturating_sub(2);
    let mut sums = packed(&means(scene, view, &comparison), wide);
    sums.truncate(match pen.height() {
        0..9 => 0,
        9..12 => 1,
        12..14 => 2,
        _ => 3,
    });
    let sums_height = sums.len() as u16;
    let foot = u16::from(pen.height() > 6);
    // The scale is the first to go: each bar has its figure.
    let has_scale = usize::from(pen.height() - foot - sums_height) > rows.len() * each;
    let top = u16::from(has_scale);
    if has_scale {
        scale(pen, &columns, theme);
    }
    let room = usize::from(pen.height() - top - foot - sums_height);
    let fits = (room / each).max(1);
    let skip = view.scroll.min(rows.len().saturating_sub(fits));
    for (place, row) in rows.iter().skip(skip).take(fits).enumerate() {
        let y = top + (place * each) as u16;
        pair(pen, y, row, &columns, scene, &comparison);
    }
    for (place, line) in sums.iter().enumerate() {
        let y = pen.height() - foot - sums_height + place as u16;
        pen.put(1, y, line, theme.text());
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
            let name = text::fit(&text::clean(&scene.told(view, comparison.candidate)), room);
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

/// What stands on a pair of lines.
struct Pair<'a> {
    row: AccuracyRow,
    within_noise: Option<bool>,
    /// The severities side by side, where all are shown.
    all: Vec<&'a AccuracyRow>,
}

fn lines<'a>(comparison: &'a Comparison, view: &View) -> Vec<Pair<'a>> {
    if view.spread == Spread::One {
        let rows = comparison.at_severity(view.severity);
        let pair = |row: &AccuracyRow| Pair {
            row: row.clone(),
            within_noise: row.is_within_noise(),
            all: Vec::new(),
        };
        return rows.map(pair).collect();
    }
    comparison
        .by_condition()
        .into_iter()
        .filter_map(|rows| {
            let several = rows.len() > 1;
            Some(Pair {
                row: if several {
                    AccuracyRow::mean(&rows)?
                } else {
                    rows[0].clone()
                },
                within_noise: is_within_noise(&rows),
                all: if several && view.spread == Spread::All {
                    rows
                } else {
                    Vec::new()
                },
            })
        })
        .collect()
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
    shown: &Pair<'_>,
    columns: &Columns,
    scene: &Scene<'_>,
    comparison: &Comparison,
) {
    let theme = scene.theme();
    let row = &shown.row;
    let is_alone = comparison.reference == comparison.candidate;
    let condition = row.condition.as_deref();
    // The variant stands below the name, where there is a line for it.
    let label = condition.map_or("clean".to_owned(), |id| {
        let id = if is_alone {
            id
        } else {
            id.split(':').next().unwrap_or(id)
        };
        scene.title_of(id)
    });
    let severity = row
        .severity
        .or(shown.all.last().and_then(|row| row.severity));
    let remark = remark(scene, comparison, condition, severity);
    let room = usize::from(columns.label) - 1;
    let is_unchanged = remark.as_ref().is_some_and(|(_, loud)| *loud);
    let style = if is_alone && is_unchanged {
        theme.warning()
    } else {
        theme.text()
    };
    pen.put(0, y, &text::fit(&text::clean(&label), room), style);
    let all: Vec<Option<Estimate>> = shown.all.iter().map(|row| row.reference).collect();
    one(
        pen,
        y,
        (row.reference, &all),
        columns,
        scene,
        comparison.reference,
    );
    if is_alone {
        return;
    }
    if let Some((words, is_loud)) = remark {
        let style = if is_loud {
            theme.warning()
        } else {
            theme.dim()
        };
        pen.put(1, y + 1, &text::fit(&words, room - 1), style);
    }
    let all: Vec<Option<Estimate>> = shown.all.iter().map(|row| row.candidate).collect();
    one(
        pen,
        y + 1,
        (row.candidate, &all),
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
        let style = change_style(difference.value, shown.within_noise, theme);
        let end = columns.bar_at() + columns.bar + columns.value + columns.difference;
        pen.put_right(end, y + 1, &words, style);
    }
}

/// A column of eighths per severity, from weak to strong.
fn heights(
    pen: &mut Pen<'_>,
    (x, y): (u16, u16),
    cells: u16,
    all: &[Option<Estimate>],
    style: Style,
) {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let each = (cells / all.len().max(1) as u16).max(1);
    for (place, found) in all.iter().enumerate() {
        let Some(found) = found else { continue };
        // Nothing at all is still a line: it was measured.
        let eighths = (found.value.clamp(0.0, 1.0) * 8.0).round().max(1.0) as usize;
        for cell in 0..each.saturating_sub(1).max(1) {
            let x = x + place as u16 * each + cell;
            pen.cell(x, y, EIGHTHS[eighths.min(8)], style);
        }
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
    (found, all): (Option<Estimate>, &[Option<Estimate>]),
    columns: &Columns,
    scene: &Scene<'_>,
    id: NetworkId,
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
            if all.is_empty() {
                let (value, ends) = (found.value, found.interval);
                let style = scene.style(id);
                bar::draw(pen, (at, y), columns.bar, value, ends, style, theme.dim());
            } else {
                heights(pen, (at, y), columns.bar, all, scene.style(id));
            }
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
