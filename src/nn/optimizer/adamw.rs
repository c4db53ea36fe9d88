//! Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101), as PyTorch's `torch.optim.AdamW`.
//!
//! m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g²;
//! p = p (1 - rate · weight decay) - rate · (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e), with t counted from 1.

use super::Memory;
use crate::nn::op::{adamw, read, tensor, write};
use crate::nn::parameters::Parameters;
use crate::nn::trace::Gradients;
use crate::nn::{Result, invalid};

/// PyTorch's default for the share of the mean square that is kept, and for what keeps the quotient finite.
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The tensor that holds the number of steps.
const STEPS: &str = "steps";

/// Steps are stored as two floats, each of which holds whole numbers up to this exactly.
const EXACT: u64 = 1 << 24;

/// The optimizer and its moments, two per parameter.
#[derive(Debug)]
pub struct AdamW {
    beta1: f64,
    weight_decay: f64,
    steps: u64,
    /// Means and mean squares.
    memory: Memory<2>,
}

impl AdamW {
    /// At rest; `momentum` is the first beta.
    pub fn new(parameters: &Parameters, momentum: f64, weight_decay: f64) -> Result<Self> {
        Ok(Self {
            beta1: momentum,
            weight_decay,
            steps: 0,
            memory: Memory::new(parameters, [".mean", ".square"])?,
        })
    }

    /// The first beta of the steps to come.
    pub fn set_momentum(&mut self, momentum: f64) {
        self.beta1 = momentum;
    }

    /// One step down the gradients; a parameter without one stays where it is.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let [means, squares] = &self.memory.kept;
        let step = adamw::Step::new(learning_rate, (self.beta1, BETA2), EPSILON, self.steps);
        #[cfg(feature = "cuda")]
        if let Some(engine) = parameters.engine()? {
            let step = (step, self.weight_decay);
            return self.memory.step_adamw(&engine, parameters, gradients, step);
        }
        self.memory
            .step(parameters, gradients, self.weight_decay, |at, slices| {
                let step = step.with_decay(slices.weight_decay);
                write(&means[at], |m| {
                    write(&squares[at], |v| {
                        adamw::step(step, slices.gradient, slices.mask, slices.p, m, v);
                    })
                })?
            })
    }

    /// Moments and number of steps as a safetensors file: `NAME.mean`, `NAME.square`, `NAME.unrounded`, `steps`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let steps = [self.steps / EXACT, self.steps % EXACT].map(|part| part as f32);
        let steps = tensor(steps.to_vec(), &[2])?;
        self.memory.to_safetensors(Some((STEPS, &steps)))
    }

    /// Goes on from such a file.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let mut steps = tensor(vec![0.0; 2], &[2])?;
        self.memory
            .load_safetensors(bytes, Some((STEPS, &mut steps)))?;
        let [high, low] = *read(&steps)? else {
            return Err(invalid("the number of steps is two numbers"));
        };
        self.steps = high as u64 * EXACT + low as u64;
        Ok(())
    }
}
