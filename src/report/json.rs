//! Everything for programs: sessions, networks, epochs, verdicts, also on gradients, and the flat table of measurements.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::table::{self, Row};
use super::{Chapter, Format, Report};
use crate::measurement::{self, Metric, Score};
use crate::spec::Study;
use crate::state::sweep::{Across, Quantity, Sweep, acrosses, quantities};
use crate::state::{NetworkState, Status, is_steering, say, suspicion};

#[derive(Serialize)]
struct Document<'a> {
    app: &'static str,
    command: String,
    sessions: Vec<Value>,
    networks: Vec<Value>,
    epochs: Vec<EpochRow<'a>>,
    verdicts: Vec<Value>,
    gradients: Vec<Value>,
    sweeps: Vec<Value>,
    warnings: Vec<Value>,
    measurements: Vec<Row>,
}

#[derive(Serialize)]
struct EpochRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    network: &'a str,
    stage: Option<&'static str>,
    epoch: u32,
    step: u64,
    train_loss: Score,
    train_accuracy: Option<f64>,
    train_n: u64,
    validation_loss: Score,
    validation_accuracy: Option<f64>,
    validation_n: u64,
    best: bool,
}

pub(super) fn render(report: &Report<'_>) -> String {
    let is_joined = report.chapters.len() > 1;
    let chapters = report.chapters.iter();
    let of_session = |chapter: &Chapter<'_>, mut value: Value| {
        if is_joined && let Some(fields) = value.as_object_mut() {
            fields.insert("session".to_owned(), Value::from(&*chapter.name));
        }
        value
    };
    let mut document = Document {
        app: env!("CARGO_PKG_VERSION"),
        command: report.command(Format::Json),
        sessions: chapters.clone().map(session).collect(),
        networks: Vec::new(),
        epochs: Vec::new(),
        verdicts: Vec::new(),
        gradients: Vec::new(),
        sweeps: Vec::new(),
        warnings: Vec::new(),
        measurements: table::rows(report),
    };
    for chapter in chapters {
        let state = &chapter.state;
        for network in &state.networks {
            document
                .networks
                .push(of_session(chapter, self::network(chapter, network)));
            document
                .epochs
                .extend(epochs(network, is_joined.then_some(&*chapter.name)));
        }
        let verdicts = state
            .landscapes
            .values()
            .flat_map(|landscape| &landscape.verdicts);
        document.verdicts.extend(verdicts.map(|found| {
            let verdict = json!({
                "network": state.name(found.network),
                "epoch": found.epoch,
                "verdict": found.verdict,
                "difference": found.difference,
                "unit": "nats",
                "low": found.interval.map(|(low, _)| low),
                "high": found.interval.map(|(_, high)| high),
                "twins": found.twins,
                "n": found.n,
            });
            of_session(chapter, verdict)
        }));
        let gradients = state
            .networks
            .iter()
            .filter_map(|of| gradients(chapter, of));
        document
            .gradients
            .extend(gradients.map(|found| of_session(chapter, found)));
        let sweeps = sweeps(chapter).into_iter();
        document
            .sweeps
            .extend(sweeps.map(|sweep| of_session(chapter, sweep)));
        document
            .warnings
            .extend(state.warnings.iter().map(|warned| {
                let warning = json!({
                    "network": warned.network.map(|id| state.name(id)),
                    "warning": say(&warned.warning),
                });
                of_session(chapter, warning)
            }));
    }
    let mut text = serde_json::to_string_pretty(&document).expect("a report is always JSON");
    text.push('\n');
    spell_out(&text)
}

/// Whether a network's gradients tell the truth, with every check.
fn gradients(chapter: &Chapter<'_>, network: &NetworkState) -> Option<Value> {
    let found = network.masking.as_deref()?;
    let measurement::Value::Masking { verdict, checks } = &found.value else {
        return None;
    };
    Some(json!({
        "network": network.plan.name,
        "epoch": found.epoch,
        "verdict": verdict,
        "norm": found.condition,
        "budget": found.budget,
        "estimator": found.estimator,
        "n": found.n,
        "images": suspicion::images(&chapter.state, found),
        "checks": checks,
    }))
}

