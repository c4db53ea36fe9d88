//! From a quantized network to its integers.

use super::{Activation, IntegerNetwork, Logits, Op};
use crate::nn::layer::Layer;
use crate::nn::network::{Network, Node};
use crate::nn::op::fake_quant::Levels;
use crate::nn::op::geometry::Geometry;
use crate::nn::op::integer::Products;
use crate::nn::op::integer::activations::{Sum, mean};
use crate::nn::op::integer::conv2d::Conv2d;
use crate::nn::op::integer::depthwise_conv2d::DepthwiseConv2d;
use crate::nn::op::integer::requantize::{Affine, Requantize};
use crate::nn::{Result, invalid};

mod numbers;

/// Layers that are computed in one step, from a node on.
#[derive(Debug)]
struct Chain {
    norm: Option<usize>,
    relu: bool,
    /// The rounding at the end.
    levels: Option<Levels>,
    last: usize,
}

/// The network as far as it is lowered.
struct Lowering<'n> {
    network: &'n Network,
    products: Products,
    activations: Vec<Activation>,
    /// For each node, where its output is stored.
    stored: Vec<Option<usize>>,
    /// Nodes that are part of a step.
    taken: Vec<bool>,
}

/// The integers of a network.
pub(super) fn lower(network: &Network, products: Products) -> Result<IntegerNetwork> {
    let nodes = network.nodes();
    let mut lowering = Lowering {
        network,
        products,
        activations: Vec::new(),
        stored: vec![None; nodes.len()],
        taken: vec![false; nodes.len()],
    };
    let mut logits = None;
    for (at, node) in nodes.iter().enumerate() {
        if !lowering.taken[at] {
            logits = lowering
                .node(at)
                .map_err(|error| invalid(format!("{} is no integer layer: {error}", node.name)))?;
        }
    }
    let logits = logits.ok_or_else(|| {
        invalid(format!(
            "{} does not end in the sums of a linear layer or a convolution",
            network.name()
        ))
    })?;
    let Some(Layer::Normalize { mean, std }) = nodes.first().map(|node| &node.layer) else {
        return Err(invalid("a network begins by normalizing"));
    };
    let mut activations = lowering.activations;
    let slots = slots(&mut activations, logits.input);
    Ok(IntegerNetwork {
        name: network.name().to_owned(),
        input: network.input(),
        classes: network.classes(),
        mean: mean.clone(),
        std: std.clone(),
        activations,
        logits,
        slots,
        products,
    })
}

/// Gives each activation a buffer that nobody needs any more when it is computed; how many there are.
fn slots(activations: &mut [Activation], last: usize) -> usize {
    let mut needed = vec![0; activations.len()];
    for (at, activation) in activations.iter().enumerate() {
        for input in &activation.inputs {
            needed[*input] = at;
        }
    }
    needed[last] = activations.len();
    let mut held: Vec<usize> = Vec::new();
    for at in 0..activations.len() {
        let free = held.iter().position(|until| *until < at);
        let slot = free.unwrap_or(held.len());
        if free.is_none() {
            held.push(0);
        }
        held[slot] = needed[at].max(at);
        activations[at].slot = slot;
    }
    held.len()
}

/// The zero point as a byte.
fn zero(levels: &Levels) -> u8 {
    (levels.zero_point - levels.q_min) as u8
}

/// The greatest byte.
fn most(levels: &Levels) -> u8 {
    (levels.q_max - levels.q_min) as u8
}

fn least(levels: &Levels, relu: bool) -> u8 {
    if relu { zero(levels) } else { 0 }
}

/// Levels that a byte tells apart, from the least on.
fn bytes(levels: Levels) -> Result<Levels> {
    let count = i64::from(levels.q_max) - i64::from(levels.q_min);
    let holds_zero = (levels.q_min..=levels.q_max).contains(&levels.zero_point);
    if (1..=255).contains(&count) && holds_zero {
        return Ok(levels);
    }
    Err(invalid(format!(
        "its activation has {} levels from {} to {}, and a byte holds 256 around a zero point",
        count + 1,
        levels.q_min,
        levels.q_max
    )))
}

