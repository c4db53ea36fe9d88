//! Losses of logits: their value and their gradient with respect to the logits.
//!
//! Cross-entropy: L = -log softmax(z)[y], mean over the batch; dL/dz = (softmax(z) - onehot(y)) / B.
//! Smoothed labels (Szegedy et al. 2016, arXiv:1512.00567; PyTorch's `label_smoothing`): L = (1-e) CE + e mean over the
//! classes of -log softmax(z); dL/dz = (softmax(z) - (1-e) onehot(y) - e/K) / B.
//! Distillation (Hinton et al. 2015, arXiv:1503.02531): L = (1-a) CE + a T² KL(p_t || p_s), p = softmax(z / T), summed over
//! the classes, mean over the batch; d(T² KL)/dz_s = T (p_s - p_t) / B.
//! Reverse, KL(p_s || p_t): d(T² KL)/dz_s = T p_s (log(p_s / p_t) - KL) / B.
//! Computed in 64 bits; only the gradient is rounded to 32.

use candle_core::{Device, Tensor};

use super::op::{self, tensor};
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
}

/// The classes of some examples, where the logits are.
#[derive(Clone, Debug)]
pub struct Labels {
    classes: Vec<u32>,
    #[cfg(feature = "cuda")]
    resident: Option<Tensor>,
}

impl Labels {
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
    #[cfg(feature = "cuda")]
    if let (Some(engine), Some(resident)) = (op::cuda::engine_of(logits)?, &labels.resident) {
        check(logits, teacher_of(objective), &labels.classes)?;
        return cuda::of_step(&engine, objective, logits, resident, whole);
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
    }?;
    let share = labels.len() as f32 / whole as f32;
    if share != 1.0 {
        op::write(&loss.d_logits, |gradient| {
            for g in gradient {
                *g *= share;
            }
        })?;
    }
    let (mean, correct) = (loss.mean, loss.correct);
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

/// On a GPU: one warp for each example.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use std::rc::Rc;

    use candle_core::{DType, Tensor};

    use super::{Found, KlDirection, Objective, StepLoss, Where};
    use super::{check_smoothing, check_temperature};
    use crate::nn::Result;
    use crate::nn::op::cuda::ledger::Entry;
    use crate::nn::op::cuda::{BLOCK, Engine, Grid, Slot, at};

