//! Named parameters in a fixed order, and their safetensors.
//!
//! A mask is a tensor of zeros and ones that a pruned parameter carries along: what it zeroes stays 0 in training.
//! Levels are those of an integer that a quantized parameter carries along: its values lie on them, in training too.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::op::{beside, set_values, values};
use super::{Result, invalid};

mod levels;
pub mod packed;
pub mod pretrained;

pub use levels::{Moves, RowLevels};

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterRole {
    /// Of a convolution or a linear layer.
    Weight,
    /// Added to their results.
    Bias,
    /// γ of a batch normalization.
    Scale,
    /// β of a batch normalization.
    Shift,
    /// Not learnt but measured: a batch normalization's mean in use.
    RunningMean,
    /// Likewise its variance.
    RunningVariance,
    /// The distance between two levels while it is learned.
    Step,
}

impl ParameterRole {
    /// Whether gradients change it; what is measured is kept beside the parameters and is none.
    pub fn trains(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }

    /// Whether weight decay pulls it: weights alone.
    pub fn decays(self) -> bool {
        self == Self::Weight
    }
}

/// One parameter of a network.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The layer's name and what it is there: `conv1.weight`.
    pub name: String,
    pub role: ParameterRole,
    /// A clone shares its memory, and training changes it in place: copy what should stay.
    pub value: Tensor,
    /// Zeros and ones of the value's shape.
    pub mask: Option<Tensor>,
    /// The levels of which its values are; any values without.
    pub levels: Option<RowLevels>,
}

impl Parameter {
    /// How many of its values are not 0.
    pub fn nonzero(&self) -> u64 {
        values(&self.value).map_or(0, |values| {
            values.iter().filter(|v| **v != 0.0).count() as u64
        })
    }
}

/// All parameters of a network, in the order of its layers.
#[derive(Debug, Default)]
pub struct Parameters(Vec<Parameter>);

impl Parameters {
    pub(crate) fn push(&mut self, parameter: Parameter) -> usize {
        self.0.push(parameter);
        self.0.len() - 1
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Parameter> {
        self.0.iter_mut()
    }

    /// How many there are, counting tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn at(&self, index: usize) -> &Parameter {
        &self.0[index]
    }

    pub(crate) fn truncate(&mut self, n: usize) {
        self.0.truncate(n);
    }

    pub(crate) fn at_mut(&mut self, index: usize) -> &mut Parameter {
        &mut self.0[index]
    }

    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.0.iter().find(|parameter| parameter.name == name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Parameter> {
        self.0.iter_mut().find(|parameter| parameter.name == name)
    }

    fn named(&self, name: &str) -> Result<&Parameter> {
        self.get(name)
            .ok_or_else(|| invalid(format!("the network has no parameter named {name}")))
    }

    /// How many numbers are trained.
    pub fn count(&self) -> u64 {
        let trained = self.0.iter().filter(|p| p.role.trains());
        trained.map(|p| p.value.elem_count() as u64).sum()
    }

    /// How many of them are not 0.
    pub fn nonzero(&self) -> u64 {
        let trained = self.0.iter().filter(|p| p.role.trains());
        trained.map(Parameter::nonzero).sum()
    }

    /// A copy of a parameter's values, row by row.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        values(&self.named(name)?.value)
    }

    /// The engine of the device they lie on.
    #[cfg(feature = "cuda")]
    pub(crate) fn engine(&self) -> Result<Option<std::rc::Rc<super::op::cuda::Engine>>> {
        match self.0.first() {
            Some(parameter) => super::op::cuda::engine_of(&parameter.value),
            None => Ok(None),
        }
    }

    /// Replaces a parameter's values, in place.
    pub fn set(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let value = &self.named(name)?.value;
        fits(name, value, values.len())?;
        set_values(value, values)
    }

