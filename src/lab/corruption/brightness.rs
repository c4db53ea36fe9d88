//! Brightness: a longer exposure.
//!
//! The value V of HSV, V = max(r, g, b), becomes V' = clip(V + c, 0, 1) at the same hue and saturation, which multiplies
//! all three channels by V' / V; black becomes the gray c. Values in [0, 1], stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; three channels as RGB, any other number as gray channels of their own: x' = clip(x + c, 0, 1).
//!
//! Deviation: the published code knows color images only; a gray image is treated as the gray color it is.

use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("brightness"),
        title: text("Brightness"),
        summary: text(
            "Raises the brightness at the same hue and saturation: a longer exposure. Bright parts saturate.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("digital"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Brightness),
};

struct Brightness;

/// What is added to V in [0, 1] at severity 1 to 5: `make_cifar_c.py`, `brightness`.
const ADDED: [f64; 5] = [0.05, 0.1, 0.15, 0.2, 0.3];

impl Corruption for Brightness {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        let added = 255.0 * ADDED[severity.index()];
        if shape.channels != 3 {
            for value in image {
                *value = truncated(f64::from(*value) + added);
            }
            return;
        }
        let plane = shape.height * shape.width;
        for pixel in 0..plane {
            let places = [pixel, pixel + plane, pixel + 2 * plane];
            let most = f64::from(
                places
                    .map(|place| image[place])
                    .into_iter()
                    .fold(0, u8::max),
            );
            let raised = (most + added).min(255.0);
            for place in places {
                let value = f64::from(image[place]);
                // Black has no hue: saturation 0.
                image[place] = truncated(if most > 0.0 {
                    value * raised / most
                } else {
                    raised
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hue_and_saturation_stay() {
        let shape = ImageShape {
            channels: 3,
            height: 1,
            width: 3,
        };
        // Pixels (102, 51, 0), (0, 0, 0), (240, 120, 60); c = .2 is 51 grey levels.
        let mut image = vec![102, 0, 240, 51, 0, 120, 0, 0, 60];
        Brightness.corrupt(
            &mut image,
            shape,
            Severity::ALL[3],
            &mut Rng::stream(0, "", &[]),
        );
        // V 102 → 153: ×1.5. Black → 51. V 240 → 255 (clipped): ×1.0625 gives 127.5 and 63.75, truncated.
        assert_eq!(image, [153, 51, 255, 76, 51, 127, 0, 51, 63]);
    }
}
