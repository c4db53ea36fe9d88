//! Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD` (dampening 0, no Nesterov).
//!
//! v = momentum · v + (g + weight decay · p);  p = p - rate · v.

use candle_core::Tensor;

use super::{Targets, load, zeros};
use crate::nn::Result;
use crate::nn::op::{sgd, write};
use crate::nn::parameters::{Parameters, serialize};
use crate::nn::trace::Gradients;

/// The optimizer and its velocities, one per parameter.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    velocities: Vec<Tensor>,
    targets: Targets,
}

impl Sgd {
    /// At rest.
    pub fn new(parameters: &Parameters, momentum: f64, weight_decay: f64) -> Result<Self> {
        Ok(Self {
            momentum,
            weight_decay,
            velocities: zeros(parameters)?,
            targets: Targets::new(parameters)?,
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
        let (momentum, velocities) = (self.momentum as f32, &self.velocities);
        self.targets
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
        let names = self.targets.names.iter().cloned();
        let velocities = names.zip(&self.velocities);
        serialize(velocities.chain(self.targets.unrounded()))
    }

    /// Goes on from such a file.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let names: Vec<String> = self.targets.names.clone();
        let velocities = names.into_iter().zip(&mut self.velocities);
        load(bytes, velocities.chain(self.targets.unrounded_mut()))
    }
}
