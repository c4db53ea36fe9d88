//! What running code of the lab may do: state facts, learn that it was asked to pause or stop, and show an epoch's end.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::event::{Event, Warning};
use crate::lab::error::{Error, Result};
use crate::measurement::Measurement;
use crate::nn::network::Network;
use crate::nn::optimizer::Optimizer;
use crate::spec::{Branch, Command, NetworkId, NetworkPlan};

/// Where facts go. The recorder's channel in a running lab, a list in a test.
pub trait Sink {
    /// Takes one fact.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when nobody listens any more.
    fn state(&mut self, event: Event) -> Result<()>;

    /// Takes a remark for the session file that is no event: that a network was restored, say.
    fn remark(&mut self, _remark: &str) {}
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn state(&mut self, event: Event) -> Result<()> {
        (**self).state(event)
    }

    fn remark(&mut self, remark: &str) {
        (**self).remark(remark);
    }
}

impl Sink for Vec<Event> {
    fn state(&mut self, event: Event) -> Result<()> {
        self.push(event);
        Ok(())
    }
}

/// Commands as they arrive while the lab works.
#[derive(Debug, Default)]
pub struct Control {
    commands: Option<Receiver<Command>>,
    queue: VecDeque<(Branch, NetworkPlan)>,
    stopped: bool,
    finishing: bool,
}

impl Control {
    /// Listens to `commands`.
    pub fn listening(commands: Receiver<Command>) -> Self {
        Self {
            commands: Some(commands),
            ..Self::default()
        }
    }

    /// A branch that was asked for and not begun.
    pub fn next_branch(&mut self) -> Option<(Branch, NetworkPlan)> {
        self.queue.pop_front()
    }

    /// Asks for a branch, as [`Command::AddBranch`] does.
    pub fn enqueue(&mut self, branch: Branch, network: NetworkPlan) {
        self.queue.push_back((branch, network));
    }

    /// Whether the study was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes back a stop that has been carried out, so that a branch added later can run.
    pub fn rearm(&mut self) {
        self.stopped = false;
    }

    /// Waits for a branch to be added; false when none will come.
    pub fn wait_for_branch(&mut self) -> bool {
        while self.queue.is_empty() && !self.finishing {
            let Some(commands) = &self.commands else {
                return false;
            };
            match commands.recv() {
                Ok(command) => {
                    self.take(command);
                }
                Err(_) => return false,
            }
        }
        !self.queue.is_empty()
    }

    fn take(&mut self, command: Command) -> Option<bool> {
        match command {
            Command::AddBranch { branch, network } => self.queue.push_back((branch, network)),
            Command::Stop => self.stopped = true,
            Command::Finish => self.finishing = true,
            Command::Pause => return Some(true),
            Command::Resume => return Some(false),
        }
        None
    }
}

/// Stands beside a training: looks at the network at the end of every epoch, and keeps what is needed to go on after
/// an interruption.
pub trait Observer {
    /// Looks at the network; may state facts through the context that it is handed.
    fn epoch_ended(&mut self, network: &Network, epoch: u32, cx: &mut Context<'_>) -> Result<()>;

    /// The end of an epoch that was restored and not computed.
    fn epoch_restored(&mut self, _epoch: u32, _cx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Keeps what is needed to go on from here; `facts` are those of the stage so far.
    fn save(&mut self, _at: &Halfway<'_>, _facts: &[Event]) -> Result<()> {
        Ok(())
    }

    /// What was kept last: puts it into the networks and the optimizer. `None` when there is nothing.
    fn restore(&mut self, _into: &mut HalfwayMut<'_>) -> Result<Option<Restored>> {
        Ok(None)
    }
}

/// A stage of training after some of its epochs.
pub struct Halfway<'a> {
    pub network: &'a Network,
    pub best: &'a Network,
    pub best_loss: f64,
    pub optimizer: &'a Optimizer,
    /// Epochs of this stage that are done.
    pub epochs: u32,
}

/// Where a restored stage is put.
pub struct HalfwayMut<'a> {
    pub network: &'a mut Network,
    pub best: &'a mut Network,
    pub optimizer: &'a mut Optimizer,
}

