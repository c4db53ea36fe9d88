//! Energy of stages: what a GPU used between a stage's beginning and its end, by the card's own counter.
//!
//! It is the whole card's energy, whoever else uses it. Part of a stage is no stage: where its beginning was in an
//! earlier run, or its training comes from the cache, nothing is said.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::lab::context::Sink;
use crate::lab::error::Result;
use crate::spec::NetworkId;

/// A counter in millijoules.
pub(super) trait Counter: Send {
    fn millijoules(&self) -> Option<u64>;
}

impl Counter for super::gpu::Meter {
    fn millijoules(&self) -> Option<u64> {
        Self::millijoules(self)
    }
}

/// A sink that adds to the cost of each stage what it took.
pub(super) struct Metered<S, C> {
    inner: S,
    counter: C,
    /// Where the counter stood when stages began.
    begun: BTreeMap<(NetworkId, u32), u64>,
}

impl<S: Sink, C: Counter> Metered<S, C> {
    pub(super) fn over(inner: S, counter: C) -> Self {
        Self {
            inner,
            counter,
            begun: BTreeMap::new(),
        }
    }
}

impl<S: Sink, C: Counter> Sink for Metered<S, C> {
    fn state(&mut self, mut event: Event) -> Result<()> {
        match &mut event {
            Event::StageStarted { network, stage, .. } => {
                if let Some(now) = self.counter.millijoules() {
                    self.begun.insert((*network, *stage), now);
                }
            }
            Event::StageEnded {
                network,
                stage,
                cost,
                ..
            } => {
                let begun = self.begun.remove(&(*network, *stage));
                cost.joules = begun.and_then(|begun| {
                    let used = self.counter.millijoules()?.checked_sub(begun)?;
                    Some((used + 500) / 1000)
                });
            }
            _ => {}
        }
        self.inner.state(event)
    }

    fn remark(&mut self, remark: &str) {
        // The lab remarks that a training is restored and not computed, and nothing else while a stage runs.
        self.begun.clear();
        self.inner.remark(remark);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::event::{Cost, Outcome};
    use crate::spec::StageKind;

    /// Counts a second at 1.2 kW with each look.
    #[derive(Default)]
    struct Steady(Arc<AtomicU64>);

    impl Counter for Steady {
        fn millijoules(&self) -> Option<u64> {
            Some(self.0.fetch_add(1_200_000, Ordering::Relaxed))
        }
    }

    fn started(stage: u32) -> Event {
        Event::StageStarted {
            network: NetworkId(1),
            stage,
            kind: StageKind::Train,
            title: String::new(),
            steps: 0,
        }
    }

    fn ended(stage: u32) -> Event {
        Event::StageEnded {
            network: NetworkId(1),
            stage,
            outcome: Outcome::Completed,
            cost: Cost::default(),
        }
    }

    #[test]
    fn a_stage_is_told_what_it_took_and_part_of_one_is_not() {
        let mut sink = Metered::over(Vec::new(), Steady::default());
        for event in [started(0), ended(0), ended(1), started(2)] {
            sink.state(event).unwrap();
        }
        sink.remark("what was trained before is restored from the cache");
        sink.state(ended(2)).unwrap();
        let joules: Vec<_> = sink
            .inner
            .iter()
            .filter_map(|event| match event {
                Event::StageEnded { cost, .. } => Some(cost.joules),
                _ => None,
            })
            .collect();
        assert_eq!(joules, [Some(1200), None, None]);
    }
}
