//! Losses of logits: their value and their gradient with respect to the logits.
//!
//! Cross-entropy: L = -log softmax(z)[y], mean over the batch; dL/dz = (softmax(z) - onehot(y)) / B.
//! Smoothed labels (Szegedy et al. 2016, arXiv:1512.00567; PyTorch's `label_smoothing`): L = (1-e) CE + e mean over the
//! classes of -log softmax(z); dL/dz = (softmax(z) - (1-e) onehot(y) - e/K) / B.
//! Distillation (Hinton et al. 2015, arXiv:1503.02531): L = (1-a) CE + a T² KL(p_t || p_s), p = softmax(z / T), summed over
//! the classes, mean over the batch; d(T² KL)/dz_s = T (p_s - p_t) / B.
//! Reverse, KL(p_s || p_t): d(T² KL)/dz_s = T p_s (log(p_s / p_t) - KL) / B.
//! A soft decision tree's (Frosst and Hinton 2017, arXiv:1711.09784): L = -Σ_k T_k s_k of its scores s_k, the mean
//! log-probabilities over its leaves, with T = (1-a) labels + a p_t; dL/ds = -T / B.
//! Computed in 64 bits; only the gradient is rounded to 32.

use candle_core::{Device, Tensor};

use super::op::{self, tensor};
use super::{Result, invalid};

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub mod features;

/// Which distribution the Kullback-Leibler divergence is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlDirection {
    /// KL(teacher || student), Hinton's.
    Forward,
    /// KL(student || teacher).
    Reverse,
}

/// A loss over a batch.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Mean over the batch.
    pub mean: f64,
    /// How many examples have their label's logit highest (the first of equals).
    pub correct: u32,
    /// The loss of each example.
    pub per_example: Vec<f32>,
    /// The gradient of the mean with respect to the logits, (B, K).
    pub d_logits: Tensor,
}

/// What a training step minimizes.
#[derive(Clone, Copy, Debug)]
pub enum Objective<'a> {
    /// Cross-entropy of labels of which a share is spread over all classes evenly.
    Labels { smoothing: f64 },
    /// (1-a) CE + a T² KL.
    Teacher {
        logits: &'a Tensor,
        temperature: f64,
        weight: f64,
        direction: KlDirection,
    },
    /// -Σ T s for a tree's scores, with the teacher's weight in T.
    Expected {
        smoothing: f64,
        teacher: Option<&'a Tensor>,
        temperature: f64,
        weight: f64,
    },
}

/// The classes of some examples, where the logits are.
#[derive(Clone, Debug)]
pub struct Labels {
    classes: Vec<u32>,
    #[cfg(feature = "cuda")]
    resident: Option<Tensor>,
}

impl Labels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The classes.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// For networks on a device; a GPU takes a copy.
    pub fn new(classes: Vec<u32>, device: &Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        let resident = match device {
            Device::Cuda(device) => {
                Some(op::cuda::engine(device)?.upload(&classes, &[classes.len()])?)
            }
            _ => None,
        };
        let _ = device;
        Ok(Self {
            classes,
            #[cfg(feature = "cuda")]
            resident,
        })
    }
}

/// Losses that may be asked for before the first of them is read: those of later ones take their place.
pub const MOST_UNREAD: usize = 4096;

/// A step's loss: the gradient now, the rest when it is read.
#[derive(Debug)]
pub struct StepLoss {
    /// The gradient of the step's mean with respect to these logits, (B, K).
    pub d_logits: Tensor,
    pub found: Found,
}

/// A batch's mean loss and hits, known or to be known.
#[derive(Debug)]
pub struct Found(Where);

#[derive(Debug)]
enum Where {
    Known {
        mean: f64,
        correct: u32,
    },
    /// On the device on which the step was asked for.
    #[cfg(feature = "cuda")]
    OnDevice(cuda::Asked),
}

impl Found {
    /// Whether reading it waits for nothing.
    pub fn is_known(&self) -> bool {
        matches!(self.0, Where::Known { .. })
    }

    /// The mean loss and the hits; waits for the device, if it is there that they are found.
    pub fn read(&self) -> Result<(f64, u32)> {
        match &self.0 {
            Where::Known { mean, correct } => Ok((*mean, *correct)),
            #[cfg(feature = "cuda")]
            Where::OnDevice(asked) => asked.read(),
        }
    }
}

/// The loss of a training step over `whole` examples, of which these may be a part. On a GPU a loss that is not finite
/// keeps the optimizer's steps from the weights until [`forgive`] is called.
pub fn of_step(
    objective: Objective<'_>,
    logits: &Tensor,
    labels: &Labels,
    whole: usize,
) -> Result<StepLoss> {
    of_part(objective, logits, labels, whole, 1.0)
}

