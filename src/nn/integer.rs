//! Quantized networks computed with integers: 8-bit weights and activations, 32-bit sums.
//!
//! A network whose weights lie on levels and whose stored activations are rounded to levels, as quantization makes it, is
//! [lowered](IntegerNetwork::lower) once: weights are packed, batch normalizations and ReLUs become part of the step from
//! sums to stored activations ([`requantize`](super::op::integer::requantize)). What it computes is what the simulated
//! network computes in floats, up to the rounding of a value that lies between two levels: given the same stored
//! activations, a layer's own differ by one level at most.
//! Jacob et al. 2018, arXiv:1712.05877.

use candle_core::Tensor;

use super::op::fake_quant::Levels;
use super::op::integer::activations::{Sum, look_up, store_images};
use super::op::integer::conv2d::Conv2d;
use super::op::integer::depthwise_conv2d::DepthwiseConv2d;
use super::op::integer::requantize::Requantize;
use super::op::integer::{Path, Products, SLACK, Scratch, pool};
use super::op::max_pool2d::Windows;
use super::op::{read, tensor};
use super::{ImageShape, Result, invalid};

mod lower;

/// A network of integers.
#[derive(Debug)]
pub struct IntegerNetwork {
    name: String,
    input: ImageShape,
    classes: usize,
    mean: Vec<f32>,
    std: Vec<f32>,
    /// The stored activations, in order; the images' own are the first.
    activations: Vec<Activation>,
    logits: Logits,
    /// How many buffers activations take turns in.
    slots: usize,
    products: Products,
}

/// A stored activation.
#[derive(Debug)]
struct Activation {
    /// The node of the simulated network whose output it is.
    node: usize,
    /// Of the activations it is computed from.
    inputs: Vec<usize>,
    /// None of the images' own.
    op: Option<Op>,
    /// Bytes of one image.
    size: usize,
    levels: Levels,
    slot: usize,
}

/// How an activation is computed.
#[derive(Debug)]
enum Op {
    Conv2d(Box<Conv2d>, Requantize),
    DepthwiseConv2d(DepthwiseConv2d, Requantize),
    Maximum(Windows, usize),
    Mean {
        windows: Windows,
        channels: usize,
        zero: u8,
        then: Requantize,
    },
    GlobalMean {
        pixels: usize,
        zero: u8,
        then: Requantize,
    },
    Sum(Sum),
    /// Other levels for the same values, or a ReLU.
    Table(Box<[u8; 256]>),
}

/// The last layer: what its sums stand for.
#[derive(Debug)]
struct Logits {
    input: usize,
    conv: Conv2d,
    /// For each class.
    scales: Vec<f64>,
    offsets: Vec<f64>,
}

/// Memory that is used again from pass to pass.
#[derive(Debug, Default)]
pub struct IntegerWorkspace {
    slots: Vec<Vec<u8>>,
    sums: Vec<i32>,
    scratch: Scratch,
}

/// A stored activation, for those who compare it with the simulated network's.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The node of the simulated network whose output it is.
    pub node: usize,
    /// Which activations it is computed from, counted in their order.
    pub inputs: Vec<usize>,
    /// Bytes are counted from the least level.
    pub levels: Levels,
}

impl IntegerNetwork {
    /// The integers of a quantized network, for the fastest instructions of this processor.
    ///
    /// # Errors
    /// When something in it is no small integer: which layer, and what of it.
    pub fn lower(network: &super::network::Network) -> Result<Self> {
        lower::lower(network, Products::fastest())
    }

    /// As [`IntegerNetwork::lower`], for these products.
    ///
    /// # Errors
    /// Likewise.
    pub fn lower_for(network: &super::network::Network, products: Products) -> Result<Self> {
        lower::lower(network, products)
    }

    /// The architecture's id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instructions that it computes with.
    pub fn path(&self) -> Path {
        self.products.path()
    }

