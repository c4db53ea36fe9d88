//! Parameters in as few bytes as they need: a safetensors file in which each tensor has the cheapest of several forms.
//!
//! Values are 32-bit floats, or integers of 2 to 16 bits where they lie on levels, and are laid out
//!
//! - dense: every value;
//! - by a bitmask: one bit for each value, then those that are not 0;
//! - by rows: for each row of the first dimension, and one more, the number of values before it (32 bits each), then the
//!   columns (8, 16 or 32 bits, as many as a row needs), then the values that are not 0.
//!
//! Bits begin with the lowest of each byte, and numbers with their lowest byte. An integer is stored as its distance from
//! the least level of its row.
//!
//! Dense floats are a tensor of floats, as in any safetensors file. Everything else is a tensor of bytes, and the file's
//! metadata say in JSON, under `packed`, what it is: `{"tensors": {"conv1.weight": {"shape": [32, 1, 5, 5], "layout":
//! "bitmask", "bits": 4}}}`. `NAME.scales`
//! are the scales of levels, whose zero point, least and greatest integer stand in the metadata if all rows share them, and
//! else are `NAME.levels`, three 32-bit integers a row. A mask is one bit for each value in `NAME.mask`, and left out
//! where it hides just what is 0.
//! What is read back is what was written, bit for bit.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{Parameter, Parameters, RowLevels, mask_name, settled};
use crate::nn::op::fake_quant::Levels;
use crate::nn::op::{beside, set_values, values};
use crate::nn::{Result, invalid};

mod layout;
mod unpack;

use layout::Laid;
pub use layout::Layout;
use unpack::unpack;

/// What the metadata say of a parameter.
#[derive(Debug, Serialize, Deserialize)]
struct Described {
    shape: Vec<usize>,
    layout: Layout,
    /// Of each value; floats without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
    /// Zero point, least and greatest integer of all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    levels: Option<[i32; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<Mask>,
}

/// Where a mask is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mask {
    /// It hides the values that are 0.
    Zeros,
    /// In a tensor of its own.
    Apart,
}

/// The form of one parameter, and the bytes it takes without names and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub layout: Layout,
    /// Of each value: 32 for floats.
    pub bits: u32,
    /// Values, positions, scales and a mask.
    pub bytes: u64,
}

/// A tensor of the file.
struct Written {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn scales_name(name: &str) -> String {
    format!("{name}.scales")
}

fn levels_name(name: &str) -> String {
    format!("{name}.levels")
}

/// The metadata's one entry: several would be written in another order every time.
const PACKED: &str = "packed";

/// What that entry holds, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Header {
    /// How each tensor is laid out, those of floats left out.
    #[serde(default)]
    tensors: BTreeMap<String, Described>,
    /// The graph, where the file holds a whole network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<serde_json::Value>,
}

/// A file's header; an empty one where a safetensors file has none.
fn header(bytes: &[u8]) -> Result<Header> {
    let unreadable = |error: &dyn std::fmt::Display| {
        invalid(format!("the weights are no readable packed file: {error}"))
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| unreadable(&error))?;
    let metadata = metadata.metadata().as_ref();
    match metadata.and_then(|metadata| metadata.get(PACKED)) {
        Some(words) => serde_json::from_str(words).map_err(|error| unreadable(&error)),
        None => Ok(Header::default()),
    }
}

/// The graph of the network that a file holds as a whole.
///
/// # Errors
/// When it is no safetensors file.
pub(in crate::nn) fn network(bytes: &[u8]) -> Result<Option<serde_json::Value>> {
    Ok(header(bytes)?.network)
}

/// The most bits of an integer that is packed.
const MOST_BITS: u32 = 16;

impl Parameters {
    /// The parameters as a file in which every tensor has its cheapest form.
    ///
    /// # Errors
    /// When they lie on a GPU that does not answer.
    pub fn to_packed(&self) -> Result<Vec<u8>> {
        self.to_packed_with(None)
    }

    /// The same with the graph of the network whose they are.
    pub(in crate::nn) fn to_packed_with(
        &self,
        network: Option<serde_json::Value>,
    ) -> Result<Vec<u8>> {
        let (mut descriptions, mut tensors) = (BTreeMap::new(), Vec::new());
        for parameter in &self.0 {
            let packed = pack(parameter)?;
            if let Some(described) = packed.described {
                descriptions.insert(parameter.name.clone(), described);
            }
            tensors.extend(packed.tensors);
        }
        let header = Header {
            tensors: descriptions,
            network,
        };
        let words = serde_json::to_string(&header).map_err(unwritten)?;
        let metadata = HashMap::from([(PACKED.to_owned(), words)]);
        let views = tensors
            .iter()
            .map(|t| {
                Ok((
                    &t.name,
                    TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?,
                ))
            })
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
        views
            .and_then(|views| safetensors::serialize(views, Some(metadata)))
            .map_err(unwritten)
    }

    /// The form of each parameter in such a file, by name and in order.
    ///
    /// # Errors
    /// Likewise.
    pub fn forms(&self) -> Result<Vec<(&str, Form)>> {
        let form = |parameter| Ok((parameter_name(parameter), pack(parameter)?.form));
        self.0.iter().map(form).collect()
    }

