//! One step of stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD` (dampening 0, no Nesterov).
//!
//! g' = g + weight decay · p;  v = momentum · v + g';  p = (p - rate · v) · mask.

use rayon::prelude::*;

use super::relu::CHUNK;
use super::simd::vectorized;

/// The numbers of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub rate: f32,
    pub momentum: f32,
    pub weight_decay: f32,
}

/// Changes a parameter and its velocity in place.
pub fn step(step: Step, gradient: &[f32], mask: Option<&[f32]>, p: &mut [f32], v: &mut [f32]) {
    p.par_chunks_mut(CHUNK)
        .zip(v.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)))
        .enumerate()
        .for_each(|(chunk, (p, (v, g)))| {
            descend(step, g, p, v);
            if let Some(mask) = mask {
                keep(&mask[chunk * CHUNK..], p);
            }
        });
}

vectorized! {
    fn descend<V>(step: Step, g: &[f32], p: &mut [f32], v: &mut [f32]) {
        for ((p, v), g) in p.iter_mut().zip(v).zip(g) {
            *v = step.momentum * *v + (g + step.weight_decay * *p);
            *p -= step.rate * *v;
        }
    }
}

vectorized! {
    /// What a mask leaves. A weight below 0 times 0 would be -0, which is another bit pattern than the 0 that layouts for
    /// zeros leave out.
    pub(super) fn keep<V>(mask: &[f32], p: &mut [f32]) {
        for (p, m) in p.iter_mut().zip(mask) {
            *p = if *m == 0.0 { 0.0 } else { *p };
        }
    }
}
