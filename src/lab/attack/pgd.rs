//! Projected gradient descent: many small steps along the signs of the loss's gradient, each back into the budget.
//!
//! x_0 = x, or clamp(x + u, 0, 1) with u uniform in [-ε, ε]; x_{i+1} = clamp(x + clamp(x_i + α sign(∇CE) - x, -ε, ε), 0, 1).
//! Madry et al. 2018, arXiv:1706.06083; L-infinity, in pixels. Images are (B, C, H, W) in [0, 1].
//! The network is asked in evaluation mode: its running statistics are used and not moved. Where a network has levels,
//! the gradient is the straight-through estimator's.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::loss::Loss;
use crate::lab::attack::{Attack, Images, Victim, is_right, joined, knobs};
use crate::lab::error::Result as LabResult;
use crate::nn::Result;
use crate::nn::loss::{Labels, Objective, of_step};
use crate::nn::network::{Frozen, Keep, Network, Wanted, Workspace};
use crate::nn::op::add::sum_up;
use crate::nn::op::fake_quant::Estimator;
use crate::nn::op::sign_step::{self, Lengths};
use crate::nn::op::{tensor, to_device};
use crate::nn::rng::Rng;
use crate::spec::FIXED_AS_PUBLISHED;

pub const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("pgd"),
        title: text("PGD"),
        summary: text(
            "Many small steps along the gradient, each back into the budget; from several points, if asked.",
        ),
        reference: text("arXiv:1706.06083"),
        family: text("gradient"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(Projected {
            norm: knobs::norm(setting),
            steps: knobs::whole(setting, "steps"),
            step: setting.real("step-size"),
            restarts: knobs::whole(setting, "restarts"),
            start: match setting.choice("start") {
                "image" => Start::Image,
                _ => Start::Uniform,
            },
            published: setting.choice("space") == "published",
            gradient: knobs::gradient(setting),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(1000),
    knobs::NORM,
    knobs::steps(20),
    Knob {
        id: text("step-size"),
        title: text("step size"),
        summary: text("Length of one step, as a share of the budget."),
        range: Range::Real {
            least: 0.001,
            most: 10.0,
            step: 0.01,
            default: 0.1,
        },
    },
    knobs::RESTARTS,
    Knob {
        id: text("start"),
        title: text("start"),
        summary: text("Whether it begins anywhere in its budget or at the image itself."),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("uniform"), text("image")]),
            default: text("uniform"),
        },
    },
    Knob {
        id: text("space"),
        title: text("space"),
        summary: text(
            "pixel: budgets are in pixels, which stay in 0 to 1. published: as in arXiv:2403.09441, budgets and steps of 0.01 in pixels stretched to -1 to 1, 20 steps from the image itself, and no pixel is kept in its range.",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("pixel"), text("published")]),
            default: text("pixel"),
        },
    },
    knobs::GRADIENT,
];

/// Pixels' ranges in a unit of the published space: its standard deviation.
const PUBLISHED_UNIT: f64 = 0.5;

/// Length of a published step, in units of that space, and how many there are.
const PUBLISHED: (f64, u32) = (0.01, 20);

/// The attack that measures.
struct Projected {
    norm: Norm,
    steps: u32,
    /// Of the budget.
    step: f64,
    restarts: u32,
    start: Start,
    published: bool,
    gradient: Estimator,
}

/// An image on its way.
struct Walker<'i> {
    at: usize,
    clean: &'i [f32],
    x: Vec<f32>,
}

impl Attack for Projected {
    fn norm(&self) -> Norm {
        self.norm
    }

    fn carries(&self) -> bool {
        !self.published
    }

    fn published(&self) -> Option<f64> {
        self.published.then_some(PUBLISHED_UNIT)
    }

