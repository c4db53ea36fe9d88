//! What each fact changes: one arm for every kind of event.

use std::sync::Arc;

use super::series;
use super::{
    Compressed, Epoch, NetworkState, Note, ODDITIES_KEPT, Oddity, Sensed, State, Status, Warned,
};
use crate::event::{Event, Outcome, Record};
use crate::measurement::{Measurement, Value};
use crate::spec::{Branch, NetworkId, NetworkPlan, Study};

impl State {
    /// Adds one fact.
    pub fn apply(&mut self, record: &Record) {
        self.records += 1;
        if record.at < self.at {
            self.odd(record, "time runs backward");
        }
        self.at = self.at.max(record.at);
        match &record.event {
            Event::StudyStarted { study, networks } => self.start(record, study, networks),
            Event::BranchAdded {
                reference,
                branch,
                network,
            } => self.add_branch(record, *reference, branch, network),
            Event::DataReady(facts) => {
                match self
                    .data
                    .iter_mut()
                    .find(|known| known.reference == facts.reference)
                {
                    Some(known) => known.clone_from(facts),
                    None => self.data.push(facts.clone()),
                }
            }
            Event::StageStarted {
                network,
                stage,
                kind,
                title,
                steps,
            } => {
                self.current = Some((*network, *stage));
                self.pace.start();
                self.at_stage(record, *network, *stage, |network, at| {
                    network.start_stage(*stage, *kind, title, *steps, at)
                });
            }
            Event::NetworkBuilt {
                network,
                architecture,
                parameters,
                layers,
            } => self.at_network(record, *network, |network| {
                network.architecture.clone_from(architecture);
                network.parameters = *parameters;
                network.layers.clone_from(layers);
            }),
            Event::Progressed {
                network,
                stage,
                done,
                total,
                what,
            } => self.at_stage(record, *network, *stage, |network, _| {
                network.progress(*stage, *done, *total, what)
            }),
            Event::StepsTrained {
                network,
                stage,
                step,
                count,
                images,
                loss_mean,
                loss_min,
                loss_max,
                learning_rate,
            } => {
                self.pace.trained(record.at, *images);
                let sample = series::Sample {
                    last: *step,
                    steps: *count,
                    mean: loss_mean.0,
                    min: loss_min.0,
                    max: loss_max.0,
                };
                self.at_stage(record, *network, *stage, |network, _| {
                    network.train(*stage, sample, *images, learning_rate.0)
                });
            }
            Event::EpochEnded {
                network,
                stage,
                epoch,
                step,
                train,
                validation,
                best,
            } => {
                let row = Epoch {
                    stage: *stage,
                    epoch: *epoch,
                    step: *step,
                    at: record.at,
                    train: *train,
                    validation: *validation,
                    is_best: *best,
                };
                self.at_stage(record, *network, *stage, |network, _| {
                    network.end_epoch(row)
                });
            }
            // It says why the stage ends, which the stage's own end then counts; nothing is drawn from it.
            Event::StoppedEarly { network, stage, .. } => {
                self.at_stage(record, *network, *stage, |_, _| None);
            }
            Event::NetworkCompressed {
                network,
                stage,
                method,
                counts,
                asked,
                reached,
                removed,
                remarks,
            } => {
                let facts = Compressed {
                    stage: *stage,
                    method: method.clone(),
                    counts: counts.clone(),
                    asked: asked.map(|ratio| ratio.0),
                    reached: reached.map(|ratio| ratio.0),
                    removed: *removed,
                    remarks: remarks.clone(),
                };
                self.at_stage(record, *network, *stage, |network, _| {
                    network.compressed(facts)
                });
            }
            Event::Pictured(picture) => self.pictures.push(Arc::new(picture.clone())),
            Event::NetworkSaved {
                network,
                file,
                bytes,
            } => {
                let saved = Some((file.clone(), *bytes));
                self.at_network(record, *network, |network| network.saved = saved);
            }
            Event::Measured(measurement) => self.measured(record, measurement),
            Event::Warned { network, warning } => self.warnings.push(Warned {
                seq: record.seq,
                network: *network,
                warning: warning.clone(),
            }),
            Event::NoteAdded { text } => self.notes.push(Note {
                seq: record.seq,
                at: record.at,
                text: text.clone(),
            }),
            Event::Tried(trial) => self.trials.push(Arc::new(trial.clone())),
            Event::Sensed {
                reference,
                layer,
                ratio,
                n,
                hits,
                base,
            } => {
                let found = Sensed {
                    ratio: ratio.0,
                    n: *n,
                    hits: *hits,
                    base: *base,
                };
                self.sensed.insert((*reference, layer.clone()), found);
            }
            Event::Paused => self.set_paused(record, true),
            Event::Resumed => self.set_paused(record, false),
            Event::StageEnded {
                network,
                stage,
                outcome,
                cost,
            } => {
                if self.current == Some((*network, *stage)) {
                    self.current = None;
                }
                self.pace.start();
                self.at_stage(record, *network, *stage, |network, at| {
                    network.end_stage(*stage, outcome, *cost, at)
                });
            }
            Event::StudyEnded { outcome } => self.end(record, outcome),
            Event::Continued => {
                self.continued += 1;
                self.outcome = None;
                for network in &mut self.networks {
                    Arc::make_mut(network).open_again();
                }
                self.is_paused = false;
                self.pace.start();
            }
            Event::Unknown { kind, .. } => *self.unknown.entry(kind.clone()).or_default() += 1,
        }
    }

