//! Numbers: what did it cost, and what did it save?

use ratatui::style::Style;

use crate::measurement::{Measurement, Metric, Unit};
use crate::state::comparison::Comparison;
use crate::state::{NetworkState, Status};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;

/// What the title line says on the right.
pub fn note(scene: &Scene<'_>, view: &View) -> String {
    scene
        .candidate(view)
        .map_or(String::new(), |candidate| candidate.plan.name.clone())
}

/// One line: what, of the reference, of the candidate, and what became of it.
struct Line {
    what: String,
    reference: String,
    candidate: String,
    change: String,
    style: Style,
}

/// The panel.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let of = scene.candidate(view).or_else(|| scene.reference(view));
    let lines = of
        .and_then(|of| Some((of, Comparison::of(scene.state(), of.plan.id)?)))
        .map(|(of, comparison)| lines(of, &comparison, theme))
        .unwrap_or_default();
    if lines.is_empty() {
        let middle = pen.height() / 2;
        let words = match of {
            None => "nothing measured yet".to_owned(),
            Some(of) => match &of.status {
                Status::Failed(message) => format!("✗ {message}"),
                _ => "waits for the first measurement".to_owned(),
            },
        };
        pen.put_center(middle, &words, theme.dim());
        return;
    }
    let wide = pen.width() >= 44;
    let mut y = 0;
    if wide {
        let cells = widths(pen.width());
        let head = format!(
            "{}{}{}{}",
            text::left("", cells[0]),
            text::right("reference", cells[1]),
            text::right("candidate", cells[2]),
            text::right("change", cells[3])
        );
        pen.put(0, 0, &head, theme.dim());
        y = 1;
    }
    let room = usize::from(pen.height() - y);
    let mut lines = lines;
    // Where not everything fits, what did not change goes first; scrolling brings it back.
    while view.scroll == 0 && lines.len() > room {
        match lines.iter().position(|line| line.change == "same") {
            Some(place) => lines.remove(place),
            None => break,
        };
    }
    let skip = view.scroll.min(lines.len().saturating_sub(room));
    for (row, line) in lines.iter().skip(skip).take(room).enumerate() {
        put(pen, y + row as u16, line, wide, theme);
    }
    let used = y + lines.len().saturating_sub(skip).min(room) as u16;
    let remarks = of.map(remarks).unwrap_or_default();
    let free = pen.height().saturating_sub(used + 1);
    if free > 0 && !remarks.is_empty() {
        let (width, height) = (pen.width(), free);
        let mut below = pen.part(0, used + 1, width, height);
        let mut at = 0;
        for remark in remarks {
            at = below.put_wrapped(at, &remark, theme.dim());
        }
    }
}

/// Cells of the four columns.
fn widths(width: u16) -> [usize; 4] {
    let width = usize::from(width).saturating_sub(1);
    let what = 14;
    let each = (width - what) * 10 / 33;
    [what, each, each, width - what - 2 * each]
}

fn put(pen: &mut Pen<'_>, y: u16, line: &Line, wide: bool, theme: Theme) {
    if wide {
        let cells = widths(pen.width());
        // What the reference has none of may take its room.
        let (reference, candidate) = if line.reference.is_empty() {
            (0, cells[1] + cells[2])
        } else {
            (cells[1], cells[2])
        };
        pen.run(
            0,
            y,
            &[
                (&text::left(&line.what, cells[0]), theme.text()),
                (&text::right(&line.reference, reference), theme.dim()),
                (&text::right(&line.candidate, candidate), theme.text()),
                (&text::right(&line.change, cells[3]), line.style),
            ],
        );
        return;
    }
    let both = match (line.reference.as_str(), line.candidate.as_str()) {
        ("", candidate) => candidate.to_owned(),
        (reference, "") => reference.to_owned(),
        (reference, candidate) => format!("{}→{candidate}", unitless(reference, candidate)),
    };
    let what = text::left(&line.what, 11);
    let x = pen.run(
        0,
        y,
        &[
            (&what, theme.dim()),
            (" ", theme.text()),
            (&both, theme.text()),
        ],
    );
    let width = pen.width();
    if usize::from(x) + 1 + text::width(&line.change) <= usize::from(width) {
        pen.put_right(width, y, &line.change, line.style);
    }
}

