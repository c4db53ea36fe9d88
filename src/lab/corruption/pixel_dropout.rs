//! Pixel dropout: dead pixels.
//!
//! x' = 0 where a mask M ~ Bernoulli(p) is 1, x elsewhere; one mask of `H` x `W` for all channels.
//! Buslaev et al. 2020, Albumentations' `PixelDropout` (mask shared by the channels, dropped to 0, p = 0.01 by default).
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Variant `published`: p = 0.01, as in document 000, without severities.
//! Variant `corrected`: five severities of ours; severity 1 is that of the document, and 5 leaves most of the image.
//!
//! Deviation: Albumentations applies the transform to half the images only; here it is applied to every image.

use super::variant::{KNOBS, PUBLISHED};
use super::{Corruption, ONCE, Severity};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("pixel-dropout"),
        title: text("Pixel dropout"),
        summary: text(
            "Sets 1 to 15 % of the pixels to black, in all channels: dead pixels. Nothing happens where the image is black already.",
        ),
        reference: text("doi:10.3390/info11020125"),
        family: text("noise"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| match setting.choice("variant") {
        PUBLISHED => Box::new(Published),
        _ => Box::new(PixelDropout),
    },
};

struct PixelDropout;

/// The probability of a dead pixel at severity 1 to 5: Albumentations' default, then ours, in steps that grow.
const PROBABILITY: [f64; 5] = [0.01, 0.03, 0.06, 0.10, 0.15];

impl Corruption for PixelDropout {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        let probability = PROBABILITY[severity.index()];
        dropped(image, shape, &mut || rng.uniform() < probability);
    }
}

/// As document 000 measured it, which is severity 1 of the other.
struct Published;

impl Corruption for Published {
    fn severities(&self) -> &'static [Option<Severity>] {
        &ONCE
    }

    fn corrupt(&self, image: &mut [u8], shape: ImageShape, _: Severity, rng: &mut Rng) {
        dropped(image, shape, &mut || rng.uniform() < PROBABILITY[0]);
    }
}

/// Drops the pixels for which `is_dropped` says so, row by row.
pub(super) fn dropped(image: &mut [u8], shape: ImageShape, is_dropped: &mut dyn FnMut() -> bool) {
    let plane = shape.height * shape.width;
    for pixel in 0..plane {
        if is_dropped() {
            for channel in 0..shape.channels {
                image[channel * plane + pixel] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_p_and_the_channels_share_the_mask() {
        let shape = ImageShape {
            channels: 3,
            height: 200,
            width: 200,
        };
        for severity in Severity::ALL {
            let mut image = vec![9; shape.values()];
            let mut rng = Rng::stream(2, "pixel-dropout", &[u64::from(severity.get())]);
            PixelDropout.corrupt(&mut image, shape, severity, &mut rng);
            let planes: Vec<&[u8]> = image.chunks_exact(40_000).collect();
            assert_eq!(planes[0], planes[1]);
            assert_eq!(planes[0], planes[2]);
            let share = 1.0 - planes[0].iter().map(|&x| f64::from(x) / 9.0).sum::<f64>() / 40_000.0;
            let p = PROBABILITY[severity.index()];
            // Five standard errors of a share.
            let allowed = 5.0 * (p * (1.0 - p) / 40_000.0).sqrt();
            assert!((share - p).abs() < allowed, "{share} for {p}");
        }
    }
}