    fn start(&mut self, record: &Record, study: &Study, networks: &[NetworkPlan]) {
        if self.study.is_some() {
            self.odd(record, "the study starts a second time");
            return;
        }
        self.study = Some(study.clone());
        for plan in networks {
            self.add_network(record, plan);
        }
    }

    fn add_branch(
        &mut self,
        record: &Record,
        reference: u32,
        branch: &Branch,
        network: &NetworkPlan,
    ) {
        let reference = self
            .study
            .as_mut()
            .and_then(|study| study.references.get_mut(reference as usize));
        match reference {
            Some(reference) => reference.branches.push(branch.clone()),
            None => self.odd(
                record,
                "a branch is added to a reference that the study does not have",
            ),
        }
        self.outcome = None;
        self.add_network(record, network);
    }

    fn add_network(&mut self, record: &Record, plan: &NetworkPlan) {
        if self.place(plan.id).is_some() {
            self.odd(record, format!("network {} is planned twice", plan.id));
        } else {
            self.networks
                .push(Arc::new(NetworkState::new(plan.clone())));
        }
    }

    fn measured(&mut self, record: &Record, measurement: &Measurement) {
        if let Value::Scalar(_) = measurement.value {
            self.at_network(record, measurement.network, |network| {
                network.measurements.insert(measurement.clone());
            });
            return;
        }
        if let Value::Masking { .. } = measurement.value {
            self.at_network(record, measurement.network, |network| {
                network.masking = Some(Arc::new(measurement.clone()));
            });
            return;
        }
        let Some(reference) = self
            .network(measurement.network)
            .map(|network| network.plan.reference)
        else {
            let problem = format!("network {} was never planned", measurement.network);
            return self.odd(record, problem);
        };
        let landscape = self.landscapes.entry(reference).or_default();
        let problem = match &measurement.value {
            Value::Scalar(_) | Value::Masking { .. } => None,
            Value::Row(distances) => landscape.join(measurement, distances),
            Value::Scatter { method, points } => {
                landscape.draw(record.seq, method, points);
                None
            }
            Value::Verdict {
                verdict,
                difference,
                twins,
            } => {
                landscape.judge(measurement, *verdict, *difference, *twins);
                None
            }
        };
        if let Some(problem) = problem {
            self.odd(record, problem);
        }
    }

    fn set_paused(&mut self, record: &Record, paused: bool) {
        self.is_paused = paused;
        self.pace.start();
        if let Some((id, stage)) = self.current {
            self.at_stage(record, id, stage, |network, at| {
                network.hold(stage, paused, at)
            });
        }
    }

    fn end(&mut self, record: &Record, outcome: &Outcome) {
        if self.outcome.is_some() {
            self.odd(record, "the study ends a second time");
        }
        self.outcome = Some(outcome.clone());
        self.current = None;
        self.is_paused = false;
        self.pace.start();
        let is_complete = *outcome == Outcome::Completed;
        let mut unfinished = Vec::new();
        for network in &mut self.networks {
            if network.status.is_running() {
                let network = Arc::make_mut(network);
                network.status = match outcome {
                    Outcome::Completed | Outcome::Cancelled => Status::Cancelled,
                    Outcome::Failed { message } => Status::Failed(message.clone()),
                };
                unfinished.push(network.plan.id);
            }
        }
        if is_complete && !unfinished.is_empty() {
            self.odd(
                record,
                format!(
                    "the study is complete, though network {} is not",
                    unfinished[0]
                ),
            );
        }
    }

    fn at_network(
        &mut self,
        record: &Record,
        id: NetworkId,
        change: impl FnOnce(&mut NetworkState),
    ) {
        match self.place(id) {
            Some(place) => change(Arc::make_mut(&mut self.networks[place])),
            None => self.odd(record, format!("network {id} was never planned")),
        }
    }

    /// Changes a network at one of its stages; the change may answer what is odd about it.
    fn at_stage(
        &mut self,
        record: &Record,
        id: NetworkId,
        stage: u32,
        change: impl FnOnce(&mut NetworkState, u64) -> Option<String>,
    ) {
        let at = self.at;
        let mut problem = None;
        let mut goes_on = false;
        self.at_network(record, id, |network| {
            problem = if (stage as usize) < network.stages.len() {
                goes_on = network.goes_on(stage, at);
                change(network, at)
            } else {
                Some(format!("network {id} has no stage {stage}"))
            };
            goes_on &= network.status.is_running();
        });
        if goes_on {
            self.current = Some((id, stage));
        }
        if let Some(problem) = problem {
            self.odd(record, problem);
        }
    }

    fn odd(&mut self, record: &Record, problem: impl Into<String>) {
        self.oddities_in_all += 1;
        if self.oddities.len() < ODDITIES_KEPT {
            self.oddities.push(Oddity {
                seq: record.seq,
                problem: problem.into(),
            });
        }
    }
}
