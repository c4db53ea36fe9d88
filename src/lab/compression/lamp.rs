//! Layer-adaptive sparsity for magnitude-based pruning: a size beside those of its layer that are not smaller.
//!
//! score_i = w_i² / Σ w_j² over all w_j² ≥ w_i² of the same layer; Lee et al. 2021, arXiv:2010.07611. Scores of different
//! layers are comparable, and each layer's largest has 1, so that no layer dies.

/// s² over the sum of all s'² that are not smaller; the largest scores 1.
pub(super) fn lamp(sizes: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|a, b| sizes[*b].abs().total_cmp(&sizes[*a].abs()).then(a.cmp(b)));
    let mut scores = vec![0.0; sizes.len()];
    let mut sum = 0.0;
    let mut first = 0;
    while first < order.len() {
        // Equals stand in each other's sums.
        let size = sizes[order[first]].abs();
        let equal = order[first..]
            .iter()
            .take_while(|at| sizes[**at].abs() == size)
            .count();
        sum += size * size * equal as f64;
        for at in &order[first..first + equal] {
            scores[*at] = if sum > 0.0 { size * size / sum } else { 0.0 };
        }
        first += equal;
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
    }

    /// By hand: .16 / (.16 + .64) is .2, .04 / .84, .01 / .85; NumPy 2.4.6 in double precision.
    #[test]
    fn lamp_divides_by_what_is_not_smaller() {
        let scores = lamp(&[0.1, -0.4, 0.2, 0.8]);
        near(&scores, &[0.011_764_7, 0.2, 0.047_619_0, 1.0]);
        near(&lamp(&[1.0, 1.0]), &[0.5, 0.5]);
        near(&lamp(&[0.0, 0.0]), &[0.0, 0.0]);
    }
}
