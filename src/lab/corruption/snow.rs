//! Snow: flakes driven down, and a whitened scene.
//!
//! A layer of N(μ, σ), zoomed, cut below a threshold, stored as bytes and motion-blurred downward at an angle uniform in
//! [-135°, -45°); x' = clip(b x + (1 - b) max(x, 1.5 luma + 0.5) + layer + layer turned by 180°, 0, 1), truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`).
//! Bytes in, bytes out; three channels as RGB, any other number as gray channels of their own, any size.
//!
//! Deviation: layer and angle are drawn from our seeded stream, not NumPy's. A gray image is its own luma.

use super::color::luma;
use super::motion::Line;
use super::zoom::Zoom;
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("snow"),
        title: text("Snow"),
        summary: text(
            "Lays streaks of snow over a whitened image: flakes that fall while the camera exposes.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("weather"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Snow),
};

struct Snow;

/// The constants of one severity.
struct Strength {
    mean: f64,
    sigma: f64,
    zoom: f64,
    threshold: f64,
    radius: f64,
    smear: f64,
    kept: f64,
}

const fn strength(c: [f64; 7]) -> Strength {
    let [mean, sigma, zoom, threshold, radius, smear, kept] = c;
    Strength {
        mean,
        sigma,
        zoom,
        threshold,
        radius,
        smear,
        kept,
    }
}

/// At severity 1 to 5: `make_cifar_c.py`, `snow`.
const STRENGTHS: [Strength; 5] = [
    strength([0.1, 0.2, 1.0, 0.6, 8.0, 3.0, 0.95]),
    strength([0.1, 0.2, 1.0, 0.5, 10.0, 4.0, 0.9]),
    strength([0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.9]),
    strength([0.25, 0.3, 2.25, 0.6, 12.0, 6.0, 0.85]),
    strength([0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.8]),
];

impl Corruption for Snow {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        let area = shape.height * shape.width;
        let noise: Vec<f64> = (0..area).map(|_| rng.normal()).collect();
        snowed(image, shape, severity, &noise, rng.between(-135.0, -45.0));
    }
}

/// With a layer of standard normal noise and an angle in degrees.
pub(super) fn snowed(
    image: &mut [u8],
    shape: ImageShape,
    severity: Severity,
    noise: &[f64],
    angle: f64,
) {
    let strength = &STRENGTHS[severity.index()];
    let (height, width) = (shape.height, shape.width);
    let area = height * width;
    let drawn: Vec<f64> = noise
        .iter()
        .map(|n| strength.mean + strength.sigma * n)
        .collect();
    let mut zoomed = vec![0.0; area];
    Zoom::new(height, width, strength.zoom).add(&drawn, &mut zoomed);
    let mut layer: Vec<u8> = zoomed
        .into_iter()
        .map(|value| {
            if value < strength.threshold {
                0.0
            } else {
                value
            }
        })
        .map(|value| truncated(value * 255.0))
        .collect();
    Line::new(strength.radius, strength.smear, angle).blur(&mut layer, height, width);
    let fallen = |pixel: usize| f64::from(layer[pixel]) + f64::from(layer[area - 1 - pixel]);
    let whitened = |value: f64, luma: f64, pixel: usize| {
        let white = value.max(1.5 * luma + 127.5);
        truncated(strength.kept * value + (1.0 - strength.kept) * white + fallen(pixel))
    };
    if shape.channels != 3 {
        for channel in image.chunks_exact_mut(area) {
            for (pixel, value) in channel.iter_mut().enumerate() {
                let own = f64::from(*value);
                *value = whitened(own, own, pixel);
            }
        }
        return;
    }
    for pixel in 0..area {
        let places = [pixel, pixel + area, pixel + 2 * area];
        let rgb = places.map(|place| f64::from(image[place]));
        for (place, value) in places.into_iter().zip(rgb) {
            image[place] = whitened(value, luma(rgb), pixel);
        }
    }
}
