//! A parameter out of a packed file.

use safetensors::{Dtype, SafeTensors};

use super::layout::{self, Layout};
use super::{Described, Mask, levels_name, scales_name};
use crate::nn::op::fake_quant::Levels;
use crate::nn::parameters::{Parameter, RowLevels, mask_name};

/// A parameter as it was.
pub(super) struct Unpacked {
    pub(super) values: Vec<f32>,
    pub(super) mask: Option<Vec<f32>>,
    pub(super) levels: Option<RowLevels>,
}

/// What is wrong with it, to be said behind its name.
pub(super) fn unpack(
    parameter: &Parameter,
    file: &SafeTensors<'_>,
    described: Option<&Described>,
) -> std::result::Result<Unpacked, String> {
    let name = &parameter.name;
    let dims = parameter.value.dims();
    let bytes = |name: &str, dtype: Dtype| match file.tensor(name) {
        Err(_) => Err(format!("lacks {name}")),
        Ok(view) if view.dtype() != dtype => Err(format!(
            "has {:?} instead of {dtype:?} in {name}",
            view.dtype()
        )),
        Ok(view) => Ok(view.data()),
    };
    let fits = |shape: &[usize]| {
        let wrong = || format!("is {shape:?} instead of {dims:?}");
        (shape == dims).then_some(()).ok_or_else(wrong)
    };
    let view = file
        .tensor(name)
        .map_err(|_| format!("{dims:?} is missing"))?;
    let Some(described) = described else {
        fits(view.shape())?;
        let floats = bytes(name, Dtype::F32)?.as_chunks().0.iter().copied();
        return Ok(Unpacked {
            values: floats.map(f32::from_le_bytes).collect(),
            mask: None,
            levels: None,
        });
    };
    fits(&described.shape)?;
    let levels = match file.tensor(&scales_name(name)) {
        Err(_) => None,
        Ok(_) => Some(levels(name, dims, described.levels, &bytes)?),
    };
    let bits = described.bits.unwrap_or(32);
    if !(1..=32).contains(&bits) || (bits < 32) && levels.as_ref().is_none_or(|of| of.bits() > bits)
    {
        return Err(format!("has values of {bits} bits without levels for them"));
    }
    let dtype = match (described.layout, described.bits) {
        (Layout::Dense, None) => Dtype::F32,
        _ => Dtype::U8,
    };
    let n = parameter.value.elem_count();
    let rows = dims.first().copied().unwrap_or(1).max(1);
    let words = layout::read(described.layout, bytes(name, dtype)?, n, rows, bits)?;
    let values: Vec<f32> = match (&levels, described.bits) {
        (Some(levels), Some(_)) => {
            let run = levels.run(n);
            let value = |(at, word): (usize, Option<u32>)| {
                let of = levels.of(at / run);
                word.map_or(0.0, |word| {
                    of.dequantize((i64::from(of.q_min) + i64::from(word)) as i32)
                })
            };
            words.into_iter().enumerate().map(value).collect()
        }
        _ => words
            .into_iter()
            .map(|word| f32::from_bits(word.unwrap_or_default()))
            .collect(),
    };
    let mask = match described.mask {
        None => None,
        Some(Mask::Zeros) => Some(
            values
                .iter()
                .map(|value| f32::from(u8::from(value.to_bits() != 0)))
                .collect(),
        ),
        Some(Mask::Apart) => {
            let kept = layout::bits_from(bytes(&mask_name(name), Dtype::U8)?, n)?;
            Some(
                kept.into_iter()
                    .map(|kept| f32::from(u8::from(kept)))
                    .collect(),
            )
        }
    };
    Ok(Unpacked {
        values,
        mask,
        levels,
    })
}

/// The levels of a parameter of that name and shape.
fn levels<'a>(
    name: &str,
    dims: &[usize],
    shared: Option<[i32; 3]>,
    bytes: &impl Fn(&str, Dtype) -> std::result::Result<&'a [u8], String>,
) -> std::result::Result<RowLevels, String> {
    let scales = bytes(&scales_name(name), Dtype::F32)?.as_chunks().0;
    let own: Vec<[i32; 3]> = match shared {
        Some(shared) => vec![shared; scales.len()],
        None => {
            let numbers = bytes(&levels_name(name), Dtype::I32)?.as_chunks().0;
            let numbers: Vec<i32> = numbers.iter().map(|b| i32::from_le_bytes(*b)).collect();
            numbers.as_chunks().0.to_vec()
        }
    };
    let of = |(scale, [zero_point, q_min, q_max]): (&[u8; 4], &[i32; 3])| Levels {
        scale: f32::from_le_bytes(*scale),
        zero_point: *zero_point,
        q_min: *q_min,
        q_max: *q_max,
    };
    let all: Vec<Levels> = scales.iter().zip(&own).map(of).collect();
    let sensible = |of: &Levels| {
        of.scale > 0.0 && of.scale.is_finite() && (of.q_min..=of.q_max).contains(&of.zero_point)
    };
    if all.len() != own.len() || !all.iter().all(sensible) {
        return Err("has levels that are none".to_owned());
    }
    let levels = RowLevels::new(all).map_err(|error| format!("has no levels: {error}"))?;
    let count = levels.all().len();
    let unfit = || format!("has {count} levels for a shape of {dims:?}");
    levels.fit(dims).then_some(levels).ok_or_else(unfit)
}