    fn fixed(&self) -> &'static [&'static str] {
        if self.published {
            &FIXED_AS_PUBLISHED
        } else {
            &[]
        }
    }

    fn farthest(&self) -> Option<f64> {
        let (step, steps) = PUBLISHED;
        self.published.then_some(step * f64::from(steps))
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn passes(&self, _: usize) -> u64 {
        u64::from(self.steps) * u64::from(self.restarts) * 2
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> LabResult<Vec<f32>> {
        victim.through(self.gradient);
        if self.published {
            return self.as_published(victim, images, epsilon);
        }
        let each = images.each();
        let mut found = images.pixels.clone();
        let mut left: Vec<usize> = (0..images.len()).collect();
        for restart in 0..u64::from(self.restarts) {
            let begin = |at: &usize| {
                let clean = images.image(*at);
                let mut rng = images.stream("pgd", *at, restart);
                let x = match self.start {
                    // A second time from the image itself would be the first once more.
                    Start::Image if restart == 0 => clean.to_vec(),
                    _ => self.norm.within(clean, epsilon, &mut rng),
                };
                Walker { at: *at, clean, x }
            };
            let mut walkers: Vec<Walker<'_>> = left.par_iter().map(begin).collect();
            let is_last = restart + 1 == u64::from(self.restarts);
            for _ in 0..self.steps {
                let slopes = climb(victim, images, &walkers)?;
                let classes = victim.classes();
                walkers
                    .par_iter_mut()
                    .zip(slopes.gradients[0].par_chunks_exact(each))
                    .zip(slopes.logits.par_chunks_exact(classes))
                    .for_each(|((walker, gradient), logits)| {
                        if is_right(logits, images.labels[walker.at]) {
                            let step = self.step * epsilon;
                            walker.x =
                                self.norm
                                    .step(walker.clean, &walker.x, gradient, step, epsilon);
                        }
                    });
                let logits = &slopes.logits;
                walkers = settle(walkers, logits, classes, images, &mut found);
                if walkers.is_empty() {
                    break;
                }
            }
            for walker in &walkers {
                found[walker.at * each..(walker.at + 1) * each].copy_from_slice(&walker.x);
            }
            // Whether the last step of the last walk worked is seen by whoever looks at what comes back.
            if is_last || walkers.is_empty() {
                break;
            }
            let logits = victim.logits(&joined(walkers.iter().map(|w| &*w.x)))?;
            let classes = victim.classes();
            left = settle(walkers, &logits, classes, images, &mut found)
                .iter()
                .map(|walker| walker.at)
                .collect();
            if left.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

impl Projected {
    /// Every image all the way.
    fn as_published(
        &self,
        victim: &mut Victim<'_>,
        images: &Images,
        epsilon: f64,
    ) -> LabResult<Vec<f32>> {
        let each = images.each();
        let (step, steps) = PUBLISHED;
        let (step, epsilon) = (step * PUBLISHED_UNIT, epsilon * PUBLISHED_UNIT);
        let mut walkers: Vec<Walker<'_>> = (0..images.len())
            .map(|at| Walker {
                at,
                clean: images.image(at),
                x: images.image(at).to_vec(),
            })
            .collect();
        for _ in 0..steps {
            let slopes = climb(victim, images, &walkers)?;
            walkers
                .par_iter_mut()
                .zip(slopes.gradients[0].par_chunks_exact(each))
                .for_each(|(walker, gradient)| {
                    walker.x = self.norm.moved(&walker.x, gradient, step);
                    self.norm.pull(walker.clean, &mut walker.x, epsilon);
                });
        }
        Ok(joined(walkers.iter().map(|walker| &*walker.x)))
    }
}

/// Logits and gradients of the cross-entropy where the walkers are.
fn climb(
    victim: &mut Victim<'_>,
    images: &Images,
    walkers: &[Walker<'_>],
) -> LabResult<crate::lab::attack::Slopes> {
    let x = joined(walkers.iter().map(|walker| &*walker.x));
    victim.slopes(&x, 1, &mut |row, _, logits, d| {
        let label = images.labels[walkers[row].at] as usize;
        Loss::CrossEntropy.of(logits, label, 0, d);
    })
}

/// Those that are still right; the others stay where they are.
fn settle<'i>(
    walkers: Vec<Walker<'i>>,
    logits: &[f32],
    classes: usize,
    images: &Images,
    found: &mut [f32],
) -> Vec<Walker<'i>> {
    let each = images.each();
    walkers
        .into_iter()
        .zip(logits.chunks_exact(classes))
        .filter_map(|(walker, logits)| {
            if is_right(logits, images.labels[walker.at]) {
                return Some(walker);
            }
            found[walker.at * each..(walker.at + 1) * each].copy_from_slice(&walker.x);
            None
        })
        .collect()
}

/// Where the first step begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the image itself.
    Image,
    /// Anywhere in the budget.
    #[default]
    Uniform,
}

/// Budget and steps, in units of the pixels' range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pgd {
    pub epsilon: f64,
    /// Length of a step, α.
    pub step: f64,
    pub steps: u32,
    pub start: Start,
}

impl Pgd {
    /// Images near these on which the network's cross-entropy is larger. `streams` gives each image of the batch its own
    /// stream of chance, so that batching changes nothing; it is asked only where chance is needed.
    ///
    /// # Errors
    /// candle's, when memory runs out.
    pub fn attack(
        &self,
        network: &Network,
        images: &Tensor,
        labels: &Labels,
        streams: &mut dyn FnMut(usize) -> Rng,
        workspace: &mut Workspace,
    ) -> Result<Tensor> {
        let whole = images.dim(0)?;
        let radius = self.epsilon as f32;
        let mut attacked = images.copy()?;
        let mut next = images.copy()?;
        if self.start == Start::Uniform && self.epsilon > 0.0 {
            let each = images.elem_count() / whole;
            let streams: Vec<Rng> = (0..whole).map(&mut *streams).collect();
            let mut noise = vec![0.0; whole * each];
            let images_of = noise.par_chunks_mut(each.max(1));
            images_of.zip(streams).for_each(|(image, mut rng)| {
                image.fill_with(|| rng.between(-self.epsilon, self.epsilon) as f32);
            });
            let noise = tensor(noise, images.dims())?;
            sum_up(&attacked, &to_device(&noise, images.device())?)?;
            // A step of no length leads back into the pixels' range.
            let lengths = Lengths { step: 0.0, radius };
            sign_step::step(lengths, images, &attacked, images, &next)?;
            std::mem::swap(&mut attacked, &mut next);
        }
        let mut frozen = Frozen::new(network, std::mem::take(workspace));
        for _ in 0..self.steps {
            let step = self.step as f32;
            frozen.repeat(whole, |frozen| {
                let gradient = of_frozen(frozen, &attacked, labels)?;
                let lengths = Lengths { step, radius };
                sign_step::step(lengths, images, &attacked, &gradient, &next)
            })?;
            std::mem::swap(&mut attacked, &mut next);
        }
        *workspace = frozen.thaw();
        Ok(attacked)
    }
}

/// The gradient of the batch's mean cross-entropy with respect to the images, in evaluation mode.
///
/// # Errors
/// candle's, when memory runs out.
pub fn gradient(
    network: &Network,
    images: &Tensor,
    labels: &Labels,
    workspace: &mut Workspace,
) -> Result<Tensor> {
    let mut frozen = Frozen::new(network, std::mem::take(workspace));
    let gradient = of_frozen(&mut frozen, images, labels);
    *workspace = frozen.thaw();
    gradient
}

fn of_frozen(network: &mut Frozen<'_>, images: &Tensor, labels: &Labels) -> Result<Tensor> {
    let trace = network.trace(images, Keep::Gradients)?;
    let objective = Objective::Labels { smoothing: 0.0 };
    let loss = of_step(objective, trace.logits(), labels, images.dim(0)?)?;
    let mut gradients = trace.backward(&loss.d_logits, Wanted::INPUT)?;
    drop(trace);
    let gradient = gradients.input.take();
    network.recycle(gradients);
    gradient.ok_or_else(|| crate::nn::invalid("a backward pass gave no gradient of the images"))
}
