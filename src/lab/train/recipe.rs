//! Recipes: how a network is trained, as knobs and as the value that they describe.

use crate::catalog::{Knob, Range, text};
use crate::lab::attack::pgd::{Pgd, Start};
use crate::lab::augmentation::Augmentation;
use crate::nn::optimizer::{Optimizer, Rule};
use crate::nn::parameters::Parameters;
use crate::nn::schedule::Schedule;
use crate::spec::Setting;

/// The knobs of a training, and so of a fine-tuning.
pub const KNOBS: &[Knob] = &[
    Knob {
        id: text("epochs"),
        title: text("epochs"),
        summary: text("How often every training image is seen; 0 leaves the weights as they are."),
        range: Range::Integer {
            least: 0,
            most: 10_000,
            default: 3,
        },
    },
    Knob {
        id: text("batch"),
        title: text("batch size"),
        summary: text("Images per optimizer step."),
        range: Range::Integer {
            least: 1,
            most: 65_536,
            default: 64,
        },
    },
    Knob {
        id: text("learning-rate"),
        title: text("learning rate"),
        summary: text("The schedule's highest rate."),
        range: Range::Real {
            least: 1e-6,
            most: 10.0,
            step: 0.01,
            default: 0.05,
        },
    },
    Knob {
        id: text("schedule"),
        title: text("schedule"),
        summary: text(
            "How the rate moves over the stage: to zero along a cosine or a line, down in two steps of ten, up for three \
             tenths and then down to nothing (one-cycle), or not at all.",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[
                text("constant"),
                text("step"),
                text("linear"),
                text("cosine"),
                text("one-cycle"),
            ]),
            default: text("cosine"),
        },
    },
    Knob {
        id: text("momentum"),
        title: text("momentum"),
        summary: text(
            "Share of the last step that is repeated; with adamw, of the mean gradient that is kept.",
        ),
        range: Range::Real {
            least: 0.0,
            most: 0.999,
            step: 0.05,
            default: 0.9,
        },
    },
    Knob {
        id: text("weight-decay"),
        title: text("weight decay"),
        summary: text(
            "Pull of the weights towards zero; biases, scales and shifts are left alone.",
        ),
        range: Range::Real {
            least: 0.0,
            most: 1.0,
            step: 0.0001,
            default: 0.0005,
        },
    },
    Knob {
        id: text("optimizer"),
        title: text("optimizer"),
        summary: text(
            "Gradient descent with momentum, or AdamW, whose rates are about fifty times smaller (0.001).",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("sgd"), text("adamw")]),
            default: text("sgd"),
        },
    },
    Knob {
        id: text("cycle-momentum"),
        title: text("cycle momentum"),
        summary: text(
            "With one-cycle: momentum moves against the rate, from 0.95 to 0.85 and back, whatever it stands at itself.",
        ),
        range: Range::Flag { default: false },
    },
    Knob {
        id: text("augmentation"),
        title: text("augmentation"),
        summary: text(
            "What is done to each training image anew in each epoch: moved by up to 4 pixels (crop), and mirrored every \
             other time (crop-flip).",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("none"), text("crop"), text("crop-flip")]),
            default: text("none"),
        },
    },
    Knob {
        id: text("label-smoothing"),
        title: text("label smoothing"),
        summary: text(
            "Share of each label that is spread over all classes; a distillation leaves its labels as they are.",
        ),
        range: Range::Real {
            least: 0.0,
            most: 0.999,
            step: 0.05,
            default: 0.0,
        },
    },
    Knob {
        id: text("patience"),
        title: text("patience"),
        summary: text(
            "Epochs without a lower validation loss after which the training stops early; 0 waits for ever.",
        ),
        range: Range::Integer {
            least: 0,
            most: 10_000,
            default: 0,
        },
    },
    Knob {
        id: text("adversarial"),
        title: text("adversarial"),
        summary: text(
            "pgd: learns on images that an attack has changed anew in each step, so that the network holds against such; clean accuracy pays for it. A fine-tuning is so only where it says it.",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("none"), text("pgd")]),
            default: text("none"),
        },
    },
    EPSILON,
    ATTACK_STEPS,
    ATTACK_STEP_SIZE,
    Knob {
        id: text("attack-start"),
        title: text("attack start"),
        summary: text("Whether the attack begins anywhere in its budget or at the image itself."),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("uniform"), text("image")]),
            default: text("uniform"),
        },
    },
];