    pub(crate) const SOURCE: &str = r"
template <typename T> __device__ __forceinline__ T all_of_warp(T value) {
    for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

__device__ __forceinline__ double log_of_sum(const float *z, int classes, float highest, double temperature) {
    double sum = 0.0;
    for (int c = threadIdx.x & 31; c < classes; c += 32) sum += exp(((double)z[c] - highest) / temperature);
    return log(all_of_warp(sum));
}

__device__ __forceinline__ float highest_of_warp(const float *z, int classes, int *place) {
    float best = z[0];
    int where = 0;
    for (int c = threadIdx.x & 31; c < classes; c += 32)
        if (z[c] > best || (z[c] == best && c < where)) { best = z[c]; where = c; }
    for (int offset = 16; offset > 0; offset >>= 1) {
        float other = __shfl_xor_sync(0xffffffffu, best, offset);
        int there = __shfl_xor_sync(0xffffffffu, where, offset);
        if (other > best || (other == best && there < where)) { best = other; where = there; }
    }
    *place = where;
    return best;
}

KERNEL loss_of_batch(const float *logits, const float *teachers, const unsigned int *labels, float *gradients,
                     double smoothing, double temperature, double weight, int reverse, int classes, int batch, int whole,
                     double *rows, double *entry, int *halt, unsigned int *counter) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, lane = threadIdx.x & 31;
    if (row < batch) {
        const float *z = logits + row * classes;
        float *gradient = gradients + row * classes;
        int place, label = labels[row];
        float highest = highest_of_warp(z, classes, &place);
        double sum = log_of_sum(z, classes, highest, 1.0), value;
        if (!teachers) {
            double spread = smoothing / classes, all = 0.0;
            for (int c = lane; c < classes; c += 32) {
                double log_p = (double)z[c] - highest - sum;
                gradient[c] = (exp(log_p) - (c == label ? 1.0 - smoothing : 0.0) - spread) / whole;
                all += log_p;
            }
            value = -(1.0 - smoothing) * ((double)z[label] - highest - sum);
            if (smoothing > 0.0) value -= spread * all_of_warp(all);
        } else {
            const float *t = teachers + row * classes;
            int ignored;
            float highest_t = highest_of_warp(t, classes, &ignored);
            double sum_s = log_of_sum(z, classes, highest, temperature);
            double sum_t = log_of_sum(t, classes, highest_t, temperature), kl = 0.0;
            for (int c = lane; c < classes; c += 32) {
                double log_s = ((double)z[c] - highest) / temperature - sum_s;
                double log_t = ((double)t[c] - highest_t) / temperature - sum_t;
                kl += reverse ? exp(log_s) * (log_s - log_t) : exp(log_t) * (log_t - log_s);
            }
            kl = all_of_warp(kl);
            for (int c = lane; c < classes; c += 32) {
                double log_s = ((double)z[c] - highest) / temperature - sum_s;
                double log_t = ((double)t[c] - highest_t) / temperature - sum_t;
                double soft = reverse ? exp(log_s) * (log_s - log_t - kl) : exp(log_s) - exp(log_t);
                double hard = exp((double)z[c] - highest - sum) - (c == label ? 1.0 : 0.0);
                gradient[c] = ((1.0 - weight) * hard + weight * temperature * soft) / whole;
            }
            value = -(1.0 - weight) * ((double)z[label] - highest - sum) + weight * temperature * temperature * kl;
        }
        if (lane == 0) {
            rows[2 * row] = value;
            rows[2 * row + 1] = place == label ? 1.0 : 0.0;
        }
    }
    if (!is_last(counter, gridDim.x)) return;
    double loss = 0.0, correct = 0.0;
    for (int r = threadIdx.x; r < batch; r += blockDim.x) {
        loss += rows[2 * r] / batch;
        correct += rows[2 * r + 1];
    }
    loss = of_block(loss);
    correct = of_block(correct);
    if (threadIdx.x == 0) {
        entry[0] = loss;
        entry[1] = correct;
        if (!(loss - loss == 0.0)) *halt = 1;
    }
}
";

    /// An entry of a ledger.
    pub(super) struct Asked {
        engine: Rc<Engine>,
        entry: Entry,
    }

    impl std::fmt::Debug for Asked {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.entry.fmt(f)
        }
    }

    impl Asked {
        pub(super) fn read(&self) -> Result<(f64, u32)> {
            let [mean, correct] = self.engine.read_entry(self.entry)?;
            Ok((mean, correct as u32))
        }
    }

    /// As [`super::of_step`]; all is checked already but the numbers of the objective.
    pub(super) fn of_step(
        engine: &Rc<Engine>,
        objective: Objective<'_>,
        logits: &Tensor,
        labels: &Tensor,
        whole: usize,
    ) -> Result<StepLoss> {
        let (batch, classes) = logits.dims2()?;
        let (teacher, smoothing, temperature, weight, reverse) = match objective {
            Objective::Labels { smoothing } => {
                check_smoothing(smoothing)?;
                (0, smoothing, 1.0, 0.0, false)
            }
            Objective::Teacher {
                logits,
                temperature,
                weight,
                direction,
            } => {
                check_temperature(temperature)?;
                let reverse = direction == KlDirection::Reverse;
                (at(logits)?, 0.0, temperature, weight, reverse)
            }
        };
        let d_logits = engine.empty(batch * classes, DType::F32)?;
        let blocks = batch.div_ceil(BLOCK / 32);
        let (entry, place) = engine.new_entry()?;
        let args = [
            at(logits)?.into(),
            teacher.into(),
            at(labels)?.into(),
            at(&d_logits)?.into(),
            smoothing.into(),
            temperature.into(),
            weight.into(),
            reverse.into(),
            classes.into(),
            batch.into(),
            whole.into(),
            engine.scratch(Slot::Partial, 4 * batch)?.into(),
            place.into(),
            engine.halt()?.into(),
            engine.counters(1)?.into(),
        ];
        engine.launch("loss_of_batch", Grid::blocks(blocks, 1), &args)?;
        Ok(StepLoss {
            d_logits: d_logits.reshape((batch, classes))?,
            found: Found(Where::OnDevice(Asked {
                engine: Rc::clone(engine),
                entry,
            })),
        })
    }
}
