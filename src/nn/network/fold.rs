//! Takes layers out of a network: a batch normalization into the convolution before it, roundings of activations.
//!
//! In use y = γ (w·x + b - μ) / √(σ² + ε) + β is a convolution: w' = w γ / √(σ² + ε) for each output channel and
//! b' = (b - μ) γ / √(σ² + ε) + β. Jacob et al. 2018, arXiv:1712.05877, section 3.2.

use super::{Network, Node, Parameter};
use crate::nn::layer::Layer;
use crate::nn::op::{batch_norm2d, beside, set_values, values};
use crate::nn::parameters::{ParameterRole, Parameters};
use crate::nn::{Result, invalid};

impl Network {
    /// Puts every batch normalization that alone reads a convolution into that convolution, which gets a bias if it had
    /// none; yields how many. The network loses their layers and numbers, and in use stays the same function.
    ///
    /// # Errors
    /// candle's, when memory runs out.
    pub fn fold_normalizations(&mut self) -> Result<usize> {
        let mut folded = 0;
        let mut at = 1;
        while at < self.nodes.len() {
            match self.convolution_before(at) {
                Some(convolution) => {
                    self.fold(convolution, at)?;
                    self.remove(at);
                    folded += 1;
                }
                None => at += 1,
            }
        }
        self.renumber();
        Ok(folded)
    }

    /// Takes all quantization away: the layers that round activations, and the levels of the parameters, whose values
    /// stay. Yields how many layers there were.
    pub fn dequantize(&mut self) -> usize {
        for parameter in &mut self.parameters {
            parameter.levels = None;
        }
        let before = self.nodes.len();
        for at in (0..before).rev() {
            if matches!(self.nodes[at].layer, Layer::FakeQuant { .. }) {
                self.remove(at);
            }
        }
        self.renumber();
        before - self.nodes.len()
    }

    /// The convolution whose only reader is the batch normalization at this place.
    fn convolution_before(&self, at: usize) -> Option<usize> {
        let Layer::BatchNorm2d { .. } = self.nodes[at].layer else {
            return None;
        };
        let before = *self.nodes[at].inputs.first()?;
        let convolves = matches!(
            self.nodes[before].layer,
            Layer::Conv2d { .. } | Layer::DepthwiseConv2d { .. }
        );
        let inputs = self.nodes.iter().flat_map(|node| &node.inputs);
        (convolves && inputs.filter(|input| **input == before).count() == 1).then_some(before)
    }

    fn fold(&mut self, convolution: usize, normalization: usize) -> Result<()> {
        let Node {
            layer: Layer::BatchNorm2d { epsilon, .. },
            parameters: places,
            name,
            ..
        } = &self.nodes[normalization]
        else {
            return Err(invalid("only a batch normalization is folded"));
        };
        let [gamma, beta, mean, variance] = places.as_slice() else {
            return Err(invalid(format!("{name} has four parameters")));
        };
        let of = |at: &usize| values(&self.parameters.at(*at).value);
        let (gamma, shift) = (of(gamma)?, of(beta)?);
        let affine = batch_norm2d::Affine {
            weight: &gamma,
            bias: &shift,
            epsilon: *epsilon,
        };
        let (scale, mut shift) = batch_norm2d::fold(&affine, &of(mean)?, &of(variance)?);
        let own = &self.nodes[convolution].parameters;
        let weight = self.parameters.at(own[0]);
        let mut w = values(&weight.value)?;
        let run = w.len() / scale.len().max(1);
        for (row, scale) in w.chunks_mut(run.max(1)).zip(&scale) {
            for w in row {
                *w *= scale;
            }
        }
        set_values(&weight.value, &w)?;
        let bias = own.get(1).copied();
        if let Some(bias) = bias {
            for ((shift, scale), b) in shift.iter_mut().zip(&scale).zip(of(&bias)?) {
                *shift += scale * b;
            }
        }
        let value = beside(&self.parameters.at(*beta).value, &shift)?;
        let node = &mut self.nodes[convolution];
        let bias = match bias {
            Some(bias) => bias,
            None => {
                let bias = self.parameters.push(Parameter {
                    name: format!("{}.bias", node.name),
                    role: ParameterRole::Bias,
                    value: value.clone(),
                    mask: None,
                    levels: None,
                });
                node.parameters.push(bias);
                bias
            }
        };
        if let Layer::Conv2d { bias, .. } | Layer::DepthwiseConv2d { bias, .. } = &mut node.layer {
            *bias = true;
        }
        let moved = [(node.parameters[0], None), (bias, Some(value))];
        for (at, value) in moved {
            let parameter = self.parameters.at_mut(at);
            parameter.levels = None;
            if let Some(value) = value {
                parameter.value = value;
            }
        }
        Ok(())
    }

    /// Takes a node out; what read it reads what it read.
    fn remove(&mut self, at: usize) {
        let Some(before) = self.nodes[at].inputs.first().copied() else {
            return;
        };
        self.nodes.remove(at);
        self.shapes.remove(at);
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            *input = match *input {
                input if input == at => before,
                input if input > at => input - 1,
                input => input,
            };
        }
    }

    /// Drops the parameters that no node has any more, and puts the rest in the order of the nodes.
    fn renumber(&mut self) {
        let mut parameters = Parameters::default();
        for node in &mut self.nodes {
            for place in &mut node.parameters {
                *place = parameters.push(self.parameters.at(*place).clone());
            }
        }
        self.parameters = parameters;
    }
}