/// The same of a loss that is only a share of the step's, beside others.
pub fn of_part(
    objective: Objective<'_>,
    logits: &Tensor,
    labels: &Labels,
    whole: usize,
    share: f64,
) -> Result<StepLoss> {
    #[cfg(feature = "cuda")]
    if let (Some(engine), Some(resident)) = (op::cuda::engine_of(logits)?, &labels.resident) {
        check(logits, teacher_of(objective), &labels.classes)?;
        return cuda::of_part(&engine, objective, logits, resident, whole, share);
    }
    let labels = &labels.classes;
    let loss = match objective {
        Objective::Labels { smoothing } => smoothed_cross_entropy(logits, labels, smoothing),
        Objective::Teacher {
            logits: teacher,
            temperature,
            weight,
            direction,
        } => distillation(logits, teacher, labels, temperature, weight, direction),
        Objective::Expected {
            smoothing,
            teacher,
            temperature,
            weight,
        } => {
            let teacher = teacher.map(|logits| (logits, temperature, weight));
            expected_log(logits, labels, smoothing, teacher)
        }
    }?;
    let of_whole = labels.len() as f32 / whole as f32 * share as f32;
    if of_whole != 1.0 {
        op::write(&loss.d_logits, |gradient| {
            for g in gradient {
                *g *= of_whole;
            }
        })?;
    }
    let (mean, correct) = (share * loss.mean, loss.correct);
    Ok(StepLoss {
        found: Found(Where::Known { mean, correct }),
        d_logits: loss.d_logits,
    })
}

/// Lets steps on a device change weights again after a loss that was not finite.
pub fn forgive(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return op::cuda::engine(device)?.go_on();
    }
    let _ = device;
    Ok(())
}

#[cfg(feature = "cuda")]
fn teacher_of(objective: Objective<'_>) -> Option<&Tensor> {
    match objective {
        Objective::Labels { .. } => None,
        Objective::Teacher { logits, .. } => Some(logits),
        Objective::Expected { teacher, .. } => teacher,
    }
}

/// Mean cross-entropy in nats of logits (B, K).
pub fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<Loss> {
    over_batch(logits, None, labels, |z, _, label, gradient| {
        let log_p = log_softmax(z, 1.0);
        for (class, (g, log_p)) in gradient.iter_mut().zip(&log_p).enumerate() {
            *g = log_p.exp() - f64::from(class == label);
        }
        -log_p[label]
    })
}

/// Mean cross-entropy of labels of which the share `smoothing` is spread over all classes evenly.
pub fn smoothed_cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Loss> {
    if smoothing == 0.0 {
        return cross_entropy(logits, labels);
    }
    check_smoothing(smoothing)?;
    over_batch(logits, None, labels, |z, _, label, gradient| {
        let log_p = log_softmax(z, 1.0);
        let spread = smoothing / z.len() as f64;
        for (class, (g, log_p)) in gradient.iter_mut().zip(&log_p).enumerate() {
            let hard = f64::from(u8::from(class == label)) * (1.0 - smoothing);
            *g = log_p.exp() - hard - spread;
        }
        (1.0 - smoothing) * -log_p[label] - spread * log_p.iter().sum::<f64>()
    })
}

/// (1-a) CE + a T² KL at temperature T, with a the teacher's weight.
pub fn distillation(
    logits: &Tensor,
    teacher_logits: &Tensor,
    labels: &[u32],
    temperature: f64,
    teacher_weight: f64,
    direction: KlDirection,
) -> Result<Loss> {
    check_temperature(temperature)?;
    let (t, a) = (temperature, teacher_weight);
    over_batch(
        logits,
        Some(teacher_logits),
        labels,
        |z, teacher, label, gradient| {
            let log_p = log_softmax(z, 1.0);
            let (log_s, log_t) = (log_softmax(z, t), log_softmax(teacher, t));
            let terms = log_s.iter().zip(&log_t);
            let kl: f64 = match direction {
                KlDirection::Forward => terms.map(|(s, t)| t.exp() * (t - s)).sum(),
                KlDirection::Reverse => terms.map(|(s, t)| s.exp() * (s - t)).sum(),
            };
            for (class, g) in gradient.iter_mut().enumerate() {
                let (s, teacher) = (log_s[class], log_t[class]);
                let soft = match direction {
                    KlDirection::Forward => s.exp() - teacher.exp(),
                    KlDirection::Reverse => s.exp() * (s - teacher - kl),
                };
                let hard = log_p[class].exp() - f64::from(class == label);
                *g = (1.0 - a) * hard + a * t * soft;
            }
            (1.0 - a) * -log_p[label] + a * t * t * kl
        },
    )
}

