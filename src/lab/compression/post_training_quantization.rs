//! Post-training quantization: weights and activations are rounded to a few levels, without training.
//!
//! q = clamp(round(x / s) + z, q_min, q_max), x̂ = s (q - z), halves to even; Jacob et al. 2018, arXiv:1712.05877.
//! Weights, per tensor: symmetric and restricted, z = 0, s = max|w| / q_max, q_max = 2^(b-1) - 1 (-127 to 127 at 8 bits).
//! Activations, per tensor: asymmetric, 0 to 2^b - 1 over the range [min, max] seen on training images, which is
//! widened to hold 0, s = (max - min) / (2^b - 1), z = -round(min / s).
//! Biases: 32-bit integers at the scale of the products they are added to, s_x s_w.
//!
//! Activations are rounded where integer inference would store them: the normalized images, after each convolution or
//! linear layer with the batch normalization and the ReLU that follow it, after each sum with its ReLU, and after means.
//! Maxima and flattening keep the levels they are given. The logits leave as the 32-bit sums they are.
//! A batch normalization stays in floats: in use it is a factor and an offset for each channel's integer sums. Ranges come from the network before its weights are rounded, on a
//! stratified sample of the training images without the validation split; nothing is chosen on the test images.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Cost;
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::outputs::{EVALUATION_BATCH, batch};
use crate::nn::Mode;
use crate::nn::layer::Layer;
use crate::nn::network::Network;
use crate::nn::op::fake_quant::Levels;
use crate::nn::op::values;
use crate::nn::parameters::ParameterRole;
use crate::nn::trace::Keep;
use crate::nn::workspace::Workspace;

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("post-training-quantization"),
        title: text("Post-training quantization"),
        summary: text(
            "Rounds weights and activations to the levels of small integers, without training. Simulated in 32-bit \
             floats: the bytes are those of packed integers, the latency is not that of integer arithmetic.",
        ),
        reference: text("arXiv:1712.05877"),
        family: text("quantization"),
        ratio_of: None,
    },
    knobs: &[
        Knob {
            id: text("bits"),
            title: text("bits"),
            summary: text("Bits per weight: symmetric levels, -127 to 127 at 8."),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("16"), text("8"), text("4")]),
                default: text("8"),
            },
        },
        Knob {
            id: text("activation-bits"),
            title: text("activation bits"),
            summary: text(
                "Bits per activation: as many as the weights have, another number, or floats.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[
                    text("as-weights"),
                    text("16"),
                    text("8"),
                    text("4"),
                    text("floats"),
                ]),
                default: text("as-weights"),
            },
        },
        Knob {
            id: text("calibration-images"),
            title: text("calibration images"),
            summary: text("Training images on which the ranges of the activations are looked up."),
            range: Range::Integer {
                least: 1,
                most: 100_000,
                default: 512,
            },
        },
    ],
    build: |setting| {
        let bits = |word: &str| word.parse().ok();
        let weights = bits(setting.choice("bits")).unwrap_or(8);
        Box::new(PostTrainingQuantization {
            weights,
            activations: match setting.choice("activation-bits") {
                "as-weights" => Some(weights),
                word => bits(word),
            },
            images: setting.integer("calibration-images") as usize,
        })
    },
};

struct PostTrainingQuantization {
    /// Bits per weight.
    weights: u32,
    /// Bits per activation; floats without.
    activations: Option<u32>,
    /// Calibration images.
    images: usize,
}

impl Compression for PostTrainingQuantization {
    fn is_live(&self) -> bool {
        true
    }

    fn compress(
        &self,
        start: &Start<'_>,
        _: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        let mut network = start.network.duplicate()?;
        let places = stored(&network);
        let scales = match self.activations {
            Some(bits) => {
                let ranges = self.ranges(start, &places, cx)?;
                let levels: Vec<Levels> = ranges
                    .iter()
                    .map(|&range| asymmetric(range, bits))
                    .collect();
                for (&place, &levels) in places.iter().zip(&levels) {
                    put(&mut network, &start.network.nodes()[place].name, levels)?;
                }
                Some(levels)
            }
            None => None,
        };
        // A bias is on the levels of the sums that it is added to.
        for (at, node) in start.network.nodes().iter().enumerate() {
            let Some(weight) = parameter(start.network, at, ParameterRole::Weight) else {
                continue;
            };
            let levels = quantize_weights(&mut network, &weight, self.weights)?;
            let Some(bias) = parameter(start.network, at, ParameterRole::Bias) else {
                continue;
            };
            let Some(scales) = &scales else { continue };
            let read = stored_before(start.network, at, &places).ok_or_else(|| {
                Error::Internal(format!("no activation is stored before {}", node.name))
            })?;
            let levels = of_sums(scales[read].scale * levels.scale);
            network.parameters_mut().set_levels(&bias, Some(levels))?;
        }
        let activations = match self.activations {
            Some(bits) => format!(
                "activations with {bits} bits in ranges of {} training images",
                self.sample(start).len()
            ),
            None => "activations stay floats".to_owned(),
        };
        Ok(Compressed {
            network,
            best: None,
            asked: None,
            reached: None,
            remarks: vec![
                format!("weights with {} bits, one scale per tensor; {activations}", self.weights),
                "simulated: computed in 32-bit floats; bytes are those of packed integers, latency is not that of \
                 integer arithmetic"
                    .to_owned(),
            ],
            cost: Cost::default(),
            life: start.life,
        })
    }
}

