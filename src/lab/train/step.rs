//! One optimizer step: a batch forward and backward, in parts where a device's memory does not hold it whole.

use candle_core::Device;

use super::Objective;
use crate::lab::error::Result;
use crate::nn::loss::{self, Found, Labels};
use crate::nn::network::{BatchStatistics, Gradients, Network, Wanted, Workspace};
use crate::nn::op::gather::{Pick, Source};
use crate::nn::optimizer::Optimizer;
use crate::nn::{Mode, device};

/// What a step learns from: images of a source, with their labels.
pub(super) struct Batch<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) picks: Vec<Pick>,
    pub(super) labels: Vec<u32>,
}

/// What is found of a batch's parts is read together.
const MOST_PARTS: usize = loss::MOST_UNREAD / 2;

/// The loop's own machinery, reused from step to step.
pub(super) struct Machinery {
    pub(super) optimizer: Optimizer,
    pub(super) workspace: Workspace,
    /// The teacher's.
    teacher: Workspace,
    /// In how many parts a batch goes through the network.
    pub(super) parts: usize,
}

/// What a part of a batch found.
pub(super) struct Part {
    pub(super) found: Found,
    pub(super) images: usize,
}

/// The mean loss of a step, its images and hits.
pub(super) fn together(parts: &[Part]) -> Result<(f64, usize, u64)> {
    let (mut sum, mut images, mut hits) = (0.0, 0, 0);
    for part in parts {
        let (mean, correct) = part.found.read()?;
        if parts.len() == 1 {
            return Ok((mean, part.images, u64::from(correct)));
        }
        sum += mean * part.images as f64;
        images += part.images;
        hits += u64::from(correct);
    }
    Ok((sum / images.max(1) as f64, images, hits))
}

impl Machinery {
    pub(super) fn new(optimizer: Optimizer) -> Self {
        Self {
            optimizer,
            workspace: Workspace::default(),
            teacher: Workspace::default(),
            parts: 1,
        }
    }

    /// One optimizer step; yields what each part found. When memory runs out, twice as many parts are tried.
    pub(super) fn step(
        &mut self,
        network: &mut Network,
        objective: &Objective<'_>,
        smoothing: f64,
        batch: &Batch<'_>,
        learning_rate: f64,
    ) -> Result<Vec<Part>> {
        loop {
            let tried = self.gradients(network, objective, smoothing, batch);
            let (parts, statistics, gradients) = match tried {
                Ok(done) => done,
                Err(error)
                    if device::is_out_of_memory(&error)
                        && self.parts < batch.labels.len().min(MOST_PARTS) =>
                {
                    self.parts *= 2;
                    self.release(&network.device())?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(gradients) = gradients {
                for statistics in &statistics {
                    network.commit(statistics)?;
                }
                self.optimizer
                    .step(network.parameters_mut(), &gradients, learning_rate)?;
                self.workspace.recycle(gradients);
            }
            return Ok(parts);
        }
    }

    /// Gives back all memory that is not in use.
    fn release(&mut self, device: &Device) -> Result<()> {
        (self.workspace, self.teacher) = (Workspace::default(), Workspace::default());
        Ok(device::release(device)?)
    }

    /// What the parts found, the statistics of each, and the sum of their gradients; none if a loss is not finite.
    fn gradients(
        &mut self,
        network: &Network,
        objective: &Objective<'_>,
        smoothing: f64,
        batch: &Batch<'_>,
    ) -> candle_core::Result<(Vec<Part>, Vec<BatchStatistics>, Option<Gradients>)> {
        let whole = batch.labels.len();
        let each = whole.div_ceil(self.parts);
        let (mut parts, mut statistics, mut sum) = (Vec::new(), Vec::new(), None::<Gradients>);
        for (picks, labels) in batch.picks.chunks(each).zip(batch.labels.chunks(each)) {
            let images = batch.source.batch(picks)?;
            let trace = network.forward(&images, Mode::Train, &mut self.workspace)?;
            let count = labels.len();
            let labels = &Labels::new(labels.to_vec(), &network.device())?;
            let loss = match objective {
                Objective::Classify => {
                    let objective = loss::Objective::Labels { smoothing };
                    loss::of_step(objective, trace.logits(), labels, whole)?
                }
                Objective::Distill {
                    teacher,
                    temperature,
                    teacher_weight,
                    direction,
                } => {
                    let teacher = teacher.forward(&images, Mode::Eval, &mut self.teacher)?;
                    let objective = loss::Objective::Teacher {
                        logits: teacher.logits(),
                        temperature: *temperature,
                        weight: *teacher_weight,
                        direction: *direction,
                    };
                    loss::of_step(objective, trace.logits(), labels, whole)?
                }
            };
            // A loss that is not finite must not reach the weights.
            let is_finite = !loss.found.is_known() || loss.found.read()?.0.is_finite();
            let gradients = if is_finite {
                Some(trace.backward(&loss.d_logits, Wanted::PARAMETERS)?)
            } else {
                None
            };
            statistics.push(trace.statistics());
            drop(trace);
            parts.push(Part {
                found: loss.found,
                images: count,
            });
            let Some(gradients) = gradients else {
                return Ok((parts, statistics, None));
            };
            sum = Some(match sum {
                None => gradients,
                Some(sum) => {
                    sum.add(&gradients)?;
                    self.workspace.recycle(gradients);
                    sum
                }
            });
        }
        Ok((parts, statistics, sum))
    }
}
