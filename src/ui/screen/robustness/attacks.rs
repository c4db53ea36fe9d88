//! Accuracy against the budget of an attack: one attack of candidate and reference, or all attacks of the candidate.

use super::super::gallery::empty;
use super::difference_style;
use crate::measurement::{Measurement, Metric};
use crate::spec::NetworkId;
use crate::state::NetworkState;
use crate::state::comparison::{AccuracyRow, Comparison, Estimate};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;
use crate::ui::widget::plot::{Line, Plot, Point, Scale};

/// The probe that attacks.
const PROBE: &str = "adversarial-accuracy";

fn compared(scene: &Scene<'_>, view: &View) -> Option<Comparison> {
    let of = scene.candidate(view).or_else(|| scene.reference(view))?;
    let mut found = scene.comparison(view, of.plan.id)?;
    found
        .accuracies
        .retain(|row| row.probe == PROBE && row.condition.is_some() && row.budget.is_some());
    Some(found).filter(|found| !found.accuracies.is_empty())
}

/// The attacks that were measured, in order.
fn attacks(found: &Comparison) -> Vec<&str> {
    let mut attacks: Vec<&str> = Vec::new();
    for row in &found.accuracies {
        if let Some(condition) = row.condition.as_deref()
            && !attacks.contains(&condition)
        {
            attacks.push(condition);
        }
    }
    attacks
}

/// The attack that is looked at.
fn chosen<'a>(found: &'a Comparison, view: &View) -> &'a str {
    let all = attacks(found);
    let asked = view.robustness.attack.as_deref();
    // The strongest of the usual ones where nobody chose.
    let wanted = [asked, Some("autoattack"), Some("pgd")];
    let pick = |wanted: Option<&str>| all.iter().copied().find(|attack| Some(*attack) == wanted);
    let found = wanted.into_iter().find_map(pick);
    found.or(all.first().copied()).unwrap_or("")
}

/// The rows of an attack, by budget from small to large.
fn curve<'a>(found: &'a Comparison, attack: &str) -> Vec<&'a AccuracyRow> {
    let of = |row: &&AccuracyRow| row.condition.as_deref() == Some(attack);
    let mut rows: Vec<&AccuracyRow> = found.accuracies.iter().filter(of).collect();
    rows.sort_by(|a, b| a.budget.unwrap_or(0.0).total_cmp(&b.budget.unwrap_or(0.0)));
    rows
}

/// The next attack.
pub fn turn(view: &mut View, by: isize, scene: &Scene<'_>) {
    let Some(found) = compared(scene, view) else {
        view.hint = Some("nothing was attacked: --attacks pgd does it".to_owned());
        return;
    };
    let all = attacks(&found);
    let now = chosen(&found, view);
    let at = all.iter().position(|attack| *attack == now).unwrap_or(0) as isize;
    let next = all[(at + by).rem_euclid(all.len() as isize) as usize].to_owned();
    view.robustness.all_attacks = false;
    view.scroll = 0;
    view.robustness.attack = Some(next);
}

/// `pgd, published`: the id, since that is what one types; titles are in the catalog's words.
fn name(condition: &str) -> String {
    text::clean(&condition.replace(':', ", "))
}

/// The panel's title, and what its figures rest on.
pub fn heading(scene: &Scene<'_>, view: &View) -> (String, String) {
    let Some(found) = compared(scene, view) else {
        return ("Attacks".to_owned(), String::new());
    };
    let all = attacks(&found);
    if view.robustness.all_attacks {
        let name = text::clean(&scene.told(view, found.candidate));
        let seeds = scene.seeds(view, found.candidate);
        return (format!("{} attacks", all.len()), seeds + &name);
    }
    let attack = chosen(&found, view);
    let place = all.iter().position(|known| *known == attack).unwrap_or(0) + 1;
    let n = curve(&found, attack)
        .iter()
        .find_map(|row| row.candidate.or(row.reference)?.n);
    let n = n.map_or(String::new(), |n| format!(" · n {}", figure::count(n)));
    let of = if all.len() > 1 {
        format!("{place} of {}", all.len())
    } else {
        String::new()
    };
    let note = of + &n;
    let seeds = scene.seeds(view, found.candidate);
    (
        format!("Attacks: {}", name(attack)),
        seeds + note.trim_start_matches(" · "),
    )
}

