//! A step's passes on a GPU.

use candle_core::Tensor;

use super::{Pass, Saved, Step, Wanted};
use crate::nn::layer::Layer;
use crate::nn::network::{Network, Node};
use crate::nn::op::batch_norm2d::cuda as batch_norm2d;
use crate::nn::op::conv2d::cuda as conv2d;
use crate::nn::op::cuda::{Engine, at};
use crate::nn::op::fake_quant::Estimator;
use crate::nn::op::soft_tree::cuda as soft_tree;
use crate::nn::op::{
    add, average_pool2d, depthwise_conv2d, fake_quant, flatten, max_pool2d, normalize, relu,
};
use crate::nn::{Mode, Result, invalid};

/// A node's parameter, if it has so many.
fn parameter<'n>(network: &'n Network, node: &Node, at: usize) -> Option<&'n Tensor> {
    let place = node.parameters.get(at)?;
    Some(&network.parameters().at(*place).value)
}

fn needed<'n>(network: &'n Network, node: &Node, at: usize) -> Result<&'n Tensor> {
    parameter(network, node, at).ok_or_else(|| invalid(format!("{} lacks a parameter", node.name)))
}

fn affine<'n>(network: &'n Network, node: &Node) -> Result<batch_norm2d::OnDevice<'n>> {
    let Layer::BatchNorm2d { epsilon, .. } = node.layer else {
        return Err(invalid(format!("{} does not normalize batches", node.name)));
    };
    Ok(batch_norm2d::OnDevice {
        weight: needed(network, node, 0)?,
        bias: needed(network, node, 1)?,
        epsilon,
    })
}

/// Levels, whose scale is a parameter while it is learned.
fn levels<'n>(network: &'n Network, node: &Node) -> Result<fake_quant::cuda::OnDevice<'n>> {
    let levels = node.layer.levels();
    Ok(fake_quant::cuda::OnDevice {
        levels: levels.ok_or_else(|| invalid("only a simulated quantization has levels"))?,
        learned: parameter(network, node, 0),
    })
}

fn tree_values<'n>(network: &'n Network, node: &Node) -> Result<soft_tree::OnDevice<'n>> {
    Ok(soft_tree::OnDevice {
        w: needed(network, node, 0)?,
        b: needed(network, node, 1)?,
        leaves: needed(network, node, 2)?,
    })
}

impl Step {
    /// How many numbers of a batch's statistics it keeps.
    pub(crate) fn statistics(&self, network: &Network, mode: Mode) -> usize {
        match (&network.nodes()[self.first].layer, mode) {
            (Layer::BatchNorm2d { .. }, Mode::Train) => {
                batch_norm2d::statistics_len(network.shape(self.first)[0])
            }
            _ => 0,
        }
    }

    /// As [`Step::forward`]; what a batch normalization measures goes to `statistics`.
    pub(crate) fn forward_cuda(
        &self,
        engine: &Engine,
        network: &Network,
        pass: Pass<'_>,
        statistics: Option<&Tensor>,
    ) -> Result<()> {
        let fused = self.fused(network)?;
        let node = fused.main;
        let input = network.input_shape(self.first);
        let Pass { x, y, residual, .. } = pass;
        match &node.layer {
            Layer::Normalize { mean, std } => {
                normalize::cuda::forward(engine, (mean, std), input[1] * input[2], x, y)
            }
            Layer::Conv2d { .. } | Layer::Linear { .. } => {
                let conv = self.convolution(network, &fused)?;
                let pass = conv2d::Pass {
                    x,
                    w: needed(network, node, 0)?,
                    b: parameter(network, node, 1),
                    y,
                    place: pass.place,
                };
                conv.forward_cuda(engine, pass)
            }
            Layer::DepthwiseConv2d { .. } => {
                let geometry = node.layer.geometry(&input)?;
                let (w, b) = (needed(network, node, 0)?, parameter(network, node, 1));
                depthwise_conv2d::cuda::forward(engine, &geometry, x, w, b, fused.relu, y)
            }
            Layer::BatchNorm2d { .. } => {
                let affine = affine(network, node)?;
                if let Some(statistics) = statistics {
                    return batch_norm2d::forward_train(
                        engine, &affine, x, residual, fused.relu, y, statistics,
                    );
                }
                let (mean, variance) = (needed(network, node, 2)?, needed(network, node, 3)?);
                batch_norm2d::forward_eval(
                    engine, &affine, mean, variance, x, residual, fused.relu, y,
                )
            }
            Layer::Add => {
                let residual = residual.ok_or_else(|| invalid("a sum needs two inputs"))?;
                add::cuda::forward(engine, x, residual, fused.relu, y)
            }
            Layer::Relu => relu::cuda::forward(engine, x, y),
            Layer::MaxPool2d { .. } => {
                let windows = node.layer.windows(&input)?;
                max_pool2d::cuda::forward(engine, &windows, input[0], x, y, pass.place)
            }
            Layer::AveragePool2d { .. } => {
                let windows = node.layer.windows(&input)?;
                average_pool2d::cuda::forward(engine, &windows, input[0], x, y)
            }
            Layer::GlobalAveragePool => {
                average_pool2d::cuda::forward_global(engine, input[1] * input[2], input[0], x, y)
            }
            Layer::Flatten => flatten::cuda::forward(engine, &input, x, y),
            Layer::FakeQuant { .. } => {
                fake_quant::cuda::forward(engine, levels(network, node)?, x, y)
            }
            Layer::SoftTree { .. } => {
                let (tree, output) = node.layer.tree(input[0], pass.mode)?;
                soft_tree::forward(engine, &tree, output, x, tree_values(network, node)?, y)
            }
        }
    }

