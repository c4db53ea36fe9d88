//! Spatter: drops of water or mud on the lens.
//!
//! A layer of N(μ, σ), blurred, cut below a threshold. Severities 1 to 3, water: the layer times a map of how far its edges
//! are, m, scaled to at most w; x' = clip(x + m · pale turquoise, 0, 1). Severities 4 and 5, mud: where the layer is left, m
//! is 1, blurred, cut below 0.8; x' = clip((1 - m) x + m · brown, 0, 1). Stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`, OpenCV's Canny, distance
//! transform and histogram equalization), one of four that are not in the mean over fifteen.
//! Bytes in, bytes out; three channels as RGB, any other number as gray channels under the tint's luma, any size.
//!
//! Deviation: the layer is drawn from our seeded stream, not NumPy's. Where no drop falls the image stays; the published code
//! divides by 0.

use super::color::luma;
use super::edges::{canny, distances, equalized, means};
use super::gaussian_filter::{Edge, filter, taps};
use super::kernel::mirrored;
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("spatter"),
        title: text("Spatter"),
        summary: text("Drops on the lens: water at severities 1 to 3, mud at 4 and 5."),
        reference: text("arXiv:1903.12261"),
        family: text("weather"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Spatter),
};

struct Spatter;

/// Mean and deviation of the layer, its blur, threshold, and the weight of water or the blur of mud.
const SETTING: [(f64, f64, f64, f64, f64); 5] = [
    (0.62, 0.1, 0.7, 0.7, 0.5),
    (0.65, 0.1, 0.8, 0.7, 0.5),
    (0.65, 0.3, 1.0, 0.69, 0.5),
    (0.65, 0.1, 0.7, 0.69, 0.6),
    (0.65, 0.1, 0.5, 0.68, 0.6),
];

/// The first severity of mud, counted from 0.
const MUD: usize = 3;

/// Pale turquoise, `make_cifar_c.py`.
const WATER: [f64; 3] = [175.0, 238.0, 238.0];

/// Brown, `make_cifar_c.py`.
const BROWN: [f64; 3] = [63.0, 42.0, 20.0];

/// scikit-image's default.
const TRUNCATE: f64 = 4.0;

impl Corruption for Spatter {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        let area = shape.height * shape.width;
        let noise: Vec<f64> = (0..area).map(|_| rng.normal()).collect();
        spattered(image, shape, severity, &noise);
    }
}

/// With a layer of standard normal noise.
pub(super) fn spattered(image: &mut [u8], shape: ImageShape, severity: Severity, noise: &[f64]) {
    let (mean, sigma, blur, threshold, weight) = SETTING[severity.index()];
    let (height, width) = (shape.height, shape.width);
    let mut layer: Vec<f64> = noise.iter().map(|n| mean + sigma * n).collect();
    filter(
        &mut layer,
        height,
        width,
        &taps(blur, TRUNCATE),
        Edge::Nearest,
    );
    for value in &mut layer {
        if *value < threshold {
            *value = 0.0;
        }
    }
    if severity.index() >= MUD {
        let mut mud: Vec<f64> = layer
            .iter()
            .map(|value| f64::from(u8::from(*value > threshold)))
            .collect();
        filter(
            &mut mud,
            height,
            width,
            &taps(weight, TRUNCATE),
            Edge::Nearest,
        );
        // Thin mud runs off.
        let thick = mud.into_iter().map(|m| if m < 0.8 { 0.0 } else { m });
        let thick: Vec<f64> = thick.collect();
        tinted(image, shape, BROWN, |value, pixel, tint| {
            (1.0 - thick[pixel]) * value + thick[pixel] * tint
        });
        return;
    }
    let water = water(&layer, height, width);
    let most = water.iter().copied().fold(0.0, f64::max);
    if most == 0.0 {
        return;
    }
    tinted(image, shape, WATER, |value, pixel, tint| {
        value + water[pixel] / most * weight * tint
    });
}

/// Changes every value, given its pixel and the tint of its channel.
fn tinted(
    image: &mut [u8],
    shape: ImageShape,
    tint: [f64; 3],
    change: impl Fn(f64, usize, f64) -> f64,
) {
    for (channel, plane) in image
        .chunks_exact_mut(shape.height * shape.width)
        .enumerate()
    {
        let tint = if shape.channels == 3 {
            tint[channel]
        } else {
            luma(tint)
        };
        for (pixel, value) in plane.iter_mut().enumerate() {
            *value = truncated(change(f64::from(*value), pixel, tint));
        }
    }
}

/// How much water is where: the layer, shaded by how far the edges of its drops are.
fn water(layer: &[f64], height: usize, width: usize) -> Vec<f64> {
    let drops: Vec<u8> = layer.iter().map(|value| truncated(255.0 * value)).collect();
    let edges = canny(&drops, height, width, 50, 150);
    let near: Vec<f64> = distances(&edges, height, width)
        .into_iter()
        .map(|distance| f64::from(distance.min(20.0)))
        .collect();
    let mut shade: Vec<u8> = means(&near, height, width)
        .into_iter()
        .map(|mean| mean as f32 as u8)
        .collect();
    equalized(&mut shade);
    let embossed = embossed(&shade, height, width);
    let soft = means(&embossed, height, width);
    drops
        .iter()
        .zip(soft)
        .map(|(drop, shade)| f64::from(*drop) * shade.round_ties_even())
        .collect()
}

/// Light from the lower right, cut to bytes.
fn embossed(shade: &[u8], height: usize, width: usize) -> Vec<f64> {
    /// `make_cifar_c.py`, `spatter`.
    const KERNEL: [[i32; 3]; 3] = [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]];
    let mut result = Vec::with_capacity(shade.len());
    for y in 0..height as isize {
        for x in 0..width as isize {
            let mut sum = 0;
            for (dy, line) in (-1..).zip(KERNEL) {
                for (dx, weight) in (-1..).zip(line) {
                    let place = mirrored(y + dy, height) * width + mirrored(x + dx, width);
                    sum += weight * i32::from(shade[place]);
                }
            }
            result.push(f64::from(sum.clamp(0, 255)));
        }
    }
    result
}
