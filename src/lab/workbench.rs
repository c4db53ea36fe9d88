//! What lies on the bench while the networks of one reference are made: its data, the networks so far, their landscape.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use candle_core::Device;

use crate::event::{Cost, Event, Outcome, Warning};
use crate::lab::adversarial::Adversarial;
use crate::lab::answers::Answers;
use crate::lab::architecture;
use crate::lab::cache::{Cache, Key};
use crate::lab::context::{Context, Control, Sink};
use crate::lab::data::official_corruptions::OfficialCorruptions;
use crate::lab::data::{Dataset, Split};
use crate::lab::domain::Domain;
use crate::lab::error::{Error, Result};
use crate::lab::feasibility;
use crate::lab::knob::Knob;
use crate::lab::landscape::Landscape;
use crate::lab::probe::{self, Probe};
use crate::lab::run::Means;
use crate::lab::saved;
use crate::lab::subject::{CorruptedSets, Data, Kept, Subject};
use crate::lab::train::{Life, Recipe};
use crate::nn::network::Network;
use crate::nn::parameters::pretrained;
use crate::spec::{Branch, Method, NetworkId, NetworkPlan, Reference, Role, Study};

mod making;
mod matched;
mod measuring;

/// Under which name the cache holds what a network got right.
const ANSWERS: &str = "answers";

/// The bench of one reference.
pub struct Workbench<'a> {
    study: &'a Study,
    /// Where its networks compute.
    device: Device,
    reference: &'a Reference,
    cache: &'a Cache,
    /// Where finished networks are written to.
    folder: Option<&'a Path>,
    pub data: Rc<Data>,
    /// Hash of the data in use.
    digest: String,
    /// Mean and deviation of the training images.
    normalization: (Vec<f32>, Vec<f32>),
    /// Shared likewise: made once for all networks that are asked them.
    corrupted: Rc<CorruptedSets>,
    corrupted_subset: Vec<usize>,
    /// Shared with the benches of the same images, so that what was made against a network is made once.
    adversarial: Rc<Adversarial>,
    answers: Answers,
    networks: BTreeMap<NetworkId, Kept>,
    /// The hash of what determines each network so far, for the cache.
    keys: BTreeMap<NetworkId, Key>,
    landscape: Option<Landscape>,
    probes: Vec<Box<dyn Probe>>,
}

/// A network while it is worked on.
struct Piece {
    network: Network,
    best: Network,
    initial: Option<Network>,
    life: Life,
    outputs: Vec<(u32, Rc<crate::lab::outputs::Outputs>)>,
    key: Key,
}

impl<'a> Workbench<'a> {
    /// Lays out the data.
    pub fn new(
        study: &'a Study,
        device: &Device,
        reference: u32,
        dataset: Dataset,
        domains: Vec<Domain>,
        digest: &str,
        means: &'a Means,
    ) -> Self {
        let Dataset {
            train,
            test,
            classes,
            ..
        } = dataset;
        let split = Split::new(&train, study.seed);
        let normalization = train.select(&split.train).mean_and_deviation();
        let images = if study.suite.full {
            test.len()
        } else {
            study.suite.corrupted_images as usize
        };
        let build = |method: &Method| {
            probe::ALL
                .iter()
                .find(|entry| entry.info.id == method.id)
                .map(|entry| (entry.build)(&method.setting))
        };
        Self {
            study,
            device: device.clone(),
            reference: &study.references[reference as usize],
            cache: &means.cache,
            folder: means.save.as_deref(),
            corrupted_subset: test.stratified(images, study.seed),
            data: Rc::new(Data {
                train,
                split,
                test,
                classes,
                domains,
            }),
            digest: digest.to_owned(),
            normalization,
            corrupted: Rc::default(),
            adversarial: Rc::new(Adversarial::new(
                &study.references[reference as usize].dataset.id,
                &study.suite.attacks,
            )),
            answers: Answers::default(),
            networks: BTreeMap::new(),
            keys: BTreeMap::new(),
            landscape: study
                .suite
                .probes
                .iter()
                .find(|method| method.id == "functional-landscape")
                .map(|method| Landscape::new(&method.setting)),
            probes: study.suite.probes.iter().filter_map(build).collect(),
        }
    }

