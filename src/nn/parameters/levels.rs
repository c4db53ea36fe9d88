//! The levels of a quantized parameter: the same for all of its values, or others for each output channel.
//!
//! An output channel is a row: the first dimension of PyTorch's layouts, (O, I, k, k) and (out, in). Krishnamoorthi 2018,
//! arXiv:1806.08342, section 3.1.

use candle_core::Tensor;

#[cfg(feature = "cuda")]
use crate::nn::op::cuda::{Engine, at};
use crate::nn::op::fake_quant::{LEAST_SCALE, Levels};
#[cfg(feature = "cuda")]
use crate::nn::op::values;
use crate::nn::op::{read, tensor};
use crate::nn::{Result, invalid};

/// What becomes of levels in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// They stay, and unrounded values are kept within their range.
    #[default]
    Stay,
    /// They are symmetric, and always reach to the largest of the unrounded values.
    Follow,
    /// Their scale is learned, as the parameter `NAME.step`.
    Learn,
}

/// Levels of a parameter: one for all of it, or one for each of its rows.
///
/// While a network is trained on a GPU, the true ones are those that lie there beside the weights, and what is read here is
/// what they began with: `settled` brings it up to date, as duplicating, writing and settling a network do.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLevels {
    rows: Vec<Levels>,
    moves: Moves,
    #[cfg(feature = "cuda")]
    resident: Resident,
}

/// The same numbers on a GPU, if they are there. They belong to the levels of one parameter: a clone has none of its own.
#[cfg(feature = "cuda")]
#[derive(Debug, Default)]
struct Resident(Option<Tensor>);

#[cfg(feature = "cuda")]
impl Clone for Resident {
    fn clone(&self) -> Self {
        Self(None)
    }
}

#[cfg(feature = "cuda")]
impl PartialEq for Resident {
    /// Where numbers lie makes no other levels of them.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl From<Levels> for RowLevels {
    fn from(levels: Levels) -> Self {
        Self::made(vec![levels])
    }
}

impl RowLevels {
    /// Those of each row, or of all.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(levels: Vec<Levels>) -> Result<Self> {
        if levels.is_empty() {
            return Err(invalid("a quantized parameter needs levels"));
        }
        Ok(Self::made(levels))
    }

    fn made(rows: Vec<Levels>) -> Self {
        Self {
            rows,
            moves: Moves::Stay,
            #[cfg(feature = "cuda")]
            resident: Resident::default(),
        }
    }

    /// The same levels, which do that in training.
    #[must_use]
    pub fn moving(self, moves: Moves) -> Self {
        Self { moves, ..self }
    }

    /// What becomes of them in training.
    pub fn moves(&self) -> Moves {
        self.moves
    }

    /// Takes other scales: one for each row.
    pub(crate) fn rescale(&mut self, scales: &[f32]) {
        for (levels, scale) in self.rows.iter_mut().zip(scales) {
            levels.scale = scale.max(LEAST_SCALE);
        }
        #[cfg(feature = "cuda")]
        {
            self.resident = Resident::default();
        }
    }

    /// Where they lie on a GPU, four floats for each row as in [`Self::written`]; from now on those are the true ones.
    #[cfg(feature = "cuda")]
    pub(crate) fn resident(&mut self, engine: &Engine) -> Result<u64> {
        let resident = match &mut self.resident.0 {
            Some(resident) => resident,
            none => {
                let numbers: Vec<f32> = self.rows.iter().flat_map(numbers).collect();
                none.insert(engine.upload(&numbers, &[numbers.len()])?)
            }
        };
        at(resident)
    }

    /// Levels of their own that are true, and none on a GPU; reading them from there waits for all that was asked for.
    pub(crate) fn settled(&self) -> Result<Self> {
        let settled = self.clone();
        #[cfg(feature = "cuda")]
        if let Some(resident) = &self.resident.0 {
            let numbers = values(resident)?;
            let scales = numbers.chunks_exact(4).map(|of| of[0]);
            let rows = settled.rows.iter().zip(scales);
            let rows = rows.map(|(levels, scale)| Levels { scale, ..*levels });
            return Ok(Self {
                rows: rows.collect(),
                ..settled
            });
        }
        Ok(settled)
    }

    pub(super) fn unfit(&self, name: &str, dims: &[usize]) -> candle_core::Error {
        invalid(format!(
            "{name} of shape {dims:?} cannot have {} levels: one for all of it, or one for each output channel",
            self.rows.len()
        ))
    }

    /// One for all, or one for each row.
    pub fn all(&self) -> &[Levels] {
        &self.rows
    }

    /// Those of a row.
    pub fn of(&self, row: usize) -> &Levels {
        &self.rows[if self.rows.len() == 1 { 0 } else { row }]
    }

    /// The levels for all of the parameter, if no row has its own.
    pub fn one(&self) -> Option<&Levels> {
        match self.rows.as_slice() {
            [levels] => Some(levels),
            _ => None,
        }
    }

    /// Whether they fit a parameter of that shape.
    pub fn fit(&self, dims: &[usize]) -> bool {
        self.rows.len() == 1 || dims.first() == Some(&self.rows.len())
    }

    /// Those of some rows, or of all.
    pub(crate) fn rows(&self, kept: Option<&[usize]>) -> Self {
        match kept {
            Some(kept) if self.rows.len() > 1 => Self {
                rows: kept.iter().map(|row| self.rows[*row]).collect(),
                ..self.clone()
            },
            _ => self.clone(),
        }
    }

    /// How many values in a row of `n` values have the same levels.
    pub fn run(&self, n: usize) -> usize {
        (n / self.rows.len()).max(1)
    }

    /// Each value with its levels, row by row.
    pub fn each<'a>(&'a self, values: &'a [f32]) -> impl Iterator<Item = (&'a Levels, f32)> {
        let runs = values.chunks(self.run(values.len()));
        self.rows
            .iter()
            .zip(runs)
            .flat_map(|(levels, run)| run.iter().map(move |value| (levels, *value)))
    }

    /// Moves values, row by row, to the nearest levels.
    pub fn simulate(&self, values: &mut [f32]) {
        let run = self.run(values.len());
        for (levels, run) in self.rows.iter().zip(values.chunks_mut(run)) {
            for value in run {
                *value = levels.simulate(*value);
            }
        }
    }

    /// The integers of values, row by row.
    pub fn quantize(&self, values: &[f32]) -> Vec<i32> {
        self.each(values)
            .map(|(levels, value)| levels.quantize(value))
            .collect()
    }

    /// Bits of one integer: as many as tell all levels apart.
    pub fn bits(&self) -> u32 {
        let count = |levels: &Levels| i64::from(levels.q_max) - i64::from(levels.q_min) + 1;
        let most = self.rows.iter().map(count).max().unwrap_or(1).max(2);
        (most - 1).ilog2() + 1
    }

    /// Four floats each: scale, zero point, least and greatest integer. Integers of more than 24 bits, of which only the
    /// largest are used, come back saturated.
    pub(super) fn written(&self) -> Result<Tensor> {
        let numbers = self.rows.iter().flat_map(numbers);
        let shape = match self.rows.len() {
            1 => vec![4],
            rows => vec![rows, 4],
        };
        tensor(numbers.collect(), &shape)
    }

    /// From what [`Self::written`] made, for a parameter of that shape.
    pub(super) fn read(numbers: &Tensor, dims: &[usize]) -> Result<Self> {
        let numbers = read(numbers)?;
        let (rows, rest) = numbers.as_chunks::<4>();
        let levels = rows
            .iter()
            .map(|&[scale, zero_point, q_min, q_max]| Levels {
                scale,
                zero_point: zero_point as i32,
                q_min: q_min as i32,
                q_max: q_max as i32,
            });
        let levels = Self::new(levels.collect())?;
        if rest.is_empty() && levels.fit(dims) {
            return Ok(levels);
        }
        Err(invalid(
            "levels are four numbers, or four for each output channel",
        ))
    }
}

