//! One forward pass and what it kept; from it, backward.
//!
//! The network carries its own reverse pass: it walks the steps backward and computes only what is wanted, so that an
//! attack pays for the images' gradient and for nothing else.
//!
//! Images come and their gradients go as (B, C, H, W). Between the layers channels are last: (B, H, W, C).

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use super::network::{BatchStatistics, Measured, Network};
use super::op::fake_quant::Estimator;
use super::op::{self, add::sum_up};
use super::step::{self, Pass, Saved, Step, Together};
use super::workspace::Workspace;
use super::{Mode, Result, invalid};

/// What a forward pass keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The logits alone: buffers are used again as soon as nobody reads them any more.
    Nothing,
    /// What a backward pass needs: the output of each step.
    Gradients,
    /// The output of every layer, each computed by itself; a backward pass is possible too, and gives the same bits
    /// unless the network normalizes batches, which in evaluation are otherwise folded into the weights before them.
    Activations,
}

/// Which gradients a backward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// With respect to the images.
    pub input: bool,
    /// With respect to every parameter.
    pub parameters: bool,
    /// How gradients go back through rounded activations.
    pub through: Estimator,
}

impl Wanted {
    /// What training wants.
    pub const PARAMETERS: Self = Self {
        input: false,
        parameters: true,
        through: Estimator::StraightThrough,
    };
    /// What an attack wants.
    pub const INPUT: Self = Self {
        input: true,
        parameters: false,
        through: Estimator::StraightThrough,
    };
    pub const ALL: Self = Self {
        input: true,
        parameters: true,
        through: Estimator::StraightThrough,
    };

    /// The same, with gradients that go back through rounded activations in another way.
    #[must_use]
    pub const fn through(self, through: Estimator) -> Self {
        Self { through, ..self }
    }
}

/// The result of a backward pass.
#[derive(Debug, Default)]
pub struct Gradients {
    /// (B, C, H, W), if wanted.
    pub input: Option<Tensor>,
    /// One per parameter, in their order; none if not wanted.
    pub parameters: Vec<Option<Tensor>>,
    buffers: Vec<Tensor>,
}

impl Gradients {
    /// Gradients made elsewhere (averaged over several batches, say).
    pub fn of_parameters(parameters: Vec<Option<Tensor>>) -> Self {
        Self {
            input: None,
            parameters,
            buffers: Vec::new(),
        }
    }

    /// Adds those of another pass over the same network.
    pub fn add(&self, other: &Self) -> Result<()> {
        for (sum, added) in self.parameters.iter().zip(&other.parameters) {
            if let (Some(sum), Some(added)) = (sum, added) {
                sum_up(sum, added)?;
            }
        }
        Ok(())
    }

    pub(crate) fn into_buffers(self) -> Vec<Tensor> {
        self.buffers
    }
}

/// A forward pass that can go backward, as often as is liked.
///
/// Its tensors live in the workspace's memory and are overwritten once it is gone: copy what should stay.
/// The logits and the images' gradient are tensors of their own, but within repeated work, whose next run has them again.
#[derive(Debug)]
pub struct Trace<'w> {
    network: &'w Network,
    device: Device,
    mode: Mode,
    workspace: RefCell<&'w mut Workspace>,
    keep: Keep,
    steps: Vec<Step>,
    images: Tensor,
    /// For each node what it gave, where it was kept.
    activations: Vec<Option<Tensor>>,
    /// For each node where its maxima were.
    places: Vec<Option<Tensor>>,
    /// For each node the batch's statistics, if it measured them.
    statistics: Vec<Option<Measured>>,
    /// What goes back to the workspace.
    buffers: Vec<Tensor>,
    logits: Tensor,
}

