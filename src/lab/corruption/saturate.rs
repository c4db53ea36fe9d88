//! Saturate: colors washed out or shrill.
//!
//! The saturation of HSV becomes clip(a S + b, 0, 1) at the same hue and value; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`, scikit-image's HSV), one of four
//! that are not in the mean over fifteen. A gray pixel of a color image has hue 0 and turns reddish where b is above 0.
//! Bytes in, bytes out; three channels as RGB, any size. Other images have no saturation: a study asks for it with three
//! channels only, and such an image would stay as it is.

use super::color::{hsv, rgb_of_hsv};
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("saturate"),
        title: text("Saturate"),
        summary: text(
            "Washes colors out (severities 1 and 2) or makes them shrill (3 to 5). Needs images in color.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("digital"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Saturate),
};

struct Saturate;

/// a and b at severity 1 to 5: `make_cifar_c.py`, `saturate`.
const FACTOR_AND_OFFSET: [(f64, f64); 5] =
    [(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)];

impl Corruption for Saturate {
    fn needs_color(&self) -> bool {
        true
    }

    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        if shape.channels != 3 {
            return;
        }
        let (factor, offset) = FACTOR_AND_OFFSET[severity.index()];
        let area = shape.height * shape.width;
        for pixel in 0..area {
            let places = [pixel, pixel + area, pixel + 2 * area];
            let [hue, saturation, value] = hsv(places.map(|place| f64::from(image[place]) / 255.0));
            let saturation = (saturation * factor + offset).clamp(0.0, 1.0);
            for (place, part) in places.into_iter().zip(rgb_of_hsv([hue, saturation, value])) {
                image[place] = truncated(255.0 * part);
            }
        }
    }
}
