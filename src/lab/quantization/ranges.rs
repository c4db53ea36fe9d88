//! Ranges of activations, from what was seen of them: where values are clipped so that the rest is rounded finer.
//!
//! - `min-max`: all that was seen.
//! - `moving-average`: m ← m + c (b - m) for the least and the greatest value b of each batch, c = 0.01 as in PyTorch's
//!   `MovingAverageMinMaxObserver`; the first batch begins it.
//! - `percentile`: so many per cent of the values lie below the upper end, and as many above the lower one.
//! - `mse`: the least Σ p(x) (x - x̂)² over a grid of ranges (AIMET's `MseEncodingAnalyzer`).
//! - `entropy`: the threshold T on |x| of least KL(P‖Q), where P is the histogram up to T with all beyond it in its last
//!   bin and Q the same without those in 2^(b-1) bins, spread over the bins that are not empty. Migacz 2017,
//!   "8-bit inference with TensorRT".
//!
//! Every range is widened to hold 0.

use std::ops::Range;

use crate::lab::quantization::levels::asymmetric;
use crate::nn::op::fake_quant::Levels;

/// How a range is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    MinMax,
    MovingAverage,
    /// In per cent.
    Percentile(f64),
    LeastError,
    Entropy,
}

/// The constant of the moving average: PyTorch's default.
const AVERAGING: f32 = 0.01;

/// Bins of a histogram: those of PyTorch's `HistogramObserver` and of TensorRT.
pub const BINS: usize = 2048;

/// TensorRT begins its search at the 128th bin.
const FEWEST_BINS: usize = 128;

/// Counts of values in even bins.
#[derive(Clone, Debug)]
pub struct Histogram {
    pub least: f32,
    pub greatest: f32,
    pub counts: Vec<u64>,
}

impl Histogram {
    /// An empty one.
    pub fn new(least: f32, greatest: f32) -> Self {
        Self {
            least,
            greatest,
            counts: vec![0; BINS],
        }
    }

    /// Of these values.
    pub fn of(values: &[f32], least: f32, greatest: f32) -> Self {
        let mut made = Self::new(least, greatest);
        made.add(values);
        made
    }

    /// Counts values; what lies outside goes to the ends.
    pub fn add(&mut self, values: &[f32]) {
        let per = BINS as f32 / (self.greatest - self.least).max(f32::MIN_POSITIVE);
        for value in values {
            // A cast saturates: negative numbers are the first bin.
            let bin = ((value - self.least) * per) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    fn width(&self) -> f32 {
        (self.greatest - self.least) / BINS as f32
    }

    /// The middles of bins that are not empty, with their counts.
    fn filled(&self) -> Vec<(f32, f64)> {
        let width = self.width();
        let each = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        each.map(|(at, n)| (self.least + (at as f32 + 0.5) * width, *n as f64))
            .collect()
    }

    /// The lower end of the first bin up to which this share of all values lies.
    fn below(&self, share: f64) -> f32 {
        let total: u64 = self.counts.iter().sum();
        let wanted = share * total as f64;
        let mut seen = 0.0;
        for (at, n) in self.counts.iter().enumerate() {
            let next = seen + *n as f64;
            if next >= wanted && *n > 0 {
                // Values are taken to lie evenly within their bin.
                let part = ((wanted - seen) / *n as f64).clamp(0.0, 1.0);
                return self.least + (at as f32 + part as f32) * self.width();
            }
            seen = next;
        }
        self.greatest
    }
}

/// What was seen of the activations at one place.
#[derive(Clone, Debug)]
pub struct Seen {
    pub least: f32,
    pub greatest: f32,
    average: Option<(f32, f32)>,
    magnitude: f64,
    count: u64,
    pub histogram: Option<Histogram>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            least: f32::INFINITY,
            greatest: f32::NEG_INFINITY,
            average: None,
            magnitude: 0.0,
            count: 0,
            histogram: None,
        }
    }
}

impl Seen {
    /// Takes in a batch.
    pub fn look(&mut self, values: &[f32]) {
        let mut of_batch = (f32::INFINITY, f32::NEG_INFINITY);
        let mut magnitude = 0.0;
        for value in values {
            of_batch = (of_batch.0.min(*value), of_batch.1.max(*value));
            magnitude += f64::from(value.abs());
        }
        self.least = self.least.min(of_batch.0);
        self.greatest = self.greatest.max(of_batch.1);
        self.average = Some(match self.average {
            None => of_batch,
            Some((least, greatest)) => (
                least + AVERAGING * (of_batch.0 - least),
                greatest + AVERAGING * (of_batch.1 - greatest),
            ),
        });
        self.magnitude += magnitude;
        self.count += values.len() as u64;
    }

    /// The mean of |x|.
    pub fn mean_magnitude(&self) -> f32 {
        (self.magnitude / self.count.max(1) as f64) as f32
    }

    /// An empty histogram for a second look, where the rule needs one.
    pub fn histogram_for(&self, rule: Rule) -> Option<Histogram> {
        let largest = self.greatest.max(-self.least);
        match rule {
            Rule::MinMax | Rule::MovingAverage => None,
            Rule::Percentile(_) | Rule::LeastError => {
                Some(Histogram::new(self.least.min(0.0), self.greatest.max(0.0)))
            }
            Rule::Entropy => Some(Histogram::new(0.0, largest)),
        }
    }