/// Draws the panel; `false` where nothing was attacked.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, scroll: usize) -> bool {
    let Some(found) = compared(scene, view) else {
        return false;
    };
    let (width, height) = (pen.width(), pen.height());
    let is_all = view.robustness.all_attacks;
    let lines = if is_all {
        all_of_one(scene, &found)
    } else {
        one_of_both(scene, &found, chosen(&found, view))
    };
    let rows = if is_all {
        attacks(&found).len()
    } else {
        curve(&found, chosen(&found, view)).len()
    };
    // Beside the chart where there is room, otherwise below it; the chart comes first.
    let told = distances(scene, &found, chosen(&found, view)).len();
    let foot = (rows + 1 + if is_all { 0 } else { told }) as u16;
    let (chart, table) = if width >= 90 {
        ((width - 46, height), (width - 45, 0, 45, height))
    } else {
        let below = foot.min(height / 2);
        let below = if height < 8 { 0 } else { below };
        ((width, height - below), (0, height - below, width, below))
    };
    let plot = Plot {
        lines,
        levels: Vec::new(),
        across: Scale::plain("ε"),
        up: Scale {
            divisor: 0.01,
            unit: "%".to_owned(),
        },
        cursor: None,
        theme: scene.theme(),
    };
    let mut part = pen.part(0, 0, chart.0, chart.1);
    if plot.lines.iter().all(|line| line.points.is_empty()) {
        empty(&mut part, scene, "waits for its first attack");
    } else {
        plot.draw(&mut part);
    }
    let mut part = pen.part(table.0, table.1, table.2, table.3);
    if part.height() >= 2 {
        if is_all {
            table_of_all(&mut part, scene, &found, scroll);
        } else {
            let attack = chosen(&found, view);
            table_of_one(&mut part, scene, &found, attack, scroll);
        }
    }
    true
}

/// Whether reference and candidate are the same network.
fn is_alone(found: &Comparison) -> bool {
    found.reference == found.candidate
}

fn point(row: &AccuracyRow, found: Estimate, glyph: char, style: ratatui::style::Style) -> Point {
    Point {
        x: row.budget.unwrap_or(0.0),
        y: found.value,
        interval: found.interval,
        glyph: Some(glyph),
        style,
    }
}

fn one_of_both(scene: &Scene<'_>, found: &Comparison, attack: &str) -> Vec<Line> {
    type Side = fn(&AccuracyRow) -> Option<Estimate>;
    let sides: [(NetworkId, Side); 2] = [
        (found.reference, |row| row.reference),
        (found.candidate, |row| row.candidate),
    ];
    sides
        .into_iter()
        .skip(usize::from(is_alone(found)))
        .map(|(id, side)| {
            let (glyph, style) = (scene.glyph(id), scene.style(id));
            let points = curve(found, attack)
                .into_iter()
                .filter_map(|row| Some(point(row, side(row)?, glyph, style)))
                .collect();
            Line { points, style }
        })
        .collect()
}

/// Attacks in one picture are letters: the glyphs are those of networks.
fn letter(place: usize) -> char {
    char::from(b'a' + (place % 26) as u8)
}

fn all_of_one(scene: &Scene<'_>, found: &Comparison) -> Vec<Line> {
    attacks(found)
        .into_iter()
        .enumerate()
        .map(|(place, attack)| {
            let style = scene.theme().series(place);
            let points = curve(found, attack)
                .into_iter()
                .filter_map(|row| Some(point(row, row.candidate?, letter(place), style)))
                .collect();
            Line { points, style }
        })
        .collect()
}

/// `40.1 ±6.9`.
fn estimate(found: Option<Estimate>, has_margin: bool) -> String {
    let Some(found) = found else {
        return "—".to_owned();
    };
    let margin = found
        .interval
        .filter(|_| has_margin)
        .map_or(String::new(), |ends| figure::margin(found.value, ends));
    figure::percent(found.value) + &margin
}

/// The same in fewer cells than these: where that is too little, the doubt is rounded up to a whole percent.
fn estimate_within(found: Option<Estimate>, room: usize) -> String {
    let words = estimate(found, true);
    let ends = found.and_then(|found| Some((found.value, found.interval?)));
    match ends {
        Some((value, (low, high))) if text::width(&words) >= room => {
            let arm = 100.0 * (value - low).max(high - value);
            format!(
                "{} ±{}",
                figure::percent(value),
                figure::plain(arm.ceil(), 0)
            )
        }
        _ => words,
    }
}

