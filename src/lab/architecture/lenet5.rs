//! LeNet-5, the modern reading of it: 225,034 parameters on 28x28 grey images with ten classes.
//!
//! The network that "Neural network compression: the functional perspective" trained; its layers follow from the
//! parameter count it states. LeCun et al. 1998, "Gradient-based learning applied to document recognition", has the idea.
//! Deviation: LeCun's own has 61,706 parameters, tanh and trainable subsampling.
//!
//! By hand, for 1x28x28 and ten classes:
//!
//! | layer | parameters | multiply-accumulates |
//! |---|---|---|
//! | conv1 | 32·1·9 + 32 = 320 | 32·26·26·9 = 194,688 |
//! | conv2 | 64·32·9 + 64 = 18,496 | 64·11·11·288 = 2,230,272 |
//! | fc1 | 1600·128 + 128 = 204,928 | 204,800 |
//! | fc2 | 128·10 + 10 = 1,290 | 1,280 |
//! | together | 225,034 | 2,631,040 |

use super::{Architecture, WIDTH, at_least, normalize, widened, width};
use crate::catalog::{Entry, Info, text};
use crate::nn::Result;
use crate::nn::layer::Layer::{self, Flatten, Relu};
use crate::nn::network::Builder;

pub const ENTRY: Entry<dyn Architecture> = Entry {
    info: Info {
        id: text("lenet5"),
        title: text("LeNet-5"),
        summary: text("Two convolutions and two fully connected layers; trains in seconds."),
        reference: text("LeCun et al. 1998, doi:10.1109/5.726791"),
        family: text("convolutional"),
        ratio_of: None,
    },
    knobs: &[WIDTH],
    build: |setting| {
        Box::new(LeNet5 {
            width: width(setting),
        })
    },
};

struct LeNet5 {
    width: f64,
}

/// Below this side nothing is left behind the second pooling: ((10 - 2) / 2 - 2) / 2 = 1.
const LEAST_SIDE: usize = 10;

impl Architecture for LeNet5 {
    fn id(&self) -> &'static str {
        "lenet5"
    }

    fn lay_out(&self, network: &mut Builder, normalization: (&[f32], &[f32])) -> Result<()> {
        at_least(self.id(), network.input(), LEAST_SIDE)?;
        let pool = Layer::max_pool(2, 2);
        let wide = |channels| widened(channels, self.width);
        #[rustfmt::skip]
        let layers = vec![
            //                                         1x28x28            3x32x32
            normalize(normalization),               // 1, 28, 28          3, 32, 32
            ("conv1", Layer::conv3x3(wide(32), 1, 0)), // 32, 26, 26      32, 30, 30
            ("relu1", Relu),
            ("pool1", pool.clone()),                // 32, 13, 13         32, 15, 15
            ("conv2", Layer::conv3x3(wide(64), 1, 0)), // 64, 11, 11      64, 13, 13
            ("relu2", Relu),
            ("pool2", pool),                        // 64, 5, 5           64, 6, 6
            ("flatten", Flatten),                   // 1600               2304
            ("fc1", Layer::linear(wide(128))),      // 128
            ("relu3", Relu),
            ("fc2", Layer::linear(network.classes())),        // K
        ];
        network.chain(layers)
    }
}