impl Lowering<'_> {
    fn readers(&self, node: usize) -> Vec<usize> {
        let nodes = self.network.nodes();
        let reads = |reader: &usize| nodes[*reader].inputs.contains(&node);
        (node + 1..nodes.len()).filter(reads).collect()
    }

    /// What is computed together with a node.
    fn chain(&self, from: usize) -> Result<Chain> {
        let mut chain = Chain {
            norm: None,
            relu: false,
            levels: None,
            last: from,
        };
        while let [next] = self.readers(chain.last)[..] {
            let layer = &self.network.nodes()[next].layer;
            match layer {
                Layer::BatchNorm2d { .. } if chain.norm.is_none() && !chain.relu => {
                    chain.norm = Some(next);
                }
                Layer::Relu => chain.relu = true,
                Layer::FakeQuant { .. } => chain.levels = layer.levels().map(bytes).transpose()?,
                _ => break,
            }
            chain.last = next;
            if chain.levels.is_some() {
                break;
            }
        }
        Ok(chain)
    }

    /// The levels at the end of a chain.
    fn levels(chain: &Chain) -> Result<Levels> {
        chain
            .levels
            .ok_or_else(|| invalid("its activation is not rounded to levels"))
    }

    /// Where a node's input is stored.
    fn input(&self, node: &Node, at: usize) -> Result<usize> {
        let input = node.inputs.get(at).and_then(|input| self.stored[*input]);
        input.ok_or_else(|| invalid("what it takes is not rounded to levels"))
    }

    /// The next stored activation: the output of the nodes from `first` to the chain's last.
    fn push(
        &mut self,
        first: usize,
        last: usize,
        levels: Levels,
        inputs: Vec<usize>,
        op: Option<Op>,
    ) {
        self.activations.push(Activation {
            node: last,
            inputs,
            op,
            size: self.network.shape(last).iter().product(),
            levels,
            slot: 0,
        });
        let mut at = last;
        loop {
            self.taken[at] = true;
            if at == first {
                break;
            }
            at = self.network.nodes()[at].inputs[0];
        }
        self.stored[last] = Some(self.activations.len() - 1);
    }

    /// The step that begins with a node; the logits if it gives them.
    fn node(&mut self, at: usize) -> Result<Option<Logits>> {
        let network = self.network;
        let node = &network.nodes()[at];
        let shape = network.input_shape(at);
        match &node.layer {
            Layer::Normalize { .. } => {
                let chain = self.chain(at)?;
                let levels = Self::levels(&chain)?;
                if chain.relu || chain.norm.is_some() {
                    return Err(invalid("something lies between it and its rounding"));
                }
                self.push(at, chain.last, levels, Vec::new(), None);
            }
            Layer::Conv2d { .. } | Layer::Linear { .. } => return self.product(at),
            Layer::DepthwiseConv2d { .. } => {
                let input = self.input(node, 0)?;
                let chain = self.chain(at)?;
                let (from, to) = (self.activations[input].levels, Self::levels(&chain)?);
                let (weights, scales) = self.weights(node, None)?;
                let geometry = node.layer.geometry(&shape)?;
                let conv = DepthwiseConv2d::new(geometry, zero(&from), &weights, self.products);
                let channels = self.affines(node, &chain, &from, &scales, &conv.most())?;
                let then = stored(&channels, &to, chain.relu)?;
                let op = Op::DepthwiseConv2d(conv, then);
                self.push(at, chain.last, to, vec![input], Some(op));
            }
            Layer::MaxPool2d { .. } => {
                let input = self.input(node, 0)?;
                let op = Op::Maximum(node.layer.windows(&shape)?, shape[0]);
                let levels = self.activations[input].levels;
                self.push(at, at, levels, vec![input], Some(op));
            }
            Layer::AveragePool2d { .. } | Layer::GlobalAveragePool => self.mean(at)?,
            Layer::Add => {
                let inputs = vec![self.input(node, 0)?, self.input(node, 1)?];
                let chain = self.chain(at)?;
                if chain.norm.is_some() {
                    return Err(invalid("a batch normalization follows it"));
                }
                let to = Self::levels(&chain)?;
                let of = |input: usize| {
                    let levels = &self.activations[input].levels;
                    (
                        f64::from(levels.scale) / f64::from(to.scale),
                        f64::from(zero(levels)),
                    )
                };
                let [(a, zero_a), (b, zero_b)] = [of(inputs[0]), of(inputs[1])];
                let offset = f64::from(zero(&to)) - a * zero_a - b * zero_b;
                let sum = Sum::new([a, b], offset, least(&to, chain.relu), most(&to))?;
                self.push(at, chain.last, to, inputs, Some(Op::Sum(sum)));
            }
            Layer::Flatten => {
                // Channels stay last: the layer behind takes its weights in that order.
                self.stored[at] = Some(self.input(node, 0)?);
            }
            Layer::Relu | Layer::FakeQuant { .. } => {
                let input = self.input(node, 0)?;
                let from = self.activations[input].levels;
                let to = node.layer.levels().map_or(Ok(from), bytes)?;
                let is_relu = node.layer == Layer::Relu;
                let table = std::array::from_fn(|byte| {
                    let value = from.dequantize(byte as i32 + from.q_min);
                    let value = if is_relu { value.max(0.0) } else { value };
                    (to.quantize(value) - to.q_min) as u8
                });
                self.push(at, at, to, vec![input], Some(Op::Table(Box::new(table))));
            }
            Layer::BatchNorm2d { .. } => {
                return Err(invalid("it does not follow a convolution's sums"));
            }
            Layer::SoftTree { .. } => return Err(invalid("it has no integer form")),
        }
        Ok(None)
    }

    /// A convolution or a linear layer.
    fn product(&mut self, at: usize) -> Result<Option<Logits>> {
        let network = self.network;
        let node = &network.nodes()[at];
        let input = self.input(node, 0)?;
        let chain = self.chain(at)?;
        let from = self.activations[input].levels;
        let shape = network.input_shape(at);
        let is_linear = matches!(node.layer, Layer::Linear { .. });
        let geometry = if is_linear {
            Geometry::pixel(shape[0])
        } else {
            node.layer.geometry(&shape)?
        };
        // Behind a flattening the features of a pixel lie side by side, not those of a channel.
        let planes = match self.network.shape(self.activations[input].node) {
            [c, h, w] if is_linear => Some([*c, *h, *w]),
            _ => None,
        };
        let (weights, scales) = self.weights(node, planes)?;
        let conv = Conv2d::new(geometry, zero(&from), &weights, self.products);
        if chain.levels.is_none() && chain.last + 1 == network.nodes().len() {
            if chain.relu {
                return Err(invalid("the logits are rectified"));
            }
            let (factors, offsets) = self.constants(node, &chain, scales.len())?;
            let scale = f64::from(from.scale);
            return Ok(Some(Logits {
                input,
                conv,
                scales: factors
                    .iter()
                    .zip(&scales)
                    .map(|(f, s)| f * s * scale)
                    .collect(),
                offsets,
            }));
        }
        let to = Self::levels(&chain)?;
        let channels = self.affines(node, &chain, &from, &scales, &conv.most())?;
        let then = stored(&channels, &to, chain.relu)?;
        let op = Op::Conv2d(Box::new(conv), then);
        self.push(at, chain.last, to, vec![input], Some(op));
        Ok(None)
    }

    fn mean(&mut self, at: usize) -> Result<()> {
        let network = self.network;
        let node = &network.nodes()[at];
        let shape = network.input_shape(at);
        let input = self.input(node, 0)?;
        let chain = self.chain(at)?;
        if chain.norm.is_some() {
            return Err(invalid("a batch normalization follows it"));
        }
        let (from, to) = (self.activations[input].levels, Self::levels(&chain)?);
        let scales = (f64::from(from.scale), f64::from(to.scale));
        let then = |pixels: usize| {
            let channel = mean(pixels, scales.0, scales.1, zero(&to));
            Requantize::new(&vec![channel; shape[0]], least(&to, chain.relu), most(&to))
        };
        let op = match &node.layer {
            Layer::GlobalAveragePool => Op::GlobalMean {
                pixels: shape[1] * shape[2],
                zero: zero(&from),
                then: then(shape[1] * shape[2])?,
            },
            layer => {
                let windows = layer.windows(&shape)?;
                Op::Mean {
                    windows,
                    channels: shape[0],
                    zero: zero(&from),
                    then: then(windows.kernel * windows.kernel)?,
                }
            }
        };
        self.push(at, chain.last, to, vec![input], Some(op));
        Ok(())
    }
}

fn stored(channels: &[Affine], to: &Levels, relu: bool) -> Result<Requantize> {
    Requantize::new(channels, least(to, relu), most(to))
}
