//! Pixelate: too few pixels.
//!
//! Made smaller with a box filter to ⌊c side⌋ and larger again, as Pillow does it, rounding to bytes at each pass.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size; at least one pixel is left.

use super::box_resize::resized;
use super::{Corruption, Severity};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("pixelate"),
        title: text("Pixelate"),
        summary: text(
            "Shrinks the image to 95 to 65 % of its side and enlarges it again: too few pixels.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("digital"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Pixelate),
};

struct Pixelate;

/// The share of the side that is left at severity 1 to 5: `make_cifar_c.py`, `pixelate`.
const SHARE: [f64; 5] = [0.95, 0.9, 0.85, 0.75, 0.65];

/// How many of so many pixels are left along an axis.
fn left(size: usize, severity: Severity) -> usize {
    ((size as f64 * SHARE[severity.index()]) as usize).max(1)
}

impl Corruption for Pixelate {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        let full = [shape.height, shape.width];
        let small = full.map(|size| left(size, severity));
        for channel in image.chunks_exact_mut(shape.height * shape.width) {
            let shrunk = resized(channel, full, small);
            channel.copy_from_slice(&resized(&shrunk, small, full));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_are_left() {
        // O-42.
        assert_eq!(
            Severity::ALL.map(|severity| left(32, severity)),
            [30, 28, 27, 24, 20]
        );
    }
}
