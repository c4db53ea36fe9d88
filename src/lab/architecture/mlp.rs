//! Fully connected layers alone: LeNet-300-100, on which much of the pruning literature first tried its methods.
//!
//! Up to three hidden layers, each with a ReLU; LeCun et al. 1998 have one of 300 and one of 100 units.
//! Parameters are called `fc1`, `fc2` … in order; the last one gives the logits.
//! Deviation: LeCun's units are tanh.
//!
//! By hand, for 1x28x28 and ten classes:
//!
//! | layer | parameters | multiply-accumulates |
//! |---|---|---|
//! | fc1 | 784·300 + 300 = 235,500 | 235,200 |
//! | fc2 | 300·100 + 100 = 30,100 | 30,000 |
//! | fc3 | 100·10 + 10 = 1,010 | 1,000 |
//! | together | 266,610 | 266,200 |

use super::{Architecture, WIDTH, normalize, widened, width};
use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::nn::Result;
use crate::nn::layer::Layer::{self, Flatten, Relu};
use crate::nn::network::Builder;

pub const ENTRY: Entry<dyn Architecture> = Entry {
    info: Info {
        id: text("mlp"),
        title: text("Fully connected"),
        summary: text("Up to three hidden layers; as it stands, LeNet-300-100."),
        reference: text("LeCun et al. 1998, doi:10.1109/5.726791"),
        family: text("fully connected"),
        ratio_of: None,
    },
    knobs: &[
        hidden("hidden1", "first hidden", 300),
        hidden("hidden2", "second hidden", 100),
        hidden("hidden3", "third hidden", 0),
        WIDTH,
    ],
    build: |setting| {
        let hidden = ["hidden1", "hidden2", "hidden3"];
        Box::new(Mlp {
            hidden: hidden.map(|knob| setting.integer(knob) as usize),
            width: width(setting),
        })
    },
};

const fn hidden(id: &'static str, title: &'static str, default: i64) -> Knob {
    Knob {
        id: text(id),
        title: text(title),
        summary: text("Units of this hidden layer; 0 leaves it out."),
        range: Range::Integer {
            least: 0,
            most: 8192,
            default,
        },
    }
}

struct Mlp {
    hidden: [usize; 3],
    width: f64,
}

impl Architecture for Mlp {
    fn id(&self) -> &'static str {
        "mlp"
    }

    fn lay_out(&self, network: &mut Builder, normalization: (&[f32], &[f32])) -> Result<()> {
        network.chain(vec![normalize(normalization), ("flatten", Flatten)])?;
        let mut number = 1;
        for units in self.hidden.into_iter().filter(|units| *units > 0) {
            // Whatever number was asked for is had as long as nobody turns the width.
            let units = if self.width == 1.0 {
                units
            } else {
                widened(units, self.width)
            };
            network.then(&format!("fc{number}"), Layer::linear(units))?;
            network.then(&format!("relu{number}"), Relu)?;
            number += 1;
        }
        network.then(&format!("fc{number}"), Layer::linear(network.classes()))?;
        Ok(())
    }
}
