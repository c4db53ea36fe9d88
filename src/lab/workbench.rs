//! What lies on the bench while the networks of one reference are made: its data, the networks so far, their landscape.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use candle_core::Device;

use crate::event::{Cost, Event, Outcome, Removed, Warning};
use crate::lab::adversarial::Adversarial;
use crate::lab::answers::Answers;
use crate::lab::architecture;
use crate::lab::cache::{Cache, Kept as Cached, Key};
use crate::lab::compression::{self, Start};
use crate::lab::context::{Context, Control, Sink};
use crate::lab::data::official_corruptions::OfficialCorruptions;
use crate::lab::data::{Dataset, Split};
use crate::lab::domain::Domain;
use crate::lab::error::{Error, Result};
use crate::lab::feasibility;
use crate::lab::keeper::Keeper;
use crate::lab::knob::Knob;
use crate::lab::landscape::Landscape;
use crate::lab::probe::{self, Probe, When};
use crate::lab::ratio::{RatioOf, Sizes};
use crate::lab::run::{Means, cache_trouble};
use crate::lab::saved;
use crate::lab::subject::{CorruptedSets, Data, Kept, Subject};
use crate::lab::train::{Life, Objective, Recipe, Training, train};
use crate::measurement::Score;
use crate::nn::network::Network;
use crate::nn::parameters::pretrained;
use crate::spec::{
    Branch, Checkpoint, Method, NetworkId, NetworkPlan, Reference, Role, Setting, Stage, Study,
};

