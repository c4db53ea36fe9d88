//! Corruption error: how often a network is wrong under every corruption, at each of its severities, and over all of them.
//!
//! E(c, s) = share of wrong answers on a fixed stratified subset of the test images under corruption c at severity s;
//! Hendrycks & Dietterich 2019, arXiv:1903.12261. Every network sees the same bytes. With the reference, once, how far each
//! corruption moves the images: mean absolute change and peak signal-to-noise ratio.
//! Deviation: errors are reported as they are. The published mean is relative to AlexNet, which exists for ImageNet
//! alone; here the yardstick is the network's own reference (`summary.rs`).

mod summary;

use crate::catalog::{Entry, Info, text};
use crate::event::Warning;
use crate::lab::answers::Under;
use crate::lab::context::Context;
use crate::lab::corruption::{Effect, Severity, effect, named};
use crate::lab::error::Result;
use crate::lab::outputs::outputs;
use crate::lab::probe::{Probe, When, answered, finding, interval, latest};
use crate::lab::subject::{Kept, Subject};
use crate::measurement::{Measurement, Metric, Score, Value};
use crate::nn::network::Workspace;
use crate::nn::rng::Rng;
use summary::Record;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("corruption-error"),
        title: text("Corruption error"),
        summary: text(
            "Accuracy and error under every corruption at each of its severities, on the same corrupted images for every \
             network, and their means, also relative to the reference.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("robustness"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(CorruptionError),
};

/// Below this mean change, in grey levels of 255, a corruption does next to nothing: it would round to no change at all.
const LEAST_CHANGE: f64 = 0.5;

struct CorruptionError;

impl Probe for CorruptionError {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, subject: &Subject<'_>) -> u64 {
        let severities =
            |method| named(method).map_or(0, |named| named.corruption.severities().len());
        let each = subject.corruptions.iter().map(severities);
        each.sum::<usize>() as u64
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let clean = subject.data.test.select(subject.corrupted_subset);
        let network = &subject.candidate()?.last;
        let is_reference = subject.network.id == subject.network.against;
        let mut workspace = Workspace::default();
        let total = self.parts(subject);
        let mut done = 0;
        let mut conditions = Vec::new();
        for corruption in subject.corruptions {
            let named = named(corruption)?;
            let severities = named.corruption.severities();
            for &severity in severities {
                let images = subject.corrupted.get(
                    &named,
                    severity,
                    &clean,
                    subject.corrupted_subset,
                    subject.seed,
                )?;
                for message in subject.corrupted.troubles() {
                    cx.warn(Warning::Other { message })?;
                }
                let level = severity.map(Severity::get);
                let of = |metric| -> Result<Measurement> {
                    let nothing = Value::Scalar(Score(0.0));
                    Ok(Measurement {
                        condition: Some(named.condition.clone()),
                        severity: level,
                        n: Some(clean.len() as u64),
                        ..finding(&ENTRY.info.id, metric, nothing, subject, stage)?
                    })
                };
                if is_reference {
                    tell_effect(effect(&clean, &images), &of, cx)?;
                }
                let seen = outputs(network, &images, &mut workspace, &mut || cx.checkpoint())?;
                let right = seen.right(&clean.labels);
                let accuracy = answered(of(Metric::Accuracy)?, right, subject);
                let error = Measurement {
                    value: Value::Scalar(Score(1.0 - accuracy.scalar().unwrap_or(f64::NAN))),
                    interval: accuracy
                        .interval
                        .map(|(low, high)| (Score(1.0 - high.0), Score(1.0 - low.0))),
                    ..of(Metric::Error)?
                };
                cx.measured(accuracy)?;
                cx.measured(error)?;
                done += 1;
                let strength = level.map_or(String::new(), |level| format!(", severity {level}"));
                cx.progress(done, total, &format!("{}{strength}", named.condition))?;
            }
            conditions.push((
                named.condition,
                severities
                    .iter()
                    .map(|severity| severity.map(Severity::get))
                    .collect(),
            ));
        }
        summarize(subject, &conditions, stage, cx)
    }
}

