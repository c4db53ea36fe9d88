//! Cross-layer equalization: channels get like ranges in two layers that follow each other, and the function stays.
//!
//! A ReLU, a pooling and a flattening pass a positive factor on, so a channel's weights may be divided by s in one layer
//! and multiplied by s in the next. Over layers with ranges r₁ … r_m of a channel (the last one's of its inputs), all but
//! the first and the last depthwise, each range becomes g = (r₁ … r_m)^(1/m): for a pair s = r₁ / √(r₁ r₂).
//! Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", arXiv:1906.04721.
//!
//! Pairs are taken in order, each once, as AIMET does. Deviation: no absorption of high biases.

use crate::lab::error::{Error, Result};
use crate::lab::quantization::places::{has_weights, only_reader, parameter};
use crate::nn::layer::Layer;
use crate::nn::network::Network;
use crate::nn::parameters::ParameterRole;

/// Equalizes every pair, and triple around a depthwise convolution, of a network without batch normalizations in between;
/// yields how many layers changed.
///
/// # Errors
/// candle's.
pub fn equalize(network: &mut Network) -> Result<usize> {
    let chains = chains(network);
    let mut changed: Vec<usize> = chains.iter().flatten().copied().collect();
    for chain in &chains {
        equalize_chain(network, chain)?;
    }
    changed.sort_unstable();
    changed.dedup();
    Ok(changed.len())
}

/// The layers that are equalized together.
fn chains(network: &Network) -> Vec<Vec<usize>> {
    let nodes = network.nodes();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for first in 0..nodes.len() {
        let is_inner = |chain: &Vec<usize>| chain[1..chain.len() - 1].contains(&first);
        if !has_weights(&nodes[first].layer) || chains.iter().any(is_inner) {
            continue;
        }
        let mut chain = vec![first];
        let mut at = first;
        while let Some(next) = only_reader(network, at) {
            match &nodes[next].layer {
                Layer::Relu
                | Layer::MaxPool2d { .. }
                | Layer::AveragePool2d { .. }
                | Layer::GlobalAveragePool
                | Layer::Flatten => {}
                Layer::DepthwiseConv2d { .. } => chain.push(next),
                Layer::Conv2d { .. } | Layer::Linear { .. } => {
                    chain.push(next);
                    break;
                }
                _ => break,
            }
            at = next;
        }
        if chain.len() > 1 {
            chains.push(chain);
        }
    }
    chains
}

fn equalize_chain(network: &mut Network, chain: &[usize]) -> Result<()> {
    let (Some(&first), Some(&last)) = (chain.first(), chain.last()) else {
        return Ok(());
    };
    let channels = network.shape(first)[0];
    let mut weights = Vec::new();
    for &at in chain {
        let name = weight(network, at)?;
        weights.push((network.parameters().values(&name)?, name));
    }
    // A last depthwise convolution, behind which nothing follows, has its channels in its rows as the others do.
    let by_inputs = !matches!(network.nodes()[last].layer, Layer::DepthwiseConv2d { .. });
    let end = weights.len() - 1;
    let ranges = |at: usize| {
        let values = &weights[at].0;
        if at == end && by_inputs {
            of_inputs(values, channels, network.shape(last)[0])
        } else {
            of_rows(values, channels)
        }
    };
    let ranges: Vec<Vec<f32>> = (0..weights.len()).map(ranges).collect();
    // For each layer but the last, what each of its output channels is divided by.
    let divisors = divisors(&ranges, channels);
    for (at, (values, name)) in weights.iter_mut().enumerate() {
        let into = at.checked_sub(1).map(|before| &divisors[before]);
        let out = divisors.get(at);
        if at == end && by_inputs {
            if let Some(into) = into {
                let outputs = network.shape(last)[0];
                scale_inputs(values, into, outputs);
            }
        } else {
            let run = values.len() / channels;
            for (channel, row) in values.chunks_mut(run).enumerate() {
                let factor =
                    into.map_or(1.0, |into| into[channel]) / out.map_or(1.0, |out| out[channel]);
                for w in row {
                    *w *= factor;
                }
            }
        }
        network.parameters_mut().set(name, values)?;
        if let (Some(out), Some(bias)) = (out, parameter(network, chain[at], ParameterRole::Bias)) {
            let mut values = network.parameters().values(&bias)?;
            for (b, divisor) in values.iter_mut().zip(out) {
                *b /= divisor;
            }
            network.parameters_mut().set(&bias, &values)?;
        }
    }
    Ok(())
}

