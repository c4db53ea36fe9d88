//! Glass blur: frosted glass, pixels swapped about between two blurs.
//!
//! Blurred with a Gaussian of σ pixels and truncated to bytes; then n times, from the lower right to the upper left, every
//! pixel at least δ from the edge takes the value of one up to δ above and left of it; blurred and truncated again.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`). The published code means to
//! swap two pixels, but NumPy's views make it a copy, and its upper bound is exclusive; the published images are made so, and
//! so are these.
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: the displacements are drawn from our seeded stream, not NumPy's.

use super::gaussian_filter::blur;
use super::{Corruption, Severity};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("glass-blur"),
        title: text("Glass blur"),
        summary: text(
            "Blurs, moves every pixel to a random neighbor once or twice, and blurs again: frosted glass.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("blur"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(GlassBlur),
};

struct GlassBlur;

/// Deviation in pixels, reach of a move and rounds at severity 1 to 5: `make_cifar_c.py`, `glass_blur`.
const SETTING: [(f64, usize, usize); 5] = [
    (0.05, 1, 1),
    (0.25, 1, 1),
    (0.4, 1, 1),
    (0.25, 1, 2),
    (0.4, 1, 2),
];

impl Corruption for GlassBlur {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        shattered(image, shape, severity, &mut |reach| rng.below(2 * reach));
    }
}

/// `draw` gives a whole number from 0 to 2 δ - 1, first for the column, then for the row of each pixel.
pub(super) fn shattered(
    image: &mut [u8],
    shape: ImageShape,
    severity: Severity,
    draw: &mut dyn FnMut(usize) -> usize,
) {
    let (sigma, reach, rounds) = SETTING[severity.index()];
    let (height, width) = (shape.height, shape.width);
    blur(image, shape, sigma);
    for _ in 0..rounds {
        for y in (reach + 1..(height + 1).saturating_sub(reach)).rev() {
            for x in (reach + 1..(width + 1).saturating_sub(reach)).rev() {
                let from_x = x + draw(reach) - reach;
                let from_y = y + draw(reach) - reach;
                for channel in image.chunks_exact_mut(height * width) {
                    channel[y * width + x] = channel[from_y * width + from_x];
                }
            }
        }
    }
    blur(image, shape, sigma);
}
