//! Zooming into the middle of an image without changing its size, as `scipy.ndimage.zoom` of order 1 does.
//!
//! Of n pixels along an axis the middle ⌈n / z⌉ are kept and spread over round(⌈n / z⌉ z) places, the first on the first
//! and the last on the last, linear between neighbors; of those the middle n remain. `make_cifar_c.py`, `clipped_zoom`.
//!
//! Deviation: the published code takes the height for both axes, which are equal there; here each axis is its own.

/// For each place along an axis, the pixel before it, the one behind it, and how near it is to the latter.
type Places = Vec<(usize, usize, f64)>;

/// How an image of that size is zoomed.
pub(super) struct Zoom {
    rows: Places,
    columns: Places,
}

fn places(size: usize, factor: f64) -> Places {
    let kept = (size as f64 / factor).ceil() as usize;
    let top = (size - kept) / 2;
    let spread = (kept as f64 * factor).round_ties_even() as usize;
    let trimmed = (spread - size) / 2;
    let pace = if spread > 1 {
        (kept - 1) as f64 / (spread - 1) as f64
    } else {
        0.0
    };
    (trimmed..trimmed + size)
        .map(|place| {
            let at = place as f64 * pace;
            let before = (at.floor() as usize).min(kept - 1);
            let behind = (before + 1).min(kept - 1);
            (top + before, top + behind, at - before as f64)
        })
        .collect()
}

impl Zoom {
    pub(super) fn new(height: usize, width: usize, factor: f64) -> Self {
        Self {
            rows: places(height, factor),
            columns: places(width, factor),
        }
    }

    /// Adds the zoomed plane to `sums`.
    pub(super) fn add(&self, plane: &[f64], sums: &mut [f64]) {
        let width = self.columns.len();
        let mut line = vec![0.0; width];
        for ((before, behind, near), sums) in self.rows.iter().zip(sums.chunks_exact_mut(width)) {
            let upper = &plane[before * width..(before + 1) * width];
            let lower = &plane[behind * width..(behind + 1) * width];
            for ((value, a), b) in line.iter_mut().zip(upper).zip(lower) {
                *value = a + near * (b - a);
            }
            for (sum, &(before, behind, near)) in sums.iter_mut().zip(&self.columns) {
                let a = line[before];
                *sum += a + near * (line[behind] - a);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_stay_and_the_middle_spreads() {
        // Four pixels by a factor of 2: the middle two over four places, a third apart. SciPy 1.17.1:
        // zoom([1, 4], 2, order=1) is 1, 2, 3, 4.
        let zoom = Zoom::new(1, 4, 2.0);
        let mut sums = vec![0.0; 4];
        zoom.add(&[9.0, 1.0, 4.0, 9.0], &mut sums);
        for (found, expected) in sums.iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn a_factor_of_one_and_a_single_pixel_change_nothing() {
        let plane = [1.0, 5.0, 2.0, 8.0, 0.0, 3.0];
        let mut sums = vec![0.0; 6];
        Zoom::new(2, 3, 1.0).add(&plane, &mut sums);
        assert_eq!(sums, plane);
        let mut one = [0.0];
        Zoom::new(1, 1, 2.25).add(&[4.0], &mut one);
        assert_eq!(one, [4.0]);
    }
}
