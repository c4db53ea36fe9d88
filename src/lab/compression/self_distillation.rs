//! Self-distillation: a student of the same architecture learns from the network that it replaces.
//!
//! L = (1 - a) CE(y, p_s) + a T² KL(p_t‖p_s), p = softmax(z / T); Hinton et al. 2015, arXiv:1503.02531.
//! The student starts from the reference's own initial weights and sees the images in the reference's order, so that
//! what differs in the end is the teacher's doing alone; a same-start twin is the control for that order.
//! The student of a pruned network has its masks from the start, so that what was removed stays removed. Levels of a
//! quantized one belong to its trained values: the student goes without them, which is warned of.
//!
//! Nothing becomes smaller. It is among the compressions because it shows what the detour through a teacher does to
//! the function; the direction KL(p_s‖p_t), written in some reports, can be chosen.
//! Deviation: momentum and weight decay are the reference's own recipe, which the publication leaves open.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Warning;
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::train::{Objective, Recipe, Training, train};
use crate::nn::loss::KlDirection;
use crate::nn::network::Network;
use crate::nn::op::values;

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("self-distillation"),
        title: text("Self-distillation"),
        summary: text(
            "Trains a student of the same architecture, from the reference's own initial weights, on the labels and on \
             the network's soft answers. Nothing becomes smaller; the function may change. Masks of a pruning are kept.",
        ),
        reference: text("arXiv:1503.02531"),
        family: text("distillation"),
        ratio_of: None,
    },
    knobs: &[
        Knob {
            id: text("temperature"),
            title: text("temperature"),
            summary: text(
                "How soft the teacher's answers are made: 1 leaves them, more tells more about wrong classes.",
            ),
            range: Range::Real {
                least: 0.1,
                most: 100.0,
                step: 0.5,
                default: 3.0,
            },
        },
        Knob {
            id: text("teacher-weight"),
            title: text("teacher weight"),
            summary: text(
                "Share of the teacher in the loss: 0 learns from labels alone, 1 from the teacher alone.",
            ),
            range: Range::Real {
                least: 0.0,
                most: 1.0,
                step: 0.1,
                default: 0.5,
            },
        },
        Knob {
            id: text("epochs"),
            title: text("epochs"),
            summary: text("How often the student sees every training image."),
            range: Range::Integer {
                least: 1,
                most: 10_000,
                default: 3,
            },
        },
        Knob {
            id: text("direction"),
            title: text("direction"),
            summary: text(
                "Which way the divergence is taken: forward is KL(teacher‖student), reverse the other.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("forward"), text("reverse")]),
                default: text("forward"),
            },
        },
    ],
    build: |setting| {
        Box::new(SelfDistillation {
            temperature: setting.real("temperature"),
            teacher_weight: setting.real("teacher-weight"),
            epochs: setting.integer("epochs") as u32,
            direction: if setting.choice("direction") == "reverse" {
                KlDirection::Reverse
            } else {
                KlDirection::Forward
            },
        })
    },
};

struct SelfDistillation {
    temperature: f64,
    teacher_weight: f64,
    epochs: u32,
    direction: KlDirection,
}

impl Compression for SelfDistillation {
    fn compress(
        &self,
        start: &Start<'_>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        let reference = start.subject.reference()?;
        let initial = reference.initial.as_ref().ok_or_else(|| {
            Error::Internal(format!(
                "the initial weights of {} were not kept",
                reference.plan.name
            ))
        })?;
        let mut student = initial.duplicate()?;
        let has_masks = take_masks(&mut student, start.network)?;
        let is_dequantized = is_quantized(start.network);
        if is_dequantized {
            let message = format!(
                "{}: the student is not quantized, which undoes the quantization before it; quantize after the \
                 distillation to keep it",
                start.subject.network.name
            );
            cx.warn(Warning::Other { message })?;
        }
        let recipe = Recipe {
            epochs: self.epochs,
            ..start.recipe.clone()
        };
        let training = Training {
            data: start.subject.data,
            recipe: &recipe,
            objective: Objective::Distill {
                teacher: start.network,
                temperature: self.temperature,
                teacher_weight: self.teacher_weight,
                direction: self.direction,
            },
            order_seed: reference.plan.order_seed,
            life: start.life,
            adjust: None,
        };
        let trained = train(&mut student, &training, observer, cx)?;
        let mut remarks = vec![format!(
            "the student has as many parameters as its teacher; it started from the reference's initial weights and \
             learned for {}",
            if self.epochs == 1 {
                "1 epoch".to_owned()
            } else {
                format!("{} epochs", self.epochs)
            }
        )];
        if has_masks {
            remarks.push(
                "the student kept its teacher's masks: what was pruned is still 0".to_owned(),
            );
        }
        if is_dequantized {
            remarks.push("the student is not quantized as its teacher was".to_owned());
        }
        Ok(Compressed {
            network: student,
            best: Some(trained.best),
            asked: None,
            reached: None,
            remarks,
            cost: trained.cost,
            life: trained.life,
        })
    }

    fn epochs(&self) -> u32 {
        self.epochs
    }
}

/// Gives the student its teacher's masks; whether there were any.
fn take_masks(student: &mut Network, teacher: &Network) -> Result<bool> {
    let mut any = false;
    for parameter in teacher.parameters() {
        if let Some(mask) = &parameter.mask {
            let mask = values(mask)?;
            student.parameters_mut().set_mask(&parameter.name, &mask)?;
            any = true;
        }
    }
    Ok(any)
}

/// Whether weights or activations lie on levels.
fn is_quantized(network: &Network) -> bool {
    let mut parameters = network.parameters().iter();
    parameters.any(|parameter| parameter.levels.is_some())
        || network
            .nodes()
            .iter()
            .any(|node| node.layer.levels().is_some())
}
