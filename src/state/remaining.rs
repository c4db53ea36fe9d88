//! How long it will take, from the times of the records alone.
//!
//! A stage that runs goes on as it went so far. A stage that waits takes as long as the slowest of its kind took, per
//! epoch where it trains; the slowest, because a network restored from the cache takes no time and says nothing.

use super::{NetworkState, StageState, State, Status};
use crate::spec::StageKind;

/// The share of a stage that must be done before it is extrapolated.
const LEAST_SHARE: f64 = 0.02;

impl State {
    /// Milliseconds until the stage that runs now is done.
    pub fn remaining_in_stage(&self) -> Option<u64> {
        let (_, stage) = self.current_stage()?;
        let share = stage.share().filter(|share| *share >= LEAST_SHARE)?;
        let so_far = stage.milliseconds(self.at)? as f64;
        Some((so_far * (1.0 - share) / share) as u64)
    }

    /// Milliseconds until the study is done; nothing while that cannot be told.
    ///
    /// Stages of a kind that was never seen count as no time, so early in a study it is a lower bound.
    pub fn remaining(&self) -> Option<u64> {
        if !self.is_running() {
            return None;
        }
        let mut total = self.remaining_in_stage().unwrap_or(0);
        let mut is_known = total > 0;
        for network in &self.networks {
            if matches!(network.status, Status::Failed(_) | Status::Cancelled) {
                continue;
            }
            for stage in network
                .stages
                .iter()
                .filter(|stage| stage.started.is_none())
            {
                if let Some(milliseconds) = self.expected(stage) {
                    total = total.saturating_add(milliseconds);
                    is_known = true;
                }
            }
        }
        is_known.then_some(total)
    }

    fn expected(&self, waiting: &StageState) -> Option<u64> {
        let trains = waiting.epochs > 0;
        let seen = self
            .networks
            .iter()
            .flat_map(|network| stages_with_time(network, self.at))
            .filter(|(stage, _)| {
                if trains {
                    // A distillation runs the teacher too, so it is not like a training.
                    stage.epochs > 0
                        && (stage.kind == StageKind::Compress)
                            == (waiting.kind == StageKind::Compress)
                } else {
                    stage.epochs == 0 && stage.kind == waiting.kind
                }
            })
            .map(|(stage, whole)| {
                if trains {
                    whole / f64::from(stage.epochs)
                } else {
                    whole
                }
            })
            .reduce(f64::max)?;
        Some((seen * f64::from(waiting.epochs.max(1))) as u64)
    }
}

/// Each stage that ended, or is far enough along, and the milliseconds of the whole of it.
fn stages_with_time(network: &NetworkState, at: u64) -> impl Iterator<Item = (&StageState, f64)> {
    network.stages.iter().filter_map(move |stage| {
        let share = match stage.ended {
            Some(_) => 1.0,
            None => stage.share().filter(|share| *share >= LEAST_SHARE)?,
        };
        Some((stage, stage.milliseconds(at)? as f64 / share))
    })
}
