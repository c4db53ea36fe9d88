//! The Euclidean half of the square attack: bumps that are moved about.
//!
//! A bump of side s is two half-squares of opposite sign, each falling from its middle as Σ_k 1/(k+1)² over nested
//! rectangles, of length 1 in all, lying or standing. A query takes what one window holds, and what the budget leaves, and
//! puts it into another as its old direction plus a new bump. Andriushchenko et al. 2020, arXiv:1912.00049, section 3.3.

use crate::lab::attack::ball::Norm;
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

use super::{place, sign};

/// Keeps quotients finite.
const TINY: f64 = 1e-12;

/// Half a bump, `rows` by `columns`, before it is scaled.
fn half(rows: usize, columns: usize) -> Vec<f64> {
    let mut half = vec![0.0; rows * columns];
    let (middle_row, middle_column) = ((rows / 2) as isize, (columns / 2) as isize);
    for ring in 0..(rows / 2 + 1).max(columns / 2 + 1) {
        let add = 1.0 / ((ring + 1) * (ring + 1)) as f64;
        let span = |middle: isize, of: usize| {
            let first = middle - ring as isize;
            let last = (first + 2 * ring as isize + 1).clamp(0, of as isize) as usize;
            (first.max(0) as usize).min(last)..last
        };
        for row in span(middle_row, rows) {
            for column in span(middle_column, columns) {
                half[row * columns + column] += add;
            }
        }
    }
    half
}

/// A bump of length 1.
fn bump(side: usize, rng: &mut Rng) -> Vec<f32> {
    let upper = side / 2;
    let mut bump = Vec::with_capacity(side * side);
    for (rows, sign) in [(upper, 1.0), (side - upper, -1.0)] {
        let half = half(rows, side);
        let length = half.iter().map(|v| v * v).sum::<f64>().sqrt().max(TINY);
        bump.extend(half.into_iter().map(|v| sign * v / length));
    }
    let length = bump.iter().map(|v| v * v).sum::<f64>().sqrt().max(TINY);
    let lies = rng.below(2) == 0;
    let at = |place: usize| {
        let (row, column) = (place / side, place % side);
        let from = if lies {
            row * side + column
        } else {
            column * side + row
        };
        (bump[from] / length) as f32
    };
    (0..side * side).map(at).collect()
}

/// The clean image with a grid of bumps of the budget's length.
pub(super) fn grid(clean: &[f32], shape: ImageShape, epsilon: f64, rng: &mut Rng) -> Vec<f32> {
    let (height, width) = (shape.height, shape.width);
    let side = (height.min(width) / 5).max(1);
    let mut delta = vec![0.0_f32; clean.len()];
    let margin = |of: usize| (of - of / side * side) / 2;
    for row in 0..height / side {
        for column in 0..width / side {
            let bump = bump(side, rng);
            for channel in 0..shape.channels {
                let sign = sign(rng);
                for y in 0..side {
                    for x in 0..side {
                        let (at_y, at_x) = (
                            margin(height) + row * side + y,
                            margin(width) + column * side + x,
                        );
                        delta[(channel * height + at_y) * width + at_x] = sign * bump[y * side + x];
                    }
                }
            }
        }
    }
    scaled(clean, &delta, epsilon)
}

/// The clean image moved along a change, by the budget's length.
fn scaled(clean: &[f32], delta: &[f32], epsilon: f64) -> Vec<f32> {
    let scale = epsilon / (Norm::L2.size(delta) + TINY);
    let along = |(clean, d): (&f32, &f32)| (f64::from(*clean) + scale * f64::from(*d)) as f32;
    clean.iter().zip(delta).map(along).collect()
}

/// Moves the mass of one window into another.
pub(super) fn shift(
    x: &mut Vec<f32>,
    clean: &[f32],
    shape: ImageShape,
    side: usize,
    epsilon: f64,
    rng: &mut Rng,
) {
    let (height, width) = (shape.height, shape.width);
    // At least three, and odd, where the image is that large.
    let most = height.min(width);
    let side = (side.max(3) | 1).min(most);
    let mut delta: Vec<f32> = x.iter().zip(clean).map(|(x, clean)| x - clean).collect();
    let mut corner = || (place(rng, side, height), place(rng, side, width));
    let (to, from) = (corner(), corner());
    let holds = |(top, left): (usize, usize), y: usize, x: usize| {
        (top..top + side).contains(&y) && (left..left + side).contains(&x)
    };
    let mut of_windows = 0.0;
    for channel in 0..shape.channels {
        for y in 0..height {
            for column in 0..width {
                if holds(to, y, column) || holds(from, y, column) {
                    of_windows += f64::from(delta[(channel * height + y) * width + column]).powi(2);
                }
            }
        }
    }
    let spare = (epsilon * epsilon - Norm::L2.size(&delta).powi(2)).max(0.0);
    let length = (spare / shape.channels as f64 + of_windows).sqrt();
    let bump = bump(side, rng);
    for channel in 0..shape.channels {
        let sign = sign(rng);
        let at = |y: usize, x: usize, (top, left): (usize, usize)| {
            (channel * height + top + y) * width + left + x
        };
        let squares =
            (0..side * side).map(|p| f64::from(delta[at(p / side, p % side, to)]).powi(2));
        let old = squares.sum::<f64>().sqrt() + TINY;
        let mut window: Vec<f64> = (0..side * side)
            .map(|p| {
                let held = f64::from(delta[at(p / side, p % side, to)]) / old;
                held + f64::from(sign * bump[p])
            })
            .collect();
        let size = window.iter().map(|v| v * v).sum::<f64>().sqrt() + TINY;
        for v in &mut window {
            *v *= length / size;
        }
        for p in 0..side * side {
            delta[at(p / side, p % side, from)] = 0.0;
        }
        for (p, v) in window.into_iter().enumerate() {
            delta[at(p / side, p % side, to)] = v as f32;
        }
    }
    *x = scaled(clean, &delta, epsilon);
}
