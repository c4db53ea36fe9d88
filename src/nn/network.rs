//! A network: layers as an explicit graph in topological order, each with a name, and its parameters.
//!
//! One representation serves the forward and the backward pass, cost, taps on activations and the list on screen.

use candle_core::{Device, Tensor};

use super::layer::{Layer, Needed};
use super::op::batch_norm2d::{self, Statistics};
#[cfg(feature = "cuda")]
use super::op::order::{Order, placed};
use super::op::{tensor, write};
#[cfg(feature = "cuda")]
use super::parameters::settled;
use super::parameters::{Parameter, ParameterRole, Parameters};
use super::rng::Rng;
pub use super::trace::{Gradients, Keep, Trace, Wanted};
pub use super::workspace::{Frozen, Workspace};
use super::{ImageShape, Mode, Result, cost, invalid};
use crate::event::LayerFacts;

mod file;
mod fold;
mod steps;

pub use file::Filed;
pub(crate) use steps::STEP;

/// A layer at its place in the graph.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub layer: Layer,
    /// The nodes whose outputs it takes, all earlier ones; the first node takes the images instead.
    pub inputs: Vec<usize>,
    /// Where its parameters lie among the network's.
    pub parameters: Vec<usize>,
    /// Which of the channels that it was laid out with it still makes; all without.
    pub kept: Option<Kept>,
}

/// The channels that a layer kept of those it was laid out with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub of: usize,
    /// In rising order.
    pub channels: Vec<u32>,
}

impl Kept {
    /// Those of `now` channels at the places `kept`, counted in what the layer was laid out with.
    pub(crate) fn of(before: Option<&Self>, now: usize, kept: &[usize]) -> Self {
        match before {
            Some(before) => Self {
                of: before.of,
                channels: kept.iter().map(|at| before.channels[*at]).collect(),
            },
            None => Self {
                of: now,
                channels: kept.iter().map(|at| *at as u32).collect(),
            },
        }
    }
}

/// The statistics of one training batch at every batch normalization.
#[derive(Clone, Debug, Default)]
pub struct BatchStatistics(pub(super) Vec<(usize, Measured)>);

/// The statistics of one batch normalization, where they were measured.
#[derive(Clone, Debug)]
pub(super) enum Measured {
    Host(Statistics),
    /// As the kernels keep them, over so many values of each channel.
    #[cfg(feature = "cuda")]
    Device(Tensor, usize),
}

/// Layers and parameters.
#[derive(Debug)]
pub struct Network {
    name: String,
    input: ImageShape,
    classes: usize,
    nodes: Vec<Node>,
    /// The shape of one example's output, for each node.
    shapes: Vec<Vec<usize>>,
    parameters: Parameters,
}

impl Network {
    /// A chain of layers, each taking the one before; the first normalizes, the last gives one logit per class.
    ///
    /// Weights of convolutions are drawn uniformly from ±sqrt(3 / fan-in), the variance 1 / fan-in (LeCun et al. 1998,
    /// "Efficient BackProp", section 4.6), and their biases are 0; weights and biases of linear layers from
    /// ±1/sqrt(fan-in), PyTorch's default for all layers. Each parameter has a stream `init` of the seed by its place.
    /// With PyTorch's default throughout, the signal of an eight-layer network without normalization shrinks layer by
    /// layer: its loss stands still for hundreds of steps, then breaks out, and at large rates never comes back. With
    /// He's variance, twice as large, shallow networks end a little worse.
    pub fn chain(
        name: &str,
        input: ImageShape,
        classes: usize,
        layers: Vec<(&str, Layer)>,
        seed: u64,
    ) -> Result<Self> {
        let mut builder = Builder::new(name, input, classes, seed);
        builder.chain(layers)?;
        builder.finish()
    }

