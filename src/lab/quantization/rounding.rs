//! AdaRound: whether a weight is rounded up or down is learned, one layer at a time.
//!
//! ŵ = s (clamp(⌊w / s⌋ + z + h(V), q_min, q_max) - z), h(V) = clamp(1.2 σ(V) - 0.1, 0, 1), which begins at the fraction of
//! w / s. Adam descends mean ‖Wx - Ŵx̂‖² + 0.01 Σ (1 - |2h - 1|^β), β from 20 to 2 along a cosine after a fifth of the steps
//! without the sum; in the end what has V ≥ 0 goes up. x̂ are the layer's inputs in the network rounded so far.
//! Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization", arXiv:2004.10568; numbers as AIMET's.
//! Deviation: the activation behind the layer is left out, and the number of steps is a knob, not 10,000.

use std::f64::consts::PI;

use crate::lab::context::Context;
use crate::lab::error::{Error, Result};
use crate::lab::quantization::calibration::{Sample, output};
use crate::lab::quantization::places::{parameter, weighted};
use crate::nn::layer::Layer;
use crate::nn::network::{Builder, Network, Wanted};
use crate::nn::op::{adamw, tensor, values};
use crate::nn::parameters::{ParameterRole, RowLevels};
use crate::nn::rng::Rng;
use crate::nn::trace::Keep;
use crate::nn::workspace::Workspace;
use crate::nn::{ImageShape, Mode};

/// ζ and γ: how far the stretched sigmoid reaches beyond 1 and 0.
const ZETA: f64 = 1.1;
const GAMMA: f64 = -0.1;
/// Weight of the regularizer, and the share of steps without it.
const LAMBDA: f64 = 0.01;
const WARMUP: f64 = 0.2;
/// The exponent's ends.
const BETA: (f64, f64) = (20.0, 2.0);
/// AIMET's rate, and Adam's own numbers.
const RATE: f64 = 0.01;
const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;
/// Images of a step.
const BATCH: usize = 32;

fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// h(V), and its derivative.
fn soft(v: f64) -> (f64, f64) {
    let s = sigmoid(v);
    let h = s * (ZETA - GAMMA) + GAMMA;
    if (0.0..=1.0).contains(&h) {
        (h, (ZETA - GAMMA) * s * (1.0 - s))
    } else {
        (h.clamp(0.0, 1.0), 0.0)
    }
}

/// The V whose h is this fraction.
fn begin(fraction: f64) -> f64 {
    -((ZETA - GAMMA) / (fraction - GAMMA) - 1.0).ln()
}

/// 1 - |2h - 1|^β, and its derivative by h.
fn regularizer(h: f64, beta: f64) -> (f64, f64) {
    let x = 2.0 * h - 1.0;
    let growth = -2.0 * beta * x.abs().powf(beta - 1.0) * x.signum();
    (1.0 - x.abs().powf(beta), growth)
}

/// β at a share of all steps; none while there is no regularizer.
fn exponent(share: f64) -> Option<f64> {
    let rest = (share - WARMUP) / (1.0 - WARMUP);
    let (start, end) = BETA;
    (rest >= 0.0).then(|| end + 0.5 * (start - end) * (1.0 + (rest * PI).cos()))
}

/// Learns the rounding of every layer of `rounded`, whose weights have levels, against the same network in floats.
///
/// # Errors
/// As [`Sample::through`].
pub fn learn(
    rounded: &mut Network,
    floats: &Network,
    sample: &Sample<'_>,
    steps: u64,
    seed: u64,
    cx: &mut Context<'_>,
) -> Result<()> {
    let layers = weighted(floats);
    for (number, &at) in layers.iter().enumerate() {
        let name = &floats.nodes()[at].name;
        let place = rounded
            .position(name)
            .ok_or_else(|| Error::Internal(format!("{name} is not in the rounded network")))?;
        let weight = parameter(floats, at, ParameterRole::Weight)
            .ok_or_else(|| Error::Internal(format!("{name} has no weights")))?;
        let levels = rounded.parameters().get(&weight);
        let levels = levels.and_then(|weight| weight.levels.clone());
        let levels = levels.ok_or_else(|| Error::Internal(format!("{weight} has no levels")))?;
        let mut alone = alone(floats, at)?;
        let targets = {
            let inputs = inputs(floats, at, sample, cx)?;
            results(&alone, &inputs, cx)?
        };
        let inputs = inputs(rounded, place, sample, cx)?;
        let mut rng = Rng::stream(seed, "adaround", &[number as u64]);
        let mut rounding = Rounding::new(alone.parameters().values(&weight)?, levels);
        for step in 0..steps {
            rounding.step(
                &mut alone,
                &weight,
                &inputs,
                &targets,
                (step, steps),
                &mut rng,
            )?;
            if step % 50 == 0 {
                let what = format!("learning how to round {name}");
                let total = steps * layers.len() as u64;
                cx.progress(number as u64 * steps + step, total, &what)?;
            } else {
                cx.checkpoint()?;
            }
        }
        rounded.parameters_mut().set(&weight, &rounding.hard())?;
        rounded
            .parameters_mut()
            .set_levels(&weight, Some(rounding.levels))?;
    }
    Ok(())
}