    /// Makes one network: every stage of its plan, each with its facts. `at` says how far it came; `elsewhere` are the
    /// networks of benches that are like this one.
    ///
    /// # Errors
    /// Whatever a stage says; the stages before it stand.
    pub fn work(
        &mut self,
        plan: &NetworkPlan,
        branch: Option<&Branch>,
        elsewhere: &[&Kept],
        at: &mut u32,
        (sink, control): (&mut dyn Sink, &mut Control),
    ) -> Result<()> {
        let mut cx = Context::new(sink, control, plan.id);
        let recipe = Recipe::new(&self.reference.training);
        match (plan.role, branch) {
            (Role::Branch, Some(branch)) => self.branch(plan, branch, &recipe, at, &mut cx)?,
            (Role::Branch, None) => {
                return Err(Error::Internal(format!("{} has no stages", plan.name)));
            }
            _ => self.trained(plan, &recipe, &mut cx)?,
        }
        *at = plan.stages.len() as u32 - 1;
        self.measured(plan, *at, elsewhere, &mut cx)?;
        self.save(plan, &mut cx)?;
        self.offer(plan, cx.control());
        Ok(())
    }

    /// Writes a finished network into the folder for it, if there is one.
    fn save(&self, plan: &NetworkPlan, cx: &mut Context<'_>) -> Result<()> {
        let (Some(folder), Some(kept)) = (self.folder, self.networks.get(&plan.id)) else {
            return Ok(());
        };
        let own = &self.reference.architecture;
        // What a compression chose in its place has been drawn already; its knobs are no use any more.
        let design = if kept.last.name() == own.id {
            own.clone()
        } else {
            Method::plain(kept.last.name())
        };
        let words = [&self.reference.dataset.id, &own.id, &plan.name];
        match saved::write(&kept.last, &design, folder, &file_name(&words)) {
            Ok((file, bytes)) => cx.emit_unkept(Event::NetworkSaved {
                network: plan.id,
                file: file.display().to_string(),
                bytes,
            }),
            // The study's facts are worth more than the file.
            Err(error) => {
                let message = format!("{} was not saved: {error}", plan.name);
                cx.warn(Warning::Other { message })
            }
        }
    }

    /// Hands a finished network to the live knob: a reference to be turned, any other to be placed beside.
    fn offer(&self, plan: &NetworkPlan, control: &mut Control) {
        let Some(kept) = self.networks.get(&plan.id) else {
            return;
        };
        match control.knob(plan.reference) {
            Some(knob) => knob.borrow_mut().admit(kept),
            None if plan.role == Role::Reference => {
                let knob = Knob::new(
                    self.study.seed,
                    Rc::clone(&self.data),
                    &self.study.suite.corruptions,
                    &self.reference.architecture,
                    Recipe::new(&self.reference.training),
                    kept,
                );
                control.offer(plan.reference, knob);
            }
            None => {}
        }
    }

    /// With files of images that others have corrupted.
    pub fn with_official(mut self, official: Option<OfficialCorruptions>) -> Self {
        self.corrupted = Rc::new(CorruptedSets::with(official));
        self
    }

    /// The conditions whose images come from official files.
    pub fn official(&self) -> Vec<String> {
        self.corrupted.official()
    }

