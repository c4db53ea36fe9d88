//! Where a network's activations would be stored as integers, and which parameters are whose.
//!
//! Maxima and flattening keep the levels they are given. The logits leave as the 32-bit sums they are. A batch
//! normalization that was not folded stays in floats: in use it is a factor and an offset for each channel's sums.

use crate::nn::layer::Layer;
use crate::nn::network::Network;
use crate::nn::op::fake_quant::Levels;
use crate::nn::parameters::ParameterRole;

/// Whether a layer multiplies by weights.
pub fn has_weights(layer: &Layer) -> bool {
    matches!(
        layer,
        Layer::Conv2d { .. } | Layer::DepthwiseConv2d { .. } | Layer::Linear { .. }
    )
}

/// The only node that reads a node's output.
pub fn only_reader(network: &Network, at: usize) -> Option<usize> {
    let nodes = network.nodes();
    let mut readers = (0..nodes.len()).filter(|&reader| nodes[reader].inputs.contains(&at));
    readers.next().filter(|_| readers.next().is_none())
}

/// The nodes whose outputs integer inference would store, in order: the first one; every product but the last, every
/// sum and every mean, or what takes its output at once: a batch normalization and a ReLU.
pub fn stored(network: &Network) -> Vec<usize> {
    let nodes = network.nodes();
    let is_product = |at: usize| has_weights(&nodes[at].layer);
    let last = (0..nodes.len()).rev().find(|&at| is_product(at));
    let begins = |at: &usize| match nodes[*at].layer {
        Layer::Add | Layer::AveragePool2d { .. } | Layer::GlobalAveragePool => true,
        _ => is_product(*at) && Some(*at) != last,
    };
    // The only reader of a node, if it is of the kind that integer inference computes together with it.
    let joined = |at: usize| {
        only_reader(network, at)
            .filter(|&only| matches!(nodes[only].layer, Layer::BatchNorm2d { .. } | Layer::Relu))
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

/// The levels of the activation that a node reads: those nearest up its inputs.
pub fn stored_before(network: &Network, node: usize) -> Option<Levels> {
    let mut at = node;
    loop {
        at = *network.nodes()[at].inputs.first()?;
        if let Some(levels) = network.nodes()[at].layer.levels() {
            return Some(levels);
        }
    }
}

/// The name of a node's parameter of this role.
pub fn parameter(network: &Network, node: usize, role: ParameterRole) -> Option<String> {
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

/// The nodes that have weights, in order.
pub fn weighted(network: &Network) -> Vec<usize> {
    let nodes = network.nodes();
    (0..nodes.len())
        .filter(|&at| has_weights(&nodes[at].layer))
        .collect()
}
