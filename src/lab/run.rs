//! One study from its first to its last fact.
//!
//! Reference by reference: its data, its own training, its twins, its branches, each measured when it is made; then the
//! branches that users add. A network that fails leaves the others running.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use candle_core::Device;

use crate::catalog::Catalog;
use crate::event::{DataFacts, Event, Outcome, Warning};
use crate::lab::adversarial::Adversarial;
use crate::lab::cache::Cache;
use crate::lab::context::{Control, Sink};
use crate::lab::corruption::named;
use crate::lab::data::official_corruptions::{self, OfficialCorruptions};
use crate::lab::data::{Dataset, Source};
use crate::lab::domain;
use crate::lab::error::{Error, Result};
use crate::lab::subject::Kept;
use crate::lab::workbench::Workbench;
use crate::nn::device::{self, Precision};
use crate::spec::{Branch, CheckedStudy, Method, NetworkPlan, Role};

/// What a study needs from the machine.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// Folders in which data sets are looked for, in order.
    pub folders: Vec<PathBuf>,
    pub cache: Cache,
    /// The folder into which every finished network is written.
    pub save: Option<PathBuf>,
}

/// Runs a study; every fact goes to `sink`.
///
/// Returns when all planned networks are made, and all branches that were asked for through `control`, and nobody can
/// ask for more.
pub fn run(
    study: &CheckedStudy,
    catalog: &Catalog,
    means: &Means,
    sink: &mut dyn Sink,
    control: &mut Control,
) -> Outcome {
    match Running::new(study, catalog, means).all(sink, control) {
        Ok(outcome) => outcome,
        Err(Error::Cancelled) => Outcome::Cancelled,
        Err(error) => Outcome::Failed {
            message: error.to_string(),
        },
    }
}

struct Running<'a> {
    study: &'a CheckedStudy,
    device: Device,
    means: &'a Means,
    networks: Vec<NetworkPlan>,
    /// What was made for each reference so far; `None` where its data could not be loaded.
    benches: BTreeMap<u32, Option<Workbench<'a>>>,
    /// The first network that failed, in words.
    failure: Option<String>,
}

impl<'a> Running<'a> {
    fn new(study: &'a CheckedStudy, catalog: &Catalog, means: &'a Means) -> Self {
        let networks = study.plan(catalog);
        Self {
            study,
            device: Device::Cpu,
            means,
            networks,
            benches: BTreeMap::new(),
            failure: None,
        }
    }

    fn all(mut self, sink: &mut dyn Sink, control: &mut Control) -> Result<Outcome> {
        let study = Box::new(self.study.study().clone());
        sink.state(Event::StudyStarted {
            study,
            networks: self.networks.clone(),
        })?;
        let asked = self.study.study();
        let precision = Precision {
            tf32: asked.tf32,
            deterministic: asked.deterministic,
        };
        self.device = device::open(&asked.device, precision)?;
        let mut outcome = self.planned(sink, control);
        loop {
            while let (Ok(()), Some((branch, plan))) = (&outcome, control.next_branch()) {
                self.networks.push(plan.clone());
                outcome = self.one(&plan, Some(&branch), sink, control);
            }
            let ended = self.ended(&outcome);
            sink.state(Event::StudyEnded {
                outcome: ended.clone(),
            })?;
            // A branch can be added after the end, too, also after a stop.
            if !control.wait_for_branch(sink)? {
                return Ok(ended);
            }
            control.rearm();
            outcome = Ok(());
        }
    }

    fn ended(&self, outcome: &Result<()>) -> Outcome {
        match (outcome, &self.failure) {
            (Ok(()), None) => Outcome::Completed,
            (Ok(()), Some(message)) => Outcome::Failed {
                message: message.clone(),
            },
            (Err(Error::Cancelled), _) => Outcome::Cancelled,
            (Err(error), _) => Outcome::Failed {
                message: error.to_string(),
            },
        }
    }

    /// Everything that was planned from the start.
    fn planned(&mut self, sink: &mut dyn Sink, control: &mut Control) -> Result<()> {
        let study = self.study.study();
        for plan in self.networks.clone() {
            let asked = &study.references[plan.reference as usize];
            let branch = match plan.role {
                Role::Branch => {
                    let before = self
                        .networks
                        .iter()
                        .filter(|other| {
                            other.reference == plan.reference
                                && other.role == Role::Branch
                                && other.id < plan.id
                        })
                        .count();
                    asked.branches.get(before)
                }
                Role::Reference | Role::Twin | Role::SameStartTwin => None,
            };
            self.one(&plan, branch, sink, control)?;
        }
        Ok(())
    }