/// What a restored stage says beside its weights.
pub struct Restored {
    /// Epochs of this stage that are done.
    pub epochs: u32,
    pub best_loss: f64,
    /// What was stated during them.
    pub facts: Vec<Event>,
}

/// An observer that looks away and keeps nothing.
pub struct Unobserved;

impl Observer for Unobserved {
    fn epoch_ended(&mut self, _: &Network, _: u32, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
}

/// What a running method may do.
pub struct Context<'a> {
    sink: &'a mut dyn Sink,
    control: &'a mut Control,
    /// The network being worked on.
    pub network: NetworkId,
    /// The stage of its plan being worked on.
    pub stage: u32,
    /// Parts of a measuring stage that other probes have done, and all of them.
    pub parts: Option<(u64, u64)>,
    /// Facts of this stage, kept for the cache while it is `Some`.
    kept: Option<Vec<Event>>,
}

impl<'a> Context<'a> {
    /// A context that works on `network`.
    pub fn new(sink: &'a mut dyn Sink, control: &'a mut Control, network: NetworkId) -> Self {
        Self {
            sink,
            control,
            network,
            stage: 0,
            parts: None,
            kept: None,
        }
    }

    /// States a fact.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once the user asked to stop; `?` carries it upward.
    pub fn emit(&mut self, event: Event) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.push(event.clone());
        }
        self.sink.state(event)?;
        self.checkpoint()
    }

    /// States a fact that the cache shall not keep, because it depends on the other networks of the study.
    pub fn emit_unkept(&mut self, event: Event) -> Result<()> {
        self.sink.state(event)?;
        self.checkpoint()
    }

    /// States a finding about the network being worked on.
    pub fn measured(&mut self, measurement: Measurement) -> Result<()> {
        self.emit(Event::Measured(measurement))
    }

    /// States partial trouble with the network being worked on.
    pub fn warn(&mut self, warning: Warning) -> Result<()> {
        let network = Some(self.network);
        self.emit(Event::Warned { network, warning })
    }

    /// States how far a stage that does not train has come.
    pub fn progress(&mut self, done: u64, total: u64, what: &str) -> Result<()> {
        let (network, stage, what) = (self.network, self.stage, what.to_owned());
        let (before, total) = self.parts.unwrap_or((0, total));
        let done = before + done;
        self.emit(Event::Progressed {
            network,
            stage,
            done,
            total,
            what,
        })
    }

    /// Obeys what the user asked for since the last time: holds while paused, fails when stopped.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once the user asked to stop.
    pub fn checkpoint(&mut self) -> Result<()> {
        let Some(commands) = self.control.commands.clone() else {
            return self.verdict();
        };
        loop {
            match commands.try_recv() {
                Ok(command) => {
                    if self.control.take(command) == Some(true) {
                        self.hold(&commands)?;
                    }
                }
                // Whoever gave commands is gone; the study goes on without.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return self.verdict(),
            }
        }
    }

    fn hold(&mut self, commands: &Receiver<Command>) -> Result<()> {
        self.sink.state(Event::Paused)?;
        while !self.control.stopped {
            match commands.recv() {
                Ok(command) => {
                    if self.control.take(command) == Some(false) {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        self.sink.state(Event::Resumed)
    }

    fn verdict(&self) -> Result<()> {
        if self.control.stopped {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Starts keeping the facts of a stage for the cache.
    pub fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// The facts kept since [`Self::keep`].
    pub fn kept(&mut self) -> Vec<Event> {
        self.kept.take().unwrap_or_default()
    }

    /// The facts kept so far, for a checkpoint in the middle of a stage.
    pub fn kept_so_far(&self) -> &[Event] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// A remark for the session file that is no event.
    pub fn remark(&mut self, remark: &str) {
        self.sink.remark(remark);
    }

    /// What the user asked for.
    pub fn control(&mut self) -> &mut Control {
        self.control
    }
}
