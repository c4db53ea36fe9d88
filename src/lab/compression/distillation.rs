//! Distillation: a smaller student learns from the labels and from the network that it replaces.
//!
//! L = (1 - a) CE(y, p_s) + a T² KL(p_t‖p_s), p = softmax(z / T), summed over the classes, mean over the batch; Hinton et
//! al. 2015, arXiv:1503.02531. A high teacher weight a means much teacher.
//! The student has the reference's layers and fewer channels, so that the ratio of its parameters is removed ("Analyzing
//! the robustness of model compression techniques to noise": 10, 40, 60, 75 and 90 %), or it is another, named
//! architecture ("Robustness to distribution shifts of compressed networks for edge devices": one student, ever larger
//! teachers). Initial weights come from the reference's seed, the images in the reference's order.
//!
//! Controls: a teacher weight of 0 is the same student from scratch; `teacher = random` learns from an untrained network;
//! `label-smoothing` from labels spread until they are as uncertain, on average, as the teacher's answers at the
//! temperature: what is left of the teacher when it knows nothing of wrong classes.
//! Features: attention transfer and FitNets, as `nn/loss/features.rs` says; FitNets' regressor is trained along with the
//! same rate and momentum and thrown away. Deviation: its hint is learnt beside the answers and not before them.
//! `robust = ard` (Goldblum et al. 2020, arXiv:1905.09747): L = a T² KL(p_t(x)‖p_s(x + δ)) + (1 - a) CE(y, p_s(x)), δ what
//! PGD finds against the student's own cross-entropy; the teacher sees x. Deviation: the attack is crafted in evaluation
//! mode.
//! Deviation: the recipe is the reference's own, apart from the epochs, which the publications leave open.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::attack::pgd::{Pgd, Start as From};
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::ratio::{self, RatioOf};
use crate::lab::train::{
    ATTACK_STEP_SIZE, ATTACK_STEPS, EPSILON, FeatureLoss, Features, Lesson, Recipe, Teacher,
    attack, pairs,
};
use crate::nn::loss::KlDirection;
use crate::nn::network::Network;
use crate::nn::rng::Rng;
use crate::spec::Method;

use super::matched_entropy;
use super::student::{self, Shrink};
use super::teaching::{self, DIRECTION, EPOCHS, TEACHER_WEIGHT, TEMPERATURE, teach};

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("distillation"),
        title: text("Distillation"),
        summary: text(
            "Trains a smaller student, with fewer channels or of another architecture, on the labels and on the network's \
             soft answers. Really smaller and faster; the student starts from scratch.",
        ),
        reference: text("arXiv:1503.02531"),
        family: text("distillation"),
        ratio_of: Some(text("parameters")),
    },
    knobs: &[
        Knob {
            id: text("ratio"),
            title: text("ratio"),
            summary: text(
                "Share that the student has less than the reference, of what `ratio of` says; solved for by its channels, in multiples of 4. A student of another architecture is as large as it is.",
            ),
            range: Range::Real {
                least: 0.0,
                most: 0.99,
                step: 0.05,
                default: 0.4,
            },
        },
        ratio::knob("parameters", ratio::ALL),
        Knob {
            id: text("student"),
            title: text("student"),
            summary: text(
                "same: the reference's architecture with fewer channels. Otherwise the named one as it stands.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[
                    text("same"),
                    text("lenet5"),
                    text("cnn8"),
                    text("resnet18"),
                    text("resnet34"),
                    text("resnet50"),
                    text("resnet101"),
                    text("resnet152"),
                    text("mobilenet-v1"),
                    text("mlp"),
                    text("soft-decision-tree"),
                ]),
                default: text("same"),
            },
        },
        Knob {
            id: text("shrink"),
            title: text("shrink"),
            summary: text(
                "What of the student is made smaller: its channels (width), or channels and blocks alike (width-and-depth, for residual networks).",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("width"), text("width-and-depth")]),
                default: text("width"),
            },
        },
        TEMPERATURE,
        TEACHER_WEIGHT,
        EPOCHS,
        DIRECTION,
        Knob {
            id: text("teacher"),
            title: text("teacher"),
            summary: text(
                "Whose answers are learnt: the reference's, or, as controls, those of an untrained network (random), or labels as uncertain as the teacher (label-smoothing).",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[
                    text("reference"),
                    text("random"),
                    text("label-smoothing"),
                ]),
                default: text("reference"),
            },
        },
        Knob {
            id: text("feature"),
            title: text("feature"),
            summary: text(
                "Feature maps that are brought together as well: where their energy is (attention-transfer), or what they hold, through a 1x1 convolution (fitnets).",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[
                    text("none"),
                    text("attention-transfer"),
                    text("fitnets"),
                ]),
                default: text("none"),
            },
        },
        Knob {
            id: text("feature-weight"),
            title: text("feature weight"),
            summary: text("How much the feature maps count, times the published strength."),
            range: Range::Real {
                least: 0.0,
                most: 1000.0,
                step: 0.1,
                default: 1.0,
            },
        },
        Knob {
            id: text("robust"),
            title: text("robust"),
            summary: text(
                "ard: the student gives on attacked images the answers that its teacher gives on clean ones (adversarially robust distillation).",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("none"), text("ard")]),
                default: text("none"),
            },
        },
        EPSILON,
        ATTACK_STEPS,
        ATTACK_STEP_SIZE,
    ],
    build: |setting| {
        Box::new(Distillation {
            ratio: setting.real("ratio"),
            of: RatioOf::of(setting.choice("ratio-of")).unwrap_or(RatioOf::Parameters),
            student: match setting.choice("student") {
                "same" => None,
                id => Some(id.to_owned()),
            },
            shrink: match setting.choice("shrink") {
                "width-and-depth" => Shrink::WidthAndDepth,
                _ => Shrink::Width,
            },
            temperature: setting.real("temperature"),
            teacher_weight: setting.real("teacher-weight"),
            epochs: setting.integer("epochs") as u32,
            direction: teaching::direction(setting),
            teacher: match setting.choice("teacher") {
                "random" => Who::Random,
                "label-smoothing" => Who::LabelSmoothing,
                _ => Who::Reference,
            },
            features: {
                let loss = match setting.choice("feature") {
                    "attention-transfer" => Some(FeatureLoss::AttentionTransfer),
                    "fitnets" => Some(FeatureLoss::FitNets),
                    _ => None,
                };
                let weight = setting.real("feature-weight");
                loss.map(|loss| Features { loss, weight })
            },
            robust: match setting.choice("robust") {
                "ard" => Some(attack(setting, From::Uniform)),
                _ => None,
            },
        })
    },
};

