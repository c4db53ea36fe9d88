//! Steps: which layers are computed in one pass, and each pass forward and backward.
//!
//! A convolution or a linear layer takes the ReLU behind it along, a convolution also the pooling behind that: their
//! results are the same bit for bit, and the values in between never travel to memory.

use candle_core::Tensor;

use super::layer::Layer;
use super::network::{Network, Node};
use super::op::conv2d::{self, Conv2d, Then};
use super::op::linear::{self, Size};
use super::op::{
    Scratch, fake_quant, max_pool2d, normalize, read, read_bytes, relu, write, write_bytes,
};
use super::{Result, invalid};

/// Nodes computed in one pass: from `first` to `last`, a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub first: usize,
    pub last: usize,
}

/// The steps of a network; `apart` computes each layer by itself.
pub fn plan(network: &Network, apart: bool) -> Vec<Step> {
    let nodes = network.nodes();
    let mut consumers = vec![0; nodes.len()];
    for input in nodes.iter().flat_map(|node| &node.inputs) {
        consumers[*input] += 1;
    }
    // Whether the node behind `at` takes that node alone, and nobody else does.
    let follows = |at: usize, wanted: fn(&Layer) -> bool| {
        !apart
            && consumers[at] == 1
            && nodes
                .get(at + 1)
                .is_some_and(|next| next.inputs == [at] && wanted(&next.layer))
    };
    let mut steps = Vec::new();
    let mut first = 0;
    while first < nodes.len() {
        let mut last = first;
        let layer = &nodes[first].layer;
        let computes = matches!(layer, Layer::Conv2d { .. } | Layer::Linear { .. });
        if computes && follows(last, |next| matches!(next, Layer::Relu)) {
            last += 1;
            let pools = |next: &Layer| matches!(next, Layer::MaxPool2d { .. });
            if matches!(layer, Layer::Conv2d { .. }) && follows(last, pools) {
                last += 1;
            }
        }
        steps.push(Step { first, last });
        first = last + 1;
    }
    steps
}

/// What a backward pass over a step reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved<'a> {
    pub(crate) x: &'a Tensor,
    pub(crate) y: &'a Tensor,
    pub(crate) place: Option<&'a Tensor>,
    pub(crate) dy: &'a Tensor,
}

/// What a backward pass over a step writes: as much as is there.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) dx: Option<&'a Tensor>,
    /// The parameters' gradients, in the order of the node's parameters.
    pub(crate) parameters: Vec<&'a Tensor>,
}

