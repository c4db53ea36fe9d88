//! How a glyph's image looks: paper, strokes, light and noise, in one of three domains.

use super::pose::{Line, Pose, between};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

/// A look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// Dark strokes on bright paper.
    Ink,
    /// Bright grainy strokes on a dark board.
    Chalk,
    /// Hollow strokes, brighter within a dark contour.
    Outline,
}

/// Up to three channels.
type Tone = [f32; 3];

/// The tones of one image, 0 black to 1 white.
struct Tones {
    paper: Tone,
    stroke: Tone,
    /// Within a hollow stroke.
    fill: Tone,
}

impl Tones {
    fn draw(domain: Domain, rng: &mut Rng) -> Self {
        // In color the channels differ by up to the tint; a gray image uses the first.
        let mut tone = |low: f32, high: f32, tint: f32| {
            let level = between(rng, low, high);
            [0; 3].map(|_| level + between(rng, -tint, tint))
        };
        match domain {
            Domain::Ink => Self {
                paper: tone(0.78, 0.96, 0.06),
                stroke: tone(0.08, 0.38, 0.18),
                fill: [0.0; 3],
            },
            Domain::Chalk => Self {
                paper: tone(0.06, 0.20, 0.06),
                stroke: tone(0.72, 0.96, 0.12),
                fill: [0.0; 3],
            },
            Domain::Outline => Self {
                paper: tone(0.50, 0.70, 0.10),
                stroke: tone(0.06, 0.26, 0.08),
                fill: tone(0.76, 0.96, 0.10),
            },
        }
    }
}

/// Ruled lines keep this share of the paper's tone; the rest is the stroke's.
const RULING: f32 = 0.45;
/// A stray stroke's tone, as a share of the letter's.
const STRAY: f32 = 0.75;
/// Half the width of stray strokes, as a share of the side.
const STRAY_HALF_WIDTH: f32 = 0.022;
/// Half the width of a contour, in pixels.
const CONTOUR: f32 = 0.55;

/// Paints one image as `C`, `H`, `W` bytes.
pub(super) fn paint(
    pose: &Pose,
    is_ruled: bool,
    domain: Domain,
    difficulty: f32,
    shape: ImageShape,
    image: &mut [u8],
    rng: &mut Rng,
) {
    let side = shape.width;
    let plane = side * side;
    let scale = side as f32;
    let tones = Tones::draw(domain, rng);
    let noise = 0.18 * difficulty * between(rng, 0.3, 1.0);
    let light = (between(rng, -0.12, 0.12), between(rng, -0.12, 0.12));

    let half_width = pose.half_width * scale;
    let letter = distances(&pose.letter, side, half_width + 2.0);
    let ghost = distances(&pose.ghost, side, half_width + 2.0);
    let stray = distances(&pose.stray, side, STRAY_HALF_WIDTH * scale + 2.0);

    for place in 0..plane {
        let (x, y) = ((place % side) as f32 + 0.5, (place / side) as f32 + 0.5);
        // Which part of the pixel is covered: an edge is one pixel wide.
        let covered = |distance: f32, half: f32| (half + 0.5 - distance).clamp(0.0, 1.0);
        // How much of a stroke's tone and of a hollow stroke's inside shows.
        let drawn = |distance: f32, half: f32| match domain {
            Domain::Ink | Domain::Chalk => (covered(distance, half), 0.0),
            Domain::Outline => {
                let contour = covered((distance - half).abs(), CONTOUR);
                (contour, covered(distance, half) * (1.0 - contour))
            }
        };
        let ruling = if is_ruled {
            let (offset, spacing) = (pose.ruling.0 * scale, pose.ruling.1 * scale);
            let from_line = (y + offset) % spacing;
            (1.0 - RULING) * covered(from_line.min(spacing - from_line), 0.35)
        } else {
            0.0
        };
        let back = pose.ghost_strength * covered(ghost[place], half_width);
        let marks = STRAY * covered(stray[place], STRAY_HALF_WIDTH * scale);
        let (mut stroke, mut fill) = drawn(letter[place], half_width);
        if worn(pose, x / scale, y / scale) {
            stroke *= 1.0 - pose.patch.strength;
            fill *= 1.0 - pose.patch.strength;
        }
        if domain == Domain::Chalk {
            // The board's grain lets a part of the chalk through.
            stroke *= between(rng, 0.5, 1.0);
        }
        let shade = light.0 * (x / scale - 0.5) + light.1 * (y / scale - 0.5);
        for channel in 0..shape.channels {
            let (paper, ink) = (tones.paper[channel], tones.stroke[channel]);
            let mut value = paper + (ink - paper) * (1.0 - (1.0 - ruling) * (1.0 - back));
            value += (ink - value) * marks;
            value += (tones.fill[channel] - value) * fill;
            value += (ink - value) * stroke;
            // The sum of two uniform numbers: a triangle from -noise to noise.
            let grain = between(rng, -0.5, 0.5) + between(rng, -0.5, 0.5);
            value += shade + noise * grain;
            image[channel * plane + place] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        }
    }
}

/// Whether the ink is worn off at this place of the unit square.
fn worn(pose: &Pose, x: f32, y: f32) -> bool {
    let patch = &pose.patch;
    (x - patch.center.0).abs() < patch.half.0 && (y - patch.center.1).abs() < patch.half.1
}

/// For each pixel the distance of its center to the nearest line, in pixels; infinite where it exceeds `reach`.
fn distances(lines: &[Line], side: usize, reach: f32) -> Vec<f32> {
    let mut squares = vec![f32::INFINITY; side * side];
    let scale = side as f32;
    // The first and last pixel that a range of coordinates can reach.
    let span = |a: f32, b: f32| {
        let first = (a.min(b) - reach).clamp(0.0, scale) as usize;
        let end = ((a.max(b) + reach).clamp(0.0, scale) + 1.0) as usize;
        first..end.min(side)
    };
    for line in lines {
        for pair in line.windows(2) {
            let (ax, ay) = (pair[0].0 * scale, pair[0].1 * scale);
            let (bx, by) = (pair[1].0 * scale, pair[1].1 * scale);
            let (dx, dy) = (bx - ax, by - ay);
            // A stroke shaken to a point has length 0; its distance is that to the point.
            let length = (dx * dx + dy * dy).max(1e-12);
            let columns = span(ax, bx);
            for row in span(ay, by) {
                let y = row as f32 + 0.5 - ay;
                for column in columns.clone() {
                    let x = column as f32 + 0.5 - ax;
                    let along = ((x * dx + y * dy) / length).clamp(0.0, 1.0);
                    let (off_x, off_y) = (x - along * dx, y - along * dy);
                    let square = off_x * off_x + off_y * off_y;
                    let nearest = &mut squares[row * side + column];
                    *nearest = nearest.min(square);
                }
            }
        }
    }
    for square in &mut squares {
        *square = square.sqrt();
    }
    squares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_to_one_line_by_hand() {
        // From (2, 2) to (6, 2) in an image of 8 x 8.
        let line = vec![(0.25, 0.25), (0.75, 0.25)];
        let found = distances(&[line], 8, 3.0);
        // Pixel (3, 1) has its center at (3.5, 1.5): half a pixel above the line.
        assert_eq!(found[8 + 3], 0.5);
        // Pixel (0, 1), center (0.5, 1.5): beyond the end, √(1.5² + 0.5²).
        assert!((found[8] - 2.5_f32.sqrt()).abs() < 1e-6);
        assert_eq!(found[7 * 8 + 3], f32::INFINITY);
    }
}
