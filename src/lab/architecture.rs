//! Architectures: what is trained. Each is one file, read top to bottom as a list of layers.

use crate::catalog::Entry;
use crate::nn::{ImageShape, Result, layer::Layer, network::Network};

pub mod cnn8;
pub mod lenet5;

/// A way of building a network for some images and classes.
pub trait Architecture: Send + Sync {
    /// A fresh network. `normalization` is the mean and the standard deviation per channel of pixels in [0, 1]; the seed
    /// alone decides the initial weights.
    fn build(
        &self,
        input: ImageShape,
        classes: usize,
        normalization: (&[f32], &[f32]),
        seed: u64,
    ) -> Result<Network>;
}

/// All architectures, in the order on screen.
pub const ALL: &[Entry<dyn Architecture>] = &[lenet5::ENTRY, cnn8::ENTRY];

/// The first layer of every network: pixels stay in [0, 1] outside of it.
fn normalize((mean, std): (&[f32], &[f32])) -> (&'static str, Layer) {
    let (mean, std) = (mean.to_vec(), std.to_vec());
    ("normalize", Layer::Normalize { mean, std })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Mode, workspace::Workspace};
    use crate::spec::Setting;

    fn build(id: &str, shape: [usize; 3], classes: usize) -> Result<Network> {
        let entry = ALL.iter().find(|entry| entry.info.id == id).unwrap();
        let [channels, height, width] = shape;
        let input = ImageShape {
            channels,
            height,
            width,
        };
        let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
        (entry.build)(&Setting::default()).build(input, classes, (&mean, &std), 7)
    }

    /// Parameters and multiply-accumulates as counted by hand in each file.
    #[test]
    fn counts_are_those_of_the_papers() {
        for (id, shape, parameters, macs) in [
            ("lenet5", [1, 28, 28], 225_034, 2_631_040),
            ("lenet5", [3, 32, 32], 315_722, 4_188_800),
            ("cnn8", [1, 28, 28], 549_994, 13_686_528),
        ] {
            let network = build(id, shape, 10).unwrap();
            assert_eq!(network.parameters().count(), parameters, "{id} {shape:?}");
            assert_eq!(network.macs(), macs, "{id} {shape:?}");
            let layers = network.layers();
            assert_eq!(layers.iter().map(|l| l.parameters).sum::<u64>(), parameters);
            assert_eq!(layers.last().unwrap().output, [10]);
        }
    }

    #[test]
    fn every_architecture_runs_on_every_shape_that_the_data_have() {
        for entry in ALL {
            for (shape, classes) in [([1, 28, 28], 10), ([3, 32, 32], 100), ([1, 16, 16], 10)] {
                let network = build(&entry.info.id, shape, classes).unwrap();
                let [c, h, w] = shape;
                let images =
                    crate::nn::op::tensor(vec![0.5; 3 * c * h * w], &[3, c, h, w]).unwrap();
                let mut workspace = Workspace::new();
                let trace = network
                    .forward(&images, Mode::Eval, &mut workspace)
                    .unwrap();
                assert_eq!(trace.logits().dims(), [3, classes]);
            }
        }
    }

    #[test]
    fn the_seed_alone_decides_the_weights() {
        for entry in ALL {
            let weights = || {
                let network = build(&entry.info.id, [1, 28, 28], 10).unwrap();
                network.parameters().to_safetensors().unwrap()
            };
            assert_eq!(weights(), weights(), "{}", entry.info.id);
        }
    }

    #[test]
    fn images_that_are_too_small_are_refused_in_one_sentence() {
        let error = build("lenet5", [1, 8, 8], 10).unwrap_err().to_string();
        assert_eq!(
            error,
            "lenet5 takes images of at least 10x10 pixels, not 8x8"
        );
        build("lenet5", [1, 10, 10], 10).unwrap();
        build("cnn8", [1, 1, 1], 10).unwrap();
    }
}
