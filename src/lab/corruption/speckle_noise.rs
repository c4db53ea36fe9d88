//! Speckle noise: noise that grows with the value.
//!
//! x' = clip(x + x σ n, 0, 1) with n ~ N(0, 1) for every value, x in [0, 1]; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`), one of four that are not in
//! the mean over fifteen.
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: the noise is drawn from our seeded stream, not NumPy's.

use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("speckle-noise"),
        title: text("Speckle noise"),
        summary: text(
            "Adds normal noise in proportion to the value, 6 to 20 % of it: radar and ultrasound. Black stays black.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("noise"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(SpeckleNoise),
};

struct SpeckleNoise;

/// Standard deviation as a share of the value at severity 1 to 5: `make_cifar_c.py`, `speckle_noise`.
const SIGMA: [f64; 5] = [0.06, 0.1, 0.12, 0.16, 0.2];

impl Corruption for SpeckleNoise {
    fn corrupt(&self, image: &mut [u8], _: ImageShape, severity: Severity, rng: &mut Rng) {
        let sigma = SIGMA[severity.index()];
        for value in image {
            let grey = f64::from(*value);
            *value = truncated(grey + grey * sigma * rng.normal());
        }
    }
}
