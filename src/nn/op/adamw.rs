//! One step of Adam with decoupled weight decay, as PyTorch's `torch.optim.AdamW`.
//!
//! m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g²;
//! p = (p (1 - rate · weight decay) - rate · (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e)) · mask.
//! Loshchilov & Hutter 2019, arXiv:1711.05101. The factors of a step are computed in 64 bits.

use rayon::prelude::*;

use super::relu::CHUNK;
use super::sgd::keep;
use super::simd::vectorized;

/// The numbers of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    rate: f64,
    beta1: f32,
    beta2: f32,
    /// 1 - beta, rounded once.
    fresh1: f32,
    fresh2: f32,
    epsilon: f32,
    /// rate / (1 - b1^t)
    length: f32,
    /// 1 / sqrt(1 - b2^t)
    unbias: f32,
    /// 1 - rate · weight decay
    keep: f32,
}

impl Step {
    /// Step number `t`, counted from 1, without weight decay.
    pub fn new(rate: f64, (beta1, beta2): (f64, f64), epsilon: f64, t: u64) -> Self {
        let power = t as f64;
        Self {
            rate,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            fresh1: (1.0 - beta1) as f32,
            fresh2: (1.0 - beta2) as f32,
            epsilon: epsilon as f32,
            length: (rate / (1.0 - beta1.powf(power))) as f32,
            unbias: (1.0 - beta2.powf(power)).sqrt().recip() as f32,
            keep: 1.0,
        }
    }

    /// The numbers in the order of a GPU's kernel: betas, what is fresh, ε, length, unbias, keep.
    #[cfg(feature = "cuda")]
    pub(crate) fn numbers(&self) -> [f32; 8] {
        [
            self.beta1,
            self.beta2,
            self.fresh1,
            self.fresh2,
            self.epsilon,
            self.length,
            self.unbias,
            self.keep,
        ]
    }

    /// The same with weight decay.
    pub fn with_decay(self, weight_decay: f32) -> Self {
        Self {
            keep: (1.0 - self.rate * f64::from(weight_decay)) as f32,
            ..self
        }
    }
}

/// Changes a parameter and its moments in place.
pub fn step(
    step: Step,
    gradient: &[f32],
    mask: Option<&[f32]>,
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    p.par_chunks_mut(CHUNK)
        .zip(moments.zip(gradient.par_chunks(CHUNK)))
        .enumerate()
        .for_each(|(chunk, (p, ((m, v), g)))| {
            descend(step, g, p, m, v);
            if let Some(mask) = mask {
                keep(&mask[chunk * CHUNK..], p);
            }
        });
}

vectorized! {
    fn descend<V>(step: Step, g: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            *m = step.beta1 * *m + step.fresh1 * g;
            *v = step.beta2 * *v + step.fresh2 * g * g;
            *p = step.keep * *p - step.length * *m / (v.sqrt() * step.unbias + step.epsilon);
        }
    }
}
