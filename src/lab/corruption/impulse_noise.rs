//! Impulse noise: bit errors, salt and pepper.
//!
//! Each value is replaced with probability a, by 1 or by 0 with equal chance; channels for themselves.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`, scikit-image's `random_noise`).
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: drawn from our seeded stream, not NumPy's.

use super::{Corruption, Severity};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("impulse-noise"),
        title: text("Impulse noise"),
        summary: text(
            "Sets 1 to 7 % of the values to black or white, each channel by itself: salt and pepper, bit errors.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("noise"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(ImpulseNoise),
};

struct ImpulseNoise;

/// The share of values that are replaced at severity 1 to 5: `make_cifar_c.py`, `impulse_noise`.
const SHARE: [f64; 5] = [0.01, 0.02, 0.03, 0.05, 0.07];

impl Corruption for ImpulseNoise {
    fn corrupt(&self, image: &mut [u8], _: ImageShape, severity: Severity, rng: &mut Rng) {
        let share = SHARE[severity.index()];
        for value in image {
            let drawn = rng.uniform();
            if drawn < share {
                // Given that it is below the share, which half it is in is a fair coin.
                *value = if drawn < share / 2.0 { 255 } else { 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_a_and_half_of_it_is_salt() {
        // O-50, three standard errors.
        let n = 300_000;
        let shape = ImageShape {
            channels: 3,
            height: 1,
            width: n / 3,
        };
        for (severity, a) in Severity::ALL.into_iter().zip(SHARE) {
            let mut image = vec![100; n];
            let mut rng = Rng::stream(8, "impulse-noise", &[u64::from(severity.get())]);
            ImpulseNoise.corrupt(&mut image, shape, severity, &mut rng);
            let count = |level: u8| {
                let is_level = |value: &u8| f64::from(u8::from(*value == level));
                image.iter().map(is_level).sum::<f64>()
            };
            let (salt, pepper) = (count(255), count(0));
            let total = n as f64;
            assert!(((salt + pepper) / total - a).abs() < 3.0 * (a * (1.0 - a) / total).sqrt());
            let changed = salt + pepper;
            assert!(
                (salt / changed - 0.5).abs() < 3.0 * (0.25 / changed).sqrt(),
                "{salt} {pepper}"
            );
            assert_eq!(count(100) + changed, total);
        }
    }
}
