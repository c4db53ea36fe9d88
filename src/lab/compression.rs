//! Compressions: a network goes in, a new one comes out; the reference stays untouched, it is teacher and yardstick.

use crate::catalog::Entry;
use crate::event::Cost;
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::subject::Subject;
use crate::lab::train::{Life, Recipe};
use crate::nn::network::Network;
use crate::spec::Method;

pub mod batch_norm_recalibration;
pub mod channel_pruning;
pub mod distillation;
mod lamp;
pub mod low_rank;
pub mod magnitude_pruning;
mod matched_entropy;
pub mod post_training_quantization;
pub mod quantization_aware_training;
mod remaining;
mod schedule;
pub mod self_distillation;
mod student;
mod teaching;
pub mod tree_distillation;

/// What a compression starts from.
pub struct Start<'a> {
    /// Data, reference (the teacher), twins.
    pub subject: &'a Subject<'a>,
    /// The network to compress: a checkpoint of the reference, or what an earlier stage made of it.
    pub network: &'a Network,
    /// The reference's architecture with its knobs, for compressions that build a network of their own.
    pub architecture: &'a Method,
    /// The reference's recipe, for compressions that train.
    pub recipe: &'a Recipe,
    /// Where the network stands in its own life, for compressions that train.
    pub life: Life,
}

/// What a compression made.
pub struct Compressed {
    pub network: Network,
    /// The network at its epoch of lowest validation loss, for compressions that train.
    pub best: Option<Network>,
    /// The ratio that was asked for and the one that came out, of what the entry's `ratio_of` names.
    pub asked: Option<f64>,
    pub reached: Option<f64>,
    /// Short sentences: what is simulated and what is real.
    pub remarks: Vec<String>,
    pub cost: Cost,
    /// Where the network stands in its life now.
    pub life: Life,
}

/// A compression.
pub trait Compression {
    /// Makes a new network.
    ///
    /// # Errors
    /// When it cannot be done for this network, or the user stopped it.
    fn compress(
        &self,
        start: &Start<'_>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed>;

    /// Whether it can be done for such a network at all, which needs no weights: `network` has the shapes of `design`, the
    /// reference's architecture with its knobs.
    ///
    /// # Errors
    /// [`Error::Impossible`]: the knob, and what is allowed.
    fn suits(&self, _design: &Method, _network: &Network) -> Result<()> {
        Ok(())
    }

    /// Epochs it trains, for the progress of its stage; most do not.
    fn epochs(&self) -> u32 {
        0
    }

    /// Whether it is done in a moment, without training, so that the live knob can turn it.
    fn is_live(&self) -> bool {
        false
    }
}

/// The entry of that id.
///
/// # Errors
/// When it is not in the table, which checking excludes.
pub fn find(id: &str) -> Result<&'static Entry<dyn Compression>> {
    let entry = ALL.iter().find(|entry| entry.info.id == id);
    entry.ok_or_else(|| Error::Internal(format!("compression {id} is not in the table")))
}

/// Every compression, in the order on screen.
pub const ALL: &[Entry<dyn Compression>] = &[
    magnitude_pruning::ENTRY,
    channel_pruning::ENTRY,
    low_rank::ENTRY,
    post_training_quantization::ENTRY,
    quantization_aware_training::ENTRY,
    distillation::ENTRY,
    self_distillation::ENTRY,
    tree_distillation::ENTRY,
    batch_norm_recalibration::ENTRY,
];