impl PostTrainingQuantization {
    /// Indices of the calibration images: training images, every class in its share.
    fn sample(&self, start: &Start<'_>) -> Vec<usize> {
        let data = start.subject.data;
        let train = data.train.select(&data.split.train);
        let chosen = train.stratified(self.images, start.subject.seed);
        chosen
            .into_iter()
            .map(|index| data.split.train[index])
            .collect()
    }

    /// The least and the greatest value of the activations at these places.
    fn ranges(
        &self,
        start: &Start<'_>,
        places: &[usize],
        cx: &mut Context<'_>,
    ) -> Result<Vec<(f32, f32)>> {
        let sample = self.sample(start);
        let mut workspace = Workspace::default();
        let mut ranges = vec![(0.0_f32, 0.0_f32); places.len()];
        for (done, indices) in sample.chunks(EVALUATION_BATCH).enumerate() {
            let images = batch(&start.subject.data.train, indices)?;
            let trace =
                start
                    .network
                    .trace(&images, Mode::Eval, Keep::Activations, &mut workspace)?;
            for (&place, range) in places.iter().zip(&mut ranges) {
                let activation = trace.activation(place).ok_or_else(|| {
                    Error::Internal(format!("the activations of node {place} were not kept"))
                })?;
                for value in values(activation)? {
                    *range = (range.0.min(value), range.1.max(value));
                }
            }
            let seen = (done * EVALUATION_BATCH + indices.len()) as u64;
            cx.progress(
                seen,
                sample.len() as u64,
                "looking up the ranges of activations",
            )?;
        }
        Ok(ranges)
    }
}

/// The nodes whose outputs integer inference would store, in order: the first one; every product but the last, every
/// sum and every mean, or what takes its output at once: a batch normalization and a ReLU.
fn stored(network: &Network) -> Vec<usize> {
    let nodes = network.nodes();
    let is_product = |at: usize| {
        let layer = &nodes[at].layer;
        let convolves = matches!(layer, Layer::Conv2d { .. } | Layer::DepthwiseConv2d { .. });
        convolves || matches!(layer, Layer::Linear { .. })
    };
    let last = (0..nodes.len()).rev().find(|&at| is_product(at));
    let begins = |at: &usize| match nodes[*at].layer {
        Layer::Add | Layer::AveragePool2d { .. } | Layer::GlobalAveragePool => true,
        _ => is_product(*at) && Some(*at) != last,
    };
    // The only reader of a node, if it is of the kind that integer inference computes together with it.
    let joined = |at: usize| {
        let mut readers = (0..nodes.len()).filter(|&reader| nodes[reader].inputs.contains(&at));
        let only = readers.next().filter(|_| readers.next().is_none())?;
        match nodes[only].layer {
            Layer::BatchNorm2d { .. } | Layer::Relu => Some(only),
            _ => None,
        }
    };
    let end = |mut at: usize| {
        while let Some(next) = joined(at) {
            at = next;
        }
        at
    };
    let mut places: Vec<usize> = (1..nodes.len()).filter(begins).map(end).collect();
    places.push(0);
    places.sort_unstable();
    places.dedup();
    places
}

/// Which of these places holds the activation that a node reads: the nearest one up its inputs.
fn stored_before(network: &Network, node: usize, places: &[usize]) -> Option<usize> {
    let mut at = node;
    loop {
        at = *network.nodes()[at].inputs.first()?;
        if let Ok(place) = places.binary_search(&at) {
            return Some(place);
        }
    }
}

/// The name of a node's parameter of this role.
fn parameter(network: &Network, node: usize, role: ParameterRole) -> Option<String> {
    let prefix = format!("{}.", network.nodes()[node].name);
    let owned = |name: &str| {
        name.strip_prefix(&prefix)
            .is_some_and(|rest| !rest.contains('.'))
    };
    let mut parameters = network.parameters().iter();
    parameters
        .find(|parameter| parameter.role == role && owned(&parameter.name))
        .map(|parameter| parameter.name.clone())
}

/// Puts a quantizer behind a node, or other levels into the one that is there.
fn put(network: &mut Network, node: &str, levels: Levels) -> Result<()> {
    let name = format!("{node}.levels");
    if network.position(&name).is_some() {
        network.replace(&name, levels.into())?;
    } else {
        network.insert_after(node, &name, levels.into())?;
    }
    Ok(())
}

