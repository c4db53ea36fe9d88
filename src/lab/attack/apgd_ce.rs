//! Auto-PGD on the cross-entropy.
//!
//! Croce and Hein 2020, arXiv:2003.01690; the walk is [`auto_pgd`](super::auto_pgd)'s, the losses are
//! [`loss`](super::loss)'s. Images are (B, C, H, W) in [0, 1].

use crate::catalog::{Entry, Info, text};
use crate::lab::attack::Attack;
use crate::lab::attack::auto_pgd::{AutoPgd, KNOBS};
use crate::lab::attack::loss::Loss;

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
        let walk = AutoPgd::new(
            "apgd-ce",
            Loss::CrossEntropy,
            Loss::TargetedCrossEntropy,
            setting,
        );
        Box::new(walk)
    },
};
