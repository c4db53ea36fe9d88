//! Plasma: a cloudy height map by the diamond-square algorithm, which repeats at its edges.
//!
//! Each level sets the middles of squares, then of diamonds, to the mean of their four neighbors plus w u with u uniform in
//! [-w, w): the published code multiplies by the amplitude twice. w is 100 at first and is divided by `decay` at each
//! level; the map is stretched to [0, 1] at the end. Hendrycks and Dietterich 2019, `make_cifar_c.py`, `plasma_fractal`.

/// A map of `side` x `side` in [0, 1], row by row; `side` is a power of two. `draw` gives numbers uniform in [0, 1).
pub(super) fn plasma(side: usize, decay: f64, draw: &mut dyn FnMut() -> f64) -> Vec<f64> {
    let mut map = vec![0.0; side * side];
    let mut amplitude = 100.0;
    let mut step = side;
    while step >= 2 {
        let half = step / 2;
        let mut wobbled = |sum: f64| sum / 4.0 + amplitude * (2.0 * amplitude * draw() - amplitude);
        // The neighbors of a place lie half a step away, around the edge if need be.
        let back = |place: usize| (place + side - half) % side;
        let on = |place: usize| (place + half) % side;
        for y in (half..side).step_by(step) {
            for x in (half..side).step_by(step) {
                let corner = |y: usize, x: usize| map[y * side + x];
                let sum = corner(back(y), back(x))
                    + corner(back(y), on(x))
                    + corner(on(y), back(x))
                    + corner(on(y), on(x));
                map[y * side + x] = wobbled(sum);
            }
        }
        for (first_y, first_x) in [(0, half), (half, 0)] {
            for y in (first_y..side).step_by(step) {
                for x in (first_x..side).step_by(step) {
                    let sum = map[back(y) * side + x]
                        + map[on(y) * side + x]
                        + map[y * side + back(x)]
                        + map[y * side + on(x)];
                    map[y * side + x] = wobbled(sum);
                }
            }
        }
        step = half;
        amplitude /= decay;
    }
    let least = map.iter().copied().fold(f64::INFINITY, f64::min);
    let most = map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = most - least;
    for value in &mut map {
        // A single point has no height.
        *value = if span > 0.0 {
            (*value - least) / span
        } else {
            0.0
        };
    }
    map
}

/// The side of the smallest map that covers an image.
pub(super) fn covering(height: usize, width: usize) -> usize {
    height.max(width).max(2).next_power_of_two()
}
