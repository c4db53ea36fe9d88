//! Auto-PGD: projected gradient ascent that finds its own step length.
//!
//! It begins on the ball's surface with steps of 2ε: z = Π(x_k + η dir(g)), x_{k+1} = Π(x_k + 0.75 (z - x_k) + 0.25 (x_k -
//! x_{k-1})). At checkpoints η is halved and the walk goes back to its best point, where the loss rose in at most 75 % of the
//! window's steps, or neither η nor the best loss changed since the last. Croce and Hein 2020, arXiv:2003.01690.
//! Towards targets: one class after another, those of the clean image's highest other logits first.
//! Images are (B, C, H, W) in [0, 1]; L-infinity or L2. An image leaves the walk where it is first misclassified.

use rayon::prelude::*;

use crate::catalog::Knob;
use crate::lab::attack::ball::Norm;
use crate::lab::attack::loss::{Loss, falling};
use crate::lab::attack::{Attack, Images, Victim, is_right, joined, knobs};
use crate::lab::error::Result;
use crate::nn::op::fake_quant::Estimator;
use crate::spec::Setting;

/// The first window's share of all steps, by how much of them windows shrink, and the least.
const WINDOWS: [f64; 3] = [0.22, 0.03, 0.06];

/// A loss that rises in no more than this share of a window's steps oscillates.
const RISES: f64 = 0.75;

/// The share of a step that is new, after the first one.
const NEW: f64 = 0.75;

/// How it climbs.
#[derive(Clone, Debug)]
pub struct AutoPgd {
    /// The attack whose streams of chance it draws from.
    pub name: &'static str,
    pub norm: Norm,
    pub loss: Loss,
    pub steps: u32,
    pub restarts: u32,
    /// Classes that it climbs to one after another; none where it climbs away from the label.
    pub targets: usize,
    /// Through rounded activations.
    pub gradient: Estimator,
}

/// The knobs of every attack that climbs so.
pub(super) const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(500),
    knobs::NORM,
    knobs::steps(100),
    knobs::RESTARTS,
    knobs::TARGETS,
    knobs::GRADIENT,
];

impl AutoPgd {
    /// As a setting of [`KNOBS`] says, with one loss away from the label and another towards targets.
    pub(super) fn new(name: &'static str, away: Loss, towards: Loss, setting: &Setting) -> Self {
        let targets = knobs::whole(setting, "targets") as usize;
        Self {
            name,
            norm: knobs::norm(setting),
            loss: if targets == 0 { away } else { towards },
            steps: knobs::whole(setting, "steps"),
            restarts: knobs::whole(setting, "restarts"),
            targets,
            gradient: knobs::gradient(setting),
        }
    }
}

/// The lengths of the windows between checkpoints: the first, by how much each is shorter, and the shortest.
fn windows(steps: u32) -> [u32; 3] {
    WINDOWS.map(|share| ((share * f64::from(steps)) as u32).max(1))
}

/// After how many steps the step length is looked at.
pub fn checkpoints(steps: u32) -> Vec<u32> {
    let [mut window, shorter, least] = windows(steps);
    let (mut at, mut all) = (0, Vec::new());
    while at + window <= steps {
        at += window;
        all.push(at);
        window = window.saturating_sub(shorter).max(least);
    }
    all
}

/// An image on its way.
struct Walker<'i> {
    at: usize,
    target: usize,
    clean: &'i [f32],
    x: Vec<f32>,
    before: Vec<f32>,
    gradient: Vec<f32>,
    loss: f64,
    best: Vec<f32>,
    best_gradient: Vec<f32>,
    best_loss: f64,
    checked_loss: f64,
    step: f64,
    rises: u32,
    was_reduced: bool,
    is_done: bool,
}

impl Walker<'_> {
    /// One step, the first of them without momentum.
    fn go(&mut self, norm: Norm, epsilon: f64, is_first: bool) {
        let new = if is_first { 1.0 } else { NEW } as f32;
        let ahead = norm.step(self.clean, &self.x, &self.gradient, self.step, epsilon);
        let mut next: Vec<f32> = ahead
            .iter()
            .zip(self.x.iter().zip(&self.before))
            .map(|(z, (x, before))| x + new * (z - x) + (1.0 - new) * (x - before))
            .collect();
        norm.project(self.clean, &mut next, epsilon);
        self.before = std::mem::replace(&mut self.x, next);
    }

    /// Takes in the loss and its gradient where it stands.
    fn learn(&mut self, loss: f64, gradient: &[f32]) {
        self.rises += u32::from(loss > self.loss);
        self.loss = loss;
        self.gradient.clear();
        self.gradient.extend_from_slice(gradient);
        if loss > self.best_loss {
            self.best_loss = loss;
            self.best.clone_from(&self.x);
            self.best_gradient.clone_from(&self.gradient);
        }
    }

    /// At the end of a window.
    fn check(&mut self, window: u32) {
        let oscillates = f64::from(self.rises) <= RISES * f64::from(window);
        let rests = !self.was_reduced && self.checked_loss >= self.best_loss;
        self.was_reduced = oscillates || rests;
        self.checked_loss = self.best_loss;
        self.rises = 0;
        if self.was_reduced {
            self.step /= 2.0;
            self.x.clone_from(&self.best);
            self.gradient.clone_from(&self.best_gradient);
        }
    }
}

