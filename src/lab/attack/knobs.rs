//! Knobs that several attacks share.

use std::borrow::Cow;

use super::ball::Norm;
use crate::catalog::{Knob, Range, text};
use crate::nn::op::fake_quant::Estimator;
use crate::spec::Setting;

/// The budgets of the curve.
pub(super) const EPSILONS: Knob = Knob {
    id: text("epsilons"),
    title: text("epsilons"),
    summary: text(
        "Budgets of the curve, in pixels of 0 to 1, with commas; none for a quarter, a half, one and two times the data set's usual one, and four times as much for salt-and-pepper. No budget is always on the curve.",
    ),
    range: Range::Numbers {
        least: 0.0,
        most: 1000.0,
    },
};

/// How many images are attacked.
pub(super) const fn images(default: i64) -> Knob {
    Knob {
        id: text("images"),
        title: text("images"),
        summary: text(
            "Test images that are attacked, every class in its share, the same for every network.",
        ),
        range: Range::Integer {
            least: 10,
            most: 1_000_000,
            default,
        },
    }
}

pub(super) const NORM: Knob = Knob {
    id: text("norm"),
    title: text("norm"),
    summary: text(
        "What a budget bounds: each pixel's change (linf), or the length of all together (l2).",
    ),
    range: Range::Choice {
        options: Cow::Borrowed(&[text("linf"), text("l2")]),
        default: text("linf"),
    },
};

pub(super) const GRADIENT: Knob = Knob {
    id: text("gradient"),
    title: text("gradient"),
    summary: text(
        "How the gradient goes back through rounded activations: as if nothing were rounded, or as it is, which is nothing and makes a quantized network look robust.",
    ),
    range: Range::Choice {
        options: Cow::Borrowed(&[text("straight-through"), text("none")]),
        default: text("straight-through"),
    },
};

pub(super) const fn steps(default: i64) -> Knob {
    Knob {
        id: text("steps"),
        title: text("steps"),
        summary: text("Steps of the attack at most; an image that is misclassified takes no more."),
        range: Range::Integer {
            least: 1,
            most: 100_000,
            default,
        },
    }
}

pub(super) const RESTARTS: Knob = Knob {
    id: text("restarts"),
    title: text("restarts"),
    summary: text("How often it begins anew from another point, for images that still hold."),
    range: Range::Integer {
        least: 1,
        most: 1000,
        default: 1,
    },
};

pub(super) const TARGETS: Knob = Knob {
    id: text("targets"),
    title: text("targets"),
    summary: text(
        "0 leads away from the label; more leads to that many classes one after another, the highest other logits first.",
    ),
    range: Range::Integer {
        least: 0,
        most: 1000,
        default: 0,
    },
};

/// What becomes of more targets than there are other classes.
pub(super) fn fewer(targets: usize, classes: usize) -> Option<String> {
    let others = classes.saturating_sub(1);
    (targets > others).then(|| {
        format!("{targets} targets are more than the {others} other classes, which are all")
    })
}

/// The norm that a setting asks for.
pub(super) fn norm(setting: &Setting) -> Norm {
    Norm::of(setting.choice("norm"))
}

/// The estimator that a setting asks for.
pub(super) fn gradient(setting: &Setting) -> Estimator {
    match setting.choice("gradient") {
        "none" => Estimator::Nothing,
        _ => Estimator::StraightThrough,
    }
}

/// A whole number that checking keeps small.
pub(super) fn whole(setting: &Setting, id: &str) -> u32 {
    u32::try_from(setting.integer(id)).unwrap_or(0)
}
