//! Matched comparison: each method's strongest setting whose network is as good as the reference, or as small as asked.
//!
//! Settings stand in a row from mild to strong, and a binary search finds where the answer changes; that it changes once is
//! assumed, and every setting that was tried is recorded, so that a reader sees where it does not.
//!
//! Accuracy is matched on the validation images: of n of them, b are right for the reference alone and c for the candidate
//! alone, the difference is d = (c - b) / n with the standard error √(b + c - (b - c)² / n) / n (Newcombe 1998, method 1),
//! and a candidate is equivalent when d - 1.645 se > -margin: the one-sided test at 5 % of the two of Schuirmann 1987 that
//! can hurt. Deviation: a candidate that is better by more than the margin is not refused.
//! Without a single disagreement the error is 0; at the sizes of validation sets here that is no accident.

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

    /// Of the difference.
    pub fn standard_error(&self) -> f64 {
        let n = self.n.max(1) as f64;
        let b = (self.reference - self.both) as f64;
        let c = (self.candidate - self.both) as f64;
        (b + c - (b - c).powi(2) / n).max(0.0).sqrt() / n
    }

    /// The lowest difference that the answers allow, at 5 %.
    pub fn lowest(&self) -> f64 {
        self.difference() - ONE_SIDED * self.standard_error()
    }

    /// Whether the candidate is not worse by `margin` (a share), at 5 %.
    pub fn is_equivalent(&self, margin: f64) -> bool {
        self.lowest() > -margin
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
        Range::Flag { .. } | Range::Text { .. } => Vec::new(),
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

    /// By hand: b = 30 and c = 10 of 1,000 are d = -.02, se = √(40 - .4) / 1000 = .0062929; the bound is -.0303507.
    #[test]
    fn equivalence_is_a_bound_and_no_difference() {
        let pair = Paired {
            n: 1_000,
            both: 900,
            reference: 930,
            candidate: 910,
        };
        assert!((pair.difference() + 0.02).abs() < 1e-12);
        assert!((pair.standard_error() - 0.006_292_853).abs() < 1e-9);
        assert!(
            !pair.is_equivalent(0.025),
            "the difference alone is smaller"
        );
        assert!(!pair.is_equivalent(0.030_3));
        assert!(pair.is_equivalent(0.030_4));
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