    /// Replaces all values, masks and levels by those of a file that [`Parameters::to_packed`] wrote; names and shapes must
    /// all match.
    ///
    /// # Errors
    /// When the file cannot be read, or holds other parameters: every one of them is named, and nothing is replaced.
    pub fn load_packed(&mut self, bytes: &[u8]) -> Result<()> {
        let unreadable = |error: &dyn std::fmt::Display| {
            invalid(format!("the weights are no readable packed file: {error}"))
        };
        let file = SafeTensors::deserialize(bytes).map_err(|error| unreadable(&error))?;
        let descriptions = header(bytes)?.tensors;
        let (mut loaded, mut wrong) = (Vec::new(), Vec::new());
        let mut unknown: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
        for parameter in &self.0 {
            let name = &parameter.name;
            let own = [
                name.clone(),
                scales_name(name),
                levels_name(name),
                mask_name(name),
            ];
            unknown.retain(|name| !own.contains(name));
            match unpack(parameter, &file, descriptions.get(name)) {
                Ok(unpacked) => loaded.push(unpacked),
                Err(error) => wrong.push(format!("{name} {error}")),
            }
        }
        unknown.sort();
        wrong.extend(unknown.into_iter().map(|name| format!("{name} is unknown")));
        if !wrong.is_empty() {
            return Err(invalid(format!(
                "the weights do not fit the network: {}",
                wrong.join(", ")
            )));
        }
        for (parameter, unpacked) in self.0.iter_mut().zip(loaded) {
            set_values(&parameter.value, &unpacked.values)?;
            let mask = unpacked.mask.map(|mask| beside(&parameter.value, &mask));
            parameter.mask = mask.transpose()?;
            parameter.levels = unpacked.levels;
        }
        Ok(())
    }
}

fn parameter_name(parameter: &Parameter) -> &str {
    &parameter.name
}

fn unwritten(error: impl std::fmt::Display) -> candle_core::Error {
    invalid(format!("the weights cannot be written: {error}"))
}

/// A parameter in its cheapest form.
struct Packed {
    form: Form,
    /// Nothing of dense floats.
    described: Option<Described>,
    tensors: Vec<Written>,
}

fn pack(parameter: &Parameter) -> Result<Packed> {
    let (name, shape) = (&parameter.name, parameter.value.dims().to_vec());
    let own = values(&parameter.value)?;
    let rows = shape.first().copied().unwrap_or(1).max(1);
    let levels = settled(parameter)?;
    let integers = levels
        .as_ref()
        .filter(|levels| levels.bits() <= MOST_BITS)
        .and_then(|levels| integers(levels, &own));
    let (bits, words) = match &integers {
        Some(words) => (levels.as_ref().map(RowLevels::bits), words.clone()),
        None => (None, own.iter().map(|value| value.to_bits()).collect()),
    };
    let is_zero: Vec<bool> = own.iter().map(|value| value.to_bits() == 0).collect();
    let laid = Laid::cheapest(&words, &is_zero, rows, bits.unwrap_or(32));
    let mut tensors = Vec::new();
    let tensor = |name: String, dtype, shape, bytes| Written {
        name,
        dtype,
        shape,
        bytes,
    };
    let floats = laid.layout == Layout::Dense && bits.is_none();
    let (dtype, stored_shape) = if floats {
        (Dtype::F32, shape.clone())
    } else {
        (Dtype::U8, vec![laid.bytes.len()])
    };
    let layout = laid.layout;
    tensors.push(tensor(name.clone(), dtype, stored_shape, laid.bytes));
    let mut shared = None;
    if let Some(levels) = &levels {
        let all = levels.all();
        let of = |levels: &Levels| [levels.zero_point, levels.q_min, levels.q_max];
        let scales = all.iter().flat_map(|levels| levels.scale.to_le_bytes());
        let (scales, count) = (scales.collect(), vec![all.len()]);
        tensors.push(tensor(scales_name(name), Dtype::F32, count, scales));
        shared = Some(of(&all[0])).filter(|first| all.iter().all(|levels| of(levels) == *first));
        if shared.is_none() {
            let numbers = all.iter().flat_map(of).flat_map(i32::to_le_bytes);
            let shape = vec![all.len(), 3];
            tensors.push(tensor(
                levels_name(name),
                Dtype::I32,
                shape,
                numbers.collect(),
            ));
        }
    }
    let mask = match &parameter.mask {
        None => None,
        Some(mask) => {
            let mask: Vec<bool> = values(mask)?.iter().map(|m| *m != 0.0).collect();
            let hides_zeros = mask.iter().zip(&is_zero).all(|(kept, zero)| kept != zero);
            if hides_zeros {
                Some(Mask::Zeros)
            } else {
                let bytes = layout::bits_of(&mask);
                tensors.push(tensor(mask_name(name), Dtype::U8, vec![bytes.len()], bytes));
                Some(Mask::Apart)
            }
        }
    };
    let form = Form {
        layout,
        bits: bits.unwrap_or(32),
        bytes: tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum(),
    };
    let described = Described {
        shape,
        layout,
        bits,
        levels: shared,
        mask,
    };
    let plain = floats && mask.is_none() && levels.is_none();
    Ok(Packed {
        form,
        described: (!plain).then_some(described),
        tensors,
    })
}

/// Distances from the least levels, if every value is one of its row's levels to the bit.
fn integers(levels: &RowLevels, values: &[f32]) -> Option<Vec<u32>> {
    let integer = |(levels, value): (&Levels, f32)| {
        let q = levels.quantize(value);
        let same = levels.dequantize(q).to_bits() == value.to_bits();
        same.then(|| (i64::from(q) - i64::from(levels.q_min)) as u32)
    };
    levels.each(values).map(integer).collect()
}
