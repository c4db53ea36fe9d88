//! Salt and pepper: the fewest pixels set to white and black that the network errs on, found by trying.
//!
//! u uniform for each pixel, the same for all channels; salt (+1) where u ≥ 1 - p/2, pepper (-1) where u < p/2, clamped to
//! [0, 1]. p rises from 1/steps in steps of 1/steps; where an error is found nearer than before, p goes back to p/2 and the
//! range ends at 1.2 p, walked in the steps that are left. Rauber et al. 2017, foolbox 3.3.4; a minimization: accuracy at a
//! budget is the share of images whose distance, ‖x' - x‖₂, is larger. It is no corruption of a fixed rate.

use rayon::prelude::*;

use crate::catalog::{Entry, Info, Knob, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::{Attack, Images, Victim, is_right, knobs};
use crate::lab::error::Result;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("salt-and-pepper"),
        title: text("Salt and pepper"),
        summary: text(
            "The fewest pixels set to white and black that the network errs on, found by trying, without a gradient.",
        ),
        reference: text("doi:10.21105/joss.02607"),
        family: text("minimal"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(SaltAndPepper {
            steps: knobs::whole(setting, "steps"),
        })
    },
};

const KNOBS: &[Knob] = &[knobs::EPSILONS, knobs::images(100), knobs::steps(1000)];

struct SaltAndPepper {
    steps: u32,
}

/// Where the search of one image stands.
struct Search<'i> {
    at: usize,
    clean: &'i [f32],
    x: Vec<f32>,
    size: f64,
    best: f64,
    p: f64,
    least: f64,
    most: f64,
    step: f64,
    rng: Rng,
}

impl Search<'_> {
    /// Draws the next candidate; false where it is no nearer than what is known.
    fn draw(&mut self, pixels: usize) -> bool {
        let us: Vec<f64> = (0..pixels).map(|_| self.rng.uniform()).collect();
        self.x.clear();
        for (clean, u) in self.clean.iter().zip(us.iter().cycle()) {
            let pixel = if *u >= 1.0 - self.p / 2.0 {
                clean + 1.0
            } else if *u < self.p / 2.0 {
                clean - 1.0
            } else {
                *clean
            };
            self.x.push(pixel.clamp(0.0, 1.0));
        }
        self.size = Norm::L2.distance(self.clean, &self.x);
        self.size < self.best
    }

    /// Moves p on, after an error nearer than before or without one.
    fn go_on(&mut self, is_better: bool, left: u32) {
        if is_better {
            self.best = self.size;
            self.least = 0.5 * self.p;
            self.most = (1.2 * self.p).min(1.0);
            self.step = (self.most - self.least) / f64::from(left);
        }
        if is_better || self.p >= self.most {
            self.p = self.least;
        }
        self.p = (self.p + self.step).min(self.most);
    }
}

impl Attack for SaltAndPepper {
    fn norm(&self) -> Norm {
        Norm::L2
    }

    fn is_minimal(&self) -> bool {
        true
    }

    /// A pixel turned black or white counts whole: images are three to six lengths away where Euclidean attacks by
    /// gradients take one and a half.
    fn reach(&self) -> f64 {
        4.0
    }

    fn passes(&self, _: usize) -> u64 {
        u64::from(self.steps)
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, _: f64) -> Result<Vec<f32>> {
        let (each, classes) = (images.each(), victim.classes());
        let pixels = images.shape.height * images.shape.width;
        let mut found = images.pixels.clone();
        let step = 1.0 / f64::from(self.steps);
        let mut searches: Vec<Search<'_>> = (0..images.len())
            .map(|at| Search {
                at,
                clean: images.image(at),
                x: Vec::new(),
                size: 0.0,
                best: f64::INFINITY,
                p: step,
                least: 0.0,
                most: 1.0,
                step,
                rng: images.stream("salt-and-pepper", at, 0),
            })
            .collect();
        for done in 0..self.steps {
            let nearer: Vec<bool> = searches
                .par_iter_mut()
                .map(|search| search.draw(pixels))
                .collect();
            // What is no nearer need not be asked about.
            let mut asked = Vec::new();
            for (search, _) in searches.iter().zip(&nearer).filter(|(_, nearer)| **nearer) {
                asked.extend_from_slice(&search.x);
            }
            let logits = victim.logits(&asked)?;
            let mut rows = logits.chunks_exact(classes);
            for (search, nearer) in searches.iter_mut().zip(nearer) {
                let errs = |logits: &[f32]| !is_right(logits, images.labels[search.at]);
                let is_better = nearer && rows.next().is_some_and(errs);
                if is_better {
                    let of = search.at * each..(search.at + 1) * each;
                    found[of].copy_from_slice(&search.x);
                }
                search.go_on(is_better, self.steps - done);
            }
        }
        Ok(found)
    }
}
