//! Procrustes alignment: a new map is laid over the last one, so that points do not jump from epoch to epoch.
//!
//! Rotation or reflection Q and shift t that minimize Σ |Q xᵢ + t - yᵢ|² over the points both maps hold; Gower 1975.
//! In the plane the best rotation follows from two sums, and so does the best reflection. Nothing is stretched:
//! distances keep their meaning.

type Point = [f64; 2];

fn centroid(points: &[Point]) -> Point {
    let n = points.len() as f64;
    let sum = points.iter().fold([0.0; 2], |sum, point| {
        [sum[0] + point[0], sum[1] + point[1]]
    });
    [sum[0] / n, sum[1] / n]
}

/// Lays `map` over `onto`, whose points are the first ones of `map`.
pub(crate) fn align(map: &mut [Point], onto: &[Point]) {
    if onto.is_empty() {
        return;
    }
    let (from, to) = (centroid(&map[..onto.len()]), centroid(onto));
    // m[r][c] = Σ y_r x_c, centered.
    let mut m = [[0.0; 2]; 2];
    for (x, y) in map.iter().zip(onto) {
        for (r, row) in m.iter_mut().enumerate() {
            for (c, sum) in row.iter_mut().enumerate() {
                *sum += (y[r] - to[r]) * (x[c] - from[c]);
            }
        }
    }
    let rotation = [m[0][0] + m[1][1], m[1][0] - m[0][1]];
    let reflection = [m[0][0] - m[1][1], m[1][0] + m[0][1]];
    let gain = |[cosine, sine]: [f64; 2]| f64::hypot(cosine, sine);
    let reflects = gain(reflection) > gain(rotation);
    let [cosine, sine] = if reflects { reflection } else { rotation };
    let length = gain([cosine, sine]);
    // Where all points coincide no direction is better than another.
    let [cosine, sine] = if length > 0.0 {
        [cosine / length, sine / length]
    } else {
        [1.0, 0.0]
    };
    let mirror = if reflects { -1.0 } else { 1.0 };
    for point in map {
        let [x, y] = [point[0] - from[0], mirror * (point[1] - from[1])];
        *point = [cosine * x - sine * y + to[0], sine * x + cosine * y + to[1]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONTO: [Point; 4] = [[0.0, 0.0], [2.0, 0.5], [-1.0, 3.0], [0.5, -0.7]];

    fn moved(mirror: f64) -> Vec<Point> {
        let (sine, cosine) = 0.8_f64.sin_cos();
        let turn = |[x, y]: Point| {
            [
                cosine * x - sine * y * mirror + 3.0,
                sine * x + cosine * y * mirror - 2.0,
            ]
        };
        ONTO.iter()
            .chain(&[[5.0, 5.0]])
            .map(|&point| turn(point))
            .collect()
    }

    #[test]
    fn a_turned_mirrored_and_shifted_map_comes_back() {
        for mirror in [1.0, -1.0] {
            let mut map = moved(mirror);
            align(&mut map, &ONTO);
            for (found, expected) in map.iter().zip(ONTO.iter().chain(&[[5.0, 5.0]])) {
                assert!(
                    (found[0] - expected[0]).hypot(found[1] - expected[1]) < 1e-12,
                    "{found:?} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn points_that_coincide_are_only_shifted() {
        let mut map = vec![[1.0, 1.0], [1.0, 1.0], [2.0, 1.0]];
        align(&mut map, &[[0.0, 0.0], [0.0, 0.0]]);
        assert_eq!(map, [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]);
    }
}
