//! The eight-layer network of "Adversarial fine-tuning of compressed neural networks": 549,994 parameters on 28x28 grey
//! images with ten classes.
//!
//! By hand, for 1x28x28 and ten classes:
//!
//! | layer | parameters | multiply-accumulates |
//! |---|---|---|
//! | conv1 | 32·9 + 32 = 320 | 32·784·9 = 225,792 |
//! | conv2 | 32·288 + 32 = 9,248 | 32·196·288 = 1,806,336 |
//! | conv3 | 64·288 + 64 = 18,496 | 64·196·288 = 3,612,672 |
//! | conv4 | 64·576 + 64 = 36,928 | 64·49·576 = 1,806,336 |
//! | conv5 | 128·576 + 128 = 73,856 | 128·49·576 = 3,612,672 |
//! | conv6 | 128·1152 + 128 = 147,584 | 128·16·1152 = 2,359,296 |
//! | fc1 | 2048·128 + 128 = 262,272 | 262,144 |
//! | fc2 | 128·10 + 10 = 1,290 | 1,280 |
//! | together | 549,994 | 13,686,528 |

use super::{Architecture, WIDTH, normalize, widened, width};
use crate::catalog::{Entry, Info, text};
use crate::nn::Result;
use crate::nn::layer::Layer::{self, Flatten, Relu};
use crate::nn::network::Builder;

pub const ENTRY: Entry<dyn Architecture> = Entry {
    info: Info {
        id: text("cnn8"),
        title: text("8-layer CNN"),
        summary: text(
            "Six convolutions, every second at stride 2, and two fully connected layers.",
        ),
        reference: text("Adversarial fine-tuning of compressed neural networks, arXiv:2403.09441"),
        family: text("convolutional"),
        ratio_of: None,
    },
    knobs: &[WIDTH],
    build: |setting| {
        Box::new(Cnn8 {
            width: width(setting),
        })
    },
};

struct Cnn8 {
    width: f64,
}

impl Architecture for Cnn8 {
    fn id(&self) -> &'static str {
        "cnn8"
    }

    fn lay_out(&self, network: &mut Builder, normalization: (&[f32], &[f32])) -> Result<()> {
        let wide = |channels| widened(channels, self.width);
        #[rustfmt::skip]
        let layers = vec![
            //                                         1x28x28            3x32x32
            normalize(normalization),               // 1, 28, 28          3, 32, 32
            ("conv1", Layer::conv3x3(wide(32), 1, 1)), // 32, 28, 28         32, 32, 32
            ("relu1", Relu),
            ("conv2", Layer::conv3x3(wide(32), 2, 1)), // 32, 14, 14         32, 16, 16
            ("relu2", Relu),
            ("conv3", Layer::conv3x3(wide(64), 1, 1)), // 64, 14, 14         64, 16, 16
            ("relu3", Relu),
            ("conv4", Layer::conv3x3(wide(64), 2, 1)), // 64, 7, 7           64, 8, 8
            ("relu4", Relu),
            ("conv5", Layer::conv3x3(wide(128), 1, 1)), // 128, 7, 7          128, 8, 8
            ("relu5", Relu),
            ("conv6", Layer::conv3x3(wide(128), 2, 1)), // 128, 4, 4          128, 4, 4
            ("relu6", Relu),
            ("flatten", Flatten),                   // 2048               2048
            ("fc1", Layer::linear(wide(128))),      // 128
            ("relu7", Relu),
            ("fc2", Layer::linear(network.classes())),        // K
        ];
        network.chain(layers)
    }
}
