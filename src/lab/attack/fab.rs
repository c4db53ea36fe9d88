//! Fast adaptive boundary attack: the smallest change that crosses a boundary, walked along it.
//!
//! Each step takes the nearest boundary, linear round x_k; with the nearest points in the pixels' range on it, from x_k and
//! from the image itself, d_k and d_0: x_{k+1} = clamp((1 - α)(x_k + η d_k) + α (x_0 + η d_0), 0, 1), α = min(‖d_k‖ / (‖d_k‖ +
//! ‖d_0‖), 0.1), η = 1.05. Where the network errs the image is kept, if it is the nearest so far, and the walk goes back to
//! x_0 + 0.9 (x - x_0). Croce and Hein 2020, arXiv:1907.02044.
//! Towards targets only the boundary with one class is looked at, of the 9 highest other logits one after another (FAB-T).
//! Images are (B, C, H, W) in [0, 1]; L-infinity or L2. A minimization: it succeeds at a budget if its distance is within.

use rayon::prelude::*;

use crate::catalog::{Entry, Info, Knob, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::boundary::{Boundary, nearest};
use crate::lab::attack::loss::falling;
use crate::lab::attack::{Attack, Images, Victim, is_right, joined, knobs};
use crate::lab::error::Result;
use crate::nn::op::fake_quant::Estimator;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("fab"),
        title: text("FAB"),
        summary: text("The smallest change that crosses a boundary, walked along it step by step."),
        reference: text("arXiv:1907.02044"),
        family: text("minimal"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(Fab {
            norm: knobs::norm(setting),
            steps: knobs::whole(setting, "steps"),
            restarts: knobs::whole(setting, "restarts"),
            targets: knobs::whole(setting, "targets") as usize,
            gradient: knobs::gradient(setting),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(100),
    knobs::NORM,
    knobs::steps(100),
    knobs::RESTARTS,
    knobs::TARGETS,
    knobs::GRADIENT,
];

/// The largest share of the image's own nearest point.
const MOST_OWN: f64 = 0.1;

/// How far it steps, 1 being onto the boundary.
const OVERSHOOT: f64 = 1.05;

/// What is left of the change after an error.
const BACK: f64 = 0.9;

struct Fab {
    norm: Norm,
    steps: u32,
    restarts: u32,
    targets: usize,
    gradient: Estimator,
}

struct Walker<'i> {
    at: usize,
    clean: &'i [f32],
    x: Vec<f32>,
    best: f64,
    /// Classes whose boundaries are looked at.
    others: Vec<usize>,
}

impl Walker<'_> {
    /// One step to the nearest of the boundaries.
    fn go(&mut self, boundaries: &[Boundary<'_>], norm: Norm) {
        let nearest = &boundaries[nearest(boundaries, norm)];
        let own = nearest.projected(&self.x, 0.0, norm);
        let offset: f64 = nearest
            .normal
            .iter()
            .zip(self.clean.iter().zip(&self.x))
            .map(|(w, (clean, x))| f64::from(*w) * (f64::from(*clean) - f64::from(*x)))
            .sum();
        let first = nearest.projected(self.clean, offset, norm);
        let [far, near] = [&own, &first].map(|way| norm.size(way).max(1e-8));
        let share = (far / (far + near)).min(MOST_OWN) as f32;
        let over = OVERSHOOT as f32;
        for at in 0..self.x.len() {
            let walked = self.x[at] + over * own[at];
            let anew = self.clean[at] + over * first[at];
            self.x[at] = (walked * (1.0 - share) + anew * share).clamp(0.0, 1.0);
        }
    }
}

impl Attack for Fab {
    fn norm(&self) -> Norm {
        self.norm
    }

    fn is_minimal(&self) -> bool {
        true
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn remark(&self, classes: usize) -> Option<String> {
        knobs::fewer(self.targets, classes)
    }

    fn passes(&self, classes: usize) -> u64 {
        let others = classes as u64 - 1;
        let of_step = if self.targets == 0 {
            2 + others
        } else {
            3 * (self.targets as u64).min(others)
        };
        u64::from(self.restarts) * u64::from(self.steps) * of_step
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>> {
        victim.through(self.gradient);
        let classes = victim.classes();
        let logits = victim.logits(&images.pixels)?;
        let orders: Vec<Vec<usize>> = logits
            .chunks_exact(classes)
            .zip(&images.labels)
            .map(|(row, label)| {
                let mut order = falling(row);
                order.retain(|class| *class != *label as usize);
                order
            })
            .collect();
        let mut found = images.pixels.clone();
        let mut best = vec![f64::INFINITY; images.len()];
        for round in 0..self.targets.min(classes - 1).max(1) {
            for restart in 0..self.restarts {
                let number = (round as u64) << 32 | u64::from(restart);
                let mut walkers: Vec<Walker<'_>> = (0..images.len())
                    .map(|at| {
                        let clean = images.image(at);
                        let x = if restart == 0 {
                            clean.to_vec()
                        } else {
                            let mut rng = images.stream("fab", at, number);
                            let radius = best[at].min(epsilon) / 2.0;
                            self.norm.on_surface(clean, radius, &mut rng)
                        };
                        let others = if self.targets == 0 {
                            orders[at].clone()
                        } else {
                            vec![orders[at][round]]
                        };
                        Walker {
                            at,
                            clean,
                            x,
                            best: best[at],
                            others,
                        }
                    })
                    .collect();
                self.walk(victim, images, &mut walkers, &mut found)?;
                for walker in walkers {
                    best[walker.at] = walker.best;
                }
            }
        }
        Ok(found)
    }
}

impl Fab {
    fn walk(
        &self,
        victim: &mut Victim<'_>,
        images: &Images,
        walkers: &mut [Walker<'_>],
        found: &mut [f32],
    ) -> Result<()> {
        let (each, classes) = (images.each(), victim.classes());
        let directions = walkers.first().map_or(0, |walker| walker.others.len());
        for _ in 0..self.steps {
            let x = joined(walkers.iter().map(|walker| &*walker.x));
            let slopes = victim.slopes(&x, directions, &mut |row, which, _, d| {
                let walker = &walkers[row];
                d[walker.others[which]] = 1.0;
                d[images.labels[walker.at] as usize] = -1.0;
            })?;
            walkers
                .par_iter_mut()
                .enumerate()
                .for_each(|(row, walker)| {
                    let logits = &slopes.logits[row * classes..(row + 1) * classes];
                    let own = logits[images.labels[walker.at] as usize];
                    let boundaries: Vec<Boundary<'_>> = walker
                        .others
                        .iter()
                        .zip(&slopes.gradients)
                        .map(|(class, gradients)| Boundary {
                            gap: f64::from(logits[*class]) - f64::from(own),
                            normal: &gradients[row * each..(row + 1) * each],
                        })
                        .collect();
                    walker.go(&boundaries, self.norm);
                });
            let x = joined(walkers.iter().map(|walker| &*walker.x));
            let logits = victim.logits(&x)?;
            for (walker, logits) in walkers.iter_mut().zip(logits.chunks_exact(classes)) {
                if is_right(logits, images.labels[walker.at]) {
                    continue;
                }
                let distance = self.norm.distance(walker.clean, &walker.x);
                if distance < walker.best {
                    walker.best = distance;
                    found[walker.at * each..(walker.at + 1) * each].copy_from_slice(&walker.x);
                }
                for (x, clean) in walker.x.iter_mut().zip(walker.clean) {
                    *x = clean + BACK as f32 * (*x - clean);
                }
            }
        }
        Ok(())
    }
}
