//! Optimizers: what a step down the gradients is, and what is remembered from step to step.
//!
//! Weight decay pulls weights alone (a usual split into parameter groups); masks are applied after the step.
//!
//! A quantized parameter is on its levels whenever the network computes, and steps smaller than a level would be lost
//! there. So an optimizer keeps its unrounded values, steps those down the gradient at the rounded ones, and rounds
//! anew: the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432), within the range of the levels. Levels may
//! also follow the weights, or their step may be learned: `levels` says how.

use std::borrow::Cow;
use std::collections::HashMap;

use candle_core::Tensor;

use super::op::{beside, read, set_values, values, write};
use super::parameters::{Parameter, Parameters, deserialize, serialize};
use super::trace::Gradients;
use super::{Result, invalid};

mod adamw;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod levels;
mod sgd;

pub use adamw::AdamW;
pub use sgd::Sgd;

/// Which optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    #[default]
    Sgd,
    AdamW,
}

/// Any of the optimizers.
#[derive(Debug)]
pub enum Optimizer {
    Sgd(Sgd),
    AdamW(AdamW),
}

impl Optimizer {
    /// An optimizer at rest. With AdamW, momentum is the share of the mean gradient that is kept.
    pub fn new(
        rule: Rule,
        parameters: &Parameters,
        momentum: f64,
        weight_decay: f64,
    ) -> Result<Self> {
        Ok(match rule {
            Rule::Sgd => Self::Sgd(Sgd::new(parameters, momentum, weight_decay)?),
            Rule::AdamW => Self::AdamW(AdamW::new(parameters, momentum, weight_decay)?),
        })
    }

    /// Momentum of the steps to come.
    pub fn set_momentum(&mut self, momentum: f64) {
        match self {
            Self::Sgd(sgd) => sgd.set_momentum(momentum),
            Self::AdamW(adamw) => adamw.set_momentum(momentum),
        }
    }

    /// One step down the gradients; a parameter without one stays where it is.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        match self {
            Self::Sgd(sgd) => sgd.step(parameters, gradients, learning_rate),
            Self::AdamW(adamw) => adamw.step(parameters, gradients, learning_rate),
        }
    }

    /// All that is remembered as a safetensors file, to go on with later; momentum is not, since whoever steps sets it.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        match self {
            Self::Sgd(sgd) => sgd.to_safetensors(),
            Self::AdamW(adamw) => adamw.to_safetensors(),
        }
    }

    /// Goes on from such a file.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Sgd(sgd) => sgd.load_safetensors(bytes),
            Self::AdamW(adamw) => adamw.load_safetensors(bytes),
        }
    }
}

/// What a parameter is stepped with: what is stepped, its gradient and its mask.
struct Slices<'a> {
    p: &'a mut [f32],
    gradient: &'a [f32],
    mask: Option<&'a [f32]>,
    /// 0 where the parameter does not decay.
    weight_decay: f32,
}

