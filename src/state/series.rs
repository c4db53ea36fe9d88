//! A curve in bounded memory: a streaming pyramid of blocks that keeps every extreme, and its smooth line.
//!
//! A block summarizes consecutive samples by first, least, greatest and last value, sum, and how many were not finite
//! (M4 of Jugel et al. 2014, "M4: A Visualization-Oriented Time Series Data Aggregation", doi:10.14778/2732951.2732953,
//! with a sum). Level k of the pyramid holds one block for 2^k of the lowest level. A window is cut into columns, and
//! each column is put together from O(log n) blocks, so a spike of a single sample is seen at any zoom.
//!
//! The smooth line is an exponential moving average without the bias of its start, s_t = m_t / (1 - w^t) with
//! m_t = w·m_{t-1} + (1 - w)·y_t (Kingma & Ba 2015, arXiv:1412.6980, section 3), computed once when a sample arrives.
//! t counts optimizer steps: a sample over k steps is k steps of its mean, m_t = w^k·m_{t-k} + (1 - w^k)·y.
//! It therefore depends neither on the length of the run nor on how steps were put together, nor on the zoom. Values that are not finite break the line,
//! are counted, and change neither extremes nor average.

use super::chunks::Chunks;

/// Blocks in the lowest level before pairs of them become one.
/// Some twenty times the columns of a wide terminal, and below 3 MiB with all levels.
const MOST: usize = 1 << 14;

/// How smooth a line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Smoothing {
    /// The values as they are.
    Off,
    /// Weight 0.6.
    Light,
    /// Weight 0.9.
    #[default]
    Medium,
    /// Weight 0.99.
    Heavy,
}

impl Smoothing {
    /// All of them, from rough to smooth.
    pub const ALL: [Self; 4] = [Self::Off, Self::Light, Self::Medium, Self::Heavy];

    /// The share of the past in each new value.
    pub fn weight(self) -> f64 {
        match self {
            Self::Off => 0.0,
            Self::Light => 0.6,
            Self::Medium => 0.9,
            Self::Heavy => 0.99,
        }
    }
}

/// One record of training, as a sample of the curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Number of the last step.
    pub last: u64,
    /// How many steps it is over.
    pub steps: u32,
    pub mean: f64,
    pub min: f64,
    pub max: f64,
}

/// Consecutive samples in short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// First and last step.
    pub from: u64,
    pub to: u64,
    /// Of the finite samples' means: the first, the last and the sum. Zero if there is none.
    pub first: f64,
    pub last: f64,
    pub sum: f64,
    /// The least and the greatest value of any single step. Zero if no sample is finite.
    pub min: f64,
    pub max: f64,
    /// How many samples were finite, and how many were not.
    pub count: u64,
    pub not_finite: u64,
    /// Steps of the finite samples.
    steps: u64,
    /// The smooth line after the last finite sample, for the weights of [`Smoothing::ALL`] but the first.
    smooth: [f64; 3],
}

impl Block {
    fn new(sample: Sample) -> Self {
        let is_finite = sample.mean.is_finite() && sample.min.is_finite() && sample.max.is_finite();
        let keep = |value: f64| if is_finite { value } else { 0.0 };
        Self {
            from: sample
                .last
                .saturating_sub(u64::from(sample.steps.saturating_sub(1))),
            to: sample.last,
            first: keep(sample.mean),
            last: keep(sample.mean),
            sum: keep(sample.mean),
            min: keep(sample.min.min(sample.mean)),
            max: keep(sample.max.max(sample.mean)),
            count: u64::from(is_finite),
            not_finite: u64::from(!is_finite),
            steps: if is_finite {
                u64::from(sample.steps.max(1))
            } else {
                0
            },
            smooth: [0.0; 3],
        }
    }

    /// This block and the next one as one.
    fn then(self, next: Self) -> Self {
        let counts = Self {
            from: self.from,
            to: next.to,
            count: self.count + next.count,
            not_finite: self.not_finite + next.not_finite,
            steps: self.steps + next.steps,
            ..self
        };
        match (self.count, next.count) {
            (_, 0) => counts,
            (0, _) => Self {
                from: counts.from,
                count: counts.count,
                not_finite: counts.not_finite,
                steps: counts.steps,
                ..next
            },
            _ => Self {
                last: next.last,
                sum: self.sum + next.sum,
                min: self.min.min(next.min),
                max: self.max.max(next.max),
                smooth: next.smooth,
                ..counts
            },
        }
    }

