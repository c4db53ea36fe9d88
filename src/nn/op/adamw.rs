//! One step of AdamW, as PyTorch's `torch.optim.AdamW`: Adam with the weight decay apart from the gradient.
//!
//! p = p - rate · decay · p;  m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;
//! p = p - rate / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε), t from 1 on; then p · mask.
//! Kingma and Ba 2015, arXiv:1412.6980, algorithm 1; Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
//! Deviation: the decay is multiplied by the rate, as in PyTorch, where the paper multiplies by the schedule alone.

use rayon::prelude::*;

use super::relu::CHUNK;
use super::simd::vectorized;

/// The numbers of a step. PyTorch's defaults: β 0.9 and 0.999, ε 1e-8, weight decay 0.01.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// 0 for a parameter that is spared.
    pub weight_decay: f64,
    /// The number of this step, from 1 on.
    pub count: u64,
}

/// What one value of a step needs, rounded once.
#[derive(Clone, Copy)]
struct Factors {
    keep: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
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
    let t = step.count as f64;
    let factors = Factors {
        keep: (1.0 - step.rate * step.weight_decay) as f32,
        beta1: step.beta1 as f32,
        rest1: (1.0 - step.beta1) as f32,
        beta2: step.beta2 as f32,
        rest2: (1.0 - step.beta2) as f32,
        rate: (step.rate / (1.0 - step.beta1.powf(t))) as f32,
        root: (1.0 - step.beta2.powf(t)).sqrt().recip() as f32,
        epsilon: step.epsilon as f32,
    };
    p.par_chunks_mut(CHUNK)
        .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
        .zip(gradient.par_chunks(CHUNK))
        .enumerate()
        .for_each(|(chunk, ((p, (m, v)), g))| {
            update(factors, g, p, m, v);
            if let Some(mask) = mask {
                for (p, mask) in p.iter_mut().zip(&mask[chunk * CHUNK..]) {
                    *p *= mask;
                }
            }
        });
}

vectorized! {
    fn update<V>(f: Factors, g: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            m[i] = V::fused(f.beta1, m[i], f.rest1 * g[i]);
            v[i] = V::fused(f.beta2, v[i], f.rest2 * g[i] * g[i]);
            let size = V::fused(v[i].sqrt(), f.root, f.epsilon);
            p[i] = f.keep * p[i] - f.rate * m[i] / size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first step goes by the rate against the gradient's sign, whatever its size.
    #[test]
    fn the_first_step_is_as_long_as_the_rate() {
        let first = Step {
            rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            count: 1,
        };
        let (mut p, mut m, mut v) = ([1.0; 3], [0.0; 3], [0.0; 3]);
        step(first, &[5.0, -0.01, 0.0], None, &mut p, &mut m, &mut v);
        assert!(
            (p[0] - 0.9).abs() < 1e-6 && (p[1] - 1.1).abs() < 1e-6,
            "{p:?}"
        );
        assert_eq!(p[2], 1.0);
    }

    /// Weight decay moves a parameter without a gradient; a mask holds it at zero.
    #[test]
    fn decay_and_mask() {
        let decaying = Step {
            rate: 0.5,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.5,
            count: 3,
        };
        let (mut p, mut m, mut v) = ([4.0; 2], [0.0; 2], [0.0; 2]);
        step(
            decaying,
            &[0.0; 2],
            Some(&[1.0, 0.0]),
            &mut p,
            &mut m,
            &mut v,
        );
        assert_eq!(p, [3.0, 0.0]);
    }
}
