//! Architectures: what is trained. Each is one file, read top to bottom as a list of layers.

use crate::catalog::{Entry, Knob, Range, text};
use crate::nn::network::{Builder, Network};
use crate::nn::{ImageShape, Result, invalid, layer::Layer};
use crate::spec::{KnobValue, Setting};

pub mod cnn8;
pub mod lenet5;
pub mod mlp;
pub mod mobilenet_v1;
pub mod resnet;
pub mod soft_decision_tree;

/// A way of building a network for some images and classes.
pub trait Architecture: Send + Sync {
    /// The id of its entry.
    fn id(&self) -> &'static str;

    /// Adds all layers, from the normalization to the logits. `normalization` is the mean and the standard deviation per
    /// channel of pixels in [0, 1].
    ///
    /// # Errors
    /// One sentence, when images of that size do not suit it.
    fn lay_out(&self, network: &mut Builder, normalization: (&[f32], &[f32])) -> Result<()>;

    /// A fresh network; the seed alone decides the initial weights.
    ///
    /// # Errors
    /// As [`Self::lay_out`].
    fn build(
        &self,
        input: ImageShape,
        classes: usize,
        normalization: (&[f32], &[f32]),
        seed: u64,
    ) -> Result<Network> {
        let mut network = Builder::new(self.id(), input, classes, seed);
        self.lay_out(&mut network, normalization)?;
        network.finish()
    }

    /// The same with all weights zero: for shapes and counts, which it gives at once however large the network is.
    ///
    /// # Errors
    /// As [`Self::lay_out`].
    fn outline(&self, input: ImageShape, classes: usize) -> Result<Network> {
        let flat = vec![1.0; input.channels];
        let mut network = Builder::outline(self.id(), input, classes);
        self.lay_out(&mut network, (&flat, &flat))?;
        network.finish()
    }
}

/// All architectures, in the order on screen.
pub const ALL: &[Entry<dyn Architecture>] = &[
    lenet5::ENTRY,
    cnn8::ENTRY,
    resnet::RESNET18,
    resnet::RESNET34,
    resnet::RESNET50,
    resnet::RESNET101,
    resnet::RESNET152,
    mobilenet_v1::ENTRY,
    mlp::ENTRY,
    soft_decision_tree::ENTRY,
];

/// The first layer of every network: pixels stay in [0, 1] outside of it.
fn normalize((mean, std): (&[f32], &[f32])) -> (&'static str, Layer) {
    let (mean, std) = (mean.to_vec(), std.to_vec());
    ("normalize", Layer::Normalize { mean, std })
}

/// Refuses images with a side below `least`.
fn at_least(id: &str, input: ImageShape, least: usize) -> Result<()> {
    if input.height.min(input.width) >= least {
        return Ok(());
    }
    Err(invalid(format!(
        "{id} takes images of at least {least}x{least} pixels, not {}x{}",
        input.height, input.width
    )))
}

/// From this side on, images are large enough for the stems that were made for ImageNet, which shrink them at once.
const LARGE_SIDE: usize = 64;

/// For students: every number of channels times this.
const WIDTH: Knob = Knob {
    id: text("width"),
    title: text("width"),
    summary: text(
        "Channels of every layer, as a share of the usual ones, to the nearest multiple of 4: a smaller student, or a wider network.",
    ),
    range: Range::Real {
        least: 0.05,
        most: 4.0,
        step: 0.05,
        default: 1.0,
    },
};

/// Where the knob [`WIDTH`] stands; a setting of an earlier version, which did not know it, means the usual channels.
fn width(setting: &Setting) -> f64 {
    share(setting, &WIDTH)
}

/// For students: the blocks of every stage times this.
const DEPTH: Knob = Knob {
    id: text("depth"),
    title: text("depth"),
    summary: text(
        "Blocks of every stage, as a share of the usual ones, rounded, and 1 at least: a shallower student.",
    ),
    range: Range::Real {
        least: 0.05,
        most: 4.0,
        step: 0.05,
        default: 1.0,
    },
};

/// So many blocks at the depth of that setting.
fn deepened(blocks: usize, setting: &Setting) -> usize {
    ((blocks as f64 * share(setting, &DEPTH)).round() as usize).max(1)
}

fn share(setting: &Setting, knob: &Knob) -> f64 {
    match setting.0.get(&*knob.id) {
        Some(KnobValue::Real(share)) => *share,
        _ => 1.0,
    }
}

/// So many channels at that width: the nearest multiple of 4 (the widths of MobileNet's publication, 1/4 to 1, give
/// such numbers anyway), and 4 at least.
fn widened(channels: usize, width: f64) -> usize {
    4 * ((channels as f64 * width / 4.0).round() as usize).max(1)
}

