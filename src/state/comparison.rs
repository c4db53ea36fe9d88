//! A candidate beside its reference: accuracies, differences with their doubt, footprint, latency, agreement.

use std::fmt::Write as _;

use super::{NetworkState, State, Status, counted, seeds};
use crate::measurement::{Measurement, Metric};
use crate::spec::{NetworkId, StageKind};

mod difference;
mod family;
mod mean;
mod significance;

pub use difference::{Difference, Estimate};
use difference::{correlation, of_pairs, tenths};
pub use significance::{bootstrap, holm, mcnemar};

/// Below this corrected p a difference is called more than chance.
const LEVEL: f64 = 0.05;

/// Accuracy under one condition.
#[derive(Clone, Debug, PartialEq)]
pub struct AccuracyRow {
    /// The probe that found it.
    pub probe: String,
    /// The id of a corruption, an attack or a domain; nothing for clean images.
    pub condition: Option<String>,
    pub severity: Option<u8>,
    /// How far an attack may go.
    pub budget: Option<f64>,
    pub reference: Option<Estimate>,
    pub candidate: Option<Estimate>,
    pub difference: Option<Difference>,
    /// 95 % interval of the difference by a paired bootstrap.
    pub bootstrap: Option<(f64, f64)>,
    /// p of McNemar's exact test.
    pub p: Option<f64>,
    /// The same after Holm's correction over all rows of the same probe and candidate; nothing for a row that only asks of
    /// the clean images again.
    pub adjusted: Option<f64>,
}

impl AccuracyRow {
    /// Whether the difference may be chance: by the corrected test where pairs were counted and the row has a part in the
    /// correction, and otherwise by whether the interval of the difference holds zero. Unknown without either.
    pub fn is_within_noise(&self) -> Option<bool> {
        match self.adjusted {
            Some(p) => Some(p >= LEVEL),
            None => self.difference.as_ref()?.is_within_noise(),
        }
    }
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
    /// `batch-1` or `batch-256`; fewer images for a large network.
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
    /// Channels, parameters, non-zero, multiply-accumulates, bytes in all layouts: those that were measured.
    pub footprint: Vec<FootprintRow>,
    pub latencies: Vec<LatencyRow>,
    /// The share of test images on which both answer the same.
    pub agreement: Option<Estimate>,
    /// Mean Jensen-Shannon divergence of their outputs, in nats.
    pub divergence: Option<f64>,
}

/// The metrics of a footprint, in the order of the table.
pub const FOOTPRINT: [Metric; 9] = [
    Metric::Channels,
    Metric::Parameters,
    Metric::Nonzero,
    Metric::Macs,
    Metric::Bytes,
    Metric::BytesDense,
    Metric::BytesBitmask,
    Metric::BytesCsr,
    Metric::BytesWritten,
];