impl<'w> Trace<'w> {
    pub(crate) fn forward(
        network: &'w Network,
        images: &Tensor,
        mode: Mode,
        keep: Keep,
        workspace: &'w mut Workspace,
    ) -> Result<Self> {
        workspace.begin();
        let device = network.device();
        let images = op::to_device(&images.contiguous()?, &device)?;
        let batch = batch_size(network, &images)?;
        let together = match (keep, &device) {
            (Keep::Activations, _) => Together::Nothing,
            (_, Device::Cpu) => Together::OnCpu,
            _ => Together::OnGpu,
        };
        let steps = step::plan(network, mode, together);
        let n = network.nodes().len();
        let mut trace = Self {
            network,
            device,
            mode,
            workspace: RefCell::new(workspace),
            keep,
            logits: images.clone(),
            images,
            activations: vec![None; n],
            places: vec![None; n],
            statistics: vec![None; n],
            buffers: Vec::new(),
            steps,
        };
        trace.run(batch)?;
        Ok(trace)
    }

    fn run(&mut self, batch: usize) -> Result<()> {
        let network = self.network;
        let workspace = self.workspace.get_mut();
        // Only for `Keep::Nothing`: which buffer a node's output lies in, and how many nodes will still read that buffer.
        let n = network.nodes().len();
        let mut owner: Vec<usize> = (0..n).collect();
        let mut held: Vec<Option<Tensor>> = vec![None; n];
        let mut readers = vec![0_usize; n];
        #[cfg(feature = "cuda")]
        let mut room = Room::new(&self.steps, network, self.mode, &self.device)?;
        for input in network.nodes().iter().flat_map(|node| &node.inputs) {
            readers[*input] += 1;
        }
        for step in &self.steps {
            let (input, added) = step.inputs(network);
            let kept = |at: usize| {
                let kept = self.activations[at].as_ref();
                kept.ok_or_else(|| invalid("a layer's input was not kept"))
            };
            let x = input.map_or(Ok(&self.images), kept)?;
            let residual = added.map(kept).transpose()?;
            let shape = dims(batch, network.shape(step.last));
            let values = shape.iter().product();
            let y = if step.is_view(network) {
                if let Some(input) = input {
                    owner[step.last] = owner[input];
                    readers[owner[input]] += readers[step.last];
                }
                x.reshape(shape)?
            } else if step.last + 1 == n {
                view(&op::empty(values, DType::F32, &self.device)?, &shape)?
            } else {
                let buffer = workspace.take(values, &self.device)?;
                let y = view(&buffer, &shape)?;
                held[step.last] = Some(buffer);
                y
            };
            let places = batch * step.places(network);
            let place = if places > 0 {
                let buffer = workspace.take_bytes(places, &self.device)?;
                let place = view(&buffer, &[places])?;
                self.buffers.push(buffer);
                Some(place)
            } else {
                None
            };
            if !step.is_view(network) {
                workspace.scratch.begin(2 * step.last);
                let pass = Pass {
                    mode: self.mode,
                    x,
                    residual,
                    y: &y,
                    place: place.as_ref(),
                };
                #[cfg(feature = "cuda")]
                let measured = match &mut room {
                    Some(room) => room.forward(step, network, pass)?,
                    None => step
                        .forward(network, pass, &mut workspace.scratch)?
                        .map(Measured::Host),
                };
                #[cfg(not(feature = "cuda"))]
                let measured = step
                    .forward(network, pass, &mut workspace.scratch)?
                    .map(Measured::Host);
                self.statistics[step.last] = measured;
            }
            self.activations[step.last] = Some(y);
            self.places[step.last] = place;
            if self.keep == Keep::Nothing {
                for input in input.into_iter().chain(added) {
                    let owner = owner[input];
                    readers[owner] -= 1;
                    if readers[owner] == 0 {
                        self.activations[input] = None;
                        self.activations[owner] = None;
                        held[owner]
                            .take()
                            .into_iter()
                            .for_each(|buffer| workspace.put(buffer));
                    }
                }
                for buffer in self.buffers.drain(..) {
                    workspace.put(buffer);
                }
            }
        }
        self.buffers.extend(held.into_iter().flatten());
        if let Some(logits) = self.activations.last().and_then(Option::as_ref) {
            self.logits = logits.clone();
        }
        Ok(())
    }

