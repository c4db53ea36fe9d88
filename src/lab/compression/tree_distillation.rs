//! Distillation into a soft decision tree: a student that can be read from its root.
//!
//! Frosst and Hinton 2017, arXiv:1711.09784: L = Σ_l P^l(x) (-Σ_k T_k log Q^l_k) + the penalty, T the labels or, by the
//! teacher's weight a, its answers at a temperature: T = (1 - a) onehot(y) + a softmax(z_t / T). The tree is that of the
//! architecture `soft-decision-tree`, and `nn/op/soft_tree.rs` has its arithmetic.
//! Initial weights come from the reference's seed, the images in the reference's order.

use crate::catalog::{Entry, Info, text};
use crate::lab::architecture::soft_decision_tree::{BETA, DEPTH, PENALTY, PREDICTION};
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::Result;
use crate::lab::train::{Lesson, Recipe, Teacher};
use crate::nn::loss::KlDirection;
use crate::spec::{KnobValue, Method, Setting};

use super::student;
use super::teaching::{self, EPOCHS, TEACHER_WEIGHT, TEMPERATURE, teach};

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("tree-distillation"),
        title: text("Distillation into a tree"),
        summary: text(
            "Trains a soft decision tree on the labels and on the network's soft answers: a student whose every decision is \
             a path of questions about the image.",
        ),
        reference: text("arXiv:1711.09784"),
        family: text("distillation"),
        ratio_of: None,
    },
    knobs: &[
        DEPTH,
        BETA,
        PENALTY,
        PREDICTION,
        TEMPERATURE,
        TEACHER_WEIGHT,
        EPOCHS,
    ],
    build: |setting| {
        let own = [DEPTH, BETA, PENALTY, PREDICTION];
        let is_own = |id: &str| own.iter().any(|knob| knob.id == id);
        let own = setting.0.iter().filter(|(id, _)| is_own(id));
        Box::new(TreeDistillation {
            tree: Setting(own.map(|(id, value)| (id.clone(), value.clone())).collect()),
            temperature: setting.real("temperature"),
            teacher_weight: setting.real("teacher-weight"),
            epochs: setting.integer("epochs") as u32,
        })
    },
};

struct TreeDistillation {
    /// Knobs of the tree's architecture.
    tree: Setting,
    temperature: f64,
    teacher_weight: f64,
    epochs: u32,
}

impl Compression for TreeDistillation {
    fn compress(
        &self,
        start: &Start<'_>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        let design = Method {
            setting: self.tree.clone(),
            ..Method::plain("soft-decision-tree")
        };
        let mut student = student::built(start, &design, start.subject.network.init_seed)?;
        let recipe = Recipe {
            epochs: self.epochs,
            ..start.recipe.clone()
        };
        let lesson = Lesson {
            teacher: Teacher::Network(start.network),
            temperature: self.temperature,
            teacher_weight: self.teacher_weight,
            direction: KlDirection::Forward,
            features: None,
            labels_on_clean: false,
        };
        let life = start.life;
        let trained = teach(&mut student, lesson, &recipe, start, life, observer, cx)?;
        let depth = self.tree.integer("depth");
        let mut remarks = vec![
            format!(
                "the student is a soft decision tree with {} questions and {} leaves; it learned for {}",
                (1_u64 << depth) - 1,
                1_u64 << depth,
                teaching::epochs(self.epochs)
            ),
            "its outputs are log-probabilities; the loss of its training is without the penalty"
                .to_owned(),
        ];
        if self.tree.0.get("prediction") == Some(&KnobValue::Choice("max-path".into())) {
            remarks.push(
                "the choice of a leaf has no gradient: attacks go by that of the mean over all leaves"
                    .to_owned(),
            );
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