/// -Σ T s of a soft decision tree's scores, T being smoothed labels or, by its weight, a teacher's distribution at a
/// temperature: its logits, that temperature and that weight.
pub fn expected_log(
    scores: &Tensor,
    labels: &[u32],
    smoothing: f64,
    teacher: Option<(&Tensor, f64, f64)>,
) -> Result<Loss> {
    check_smoothing(smoothing)?;
    let (logits, temperature, weight) = match teacher {
        Some((logits, temperature, weight)) => (Some(logits), temperature, weight),
        None => (None, 1.0, 0.0),
    };
    check_temperature(temperature)?;
    over_batch(scores, logits, labels, |s, teacher, label, gradient| {
        let spread = smoothing / s.len() as f64;
        let log_t = log_softmax(teacher, temperature);
        let mut loss = 0.0;
        for (class, (g, s)) in gradient.iter_mut().zip(s).enumerate() {
            let hard = f64::from(u8::from(class == label)) * (1.0 - smoothing) + spread;
            let soft = log_t.get(class).map_or(0.0, |log_t| weight * log_t.exp());
            let target = (1.0 - weight) * hard + soft;
            *g = -target;
            loss -= target * s;
        }
        loss
    })
}

/// Softmax of each row of `classes` logits.
pub fn softmax_rows(logits: &[f32], classes: usize) -> Vec<f32> {
    logits
        .chunks_exact(classes)
        .flat_map(|row| {
            let row: Vec<f64> = row.iter().map(|z| f64::from(*z)).collect();
            log_softmax(&row, 1.0)
        })
        .map(|log_p| log_p.exp() as f32)
        .collect()
}

/// Sums `one`, the loss of an example whose gradient it writes, over a batch; the teacher's row is empty without one.
fn over_batch(
    logits: &Tensor,
    teacher: Option<&Tensor>,
    labels: &[u32],
    one: impl Fn(&[f64], &[f64], usize, &mut [f64]) -> f64,
) -> Result<Loss> {
    let (batch, classes) = check(logits, teacher, labels)?;
    let rows = wide(logits)?;
    let teacher_rows = teacher.map(wide).transpose()?.unwrap_or_default();
    let mut loss = Loss {
        mean: 0.0,
        correct: 0,
        per_example: Vec::with_capacity(batch),
        d_logits: logits.clone(),
    };
    let (mut gradient, mut d_logits) = (vec![0.0; classes], Vec::with_capacity(batch * classes));
    for (at, (z, label)) in rows.chunks_exact(classes).zip(labels).enumerate() {
        let teacher = teacher_rows.get(at * classes..(at + 1) * classes);
        let value = one(
            z,
            teacher.unwrap_or_default(),
            *label as usize,
            &mut gradient,
        );
        loss.mean += value / batch as f64;
        loss.per_example.push(value as f32);
        loss.correct += u32::from(highest(z) == *label as usize);
        d_logits.extend(gradient.iter().map(|g| (g / batch as f64) as f32));
    }
    let d_logits = tensor(d_logits, &[batch, classes])?;
    loss.d_logits = op::to_device(&d_logits, logits.device())?;
    Ok(loss)
}

fn check_smoothing(smoothing: f64) -> Result<()> {
    if (0.0..1.0).contains(&smoothing) {
        return Ok(());
    }
    Err(invalid(format!(
        "labels are smoothed by a share of at least 0 and below 1, not {smoothing}"
    )))
}

fn check_temperature(temperature: f64) -> Result<()> {
    if temperature > 0.0 && temperature.is_finite() {
        return Ok(());
    }
    Err(invalid(format!(
        "the temperature must be above 0, not {temperature}"
    )))
}

/// The batch and the classes, if all that is given fits together.
fn check(logits: &Tensor, teacher: Option<&Tensor>, labels: &[u32]) -> Result<(usize, usize)> {
    let (batch, classes) = logits.dims2()?;
    if labels.len() != batch || batch == 0 {
        return Err(invalid(format!(
            "{} labels for {batch} examples",
            labels.len()
        )));
    }
    if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
        return Err(invalid(format!(
            "label {label} is not one of {classes} classes"
        )));
    }
    if let Some(teacher) = teacher
        && teacher.dims() != logits.dims()
    {
        return Err(invalid(format!(
            "the teacher's logits are {:?}, the student's {:?}",
            teacher.dims(),
            logits.dims()
        )));
    }
    Ok((batch, classes))
}

/// A tensor's values in 64 bits.
fn wide(tensor: &Tensor) -> Result<Vec<f64>> {
    let values = op::values(&tensor.contiguous()?)?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// The place of the highest value, the first of equals.
fn highest(z: &[f64]) -> usize {
    let better = |best: usize, at: usize| if z[at] > z[best] { at } else { best };
    (0..z.len()).fold(0, better)
}

/// log softmax(z / T), safe for any finite z.
fn log_softmax(z: &[f64], temperature: f64) -> Vec<f64> {
    let highest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shifted = |z: &f64| (z - highest) / temperature;
    let log_sum = z.iter().map(|z| shifted(z).exp()).sum::<f64>().ln();
    z.iter().map(|z| shifted(z) - log_sum).collect()
}