/// Document 003's networks end in one more layer.
const HEAD: Knob = Knob {
    id: text("head"),
    title: text("head"),
    summary: text(
        "standard: one linear layer. keras: the network of \"Neural network compression: the functional perspective\", with Keras' body for large images and 512 features before the last layer.",
    ),
    range: Range::Choice {
        options: std::borrow::Cow::Borrowed(&[text("standard"), text("keras")]),
        default: text("standard"),
    },
};

/// Features before the last layer with `head = keras`: what is left of the parameters that document 003 states.
const KERAS_FEATURES: usize = 512;

/// From features to logits: one linear layer of that name, or with `head = keras` two, `fc1` and `fc2`.
fn classifier(network: &mut Builder, name: &str, is_keras: bool) -> Result<()> {
    let logits = Layer::linear(network.classes());
    if is_keras {
        network.chain(vec![
            ("fc1", Layer::linear(KERAS_FEATURES)),
            ("fc1.relu", Layer::Relu),
            ("fc2", logits),
        ])
    } else {
        network.chain(vec![(name, logits)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Mode, workspace::Workspace};
    use crate::spec::{KnobValue, Setting};

    /// An architecture with these knobs turned and the others where they stand by themselves.
    fn architecture(id: &str, knobs: &[(&str, KnobValue)]) -> Box<dyn Architecture> {
        let entry = ALL.iter().find(|entry| entry.info.id == id).unwrap();
        let mut setting = Setting::default();
        for knob in entry.knobs {
            setting = setting.with(&knob.id, knob.range.default());
        }
        for (id, value) in knobs {
            assert!(entry.knobs.iter().any(|knob| knob.id == *id), "{id}");
            setting = setting.with(id, value.clone());
        }
        (entry.build)(&setting)
    }

    fn image([channels, height, width]: [usize; 3]) -> ImageShape {
        ImageShape {
            channels,
            height,
            width,
        }
    }

    fn word(word: &str) -> KnobValue {
        KnobValue::Choice(word.into())
    }

    /// Parameters and multiply-accumulates: the first three as counted by hand in each file, the residual networks and
    /// MobileNet as PyTorch 2.15 counts them with hooks on its own modules; at 224 pixels and 1,000 classes these are
    /// the numbers that torchvision prints (1.81, 3.66, 4.09, 7.80 and 11.51 GFLOPs).
    #[test]
    fn counts_are_those_of_the_papers() {
        let keras = || vec![("head", word("keras"))];
        let pooled = || vec![("stem", word("3x3-pool"))];
        for (id, knobs, shape, classes, parameters, macs) in [
            ("lenet5", vec![], [1, 28, 28], 10, 225_034, 2_631_040),
            ("lenet5", vec![], [3, 32, 32], 10, 315_722, 4_188_800),
            ("cnn8", vec![], [1, 28, 28], 10, 549_994, 13_686_528),
            ("mlp", vec![], [1, 28, 28], 10, 266_610, 266_200),
            ("resnet18", vec![], [3, 32, 32], 10, 11_173_962, 555_422_720),
            // Document 000: 0.14 "GFLOPs".
            (
                "resnet18",
                pooled(),
                [3, 32, 32],
                10,
                11_173_962,
                140_186_624,
            ),
            (
                "resnet18",
                vec![],
                [3, 224, 224],
                10,
                11_181_642,
                1_813_566_464,
            ),
            (
                "resnet18",
                vec![],
                [3, 224, 224],
                1000,
                11_689_512,
                1_814_073_344,
            ),
            (
                "resnet34",
                vec![],
                [3, 224, 224],
                1000,
                21_797_672,
                3_663_761_408,
            ),
            (
                "resnet50",
                vec![],
                [3, 224, 224],
                1000,
                25_557_032,
                4_089_184_256,
            ),
            (
                "resnet101",
                vec![],
                [3, 224, 224],
                1000,
                44_549_160,
                7_801_405_440,
            ),
            (
                "resnet152",
                vec![],
                [3, 224, 224],
                1000,
                60_192_808,
                11_513_626_624,
            ),
            (
                "mobilenet-v1",
                vec![],
                [3, 32, 32],
                10,
                3_217_226,
                46_354_432,
            ),
            // The publication: 4.2 million parameters, 569 million multiply-accumulates.
            (
                "mobilenet-v1",
                vec![],
                [3, 224, 224],
                1000,
                4_231_976,
                568_740_352,
            ),
            // Document 003.
            (
                "mobilenet-v1",
                keras(),
                [3, 32, 32],
                10,
                3_736_906,
                12_115_456,
            ),
            (
                "resnet50",
                keras(),
                [3, 32, 32],
                100,
                24_634_980,
                79_792_128,
            ),
        ] {
            let network = architecture(id, &knobs).outline(image(shape), classes);
            let network = network.unwrap();
            let what = format!("{id} {knobs:?} {shape:?}");
            assert_eq!(network.parameters().count(), parameters, "{what}");
            assert_eq!(network.macs(), macs, "{what}");
            let layers = network.layers();
            assert_eq!(layers.iter().map(|l| l.parameters).sum::<u64>(), parameters);
            assert_eq!(layers.last().unwrap().output, [classes as u32]);
        }
    }

    /// Definitions O-38: 9,600 numbers are measured and not trained.
    #[test]
    fn what_is_measured_counts_as_no_parameter() {
        let network = architecture("resnet18", &[]).outline(image([3, 32, 32]), 10);
        let network = network.unwrap();
        let all: usize = network
            .parameters()
            .iter()
            .map(|p| p.value.elem_count())
            .sum();
        assert_eq!(all as u64 - network.parameters().count(), 9_600);
    }

    /// Narrow ones: the point is the shapes.
    #[test]
    fn every_architecture_runs_on_every_shape_that_the_data_have() {
        for entry in ALL {
            for (shape, classes) in [([1, 28, 28], 10), ([3, 32, 32], 100), ([1, 16, 16], 10)] {
                let has_width = entry.knobs.iter().any(|knob| knob.id == "width");
                let narrow = [("width", KnobValue::Real(0.0625))];
                let knobs = if has_width { &narrow[..] } else { &[] };
                let flat = vec![0.5; shape[0]];
                let network = architecture(&entry.info.id, knobs)
                    .build(image(shape), classes, (&flat, &flat), 7)
                    .unwrap();
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
        for id in ["lenet5", "cnn8", "mobilenet-v1", "mlp"] {
            let weights = |seed| {
                let network =
                    architecture(id, &[]).build(image([1, 28, 28]), 10, (&[0.5], &[0.25]), seed);
                network.unwrap().parameters().to_safetensors().unwrap()
            };
            assert!(weights(7) == weights(7), "{id}");
            assert!(weights(7) != weights(8), "{id}");
        }
    }

    #[test]
    fn images_that_are_too_small_are_refused_in_one_sentence() {
        for (id, knobs, least) in [
            ("lenet5", vec![], 10),
            ("resnet34", vec![], 8),
            ("resnet34", vec![("stem", word("3x3-pool"))], 16),
            ("resnet34", vec![("stem", word("7x7"))], 32),
            ("resnet50", vec![("head", word("keras"))], 32),
            ("mobilenet-v1", vec![], 16),
            ("mobilenet-v1", vec![("head", word("keras"))], 32),
        ] {
            let of = |side| architecture(id, &knobs).outline(image([1, side, side]), 10);
            let error = of(least - 1).unwrap_err().to_string();
            let side = least - 1;
            assert_eq!(
                error,
                format!("{id} takes images of at least {least}x{least} pixels, not {side}x{side}")
            );
            of(least).unwrap();
        }
        architecture("cnn8", &[])
            .outline(image([1, 1, 1]), 10)
            .unwrap();
    }

    /// The planner computes a sum together with the normalization before it and the ReLU behind it.
    #[test]
    fn a_blocks_shortcut_stands_before_its_main_path() {
        for id in ["resnet18", "resnet50"] {
            let network = architecture(id, &[])
                .outline(image([3, 32, 32]), 10)
                .unwrap();
            let nodes = network.nodes();
            let sums = (0..nodes.len()).filter(|at| nodes[*at].layer == Layer::Add);
            for at in sums {
                assert!(matches!(nodes[at - 1].layer, Layer::BatchNorm2d { .. }));
                assert_eq!(nodes[at].inputs[0], at - 1);
                assert_eq!(nodes[at + 1].layer, Layer::Relu);
                let main = nodes[at - 1].name.rsplit_once('.').unwrap().0;
                let first = network.position(&format!("{main}.conv1")).unwrap();
                assert!(nodes[at].inputs[1] < first, "{main}");
            }
        }
    }

    #[test]
    fn widths_are_multiples_of_four() {
        assert_eq!([64, 128, 512].map(|n| widened(n, 0.125)), [8, 16, 64]);
        assert_eq!([32, 64, 1024].map(|n| widened(n, 0.75)), [24, 48, 768]);
        assert_eq!([64, 64, 64].map(|n| n), [64; 3]);
        assert_eq!(widened(64, 0.3), 20);
        assert_eq!(widened(32, 0.01), 4);
    }
}
