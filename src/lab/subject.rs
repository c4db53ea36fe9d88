//! A view of the study: its networks with their checkpoints and outputs, and its data.
//!
//! Compressions get their teacher, initial weights and calibration images from it; probes their references and twins.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::lab::adversarial::Adversarial;
use crate::lab::answers::Answers;
use crate::lab::corruption::{Named, Severity, corrupted_set};
use crate::lab::data::official_corruptions::OfficialCorruptions;
use crate::lab::data::{Examples, Split};
use crate::lab::domain::Domain;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::Outputs;
use crate::lab::train::Life;
use crate::nn::network::Network;
use crate::spec::{NetworkId, NetworkPlan, Role};

/// The data of one reference and all that is compared with it.
#[derive(Debug)]
pub struct Data {
    pub train: Examples,
    pub split: Split,
    pub test: Examples,
    pub classes: Vec<String>,
    /// Images of other domains.
    pub domains: Vec<Domain>,
}

/// A network that has been made, with what was kept of its life.
pub struct Kept {
    pub plan: NetworkPlan,
    /// Before its first step; only for networks trained from scratch.
    pub initial: Option<Network>,
    /// As it is now. Shared with the live knob, which only looks.
    pub last: Rc<Network>,
    /// At the epoch with the lowest validation loss; `last` where nothing was trained.
    pub best: Rc<Network>,
    /// Steps and epochs that it has been trained for in its own life.
    pub life: Life,
    /// Softmax outputs on the test images after each epoch or stage, with the epoch's number.
    pub outputs: Vec<(u32, Rc<Outputs>)>,
}

impl Kept {
    /// The outputs of the network as it is now.
    pub fn latest(&self) -> Option<&Rc<Outputs>> {
        self.outputs.last().map(|(_, outputs)| outputs)
    }
}

/// The same corrupted bytes for every network of a study, made once.
///
/// Sets beyond the budget are drawn again when asked for: the streams are seeded per image, so the bytes are the same.
#[derive(Debug, Default)]
pub struct CorruptedSets {
    sets: RefCell<BTreeMap<Strength, Rc<Examples>>>,
    /// Files of images that others have corrupted, which come first.
    official: Option<OfficialCorruptions>,
    troubles: RefCell<Vec<String>>,
}

/// A condition and its severity.
type Strength = (String, Option<Severity>);

/// Bytes of corrupted images that are kept in memory.
const CORRUPTED_BUDGET: usize = 256 << 20;

impl CorruptedSets {
    /// Sets that are read from files where those have them.
    pub fn with(official: Option<OfficialCorruptions>) -> Self {
        Self {
            official,
            ..Self::default()
        }
    }

    /// The test images of these `indices`, which are `examples` when clean, under a corruption.
    ///
    /// # Errors
    /// None at present: a file that cannot be read any more is a trouble, and its images are made here.
    pub fn get(
        &self,
        named: &Named,
        severity: Option<Severity>,
        examples: &Examples,
        indices: &[usize],
        seed: u64,
    ) -> Result<Rc<Examples>> {
        let key = (named.condition.clone(), severity);
        if let Some(set) = self.sets.borrow().get(&key) {
            return Ok(Rc::clone(set));
        }
        let read = self
            .official
            .as_ref()
            .and_then(|files| files.read(&named.condition, severity?.get(), indices, examples));
        let read = match read {
            Some(Ok(set)) => Some(set),
            Some(Err(error)) => {
                let trouble = format!(
                    "{error}; the images under {} are made here",
                    named.condition
                );
                self.troubles.borrow_mut().push(trouble);
                None
            }
            None => None,
        };
        let set = Rc::new(read.unwrap_or_else(|| {
            corrupted_set(
                &*named.corruption,
                &named.condition,
                examples,
                severity,
                seed,
            )
        }));
        let held: usize = self
            .sets
            .borrow()
            .values()
            .map(|set| set.images.len())
            .sum();
        if held + set.images.len() <= CORRUPTED_BUDGET {
            self.sets.borrow_mut().insert(key, Rc::clone(&set));
        }
        Ok(set)
    }

    /// What could not be read since it was last asked.
    pub fn troubles(&self) -> Vec<String> {
        self.troubles.take()
    }

    /// The conditions whose images come from files.
    pub fn official(&self) -> Vec<String> {
        let files = self.official.as_ref();
        files.map_or_else(Vec::new, OfficialCorruptions::conditions)
    }
}

/// What a method may see of its study.
pub struct Subject<'a> {
    /// The study's seed: splits, subsets and corruptions hang on it.
    pub seed: u64,
    pub data: &'a Data,
    /// Networks of the same reference that have been made, by id.
    pub networks: &'a BTreeMap<NetworkId, Kept>,
    /// Networks of other references that are asked the same images.
    pub elsewhere: &'a [&'a Kept],
    /// The network in question. A compression's is not among `networks` yet.
    pub network: &'a NetworkPlan,
    /// Test images under every corruption, a fixed stratified subset.
    pub corrupted: &'a CorruptedSets,
    pub corruptions: &'a [crate::spec::Method],
    /// The attacks that were asked for, and images that were made against networks.
    pub adversarial: &'a Adversarial,
    /// What the networks of this reference got right so far.
    pub answers: &'a Answers,
    /// Indices of the test images that are corrupted.
    pub corrupted_subset: &'a [usize],
    /// How many threads compute, for what names them.
    pub threads: usize,
}

impl Subject<'_> {
    /// The network that this one is compared with: its reference.
    ///
    /// # Errors
    /// When the reference has not been made.
    pub fn reference(&self) -> Result<&Kept> {
        self.networks.get(&self.network.against).ok_or_else(|| {
            Error::Internal(format!(
                "the reference of {} was not made",
                self.network.name
            ))
        })
    }

    /// The network in question, once it has been made.
    ///
    /// # Errors
    /// When it has not been made.
    pub fn candidate(&self) -> Result<&Kept> {
        self.networks
            .get(&self.network.id)
            .ok_or_else(|| Error::Internal(format!("{} was not made", self.network.name)))
    }

    /// The twins of the reference that have been made, in order.
    pub fn twins(&self) -> impl Iterator<Item = &Kept> {
        self.networks
            .values()
            .filter(|kept| kept.plan.role == Role::Twin)
    }
}
