//! Draws from the Poisson distribution.
//!
//! Below a mean of 10 by multiplying uniforms until they fall below e^-λ (Knuth); from there by transformed rejection
//! (Hörmann 1993, algorithm PTRS), which NumPy uses as well.

use std::sync::OnceLock;

use crate::nn::rng::Rng;

/// A number with mean and variance `mean`; 0 where that is 0.
pub(super) fn poisson(mean: f64, rng: &mut Rng) -> f64 {
    if mean < 10.0 {
        let floor = (-mean).exp();
        let mut product = rng.uniform();
        let mut count = 0.0;
        while product > floor {
            product *= rng.uniform();
            count += 1.0;
        }
        return count;
    }
    // The constants are Hörmann's.
    let root = mean.sqrt();
    let b = 0.931 + 2.53 * root;
    let a = -0.059 + 0.024_83 * b;
    let inverse_alpha = 1.123_9 + 1.132_8 / (b - 3.4);
    let v_r = 0.927_7 - 3.622_4 / (b - 2.0);
    loop {
        let u = rng.uniform() - 0.5;
        let v = rng.uniform();
        let us = 0.5 - u.abs();
        let count = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= v_r {
            return count;
        }
        if count < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let left = v.ln() + inverse_alpha.ln() - (a / (us * us) + b).ln();
        if left <= count * mean.ln() - mean - log_factorial(count as usize) {
            return count;
        }
    }
}

/// ln n!, exact sums up to a thousand, beyond by Stirling's series.
fn log_factorial(n: usize) -> f64 {
    static SUMS: OnceLock<Vec<f64>> = OnceLock::new();
    let sums = SUMS.get_or_init(|| {
        let mut sum = 0.0;
        (0..1024)
            .map(|n| {
                sum += f64::from(n.max(1)).ln();
                sum
            })
            .collect()
    });
    sums.get(n).copied().unwrap_or_else(|| {
        let x = n as f64 + 1.0;
        (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + 1.0 / (12.0 * x)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_the_mean() {
        for mean in [0.0, 0.3, 4.0, 9.9, 10.0, 25.0, 75.0, 500.0] {
            let mut rng = Rng::stream(3, "poisson", &[mean as u64]);
            let n = 100_000;
            let draws: Vec<f64> = (0..n).map(|_| poisson(mean, &mut rng)).collect();
            let found = draws.iter().sum::<f64>() / f64::from(n);
            let variance = draws.iter().map(|x| (x - found).powi(2)).sum::<f64>() / f64::from(n);
            // Five standard errors: √(λ/n), and of the variance √((λ + 2λ²)/n).
            let n = f64::from(n);
            assert!(
                (found - mean).abs() <= 5.0 * (mean / n).sqrt(),
                "{mean}: {found}"
            );
            let allowed = 5.0 * ((mean + 2.0 * mean * mean) / n).sqrt();
            assert!((variance - mean).abs() <= allowed, "{mean}: {variance}");
        }
    }

    #[test]
    fn log_factorials_go_on_beyond_the_table() {
        // SciPy 1.17.1: gammaln(1001) = 5912.128178488163, gammaln(2001) = 13206.524350513806.
        assert!((log_factorial(1000) - 5_912.128_178_488_163).abs() < 1e-8);
        assert!((log_factorial(2000) - 13_206.524_350_513_806).abs() < 1e-6);
    }
}