    fn push(
        &mut self,
        name: &str,
        layer: Layer,
        inputs: Vec<usize>,
        seed: Option<u64>,
    ) -> Result<()> {
        let input = match inputs.first() {
            Some(input) => self.shapes[*input].clone(),
            None => vec![self.input.channels, self.input.height, self.input.width],
        };
        let shape = layer
            .output_shape(&input)
            .map_err(|error| at_layer(name, &error))?;
        let mut parameters = Vec::new();
        let needs = layer.needs(&input);
        let fan_in = fan_in(&needs);
        let start = match layer {
            Layer::Linear { .. } => Start::Linear,
            _ => Start::Convolution,
        };
        for needed in needs {
            let value = match seed {
                Some(seed) => {
                    let mut rng = Rng::stream(seed, "init", &[self.parameters.len() as u64]);
                    initial(&needed, start, fan_in, &mut rng)?
                }
                // Memory that nobody writes to is never really taken.
                None => tensor(vec![0.0; needed.shape.iter().product()], &needed.shape)?,
            };
            let parameter = Parameter {
                name: format!("{name}.{}", needed.suffix),
                role: needed.role,
                value,
                mask: None,
                levels: None,
            };
            parameters.push(self.parameters.push(parameter));
        }
        self.nodes.push(Node {
            name: name.to_owned(),
            layer,
            inputs,
            parameters,
            kept: None,
        });
        self.shapes.push(shape);
        Ok(())
    }

    /// The architecture's id.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn input(&self) -> ImageShape {
        self.input
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The place of the node of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The shape of one example's output of a node.
    pub fn shape(&self, node: usize) -> &[usize] {
        &self.shapes[node]
    }

    /// The shape of one example's input of a node.
    pub fn input_shape(&self, node: usize) -> Vec<usize> {
        match self.nodes[node].inputs.first() {
            Some(input) => self.shapes[*input].clone(),
            None => vec![self.input.channels, self.input.height, self.input.width],
        }
    }

