//! The thread in which a study runs: commands in, facts out, panics caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::catalog::Catalog;
use crate::event::{Event, Outcome, Said};
use crate::lab::context::{Control, Sink};
use crate::lab::error::{Error, Result};
use crate::lab::resume::Resuming;
use crate::lab::run::{Means, run};
use crate::nn::device;
use crate::spec::{Branch, CheckedStudy, Command, NetworkPlan};

/// Name of the lab's threads, by which a panic hook knows that the lab catches its own panics.
pub const THREAD: &str = "lab";

/// Stack of the lab's threads: deep networks are dropped recursively by candle.
const STACK: usize = 64 << 20;

/// A study to run, and where it left off.
pub struct Job {
    pub study: CheckedStudy,
    pub catalog: Catalog,
    pub means: Means,
    /// What the session holds already, when it is one that was interrupted.
    pub past: Vec<Event>,
}

/// Facts go through a bounded channel: a recorder that cannot keep up slows the lab before memory fills.
pub struct Spoken(Sender<Said>);

impl Spoken {
    /// Facts that go to whoever listens there.
    pub fn to(facts: Sender<Said>) -> Self {
        Self(facts)
    }
}

impl Sink for Spoken {
    fn state(&mut self, event: Event) -> Result<()> {
        self.0.send(Said::Fact(event)).map_err(|_| Error::Cancelled)
    }

    fn remark(&mut self, remark: &str) {
        // A remark that nobody hears is no loss.
        let _ = self.0.send(Said::Remark(remark.to_owned()));
    }
}

/// Starts the thread.
///
/// # Errors
/// When the system gives no more threads.
pub fn spawn(
    job: Job,
    facts: Sender<Said>,
    commands: Receiver<Command>,
) -> std::io::Result<JoinHandle<Outcome>> {
    spawn_into(job, Spoken::to(facts), commands)
}

/// Starts the thread; its facts go to that sink.
///
/// # Errors
/// When the system gives no more threads.
pub fn spawn_into(
    job: Job,
    facts: impl Sink + Send + 'static,
    commands: Receiver<Command>,
) -> std::io::Result<JoinHandle<Outcome>> {
    std::thread::Builder::new()
        .name(THREAD.to_owned())
        .stack_size(STACK)
        .spawn(move || work(&job, facts, commands))
}

/// Where the number of threads comes from when the study does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The environment says it.
    Environment,
    /// The system does: processors that the process may use, within its quota.
    System,
}

/// The variable that says how many threads compute; the one that rayon, candle and gemm know.
pub const VARIABLE: &str = "RAYON_NUM_THREADS";

/// The most threads that may be asked for.
const MOST: u32 = 1024;

/// How many threads compute when the study does not say: as many as the environment says, or all that the process may
/// use.
pub fn available_threads() -> u32 {
    threads().0
}

/// The same with its reason.
pub fn threads() -> (u32, Because) {
    let said = std::env::var(VARIABLE).ok().and_then(|n| n.parse().ok());
    match said.filter(|n| (1..=MOST).contains(n)) {
        Some(n) => (n, Because::Environment),
        None => (
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            Because::System,
        ),
    }
}

/// The threads that compute.
///
/// # Errors
/// When the system gives no more threads.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK)
        .thread_name(|index| format!("{THREAD}-{index}"))
        .build()
        .map_err(|error| {
            Error::Internal(format!("threads: {threads} could not be started: {error}"))
        })
}

fn work(job: &Job, facts: impl Sink + Send, commands: Receiver<Command>) -> Outcome {
    let threads = job.study.study().threads.unwrap_or_else(available_threads) as usize;
    let pool = pool(threads);
    let mut sink = Resuming::new(job.past.clone(), facts);
    let added: Vec<(Branch, NetworkPlan)> = sink.branches_added();
    let outcome = match pool {
        Ok(pool) => pool.install(|| {
            let done = catch_unwind(AssertUnwindSafe(|| {
                // What it holds of networks stays on this thread.
                let mut control = Control::listening(commands);
                for (branch, network) in added {
                    control.enqueue(branch, network);
                }
                run(
                    &job.study,
                    &job.catalog,
                    &job.means,
                    &mut sink,
                    &mut control,
                )
            }));
            device::close();
            done.unwrap_or_else(|_| Outcome::Failed {
                message: "the program is at fault: the lab stopped by a panic".into(),
            })
        }),
        Err(error) => Outcome::Failed {
            message: error.to_string(),
        },
    };
    if !sink.has_ended() {
        let _ = sink.state(Event::StudyEnded {
            outcome: outcome.clone(),
        });
    }
    outcome
}
