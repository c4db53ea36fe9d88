//! What a network costs: numbers, multiply-accumulates and bytes.

use super::network::Network;
use crate::event::LayerFacts;

/// Facts of every layer, in order.
pub fn layers(network: &Network) -> Vec<LayerFacts> {
    let of = |at: usize| {
        let node = &network.nodes()[at];
        let parameters = node.parameters.iter().map(|p| network.parameters().at(*p));
        let parameters = parameters.filter(|p| p.role.trains());
        LayerFacts {
            name: node.name.clone(),
            kind: node.layer.kind().to_owned(),
            output: network.shape(at).iter().map(|n| *n as u32).collect(),
            parameters: parameters.map(|p| p.value.elem_count() as u64).sum(),
            macs: node.layer.macs(&network.input_shape(at), network.shape(at)),
        }
    };
    (0..network.nodes().len()).map(of).collect()
}

/// Multiply-accumulates of one image's forward pass.
pub fn macs(network: &Network) -> u64 {
    layers(network).iter().map(|layer| layer.macs).sum()
}
