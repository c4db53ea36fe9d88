//! Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD`.
//!
//! v = momentum · v + (g + weight decay · p);  p = p - rate · v.
//! Deviation: weight decay spares biases and batch normalizations (a usual split into parameter groups), and masks are applied after the step.
//!
//! A quantized parameter is on its levels whenever the network computes, and steps smaller than a level would be lost
//! there. So the optimizer keeps its unrounded values, steps those down the gradient at the rounded ones, and rounds
//! anew: the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432), within the range of the levels.

use candle_core::{DType, Tensor};

use super::op::{self, read, sgd, write};
use super::parameters::{Parameters, deserialize, serialize};
use super::trace::Gradients;
use super::{Result, invalid};

/// The optimizer and its velocities, one per parameter.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    velocities: Vec<(String, Tensor)>,
    /// The unrounded values of quantized parameters.
    unrounded: Vec<Option<Tensor>>,
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
            unrounded: parameters
                .iter()
                .map(|p| p.levels.map(|_| p.value.copy()).transpose())
                .collect::<Result<_>>()?,
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
        for (((parameter, (_, velocity)), unrounded), gradient) in parameters
            .iter()
            .zip(&self.velocities)
            .zip(&self.unrounded)
            .zip(&gradients.parameters)
        {
            let Some(gradient) = gradient else { continue };
            let decays = parameter.role.decays();
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
            let stepped = unrounded.as_ref().unwrap_or(&parameter.value);
            write(stepped, |p| {
                write(velocity, |v| {
                    sgd::step(step, &gradient, mask.as_deref(), p, v);
                })
            })??;
            if let (Some(unrounded), Some(levels)) = (unrounded, parameter.levels) {
                write(unrounded, |unrounded| {
                    write(&parameter.value, |value| {
                        let (least, greatest) = (
                            levels.dequantize(levels.q_min),
                            levels.dequantize(levels.q_max),
                        );
                        for (value, unrounded) in value.iter_mut().zip(unrounded) {
                            *unrounded = unrounded.clamp(least, greatest);
                            *value = levels.simulate(*unrounded);
                        }
                    })
                })??;
            }
        }
        Ok(())
    }

    /// The velocities as a safetensors file, to go on with later; unrounded values are the tensors `NAME.unrounded`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let velocities = self.velocities.iter().map(|(name, v)| (name.clone(), v));
        let unrounded = self
            .velocities
            .iter()
            .zip(&self.unrounded)
            .filter_map(|((name, _), value)| Some((unrounded_name(name), value.as_ref()?)));
        serialize(velocities.chain(unrounded))
    }

    /// Goes on from such a file.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let mut stored = deserialize(bytes)?;
        for ((name, velocity), unrounded) in self.velocities.iter_mut().zip(&mut self.unrounded) {
            let unrounded = unrounded
                .as_mut()
                .map(|value| (unrounded_name(name), value));
            for (name, tensor) in std::iter::once((name.clone(), velocity)).chain(unrounded) {
                match stored.remove(&name) {
                    Some(found) if found.dims() == tensor.dims() => *tensor = found,
                    _ => {
                        return Err(invalid(format!(
                            "the optimizer's state does not fit the network: {name} {:?} is not in it",
                            tensor.dims()
                        )));
                    }
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

fn unrounded_name(name: &str) -> String {
    format!("{name}.unrounded")
}
