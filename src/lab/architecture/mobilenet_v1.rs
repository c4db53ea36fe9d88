//! MobileNet V1: a convolution, then 13 times a depthwise 3x3 convolution and a pointwise (1x1) one, each normalized
//! and rectified; Howard et al. 2017, arXiv:1704.04861, table 1.
//!
//! Images below 64 pixels keep their size in the first convolution, larger ones are halved as in the publication.
//!
//! Parameters are called as torchvision calls those of its MobileNet V2: `features.0.0` and `.0.1` are the first
//! convolution and its normalization; in block N = 1 to 13 `features.N.0` and `.1` are the depthwise convolution and its
//! normalization, `.3` and `.4` the pointwise ones; `classifier` gives the logits.
//!
//! By hand, for 3x32x32 and ten classes; of a block the weights of both convolutions, then both normalizations:
//!
//! | layer | parameters | multiply-accumulates |
//! |---|---|---|
//! | features.0 | 27·32 + 2·32 = 928 | 864·1024 = 884,736 |
//! | features.1 | 288 + 2,048 + 2·32 + 2·64 = 2,528 | 2,336·1024 = 2,392,064 |
//! | features.2 | 576 + 8,192 + 2·64 + 2·128 = 9,152 | 8,768·256 = 2,244,608 |
//! | features.3 | 1,152 + 16,384 + 2·128 + 2·128 = 18,048 | 17,536·256 = 4,489,216 |
//! | features.4 | 1,152 + 32,768 + 2·128 + 2·256 = 34,688 | 33,920·64 = 2,170,880 |
//! | features.5 | 2,304 + 65,536 + 2·256 + 2·256 = 68,864 | 67,840·64 = 4,341,760 |
//! | features.6 | 2,304 + 131,072 + 2·256 + 2·512 = 134,912 | 133,376·16 = 2,134,016 |
//! | features.7 to 11 | 5 (4,608 + 262,144 + 2·512 + 2·512) = 1,344,000 | 5·266,752·16 = 21,340,160 |
//! | features.12 | 4,608 + 524,288 + 2·512 + 2·1024 = 531,968 | 528,896·4 = 2,115,584 |
//! | features.13 | 9,216 + 1,048,576 + 2·1024 + 2·1024 = 1,061,888 | 1,057,792·4 = 4,231,168 |
//! | classifier | 1024·10 + 10 = 10,250 | 10,240 |
//! | together | 3,217,226 | 46,354,432 |
//!
//! `head = keras` is document 003's network: the body of Keras' `MobileNet` (3,206,976 parameters, halving at once at
//! every size, normalizing with ε = 1e-3 and momentum 0.99), 512 features with a ReLU, logits; 3,736,906 parameters for
//! ten classes.
//! Deviation: where Keras halves an even map it pads right and below, and here it is padded left and above: the mirror
//! image of the same network. Keras' units stop at 6 (ReLU6), and its first weights are Glorot's.

use super::{
    Architecture, HEAD, LARGE_SIDE, WIDTH, at_least, classifier, normalize, widened, width,
};
use crate::catalog::{Entry, Info, text};
use crate::nn::Result;
use crate::nn::layer::Layer;
use crate::nn::network::Builder;

pub const ENTRY: Entry<dyn Architecture> = Entry {
    info: Info {
        id: text("mobilenet-v1"),
        title: text("MobileNet V1"),
        summary: text(
            "Depthwise and pointwise convolutions in turn: under a third of ResNet-18's parameters and a twelfth of its work.",
        ),
        reference: text("arXiv:1704.04861"),
        family: text("convolutional"),
        ratio_of: None,
    },
    knobs: &[WIDTH, HEAD],
    build: |setting| {
        Box::new(MobileNetV1 {
            width: width(setting),
            is_keras: setting.choice("head") == "keras",
        })
    },
};

/// Channels that leave each block, and its stride.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

struct MobileNetV1 {
    width: f64,
    is_keras: bool,
}

impl Architecture for MobileNetV1 {
    fn id(&self) -> &'static str {
        "mobilenet-v1"
    }

    fn lay_out(&self, network: &mut Builder, normalization: (&[f32], &[f32])) -> Result<()> {
        let input = network.input();
        let halves = self.is_keras || input.height.min(input.width) >= LARGE_SIDE;
        let stride = if halves { 2 } else { 1 };
        // Four more strides of 2 leave one pixel of so many.
        at_least(self.id(), input, 16 * stride)?;
        let norm = || {
            if self.is_keras {
                Layer::BatchNorm2d {
                    epsilon: 1e-3,
                    momentum: 0.01,
                }
            } else {
                Layer::batch_norm()
            }
        };
        let wide = |channels| widened(channels, self.width);
        network.chain(vec![
            normalize(normalization),
            (
                "features.0.0",
                Layer::conv_without_bias(wide(32), 3, stride, 1),
            ),
            ("features.0.1", norm()),
            ("features.0.2", Layer::Relu),
        ])?;
        for (at, (channels, stride)) in BLOCKS.into_iter().enumerate() {
            for (part, layer) in [
                Layer::depthwise3x3(stride),
                norm(),
                Layer::Relu,
                Layer::conv_without_bias(wide(channels), 1, 1, 0),
                norm(),
                Layer::Relu,
            ]
            .into_iter()
            .enumerate()
            {
                network.then(&format!("features.{}.{part}", at + 1), layer)?;
            }
        }
        network.then("avgpool", Layer::GlobalAveragePool)?;
        classifier(network, "classifier", self.is_keras)
    }
}