/// The first of two figures without its unit, where the second has the same.
pub(super) fn unitless<'a>(first: &'a str, second: &str) -> &'a str {
    match (first.rsplit_once(' '), second.rsplit_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => number,
        _ => first,
    }
}

fn size(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Bytes
        | Metric::BytesDense
        | Metric::BytesBitmask
        | Metric::BytesCsr
        | Metric::BytesWritten => figure::bytes(value),
        Metric::Macs => figure::short_count(value),
        _ => figure::count(value.max(0.0).round() as u64),
    }
}

fn lines(of: &NetworkState, comparison: &Comparison, theme: Theme) -> Vec<Line> {
    let is_alone = comparison.reference == comparison.candidate;
    let written = |value: Option<String>| value.unwrap_or_else(|| "—".to_owned());
    let mut lines = Vec::new();
    // Five senses of size; the report has the other layouts of the bytes.
    let sizes = comparison.footprint.iter().filter(|row| {
        use Metric::{BytesBitmask, BytesCsr, BytesDense};
        !matches!(row.metric, BytesDense | BytesBitmask | BytesCsr)
    });
    for row in sizes {
        let removed = row.removed().filter(|_| !is_alone);
        lines.push(Line {
            what: what(row.metric).to_owned(),
            reference: written(row.reference.map(|value| size(row.metric, value))),
            candidate: if is_alone {
                String::new()
            } else {
                written(row.candidate.map(|value| size(row.metric, value)))
            },
            change: removed.map_or(String::new(), |share| {
                if share.abs() < 0.0005 {
                    "same".to_owned()
                } else {
                    format!("{} %", figure::signed(-share * 100.0, 1))
                }
            }),
            style: match removed {
                Some(share) if share > 0.0005 => theme.good(),
                Some(share) if share < -0.0005 => theme.bad(),
                _ => theme.dim(),
            },
        });
    }
    for row in &comparison.latencies {
        // Times scatter on a busy machine; within that nothing is said.
        let ratio = row
            .ratio()
            .filter(|_| !is_alone)
            .map(|ratio| if row.is_within_scatter() { 1.0 } else { ratio });
        let median = |found: Option<(f64, Option<(f64, f64)>)>| {
            written(found.map(|(median, _)| figure::milliseconds(median)))
        };
        let batch = row
            .condition
            .strip_prefix("batch-")
            .unwrap_or(&row.condition);
        lines.push(Line {
            what: format!("latency b={batch}"),
            reference: median(row.reference),
            candidate: if is_alone {
                String::new()
            } else {
                median(row.candidate)
            },
            change: ratio.map_or(String::new(), speed),
            style: match ratio {
                Some(ratio) if ratio < 1.0 => theme.good(),
                Some(ratio) if ratio > 1.0 => theme.bad(),
                _ => theme.dim(),
            },
        });
    }
    if let Some(agreement) = comparison.agreement.filter(|_| !is_alone) {
        let margin = agreement.interval.map_or(String::new(), |(low, high)| {
            let margin = (agreement.value - low).max(high - agreement.value);
            format!("±{}", figure::percent(margin))
        });
        lines.push(Line {
            what: "agreement".to_owned(),
            reference: String::new(),
            candidate: format!("{} %", figure::percent(agreement.value)),
            change: margin,
            style: theme.dim(),
        });
    }
    let share = |metric| {
        of.measurements
            .latest(metric, None, None)
            .and_then(Measurement::scalar)
            .map(figure::percent)
    };
    let churn = [Metric::ChurnGood, Metric::ChurnBad, Metric::ChurnUgly].map(share);
    if let [Some(good), Some(bad), Some(ugly)] = churn {
        lines.push(Line {
            what: "churn".to_owned(),
            reference: String::new(),
            candidate: format!("+{good} -{bad} ~{ugly} %"),
            change: String::new(),
            style: theme.dim(),
        });
    }
    if let Some(js) = comparison.divergence.filter(|_| !is_alone) {
        lines.push(Line {
            what: "divergence".to_owned(),
            reference: String::new(),
            candidate: format!("{} nats", figure::digits(js, 3)),
            change: "JS".to_owned(),
            style: theme.dim(),
        });
    }
    for compressed in &of.compressions {
        if let Some(removed) = &compressed.removed {
            for (of, share) in removed.named() {
                lines.push(Line {
                    what: "removed".to_owned(),
                    reference: String::new(),
                    candidate: format!("{} %", figure::percent(share)),
                    change: of.to_owned(),
                    style: theme.dim(),
                });
            }
        }
        let (Some(asked), Some(reached)) = (compressed.asked, compressed.reached) else {
            continue;
        };
        let counts = compressed.counts.as_deref().unwrap_or("parameters");
        lines.push(Line {
            what: "removed".to_owned(),
            reference: String::new(),
            candidate: format!("{} % of {counts}", figure::percent(reached)),
            change: format!("asked {}", figure::percent(asked)),
            style: theme.dim(),
        });
    }
    lines
}