/// Budget of the attack that is learnt on; 8/255, which RobustBench and Goldblum et al. 2020, arXiv:1905.09747, use.
pub const EPSILON: Knob = Knob {
    id: text("epsilon"),
    title: text("epsilon"),
    summary: text(
        "How far the attack may move each pixel, of 0 to 1: 8/255 = 0.0314 is usual for CIFAR, 0.1 for MNIST and Fashion-MNIST.",
    ),
    range: Range::Real {
        least: 0.0,
        most: 1.0,
        step: 0.01,
        // To as many digits as anybody reads.
        default: 0.031_372_55,
    },
};

/// Ten, as in the same publication.
pub const ATTACK_STEPS: Knob = Knob {
    id: text("attack-steps"),
    title: text("attack steps"),
    summary: text("Steps of the attack, each as costly as a forward and a backward pass."),
    range: Range::Integer {
        least: 1,
        most: 1000,
        default: 10,
    },
};

/// 2/255 of 8/255, as in the same publication.
pub const ATTACK_STEP_SIZE: Knob = Knob {
    id: text("attack-step-size"),
    title: text("attack step size"),
    summary: text("Length of one step of the attack, as a share of epsilon."),
    range: Range::Real {
        least: 0.001,
        most: 2.0,
        step: 0.05,
        default: 0.25,
    },
};

/// The attack that a setting with these three knobs describes.
pub fn attack(setting: &Setting, start: Start) -> Pgd {
    let epsilon = setting.real("epsilon");
    Pgd {
        epsilon,
        step: epsilon * setting.real("attack-step-size"),
        steps: setting.integer("attack-steps") as u32,
        start,
    }
}

/// How a network is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub epochs: u32,
    pub batch: usize,
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub momentum: f64,
    pub weight_decay: f64,
    pub optimizer: Rule,
    /// Whether momentum moves against the rate where the schedule knows how.
    pub cycle_momentum: bool,
    pub augmentation: Augmentation,
    /// Share of each label that is spread over all classes.
    pub label_smoothing: f64,
    /// Epochs without a lower validation loss after which the training stops; 0 for never.
    pub patience: u32,
    /// The attack on whose images the network learns; on clean ones without.
    pub adversarial: Option<Pgd>,
}

impl Recipe {
    /// The recipe that a checked setting of [`KNOBS`] describes.
    ///
    /// A knob that a session of an earlier version does not know stands at its default, which is what that version did.
    pub fn new(setting: &Setting) -> Self {
        let mut setting = setting.clone();
        for knob in KNOBS {
            let standing = setting.0.entry(knob.id.to_string());
            standing.or_insert_with(|| knob.range.default());
        }
        Self {
            epochs: setting.integer("epochs") as u32,
            batch: setting.integer("batch") as usize,
            learning_rate: setting.real("learning-rate"),
            schedule: match setting.choice("schedule") {
                "step" => Schedule::Step,
                "linear" => Schedule::Linear,
                "cosine" => Schedule::Cosine,
                "one-cycle" => Schedule::OneCycle,
                _ => Schedule::Constant,
            },
            momentum: setting.real("momentum"),
            weight_decay: setting.real("weight-decay"),
            optimizer: match setting.choice("optimizer") {
                "adamw" => Rule::AdamW,
                _ => Rule::Sgd,
            },
            cycle_momentum: setting.flag("cycle-momentum"),
            augmentation: match setting.choice("augmentation") {
                "crop" => Augmentation::Crop,
                "crop-flip" => Augmentation::CropFlip,
                _ => Augmentation::None,
            },
            label_smoothing: setting.real("label-smoothing"),
            patience: setting.integer("patience") as u32,
            adversarial: match setting.choice("adversarial") {
                "pgd" => {
                    let start = match setting.choice("attack-start") {
                        "image" => Start::Image,
                        _ => Start::Uniform,
                    };
                    Some(attack(&setting, start))
                }
                _ => None,
            },
        }
    }

