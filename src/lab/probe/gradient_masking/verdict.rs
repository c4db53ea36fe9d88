//! The checks' arithmetic: two numbers, an exact test where they are paired, and what follows.

use crate::lab::statistics::wilson;
use crate::measurement::{CheckOutcome, Masking, MaskingCheck, Score};

/// Below this p a weaker attack is stronger by more than chance.
const LEVEL: f64 = 0.01;

/// Images by which a weaker attack may be ahead, as a share of all: AutoAttack flags 0.2 % of a thousand and more; of few
/// hundred that is no image.
const AHEAD: f64 = 0.01;

/// Fewer right images say nothing.
const FEWEST: usize = 20;

/// An attack that breaks fewer was hardly one.
const BREAKS: usize = 5;

/// What all checks come to, of that many images.
pub fn of(checks: &[MaskingCheck], images: usize) -> Masking {
    let any = |outcome| checks.iter().any(|check| check.outcome == outcome);
    if images < FEWEST {
        Masking::Inconclusive
    } else if any(CheckOutcome::Failed) {
        Masking::Masked
    } else if any(CheckOutcome::Unclear) {
        Masking::Inconclusive
    } else {
        Masking::NotMasked
    }
}

/// P(X ≥ `ahead`) of a fair coin thrown `ahead + behind` times: the exact one-sided sign test.
pub fn sign_test(ahead: usize, behind: usize) -> f64 {
    let n = ahead + behind;
    let (mut term, mut sum) = (0.5_f64.powi(n as i32), 0.0);
    // From the top: C(n, n), C(n, n - 1), …
    for heads in (ahead..=n).rev() {
        sum += term;
        term *= heads as f64 / (n - heads + 1) as f64;
    }
    // So many throws that a single one's share underflows are no few images.
    sum.min(1.0)
}

fn count(flags: &[bool]) -> usize {
    flags.iter().filter(|flag| **flag).count()
}

/// On how many images the first breaks what the second does not, and the other way round.
fn differing([weaker, stronger]: [&[bool]; 2]) -> (usize, usize) {
    let both = || weaker.iter().zip(stronger);
    let ahead = both().filter(|(a, b)| **a && !**b).count();
    let behind = both().filter(|(a, b)| !**a && **b).count();
    (ahead, behind)
}

fn check(
    id: &str,
    title: &str,
    names: [&str; 2],
    numbers: [f64; 2],
    p: Option<f64>,
    outcome: CheckOutcome,
) -> MaskingCheck {
    MaskingCheck {
        id: id.to_owned(),
        title: title.to_owned(),
        outcome,
        names: names.map(str::to_owned),
        numbers: numbers.map(Score),
        p: p.map(Score),
    }
}

/// A weaker attack against a stronger one, by which images they break.
pub fn apart(id: &str, title: &str, names: [&str; 2], broken: [&[bool]; 2]) -> MaskingCheck {
    let n = broken[0].len().max(1) as f64;
    let (ahead, behind) = differing(broken);
    let p = sign_test(ahead, behind);
    let outcome = if ahead as f64 - behind as f64 <= AHEAD * n {
        CheckOutcome::Passed
    } else if p < LEVEL {
        CheckOutcome::Failed
    } else {
        CheckOutcome::Unclear
    };
    let shares = broken.map(|broken| count(broken) as f64 / n);
    check(id, title, names, shares, Some(p), outcome)
}

/// Noise against an attack.
pub fn noise(broken: [&[bool]; 2]) -> MaskingCheck {
    let n = broken[0].len().max(1) as f64;
    let (ahead, behind) = differing(broken);
    let p = sign_test(behind, ahead);
    let by_attack = count(broken[1]);
    let outcome = if by_attack < BREAKS && count(broken[0]) < BREAKS {
        CheckOutcome::Unclear
    } else if p < 0.05 {
        CheckOutcome::Passed
    } else if ahead >= behind {
        CheckOutcome::Failed
    } else {
        CheckOutcome::Unclear
    };
    let shares = broken.map(|broken| count(broken) as f64 / n);
    check(
        "noise-as-strong",
        "Noise is as strong as the attack",
        ["broken by noise", "broken by PGD"],
        shares,
        Some(p),
        outcome,
    )
}