    /// As [`Step::backward`].
    pub(crate) fn backward_cuda(
        &self,
        engine: &Engine,
        network: &Network,
        saved: Saved<'_>,
        statistics: Option<&Tensor>,
        wanted: &Wanted<'_>,
    ) -> Result<()> {
        let fused = self.fused(network)?;
        let node = fused.main;
        let input = network.input_shape(self.first);
        let Pass { x, y, .. } = saved.pass;
        let dy = saved.dy;
        let gradient = |at: usize| {
            let place = node.parameters.get(at)?;
            let mut found = wanted.parameters.iter();
            let found = found.find(|(parameter, _)| parameter == place);
            found.map(|(_, gradient)| gradient)
        };
        match &node.layer {
            Layer::Conv2d { .. } | Layer::Linear { .. } => {
                let conv = self.convolution(network, &fused)?;
                let pass = conv2d::Pass {
                    x,
                    w: needed(network, node, 0)?,
                    b: parameter(network, node, 1),
                    y,
                    place: saved.pass.place,
                };
                let wanted = conv2d::Wanted {
                    dx: wanted.dx,
                    adds: wanted.adds,
                    dw: gradient(0),
                    db: gradient(1),
                };
                conv.backward_cuda(engine, pass, dy, wanted)
            }
            Layer::DepthwiseConv2d { .. } => {
                let geometry = node.layer.geometry(&input)?;
                let channels = input[0];
                let rows = dy.elem_count() / channels;
                let dz = conv2d::undo(engine, rows, channels, fused.relu, y, dy, gradient(1))?;
                let w = needed(network, node, 0)?;
                depthwise_conv2d::cuda::backward(
                    engine,
                    &geometry,
                    x,
                    w,
                    dz,
                    wanted.dx,
                    gradient(0),
                )
            }
            Layer::BatchNorm2d { .. } => {
                let affine = affine(network, node)?;
                let wanted = batch_norm2d::Wanted {
                    dx: wanted.dx,
                    d_weight: gradient(0),
                    d_bias: gradient(1),
                    residual: wanted.residual,
                };
                if let Some(statistics) = statistics {
                    return batch_norm2d::backward_train(
                        engine, &affine, statistics, x, y, fused.relu, dy, wanted,
                    );
                }
                let (mean, variance) = (needed(network, node, 2)?, needed(network, node, 3)?);
                batch_norm2d::backward_eval(
                    engine, &affine, mean, variance, x, y, fused.relu, dy, wanted,
                )
            }
            Layer::Add => {
                for target in [wanted.dx, wanted.residual].into_iter().flatten() {
                    if fused.relu {
                        relu::cuda::backward(engine, y, dy, at(target)?)?;
                    } else {
                        engine.copy(at(dy)?, at(target)?, dy.elem_count())?;
                    }
                }
                Ok(())
            }
            Layer::SoftTree { .. } => {
                let (tree, output) = node.layer.tree(input[0], saved.pass.mode)?;
                let values = tree_values(network, node)?;
                let wanted = soft_tree::Wanted {
                    dx: wanted.dx,
                    adds: wanted.adds,
                    dw: gradient(0),
                    db: gradient(1),
                    d_leaves: gradient(2),
                };
                soft_tree::backward(engine, &tree, output, x, values, dy, wanted)
            }
            Layer::FakeQuant { .. } => {
                let levels = levels(network, node)?;
                // The gradient of a learned scale is that of training, whatever goes back.
                let straight = wanted.through == Estimator::StraightThrough;
                if let Some(d_scale) = gradient(0) {
                    let count = input.iter().product();
                    let dx = wanted.dx.filter(|_| straight);
                    let of = (x, dy);
                    fake_quant::cuda::backward_scale(engine, levels, of, count, dx, d_scale)?;
                    if straight {
                        return Ok(());
                    }
                }
                let Some(dx) = wanted.dx else { return Ok(()) };
                match wanted.through {
                    Estimator::StraightThrough => {
                        fake_quant::cuda::backward(engine, levels, x, dy, dx)
                    }
                    Estimator::Nothing => engine.zero(at(dx)?, dx.elem_count()),
                    Estimator::Identity => engine.copy(at(dy)?, at(dx)?, dy.elem_count()),
                }
            }
            layer => {
                let Some(dx) = wanted.dx else { return Ok(()) };
                match layer {
                    Layer::Normalize { std, .. } => {
                        normalize::cuda::backward(engine, std, input[1] * input[2], dy, dx)
                    }
                    Layer::Relu => relu::cuda::backward(engine, y, dy, at(dx)?),
                    Layer::MaxPool2d { .. } => {
                        let place = saved.pass.place;
                        let place = place.ok_or_else(|| invalid("a pooling keeps places"))?;
                        let windows = layer.windows(&input)?;
                        max_pool2d::cuda::backward(engine, &windows, input[0], place, dy, dx)
                    }
                    Layer::AveragePool2d { .. } => {
                        let windows = layer.windows(&input)?;
                        average_pool2d::cuda::backward(engine, &windows, input[0], dy, dx)
                    }
                    Layer::GlobalAveragePool => average_pool2d::cuda::backward_global(
                        engine,
                        input[1] * input[2],
                        input[0],
                        dy,
                        dx,
                    ),
                    _ => flatten::cuda::backward(engine, &input, dy, dx),
                }
            }
        }
    }
}
