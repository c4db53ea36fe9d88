//! Contrast: less of it, as in haze or flat light.
//!
//! x' = clip((x - m) c + m, 0, 1) with m the mean of each channel over the image; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; any number of channels, any size.

use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("contrast"),
        title: text("Contrast"),
        summary: text(
            "Pulls every value toward its channel's mean: haze or flat light. At severity 5, 15 % of the contrast is left.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("digital"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Contrast),
};

struct Contrast;

/// The share of the contrast that is left at severity 1 to 5: `make_cifar_c.py`, `contrast`.
const KEPT: [f64; 5] = [0.75, 0.5, 0.4, 0.3, 0.15];

impl Corruption for Contrast {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        let kept = KEPT[severity.index()];
        for channel in image.chunks_exact_mut(shape.height * shape.width) {
            let sum: u64 = channel.iter().map(|&value| u64::from(value)).sum();
            let mean = sum as f64 / channel.len() as f64;
            for value in channel {
                *value = truncated((f64::from(*value) - mean) * kept + mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_by_two_by_hand() {
        let shape = ImageShape {
            channels: 1,
            height: 2,
            width: 2,
        };
        // (.2, .4, .6, .8) in grey levels, mean 127.5: (51 - 127.5) .75 + 127.5 = 70.125, and so on.
        let corrupt = |severity: Severity| {
            let mut image = vec![51, 102, 153, 204];
            Contrast.corrupt(&mut image, shape, severity, &mut Rng::stream(0, "", &[]));
            image
        };
        assert_eq!(corrupt(Severity::ALL[0]), [70, 108, 146, 184]);
        assert_eq!(corrupt(Severity::ALL[4]), [116, 123, 131, 138]);
    }
}
