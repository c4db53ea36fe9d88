//! The Gaussian filter of SciPy and scikit-image: two passes of a row of taps.
//!
//! Taps exp(-d² / 2σ²) on -r to r, normalized, r = ⌊truncate σ + 1/2⌋; first down the columns, then along the rows.

use super::truncated;
use crate::nn::ImageShape;

/// What lies beyond the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The last value goes on, `a a | a b c | c c`: scikit-image's default.
    Nearest,
    /// Mirrored with the edge repeated, `b a | a b c | c b`: SciPy's `reflect`.
    Reflect,
}

impl Edge {
    fn place(self, place: isize, size: usize) -> usize {
        match self {
            Self::Nearest => place.clamp(0, size as isize - 1) as usize,
            Self::Reflect => reflected(place, size),
        }
    }
}

/// Mirrors at the edges and repeats them, `1 0 | 0 1 2 | 2 1`.
pub(super) fn reflected(place: isize, size: usize) -> usize {
    let around = place.rem_euclid(2 * size as isize) as usize;
    around.min(2 * size - 1 - around)
}

/// The taps on -r to r.
pub(super) fn taps(sigma: f64, truncate: f64) -> Vec<f64> {
    let reach = (truncate * sigma + 0.5) as isize;
    if reach == 0 {
        return vec![1.0];
    }
    let weight = |d: isize| (-0.5 * (d * d) as f64 / (sigma * sigma)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    (-reach..=reach).map(|d| weight(d) / total).collect()
}

/// One plane of `height` x `width`, filtered in place.
pub(super) fn filter(plane: &mut [f64], height: usize, width: usize, taps: &[f64], edge: Edge) {
    let reach = taps.len() / 2;
    if reach == 0 {
        return;
    }
    let places = |size: usize| -> Vec<usize> {
        let ends = -(reach as isize)..(size + reach) as isize;
        ends.map(|place| edge.place(place, size)).collect()
    };
    let mut down = vec![0.0; plane.len()];
    let rows = places(height);
    for (y, sums) in down.chunks_exact_mut(width).enumerate() {
        for (row, tap) in rows[y..].iter().zip(taps) {
            let line = &plane[row * width..(row + 1) * width];
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum += tap * value;
            }
        }
    }
    let columns = places(width);
    let mut wide = vec![0.0; columns.len()];
    for (line, sums) in down.chunks_exact(width).zip(plane.chunks_exact_mut(width)) {
        for (value, column) in wide.iter_mut().zip(&columns) {
            *value = line[*column];
        }
        sums.fill(0.0);
        for (shift, tap) in taps.iter().enumerate() {
            for (sum, value) in sums.iter_mut().zip(&wide[shift..]) {
                *sum += tap * value;
            }
        }
    }
}

/// Blurs all channels of an image as scikit-image does, and truncates them to bytes.
pub(super) fn blur(image: &mut [u8], shape: ImageShape, sigma: f64) {
    // scikit-image's default is to cut off at four deviations.
    let taps = taps(sigma, 4.0);
    if taps.len() == 1 {
        return;
    }
    for channel in image.chunks_exact_mut(shape.height * shape.width) {
        let mut plane: Vec<f64> = channel.iter().map(|value| f64::from(*value)).collect();
        filter(&mut plane, shape.height, shape.width, &taps, Edge::Nearest);
        for (value, blurred) in channel.iter_mut().zip(plane) {
            *value = truncated(blurred);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_those_of_scipy() {
        // O-44, SciPy 1.17.1: gaussian_filter1d of a unit impulse, truncate 4.
        let narrow = taps(0.4, 4.0);
        assert_eq!(narrow.len(), 5);
        for (tap, expected) in narrow.iter().zip([3.4e-6, 0.040_388, 0.919_218]) {
            assert!((tap - expected).abs() < 5e-7, "{tap}");
        }
        assert!((taps(1.0, 4.0)[4] - 0.398_943).abs() < 5e-7);
        assert_eq!(taps(0.05, 4.0), [1.0]);
        let reaches = [0.4, 0.6, 0.7, 0.8, 1.0].map(|sigma| taps(sigma, 4.0).len() / 2);
        assert_eq!(reaches, [2, 2, 3, 3, 4]);
        assert_eq!(taps(0.0, 3.0), [1.0]);
    }

    #[test]
    fn edges_are_held_or_mirrored() {
        let places = |edge: Edge| {
            (-4..6)
                .map(|place| edge.place(place, 3))
                .collect::<Vec<_>>()
        };
        assert_eq!(places(Edge::Nearest), [0, 0, 0, 0, 0, 1, 2, 2, 2, 2]);
        assert_eq!(places(Edge::Reflect), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0]);
        assert_eq!(reflected(-7, 1), 0);
    }
}
