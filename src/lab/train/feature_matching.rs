//! Which feature maps of a student and its teacher are brought together, and how.
//!
//! Of each network the last map of every size is taken that a step ends in: the end of a stage. Maps of one size make a
//! pair; where the two networks have no size in common, the last maps do, then those before them, and the teacher's are
//! resampled. Maps of one pixel are left out: their attention is always 1.

use candle_core::Tensor;

use crate::lab::error::{Error, Result};
use crate::nn::Mode;
use crate::nn::layer::Layer;
use crate::nn::loss::Found;
use crate::nn::loss::features::{self, Matcher};
use crate::nn::network::{Network, Trace};
use crate::nn::rng::Rng;
use crate::nn::step::{Together, plan};

/// How maps are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureLoss {
    /// Where the energy is, in all pairs.
    AttentionTransfer,
    /// What the channels hold, by a regressor, in the middle pair.
    FitNets,
}

/// What is asked of a student's feature maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features {
    pub loss: FeatureLoss,
    /// Times the published strength.
    pub weight: f64,
}

/// β of attention transfer, arXiv:1612.03928, section 4: "10³ divided by the number of elements".
const BETA: f64 = 1e3;

/// Student's and teacher's nodes that are brought together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub student: usize,
    pub teacher: usize,
}

/// The pairs, and what compares them: a regressor is trained along, and thrown away in the end.
pub(super) struct FeatureMatching {
    /// Of the loss.
    strength: f64,
    pairs: Vec<Pair>,
    matcher: Matcher,
}

/// What the maps of a batch cost: the loss, and the gradients that enter at the student's nodes.
pub(super) struct Matched {
    pub(super) found: Found,
    pub(super) taps: Vec<(usize, Tensor)>,
}

impl FeatureMatching {
    pub(super) fn new(
        features: Features,
        student: &Network,
        teacher: &Network,
        seed: u64,
    ) -> Result<Self> {
        let pairs = pairs(features.loss, student, teacher)?;
        let device = student.device();
        let matcher = match features.loss {
            FeatureLoss::AttentionTransfer => Matcher::attention(&device),
            FeatureLoss::FitNets => {
                let channels = |network: &Network, node: usize| network.shape(node)[0];
                let from = channels(student, pairs[0].student);
                let to = channels(teacher, pairs[0].teacher);
                let bound = (3.0 / from as f64).sqrt();
                let mut rng = Rng::stream(seed, "regressor", &[]);
                let drawn = (0..from * to).map(|_| rng.between(-bound, bound) as f32);
                Matcher::hint(drawn.collect(), to, &device)?
            }
        };
        let strength = match features.loss {
            FeatureLoss::AttentionTransfer => features.weight * BETA,
            FeatureLoss::FitNets => features.weight,
        };
        Ok(Self {
            strength,
            pairs,
            matcher,
        })
    }

    /// The loss of a part of a batch of `whole` images.
    pub(super) fn of(
        &mut self,
        student: &Trace<'_>,
        teacher: &Trace<'_>,
        share: f64,
    ) -> candle_core::Result<Matched> {
        let kept = |trace: &Trace<'_>, node: usize| {
            let kept = trace.activation(node).cloned();
            kept.ok_or_else(|| crate::nn::invalid("a feature map was not kept"))
        };
        let maps = |pair: &Pair| Ok((kept(student, pair.student)?, kept(teacher, pair.teacher)?));
        let maps: candle_core::Result<Vec<_>> = self.pairs.iter().map(maps).collect();
        let features::Matched { found, d_students } =
            self.matcher.of(&maps?, self.strength * share)?;
        let nodes = self.pairs.iter().map(|pair| pair.student);
        Ok(Matched {
            found,
            taps: nodes.zip(d_students).collect(),
        })
    }

    /// The regressor's own step.
    pub(super) fn step(&mut self, learning_rate: f64, momentum: f64) -> candle_core::Result<()> {
        self.matcher.step(learning_rate, momentum)
    }

    /// Before a batch is tried again in smaller parts.
    pub(super) fn begin_again(&mut self) -> candle_core::Result<()> {
        self.matcher.begin_again()
    }
}

/// The pairs of a student and a teacher.
///
/// # Errors
/// When one of them has no feature maps.
pub fn pairs(loss: FeatureLoss, student: &Network, teacher: &Network) -> Result<Vec<Pair>> {
    let of_student = stages(student, Mode::Train)?;
    let of_teacher = stages(teacher, Mode::Eval)?;
    let size = |network: &Network, node: usize| network.shape(node)[1..].to_vec();
    let mut pairs = Vec::new();
    for &at in &of_student {
        let same = |node: &&usize| size(teacher, **node) == size(student, at);
        if let Some(&node) = of_teacher.iter().find(same) {
            pairs.push(Pair {
                student: at,
                teacher: node,
            });
        }
    }
    if pairs.is_empty() {
        let last = of_student.iter().rev().zip(of_teacher.iter().rev());
        pairs = last
            .map(|(&student, &teacher)| Pair { student, teacher })
            .collect();
        pairs.reverse();
    }
    if loss == FeatureLoss::FitNets {
        // The middle hint, as in the publication; the earlier of two.
        pairs = vec![pairs.swap_remove((pairs.len() - 1) / 2)];
    }
    Ok(pairs)
}

/// The last map of every size, in order.
fn stages(network: &Network, mode: Mode) -> Result<Vec<usize>> {
    let mut stages: Vec<usize> = Vec::new();
    let steps = plan(network, mode, Together::OnCpu);
    for (at, step) in steps.iter().enumerate() {
        let shape = network.shape(step.last);
        let is_map = shape.len() == 3 && shape[1] * shape[2] > 1 && at + 1 < steps.len();
        let is_input = matches!(
            network.nodes()[step.first].layer,
            Layer::Normalize { .. } | Layer::FakeQuant { .. }
        );
        if !is_map || is_input {
            continue;
        }
        stages.retain(|node| network.shape(*node)[1..] != shape[1..]);
        stages.push(step.last);
    }
    if stages.is_empty() {
        return Err(Error::Impossible {
            knob: "feature".into(),
            problem: format!(
                "{} has no feature maps; none is the one that it can learn by",
                network.name()
            ),
        });
    }
    Ok(stages)
}
