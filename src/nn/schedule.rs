//! Learning-rate schedules: pure functions of the step.

use std::f64::consts::PI;

/// How the learning rate moves over a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Times 0.1 at half of the steps and again at three quarters (as for CIFAR in He et al. 2016, arXiv:1512.03385).
    Step,
    /// Down to 0 along a line.
    Linear,
    /// Down to 0 along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts).
    Cosine,
    /// Up along half a cosine over three tenths of the steps, then down to next to nothing along another (Smith & Topin
    /// 2018, arXiv:1708.07120); the numbers are those of PyTorch's `OneCycleLR`: from a 25th of the rate, and down to a
    /// 10,000th of that.
    OneCycle,
}

/// PyTorch's defaults of `OneCycleLR`: share of steps that rise, how many times smaller the first rate is, how many
/// times smaller still the last, and the highest and lowest momentum.
const RISING: f64 = 0.3;
const FIRST: f64 = 25.0;
const LAST: f64 = 1e4;
const MOMENTUM: (f64, f64) = (0.95, 0.85);

impl Schedule {
    /// The rate of a step, counted from 0, of `total`; after the last step it stays where it ended.
    pub fn rate(self, base: f64, step: u64, total: u64) -> f64 {
        let done = step.min(total) as f64 / total.max(1) as f64;
        match self {
            Self::Step if done >= 0.75 => base * 0.01,
            Self::Step if done >= 0.5 => base * 0.1,
            Self::Constant | Self::Step => base,
            Self::Linear => base * (1.0 - done),
            Self::Cosine => base * 0.5 * (1.0 + (PI * done).cos()),
            Self::OneCycle => {
                let first = base / FIRST;
                cycle([first, base, first / LAST], step, total)
            }
        }
    }

    /// The momentum of such a step, which one-cycle moves against the rate; the others leave it.
    pub fn momentum(self, base: f64, step: u64, total: u64) -> f64 {
        match self {
            Self::OneCycle => {
                let (high, low) = MOMENTUM;
                cycle([high, low, high], step, total)
            }
            Self::Constant | Self::Step | Self::Linear | Self::Cosine => base,
        }
    }
}

/// From the first value to the second while rising, then to the third; along half a cosine each.
fn cycle([first, middle, last]: [f64; 3], step: u64, total: u64) -> f64 {
    let total = total.max(1);
    let step = step.min(total - 1) as f64;
    let turn = RISING * total as f64 - 1.0;
    let end = total as f64 - 1.0;
    let anneal = |from: f64, to: f64, done: f64| to + (from - to) / 2.0 * (1.0 + (PI * done).cos());
    if step <= turn {
        anneal(first, middle, step / turn)
    } else {
        anneal(middle, last, (step - turn) / (end - turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_at_the_landmarks() {
        let at = |schedule: Schedule, step| schedule.rate(0.1, step, 100);
        assert_eq!(at(Schedule::Constant, 99), 0.1);
        assert_eq!(
            [0, 49, 50, 74, 75, 99].map(|step| at(Schedule::Step, step)),
            [0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1, 0.1 * 0.01, 0.1 * 0.01]
        );
        assert_eq!(at(Schedule::Linear, 0), 0.1);
        assert_eq!(at(Schedule::Linear, 50), 0.05);
        assert_eq!(at(Schedule::Cosine, 0), 0.1);
        assert!((at(Schedule::Cosine, 50) - 0.05).abs() < 1e-15);
        assert!(at(Schedule::Cosine, 99) > 0.0);
        assert!(at(Schedule::Cosine, 200).abs() < 1e-15);
        assert_eq!(Schedule::Step.rate(0.1, 0, 0), 0.1);
    }
}