    /// Whether networks of both are asked the same images, clean, corrupted, attacked and of other domains.
    pub fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest && self.reference.dataset == other.reference.dataset
    }

    /// With the images of another bench that is like this one, and what was made of them.
    pub fn beside(mut self, other: &Self) -> Self {
        self.data = Rc::clone(&other.data);
        self.corrupted = Rc::clone(&other.corrupted);
        self.adversarial = Rc::clone(&other.adversarial);
        self
    }

    /// The networks that stand on it.
    pub fn networks(&self) -> impl Iterator<Item = &Kept> {
        self.networks.values()
    }

    fn subject<'s>(&'s self, plan: &'s NetworkPlan) -> Subject<'s> {
        Subject {
            seed: self.study.seed,
            data: &self.data,
            networks: &self.networks,
            elsewhere: &[],
            network: plan,
            corrupted: &self.corrupted,
            corruptions: &self.study.suite.corruptions,
            corrupted_subset: &self.corrupted_subset,
            adversarial: &self.adversarial,
            answers: &self.answers,
            threads: rayon::current_num_threads(),
        }
    }

    /// Puts a piece where probes and later branches find it.
    fn shelve(&mut self, plan: &NetworkPlan, piece: Piece) -> Result<()> {
        self.keys.insert(plan.id, piece.key);
        let kept = Kept {
            plan: plan.clone(),
            initial: piece.initial,
            last: Rc::new(piece.network),
            best: Rc::new(piece.best),
            life: piece.life,
            outputs: piece.outputs,
        };
        self.networks.insert(plan.id, kept);
        Ok(())
    }

    /// Takes it back for its next stage.
    fn unshelve(&mut self, plan: &NetworkPlan) -> Result<Piece> {
        let missing = || Error::Internal(format!("{} was put away and is gone", plan.name));
        let kept = self.networks.remove(&plan.id).ok_or_else(missing)?;
        let key = self.keys.get(&plan.id).cloned().ok_or_else(missing)?;
        let own = |network: Rc<Network>| match Rc::try_unwrap(network) {
            Ok(network) => Ok(network),
            Err(shared) => shared.duplicate(),
        };
        Ok(Piece {
            network: own(kept.last)?,
            best: own(kept.best)?,
            initial: kept.initial,
            life: kept.life,
            outputs: kept.outputs,
            key,
        })
    }

    /// Mean and deviation that the network takes off: those that its weights came with, or the training images' own.
    fn normalization(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let channels = self.data.train.shape.channels;
        let given = match &self.reference.from {
            Some(from) => feasibility::normalization(from, channels)?,
            None => None,
        };
        Ok(given.unwrap_or_else(|| self.normalization.clone()))
    }

    /// A network before its first step: drawn from the seed, or as it was trained elsewhere.
    fn build(&self, seed: u64, cx: &mut Context<'_>) -> Result<Network> {
        let asked = &self.reference.architecture;
        if let Some(from) = &self.reference.from
            && let Some(found) = saved::read(from)?
        {
            let (shape, classes) = (self.data.train.shape, self.data.classes.len());
            saved::fits(&found.network, from, &asked.id, shape, classes)?;
            return Ok(found.network.to_device(&self.device)?);
        }
        let entry = architecture::ALL
            .iter()
            .find(|entry| entry.info.id == asked.id)
            .ok_or_else(|| {
                Error::Internal(format!("architecture {} is not in the table", asked.id))
            })?;
        let (mean, deviation) = self.normalization()?;
        let shape = self.data.train.shape;
        let mut network = (entry.build)(&asked.setting).build(
            shape,
            self.data.classes.len(),
            (&mean, &deviation),
            seed,
        )?;
        if let Some(from) = &self.reference.from {
            let file = Path::new(&from.file);
            for replaced in pretrained::load(&mut network, file, from.sha256.as_deref())? {
                let message = format!(
                    "{} starts from random values: it is {:?}, and {:?} in {}",
                    replaced.name, replaced.needed, replaced.stored, from.file
                );
                cx.warn(Warning::Other { message })?;
            }
        }
        Ok(network.to_device(&self.device)?)
    }

    fn built(&self, network: &Network, id: NetworkId) -> Event {
        built(network, &self.reference.architecture.id, id)
    }
}

fn begin(
    plan: &NetworkPlan,
    stage: u32,
    title: &str,
    steps: u64,
    cx: &mut Context<'_>,
) -> Result<()> {
    cx.stage = stage;
    let kind = plan.stages[stage as usize].kind;
    cx.emit(Event::StageStarted {
        network: plan.id,
        stage,
        kind,
        title: title.to_owned(),
        steps,
    })
}

/// What a network turned out to be.
fn built(network: &Network, architecture: &str, id: NetworkId) -> Event {
    Event::NetworkBuilt {
        network: id,
        architecture: architecture.to_owned(),
        parameters: network.parameters().count(),
        layers: network.layers(),
    }
}

fn end(plan: &NetworkPlan, stage: u32, cost: Cost, cx: &mut Context<'_>) -> Result<()> {
    cx.emit(Event::StageEnded {
        network: plan.id,
        stage,
        outcome: Outcome::Completed,
        cost,
    })
}

/// Words as the name of a file: `mnist-lenet5-channel-pruning-50`.
fn file_name(words: &[&String]) -> String {
    let words = words
        .iter()
        .flat_map(|word| word.split(|c: char| !c.is_ascii_alphanumeric()));
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}

/// Part of a key.
fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::Internal(format!("key of the cache: {error}")))
}