/// Whose answers are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Reference,
    Random,
    LabelSmoothing,
}

struct Distillation {
    ratio: f64,
    of: RatioOf,
    /// Another architecture's id; the reference's own without.
    student: Option<String>,
    shrink: Shrink,
    temperature: f64,
    teacher_weight: f64,
    epochs: u32,
    direction: KlDirection,
    teacher: Who,
    features: Option<Features>,
    robust: Option<Pgd>,
}

impl Compression for Distillation {
    fn compress(
        &self,
        start: &Start<'_>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        self.check()?;
        let reference = start.subject.reference()?;
        let whole = reference.last.parameters().count();
        let (design, asked) = match &self.student {
            None => {
                let size = |network: &Network| self.of.of_shape(network) as f64;
                let room = student::Room::of(&reference.last);
                let design =
                    student::shrunk(start.architecture, room, &size, self.ratio, self.shrink)?;
                (design, Some(self.ratio))
            }
            Some(id) => (student::plain(id)?, None),
        };
        let mut student = student::built(start, &design, start.subject.network.init_seed)?;
        let own = student.parameters().count();
        let size = |network: &Network| self.of.of_shape(network) as f64;
        let reached = 1.0 - size(&student) / size(&reference.last);
        let mut remarks = vec![
            format!(
                "the student is {} with {own} parameters, the reference has {whole}{}",
                described(&design),
                if own < whole {
                    "; really smaller"
                } else {
                    "; not smaller"
                }
            ),
            format!(
                "it started from weights of its own and learned for {}",
                teaching::epochs(self.epochs)
            ),
        ];
        if let Some(id) = &self.student {
            remarks.push(format!(
                "{id} is as large as it is: ratio and ratio-of do not count for a student of a named architecture"
            ));
        }
        if asked.is_some_and(|asked| (asked - reached).abs() > student::TOLERANCE) {
            remarks.push(format!(
                "no number of channels comes nearer to the ratio asked for: {:.1} % is reached",
                100.0 * reached
            ));
        }
        let untrained = match self.teacher {
            Who::Random => {
                let mut rng = Rng::stream(start.subject.network.init_seed, "random-teacher", &[]);
                Some(student::built(start, start.architecture, rng.bits())?)
            }
            _ => None,
        };
        let teacher = match (&untrained, self.teacher) {
            (Some(untrained), _) => Teacher::Network(untrained),
            (None, Who::LabelSmoothing) => {
                let share = matched_entropy::smoothing(start, self.temperature, cx)?;
                Teacher::SmoothedLabels(share)
            }
            (None, _) => Teacher::Network(start.network),
        };
        remarks.extend(self.of_teacher(teacher, &student)?);
        let mut recipe = Recipe {
            epochs: self.epochs,
            ..start.recipe.clone()
        };
        if let Some(pgd) = self.robust {
            recipe.adversarial = Some(pgd);
            remarks.push(format!(
                "it gives its teacher's answers on images attacked by PGD, {} steps, epsilon {}",
                pgd.steps, pgd.epsilon
            ));
        }
        let lesson = Lesson {
            teacher,
            temperature: self.temperature,
            teacher_weight: self.teacher_weight,
            direction: self.direction,
            features: self.features,
            labels_on_clean: self.robust.is_some(),
        };
        let life = start.life;
        let trained = teach(&mut student, lesson, &recipe, start, life, observer, cx)?;
        Ok(Compressed {
            network: student,
            best: Some(trained.best),
            asked,
            reached: Some(reached),
            remarks,
            cost: trained.cost,
            life: trained.life,
        })
    }

