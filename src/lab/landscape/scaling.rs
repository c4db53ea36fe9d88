//! Classical scaling: points in the plane whose distances come as near as possible to given ones.
//!
//! B = -½ J D² J with J = I - 11ᵀ/n; the map is v₁ √λ₁, v₂ √λ₂ of B's two largest eigenvalues; Torgerson 1952.
//! From Euclidean distances between centered rows the same map is their principal components (Gower 1966), which is
//! how the `pca` map is made without ever forming a matrix as wide as the outputs.
//! Axes have no sign of their own: each is turned so that its largest coordinate is positive.

use nalgebra::{DMatrix, SymmetricEigen};

/// The map of a symmetric matrix of squared distances, `n` rows of `n`.
pub(crate) fn classical(squared: &[Vec<f64>]) -> Vec<[f64; 2]> {
    let n = squared.len();
    let means: Vec<f64> = squared
        .iter()
        .map(|row| row.iter().sum::<f64>() / n as f64)
        .collect();
    let mean = means.iter().sum::<f64>() / n as f64;
    let centered = DMatrix::from_fn(n, n, |i, j| {
        -0.5 * (squared[i][j] - means[i] - means[j] + mean)
    });
    let eigen = SymmetricEigen::new(centered);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| {
        eigen.eigenvalues[b]
            .total_cmp(&eigen.eigenvalues[a])
            .then(a.cmp(&b))
    });
    let mut map = vec![[0.0; 2]; n];
    for (axis, &column) in order.iter().take(2).enumerate() {
        // A negative eigenvalue is what no plane can show.
        let length = eigen.eigenvalues[column].max(0.0).sqrt();
        let vector = eigen.eigenvectors.column(column);
        let mut largest = 0;
        for (place, value) in vector.iter().enumerate() {
            // A clear margin, so that rounding does not choose between equals.
            if value.abs() > vector[largest].abs() + 1e-9 {
                largest = place;
            }
        }
        let sign = vector[largest].signum();
        for (point, value) in map.iter_mut().zip(vector.iter()) {
            point[axis] = sign * length * value;
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
        (a[0] - b[0]).hypot(a[1] - b[1])
    }

    /// The eight points of tests/fixtures/make_statistics.py.
    const POINTS: [[f64; 2]; 8] = [
        [0.0, 0.0],
        [1.0, 0.2],
        [2.1, 3.0],
        [-1.0, 0.5],
        [0.3, -2.0],
        [4.0, 1.0],
        [-2.2, -1.1],
        [0.9, 2.4],
    ];

    fn squared(power: i32) -> Vec<Vec<f64>> {
        POINTS
            .iter()
            .map(|&a| POINTS.iter().map(|&b| distance(a, b).powi(power)).collect())
            .collect()
    }

    #[test]
    fn points_of_a_plane_come_back_up_to_a_rigid_motion() {
        let map = classical(&squared(2));
        for i in 0..8 {
            for j in 0..8 {
                let (found, expected) = (distance(map[i], map[j]), distance(POINTS[i], POINTS[j]));
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{i} {j}: {found} is not {expected}"
                );
            }
        }
        // NumPy 2.4.6, `eigh`: the largest eigenvalue is the sum of the squared first coordinates.
        let first: f64 = map.iter().map(|point| point[0] * point[0]).sum();
        assert!((first - 33.851_960_756_350_43).abs() < 1e-10, "{first}");
    }

    /// NumPy 2.4.6, `eigh`: distances √d fit no plane; the first row of the map's distances.
    #[test]
    fn what_fits_no_plane_is_scaled_as_numpy_scales_it() {
        let map = classical(&squared(1));
        let expected = [
            0.0,
            0.477_317_029_092_717_7,
            1.584_152_973_004_019_6,
            0.444_019_855_476_927_4,
            0.853_783_656_785_758_2,
            1.775_911_931_398_511_4,
            0.720_331_694_808_524_5,
            1.251_096_245_865_164_7,
        ];
        for (point, expected) in map.iter().zip(expected) {
            let found = distance(map[0], *point);
            assert!(
                (found - expected).abs() < 1e-10,
                "{found} is not {expected}"
            );
        }
    }

    #[test]
    fn points_that_coincide_lie_at_the_origin() {
        assert_eq!(classical(&vec![vec![0.0; 4]; 4]), vec![[0.0; 2]; 4]);
    }
}
