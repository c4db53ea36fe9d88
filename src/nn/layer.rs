//! The closed set of layers: what each is called, which parameters it has, its output's shape and its cost.

use serde::{Deserialize, Serialize};

use super::op::fake_quant::Levels;
use super::op::geometry::Geometry;
use super::op::max_pool2d::{LARGEST_KERNEL, Windows};
use super::op::soft_tree::{DEEPEST, Output, Prediction, Tree};
use super::parameters::ParameterRole;
use super::{Mode, Result, invalid};

/// One layer of a network. What depends on the input (the channels that come in) is not repeated here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Layer {
    /// y = (x - mean) / std per channel: always the first, so that pixels in [0, 1] are the network's domain.
    Normalize { mean: Vec<f32>, std: Vec<f32> },
    /// Convolution with a square kernel: `(C, H, W)` -> `(out_channels, H', W')`, H' = (H + 2p - k) / s + 1.
    Conv2d {
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
    },
    /// Fully connected: `(D)` -> `(outputs)`.
    Linear { outputs: usize, bias: bool },
    /// max(x, 0).
    Relu,
    /// Convolution of each channel by itself: `(C, H, W)` -> `(C, H', W')`.
    DepthwiseConv2d {
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
    },
    /// y = γ (x - mean) / √(variance + epsilon) + β per channel: the batch's statistics in training, running ones in use,
    /// which move by `momentum` towards each batch's.
    BatchNorm2d { epsilon: f64, momentum: f64 },
    /// Maximum over square windows, at most half a kernel of padding on every side.
    MaxPool2d {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    /// Mean over square windows; zeros of the padding count.
    AveragePool2d {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    /// Mean over all positions: `(C, H, W)` -> `(C)`.
    GlobalAveragePool,
    /// The sum of two inputs of one shape.
    Add,
    /// `(C, H, W)` -> `(C·H·W)`.
    Flatten,
    /// Quantized and dequantized: simulated low precision.
    FakeQuant {
        scale: f32,
        zero_point: i32,
        q_min: i32,
        q_max: i32,
    },
    /// A soft decision tree: `(D)` -> `(outputs)` log-probabilities; always the last.
    SoftTree {
        depth: usize,
        outputs: usize,
        beta: f64,
        penalty: f64,
        prediction: Prediction,
    },
}

/// A parameter that a layer needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    /// The last part of the name: `weight`.
    pub suffix: &'static str,
    pub role: ParameterRole,
    /// PyTorch's layout: (O, I, k, k) for convolutions, (out, in) for linear layers.
    pub shape: Vec<usize>,
}

impl Layer {
    /// A 3x3 convolution with bias.
    pub fn conv3x3(out_channels: usize, stride: usize, padding: usize) -> Self {
        Self::Conv2d {
            out_channels,
            kernel: 3,
            stride,
            padding,
            bias: true,
        }
    }

    /// A fully connected layer with bias.
    pub fn linear(outputs: usize) -> Self {
        Self::Linear {
            outputs,
            bias: true,
        }
    }

    /// A convolution without bias, as in front of a batch normalization.
    pub fn conv_without_bias(
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        Self::Conv2d {
            out_channels,
            kernel,
            stride,
            padding,
            bias: false,
        }
    }

    /// A depthwise 3x3 convolution without bias, which keeps the size at stride 1.
    pub fn depthwise3x3(stride: usize) -> Self {
        Self::DepthwiseConv2d {
            kernel: 3,
            stride,
            padding: 1,
            bias: false,
        }
    }

    /// Batch normalization with PyTorch's ε = 1e-5 and momentum 0.1.
    pub fn batch_norm() -> Self {
        Self::BatchNorm2d {
            epsilon: 1e-5,
            momentum: 0.1,
        }
    }

    /// A maximum pooling without padding.
    pub fn max_pool(kernel: usize, stride: usize) -> Self {
        Self::MaxPool2d {
            kernel,
            stride,
            padding: 0,
        }
    }

