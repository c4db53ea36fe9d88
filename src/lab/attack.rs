//! Attacks: images are changed within a budget so that a network errs; pixels stay in [0, 1] and the normalization is
//! the network's own first layer.
//!
//! An attack takes a batch in pixels of [0, 1] and asks a [`Victim`], a network in evaluation mode, for logits and for
//! gradients with respect to the pixels. Chance comes from a stream for each image, so that batching and threads change
//! nothing. Images that are done leave the batch. What an attack hands back is held against its budget and against the
//! pixels' range before anything is concluded from it ([`strike`]).

use crate::catalog::Entry;
use crate::lab::data::Examples;
use crate::lab::error::{Error, Result};
use crate::nn::ImageShape;
use crate::nn::op::fake_quant::Estimator;
use crate::nn::rng::Rng;

mod apgd_ce;
mod apgd_dlr;
pub mod auto_pgd;
mod autoattack;
pub mod ball;
pub mod boundary;
pub mod budgets;
mod bytes;
mod carlini_wagner;
mod deepfool;
mod fab;
mod fgsm;
mod knobs;
pub mod loss;
pub mod pgd;
mod salt_and_pepper;
mod square;
mod uniform_noise;
mod victim;

pub use ball::Norm;
pub use boundary::{Boundary, nearest};
pub use bytes::{rounded, strike_bytes};
pub use carlini_wagner::{from_tanh, to_tanh};
pub use loss::Loss;
pub use square::side;
pub use victim::{Direction, Slopes, Victim};

/// Every attack, in the order on screen.
pub const ALL: &[Entry<dyn Attack>] = &[
    fgsm::ENTRY,
    pgd::ENTRY,
    apgd_ce::ENTRY,
    apgd_dlr::ENTRY,
    fab::ENTRY,
    square::ENTRY,
    autoattack::ENTRY,
    deepfool::ENTRY,
    carlini_wagner::ENTRY,
    salt_and_pepper::ENTRY,
    uniform_noise::ENTRY,
];

/// The attack of that id.
///
/// # Errors
/// When it is not in the table.
pub fn find(id: &str) -> Result<&'static Entry<dyn Attack>> {
    let mut all = ALL.iter();
    all.find(|entry| entry.info.id == id)
        .ok_or_else(|| Error::Internal(format!("attack {id} is not in the table")))
}

/// An attack.
pub trait Attack: Send + Sync {
    /// By what a budget and a distance are measured.
    fn norm(&self) -> Norm;

    /// Whether it looks for the nearest image that is misclassified, whatever the budget.
    fn is_minimal(&self) -> bool {
        false
    }

    /// Whether what it finds within a budget counts for every larger one. Not where the number is that of a formula,
    /// like a single step's.
    fn carries(&self) -> bool {
        true
    }

    /// Budgets are given in other units and the pixels' range is left, as in a document: how many pixels' ranges a unit is.
    fn published(&self) -> Option<f64> {
        None
    }

    /// How many times a data set's usual budget is what this attack commonly needs: more where it changes few pixels by
    /// much.
    fn reach(&self) -> f64 {
        1.0
    }

    /// Knobs that count for nothing as the others stand; one of them that is turned is refused.
    fn fixed(&self) -> &'static [&'static str] {
        &[]
    }

    /// How far it can go at all, in the units of its budgets, where that is not as far as they say.
    fn farthest(&self) -> Option<f64> {
        None
    }

    /// What it leaves out or does otherwise on so many classes, in words.
    fn remark(&self, _classes: usize) -> Option<String> {
        None
    }

    /// How gradients go back through rounded activations; nothing where the attack takes none.
    fn gradient(&self) -> Option<Estimator> {
        None
    }

    /// The fewest classes that its loss can tell apart.
    fn fewest_classes(&self) -> usize {
        2
    }

    /// Forward passes for an image that holds, a backward pass counted as one more.
    fn passes(&self, classes: usize) -> u64;

    /// Images near these on which the network errs, where it found such; any others in the budget elsewhere.
    ///
    /// # Errors
    /// candle's, and whatever the victim says between batches.
    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>>;
}

/// Images under attack: pixels of [0, 1], image after image as (C, H, W).
#[derive(Clone, Debug)]
pub struct Images {
    pub shape: ImageShape,
    pub pixels: Vec<f32>,
    pub labels: Vec<u32>,
    /// Each image's number among those that are attacked: what its chance hangs on.
    pub ids: Vec<u64>,
    /// What all chance hangs on.
    pub seed: u64,
}

