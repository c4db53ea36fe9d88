//! A network's softmax outputs on some images, always computed in evaluation mode.

use candle_core::{Device, Tensor};

use crate::event::Tally;
use crate::lab::data::Examples;
use crate::lab::error::Result;
use crate::measurement::Score;
use crate::nn::device;
use crate::nn::loss::softmax_rows;
use crate::nn::network::{Frozen, Network, Workspace};
use crate::nn::op::gather::{Pick, Source};
use crate::nn::op::values;

/// Images that go through a network at once when it is only evaluated.
pub const EVALUATION_BATCH: usize = 250;

/// Softmax outputs on `n` images, `n` rows of `K` probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    pub classes: usize,
    pub probabilities: Vec<f32>,
}

impl Outputs {
    /// How many images.
    pub fn len(&self) -> usize {
        self.probabilities.len() / self.classes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.probabilities.is_empty()
    }

    /// The probabilities of one image.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.probabilities[index * self.classes..(index + 1) * self.classes]
    }

    /// The class of the largest probability of each image; the first one where several are largest.
    pub fn predictions(&self) -> Vec<u32> {
        self.probabilities
            .chunks_exact(self.classes)
            .map(|row| {
                let mut best = 0;
                for (class, probability) in row.iter().enumerate() {
                    if *probability > row[best] {
                        best = class;
                    }
                }
                best as u32
            })
            .collect()
    }

    /// Which predictions are right.
    pub fn right(&self, labels: &[u32]) -> Vec<bool> {
        let pairs = self.predictions().into_iter().zip(labels);
        pairs
            .map(|(prediction, label)| prediction == *label)
            .collect()
    }

    /// How many predictions are right.
    pub fn correct(&self, labels: &[u32]) -> u64 {
        self.right(labels)
            .into_iter()
            .filter(|right| *right)
            .count() as u64
    }

    /// Mean cross-entropy and hits.
    pub fn tally(&self, labels: &[u32]) -> Tally {
        let loss: f64 = labels
            .iter()
            .enumerate()
            // The smallest positive f32 keeps an underflowed probability from becoming an infinite loss.
            .map(|(index, &label)| {
                -f64::from(self.row(index)[label as usize].max(f32::MIN_POSITIVE)).ln()
            })
            .sum();
        Tally {
            loss: Score(loss / labels.len().max(1) as f64),
            correct: self.correct(labels),
            n: labels.len() as u64,
        }
    }
}

/// The images of `indices` as a tensor (B, C, H, W) of values in [0, 1].
///
/// # Errors
/// candle's, when memory runs out.
pub fn batch(examples: &Examples, indices: &[usize]) -> Result<Tensor> {
    let picks: Vec<Pick> = indices.iter().copied().map(Pick::plain).collect();
    let source = Source::new(examples.shape, &examples.images, &Device::Cpu)?;
    Ok(source.batch(&picks)?)
}

/// The network's logits on all the examples, row by row.
///
/// # Errors
/// candle's; and whatever `between` says between two batches, so that a long evaluation can be stopped.
pub fn logits(
    network: &Network,
    examples: &Examples,
    workspace: &mut Workspace,
    between: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<f32>> {
    let all: Vec<Pick> = (0..examples.len()).map(Pick::plain).collect();
    let source = Source::new(examples.shape, &examples.images, &network.device())?;
    let mut rows = Vec::with_capacity(examples.len() * network.classes());
    let mut each = EVALUATION_BATCH;
    let mut left = &all[..];
    let mut frozen = Frozen::new(network, std::mem::take(workspace));
    while !left.is_empty() {
        let (picks, later) = left.split_at(each.min(left.len()));
        match of_batch(&mut frozen, &source, picks) {
            Ok(of_batch) => rows.extend(of_batch),
            // Images do not see each other here: fewer at a time give the same.
            Err(error) if device::is_out_of_memory(&error) && each > 1 => {
                each /= 2;
                frozen = Frozen::new(network, Workspace::default());
                device::release(&network.device())?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        left = later;
        between()?;
    }
    *workspace = frozen.thaw();
    Ok(rows)
}

fn of_batch(
    network: &mut Frozen<'_>,
    source: &Source<'_>,
    picks: &[Pick],
) -> candle_core::Result<Vec<f32>> {
    let images = source.batch(picks)?;
    values(&network.logits(&images)?)
}

/// The network's softmax outputs on all the examples.
///
/// # Errors
/// As [`logits`].
pub fn outputs(
    network: &Network,
    examples: &Examples,
    workspace: &mut Workspace,
    between: &mut dyn FnMut() -> Result<()>,
) -> Result<Outputs> {
    let rows = logits(network, examples, workspace, between)?;
    let classes = network.classes();
    Ok(Outputs {
        classes,
        probabilities: softmax_rows(&rows, classes),
    })
}
