//! Matched comparison: each method's strongest setting whose network is as good as the reference, or as small as asked.
//!
//! Settings stand in a row from mild to strong, and a binary search finds where the answer changes; that it changes once is
//! assumed, and every setting that was tried is recorded, so that a reader sees where it does not.
//!
//! Accuracy is matched on the validation images: of n of them, b are right for the reference alone and c for the candidate
//! alone, and the difference is d = (c - b) / n. A candidate is equivalent when a loss of the margin m or more is refused at
//! 5 %, one-sided, by Tango's score test: T(-m) = (c - b + n m) / √(n (2 q - m (1 + m))) > 1.645, q the most probable share
//! of images that the reference alone gets right if the loss were m. Tango 1998, Statist. Med. 17:891; of the two tests of
//! Schuirmann 1987 it is the one that can hurt. Without a single disagreement T = √(n m / (1 - m)): half a point takes 539
//! images, and no margin is shown by few.
//! Deviation: a candidate that is better by more than the margin is not refused.

use crate::catalog::Range;
use crate::spec::KnobValue;

/// The 95 % quantile of the normal distribution.
const ONE_SIDED: f64 = 1.644_853_626_951_472_7;

/// Ratios that are tried: fine enough for two points of a curve, 49 of them, six trials.
const STEP: f64 = 0.02;

/// Right answers of two networks on the same images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    pub n: u64,
    /// Right for both.
    pub both: u64,
    pub reference: u64,
    pub candidate: u64,
}

impl Paired {
    pub fn of(reference: &[bool], candidate: &[bool]) -> Self {
        let count = |hits: &[bool]| hits.iter().filter(|hit| **hit).count() as u64;
        let both = reference.iter().zip(candidate);
        Self {
            n: reference.len() as u64,
            both: both.filter(|(a, b)| **a && **b).count() as u64,
            reference: count(reference),
            candidate: count(candidate),
        }
    }

    /// Candidate's accuracy minus the reference's.
    pub fn difference(&self) -> f64 {
        (self.candidate as f64 - self.reference as f64) / self.n.max(1) as f64
    }

    /// Tango's statistic of a difference `d` between -1 and 1: how many standard errors, as they would be if `d` were true,
    /// the answers lie above it.
    fn score(&self, d: f64) -> f64 {
        let n = self.n.max(1) as f64;
        let b = (self.reference - self.both) as f64;
        let c = (self.candidate - self.both) as f64;
        // Of 2n q² + (d (2n + b - c) - b - c) q ... the positive root, for the share that the reference alone gets right.
        let linear = (2.0 * n + b - c) * d - b - c;
        let constant = b * d * (d - 1.0);
        let root = (linear * linear - 8.0 * n * constant).max(0.0).sqrt();
        let q = (root - linear) / (4.0 * n);
        let variance = n * (2.0 * q + d * (1.0 - d));
        let above = c - b - n * d;
        if variance <= 0.0 {
            return above.signum() * f64::INFINITY;
        }
        above / variance.sqrt()
    }

    /// The lowest difference that the answers allow, at 5 %.
    pub fn lowest(&self) -> f64 {
        // The statistic falls as the difference rises.
        let (mut low, mut high) = (-1.0, self.difference());
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.score(middle) > ONE_SIDED {
                low = middle;
            } else {
                high = middle;
            }
        }
        f64::midpoint(low, high)
    }

    /// Whether the candidate is not worse by `margin` (a share), at 5 %.
    pub fn is_equivalent(&self, margin: f64) -> bool {
        self.score(-margin) > ONE_SIDED
    }
}

