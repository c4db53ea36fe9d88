//! The numbers found about one network; what is measured again replaces what was.

use std::sync::Arc;

use crate::measurement::{Measurement, Metric, Score};

/// The numbers found about one network, in the order in which they were first found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements(Vec<Arc<Measurement>>);

impl Measurements {
    /// Adds a finding, or replaces the one of the same stage, epoch, probe, metric, condition, severity, budget and yardstick.
    pub fn insert(&mut self, measurement: Measurement) {
        let is_same = |known: &Measurement| {
            (
                known.stage,
                known.epoch,
                known.metric,
                known.severity,
                known.against,
            ) == (
                measurement.stage,
                measurement.epoch,
                measurement.metric,
                measurement.severity,
                measurement.against,
            ) && known.condition == measurement.condition
                && known.probe == measurement.probe
                && known.budget == measurement.budget
        };
        // What is replaced was mostly found a moment ago.
        match self.0.iter().rposition(|known| is_same(known)) {
            Some(place) => self.0[place] = Arc::new(measurement),
            None => self.0.push(Arc::new(measurement)),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Measurement> {
        self.0.iter().map(|measurement| &**measurement)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latest finding of a metric under a condition without a budget: that of the last stage, and of the last epoch
    /// in it.
    pub fn latest(
        &self,
        metric: Metric,
        condition: Option<&str>,
        severity: Option<u8>,
    ) -> Option<&Measurement> {
        self.within(metric, condition, severity, None)
    }

    /// The latest finding of a metric under a condition, within a budget where the condition has one.
    pub fn within(
        &self,
        metric: Metric,
        condition: Option<&str>,
        severity: Option<u8>,
        budget: Option<f64>,
    ) -> Option<&Measurement> {
        self.iter()
            .filter(|found| {
                found.metric == metric
                    && found.severity == severity
                    && found.budget == budget.map(Score)
                    && found.condition.as_deref() == condition
            })
            .max_by_key(|found| (found.stage, found.epoch))
    }

    /// The budgets within which a metric was found under a condition, from small to large.
    pub fn budgets(&self, metric: Metric, condition: &str) -> Vec<f64> {
        let of = |found: &&Measurement| {
            found.metric == metric && found.condition.as_deref() == Some(condition)
        };
        let found = self.iter().filter(of);
        let mut budgets: Vec<f64> = found.filter_map(|found| Some(found.budget?.0)).collect();
        budgets.sort_by(f64::total_cmp);
        budgets.dedup();
        budgets
    }

    /// Every condition and severity under which one of the metrics was found, in the order in which they were found;
    /// those with a budget are left out.
    pub fn conditions(&self, metrics: &[Metric]) -> Vec<(&str, Option<u8>)> {
        let mut conditions = Vec::new();
        let of = |found: &&Measurement| metrics.contains(&found.metric) && found.budget.is_none();
        for found in self.iter().filter(of) {
            if let Some(condition) = found.condition.as_deref()
                && !conditions.contains(&(condition, found.severity))
            {
                conditions.push((condition, found.severity));
            }
        }
        conditions
    }
}