    /// The mean of the finite samples.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The line at the end of this block.
    pub fn smooth(&self, smoothing: Smoothing) -> Option<f64> {
        (self.count > 0).then(|| match smoothing {
            Smoothing::Off => self.last,
            Smoothing::Light => self.smooth[0],
            Smoothing::Medium => self.smooth[1],
            Smoothing::Heavy => self.smooth[2],
        })
    }
}

/// A curve over optimizer steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// `levels[k]` holds blocks of `samples_per_block * 2^k` samples.
    levels: Vec<Chunks<Block>>,
    samples_per_block: u64,
    /// The block that is not yet full, and how many samples it has.
    open: Option<(Block, u64)>,
    average: Average,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            samples_per_block: 1,
            open: None,
            average: Average::default(),
        }
    }
}

impl Series {
    /// Adds a sample behind the others.
    pub fn push(&mut self, sample: Sample) {
        let mut block = Block::new(sample);
        if block.count > 0 {
            block.smooth = self.average.push(block.last, block.steps);
        }
        let (block, samples) = match self.open.take() {
            Some((open, samples)) => (open.then(block), samples + 1),
            None => (block, 1),
        };
        if samples < self.samples_per_block {
            self.open = Some((block, samples));
            return;
        }
        self.close(block);
        if self.levels[0].len() == MOST {
            // The level above has the same blocks in pairs.
            self.levels.remove(0);
            self.samples_per_block *= 2;
        }
    }

    fn close(&mut self, mut block: Block) {
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Chunks::default());
            }
            let before = self.levels[level].last().copied();
            self.levels[level].push(block);
            match before {
                Some(before) if self.levels[level].len().is_multiple_of(2) => {
                    block = before.then(block);
                }
                _ => return,
            }
        }
    }

    /// Forgets all samples that end at this step or behind it.
    pub fn truncate(&mut self, step: u64) {
        if self.latest().is_none_or(|block| block.to < step) {
            return;
        }
        if self.open.is_some_and(|(block, _)| block.to >= step) {
            self.open = None;
        }
        let keep = self
            .levels
            .first()
            .map_or(0, |level| level.partition_point(|block| block.to < step));
        for (k, level) in self.levels.iter_mut().enumerate() {
            level.truncate(keep >> k);
        }
        self.levels.retain(|level| level.len() > 0);
        let all = self.window(0, u64::MAX);
        self.average = Average::after(all);
    }

    /// How many samples there are, finite or not.
    pub fn samples(&self) -> u64 {
        self.window(0, u64::MAX)
            .map_or(0, |all| all.count + all.not_finite)
    }

    /// How many samples were not finite.
    pub fn not_finite(&self) -> u64 {
        self.window(0, u64::MAX).map_or(0, |all| all.not_finite)
    }

    pub fn is_empty(&self) -> bool {
        self.latest().is_none()
    }

    /// The last block, which may hold several samples in a long run.
    pub fn latest(&self) -> Option<Block> {
        self.open
            .map(|(block, _)| block)
            .or_else(|| self.levels.first()?.last().copied())
    }

    /// First and last step.
    pub fn steps(&self) -> Option<(u64, u64)> {
        self.window(0, u64::MAX).map(|all| (all.from, all.to))
    }

    /// All samples that end within these steps, both included, as one block.
    pub fn window(&self, from: u64, to: u64) -> Option<Block> {
        let open = self
            .open
            .map(|(block, _)| block)
            .filter(|block| (from..=to).contains(&block.to));
        let closed = self.levels.first().and_then(|lowest| {
            let low = lowest.partition_point(|block| block.to < from);
            let high = lowest.partition_point(|block| block.to <= to);
            self.merged(low, high)
        });
        join(closed, open)
    }

    /// The window of these steps, both included, cut into columns of equal width.
    ///
    /// A sample belongs to the column in which its last step lies.
    pub fn columns(&self, from: u64, to: u64, columns: usize) -> Vec<Option<Block>> {
        if to < from {
            return vec![None; columns];
        }
        let width = u128::from(to - from) + 1;
        let start = |column: usize| {
            // Rounded up, so that narrow windows give each step to one column.
            let offset = (column as u128 * width).div_ceil(columns as u128);
            from + offset as u64
        };
        (0..columns)
            .map(|column| {
                let begin = start(column);
                let next = if column + 1 == columns {
                    return self.window(begin, to);
                } else {
                    start(column + 1)
                };
                if next > begin {
                    self.window(begin, next - 1)
                } else {
                    None
                }
            })
            .collect()
    }

    /// Blocks `low..high` of the lowest level as one, from as few blocks of all levels as possible.
    fn merged(&self, mut low: usize, mut high: usize) -> Option<Block> {
        let (mut left, mut right) = (None, None);
        for level in &self.levels {
            if low >= high {
                break;
            }
            if low % 2 == 1 {
                left = join(left, level.get(low).copied());
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                right = join(level.get(high).copied(), right);
            }
            low /= 2;
            high /= 2;
        }
        join(left, right)
    }
}

