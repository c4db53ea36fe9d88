//! The closed set of layers: what each is called, which parameters it has, its output's shape and its cost.

use serde::{Deserialize, Serialize};

use super::op::fake_quant::Levels;
use super::op::max_pool2d::{LARGEST_KERNEL, Windows};
use super::op::patches::Geometry;
use super::parameters::ParameterRole;
use super::{Result, invalid};

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
    /// Maximum over square windows without padding.
    MaxPool2d { kernel: usize, stride: usize },
    /// `(C, H, W)` -> `(C·H·W)`.
    Flatten,
    /// Quantized and dequantized: simulated low precision.
    FakeQuant {
        scale: f32,
        zero_point: i32,
        q_min: i32,
        q_max: i32,
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

    /// For lists of layers: `conv2d`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Normalize { .. } => "normalize",
            Self::Conv2d { .. } => "conv2d",
            Self::Linear { .. } => "linear",
            Self::Relu => "relu",
            Self::MaxPool2d { .. } => "max-pool2d",
            Self::Flatten => "flatten",
            Self::FakeQuant { .. } => "fake-quant",
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
            Self::MaxPool2d { .. } => {
                let windows = self.windows(input)?;
                Ok(vec![input[0], windows.out_height(), windows.out_width()])
            }
            Self::Flatten => Ok(vec![input.iter().product()]),
            Self::Relu => Ok(input.to_vec()),
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
            Self::Normalize { .. }
            | Self::Conv2d { .. }
            | Self::Linear { .. }
            | Self::Relu
            | Self::MaxPool2d { .. }
            | Self::Flatten => None,
        }
    }

    /// The convolution's shape over one image.
    pub(crate) fn geometry(&self, input: &[usize]) -> Result<Geometry> {
        let Self::Conv2d {
            kernel,
            stride,
            padding,
            ..
        } = *self
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
        let Self::MaxPool2d { kernel, stride } = *self else {
            return Err(invalid("only a pooling has windows"));
        };
        let [_, height, width] = image(input, self)?;
        let fits = (1..=LARGEST_KERNEL.min(height).min(width)).contains(&kernel);
        if stride == 0 || !fits {
            return Err(invalid(format!(
                "a {kernel}x{kernel} pooling at stride {stride} cannot take {height}x{width} values (kernels reach {LARGEST_KERNEL})"
            )));
        }
        Ok(Windows {
            height,
            width,
            kernel,
            stride,
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
            Self::Linear { outputs, bias } => (vec![*outputs, input[0]], *bias),
            Self::Normalize { .. }
            | Self::Relu
            | Self::MaxPool2d { .. }
            | Self::Flatten
            | Self::FakeQuant { .. } => return Vec::new(),
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

    /// Multiply-accumulates of one example: those of the products, as usual; additions of biases and maxima are free.
    pub fn macs(&self, input: &[usize], output: &[usize]) -> u64 {
        let n: usize = match self {
            Self::Conv2d { kernel, .. } => {
                output.iter().product::<usize>() * input[0] * kernel * kernel
            }
            Self::Linear { outputs, .. } => outputs * input[0],
            Self::Normalize { .. }
            | Self::Relu
            | Self::MaxPool2d { .. }
            | Self::Flatten
            | Self::FakeQuant { .. } => 0,
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
