//! A soft decision tree: every inner node asks the whole image one question and is answered by a probability.
//!
//! Frosst and Hinton 2017, "Distilling a neural network into a soft decision tree", arXiv:1711.09784; the arithmetic is
//! in `nn/op/soft_tree.rs`. A tree of depth D has 2^D - 1 questions and 2^D answers, each a distribution over the classes.
//!
//! By hand, depth 8 for 1x28x28 and ten classes:
//!
//! | layer | parameters | multiply-accumulates |
//! |---|---|---|
//! | questions | 255·784 + 255 = 200,175 | 199,920 |
//! | answers | 256·10 = 2,560 | 2,560 |
//! | together | 202,735 | 202,480 |
//!
//! Its outputs are log-probabilities: their softmax is the tree's own distribution.

use super::{Architecture, normalize};
use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::nn::Result;
use crate::nn::layer::Layer::{self, Flatten};
use crate::nn::network::Builder;
use crate::nn::op::soft_tree::{DEEPEST, Prediction};

pub const ENTRY: Entry<dyn Architecture> = Entry {
    info: Info {
        id: text("soft-decision-tree"),
        title: text("Soft decision tree"),
        summary: text(
            "A binary tree of soft questions about the whole image, with a distribution at each leaf: a student that can \
             be read from its root.",
        ),
        reference: text("arXiv:1711.09784"),
        family: text("tree"),
        ratio_of: None,
    },
    knobs: &[DEPTH, BETA, PENALTY, PREDICTION],
    build: |setting| {
        Box::new(SoftDecisionTree {
            depth: setting.integer("depth") as usize,
            beta: setting.real("beta"),
            penalty: setting.real("penalty"),
            prediction: if setting.choice("prediction") == "expected" {
                Prediction::Expected
            } else {
                Prediction::MaxPath
            },
        })
    },
};

pub(crate) const DEPTH: Knob = Knob {
    id: text("depth"),
    title: text("depth"),
    summary: text("Questions on the way from the root to a leaf."),
    range: Range::Integer {
        least: 1,
        most: DEEPEST as i64,
        default: 8,
    },
};

pub(crate) const BETA: Knob = Knob {
    id: text("beta"),
    title: text("beta"),
    summary: text("Inverse temperature of the questions: more makes them harder."),
    range: Range::Real {
        least: 0.01,
        most: 100.0,
        step: 0.5,
        default: 1.0,
    },
};

pub(crate) const PENALTY: Knob = Knob {
    id: text("penalty"),
    title: text("penalty"),
    summary: text(
        "Price of questions that send all images one way, halved with each level; 0 asks none.",
    ),
    range: Range::Real {
        least: 0.0,
        most: 10.0,
        step: 0.05,
        default: 0.1,
    },
};

pub(crate) const PREDICTION: Knob = Knob {
    id: text("prediction"),
    title: text("prediction"),
    summary: text(
        "max-path: the distribution of the leaf that an image most probably ends in. expected: the mean of all leaves, each as probable as it is.",
    ),
    range: Range::Choice {
        options: std::borrow::Cow::Borrowed(&[text("max-path"), text("expected")]),
        default: text("max-path"),
    },
};

struct SoftDecisionTree {
    depth: usize,
    beta: f64,
    penalty: f64,
    prediction: Prediction,
}

impl Architecture for SoftDecisionTree {
    fn id(&self) -> &'static str {
        "soft-decision-tree"
    }

    fn lay_out(&self, network: &mut Builder, normalization: (&[f32], &[f32])) -> Result<()> {
        let tree = Layer::SoftTree {
            depth: self.depth,
            outputs: network.classes(),
            beta: self.beta,
            penalty: self.penalty,
            prediction: self.prediction,
        };
        network.chain(vec![
            normalize(normalization),
            ("flatten", Flatten),
            ("tree", tree),
        ])
    }
}