fn join(left: Option<Block>, right: Option<Block>) -> Option<Block> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.then(right)),
        (one, other) => one.or(other),
    }
}

/// The moving averages while samples arrive.
#[derive(Clone, Debug, Default, PartialEq)]
struct Average {
    /// m_t for each weight.
    biased: [f64; 3],
    /// t: steps of the finite samples so far.
    steps: u64,
}

impl Average {
    /// s_t for each weight.
    fn push(&mut self, value: f64, steps: u64) -> [f64; 3] {
        self.steps += steps;
        std::array::from_fn(|i| {
            let weight = Smoothing::ALL[i + 1].weight();
            let new = share(weight, steps);
            self.biased[i] = (1.0 - new) * self.biased[i] + new * value;
            self.biased[i] / share(weight, self.steps)
        })
    }

    /// As it stood when all there is had arrived.
    fn after(all: Option<Block>) -> Self {
        all.map_or_else(Self::default, |all| Self {
            biased: std::array::from_fn(|i| {
                all.smooth[i] * share(Smoothing::ALL[i + 1].weight(), all.steps)
            }),
            steps: all.steps,
        })
    }
}

/// 1 - w^t: how much of the average is not the zero at its start.
fn share(weight: f64, steps: u64) -> f64 {
    1.0 - weight.powf(steps as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(last: u64, value: f64) -> Sample {
        Sample {
            last,
            steps: 1,
            mean: value,
            min: value,
            max: value,
        }
    }

    fn series(values: &[f64]) -> Series {
        let mut series = Series::default();
        for (step, value) in (1..).zip(values) {
            series.push(sample(step, *value));
        }
        series
    }

    /// Put together sample by sample, as slowly as can be.
    fn naive(values: &[f64], from: u64, to: u64) -> Option<(f64, f64, f64, f64, u64, u64)> {
        let inside: Vec<f64> = (1..)
            .zip(values)
            .filter(|(step, _)| (from..=to).contains(step))
            .map(|(_, value)| *value)
            .collect();
        let finite: Vec<f64> = inside
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .collect();
        (!inside.is_empty()).then(|| {
            (
                finite.first().copied().unwrap_or(0.0),
                finite.last().copied().unwrap_or(0.0),
                finite.iter().copied().reduce(f64::min).unwrap_or(0.0),
                finite.iter().copied().reduce(f64::max).unwrap_or(0.0),
                finite.len() as u64,
                (inside.len() - finite.len()) as u64,
            )
        })
    }

    fn facts(block: Block) -> (f64, f64, f64, f64, u64, u64) {
        (
            block.first,
            block.last,
            block.min,
            block.max,
            block.count,
            block.not_finite,
        )
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![9 => -5.0..5.0, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Every column holds exactly its samples, so that every local extreme survives at any zoom.
        #[test]
        fn columns_hold_every_extreme(
            values in prop::collection::vec(value(), 1..600),
            from in 0_u64..700,
            width in 1_u64..700,
            columns in 1_usize..300,
        ) {
            let to = from + width - 1;
            let drawn = series(&values).columns(from, to, columns);
            prop_assert_eq!(drawn.len(), columns);
            let whole = drawn.iter().flatten().copied().reduce(Block::then).map(facts);
            prop_assert_eq!(whole, naive(&values, from, to));
            let mut last = 0;
            for block in drawn.into_iter().flatten() {
                prop_assert!(block.from > last, "columns do not overlap");
                last = block.to;
                prop_assert_eq!(Some(facts(block)), naive(&values, block.from, block.to));
            }
        }

        /// Forgetting the end leaves what was there before the end came.
        #[test]
        fn a_truncated_series_is_the_series_of_its_beginning(
            values in prop::collection::vec(value(), 0..600),
            step in 1_u64..700,
        ) {
            let mut long = series(&values);
            long.truncate(step);
            let short = series(&values[..values.len().min(step as usize - 1)]);
            prop_assert_eq!(&long.levels, &short.levels);
            prop_assert_eq!(long.average.steps, short.average.steps);
            for (a, b) in long.average.biased.iter().zip(short.average.biased) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_a_spike_survives() {
        let mut long = Series::default();
        let (steps, spike) = (1_000_000_u64, 123_457_u64);
        for step in 1..=steps {
            long.push(sample(
                step,
                if step == spike {
                    9.0
                } else {
                    (step % 7) as f64
                },
            ));
        }
        assert!(long.levels[0].len() < MOST);
        assert_eq!(long.samples(), steps);
        assert_eq!(long.steps(), Some((1, steps)));
        for columns in [1, 7, 200, 400] {
            let high: Vec<Block> = long
                .columns(1, steps, columns)
                .into_iter()
                .flatten()
                .filter(|block| block.max == 9.0)
                .collect();
            assert_eq!(high.len(), 1, "{columns} columns");
            assert!(high[0].from <= spike && spike <= high[0].to);
        }
    }

    #[test]
    fn the_smooth_line_depends_neither_on_length_nor_on_zoom() {
        let values: Vec<f64> = (1..=40_000_u32)
            .map(|step| f64::from(step % 97) / 10.0)
            .collect();
        let long = series(&values);
        assert_eq!(long.samples_per_block, 4);
        for steps in [4, 100, 16_384, 20_000] {
            let short = series(&values[..steps]).latest().unwrap();
            let there = long.window(1, steps as u64).unwrap();
            for smoothing in Smoothing::ALL {
                assert_eq!(
                    there.smooth(smoothing),
                    short.smooth(smoothing),
                    "step {steps}"
                );
            }
        }
    }

    /// Worked by hand with weight 0.6: m = 0.4, 0.4·0.6 + 0.4·2 = 1.04; s = 0.4 / 0.4, 1.04 / 0.64.
    #[test]
    fn the_average_has_no_bias_at_its_start_and_passes_over_nan() {
        let with_nan = series(&[1.0, f64::NAN, 2.0]);
        let smooth = with_nan.latest().unwrap().smooth(Smoothing::Light).unwrap();
        assert!((smooth - 1.625).abs() < 1e-12);
        let constant = series(&[0.3; 50]).latest().unwrap();
        for smoothing in Smoothing::ALL {
            assert!((constant.smooth(smoothing).unwrap() - 0.3).abs() < 1e-12);
        }
        assert_eq!(
            series(&[f64::NAN]).latest().unwrap().smooth(Smoothing::Off),
            None
        );
    }

    /// Worked by hand with weight 0.6: two steps of 1, m = 0.64; one of 2, m = 0.6·0.64 + 0.4·2 = 1.184, over 0.784.
    #[test]
    fn a_sample_of_several_steps_weighs_as_much_as_they_would() {
        let mut together = Series::default();
        for (last, steps, mean) in [(2, 2, 1.0), (3, 1, 2.0)] {
            together.push(Sample {
                steps,
                ..sample(last, mean)
            });
        }
        let single = series(&[1.0, 1.0, 2.0]).latest().unwrap();
        let together = together.latest().unwrap();
        for smoothing in Smoothing::ALL {
            let (a, b) = (together.smooth(smoothing), single.smooth(smoothing));
            assert!((a.unwrap() - b.unwrap()).abs() < 1e-12);
        }
        assert!((together.smooth(Smoothing::Light).unwrap() - 1.184 / 0.784).abs() < 1e-12);
    }

    #[test]
    fn blocks_know_the_extremes_of_single_steps() {
        let mut series = Series::default();
        series.push(Sample {
            last: 10,
            steps: 10,
            mean: 1.0,
            min: 0.5,
            max: 4.0,
        });
        let block = series.window(0, 10).unwrap();
        assert_eq!(
            (block.from, block.to, block.min, block.max),
            (1, 10, 0.5, 4.0)
        );
        assert_eq!(series.window(1, 9), None);
        assert_eq!(series.columns(5, 3, 2), [None, None]);
        assert_eq!(series.columns(0, u64::MAX, 3)[0], Some(block));
    }
}
