//! Residual networks: four stages of blocks, each of which adds what it computes to what it was given.
//!
//! He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385; parameters are called as
//! torchvision calls them: `conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, `fc`. As there, the middle
//! convolution of a bottleneck has the stride (Goyal et al. 2017, arXiv:1706.02677), not the first one.
//!
//! | | blocks of a stage | a block |
//! |---|---|---|
//! | 18 | 2, 2, 2, 2 | 3x3 to C, 3x3 to C |
//! | 34 | 3, 4, 6, 3 | likewise |
//! | 50 | 3, 4, 6, 3 | 1x1 to C, 3x3 to C, 1x1 to 4C |
//! | 101 | 3, 4, 23, 3 | likewise |
//! | 152 | 3, 8, 36, 3 | likewise |
//!
//! C is 64, 128, 256, 512; every stage but the first begins by halving the image. A shortcut that has to change its
//! shape is a 1x1 convolution with its own normalization.
//!
//! Images below 64 pixels come in through one 3x3 convolution (stem `3x3`), larger ones through ImageNet's: 7x7 at
//! stride 2 and a 3x3 maximum at stride 2 (stem `7x7`). `3x3-pool` has that maximum behind the 3x3 convolution: the
//! network of "Analyzing the robustness of model compression techniques to noise", whose 0.14 "GFLOPs" are its
//! 140,186,624 multiply-accumulates.
//!
//! By hand, ResNet-18 for 3x32x32 and ten classes:
//!
//! | layer | parameters | multiply-accumulates |
//! |---|---|---|
//! | conv1, bn1 | 27·64 + 2·64 = 1,856 | 1,728·1024 = 1,769,472 |
//! | layer1 | 4·36,864 + 4·128 = 147,968 | 147,456·1024 = 150,994,944 |
//! | layer2 | 73,728 + 3·147,456 + 8,192 + 5·256 = 525,568 | 524,288·256 = 134,217,728 |
//! | layer3 | 294,912 + 3·589,824 + 32,768 + 5·512 = 2,099,712 | 2,097,152·64 = 134,217,728 |
//! | layer4 | 1,179,648 + 3·2,359,296 + 131,072 + 5·1024 = 8,393,728 | 8,388,608·16 = 134,217,728 |
//! | fc | 5,120 + 10 = 5,130 | 5,120 |
//! | together | 11,173,962 | 555,422,720 |
//!
//! `head = keras`, for 50 layers and more, is document 003's network: the body of Keras' `ResNet50` (23,534,592
//! parameters; ImageNet's stem at every size, convolutions with biases, the stride in a bottleneck's first convolution,
//! normalizing with ε = 1.001e-5 and momentum 0.99), 512 features with a ReLU, logits; 24,634,980 parameters for 100
//! classes. Keras pads the maximum with zeros, which is the same behind a ReLU.
//! Deviation: first weights are drawn as in all networks here (uniformly, with variance 1 / fan-in), not from He's normal
//! distribution or Glorot's uniform one; a normalization takes their scale away again.

use super::{
    Architecture, DEPTH, HEAD, LARGE_SIDE, WIDTH, at_least, classifier, deepened, normalize,
    widened, width,
};
use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::nn::layer::Layer;
use crate::nn::network::Builder;
use crate::nn::{ImageShape, Result, invalid};
use crate::spec::Setting;