    /// For lists of layers: `conv2d`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Normalize { .. } => "normalize",
            Self::Conv2d { .. } => "conv2d",
            Self::Linear { .. } => "linear",
            Self::Relu => "relu",
            Self::DepthwiseConv2d { .. } => "depthwise-conv2d",
            Self::BatchNorm2d { .. } => "batch-norm2d",
            Self::MaxPool2d { .. } => "max-pool2d",
            Self::AveragePool2d { .. } => "average-pool2d",
            Self::GlobalAveragePool => "global-average-pool",
            Self::Add => "add",
            Self::Flatten => "flatten",
            Self::FakeQuant { .. } => "fake-quant",
            Self::SoftTree { .. } => "soft-tree",
        }
    }

    /// The shape of one example's output; or why the layer cannot take this input.
    pub fn output_shape(&self, input: &[usize]) -> Result<Vec<usize>> {
        match self {
            Self::Normalize { mean, std } => {
                let [channels, _, _] = image(input, self)?;
                if mean.len() != channels || std.len() != channels {
                    return Err(invalid(format!(
                        "normalize has {} means and {} deviations for {channels} channels",
                        mean.len(),
                        std.len()
                    )));
                }
                if !std.iter().all(|std| *std > 0.0) {
                    return Err(invalid("normalize needs deviations above 0"));
                }
                Ok(input.to_vec())
            }
            Self::Conv2d { out_channels, .. } => {
                let g = self.geometry(input)?;
                Ok(vec![*out_channels, g.out_height(), g.out_width()])
            }
            Self::Linear { outputs, .. } => {
                features(input, self)?;
                Ok(vec![*outputs])
            }
            Self::DepthwiseConv2d { .. } => {
                let g = self.geometry(input)?;
                Ok(vec![input[0], g.out_height(), g.out_width()])
            }
            Self::BatchNorm2d { epsilon, momentum } => {
                image(input, self)?;
                if !(*epsilon > 0.0 && (0.0..=1.0).contains(momentum)) {
                    return Err(invalid(format!(
                        "batch-norm2d needs an epsilon above 0 and a momentum from 0 to 1, not {epsilon} and {momentum}"
                    )));
                }
                Ok(input.to_vec())
            }
            Self::MaxPool2d { .. } | Self::AveragePool2d { .. } => {
                let windows = self.windows(input)?;
                Ok(vec![input[0], windows.out_height(), windows.out_width()])
            }
            Self::GlobalAveragePool => Ok(vec![image(input, self)?[0]]),
            Self::Flatten => Ok(vec![input.iter().product()]),
            Self::Relu | Self::Add => Ok(input.to_vec()),
            Self::SoftTree {
                depth,
                outputs,
                beta,
                penalty,
                ..
            } => {
                features(input, self)?;
                let fits = (1..=DEEPEST).contains(depth) && *beta > 0.0 && *penalty >= 0.0;
                if !fits || !beta.is_finite() || !penalty.is_finite() {
                    return Err(invalid(format!(
                        "soft-tree needs a depth from 1 to {DEEPEST}, a beta above 0 and a penalty of at least 0, not {depth}, {beta} and {penalty}"
                    )));
                }
                Ok(vec![*outputs])
            }
            Self::FakeQuant {
                scale,
                zero_point,
                q_min,
                q_max,
            } => {
                let ordered = q_min < q_max && (q_min..=q_max).contains(&zero_point);
                if !(*scale > 0.0 && scale.is_finite() && ordered) {
                    return Err(invalid(format!(
                        "fake-quant needs a positive scale and a zero point from q_min to q_max, not scale {scale}, zero point {zero_point} and {q_min} to {q_max}"
                    )));
                }
                Ok(input.to_vec())
            }
        }
    }

    /// A soft decision tree over so many features, and what it gives in a mode.
    pub(crate) fn tree(&self, features: usize, mode: Mode) -> Result<(Tree, Output)> {
        let Self::SoftTree {
            depth,
            outputs,
            beta,
            penalty,
            prediction,
        } = *self
        else {
            return Err(invalid("only a soft decision tree has questions"));
        };
        let tree = Tree {
            depth,
            features,
            classes: outputs,
            beta,
            penalty,
        };
        let output = match mode {
            Mode::Train => Output::Scores,
            Mode::Eval => Output::Log(prediction),
        };
        Ok((tree, output))
    }

    /// The levels of a simulated quantization.
    pub fn levels(&self) -> Option<Levels> {
        match *self {
            Self::FakeQuant {
                scale,
                zero_point,
                q_min,
                q_max,
            } => Some(Levels {
                scale,
                zero_point,
                q_min,
                q_max,
            }),
            _ => None,
        }
    }

    /// The convolution's shape over one image.
    pub(crate) fn geometry(&self, input: &[usize]) -> Result<Geometry> {
        let (Self::Conv2d {
            kernel,
            stride,
            padding,
            ..
        }
        | Self::DepthwiseConv2d {
            kernel,
            stride,
            padding,
            ..
        }) = *self
        else {
            return Err(invalid("only a convolution has this geometry"));
        };
        let [channels, height, width] = image(input, self)?;
        let smallest = height.min(width) + 2 * padding;
        if kernel == 0 || stride == 0 || smallest < kernel {
            return Err(invalid(format!(
                "a {kernel}x{kernel} convolution at stride {stride} cannot take {height}x{width} values with padding {padding}"
            )));
        }
        Ok(Geometry {
            channels,
            height,
            width,
            kernel,
            stride,
            padding,
        })
    }

    /// The pooling's windows over one plane.
    pub(crate) fn windows(&self, input: &[usize]) -> Result<Windows> {
        let (Self::MaxPool2d {
            kernel,
            stride,
            padding,
        }
        | Self::AveragePool2d {
            kernel,
            stride,
            padding,
        }) = *self
        else {
            return Err(invalid("only a pooling has windows"));
        };
        let [_, height, width] = image(input, self)?;
        let smallest = height.min(width) + 2 * padding;
        let fits = (1..=LARGEST_KERNEL.min(smallest)).contains(&kernel);
        if stride == 0 || !fits || 2 * padding > kernel {
            return Err(invalid(format!(
                "a {kernel}x{kernel} pooling at stride {stride} with padding {padding} cannot take {height}x{width} values (kernels reach {LARGEST_KERNEL}, padding half the kernel)"
            )));
        }
        Ok(Windows {
            height,
            width,
            kernel,
            stride,
            padding,
        })
    }

    /// Which parameters the layer needs for this input.
    pub fn needs(&self, input: &[usize]) -> Vec<Needed> {
        let (shape, bias) = match self {
            Self::Conv2d {
                out_channels,
                kernel,
                bias,
                ..
            } => (vec![*out_channels, input[0], *kernel, *kernel], *bias),
            Self::DepthwiseConv2d { kernel, bias, .. } => {
                (vec![input[0], 1, *kernel, *kernel], *bias)
            }
            Self::Linear { outputs, bias } => (vec![*outputs, input[0]], *bias),
            Self::SoftTree { depth, outputs, .. } => {
                let (leaves, weight) = (1 << depth, ParameterRole::Weight);
                let needed = |(suffix, role, shape)| Needed {
                    suffix,
                    role,
                    shape,
                };
                return [
                    ("weight", weight, vec![leaves - 1, input[0]]),
                    ("bias", ParameterRole::Bias, vec![leaves - 1]),
                    ("leaves", weight, vec![leaves, *outputs]),
                ]
                .map(needed)
                .into();
            }
            Self::BatchNorm2d { .. } => {
                let needed = |(suffix, role)| Needed {
                    suffix,
                    role,
                    shape: vec![input[0]],
                };
                return [
                    ("weight", ParameterRole::Scale),
                    ("bias", ParameterRole::Shift),
                    ("running_mean", ParameterRole::RunningMean),
                    ("running_var", ParameterRole::RunningVariance),
                ]
                .map(needed)
                .into();
            }
            _ => return Vec::new(),
        };
        let bias = bias.then(|| Needed {
            suffix: "bias",
            role: ParameterRole::Bias,
            shape: vec![shape[0]],
        });
        let weight = Needed {
            suffix: "weight",
            role: ParameterRole::Weight,
            shape,
        };
        std::iter::once(weight).chain(bias).collect()
    }

    /// Multiply-accumulates of one example: those of the products, as usual; normalizations, additions, maxima and means are
    /// free.
    pub fn macs(&self, input: &[usize], output: &[usize]) -> u64 {
        let n: usize = match self {
            Self::Conv2d { kernel, .. } => {
                output.iter().product::<usize>() * input[0] * kernel * kernel
            }
            Self::DepthwiseConv2d { kernel, .. } => {
                output.iter().product::<usize>() * kernel * kernel
            }
            Self::Linear { outputs, .. } => outputs * input[0],
            Self::SoftTree { depth, outputs, .. } => {
                let leaves = 1 << depth;
                (leaves - 1) * input[0] + leaves * outputs
            }
            _ => 0,
        };
        n as u64
    }
}

/// Channels, height and width, or why not.
fn image(input: &[usize], layer: &Layer) -> Result<[usize; 3]> {
    <[usize; 3]>::try_from(input).map_err(|_| {
        invalid(format!(
            "{} takes channels, height and width, not a shape of {input:?}",
            layer.kind()
        ))
    })
}

/// The number of features, or why not.
fn features(input: &[usize], layer: &Layer) -> Result<usize> {
    match input {
        [features] => Ok(*features),
        _ => Err(invalid(format!(
            "{} takes features in one row, not a shape of {input:?}; flatten first",
            layer.kind()
        ))),
    }
}

impl From<Levels> for Layer {
    fn from(levels: Levels) -> Self {
        let Levels {
            scale,
            zero_point,
            q_min,
            q_max,
        } = levels;
        Self::FakeQuant {
            scale,
            zero_point,
            q_min,
            q_max,
        }
    }
}
