//! Fog: clouds of plasma over a dimmed scene.
//!
//! x' = clip((x + c P) M / (M + c), 0, 1) with P a plasma in [0, 1], the same for all channels, and M the largest value of
//! the image; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: the plasma is drawn from our seeded stream, not NumPy's, and has the side of the smallest power of two that
//! covers the image; the published code knows images of 32x32 only.

use super::plasma::{covering, plasma};
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("fog"),
        title: text("Fog"),
        summary: text("Lays clouds over the image and dims what is behind them."),
        reference: text("arXiv:1903.12261"),
        family: text("weather"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Fog),
};

struct Fog;

/// Thickness, and how fast small clouds lose height, at severity 1 to 5: `make_cifar_c.py`, `fog`.
const THICKNESS_AND_DECAY: [(f64, f64); 5] =
    [(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)];

impl Corruption for Fog {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        let (_, decay) = THICKNESS_AND_DECAY[severity.index()];
        let side = covering(shape.height, shape.width);
        let clouds = plasma(side, decay, &mut || rng.uniform());
        fogged(image, shape, severity, &clouds, side);
    }
}

/// With given clouds, rows of `side` values in [0, 1].
pub(super) fn fogged(
    image: &mut [u8],
    shape: ImageShape,
    severity: Severity,
    clouds: &[f64],
    side: usize,
) {
    let thickness = 255.0 * THICKNESS_AND_DECAY[severity.index()].0;
    let most = f64::from(image.iter().copied().max().unwrap_or(0));
    let dimmed = most / (most + thickness);
    for channel in image.chunks_exact_mut(shape.height * shape.width) {
        for (line, clouds) in channel
            .chunks_exact_mut(shape.width)
            .zip(clouds.chunks_exact(side))
        {
            for (value, cloud) in line.iter_mut().zip(clouds) {
                *value = truncated((f64::from(*value) + thickness * cloud) * dimmed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_stays_within_its_bounds() {
        // O-49: on a constant x the result lies in [x² / (x + c), x], and both ends are reached.
        let shape = ImageShape {
            channels: 1,
            height: 32,
            width: 32,
        };
        for severity in Severity::ALL {
            let mut image = vec![153; 1024];
            Fog.corrupt(&mut image, shape, severity, &mut Rng::stream(4, "fog", &[]));
            let c = THICKNESS_AND_DECAY[severity.index()].0;
            let least = (255.0 * 0.6 * 0.6 / (0.6 + c) + 1e-6) as u8;
            assert_eq!(image.iter().min(), Some(&least), "{c}");
            assert_eq!(image.iter().max(), Some(&153), "{c}");
        }
    }
}
