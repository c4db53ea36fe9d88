//! One network's life so far: stages, curves, epochs, layers, compressions and measurements.

use super::measurements::Measurements;
use super::series::{Sample, Series};
use crate::event::{Cost, LayerFacts, Outcome, Removed, Tally};
use crate::spec::{Method, NetworkPlan, StageKind};

/// Where a network stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// For its first stage, or for the next one.
    #[default]
    Waiting,
    /// `done` of `total` parts of this stage; `total` is 0 where unknown.
    Running {
        stage: u32,
        done: u64,
        total: u64,
    },
    Done,
    /// One sentence: why.
    Failed(String),
    Cancelled,
}

impl Status {
    /// Whether it is being worked on.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// A stage so far.
#[derive(Clone, Debug, PartialEq)]
pub struct StageState {
    pub kind: StageKind,
    /// Epochs planned, 0 where it does not train.
    pub epochs: u32,
    /// Its heading; empty before it started.
    pub title: String,
    /// Times in the log, in milliseconds.
    pub started: Option<u64>,
    pub ended: Option<u64>,
    /// Milliseconds for which it was held.
    pub held: u64,
    held_since: Option<u64>,
    /// Parts done and expected; the expectation is 0 where unknown.
    pub done: u64,
    pub total: u64,
    /// What is being done right now.
    pub what: String,
    pub outcome: Option<Outcome>,
    pub cost: Option<Cost>,
    /// It ended before its work was done, and the study was taken up again: it may go on where it stopped.
    is_open: bool,
    /// What is added to the numbers of its steps so that the network's curve goes on to the right.
    offset: u64,
    /// Where its part of the curve begins.
    begin: Option<u64>,
}

impl StageState {
    /// How long it took, or has taken at the time `at`, pauses left out.
    pub fn milliseconds(&self, at: u64) -> Option<u64> {
        let end = self.ended.or(self.held_since).unwrap_or(at);
        Some(end.saturating_sub(self.started?).saturating_sub(self.held))
    }

    /// The share that is done, where it is known.
    pub fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| (self.done as f64 / self.total as f64).min(1.0))
    }
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    pub stage: u32,
    /// Its number in the network's life, from 1.
    pub epoch: u32,
    /// Where it ends on the curve of the training loss.
    pub step: u64,
    /// Time in the log, in milliseconds.
    pub at: u64,
    pub train: Tally,
    pub validation: Tally,
    /// Whether the validation loss was the lowest so far.
    pub is_best: bool,
}

/// What a compression did.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    pub stage: u32,
    pub method: Method,
    /// What the ratios count.
    pub counts: Option<String>,
    pub asked: Option<f64>,
    pub reached: Option<f64>,
    /// The shares removed in each of the five senses; sessions of earlier versions do not say.
    pub removed: Option<Removed>,
    /// Short sentences.
    pub remarks: Vec<String>,
}

/// One network's life so far.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkState {
    pub plan: NetworkPlan,
    pub status: Status,
    /// One for each stage of the plan.
    pub stages: Vec<StageState>,
    /// Empty, 0 and empty before it was built.
    pub architecture: String,
    pub parameters: u64,
    pub layers: Vec<LayerFacts>,
    /// The training loss over steps.
    pub loss: Series,
    /// In their order; an epoch that is trained again replaces itself.
    pub epochs: Vec<Epoch>,
    /// The last one used.
    pub learning_rate: Option<f64>,
    /// Steps on the curve and images trained on so far.
    pub step: u64,
    pub images: u64,
    pub compressions: Vec<Compressed>,
    pub measurements: Measurements,
    /// The file that it was written to, and its bytes.
    pub saved: Option<(String, u64)>,
}

impl NetworkState {
    pub(super) fn new(plan: NetworkPlan) -> Self {
        let stages = plan
            .stages
            .iter()
            .map(|stage| StageState {
                kind: stage.kind,
                epochs: stage.epochs,
                title: String::new(),
                started: None,
                ended: None,
                held: 0,
                held_since: None,
                done: 0,
                total: 0,
                what: String::new(),
                outcome: None,
                cost: None,
                is_open: false,
                offset: 0,
                begin: None,
            })
            .collect();
        Self {
            plan,
            status: Status::Waiting,
            stages,
            architecture: String::new(),
            parameters: 0,
            layers: Vec::new(),
            loss: Series::default(),
            epochs: Vec::new(),
            learning_rate: None,
            step: 0,
            images: 0,
            compressions: Vec::new(),
            measurements: Measurements::default(),
            saved: None,
        }
    }

    /// The epoch with the lowest validation loss.
    pub fn best_epoch(&self) -> Option<&Epoch> {
        self.epochs.iter().rfind(|epoch| epoch.is_best)
    }

    /// The share of its work that is done, counted in stages.
    pub fn share(&self) -> f64 {
        let done: f64 = self
            .stages
            .iter()
            .map(|stage| match stage.outcome {
                Some(_) => 1.0,
                None => stage.share().unwrap_or(0.0),
            })
            .sum();
        if self.stages.is_empty() {
            0.0
        } else {
            done / self.stages.len() as f64
        }
    }