/// Values of a batch of examples, each of so many, as a network takes images.
struct Rows {
    shape: ImageShape,
    values: Vec<f32>,
}

impl Rows {
    fn each(&self) -> usize {
        self.shape.values()
    }

    fn len(&self) -> usize {
        self.values.len() / self.each()
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.each()..(at + 1) * self.each()]
    }

    fn batch(&self, rows: &[usize]) -> Result<candle_core::Tensor> {
        let values = rows.iter().flat_map(|at| self.row(*at)).copied().collect();
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        Ok(tensor(values, &[rows.len(), channels, height, width])?)
    }
}

/// A layer's input as images: features are channels of one pixel.
fn image_shape(shape: &[usize]) -> ImageShape {
    let side = |at: usize| shape.get(at).copied().unwrap_or(1);
    ImageShape {
        channels: shape[0],
        height: side(1),
        width: side(2),
    }
}

/// What a node reads on all images of the sample.
fn inputs(
    network: &Network,
    node: usize,
    sample: &Sample<'_>,
    cx: &mut Context<'_>,
) -> Result<Rows> {
    let shape = image_shape(&network.input_shape(node));
    let source = network.nodes()[node].inputs[0];
    let pixels = shape.height * shape.width;
    let mut values = Vec::with_capacity(sample.indices.len() * shape.values());
    sample.through(network, "looking up what layers read", cx, &mut |trace| {
        for image in output(trace, source)?.chunks_exact(shape.values()) {
            // Channels are last in a network and first in its images.
            for channel in 0..shape.channels {
                values.extend((0..pixels).map(|pixel| image[pixel * shape.channels + channel]));
            }
        }
        Ok(())
    })?;
    Ok(Rows { shape, values })
}

/// A network of one layer of another, on that one's inputs.
fn alone(network: &Network, node: usize) -> Result<Network> {
    let of = &network.nodes()[node];
    let shape = image_shape(&network.input_shape(node));
    let outputs = network.shape(node).iter().product();
    let mut builder = Builder::outline(&of.name, shape, outputs);
    let normalize = Layer::Normalize {
        mean: vec![0.0; shape.channels],
        std: vec![1.0; shape.channels],
    };
    builder.then("images", normalize)?;
    if matches!(of.layer, Layer::Linear { .. }) {
        builder.then("flat", Layer::Flatten)?;
        builder.then(&of.name, of.layer.clone())?;
    } else {
        builder.then(&of.name, of.layer.clone())?;
        builder.then("flat", Layer::Flatten)?;
    }
    let mut alone = builder.finish()?;
    for at in &of.parameters {
        let parameters = network.parameters();
        if let Some(parameter) = parameters.iter().nth(*at) {
            let values = parameters.values(&parameter.name)?;
            alone.parameters_mut().set(&parameter.name, &values)?;
        }
    }
    Ok(alone.to_device(&network.device())?)
}

/// What a network gives for all rows.
fn results(network: &Network, rows: &Rows, cx: &mut Context<'_>) -> Result<Rows> {
    let mut workspace = Workspace::default();
    let mut found = Vec::new();
    let all: Vec<usize> = (0..rows.len()).collect();
    for some in all.chunks(BATCH) {
        let trace = network.forward(&rows.batch(some)?, Mode::Eval, &mut workspace)?;
        found.extend(values(trace.logits())?);
        cx.checkpoint()?;
    }
    Ok(Rows {
        shape: image_shape(&[network.classes()]),
        values: found,
    })
}

/// The rounding of one weight while it is learned.
struct Rounding {
    weights: Vec<f32>,
    levels: RowLevels,
    v: Vec<f32>,
    moments: [Vec<f32>; 2],
    workspace: Workspace,
}

impl Rounding {
    fn new(weights: Vec<f32>, levels: RowLevels) -> Self {
        let fraction = |w: f32, scale: f32| {
            let x = f64::from(w) / f64::from(scale);
            x - x.floor()
        };
        let v = levels
            .each(&weights)
            .map(|(of, w)| begin(fraction(w, of.scale)) as f32)
            .collect();
        let zeros = vec![0.0; weights.len()];
        Self {
            weights,
            levels,
            v,
            moments: [zeros.clone(), zeros],
            workspace: Workspace::default(),
        }
    }

    /// Each weight rounded by `up` of its V, and whether it was inside the range.
    fn rounded(&self, up: impl Fn(f64) -> f64) -> Vec<(f32, bool)> {
        let each = self.levels.each(&self.weights).zip(&self.v);
        each.map(|((of, w), v)| {
            let (least, greatest) = (f64::from(of.q_min), f64::from(of.q_max));
            let zero = f64::from(of.zero_point);
            let q = (f64::from(w) / f64::from(of.scale)).floor() + zero + up(f64::from(*v));
            let inside = (least..=greatest).contains(&q);
            // What is 0, pruned perhaps, stays so.
            if w == 0.0 {
                (0.0, false)
            } else {
                (of.scale * (q.clamp(least, greatest) - zero) as f32, inside)
            }
        })
        .collect()
    }

