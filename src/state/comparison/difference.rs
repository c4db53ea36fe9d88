//! The difference of two shares, with its doubt.
//!
//! The difference of two accuracies has Newcombe's hybrid score interval, put together from the two Wilson intervals:
//! for d = c - r, from d - √((c - c_low)² + (r_high - r)²) to d + √((c_high - c)² + (r - r_low)²).
//! Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10,
//! doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
//!
//! Both networks see the same images. Where it was counted how many either alone gets right, b and c, the interval is
//! Newcombe's for paired proportions: the arms are √(x² - 2φxy + y²) with the same x and y as above, and φ is the
//! correlation of being right, (ad - bc - n/2) / √((a+b)(c+d)(a+c)(b+d)), where the numerator is ad - bc if that
//! is negative and 0 if it is between. Newcombe 1998, "Improved confidence intervals for the difference between binomial
//! proportions based on paired data", method 10, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.
//! Deviation: sessions of earlier versions did not count b and c under corruption, and the first formula takes the
//! networks for independent there: too wide rather than too narrow.

use crate::measurement::{Measurement, Metric, Paired, wilson};
use crate::state::NetworkState;

/// A share in [0, 1] with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    /// Nothing where the measurement came without an interval.
    pub interval: Option<(f64, f64)>,
    /// How many examples it rests on.
    pub n: Option<u64>,
}

impl Estimate {
    /// A share of `n`, with Wilson's interval.
    pub fn of_hits(hits: u64, n: u64) -> Self {
        Self {
            value: hits as f64 / n.max(1) as f64,
            interval: Some(wilson(hits.min(n), n)),
            n: Some(n),
        }
    }

    /// An accuracy, also out of an error.
    pub fn accuracy(found: &Measurement) -> Option<Self> {
        let value = found.scalar()?;
        let interval = found.interval.map(|(low, high)| (low.0, high.0));
        let (value, interval) = if found.metric == Metric::Error {
            (
                1.0 - value,
                interval.map(|(low, high)| (1.0 - high, 1.0 - low)),
            )
        } else {
            (value, interval)
        };
        let is_finite = value.is_finite()
            && interval.is_none_or(|(low, high)| low.is_finite() && high.is_finite());
        is_finite.then_some(Self {
            value,
            interval,
            n: found.n,
        })
    }
}

/// Candidate less reference, as a share, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub value: f64,
    pub interval: Option<(f64, f64)>,
}

impl Difference {
    /// Of two networks on the same `n` images: how many the reference, the candidate and both get right.
    pub fn paired(reference: u64, candidate: u64, both: u64, n: u64) -> Self {
        let table = [
            both,
            reference.saturating_sub(both),
            candidate.saturating_sub(both),
            (n + both).saturating_sub(reference + candidate),
        ];
        let [a, b, c, d] = table.map(|count| count as f64);
        Self::between(
            &Estimate::of_hits(reference, n),
            &Estimate::of_hits(candidate, n),
            phi(a, b, c, d),
        )
    }

    /// `correlation` is φ, 0 where the two are taken for independent.
    pub(super) fn between(reference: &Estimate, candidate: &Estimate, correlation: f64) -> Self {
        let value = candidate.value - reference.value;
        let arm = |x: f64, y: f64| {
            // Never below zero but for the dust of rounding.
            (x * x - 2.0 * correlation * x * y + y * y).max(0.0).sqrt()
        };
        let interval = candidate.interval.zip(reference.interval).map(
            |((candidate_low, candidate_high), (reference_low, reference_high))| {
                let below = arm(
                    candidate.value - candidate_low,
                    reference_high - reference.value,
                );
                let above = arm(
                    candidate_high - candidate.value,
                    reference.value - reference_low,
                );
                (value - below, value + above)
            },
        );
        Self { value, interval }
    }

    /// The larger arm of the interval: what stands behind ±.
    pub fn margin(&self) -> Option<f64> {
        self.interval
            .map(|(low, high)| (self.value - low).max(high - self.value))
    }

    /// Whether the interval holds zero, so that the difference may be chance; unknown without an interval.
    pub fn is_within_noise(&self) -> Option<bool> {
        self.interval.map(|(low, high)| low <= 0.0 && high >= 0.0)
    }

    /// In percentage points: `-0.1 ±0.3`.
    pub fn points(&self) -> String {
        let points = tenths(self.value * 100.0);
        match self.margin() {
            Some(margin) => format!("{points:+.1} ±{:.1}", margin * 100.0),
            None => format!("{points:+.1}"),
        }
    }
}

/// Rounded to one decimal, without a negative zero.
pub(super) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0 + 0.0
}

/// How much being right on an image goes together in two networks, from the images that only one of them gets right.
/// Nothing where those were not counted on the same images as the accuracies.
pub(super) fn correlation(
    reference: &Estimate,
    candidate: &Estimate,
    network: &NetworkState,
) -> Option<f64> {
    let images = candidate.n.filter(|n| reference.n == Some(*n))?;
    let n = images as f64;
    let only = |metric| {
        let found = network.measurements.latest(metric, None, None)?;
        (found.n == Some(images)).then_some((found.scalar()? * n).round())
    };
    let (only_reference, only_candidate) = (only(Metric::ChurnBad)?, only(Metric::ChurnGood)?);
    let (right, now_right) = ((reference.value * n).round(), (candidate.value * n).round());
    let both = right - only_reference;
    let neither = n - right - only_candidate;
    if right - only_reference + only_candidate != now_right || both < 0.0 || neither < 0.0 {
        return None;
    }
    Some(phi(both, only_reference, only_candidate, neither))
}

