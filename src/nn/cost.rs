//! What a network costs: numbers, multiply-accumulates and bytes; and what of each layer is left.

use super::network::{Network, Node};
use super::op::values;
use super::parameters::{Parameter, ParameterRole, RowLevels};
use crate::event::{KeptChannels, LayerFacts};

/// Facts of every layer, in order.
pub fn layers(network: &Network) -> Vec<LayerFacts> {
    let of = |at: usize| {
        let node = &network.nodes()[at];
        let parameters = node.parameters.iter().map(|p| network.parameters().at(*p));
        let parameters = parameters.filter(|p| p.role.trains());
        let weight = weight(network, node);
        let levels = node.layer.levels();
        LayerFacts {
            name: node.name.clone(),
            kind: node.layer.kind().to_owned(),
            output: network.shape(at).iter().map(|n| *n as u32).collect(),
            parameters: parameters.map(|p| p.value.elem_count() as u64).sum(),
            macs: macs_of(network, at),
            weights: weight.map(|weight| weight.value.elem_count() as u64),
            nonzero: weight
                .map(|weight| (weight, weight.nonzero()))
                .filter(|(weight, nonzero)| *nonzero < weight.value.elem_count() as u64)
                .map(|(_, nonzero)| nonzero),
            bits: match levels {
                Some(levels) => Some(levels.q_max.abs_diff(levels.q_min).max(1).ilog2() + 1),
                None => weight
                    .and_then(|weight| weight.levels.as_ref())
                    .map(RowLevels::bits),
            },
            kept: match (weight.and_then(left), &node.kept) {
                (masked, None) => masked,
                (None, Some(kept)) => {
                    let channels = kept.channels.iter().copied();
                    Some(KeptChannels::new(kept.of as u32, channels))
                }
                // What is masked is counted among what was left when others were taken out.
                (Some(masked), Some(kept)) => {
                    let left = masked.kept().iter().map(|at| kept.channels[*at as usize]);
                    Some(KeptChannels::new(kept.of as u32, left))
                }
            },
        }
    };
    (0..network.nodes().len()).map(of).collect()
}

/// Multiply-accumulates of one image's forward pass.
pub fn macs(network: &Network) -> u64 {
    (0..network.nodes().len())
        .map(|at| macs_of(network, at))
        .sum()
}

fn macs_of(network: &Network, at: usize) -> u64 {
    let layer = &network.nodes()[at].layer;
    layer.macs(&network.input_shape(at), network.shape(at))
}

fn weight<'n>(network: &'n Network, node: &Node) -> Option<&'n Parameter> {
    let mut parameters = node.parameters.iter().map(|p| network.parameters().at(*p));
    parameters.find(|parameter| parameter.role == ParameterRole::Weight)
}

/// The output channels of which a mask leaves any weight; nothing where it leaves some of each, and without a mask.
fn left(weight: &Parameter) -> Option<KeptChannels> {
    let mask = weight.mask.as_ref()?;
    let rows = mask.dims().first().copied().filter(|rows| *rows > 0)?;
    // What cannot be read back is not told; the network itself is as good as before.
    let mask = values(mask).ok()?;
    let each = (mask.len() / rows).max(1);
    let kept: Vec<u32> = mask
        .chunks(each)
        .enumerate()
        .filter(|(_, row)| row.contains(&1.0))
        .map(|(channel, _)| channel as u32)
        .collect();
    (kept.len() < rows).then(|| KeptChannels::new(rows as u32, kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ImageShape;
    use crate::nn::layer::Layer;

    /// A convolution of 2 channels with 3 x 3 weights, of which the first channel is masked, by hand.
    #[test]
    fn a_masked_channel_is_told_as_gone() {
        let input = ImageShape {
            channels: 1,
            height: 5,
            width: 5,
        };
        let layers = vec![
            (
                "normalize",
                Layer::Normalize {
                    mean: vec![0.0],
                    std: vec![1.0],
                },
            ),
            (
                "conv1",
                Layer::Conv2d {
                    out_channels: 2,
                    kernel: 3,
                    stride: 1,
                    padding: 0,
                    bias: true,
                },
            ),
            ("flatten", Layer::Flatten),
            (
                "fc",
                Layer::Linear {
                    outputs: 2,
                    bias: true,
                },
            ),
        ];
        let mut network = Network::chain("tiny", input, 2, layers, 1).unwrap();
        let plain = network.layers();
        assert_eq!((plain[1].weights, plain[1].nonzero), (Some(18), None));
        assert_eq!((plain[0].weights, plain[1].kept.as_ref()), (None, None));
        let mut mask = [1.0; 18];
        mask[..9].fill(0.0);
        mask[12] = 0.0;
        network
            .parameters_mut()
            .set_mask("conv1.weight", &mask)
            .unwrap();
        let layer = &network.layers()[1];
        assert_eq!((layer.weights, layer.nonzero), (Some(18), Some(8)));
        assert_eq!(layer.kept, Some(KeptChannels::new(2, [1])));
        assert_eq!(layer.macs, 2 * 9 * 9);
        assert_eq!(network.macs(), 2 * 9 * 9 + 18 * 2);
    }
}
