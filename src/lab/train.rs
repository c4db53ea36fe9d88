//! The training loop, readable in one go; what is learnt is handed in as an [`Objective`].
//!
//! An epoch is: a seeded shuffle of the training images, batches of them (the last one may be smaller), an optimizer
//! step for each, then the validation images in evaluation mode. Nothing here looks at the test images.
//!
//! With an adversarial recipe the network learns on what an attack makes of each batch: crafted in evaluation mode, as
//! whoever attacks the network in use would, then learnt on in training mode, so that batch normalizations measure the
//! attacked images. The validation images stay clean.

use crate::event::{Cost, Event, Tally, Warning};
use crate::lab::augmentation::picks;
use crate::lab::context::{Context, Halfway, HalfwayMut, Observer, Restored};
use crate::lab::data::Examples;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::outputs;
use crate::lab::statistics::wilson;
use crate::lab::subject::Data;
use crate::measurement::Score;
use crate::nn::loss::{self, KlDirection};
use crate::nn::network::{Network, Workspace};
use crate::nn::op::gather::Source;
use crate::nn::rng::Rng;
use feature_matching::FeatureMatching;
use step::{Batch, Machinery, Part};

mod feature_matching;
mod recipe;
mod step;

pub use feature_matching::{FeatureLoss, Features, Pair, pairs};
pub use recipe::{ATTACK_STEP_SIZE, ATTACK_STEPS, EPSILON, KNOBS, Recipe, attack};

/// Steps between two reports of the loss. A count and no clock, so that two runs report alike.
const REPORT_EVERY: u64 = 10;

/// What is learnt.
pub enum Objective<'a> {
    /// The labels: cross-entropy.
    Classify,
    /// The labels and a teacher's outputs: (1 - a) CE + a T^2 KL.
    Distill(Lesson<'a>),
}

/// Learning from a teacher, who always sees the clean images.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    pub teacher: Teacher<'a>,
    pub temperature: f64,
    pub teacher_weight: f64,
    pub direction: KlDirection,
    /// Feature maps that are brought together, too.
    pub features: Option<Features>,
    /// With an adversarial recipe: whether the labels are learnt on clean images, and only the teacher's outputs on
    /// attacked ones (Goldblum et al. 2020, arXiv:1905.09747).
    pub labels_on_clean: bool,
}

/// Whose outputs are learnt.
#[derive(Clone, Copy, Debug)]
pub enum Teacher<'a> {
    Network(&'a Network),
    /// Nobody's: labels of which this share is spread over all classes, in a teacher's place.
    SmoothedLabels(f64),
}

impl<'a> Lesson<'a> {
    /// The network that has to be asked, if any.
    fn asked(&self) -> Option<&'a Network> {
        match self.teacher {
            Teacher::Network(network) if self.teacher_weight > 0.0 || self.features.is_some() => {
                Some(network)
            }
            _ => None,
        }
    }
}

/// Where a network stands in its own life: optimizer steps and epochs behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    pub step: u64,
    pub epoch: u32,
}

/// What came out of a training, beside the network itself.
pub struct Trained {
    /// The network at its epoch of lowest validation loss.
    pub best: Network,
    pub cost: Cost,
    pub life: Life,
}

/// What is done to a network before each optimizer step: it is told the steps done and those in total, and says whether
/// the network is now what it shall be in the end, as a gradual pruning is once it prunes no more.
///
/// It must depend on what it is told and on the network alone: a training that is restored from a checkpoint has its
/// weights, masks and levels from there, and goes on with the next step. It may not add or remove parameters.
pub type Adjust<'a> = dyn Fn(&mut Network, u64, u64) -> Result<bool> + 'a;

/// Everything that a training needs beside the network.
pub struct Training<'a> {
    pub data: &'a Data,
    pub recipe: &'a Recipe,
    pub objective: Objective<'a>,
    /// Seed of the order in which images are seen.
    pub order_seed: u64,
    pub life: Life,
    /// While it says that the network is not yet what it shall be, the last epoch counts as the best one.
    pub adjust: Option<&'a Adjust<'a>>,
}

impl Training<'_> {
    /// Gradient evaluations for each image and step: those of the attack, and the step's own.
    pub fn evaluations(&self) -> u64 {
        let passes = match &self.objective {
            Objective::Distill(lesson) if self.is_split(lesson) => 2,
            _ => 1,
        };
        passes + self.recipe.attack_evaluations()
    }

    /// Whether labels and teacher are learnt on two kinds of images.
    fn is_split(&self, lesson: &Lesson<'_>) -> bool {
        lesson.labels_on_clean
            && self.recipe.adversarial.is_some()
            && lesson.teacher_weight > 0.0
            && lesson.teacher_weight < 1.0
    }
}

/// The feature maps that are brought together, where some are.
fn matching(network: &Network, training: &Training<'_>) -> Result<Option<FeatureMatching>> {
    let Objective::Distill(lesson) = &training.objective else {
        return Ok(None);
    };
    let (Some(features), Some(teacher)) = (lesson.features, lesson.asked()) else {
        return Ok(None);
    };
    FeatureMatching::new(features, network, teacher, training.order_seed).map(Some)
}

