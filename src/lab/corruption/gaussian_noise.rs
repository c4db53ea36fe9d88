//! Gaussian noise: sensor noise of constant variance.
//!
//! x' = clip(x + σ n, 0, 1) with n ~ N(0, 1) for every value, x in [0, 1]; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size. The truncation alone darkens by half a grey level on average.
//!
//! Deviation: the noise is drawn from our seeded stream, not NumPy's.

use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("gaussian-noise"),
        title: text("Gaussian noise"),
        summary: text(
            "Adds independent normal noise to every value: a sensor in low light. Standard deviation 10 to 26 of 255 grey levels.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("noise"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(GaussianNoise),
};

struct GaussianNoise;

/// Standard deviation at severity 1 to 5, of values in [0, 1]: `make_cifar_c.py`, `gaussian_noise`.
const SIGMA: [f64; 5] = [0.04, 0.06, 0.08, 0.09, 0.10];

impl Corruption for GaussianNoise {
    fn corrupt(&self, image: &mut [u8], _: ImageShape, severity: Severity, rng: &mut Rng) {
        let sigma = 255.0 * SIGMA[severity.index()];
        for value in image {
            *value = truncated(f64::from(*value) + sigma * rng.normal());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_constant_128_the_change_has_the_moments_of_truncated_normal_noise() {
        // By definition, with σ in grey levels: the mean of the change is -0.5, a value stays with probability
        // Φ(1/σ) - 1/2, and the variance is σ² + 1/12 (Sheppard). SciPy 1.17.1: norm.cdf(1/10.2) - 0.5 = 0.0390492.
        let n = 400_000;
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: n,
        };
        let mut image = vec![128; n];
        GaussianNoise.corrupt(
            &mut image,
            shape,
            Severity::ALL[0],
            &mut Rng::stream(5, "gaussian-noise", &[]),
        );
        let change: Vec<f64> = image.iter().map(|&x| f64::from(x) - 128.0).collect();
        let mean = change.iter().sum::<f64>() / n as f64;
        let variance = change.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        let unchanged = change.iter().filter(|&&x| x == 0.0).count() as f64 / n as f64;
        // Five standard errors each: 5·10.2/√n, 5·√2·104/√n, 5·√(p/n).
        assert!((mean + 0.5).abs() < 0.081, "{mean}");
        assert!(
            (variance - (104.04 + 1.0 / 12.0)).abs() < 1.17,
            "{variance}"
        );
        assert!((unchanged - 0.039_049_2).abs() < 0.001_6, "{unchanged}");
    }
}