/// What the lab said about the compressions: what is simulated and what is real.
fn remarks(of: &NetworkState) -> Vec<String> {
    let mut remarks: Vec<String> = of
        .compressions
        .iter()
        .flat_map(|compressed| compressed.remarks.clone())
        .collect();
    if let Status::Failed(message) = &of.status {
        remarks.insert(0, format!("✗ {message}"));
    }
    remarks
}

/// The candidate's time as a multiple of the reference's, in words.
fn speed(ratio: f64) -> String {
    if ratio < 1.0 {
        format!("{}x faster", figure::plain(1.0 / ratio, 1))
    } else if ratio > 1.0 {
        format!("{}x slower", figure::plain(ratio, 1))
    } else {
        "same".to_owned()
    }
}

/// Under what something was measured: a corruption, or an attack with its budget.
pub fn under(scene: &Scene<'_>, found: &Measurement) -> String {
    let condition = found.condition.as_deref();
    let condition = condition.map_or(String::new(), |id| scene.title_of(id));
    match found.budget {
        Some(budget) => {
            let digits = figure::plain(budget.0, 3);
            format!("{condition} {}", digits.trim_start_matches('0'))
        }
        None => condition,
    }
}

/// How a metric is called on screen.
pub fn what(metric: Metric) -> &'static str {
    match metric {
        Metric::Accuracy => "accuracy",
        Metric::Error => "error",
        Metric::Agreement => "agreement",
        Metric::ChurnGood => "churn, good",
        Metric::ChurnBad => "churn, bad",
        Metric::ChurnUgly => "churn, ugly",
        Metric::Js => "divergence",
        Metric::Channels => "channels",
        Metric::Parameters => "parameters",
        Metric::Nonzero => "non-zero",
        Metric::Macs => "mult-adds",
        Metric::Bytes => "bytes, bits",
        Metric::BytesDense => "bytes, dense",
        Metric::BytesBitmask => "bytes, bitmask",
        Metric::BytesCsr => "bytes, rows",
        Metric::BytesWritten => "bytes, written",
        Metric::LatencyMsP50 => "latency",
        Metric::LatencyMsP10 => "latency p10",
        Metric::LatencyMsP90 => "latency p90",
        Metric::Throughput => "throughput",
        Metric::Landscape => "landscape",
        Metric::NearerThanTwin => "nearer than twin",
        Metric::AccuracyRounded => "accuracy, 8 bits",
        Metric::DistanceMean => "distance",
        Metric::DistanceMedian => "distance, median",
        Metric::TransferAccuracy => "transfer",
        Metric::GradientMasking => "gradients",
        Metric::MeanCorruptionError => "corrupted, mean",
        Metric::RelativeCorruptionError => "corrupted, ratio",
        Metric::RelativeMce => "relative mCE",
        Metric::MeanAbsoluteChange => "image change",
        Metric::Psnr => "image PSNR",
    }
}