pub const RESNET18: Entry<dyn Architecture> = entry(
    "resnet18",
    "ResNet-18",
    "Eight blocks of two convolutions, each added to what came in.",
    BLOCK_KNOBS,
    |setting| Box::new(ResNet::new("resnet18", [2, 2, 2, 2], None, setting)),
);
pub const RESNET34: Entry<dyn Architecture> = entry(
    "resnet34",
    "ResNet-34",
    "Sixteen blocks of two convolutions, each added to what came in.",
    BLOCK_KNOBS,
    |setting| Box::new(ResNet::new("resnet34", [3, 4, 6, 3], None, setting)),
);
pub const RESNET50: Entry<dyn Architecture> = entry(
    "resnet50",
    "ResNet-50",
    "Sixteen blocks of three convolutions, narrow in the middle.",
    BOTTLENECK_KNOBS,
    |setting| bottlenecks("resnet50", [3, 4, 6, 3], setting),
);
pub const RESNET101: Entry<dyn Architecture> = entry(
    "resnet101",
    "ResNet-101",
    "33 blocks of three convolutions, narrow in the middle.",
    BOTTLENECK_KNOBS,
    |setting| bottlenecks("resnet101", [3, 4, 23, 3], setting),
);
pub const RESNET152: Entry<dyn Architecture> = entry(
    "resnet152",
    "ResNet-152",
    "50 blocks of three convolutions, narrow in the middle.",
    BOTTLENECK_KNOBS,
    |setting| bottlenecks("resnet152", [3, 8, 36, 3], setting),
);

const BLOCK_KNOBS: &[Knob] = &[WIDTH, DEPTH, STEM];
const BOTTLENECK_KNOBS: &[Knob] = &[WIDTH, DEPTH, STEM, HEAD];

const fn entry(
    id: &'static str,
    title: &'static str,
    summary: &'static str,
    knobs: &'static [Knob],
    build: fn(&Setting) -> Box<dyn Architecture>,
) -> Entry<dyn Architecture> {
    Entry {
        info: Info {
            id: text(id),
            title: text(title),
            summary: text(summary),
            reference: text("arXiv:1512.03385"),
            family: text("residual"),
            ratio_of: None,
        },
        knobs,
        build,
    }
}

fn bottlenecks(id: &'static str, blocks: [usize; 4], setting: &Setting) -> Box<dyn Architecture> {
    let variant = if setting.choice("head") == "keras" {
        Variant::Keras
    } else {
        Variant::Torch
    };
    Box::new(ResNet::new(id, blocks, Some(variant), setting))
}

const STEM: Knob = Knob {
    id: text("stem"),
    title: text("stem"),
    summary: text(
        "How images come in. auto: 3x3 below 64 pixels, 7x7 from there on. Weights trained on ImageNet need 7x7 at any size.",
    ),
    range: Range::Choice {
        options: std::borrow::Cow::Borrowed(&[
            text("auto"),
            text("3x3"),
            text("3x3-pool"),
            text("7x7"),
        ]),
        default: text("auto"),
    },
};

/// The first layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stem {
    Small,
    SmallPooled,
    Large,
}

/// Whose bottlenecks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Torch,
    Keras,
}

struct ResNet {
    id: &'static str,
    /// Blocks of each stage.
    blocks: [usize; 4],
    /// Blocks of three convolutions; of two without.
    bottlenecks: Option<Variant>,
    /// Chosen by the size of the images without.
    stem: Option<Stem>,
    width: f64,
}

impl ResNet {
    fn new(
        id: &'static str,
        blocks: [usize; 4],
        bottlenecks: Option<Variant>,
        setting: &Setting,
    ) -> Self {
        Self {
            id,
            blocks: blocks.map(|blocks| deepened(blocks, setting)),
            bottlenecks,
            stem: match setting.choice("stem") {
                "3x3" => Some(Stem::Small),
                "3x3-pool" => Some(Stem::SmallPooled),
                "7x7" => Some(Stem::Large),
                _ => None,
            },
            width: width(setting),
        }
    }

    fn is_keras(&self) -> bool {
        self.bottlenecks == Some(Variant::Keras)
    }

    fn stem(&self, input: ImageShape) -> Result<Stem> {
        match self.stem {
            Some(Stem::Small | Stem::SmallPooled) if self.is_keras() => Err(invalid(format!(
                "{}: head = keras has the stem 7x7, and another one was asked for",
                self.id
            ))),
            Some(stem) => Ok(stem),
            None if self.is_keras() || input.height.min(input.width) >= LARGE_SIDE => {
                Ok(Stem::Large)
            }
            None => Ok(Stem::Small),
        }
    }

