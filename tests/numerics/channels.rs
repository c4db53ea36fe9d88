//! Coupled channels: on random networks, zeroing channels with all that carries them and removing them give the same.

use candle_core::Tensor;
use proptest::prelude::*;
use shrinklab::nn::channels::groups;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::{Builder, Network, Wanted, Workspace};
use shrinklab::nn::op::{tensor, values};
use shrinklab::nn::parameters::ParameterRole;
use shrinklab::nn::rng::Rng;
use shrinklab::nn::trace::Keep;
use shrinklab::nn::{ImageShape, Mode};

use crate::drawn;

const BATCH: usize = 3;
const CLASSES: usize = 5;

const IMAGE: ImageShape = ImageShape {
    channels: 2,
    height: 12,
    width: 12,
};

/// What a random network is made of.
#[derive(Clone, Copy, Debug)]
enum Piece {
    /// A convolution to so many channels, normalized or with a bias.
    Convolution(usize, bool),
    /// Two convolutions and a sum with what came in; the shortcut has its own convolution or none.
    Block(usize, bool),
    Depthwise,
    MaxPool,
    AveragePool,
    Quantize,
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        (1..7_usize, any::<bool>()).prop_map(|(n, bn)| Piece::Convolution(n, bn)),
        (1..6_usize, any::<bool>()).prop_map(|(n, own)| Piece::Block(n, own)),
        Just(Piece::Depthwise),
        Just(Piece::MaxPool),
        Just(Piece::AveragePool),
        Just(Piece::Quantize),
    ]
}

fn build(pieces: &[Piece], flattens: bool, hidden: usize, seed: u64) -> Network {
    let mut b = Builder::new("random", IMAGE, CLASSES, seed);
    let (mean, std) = (vec![0.4; 2], vec![0.3; 2]);
    let mut last = b.then("normalize", Layer::Normalize { mean, std }).unwrap();
    for (at, piece) in pieces.iter().enumerate() {
        let named = |part: &str| format!("{at}.{part}");
        let side = b.shape(last)[1];
        last = match *piece {
            Piece::Convolution(n, true) => {
                let layer = Layer::conv_without_bias(n, 3, 1, 1);
                b.after(&[last], &named("conv"), layer).unwrap();
                b.then(&named("bn"), Layer::batch_norm()).unwrap();
                b.then(&named("relu"), Layer::Relu).unwrap()
            }
            Piece::Convolution(n, false) => {
                b.after(&[last], &named("conv"), Layer::conv3x3(n, 1, 1))
                    .unwrap();
                b.then(&named("relu"), Layer::Relu).unwrap()
            }
            Piece::Block(inner, own) => {
                let width = b.shape(last)[0];
                let shortcut = if own {
                    let layer = Layer::conv_without_bias(width, 1, 1, 0);
                    b.after(&[last], &named("shortcut"), layer).unwrap();
                    b.then(&named("shortcut.bn"), Layer::batch_norm()).unwrap()
                } else {
                    last
                };
                b.after(&[last], &named("conv1"), Layer::conv3x3(inner, 1, 1))
                    .unwrap();
                b.then(&named("relu1"), Layer::Relu).unwrap();
                let layer = Layer::conv_without_bias(width, 3, 1, 1);
                b.then(&named("conv2"), layer).unwrap();
                let main = b.then(&named("bn2"), Layer::batch_norm()).unwrap();
                b.after(&[main, shortcut], &named("add"), Layer::Add)
                    .unwrap();
                b.then(&named("relu"), Layer::Relu).unwrap()
            }
            Piece::Depthwise => {
                b.after(&[last], &named("depthwise"), Layer::depthwise3x3(1))
                    .unwrap();
                b.then(&named("bn"), Layer::batch_norm()).unwrap()
            }
            Piece::MaxPool if side >= 4 => b
                .after(&[last], &named("pool"), Layer::max_pool(2, 2))
                .unwrap(),
            Piece::AveragePool if side >= 4 => {
                let layer = Layer::AveragePool2d {
                    kernel: 3,
                    stride: 2,
                    padding: 1,
                };
                b.after(&[last], &named("pool"), layer).unwrap()
            }
            Piece::Quantize => {
                let layer = Layer::FakeQuant {
                    scale: 0.02,
                    zero_point: 100,
                    q_min: 0,
                    q_max: 255,
                };
                b.after(&[last], &named("levels"), layer).unwrap()
            }
            Piece::MaxPool | Piece::AveragePool => last,
        };
    }
    let head = if flattens {
        Layer::Flatten
    } else {
        Layer::GlobalAveragePool
    };
    b.after(&[last], "head", head).unwrap();
    b.then("hidden", Layer::linear(hidden)).unwrap();
    b.then("hidden.relu", Layer::Relu).unwrap();
    b.then("logits", Layer::linear(CLASSES)).unwrap();
    let mut network = b.finish().unwrap();
    // Shifts that are not zero, and statistics that are not those of the start.
    let needed: Vec<_> = network
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), p.role, p.value.elem_count()))
        .collect();
    for (at, (name, role, n)) in needed.into_iter().enumerate() {
        let mut rng = Rng::stream(seed, "made-up", &[at as u64]);
        let (low, high) = match role {
            ParameterRole::Weight => continue,
            ParameterRole::Scale | ParameterRole::RunningVariance => (0.5, 1.5),
            _ => (-0.5, 0.5),
        };
        let drawn: Vec<f32> = (0..n).map(|_| rng.between(low, high) as f32).collect();
        network.parameters_mut().set(&name, &drawn).unwrap();
    }
    network
}

