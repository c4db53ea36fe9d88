//! Probes: what a network is measured by. They return shapes and numbers with their doubt, and draw nothing.

use crate::catalog::Entry;
use crate::event::Warning;
use crate::lab::answers::Under;
use crate::lab::context::Context;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::Outputs;
use crate::lab::subject::{Kept, Subject};
use crate::measurement::{Direction, Measurement, Metric, Score, Unit, Value, wilson};

pub mod accuracy;
pub mod adversarial_accuracy;
pub mod agreement;
pub mod corruption_error;
pub mod domain_accuracy;
pub mod footprint;
pub mod functional_landscape;
pub mod gallery;
pub mod gradient_masking;
pub mod latency;
pub mod output_divergence;
pub mod transfer;

/// How much a probe costs, and so when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After every stage: it needs the stored outputs alone, or the weights.
    EveryStage,
    /// When the network is finished.
    AtTheEnd,
}

/// A probe.
pub trait Probe {
    /// When it is used.
    fn when(&self) -> When;

    /// How many parts its work has, for the progress of a stage that measures.
    fn parts(&self, subject: &Subject<'_>) -> u64;

    /// Whether it also says something of other networks, so that no other study may take over what it found.
    fn is_of_the_study(&self) -> bool {
        false
    }

    /// Measures the subject's network and states each finding through the context as soon as it stands.
    ///
    /// `stage` is the stage of the network's plan after which it is measured.
    ///
    /// # Errors
    /// When it cannot be measured, or the user stopped it.
    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()>;
}

/// Every probe, in the order on screen.
pub const ALL: &[Entry<dyn Probe>] = &[
    accuracy::ENTRY,
    corruption_error::ENTRY,
    adversarial_accuracy::ENTRY,
    transfer::ENTRY,
    gradient_masking::ENTRY,
    domain_accuracy::ENTRY,
    agreement::ENTRY,
    output_divergence::ENTRY,
    functional_landscape::ENTRY,
    footprint::ENTRY,
    latency::ENTRY,
    gallery::ENTRY,
];

/// What a metric is counted in, and which way is better.
fn nature(metric: Metric) -> (Unit, Direction) {
    use Direction::{HigherIsBetter, LowerIsBetter, Neutral};
    match metric {
        Metric::Accuracy | Metric::Agreement | Metric::ChurnGood => {
            (Unit::Fraction, HigherIsBetter)
        }
        Metric::Error | Metric::ChurnBad | Metric::MeanCorruptionError => {
            (Unit::Fraction, LowerIsBetter)
        }
        // Another mistake in place of a mistake: neither better nor worse.
        Metric::ChurnUgly => (Unit::Fraction, Neutral),
        Metric::Js | Metric::NearerThanTwin => (Unit::Nats, LowerIsBetter),
        Metric::Channels | Metric::Parameters | Metric::Nonzero | Metric::Macs => {
            (Unit::Count, LowerIsBetter)
        }
        Metric::Bytes
        | Metric::BytesDense
        | Metric::BytesBitmask
        | Metric::BytesCsr
        | Metric::BytesWritten => (Unit::Bytes, LowerIsBetter),
        Metric::LatencyMsP50 | Metric::LatencyMsP10 | Metric::LatencyMsP90 => {
            (Unit::Milliseconds, LowerIsBetter)
        }
        Metric::Throughput => (Unit::ImagesPerSecond, HigherIsBetter),
        Metric::Landscape | Metric::GradientMasking => (Unit::None, Neutral),
        Metric::AccuracyRounded | Metric::TransferAccuracy => (Unit::Fraction, HigherIsBetter),
        // Of pixels' ranges.
        Metric::DistanceMean | Metric::DistanceMedian => (Unit::None, HigherIsBetter),
        Metric::RelativeCorruptionError | Metric::RelativeMce => (Unit::None, LowerIsBetter),
        Metric::MeanAbsoluteChange => (Unit::GreyLevels, Neutral),
        Metric::Psnr => (Unit::Decibels, Neutral),
    }
}

/// A finding about the subject's network, without condition, interval and number of examples.
fn finding(
    probe: &str,
    metric: Metric,
    value: Value,
    subject: &Subject<'_>,
    stage: u32,
) -> Result<Measurement> {
    let (unit, direction) = nature(metric);
    Ok(Measurement {
        probe: probe.to_owned(),
        metric,
        network: subject.network.id,
        stage,
        epoch: subject.candidate()?.life.epoch,
        against: None,
        condition: None,
        severity: None,
        value,
        unit,
        direction,
        interval: None,
        n: None,
        budget: None,
        paired: None,
        estimator: None,
    })
}

/// The outputs of a network as it is now.
fn latest(kept: &Kept) -> Result<&Outputs> {
    kept.latest().map(|outputs| &**outputs).ok_or_else(|| {
        Error::Internal(format!("the outputs of {} were not stored", kept.plan.name))
    })
}

/// Reference and candidate with their outputs; none for the reference itself.
fn compared<'s>(subject: &'s Subject<'_>) -> Result<Option<[&'s Outputs; 2]>> {
    if subject.network.id == subject.network.against {
        return Ok(None);
    }
    Ok(Some([
        latest(subject.reference()?)?,
        latest(subject.candidate()?)?,
    ]))
}

/// An accuracy: which examples were right goes into the study's answers; the share of them, Wilson's interval, n, and the
/// pairs with the reference's answers go into the finding, whose condition, severity and budget stand already.
fn answered(found: Measurement, right: Vec<bool>, subject: &Subject<'_>) -> Measurement {
    let n = right.len() as u64;
    let hits = right.iter().filter(|is_right| **is_right).count() as u64;
    let under = Under::of(&found);
    let (own, reference) = (subject.network.id, subject.network.against);
    subject.answers.record(own, under.clone(), right.into());
    let paired = (own != reference).then(|| subject.answers.paired(reference, own, &under));
    Measurement {
        value: Value::Scalar(Score(hits as f64 / n as f64)),
        interval: interval(wilson(hits, n)),
        n: Some(n),
        paired: paired.flatten(),
        ..found
    }
}

/// What an attack that broke its own bounds comes to: a warning, and no number.
fn or_warned(result: Result<()>, cx: &mut Context<'_>) -> Result<()> {
    match result {
        Err(Error::BudgetExceeded {
            attack,
            distance,
            budget,
            ..
        }) => cx.warn(Warning::BudgetExceeded {
            attack,
            distance: Score(distance),
            budget: Score(budget),
        }),
        other => other,
    }
}

/// A pair of numbers as an interval.
fn interval((low, high): (f64, f64)) -> Option<(Score, Score)> {
    Some((Score(low), Score(high)))
}
