//! On a GPU: one warp for each example.

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
                     double smoothing, double temperature, double weight, int reverse, int scores, int classes, int batch, int whole, double share,
                     double *rows, double *entry, int *halt, unsigned int *counter) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, lane = threadIdx.x & 31;
    if (row < batch) {
        const float *z = logits + row * classes;
        float *gradient = gradients + row * classes;
        int place, label = labels[row];
        float highest = highest_of_warp(z, classes, &place);
        double sum = log_of_sum(z, classes, highest, 1.0), value;
        if (scores) {
            // Of a soft decision tree: the target's share of expected log-probabilities.
            const float *t = teachers ? teachers + row * classes : z;
            int ignored;
            float highest_t = highest_of_warp(t, classes, &ignored);
            double sum_t = log_of_sum(t, classes, highest_t, temperature), spread = smoothing / classes;
            value = 0.0;
            for (int c = lane; c < classes; c += 32) {
                double hard = (c == label ? 1.0 - smoothing : 0.0) + spread;
                double soft = teachers ? exp(((double)t[c] - highest_t) / temperature - sum_t) : 0.0;
                double target = (1.0 - weight) * hard + weight * soft;
                gradient[c] = share * -target / whole;
                value -= target * (double)z[c];
            }
            value = all_of_warp(value);
        } else if (!teachers) {
            double spread = smoothing / classes, all = 0.0;
            for (int c = lane; c < classes; c += 32) {
                double log_p = (double)z[c] - highest - sum;
                gradient[c] = share * (exp(log_p) - (c == label ? 1.0 - smoothing : 0.0) - spread) / whole;
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
                gradient[c] = share * ((1.0 - weight) * hard + weight * temperature * soft) / whole;
            }
            value = -(1.0 - weight) * ((double)z[label] - highest - sum) + weight * temperature * temperature * kl;
        }
        if (lane == 0) {
            rows[2 * row] = share * value;
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
    pub(super) fn new(engine: &Rc<Engine>, entry: Entry) -> Self {
        Self {
            engine: Rc::clone(engine),
            entry,
        }
    }

    pub(super) fn read(&self) -> Result<(f64, u32)> {
        let [mean, correct] = self.engine.read_entry(self.entry)?;
        Ok((mean, correct as u32))
    }
}

/// As [`super::of_part`]; all is checked already but the numbers of the objective.
pub(super) fn of_part(
    engine: &Rc<Engine>,
    objective: Objective<'_>,
    logits: &Tensor,
    labels: &Tensor,
    whole: usize,
    share: f64,
) -> Result<StepLoss> {
    let (batch, classes) = logits.dims2()?;
    let scores = matches!(objective, Objective::Expected { .. });
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
        Objective::Expected {
            smoothing,
            teacher,
            temperature,
            weight,
        } => {
            check_smoothing(smoothing)?;
            check_temperature(temperature)?;
            let logits = teacher.map_or(Ok(0), at)?;
            let weight = if teacher.is_some() { weight } else { 0.0 };
            (logits, smoothing, temperature, weight, false)
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
        scores.into(),
        classes.into(),
        batch.into(),
        whole.into(),
        share.into(),
        engine.scratch(Slot::Partial, 4 * batch)?.into(),
        place.into(),
        engine.halt()?.into(),
        engine.counters(1)?.into(),
    ];
    engine.launch("loss_of_batch", Grid::blocks(blocks, 1), &args)?;
    Ok(StepLoss {
        d_logits: d_logits.reshape((batch, classes))?,
        found: Found(Where::OnDevice(Asked::new(engine, entry))),
    })
}