    /// Optimizer steps that a training on so many images takes.
    pub fn steps(&self, images: usize) -> u64 {
        u64::from(self.epochs) * images.div_ceil(self.batch) as u64
    }

    /// Gradient evaluations that the attack takes for each image and step.
    pub fn attack_evaluations(&self) -> u64 {
        self.adversarial.map_or(0, |pgd| u64::from(pgd.steps))
    }

    /// Momentum at a step, counted from 0, of `total`.
    pub fn momentum_at(&self, step: u64, total: u64) -> f64 {
        if self.cycle_momentum {
            self.schedule.momentum(self.momentum, step, total)
        } else {
            self.momentum
        }
    }

    /// The optimizer for these parameters, at rest.
    ///
    /// # Errors
    /// candle's, when memory runs out.
    pub fn optimizer(&self, parameters: &Parameters) -> crate::nn::Result<Optimizer> {
        Optimizer::new(self.optimizer, parameters, self.momentum, self.weight_decay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::KnobValue;

    #[test]
    fn a_setting_of_an_earlier_version_does_what_it_did() {
        let setting = Setting::default().with("epochs", KnobValue::Integer(9));
        let recipe = Recipe::new(&setting);
        assert_eq!(recipe.epochs, 9);
        assert_eq!(recipe.optimizer, Rule::Sgd);
        assert_eq!(recipe.augmentation, Augmentation::None);
        assert_eq!((recipe.label_smoothing, recipe.patience), (0.0, 0));
    }

    #[test]
    fn every_word_of_a_choice_is_another_recipe() {
        for knob in KNOBS {
            let Range::Choice { options, .. } = &knob.range else {
                continue;
            };
            let recipes: Vec<Recipe> = options
                .iter()
                .map(|word| KnobValue::Choice(word.to_string()))
                .map(|word| Recipe::new(&Setting::default().with(&knob.id, word)))
                .collect();
            // Nobody attacks without an attack.
            if knob.id == "attack-start" {
                continue;
            }
            for (at, recipe) in recipes.iter().enumerate() {
                assert!(!recipes[..at].contains(recipe), "{}", knob.id);
            }
        }
    }

    #[test]
    fn a_steps_length_is_a_share_of_the_budget() {
        let setting = Setting::default()
            .with("adversarial", KnobValue::Choice("pgd".into()))
            .with("epsilon", KnobValue::Real(0.1))
            .with("attack-step-size", KnobValue::Real(0.1))
            .with("attack-start", KnobValue::Choice("image".into()));
        let found = Recipe::new(&setting).adversarial.unwrap();
        assert!((found.step - 0.01).abs() < 1e-12);
        assert_eq!((found.steps, found.start), (10, Start::Image));
        assert_eq!(Recipe::new(&Setting::default()).adversarial, None);
    }

    #[test]
    fn momentum_moves_only_where_it_is_asked_to() {
        let one_cycle = Setting::default().with("schedule", KnobValue::Choice("one-cycle".into()));
        assert_eq!(Recipe::new(&one_cycle).momentum_at(30, 100), 0.9);
        let cycling = one_cycle.with("cycle-momentum", KnobValue::Flag(true));
        assert_eq!(Recipe::new(&cycling).momentum_at(0, 100), 0.95);
        let cosine = cycling.with("schedule", KnobValue::Choice("cosine".into()));
        assert_eq!(Recipe::new(&cosine).momentum_at(30, 100), 0.9);
    }
}
