//! The mean of accuracies over the severities of a corruption, with its doubt.
//!
//! a = 1/S Σ a_s with the interval from 1/S Σ low_s to 1/S Σ high_s, the ends being those of the severities' own intervals
//! (Wilson's for an accuracy, Newcombe's for pairs for a difference). All severities are asked of the same images, so that
//! the a_s depend on each other in a way that nobody counted; but however they do, the standard deviation of a mean is at
//! most the mean of the standard deviations (Minkowski's inequality), and equal to it only where an image's errors at
//! all severities go together perfectly. So the interval is conservative: right where they do, too wide otherwise, by up
//! to √S where they were independent.

use super::{AccuracyRow, Difference, Estimate};

impl Estimate {
    /// The mean of several shares; nothing where one is missing or there is none. It keeps their n where that is the same
    /// for all, and has an interval where each has one.
    pub fn mean(shares: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        let shares: Option<Vec<Self>> = shares.into_iter().collect();
        let shares = shares.filter(|shares| !shares.is_empty())?;
        let n = shares[0].n;
        Some(Self {
            value: average(shares.iter().map(|share| share.value)),
            interval: ends(shares.iter().map(|share| share.interval)),
            n: n.filter(|_| shares.iter().all(|share| share.n == n)),
        })
    }
}

impl AccuracyRow {
    /// The mean over rows of one condition as a row without a severity and without a test: none was made of the mean.
    pub fn mean(rows: &[&Self]) -> Option<Self> {
        let first = *rows.first()?;
        let differences: Option<Vec<Difference>> = rows.iter().map(|row| row.difference).collect();
        Some(Self {
            severity: None,
            reference: Estimate::mean(rows.iter().map(|row| row.reference)),
            candidate: Estimate::mean(rows.iter().map(|row| row.candidate)),
            difference: differences.map(|all| Difference {
                value: average(all.iter().map(|one| one.value)),
                interval: ends(all.iter().map(|one| one.interval)),
            }),
            bootstrap: None,
            p: None,
            adjusted: None,
            ..first.clone()
        })
    }
}

fn average(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// The means of both ends; nothing where an interval is missing.
fn ends(intervals: impl Iterator<Item = Option<(f64, f64)>>) -> Option<(f64, f64)> {
    let all: Vec<(f64, f64)> = intervals.collect::<Option<_>>()?;
    Some((
        average(all.iter().map(|(low, _)| *low)),
        average(all.iter().map(|(_, high)| *high)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statsmodels 0.15.0: `proportion_confint(k, 1000, method="wilson")` of 900, 700 and 500.
    #[test]
    fn the_mean_of_the_ends_is_the_interval_of_the_mean() {
        let shares = [900, 700, 500].map(|hits| Some(Estimate::of_hits(hits, 1_000)));
        let mean = Estimate::mean(shares).unwrap();
        assert!((mean.value - 0.7).abs() < 1e-12);
        assert_eq!(mean.n, Some(1_000));
        let (low, high) = mean.interval.unwrap();
        assert!(
            (low - (LOWS.iter().sum::<f64>() / 3.0)).abs() < 1e-9,
            "{low}"
        );
        assert!(
            (high - (HIGHS.iter().sum::<f64>() / 3.0)).abs() < 1e-9,
            "{high}"
        );
    }

    const LOWS: [f64; 3] = [
        0.879_848_036_804_651_6,
        0.670_876_139_082_782_8,
        0.469_069_600_368_104_2,
    ];
    const HIGHS: [f64; 3] = [
        0.917_090_556_406_904_4,
        0.727_593_157_522_995_1,
        0.530_930_399_631_895_8,
    ];

    /// Errors that go together perfectly are the worst there is: an image has 0, 1, 2 or 3 of 3 right. The standard
    /// deviation of the mean over 1,000 images, by hand: shares .5, .2, .2, .1 with 3, 2, 1, 0 right of 3 have the mean 0.7
    /// and the variance .5 + .2 · 4/9 + .2 · 1/9 - .49 = 0.1211, so 1.96 √(0.1211 / 1,000) = 0.02157.
    #[test]
    fn the_interval_is_no_narrower_than_errors_that_go_together_need() {
        let shares = [900, 700, 500].map(|hits| Some(Estimate::of_hits(hits, 1_000)));
        let (low, high) = Estimate::mean(shares).unwrap().interval.unwrap();
        let half = (high - low) / 2.0;
        assert!((0.021_57..0.03).contains(&half), "{half}");
    }

    #[test]
    fn a_mean_of_what_is_missing_is_none() {
        let one = Some(Estimate::of_hits(9, 10));
        assert_eq!(Estimate::mean([one, None]), None);
        assert_eq!(Estimate::mean([]), None);
        let bare = one.map(|share| Estimate {
            interval: None,
            n: Some(20),
            ..share
        });
        let mean = Estimate::mean([one, bare]).unwrap();
        assert_eq!((mean.interval, mean.n), (None, None));
    }
}