    fn conv(&self, outputs: usize, kernel: usize, stride: usize) -> Layer {
        Layer::Conv2d {
            out_channels: outputs,
            kernel,
            stride,
            padding: kernel / 2,
            bias: self.is_keras(),
        }
    }

    fn norm(&self) -> Layer {
        if self.is_keras() {
            Layer::BatchNorm2d {
                epsilon: 1.001e-5,
                momentum: 0.01,
            }
        } else {
            Layer::batch_norm()
        }
    }

    /// A block that takes the node at `input`; its last node. `channels` are C.
    fn block(
        &self,
        network: &mut Builder,
        input: usize,
        name: &str,
        channels: usize,
        stride: usize,
    ) -> Result<usize> {
        let layers = match self.bottlenecks {
            None => vec![self.conv(channels, 3, stride), self.conv(channels, 3, 1)],
            Some(variant) => {
                let (first, middle) = match variant {
                    Variant::Torch => (1, stride),
                    Variant::Keras => (stride, 1),
                };
                vec![
                    self.conv(channels, 1, first),
                    self.conv(channels, 3, middle),
                    self.conv(4 * channels, 1, 1),
                ]
            }
        };
        let outputs = if self.bottlenecks.is_some() {
            4 * channels
        } else {
            channels
        };
        let named = |part: &str| format!("{name}.{part}");
        // The shortcut stands before the main path, so that the sum stands right behind its last normalization.
        let mut shortcut = input;
        if stride != 1 || network.shape(input)[0] != outputs {
            let layer = self.conv(outputs, 1, stride);
            network.after(&[input], &named("downsample.0"), layer)?;
            shortcut = network.then(&named("downsample.1"), self.norm())?;
        }
        let mut last = input;
        for (at, layer) in layers.into_iter().enumerate() {
            if at > 0 {
                last = network.then(&named(&format!("relu{at}")), Layer::Relu)?;
            }
            let number = at + 1;
            network.after(&[last], &named(&format!("conv{number}")), layer)?;
            last = network.then(&named(&format!("bn{number}")), self.norm())?;
        }
        network.after(&[last, shortcut], &named("add"), Layer::Add)?;
        network.then(&named("relu"), Layer::Relu)
    }
}

impl Architecture for ResNet {
    fn id(&self) -> &'static str {
        self.id
    }

    fn lay_out(&self, network: &mut Builder, normalization: (&[f32], &[f32])) -> Result<()> {
        let stem = self.stem(network.input())?;
        // Three stages and the stem halve so often that one pixel is left.
        let least = match stem {
            Stem::Small => 8,
            Stem::SmallPooled => 16,
            Stem::Large => 32,
        };
        at_least(self.id, network.input(), least)?;
        let wide = |channels| widened(channels, self.width);
        let first = match stem {
            Stem::Small | Stem::SmallPooled => self.conv(wide(64), 3, 1),
            Stem::Large => self.conv(wide(64), 7, 2),
        };
        let (name, layer) = normalize(normalization);
        network.then(name, layer)?;
        network.then("conv1", first)?;
        network.then("bn1", self.norm())?;
        let mut last = network.then("relu", Layer::Relu)?;
        if stem != Stem::Small {
            let pool = Layer::MaxPool2d {
                kernel: 3,
                stride: 2,
                padding: 1,
            };
            last = network.then("maxpool", pool)?;
        }
        for (stage, blocks) in self.blocks.into_iter().enumerate() {
            let channels = wide(64 << stage);
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                last = self.block(network, last, &name, channels, stride)?;
            }
        }
        network.then("avgpool", Layer::GlobalAveragePool)?;
        classifier(network, "fc", self.is_keras())
    }
}
