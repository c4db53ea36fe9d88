//! Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101), as PyTorch's `torch.optim.AdamW`.
//!
//! m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g²;
//! p = p (1 - rate · weight decay) - rate · (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + e), with t counted from 1.

use candle_core::Tensor;

use super::{Targets, load, zeros};
use crate::nn::op::{adamw, read, tensor, write};
use crate::nn::parameters::{Parameters, serialize};
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
    means: Vec<Tensor>,
    squares: Vec<Tensor>,
    targets: Targets,
}

impl AdamW {
    /// At rest; `momentum` is the first beta.
    pub fn new(parameters: &Parameters, momentum: f64, weight_decay: f64) -> Result<Self> {
        Ok(Self {
            beta1: momentum,
            weight_decay,
            steps: 0,
            means: zeros(parameters)?,
            squares: zeros(parameters)?,
            targets: Targets::new(parameters)?,
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
        let (means, squares) = (&self.means, &self.squares);
        let step = adamw::Step::new(learning_rate, (self.beta1, BETA2), EPSILON, self.steps);
        self.targets
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
        let names = &self.targets.names;
        let means = names.iter().map(|name| mean(name)).zip(&self.means);
        let squares = names.iter().map(|name| square(name)).zip(&self.squares);
        let moments = means.chain(squares).chain(self.targets.unrounded());
        serialize(moments.chain([(STEPS.to_owned(), &steps)]))
    }

    /// Goes on from such a file.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let mut steps = tensor(vec![0.0; 2], &[2])?;
        let names: Vec<String> = self.targets.names.clone();
        let means = names.iter().map(|name| mean(name)).zip(&mut self.means);
        let squares = names.iter().map(|name| square(name));
        let moments = means
            .chain(squares.zip(&mut self.squares))
            .chain(self.targets.unrounded_mut());
        load(bytes, moments.chain([(STEPS.to_owned(), &mut steps)]))?;
        let [high, low] = *read(&steps)? else {
            return Err(invalid("the number of steps is two numbers"));
        };
        self.steps = high as u64 * EXACT + low as u64;
        Ok(())
    }
}

fn mean(name: &str) -> String {
    format!("{name}.mean")
}

fn square(name: &str) -> String {
    format!("{name}.square")
}
