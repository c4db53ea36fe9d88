//! Over which rows of a table Holm's correction is made.

use super::{AccuracyRow, holm};
use crate::measurement::{Measurement, Metric};
use crate::state::NetworkState;

/// Holm's correction over all that one probe asked of one candidate: every corruption at every severity, every attack at
/// every budget, every domain. The clean images are a family of their own. A row that asks of unchanged images again
/// has no part in it, neither by its p nor by being counted: it would make all others stricter for nothing.
pub(super) fn correct(rows: &mut [AccuracyRow], reference: &NetworkState) {
    let mut probes: Vec<String> = rows.iter().map(|row| row.probe.clone()).collect();
    probes.sort_unstable();
    probes.dedup();
    for probe in probes {
        let of = |row: &&mut AccuracyRow| {
            row.p.is_some() && row.probe == probe && !changes_nothing(row, reference)
        };
        let tested: Vec<f64> = rows.iter_mut().filter(of).filter_map(|row| row.p).collect();
        for (row, adjusted) in rows.iter_mut().filter(of).zip(holm(&tested)) {
            row.adjusted = Some(adjusted);
        }
    }
}

/// Whether a row's images are the clean ones: those of an attack that may do nothing, or of a corruption that did nothing,
/// as was measured with the reference.
fn changes_nothing(row: &AccuracyRow, reference: &NetworkState) -> bool {
    let change = row.condition.as_deref().and_then(|condition| {
        let all = &reference.measurements;
        all.latest(Metric::MeanAbsoluteChange, Some(condition), row.severity)
    });
    row.budget == Some(0.0) || change.and_then(Measurement::scalar) == Some(0.0)
}

#[cfg(test)]
mod tests {
    use crate::measurement::{Measurement, Metric, Paired, Score, Value};
    use crate::session::sample;
    use crate::spec::NetworkId;
    use crate::state::{NetworkState, State};

    /// An attack that may do nothing, two that may, and a corruption that did nothing. SciPy 1.17.1, `binomtest(0, 6)` and
    /// `binomtest(1, 9)`: 0.03125 and 0.0390625; statsmodels 0.15.0, `multipletests` of both with `method="holm"`: 0.0625
    /// twice. Were the first one counted, both would be 0.09375.
    #[test]
    fn what_asks_of_the_clean_images_again_is_no_part_of_the_correction() {
        let state = State::fold(&sample::records(sample::story()));
        let mut reference = NetworkState::new(state.networks[0].plan.clone());
        let mut candidate = NetworkState::new(state.networks[2].plan.clone());
        let found = |network, condition: &str, probe: &str, budget: Option<f64>| Measurement {
            probe: probe.to_owned(),
            condition: Some(condition.to_owned()),
            budget: budget.map(Score),
            ..sample::scalar(NetworkId(network), 0, Metric::Accuracy, 0.5)
        };
        let pairs = |reference_only, candidate_only| {
            Some(Paired {
                reference_only,
                candidate_only,
            })
        };
        for (budget, paired) in [(0.0, pairs(0, 6)), (0.1, pairs(0, 6)), (0.2, pairs(1, 8))] {
            let row = |network| found(network, "pgd", "adversarial-accuracy", Some(budget));
            reference.measurements.insert(row(0));
            candidate
                .measurements
                .insert(Measurement { paired, ..row(2) });
        }
        for (condition, change) in [("random-fog:published", 0.0), ("contrast", 3.0)] {
            let row = |network| found(network, condition, "corruption-error", None);
            reference.measurements.insert(row(0));
            reference.measurements.insert(Measurement {
                metric: Metric::MeanAbsoluteChange,
                value: Value::Scalar(Score(change)),
                ..row(0)
            });
            candidate.measurements.insert(Measurement {
                paired: pairs(0, 6),
                ..row(2)
            });
        }
        let rows = super::super::accuracies(&reference, &candidate);
        let expected = [None, Some(0.062_5), Some(0.062_5), None, Some(0.031_25)];
        for (row, expected) in rows.iter().zip(expected) {
            let close = |(a, b): (f64, f64)| (a - b).abs() < 1e-12;
            assert_eq!(row.adjusted.is_some(), expected.is_some(), "{row:?}");
            assert!(row.adjusted.zip(expected).is_none_or(close), "{row:?}");
        }
        assert_eq!(rows.len(), expected.len());
        assert!(rows.iter().all(|row| row.p.is_some()));
        assert!(
            rows[0].is_within_noise().is_none(),
            "no interval was measured"
        );
    }
}