impl Images {
    /// The examples of `indices`; an image's number is its place in `indices`.
    pub fn of(examples: &Examples, indices: &[usize], seed: u64) -> Self {
        let each = examples.shape.values();
        let bytes = indices
            .iter()
            .flat_map(|at| &examples.images[at * each..(at + 1) * each]);
        Self {
            shape: examples.shape,
            pixels: bytes.map(|byte| f32::from(*byte) / 255.0).collect(),
            labels: indices.iter().map(|at| examples.labels[*at]).collect(),
            ids: (0..indices.len() as u64).collect(),
            seed,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values of one image.
    pub fn each(&self) -> usize {
        self.shape.values()
    }

    /// The pixels of one image.
    pub fn image(&self, at: usize) -> &[f32] {
        &self.pixels[at * self.each()..(at + 1) * self.each()]
    }

    /// Those at these places, with their own numbers.
    pub fn select(&self, places: &[usize]) -> Self {
        Self {
            shape: self.shape,
            pixels: places
                .iter()
                .flat_map(|at| self.image(*at))
                .copied()
                .collect(),
            labels: places.iter().map(|at| self.labels[*at]).collect(),
            ids: places.iter().map(|at| self.ids[*at]).collect(),
            seed: self.seed,
        }
    }

    /// The stream of chance of an image for an attack's restart.
    pub(crate) fn stream(&self, attack: &str, at: usize, restart: u64) -> Rng {
        Rng::stream(self.seed, attack, &[self.ids[at], restart])
    }
}

/// What came of an attack on images.
#[derive(Clone, Debug)]
pub struct Struck {
    /// As the attack left them.
    pub pixels: Vec<f32>,
    /// Whether the network is still right on each; an image that it errs on unchanged is never one.
    pub right: Vec<bool>,
    /// The same after rounding to bytes within the budget.
    pub right_rounded: Vec<bool>,
    /// How far each was moved, by the attack's norm; 0 where the network erred unchanged, infinite where a search for the
    /// nearest found nothing.
    pub distances: Vec<f64>,
}

impl Struck {
    /// How many hold.
    pub fn robust(&self) -> u64 {
        count(&self.right)
    }
}

/// How many are true.
pub(crate) fn count(flags: &[bool]) -> u64 {
    flags.iter().filter(|flag| **flag).count() as u64
}

/// More than a budget by this, in pixels' ranges, is a fault; less is rounding.
pub const TOLERANCE: f64 = 1e-6;

/// Attacks images and looks at what came out. Only images that the network has right are attacked.
///
/// # Errors
/// [`Error::BudgetExceeded`] where an image was moved farther than it may be, or out of the pixels' range.
pub fn strike(
    attack: &dyn Attack,
    id: &str,
    victim: &mut Victim<'_>,
    images: &Images,
    epsilon: f64,
) -> Result<Struck> {
    let clean = victim.right(&images.pixels, &images.labels)?;
    strike_right(attack, id, victim, images, &clean, epsilon)
}

/// Likewise where it is known which images the network has right, or which of them are worth an attack.
///
/// # Errors
/// As [`strike`].
pub fn strike_right(
    attack: &dyn Attack,
    id: &str,
    victim: &mut Victim<'_>,
    images: &Images,
    clean: &[bool],
    epsilon: f64,
) -> Result<Struck> {
    let places: Vec<usize> = (0..images.len()).filter(|at| clean[*at]).collect();
    let mut struck = Struck {
        pixels: images.pixels.clone(),
        right: vec![false; images.len()],
        right_rounded: vec![false; images.len()],
        distances: vec![0.0; images.len()],
    };
    if places.is_empty() {
        return Ok(struck);
    }
    let attackable = images.select(&places);
    // No budget, no change: not even what rounding would make of it.
    let pixels = if epsilon == 0.0 && !attack.is_minimal() {
        attackable.pixels.clone()
    } else {
        attack.craft(victim, &attackable, epsilon)?
    };
    verify(attack, id, &attackable, &pixels, epsilon)?;
    let bound = if attack.is_minimal() {
        f64::INFINITY
    } else {
        epsilon * attack.published().unwrap_or(1.0)
    };
    let bytes = rounded(&attackable, &pixels, attack.norm(), bound);
    let right = victim.right(&pixels, &attackable.labels)?;
    let right_rounded = victim.right(&bytes, &attackable.labels)?;
    let each = images.each();
    for (row, at) in places.iter().enumerate() {
        let of = row * each..(row + 1) * each;
        let distance = attack
            .norm()
            .distance(&attackable.pixels[of.clone()], &pixels[of.clone()]);
        struck.pixels[at * each..(at + 1) * each].copy_from_slice(&pixels[of]);
        struck.right[*at] = right[row];
        struck.right_rounded[*at] = right_rounded[row];
        struck.distances[*at] = if attack.is_minimal() && right[row] {
            f64::INFINITY
        } else {
            distance
        };
    }
    Ok(struck)
}

/// Holds what an attack made against its budget and the pixels' range.
fn verify(
    attack: &dyn Attack,
    id: &str,
    images: &Images,
    pixels: &[f32],
    epsilon: f64,
) -> Result<()> {
    let each = images.each();
    let bound = epsilon * attack.published().unwrap_or(1.0);
    let fault = |at: usize, distance: f64| Error::BudgetExceeded {
        attack: id.to_owned(),
        image: images.ids[at],
        distance,
        budget: bound,
    };
    for (at, (clean, moved)) in images
        .pixels
        .chunks_exact(each)
        .zip(pixels.chunks_exact(each))
        .enumerate()
    {
        let distance = attack.norm().distance(clean, moved);
        let keeps = attack.is_minimal() || distance <= bound + TOLERANCE * bound.max(1.0);
        let in_range =
            attack.published().is_some() || moved.iter().all(|pixel| (0.0..=1.0).contains(pixel));
        // What is no number is neither in range nor near.
        if !(keeps && in_range && distance.is_finite()) {
            return Err(fault(at, distance));
        }
    }
    Ok(())
}

/// The pixels of several images, one after another.
fn joined<'p>(rows: impl Iterator<Item = &'p [f32]>) -> Vec<f32> {
    let mut all = Vec::new();
    for row in rows {
        all.extend_from_slice(row);
    }
    all
}

/// Whether the label's logit is the highest, the first of equals.
pub(crate) fn is_right(logits: &[f32], label: u32) -> bool {
    loss::highest(logits) == label as usize
}