/// What is remembered from step to step: some tensors for each parameter, and the unrounded values of quantized ones.
#[derive(Debug)]
struct Memory<const N: usize> {
    names: Vec<String>,
    /// What each kind of tensor is stored under, after the parameter's name.
    suffixes: [&'static str; N],
    kept: [Vec<Tensor>; N],
    unrounded: Vec<Option<Tensor>>,
    /// For a parameter whose step is learned, the place of that step.
    steps: Vec<Option<usize>>,
    /// By their places, the gradients of those steps, which a GPU keeps.
    #[cfg(feature = "cuda")]
    of_steps: Vec<Option<Tensor>>,
    #[cfg(feature = "cuda")]
    tables: std::cell::RefCell<Option<cuda::Tables>>,
}

/// The same for unrounded values.
const UNROUNDED: &str = ".unrounded";

impl<const N: usize> Memory<N> {
    /// Zeros of each parameter's shape for each kind.
    fn new(parameters: &Parameters, suffixes: [&'static str; N]) -> Result<Self> {
        let copy = |p: &Parameter| p.levels.as_ref().map(|_| p.value.copy()).transpose();
        let unrounded = parameters.iter().map(copy).collect::<Result<Vec<_>>>()?;
        let zeros = |p: &Parameter| beside(&p.value, &vec![0.0; p.value.elem_count()]);
        let steps = levels::steps(parameters);
        levels::begin(parameters, &unrounded)?;
        let mut kept = [const { Vec::new() }; N];
        for kept in &mut kept {
            *kept = parameters.iter().map(zeros).collect::<Result<_>>()?;
        }
        Ok(Self {
            names: parameters.iter().map(|p| p.name.clone()).collect(),
            suffixes,
            kept,
            unrounded,
            #[cfg(feature = "cuda")]
            of_steps: cuda::levels::of_steps(parameters, &steps)?,
            steps,
            #[cfg(feature = "cuda")]
            tables: std::cell::RefCell::default(),
        })
    }

    /// Steps each parameter that has a gradient by `step`, which is told the parameter's place.
    fn step(
        &self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        weight_decay: f64,
        mut step: impl FnMut(usize, Slices<'_>) -> Result<()>,
    ) -> Result<()> {
        let n = parameters.len();
        if self.names.len() != n || gradients.parameters.len() != n {
            return Err(invalid(format!(
                "{n} parameters cannot take a step with an optimizer for {} and {} gradients",
                self.names.len(),
                gradients.parameters.len()
            )));
        }
        // The gradients of learned steps, whose places come after those of what they are the steps of.
        let mut learned: Vec<Option<Vec<f32>>> = vec![None; n];
        for (at, ((parameter, unrounded), gradient)) in parameters
            .iter()
            .zip(&self.unrounded)
            .zip(&gradients.parameters)
            .enumerate()
        {
            let own = learned[at].take();
            let lent = gradient.as_ref().map(read).transpose()?;
            let mut gradient = match (own, &lent) {
                (Some(own), _) => Cow::Owned(own),
                (None, Some(lent)) => Cow::Borrowed(&**lent),
                (None, None) => continue,
            };
            if let (Some(step), Some(levels), Some(unrounded)) =
                (self.steps[at], &parameter.levels, unrounded)
            {
                let unrounded = read(unrounded)?;
                learned[step] = Some(levels::learn(levels, &unrounded, gradient.to_mut()));
            }
            let mask = parameter.mask.as_ref().map(read).transpose()?;
            let decays = parameter.role.decays();
            write(unrounded.as_ref().unwrap_or(&parameter.value), |p| {
                let slices = Slices {
                    p,
                    gradient: &gradient,
                    mask: mask.as_deref(),
                    weight_decay: if decays { weight_decay as f32 } else { 0.0 },
                };
                step(at, slices)
            })??;
        }
        levels::move_on(
            parameters,
            &self.unrounded,
            &self.steps,
            &gradients.parameters,
        )?;
        for ((parameter, unrounded), gradient) in parameters
            .iter()
            .zip(&self.unrounded)
            .zip(&gradients.parameters)
        {
            if let (Some(unrounded), Some(_)) = (unrounded, gradient) {
                levels::round(parameter, unrounded)?;
            }
        }
        Ok(())
    }

    /// All of it and `more` as a safetensors file.
    fn to_safetensors(&self, more: Option<(&str, &Tensor)>) -> Result<Vec<u8>> {
        let named = |suffix: &'static str| self.names.iter().map(move |name| name.clone() + suffix);
        let kinds = self.suffixes.iter().zip(&self.kept);
        let kept = kinds.flat_map(|(suffix, kept)| named(suffix).zip(kept));
        let unrounded = named(UNROUNDED).zip(&self.unrounded);
        let unrounded = unrounded.filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let more = more.map(|(name, value)| (name.to_owned(), value));
        serialize(kept.chain(unrounded).chain(more))
    }

    /// Goes on from such a file, which must hold just as much.
    fn load_safetensors(&mut self, bytes: &[u8], more: Option<(&str, &mut Tensor)>) -> Result<()> {
        let names = &self.names;
        let named = |suffix: &'static str| names.iter().map(move |name| name.clone() + suffix);
        let kinds = self.suffixes.iter().zip(&mut self.kept);
        let kept = kinds.flat_map(|(suffix, kept)| named(suffix).zip(kept));
        let unrounded = named(UNROUNDED).zip(&mut self.unrounded);
        let unrounded = unrounded.filter_map(|(name, value)| Some((name, value.as_mut()?)));
        let more = more.map(|(name, value)| (name.to_owned(), value));
        load(bytes, kept.chain(unrounded).chain(more))
    }
}

/// Takes each tensor out of a file, which must hold these and nothing else.
fn load<'a>(bytes: &[u8], tensors: impl Iterator<Item = (String, &'a mut Tensor)>) -> Result<()> {
    let mut stored: HashMap<String, Tensor> = deserialize(bytes)?;
    for (name, tensor) in tensors {
        match stored.remove(&name) {
            Some(found) if found.dims() == tensor.dims() => set_values(tensor, &values(&found)?)?,
            _ => {
                return Err(invalid(format!(
                    "the optimizer's state does not fit the network: {name} {:?} is not in it",
                    tensor.dims()
                )));
            }
        }
    }
    if stored.is_empty() {
        return Ok(());
    }
    Err(invalid(
        "the optimizer's state holds more than the network has",
    ))
}