/// Rounds a weight to symmetric levels, which it keeps from then on.
fn quantize_weights(network: &mut Network, name: &str, bits: u32) -> Result<Levels> {
    let values = network.parameters().values(name)?;
    let levels = symmetric(&values, bits);
    network.parameters_mut().set_levels(name, Some(levels))?;
    Ok(levels)
}

/// The levels of a bias: 32-bit multiples of the scale of the sums that it is added to.
fn of_sums(scale: f32) -> Levels {
    Levels {
        scale,
        zero_point: 0,
        q_min: i32::MIN,
        q_max: i32::MAX,
    }
}

/// The least scale: 2^-23, the spacing of floats at 1, as in PyTorch's observers; what is all zero gets it.
const LEAST_SCALE: f32 = f32::EPSILON;

/// Symmetric, restricted levels for these values.
fn symmetric(values: &[f32], bits: u32) -> Levels {
    let q_max = (1 << (bits - 1)) - 1;
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    Levels {
        scale: (largest / q_max as f32).max(LEAST_SCALE),
        zero_point: 0,
        q_min: -q_max,
        q_max,
    }
}

/// Asymmetric levels from 0 for values of this range, in which 0 lies.
fn asymmetric((least, greatest): (f32, f32), bits: u32) -> Levels {
    let q_max = (1 << bits) - 1;
    let (least, greatest) = (least.min(0.0), greatest.max(0.0));
    let scale = ((greatest - least) / q_max as f32).max(LEAST_SCALE);
    let zero_point = (-(least / scale).round_ties_even() as i32).clamp(0, q_max);
    Levels {
        scale,
        zero_point,
        q_min: 0,
        q_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// -1 to .8; PyTorch 2.15's `fake_quantize_per_tensor_affine` with these scales gives the same integers.
    const VALUES: [f32; 5] = [-1.0, -0.52, 0.0, 0.25, 0.8];

    fn check(levels: Levels, scale: f32, integers: [i32; 5], error: f64) {
        assert!((levels.scale - scale).abs() < 2e-8, "{levels:?}");
        assert_eq!(VALUES.map(|value| levels.quantize(value)), integers);
        let squares = VALUES
            .iter()
            .map(|&value| (f64::from(levels.simulate(value)) - f64::from(value)).powi(2));
        let found = squares.sum::<f64>() / 5.0;
        assert!(
            (found - error).abs() < 1e-4 * error,
            "{found} is not {error}"
        );
    }

    /// By hand: s = 1/127, and 1/7; the errors in NumPy 2.4.6 in double precision.
    #[test]
    fn symmetric_levels_are_restricted() {
        check(
            symmetric(&VALUES, 8),
            0.007_874_016,
            [-127, -66, 0, 32, 102],
            2.778_845_6e-6,
        );
        check(
            symmetric(&VALUES, 4),
            0.142_857_14,
            [-7, -4, 0, 2, 6],
            1.437_142_9e-3,
        );
        assert_eq!(symmetric(&VALUES, 16).q_max, 32_767);
    }

    /// By hand: the range [-.6, 2] at 8 bits is s = 2.6/255, z = 59.
    #[test]
    fn asymmetric_levels_hold_zero_exactly() {
        let levels = asymmetric((-0.6, 2.0), 8);
        assert!((levels.scale - 0.010_196_078).abs() < 1e-9);
        assert_eq!(levels.zero_point, 59);
        let found = [-0.6, -0.1, 0.0, 1.0, 2.0, 2.5].map(|value| levels.quantize(value));
        assert_eq!(found, [0, 49, 59, 157, 255, 255]);
        assert_eq!(levels.simulate(0.0), 0.0);
        // A range on one side of 0 is widened to it.
        assert_eq!(asymmetric((1.0, 2.0), 8).zero_point, 0);
        assert_eq!(asymmetric((-2.0, -1.0), 4).zero_point, 15);
    }

    #[test]
    fn what_is_all_zero_has_a_scale() {
        assert_eq!(symmetric(&[0.0; 3], 8).scale, f32::EPSILON);
        assert_eq!(
            asymmetric((0.0, 0.0), 8),
            Levels {
                scale: f32::EPSILON,
                zero_point: 0,
                q_min: 0,
                q_max: 255
            }
        );
    }

    /// NumPy 2.4.6's `rint`: halves go to the even neighbor, which Rust's `round` does not do.
    #[test]
    fn halves_go_to_the_even_neighbor() {
        let levels = Levels {
            scale: 1.0,
            zero_point: 0,
            q_min: -8,
            q_max: 7,
        };
        assert_eq!(
            [0.5, 1.5, 2.5, -0.5].map(|value| levels.quantize(value)),
            [0, 2, 2, 0]
        );
    }
}
