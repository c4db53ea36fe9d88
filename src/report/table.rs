//! The table of measurements: one flat row per number, the same in every format.

use serde::Serialize;

use super::Report;
use crate::measurement::{Measurement, Metric, Score, Unit};
use crate::spec::Role;
use crate::state::sweep::deviation;
use crate::state::{NetworkState, State};

/// One number. The fields' names are a promise to whoever reads a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// The file, where several are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    pub network: String,
    pub role: &'static str,
    /// `train`, `compress`, `fine-tune`, and `compress-2` for the second of its kind.
    pub stage: Option<String>,
    pub epoch: u32,
    pub probe: String,
    pub metric: Metric,
    pub condition: Option<String>,
    pub severity: Option<u8>,
    /// Name of the network it was compared with.
    pub against: Option<String>,
    pub value: Score,
    pub unit: Unit,
    /// 95 % interval.
    pub low: Option<Score>,
    pub high: Option<Score>,
    pub n: Option<u64>,
    /// Per cent by which it lies above the same number of its reference, 100 · (A_c / A_b - 1).
    pub deviation_percent: Option<Score>,
    /// How far an attack may go, in pixels of 0 to 1.
    pub budget: Option<Score>,
}

/// Every number of the sessions, network by network, in the order in which it was found.
pub(super) fn rows(report: &Report<'_>) -> Vec<Row> {
    let is_joined = report.chapters.len() > 1;
    let mut rows = Vec::new();
    for chapter in &report.chapters {
        for network in &chapter.state.networks {
            for found in network.measurements.iter() {
                let Some(value) = found.scalar() else {
                    continue;
                };
                rows.push(Row {
                    session: is_joined.then(|| chapter.name.clone()),
                    network: network.plan.name.clone(),
                    role: network.plan.role.name(),
                    stage: network.plan.stage_name(found.stage),
                    epoch: found.epoch,
                    probe: found.probe.clone(),
                    metric: found.metric,
                    condition: found.condition.clone(),
                    severity: found.severity,
                    against: found.against.map(|id| chapter.state.name(id)),
                    value: Score(value),
                    unit: found.unit,
                    low: found.interval.map(|(low, _)| low),
                    high: found.interval.map(|(_, high)| high),
                    n: found.n,
                    deviation_percent: above_reference(&chapter.state, network, found).map(Score),
                    budget: found.budget,
                });
            }
        }
    }
    rows
}

/// By how much a number lies above the same of its reference; nothing for references, and for what only compares.
fn above_reference(state: &State, network: &NetworkState, found: &Measurement) -> Option<f64> {
    if network.plan.role == Role::Reference || found.against.is_some() {
        return None;
    }
    let reference = state.network(network.plan.against)?;
    let (condition, severity) = (found.condition.as_deref(), found.severity);
    let base = reference.measurements.within(
        found.metric,
        condition,
        severity,
        found.budget.map(|budget| budget.0),
    )?;
    deviation(found.scalar()?, base.scalar()?)
}
