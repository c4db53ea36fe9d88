//! Frost: ice on the lens.
//!
//! x' = clip(α x + β t, 0, 255) with t a random crop of one of five textures of frost; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; three channels as RGB, any other number as gray channels under the texture's luma, any size.
//!
//! Deviation: the published code takes crops of photographs of frost. They are not part of this program, which makes its own
//! textures (`frost_texture.rs`); images larger than a texture see it repeated. Numbers under this frost compare networks
//! with each other, not with those of the published set; the official files are used where they are.

use super::color::luma;
use super::frost_texture::{SIDE, TEXTURES, textures};
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("frost"),
        title: text("Frost, own textures"),
        summary: text(
            "Lays ice crystals over the image. The textures are made by this program, not the published photographs.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("weather"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Frost),
};

struct Frost;

/// What is left of the image and what comes from the texture at severity 1 to 5: `make_cifar_c.py`, `frost`.
const SHARES: [(f64, f64); 5] = [
    (1.0, 0.2),
    (1.0, 0.3),
    (0.9, 0.4),
    (0.85, 0.4),
    (0.75, 0.45),
];

impl Corruption for Frost {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        let texture = &textures()[rng.below(TEXTURES)];
        let (top, left) = (rng.below(SIDE), rng.below(SIDE));
        frosted(image, shape, severity, |y, x| {
            texture[(top + y) % SIDE * SIDE + (left + x) % SIDE]
        });
    }
}

/// Under a texture, which gives the color of the pixel in a row and a column.
pub(super) fn frosted(
    image: &mut [u8],
    shape: ImageShape,
    severity: Severity,
    texture: impl Fn(usize, usize) -> [u8; 3],
) {
    let (kept, laid) = SHARES[severity.index()];
    let area = shape.height * shape.width;
    for pixel in 0..area {
        let ice = texture(pixel / shape.width, pixel % shape.width).map(f64::from);
        for channel in 0..shape.channels {
            let ice = if shape.channels == 3 {
                ice[channel]
            } else {
                luma(ice)
            };
            let value = &mut image[channel * area + pixel];
            *value = truncated(kept * f64::from(*value) + laid * ice);
        }
    }
}