/// The metrics from which accuracy under a corruption is read.
pub(super) const ACCURACIES: [Metric; 2] = [Metric::Accuracy, Metric::Error];

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

    /// The row under the same condition as another comparison's.
    pub fn like(&self, row: &AccuracyRow) -> Option<&AccuracyRow> {
        let mut rows = self.accuracies.iter();
        rows.find(|own| {
            own.probe == row.probe
                && own.condition == row.condition
                && own.severity == row.severity
                && own.budget == row.budget
        })
    }

    /// The rows of one severity, the clean one in front, and those of corruptions without severities.
    pub fn at_severity(&self, severity: u8) -> impl Iterator<Item = &AccuracyRow> {
        self.accuracies
            .iter()
            .filter(move |row| row.severity.is_none_or(|own| own == severity))
    }

    /// The rows of each condition together, the clean images first; from weak to strong where it has severities.
    pub fn by_condition(&self) -> Vec<Vec<&AccuracyRow>> {
        let mut blocks: Vec<Vec<&AccuracyRow>> = Vec::new();
        for row in &self.accuracies {
            let same = |block: &&mut Vec<&AccuracyRow>| {
                (&block[0].condition, &block[0].probe) == (&row.condition, &row.probe)
            };
            match blocks.iter_mut().find(same) {
                Some(block) => block.push(row),
                None => blocks.push(vec![row]),
            }
        }
        for block in &mut blocks {
            block.sort_by_key(|row| row.severity);
        }
        blocks
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
        let name = state.name(self.candidate);
        let tuning = self.tuning(&name, state);
        let mut sentence = format!("{name}{tuning}: {} points", difference.points());
        if let Some(n) = clean.candidate.and_then(|estimate| estimate.n) {
            write!(sentence, " (n = {n})").expect("writing to a string cannot fail");
        }
        // One image at a time is what a person waits for.
        // Of a quantized network that was timed as its integers, those are what counts.
        let of_integers =
            |row: &&LatencyRow| row.condition.ends_with(INTEGERS) && row.ratio().is_some();
        let timed = self.latencies.iter().find(of_integers);
        if let Some(row) = timed.or(self.latencies.first())
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

    /// The same of means over seeds, `magnitude pruning 50 % over 3 seeds: -0.1 ±0.3 points`; times are each network's own.
    pub fn sentence_over(&self, seeds: usize, state: &State) -> Option<String> {
        let clean = self.clean()?;
        let plan = &state.network(self.candidate)?.plan;
        let name = state.study.as_ref()?.name_over_seeds(plan);
        let tuning = self.tuning(&name, state);
        let points = clean.difference?.points();
        let n = clean.candidate.and_then(|found| found.n);
        let n = n.map_or(String::new(), |n| format!(" (n = {n})"));
        Some(format!(
            "{name}{tuning} over {seeds} seeds: {points} points{n}"
        ))
    }

    /// What more training did is not the compression's merit: ` + 1 epoch`, where the name does not say so.
    fn tuning(&self, name: &str, state: &State) -> String {
        let tuned = state.network(self.candidate).map_or(0, |network| {
            let stages = network.plan.stages.iter();
            let tunings = stages.filter(|stage| stage.kind == StageKind::FineTune);
            tunings.map(|stage| u64::from(stage.epochs)).sum()
        });
        match tuned {
            0 => String::new(),
            _ if tells_tuning(name) => String::new(),
            epochs => format!(" + {}", counted(epochs, "epoch")),
        }
    }

    /// Whether it was timed as the integers that it stands for.
    fn has_integers(&self) -> bool {
        let mut rows = self.latencies.iter();
        rows.any(|row| row.condition.ends_with(INTEGERS) && row.ratio().is_some())
    }

    /// What the sizes say about the latency.
    fn reason(&self, ratio: f64, state: &State) -> Option<&'static str> {
        let is_quantized = |network: &NetworkState| network.plan.family == "quantization";
        if state.network(self.candidate).is_some_and(is_quantized) && ratio >= 1.0 - NOTABLE {
            return Some(if self.has_integers() {
                "its integers do not speed it up"
            } else {
                "simulated quantization does not speed it up"
            });
        }
        let removed = |metric| self.size(metric).and_then(FootprintRow::removed);
        let is_less = |metric| removed(metric).is_some_and(|share| share >= NOTABLE);
        // Not faster by more than timings scatter.
        if ratio < 1.0 - NOTABLE && self.has_integers() {
            return Some("8-bit integers compute faster");
        }
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

/// Ends the condition of a latency that was measured on integers.
const INTEGERS: &str = "-int8";

/// The least share that is worth a word: medians of latency scatter by several percent on a busy machine.
const NOTABLE: f64 = 0.05;

/// What came out, in one plain sentence per finished branch; nothing before one is measured.
pub fn closing_sentence(state: &State) -> Option<String> {
    let sentences = closing_sentences(state);
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// The same, each by itself; a branch that was made from several seeds has one for all of them.
pub fn closing_sentences(state: &State) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for branch in state
        .branches()
        .filter(|branch| branch.status == Status::Done)
    {
        let sentence = match seeds::over_seeds(state, branch.plan.id) {
            Some((found, seeds)) => found.sentence_over(seeds, state),
            None => Comparison::of(state, branch.plan.id).and_then(|found| found.sentence(state)),
        };
        // The next seed's is the same.
        sentences.extend(sentence.filter(|sentence| !sentences.contains(sentence)));
    }
    sentences
}

/// Whether a name itself says for how long it was trained further: `… + 2 epochs`.
fn tells_tuning(name: &str) -> bool {
    name.split(" + ")
        .skip(1)
        .any(|part| part.starts_with(|c: char| c.is_ascii_digit()) && part.contains(" epoch"))
}

fn accuracies(reference: &NetworkState, candidate: &NetworkState) -> Vec<AccuracyRow> {
    let mut conditions: Vec<Condition<'_>> = vec![Condition::default()];
    for network in [reference, candidate] {
        let found = network.measurements.iter();
        for found in found.filter(|found| ACCURACIES.contains(&found.metric)) {
            let condition = Condition::of(found);
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
    }
    let mut rows: Vec<AccuracyRow> = conditions
        .into_iter()
        .map(|condition| condition.row(reference, candidate))
        .filter(|row| row.reference.is_some() || row.candidate.is_some())
        .collect();
    family::correct(&mut rows, reference);
    rows
}

/// Under what two networks were asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Condition<'a> {
    id: Option<&'a str>,
    severity: Option<u8>,
    budget: Option<f64>,
}

impl<'a> Condition<'a> {
    fn of(found: &'a Measurement) -> Self {
        Self {
            id: found.condition.as_deref(),
            severity: found.severity,
            budget: found.budget.map(|budget| budget.0),
        }
    }

    fn row(self, reference: &NetworkState, candidate: &NetworkState) -> AccuracyRow {
        let find = |network: &NetworkState| {
            ACCURACIES.into_iter().find_map(|metric| {
                let found =
                    network
                        .measurements
                        .within(metric, self.id, self.severity, self.budget)?;
                Some((
                    Estimate::accuracy(found)?,
                    found.paired,
                    found.probe.clone(),
                ))
            })
        };
        let (own, other) = (find(reference), find(candidate));
        let pair = own.as_ref().zip(other.as_ref());
        let paired = pair.and_then(|((from, ..), (to, paired, _))| {
            let n = to.n.filter(|n| from.n == Some(*n))?;
            let paired = (*paired)?;
            (paired.reference_only + paired.candidate_only <= n).then_some((paired, n))
        });
        let difference = pair.map(|((from, ..), (to, ..))| {
            // Sessions of earlier versions counted pairs on clean images alone.
            let counted = || {
                let is_clean = self.id.is_none();
                is_clean.then(|| correlation(from, to, candidate)).flatten()
            };
            let correlation = match paired {
                Some((pairs, n)) => Some(of_pairs(from, pairs, n)),
                None => counted(),
            };
            Difference::between(from, to, correlation.unwrap_or(0.0))
        });
        let found = other.as_ref().or(own.as_ref());
        AccuracyRow {
            probe: found.map_or(String::new(), |(.., probe)| probe.clone()),
            condition: self.id.map(ToOwned::to_owned),
            severity: self.severity,
            budget: self.budget,
            difference,
            bootstrap: paired
                .and_then(|(pairs, n)| bootstrap(pairs.reference_only, pairs.candidate_only, n)),
            p: paired.map(|(pairs, _)| mcnemar(pairs.reference_only, pairs.candidate_only)),
            adjusted: None,
            reference: own.map(|(estimate, ..)| estimate),
            candidate: other.map(|(estimate, ..)| estimate),
        }
    }
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
            let find = |network: &NetworkState, condition: &str| {
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
            // A reference has no integers: those of its candidate stand beside its floats.
            let floats = condition.strip_suffix(INTEGERS);
            LatencyRow {
                condition: condition.to_owned(),
                reference: find(reference, floats.unwrap_or(condition)),
                candidate: find(candidate, condition),
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
    fn rows_of_a_condition_stand_together() {
        let comparison = Comparison::of(&story(), NetworkId(2)).unwrap();
        let blocks = comparison.by_condition();
        let severities: Vec<Vec<Option<u8>>> = blocks
            .iter()
            .map(|block| block.iter().map(|row| row.severity).collect())
            .collect();
        assert_eq!(severities, [vec![None], vec![Some(1), Some(2)]]);
        // 0.8 and 0.9 with two points on either side, and five points less.
        let mean = AccuracyRow::mean(&blocks[1]).unwrap();
        let (reference, difference) = (mean.reference.unwrap(), mean.difference.unwrap());
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        close(reference.value, 0.85);
        close(reference.interval.unwrap().0, 0.83);
        close(difference.value, -0.05);
        close(difference.margin().unwrap(), 0.02 * 2.0_f64.sqrt());
    }

    #[test]
    fn the_end_is_one_sentence_of_what_was_measured() {
        assert_eq!(
            closing_sentence(&story()).unwrap(),
            "magnitude pruning 50 % + 1 epoch: -0.1 ±1.9 points (n = 1000), 1.0x latency: zeros do not speed it up"
        );
        assert_eq!(closing_sentence(&State::default()), None);
    }
}