impl Attack for AutoPgd {
    fn norm(&self) -> Norm {
        self.norm
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn fewest_classes(&self) -> usize {
        self.loss.fewest_classes()
    }

    fn remark(&self, classes: usize) -> Option<String> {
        knobs::fewer(self.targets, classes)
    }

    fn passes(&self, classes: usize) -> u64 {
        let rounds = self.targets.min(classes - 1).max(1) as u64;
        rounds * u64::from(self.restarts) * (u64::from(self.steps) + 1) * 2
    }

    /// Where no error is found, the images of the highest loss.
    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>> {
        victim.through(self.gradient);
        let classes = victim.classes();
        let mut found = images.pixels.clone();
        let mut left: Vec<usize> = (0..images.len()).collect();
        let order: Vec<Vec<usize>> = if self.targets == 0 {
            Vec::new()
        } else {
            let logits = victim.logits(&images.pixels)?;
            let others = |(row, label): (&[f32], &u32)| {
                let mut order = falling(row);
                order.retain(|class| *class != *label as usize);
                order
            };
            logits
                .chunks_exact(classes)
                .zip(&images.labels)
                .map(others)
                .collect()
        };
        let rounds = self.targets.min(classes - 1).max(1);
        for round in 0..rounds {
            for restart in 0..self.restarts {
                let number = (round as u64) << 32 | u64::from(restart);
                let target = |at: usize| order.get(at).map_or(0, |order| order[round]);
                left = self.walk(
                    victim,
                    images,
                    &left,
                    (number, &target),
                    epsilon,
                    &mut found,
                )?;
                if left.is_empty() {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}

impl AutoPgd {
    /// One walk; those that hold.
    fn walk(
        &self,
        victim: &mut Victim<'_>,
        images: &Images,
        left: &[usize],
        (number, target): (u64, &(dyn Fn(usize) -> usize + Sync)),
        epsilon: f64,
        found: &mut [f32],
    ) -> Result<Vec<usize>> {
        let each = images.each();
        let begin = |at: &usize| {
            let clean = images.image(*at);
            let mut rng = images.stream(self.name, *at, number);
            let x = self.norm.on_surface(clean, epsilon, &mut rng);
            Walker {
                at: *at,
                target: target(*at),
                clean,
                before: x.clone(),
                gradient: Vec::new(),
                loss: f64::INFINITY,
                best: x.clone(),
                x,
                best_gradient: vec![0.0; each],
                best_loss: f64::NEG_INFINITY,
                checked_loss: f64::NEG_INFINITY,
                step: 2.0 * epsilon,
                rises: 0,
                was_reduced: true,
                is_done: false,
            }
        };
        let mut walkers: Vec<Walker<'_>> = left.par_iter().map(begin).collect();
        self.look(victim, images, &mut walkers, found)?;
        for walker in &mut walkers {
            walker.checked_loss = walker.best_loss;
        }
        let [mut window, shorter, least] = windows(self.steps);
        let mut since = 0;
        for step in 0..self.steps {
            if walkers.is_empty() {
                break;
            }
            walkers
                .par_iter_mut()
                .for_each(|walker| walker.go(self.norm, epsilon, step == 0));
            self.look(victim, images, &mut walkers, found)?;
            since += 1;
            if since == window {
                for walker in &mut walkers {
                    walker.check(window);
                }
                since = 0;
                window = window.saturating_sub(shorter).max(least);
            }
        }
        for walker in &walkers {
            found[walker.at * each..(walker.at + 1) * each].copy_from_slice(&walker.best);
        }
        Ok(walkers.iter().map(|walker| walker.at).collect())
    }

    /// Loss and gradient where the walkers are; those that are misclassified stay there and leave.
    fn look(
        &self,
        victim: &mut Victim<'_>,
        images: &Images,
        walkers: &mut Vec<Walker<'_>>,
        found: &mut [f32],
    ) -> Result<()> {
        let (each, classes) = (images.each(), victim.classes());
        let x = joined(walkers.iter().map(|walker| &*walker.x));
        let mut losses = vec![0.0; walkers.len()];
        let slopes = victim.slopes(&x, 1, &mut |row, _, logits, d| {
            let walker = &walkers[row];
            let label = images.labels[walker.at] as usize;
            losses[row] = self.loss.of(logits, label, walker.target, d);
        })?;
        walkers
            .par_iter_mut()
            .zip(losses)
            .zip(slopes.gradients[0].par_chunks_exact(each))
            .zip(slopes.logits.par_chunks_exact(classes))
            .for_each(|(((walker, loss), gradient), logits)| {
                walker.is_done = !is_right(logits, images.labels[walker.at]);
                if !walker.is_done {
                    walker.learn(loss, gradient);
                }
            });
        for walker in walkers.iter().filter(|walker| walker.is_done) {
            found[walker.at * each..(walker.at + 1) * each].copy_from_slice(&walker.x);
        }
        walkers.retain(|walker| !walker.is_done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Definitions O-15.
    #[test]
    fn checkpoints_are_the_official_ones() {
        assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
        assert_eq!(checkpoints(10), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
}
