//! t-SNE of a distance matrix: neighbors stay neighbors, and nothing else in the picture means anything.
//!
//! p(j|i) ∝ exp(-βᵢ dᵢⱼ²) over j ≠ i, βᵢ chosen so that the perplexity is as asked; q ∝ 1 / (1 + |yᵢ - yⱼ|²);
//! minimizes KL(P‖Q); van der Maaten & Hinton 2008. Computed by the `bhtsne` crate.
//!
//! Deviation: the crate's own `exact` counts every point as a neighbor of itself, in P as in Q, which spoils the map of
//! few points (of eight points in a plane a divergence of 0.177 remains, of which 0.102 is needed; bhtsne 0.7.13). So its Barnes-Hut fit is handed all the n - 1 neighbors of each point and an opening
//! angle of practically zero, with which it sums over every pair: exact, and without the point itself.
//!
//! The crate has no seed. It starts from coordinates of ours, in a pool of one thread, because its sums depend on how
//! the work is split; so two runs are equal bit for bit.

use bhtsne::{Neighbor, tSNE};

use crate::lab::error::{Error, Result};

/// The fewest points that a perplexity of 2, the least that means anything, can be had for: n - 1 ≥ 3 · 2.
pub(crate) const LEAST_POINTS: usize = 7;

/// The opening angle of the tree: no cell is ever taken for a point.
const OPENING_ANGLE: f64 = 1e-9;

/// Spread of the first axis at the start, as scikit-learn's `init="pca"` has it.
const SPREAD: f64 = 1e-4;

/// The perplexity for so many points.
fn perplexity(points: usize) -> f64 {
    ((points - 1) as f64 / 3.0).min(30.0)
}

/// Fits a map to a symmetric matrix of distances, starting from the shape of `start`, and reads off what is asked.
fn fit<R: Send>(
    distances: &[Vec<f64>],
    start: &[[f64; 2]],
    read: impl FnOnce(&tSNE<'_, f64, ()>) -> R + Send,
) -> Result<R> {
    let n = distances.len();
    let neighbors: Vec<Vec<Neighbor<f64>>> = distances
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let others = row.iter().enumerate().filter(|(j, _)| *j != i);
            let mut others: Vec<_> = others
                .map(|(index, &distance)| Neighbor { index, distance })
                .collect();
            others.sort_by(|a, b| {
                a.distance
                    .total_cmp(&b.distance)
                    .then(a.index.cmp(&b.index))
            });
            others
        })
        .collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|error| Error::Internal(format!("no thread for the t-SNE map: {error}")))?;
    let samples = vec![(); n];
    let start = scaled(start);
    Ok(pool.install(|| {
        let mut fit: tSNE<'_, f64, ()> = tSNE::new(&samples);
        fit.perplexity(perplexity(n)).initial_embedding(start);
        fit.barnes_hut_with_neighbors(OPENING_ANGLE, &neighbors);
        read(&fit)
    }))
}

/// Row after row, with the first axis spread as it should be at the start.
fn scaled(start: &[[f64; 2]]) -> Vec<f64> {
    let n = start.len() as f64;
    let mean = start.iter().map(|point| point[0]).sum::<f64>() / n;
    let spread = (start
        .iter()
        .map(|point| (point[0] - mean).powi(2))
        .sum::<f64>()
        / n)
        .sqrt();
    let scale = if spread > 0.0 { SPREAD / spread } else { 1.0 };
    start
        .as_flattened()
        .iter()
        .map(|value| value * scale)
        .collect()
}

/// Points that differ from all before them, and for each point the place of its equal among those.
fn distinct(distances: &[Vec<f64>]) -> (Vec<usize>, Vec<usize>) {
    let mut kept: Vec<usize> = Vec::new();
    let places = distances.iter().enumerate().map(|(i, row)| {
        kept.iter()
            .position(|&earlier| row[earlier] == 0.0)
            .unwrap_or_else(|| {
                kept.push(i);
                kept.len() - 1
            })
    });
    let places = places.collect();
    (kept, places)
}

