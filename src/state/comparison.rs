//! A candidate beside its reference: accuracies, differences with their doubt, footprint, latency, agreement.
//!
//! The difference of two accuracies has Newcombe's hybrid score interval, put together from the two Wilson intervals:
//! for d = c - r, from d - √((c - c_low)² + (r_high - r)²) to d + √((c_high - c)² + (r - r_low)²).
//! Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10,
//! doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
//! Deviation: both networks see the same images, and the formula takes them for independent. Networks that agree on
//! most images differ less by chance than it says, so the interval is too wide rather than too narrow.

use std::fmt::Write as _;

use super::{NetworkState, State, Status};
use crate::measurement::{Measurement, Metric};
use crate::spec::NetworkId;

/// A share in [0, 1] with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    /// Nothing where the measurement came without an interval.
    pub interval: Option<(f64, f64)>,
    /// How many examples it rests on.
    pub n: Option<u64>,
}

impl Estimate {
    /// An accuracy, also out of an error.
    pub fn accuracy(found: &Measurement) -> Option<Self> {
        let value = found.scalar()?;
        let interval = found.interval.map(|(low, high)| (low.0, high.0));
        let (value, interval) = if found.metric == Metric::Error {
            (
                1.0 - value,
                interval.map(|(low, high)| (1.0 - high, 1.0 - low)),
            )
        } else {
            (value, interval)
        };
        let is_finite = value.is_finite()
            && interval.is_none_or(|(low, high)| low.is_finite() && high.is_finite());
        is_finite.then_some(Self {
            value,
            interval,
            n: found.n,
        })
    }
}

/// Candidate less reference, as a share, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub value: f64,
    /// Unpaired, from the two intervals.
    pub interval: Option<(f64, f64)>,
}

impl Difference {
    fn between(reference: &Estimate, candidate: &Estimate) -> Self {
        let value = candidate.value - reference.value;
        let interval = candidate.interval.zip(reference.interval).map(
            |((candidate_low, candidate_high), (reference_low, reference_high))| {
                let below =
                    (candidate.value - candidate_low).hypot(reference_high - reference.value);
                let above =
                    (candidate_high - candidate.value).hypot(reference.value - reference_low);
                (value - below, value + above)
            },
        );
        Self { value, interval }
    }

    /// The larger arm of the interval: what stands behind ±.
    pub fn margin(&self) -> Option<f64> {
        self.interval
            .map(|(low, high)| (self.value - low).max(high - self.value))
    }

    /// Whether the interval holds zero, so that the difference may be chance; unknown without an interval.
    pub fn is_within_noise(&self) -> Option<bool> {
        self.interval.map(|(low, high)| low <= 0.0 && high >= 0.0)
    }

    /// In percentage points: `-0.1 ±0.3`.
    pub fn points(&self) -> String {
        let points = tenths(self.value * 100.0);
        match self.margin() {
            Some(margin) => format!("{points:+.1} ±{:.1}", margin * 100.0),
            None => format!("{points:+.1}"),
        }
    }
}

/// Rounded to one decimal, without a negative zero.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0 + 0.0
}

/// Accuracy under one condition.
#[derive(Clone, Debug, PartialEq)]
pub struct AccuracyRow {
    /// A corruption's id; nothing for clean images.
    pub condition: Option<String>,
    pub severity: Option<u8>,
    pub reference: Option<Estimate>,
    pub candidate: Option<Estimate>,
    pub difference: Option<Difference>,
}

/// A size or a count of both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FootprintRow {
    pub metric: Metric,
    pub reference: Option<f64>,
    pub candidate: Option<f64>,
}

impl FootprintRow {
    /// The share of the reference's that the candidate has no more.
    pub fn removed(&self) -> Option<f64> {
        let (reference, candidate) = (self.reference?, self.candidate?);
        (reference > 0.0).then(|| 1.0 - candidate / reference)
    }
}

/// The time for one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyRow {
    /// `batch-1` or `batch-256`.
    pub condition: String,
    /// Median milliseconds, with the tenth and the ninetieth percentile where measured.
    pub reference: Option<(f64, Option<(f64, f64)>)>,
    pub candidate: Option<(f64, Option<(f64, f64)>)>,
}

impl LatencyRow {
    /// The candidate's median time as a multiple of the reference's: below 1 is faster.
    pub fn ratio(&self) -> Option<f64> {
        let (reference, candidate) = (self.reference?.0, self.candidate?.0);
        (reference > 0.0 && candidate.is_finite()).then(|| candidate / reference)
    }
}

/// A candidate beside its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub reference: NetworkId,
    pub candidate: NetworkId,
    /// Clean images first, then corruptions and severities in the order in which they were measured.
    pub accuracies: Vec<AccuracyRow>,
    /// Parameters, non-zero, multiply-accumulates, bytes: those that were measured.
    pub footprint: Vec<FootprintRow>,
    pub latencies: Vec<LatencyRow>,
    /// The share of test images on which both answer the same.
    pub agreement: Option<Estimate>,
    /// Mean Jensen-Shannon divergence of their outputs, in nats.
    pub divergence: Option<f64>,
}

