//! What all distillations share: their knobs, and how a student is taught.

use crate::catalog::{Knob, Range, text};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::train::{Lesson, Life, Objective, Recipe, Trained, Training, train};
use crate::nn::loss::KlDirection;
use crate::nn::network::Network;
use crate::spec::Setting;

use super::Start;

pub(super) const TEMPERATURE: Knob = Knob {
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
};

pub(super) const TEACHER_WEIGHT: Knob = Knob {
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
};

pub(super) const EPOCHS: Knob = Knob {
    id: text("epochs"),
    title: text("epochs"),
    summary: text("How often the student sees every training image."),
    range: Range::Integer {
        least: 1,
        most: 10_000,
        default: 3,
    },
};

pub(super) const DIRECTION: Knob = Knob {
    id: text("direction"),
    title: text("direction"),
    summary: text(
        "Which way the divergence is taken: forward is KL(teacher‖student), reverse the other.",
    ),
    range: Range::Choice {
        options: std::borrow::Cow::Borrowed(&[text("forward"), text("reverse")]),
        default: text("forward"),
    },
};

/// How the knob [`DIRECTION`] stands.
pub(super) fn direction(setting: &Setting) -> KlDirection {
    if setting.choice("direction") == "reverse" {
        KlDirection::Reverse
    } else {
        KlDirection::Forward
    }
}

/// Whether such a student can learn that way.
///
/// # Errors
/// [`Error::Impossible`] for a tree that should learn backward.
pub(super) fn suits(student: &Network, direction: KlDirection, teacher_weight: f64) -> Result<()> {
    if student.is_tree() && direction == KlDirection::Reverse && teacher_weight > 0.0 {
        return Err(Error::Impossible {
            knob: "direction".into(),
            problem: "a soft decision tree learns a teacher's answers forward alone".into(),
        });
    }
    Ok(())
}

/// Trains a student by a recipe, from its own beginning and in the order in which the reference saw its images.
pub(super) fn teach(
    student: &mut Network,
    lesson: Lesson<'_>,
    recipe: &Recipe,
    start: &Start<'_>,
    life: Life,
    observer: &mut dyn Observer,
    cx: &mut Context<'_>,
) -> Result<Trained> {
    suits(student, lesson.direction, lesson.teacher_weight)?;
    let training = Training {
        data: start.subject.data,
        recipe,
        objective: Objective::Distill(lesson),
        order_seed: start.subject.reference()?.plan.order_seed,
        life,
        adjust: None,
    };
    train(student, &training, observer, cx)
}

/// `1 epoch`, `3 epochs`.
pub(super) fn epochs(n: u32) -> String {
    if n == 1 {
        "1 epoch".to_owned()
    } else {
        format!("{n} epochs")
    }
}
