//! AutoAttack: a fixed cascade of four attacks, each on the images that held against those before.
//!
//! APGD-CE, APGD on the targeted DLR (9 targets), FAB-T (9 targets) and Square with 5,000 queries, all at their standard
//! settings; robust is what holds against all of them. Croce and Hein 2020, arXiv:2003.01690, version "standard".
//! With 3 classes the DLR has no targets and is climbed without, with 2 it is left out.
//! Images are (B, C, H, W) in [0, 1]; L-infinity or L2.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::{Attack, Images, TOLERANCE, Victim, find, knobs};
use crate::lab::error::Result;
use crate::nn::op::fake_quant::Estimator;
use crate::spec::{KnobValue, Setting};

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("autoattack"),
        title: text("AutoAttack"),
        summary: text(
            "Four attacks one after another, three by gradients and one without, each on what still holds.",
        ),
        reference: text("arXiv:2003.01690"),
        family: text("ensemble"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(AutoAttack {
            norm: knobs::norm(setting),
            steps: setting.integer("steps"),
            queries: setting.integer("queries"),
            gradient: knobs::gradient(setting),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(200),
    knobs::NORM,
    knobs::steps(100),
    Knob {
        id: text("queries"),
        title: text("queries"),
        summary: text("Queries of its last attack, which takes no gradient."),
        range: Range::Integer {
            least: 1,
            most: 1_000_000,
            default: 5000,
        },
    },
    knobs::GRADIENT,
];

/// Targets of the targeted attacks.
const TARGETS: i64 = 9;

struct AutoAttack {
    norm: Norm,
    steps: i64,
    queries: i64,
    gradient: Estimator,
}

impl AutoAttack {
    /// The cascade for that many classes.
    fn parts(&self, classes: usize) -> Result<Vec<Box<dyn Attack>>> {
        let targets = |least: usize| KnobValue::Integer(if classes < least { 0 } else { TARGETS });
        let mut parts = vec![("apgd-ce", KnobValue::Integer(0))];
        if classes >= 3 {
            parts.push(("apgd-dlr", targets(4)));
        }
        parts.push(("fab", targets(3)));
        parts.push(("square", KnobValue::Integer(0)));
        let norm = match self.norm {
            Norm::Linf => "linf",
            Norm::L2 => "l2",
        };
        let made = |(id, targets): (&str, KnobValue)| {
            let setting = Setting::default()
                .with("norm", KnobValue::Choice(norm.to_owned()))
                .with(
                    "gradient",
                    KnobValue::Choice(self.gradient.word().to_owned()),
                )
                .with("steps", KnobValue::Integer(self.steps))
                .with("queries", KnobValue::Integer(self.queries))
                .with("targets", targets);
            Ok(find(id)?.made(&setting))
        };
        parts.into_iter().map(made).collect()
    }
}

impl Attack for AutoAttack {
    fn norm(&self) -> Norm {
        self.norm
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn remark(&self, classes: usize) -> Option<String> {
        let said = match classes {
            ..3 => "its second attack, APGD on the DLR, is left out, and FAB leads to no targets",
            3 => "its second attack, APGD on the DLR, leads to no targets",
            _ => return None,
        };
        Some(format!(
            "with {classes} classes {said}: it is not the standard cascade"
        ))
    }

    fn passes(&self, classes: usize) -> u64 {
        let parts = self.parts(classes).unwrap_or_default();
        parts.iter().map(|part| part.passes(classes)).sum()
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>> {
        let each = images.each();
        let mut found = images.pixels.clone();
        let mut left: Vec<usize> = (0..images.len()).collect();
        for part in self.parts(victim.classes())? {
            let held = images.select(&left);
            let pixels = part.craft(victim, &held, epsilon)?;
            let right = victim.right(&pixels, &held.labels)?;
            let mut still = Vec::new();
            for (row, at) in left.iter().enumerate() {
                let own = &pixels[row * each..(row + 1) * each];
                let is_near = self.norm.distance(held.image(row), own) <= epsilon + TOLERANCE;
                if is_near {
                    found[at * each..(at + 1) * each].copy_from_slice(own);
                }
                if right[row] || !is_near {
                    still.push(*at);
                }
            }
            left = still;
            if left.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}