    /// Remembers which channels a node still makes.
    pub(crate) fn note_kept(&mut self, node: usize, kept: Kept) {
        self.nodes[node].kept = Some(kept);
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Whether it ends in a soft decision tree, which in training gives scores and no logits.
    pub fn is_tree(&self) -> bool {
        let last = self.nodes.last();
        last.is_some_and(|node| matches!(node.layer, Layer::SoftTree { .. }))
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        let first = self.parameters.iter().next();
        first.map_or(Device::Cpu, |parameter| parameter.value.device().clone())
    }

    /// The network on a device, where it then computes; on the one where it is, itself.
    pub fn to_device(self, device: &Device) -> Result<Self> {
        if self.device().same_device(device) {
            return Ok(self);
        }
        #[cfg(feature = "cuda")]
        {
            let mut network = self;
            for node in &network.nodes {
                let order = match node.layer {
                    Layer::Conv2d { .. } => Order::ChannelsLast,
                    Layer::DepthwiseConv2d { .. } => Order::Depthwise,
                    _ => Order::Rows,
                };
                for place in &node.parameters {
                    let parameter = network.parameters.at_mut(*place);
                    let order = match parameter.role {
                        ParameterRole::Weight => order,
                        _ => Order::Rows,
                    };
                    parameter.value = placed(&parameter.value, order, device)?;
                    if let Some(mask) = &parameter.mask {
                        parameter.mask = Some(placed(mask, order, device)?);
                    }
                    parameter.levels = settled(parameter)?;
                }
            }
            // Those of no layer: the steps of weights.
            for parameter in &mut network.parameters {
                if !parameter.value.device().same_device(device) {
                    parameter.value = placed(&parameter.value, Order::Rows, device)?;
                }
            }
            Ok(network)
        }
        #[cfg(not(feature = "cuda"))]
        Err(invalid("this program computes on the CPU alone"))
    }

    /// A copy that shares no memory: changing one never changes the other.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(Self {
            name: self.name.clone(),
            input: self.input,
            classes: self.classes,
            nodes: self.nodes.clone(),
            shapes: self.shapes.clone(),
            parameters: self.parameters.duplicate()?,
        })
    }

    /// Moves running statistics towards those of a training batch: what [`Trace::statistics`] saw, and the trainer alone
    /// decides to keep.
    pub fn commit(&mut self, statistics: &BatchStatistics) -> Result<()> {
        self.commit_by(statistics, None)
    }

    /// Likewise by a momentum other than the layers' own: 1 / k for the k-th of some batches makes the running
    /// statistics the mean of theirs.
    pub fn commit_by(&mut self, statistics: &BatchStatistics, momentum: Option<f64>) -> Result<()> {
        #[cfg(feature = "cuda")]
        let mut on_device = Vec::new();
        for (at, of_batch) in &statistics.0 {
            let node = &self.nodes[*at];
            let (Layer::BatchNorm2d { momentum: own, .. }, [_, _, mean, variance]) =
                (&node.layer, node.parameters.as_slice())
            else {
                return Err(invalid(format!("{} has no running statistics", node.name)));
            };
            let momentum = momentum.unwrap_or(*own);
            let (mean, variance) = (self.parameters.at(*mean), self.parameters.at(*variance));
            match of_batch {
                Measured::Host(of_batch) => write(&mean.value, |mean| {
                    write(&variance.value, |variance| {
                        batch_norm2d::commit(mean, variance, of_batch, momentum);
                    })
                })??,
                #[cfg(feature = "cuda")]
                Measured::Device(of_batch, count) => on_device.push(batch_norm2d::cuda::Kept {
                    mean: &mean.value,
                    variance: &variance.value,
                    statistics: of_batch,
                    count: *count,
                    momentum,
                }),
            }
        }
        #[cfg(feature = "cuda")]
        if !on_device.is_empty() {
            let Some(engine) = self.parameters.engine()? else {
                return Err(invalid("statistics of a GPU are for a network there"));
            };
            batch_norm2d::cuda::commit(&engine, &on_device)?;
        }
        Ok(())
    }

    /// Puts a layer without parameters between a node and everything that took its output.
    pub fn insert_after(&mut self, node: &str, name: &str, layer: Layer) -> Result<()> {
        let at = self
            .position(node)
            .ok_or_else(|| invalid(format!("the network has no layer named {node}")))?;
        if self.position(name).is_some() {
            return Err(invalid(format!(
                "the network already has a layer named {name}"
            )));
        }
        let input = &self.shapes[at];
        let shape = layer
            .output_shape(input)
            .map_err(|error| at_layer(name, &error))?;
        if !layer.needs(input).is_empty() || shape != *input {
            return Err(invalid(format!(
                "{name} cannot be inserted: only a layer without parameters that keeps its input's shape can"
            )));
        }
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            // What took the node takes the new one, and every later place moves up by one.
            if *input >= at {
                *input += 1;
            }
        }
        let node = Node {
            name: name.to_owned(),
            layer,
            inputs: vec![at],
            parameters: Vec::new(),
            kept: None,
        };
        self.nodes.insert(at + 1, node);
        self.shapes.insert(at + 1, shape);
        Ok(())
    }

    /// Replaces a layer that has no parameters by another such (another scale of a simulated quantization).
    pub fn replace(&mut self, name: &str, layer: Layer) -> Result<()> {
        let at = self
            .position(name)
            .ok_or_else(|| invalid(format!("the network has no layer named {name}")))?;
        let input = self.input_shape(at);
        let same = layer
            .output_shape(&input)
            .map_err(|error| at_layer(name, &error))?
            == self.shapes[at];
        if !same || !layer.needs(&input).is_empty() || !self.nodes[at].parameters.is_empty() {
            return Err(invalid(format!(
                "{name} cannot be replaced: only a layer without parameters by one of the same shape can"
            )));
        }
        self.nodes[at].layer = layer;
        Ok(())
    }

    /// The forward pass. `images` are (B, C, H, W) in [0, 1].
    ///
    /// In training all that a backward pass needs is kept; in use nothing is but the logits. `trace` says it in detail.
    pub fn forward<'w>(
        &'w self,
        images: &Tensor,
        mode: Mode,
        workspace: &'w mut Workspace,
    ) -> Result<Trace<'w>> {
        let keep = match mode {
            Mode::Train => Keep::Gradients,
            Mode::Eval => Keep::Nothing,
        };
        self.trace(images, mode, keep, workspace)
    }

    /// The forward pass, with a say in what is kept: an attack goes backward in `Mode::Eval`, a probe taps activations.
    pub fn trace<'w>(
        &'w self,
        images: &Tensor,
        mode: Mode,
        keep: Keep,
        workspace: &'w mut Workspace,
    ) -> Result<Trace<'w>> {
        Trace::forward(self, images, mode, keep, workspace)
    }

    /// Facts of every layer, in order.
    pub fn layers(&self) -> Vec<LayerFacts> {
        cost::layers(self)
    }

    /// Multiply-accumulates of one image's forward pass.
    pub fn macs(&self) -> u64 {
        cost::macs(self)
    }
}

/// An error with the layer's name before it.
fn at_layer(name: &str, error: &candle_core::Error) -> candle_core::Error {
    invalid(format!("{name}: {error}"))
}

/// How many inputs each weight's sum has.
fn fan_in(needs: &[Needed]) -> usize {
    needs
        .iter()
        .find(|needed| needed.role == ParameterRole::Weight)
        .map_or(1, |weight| weight.shape[1..].iter().product())
}

/// Which layers are drawn how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Convolution,
    Linear,
}