    fn suits(&self, design: &Method, network: &Network) -> Result<()> {
        self.check()?;
        let (shape, classes) = (network.input(), network.classes());
        let student = match &self.student {
            None => {
                let size = |network: &Network| self.of.of_shape(network) as f64;
                let room = student::Room { shape, classes };
                student::shrunk(design, room, &size, self.ratio, self.shrink)?
            }
            Some(id) => student::plain(id)?,
        };
        let student = student::outline(&student, shape, classes)?;
        teaching::suits(&student, self.direction, self.teacher_weight)
    }

    fn epochs(&self) -> u32 {
        self.epochs
    }
}

impl Distillation {
    /// Knobs that contradict one another.
    fn check(&self) -> Result<()> {
        let impossible = |knob: &str, problem: &str| {
            Err(Error::Impossible {
                knob: knob.into(),
                problem: problem.into(),
            })
        };
        if self.robust.is_some() && self.teacher_weight == 0.0 {
            return impossible(
                "teacher-weight",
                "robust = ard learns the teacher's answers; more than 0",
            );
        }
        if self.features.is_some() && self.teacher == Who::LabelSmoothing {
            return impossible(
                "feature",
                "smoothed labels have no feature maps; teacher = reference has",
            );
        }
        Ok(())
    }

    /// What is to be said of the teacher and the feature maps.
    fn of_teacher(&self, teacher: Teacher<'_>, student: &Network) -> Result<Vec<String>> {
        let mut remarks = Vec::new();
        match (self.teacher, teacher) {
            _ if self.teacher_weight == 0.0 => {
                remarks.push("a control: it learned from the labels alone".to_owned());
            }
            (_, Teacher::SmoothedLabels(share)) => remarks.push(format!(
                "a control: in the teacher's place stood labels of which {:.2} % is spread over all classes, as uncertain \
                 as the teacher on average",
                100.0 * share
            )),
            (Who::Random, _) => {
                remarks.push("a control: its teacher was never trained".to_owned());
            }
            _ => {}
        }
        if let (Some(features), Teacher::Network(teacher)) = (self.features, teacher) {
            let named = pairs(features.loss, student, teacher)?
                .into_iter()
                .map(|pair| {
                    let own = &student.nodes()[pair.student].name;
                    let others = &teacher.nodes()[pair.teacher].name;
                    if own == others {
                        own.clone()
                    } else {
                        format!("{own} with {others}")
                    }
                });
            let named: Vec<String> = named.collect();
            remarks.push(format!(
                "feature maps brought together: {}",
                named.join(", ")
            ));
        }
        Ok(remarks)
    }
}

/// `resnet18 at width 0.5 and depth 0.5`.
fn described(design: &crate::spec::Method) -> String {
    let knob = |id: &str| match design.setting.0.get(id) {
        Some(crate::spec::KnobValue::Real(share)) if *share != 1.0 => {
            Some(format!("{id} {share:.3}"))
        }
        _ => None,
    };
    let knobs: Vec<String> = ["width", "depth"].into_iter().filter_map(knob).collect();
    if knobs.is_empty() {
        design.id.clone()
    } else {
        format!("{} at {}", design.id, knobs.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::architecture;

    #[test]
    fn every_architecture_can_be_a_student() {
        let knob = ENTRY
            .knobs
            .iter()
            .find(|knob| knob.id == "student")
            .unwrap();
        let Range::Choice { options, .. } = &knob.range else {
            panic!("a choice");
        };
        let named: Vec<&str> = options[1..].iter().map(AsRef::as_ref).collect();
        let all: Vec<&str> = architecture::ALL
            .iter()
            .map(|entry| &*entry.info.id)
            .collect();
        assert_eq!(named, all);
    }
}
