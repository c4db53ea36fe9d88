//! A candidate beside its reference: accuracies, differences with their doubt, footprint, latency, agreement.
//!
//! The difference of two accuracies has Newcombe's hybrid score interval, put together from the two Wilson intervals:
//! for d = c - r, from d - √((c - c_low)² + (r_high - r)²) to d + √((c_high - c)² + (r - r_low)²).
//! Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10,
//! doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
//!
//! Both networks see the same images. On clean ones it is known how many either alone gets right, b and c, and the
//! interval is Newcombe's for paired proportions: the arms are √(x² - 2φxy + y²) with the same x and y as above, and φ
//! is the correlation of being right, (ad - bc - n/2) / √((a+b)(c+d)(a+c)(b+d)), where the numerator is ad - bc if that
//! is negative and 0 if it is between. Newcombe 1998, "Improved confidence intervals for the difference between binomial
//! proportions based on paired data", method 10, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.
//! Deviation: under corruption b and c are not recorded, and the first formula takes the networks for independent.
//! Networks that agree on most images differ less by chance than it says: too wide rather than too narrow.

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
    pub interval: Option<(f64, f64)>,
}

impl Difference {
    /// `correlation` is φ, 0 where the two are taken for independent.
    fn between(reference: &Estimate, candidate: &Estimate, correlation: f64) -> Self {
        let value = candidate.value - reference.value;
        let arm = |x: f64, y: f64| {
            // Never below zero but for the dust of rounding.
            (x * x - 2.0 * correlation * x * y + y * y).max(0.0).sqrt()
        };
        let interval = candidate.interval.zip(reference.interval).map(
            |((candidate_low, candidate_high), (reference_low, reference_high))| {
                let below = arm(
                    candidate.value - candidate_low,
                    reference_high - reference.value,
                );
                let above = arm(
                    candidate_high - candidate.value,
                    reference.value - reference_low,
                );
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

    /// Whether nothing can be said about which is faster: the medians are within [`NOTABLE`] of each other, or the
    /// middle four fifths of the times overlap.
    pub fn is_within_scatter(&self) -> bool {
        let spread =
            |found: Option<(f64, Option<(f64, f64)>)>| found.and_then(|(_, spread)| spread);
        let overlap = spread(self.reference)
            .zip(spread(self.candidate))
            .is_some_and(|(a, b)| a.0 <= b.1 && b.0 <= a.1);
        overlap
            || self
                .ratio()
                .is_some_and(|ratio| (ratio - 1.0).abs() < NOTABLE)
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
        if let Some(row) = self.latencies.first()
            && let Some(ratio) = row.ratio()
        {
            let scatter = if row.is_within_scatter() && tenths(ratio) != 1.0 {
                " (within scatter)"
            } else {
                ""
            };
            write!(sentence, ", {:.1}x latency{scatter}", tenths(ratio))
                .expect("writing to a string cannot fail");
            let ratio = if row.is_within_scatter() { 1.0 } else { ratio };
            if let Some(reason) = self.reason(ratio, state) {
                write!(sentence, ": {reason}").expect("writing to a string cannot fail");
            }
        }
        Some(sentence)
    }

    /// What the sizes say about the latency.
    fn reason(&self, ratio: f64, state: &State) -> Option<&'static str> {
        let is_quantized = |network: &NetworkState| network.plan.family == "quantization";
        if state.network(self.candidate).is_some_and(is_quantized) && ratio >= 1.0 - NOTABLE {
            return Some("simulated quantization does not speed it up");
        }
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
            let (own, other) = (find(reference), find(candidate));
            AccuracyRow {
                condition: condition.map(ToOwned::to_owned),
                severity,
                reference: own,
                candidate: other,
                difference: own.as_ref().zip(other.as_ref()).map(|(from, to)| {
                    let paired = condition
                        .is_none()
                        .then(|| correlation(from, to, candidate));
                    Difference::between(from, to, paired.flatten().unwrap_or(0.0))
                }),
            }
        })
        .filter(|row| row.reference.is_some() || row.candidate.is_some())
        .collect()
}

/// How much being right on an image goes together in two networks, from the images that only one of them gets right.
/// Nothing where those were not counted on the same images as the accuracies.
fn correlation(reference: &Estimate, candidate: &Estimate, network: &NetworkState) -> Option<f64> {
    let images = candidate.n.filter(|n| reference.n == Some(*n))?;
    let n = images as f64;
    let only = |metric| {
        let found = network.measurements.latest(metric, None, None)?;
        (found.n == Some(images)).then_some((found.scalar()? * n).round())
    };
    let (only_reference, only_candidate) = (only(Metric::ChurnBad)?, only(Metric::ChurnGood)?);
    let (right, now_right) = ((reference.value * n).round(), (candidate.value * n).round());
    let both = right - only_reference;
    let neither = n - right - only_candidate;
    if right - only_reference + only_candidate != now_right || both < 0.0 || neither < 0.0 {
        return None;
    }
    Some(phi(both, only_reference, only_candidate, neither))
}

/// Newcombe's φ of a table of pairs; 0 where one of the two is always right or never.
fn phi(a: f64, b: f64, c: f64, d: f64) -> f64 {
    let product = (a + b) * (c + d) * (a + c) * (b + d);
    if product <= 0.0 {
        return 0.0;
    }
    let (together, half) = (a * d - b * c, (a + b + c + d) / 2.0);
    let corrected = if together < 0.0 {
        together
    } else {
        (together - half).max(0.0)
    };
    corrected / product.sqrt()
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
                // Times taken in turn with the candidate's come before any others.
                let of = |metric| {
                    let found = network.measurements.iter().rfind(|found| {
                        found.metric == metric
                            && found.condition.as_deref() == Some(condition)
                            && found.against == Some(candidate.plan.id)
                    });
                    match found {
                        Some(found) => found.scalar().filter(|value| value.is_finite()),
                        None => number(network, metric, Some(condition)),
                    }
                };
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
            let difference = Difference::between(&reference, &candidate, 0.0);
            let (low, high) = difference.interval.unwrap();
            assert!((low - expected.0).abs() < 1e-10, "{low}");
            assert!((high - expected.1).abs() < 1e-10, "{high}");
            assert_eq!(difference.is_within_noise(), Some(expected.1 > 0.0));
        }
    }

    /// The formula of the file's head in NumPy over Wilson intervals of statsmodels 0.15.0, `proportion_confint(k, 50,
    /// method="wilson")`. A percentile bootstrap of the pairs, SciPy 1.17.1, says -0.34 to -0.06 for both.
    #[test]
    fn the_interval_of_a_paired_difference_is_newcombes() {
        for ([a, b, c, d], reference, candidate, expected) in [
            (
                [20.0, 12.0, 2.0, 16.0],
                (0.501_410_168_761, 0.758_612_503_483),
                (0.311_621_992_113, 0.576_939_719_783),
                (-0.329_206_995_400, -0.056_156_424_842),
            ),
            (
                [36.0, 12.0, 2.0, 0.0],
                (0.865_399_093_125, 0.988_961_115_672),
                (0.625_873_162_421, 0.857_026_086_030),
                (-0.340_427_602_975, -0.056_929_584_003),
            ),
        ] {
            let of = |hits: f64, (low, high)| estimate(hits / 50.0, low, high);
            let (reference, candidate) = (of(a + b, reference), of(a + c, candidate));
            let difference = Difference::between(&reference, &candidate, phi(a, b, c, d));
            assert!((difference.value + 0.2).abs() < 1e-12);
            let (low, high) = difference.interval.unwrap();
            assert!((low - expected.0).abs() < 1e-9, "{low}");
            assert!((high - expected.1).abs() < 1e-9, "{high}");
        }
        assert_eq!(phi(50.0, 0.0, 0.0, 0.0), 0.0, "always right");
        assert!(phi(1.0, 40.0, 40.0, 1.0) < -0.9, "never on the same image");
    }

    /// Two networks that answer alike differ by less than two that are strangers.
    #[test]
    fn what_both_get_right_narrows_the_difference() {
        let finding = |metric, value: f64| Measurement {
            n: Some(1_000),
            ..sample::scalar(NetworkId(2), 0, metric, value)
        };
        let mut network = NetworkState::new(story().networks[2].plan.clone());
        let reference = estimate(0.950, 0.934_686_179_756, 0.961_869_737_607);
        let candidate = estimate(0.949, 0.933_564_513_655, 0.960_999_057_225);
        assert_eq!(correlation(&reference, &candidate, &network), None);
        network
            .measurements
            .insert(finding(Metric::ChurnBad, 0.003));
        network
            .measurements
            .insert(finding(Metric::ChurnGood, 0.002));
        // 947, 3, 2 and 48 images: (947·48 - 6 - 500) / √(950·50·949·51).
        let phi = correlation(&reference, &candidate, &network).unwrap();
        assert!((phi - 0.937_485_797).abs() < 1e-8, "{phi}");
        let margin = |phi| {
            Difference::between(&reference, &candidate, phi)
                .margin()
                .unwrap()
        };
        assert!(margin(phi) < margin(0.0) / 3.0);
        // Counted on other images, they say nothing.
        let other = estimate(0.940, 0.92, 0.95);
        assert_eq!(correlation(&reference, &other, &network), None);
    }

    #[test]
    fn times_that_overlap_are_no_difference() {
        let row = |a, b| LatencyRow {
            condition: "batch-1".to_owned(),
            reference: Some(a),
            candidate: Some(b),
        };
        let apart = row((1.0, Some((0.9, 1.1))), (0.5, Some((0.4, 0.6))));
        assert!(!apart.is_within_scatter());
        let overlapping = row((1.0, Some((0.5, 1.1))), (0.5, Some((0.4, 0.6))));
        assert!(overlapping.is_within_scatter());
        assert!(row((1.0, None), (0.96, None)).is_within_scatter());
        assert!(!row((1.0, None), (0.5, None)).is_within_scatter());
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
