//! Elastic transform: the image drawn on rubber.
//!
//! Three points of a square in the middle move by U(-a, a) in both directions each, and the image with them (affine, linear,
//! mirrored at the edges); then every pixel moves by U(-1, 1), smoothed with a Gaussian of σ pixels and times α.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`, OpenCV's `warpAffine` with its
//! coordinates in 32nds of a pixel, SciPy's `map_coordinates`); stored truncated to a byte.
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Deviation: drawn from our seeded stream, not NumPy's. Lengths are shares of the shorter side, which is 32 there; a side of
//! less than three pixels is not moved by the affine part, whose points coincide.

use super::gaussian_filter::{Edge, filter, taps};
use super::warp::{affine_sources, displaced_sources, through};
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("elastic-transform"),
        title: text("Elastic transform"),
        summary: text("Shears the image and stretches small regions of it: drawn on rubber."),
        reference: text("arXiv:1903.12261"),
        family: text("digital"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(ElasticTransform),
};

struct ElasticTransform;

/// α, σ and a as shares of the side at severity 1 to 5: `make_cifar_c.py`, `elastic_transform`.
const SHARES: [(f64, f64, f64); 5] = [
    (0.0, 0.0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
];

impl Corruption for ElasticTransform {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        let moves = std::array::from_fn(|_| rng.uniform());
        let mut field = || -> Vec<f64> {
            if SHARES[severity.index()].0 == 0.0 {
                return Vec::new();
            }
            (0..shape.height * shape.width)
                .map(|_| rng.between(-1.0, 1.0))
                .collect()
        };
        let (right, down) = (field(), field());
        stretched(image, shape, severity, moves, [right, down]);
    }
}

/// With given draws: six in [0, 1) for the points, x before y, and a field in [-1, 1) for each of right and down, which may
/// be empty where α is 0.
pub(super) fn stretched(
    image: &mut [u8],
    shape: ImageShape,
    severity: Severity,
    moves: [f64; 6],
    fields: [Vec<f64>; 2],
) {
    let (alpha, sigma, shift) = SHARES[severity.index()];
    let (height, width) = (shape.height, shape.width);
    let side = height.min(width) as f64;
    let (x, y, reach) = (
        (width / 2) as f64,
        (height / 2) as f64,
        (height.min(width) / 3) as f64,
    );
    let from = [
        [x + reach, y + reach],
        [x + reach, y - reach],
        [x - reach, y - reach],
    ];
    let mut to = from;
    for (place, u) in to.iter_mut().flatten().zip(moves) {
        // The published code keeps the points as 32-bit floats.
        *place = f64::from((*place + f64::from((shift * side * (2.0 * u - 1.0)) as f32)) as f32);
    }
    let affine = through(from, to).map(|map| affine_sources(map, height, width));
    let elastic = (alpha > 0.0).then(|| {
        let taps = taps(sigma * side, 3.0);
        let [right, down] = fields.map(|mut field| {
            filter(&mut field, height, width, &taps, Edge::Reflect);
            for value in &mut field {
                *value *= alpha * side;
            }
            field
        });
        displaced_sources(&down, &right, height, width)
    });
    for channel in image.chunks_exact_mut(height * width) {
        let mut plane: Vec<f64> = channel.iter().map(|value| f64::from(*value)).collect();
        for sources in [&affine, &elastic].into_iter().flatten() {
            plane = sources
                .iter()
                .map(|source| source.of(&plane, width))
                .collect();
        }
        for (value, moved) in channel.iter_mut().zip(plane) {
            *value = truncated(moved);
        }
    }
}