impl Step {
    fn node<'n>(&self, network: &'n Network) -> &'n Node {
        &network.nodes()[self.first]
    }

    /// The node whose output it takes; none takes the images.
    pub(crate) fn input(&self, network: &Network) -> Option<usize> {
        self.node(network).inputs.first().copied()
    }

    /// Whether its output is its input in another shape.
    pub(crate) fn is_view(&self, network: &Network) -> bool {
        matches!(self.node(network).layer, Layer::Flatten)
    }

    /// How many places of maxima it keeps for one example.
    pub(crate) fn places(&self, network: &Network) -> usize {
        match network.nodes()[self.last].layer {
            Layer::MaxPool2d { .. } => network.shape(self.last).iter().product(),
            _ => 0,
        }
    }

    /// Whether the backward pass reads the step's output.
    fn rectifies(&self) -> bool {
        self.last > self.first
    }

    fn convolution(&self, network: &Network) -> Result<Conv2d> {
        let geometry = self
            .node(network)
            .layer
            .geometry(&network.input_shape(self.first))?;
        let then = match self.last - self.first {
            0 => Then::Nothing,
            1 => Then::Relu,
            _ => {
                let pool = &network.nodes()[self.last].layer;
                Then::ReluMaxPool(pool.windows(network.shape(self.last - 1))?)
            }
        };
        let outputs = network.shape(self.first)[0];
        Ok(Conv2d {
            geometry,
            outputs,
            then,
        })
    }

    fn size(&self, network: &Network) -> Size {
        Size {
            inputs: network.input_shape(self.first)[0],
            outputs: network.shape(self.first)[0],
        }
    }

    /// Writes the output for an input; and the places of maxima where it keeps them.
    pub(crate) fn forward(
        &self,
        network: &Network,
        x: &Tensor,
        y: &Tensor,
        place: Option<&Tensor>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let node = self.node(network);
        let parameter = |at: usize| {
            node.parameters
                .get(at)
                .map(|p| &network.parameters().at(*p).value)
        };
        let w = parameter(0).map(read).transpose()?;
        let b = parameter(1).map(read).transpose()?;
        let (w, b) = (w.as_deref().unwrap_or_default(), b.as_deref());
        let x = read(x)?;
        match &node.layer {
            Layer::Normalize { mean, std } => {
                let plane = network.shape(self.first)[1..].iter().product();
                write(y, |y| normalize::forward(mean, std, &x, y, plane))
            }
            Layer::Conv2d { .. } => {
                let conv = self.convolution(network)?;
                match place {
                    Some(place) => write(y, |y| {
                        write_bytes(place, |place| conv.forward(&x, w, b, y, place, scratch))
                    })?,
                    None => write(y, |y| conv.forward(&x, w, b, y, &mut [], scratch)),
                }
            }
            Layer::Linear { .. } => {
                let size = self.size(network);
                write(y, |y| linear::forward(size, self.rectifies(), &x, w, b, y))
            }
            Layer::Relu => write(y, |y| relu::forward(&x, y)),
            Layer::MaxPool2d { .. } => {
                let windows = node.layer.windows(&network.input_shape(self.first))?;
                let Some(place) = place else { return Ok(()) };
                write(y, |y| {
                    write_bytes(place, |place| max_pool2d::forward(&windows, &x, y, place))
                })?
            }
            // A view: there is nothing to compute.
            Layer::Flatten => Ok(()),
            Layer::FakeQuant { .. } => {
                let levels = levels(&node.layer)?;
                write(y, |y| fake_quant::forward(&levels, &x, y))
            }
        }
    }

    /// Writes the gradients that are wanted.
    pub(crate) fn backward(
        &self,
        network: &Network,
        saved: Saved<'_>,
        wanted: &Wanted<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let node = self.node(network);
        let (x, y, dy) = (read(saved.x)?, read(saved.y)?, read(saved.dy)?);
        let place = saved.place.map(read_bytes).transpose()?;
        let place = place.as_deref().unwrap_or_default();
        let (dw, db) = (wanted.parameters.first(), wanted.parameters.get(1));
        match &node.layer {
            Layer::Conv2d { .. } | Layer::Linear { .. } => {
                let w = read(&network.parameters().at(node.parameters[0]).value)?;
                lend(wanted.dx, |dx| {
                    lend(dw.copied(), |dw| {
                        lend(db.copied(), |db| {
                            if matches!(node.layer, Layer::Linear { .. }) {
                                let size = self.size(network);
                                let saved = linear::Saved {
                                    x: &x,
                                    w: &w,
                                    y: self.rectifies().then_some(&*y),
                                    dy: &dy,
                                };
                                linear::backward(
                                    size,
                                    saved,
                                    linear::Wanted { dx, dw, db },
                                    scratch,
                                );
                                return Ok(());
                            }
                            let saved = conv2d::Saved {
                                x: &x,
                                w: &w,
                                y: &y,
                                place,
                                dy: &dy,
                            };
                            let wanted = conv2d::Wanted { dx, dw, db };
                            self.convolution(network)?.backward(saved, wanted, scratch);
                            Ok(())
                        })?
                    })?
                })?
            }
            layer => lend(wanted.dx, |dx| {
                let Some(dx) = dx else { return Ok(()) };
                match layer {
                    Layer::Normalize { std, .. } => {
                        let plane = network.shape(self.first)[1..].iter().product();
                        normalize::backward(std, &dy, dx, plane);
                    }
                    Layer::Relu => relu::backward(&y, &dy, dx),
                    Layer::MaxPool2d { .. } => {
                        let windows = layer.windows(&network.input_shape(self.first))?;
                        max_pool2d::backward(&windows, place, &dy, dx);
                    }
                    Layer::FakeQuant { .. } => {
                        fake_quant::backward(&levels(layer)?, &x, &dy, dx);
                    }
                    Layer::Flatten | Layer::Conv2d { .. } | Layer::Linear { .. } => {}
                }
                Ok(())
            })?,
        }
    }
}

/// Lends a tensor for writing, if there is one.
fn lend<R>(tensor: Option<&Tensor>, fill: impl FnOnce(Option<&mut [f32]>) -> R) -> Result<R> {
    match tensor {
        Some(tensor) => write(tensor, |values| fill(Some(values))),
        None => Ok(fill(None)),
    }
}

/// The levels of a layer that has some.
fn levels(layer: &Layer) -> Result<fake_quant::Levels> {
    layer
        .levels()
        .ok_or_else(|| invalid("only a simulated quantization has levels"))
}
