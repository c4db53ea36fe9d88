//! ISO noise: the grain and the color noise of a camera's sensor.
//!
//! In HLS, per pixel: L' = L + (k / 255)(1 - L) with k ~ Poisson(255 I s), s the standard deviation of L over the image;
//! H' = H + n with n ~ N(0, 360° c I), wrapped once by 360°; back to RGB.
//! Buslaev et al. 2020, Albumentations' `ISONoise`, version 1.3.0 (version 2 computes something else).
//! Bytes in, bytes out; images with three channels as RGB only, any size. A study asks for it with three channels only, and
//! another image would stay as it is.
//!
//! Variant `published`: c ~ U(0.01, 0.05), I ~ U(0.1, 0.5) once per image, as in document 000, truncated. Its noise only
//! brightens, and a flat image gets none of it.
//! Variant `corrected`: k - 255 I s instead of k, so that nothing is brightened on average, c and I by severity, rounded.
//!
//! Deviation: drawn from our seeded stream, not NumPy's, and applied to every image, not every second.

use super::color::{hls, rgb_of_hls};
use super::poisson::poisson;
use super::variant::{KNOBS, PUBLISHED};
use super::{Corruption, ONCE, Severity, rounded, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("iso-noise"),
        title: text("ISO noise"),
        summary: text(
            "Adds grain to the luminance and noise to the hue: a sensor at high sensitivity. Needs images in color.",
        ),
        reference: text("doi:10.3390/info11020125"),
        family: text("noise"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| match setting.choice("variant") {
        PUBLISHED => Box::new(Published),
        _ => Box::new(Corrected),
    },
};

/// As document 000 measured it.
struct Published;

/// Document 000, section 4: `color_shift`, `intensity`.
const COLOR_SHIFT: [f64; 2] = [0.01, 0.05];
const INTENSITY: [f64; 2] = [0.1, 0.5];

impl Corruption for Published {
    fn severities(&self) -> &'static [Option<Severity>] {
        &ONCE
    }

    fn needs_color(&self) -> bool {
        true
    }

    fn corrupt(&self, image: &mut [u8], shape: ImageShape, _: Severity, rng: &mut Rng) {
        if shape.channels != 3 {
            return;
        }
        let shift = rng.between(COLOR_SHIFT[0], COLOR_SHIFT[1]);
        let intensity = rng.between(INTENSITY[0], INTENSITY[1]);
        let area = shape.height * shape.width;
        let mean = 255.0 * intensity * contrast(image, area);
        let grain: Vec<f64> = (0..area).map(|_| poisson(mean, rng)).collect();
        let hue: Vec<f64> = (0..area)
            .map(|_| 360.0 * shift * intensity * rng.normal())
            .collect();
        grained(image, &grain, &hue, truncated);
    }
}

struct Corrected;

/// Color shift and intensity at severity 1 to 5: the range of the document spread out, its strongest at severity 2, then
/// ours in steps that grow.
const SHIFT_AND_INTENSITY: [(f64, f64); 5] = [
    (0.02, 0.25),
    (0.05, 0.5),
    (0.05, 1.0),
    (0.05, 1.6),
    (0.05, 2.5),
];

impl Corruption for Corrected {
    fn needs_color(&self) -> bool {
        true
    }

    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        if shape.channels != 3 {
            return;
        }
        let (shift, intensity) = SHIFT_AND_INTENSITY[severity.index()];
        let area = shape.height * shape.width;
        let mean = 255.0 * intensity * contrast(image, area);
        let grain: Vec<f64> = (0..area).map(|_| poisson(mean, rng) - mean).collect();
        let hue: Vec<f64> = (0..area)
            .map(|_| 360.0 * shift * intensity * rng.normal())
            .collect();
        grained(image, &grain, &hue, rounded);
    }
}

fn pixel(image: &[u8], area: usize, place: usize) -> [f64; 3] {
    [0, 1, 2].map(|channel| f64::from(image[channel * area + place]) / 255.0)
}

/// The standard deviation of the luminance over the image, of values in [0, 1].
fn contrast(image: &[u8], area: usize) -> f64 {
    let levels: Vec<f64> = (0..area)
        .map(|place| hls(pixel(image, area, place))[1])
        .collect();
    let mean = levels.iter().sum::<f64>() / area as f64;
    let squares = levels.iter().map(|level| (level - mean).powi(2));
    (squares.sum::<f64>() / area as f64).sqrt()
}

/// With given noise for each pixel: counts for the luminance, degrees for the hue.
pub(super) fn grained(image: &mut [u8], grain: &[f64], hue: &[f64], stored: fn(f64) -> u8) {
    let area = image.len() / 3;
    for place in 0..area {
        let [mut angle, mut level, saturation] = hls(pixel(image, area, place));
        angle += hue[place];
        if angle < 0.0 {
            angle += 360.0;
        } else if angle > 360.0 {
            angle -= 360.0;
        }
        level += grain[place] / 255.0 * (1.0 - level);
        let rgb = rgb_of_hls([angle, level.clamp(0.0, 1.0), saturation]);
        for (channel, part) in rgb.into_iter().enumerate() {
            image[channel * area + place] = stored(255.0 * part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 3,
        height: 16,
        width: 16,
    };

    fn picture() -> Vec<u8> {
        (0..768_u32).map(|i| (i * i * 31 % 251) as u8).collect()
    }

    fn levels(image: &[u8]) -> Vec<f64> {
        (0..256)
            .map(|place| hls(pixel(image, 256, place))[1])
            .collect()
    }

    #[test]
    fn a_flat_image_gets_no_luminance_noise() {
        // O-48.
        assert!(contrast(&[77; 768], 256) < 1e-12);
        let mut image = vec![77; 768];
        Published.corrupt(
            &mut image,
            SHAPE,
            Severity::ALL[0],
            &mut Rng::stream(1, "iso", &[]),
        );
        // Of a gray, the hue is nothing.
        assert_eq!(image, vec![77; 768]);
    }

    #[test]
    fn the_published_noise_only_brightens_and_the_corrected_does_not() {
        // O-48: the luminance of no pixel falls, but for the truncation's one level.
        let before = picture();
        let mut mean_change = 0.0;
        for number in 0..20 {
            let mut image = before.clone();
            let mut rng = Rng::stream(1, "iso", &[number]);
            Published.corrupt(&mut image, SHAPE, Severity::ALL[0], &mut rng);
            for (before, after) in levels(&before).into_iter().zip(levels(&image)) {
                assert!(after >= before - 1.5 / 255.0, "{before} to {after}");
            }
            let mut image = before.clone();
            Corrected.corrupt(&mut image, SHAPE, Severity::ALL[2], &mut rng);
            let sum = |levels: Vec<f64>| levels.into_iter().sum::<f64>();
            mean_change += (sum(levels(&image)) - sum(levels(&before))) / 256.0 / 20.0;
        }
        assert!(mean_change.abs() < 1.0 / 255.0, "{mean_change}");
    }
}
