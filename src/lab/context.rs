//! What running code of the lab may do: state facts, learn that it was asked to pause or stop, and show an epoch's end.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::event::{Event, Warning};
use crate::lab::error::{Error, Result};
use crate::lab::knob::Knob;
use crate::measurement::Measurement;
use crate::nn::network::Network;
use crate::nn::optimizer::Optimizer;
use crate::spec::{Branch, Command, NetworkId, NetworkPlan, Wish};

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
    /// Read from the channel while something could not be left, and not obeyed yet.
    early: VecDeque<Command>,
    queue: VecDeque<(Branch, NetworkPlan)>,
    /// The setting of the live knob to try next; a later one takes its place.
    wish: Option<Wish>,
    /// The references whose layers are being looked at one by one.
    sensing: VecDeque<u32>,
    /// The knobs of the references that are finished, by the reference's number.
    knobs: BTreeMap<u32, Rc<RefCell<Knob>>>,
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

    /// The live knob of a finished reference.
    pub fn knob(&self, reference: u32) -> Option<Rc<RefCell<Knob>>> {
        self.knobs.get(&reference).cloned()
    }

    /// Takes the live knob of a reference that is finished.
    pub fn offer(&mut self, reference: u32, knob: Knob) {
        self.knobs.insert(reference, Rc::new(RefCell::new(knob)));
    }

    /// Waits for a branch to be added, and tries settings of the live knob meanwhile; false when none will come.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when nobody listens any more.
    pub fn wait_for_branch(&mut self, sink: &mut dyn Sink) -> Result<bool> {
        while self.queue.is_empty() && !self.finishing {
            if self.wish.is_some() || !self.sensing.is_empty() {
                self.attempt(sink)?;
            } else if !self.has_commands() && self.warm_up() {
                continue;
            } else if let Some(command) = self.receive() {
                self.take(command);
            } else {
                return Ok(false);
            }
            // The latest of several presses is the one that counts.
            while let Ok(command) = self.next() {
                self.take(command);
            }
        }
        Ok(!self.queue.is_empty())
    }

    /// The next command that has arrived.
    fn next(&mut self) -> std::result::Result<Command, TryRecvError> {
        match (self.early.pop_front(), &self.commands) {
            (Some(command), _) => Ok(command),
            (None, Some(commands)) => commands.try_recv(),
            (None, None) => Err(TryRecvError::Disconnected),
        }
    }

    /// Whether a command waits to be taken.
    fn has_commands(&self) -> bool {
        let arrived = self.commands.as_ref().is_some_and(|all| !all.is_empty());
        arrived || !self.early.is_empty()
    }

    /// The next command, waited for; nothing when none will come.
    fn receive(&mut self) -> Option<Command> {
        match self.early.pop_front() {
            Some(command) => Some(command),
            None => self.commands.as_ref()?.recv().ok(),
        }
    }

    /// Tries the setting that was asked for last, where its reference is finished. The result goes past everything that
    /// keeps facts: no network of the study depends on it.
    fn attempt(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let Some(wish) = self.wish.take() else {
            return self.sense(sink);
        };
        let Some(knob) = self.knob(wish.reference) else {
            return Ok(());
        };
        let tried = knob.borrow_mut().attempt(&wish, &mut || self.glance());
        match tried {
            Ok(trial) => sink.state(Event::Tried(trial)),
            // Stopped: whoever asks next is told so.
            Err(Error::Cancelled) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes one more piece of what the first press of a live knob would wait for, while somebody listens who may press;
    /// false when nothing is missing. A command that arrives ends it.
    fn warm_up(&self) -> bool {
        let mut between = || {
            if self.has_commands() {
                Err(Error::Cancelled)
            } else {
                Ok(())
            }
        };
        // What cannot be made is said when somebody presses.
        self.commands.is_some()
            && self
                .knobs
                .values()
                .any(|knob| knob.borrow_mut().warm_up(&mut between).unwrap_or(false))
    }

    /// Looks at one more layer of a reference.
    fn sense(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let Some(reference) = self.sensing.front().copied() else {
            return Ok(());
        };
        let sensed = match self.knob(reference) {
            Some(knob) => knob.borrow_mut().sense(reference, &mut || self.glance()),
            None => Ok(None),
        };
        match sensed {
            Ok(Some(fact)) => sink.state(fact),
            Ok(None) => {
                self.sensing.pop_front();
                Ok(())
            }
            Err(Error::Cancelled) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks for a stop in the middle of something; other commands wait their turn.
    fn glance(&mut self) -> Result<()> {
        while let Some(Ok(command)) = self.commands.as_ref().map(Receiver::try_recv) {
            self.early.push_back(command);
        }
        if self.early.contains(&Command::Stop) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    fn take(&mut self, command: Command) -> Option<bool> {
        match command {
            Command::AddBranch { branch, network } => self.queue.push_back((branch, network)),
            Command::Try(wish) => self.wish = Some(wish),
            Command::Sense { reference } => {
                if !self.sensing.contains(&reference)
                    && let Some(knob) = self.knob(reference)
                {
                    knob.borrow_mut().begin_to_sense();
                    self.sensing.push_back(reference);
                }
            }
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
        // Whoever gave commands may be gone; the study goes on without.
        while let Ok(command) = self.control.next() {
            if self.control.take(command) == Some(true) {
                self.hold()?;
            }
        }
        if !self.control.stopped {
            self.control.attempt(self.sink)?;
        }
        self.verdict()
    }

    fn hold(&mut self) -> Result<()> {
        self.sink.state(Event::Paused)?;
        while !self.control.stopped {
            // The knob turns while training is held.
            let is_asked = self.control.wish.is_some() || !self.control.sensing.is_empty();
            if is_asked && !self.control.has_commands() {
                self.control.attempt(self.sink)?;
                continue;
            }
            match self.control.receive() {
                Some(command) => {
                    if self.control.take(command) == Some(false) {
                        break;
                    }
                }
                None => break,
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
