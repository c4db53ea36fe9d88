//! How fast training goes, from the times of the records alone.

use std::collections::VecDeque;

/// Milliseconds of the past that count.
const WINDOW: u64 = 5_000;

/// Milliseconds below which nothing is said: a restored network states its training again in a moment.
const LEAST: u64 = 200;

/// Records of the past that count, so that a burst takes no memory.
const MOST: usize = 256;

/// Images and optimizer steps of the recent past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Time and images of the recent records of training.
    recent: VecDeque<(u64, u64)>,
}

impl Pace {
    /// Images per second through training steps, over the last five seconds of this stage.
    pub fn images_per_second(&self) -> Option<f64> {
        let (&(begin, _), &(end, _)) = (self.recent.front()?, self.recent.back()?);
        let milliseconds = end.saturating_sub(begin);
        if milliseconds < LEAST {
            return None;
        }
        // The first record's images were trained on before its time.
        let images: u64 = self.recent.iter().skip(1).map(|(_, images)| images).sum();
        Some(images as f64 * 1e3 / milliseconds as f64)
    }

    /// Forgets the past, which says nothing about what comes now.
    pub(super) fn start(&mut self) {
        self.recent.clear();
    }

    pub(super) fn trained(&mut self, at: u64, images: u64) {
        // A sum of these cannot overflow.
        self.recent
            .push_back((at, images.min(u64::MAX / (2 * MOST as u64))));
        while self.recent.len() > MOST
            || self
                .recent
                .front()
                .is_some_and(|(then, _)| at.saturating_sub(*then) > WINDOW && self.recent.len() > 2)
        {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_five_seconds() {
        let mut pace = Pace::default();
        assert_eq!(pace.images_per_second(), None);
        // One hundred images every second, then two hundred.
        for second in 0..10 {
            pace.trained(second * 1_000, 100);
        }
        assert_eq!(pace.images_per_second(), Some(100.0));
        for second in 10..20 {
            pace.trained(second * 1_000, 200);
        }
        assert_eq!(pace.images_per_second(), Some(200.0));
    }

    #[test]
    fn a_burst_says_nothing() {
        let mut pace = Pace::default();
        for _ in 0..10_000 {
            pace.trained(7, u64::MAX);
        }
        assert_eq!(pace.images_per_second(), None);
        assert_eq!(pace.recent.len(), MOST);
    }
}
