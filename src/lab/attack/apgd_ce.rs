//! Auto-PGD on the cross-entropy.
//!
//! Croce and Hein 2020, arXiv:2003.01690; the walk is [`auto_pgd`](super::auto_pgd)'s, the losses are
//! [`loss`](super::loss)'s. Images are (B, C, H, W) in [0, 1].

use crate::catalog::{Entry, Info, Knob, text};
use crate::lab::attack::auto_pgd::AutoPgd;
use crate::lab::attack::ball::Norm;
use crate::lab::attack::loss::Loss;
use crate::lab::attack::{Attack, Images, Victim, knobs};
use crate::lab::error::Result;
use crate::nn::op::fake_quant::Estimator;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("apgd-ce"),
        title: text("APGD-CE"),
        summary: text("Gradient ascent on the cross-entropy that finds its own step length."),
        reference: text("arXiv:2003.01690"),
        family: text("gradient"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        let targets = knobs::whole(setting, "targets") as usize;
        Box::new(ApgdCe {
            walk: AutoPgd {
                name: "apgd-ce",
                norm: knobs::norm(setting),
                loss: if targets == 0 {
                    Loss::CrossEntropy
                } else {
                    Loss::TargetedCrossEntropy
                },
                steps: knobs::whole(setting, "steps"),
                restarts: knobs::whole(setting, "restarts"),
                targets,
            },
            gradient: knobs::gradient(setting),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(500),
    knobs::NORM,
    knobs::steps(100),
    knobs::RESTARTS,
    knobs::TARGETS,
    knobs::GRADIENT,
];

struct ApgdCe {
    walk: AutoPgd,
    gradient: Estimator,
}

impl Attack for ApgdCe {
    fn norm(&self) -> Norm {
        self.walk.norm
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn remark(&self, classes: usize) -> Option<String> {
        knobs::fewer(self.walk.targets, classes)
    }

    fn passes(&self, classes: usize) -> u64 {
        self.walk.passes(classes)
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>> {
        victim.through(self.gradient);
        self.walk.craft(victim, images, epsilon)
    }
}
