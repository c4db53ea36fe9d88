//! Summary numbers of a network under corruption, from which images it gets wrong.
//!
//! With E(c, s) the error under corruption c at severity s, means over c taken with equal weight:
//! mean corruption error = mean over c of (mean over s of E(c, s));
//! relative corruption error = mean over c of Σ_s E(c, s) / Σ_s E*(c, s), E* the reference's;
//! relative mCE = the same of E(c, s) - E(clean) and E*(c, s) - E*(clean).
//! Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.
//! Deviation: the published yardstick is AlexNet, for which there are numbers on ImageNet-C alone; here it is the network's
//! own reference. E(clean) is taken on the images that are corrupted, so that all of it can be drawn anew together.

use std::cell::Cell;

use crate::lab::statistics::bootstrap;
use crate::nn::rng::Rng;

/// One network under everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// Whether each image is wrong when it is clean.
    pub(super) clean: Vec<bool>,
    /// For each corruption the number of its severities, and at how many of them each image is wrong.
    pub(super) corruptions: Vec<(usize, Vec<u8>)>,
}

/// A number with its 95 % interval by the paired bootstrap over images: one draw of images for all conditions and for both
/// networks. Without an interval where a draw leaves it undefined.
pub(super) type Summary = (f64, Option<(f64, f64)>);

impl Record {
    fn wrong(&self, corruption: usize, images: &[usize]) -> f64 {
        let counts = &self.corruptions[corruption].1;
        let sum: u64 = images.iter().map(|image| u64::from(counts[*image])).sum();
        sum as f64 / images.len() as f64
    }

    fn clean_error(&self, images: &[usize]) -> f64 {
        let wrong = images.iter().filter(|image| self.clean[**image]).count();
        wrong as f64 / images.len() as f64
    }

    /// Mean over corruptions of the mean error over severities, on these images.
    fn mean_error(&self, images: &[usize]) -> f64 {
        let each = self.corruptions.iter().enumerate();
        let sum: f64 = each
            .map(|(place, (severities, _))| self.wrong(place, images) / *severities as f64)
            .sum();
        sum / self.corruptions.len() as f64
    }

    /// Mean over corruptions of this network's error as a multiple of the other's, both less their clean error where that
    /// is asked; not a number where the other's is not above 0.
    fn multiple(&self, reference: &Self, less_clean: bool, images: &[usize]) -> f64 {
        let clean = |of: &Self| {
            if less_clean {
                of.clean_error(images)
            } else {
                0.0
            }
        };
        let (own_clean, their_clean) = (clean(self), clean(reference));
        let each = self.corruptions.iter().enumerate();
        let sum: f64 = each
            .map(|(place, (severities, _))| {
                let severities = *severities as f64;
                let below = reference.wrong(place, images) - severities * their_clean;
                // Differences of shares of images that are equal may come out as almost 0.
                if below > 1e-9 {
                    (self.wrong(place, images) - severities * own_clean) / below
                } else {
                    f64::NAN
                }
            })
            .sum();
        sum / self.corruptions.len() as f64
    }

    /// The mean corruption error; nothing without corruptions or images.
    pub(super) fn mean_corruption_error(&self, rng: &mut Rng) -> Option<Summary> {
        self.summary(rng, |images| self.mean_error(images))
    }

    /// The error relative to a reference that saw the same; nothing where it is undefined.
    pub(super) fn relative_corruption_error(
        &self,
        reference: &Self,
        rng: &mut Rng,
    ) -> Option<Summary> {
        self.summary(rng, |images| self.multiple(reference, false, images))
    }

    /// The same of what corruption adds to the clean error.
    pub(super) fn relative_mce(&self, reference: &Self, rng: &mut Rng) -> Option<Summary> {
        self.summary(rng, |images| self.multiple(reference, true, images))
    }

