//! Steps: which layers are computed in one pass, and each pass forward and backward.
//!
//! A convolution or a linear layer takes the ReLU behind it along, a convolution also the pooling behind that: their
//! results are the same bit for bit, and the values in between never travel to memory. In training a batch normalization
//! takes the sum and the ReLU behind it along. In evaluation it is itself taken along by the convolution before it,
//! as a factor of its weights: equal up to rounding.

use candle_core::Tensor;

use super::layer::Layer;
use super::network::{Network, Node};
use super::op::batch_norm2d::{self, Statistics};
use super::op::conv2d::{self, Conv2d, Geometry, Then};
use super::op::fake_quant::Estimator;
use super::op::max_pool2d::Windows;
use super::op::{
    Scratch, add, average_pool2d, depthwise_conv2d, fake_quant, flatten, grown, max_pool2d,
    normalize, read, read_bytes, relu, write, write_bytes,
};
use super::{Mode, Result, invalid};

#[cfg(feature = "cuda")]
mod cuda;
mod norm;
mod plan;

use norm::{Constants, Norm};
pub use plan::{Together, plan};

/// Nodes computed in one pass: from `first` to `last`, each but the first taking the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub first: usize,
    pub last: usize,
}

/// What a forward pass over a step reads and writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) mode: Mode,
    pub(crate) x: &'a Tensor,
    /// What a sum adds.
    pub(crate) residual: Option<&'a Tensor>,
    pub(crate) y: &'a Tensor,
    /// Where the maxima were.
    pub(crate) place: Option<&'a Tensor>,
}

/// What a backward pass over a step reads beside that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved<'a> {
    pub(crate) pass: Pass<'a>,
    pub(crate) statistics: Option<&'a Statistics>,
    pub(crate) dy: &'a Tensor,
}

/// What a backward pass over a step writes: as much as is there.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) dx: Option<&'a Tensor>,
    /// Whether dx is added to what is there: only where [`Step::adds`].
    pub(crate) adds: bool,
    /// How gradients go back through rounded values.
    pub(crate) through: Estimator,
    pub(crate) residual: Option<&'a Tensor>,
    /// The parameters' gradients: the parameter's place and where to.
    pub(crate) parameters: &'a [(usize, Tensor)],
}

/// The layers of a step by what they do.
struct Fused<'n> {
    main: &'n Node,
    /// A batch normalization folded into `main`.
    norm: Option<&'n Node>,
    sums: bool,
    relu: bool,
    pool: Option<Windows>,
}

