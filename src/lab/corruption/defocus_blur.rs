//! Defocus blur: a lens out of focus.
//!
//! Each channel is correlated with a disk of radius r, softened by a 3x3 Gaussian of deviation σ; values in [0, 1],
//! clipped, stored truncated to a byte. At the border the image is mirrored without repeating the edge.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: the kernel is kept in double precision (published: single), so that a flat area stays exactly flat.

use super::kernel::{Kernel, correlate};
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("defocus-blur"),
        title: text("Defocus blur"),
        summary: text(
            "Blurs with a small disk: a lens out of focus. At severity 5 every pixel is the mean of its 3x3 neighborhood.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("blur"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(DefocusBlur),
};

struct DefocusBlur;

/// Radius of the disk and deviation of its softening, in pixels, at severity 1 to 5: `make_cifar_c.py`, `defocus_blur`.
const RADIUS_AND_SIGMA: [(f64, f64); 5] =
    [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)];

impl Corruption for DefocusBlur {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        let (radius, sigma) = RADIUS_AND_SIGMA[severity.index()];
        let kernel = Kernel::soft_disk(radius, sigma);
        for channel in image.chunks_exact_mut(shape.height * shape.width) {
            let blurred = correlate(channel, shape.height, shape.width, &kernel);
            for (value, blurred) in channel.iter_mut().zip(blurred) {
                *value = truncated(blurred);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_of_the_five_severities() {
        // Center, edge neighbor, corner neighbor: computed in double precision from the formula with NumPy 2.4.6
        // (disk, then the outer product of the normalized taps exp(-1 / 2σ²)).
        let expected = [
            (0.844_97, 0.037_13, 0.001_63),
            (0.619_35, 0.083_82, 0.011_34),
            (0.445_21, 0.111_01, 0.027_68),
            (0.2, 0.2, 0.0),
            (1.0 / 9.0, 1.0 / 9.0, 1.0 / 9.0),
        ];
        for (&(radius, sigma), (center, edge, corner)) in RADIUS_AND_SIGMA.iter().zip(expected) {
            let kernel = Kernel::soft_disk(radius, sigma);
            for (weight, expected) in [
                (kernel.at(0, 0), center),
                (kernel.at(0, 1), edge),
                (kernel.at(-1, 0), edge),
                (kernel.at(1, 1), corner),
                (kernel.at(-1, 1), corner),
            ] {
                assert!((weight - expected).abs() < 6e-6, "{radius}: {weight}");
            }
        }
    }

    #[test]
    fn a_flat_image_stays() {
        let shape = ImageShape {
            channels: 1,
            height: 9,
            width: 9,
        };
        for severity in Severity::ALL {
            for level in [0, 1, 97, 254, 255] {
                let mut image = vec![level; 81];
                DefocusBlur.corrupt(&mut image, shape, severity, &mut Rng::stream(0, "", &[]));
                assert_eq!(image, vec![level; 81]);
            }
        }
    }
}
