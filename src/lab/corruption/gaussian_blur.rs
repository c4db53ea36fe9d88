//! Gaussian blur: a soft lens.
//!
//! Each channel filtered with a Gaussian of deviation σ pixels, cut off at 4 σ, the edge held; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`, scikit-image's `gaussian`), one
//! of four that are not in the mean over fifteen.
//! Bytes in, bytes out; any number of channels, any size.

use super::gaussian_filter::blur;
use super::{Corruption, Severity};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("gaussian-blur"),
        title: text("Gaussian blur"),
        summary: text("Blurs with a Gaussian of 0.4 to 1 pixels: a soft lens."),
        reference: text("arXiv:1903.12261"),
        family: text("blur"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(GaussianBlur),
};

struct GaussianBlur;

/// Deviation in pixels at severity 1 to 5: `make_cifar_c.py`, `gaussian_blur`.
const SIGMA: [f64; 5] = [0.4, 0.6, 0.7, 0.8, 1.0];

impl Corruption for GaussianBlur {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        blur(image, shape, SIGMA[severity.index()]);
    }
}