/// A share that should be nothing, `hits` of `n`.
pub fn share(
    id: &str,
    title: &str,
    names: [&str; 2],
    (hits, n): (usize, usize),
    allowed: f64,
) -> MaskingCheck {
    let share = hits as f64 / n.max(1) as f64;
    let outcome = if wilson(hits as u64, n as u64).0 > allowed {
        CheckOutcome::Failed
    } else if share > allowed {
        CheckOutcome::Unclear
    } else {
        CheckOutcome::Passed
    };
    check(id, title, names, [share, allowed], None, outcome)
}

#[cfg(test)]
mod tests {
    use CheckOutcome::{Failed, Passed, Unclear};

    use super::*;

    /// SciPy 1.17.1: `binomtest(k, n, 0.5, alternative="greater").pvalue`.
    #[test]
    fn the_sign_test_is_exact() {
        for (ahead, behind, p) in [
            (7, 0, 0.007_812_5),
            (10, 25, 0.997_005_939_716_473_2),
            (25, 10, 0.008_336_923_900_060_357),
            (0, 0, 1.0),
        ] {
            assert!(
                (sign_test(ahead, behind) - p).abs() < 1e-12,
                "{ahead} {behind}"
            );
        }
    }

    fn flags(n: usize, of: impl Fn(usize) -> bool) -> Vec<bool> {
        (0..n).map(of).collect()
    }

    #[test]
    fn a_weaker_attack_that_breaks_more_fails_and_few_images_are_unclear() {
        let none = flags(200, |_| false);
        let outcome = |ahead: usize, stronger: &[bool]| {
            let weaker = flags(200, |at| at < ahead);
            apart("a", "b", ["c", "d"], [&weaker, stronger]).outcome
        };
        assert_eq!(outcome(2, &none), CheckOutcome::Passed);
        assert_eq!(outcome(4, &none), CheckOutcome::Unclear);
        assert_eq!(outcome(7, &none), CheckOutcome::Failed);
        let all = flags(200, |_| true);
        assert_eq!(outcome(200, &all), CheckOutcome::Passed);
    }

    #[test]
    fn noise_must_be_behind_an_attack_that_works() {
        let outcome = |noise: usize, attack: usize| {
            let [a, b] = [noise, attack].map(|n| flags(200, |at| at < n));
            super::noise([&a, &b]).outcome
        };
        assert_eq!(outcome(3, 150), CheckOutcome::Passed);
        assert_eq!(outcome(40, 40), CheckOutcome::Failed);
        assert_eq!(outcome(0, 0), CheckOutcome::Unclear);
        assert_eq!(outcome(10, 12), CheckOutcome::Unclear);
    }

    #[test]
    fn a_verdict_needs_images_and_all_checks() {
        let with = |outcomes: &[CheckOutcome]| -> Vec<MaskingCheck> {
            outcomes
                .iter()
                .map(|outcome| check("a", "b", ["c", "d"], [0.0; 2], None, *outcome))
                .collect()
        };
        assert_eq!(of(&with(&[Passed, Passed]), 200), Masking::NotMasked);
        assert_eq!(of(&with(&[Passed, Unclear]), 200), Masking::Inconclusive);
        assert_eq!(of(&with(&[Unclear, Failed]), 200), Masking::Masked);
        assert_eq!(of(&with(&[Failed]), 19), Masking::Inconclusive);
        let [few, some, many] =
            [2, 3, 20].map(|hits| share("a", "b", ["c", "d"], (hits, 200), 0.01).outcome);
        assert_eq!([few, some, many], [Passed, Unclear, Failed]);
    }
}
