//! Learned step sizes: the distances between levels as parameters, while a network is trained.
//!
//! Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153.

use candle_core::Device;

use super::{Network, Parameter};
use crate::nn::Result;
use crate::nn::layer::Layer;
use crate::nn::op::{tensor, to_device, values};
use crate::nn::parameters::{Moves, ParameterRole, RowLevels, settled};

/// What a learned step is called, after what it is the step of.
pub(crate) const STEP: &str = ".step";

impl Network {
    /// Makes the scales of all rounded activations, and of weights whose levels learn, parameters of their own.
    ///
    /// # Errors
    /// candle's.
    pub fn learn_steps(&mut self) -> Result<()> {
        let device = self.device();
        let learns = |p: &&Parameter| {
            p.levels
                .as_ref()
                .is_some_and(|levels| levels.moves() == Moves::Learn)
        };
        let of_weight = |p: &Parameter| {
            let rows = p.levels.iter().flat_map(RowLevels::all);
            (p.name.clone(), rows.map(|levels| levels.scale).collect())
        };
        let weights: Vec<(String, Vec<f32>)> = self
            .parameters
            .iter()
            .filter(learns)
            .map(of_weight)
            .collect();
        for node in &mut self.nodes {
            if let Layer::FakeQuant { scale, .. } = node.layer {
                let step = step(&node.name, vec![scale], &device)?;
                node.parameters = vec![self.parameters.push(step)];
            }
        }
        for (name, scales) in weights {
            self.parameters.push(step(&name, scales, &device)?);
        }
        Ok(())
    }

    /// Puts what was learned back into the layers; the steps are no parameters any more, and nothing moves again.
    ///
    /// # Errors
    /// candle's.
    pub fn settle_steps(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if let Layer::FakeQuant { scale, .. } = &mut node.layer
                && let Some(at) = node.parameters.pop()
                && let [learned] = *values(&self.parameters.at(at).value)?
            {
                *scale = learned;
            }
        }
        // They were put behind all others.
        let others = self
            .parameters
            .iter()
            .take_while(|p| p.role != ParameterRole::Step);
        let others = others.count();
        self.parameters.truncate(others);
        for parameter in &mut self.parameters {
            parameter.levels = settled(parameter)?.map(|levels| levels.moving(Moves::Stay));
        }
        Ok(())
    }
}

fn step(of: &str, scales: Vec<f32>, device: &Device) -> Result<Parameter> {
    let shape = [scales.len()];
    Ok(Parameter {
        name: format!("{of}{STEP}"),
        role: ParameterRole::Step,
        value: to_device(&tensor(scales, &shape)?, device)?,
        mask: None,
        levels: None,
    })
}
