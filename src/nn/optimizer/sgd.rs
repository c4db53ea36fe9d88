//! Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD` (dampening 0, no Nesterov).
//!
//! v = momentum · v + (g + weight decay · p);  p = p - rate · v.

use super::Memory;
use crate::nn::Result;
use crate::nn::op::{sgd, write};
use crate::nn::parameters::Parameters;
use crate::nn::trace::Gradients;

/// The optimizer and its velocities, one per parameter.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    memory: Memory<1>,
}

impl Sgd {
    /// At rest.
    pub fn new(parameters: &Parameters, momentum: f64, weight_decay: f64) -> Result<Self> {
        Ok(Self {
            momentum,
            weight_decay,
            memory: Memory::new(parameters, [""])?,
        })
    }

    /// Momentum of the steps to come.
    pub fn set_momentum(&mut self, momentum: f64) {
        self.momentum = momentum;
    }

    /// One step down the gradients; a parameter without one stays where it is.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(engine) = parameters.engine()? {
            let step = sgd::Step {
                rate: learning_rate as f32,
                momentum: self.momentum as f32,
                weight_decay: self.weight_decay as f32,
            };
            return self.memory.step_sgd(&engine, parameters, gradients, step);
        }
        let momentum = self.momentum as f32;
        let [velocities] = &self.memory.kept;
        self.memory
            .step(parameters, gradients, self.weight_decay, |at, slices| {
                let step = sgd::Step {
                    rate: learning_rate as f32,
                    momentum,
                    weight_decay: slices.weight_decay,
                };
                write(&velocities[at], |v| {
                    sgd::step(step, slices.gradient, slices.mask, slices.p, v);
                })
            })
    }

    /// The velocities as a safetensors file, to go on with later; unrounded values are the tensors `NAME.unrounded`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        self.memory.to_safetensors(None)
    }

    /// Goes on from such a file.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        self.memory.load_safetensors(bytes, None)
    }
}
