//! Doubt and distance: intervals, divergences between outputs, and how two networks' answers differ.
//!
//! All sums are in double precision and in the order of the images, so that a number never depends on threads.
//! Images are the units of doubt: an interval says how much a number would move on other images of the same kind, and
//! nothing about other seeds, which is what twins are for.

use crate::lab::outputs::Outputs;
pub use crate::measurement::{Z_95, wilson};
use crate::nn::rng::Rng;

/// How often images are drawn anew in a bootstrap: enough for a percentile interval of 95 % (Efron and Tibshirani 1993).
pub const RESAMPLES: usize = 1_000;

/// The mean, with its 95 % interval by the normal approximation: mean ± z s / √n, s with n - 1 below.
pub fn mean_with_interval(values: &[f64]) -> (f64, (f64, f64)) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, (mean, mean));
    }
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0);
    let half = Z_95 * (variance / n).sqrt();
    (mean, (mean - half, mean + half))
}

/// The `share` quantile of ascending values, linear between neighbors (type 7 of Hyndman and Fan, NumPy's default).
///
/// # Panics
/// When there are no values.
pub fn quantile(ascending: &[f64], share: f64) -> f64 {
    let place = share * (ascending.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(ascending.len() - 1);
    ascending[below] + (ascending[above] - ascending[below]) * (place - below as f64)
}

/// The 95 % percentile interval of a statistic of `n` images under drawing images with replacement.
///
/// `statistic` gets the indices of one draw. Whatever it compares, it compares on the same images: the bootstrap is
/// paired.
pub fn bootstrap(
    n: usize,
    rng: &mut Rng,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> (f64, f64) {
    let mut indices = vec![0; n];
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            indices.fill_with(|| rng.below(n));
            statistic(&indices)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    (quantile(&drawn, 0.025), quantile(&drawn, 0.975))
}

/// x ln x, continued by 0 at 0.
fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

/// Σ p ln p of each image: minus its entropy in nats.
pub fn negative_entropies(outputs: &Outputs) -> Vec<f64> {
    outputs
        .probabilities
        .chunks_exact(outputs.classes)
        .map(|row| row.iter().map(|&p| x_ln_x(f64::from(p))).sum())
        .collect()
}

/// Two networks' outputs on the same images, with their [`negative_entropies`].
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    pub outputs: [&'a Outputs; 2],
    pub negative_entropies: [&'a [f64]; 2],
}

impl<'a> Pair<'a> {
    /// The Jensen-Shannon divergence on each image, in nats, in [0, ln 2].
    ///
    /// ½ KL(p‖m) + ½ KL(q‖m) with m = (p + q) / 2, which is ½ Σ p ln p + ½ Σ q ln q - Σ m ln m; Lin 1991.
    /// It is exactly 0 where p = q.
    pub fn divergences(self) -> impl Iterator<Item = f64> + 'a {
        let [a, b] = self.outputs;
        let rows = a
            .probabilities
            .chunks_exact(a.classes)
            .zip(b.probabilities.chunks_exact(b.classes));
        let known = self.negative_entropies[0]
            .iter()
            .zip(self.negative_entropies[1]);
        rows.zip(known).map(|((p, q), (known_p, known_q))| {
            let mixed: f64 = p
                .iter()
                .zip(q)
                .map(|(&p, &q)| x_ln_x(f64::midpoint(f64::from(p), f64::from(q))))
                .sum();
            // Rounding may leave a hair below zero.
            ((known_p + known_q) / 2.0 - mixed).max(0.0)
        })
    }

    /// The mean of [`Self::divergences`].
    pub fn mean_divergence(self) -> f64 {
        self.divergences().sum::<f64>() / self.outputs[0].len() as f64
    }
}

/// The Jensen-Shannon divergence of two networks' outputs on each image, in nats.
pub fn divergences(a: &Outputs, b: &Outputs) -> Vec<f64> {
    let (of_a, of_b) = (negative_entropies(a), negative_entropies(b));
    Pair {
        outputs: [a, b],
        negative_entropies: [&of_a, &of_b],
    }
    .divergences()
    .collect()
}

/// How a candidate's answers differ from its reference's, in images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Same answer.
    pub same: u64,
    /// From wrong to right.
    pub good: u64,
    /// From right to wrong.
    pub bad: u64,
    /// From wrong to another wrong answer.
    pub ugly: u64,
}

impl Churn {
    /// Counts over images in the same order.
    pub fn count(reference: &[u32], candidate: &[u32], labels: &[u32]) -> Self {
        let mut churn = Self::default();
        for ((before, after), label) in reference.iter().zip(candidate).zip(labels) {
            let kind = match (before == after, before == label, after == label) {
                (true, ..) => &mut churn.same,
                (_, _, true) => &mut churn.good,
                (_, true, _) => &mut churn.bad,
                _ => &mut churn.ugly,
            };
            *kind += 1;
        }
        churn
    }

    /// How many images.
    pub fn n(self) -> u64 {
        self.same + self.good + self.bad + self.ugly
    }
}

/// The agreement that two networks of these accuracies would have by chance: mistakes independent of each other and
/// spread evenly over the wrong classes. A B + (1 - A)(1 - B) / (K - 1).
pub fn expected_agreement(accuracies: [f64; 2], classes: usize) -> f64 {
    let [a, b] = accuracies;
    a * b + (1.0 - a) * (1.0 - b) / (classes - 1) as f64
}

/// How far an observed agreement lies above the one expected by chance: 0 at chance, 1 where all agree.
pub fn beyond_chance(observed: f64, expected: f64) -> f64 {
    (observed - expected) / (1.0 - expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, within: f64) {
        assert!(
            (found - expected).abs() <= within,
            "{found} is not {expected}"
        );
    }

    fn outputs(classes: usize, probabilities: &[f32]) -> Outputs {
        Outputs {
            classes,
            probabilities: probabilities.to_vec(),
        }
    }

    /// statsmodels 0.15.0: `proportion_confint(hits, n, 0.05, "wilson")`.
    #[test]
    fn wilson_as_statsmodels_has_it() {
        for (hits, n, low, high) in [
            (
                8759,
                10_000,
                0.869_293_368_472_135_6,
                0.882_217_941_552_789_8,
            ),
            (45, 50, 0.786_397_685_625_203_4, 0.956_524_235_068_109_5),
            (0, 1_000, 0.0, 0.003_826_758_485_555_125),
            (1_000, 1_000, 0.996_173_241_514_445, 1.0),
        ] {
            let (found_low, found_high) = wilson(hits, n);
            close(found_low, low, 1e-12);
            close(found_high, high, 1e-12);
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    /// statsmodels 0.15.0: `zconfint([0.1, 0.4, 0.2, 0.9, 0.05])`.
    #[test]
    fn a_mean_with_its_interval_as_statsmodels_has_it() {
        let (mean, (low, high)) = mean_with_interval(&[0.1, 0.4, 0.2, 0.9, 0.05]);
        close(mean, 0.33, 1e-15);
        close(low, 0.026_996_921_113_679_795, 1e-12);
        close(high, 0.633_003_078_886_320_2, 1e-12);
    }

    /// NumPy 2.4.6: `numpy.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])`.
    #[test]
    fn quantiles_as_numpy_has_them() {
        let values = [1.0, 2.0, 4.0, 8.0];
        close(quantile(&values, 0.025), 1.075, 1e-12);
        close(quantile(&values, 0.5), 3.0, 1e-12);
        close(quantile(&values, 0.975), 7.7, 1e-12);
    }

    /// SciPy 1.17.1: `jensenshannon(p, q) ** 2` of p = (.7, .2, .1), q = (.1, .2, .7), and of rows with zeros.
    #[test]
    fn divergences_as_scipy_has_them() {
        let a = outputs(
            3,
            &[0.7, 0.2, 0.1, 1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.3, 0.3, 0.4],
        );
        let b = outputs(
            3,
            &[0.1, 0.2, 0.7, 0.0, 1.0, 0.0, 0.5, 0.25, 0.25, 0.3, 0.3, 0.4],
        );
        let found = divergences(&a, &b);
        close(found[0], 0.253_101_615_442_806_9, 1e-7);
        close(found[1], std::f64::consts::LN_2, 1e-15);
        close(found[2], 0.107_880_777_169_417_84, 1e-12);
        assert_eq!(found[3], 0.0, "equal rows have no divergence at all");
    }

    #[test]
    fn churn_tells_good_from_bad_from_ugly() {
        //                                same right, same wrong, good, bad, ugly
        let churn = Churn::count(&[0, 1, 1, 2, 0], &[0, 1, 2, 0, 1], &[0, 0, 2, 2, 2]);
        assert_eq!(
            churn,
            Churn {
                same: 2,
                good: 1,
                bad: 1,
                ugly: 1
            }
        );
        assert_eq!(churn.n(), 5);
    }

    /// By hand: A = .9, B = .8, K = 10: .72 + .1 · .2 / 9 = .7222; observed .8: (.8 - .7222) / .2778 = .28.
    /// With two classes the same formulas are Geirhos' error consistency: .72 + .02 = .74, (.8 - .74) / .26 = .2308.
    #[test]
    fn agreement_is_held_against_chance() {
        let expected = expected_agreement([0.9, 0.8], 10);
        close(expected, 0.722_222_2, 1e-7);
        close(beyond_chance(0.8, expected), 0.28, 1e-12);
        close(
            beyond_chance(0.8, expected_agreement([0.9, 0.8], 2)),
            0.230_769_2,
            1e-7,
        );
    }

    /// SciPy 1.17.1's `bootstrap` of the mean of 0..50 with 100,000 resamples, percentile method: (20.5, 28.5).
    #[test]
    fn the_bootstrap_comes_near_scipys_and_repeats() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let mean = |indices: &[usize]| indices.iter().map(|&i| values[i]).sum::<f64>() / 50.0;
        let found = bootstrap(50, &mut Rng::stream(7, "test", &[]), mean);
        // The standard error of a 2.5 % point of 1,000 draws from N(24.5, 2.04): 2.04 √(.025·.975/1000)/φ(1.96) = 0.17.
        close(found.0, 20.5, 0.7);
        close(found.1, 28.5, 0.7);
        assert_eq!(found, bootstrap(50, &mut Rng::stream(7, "test", &[]), mean));
    }
}