    /// Gives a parameter a mask of zeros and ones, and zeroes what it covers.
    pub fn set_mask(&mut self, name: &str, mask: &[f32]) -> Result<()> {
        let value = &self.named(name)?.value;
        fits(name, value, mask.len())?;
        if !mask.iter().all(|m| *m == 0.0 || *m == 1.0) {
            return Err(invalid(format!(
                "the mask of {name} holds something else than 0 and 1"
            )));
        }
        let mask = beside(value, mask)?;
        cover(value, &mask)?;
        if let Some(parameter) = self.get_mut(name) {
            parameter.mask = Some(mask);
        }
        Ok(())
    }

    /// Takes over the masks of parameters with the same names and shapes; whether there were any.
    pub fn take_masks(&mut self, from: &Self) -> Result<bool> {
        let mut any = false;
        for parameter in from {
            if let Some(mask) = &parameter.mask {
                self.set_mask(&parameter.name, &values(mask)?)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Gives a parameter levels, to whose nearest ones its values move; or takes them away, which moves nothing.
    pub fn set_levels(&mut self, name: &str, levels: Option<RowLevels>) -> Result<()> {
        let value = &self.named(name)?.value;
        if let Some(levels) = &levels {
            if !levels.fit(value.dims()) {
                return Err(levels.unfit(name, value.dims()));
            }
            let mut moved = values(value)?;
            levels.simulate(&mut moved);
            set_values(value, &moved)?;
        }
        if let Some(parameter) = self.get_mut(name) {
            parameter.levels = levels;
        }
        Ok(())
    }

    /// Gives a parameter levels that are for training alone: its values stay as they are until an optimizer takes them up.
    pub fn train_on(&mut self, name: &str, levels: RowLevels) -> Result<()> {
        let value = &self.named(name)?.value;
        if !levels.fit(value.dims()) {
            return Err(levels.unfit(name, value.dims()));
        }
        if let Some(parameter) = self.get_mut(name) {
            parameter.levels = Some(levels);
        }
        Ok(())
    }

    /// Zeroes again whatever the masks cover.
    pub fn apply_masks(&mut self) -> Result<()> {
        for parameter in &self.0 {
            if let Some(mask) = &parameter.mask {
                cover(&parameter.value, mask)?;
            }
        }
        Ok(())
    }

    /// A copy that shares no memory.
    pub fn duplicate(&self) -> Result<Self> {
        let copy = |parameter: &Parameter| {
            Ok(Parameter {
                name: parameter.name.clone(),
                role: parameter.role,
                value: parameter.value.copy()?,
                mask: parameter.mask.as_ref().map(Tensor::copy).transpose()?,
                levels: settled(parameter)?,
            })
        };
        Ok(Self(self.0.iter().map(copy).collect::<Result<_>>()?))
    }

    /// The parameters as a safetensors file; a mask is the tensor `NAME.mask`, and levels are the four numbers of the
    /// tensor `NAME.levels`: scale, zero point, least and greatest integer, or a row of them for each output channel.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut levels = Vec::new();
        for parameter in &self.0 {
            if let Some(settled) = settled(parameter)? {
                levels.push((levels_name(&parameter.name), settled.written()?));
            }
        }
        let values = self.0.iter().map(|p| (p.name.clone(), &p.value));
        let masks = self
            .0
            .iter()
            .filter_map(|p| Some((mask_name(&p.name), p.mask.as_ref()?)));
        let levels = levels.iter().map(|(name, numbers)| (name.clone(), numbers));
        serialize(values.chain(masks).chain(levels))
    }

    /// Replaces all values, masks and levels by those of a safetensors file; names and shapes must all match.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let mut stored = deserialize(bytes)?;
        let mut wrong = Vec::new();
        let mut loaded = Vec::new();
        for parameter in &self.0 {
            let (name, dims) = (&parameter.name, parameter.value.dims());
            match stored.remove(name) {
                None => wrong.push(format!("{name} {dims:?} is missing")),
                Some(value) if value.dims() != dims => {
                    wrong.push(format!("{name} is {:?} instead of {dims:?}", value.dims()));
                }
                Some(value) => loaded.push((value, None, None)),
            }
            match stored.remove(&mask_name(name)) {
                Some(mask) if mask.dims() != dims => {
                    wrong.push(format!(
                        "{} is {:?} instead of {dims:?}",
                        mask_name(name),
                        mask.dims()
                    ));
                }
                mask => {
                    if let Some(last) = loaded.last_mut() {
                        last.1 = mask;
                    }
                }
            }
            let levels = stored.remove(&levels_name(name));
            match levels.map(|numbers| RowLevels::read(&numbers, dims)) {
                Some(Err(_)) => wrong.push(format!(
                    "{} is no four numbers, nor four for each output channel",
                    levels_name(name)
                )),
                levels => {
                    if let Some(last) = loaded.last_mut() {
                        last.2 = levels.and_then(Result::ok);
                    }
                }
            }
        }
        let mut unknown: Vec<_> = stored
            .iter()
            .map(|(name, value)| format!("{name} {:?} is unknown", value.dims()))
            .collect();
        unknown.sort();
        wrong.extend(unknown);
        if !wrong.is_empty() {
            return Err(invalid(format!(
                "the weights do not fit the network: {}",
                wrong.join(", ")
            )));
        }
        for (parameter, (value, mask, levels)) in self.0.iter_mut().zip(loaded) {
            set_values(&parameter.value, &values(&value)?)?;
            let mask = mask.map(|mask| beside(&parameter.value, &values(&mask)?));
            parameter.mask = mask.transpose()?;
            let moves = parameter
                .levels
                .as_ref()
                .map_or(Moves::Stay, RowLevels::moves);
            parameter.levels = levels.map(|levels| levels.moving(moves));
        }
        Ok(())
    }
}

impl<'a> IntoIterator for &'a Parameters {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Parameters {
    type Item = &'a mut Parameter;
    type IntoIter = std::slice::IterMut<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// A parameter's levels as they are now, wherever they are moved.
pub(super) fn settled(parameter: &Parameter) -> Result<Option<RowLevels>> {
    parameter
        .levels
        .as_ref()
        .map(RowLevels::settled)
        .transpose()
}

fn mask_name(name: &str) -> String {
    format!("{name}.mask")
}

fn levels_name(name: &str) -> String {
    format!("{name}.levels")
}

fn fits(name: &str, value: &Tensor, n: usize) -> Result<()> {
    if value.elem_count() == n {
        return Ok(());
    }
    Err(invalid(format!(
        "{name} has {} values of shape {:?}, and {n} were given",
        value.elem_count(),
        value.dims()
    )))
}

/// value = value · mask, in place.
fn cover(value: &Tensor, mask: &Tensor) -> Result<()> {
    let (mut covered, mask) = (values(value)?, values(mask)?);
    for (v, m) in covered.iter_mut().zip(&mask) {
        if *m == 0.0 {
            *v = 0.0;
        }
    }
    set_values(value, &covered)
}

/// Tensors of 32-bit floats as a safetensors file.
pub(crate) fn serialize<'a>(
    tensors: impl Iterator<Item = (String, &'a Tensor)>,
) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    for (name, tensor) in tensors {
        let values = values(tensor)?;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        raw.push((name, tensor.dims().to_vec(), bytes));
    }
    let views = raw
        .iter()
        .map(|(name, dims, bytes)| Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
    let bytes = views.and_then(|views| safetensors::serialize(views, None));
    bytes.map_err(|error| invalid(format!("the weights cannot be written: {error}")))
}

/// The tensors of a safetensors file of 32-bit floats.
pub(crate) fn deserialize(bytes: &[u8]) -> Result<HashMap<String, Tensor>> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        invalid(format!(
            "the weights are not a readable safetensors file: {error}"
        ))
    })?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(invalid(format!(
                    "{name} holds {:?} instead of 32-bit floats",
                    view.dtype()
                )));
            }
            let values = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            Ok((
                name,
                Tensor::from_vec::<_, f32>(values, view.shape(), &Device::Cpu)?,
            ))
        })
        .collect()
}
