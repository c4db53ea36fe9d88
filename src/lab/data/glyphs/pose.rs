//! What a glyph's image shows, before it is decided how it looks: all in a unit square, the same in every domain.

use super::letters::{STROKES, smooth};
use crate::nn::rng::Rng;

/// A line through corners, in the unit square of the image.
pub(super) type Line = Vec<(f32, f32)>;

/// The content of one image.
pub(super) struct Pose {
    /// The letter.
    pub(super) letter: Vec<Line>,
    /// Half the width of its strokes, as a share of the image's side.
    pub(super) half_width: f32,
    /// Another letter that shines through from the back of the page, mirrored.
    pub(super) ghost: Vec<Line>,
    /// How strongly, 0 to 1.
    pub(super) ghost_strength: f32,
    /// Stray strokes.
    pub(super) stray: Vec<Line>,
    /// A worn patch: its center, half of its sides, and which part of the ink is gone.
    pub(super) patch: Patch,
    /// Offset of the first ruled line and distance to the next, as shares of the side.
    pub(super) ruling: (f32, f32),
}

/// Where the ink is worn off.
pub(super) struct Patch {
    pub(super) center: (f32, f32),
    pub(super) half: (f32, f32),
    pub(super) strength: f32,
}

/// Uniform in [`low`, `high`), as `f32`.
pub(super) fn between(rng: &mut Rng, low: f32, high: f32) -> f32 {
    // 24 bits are exact in f32, and so the same everywhere.
    let share = (rng.bits() >> 40) as f32 / 16_777_216.0;
    low + (high - low) * share
}

/// A turn, a slant, a stretch and a shift.
struct Placing {
    cos: f32,
    sin: f32,
    slant: f32,
    size: (f32, f32),
    center: (f32, f32),
}

impl Placing {
    fn draw(difficulty: f32, rng: &mut Rng) -> Self {
        // The tangent of half the angle gives sine and cosine without calling either: up to 2 atan 0.13 = 15°.
        let t = 0.13 * difficulty * between(rng, -1.0, 1.0);
        let height = between(rng, 0.50, 0.74);
        Self {
            cos: (1.0 - t * t) / (1.0 + t * t),
            sin: 2.0 * t / (1.0 + t * t),
            slant: 0.3 * difficulty * between(rng, -1.0, 1.0),
            size: (height * between(rng, 0.62, 1.05), height),
            center: (
                0.5 + 0.09 * difficulty * between(rng, -1.0, 1.0),
                0.5 + 0.09 * difficulty * between(rng, -1.0, 1.0),
            ),
        }
    }

    fn place(&self, (x, y): (f32, f32)) -> (f32, f32) {
        let y = (y - 0.5) * self.size.1;
        let x = (x - 0.5) * self.size.0 - self.slant * y;
        (
            self.center.0 + self.cos * x - self.sin * y,
            self.center.1 + self.sin * x + self.cos * y,
        )
    }
}

impl Pose {
    /// The content of one image of the letter `label`.
    pub(super) fn draw(label: usize, difficulty: f32, rng: &mut Rng) -> Self {
        let letter = lines(label, false, difficulty, rng);
        // Any of the other letters.
        let other = (label + 1 + rng.below(STROKES.len() - 1)) % STROKES.len();
        let ghost = lines(other, true, difficulty, rng);
        let stray = (0..rng.below(3))
            .map(|_| {
                let start = (between(rng, 0.0, 1.0), between(rng, 0.0, 1.0));
                let mut step = || between(rng, -0.25, 0.25);
                let bend = (start.0 + step(), start.1 + step());
                let end = (bend.0 + step(), bend.1 + step());
                smooth(&[start, bend, end])
            })
            .collect();
        Self {
            letter,
            half_width: between(rng, 0.028, 0.066),
            ghost,
            ghost_strength: 0.45 * difficulty * between(rng, 0.0, 1.0),
            stray,
            patch: Patch {
                center: (between(rng, 0.15, 0.85), between(rng, 0.15, 0.85)),
                half: (
                    0.16 * difficulty * between(rng, 0.3, 1.0),
                    0.16 * difficulty * between(rng, 0.3, 1.0),
                ),
                strength: between(rng, 0.5, 1.0),
            },
            ruling: (between(rng, 0.0, 1.0), between(rng, 0.16, 0.22)),
        }
    }
}

/// A letter's strokes, each point shaken, then placed; mirrored left to right on demand.
fn lines(label: usize, is_mirrored: bool, difficulty: f32, rng: &mut Rng) -> Vec<Line> {
    let placing = Placing::draw(difficulty, rng);
    let shake = 0.07 * difficulty;
    STROKES[label]
        .iter()
        .map(|stroke| {
            stroke.flatten(|(x, y)| {
                let x = x + between(rng, -shake, shake);
                let y = y + between(rng, -shake, shake);
                placing.place((if is_mirrored { 1.0 - x } else { x }, y))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_without_difficulty_keeps_its_proportions() {
        let mut rng = Rng::stream(1, "test", &[]);
        let pose = Pose::draw(7, 0.0, &mut rng);
        // H: two upright lines of the same length, and a bar in the middle.
        let [left, right, bar] = &pose.letter[..] else {
            panic!("H has three strokes")
        };
        assert_eq!(left[0].0, left[1].0);
        assert!((left[1].1 - left[0].1 - (right[1].1 - right[0].1)).abs() < 1e-6);
        assert!((bar[0].1 - 0.5).abs() < 1e-6);
        assert_eq!(pose.ghost_strength, 0.0);
        assert_eq!(pose.patch.half, (0.0, 0.0));
    }

    #[test]
    fn a_turn_keeps_lengths() {
        let mut rng = Rng::stream(2, "test", &[]);
        let placing = Placing::draw(1.0, &mut rng);
        assert!((placing.cos * placing.cos + placing.sin * placing.sin - 1.0).abs() < 1e-6);
    }
}