fn weight(network: &Network, at: usize) -> Result<String> {
    parameter(network, at, ParameterRole::Weight)
        .ok_or_else(|| Error::Internal(format!("{} has no weights", network.nodes()[at].name)))
}

/// What each channel of each layer but the last is divided by: S_j = S_(j-1) r_j / g. A channel that is 0 somewhere is
/// left alone.
fn divisors(ranges: &[Vec<f32>], channels: usize) -> Vec<Vec<f32>> {
    let layers = ranges.len();
    let mut divisors = vec![vec![1.0; channels]; layers - 1];
    for channel in 0..channels {
        let of: Vec<f64> = ranges.iter().map(|r| f64::from(r[channel])).collect();
        if of.iter().any(|range| *range <= 0.0) {
            continue;
        }
        let mean = (of.iter().map(|range| range.ln()).sum::<f64>() / layers as f64).exp();
        let mut divisor = 1.0;
        for (divisors, range) in divisors.iter_mut().zip(&of) {
            divisor *= range / mean;
            divisors[channel] = divisor as f32;
        }
    }
    divisors
}

fn largest<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    values.fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The largest weight of each row.
fn of_rows(values: &[f32], channels: usize) -> Vec<f32> {
    let rows = values.chunks(values.len() / channels);
    rows.map(|row| largest(row.iter())).collect()
}

/// The largest weight of each input channel, of (O, C, …) or of (O, C · positions) behind a flattening.
fn of_inputs(values: &[f32], channels: usize, outputs: usize) -> Vec<f32> {
    let each = values.len() / outputs / channels;
    let of = |channel: usize| {
        let rows = values.chunks(each * channels);
        largest(rows.flat_map(move |row| &row[channel * each..(channel + 1) * each]))
    };
    (0..channels).map(of).collect()
}

fn scale_inputs(values: &mut [f32], factors: &[f32], outputs: usize) {
    let each = values.len() / outputs / factors.len();
    for row in values.chunks_mut(each * factors.len()) {
        for (weights, factor) in row.chunks_mut(each).zip(factors) {
            for w in weights {
                *w *= factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: r1 = (4, .1), r2 = (1, 20), s = (2, .0707107), and both layers' ranges become (2, 1.4142136).
    #[test]
    fn two_layers_meet_in_the_geometric_mean() {
        let mut first = vec![4.0, -2.0, 0.1, 0.05];
        let mut second = vec![1.0, 10.0, 0.5, -20.0];
        let (r1, r2) = (of_rows(&first, 2), of_inputs(&second, 2, 2));
        assert_eq!((&r1[..], &r2[..]), (&[4.0, 0.1][..], &[1.0, 20.0][..]));
        let s = &divisors(&[r1, r2], 2)[0];
        assert!(
            (s[0] - 2.0).abs() < 1e-6 && (s[1] - 0.070_710_7).abs() < 1e-7,
            "{s:?}"
        );
        for (row, s) in first.chunks_mut(2).zip(s) {
            for w in row {
                *w /= s;
            }
        }
        scale_inputs(&mut second, s, 2);
        for found in [of_rows(&first, 2), of_inputs(&second, 2, 2)] {
            assert!(
                (found[0] - 2.0).abs() < 1e-6 && (found[1] - std::f32::consts::SQRT_2).abs() < 1e-6,
                "{found:?}"
            );
        }
    }

    /// AIMET's formulas for a triple: s12 = r1 / (r1 r2 r3)^(1/3), s23 = (r1 r2 r3)^(1/3) / r3.
    #[test]
    fn three_layers_meet_in_the_geometric_mean() {
        let found = divisors(&[vec![8.0, 0.0], vec![1.0, 1.0], vec![0.027, 1.0]], 2);
        let mean = (8.0_f64 * 0.027).cbrt();
        assert!((f64::from(found[0][0]) - 8.0 / mean).abs() < 1e-5);
        assert!((f64::from(found[1][0]) - mean / 0.027).abs() < 1e-4);
        assert_eq!((found[0][1], found[1][1]), (1.0, 1.0), "a dead channel");
    }
}
