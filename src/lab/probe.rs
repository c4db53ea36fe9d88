//! Probes: what a network is measured by. They return shapes and numbers with their doubt, and draw nothing.

use crate::catalog::Entry;
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::subject::Subject;

/// How much a probe costs, and so when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After every stage: it needs the stored outputs alone, or the weights.
    EveryStage,
    /// When the network is finished.
    AtTheEnd,
}

/// A probe.
pub trait Probe {
    /// When it is used.
    fn when(&self) -> When;

    /// How many parts its work has, for the progress of a stage that measures.
    fn parts(&self, subject: &Subject<'_>) -> u64;

    /// Measures the subject's network and states each finding through the context as soon as it stands.
    ///
    /// `stage` is the stage of the network's plan after which it is measured.
    ///
    /// # Errors
    /// When it cannot be measured, or the user stopped it.
    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()>;
}

/// Every probe, in the order on screen.
pub const ALL: &[Entry<dyn Probe>] = &[];
