//! Moving pixels: an affine map as OpenCV's `warpAffine`, and a displacement of each as SciPy's `map_coordinates`.

use super::gaussian_filter::reflected;
use super::kernel::mirrored;

/// x' = a x + b y + c, y' = d x + e y + f.
pub(super) type Affine = [f64; 6];

/// The affine map that takes three points to three others; nothing when they lie on a line.
pub(super) fn through(from: [[f64; 2]; 3], to: [[f64; 2]; 3]) -> Option<Affine> {
    let [[x0, y0], [x1, y1], [x2, y2]] = from;
    let area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
    if area == 0.0 {
        return None;
    }
    let row = |axis: usize| {
        let [v0, v1, v2] = to.map(|point| point[axis]);
        let a = ((v1 - v0) * (y2 - y0) - (v2 - v0) * (y1 - y0)) / area;
        let b = ((x1 - x0) * (v2 - v0) - (x2 - x0) * (v1 - v0)) / area;
        [a, b, v0 - a * x0 - b * y0]
    };
    let ([a, b, c], [d, e, f]) = (row(0), row(1));
    Some([a, b, c, d, e, f])
}

/// The way back; where there is none, every place comes from the corner, as in OpenCV.
fn inverse([a, b, c, d, e, f]: Affine) -> Affine {
    let determinant = a * e - b * d;
    let scale = if determinant == 0.0 {
        0.0
    } else {
        1.0 / determinant
    };
    let (ia, ib, id, ie) = (e * scale, -b * scale, -d * scale, a * scale);
    [ia, ib, -(ia * c + ib * f), id, ie, -(id * c + ie * f)]
}

/// Places to look at, in 32nds of a pixel: OpenCV computes them in whole numbers and no finer.
const PARTS: i64 = 32;

/// For every pixel: the corner above and left of where it comes from, and the weights of the four around it.
pub(super) struct Source {
    rows: [usize; 2],
    columns: [usize; 2],
    weights: [f64; 4],
}

impl Source {
    pub(super) fn of(&self, plane: &[f64], width: usize) -> f64 {
        let [upper, lower] = self.rows.map(|row| row * width);
        let [left, right] = self.columns;
        let [a, b, c, d] = self.weights;
        a * plane[upper + left]
            + b * plane[upper + right]
            + c * plane[lower + left]
            + d * plane[lower + right]
    }
}

/// Where the pixels of an image come from under an affine map; mirrored at the edges without repeating them.
pub(super) fn affine_sources(map: Affine, height: usize, width: usize) -> Vec<Source> {
    /// OpenCV's AB_SCALE: coordinates are summed in 1024ths before they are rounded to 32nds.
    const SCALE: f64 = 1024.0;
    let [a, b, c, d, e, f] = inverse(map);
    let whole = |value: f64| value.round_ties_even() as i64;
    let mut sources = Vec::with_capacity(height * width);
    for y in 0..height {
        let half = SCALE as i64 / PARTS / 2;
        let x0 = whole((b * y as f64 + c) * SCALE) + half;
        let y0 = whole((e * y as f64 + f) * SCALE) + half;
        for x in 0..width {
            let at_x = (x0 + whole(a * x as f64 * SCALE)).div_euclid(SCALE as i64 / PARTS);
            let at_y = (y0 + whole(d * x as f64 * SCALE)).div_euclid(SCALE as i64 / PARTS);
            let (left, upper) = (
                at_x.div_euclid(PARTS) as isize,
                at_y.div_euclid(PARTS) as isize,
            );
            let near_x = at_x.rem_euclid(PARTS) as f64 / PARTS as f64;
            let near_y = at_y.rem_euclid(PARTS) as f64 / PARTS as f64;
            sources.push(Source {
                rows: [mirrored(upper, height), mirrored(upper + 1, height)],
                columns: [mirrored(left, width), mirrored(left + 1, width)],
                weights: weights(near_y, near_x),
            });
        }
    }
    sources
}

/// Where the pixels come from that are displaced by (`down`, `right`) each; mirrored at the edges, which are repeated.
pub(super) fn displaced_sources(
    down: &[f64],
    right: &[f64],
    height: usize,
    width: usize,
) -> Vec<Source> {
    let mut sources = Vec::with_capacity(height * width);
    for y in 0..height {
        for x in 0..width {
            let at_y = y as f64 + down[y * width + x];
            let at_x = x as f64 + right[y * width + x];
            let (upper, left) = (at_y.floor(), at_x.floor());
            let (row, column) = (upper as isize, left as isize);
            sources.push(Source {
                rows: [reflected(row, height), reflected(row + 1, height)],
                columns: [reflected(column, width), reflected(column + 1, width)],
                weights: weights(at_y - upper, at_x - left),
            });
        }
    }
    sources
}

fn weights(near_y: f64, near_x: f64) -> [f64; 4] {
    [
        (1.0 - near_y) * (1.0 - near_x),
        (1.0 - near_y) * near_x,
        near_y * (1.0 - near_x),
        near_y * near_x,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_points_make_a_map_and_its_inverse_leads_back() {
        let from = [[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]];
        let to = [[27.0, 25.5], [26.0, 7.0], [5.0, 6.0]];
        let map = through(from, to).unwrap();
        let apply =
            |[a, b, c, d, e, f]: Affine, [x, y]: [f64; 2]| [a * x + b * y + c, d * x + e * y + f];
        for (from, to) in from.into_iter().zip(to) {
            let there = apply(map, from);
            let back = apply(inverse(map), there);
            for axis in 0..2 {
                assert!((there[axis] - to[axis]).abs() < 1e-9);
                assert!((back[axis] - from[axis]).abs() < 1e-9);
            }
        }
        assert_eq!(through([[0.0, 0.0]; 3], to), None);
    }

    #[test]
    fn standing_still_is_the_image_itself() {
        let plane = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0];
        let still = affine_sources([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 2, 3);
        let none = displaced_sources(&[0.0; 6], &[0.0; 6], 2, 3);
        for sources in [still, none] {
            let found: Vec<f64> = sources.iter().map(|source| source.of(&plane, 3)).collect();
            assert_eq!(found, plane);
        }
    }
}