/// The values that a parameter begins with, in a layer whose weights have that many inputs.
fn initial(needed: &Needed, start: Start, fan_in: usize, rng: &mut Rng) -> Result<Tensor> {
    let bound = (fan_in.max(1) as f64).sqrt().recip();
    let wide = 3.0_f64.sqrt() * bound;
    let mut value = || match (needed.role, start) {
        (ParameterRole::Weight, Start::Convolution) => rng.between(-wide, wide) as f32,
        (ParameterRole::Weight | ParameterRole::Bias, Start::Linear) => {
            rng.between(-bound, bound) as f32
        }
        (ParameterRole::Scale | ParameterRole::RunningVariance | ParameterRole::Step, _) => 1.0,
        (ParameterRole::Bias | ParameterRole::Shift | ParameterRole::RunningMean, _) => 0.0,
    };
    let n = needed.shape.iter().product();
    tensor((0..n).map(|_| value()).collect(), &needed.shape)
}

/// A network that grows node by node, each taking earlier ones.
///
/// A sum is computed together with what stands right in front of it, so a block's shortcut comes first and its sum last.
#[derive(Debug)]
pub struct Builder {
    network: Network,
    seed: Option<u64>,
}

impl Builder {
    /// Nothing yet. The seed alone decides the initial weights, as [`Network::chain`] says.
    pub fn new(name: &str, input: ImageShape, classes: usize, seed: u64) -> Self {
        Self {
            seed: Some(seed),
            ..Self::outline(name, input, classes)
        }
    }

    /// Nothing yet, of a network whose weights are all zero: for what its shapes alone say, at no cost.
    pub fn outline(name: &str, input: ImageShape, classes: usize) -> Self {
        let network = Network {
            name: name.to_owned(),
            input,
            classes,
            nodes: Vec::new(),
            shapes: Vec::new(),
            parameters: Parameters::default(),
        };
        Self {
            network,
            seed: None,
        }
    }

    /// The shape of the images.
    pub fn input(&self) -> ImageShape {
        self.network.input
    }

    pub fn classes(&self) -> usize {
        self.network.classes
    }

    /// A layer that takes the last one's output, or the images; its place.
    pub fn then(&mut self, name: &str, layer: Layer) -> Result<usize> {
        let inputs: Vec<usize> = self
            .network
            .nodes
            .len()
            .checked_sub(1)
            .into_iter()
            .collect();
        self.after(&inputs, name, layer)
    }

    /// Layers that each take the one before.
    pub fn chain(&mut self, layers: Vec<(&str, Layer)>) -> Result<()> {
        for (name, layer) in layers {
            self.then(name, layer)?;
        }
        Ok(())
    }

    /// A layer that takes the outputs of the nodes at those places; its own place.
    pub fn after(&mut self, inputs: &[usize], name: &str, layer: Layer) -> Result<usize> {
        let at = self.network.nodes.len();
        if self.network.position(name).is_some() {
            return Err(invalid(format!(
                "the network already has a layer named {name}"
            )));
        }
        let takes = if layer == Layer::Add { 2 } else { 1 };
        let first = at == 0 && inputs.is_empty();
        if !first && (inputs.len() != takes || inputs.iter().any(|input| *input >= at)) {
            return Err(invalid(format!(
                "{name} takes {takes} earlier layers, not those at {inputs:?}"
            )));
        }
        if let [one, other] = inputs
            && self.network.shapes[*one] != self.network.shapes[*other]
        {
            return Err(invalid(format!(
                "{name} cannot add {:?} and {:?}",
                self.network.shapes[*one], self.network.shapes[*other]
            )));
        }
        self.network.push(name, layer, inputs.to_vec(), self.seed)?;
        Ok(at)
    }

    /// The shape of one example's output of a node.
    pub fn shape(&self, node: usize) -> &[usize] {
        self.network.shape(node)
    }

    /// The network, if it begins by normalizing and ends in a logit for each class.
    pub fn finish(self) -> Result<Network> {
        let (name, classes) = (&self.network.name, self.network.classes);
        let normalizes = |node: &Node| matches!(node.layer, Layer::Normalize { .. });
        if !self.network.nodes.first().is_some_and(normalizes) {
            return Err(invalid(format!("{name} does not begin by normalizing")));
        }
        match self.network.shapes.last() {
            Some(shape) if *shape == [classes] => Ok(self.network),
            shape => Err(invalid(format!(
                "{name} ends in {shape:?} instead of {classes} logits"
            ))),
        }
    }
}