fn numbers(levels: &Levels) -> [f32; 4] {
    let [zero_point, q_min, q_max] =
        [levels.zero_point, levels.q_min, levels.q_max].map(|integer| integer as f32);
    [levels.scale, zero_point, q_min, q_max]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(scale: f32, q_max: i32) -> Levels {
        Levels {
            scale,
            zero_point: 0,
            q_min: -q_max,
            q_max,
        }
    }

    #[test]
    fn each_row_is_rounded_to_its_own_levels() {
        let rows = RowLevels::new(vec![levels(1.0, 7), levels(0.25, 7)]).unwrap();
        assert!(rows.fit(&[2, 3]) && !rows.fit(&[3, 2]) && rows.one().is_none());
        let mut values = [0.4, 1.6, 9.0, 0.4, 1.6, 9.0];
        assert_eq!(rows.quantize(&values), [0, 2, 7, 2, 6, 7]);
        rows.simulate(&mut values);
        assert_eq!(values, [0.0, 2.0, 7.0, 0.5, 1.5, 1.75]);
        let again = RowLevels::read(&rows.written().unwrap(), &[2, 3]).unwrap();
        assert_eq!(again, rows);
        assert!(RowLevels::read(&rows.written().unwrap(), &[3, 2]).is_err());
        let one = RowLevels::from(levels(1.0, 7));
        assert_eq!(one.written().unwrap().dims(), [4]);
        assert_eq!(one.of(5), one.one().unwrap());
    }

    /// By hand: 3 ternary levels take 2 bits, 15 take 4, 255 and 256 take 8, 65535 take 16.
    #[test]
    fn bits_tell_all_levels_apart() {
        let bits = |q_min, q_max| {
            RowLevels::from(Levels {
                q_min,
                ..levels(1.0, q_max)
            })
            .bits()
        };
        assert_eq!([bits(-1, 1), bits(-7, 7), bits(-127, 127)], [2, 4, 8]);
        assert_eq!(
            [bits(-128, 127), bits(0, 255), bits(-32_767, 32_767)],
            [8, 8, 16]
        );
        assert_eq!(bits(i32::MIN, i32::MAX), 32);
    }
}