    /// (B, K), a tensor of its own; within repeated work until its next run.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// What the batch normalizations measured, for the trainer to commit; nothing outside of training.
    pub fn statistics(&self) -> BatchStatistics {
        // A step's place is its last node's, and its normalization is the first.
        let measured = self.steps.iter().filter_map(|step| {
            let statistics = self.statistics[step.last].clone()?;
            Some((step.first, statistics))
        });
        BatchStatistics(measured.collect())
    }

    /// The output of a node where it was kept, always with `Keep::Activations`: (B, D), or channels last (B, H, W, C).
    pub fn activation(&self, node: usize) -> Option<&Tensor> {
        self.activations.get(node)?.as_ref()
    }

    /// The gradients that follow from the loss's gradient with respect to the logits, (B, K).
    pub fn backward(&self, d_logits: &Tensor, wanted: Wanted) -> Result<Gradients> {
        self.backward_with(d_logits, Vec::new(), wanted)
    }

    /// Likewise of a loss that also hangs on the outputs of some nodes, whose gradients lie as [`Self::activation`] does.
    /// Only a node whose output was kept can be one of them; its gradient's memory is used again.
    pub fn backward_with(
        &self,
        d_logits: &Tensor,
        taps: Vec<(usize, Tensor)>,
        wanted: Wanted,
    ) -> Result<Gradients> {
        if self.keep == Keep::Nothing {
            return Err(invalid(
                "this forward pass kept nothing to go backward with; ask for `Keep::Gradients`",
            ));
        }
        if d_logits.dims() != self.logits.dims() {
            return Err(invalid(format!(
                "the gradient of the logits is {:?} instead of {:?}",
                d_logits.dims(),
                self.logits.dims()
            )));
        }
        let network = self.network;
        let mut workspace = self.workspace.borrow_mut();
        let nodes = network.nodes();
        // Whether anything wanted lies at or before a node.
        let mut leads = vec![wanted.input; nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            let own = wanted.parameters && !node.parameters.is_empty();
            leads[at] |= own || node.inputs.iter().any(|input| leads[*input]);
        }
        let mut gradients = Gradients {
            input: None,
            parameters: vec![None; network.parameters().len()],
            buffers: Vec::new(),
        };
        // For each node the gradient of its output, and the buffer it lies in.
        let mut flowing: Vec<Option<(Tensor, Option<Tensor>)>> = vec![None; nodes.len()];
        if let Some(last) = flowing.last_mut() {
            *last = Some((d_logits.contiguous()?, None));
        }
        for (node, gradient) in taps {
            let is_kept = self.steps.iter().any(|step| step.last == node) && node + 1 < nodes.len();
            let fits = self
                .activation(node)
                .is_some_and(|kept| kept.dims() == gradient.dims());
            if !is_kept || !fits || flowing[node].is_some() {
                return Err(invalid(format!(
                    "no gradient of {:?} can enter at node {node}",
                    gradient.dims()
                )));
            }
            flowing[node] = Some((gradient, None));
        }
        for step in self.steps.iter().rev() {
            let Some((dy, buffer)) = flowing[step.last].take() else {
                continue;
            };
            let (input, added) = step.inputs(network);
            let x = input.map_or(Some(&self.images), |at| self.activations[at].as_ref());
            let residual = added.map(|at| self.activations[at].as_ref());
            let (Some(x), Some(y)) = (x, self.activations[step.last].as_ref()) else {
                return Err(invalid("a layer's values were not kept"));
            };
            let wants_dx = input.map_or(wanted.input, |at| leads[at]);
            if step.is_view(network) {
                match (input, buffer) {
                    (Some(at), buffer) if wants_dx => {
                        let dx = dy.reshape(x.dims())?;
                        join(&mut flowing[at], dx, buffer, &mut workspace)?;
                    }
                    (_, Some(buffer)) => workspace.put(buffer),
                    (_, None) => {}
                }
                continue;
            }
            let mut own = Vec::new();
            if wanted.parameters {
                let of_step = nodes[step.first..=step.last].iter();
                for at in of_step.flat_map(|node| &node.parameters) {
                    let parameter = network.parameters().at(*at);
                    if !parameter.role.trains() {
                        continue;
                    }
                    let dims = parameter.value.dims();
                    let buffer = workspace.take(dims.iter().product(), &self.device)?;
                    own.push((*at, as_stored(&buffer, &parameter.value)?));
                    gradients.buffers.push(buffer);
                }
            }
            // What already flows there is added to at once by the steps that can.
            let mut adds = false;
            let dx = match (wants_dx, input) {
                (false, _) => None,
                (true, None) => {
                    let dx = op::empty(x.elem_count(), DType::F32, &self.device)?;
                    Some((view(&dx, x.dims())?, None))
                }
                (true, Some(at)) => match flowing[at].take_if(|_| step.adds(network)) {
                    Some(flowing) => {
                        adds = true;
                        Some(flowing)
                    }
                    None => {
                        let buffer = workspace.take(x.elem_count(), &self.device)?;
                        Some((view(&buffer, x.dims())?, Some(buffer)))
                    }
                },
            };
            let d_residual = match added {
                Some(at) if leads[at] => {
                    let buffer = workspace.take(y.elem_count(), &self.device)?;
                    Some((view(&buffer, y.dims())?, Some(buffer)))
                }
                _ => None,
            };
            let pass = Pass {
                mode: self.mode,
                x,
                residual: residual.flatten(),
                y,
                place: self.places[step.last].as_ref(),
            };
            let statistics = self.statistics[step.last].as_ref();
            let saved = Saved {
                pass,
                statistics: match statistics {
                    Some(Measured::Host(statistics)) => Some(statistics),
                    _ => None,
                },
                dy: &dy,
            };
            let wants = step::Wanted {
                dx: dx.as_ref().map(|(dx, _)| dx),
                adds,
                through: wanted.through,
                residual: d_residual.as_ref().map(|(residual, _)| residual),
                parameters: &own,
            };
            workspace.scratch.begin(2 * step.last + 1);
            backward(step, network, saved, statistics, &wants, &mut workspace)?;
            for (at, gradient) in own {
                gradients.parameters[at] = Some(gradient);
            }
            if let Some((dx, dx_buffer)) = dx {
                match input {
                    None => gradients.input = Some(dx),
                    Some(at) => join(&mut flowing[at], dx, dx_buffer, &mut workspace)?,
                }
            }
            if let (Some((residual, buffer)), Some(at)) = (d_residual, added) {
                join(&mut flowing[at], residual, buffer, &mut workspace)?;
            }
            if let Some(buffer) = buffer {
                workspace.put(buffer);
            }
        }
        Ok(gradients)
    }
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        let workspace = self.workspace.get_mut();
        for buffer in self.buffers.drain(..) {
            workspace.put(buffer);
        }
    }
}