/// The metrics of a footprint, in the order of the table.
pub const FOOTPRINT: [Metric; 4] = [
    Metric::Parameters,
    Metric::Nonzero,
    Metric::Macs,
    Metric::Bytes,
];

/// The metrics from which accuracy under a corruption is read.
const ACCURACIES: [Metric; 2] = [Metric::Accuracy, Metric::Error];

impl Comparison {
    /// The candidate beside the network its plan names, by what was measured last of each.
    pub fn of(state: &State, candidate: NetworkId) -> Option<Self> {
        let of = state.network(candidate)?;
        let reference = state.network(of.plan.against)?;
        Some(Self {
            reference: reference.plan.id,
            candidate,
            accuracies: accuracies(reference, of),
            footprint: FOOTPRINT
                .into_iter()
                .map(|metric| FootprintRow {
                    metric,
                    reference: number(reference, metric, None),
                    candidate: number(of, metric, None),
                })
                .filter(|row| row.reference.is_some() || row.candidate.is_some())
                .collect(),
            latencies: latencies(reference, of),
            agreement: of
                .measurements
                .latest(Metric::Agreement, None, None)
                .and_then(Estimate::accuracy),
            divergence: number(of, Metric::Js, None),
        })
    }

    /// The row of clean images.
    pub fn clean(&self) -> Option<&AccuracyRow> {
        self.accuracies.iter().find(|row| row.condition.is_none())
    }

    /// The rows of one severity, the clean one in front.
    pub fn at_severity(&self, severity: u8) -> impl Iterator<Item = &AccuracyRow> {
        self.accuracies
            .iter()
            .filter(move |row| row.condition.is_none() || row.severity == Some(severity))
    }

    /// The severities that were measured, from weak to strong.
    pub fn severities(&self) -> Vec<u8> {
        let mut severities: Vec<u8> = self
            .accuracies
            .iter()
            .filter_map(|row| row.severity)
            .collect();
        severities.sort_unstable();
        severities.dedup();
        severities
    }

    /// The row of a metric of size.
    pub fn size(&self, metric: Metric) -> Option<&FootprintRow> {
        self.footprint.iter().find(|row| row.metric == metric)
    }

    /// One plain sentence from the measured facts, `magnitude pruning 50 %: -0.1 ±0.3 points, 1.0x latency: zeros do
    /// not speed it up`.
    pub fn sentence(&self, state: &State) -> Option<String> {
        let clean = self.clean()?;
        let difference = clean.difference?;
        let mut sentence = format!(
            "{}: {} points",
            state.name(self.candidate),
            difference.points()
        );
        if let Some(n) = clean.candidate.and_then(|estimate| estimate.n) {
            write!(sentence, " (n = {n})").expect("writing to a string cannot fail");
        }
        // One image at a time is what a person waits for.
        if let Some(ratio) = self.latencies.first().and_then(LatencyRow::ratio) {
            write!(sentence, ", {:.1}x latency", tenths(ratio))
                .expect("writing to a string cannot fail");
            if let Some(reason) = self.reason(ratio) {
                write!(sentence, ": {reason}").expect("writing to a string cannot fail");
            }
        }
        Some(sentence)
    }

    /// What the sizes say about the latency.
    fn reason(&self, ratio: f64) -> Option<&'static str> {
        let removed = |metric| self.size(metric).and_then(FootprintRow::removed);
        let is_less = |metric| removed(metric).is_some_and(|share| share >= NOTABLE);
        // Not faster by more than timings scatter.
        if ratio < 1.0 - NOTABLE {
            return is_less(Metric::Macs).then_some("it computes less");
        }
        if is_less(Metric::Macs) {
            Some("computing less does not speed it up")
        } else if is_less(Metric::Nonzero) && !is_less(Metric::Parameters) {
            Some("zeros do not speed it up")
        } else if is_less(Metric::Bytes) {
            Some("being smaller does not speed it up")
        } else {
            None
        }
    }
}

/// The least share that is worth a word: medians of latency scatter by several percent on a busy machine.
const NOTABLE: f64 = 0.05;

