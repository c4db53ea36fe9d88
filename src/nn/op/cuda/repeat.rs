//! Work that is asked for again and again: once its commands come again as they were, a graph asks for them.
//!
//! The work itself is done every time, down to each [`Engine::ask`]: what it asks for is compared with what it asked for
//! the last time. Only when all of it is the same is the device asked, by one call for everything; as soon as something is
//! not, what was the same until then is asked for as ever, and so is all that follows. So a graph never does anything but
//! what was asked for, whatever changes between two steps: weights that moved, a mask, another rate.
//!
//! Memory that the work itself takes is lent to it: it gets the same again in the next run, and may keep none of it.

use candle_core::{DType, Tensor};

use super::Engine;
use super::command::{Call, Command};
use super::graph::Graph;
use crate::nn::Result;

/// Runs in a row without a graph after which no more is tried: the work is of another kind each time.
const MOST_STRAYS: u32 = 16;

/// What is known of the runs before.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    commands: Vec<Command>,
    lent: Vec<Tensor>,
    graph: Option<Graph>,
    strays: u32,
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Run {
    memo: Memo,
    /// Whether all was as in the run before, and nothing of it was asked for yet.
    follows: bool,
    /// How many commands there were.
    at: usize,
    /// Those that differ in what a kernel is told.
    changed: Vec<(usize, Call)>,
    /// What was asked for, unless it follows.
    asked: Vec<Command>,
    /// How many tensors were lent.
    lent: usize,
    /// Whether nothing happened but commands.
    is_steady: bool,
}

impl Run {
    fn new(memo: Memo) -> Self {
        Self {
            follows: memo.graph.is_some(),
            at: 0,
            changed: Vec::new(),
            asked: Vec::new(),
            lent: 0,
            is_steady: true,
            memo,
        }
    }

    fn ask(&mut self, engine: &Engine, command: Command) -> Result<()> {
        if self.follows {
            match (self.memo.commands.get(self.at), &command) {
                (Some(known), asked) if known == asked => {
                    self.at += 1;
                    return Ok(());
                }
                (Some(Command::Kernel(known)), Command::Kernel(call)) if known.is_alike(call) => {
                    self.changed.push((self.at, *call));
                    self.at += 1;
                    return Ok(());
                }
                _ => self.stray(engine)?,
            }
        }
        engine.issue(&command)?;
        self.asked.push(command);
        Ok(())
    }

    /// Asks for what was held back; from here on all is asked for at once.
    fn stray(&mut self, engine: &Engine) -> Result<()> {
        if !std::mem::take(&mut self.follows) {
            return Ok(());
        }
        for (at, call) in self.changed.drain(..) {
            self.memo.commands[at] = Command::Kernel(call);
        }
        self.asked = self.memo.commands[..self.at].to_vec();
        self.asked
            .iter()
            .try_for_each(|command| engine.issue(command))
    }

    fn lend(&mut self, engine: &Engine, n: usize, dtype: DType) -> Result<Tensor> {
        let at = self.lent;
        self.lent += 1;
        if let Some(known) = self.memo.lent.get(at)
            && (known.elem_count(), known.dtype()) == (n, dtype)
        {
            return Ok(known.clone());
        }
        self.stray(engine)?;
        self.memo.lent.truncate(at);
        let fresh = engine.fresh(n, dtype)?;
        self.memo.lent.push(fresh.clone());
        Ok(fresh)
    }

    fn end(mut self, engine: &Engine) -> Result<Memo> {
        if self.follows {
            if self.at == self.memo.commands.len()
                && let Some(graph) = &self.memo.graph
            {
                match graph.launch(&self.changed) {
                    Ok(()) => {
                        engine.count_graph();
                        for (at, call) in self.changed {
                            self.memo.commands[at] = Command::Kernel(call);
                        }
                        self.memo.strays = 0;
                        return Ok(self.memo);
                    }
                    Err(error) => engine.refuse_graphs(&error),
                }
            }
            self.stray(engine)?;
        }
        self.memo.lent.truncate(self.lent);
        self.memo.graph = None;
        let known = self.memo.commands.iter();
        let comes_again = self.is_steady
            && self.asked.len() == self.memo.commands.len()
            && known
                .zip(&self.asked)
                .all(|(one, other)| one.is_alike(other));
        self.memo.commands = self.asked;
        self.memo.strays += 1;
        if comes_again && !self.memo.commands.is_empty() {
            match Graph::of(engine, &self.memo.commands) {
                Ok(graph) => self.memo.graph = Some(graph),
                Err(error) => engine.refuse_graphs(&error),
            }
        }
        Ok(self.memo)
    }
}

/// Ends a run without asking for what it held back, also when the work panics: whoever catches that goes on with the same
/// engine.
struct UnderWay<'e>(&'e Engine);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let run = self.0.run.borrow_mut().take();
        drop(run);
    }
}

impl Engine {
    /// Does work by itself, with what is known of it. Within other such work it is a part of that.
    pub(crate) fn repeat<R>(&self, memo: &mut Memo, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let is_part = self.run.borrow().is_some();
        if is_part || !self.uses_graphs() || memo.strays > MOST_STRAYS {
            return work();
        }
        *self.run.borrow_mut() = Some(Run::new(std::mem::take(memo)));
        let under_way = UnderWay(self);
        let done = work();
        let run = self.run.borrow_mut().take();
        drop(under_way);
        // What was held back of work that failed is never asked for.
        if let (Ok(_), Some(run)) = (&done, run) {
            *memo = run.end(self)?;
        }
        done
    }

    /// Asks for a command: at once, or together with those around it.
    pub(super) fn ask(&self, command: Command) -> Result<()> {
        match &mut *self.run.borrow_mut() {
            None => self.issue(&command),
            Some(run) => run.ask(self, command),
        }
    }

    /// A tensor of that many values, which within repeated work is only lent; what it holds is left over.
    pub(crate) fn empty(&self, n: usize, dtype: DType) -> Result<Tensor> {
        match &mut *self.run.borrow_mut() {
            None => self.fresh(n, dtype),
            Some(run) => run.lend(self, n, dtype),
        }
    }

    /// The same to be kept as long as is liked.
    pub(crate) fn lasting(&self, n: usize, dtype: DType) -> Result<Tensor> {
        if let Some(run) = &mut *self.run.borrow_mut() {
            run.is_steady = false;
        }
        self.fresh(n, dtype)
    }

    /// Asks for all that was held back: something comes that is no command.
    pub(super) fn interrupt(&self) -> Result<()> {
        match &mut *self.run.borrow_mut() {
            None => Ok(()),
            Some(run) => {
                run.is_steady = false;
                run.stray(self)
            }
        }
    }
}
