//! One optimizer step: a batch forward and backward, in parts where a device's memory does not hold it whole.

use candle_core::{Device, Tensor};

use super::feature_matching::FeatureMatching;
use super::{Lesson, Objective, Teacher, Training};
use crate::lab::error::Result;
use crate::nn::loss::{self, Found, Labels};
use crate::nn::network::{
    BatchStatistics, Frozen, Gradients, Keep, Network, Trace, Wanted, Workspace,
};
use crate::nn::op::gather::{Pick, Source};
use crate::nn::op::{tensor, to_device};
use crate::nn::optimizer::Optimizer;
use crate::nn::repeat::Repeated;
use crate::nn::rng::Rng;
use crate::nn::{Mode, device};

/// What a step learns from: images of a source, with their labels.
pub(super) struct Batch<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) picks: Vec<Pick>,
    pub(super) labels: Vec<u32>,
    /// What attacks draw from: a seed, and the stage and epoch.
    pub(super) seed: u64,
    pub(super) place: [u64; 2],
}

/// What is found of a batch's parts is read together.
const MOST_ASKED: usize = loss::MOST_UNREAD / 2;

/// The loop's own machinery, reused from step to step.
pub(super) struct Machinery<'t> {
    pub(super) optimizer: Optimizer,
    pub(super) workspace: Workspace,
    /// The network that is asked in every step and never learns.
    teacher: Option<Frozen<'t>>,
    /// The attack's.
    attack: Workspace,
    features: Option<FeatureMatching>,
    /// Steps on whole batches.
    repeated: Repeated,
    /// Whether statistics or weights may have moved in this step already, so that it cannot be tried once more.
    is_finishing: bool,
    /// In how many parts a batch goes through the network.
    pub(super) parts: usize,
}

/// What a part of a batch found.
pub(super) struct Part {
    /// The losses that make up the whole one; the hits are the first one's.
    found: Vec<Found>,
    /// What feature maps cost, which is added to those.
    matched: Vec<Found>,
    images: usize,
    /// How many losses a device was asked for, those of attacks included.
    pub(super) asked: usize,
}

impl Part {
    /// Whether reading it waits for nothing.
    pub(super) fn is_known(&self) -> bool {
        self.matched.iter().chain(&self.found).all(Found::is_known)
    }

    /// Whether its loss is finite, or not known yet.
    fn is_finite(&self) -> candle_core::Result<bool> {
        Ok(!self.is_known() || self.read()?.0.is_finite())
    }

    fn read(&self) -> candle_core::Result<(f64, u32)> {
        let (mut mean, mut hits) = (0.0, None);
        for matched in &self.matched {
            mean += matched.read()?.0;
        }
        for found in &self.found {
            let (value, correct) = found.read()?;
            mean += value;
            hits.get_or_insert(correct);
        }
        Ok((mean, hits.unwrap_or_default()))
    }
}

/// The mean loss of a step, its images and hits.
pub(super) fn together(parts: &[Part]) -> Result<(f64, usize, u64)> {
    let (mut sum, mut images, mut hits) = (0.0, 0, 0);
    for part in parts {
        let (mean, correct) = part.read()?;
        if parts.len() == 1 {
            return Ok((mean, part.images, u64::from(correct)));
        }
        sum += mean * part.images as f64;
        images += part.images;
        hits += u64::from(correct);
    }
    Ok((sum / images.max(1) as f64, images, hits))
}

/// What a part of a batch is learnt from.
struct Examples {
    clean: Tensor,
    /// What an attack made of them, with an adversarial recipe.
    attacked: Option<Tensor>,
    labels: Labels,
    /// Logits in a teacher's place, where smoothed labels take it.
    smoothed: Option<Tensor>,
}

/// A pass through the network in training mode.
struct Pass<'a, 't> {
    images: &'a Tensor,
    objective: loss::Objective<'a>,
    /// Of the step's loss.
    share: f64,
    /// The teacher's pass, where feature maps are brought together.
    features: Option<&'a Trace<'t>>,
}

/// Statistics of passes, in order, and the sum of their gradients.
#[derive(Default)]
struct Sum {
    statistics: Vec<BatchStatistics>,
    gradients: Option<Gradients>,
}

impl<'t> Machinery<'t> {
    pub(super) fn new(
        optimizer: Optimizer,
        features: Option<FeatureMatching>,
        teacher: Option<&'t Network>,
    ) -> Self {
        Self {
            optimizer,
            workspace: Workspace::default(),
            teacher: teacher.map(|network| Frozen::new(network, Workspace::default())),
            attack: Workspace::default(),
            features,
            repeated: Repeated::default(),
            is_finishing: false,
            parts: 1,
        }
    }