    fn summary(&self, rng: &mut Rng, statistic: impl Fn(&[usize]) -> f64) -> Option<Summary> {
        let n = self.clean.len();
        if n == 0 || self.corruptions.is_empty() {
            return None;
        }
        let all: Vec<usize> = (0..n).collect();
        let value = statistic(&all);
        if value.is_nan() {
            return None;
        }
        let is_defined = Cell::new(true);
        let interval = bootstrap(n, rng, |images| {
            let drawn = statistic(images);
            if drawn.is_nan() {
                is_defined.set(false);
            }
            drawn
        });
        Some((value, is_defined.get().then_some(interval)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 100 images, the first ones wrong at each severity of each corruption.
    fn record(clean: usize, errors: &[[usize; 5]]) -> Record {
        let counts = |shares: &[usize; 5]| {
            (0..100)
                .map(|image| shares.iter().filter(|wrong| image < **wrong).count() as u8)
                .collect()
        };
        Record {
            clean: (0..100).map(|image| image < clean).collect(),
            corruptions: errors.iter().map(|shares| (5, counts(shares))).collect(),
        }
    }

    fn rng() -> Rng {
        Rng::stream(1, "bootstrap", &[])
    }

    #[test]
    fn errors_beside_those_of_the_reference() {
        // O-51.
        let candidate = record(4, &[[5, 10, 15, 20, 25], [30; 5]]);
        let reference = record(5, &[[10, 20, 30, 40, 50], [20; 5]]);
        let of_one = |corruption: usize| {
            let only = |record: &Record| Record {
                corruptions: vec![record.corruptions[corruption].clone()],
                ..record.clone()
            };
            let (own, theirs) = (only(&candidate), only(&reference));
            let value = |found: Option<Summary>| found.unwrap().0;
            (
                value(own.relative_corruption_error(&theirs, &mut rng())),
                value(own.relative_mce(&theirs, &mut rng())),
            )
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        close(of_one(0).0, 0.5);
        close(of_one(1).0, 1.5);
        close(of_one(0).1, 0.44);
        close(of_one(1).1, 1.733_333_3);
        let all = |found: Option<Summary>| found.unwrap();
        let (value, interval) = all(candidate.relative_corruption_error(&reference, &mut rng()));
        close(value, 1.0);
        let (low, high) = interval.unwrap();
        assert!(
            low < 1.0 && 1.0 < high && high - low < 1.0,
            "{low} to {high}"
        );
        close(
            all(candidate.relative_mce(&reference, &mut rng())).0,
            1.086_666_7,
        );
        close(all(candidate.mean_corruption_error(&mut rng())).0, 0.225);
    }

    #[test]
    fn a_corruption_with_one_strength_weighs_as_much_as_one_with_five() {
        let mut own = record(0, &[[10; 5]]);
        own.corruptions
            .push((1, (0..100).map(|image| u8::from(image < 30)).collect()));
        let (value, _) = own.mean_corruption_error(&mut rng()).unwrap();
        assert!((value - 0.2).abs() < 1e-12, "{value}");
    }

    #[test]
    fn what_would_divide_by_zero_is_undefined() {
        let own = record(5, &[[10; 5]]);
        let perfect = record(0, &[[0; 5]]);
        assert_eq!(own.relative_corruption_error(&perfect, &mut rng()), None);
        // Its error under corruption is its clean error.
        let unmoved = record(10, &[[10; 5]]);
        assert_eq!(own.relative_mce(&unmoved, &mut rng()), None);
        assert!(
            own.relative_corruption_error(&unmoved, &mut rng())
                .is_some()
        );
        // One error in a hundred images is drawn into most samples, but not into all.
        let nearly = record(0, &[[1; 5]]);
        let (_, interval) = own.relative_corruption_error(&nearly, &mut rng()).unwrap();
        assert_eq!(interval, None);
        assert_eq!(Record::default().mean_corruption_error(&mut rng()), None);
    }

    #[test]
    fn a_network_beside_itself_is_one_for_certain() {
        let own = record(5, &[[10, 20, 30, 40, 50], [20; 5]]);
        let (value, interval) = own.relative_corruption_error(&own, &mut rng()).unwrap();
        assert_eq!((value, interval), (1.0, Some((1.0, 1.0))));
    }
}
