//! The only source of chance: named streams of random numbers.
//!
//! A stream is determined by a seed, the purpose it serves and a few indices, so that one use of chance never shifts
//! another, and batching and threads change nothing.
//! ChaCha8 keyed with SHA-256 over (seed, purpose, indices): the same on every machine and for ever.

use rand::{Rng as _, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of `purpose`, told apart further by `indices` (an epoch, an image's number).
    pub fn stream(seed: u64, purpose: &str, indices: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update((purpose.len() as u64).to_le_bytes());
        hash.update(purpose.as_bytes());
        for index in indices {
            hash.update(index.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Uniform in [`low`, `high`).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in 0..`n`; `n` is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// Standard normal, by Box and Muller's transform (the cosine branch alone, so that a draw is two uniforms).
    pub fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1]: the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher and Yates' shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_different_purposes_differ_and_the_same_repeats() {
        let draw = |seed, purpose, indices: &[u64]| Rng::stream(seed, purpose, indices).bits();
        assert_eq!(draw(7, "init", &[0]), draw(7, "init", &[0]));
        assert_ne!(draw(7, "init", &[0]), draw(7, "init", &[1]));
        assert_ne!(draw(7, "init", &[0]), draw(7, "shuffle", &[0]));
        assert_ne!(draw(7, "init", &[0]), draw(8, "init", &[0]));
    }

    #[test]
    fn the_normal_has_mean_zero_and_variance_one() {
        let mut rng = Rng::stream(1, "test", &[]);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        // Five standard errors: 5 / sqrt(n) and 5 sqrt(2 / n).
        assert!(mean.abs() < 0.0112, "{mean}");
        assert!((variance - 1.0).abs() < 0.0158, "{variance}");
    }
}
