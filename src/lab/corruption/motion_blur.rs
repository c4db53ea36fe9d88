//! Motion blur: the camera moves while it exposes.
//!
//! ImageMagick's motion blur (half a Gaussian of deviation σ along a line) at an angle uniform in [-45°, 45°).
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: the angle is drawn from our seeded stream, not NumPy's.

use super::motion::Line;
use super::{Corruption, Severity};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("motion-blur"),
        title: text("Motion blur"),
        summary: text(
            "Smears along a random direction near the horizontal: a camera that moves while it exposes.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("blur"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(MotionBlur),
};

struct MotionBlur;

/// Radius and deviation in pixels at severity 1 to 5: `make_cifar_c.py`, `motion_blur`.
const RADIUS_AND_SIGMA: [(f64, f64); 5] =
    [(6.0, 1.0), (6.0, 1.5), (6.0, 2.0), (8.0, 2.0), (9.0, 2.5)];

impl Corruption for MotionBlur {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        smeared(image, shape, severity, rng.between(-45.0, 45.0));
    }
}

/// At a given angle, in degrees.
pub(super) fn smeared(image: &mut [u8], shape: ImageShape, severity: Severity, angle: f64) {
    let (radius, sigma) = RADIUS_AND_SIGMA[severity.index()];
    let line = Line::new(radius, sigma, angle);
    for channel in image.chunks_exact_mut(shape.height * shape.width) {
        line.blur(channel, shape.height, shape.width);
    }
}