/// The t-SNE map of a symmetric matrix of distances, starting from another map of the same points.
///
/// Points at distance 0 from one another are one point. None with fewer than [`LEAST_POINTS`] different ones.
///
/// # Errors
/// When no thread can be had.
pub(crate) fn map(distances: &[Vec<f64>], start: &[[f64; 2]]) -> Result<Option<Vec<[f64; 2]>>> {
    let (kept, places) = distinct(distances);
    if kept.len() < LEAST_POINTS {
        return Ok(None);
    }
    let rows: Vec<Vec<f64>> = kept
        .iter()
        .map(|&i| kept.iter().map(|&j| distances[i][j]).collect())
        .collect();
    let start: Vec<[f64; 2]> = kept.iter().map(|&i| start[i]).collect();
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method alone is not general in its lifetime"
    )]
    let map = fit(&rows, &start, |fit| fit.embedding())?;
    let point = |place: usize| [map[2 * place], map[2 * place + 1]];
    Ok(Some(places.into_iter().map(point).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn squared(a: [f64; 2], b: [f64; 2]) -> f64 {
        (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
    }

    fn distances() -> Vec<Vec<f64>> {
        POINTS
            .iter()
            .map(|&a| POINTS.iter().map(|&b| squared(a, b).sqrt()).collect())
            .collect()
    }

    fn joint(fit: &tSNE<'_, f64, ()>, n: usize) -> Vec<Vec<f64>> {
        let affinities = fit.affinities().unwrap();
        let mut joint = vec![vec![0.0; n]; n];
        for (i, ends) in affinities.rows().windows(2).enumerate() {
            for place in ends[0]..ends[1] {
                joint[i][affinities.columns()[place] as usize] = affinities.values()[place];
            }
        }
        joint
    }

    /// Conditional probabilities of one point at a perplexity, and their β, by bisection.
    fn conditional(squared: &[f64], perplexity: f64) -> (f64, Vec<f64>) {
        let (mut low, mut high) = (0.0, 1e3);
        loop {
            let beta = f64::midpoint(low, high);
            let weights: Vec<f64> = squared.iter().map(|d| (-beta * d).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let p: Vec<f64> = weights.iter().map(|w| w / sum).collect();
            if high - low < 1e-13 {
                return (beta, p);
            }
            let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
            if entropy > perplexity.ln() {
                low = beta;
            } else {
                high = beta;
            }
        }
    }

    /// SciPy 1.17.1 and NumPy 2.4.6 by bisection: d² = (1, 4, 9), perplexity 2.
    /// Then the crate's joint probabilities against these conditional ones, (p(j|i) + p(i|j)) / 2n: this fails by far
    /// where a point is counted as its own neighbor. The crate's own search of β stops at 1e-5.
    #[test]
    fn neighbors_have_the_perplexity_asked_for() {
        let (beta, p) = conditional(&[1.0, 4.0, 9.0], 2.0);
        assert!((beta - 0.374_460_7).abs() < 1e-7, "{beta}");
        for (found, expected) in p.iter().zip([0.727_177_3, 0.236_462_2, 0.036_360_6]) {
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
        let rows: Vec<Vec<f64>> = (0..8)
            .map(|i| {
                let others: Vec<f64> = (0..8)
                    .filter(|j| *j != i)
                    .map(|j| squared(POINTS[i], POINTS[j]))
                    .collect();
                let mut row = conditional(&others, 7.0 / 3.0).1;
                row.insert(i, 0.0);
                row
            })
            .collect();
        let found = fit(&distances(), &POINTS, |fit| joint(fit, 8)).unwrap();
        for i in 0..8 {
            for j in 0..8 {
                let expected = (rows[i][j] + rows[j][i]) / 16.0;
                assert!(
                    (found[i][j] - expected).abs() < 2e-6,
                    "{i} {j}: {} is not {expected}",
                    found[i][j]
                );
            }
        }
    }

    /// scikit-learn 1.9.1: `TSNE(perplexity=7/3, method="exact", metric="precomputed", learning_rate=12.5,
    /// max_iter=1000)` from the same start (its gradient carries a factor 4 that the crate's does not).
    #[test]
    fn the_map_is_as_good_as_scikit_learns() {
        let (map, joint) = fit(&distances(), &POINTS, |fit| {
            (fit.embedding(), joint(fit, 8))
        })
        .unwrap();
        let at = |i: usize| [map[2 * i], map[2 * i + 1]];
        let weight = |i, j| 1.0 / (1.0 + squared(at(i), at(j)));
        let pairs = || (0..8).flat_map(|i| (0..8).filter(move |j| *j != i).map(move |j| (i, j)));
        let sum: f64 = pairs().map(|(i, j)| weight(i, j)).sum();
        let divergence: f64 = pairs()
            .map(|(i, j)| joint[i][j] * (joint[i][j] / (weight(i, j) / sum)).ln())
            .sum();
        assert!((divergence - 0.103_923_859).abs() < 2e-3, "{divergence}");
    }

    #[test]
    fn two_maps_of_the_same_are_equal_bit_for_bit() {
        let once = map(&distances(), &POINTS).unwrap();
        assert_eq!(once, map(&distances(), &POINTS).unwrap());
        // More threads around it change nothing.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        assert_eq!(once, pool.install(|| map(&distances(), &POINTS).unwrap()));
    }

    #[test]
    fn points_that_coincide_are_one_point() {
        assert_eq!(map(&vec![vec![0.0; 7]; 7], &[[0.0; 2]; 7]).unwrap(), None);
        // The eight points with the first one twice.
        let twice: Vec<usize> = (0..8).chain([0]).collect();
        let eight = distances();
        let nine: Vec<Vec<f64>> = twice
            .iter()
            .map(|&i| twice.iter().map(|&j| eight[i][j]).collect())
            .collect();
        let start: Vec<[f64; 2]> = twice.iter().map(|&i| POINTS[i]).collect();
        let mut expected = map(&eight, &POINTS).unwrap().unwrap();
        expected.push(expected[0]);
        assert_eq!(map(&nine, &start).unwrap(), Some(expected));
    }
}