/// A figure with its unit.
pub fn value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Fraction => format!("{} %", figure::plain(value * 100.0, 2)),
        Unit::Nats if value != 0.0 && value.abs() < 0.001 => format!("{value:.2e} nats"),
        Unit::Nats => format!("{} nats", figure::digits(value, 3)),
        Unit::Count => figure::count(value.max(0.0).round() as u64),
        Unit::Bytes => figure::bytes(value),
        Unit::Milliseconds => figure::milliseconds(value),
        Unit::ImagesPerSecond => format!("{} images/s", figure::short_count(value)),
        Unit::GreyLevels => format!("{} of 255", figure::digits(value, 3)),
        Unit::Decibels if value.is_infinite() => "∞ dB".to_owned(),
        Unit::Decibels => format!("{} dB", figure::plain(value, 1)),
        Unit::None => figure::digits(value, 4),
    }
}

/// Every measurement of the candidate beside the same one of its reference.
pub fn draw_full(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let Some(of) = scene.candidate(view).or_else(|| scene.reference(view)) else {
        draw(pen, scene, view);
        return;
    };
    let reference = scene.reference_of(of);
    let found: Vec<&Measurement> = of
        .measurements
        .iter()
        .filter(|found| found.scalar().is_some())
        .collect();
    if found.is_empty() {
        draw(pen, scene, view);
        return;
    }
    let head = format!(
        "{:<17}{:<16}{:>4}{:>6}{:>13}{:>13}{:>18}{:>8}",
        "metric", "condition", "sev", "epoch", "reference", "candidate", "95 % interval", "n"
    );
    pen.put(0, 0, &head, theme.dim());
    let room = usize::from(pen.height()).saturating_sub(2);
    let skip = view.scroll.min(found.len().saturating_sub(room));
    for (row, measurement) in found.iter().skip(skip).take(room).enumerate() {
        let beside = reference
            .filter(|reference| reference.plan.id != of.plan.id)
            .and_then(|reference| {
                reference.measurements.within(
                    measurement.metric,
                    measurement.condition.as_deref(),
                    measurement.severity,
                    measurement.budget.map(|budget| budget.0),
                )
            })
            .and_then(Measurement::scalar)
            .map_or("—".to_owned(), |v| value(v, measurement.unit));
        let condition = under(scene, measurement);
        let cells = [
            text::left(what(measurement.metric), 17),
            text::left(&text::clean(&condition), 16),
            text::right(
                &measurement
                    .severity
                    .map_or(String::new(), |s| s.to_string()),
                4,
            ),
            text::right(&measurement.epoch.to_string(), 6),
            text::right(&beside, 13),
        ];
        let x = pen.put(0, 1 + row as u16, &cells.concat(), theme.dim());
        let own = measurement
            .scalar()
            .map_or(String::new(), |v| value(v, measurement.unit));
        let x = pen.put(x, 1 + row as u16, &text::right(&own, 13), theme.text());
        let interval = measurement.interval.map_or(String::new(), |(low, high)| {
            let low = value(low.0, measurement.unit);
            let high = value(high.0, measurement.unit);
            let low = unitless(&low, &high).to_owned();
            format!("{low} to {}", unitless(&high, &high))
        });
        let n = measurement.n.map_or(String::new(), figure::count);
        let rest = text::right(&interval, 18) + &text::right(&n, 8);
        pen.put(x, 1 + row as u16, &rest, theme.dim());
    }
    let y = pen.height() - 1;
    let last = (skip + room).min(found.len());
    let words = format!("{} to {last} of {}   ↑↓ scroll", skip + 1, found.len());
    pen.put(0, y, &words, theme.dim());
}
