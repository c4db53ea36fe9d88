//! The fast gradient sign method: one step as long as the budget.
//!
//! x' = clamp(x + ε sign(∇CE), 0, 1), or x + ε g / ‖g‖ in the Euclidean norm; Goodfellow et al. 2015, arXiv:1412.6572.
//! Images are (B, C, H, W) in [0, 1]. What it finds at one budget says nothing of another: one step may be too long.

use rayon::prelude::*;

use crate::catalog::{Entry, Info, Knob, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::loss::Loss;
use crate::lab::attack::{Attack, Images, Victim, knobs};
use crate::lab::error::Result;
use crate::nn::op::fake_quant::Estimator;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("fgsm"),
        title: text("FGSM"),
        summary: text("One step along the signs of the loss's gradient, as long as the budget."),
        reference: text("arXiv:1412.6572"),
        family: text("gradient"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(Fgsm {
            norm: knobs::norm(setting),
            gradient: knobs::gradient(setting),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(1000),
    knobs::NORM,
    knobs::GRADIENT,
];

struct Fgsm {
    norm: Norm,
    gradient: Estimator,
}

impl Attack for Fgsm {
    fn norm(&self) -> Norm {
        self.norm
    }

    fn carries(&self) -> bool {
        false
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn passes(&self, _: usize) -> u64 {
        2
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>> {
        victim.through(self.gradient);
        let climb = &mut |at: usize, _: usize, logits: &[f32], d: &mut [f32]| {
            Loss::CrossEntropy.of(logits, images.labels[at] as usize, 0, d);
        };
        let slopes = victim.slopes(&images.pixels, 1, climb)?;
        let each = images.each();
        let moved: Vec<Vec<f32>> = images
            .pixels
            .par_chunks_exact(each)
            .zip(slopes.gradients[0].par_chunks_exact(each))
            .map(|(clean, gradient)| self.norm.step(clean, clean, gradient, epsilon, epsilon))
            .collect();
        Ok(moved.concat())
    }
}
