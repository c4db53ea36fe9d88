//! Sweeps: accuracy over each knob that was swept, clean and under each corruption, and over each size that differs.
//!
//! A mark is a network with its interval, a line joins those of one method, a dashed level is the reference's.

use super::axis::Scale;
use super::canvas::{Canvas, Look};
use super::{MARGIN, WIDTH};
use crate::catalog::Catalog;
use crate::measurement::{Metric, Unit};
use crate::state::State;
use crate::state::sweep::{Across, Quantity, Sweep, acrosses, quantities};

/// Room for the labels of an axis, and the size of one picture; two stand side by side.
const LEFT: f64 = 52.0;
const WIDE: f64 = (WIDTH - 2.0 * MARGIN) / 2.0 - LEFT - 20.0;
const HIGH: f64 = 170.0;
/// From one row of pictures to the next.
const STEP: f64 = HIGH + 76.0;

/// The severity that is drawn: the middle one of five.
const SEVERITY: u8 = 3;

pub(super) fn draw(state: &State, catalog: &Catalog, canvas: &mut Canvas, top: f64) -> f64 {
    let accuracies: Vec<Quantity> = quantities(state, SEVERITY)
        .into_iter()
        .filter(|quantity| quantity.metric == Metric::Accuracy)
        .collect();
    let clean = accuracies
        .iter()
        .find(|quantity| quantity.condition.is_none());
    let mut pictures: Vec<Sweep> = Vec::new();
    for across in acrosses(state) {
        let drawn: Vec<&Quantity> = match &across {
            Across::Knob(_) => accuracies.iter().collect(),
            Across::Size(_) => clean.into_iter().collect(),
        };
        let sweeps = drawn
            .into_iter()
            .map(|quantity| Sweep::of(state, &across, quantity));
        pictures.extend(sweeps.filter(Sweep::is_swept));
    }
    if pictures.is_empty() {
        return top;
    }
    let title =
        "Sweeps: share of test images classified correctly, 95 % intervals; dashed: the reference";
    canvas.text(MARGIN, top, "panel", "start", title);
    let mut y = legend(state, catalog, &pictures, canvas, top + 20.0);
    for pair in pictures.chunks(2) {
        for (place, sweep) in pair.iter().enumerate() {
            let left = MARGIN + LEFT + place as f64 * (WIDTH - 2.0 * MARGIN) / 2.0;
            picture(state, sweep, canvas, left, y);
        }
        y += STEP;
    }
    y + 8.0
}

/// A line for each method, with the shapes of its networks.
fn legend(
    state: &State,
    catalog: &Catalog,
    pictures: &[Sweep],
    canvas: &mut Canvas,
    top: f64,
) -> f64 {
    let mut told = Vec::new();
    let mut y = top;
    for strand in pictures.iter().flat_map(|sweep| &sweep.strands) {
        let networks: Vec<_> = strand.marks.iter().map(|mark| mark.network).collect();
        let known = |(reference, method, _): &(u32, _, Vec<_>)| {
            (*reference, method) == (strand.reference, &strand.method)
        };
        if told.iter().any(known) {
            continue;
        }
        let mut x = MARGIN + 8.0;
        for network in networks.iter().take(12) {
            canvas.mark(Look::of(state, *network), x, y);
            x += 18.0;
        }
        let mut label = strand.method.label(catalog);
        let study = state.study.as_ref();
        if let Some(told) = study.and_then(|study| study.told_apart(strand.reference)) {
            label = format!("{label} of {told}");
        }
        canvas.text(x, y + 4.0, "label", "start", &label);
        told.push((strand.reference, strand.method.clone(), networks));
        y += 18.0;
    }
    y + 14.0
}

fn picture(state: &State, sweep: &Sweep, canvas: &mut Canvas, left: f64, top: f64) {
    let marks = || sweep.strands.iter().flat_map(|strand| &strand.marks);
    let ends = |values: Vec<f64>| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (low, high)
    };
    let (divisor, unit) = match sweep.across_unit {
        Unit::Bytes => (1024.0, ", KiB"),
        Unit::Count => (1e3, ", thousands"),
        _ => (1.0, ""),
    };
    let places = marks().map(|mark| mark.across);
    let of_bases = sweep.bases.iter().filter_map(|base| base.across);
    let (from, to) = ends(places.chain(of_bases).map(|x| x / divisor).collect());
    let values = marks().flat_map(|mark| {
        let (low, high) = mark
            .found
            .interval
            .unwrap_or((mark.found.value, mark.found.value));
        [low, high, mark.found.value]
    });
    let levels = sweep.bases.iter().map(|base| base.found.value);
    let (low, high) = ends(values.chain(levels).map(|share| share * 100.0).collect());
    let room = ((high - low) * 0.05).max(0.1);
    let x = Scale::new(from, to, left + 8.0, left + WIDE - 8.0);
    let y = Scale::new(low - room, high + room, top + HIGH, top + 12.0);
    let what = match &sweep.quantity.condition {
        None => "clean images".to_owned(),
        Some(id) => format!("{id}, severity {SEVERITY}"),
    };
    canvas.text(left, top, "label", "start", &format!("{what}, %"));
    for (value, label) in y.ticks() {
        canvas.line((left, y.at(value)), (left + WIDE, y.at(value)), "grid");
        canvas.text(left - 6.0, y.at(value) + 4.0, "label", "end", &label);
    }
    for (value, label) in x.ticks() {
        let at = (x.at(value), top + HIGH);
        canvas.line(at, (at.0, at.1 + 4.0), "axis");
        canvas.text(at.0, at.1 + 18.0, "label", "middle", &label);
    }
    canvas.line((left, top + HIGH), (left + WIDE, top + HIGH), "axis");
    let name = match &sweep.across {
        Across::Knob(id) => id.clone(),
        Across::Size(metric) => format!("{}{unit}", metric.name()),
    };
    let below = top + HIGH + 34.0;
    canvas.text(left + WIDE, below, "small", "end", &name);
    for base in &sweep.bases {
        let (look, level) = (
            Look::of(state, base.network),
            y.at(base.found.value * 100.0),
        );
        canvas.line((left, level), (left + WIDE, level), "level");
        let at = base.across.map_or(left, |across| x.at(across / divisor));
        canvas.mark(look, at, level);
    }
    for strand in &sweep.strands {
        let points: Vec<(f64, f64)> = strand
            .marks
            .iter()
            .map(|mark| (x.at(mark.across / divisor), y.at(mark.found.value * 100.0)))
            .collect();
        if let Some(first) = strand.marks.first() {
            let color = Look::of(state, first.network).color;
            if points.len() > 1 {
                canvas.path(&points, color, 1.5);
            }
        }
        for (mark, (at, level)) in strand.marks.iter().zip(points) {
            if let Some((low, high)) = mark.found.interval {
                canvas.line((at, y.at(low * 100.0)), (at, y.at(high * 100.0)), "whisker");
            }
            canvas.mark(Look::of(state, mark.network), at, level);
        }
    }
}
