//! A network rounded to 8 bits, as post-training quantization leaves it: for what is timed and tested without data.

use candle_core::Tensor;

use crate::lab::error::Result;
use crate::nn::Mode;
use crate::nn::layer::Layer;
use crate::nn::network::{Keep, Network, Workspace};
use crate::nn::op::fake_quant::Levels;
use crate::nn::op::values;
use crate::nn::parameters::{ParameterRole, RowLevels};

/// Levels of a weight: one for all of it, or for each output channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    Tensor,
    Channel,
}

/// The network with its weights and stored activations on levels of so many bits, 2 to 8: symmetric ones, and asymmetric
/// ones over the ranges that these images give.
///
/// # Errors
/// When the images do not fit the network.
pub fn quantized(
    network: &Network,
    images: &Tensor,
    granularity: Granularity,
    bits: u32,
) -> Result<Network> {
    let mut copy = network.duplicate()?;
    let places = stored(network);
    let mut workspace = Workspace::default();
    let trace = network.trace(images, Mode::Eval, Keep::Activations, &mut workspace)?;
    for &place in &places {
        let Some(activation) = trace.activation(place) else {
            continue;
        };
        let (least, greatest) = values(activation)?
            .into_iter()
            .fold((0.0_f32, 0.0_f32), |(least, greatest), v| {
                (least.min(v), greatest.max(v))
            });
        let q_max = (1 << bits) - 1;
        let scale = ((greatest - least) / q_max as f32).max(f32::EPSILON);
        let levels = Levels {
            scale,
            zero_point: (-(least / scale).round_ties_even() as i32).clamp(0, q_max),
            q_min: 0,
            q_max,
        };
        let name = &network.nodes()[place].name;
        copy.insert_after(name, &format!("{name}.levels"), levels.into())?;
    }
    for parameter in network.parameters() {
        if parameter.role != ParameterRole::Weight {
            continue;
        }
        let weights = values(&parameter.value)?;
        let rows = match granularity {
            Granularity::Tensor => 1,
            Granularity::Channel => parameter.value.dims()[0],
        };
        let of_row = |row: &[f32]| {
            let largest = row
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            let q_max = (1 << (bits - 1)) - 1;
            Levels {
                scale: (largest / q_max as f32).max(f32::EPSILON),
                zero_point: 0,
                q_min: -q_max,
                q_max,
            }
        };
        let levels = weights.chunks(weights.len() / rows).map(of_row).collect();
        copy.parameters_mut()
            .set_levels(&parameter.name, Some(RowLevels::new(levels)?))?;
    }
    Ok(copy)
}

/// The nodes whose outputs are stored: the images' own, and every product's but the last, every sum's and every mean's, with
/// the batch normalization and the ReLU behind.
fn stored(network: &Network) -> Vec<usize> {
    let nodes = network.nodes();
    let is_product = |layer: &Layer| {
        matches!(
            layer,
            Layer::Conv2d { .. } | Layer::DepthwiseConv2d { .. } | Layer::Linear { .. }
        )
    };
    let last = nodes.iter().rposition(|node| is_product(&node.layer));
    let mut places = vec![0];
    for (at, node) in nodes.iter().enumerate() {
        let begins = match node.layer {
            Layer::Add | Layer::AveragePool2d { .. } | Layer::GlobalAveragePool => true,
            ref layer => is_product(layer) && Some(at) != last,
        };
        if !begins {
            continue;
        }
        let mut end = at;
        loop {
            let mut readers = nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.inputs.contains(&end));
            let (Some((next, reader)), None) = (readers.next(), readers.next()) else {
                break;
            };
            if !matches!(reader.layer, Layer::BatchNorm2d { .. } | Layer::Relu) {
                break;
            }
            end = next;
        }
        places.push(end);
    }
    places
}