/// Adds a gradient to what other readers of the same output already gave.
fn join(
    flowing: &mut Option<(Tensor, Option<Tensor>)>,
    gradient: Tensor,
    buffer: Option<Tensor>,
    workspace: &mut Workspace,
) -> Result<()> {
    let Some((sum, _)) = flowing else {
        *flowing = Some((gradient, buffer));
        return Ok(());
    };
    sum_up(sum, &gradient)?;
    if let Some(buffer) = buffer {
        workspace.put(buffer);
    }
    Ok(())
}

/// A pass on a GPU: its engine, and memory for all that its batch normalizations measure, of its own since it is read
/// when the pass is over.
#[cfg(feature = "cuda")]
struct Room {
    engine: std::rc::Rc<op::cuda::Engine>,
    statistics: Option<Tensor>,
    taken: usize,
}

#[cfg(feature = "cuda")]
impl Room {
    /// None in main memory.
    fn new(steps: &[Step], network: &Network, mode: Mode, device: &Device) -> Result<Option<Self>> {
        let Device::Cuda(device) = device else {
            return Ok(None);
        };
        let engine = op::cuda::engine(device)?;
        let numbers = steps.iter().map(|step| step.statistics(network, mode));
        let statistics = match numbers.sum() {
            0 => None,
            numbers => Some(engine.empty(numbers, DType::F32)?),
        };
        Ok(Some(Self {
            engine,
            statistics,
            taken: 0,
        }))
    }

