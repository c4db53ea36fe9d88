//! The numbers of a step: weights as integers, and what becomes of its sums.

use super::{Chain, Lowering, zero};
use crate::nn::layer::Layer;
use crate::nn::network::Node;
use crate::nn::op::fake_quant::Levels;
use crate::nn::op::integer::requantize::Affine;
use crate::nn::op::values;
use crate::nn::{Result, invalid};

impl Lowering<'_> {
    /// A node's weights as integers, and the scale of each output's. `planes` are what a linear layer's features were.
    pub(super) fn weights(
        &self,
        node: &Node,
        planes: Option<[usize; 3]>,
    ) -> Result<(Vec<i8>, Vec<f64>)> {
        let parameter = self.network.parameters().at(node.parameters[0]);
        let levels = parameter
            .levels
            .as_ref()
            .ok_or_else(|| invalid("its weights are not rounded to levels"))?;
        let range = |of: &Levels| {
            let from_zero = |q: i32| i64::from(q) - i64::from(of.zero_point);
            (from_zero(of.q_min), from_zero(of.q_max))
        };
        for (least, most) in levels.all().iter().map(range) {
            if least < -128 || most > 127 {
                return Err(invalid(format!(
                    "its weights lie {least} to {most} levels from 0, and a signed byte holds -128 to 127"
                )));
            }
        }
        let outputs = parameter.value.dims()[0];
        let of_output = |output: usize| f64::from(levels.of(output).scale);
        let scales = (0..outputs).map(of_output).collect();
        let values = values(&parameter.value)?;
        let integer = |(of, value): (&Levels, f32)| (of.quantize(value) - of.zero_point) as i8;
        let mut weights: Vec<i8> = levels.each(&values).map(integer).collect();
        if let Some([c, h, w]) = planes {
            let own = weights.clone();
            let features = c * h * w;
            for (at, weight) in weights.iter_mut().enumerate() {
                let (output, pixel, channel) = (at / features, at % features / c, at % c);
                *weight = own[output * features + channel * h * w + pixel];
            }
        }
        Ok((weights, scales))
    }

    /// What a sum's value is multiplied by, and what is added, for each output: a bias and a batch normalization.
    pub(super) fn constants(
        &self,
        node: &Node,
        chain: &Chain,
        outputs: usize,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let parameters = self.network.parameters();
        let read = |at: usize| -> Result<Vec<f64>> {
            let values = values(&parameters.at(at).value)?;
            Ok(values.into_iter().map(f64::from).collect())
        };
        let bias = match node.parameters.get(1) {
            Some(at) => read(*at)?,
            None => vec![0.0; outputs],
        };
        let Some(norm) = chain.norm.map(|at| &self.network.nodes()[at]) else {
            return Ok((vec![1.0; outputs], bias));
        };
        let (Layer::BatchNorm2d { epsilon, .. }, [gamma, beta, mean, variance]) =
            (&norm.layer, norm.parameters.as_slice())
        else {
            return Err(invalid("its batch normalization lacks parameters"));
        };
        let (gamma, beta, mean, variance) =
            (read(*gamma)?, read(*beta)?, read(*mean)?, read(*variance)?);
        let factors: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(gamma, variance)| gamma / (variance + epsilon).sqrt())
            .collect();
        let offset = |at: usize| beta[at] + factors[at] * (bias[at] - mean[at]);
        let offsets = (0..outputs).map(offset).collect();
        Ok((factors, offsets))
    }

    /// What each output's sums become, before they are rounded.
    pub(super) fn affines(
        &self,
        node: &Node,
        chain: &Chain,
        from: &Levels,
        scales: &[f64],
        largest: &[f64],
    ) -> Result<Vec<Affine>> {
        let to = Self::levels(chain)?;
        let (factors, offsets) = self.constants(node, chain, scales.len())?;
        let step = f64::from(to.scale);
        let affine = |at: usize| Affine {
            factor: f64::from(from.scale) * scales[at] * factors[at] / step,
            offset: offsets[at] / step + f64::from(zero(&to)),
            most: largest[at],
        };
        Ok((0..scales.len()).map(affine).collect())
    }
}
