//! Small kernels and how an image is correlated with them.

/// A square kernel with an odd side.
pub(super) struct Kernel {
    /// How far it reaches from its center.
    reach: usize,
    /// Row by row.
    weights: Vec<f64>,
}

impl Kernel {
    /// The indicator of x² + y² ≤ `radius`², normalized, then blurred by a 3x3 Gaussian of deviation `sigma`.
    ///
    /// The published code keeps it on a 17x17 grid, most of which is zero; here the grid ends where the kernel does.
    pub(super) fn soft_disk(radius: f64, sigma: f64) -> Self {
        let disk_reach = radius.floor() as i64;
        let inside = |x: i64, y: i64| ((x * x + y * y) as f64) <= radius * radius;
        let span = -disk_reach..=disk_reach;
        let area = span
            .clone()
            .flat_map(|y| span.clone().map(move |x| (x, y)))
            .filter(|&(x, y)| inside(x, y))
            .count() as f64;
        // Taps of a normalized Gaussian on -1, 0, 1.
        let side = (-1.0 / (2.0 * sigma * sigma)).exp();
        let total = 1.0 + 2.0 * side;
        let tap = |d: i64| if d == 0 { 1.0 / total } else { side / total };
        let reach = disk_reach + 1;
        let mut weights = Vec::new();
        for y in -reach..=reach {
            for x in -reach..=reach {
                let mut weight = 0.0;
                for dy in -1..=1 {
                    for dx in -1..=1 {
                        if inside(x + dx, y + dy) {
                            weight += tap(dx) * tap(dy) / area;
                        }
                    }
                }
                weights.push(weight);
            }
        }
        Self {
            reach: reach as usize,
            weights,
        }
    }

    /// The weight `y` rows below and `x` columns right of the center.
    #[cfg(test)]
    pub(super) fn at(&self, y: isize, x: isize) -> f64 {
        let reach = self.reach as isize;
        self.weights[((y + reach) * (2 * reach + 1) + x + reach) as usize]
    }
}

/// Correlates one channel of `height` x `width` bytes with a kernel; same size out.
pub(super) fn correlate(channel: &[u8], height: usize, width: usize, kernel: &Kernel) -> Vec<f64> {
    let side = 2 * kernel.reach + 1;
    let rows: Vec<usize> = mirrored_places(height, kernel.reach);
    let columns: Vec<usize> = mirrored_places(width, kernel.reach);
    // Every line with what lies beyond its ends.
    let wide: Vec<f64> = channel
        .chunks_exact(width)
        .flat_map(|line| columns.iter().map(|column| f64::from(line[*column])))
        .collect();
    let mut result = vec![0.0; channel.len()];
    for (y, sums) in result.chunks_exact_mut(width).enumerate() {
        for (row, weights) in rows[y..].iter().zip(kernel.weights.chunks_exact(side)) {
            let line = &wide[row * columns.len()..(row + 1) * columns.len()];
            for (shift, weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                for (sum, value) in sums.iter_mut().zip(&line[shift..]) {
                    *sum += weight * value;
                }
            }
        }
    }
    result
}

/// For the places -`reach` to `size` + `reach` - 1, the place inside that each stands for.
fn mirrored_places(size: usize, reach: usize) -> Vec<usize> {
    let reach = reach as isize;
    (-reach..size as isize + reach)
        .map(|place| mirrored(place, size))
        .collect()
}

/// Mirrors at the edges without repeating them, `2 1 | 0 1 2 | 1 0`: OpenCV's default border, reflect-101.
pub(super) fn mirrored(place: isize, size: usize) -> usize {
    if size == 1 {
        return 0;
    }
    let last = size as isize - 1;
    let around = place.rem_euclid(2 * last);
    if around > last {
        (2 * last - around) as usize
    } else {
        around as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_mirrors_without_repeating_the_edge() {
        let places: Vec<usize> = (-3..7).map(|place| mirrored(place, 4)).collect();
        assert_eq!(places, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!(mirrored(-5, 2), 1);
        assert_eq!(mirrored(9, 1), 0);
    }

    #[test]
    fn weights_sum_to_one() {
        for (radius, sigma) in [(0.3, 0.4), (1.5, 0.1), (3.2, 0.5)] {
            let sum: f64 = Kernel::soft_disk(radius, sigma).weights.iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "{radius}: {sum}");
        }
    }

    #[test]
    fn one_pixel_spreads_as_the_kernel() {
        // A disk of radius 1 is a plus of five; σ → 0 leaves it sharp.
        let mut channel = vec![0; 25];
        channel[12] = 100;
        let blurred = correlate(&channel, 5, 5, &Kernel::soft_disk(1.0, 0.01));
        let plus = [7, 11, 12, 13, 17];
        for (place, value) in blurred.iter().enumerate() {
            let expected = if plus.contains(&place) { 20.0 } else { 0.0 };
            assert!((value - expected).abs() < 1e-12, "{place}: {value}");
        }
    }
}
