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

use super::teaching::{self, DIRECTION, EPOCHS, TEACHER_WEIGHT, TEMPERATURE, teach};
use crate::catalog::{Entry, Info, text};
use crate::event::Warning;
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::train::{Lesson, Recipe, Teacher};
use crate::nn::loss::KlDirection;
use crate::nn::network::Network;

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
    knobs: &[TEMPERATURE, TEACHER_WEIGHT, EPOCHS, DIRECTION],
    build: |setting| {
        Box::new(SelfDistillation {
            temperature: setting.real("temperature"),
            teacher_weight: setting.real("teacher-weight"),
            epochs: setting.integer("epochs") as u32,
            direction: teaching::direction(setting),
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
        let has_masks = student
            .parameters_mut()
            .take_masks(start.network.parameters())?;
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
        let lesson = Lesson {
            teacher: Teacher::Network(start.network),
            temperature: self.temperature,
            teacher_weight: self.teacher_weight,
            direction: self.direction,
            features: None,
            labels_on_clean: false,
        };
        let life = start.life;
        let trained = teach(&mut student, lesson, &recipe, start, life, observer, cx)?;
        let mut remarks = vec![format!(
            "the student has as many parameters as its teacher; it started from the reference's initial weights and \
             learned for {}",
            teaching::epochs(self.epochs)
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

/// Whether weights or activations lie on levels.
fn is_quantized(network: &Network) -> bool {
    let mut parameters = network.parameters().iter();
    parameters.any(|parameter| parameter.levels.is_some())
        || network
            .nodes()
            .iter()
            .any(|node| node.layer.levels().is_some())
}
