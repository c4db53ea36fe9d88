//! Stands beside every training of a study: stores the outputs of each epoch, lets the network join the functional
//! landscape, and keeps in the cache what is needed to go on after an interruption.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::event::Event;
use crate::lab::cache::{Cache, Kept, Key};
use crate::lab::context::{Context, Halfway, HalfwayMut, Observer, Restored};
use crate::lab::data::Examples;
use crate::lab::error::Result;
use crate::lab::landscape::Landscape;
use crate::lab::outputs::{Outputs, outputs};
use crate::nn::network::{Network, Workspace};
use crate::spec::NetworkPlan;

/// The observer of one stage of one network.
pub struct Keeper<'a> {
    pub cache: &'a Cache,
    /// The hash of all that determines the stage; `None` when it is not to be cached.
    pub key: Option<Key>,
    pub plan: &'a NetworkPlan,
    pub test: &'a Examples,
    pub landscape: Option<&'a mut Landscape>,
    /// Softmax outputs on the test images after each epoch, with the epoch's number in the network's life.
    pub outputs: Vec<(u32, Rc<Outputs>)>,
    /// Outputs that were restored and not yet taken up.
    pub waiting: BTreeMap<u32, Rc<Outputs>>,
    /// Why the cache could not be written to, the first time.
    pub trouble: Option<String>,
    pub workspace: Workspace,
}

impl<'a> Keeper<'a> {
    /// An observer for one stage.
    pub fn new(
        cache: &'a Cache,
        key: Option<Key>,
        plan: &'a NetworkPlan,
        test: &'a Examples,
        landscape: Option<&'a mut Landscape>,
    ) -> Self {
        Self {
            cache,
            key,
            plan,
            test,
            landscape,
            outputs: Vec::new(),
            waiting: BTreeMap::new(),
            trouble: None,
            workspace: Workspace::default(),
        }
    }

    /// Computes and stores the network's outputs as it is now.
    pub fn look(&mut self, network: &Network, epoch: u32, cx: &mut Context<'_>) -> Result<()> {
        let seen = Rc::new(outputs(
            network,
            self.test,
            &mut self.workspace,
            &mut || cx.checkpoint(),
        )?);
        self.take(epoch, seen, cx)
    }

    fn take(&mut self, epoch: u32, seen: Rc<Outputs>, cx: &mut Context<'_>) -> Result<()> {
        self.outputs.push((epoch, Rc::clone(&seen)));
        match &mut self.landscape {
            Some(landscape) => landscape.join(self.plan.id, epoch, cx.stage, seen, cx),
            None => Ok(()),
        }
    }

    fn outputs_key(key: &Key, epoch: u32) -> Key {
        Key::of(&[key.text(), "outputs", &epoch.to_string()])
    }

    fn write(&mut self, at: &Halfway<'_>, facts: &[Event]) -> Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let epoch = self.outputs.last().map(|(epoch, _)| *epoch);
        if let (Some(epoch), Some((_, seen))) = (epoch, self.outputs.last()) {
            let rows = BTreeMap::from([("outputs".to_owned(), seen.probabilities.clone())]);
            let entry = Kept {
                rows,
                ..Kept::default()
            };
            self.cache.put(&Self::outputs_key(key, epoch), &entry)?;
        }
        let parts = BTreeMap::from([
            ("last".to_owned(), at.network.parameters().to_safetensors()?),
            ("best".to_owned(), at.best.parameters().to_safetensors()?),
            ("optimizer".to_owned(), at.optimizer.to_safetensors()?),
        ]);
        let figures = BTreeMap::from([
            ("epochs".to_owned(), f64::from(at.epochs)),
            ("best-loss".to_owned(), at.best_loss),
        ]);
        self.cache.put(
            key,
            &Kept {
                parts,
                facts: facts.to_vec(),
                figures,
                ..Kept::default()
            },
        )
    }

    fn read(&mut self, into: &mut HalfwayMut<'_>) -> Option<Restored> {
        let key = self.key.clone()?;
        let kept = self.cache.get(&key)?;
        let epochs = *kept.figures.get("epochs")? as u32;
        let classes = into.network.classes();
        let mut waiting = BTreeMap::new();
        for fact in &kept.facts {
            if let Event::EpochEnded { epoch, .. } = fact {
                let seen = self.cache.get(&Self::outputs_key(&key, *epoch))?;
                let probabilities = seen.rows.get("outputs")?.clone();
                if probabilities.len() != self.test.len() * classes {
                    return None;
                }
                waiting.insert(
                    *epoch,
                    Rc::new(Outputs {
                        classes,
                        probabilities,
                    }),
                );
            }
        }
        // Everything is there; only now is anything changed. A part that does not fit leaves the stage to be done anew
        // by the caller's fresh copy, so the copies are loaded aside first.
        let mut last = into.network.duplicate().ok()?;
        let mut best = into.best.duplicate().ok()?;
        last.parameters_mut()
            .load_safetensors(kept.parts.get("last")?)
            .ok()?;
        best.parameters_mut()
            .load_safetensors(kept.parts.get("best")?)
            .ok()?;
        into.optimizer
            .load_safetensors(kept.parts.get("optimizer")?)
            .ok()?;
        *into.network = last;
        *into.best = best;
        self.waiting = waiting;
        let facts = kept
            .facts
            .into_iter()
            .map(|fact| fact.said_of(self.plan.id, self.plan.against))
            .collect();
        Some(Restored {
            epochs,
            best_loss: *kept.figures.get("best-loss")?,
            facts,
        })
    }
}

impl Observer for Keeper<'_> {
    fn epoch_ended(&mut self, network: &Network, epoch: u32, cx: &mut Context<'_>) -> Result<()> {
        self.look(network, epoch, cx)
    }

    fn epoch_restored(&mut self, epoch: u32, cx: &mut Context<'_>) -> Result<()> {
        match self.waiting.remove(&epoch) {
            Some(seen) => self.take(epoch, seen, cx),
            None => Ok(()),
        }
    }

    fn save(&mut self, at: &Halfway<'_>, facts: &[Event]) -> Result<()> {
        // A cache that cannot be written to is no reason to lose a training.
        if let Err(error) = self.write(at, facts) {
            self.trouble.get_or_insert(error.to_string());
            self.key = None;
        }
        Ok(())
    }

    fn restore(&mut self, into: &mut HalfwayMut<'_>) -> Result<Option<Restored>> {
        Ok(self.read(into))
    }
}
