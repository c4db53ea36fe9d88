//! Auto-PGD on the difference of logits ratio, which no scale of the logits saturates.
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
        id: text("apgd-dlr"),
        title: text("APGD-DLR"),
        summary: text(
            "Gradient ascent on the difference of logits ratio, which does not saturate, with its own step length.",
        ),
        reference: text("arXiv:2003.01690"),
        family: text("gradient"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        let targets = knobs::whole(setting, "targets") as usize;
        Box::new(ApgdDlr {
            walk: AutoPgd {
                name: "apgd-dlr",
                norm: knobs::norm(setting),
                loss: if targets == 0 {
                    Loss::Dlr
                } else {
                    Loss::TargetedDlr
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

struct ApgdDlr {
    walk: AutoPgd,
    gradient: Estimator,
}

impl Attack for ApgdDlr {
    fn norm(&self) -> Norm {
        self.walk.norm
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn fewest_classes(&self) -> usize {
        if self.walk.targets == 0 { 3 } else { 4 }
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
