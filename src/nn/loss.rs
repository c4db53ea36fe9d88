//! Losses of logits: their value and their gradient with respect to the logits.
//!
//! Cross-entropy: L = -log softmax(z)[y], mean over the batch; dL/dz = (softmax(z) - onehot(y)) / B.
//! Smoothed labels (Szegedy et al. 2016, arXiv:1512.00567; PyTorch's `label_smoothing`): L = (1-e) CE + e mean over the
//! classes of -log softmax(z); dL/dz = (softmax(z) - (1-e) onehot(y) - e/K) / B.
//! Distillation (Hinton et al. 2015, arXiv:1503.02531): L = (1-a) CE + a T² KL(p_t || p_s), p = softmax(z / T), summed over
//! the classes, mean over the batch; d(T² KL)/dz_s = T (p_s - p_t) / B.
//! Reverse, KL(p_s || p_t): d(T² KL)/dz_s = T p_s (log(p_s / p_t) - KL) / B.
//! Computed in 64 bits; only the gradient is rounded to 32.

use candle_core::Tensor;

use super::op::{read, tensor};
use super::{Result, invalid};

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
    if !(0.0..1.0).contains(&smoothing) {
        return Err(invalid(format!(
            "labels are smoothed by a share of at least 0 and below 1, not {smoothing}"
        )));
    }
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
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(invalid(format!(
            "the temperature must be above 0, not {temperature}"
        )));
    }
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
    loss.d_logits = tensor(d_logits, &[batch, classes])?;
    Ok(loss)
}

/// A tensor's values in 64 bits.
fn wide(tensor: &Tensor) -> Result<Vec<f64>> {
    let tensor = tensor.contiguous()?;
    let values = read(&tensor)?;
    Ok(values.iter().map(|v| f64::from(*v)).collect())
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
