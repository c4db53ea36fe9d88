//! What is measured of a bench's networks: between their stages, and all the rest at their end.

use super::{ANSWERS, Workbench, begin, end, json};
use crate::event::Cost;
use crate::lab::cache::{Kept as Cached, Key};
use crate::lab::context::Context;
use crate::lab::domain::Domain;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When};
use crate::lab::run::cache_trouble;
use crate::lab::subject::{Kept, Subject};
use crate::spec::{NetworkPlan, Role};

impl Workbench<'_> {
    /// What can be said of a network cheaply after each of its stages.
    pub(super) fn between_stages(
        &self,
        plan: &NetworkPlan,
        stage: u32,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let subject = self.subject(plan);
        for probe in self
            .probes
            .iter()
            .filter(|probe| probe.when() == When::EveryStage)
        {
            cx.checkpoint()?;
            probe.measure(&subject, stage, cx)?;
        }
        Ok(())
    }

    /// The last stage of every network: all that takes time to measure.
    pub(super) fn measured(
        &mut self,
        plan: &NetworkPlan,
        stage: u32,
        elsewhere: &[&Kept],
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let subject = Subject {
            elsewhere,
            ..self.subject(plan)
        };
        let probes: Vec<&Box<dyn Probe>> = self
            .probes
            .iter()
            .filter(|probe| probe.when() == When::AtTheEnd)
            .collect();
        // What says something of other networks comes last, and is never taken over.
        let (of_study, probes): (Vec<_>, Vec<_>) = probes
            .into_iter()
            .partition(|probe| probe.is_of_the_study());
        let parts: Vec<u64> = probes
            .iter()
            .chain(&of_study)
            .map(|probe| probe.parts(&subject))
            .collect();
        begin(
            plan,
            stage,
            &format!("measuring {}", plan.name),
            parts.iter().sum(),
            cx,
        )?;
        // Only what comes from scratch is measured alike in another study; a branch is measured beside its reference.
        let key = (plan.role != Role::Branch)
            .then(|| self.measuring_key(plan))
            .transpose()?;
        match key.as_ref().and_then(|key| self.cache.get(key)) {
            Some(kept) => {
                if let Some(bytes) = kept.parts.get(ANSWERS) {
                    self.answers.unpack(plan.id, bytes);
                }
                for fact in kept.facts {
                    cx.emit(fact.said_of(plan.id, plan.against))?;
                }
            }
            None => {
                cx.keep();
                let mut done = 0;
                for (probe, parts_of_it) in probes.iter().zip(&parts) {
                    cx.parts = Some((done, parts.iter().sum()));
                    // The finished network is what its last working stage left.
                    probe.measure(&subject, stage - 1, cx)?;
                    done += parts_of_it;
                }
                cx.parts = None;
                let facts = cx.kept();
                let answers = self.answers.packed(plan.id)?;
                if let Some(key) = &key
                    && let Err(error) = self.cache.put(
                        key,
                        &Cached {
                            facts,
                            parts: [(ANSWERS.to_owned(), answers)].into(),
                            ..Cached::default()
                        },
                    )
                {
                    cx.warn(cache_trouble(&error.to_string()))?;
                }
            }
        }
        let mut done = parts[..probes.len()].iter().sum();
        for (probe, parts_of_it) in of_study.iter().zip(&parts[probes.len()..]) {
            cx.parts = Some((done, parts.iter().sum()));
            probe.measure(&subject, stage - 1, cx)?;
            done += parts_of_it;
        }
        cx.parts = None;
        end(plan, stage, Cost::default(), cx)
    }

    /// What a key says beside all that determines a network, where no network may find another's results.
    pub(super) fn own(&self, plan: &NetworkPlan) -> Option<String> {
        self.cache.is_of_one_study().then(|| plan.id.0.to_string())
    }

    /// What stands for the images of other domains in a key.
    fn domains(&self) -> String {
        let of = |domain: &Domain| format!("{} {}", domain.name, domain.examples.digest());
        let all: Vec<String> = self.data.domains.iter().map(of).collect();
        all.join(", ")
    }

    fn measuring_key(&self, plan: &NetworkPlan) -> Result<Key> {
        let own = self.keys.get(&plan.id).map_or("", Key::text);
        let reference = self.keys.get(&plan.against).map_or("", Key::text);
        let role = plan.role.name();
        Ok(Key::of(&[
            "measure with answers, means and bytes",
            own,
            reference,
            role,
            &json(&self.study.suite)?,
            &self.domains(),
            &self.study.seed.to_string(),
            // Images that others have corrupted are other images.
            &self.official().join(","),
        ]))
    }
}