/// Settings of a strength, from mild to strong: ratios upward, bits downward.
pub fn settings(knob: &str, range: &Range) -> Vec<KnobValue> {
    match range {
        Range::Real { least, most, .. } => (1..=(most / STEP) as u32)
            .map(|i| (f64::from(i) * STEP * 1e4).round() / 1e4)
            .filter(|ratio| (least..=most).contains(&ratio))
            .map(KnobValue::Real)
            .collect(),
        Range::Integer { least, most, .. } => {
            let all = (*least..=*most).map(KnobValue::Integer);
            if knob == "bits" {
                all.rev().collect()
            } else {
                all.collect()
            }
        }
        Range::Choice { options, .. } => options
            .iter()
            .map(|word| KnobValue::Choice(word.to_string()))
            .collect(),
        Range::Flag { .. } | Range::Numbers { .. } | Range::Text { .. } => Vec::new(),
    }
}

/// The last of n settings that holds, if all before it hold and none after it; nothing when not even the first does.
///
/// # Errors
/// What `holds` says.
pub fn last<E>(
    n: usize,
    mut holds: impl FnMut(usize) -> Result<bool, E>,
) -> Result<Option<usize>, E> {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = usize::midpoint(low, high);
        if holds(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low.checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_holds_is_found_in_few_trials() {
        for n in [0, 1, 2, 7, 49] {
            for last_good in 0..=n {
                let mut tried = 0;
                let found = last(n, |at| {
                    tried += 1;
                    Ok::<_, ()>(at < last_good)
                });
                assert_eq!(found, Ok(last_good.checked_sub(1)));
                assert!(tried <= 6, "{tried}");
            }
        }
    }

    /// SciPy 1.17.1, `tests/fixtures/make_tango.py`: of n images, right for the reference alone and for the candidate alone,
    /// and the bound.
    const BOUNDS: [(u64, u64, u64, f64); 6] = [
        (1000, 30, 10, -0.031_182_131_538),
        (150, 0, 0, -0.017_717_389_609),
        (5000, 12, 40, 0.003_319_785_192),
        (6000, 25, 0, -0.005_775_833_747),
        (539, 0, 0, -0.004_994_491_228),
        (200, 5, 5, -0.028_923_993_231),
    ];

    #[test]
    fn the_bound_is_tangos() {
        for (n, b, c, expected) in BOUNDS {
            let both = (n - b - c) / 2;
            let pair = Paired {
                n,
                both,
                reference: both + b,
                candidate: both + c,
            };
            let low = pair.lowest();
            assert!((low - expected).abs() < 1e-7, "{n} {b} {c}: {low}");
            if expected < 0.0 {
                assert!(pair.is_equivalent(1e-6 - expected));
                assert!(!pair.is_equivalent(-1e-6 - expected));
            }
        }
    }

    #[test]
    fn equivalence_is_a_bound_and_no_difference() {
        let pair = Paired {
            n: 1_000,
            both: 900,
            reference: 930,
            candidate: 910,
        };
        assert!((pair.difference() + 0.02).abs() < 1e-12);
        assert!(
            !pair.is_equivalent(0.025),
            "the difference alone is smaller"
        );
        assert!(!pair.is_equivalent(0.031_1));
        assert!(pair.is_equivalent(0.031_2));
        let hits = [true, true, false, true];
        let other = [true, false, true, true];
        let found = Paired::of(&hits, &other);
        assert_eq!((found.both, found.reference, found.candidate), (2, 3, 3));
    }

    #[test]
    fn settings_go_from_mild_to_strong() {
        let ratios = settings(
            "ratio",
            &Range::Real {
                least: 0.0,
                most: 0.999,
                step: 0.05,
                default: 0.5,
            },
        );
        assert_eq!(ratios.len(), 49);
        assert_eq!(ratios[0], KnobValue::Real(0.02));
        assert_eq!(ratios[48], KnobValue::Real(0.98));
        let bits = Range::Integer {
            least: 2,
            most: 16,
            default: 8,
        };
        let bits = settings("bits", &bits);
        assert_eq!(
            (&bits[0], &bits[14]),
            (&KnobValue::Integer(16), &KnobValue::Integer(2))
        );
    }
}
