//! Shot noise: few photons.
//!
//! x' = clip(k / c, 0, 1) with k ~ Poisson(c x) for every value, x in [0, 1]; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: the counts are drawn from our seeded stream, not NumPy's.

use super::poisson::poisson;
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("shot-noise"),
        title: text("Shot noise"),
        summary: text(
            "Replaces every value by a count of photons: a short exposure in the dark. Bright values vary most, black stays black.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("noise"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(ShotNoise),
};

struct ShotNoise;

/// Photons of a white pixel at severity 1 to 5: `make_cifar_c.py`, `shot_noise`.
const PHOTONS: [f64; 5] = [500.0, 250.0, 100.0, 75.0, 50.0];

impl Corruption for ShotNoise {
    fn corrupt(&self, image: &mut [u8], _: ImageShape, severity: Severity, rng: &mut Rng) {
        let photons = PHOTONS[severity.index()];
        for value in image {
            let count = poisson(f64::from(*value) / 255.0 * photons, rng);
            *value = truncated(count / photons * 255.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variance_is_x_over_c() {
        // O-50: of k / c the mean is x and the variance x / c; in grey levels 255² x / c. The truncation takes half a level
        // from the mean, and where levels and counts are nearly as far apart it widens the variance by up to 5 %.
        let n = 200_000;
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: n,
        };
        for (severity, photons) in Severity::ALL.into_iter().zip(PHOTONS) {
            let mut image = vec![102; n];
            ShotNoise.corrupt(
                &mut image,
                shape,
                severity,
                &mut Rng::stream(6, "shot-noise", &[]),
            );
            let mean = image.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
            let spread = image.iter().map(|x| (f64::from(*x) - mean).powi(2));
            let variance = spread.sum::<f64>() / n as f64;
            let expected = 255.0 * 255.0 * 0.4 / photons;
            assert!((mean - 101.5).abs() < 0.5, "{photons}: {mean}");
            assert!(
                (variance / expected - 1.0).abs() < 0.06,
                "{photons}: {variance}"
            );
        }
    }
}
