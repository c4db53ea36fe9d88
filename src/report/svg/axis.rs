//! Scales, and round numbers to label them with.

/// From values to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Values from `low` to `high` at pixels from `from` to `to`; a single value stands in the middle.
    pub(super) fn new(low: f64, high: f64, from: f64, to: f64) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            (low - 0.5, low + 0.5)
        };
        Self {
            low,
            high,
            from,
            to,
        }
    }

    /// The pixel of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Some six round values with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        /// As many as labels do not touch.
        const WANTED: f64 = 6.0;
        let rough = (self.high - self.low) / WANTED;
        if !rough.is_finite() {
            return Vec::new();
        }
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|round| round * power)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let decimals = (-power.log10().floor()).max(0.0) as usize;
        let first = (self.low / step).ceil();
        let last = (self.high / step).floor();
        if !(last - first).is_finite() || last - first > 100.0 {
            return Vec::new();
        }
        (0..=(last - first) as u32)
            .map(|n| {
                let value = (first + f64::from(n)) * step + 0.0;
                (value, format!("{value:.decimals$}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_scale() {
        let labels = |low, high| -> Vec<String> {
            let ticks = Scale::new(low, high, 0.0, 1.0).ticks();
            ticks.into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(0.0, 2.3), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(labels(1.0, 422.0), ["100", "200", "300", "400"]);
        assert_eq!(labels(3.0, 3.0).len(), 5);
        assert_eq!(labels(f64::MIN, f64::MAX).len(), 0);
    }
}