fn table_of_one(
    pen: &mut Pen<'_>,
    scene: &Scene<'_>,
    found: &Comparison,
    attack: &str,
    scroll: usize,
) {
    let theme = scene.theme();
    let alone = is_alone(found);
    let rows = curve(found, attack);
    let width = pen.width();
    let distances = distances(scene, found, attack);
    let foot = distances.len() as u16;
    let foot = if pen.height() > 2 + foot { foot } else { 0 };
    let each = (width - 6) / 3;
    let columns = if alone {
        [7, width.min(30), 0]
    } else {
        [7, 6 + each, 6 + each * 2]
    };
    pen.put_right(columns[0] - 1, 0, "ε", theme.dim());
    let heads = [found.reference, found.candidate];
    for (place, id) in heads
        .into_iter()
        .take(if alone { 1 } else { 2 })
        .enumerate()
    {
        let words = scene.glyph(id).to_string();
        pen.put_right(columns[place + 1], 0, &words, scene.style(id));
    }
    if !alone {
        pen.put_right(width, 0, "Δ ±95 %", theme.dim());
    }
    let fits = usize::from(pen.height() - 1 - foot);
    // Where not all fit, the large budgets are what one asks for.
    let last = rows.len().saturating_sub(fits);
    let skip = last.saturating_sub(scroll);
    for (place, row) in rows.iter().skip(skip).take(fits).enumerate() {
        let y = 1 + place as u16;
        let budget = figure::digits(row.budget.unwrap_or(0.0), 3);
        pen.put_right(columns[0] - 1, y, trimmed(&budget), theme.text());
        let room = usize::from(each.max(8));
        let words = estimate_within(row.reference, if alone { 30 } else { room });
        pen.put_right(columns[1], y, &words, theme.text());
        if alone {
            continue;
        }
        let words = estimate_within(row.candidate, room);
        pen.put_right(columns[2], y, &words, theme.text());
        if let Some(difference) = row.difference {
            let style = difference_style(difference.value, row.is_within_noise(), theme);
            pen.put_right(width, y, &difference.points(), style);
        }
    }
    for (place, words) in distances.iter().take(usize::from(foot)).enumerate() {
        let y = pen.height() - foot + place as u16;
        pen.put(1, y, words, theme.dim());
    }
}

/// `0.100` as `0.1`.
fn trimmed(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

fn table_of_all(pen: &mut Pen<'_>, scene: &Scene<'_>, found: &Comparison, scroll: usize) {
    let theme = scene.theme();
    let all = attacks(found);
    let width = pen.width();
    let label = usize::from(width).saturating_sub(26).max(8);
    pen.put(1, 0, "attack", theme.dim());
    pen.put_right(width - 15, 0, "ε", theme.dim());
    pen.put_right(width, 0, "right ±95 %", theme.dim());
    let fits = usize::from(pen.height() - 1);
    let skip = scroll.min(all.len().saturating_sub(fits));
    for (place, attack) in all.iter().enumerate().skip(skip).take(fits) {
        let y = (place - skip) as u16 + 1;
        let style = theme.series(place);
        pen.run(
            1,
            y,
            &[
                (&format!("{} ", letter(place)), style),
                (
                    &text::fit(&name(attack), label.saturating_sub(3)),
                    theme.text(),
                ),
            ],
        );
        if let Some(row) = curve(found, attack).last() {
            let budget = figure::digits(row.budget.unwrap_or(0.0), 3);
            pen.put_right(width - 15, y, trimmed(&budget), theme.text());
            pen.put_right(width, y, &estimate(row.candidate, true), theme.text());
        }
    }
}

/// How far away the nearest errors are, where the attack looked for those: a line per network.
fn distances(scene: &Scene<'_>, found: &Comparison, attack: &str) -> Vec<String> {
    let of = |id: NetworkId, metric| {
        let network: &NetworkState = scene.state().network(id)?;
        let found = network.measurements.latest(metric, Some(attack), None)?;
        Some((found.scalar()?, Measurement::clone(found)))
    };
    let told = |id: NetworkId| {
        let (mean, found) = of(id, Metric::DistanceMean)?;
        let ends = found.interval.map_or(String::new(), |(low, high)| {
            format!(
                " [{}, {}]",
                figure::digits(low.0, 2),
                figure::digits(high.0, 2)
            )
        });
        let median = of(id, Metric::DistanceMedian).map_or(String::new(), |(median, _)| {
            format!(" median {}", figure::digits(median, 2))
        });
        Some(format!(
            "{} distance {}{ends}{median}",
            scene.glyph(id),
            figure::digits(mean, 2)
        ))
    };
    let mut sides = vec![told(found.reference)];
    if !is_alone(found) {
        sides.push(told(found.candidate));
    }
    sides.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_that_does_not_fit_is_rounded_up_and_never_runs_into_its_neighbor() {
        let found = |half: f64| {
            Some(Estimate {
                value: 0.42,
                interval: Some((0.42 - half, 0.42 + half / 2.0)),
                n: None,
            })
        };
        assert_eq!(estimate_within(found(0.061), 10), "42.0 ±6.1");
        assert_eq!(estimate_within(found(0.181), 10), "42.0 ±19");
        assert_eq!(estimate_within(found(0.181), 11), "42.0 ±18.1");
        assert_eq!(estimate_within(None, 10), "—");
    }
}