    /// The weights at the end.
    fn hard(&self) -> Vec<f32> {
        let up = |v: f64| f64::from(u8::from(v >= 0.0));
        self.rounded(up).into_iter().map(|(w, _)| w).collect()
    }

    fn step(
        &mut self,
        alone: &mut Network,
        weight: &str,
        inputs: &Rows,
        targets: &Rows,
        (step, steps): (u64, u64),
        rng: &mut Rng,
    ) -> Result<()> {
        let soft_weights = self.rounded(|v| soft(v).0);
        let values_now: Vec<f32> = soft_weights.iter().map(|(w, _)| *w).collect();
        alone.parameters_mut().set(weight, &values_now)?;
        let count = BATCH.min(inputs.len());
        let rows: Vec<usize> = (0..count).map(|_| rng.below(inputs.len())).collect();
        let images = inputs.batch(&rows)?;
        let channels = Self::channels(alone, weight);
        let d_weight = {
            let trace = alone.trace(&images, Mode::Eval, Keep::Gradients, &mut self.workspace)?;
            let found = values(trace.logits())?;
            // The mean over images and positions of the sum over channels.
            let positions = targets.each() / channels.max(1);
            let share = 2.0 / (count * positions.max(1)) as f32;
            let wanted = rows.iter().flat_map(|at| targets.row(*at));
            let d: Vec<f32> = found
                .iter()
                .zip(wanted)
                .map(|(y, t)| share * (y - t))
                .collect();
            let d = crate::nn::op::beside(trace.logits(), &d)?;
            let gradients = trace.backward(&d, Wanted::PARAMETERS)?;
            let at = alone.parameters().iter().position(|p| p.name == weight);
            let of_weight = at.and_then(|at| gradients.parameters[at].as_ref());
            let of_weight =
                of_weight.ok_or_else(|| Error::Internal(format!("{weight} has no gradient")))?;
            let d_weight = values(of_weight)?;
            drop(trace);
            self.workspace.recycle(gradients);
            d_weight
        };
        let beta = exponent(step as f64 / steps as f64);
        let each = self
            .levels
            .each(&self.weights)
            .zip(&self.v)
            .zip(d_weight.iter().zip(&soft_weights));
        let gradient: Vec<f32> = each
            .map(|(((of, w), v), (d, (_, inside)))| {
                if w == 0.0 {
                    return 0.0;
                }
                let (h, slope) = soft(f64::from(*v));
                let fits = if *inside {
                    f64::from(*d) * f64::from(of.scale)
                } else {
                    0.0
                };
                let pull = beta.map_or(0.0, |beta| LAMBDA * regularizer(h, beta).1);
                ((fits + pull) * slope) as f32
            })
            .collect();
        let adam = adamw::Step::new(RATE, BETAS, EPSILON, step + 1).with_decay(0.0);
        let [means, squares] = &mut self.moments;
        adamw::step(adam, &gradient, None, &mut self.v, means, squares);
        Ok(())
    }

    fn channels(alone: &Network, weight: &str) -> usize {
        let weight = alone.parameters().get(weight);
        weight
            .and_then(|weight| weight.value.dims().first().copied())
            .unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand.
    #[test]
    fn the_stretched_sigmoid_and_its_start() {
        assert!((soft(0.0).0 - 0.5).abs() < 1e-12);
        assert!((soft(1.0).0 - 0.777_270_3).abs() < 1e-7);
        assert_eq!(soft(3.0), (1.0, 0.0));
        assert!((begin(0.3) + std::f64::consts::LN_2).abs() < 1e-7);
        for fraction in [0.0, 0.25, 0.9, 0.999] {
            assert!((soft(begin(fraction)).0 - fraction).abs() < 1e-12);
        }
        // The slope, by a central difference.
        let difference = (soft(0.4 + 1e-6).0 - soft(0.4 - 1e-6).0) / 2e-6;
        assert!((soft(0.4).1 - difference).abs() < 1e-8);
    }

    /// By hand: at h = .3, 1 - .4^20 and 1 - .4^2.
    #[test]
    fn the_regularizer_pulls_to_the_ends() {
        assert!((regularizer(0.3, 20.0).0 - 1.0).abs() < 1e-7);
        assert!((regularizer(0.3, 2.0).0 - 0.84).abs() < 1e-12);
        let difference = (regularizer(0.3 + 1e-6, 4.0).0 - regularizer(0.3 - 1e-6, 4.0).0) / 2e-6;
        assert!((regularizer(0.3, 4.0).1 - difference).abs() < 1e-6);
        assert_eq!(exponent(0.1), None);
        assert_eq!((exponent(0.2), exponent(1.0)), (Some(20.0), Some(2.0)));
        assert!((exponent(0.6).unwrap() - 11.0).abs() < 1e-9);
    }
}
