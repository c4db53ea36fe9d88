//! Gaussian noise: sensor noise of constant variance.
//!
//! x' = clip(x + σ n, 0, 1) with n ~ N(0, 1) for every value, x in [0, 1]; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size. The truncation alone darkens by half a grey level on average.
//!
//! Deviation: the noise is drawn from our seeded stream, not NumPy's.
//!
//! Variant `published`: x' = clip(x + √v n, 0, 255) with v ~ U(0, 2) once per image, x in grey levels, truncated:
//! Albumentations 1.3.0, `GaussNoise(var_limit=(0, 2))` on bytes. At most 1.41 grey levels, of which the truncation makes
//! half a level of darkening at any v > 0.
//! Variant `corrected`: the same with a variance for each severity, rounded, so that nothing is darkened.

use super::variant::{CORRECTED, KNOBS_OF_NOISE, PUBLISHED};
use super::{Corruption, ONCE, Severity, rounded, truncated};
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
    knobs: KNOBS_OF_NOISE,
    build: |setting| match setting.choice("variant") {
        PUBLISHED => Box::new(Published),
        CORRECTED => Box::new(Corrected),
        _ => Box::new(GaussianNoise),
    },
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

/// As document 000 measured it.
struct Published;

/// The largest variance in grey levels squared: document 000, section 4.
const MOST_VARIANCE: f64 = 2.0;

impl Corruption for Published {
    fn severities(&self) -> &'static [Option<Severity>] {
        &ONCE
    }

    fn corrupt(&self, image: &mut [u8], _: ImageShape, _: Severity, rng: &mut Rng) {
        let sigma = rng.between(0.0, MOST_VARIANCE).sqrt();
        noisy(image, sigma, &mut || rng.normal());
    }
}

/// Normal noise in grey levels, truncated.
pub(super) fn noisy(image: &mut [u8], sigma: f64, draw: &mut dyn FnMut() -> f64) {
    for value in image {
        *value = truncated(f64::from(*value) + sigma * draw());
    }
}

struct Corrected;

/// Variance in grey levels squared at severity 1 to 5: both ends of Albumentations' own default, 10 to 50, then ours in
/// steps that grow, up to a deviation of 30.
const VARIANCE: [f64; 5] = [10.0, 50.0, 150.0, 400.0, 900.0];

impl Corruption for Corrected {
    fn corrupt(&self, image: &mut [u8], _: ImageShape, severity: Severity, rng: &mut Rng) {
        let sigma = VARIANCE[severity.index()].sqrt();
        for value in image {
            *value = rounded(f64::from(*value) + sigma * rng.normal());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean change and share of unchanged values of a flat 128 under some corruption.
    fn on_128(corrupt: impl Fn(&mut [u8])) -> (f64, f64) {
        let n = 400_000;
        let mut image = vec![128; n];
        corrupt(&mut image);
        let mean = image.iter().map(|x| f64::from(*x) - 128.0).sum::<f64>() / n as f64;
        let unchanged = image
            .iter()
            .map(|x| f64::from(u8::from(*x == 128)))
            .sum::<f64>()
            / n as f64;
        (mean, unchanged)
    }

    #[test]
    fn the_published_noise_is_a_darkening_by_half_a_level() {
        // O-45: P(unchanged) = Φ(1/σ) - 1/2 is .34134 at σ = 1 and .26028 at σ = √2; five standard errors.
        for (sigma, expected) in [(1.0, 0.341_34), (2.0_f64.sqrt(), 0.260_28)] {
            let (mean, unchanged) = on_128(|image| {
                let mut rng = Rng::stream(1, "oracle", &[]);
                noisy(image, sigma, &mut || rng.normal());
            });
            assert!((mean + 0.5).abs() < 0.012, "{sigma}: {mean}");
            assert!(
                (unchanged - expected).abs() < 0.003_8,
                "{sigma}: {unchanged}"
            );
        }
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 1,
        };
        // Over many images the variance is drawn anew; no value moves further than noise of σ = √2 can.
        for image in 0..200 {
            let mut bytes = vec![128; 300];
            let mut rng = Rng::stream(1, "gaussian-noise:published", &[0, image]);
            Published.corrupt(&mut bytes, shape, Severity::ALL[4], &mut rng);
            assert!(bytes.iter().all(|x| x.abs_diff(128) <= 8));
        }
    }

    #[test]
    fn the_corrected_noise_does_not_darken() {
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 1,
        };
        for severity in Severity::ALL {
            let (mean, _) = on_128(|image| {
                let mut rng = Rng::stream(2, "oracle", &[]);
                Corrected.corrupt(image, shape, severity, &mut rng);
            });
            assert!(mean.abs() < 5.0 * 30.0 / 400_000_f64.sqrt(), "{mean}");
        }
    }

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