    /// A second look, with a histogram.
    pub fn count(&mut self, rule: Rule, values: &[f32]) {
        if let Some(histogram) = &mut self.histogram {
            if rule == Rule::Entropy {
                let sizes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
                histogram.add(&sizes);
            } else {
                histogram.add(values);
            }
        }
    }

    /// The range for levels of so many bits.
    pub fn range(&self, rule: Rule, bits: u32) -> (f32, f32) {
        if self.count == 0 {
            return (0.0, 0.0);
        }
        let all = (self.least, self.greatest);
        let found = match (rule, &self.histogram) {
            (Rule::MovingAverage, _) => self.average.unwrap_or(all),
            (Rule::Percentile(percent), Some(histogram)) => {
                let share = percent / 100.0;
                (
                    histogram.below(1.0 - share).max(self.least),
                    histogram.below(share).min(self.greatest),
                )
            }
            (Rule::LeastError, Some(histogram)) => {
                least_error(histogram, &|range| asymmetric(range, bits))
            }
            (Rule::Entropy, Some(histogram)) => {
                let threshold = entropy(histogram, 1 << (bits - 1));
                (self.least.max(-threshold), self.greatest.min(threshold))
            }
            _ => all,
        };
        (found.0.min(0.0), found.1.max(0.0))
    }
}

/// Mean squared error of rounding, per value.
fn error(filled: &[(f32, f64)], levels: &Levels) -> f64 {
    filled
        .iter()
        .map(|(x, n)| n * f64::from(levels.simulate(*x) - x).powi(2))
        .sum()
}

/// Ranges tried in each direction in each of two rounds, the second around the first one's best.
const TRIED: usize = 24;

/// The part of a histogram's range with the least squared error.
pub fn least_error(values: &Histogram, levels: &dyn Fn((f32, f32)) -> Levels) -> (f32, f32) {
    let filled = values.filled();
    let (least, greatest) = (values.least.min(0.0), values.greatest.max(0.0));
    let mut best = (f64::INFINITY, (1.0, 1.0));
    let mut spans = [1.0 / TRIED as f32..1.0, 1.0 / TRIED as f32..1.0];
    for _ in 0..2 {
        for low in shares(&spans[0], least != 0.0) {
            for high in shares(&spans[1], greatest != 0.0) {
                let found = error(&filled, &levels((low * least, high * greatest)));
                if found < best.0 {
                    best = (found, (low, high));
                }
            }
        }
        spans = [around(best.1.0), around(best.1.1)];
    }
    (best.1.0 * least, best.1.1 * greatest)
}

/// As [`least_error`], for ranges that reach as far on both sides.
pub fn least_error_around_zero(
    values: &Histogram,
    levels: &dyn Fn((f32, f32)) -> Levels,
) -> (f32, f32) {
    let filled = values.filled();
    let largest = values.greatest.max(-values.least);
    let mut best = (f64::INFINITY, 1.0);
    let mut span = 1.0 / TRIED as f32..1.0;
    for _ in 0..2 {
        for share in shares(&span, true) {
            let found = error(&filled, &levels((-share * largest, share * largest)));
            if found < best.0 {
                best = (found, share);
            }
        }
        span = around(best.1);
    }
    (-best.1 * largest, best.1 * largest)
}

/// Shares of an end's distance from 0, over a span; one where there is no distance.
fn shares(span: &Range<f32>, any: bool) -> impl Iterator<Item = f32> + use<> {
    let (start, length) = (span.start, span.end - span.start);
    let last = if any { TRIED - 1 } else { 0 };
    (0..=last).rev().map(move |at| {
        if last == 0 {
            1.0
        } else {
            start + length * at as f32 / last as f32
        }
    })
}

/// One step of the first round on either side.
fn around(share: f32) -> Range<f32> {
    let step = 1.0 / TRIED as f32;
    (share - step).max(step / 2.0)..(share + step).min(1.0)
}

/// The upper end of the bins 0 to i for which so many levels lose the least information.
fn entropy(histogram: &Histogram, levels: usize) -> f32 {
    let counts = &histogram.counts;
    let mut best = (f64::INFINITY, BINS);
    for kept in FEWEST_BINS.max(levels.min(BINS))..=BINS {
        let found = divergence(counts, kept, levels);
        if found < best.0 {
            best = (found, kept);
        }
    }
    histogram.least + best.1 as f32 * histogram.width()
}

/// KL(P‖Q) of keeping so many bins; infinite where Q is 0 and P is not.
fn divergence(counts: &[u64], kept: usize, levels: usize) -> f64 {
    let outside: u64 = counts[kept..].iter().sum();
    let total: u64 = counts.iter().sum();
    let inside = total - outside;
    let p = |at: usize| {
        let own = counts[at] + if at + 1 == kept { outside } else { 0 };
        own as f64 / total as f64
    };
    let mut sum = 0.0;
    let levels = levels.min(kept);
    for level in 0..levels {
        let bins = kept * level / levels..kept * (level + 1) / levels;
        let filled = bins.clone().filter(|at| counts[*at] > 0).count();
        let merged: u64 = counts[bins.clone()].iter().sum();
        let q = merged as f64 / filled.max(1) as f64 / inside as f64;
        for at in bins {
            let p = p(at);
            if p > 0.0 {
                if counts[at] == 0 {
                    return f64::INFINITY;
                }
                sum += p * (p / q).ln();
            }
        }
    }
    sum
}