    /// One optimizer step at a learning rate and momentum; yields what each part found. When memory runs out, twice as
    /// many parts are tried.
    pub(super) fn step(
        &mut self,
        network: &mut Network,
        training: &Training<'_>,
        batch: &Batch<'_>,
        (learning_rate, momentum): (f64, f64),
    ) -> Result<Vec<Part>> {
        let asked = training.evaluations() as usize + usize::from(self.features.is_some());
        let most = MOST_ASKED / asked;
        loop {
            let tried = self.tried(network, training, batch, (learning_rate, momentum));
            match tried {
                Ok(parts) => return Ok(parts),
                Err(error)
                    if device::is_out_of_memory(&error)
                        && !self.is_finishing
                        && self.parts < batch.labels.len().min(most) =>
                {
                    self.parts *= 2;
                    self.release(&network.device())?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One optimizer step, in as many parts as it takes by now.
    fn tried(
        &mut self,
        network: &mut Network,
        training: &Training<'_>,
        batch: &Batch<'_>,
        rates: (f64, f64),
    ) -> candle_core::Result<Vec<Part>> {
        self.is_finishing = false;
        let whole = batch.labels.len();
        let each = whole.div_ceil(self.parts);
        let mut chunks = batch.picks.chunks(each).zip(batch.labels.chunks(each));
        if self.parts == 1
            && let Some(chunk) = chunks.next()
        {
            let examples = self.examples(network, training, batch, chunk)?;
            let (device, mut sum) = (network.device(), Sum::default());
            let mut repeated = std::mem::take(&mut self.repeated);
            let done = repeated.run(&device, whole, || {
                let part = self.part(network, training, &examples, whole, &mut sum)?;
                if part.is_finite()? {
                    self.finish(network, sum, rates)?;
                }
                Ok(vec![part])
            });
            self.repeated = repeated;
            return done;
        }
        let (mut parts, mut sum) = (Vec::new(), Sum::default());
        for chunk in chunks {
            let examples = self.examples(network, training, batch, chunk)?;
            let part = self.part(network, training, &examples, whole, &mut sum)?;
            let goes_on = part.is_finite()?;
            parts.push(part);
            if !goes_on {
                return Ok(parts);
            }
        }
        self.finish(network, sum, rates)?;
        Ok(parts)
    }

    /// The end of a step whose losses are finite, as far as they are known: one that is not must not reach the weights.
    fn finish(
        &mut self,
        network: &mut Network,
        sum: Sum,
        (learning_rate, momentum): (f64, f64),
    ) -> candle_core::Result<()> {
        self.is_finishing = true;
        let Some(gradients) = sum.gradients else {
            return Ok(());
        };
        for statistics in &sum.statistics {
            network.commit(statistics)?;
        }
        self.optimizer
            .step(network.parameters_mut(), &gradients, learning_rate)?;
        self.workspace.recycle(gradients);
        if let Some(features) = &mut self.features {
            features.step(learning_rate, momentum)?;
        }
        Ok(())
    }

    /// Gives back all memory that is not in use.
    fn release(&mut self, device: &Device) -> Result<()> {
        self.repeated = Repeated::default();
        self.workspace = Workspace::default();
        let teacher = self.teacher.as_ref().map(Frozen::network);
        self.teacher = teacher.map(|network| Frozen::new(network, Workspace::default()));
        self.attack = Workspace::default();
        if let Some(features) = &mut self.features {
            features.begin_again()?;
        }
        Ok(device::release(device)?)
    }

    /// Images and labels of a part of a batch.
    fn examples(
        &mut self,
        network: &Network,
        training: &Training<'_>,
        batch: &Batch<'_>,
        (picks, labels): (&[Pick], &[u32]),
    ) -> candle_core::Result<Examples> {
        let clean = batch.source.batch(picks)?;
        let labels = Labels::new(labels.to_vec(), &network.device())?;
        let attacked = match &training.recipe.adversarial {
            None => None,
            Some(pgd) => {
                let [stage, epoch] = batch.place;
                let mut streams = |at: usize| {
                    let place = [stage, epoch, u64::from(picks[at].index)];
                    Rng::stream(batch.seed, "attack", &place)
                };
                let workspace = &mut self.attack;
                Some(pgd.attack(network, &clean, &labels, &mut streams, workspace)?)
            }
        };
        let smoothed = match &training.objective {
            Objective::Distill(
                lesson @ Lesson {
                    teacher: Teacher::SmoothedLabels(share),
                    ..
                },
            ) if lesson.teacher_weight > 0.0 => {
                Some(smoothed(&labels, network, *share, lesson.temperature)?)
            }
            _ => None,
        };
        Ok(Examples {
            clean,
            attacked,
            labels,
            smoothed,
        })
    }

    /// The passes over a part of a batch, clean and attacked.
    fn part(
        &mut self,
        network: &Network,
        training: &Training<'_>,
        examples: &Examples,
        whole: usize,
        sum: &mut Sum,
    ) -> candle_core::Result<Part> {
        let Examples {
            clean,
            attacked,
            labels,
            smoothed,
        } = examples;
        let images = attacked.as_ref().unwrap_or(clean);
        let smoothing = training.recipe.label_smoothing;
        let Self {
            workspace,
            teacher,
            features,
            ..
        } = self;
        let mut part = Part {
            found: Vec::new(),
            matched: Vec::new(),
            images: labels.len(),
            asked: training.recipe.attack_evaluations() as usize,
        };
        let learner = Learner {
            network,
            workspace,
            features: features.as_mut(),
            labels,
            whole,
        };
        let of_labels = |smoothing| {
            if network.is_tree() {
                loss::Objective::Expected {
                    smoothing,
                    teacher: None,
                    temperature: 1.0,
                    weight: 0.0,
                }
            } else {
                loss::Objective::Labels { smoothing }
            }
        };
        let lesson = match &training.objective {
            Objective::Classify => {
                let pass = Pass {
                    images,
                    objective: of_labels(smoothing),
                    share: 1.0,
                    features: None,
                };
                learner.passes(&[pass], sum, &mut part)?;
                return Ok(part);
            }
            Objective::Distill(lesson) => lesson,
        };
        let keep = if lesson.features.is_some() {
            Keep::Gradients
        } else {
            Keep::Nothing
        };
        let trace = match teacher {
            Some(network) => Some(network.trace(clean, keep)?),
            None => None,
        };
        let logits = match &trace {
            Some(trace) => Some(trace.logits().clone()),
            _ => smoothed.clone(),
        };
        let features = trace.as_ref().filter(|_| lesson.features.is_some());
        let weight = lesson.teacher_weight;
        let Some(logits) = logits.filter(|_| weight > 0.0) else {
            let pass = Pass {
                images,
                objective: of_labels(0.0),
                share: 1.0,
                features,
            };
            learner.passes(&[pass], sum, &mut part)?;
            return Ok(part);
        };
        if training.is_split(lesson) {
            let passes = [
                Pass {
                    images: clean,
                    objective: of_labels(0.0),
                    share: 1.0 - weight,
                    features: None,
                },
                Pass {
                    images,
                    objective: of_teacher(network, lesson, &logits, 1.0),
                    share: weight,
                    features,
                },
            ];
            learner.passes(&passes, sum, &mut part)?;
        } else {
            let pass = Pass {
                images,
                objective: of_teacher(network, lesson, &logits, weight),
                share: 1.0,
                features,
            };
            learner.passes(&[pass], sum, &mut part)?;
        }
        Ok(part)
    }
}

/// What is learnt from a teacher's logits, by that weight.
fn of_teacher<'a>(
    network: &Network,
    lesson: &Lesson<'_>,
    logits: &'a Tensor,
    weight: f64,
) -> loss::Objective<'a> {
    let temperature = lesson.temperature;
    if network.is_tree() {
        return loss::Objective::Expected {
            smoothing: 0.0,
            teacher: Some(logits),
            temperature,
            weight,
        };
    }
    loss::Objective::Teacher {
        logits,
        temperature,
        weight,
        direction: lesson.direction,
    }
}

/// Logits whose softmax at the temperature is the labels with that share spread over all classes.
fn smoothed(
    labels: &Labels,
    network: &Network,
    share: f64,
    temperature: f64,
) -> candle_core::Result<Tensor> {
    let classes = network.classes();
    let spread = share / classes as f64;
    let logit = |p: f64| (temperature * p.ln()) as f32;
    let (own, other) = (logit(1.0 - share + spread), logit(spread));
    let mut rows = vec![other; labels.len() * classes];
    for (row, label) in rows.chunks_exact_mut(classes).zip(labels.classes()) {
        row[*label as usize] = own;
    }
    let rows = tensor(rows, &[labels.len(), classes])?;
    to_device(&rows, &network.device())
}

/// Whoever goes forward and backward.
struct Learner<'a> {
    network: &'a Network,
    workspace: &'a mut Workspace,
    features: Option<&'a mut FeatureMatching>,
    labels: &'a Labels,
    whole: usize,
}

impl Learner<'_> {
    /// Adds the passes' losses to the part, their statistics and gradients to the sum.
    fn passes(
        mut self,
        passes: &[Pass<'_, '_>],
        sum: &mut Sum,
        part: &mut Part,
    ) -> candle_core::Result<()> {
        for pass in passes {
            let trace = self
                .network
                .forward(pass.images, Mode::Train, self.workspace)?;
            let Pass {
                objective, share, ..
            } = *pass;
            let loss = loss::of_part(objective, trace.logits(), self.labels, self.whole, share)?;
            let mut taps = Vec::new();
            if let (Some(teacher), Some(features)) = (pass.features, &mut self.features) {
                let share = self.labels.len() as f64 / self.whole as f64;
                let matched = features.of(&trace, teacher, share)?;
                part.matched.push(matched.found);
                part.asked += 1;
                taps = matched.taps;
            }
            part.found.push(loss.found);
            part.asked += 1;
            if !part.is_finite()? {
                return Ok(());
            }
            let gradients = trace.backward_with(&loss.d_logits, taps, Wanted::PARAMETERS)?;
            sum.statistics.push(trace.statistics());
            drop(trace);
            sum.gradients = Some(match sum.gradients.take() {
                None => gradients,
                Some(all) => {
                    all.add(&gradients)?;
                    self.workspace.recycle(gradients);
                    all
                }
            });
        }
        Ok(())
    }
}