    pub(super) fn start_stage(
        &mut self,
        stage: u32,
        kind: StageKind,
        title: &str,
        steps: u64,
        at: u64,
    ) -> Option<String> {
        let state = &mut self.stages[stage as usize];
        let problem = (state.kind != kind).then(|| {
            format!(
                "stage {stage} of network {} is planned as {} and started as {}",
                self.plan.id,
                state.kind.name(),
                kind.name()
            )
        });
        *state = StageState {
            kind,
            epochs: state.epochs,
            title: title.to_owned(),
            started: Some(at),
            ended: None,
            held: 0,
            held_since: None,
            done: 0,
            total: steps,
            what: String::new(),
            outcome: None,
            cost: None,
            is_open: false,
            offset: state.offset,
            begin: state.begin,
        };
        self.show(stage);
        problem
    }

    pub(super) fn progress(
        &mut self,
        stage: u32,
        done: u64,
        total: u64,
        what: &str,
    ) -> Option<String> {
        let state = &mut self.stages[stage as usize];
        state.done = done;
        state.total = total;
        what.clone_into(&mut state.what);
        self.show(stage);
        self.unless_started(stage)
    }

    pub(super) fn train(
        &mut self,
        stage: u32,
        mut sample: Sample,
        images: u64,
        learning_rate: f64,
    ) -> Option<String> {
        let state = &mut self.stages[stage as usize];
        let first = sample
            .last
            .saturating_sub(u64::from(sample.steps.saturating_sub(1)));
        if state.begin.is_none() {
            // A stage that counts from 1 again is drawn behind the one before it.
            state.offset = if first <= self.step { self.step } else { 0 };
            state.begin = Some(first.saturating_add(state.offset));
        }
        sample.last = sample.last.saturating_add(state.offset);
        let first = first.saturating_add(state.offset);
        if first <= self.step {
            // The study was taken up again at an earlier step.
            self.loss.truncate(first);
        }
        self.loss.push(sample);
        self.step = sample.last;
        self.images = self.images.saturating_add(images);
        self.learning_rate = Some(learning_rate);
        state.done = state.done.saturating_add(u64::from(sample.steps));
        self.show(stage);
        self.unless_started(stage)
    }

    pub(super) fn end_epoch(&mut self, mut row: Epoch) -> Option<String> {
        let state = &self.stages[row.stage as usize];
        row.step = row.step.saturating_add(state.offset);
        self.epochs
            .retain(|known| known.epoch < row.epoch || known.stage != row.stage);
        self.epochs.push(row);
        self.unless_started(row.stage)
    }

    pub(super) fn compressed(&mut self, facts: Compressed) -> Option<String> {
        let stage = facts.stage;
        self.compressions.retain(|known| known.stage != stage);
        self.compressions.push(facts);
        self.unless_started(stage)
    }

    pub(super) fn hold(&mut self, stage: u32, paused: bool, at: u64) -> Option<String> {
        let state = &mut self.stages[stage as usize];
        if paused {
            state.held_since = state.held_since.or(Some(at));
        } else if let Some(since) = state.held_since.take() {
            state.held += at.saturating_sub(since);
        }
        None
    }

    /// The study was taken up again: stages that were stopped may go on.
    pub(super) fn open_again(&mut self) {
        for stage in &mut self.stages {
            let stopped = |outcome: &Outcome| *outcome != Outcome::Completed;
            stage.is_open = stage.started.is_some() && stage.outcome.as_ref().is_some_and(stopped);
        }
    }

    /// Whether the stage was stopped and now goes on.
    pub(super) fn goes_on(&mut self, stage: u32, at: u64) -> bool {
        let state = &mut self.stages[stage as usize];
        if !std::mem::take(&mut state.is_open) {
            return false;
        }
        // Nothing was done between the end and now.
        if let Some(ended) = state.ended.take() {
            state.held += at.saturating_sub(ended);
        }
        state.outcome = None;
        state.cost = None;
        self.show(stage);
        true
    }

    pub(super) fn end_stage(
        &mut self,
        stage: u32,
        outcome: &Outcome,
        cost: Cost,
        at: u64,
    ) -> Option<String> {
        let problem = self.unless_started(stage);
        self.hold(stage, false, at);
        let is_last = stage as usize + 1 == self.stages.len();
        let state = &mut self.stages[stage as usize];
        state.ended = Some(at);
        state.outcome = Some(outcome.clone());
        state.cost = Some(cost);
        if *outcome == Outcome::Completed && state.total > 0 {
            state.done = state.total;
        }
        self.status = match outcome {
            Outcome::Completed if is_last => Status::Done,
            Outcome::Completed => Status::Waiting,
            Outcome::Cancelled => Status::Cancelled,
            Outcome::Failed { message } => Status::Failed(message.clone()),
        };
        problem
    }

    fn show(&mut self, stage: u32) {
        let state = &self.stages[stage as usize];
        self.status = Status::Running {
            stage,
            done: state.done,
            total: state.total,
        };
    }

    fn unless_started(&self, stage: u32) -> Option<String> {
        let state = &self.stages[stage as usize];
        (state.started.is_none() || state.ended.is_some()).then(|| {
            format!(
                "stage {stage} of network {} is told of while it does not run",
                self.plan.id
            )
        })
    }
}
