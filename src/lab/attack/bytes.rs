//! Attacked images as bytes, as an image file would hold them.

use rayon::prelude::*;

use super::{Attack, Images, Norm, TOLERANCE, Victim};
use crate::lab::error::Result;

/// Pixels as bytes that keep the budget and the range: the nearest ones, or those towards the clean image where the nearest
/// would leave the budget. Always towards it would undo every attack that stops at the first error.
pub fn rounded(images: &Images, moved: &[f32], norm: Norm, bound: f64) -> Vec<f32> {
    let each = images.each().max(1);
    let mut bytes = vec![0.0; moved.len()];
    bytes
        .par_chunks_exact_mut(each)
        .zip(images.pixels.par_chunks_exact(each))
        .zip(moved.par_chunks_exact(each))
        .for_each(|((bytes, clean), moved)| {
            let bound = bound + TOLERANCE * bound.max(1.0);
            let far = |byte: f32, clean: f32| f64::from(byte) - f64::from(clean);
            for ((byte, clean), moved) in bytes.iter_mut().zip(clean).zip(moved) {
                *byte = nearest(*moved);
                if norm == Norm::Linf && far(*byte, *clean).abs() > bound {
                    *byte = inward(*clean, *moved);
                }
            }
            if norm == Norm::L2 && norm.distance(clean, bytes) > bound {
                for ((byte, clean), moved) in bytes.iter_mut().zip(clean).zip(moved) {
                    *byte = inward(*clean, *moved);
                }
            }
        });
    bytes
}

/// A pixel as the nearest byte.
pub(super) fn nearest(pixel: f32) -> f32 {
    (pixel.clamp(0.0, 1.0) * 255.0).round() / 255.0
}

/// A pixel as a byte, towards the clean one.
fn inward(clean: f32, moved: f32) -> f32 {
    /// Below this, in grey levels, a value is the whole number that arithmetic in 32 bits missed.
    const HAIR: f32 = 1e-3;
    let level = moved.clamp(0.0, 1.0) * 255.0;
    let byte = if moved > clean {
        (level + HAIR).floor()
    } else {
        (level - HAIR).ceil()
    };
    byte.clamp(0.0, 255.0) / 255.0
}

/// The largest budget within which every pixel that is moved by so much and rounded stays within this one: whole grey
/// levels, since clean pixels are such. Lengths have no such bound.
fn of_levels(norm: Norm, bound: f64) -> f64 {
    match norm {
        Norm::Linf => ((bound + TOLERANCE) * 255.0).floor() / 255.0,
        Norm::L2 => bound,
    }
}

/// Attacks images once more, now as bytes: the network is shown every image rounded, with gradients as if it were not
/// (Athalye et al. 2018, arXiv:1802.00420, BPDA). The images are such as it has right unchanged; answers whether it is still
/// right on each of the bytes that come out.
///
/// An attack that stops at the first error leaves an image just beyond the boundary, where rounding undoes it by chance:
/// only what stands this one, too, stands as an image file.
///
/// # Errors
/// As the attack's.
pub fn strike_bytes(
    attack: &dyn Attack,
    victim: &mut Victim<'_>,
    images: &Images,
    epsilon: f64,
) -> Result<Vec<bool>> {
    let unit = attack.published().unwrap_or(1.0);
    let bound = epsilon * unit;
    let within = of_levels(attack.norm(), bound) / unit;
    // Less than a grey level is no change of a byte.
    if within == 0.0 {
        return Ok(vec![true; images.len()]);
    }
    victim.set_rounding(true);
    let crafted = attack.craft(victim, images, within);
    victim.set_rounding(false);
    let bytes = rounded(images, &crafted?, attack.norm(), bound);
    victim.right(&bytes, &images.labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_levels_stay_within_the_budget() {
        for (bound, levels) in [(0.05, 12.0), (8.0 / 255.0, 8.0), (0.003, 0.0), (1.0, 255.0)] {
            assert_eq!(
                (of_levels(Norm::Linf, bound) * 255.0).round(),
                levels,
                "{bound}"
            );
            assert!(of_levels(Norm::Linf, bound) <= bound + TOLERANCE);
        }
        assert_eq!(of_levels(Norm::L2, 0.75), 0.75);
    }
}
