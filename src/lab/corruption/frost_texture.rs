//! Textures of frost that the program makes itself.
//!
//! Two plasmas, one of them folded at its middle height so that its contour lines stand out as ridges, and needles of ice
//! with side branches at 60°, the angle of ice crystals; blue in the shadows and white on the ridges. The same five
//! textures in every run; each repeats at its edges.

use std::sync::OnceLock;

use super::plasma::plasma;
use crate::nn::rng::Rng;

/// Side of a texture in pixels, a power of two.
pub(super) const SIDE: usize = 128;

/// As many as the published code chooses from.
pub(super) const TEXTURES: usize = 5;

/// Needles of a texture.
const NEEDLES: usize = 28;

/// All of them, as RGB, row by row; made when first asked for.
pub(super) fn textures() -> &'static [Vec<[u8; 3]>] {
    static MADE: OnceLock<Vec<Vec<[u8; 3]>>> = OnceLock::new();
    MADE.get_or_init(|| (0..TEXTURES).map(|number| texture(number as u64)).collect())
}

fn texture(number: u64) -> Vec<[u8; 3]> {
    // No study's seed: the textures belong to the program, as the photographs belong to the published one.
    let mut rng = Rng::stream(0, "frost texture", &[number]);
    let clouds = plasma(SIDE, 2.2, &mut || rng.uniform());
    let folds = plasma(SIDE, 1.8, &mut || rng.uniform());
    let mut ice: Vec<f64> = clouds
        .iter()
        .zip(&folds)
        .map(|(cloud, fold)| {
            let ridge = (1.0 - (2.0 * fold - 1.0).abs()).powi(6);
            0.1 + 0.45 * cloud + 0.35 * ridge
        })
        .collect();
    for _ in 0..NEEDLES {
        needle(&mut ice, &mut rng);
    }
    ice.into_iter()
        .map(|level| {
            let level = level.clamp(0.0, 1.0);
            // From dark blue over pale blue to white.
            [level.powf(1.35), level.powf(1.12), level.powf(0.9)].map(|part| (255.0 * part) as u8)
        })
        .collect()
}

/// A needle with side branches, brightest at its root.
fn needle(ice: &mut [f64], rng: &mut Rng) {
    let side = SIDE as f64;
    let (x, y) = (rng.between(0.0, side), rng.between(0.0, side));
    let angle = rng.between(0.0, std::f64::consts::TAU);
    let length = rng.between(12.0, 48.0);
    stroke(ice, (x, y), angle, length, 0.5);
    let mut at = rng.between(3.0, 6.0);
    while at < length {
        let root = (x + at * angle.cos(), y + at * angle.sin());
        for turn in [-1.0, 1.0] {
            let branch = angle + turn * std::f64::consts::FRAC_PI_3;
            stroke(ice, root, branch, (length - at) * 0.4, 0.35);
        }
        at += rng.between(3.0, 6.0);
    }
}

fn stroke(ice: &mut [f64], (x, y): (f64, f64), angle: f64, length: f64, brightness: f64) {
    // Half a pixel at a time, so that no pixel of the line is missed.
    let steps = (2.0 * length) as usize;
    for step in 0..steps {
        let along = step as f64 / 2.0;
        let place =
            |start: f64, way: f64| (start + along * way).rem_euclid(SIDE as f64) as usize % SIDE;
        let pixel = place(y, angle.sin()) * SIDE + place(x, angle.cos());
        let fading = brightness * (1.0 - along / length);
        ice[pixel] = ice[pixel].max(0.45 + fading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn textures_differ_and_are_neither_black_nor_white() {
        let all = textures();
        assert_eq!(all.len(), TEXTURES);
        for (number, texture) in all.iter().enumerate() {
            let greens: Vec<f64> = texture.iter().map(|rgb| f64::from(rgb[1])).collect();
            let mean = greens.iter().sum::<f64>() / greens.len() as f64;
            let spread =
                greens.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / greens.len() as f64;
            assert!((60.0..200.0).contains(&mean), "{number}: {mean}");
            assert!(spread.sqrt() > 20.0, "{number}: {spread}");
            assert!(all[..number].iter().all(|other| other != texture));
        }
    }
}