/// What came out, in one plain sentence per finished branch; nothing before one is measured.
pub fn closing_sentence(state: &State) -> Option<String> {
    let sentences: Vec<String> = state
        .branches()
        .filter(|branch| branch.status == Status::Done)
        .filter_map(|branch| Comparison::of(state, branch.plan.id)?.sentence(state))
        .collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

fn accuracies(reference: &NetworkState, candidate: &NetworkState) -> Vec<AccuracyRow> {
    let mut conditions: Vec<(Option<&str>, Option<u8>)> = vec![(None, None)];
    for network in [reference, candidate] {
        for (condition, severity) in network.measurements.conditions(&ACCURACIES) {
            if !conditions.contains(&(Some(condition), severity)) {
                conditions.push((Some(condition), severity));
            }
        }
    }
    conditions
        .into_iter()
        .map(|(condition, severity)| {
            let find = |network: &NetworkState| {
                ACCURACIES.into_iter().find_map(|metric| {
                    network
                        .measurements
                        .latest(metric, condition, severity)
                        .and_then(Estimate::accuracy)
                })
            };
            let (reference, candidate) = (find(reference), find(candidate));
            AccuracyRow {
                condition: condition.map(ToOwned::to_owned),
                severity,
                reference,
                candidate,
                difference: reference
                    .as_ref()
                    .zip(candidate.as_ref())
                    .map(|(reference, candidate)| Difference::between(reference, candidate)),
            }
        })
        .filter(|row| row.reference.is_some() || row.candidate.is_some())
        .collect()
}

fn latencies(reference: &NetworkState, candidate: &NetworkState) -> Vec<LatencyRow> {
    let mut conditions: Vec<&str> = Vec::new();
    for network in [reference, candidate] {
        for (condition, _) in network.measurements.conditions(&[Metric::LatencyMsP50]) {
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
    }
    conditions
        .into_iter()
        .map(|condition| {
            let find = |network: &NetworkState| {
                let of = |metric| number(network, metric, Some(condition));
                let spread = of(Metric::LatencyMsP10).zip(of(Metric::LatencyMsP90));
                of(Metric::LatencyMsP50).map(|median| (median, spread))
            };
            LatencyRow {
                condition: condition.to_owned(),
                reference: find(reference),
                candidate: find(candidate),
            }
        })
        .collect()
}

fn number(network: &NetworkState, metric: Metric, condition: Option<&str>) -> Option<f64> {
    network
        .measurements
        .latest(metric, condition, None)
        .and_then(Measurement::scalar)
        .filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sample;

    fn story() -> State {
        State::fold(&sample::records(sample::story()))
    }

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate {
            value,
            interval: Some((low, high)),
            n: Some(1_000),
        }
    }

    /// statsmodels 0.15.0: `confint_proportions_2indep(c, 1000, r, 1000, method="newcomb", compare="diff")`, and
    /// `proportion_confint(k, 1000, method="wilson")` for the intervals it is put together from.
    #[test]
    fn the_interval_of_a_difference_is_newcombes() {
        for (reference, candidate, expected) in [
            (
                estimate(0.950, 0.934_686_179_756, 0.961_869_737_607),
                estimate(0.949, 0.933_564_513_655, 0.960_999_057_225),
                (-0.020_471_643_730, 0.018_454_831_399),
            ),
            (
                estimate(0.710, 0.681_114_796_430, 0.737_277_964_950),
                estimate(0.542, 0.511_017_773_072, 0.572_660_779_215),
                (-0.209_279_362_402, -0.125_875_917_015),
            ),
        ] {
            let difference = Difference::between(&reference, &candidate);
            let (low, high) = difference.interval.unwrap();
            assert!((low - expected.0).abs() < 1e-10, "{low}");
            assert!((high - expected.1).abs() < 1e-10, "{high}");
            assert_eq!(difference.is_within_noise(), Some(expected.1 > 0.0));
        }
    }

    #[test]
    fn an_error_is_read_as_an_accuracy() {
        let comparison = Comparison::of(&story(), NetworkId(2)).unwrap();
        let rows: Vec<(Option<&str>, Option<u8>)> = comparison
            .accuracies
            .iter()
            .map(|row| (row.condition.as_deref(), row.severity))
            .collect();
        let noise = Some("gaussian-noise");
        assert_eq!(rows, [(None, None), (noise, Some(1)), (noise, Some(2))]);
        let row = &comparison.accuracies[2];
        let (reference, candidate) = (row.reference.unwrap(), row.candidate.unwrap());
        assert!((reference.value - 0.8).abs() < 1e-12);
        assert!((candidate.interval.unwrap().0 - 0.73).abs() < 1e-12);
        assert_eq!(comparison.severities(), [1, 2]);
        assert_eq!(comparison.at_severity(2).count(), 2);
    }

    #[test]
    fn a_network_beside_itself_differs_by_nothing() {
        let comparison = Comparison::of(&story(), NetworkId(0)).unwrap();
        assert!(comparison.accuracies.iter().all(|row| {
            let difference = row.difference.unwrap();
            difference.value == 0.0 && difference.is_within_noise() == Some(true)
        }));
        assert!(
            comparison
                .footprint
                .iter()
                .all(|row| row.removed() == Some(0.0))
        );
        assert_eq!(comparison.latencies[0].ratio(), Some(1.0));
    }

    #[test]
    fn the_end_is_one_sentence_of_what_was_measured() {
        assert_eq!(
            closing_sentence(&story()).unwrap(),
            "magnitude pruning 50 %: -0.1 ±1.9 points (n = 1000), 1.0x latency: zeros do not speed it up"
        );
        assert_eq!(closing_sentence(&State::default()), None);
    }

    #[test]
    fn no_difference_is_not_a_negative_zero() {
        let difference = Difference {
            value: -0.000_01,
            interval: None,
        };
        assert_eq!(difference.points(), "+0.0");
    }
}
