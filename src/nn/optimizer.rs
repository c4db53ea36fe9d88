//! Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD`.
//!
//! v = momentum · v + (g + weight decay · p);  p = p - rate · v.
//! Deviation: weight decay spares biases (a usual split into parameter groups), and masks are applied after the step.

use candle_core::{DType, Tensor};

use super::op::{self, read, sgd, write};
use super::parameters::{ParameterRole, Parameters, deserialize, serialize};
use super::trace::Gradients;
use super::{Result, invalid};

/// The optimizer and its velocities, one per parameter.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    velocities: Vec<(String, Tensor)>,
}

impl Sgd {
    pub fn new(parameters: &Parameters, momentum: f64, weight_decay: f64) -> Result<Self> {
        let still = |p: &super::parameters::Parameter| {
            let velocity = op::zeros(p.value.elem_count(), DType::F32)?;
            Ok((p.name.clone(), velocity.reshape(p.value.dims())?))
        };
        Ok(Self {
            momentum,
            weight_decay,
            velocities: parameters.iter().map(still).collect::<Result<_>>()?,
        })
    }

    /// One step down the gradients; a parameter without one stays where it is.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        let n = parameters.len();
        if self.velocities.len() != n || gradients.parameters.len() != n {
            return Err(invalid(format!(
                "{n} parameters cannot take a step with {} velocities and {} gradients",
                self.velocities.len(),
                gradients.parameters.len()
            )));
        }
        for ((parameter, (_, velocity)), gradient) in parameters
            .iter()
            .zip(&self.velocities)
            .zip(&gradients.parameters)
        {
            let Some(gradient) = gradient else { continue };
            let decays = parameter.role == ParameterRole::Weight;
            let step = sgd::Step {
                rate: learning_rate as f32,
                momentum: self.momentum as f32,
                weight_decay: if decays {
                    self.weight_decay as f32
                } else {
                    0.0
                },
            };
            let gradient = read(gradient)?;
            let mask = parameter.mask.as_ref().map(read).transpose()?;
            write(&parameter.value, |p| {
                write(velocity, |v| {
                    sgd::step(step, &gradient, mask.as_deref(), p, v);
                })
            })??;
        }
        Ok(())
    }

    /// The velocities as a safetensors file, to go on with later.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        serialize(self.velocities.iter().map(|(name, v)| (name.clone(), v)))
    }

    /// Goes on from such a file.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let mut stored = deserialize(bytes)?;
        for (name, velocity) in &mut self.velocities {
            match stored.remove(name) {
                Some(found) if found.dims() == velocity.dims() => *velocity = found,
                _ => {
                    return Err(invalid(format!(
                        "the optimizer's state does not fit the network: {name} {:?} is not in it",
                        velocity.dims()
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
}