fn images(seed: u64) -> Tensor {
    let mut rng = Rng::stream(seed, "images", &[]);
    let n = BATCH * IMAGE.values();
    let pixels = (0..n).map(|_| rng.uniform() as f32).collect();
    tensor(pixels, &[BATCH, IMAGE.channels, IMAGE.height, IMAGE.width]).unwrap()
}

/// Logits, and the gradient of their weighted sum with respect to the images.
fn seen(network: &Network, images: &Tensor, mode: Mode) -> (Vec<f32>, Vec<f32>) {
    let mut workspace = Workspace::default();
    let trace = network
        .trace(images, mode, Keep::Gradients, &mut workspace)
        .unwrap();
    let weights = (0..BATCH * CLASSES).map(|i| (i % 7) as f32 - 3.0).collect();
    let weights = tensor(weights, &[BATCH, CLASSES]).unwrap();
    let gradients = trace.backward(&weights, Wanted::INPUT).unwrap();
    let input = values(&gradients.input.unwrap()).unwrap();
    (values(trace.logits()).unwrap(), input)
}

fn near(one: &[f32], other: &[f32], tolerance: f32) -> bool {
    let scale = one.iter().fold(1.0_f32, |scale, v| scale.max(v.abs()));
    let pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs
            .into_iter()
            .all(|(a, b)| (a - b).abs() <= tolerance * scale)
}

proptest! {
    #![proptest_config(drawn(96))]
    #[test]
    fn removing_channels_is_zeroing_them_and_all_that_carries_them(
        pieces in prop::collection::vec(piece(), 1..7),
        flattens in any::<bool>(),
        hidden in 1..6_usize,
        seed in any::<u64>(),
    ) {
        let network = build(&pieces, flattens, hidden, seed);
        let mut rng = Rng::stream(seed, "removed", &[]);
        let mut masked = network.duplicate().unwrap();
        let mut kept = Vec::new();
        for group in groups(&network) {
            let stays = rng.below(group.channels);
            let removed: Vec<usize> = (0..group.channels)
                .filter(|channel| *channel != stays && rng.uniform() < 0.5)
                .collect();
            masked.mask_channels(&group, &removed).unwrap();
            let left = (0..group.channels).filter(|c| !removed.contains(c)).collect();
            kept.push((group, left));
        }
        let smaller = network.with_channels(&kept).unwrap();
        prop_assert!(smaller.parameters().count() <= network.parameters().count());
        prop_assert!(smaller.macs() <= network.macs());
        let images = images(seed);
        // A level of a simulated quantization may be decided by the last bit.
        let has_levels = pieces.iter().any(|piece| matches!(piece, Piece::Quantize));
        for mode in [Mode::Eval, Mode::Train] {
            let (logits, gradient) = seen(&masked, &images, mode);
            let (of_smaller, gradient_of_smaller) = seen(&smaller, &images, mode);
            if has_levels {
                prop_assert!(near(&logits, &of_smaller, 0.05), "{:?} {:?} {:?}", mode, logits, of_smaller);
            } else {
                prop_assert!(near(&logits, &of_smaller, 1e-5), "{:?} {:?} {:?}", mode, logits, of_smaller);
                // A ReLU at its kink may be decided by the last bit as well: most of the gradient is equal.
                let close = gradient.iter().zip(&gradient_of_smaller)
                    .filter(|(a, b)| (**a - **b).abs() < 1e-4 * (1.0 + a.abs())).count();
                prop_assert!(close * 10 >= gradient.len() * 9, "{close} of {}", gradient.len());
            }
        }
    }
}
