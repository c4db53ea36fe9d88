//! Accuracy under corruption and on other domains: the reference and its branches side by side, with interval, n and
//! difference. Attacks, which have curves, are left out.

use super::MARGIN;
use super::axis::Scale;
use super::canvas::{Canvas, Look};
use crate::spec::{NetworkId, Role};
use crate::state::comparison::{AccuracyRow, Comparison, Difference, Estimate};
use crate::state::{NetworkState, State};

/// Room for the names of conditions and for the bars.
const LEFT: f64 = 150.0;
const BARS: f64 = 360.0;
/// Height of one bar with its gap.
const ROW: f64 = 18.0;
/// Between two conditions.
const GAP: f64 = 8.0;
/// About the width of a letter of the labels.
const LETTER: f64 = 7.0;

/// The severity that is drawn if it was measured: the middle one of five.
const SEVERITY: u8 = 3;

/// The probe that asks other domains.
const DOMAINS: &str = "domain-accuracy";

pub(super) fn draw(state: &State, canvas: &mut Canvas, top: f64) -> f64 {
    let references = state
        .networks
        .iter()
        .filter(|network| network.plan.role == Role::Reference);
    references.fold(top, |y, reference| {
        draw_reference(state, reference, canvas, y)
    })
}

fn draw_reference(state: &State, reference: &NetworkState, canvas: &mut Canvas, top: f64) -> f64 {
    let id = reference.plan.id;
    let others = state
        .networks
        .iter()
        .filter(|network| network.plan.against == id && network.plan.role == Role::Branch)
        .map(|network| network.plan.id);
    let columns: Vec<Comparison> = std::iter::once(id)
        .chain(others)
        .filter_map(|network| Comparison::of(state, network))
        .map(|mut column| {
            column.accuracies.retain(|row| row.budget.is_none());
            column
        })
        .collect();
    let Some(own) = columns.first().filter(|own| !own.accuracies.is_empty()) else {
        return top;
    };
    let severities = own.severities();
    let severity = if severities.contains(&SEVERITY) {
        SEVERITY
    } else {
        severities.last().copied().unwrap_or(SEVERITY)
    };
    canvas.text(
        MARGIN,
        top,
        "panel",
        "start",
        &format!(
            "Accuracy under corruption, severity {severity}{}, beside {}: share of test images, 95 % intervals",
            if own.accuracies.iter().any(|row| row.probe == DOMAINS) {
                ", and on other domains"
            } else {
                ""
            },
            reference.plan.name
        ),
    );
    let left = MARGIN + LEFT;
    let x = Scale::new(0.0, 1.0, left, left + BARS);
    let mut beside = left;
    for column in &columns {
        let name = state.name(column.candidate);
        canvas.mark(Look::of(state, column.candidate), beside, top + 18.0);
        canvas.text(beside + 12.0, top + 22.0, "label", "start", &name);
        beside += 40.0 + LETTER * name.chars().count() as f64;
    }
    let mut y = top + 40.0;
    let begin = y;
    let rows = own.at_severity(severity).count() as f64;
    let end = begin + rows * (columns.len() as f64 * ROW + GAP);
    for (value, label) in [
        (0.0, "0 %"),
        (0.25, "25 %"),
        (0.5, "50 %"),
        (0.75, "75 %"),
        (1.0, "100 %"),
    ] {
        canvas.line((x.at(value), begin), (x.at(value), end), "grid");
        canvas.text(x.at(value), end + 14.0, "label", "middle", label);
    }
    for row in own.at_severity(severity) {
        let name = row.condition.as_deref().unwrap_or("clean");
        canvas.text(left - 10.0, y + 12.0, "label", "end", name);
        for (place, column) in columns.iter().enumerate() {
            let found = column
                .accuracies
                .iter()
                .find(|other| (&other.condition, other.severity) == (&row.condition, row.severity));
            if let Some((estimate, difference)) = found.and_then(|row| value(row, place == 0)) {
                draw_bar(
                    state,
                    column.candidate,
                    &estimate,
                    difference,
                    &x,
                    canvas,
                    y,
                );
            }
            y += ROW;
        }
        y += GAP;
    }
    end + 52.0
}

fn value(row: &AccuracyRow, is_reference: bool) -> Option<(Estimate, Option<Difference>)> {
    if is_reference {
        Some((row.reference?, None))
    } else {
        Some((row.candidate?, row.difference))
    }
}

fn draw_bar(
    state: &State,
    network: NetworkId,
    estimate: &Estimate,
    difference: Option<Difference>,
    x: &Scale,
    canvas: &mut Canvas,
    y: f64,
) {
    let look = Look::of(state, network);
    let middle = y + ROW / 2.0 - 1.0;
    let end = x.at(estimate.value.clamp(0.0, 1.0));
    canvas.bar(x.at(0.0), y + 2.0, end - x.at(0.0), ROW - 6.0, look.color);
    let mut words = vec![format!("{:.1} %", estimate.value * 100.0)];
    if let Some((low, high)) = estimate.interval {
        let (from, to) = (x.at(low.clamp(0.0, 1.0)), x.at(high.clamp(0.0, 1.0)));
        canvas.line((from, middle), (to, middle), "whisker");
        for end in [from, to] {
            canvas.line((end, middle - 3.0), (end, middle + 3.0), "whisker");
        }
        words.push(format!("[{:.1}, {:.1}]", low * 100.0, high * 100.0));
    }
    if let Some(n) = estimate.n {
        words.push(format!("n={n}"));
    }
    if let Some(difference) = difference {
        words.push(format!("Δ {}", difference.points()));
    }
    let beside = x.at(1.0) + 14.0;
    canvas.mark(look, beside, middle);
    canvas.text(beside + 14.0, y + 12.0, "label", "start", &words.join("  "));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::event::Event;
    use crate::measurement::{Measurement, Metric, Score};
    use crate::report::{Format, Report};
    use crate::session::{Session, codec, sample};
    use crate::spec::NetworkId;

    #[test]
    fn attacks_are_no_bars_and_domains_are() {
        let found = |probe: &str, condition: &str, budget: Option<f64>| {
            Event::Measured(Measurement {
                probe: probe.to_owned(),
                condition: Some(condition.to_owned()),
                budget: budget.map(Score),
                ..sample::scalar(NetworkId(0), 0, Metric::Accuracy, 0.25)
            })
        };
        let mut events = sample::story();
        let end = events.len() - 1;
        events.splice(
            end..end,
            [
                found("adversarial-accuracy", "pgd", Some(0.0)),
                found("adversarial-accuracy", "pgd", Some(0.1)),
                found("domain-accuracy", "chalk", None),
            ],
        );
        let mut bytes = codec::encode_header(&sample::header());
        for record in sample::records(events) {
            codec::encode(&record, &mut bytes);
        }
        let session = Session::from_bytes(Path::new("made.jsonl"), &bytes).unwrap();
        let figure = Report::new(&[&session]).render(Format::Svg);
        assert!(!figure.contains(">pgd<"), "{figure}");
        assert!(figure.contains(">chalk<"), "{figure}");
        assert!(figure.contains("and on other domains"), "{figure}");
    }
}