/// Every accuracy over every knob, a line for each method; corruptions at every severity.
fn sweeps(chapter: &Chapter<'_>) -> Vec<Value> {
    let state = &chapter.state;
    let mut rows = Vec::new();
    for across in acrosses(state) {
        let Across::Knob(knob) = &across else {
            continue;
        };
        let mut told: Vec<Quantity> = Vec::new();
        for severity in 1..=5 {
            for quantity in quantities(state, severity) {
                if quantity.metric != Metric::Accuracy || told.contains(&quantity) {
                    continue;
                }
                for strand in Sweep::of(state, &across, &quantity).strands {
                    let points = strand.marks.iter().map(|mark| {
                        json!({
                            "network": state.name(mark.network),
                            "at": Score(mark.across),
                            "value": Score(mark.found.value),
                            "low": mark.found.interval.map(|(low, _)| Score(low)),
                            "high": mark.found.interval.map(|(_, high)| Score(high)),
                            "n": mark.found.n,
                            "deviation_percent": mark.deviation.map(Score),
                        })
                    });
                    rows.push(json!({
                        "knob": knob,
                        "method": strand.method.label(&chapter.header.catalog),
                        "reference": strand.reference,
                        "metric": quantity.metric,
                        "condition": quantity.condition,
                        "severity": quantity.severity,
                        "points": points.collect::<Vec<_>>(),
                    }));
                }
                told.push(quantity);
            }
        }
    }
    rows
}

/// JSON leaves DEL, C1 controls and marks of direction as they are; they can stand in strings alone.
fn spell_out(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != '\n' && is_steering(letter) {
            write!(spelled, "\\u{:04x}", u32::from(letter))
                .expect("writing to a string cannot fail");
        } else {
            spelled.push(letter);
        }
    }
    spelled
}

fn session(chapter: &Chapter<'_>) -> Value {
    let header = chapter.header;
    let study: &Study = chapter.state.study.as_ref().unwrap_or(&header.study);
    json!({
        "file": chapter.name,
        "sha256": chapter.digest,
        "version": header.version,
        "app": header.app,
        "commit": header.commit,
        "seed": header.seed,
        "threads": header.threads,
        "device": header.device,
        "study": study,
        "outcome": chapter.state.outcome,
        "records": chapter.state.records,
        "milliseconds": chapter.state.at,
        "notes": chapter.state.notes.iter().map(|note| &note.text).collect::<Vec<_>>(),
    })
}

fn network(chapter: &Chapter<'_>, network: &NetworkState) -> Value {
    let plan = &network.plan;
    let (status, problem) = match &network.status {
        Status::Waiting => ("waiting", None),
        Status::Running { .. } => ("running", None),
        Status::Done => ("done", None),
        Status::Cancelled => ("cancelled", None),
        Status::Failed(message) => ("failed", Some(message)),
    };
    let stages: Vec<Value> = network
        .stages
        .iter()
        .map(|stage| {
            json!({
                "kind": stage.kind.name(),
                "epochs": stage.epochs,
                "outcome": stage.outcome,
                "milliseconds": stage.milliseconds(chapter.state.at),
                "cost": stage.cost,
            })
        })
        .collect();
    let compressions: Vec<Value> = network
        .compressions
        .iter()
        .map(|done| {
            json!({
                "method": done.method,
                "counts": done.counts,
                "asked": done.asked.map(Score),
                "reached": done.reached.map(Score),
                "removed": done.removed,
                "remarks": done.remarks,
            })
        })
        .collect();
    json!({
        "name": plan.name,
        "role": plan.role.name(),
        "reference": plan.reference,
        "against": chapter.state.name(plan.against),
        "family": plan.family,
        "init_seed": plan.init_seed,
        "order_seed": plan.order_seed,
        "architecture": network.architecture,
        "parameters": network.parameters,
        "layers": network.layers,
        "status": status,
        "problem": problem,
        "stages": stages,
        "compressions": compressions,
    })
}

fn epochs<'a>(
    network: &'a NetworkState,
    session: Option<&'a str>,
) -> impl Iterator<Item = EpochRow<'a>> {
    let share = |correct: u64, n: u64| (n > 0).then(|| correct as f64 / n as f64);
    network.epochs.iter().map(move |row| EpochRow {
        session,
        network: &network.plan.name,
        stage: network
            .plan
            .stages
            .get(row.stage as usize)
            .map(|stage| stage.kind.name()),
        epoch: row.epoch,
        step: row.step,
        train_loss: row.train.loss,
        train_accuracy: share(row.train.correct, row.train.n),
        train_n: row.train.n,
        validation_loss: row.validation.loss,
        validation_accuracy: share(row.validation.correct, row.validation.n),
        validation_n: row.validation.n,
        best: row.is_best,
    })
}
