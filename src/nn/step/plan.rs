//! Which layers are computed in one pass.

use super::Step;
use crate::nn::Mode;
use crate::nn::layer::Layer;
use crate::nn::network::Network;

/// How much is computed in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// Each layer by itself.
    Nothing,
    /// What the CPU's kernels take along.
    OnCpu,
    /// What follows a library's convolution in one pass: not a normalization, and not a sum.
    OnGpu,
}

/// The steps of a network.
pub fn plan(network: &Network, mode: Mode, together: Together) -> Vec<Step> {
    let (apart, own) = (together == Together::Nothing, together != Together::OnGpu);
    let nodes = network.nodes();
    let mut consumers = vec![0; nodes.len()];
    for input in nodes.iter().flat_map(|node| &node.inputs) {
        consumers[*input] += 1;
    }
    let mut steps = Vec::new();
    let mut first = 0;
    while first < nodes.len() {
        let mut last = first;
        // The layer behind, if it takes the last one, nobody else does, and what else it takes is there by then.
        let behind = |last: usize| {
            let next = nodes.get(last + 1)?;
            let ready = next
                .inputs
                .iter()
                .all(|input| *input == last || *input < first);
            let takes = next.inputs.iter().filter(|input| **input == last).count() == 1;
            (!apart && consumers[last] == 1 && ready && takes).then_some(&next.layer)
        };
        let layer = &nodes[first].layer;
        let is_dense = matches!(layer, Layer::Conv2d { .. });
        let computes =
            is_dense || matches!(layer, Layer::Linear { .. } | Layer::DepthwiseConv2d { .. });
        let normalizes = matches!(layer, Layer::BatchNorm2d { .. });
        if computes
            && own
            && mode == Mode::Eval
            && matches!(behind(last), Some(Layer::BatchNorm2d { .. }))
        {
            last += 1;
        }
        let mut sums = matches!(layer, Layer::Add);
        if ((is_dense && own) || normalizes) && matches!(behind(last), Some(Layer::Add)) {
            last += 1;
            sums = true;
        }
        if (computes || normalizes || sums) && matches!(behind(last), Some(Layer::Relu)) {
            last += 1;
            if is_dense
                && !sums
                && let Some(pool @ Layer::MaxPool2d { .. }) = behind(last)
                && pool
                    .windows(network.shape(last))
                    .is_ok_and(|windows| windows.are_apart())
            {
                last += 1;
            }
        }
        steps.push(Step { first, last });
        first = last + 1;
    }
    steps
}