    /// The logits (B, K) of images (B, C, H, W) in [0, 1].
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn forward(&self, images: &Tensor, workspace: &mut IntegerWorkspace) -> Result<Tensor> {
        let shape = self.input;
        let batch = match images.dims() {
            [batch, c, h, w]
                if *batch > 0 && [*c, *h, *w] == [shape.channels, shape.height, shape.width] =>
            {
                *batch
            }
            dims => {
                return Err(invalid(format!(
                    "{} takes images of {}x{}x{}, one or more at a time, not {dims:?}",
                    self.name, shape.channels, shape.height, shape.width
                )));
            }
        };
        let IntegerWorkspace {
            slots,
            sums,
            scratch,
        } = workspace;
        if slots.len() < self.slots {
            slots.resize_with(self.slots, Vec::new);
        }
        let images = read(images)?;
        for activation in &self.activations {
            let mut own = std::mem::take(&mut slots[activation.slot]);
            let size = batch * activation.size;
            if own.len() < size + SLACK {
                own.resize(size + SLACK, 0);
            }
            match &activation.op {
                None => self.store(&images, &mut own[..size]),
                Some(op) => {
                    let mut inputs = [&[][..]; 2];
                    for (input, at) in inputs.iter_mut().zip(&activation.inputs) {
                        let from = &self.activations[*at];
                        *input = &slots[from.slot][..batch * from.size + SLACK];
                    }
                    op.forward(inputs, &mut own[..size], scratch);
                }
            }
            slots[activation.slot] = own;
        }
        let last = &self.activations[self.logits.input];
        let x = &slots[last.slot][..batch * last.size + SLACK];
        let logits = self.logits.forward(x, batch, sums, scratch);
        tensor(logits, &[batch, self.classes])
    }

    /// The images as the first activation.
    fn store(&self, images: &[f32], y: &mut [u8]) {
        let pixels = self.input.height * self.input.width;
        let levels = &self.activations[0].levels;
        store_images(&self.mean, &self.std, levels, pixels, images, y);
    }

    /// The stored activations, in order; the images' own are the first, and the logits come from the last of all.
    pub fn places(&self) -> Vec<Place> {
        let place = |activation: &Activation| Place {
            node: activation.node,
            inputs: activation.inputs.clone(),
            levels: activation.levels,
        };
        self.activations.iter().map(place).collect()
    }

    /// What the activation at `place`, not the images' own, is when its inputs are these: each channels last.
    pub fn stored_from(&self, place: usize, inputs: &[&[u8]], batch: usize) -> Vec<u8> {
        let activation = &self.activations[place];
        let inputs = inputs.iter().map(|input| with_slack(input));
        let inputs: Vec<Vec<u8>> = inputs.collect();
        let mut y = vec![0; batch * activation.size];
        if let Some(op) = &activation.op {
            let mut lent = [&[][..]; 2];
            for (lent, input) in lent.iter_mut().zip(&inputs) {
                *lent = input;
            }
            op.forward(lent, &mut y, &mut Scratch::default());
        }
        y
    }

    /// Which activation the logits are computed from.
    pub fn last(&self) -> usize {
        self.logits.input
    }

    /// The logits when the activation before them is this.
    pub fn logits_from(&self, input: &[u8], batch: usize) -> Vec<f32> {
        let (mut sums, mut scratch) = (Vec::new(), Scratch::default());
        self.logits
            .forward(&with_slack(input), batch, &mut sums, &mut scratch)
    }
}

fn with_slack(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0; SLACK]].concat()
}

impl Op {
    /// The activation from its inputs, which have slack behind their ends.
    fn forward(&self, [x, other]: [&[u8]; 2], y: &mut [u8], scratch: &mut Scratch) {
        let without_slack = |x: &'_ [u8]| x.len().saturating_sub(SLACK);
        match self {
            Self::Conv2d(conv, then) => conv.forward(x, then, y, scratch),
            Self::DepthwiseConv2d(conv, then) => conv.forward(x, then, y, scratch),
            Self::Maximum(windows, channels) => pool::maximum(windows, *channels, x, y),
            Self::Mean {
                windows,
                channels,
                zero,
                then,
            } => pool::mean(windows, *channels, *zero, x, then, y),
            Self::GlobalMean { pixels, zero, then } => {
                pool::global_mean(*pixels, *zero, x, then, y);
            }
            Self::Sum(sum) => {
                let (x, other) = (&x[..without_slack(x)], &other[..without_slack(other)]);
                sum.forward(x, other, y);
            }
            Self::Table(table) => look_up(table, &x[..without_slack(x)], y),
        }
    }
}

impl Logits {
    fn forward(
        &self,
        x: &[u8],
        batch: usize,
        sums: &mut Vec<i32>,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let classes = self.scales.len();
        sums.resize(batch * classes, 0);
        self.conv.sums(x, sums, scratch);
        let of_class = sums
            .iter()
            .zip(self.scales.iter().zip(&self.offsets).cycle());
        of_class
            .map(|(sum, (scale, offset))| (f64::from(*sum) * scale + offset) as f32)
            .collect()
    }
}