    /// One network, from its first stage to its last. Only a stop and a closed log are errors here.
    fn one(
        &mut self,
        plan: &NetworkPlan,
        branch: Option<&Branch>,
        sink: &mut dyn Sink,
        control: &mut Control,
    ) -> Result<()> {
        if !self.benches.contains_key(&plan.reference) {
            let bench = match self.load(plan.reference, sink) {
                Ok(bench) => Some(bench),
                Err(error) => return self.failed(plan, 0, error, sink, true),
            };
            self.benches.insert(plan.reference, bench);
        }
        let name = &plan.name;
        // Off the shelf while it is worked on, beside those that stay there.
        let Some(Some(mut bench)) = self.benches.insert(plan.reference, None) else {
            let why = format!("{name} was not begun: its data set could not be loaded");
            return self.failed(plan, 0, Error::Internal(why), sink, false);
        };
        let mut stage = 0;
        let worked = catch_unwind(AssertUnwindSafe(|| {
            let others = self.benches.values().flatten();
            let alike = others.filter(|other| other.is_like(&bench));
            let elsewhere: Vec<&Kept> = alike.flat_map(Workbench::networks).collect();
            bench.work(plan, branch, &elsewhere, &mut stage, (sink, control))
        }));
        self.benches.insert(plan.reference, Some(bench));
        match worked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => self.failed(plan, stage, error, sink, false),
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                let message = format!("{name}: the program is at fault: {why}");
                self.failed(plan, stage, Error::Internal(message), sink, false)
            }
        }
    }

    /// Closes the stage that did not end well; only a stop goes further up.
    fn failed(
        &mut self,
        plan: &NetworkPlan,
        stage: u32,
        error: Error,
        sink: &mut dyn Sink,
        no_data: bool,
    ) -> Result<()> {
        if no_data {
            self.benches.insert(plan.reference, None);
        }
        let outcome = match &error {
            Error::Cancelled => Outcome::Cancelled,
            _ => Outcome::Failed {
                message: error.to_string(),
            },
        };
        if let Outcome::Failed { message } = &outcome {
            self.failure
                .get_or_insert(format!("{}: {message}", plan.name));
        }
        let cost = crate::event::Cost::default();
        sink.state(Event::StageEnded {
            network: plan.id,
            stage,
            outcome,
            cost,
        })?;
        if matches!(error, Error::Cancelled) {
            Err(error)
        } else {
            Ok(())
        }
    }

    /// Loads a reference's data and says what it is.
    fn load(&self, reference: u32, sink: &mut dyn Sink) -> Result<Workbench<'a>> {
        let study = self.study.study();
        let asked = &study.references[reference as usize].dataset;
        let resize = study.references[reference as usize].resize;
        let load = |asked: &Method| -> Result<(Box<dyn Source>, Dataset)> {
            let source = domain::source(asked).ok_or_else(|| {
                Error::Internal(format!("data set {} is not in the table", asked.id))
            })?;
            let mut dataset = source.load(&self.means.folders)?;
            dataset.train = dataset.train.limited(study.train_limit);
            dataset.test = dataset.test.limited(study.test_limit);
            if let Some(side) = resize {
                dataset.train = dataset.train.enlarged(side as usize)?;
                dataset.test = dataset.test.enlarged(side as usize)?;
            }
            Ok((source, dataset))
        };
        let (_, mut dataset) = load(asked)?;
        let mut domains = Vec::new();
        for other in domain::asked(asked, &study.suite.domains) {
            let (source, mut found) = load(&other)?;
            dataset.warnings.append(&mut found.warnings);
            let name = domain::name(asked, &other);
            let (fitted, warning) = domain::fitted(&name, source.as_ref(), found, &dataset)?;
            domains.push(fitted);
            dataset.warnings.extend(warning);
        }
        let attacks = Adversarial::new(&asked.id, &study.suite.attacks);
        let remarks = attacks.remarks(dataset.classes.len()).into_iter();
        let said = |message| Warning::Other { message };
        dataset.warnings.extend(remarks.map(said));
        // Repetitions of a reference load the same, and what was wrong with it was said.
        let is_known = study.references[..reference as usize]
            .iter()
            .any(|other| other.dataset == *asked && other.resize == resize);
        for warning in std::mem::take(&mut dataset.warnings)
            .into_iter()
            .filter(|_| !is_known)
        {
            sink.state(Event::Warned {
                network: None,
                warning,
            })?;
        }
        for (limit, knob, what, part) in [
            (study.train_limit, "train-limit", "training", &dataset.train),
            (study.test_limit, "test-limit", "test", &dataset.test),
        ] {
            if part.len() < 20 {
                let problem = format!(
                    "{} has only {} {what} images there; at least 20 are needed",
                    asked.id,
                    part.len()
                );
                return Err(Error::Impossible {
                    knob: limit.map_or("dataset", |_| knob).into(),
                    problem,
                });
            }
        }
        let (official, troubles) = if asked.id == official_corruptions::OF
            && study.references[reference as usize].resize.is_none()
        {
            let conditions: Vec<String> = study
                .suite
                .corruptions
                .iter()
                .filter_map(|method| Some(named(method).ok()?.condition))
                .collect();
            OfficialCorruptions::find(&self.means.folders, &conditions, &dataset.test)
        } else {
            (None, Vec::new())
        };
        for message in troubles {
            sink.state(Event::Warned {
                network: None,
                warning: Warning::Other { message },
            })?;
        }
        let digest = dataset.digest();
        let bench = Workbench::new(
            study,
            &self.device,
            reference,
            dataset,
            domains,
            &digest,
            self.means,
        )
        .with_official(official);
        let mut others = self.benches.values().flatten();
        let bench = match others.find(|other| other.is_like(&bench)) {
            Some(other) => bench.beside(other),
            None => bench,
        };
        let (data, shape) = (&bench.data, bench.data.train.shape);
        sink.state(Event::DataReady(DataFacts {
            reference,
            dataset: asked.id.clone(),
            train: data.split.train.len() as u64,
            validation: data.split.validation.len() as u64,
            test: data.test.len() as u64,
            shape: [
                shape.channels as u32,
                shape.height as u32,
                shape.width as u32,
            ],
            classes: data.classes.clone(),
            domains: data
                .domains
                .iter()
                .map(|domain| (domain.name.clone(), domain.examples.len() as u64))
                .collect(),
            digest,
            official: bench.official(),
        }))?;
        Ok(bench)
    }
}

/// The warning for a cache that could not be written to.
pub fn cache_trouble(problem: &str) -> Warning {
    Warning::Other {
        message: format!("nothing more is cached: {problem}"),
    }
}