/// The loss over the steps since the last report.
#[derive(Default)]
struct Since {
    losses: Vec<f64>,
    images: u64,
}

impl Since {
    fn report(&mut self, life: Life, learning_rate: f64, cx: &mut Context<'_>) -> Result<()> {
        if self.losses.is_empty() {
            return Ok(());
        }
        let losses = std::mem::take(&mut self.losses);
        cx.emit(Event::StepsTrained {
            network: cx.network,
            stage: cx.stage,
            step: life.step,
            count: losses.len() as u32,
            images: std::mem::take(&mut self.images),
            loss_mean: short(losses.iter().sum::<f64>() / losses.len() as f64),
            loss_min: short(losses.iter().copied().fold(f64::INFINITY, f64::min)),
            loss_max: short(losses.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            learning_rate: short(learning_rate),
        })
    }
}

/// Trains `network` in place.
///
/// # Errors
/// [`Error::Diverged`] when the loss is not finite, [`Error::Impossible`] when the batch is larger than the data,
/// [`Error::Cancelled`] when the user stopped it.
pub fn train(
    network: &mut Network,
    training: &Training<'_>,
    observer: &mut dyn Observer,
    cx: &mut Context<'_>,
) -> Result<Trained> {
    let Training {
        data,
        recipe,
        order_seed,
        ..
    } = training;
    let images = data.split.train.len();
    if recipe.batch > images {
        let problem = format!(
            "a batch of {} is larger than the {images} training images",
            recipe.batch
        );
        return Err(Error::Impossible {
            knob: "batch".into(),
            problem,
        });
    }
    let validation = data.train.select(&data.split.validation);
    let total = recipe.steps(images);
    let device = network.device();
    let mut machinery = Machinery::new(
        recipe.optimizer(network.parameters())?,
        matching(network, training)?,
        match &training.objective {
            Objective::Distill(lesson) => lesson.asked(),
            Objective::Classify => None,
        },
    );
    let evaluations = training.evaluations();
    let source = Source::new(data.train.shape, &data.train.images, &device)?;
    loss::forgive(&device)?;
    let mut best = network.duplicate()?;
    let mut best_loss = f64::INFINITY;
    let mut life = training.life;
    let mut cost = Cost::default();
    let mut first = 0;
    let mut waited = 0;
    let mut into = HalfwayMut {
        network,
        best: &mut best,
        optimizer: &mut machinery.optimizer,
    };
    if let Some(Restored {
        epochs,
        best_loss: loss,
        facts,
    }) = observer.restore(&mut into)?
    {
        // The epochs that are done say again what they said then.
        for fact in facts {
            let ended = if let Event::EpochEnded { epoch, best, .. } = fact {
                waited = if best { 0 } else { waited + 1 };
                Some(epoch)
            } else {
                None
            };
            cx.emit(fact)?;
            if let Some(epoch) = ended {
                observer.epoch_restored(epoch, cx)?;
            }
        }
        let steps = images.div_ceil(recipe.batch) as u64 * u64::from(epochs);
        let seen = u64::from(epochs) * images as u64;
        cost = Cost {
            steps,
            images: seen,
            gradients: evaluations * seen,
            ..Cost::default()
        };
        life = Life {
            step: life.step + steps,
            epoch: life.epoch + epochs,
        };
        (first, best_loss) = (epochs, loss);
    }
    for epoch in first..recipe.epochs {
        if recipe.patience > 0 && waited >= recipe.patience {
            cx.emit(Event::StoppedEarly {
                network: cx.network,
                stage: cx.stage,
                epoch: life.epoch,
                waited,
            })?;
            break;
        }
        let mut order = data.split.train.clone();
        Rng::stream(
            *order_seed,
            "order",
            &[u64::from(cx.stage), u64::from(epoch)],
        )
        .shuffle(&mut order);
        let mut since = Since::default();
        let (mut loss_sum, mut correct) = (0.0, 0);
        let mut waiting: Vec<(u64, Vec<Part>)> = Vec::new();
        let mut is_settled = true;
        for indices in order.chunks(recipe.batch) {
            let done = cost.steps;
            if let Some(adjust) = training.adjust {
                is_settled = adjust(network, done, total)?;
            }
            let learning_rate = recipe.schedule.rate(recipe.learning_rate, done, total);
            let momentum = recipe.momentum_at(done, total);
            machinery.optimizer.set_momentum(momentum);
            let place = [u64::from(cx.stage), u64::from(epoch)];
            let labels = indices.iter().map(|&index| data.train.labels[index]);
            let batch = Batch {
                source: &source,
                picks: picks(indices, recipe.augmentation, *order_seed, &place),
                labels: labels.collect(),
                seed: *order_seed,
                place,
            };
            let parts = machinery.parts;
            let found = machinery.step(network, training, &batch, (learning_rate, momentum))?;
            if machinery.parts != parts {
                let message = format!(
                    "the device is out of memory: batches of {} go through in {} parts, each with statistics of its own",
                    recipe.batch, machinery.parts
                );
                cx.warn(Warning::Other { message })?;
            }
            life.step += 1;
            let count = indices.len() as u64;
            cost = Cost {
                steps: done + 1,
                images: cost.images + count,
                gradients: cost.gradients + evaluations * count,
                ..Cost::default()
            };
            since.images += count;
            // What a device finds is asked for only when it is said: asking waits for all steps so far.
            let says = life.step == 1 || life.step.is_multiple_of(REPORT_EVERY);
            let is_known = found.iter().all(Part::is_known);
            waiting.push((life.step, found));
            let asked = |parts: &Vec<Part>| parts.iter().map(|part| part.asked).sum::<usize>();
            let unread: usize = waiting.iter().map(|(_, parts)| asked(parts)).sum();
            let next = waiting.last().map_or(0, |(_, parts)| asked(parts));
            if is_known
                || says
                || unread + next > loss::MOST_UNREAD / 2
                || cost
                    .steps
                    .is_multiple_of(images.div_ceil(recipe.batch) as u64)
            {
                for (step, parts) in waiting.drain(..) {
                    let (mean, images, hits) = step::together(&parts)?;
                    loss_sum += mean * images as f64;
                    correct += hits;
                    since.losses.push(mean);
                    if !mean.is_finite() {
                        loss::forgive(&device)?;
                        since.report(life, learning_rate, cx)?;
                        cx.warn(Warning::LossNotFinite { step })?;
                        return Err(Error::Diverged { step });
                    }
                }
            }
            if says {
                since.report(life, learning_rate, cx)?;
            } else {
                cx.checkpoint()?;
            }
        }
        since.report(
            life,
            recipe
                .schedule
                .rate(recipe.learning_rate, cost.steps.saturating_sub(1), total),
            cx,
        )?;
        life.epoch += 1;
        let tally = validate(network, &validation, &mut machinery.workspace, cx)?;
        let is_best = !is_settled || tally.loss.0 < best_loss;
        waited = if is_best { 0 } else { waited + 1 };
        if is_best {
            best_loss = if is_settled {
                tally.loss.0
            } else {
                f64::INFINITY
            };
            best = network.duplicate()?;
        }
        cx.emit(Event::EpochEnded {
            network: cx.network,
            stage: cx.stage,
            epoch: life.epoch,
            step: life.step,
            train: Tally {
                loss: short(loss_sum / images as f64),
                correct,
                n: images as u64,
            },
            validation: Tally {
                loss: short(tally.loss.0),
                ..tally
            },
            best: is_best,
        })?;
        observer.epoch_ended(network, life.epoch, cx)?;
        if epoch + 1 == recipe.epochs
            && let Some(message) = not_learned(&tally, data.classes.len(), recipe)
        {
            cx.warn(Warning::Other { message })?;
        }
        let at = Halfway {
            network,
            best: &best,
            best_loss,
            optimizer: &machinery.optimizer,
            epochs: epoch + 1,
        };
        observer.save(&at, cx.kept_so_far())?;
    }
    Ok(Trained { best, cost, life })
}

/// What is said of a training that taught nothing: its last validation accuracy is certainly below twice chance, and not
/// certainly above it. Attacks with a large budget from the first step on do this.
fn not_learned(tally: &Tally, classes: usize, recipe: &Recipe) -> Option<String> {
    let (low, high) = wilson(tally.correct, tally.n);
    let chance = 1.0 / classes as f64;
    let remedy = match recipe.adversarial {
        Some(_) => {
            "a smaller epsilon, a lower learning-rate, or weights that know the clean images first"
        }
        None => "a lower learning-rate, or more epochs",
    };
    (low <= chance && high < 2.0 * chance).then(|| {
        format!(
            "the training taught nothing: {:.1} % of {} validation images are right, where guessing has {:.1} %; {remedy} may help",
            100.0 * tally.correct as f64 / tally.n as f64,
            tally.n,
            100.0 * chance
        )
    })
}

fn short(value: f64) -> Score {
    Score::short(value as f32)
}

/// Loss and hits on the validation images, in evaluation mode.
fn validate(
    network: &Network,
    validation: &Examples,
    workspace: &mut Workspace,
    cx: &mut Context<'_>,
) -> Result<Tally> {
    Ok(outputs(network, validation, workspace, &mut || cx.checkpoint())?.tally(&validation.labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Setting;

    #[test]
    fn a_training_that_taught_nothing_says_so() {
        let recipe = Recipe::new(&Setting::default());
        let said = |correct, n| {
            let tally = Tally {
                loss: Score(2.3),
                correct,
                n,
            };
            not_learned(&tally, 10, &recipe)
        };
        let words = said(205, 2000).unwrap();
        assert!(
            words.contains("10.2 % of 2000 validation images"),
            "{words}"
        );
        assert!(words.contains("guessing has 10.0 %"), "{words}");
        // Better than guessing for certain, and too few images to tell.
        assert_eq!(said(300, 2000), None);
        assert_eq!(said(2, 20), None);
    }
}