/// States how far a corruption moved the images, and warns of one that hardly did.
fn tell_effect(
    effect: Effect,
    of: &dyn Fn(Metric) -> Result<Measurement>,
    cx: &mut Context<'_>,
) -> Result<()> {
    for (metric, value) in [
        (Metric::MeanAbsoluteChange, effect.mean_absolute_change),
        (Metric::Psnr, effect.psnr),
    ] {
        cx.measured(Measurement {
            value: Value::Scalar(Score(value)),
            ..of(metric)?
        })?;
    }
    if effect.mean_absolute_change < LEAST_CHANGE {
        let found = of(Metric::MeanAbsoluteChange)?;
        cx.warn(Warning::CorruptionWithoutEffect {
            corruption: found.condition.unwrap_or_default(),
            severity: found.severity.unwrap_or(0),
            mean_absolute_change: Score(effect.mean_absolute_change),
        })?;
    }
    Ok(())
}

/// A corruption's condition and its severities.
type Condition = (String, Vec<Option<u8>>);

/// What a network got wrong under all of them; nothing where an answer is not kept.
fn record(subject: &Subject<'_>, kept: &Kept, conditions: &[Condition]) -> Result<Option<Record>> {
    let right = latest(kept)?.right(&subject.data.test.labels);
    let clean = subject.corrupted_subset.iter().map(|index| !right[*index]);
    let mut record = Record {
        clean: clean.collect(),
        corruptions: Vec::new(),
    };
    for (condition, severities) in conditions {
        let mut wrong = vec![0; record.clean.len()];
        for severity in severities {
            let under = Under::corrupted(condition, *severity);
            let Some(right) = subject.answers.of(kept.plan.id, &under) else {
                return Ok(None);
            };
            for (wrong, right) in wrong.iter_mut().zip(right.iter()) {
                *wrong += u8::from(!right);
            }
        }
        record.corruptions.push((severities.len(), wrong));
    }
    Ok(Some(record))
}

/// States the numbers over all corruptions.
fn summarize(
    subject: &Subject<'_>,
    conditions: &[Condition],
    stage: u32,
    cx: &mut Context<'_>,
) -> Result<()> {
    let Some(own) = record(subject, subject.candidate()?, conditions)? else {
        return Ok(());
    };
    // The same draws of images for every number and every network.
    let rng = || Rng::stream(subject.seed, "corruption bootstrap", &[]);
    let against = subject.network.against;
    let mut found = vec![(
        Metric::MeanCorruptionError,
        own.mean_corruption_error(&mut rng()),
    )];
    if subject.network.id != against
        && let Some(reference) = record(subject, subject.reference()?, conditions)?
    {
        let relative = own.relative_corruption_error(&reference, &mut rng());
        found.push((Metric::RelativeCorruptionError, relative));
        found.push((
            Metric::RelativeMce,
            own.relative_mce(&reference, &mut rng()),
        ));
    }
    for (metric, summary) in found {
        let Some((value, range)) = summary else {
            // Weak networks are sometimes better under a mild corruption; that is no trouble, and no number either.
            if !conditions.is_empty() {
                let beyond = match metric {
                    Metric::RelativeMce => " more often than on clean images",
                    _ => "",
                };
                cx.remark(&format!(
                    "{} of {} is undefined: under some corruption the reference does not err{beyond}",
                    metric.name(),
                    subject.network.name,
                ));
            }
            continue;
        };
        let value = Value::Scalar(Score(value));
        cx.measured(Measurement {
            against: (metric != Metric::MeanCorruptionError).then_some(against),
            interval: range.and_then(interval),
            n: Some(own.clean.len() as u64),
            ..finding(&ENTRY.info.id, metric, value, subject, stage)?
        })?;
    }
    Ok(())
}