impl Step {
    fn fused<'n>(&self, network: &'n Network) -> Result<Fused<'n>> {
        let nodes = &network.nodes()[self.first..=self.last];
        let (main, behind) = (&nodes[0], &nodes[1..]);
        let has = |wanted: fn(&Layer) -> bool| behind.iter().find(|node| wanted(&node.layer));
        let pool = match &nodes[nodes.len() - 1].layer {
            pool @ Layer::MaxPool2d { .. } => Some(pool.windows(&network.input_shape(self.last))?),
            _ => None,
        };
        Ok(Fused {
            main,
            norm: has(|layer| matches!(layer, Layer::BatchNorm2d { .. })),
            sums: has(|layer| matches!(layer, Layer::Add)).is_some(),
            relu: has(|layer| matches!(layer, Layer::Relu)).is_some(),
            pool,
        })
    }

    /// The node whose output it takes (none takes the images), and the one that a sum adds.
    pub(crate) fn inputs(&self, network: &Network) -> (Option<usize>, Option<usize>) {
        let nodes = network.nodes();
        let inputs = &nodes[self.first].inputs;
        let mut added = inputs.get(1).copied();
        for node in &nodes[self.first + 1..=self.last] {
            let other = node.inputs.iter().find(|input| **input < self.first);
            added = added.or(other.copied());
        }
        (inputs.first().copied(), added)
    }

    /// Whether its output is its input in another shape.
    pub(crate) fn is_view(&self, network: &Network) -> bool {
        matches!(network.nodes()[self.first].layer, Layer::Flatten)
            && flatten::is_view(&network.input_shape(self.first))
    }

    /// How many places of maxima it keeps for one example.
    pub(crate) fn places(&self, network: &Network) -> usize {
        match network.nodes()[self.last].layer {
            Layer::MaxPool2d { .. } => network.shape(self.last).iter().product(),
            _ => 0,
        }
    }

    /// Whether dx can be added to what is there already.
    pub(crate) fn adds(&self, network: &Network) -> bool {
        matches!(
            network.nodes()[self.first].layer,
            Layer::Conv2d { .. } | Layer::Linear { .. }
        )
    }

    /// Writes the output for an input, and the places of maxima where it keeps them; gives the batch's statistics where
    /// it measures some.
    pub(crate) fn forward(
        &self,
        network: &Network,
        pass: Pass<'_>,
        scratch: &mut Scratch,
    ) -> Result<Option<Statistics>> {
        let fused = self.fused(network)?;
        let node = fused.main;
        let input = network.input_shape(self.first);
        let (x, residual) = (read(pass.x)?, pass.residual.map(read).transpose()?);
        let residual = residual.as_deref();
        let y = pass.y;
        match &node.layer {
            Layer::Normalize { mean, std } => {
                let pixels = input[1] * input[2];
                write(y, |y| normalize::forward(mean, std, pixels, &x, y))?;
            }
            Layer::Conv2d { .. } | Layer::Linear { .. } => {
                let conv = self.convolution(network, &fused)?;
                let constants = Constants::of(network, &fused)?;
                let w = read(&network.parameters().at(node.parameters[0]).value)?;
                let operands = conv2d::Operands {
                    w: &w,
                    scale: constants.scale.as_deref(),
                    b: constants.shift.as_deref(),
                    add: residual,
                };
                match pass.place {
                    Some(place) => write(y, |y| {
                        write_bytes(place, |place| conv.forward(&x, operands, y, place, scratch))
                    })??,
                    None => write(y, |y| conv.forward(&x, operands, y, &mut [], scratch))?,
                }
            }
            Layer::DepthwiseConv2d { .. } => {
                let geometry = node.layer.geometry(&input)?;
                let constants = Constants::of(network, &fused)?;
                let w = read(&network.parameters().at(node.parameters[0]).value)?;
                let then = depthwise_conv2d::Then {
                    scale: constants.scale.as_deref(),
                    shift: constants.shift.as_deref(),
                    relu: fused.relu,
                };
                write(y, |y| depthwise_conv2d::forward(&geometry, &x, &w, then, y))?;
            }
            Layer::BatchNorm2d { .. } => {
                return Norm::of(network, node)?.forward(pass.mode, &x, residual, fused.relu, y);
            }
            Layer::Add => {
                let residual = residual.ok_or_else(|| invalid("a sum needs two inputs"))?;
                write(y, |y| add::forward(&x, residual, fused.relu, y))?;
            }
            Layer::Relu => write(y, |y| relu::forward(&x, y))?,
            Layer::MaxPool2d { .. } => {
                let windows = node.layer.windows(&input)?;
                let place = pass
                    .place
                    .ok_or_else(|| invalid("a pooling keeps places"))?;
                write(y, |y| {
                    write_bytes(place, |place| {
                        max_pool2d::forward(&windows, input[0], &x, y, place);
                    })
                })??;
            }
            Layer::AveragePool2d { .. } => {
                let windows = node.layer.windows(&input)?;
                write(y, |y| average_pool2d::forward(&windows, input[0], &x, y))?;
            }
            Layer::GlobalAveragePool => {
                write(y, |y| {
                    average_pool2d::forward_global(input[1] * input[2], input[0], &x, y);
                })?;
            }
            Layer::Flatten => write(y, |y| flatten::forward(&input, &x, y))?,
            Layer::FakeQuant { .. } => {
                let levels = levels(network, node)?;
                write(y, |y| fake_quant::forward(&levels, &x, y))?;
            }
        }
        Ok(None)
    }

    /// A linear layer is a convolution over images of one pixel.
    fn convolution(&self, network: &Network, fused: &Fused<'_>) -> Result<Conv2d> {
        let input = network.input_shape(self.first);
        let geometry = match fused.main.layer {
            Layer::Linear { .. } => Geometry::pixel(input[0]),
            _ => fused.main.layer.geometry(&input)?,
        };
        let then = match fused.pool {
            Some(windows) => Then::ReluMaxPool(windows),
            None if fused.relu => Then::Relu,
            None => Then::Nothing,
        };
        let outputs = network.shape(self.first)[0];
        Ok(Conv2d {
            geometry,
            outputs,
            then,
        })
    }

    /// Writes the gradients that are wanted. `masked` is room for a gradient behind a ReLU.
    pub(crate) fn backward(
        &self,
        network: &Network,
        saved: Saved<'_>,
        wanted: &Wanted<'_>,
        scratch: &mut Scratch,
        masked: &mut Vec<f32>,
    ) -> Result<()> {
        let fused = self.fused(network)?;
        let gradient = |node: &Node, at: usize| {
            let place = node.parameters.get(at)?;
            let found = wanted
                .parameters
                .iter()
                .find(|(parameter, _)| parameter == place);
            found.map(|(_, gradient)| gradient)
        };
        let norm = |at: usize| fused.norm.and_then(|norm| gradient(norm, at));
        let targets = [
            wanted.dx,
            wanted.residual,
            gradient(fused.main, 0),
            gradient(fused.main, 1),
            norm(0),
            norm(1),
        ];
        let mut result = Ok(());
        lend_all(&targets, Vec::new(), &mut |slices| {
            if let Ok([dx, residual, first, second, scale, shift]) = <[_; 6]>::try_from(slices) {
                let into = Into {
                    dx,
                    adds: wanted.adds,
                    through: wanted.through,
                    residual,
                    own: [first, second],
                    norm: [scale, shift],
                };
                result = self.backward_into(network, &fused, saved, into, scratch, masked);
            }
        })?;
        result
    }

    fn backward_into(
        &self,
        network: &Network,
        fused: &Fused<'_>,
        saved: Saved<'_>,
        into: Into<'_>,
        scratch: &mut Scratch,
        masked: &mut Vec<f32>,
    ) -> Result<()> {
        let node = fused.main;
        let input = network.input_shape(self.first);
        let (x, y, dy) = (read(saved.pass.x)?, read(saved.pass.y)?, read(saved.dy)?);
        let place = saved.pass.place.map(read_bytes).transpose()?;
        let place = place.as_deref().unwrap_or_default();
        let Into {
            dx,
            adds,
            through,
            residual,
            own,
            norm,
        } = into;
        match &node.layer {
            Layer::Conv2d { .. } | Layer::Linear { .. } | Layer::DepthwiseConv2d { .. } => {
                let depthwise = matches!(node.layer, Layer::DepthwiseConv2d { .. });
                // Where a sum lies in between, or the kernel knows no mask, the ReLU is undone first.
                let undone = fused.sums || (depthwise && fused.relu);
                let dy: &[f32] = if undone && fused.relu {
                    let masked = grown(masked, dy.len());
                    relu::backward(&y, &dy, masked);
                    masked
                } else {
                    &dy
                };
                if let Some(residual) = residual {
                    residual.copy_from_slice(dy);
                }
                let constants = Constants::of(network, fused)?;
                let w = read(&network.parameters().at(node.parameters[0]).value)?;
                let [mut dw, mut db] = own;
                let [d_scale, mut d_shift] = norm;
                // The bias's gradient is the shift's, if there is a normalization.
                let of_shift = d_shift.as_deref_mut().or(db.as_deref_mut());
                let scale = constants.scale.as_deref();
                if depthwise {
                    let geometry = node.layer.geometry(&input)?;
                    let saved = depthwise_conv2d::Saved {
                        x: &x,
                        w: &w,
                        scale,
                        dy,
                    };
                    let wanted = depthwise_conv2d::Wanted {
                        dx,
                        dw: dw.as_deref_mut(),
                        db: of_shift,
                    };
                    depthwise_conv2d::backward(&geometry, saved, wanted);
                } else {
                    let mut conv = self.convolution(network, fused)?;
                    if undone {
                        conv.then = Then::Nothing;
                    }
                    let saved = conv2d::Saved {
                        x: &x,
                        w: &w,
                        scale,
                        y: &y,
                        place,
                        dy,
                    };
                    let wanted = conv2d::Wanted {
                        dx,
                        adds,
                        dw: dw.as_deref_mut(),
                        db: of_shift,
                    };
                    conv.backward(saved, wanted, scratch);
                }
                if let (Some(norm), Some(dw), Some(d_shift)) = (fused.norm, dw, d_shift) {
                    let norm = Norm::of(network, norm)?;
                    let b = node
                        .parameters
                        .get(1)
                        .map(|at| read(&network.parameters().at(*at).value));
                    let b = b.transpose()?;
                    norm.unfold(&w, b.as_deref(), dw, db, d_scale, d_shift);
                }
            }
            Layer::BatchNorm2d { .. } => {
                let norm = Norm::of(network, node)?;
                let [weight, bias] = own;
                let relu = match (fused.relu, fused.sums) {
                    (false, _) => batch_norm2d::Relu::Absent,
                    (true, false) => batch_norm2d::Relu::FromInput,
                    (true, true) => batch_norm2d::Relu::FromOutput(&y),
                };
                let of = batch_norm2d::Saved { x: &x, relu };
                let flow = batch_norm2d::Flow::Apart { dy: &dy, dx };
                let wanted = batch_norm2d::Wanted {
                    weight,
                    bias,
                    residual,
                };
                norm.backward(saved.pass.mode, saved.statistics, of, flow, wanted)?;
            }
            Layer::Add => {
                for target in [dx, residual].into_iter().flatten() {
                    if fused.relu {
                        relu::backward(&y, &dy, target);
                    } else {
                        target.copy_from_slice(&dy);
                    }
                }
            }
            Layer::FakeQuant { .. } => {
                let levels = levels(network, node)?;
                match (dx, through) {
                    (None, _) => {}
                    (Some(dx), Estimator::StraightThrough) => {
                        fake_quant::backward(&levels, &x, &dy, dx);
                    }
                    (Some(dx), Estimator::Nothing) => dx.fill(0.0),
                    (Some(dx), Estimator::Identity) => dx.copy_from_slice(&dy),
                }
                // A learned scale: its gradient is that of training, whatever goes back.
                let [scale, _] = own;
                if let Some([scale]) = scale {
                    let count = input.iter().product();
                    *scale = fake_quant::backward_scale(&levels, &x, &dy, count);
                }
            }
            layer => {
                let Some(dx) = dx else { return Ok(()) };
                match layer {
                    Layer::Normalize { std, .. } => {
                        normalize::backward(std, input[1] * input[2], &dy, dx);
                    }
                    Layer::Relu => relu::backward(&y, &dy, dx),
                    Layer::MaxPool2d { .. } => {
                        max_pool2d::backward(&layer.windows(&input)?, input[0], place, &dy, dx);
                    }
                    Layer::AveragePool2d { .. } => {
                        average_pool2d::backward(&layer.windows(&input)?, input[0], &dy, dx);
                    }
                    Layer::GlobalAveragePool => {
                        average_pool2d::backward_global(input[1] * input[2], input[0], &dy, dx);
                    }
                    Layer::Flatten => flatten::backward(&input, &dy, dx),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The slices that a backward pass writes.
struct Into<'a> {
    dx: Option<&'a mut [f32]>,
    adds: bool,
    through: Estimator,
    residual: Option<&'a mut [f32]>,
    own: [Option<&'a mut [f32]>; 2],
    norm: [Option<&'a mut [f32]>; 2],
}

/// Writes what was lent, in the order asked for.
type Filling<'f> = dyn FnMut(Vec<Option<&mut [f32]>>) + 'f;

/// Lends some tensors for writing, all at once.
fn lend_all(
    tensors: &[Option<&Tensor>],
    lent: Vec<Option<&mut [f32]>>,
    fill: &mut Filling<'_>,
) -> Result<()> {
    let mut lent = lent;
    match tensors {
        [] => {
            fill(lent);
            Ok(())
        }
        [None, rest @ ..] => {
            lent.push(None);
            lend_all(rest, lent, fill)
        }
        [Some(tensor), rest @ ..] => write(tensor, |values| {
            let mut lent: Vec<Option<&mut [f32]>> = lent;
            lent.push(Some(values));
            lend_all(rest, lent, fill)
        })?,
    }
}

/// The levels of a layer that has some; while their scale is learned, it is a parameter.
fn levels(network: &Network, node: &Node) -> Result<fake_quant::Levels> {
    let levels = node.layer.levels();
    let mut levels = levels.ok_or_else(|| invalid("only a simulated quantization has levels"))?;
    if let Some(learned) = node.parameters.first()
        && let [scale] = *read(&network.parameters().at(*learned).value)?
    {
        levels.scale = scale;
    }
    Ok(levels)
}