    /// A step forward.
    fn forward(
        &mut self,
        step: &Step,
        network: &Network,
        pass: Pass<'_>,
    ) -> Result<Option<Measured>> {
        let numbers = step.statistics(network, pass.mode);
        let own = match &self.statistics {
            Some(all) if numbers > 0 => Some(all.narrow(0, self.taken, numbers)?),
            _ => None,
        };
        self.taken += numbers;
        step.forward_cuda(&self.engine, network, pass, own.as_ref())?;
        let channels = network.shape(step.first).first().copied().unwrap_or(1);
        let count = pass.x.elem_count() / channels.max(1);
        Ok(own.map(|statistics| Measured::Device(statistics, count)))
    }
}

/// A step backward, on the device of its input.
fn backward(
    step: &Step,
    network: &Network,
    saved: Saved<'_>,
    statistics: Option<&Measured>,
    wants: &step::Wanted<'_>,
    workspace: &mut Workspace,
) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Some(engine) = op::cuda::engine_of(saved.pass.x)? {
        let statistics = match statistics {
            Some(Measured::Device(statistics, _)) => Some(statistics),
            _ => None,
        };
        return step.backward_cuda(&engine, network, saved, statistics, wants);
    }
    let _ = statistics;
    let Workspace {
        scratch, masked, ..
    } = workspace;
    step.backward(network, saved, wants, scratch, masked)
}

/// The first values of a buffer in the shape of a parameter, in the order in which its values lie.
fn as_stored(buffer: &Tensor, parameter: &Tensor) -> Result<Tensor> {
    if parameter.is_contiguous() {
        return view(buffer, parameter.dims());
    }
    match parameter.dims() {
        // Depthwise: (C, 1, k, k) lies as (k, k, C).
        [c, 1, h, w] if parameter.stride()[0] == 1 => {
            view(buffer, &[*h, *w, *c, 1])?.permute((2, 3, 0, 1))
        }
        // (O, C, k, k) lies as (O, k, k, C).
        [o, c, h, w] => view(buffer, &[*o, *h, *w, *c])?.permute((0, 3, 1, 2)),
        dims => Err(invalid(format!(
            "weights of {dims:?} lie in no known order"
        ))),
    }
}

/// The dimensions of a batch of outputs: channels last within the network.
fn dims(batch: usize, shape: &[usize]) -> Vec<usize> {
    match shape {
        [channels, height, width] => vec![batch, *height, *width, *channels],
        shape => std::iter::once(batch)
            .chain(shape.iter().copied())
            .collect(),
    }
}

/// The first values of a buffer, in a shape.
fn view(buffer: &Tensor, shape: &[usize]) -> Result<Tensor> {
    buffer.narrow(0, 0, shape.iter().product())?.reshape(shape)
}

/// How many images there are, if they fit the network.
fn batch_size(network: &Network, images: &Tensor) -> Result<usize> {
    let input = network.input();
    let expected = [input.channels, input.height, input.width];
    match images.dims() {
        [batch, image @ ..] if *image == expected && *batch > 0 => Ok(*batch),
        dims => Err(invalid(format!(
            "{} takes images of {expected:?}, one or more at a time, not {dims:?}",
            network.name()
        ))),
    }
}
