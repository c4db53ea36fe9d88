//! Whether a difference between two networks on the same examples is more than chance.
//!
//! Of n examples the reference alone gets b right and the candidate alone c; the others say nothing about which is
//! better. McNemar's exact test asks how often a fair coin would split b + c as unevenly: p = min(1, 2 P(X <= min(b, c))),
//! X ~ Binomial(b + c, 1/2). McNemar 1947, doi:10.1007/BF02295996.
//!
//! The paired bootstrap draws the examples anew; only the counts of b and c change, which then follow a trinomial
//! distribution, so that the percentile interval of (c - b) / n is computed from it and nothing has to be drawn.
//!
//! Of many comparisons in a table some look large by chance: Holm's step-down correction multiplies the smallest p by
//! the number of comparisons m, the next by m - 1, and so on, never falling. Holm 1979, Scand. J. Statist. 6:65.

/// p of McNemar's exact test, two-sided; 1 where the networks never differ.
pub fn mcnemar(reference_only: u64, candidate_only: u64) -> f64 {
    let n = reference_only + candidate_only;
    if n == 0 {
        return 1.0;
    }
    let logs = log_factorials(n);
    let below: f64 = (0..=reference_only.min(candidate_only))
        .map(|k| (log_choose(&logs, n, k) - n as f64 * std::f64::consts::LN_2).exp())
        .sum();
    (2.0 * below).min(1.0)
}

/// Holm's adjusted p values, in the order of `p`. A comparison is more than chance at 5 % over the whole table where
/// its adjusted value is below 0.05.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 0.0_f64;
    for (rank, at) in order.into_iter().enumerate() {
        least = least.max(p[at] * (p.len() - rank) as f64).min(1.0);
        adjusted[at] = least;
    }
    adjusted
}

/// The 95 % percentile interval of the candidate's accuracy less the reference's under a paired bootstrap of `n`
/// examples.
pub fn bootstrap(reference_only: u64, candidate_only: u64, n: u64) -> Option<(f64, f64)> {
    if n == 0 || reference_only + candidate_only > n {
        return None;
    }
    let logs = log_factorials(n);
    let (p, q) = (
        reference_only as f64 / n as f64,
        // Among the examples that are not drawn as the reference's alone.
        candidate_only as f64 / (n - reference_only).max(1) as f64,
    );
    // The probability of each difference c - b, from -n to n.
    let mut chances = vec![0.0; 2 * n as usize + 1];
    for b in likely(n, p) {
        let chance = binomial(&logs, n, b, p);
        for c in likely(n - b, q) {
            chances[(n + c - b) as usize] += chance * binomial(&logs, n - b, c, q);
        }
    }
    let total: f64 = chances.iter().sum();
    let quantile = |share: f64| {
        let mut sum = 0.0;
        let at = chances.iter().position(|chance| {
            sum += chance;
            sum >= share * total
        });
        (at.unwrap_or(2 * n as usize) as f64 - n as f64) / n as f64
    };
    Some((quantile(0.025), quantile(0.975)))
}

/// The counts within eight standard deviations of a binomial's mean: all others together are rarer than 1e-14.
fn likely(n: u64, p: f64) -> std::ops::RangeInclusive<u64> {
    let mean = n as f64 * p;
    let reach = 8.0 * (mean * (1.0 - p)).sqrt() + 8.0;
    let reach = if p == 0.0 || p >= 1.0 { 0.0 } else { reach };
    (mean - reach).max(0.0).floor() as u64..=((mean + reach).ceil() as u64).min(n)
}

/// P(X = k), X ~ Binomial(n, p).
fn binomial(logs: &[f64], n: u64, k: u64, p: f64) -> f64 {
    if p == 0.0 || p >= 1.0 {
        let certain = if p == 0.0 { 0 } else { n };
        return f64::from(u8::from(k == certain));
    }
    let (hits, misses) = (k as f64, (n - k) as f64);
    (log_choose(logs, n, k) + hits * p.ln() + misses * (1.0 - p).ln()).exp()
}

fn log_choose(logs: &[f64], n: u64, k: u64) -> f64 {
    logs[n as usize] - logs[k as usize] - logs[(n - k) as usize]
}

/// ln k! for k from 0 to `n`.
fn log_factorials(n: u64) -> Vec<f64> {
    let mut sum = 0.0;
    let rest = (1..=n).map(|k| {
        sum += (k as f64).ln();
        sum
    });
    std::iter::once(0.0).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statsmodels 0.15.0: `mcnemar([[0, b], [c, 0]], exact=True).pvalue`.
    #[test]
    fn the_exact_test_is_that_of_statsmodels() {
        for (b, c, expected) in MCNEMAR {
            let p = mcnemar(b, c);
            assert!(
                (p - expected).abs() < 1e-7 * expected.max(1e-3),
                "{b} {c}: {p}"
            );
            assert_eq!(p, mcnemar(c, b));
        }
    }

    /// statsmodels 0.15.0: `multipletests(p, method="holm")[1]`.
    #[test]
    fn the_correction_is_holms() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005, 0.9]);
        for (found, expected) in adjusted.iter().zip([0.04, 0.09, 0.09, 0.025, 0.9]) {
            assert!((found - expected).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[]), Vec::<f64>::new());
    }

    /// NumPy 2.4.6, two million draws of `default_rng(7).multinomial`, percentiles 2.5 and 97.5 of (c - b) / n.
    #[test]
    fn the_bootstrap_is_that_of_many_draws() {
        for (b, c, n, low, high) in BOOTSTRAP {
            let (from, to) = bootstrap(b, c, n).unwrap();
            let step = 1.0 / n as f64;
            assert!(
                (from - low).abs() <= step + 1e-12,
                "{b} {c} {n}: {from} {low}"
            );
            assert!(
                (to - high).abs() <= step + 1e-12,
                "{b} {c} {n}: {to} {high}"
            );
        }
        assert_eq!(bootstrap(3, 3, 5), None);
        assert_eq!(bootstrap(0, 0, 5), Some((0.0, 0.0)));
    }

    const MCNEMAR: [(u64, u64, f64); 7] = [
        (10, 25, 0.016_673_847_800_120_715),
        (0, 6, 0.03125),
        (3, 3, 1.0),
        (0, 0, 1.0),
        (120, 170, 0.003_933_336_512_825_17),
        (1500, 1400, 0.065_987_349_665_184_63),
        (9000, 1000, 0.0),
    ];

    const BOOTSTRAP: [(u64, u64, u64, f64, f64); 5] = [
        (10, 25, 1000, 0.004, 0.027),
        (60, 20, 200, -0.285, -0.115),
        (0, 4, 100, 0.01, 0.08),
        (300, 280, 10000, -0.0067, 0.0027),
        (700, 100, 1000, -0.641, -0.559),
    ];
}