/// The same from the examples that only one of them gets right, as they were counted with the accuracy.
pub(super) fn of_pairs(reference: &Estimate, pairs: Paired, n: u64) -> f64 {
    let (b, c) = (pairs.reference_only as f64, pairs.candidate_only as f64);
    let both = (reference.value * n as f64).round() - b;
    phi(both, b, c, n as f64 - both - b - c)
}

/// Newcombe's φ of a table of pairs; 0 where one of the two is always right or never.
fn phi(a: f64, b: f64, c: f64, d: f64) -> f64 {
    let product = (a + b) * (c + d) * (a + c) * (b + d);
    if product <= 0.0 {
        return 0.0;
    }
    let (together, half) = (a * d - b * c, (a + b + c + d) / 2.0);
    let corrected = if together < 0.0 {
        together
    } else {
        (together - half).max(0.0)
    };
    corrected / product.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sample;
    use crate::spec::NetworkId;
    use crate::state::State;

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate {
            value,
            interval: Some((low, high)),
            n: Some(1_000),
        }
    }

    /// statsmodels 0.15.0: `confint_proportions_2indep(c, 1000, r, 1000, method="newcomb", compare="diff")`, and
    /// `proportion_confint(k, 1000, method="wilson")` for the intervals it is put together from.
    #[test]
    fn the_interval_of_a_difference_is_newcombes() {
        for (reference, candidate, expected) in [
            (
                estimate(0.950, 0.934_686_179_756, 0.961_869_737_607),
                estimate(0.949, 0.933_564_513_655, 0.960_999_057_225),
                (-0.020_471_643_730, 0.018_454_831_399),
            ),
            (
                estimate(0.710, 0.681_114_796_430, 0.737_277_964_950),
                estimate(0.542, 0.511_017_773_072, 0.572_660_779_215),
                (-0.209_279_362_402, -0.125_875_917_015),
            ),
        ] {
            let difference = Difference::between(&reference, &candidate, 0.0);
            let (low, high) = difference.interval.unwrap();
            assert!((low - expected.0).abs() < 1e-10, "{low}");
            assert!((high - expected.1).abs() < 1e-10, "{high}");
            assert_eq!(difference.is_within_noise(), Some(expected.1 > 0.0));
        }
    }

    /// The formula of the file's head in NumPy over Wilson intervals of statsmodels 0.15.0, `proportion_confint(k, 50,
    /// method="wilson")`. A percentile bootstrap of the pairs, SciPy 1.17.1, says -0.34 to -0.06 for both.
    #[test]
    fn the_interval_of_a_paired_difference_is_newcombes() {
        for ([a, b, c, d], reference, candidate, expected) in [
            (
                [20.0, 12.0, 2.0, 16.0],
                (0.501_410_168_761, 0.758_612_503_483),
                (0.311_621_992_113, 0.576_939_719_783),
                (-0.329_206_995_400, -0.056_156_424_842),
            ),
            (
                [36.0, 12.0, 2.0, 0.0],
                (0.865_399_093_125, 0.988_961_115_672),
                (0.625_873_162_421, 0.857_026_086_030),
                (-0.340_427_602_975, -0.056_929_584_003),
            ),
        ] {
            let of = |hits: f64, (low, high)| estimate(hits / 50.0, low, high);
            let (reference, candidate) = (of(a + b, reference), of(a + c, candidate));
            let difference = Difference::between(&reference, &candidate, phi(a, b, c, d));
            assert!((difference.value + 0.2).abs() < 1e-12);
            let (low, high) = difference.interval.unwrap();
            assert!((low - expected.0).abs() < 1e-9, "{low}");
            assert!((high - expected.1).abs() < 1e-9, "{high}");
        }
        assert_eq!(phi(50.0, 0.0, 0.0, 0.0), 0.0, "always right");
        assert!(phi(1.0, 40.0, 40.0, 1.0) < -0.9, "never on the same image");
    }

    /// Two networks that answer alike differ by less than two that are strangers.
    #[test]
    fn what_both_get_right_narrows_the_difference() {
        let finding = |metric, value: f64| Measurement {
            n: Some(1_000),
            ..sample::scalar(NetworkId(2), 0, metric, value)
        };
        let story = State::fold(&sample::records(sample::story()));
        let mut network = NetworkState::new(story.networks[2].plan.clone());
        let reference = estimate(0.950, 0.934_686_179_756, 0.961_869_737_607);
        let candidate = estimate(0.949, 0.933_564_513_655, 0.960_999_057_225);
        assert_eq!(correlation(&reference, &candidate, &network), None);
        network
            .measurements
            .insert(finding(Metric::ChurnBad, 0.003));
        network
            .measurements
            .insert(finding(Metric::ChurnGood, 0.002));
        // 947, 3, 2 and 48 images: (947·48 - 6 - 500) / √(950·50·949·51).
        let phi = correlation(&reference, &candidate, &network).unwrap();
        assert!((phi - 0.937_485_797).abs() < 1e-8, "{phi}");
        let margin = |phi| {
            Difference::between(&reference, &candidate, phi)
                .margin()
                .unwrap()
        };
        assert!(margin(phi) < margin(0.0) / 3.0);
        // Counted on other images, they say nothing.
        let other = estimate(0.940, 0.92, 0.95);
        assert_eq!(correlation(&reference, &other, &network), None);
    }

    #[test]
    fn no_difference_is_not_a_negative_zero() {
        let difference = Difference {
            value: -0.000_01,
            interval: None,
        };
        assert_eq!(difference.points(), "+0.0");
    }
}
