//! DeepFool: step after step to the nearest boundary, each linear round where it stands, until it is crossed.
//!
//! l = argmin_k |f_k| / ‖w_k‖ over the classes of the highest logits of the clean image, r = |f_l| w_l / ‖w_l‖²,
//! x_{i+1} = clamp(x_0 + 1.02 Σ r, 0, 1); at most 50 steps, 10 classes. Moosavi-Dezfooli et al. 2016, arXiv:1511.04599;
//! each step is 1e-4 longer than to the boundary, as in the authors' code and in foolbox.
//! Images are (B, C, H, W) in [0, 1]; a distance is ‖x' - x‖₂ over all values.

use rayon::prelude::*;

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::boundary::{Boundary, nearest};
use crate::lab::attack::loss::falling;
use crate::lab::attack::{Attack, Images, Victim, is_right, joined, knobs};
use crate::lab::error::Result;
use crate::nn::op::fake_quant::Estimator;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("deepfool"),
        title: text("DeepFool"),
        summary: text(
            "Steps to the nearest boundary until it is crossed: how far away the nearest error is, at most.",
        ),
        reference: text("arXiv:1511.04599"),
        family: text("minimal"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(DeepFool {
            steps: knobs::whole(setting, "steps"),
            overshoot: setting.real("overshoot"),
            candidates: knobs::whole(setting, "candidates") as usize,
            gradient: knobs::gradient(setting),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(500),
    knobs::steps(50),
    Knob {
        id: text("overshoot"),
        title: text("overshoot"),
        summary: text("How much farther than to the boundary it goes, as a share."),
        range: Range::Real {
            least: 0.0,
            most: 1.0,
            step: 0.01,
            default: 0.02,
        },
    },
    Knob {
        id: text("candidates"),
        title: text("candidates"),
        summary: text(
            "Classes that are looked at, the label's included: those of the highest logits.",
        ),
        range: Range::Integer {
            least: 2,
            most: 1000,
            default: 10,
        },
    },
    knobs::GRADIENT,
];

/// Beyond the boundary, so that a step never ends on it.
const BEYOND: f64 = 1e-4;

struct DeepFool {
    steps: u32,
    overshoot: f64,
    candidates: usize,
    gradient: Estimator,
}

struct Walker<'i> {
    at: usize,
    clean: &'i [f32],
    x: Vec<f32>,
    way: Vec<f32>,
    /// Other classes, the highest logits first.
    others: Vec<usize>,
}

impl Attack for DeepFool {
    fn norm(&self) -> Norm {
        Norm::L2
    }

    fn is_minimal(&self) -> bool {
        true
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn passes(&self, classes: usize) -> u64 {
        // Most images need a few steps.
        5 * self.candidates.min(classes) as u64
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, _: f64) -> Result<Vec<f32>> {
        victim.through(self.gradient);
        let (each, classes) = (images.each(), victim.classes());
        let mut found = images.pixels.clone();
        let logits = victim.logits(&images.pixels)?;
        let others = self.candidates.min(classes) - 1;
        let mut walkers: Vec<Walker<'_>> = logits
            .chunks_exact(classes)
            .enumerate()
            .map(|(at, logits)| Walker {
                at,
                clean: images.image(at),
                x: images.image(at).to_vec(),
                way: vec![0.0; each],
                others: falling(logits)
                    .into_iter()
                    .filter(|class| *class != images.labels[at] as usize)
                    .take(others)
                    .collect(),
            })
            .collect();
        for _ in 0..self.steps {
            let x = joined(walkers.iter().map(|walker| &*walker.x));
            let slopes = victim.slopes(&x, others, &mut |row, which, _, d| {
                let walker = &walkers[row];
                d[walker.others[which]] = 1.0;
                d[images.labels[walker.at] as usize] = -1.0;
            })?;
            walkers
                .par_iter_mut()
                .enumerate()
                .for_each(|(row, walker)| {
                    let logits = &slopes.logits[row * classes..(row + 1) * classes];
                    let label = images.labels[walker.at];
                    if !is_right(logits, label) {
                        return;
                    }
                    let own = logits[label as usize];
                    let boundaries: Vec<Boundary<'_>> = walker
                        .others
                        .iter()
                        .zip(&slopes.gradients)
                        .map(|(class, gradients)| Boundary {
                            gap: f64::from(logits[*class]) - f64::from(own),
                            normal: &gradients[row * each..(row + 1) * each],
                        })
                        .collect();
                    let step = boundaries[nearest(&boundaries, Norm::L2)].step(BEYOND);
                    let far = 1.0 + self.overshoot as f32;
                    for (way, step) in walker.way.iter_mut().zip(step) {
                        *way += step;
                    }
                    for ((x, clean), way) in walker.x.iter_mut().zip(walker.clean).zip(&walker.way)
                    {
                        *x = (clean + far * way).clamp(0.0, 1.0);
                    }
                });
            walkers = walkers
                .into_iter()
                .zip(slopes.logits.chunks_exact(classes))
                .filter_map(|(walker, logits)| {
                    if is_right(logits, images.labels[walker.at]) {
                        return Some(walker);
                    }
                    found[walker.at * each..(walker.at + 1) * each].copy_from_slice(&walker.x);
                    None
                })
                .collect();
            if walkers.is_empty() {
                break;
            }
        }
        for walker in &walkers {
            found[walker.at * each..(walker.at + 1) * each].copy_from_slice(&walker.x);
        }
        Ok(found)
    }
}