mod matched;

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
    corrupted: CorruptedSets,
    corrupted_subset: Vec<usize>,
    adversarial: Adversarial,
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
            corrupted: CorruptedSets::default(),
            adversarial: Adversarial::new(
                &study.references[reference as usize].dataset.id,
                &study.suite.attacks,
            ),
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

    /// Makes one network: every stage of its plan, each with its facts. `at` says how far it came.
    ///
    /// # Errors
    /// Whatever a stage says; the stages before it stand.
    pub fn work(
        &mut self,
        plan: &NetworkPlan,
        branch: Option<&Branch>,
        at: &mut u32,
        sink: &mut dyn Sink,
        control: &mut Control,
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
        self.measured(plan, *at, &mut cx)?;
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

    /// A network trained from scratch: a reference or a twin.
    fn trained(&mut self, plan: &NetworkPlan, recipe: &Recipe, cx: &mut Context<'_>) -> Result<()> {
        let title = format!("training {}", plan.name);
        begin(
            plan,
            0,
            &title,
            recipe.steps(self.data.split.train.len()),
            cx,
        )?;
        let network = self.build(plan.init_seed, cx)?;
        cx.emit(self.built(&network, cx.network))?;
        let mut parts = vec![
            "train".to_owned(),
            self.digest.clone(),
            self.study.seed.to_string(),
            json(&self.reference.architecture)?,
            json(&self.reference.training)?,
            plan.init_seed.to_string(),
            plan.order_seed.to_string(),
            rayon::current_num_threads().to_string(),
        ];
        // A GPU's numbers are not a CPU's; which of several of a kind, is all the same.
        let kind = self.study.device.split(':').next().unwrap_or_default();
        if kind != "cpu" {
            parts.push(json(&(kind, self.study.tf32, self.study.deterministic))?);
        }
        if let Some(from) = &self.reference.from {
            // Where the file lies is no part of what comes out.
            parts.push(json(&(&from.sha256, &from.mean, &from.std))?);
        }
        parts.extend(self.own(plan));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let key = Key::of(&parts);
        let initial = Some(network.duplicate()?);
        let best = network.duplicate()?;
        let piece = Piece {
            network,
            best,
            initial,
            life: Life::default(),
            outputs: Vec::new(),
            key,
        };
        let (piece, cost) = self.train(plan, piece, recipe, cx)?;
        self.shelve(plan, piece)?;
        self.between_stages(plan, 0, cx)?;
        end(plan, 0, cost, cx)
    }

    /// A branch: stage after stage of compression and fine-tuning.
    fn branch(
        &mut self,
        plan: &NetworkPlan,
        branch: &Branch,
        recipe: &Recipe,
        at: &mut u32,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let reference = self.networks.get(&plan.against).ok_or_else(|| {
            Error::Internal(format!(
                "{} was not begun: its reference was not finished",
                plan.name
            ))
        })?;
        let from = match branch.checkpoint {
            Checkpoint::Last => &reference.last,
            Checkpoint::Best => &reference.best,
        };
        let reference_key = self.keys.get(&plan.against).map_or("", Key::text);
        let mut piece = Piece {
            network: from.duplicate()?,
            best: from.duplicate()?,
            initial: None,
            life: Life::default(),
            outputs: Vec::new(),
            key: {
                let mut parts = vec![reference_key.to_owned(), json(&branch.checkpoint)?];
                parts.extend(self.own(plan));
                Key::of(&parts.iter().map(String::as_str).collect::<Vec<_>>())
            },
        };
        let found;
        let branch = match &branch.matched {
            Some(asked) => {
                found = self.matched(plan, branch, asked, &piece.network, recipe, cx)?;
                &found
            }
            None => branch,
        };
        for (index, stage) in branch.stages.iter().enumerate() {
            *at = index as u32;
            let cost;
            (piece, cost) = match stage {
                Stage::Compress(method) => self.compressed(plan, *at, method, piece, recipe, cx)?,
                Stage::FineTune(setting) => self.fine_tuned(plan, *at, setting, piece, cx)?,
            };
            self.shelve(plan, piece)?;
            self.between_stages(plan, *at, cx)?;
            piece = self.unshelve(plan)?;
            end(plan, *at, cost, cx)?;
        }
        self.shelve(plan, piece)
    }

    fn compressed(
        &mut self,
        plan: &NetworkPlan,
        stage: u32,
        method: &Method,
        piece: Piece,
        recipe: &Recipe,
        cx: &mut Context<'_>,
    ) -> Result<(Piece, Cost)> {
        let entry = compression::find(&method.id)?;
        let compression = entry.made(&method.setting);
        let own = Recipe {
            epochs: compression.epochs(),
            ..recipe.clone()
        };
        let steps = own.steps(self.data.split.train.len());
        begin(plan, stage, &entry.info.title.to_lowercase(), steps, cx)?;
        let subject = Subject {
            seed: self.study.seed,
            data: &self.data,
            networks: &self.networks,
            network: plan,
            corrupted: &self.corrupted,
            corruptions: &self.study.suite.corruptions,
            corrupted_subset: &self.corrupted_subset,
            adversarial: &self.adversarial,
            answers: &self.answers,
            threads: rayon::current_num_threads(),
        };
        let before = Sizes::of(&piece.network);
        let start = Start {
            subject: &subject,
            network: &piece.network,
            architecture: &self.reference.architecture,
            recipe,
            life: piece.life,
        };
        let mut keeper = Keeper::new(
            self.cache,
            None,
            plan,
            &self.data.test,
            self.landscape.as_mut(),
        );
        let made = compression.compress(&start, &mut keeper, cx)?;
        let after = Sizes::of(&made.network);
        let share = |of| Score(before.removed(of, &after));
        let removed = Removed {
            channels: share(RatioOf::Channels),
            parameters: share(RatioOf::Parameters),
            nonzero: share(RatioOf::Nonzero),
            macs: share(RatioOf::Macs),
            bytes: share(RatioOf::Bytes),
        };
        cx.emit(Event::NetworkCompressed {
            network: plan.id,
            stage,
            method: method.clone(),
            counts: entry.info.ratio_of.as_ref().map(|own| {
                let asked = method.setting.0.get("ratio-of").map(ToString::to_string);
                let asked = asked.and_then(|word| RatioOf::of(&word));
                asked.map_or(own.to_string(), |of| of.noun().to_owned())
            }),
            asked: made.asked.map(Into::into),
            reached: made.reached.map(Into::into),
            removed: Some(removed),
            remarks: made.remarks,
        })?;
        // A student's architecture may be another than the reference's.
        let facts = built(&made.network, made.network.name(), plan.id);
        cx.emit(facts)?;
        // A compression that trains has been looked at after each of its epochs.
        if keeper.outputs.is_empty() {
            keeper.look(&made.network, made.life.epoch, cx)?;
        }
        let mut outputs = piece.outputs;
        outputs.append(&mut keeper.outputs);
        let best = match made.best {
            Some(best) => best,
            None => made.network.duplicate()?,
        };
        let key = Key::of(&[piece.key.text(), "compress", &json(method)?]);
        let piece = Piece {
            network: made.network,
            best,
            initial: piece.initial,
            life: made.life,
            outputs,
            key,
        };
        Ok((piece, made.cost))
    }

    fn fine_tuned(
        &mut self,
        plan: &NetworkPlan,
        stage: u32,
        setting: &Setting,
        mut piece: Piece,
        cx: &mut Context<'_>,
    ) -> Result<(Piece, Cost)> {
        let recipe = Recipe::new(setting);
        begin(
            plan,
            stage,
            "fine-tuning",
            recipe.steps(self.data.split.train.len()),
            cx,
        )?;
        let (life, stage) = (format!("{:?}", piece.life), stage.to_string());
        piece.key = Key::of(&[
            piece.key.text(),
            "fine-tune",
            &json(setting)?,
            &life,
            &stage,
        ]);
        self.train(plan, piece, &recipe, cx)
    }

    /// Trains a piece, from the cache as far as it holds it.
    fn train(
        &mut self,
        plan: &NetworkPlan,
        piece: Piece,
        recipe: &Recipe,
        cx: &mut Context<'_>,
    ) -> Result<(Piece, Cost)> {
        let Piece {
            mut network,
            initial,
            life,
            mut outputs,
            key,
            ..
        } = piece;
        if self.cache.holds(&key) {
            let place = if self.cache.is_of_one_study() {
                "its checkpoint"
            } else {
                "the cache"
            };
            cx.remark(&format!(
                "{}: what was trained before is restored from {place}",
                plan.name
            ));
        }
        let own = Some(key.clone());
        let mut keeper = Keeper::new(
            self.cache,
            own,
            plan,
            &self.data.test,
            self.landscape.as_mut(),
        );
        let training = Training {
            data: &self.data,
            recipe,
            objective: Objective::Classify,
            order_seed: plan.order_seed,
            life,
            adjust: None,
        };
        cx.keep();
        let trained = train(&mut network, &training, &mut keeper, cx)?;
        cx.kept();
        // Of no epochs, none was looked at.
        if keeper.outputs.is_empty() {
            keeper.look(&network, trained.life.epoch, cx)?;
        }
        outputs.append(&mut keeper.outputs);
        if let Some(problem) = keeper.trouble.take() {
            cx.warn(cache_trouble(&problem))?;
        }
        let piece = Piece {
            network,
            best: trained.best,
            initial,
            life: trained.life,
            outputs,
            key,
        };
        Ok((piece, trained.cost))
    }

    /// What can be said of a network cheaply after each of its stages.
    fn between_stages(&self, plan: &NetworkPlan, stage: u32, cx: &mut Context<'_>) -> Result<()> {
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
    fn measured(&mut self, plan: &NetworkPlan, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let subject = self.subject(plan);
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
    fn own(&self, plan: &NetworkPlan) -> Option<String> {
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
            "measure with answers and means",
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

    /// With files of images that others have corrupted.
    pub fn with_official(mut self, official: Option<OfficialCorruptions>) -> Self {
        self.corrupted = CorruptedSets::with(official);
        self
    }

    /// The conditions whose images come from official files.
    pub fn official(&self) -> Vec<String> {
        self.corrupted.official()
    }

    fn subject<'s>(&'s self, plan: &'s NetworkPlan) -> Subject<'s> {
        Subject {
            seed: self.study.seed,
            data: &self.data,
            networks: &self.networks,
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
