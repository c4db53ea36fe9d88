//! Axes with round numbers.
//!
//! Both ends are round numbers (Heckbert 1990, "Nice numbers for graph labels"), so that a curve that grows a little
//! moves nothing: the axis changes only when data cross one of them.

/// From the smallest to the largest value, with marks in between.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    decimals: usize,
    logarithmic: bool,
}

impl Axis {
    /// An axis that holds `low` to `high` and has at most about so many ticks.
    pub fn linear(low: f64, high: f64, most_ticks: usize) -> Self {
        let (low, high) = ordered(low, high);
        // Ends are rounder than the data and finer than the ticks, so that little room is wasted.
        let fine = nice((high - low) / 8.0);
        let low = (low / fine + 1e-9).floor() * fine;
        let high = ((high / fine - 1e-9).ceil() * fine).max(low + fine);
        let step = nice((high - low) / most_ticks.max(2).saturating_sub(1) as f64).max(fine);
        let first = (low / step - 1e-9).ceil();
        let count = ((high / step + 1e-9).floor() - first).max(0.0) as usize;
        Self {
            low,
            high,
            ticks: (0..=count.min(64))
                .map(|n| (first + n as f64) * step)
                .collect(),
            decimals: (-step.log10().floor()).clamp(0.0, 9.0) as usize,
            logarithmic: false,
        }
    }

    /// An axis from `low` to `high` exactly, with ticks at round numbers in between.
    pub fn exact(low: f64, high: f64, most_ticks: usize) -> Self {
        let (low, high) = ordered(low, high);
        let mut axis = Self::linear(low, high, most_ticks);
        axis.ticks.retain(|tick| (low..=high).contains(tick));
        (axis.low, axis.high) = (low, high);
        axis
    }

    /// A logarithmic axis whose ends are 1, 2 or 5 times a power of ten. What is not positive cannot be placed.
    pub fn logarithmic(low: f64, high: f64, most_ticks: usize) -> Self {
        let (low, high) = ordered(low, high);
        let low = low.max(1e-12);
        let high = high.max(low * 2.0);
        let mut marks: Vec<f64> = Vec::new();
        for decade in (low.log10().floor() as i32 - 1)..=(high.log10().ceil() as i32 + 1) {
            for digit in [1.0, 2.0, 5.0] {
                marks.push(digit * 10_f64.powi(decade));
            }
        }
        let first = marks.iter().rposition(|mark| *mark <= low).unwrap_or(0);
        let last = marks
            .iter()
            .position(|mark| *mark >= high)
            .unwrap_or(marks.len() - 1)
            .max(first + 1)
            .min(marks.len() - 1);
        let mut ticks = marks[first..=last].to_vec();
        let (low, high) = (marks[first], marks[last]);
        while ticks.len() > most_ticks.max(2) {
            ticks = ticks.into_iter().step_by(2).collect();
        }
        Self {
            decimals: (-low.log10().floor()).clamp(0.0, 9.0) as usize,
            low,
            high,
            ticks,
            logarithmic: true,
        }
    }

    /// Where a value lies, 0 at the lower end and 1 at the upper; `None` for what cannot be placed.
    pub fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.logarithmic && value <= 0.0) {
            return None;
        }
        let place = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.is_finite().then_some(place)
    }

    /// The value at a place.
    pub fn value(&self, place: f64) -> f64 {
        if self.logarithmic {
            self.low * (self.high / self.low).powf(place)
        } else {
            self.low + place * (self.high - self.low)
        }
    }

    /// The marks, from below.
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// How a mark is written.
    pub fn label(&self, tick: f64) -> String {
        if tick.abs() >= 10_000.0 {
            return crate::ui::figure::short_count(tick);
        }
        crate::ui::figure::plain(tick, self.decimals)
    }
}

fn ordered(low: f64, high: f64) -> (f64, f64) {
    let finite = |v: f64| {
        if v.is_finite() {
            v.clamp(-1e15, 1e15)
        } else {
            0.0
        }
    };
    let (low, high) = (finite(low), finite(high));
    let (low, high) = (low.min(high), low.max(high));
    // One value alone gets some room around it.
    if high - low <= f64::EPSILON * high.abs().max(1e-9) {
        let room = (low.abs() * 0.1).max(1e-6);
        (low - room, high + room)
    } else {
        (low, high)
    }
}

/// The nearest of 1, 2, 5 times a power of ten that is not smaller.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let digit = step / power;
    let round = if digit <= 1.0 + 1e-9 {
        1.0
    } else if digit <= 2.0 + 1e-9 {
        2.0
    } else if digit <= 5.0 + 1e-9 {
        5.0
    } else {
        10.0
    };
    round * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_round_and_hold_the_data() {
        let axis = Axis::linear(0.37, 2.31, 5);
        assert_eq!(axis.place(0.0), Some(0.0));
        assert_eq!(axis.place(2.5), Some(1.0));
        let labels: Vec<String> = axis.ticks().iter().map(|tick| axis.label(*tick)).collect();
        assert_eq!(labels, ["0", "1", "2"]);
    }

    #[test]
    fn a_little_growth_moves_nothing() {
        assert_eq!(Axis::linear(0.37, 2.31, 5), Axis::linear(0.33, 2.42, 5));
    }

    #[test]
    fn a_logarithmic_axis_ends_at_one_two_or_five() {
        let axis = Axis::logarithmic(0.03, 2.2, 9);
        assert_eq!(axis.place(0.02), Some(0.0));
        assert_eq!(axis.place(5.0), Some(1.0));
        assert_eq!(axis.place(0.0), None);
        let middle = axis.value(0.5);
        assert!((middle - 0.1_f64.sqrt()).abs() < 1e-9, "{middle}");
    }

    #[test]
    fn odd_values_never_break_an_axis() {
        for (low, high) in [
            (0.0, 0.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, f64::NEG_INFINITY),
            (5.0, 5.0),
            (-1e300, 1e300),
            (1e-300, 2e-300),
        ] {
            for axis in [
                Axis::linear(low, high, 5),
                Axis::logarithmic(low, high, 5),
                Axis::exact(low, high, 5),
            ] {
                assert!(axis.place(1.0).is_none_or(f64::is_finite), "{axis:?}");
                assert!(axis.ticks().len() < 80);
            }
        }
    }
}
