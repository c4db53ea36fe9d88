//! Integers: kernels against the definition, bit for bit, on every path; networks against their simulation in floats.

use candle_core::Tensor;
use proptest::prelude::*;
use shrinklab::lab::architecture;
use shrinklab::lab::bench::int8::{Granularity, quantized};
use shrinklab::nn::integer::{IntegerNetwork, IntegerWorkspace};
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::{Builder, Keep, Network, Workspace};
use shrinklab::nn::op::geometry::Geometry;
use shrinklab::nn::op::integer::conv2d::Conv2d;
use shrinklab::nn::op::integer::depthwise_conv2d::DepthwiseConv2d;
use shrinklab::nn::op::integer::requantize::{Affine, Requantize};
use shrinklab::nn::op::integer::{Path, Products, SLACK, Scratch};
use shrinklab::nn::op::{set_values, tensor, values};
use shrinklab::nn::parameters::ParameterRole;
use shrinklab::nn::{ImageShape, Mode};
use shrinklab::spec::Setting;

use crate::{draw, drawn, threads};

/// Every path's packing and blocking in plain loops, and its instructions where this processor has them.
fn all_products() -> Vec<(String, Products)> {
    let mut all = Vec::new();
    for path in Path::ALL {
        all.push((format!("model of {path:?}"), Products::model(path)));
        match Products::of(path) {
            Some(products) => all.push((format!("{path:?}"), products)),
            None => eprintln!("{} is not tested: this processor lacks it", path.name()),
        }
    }
    all
}

fn bytes(stream: u64, n: usize) -> Vec<u8> {
    draw(stream, n, 0.0, 256.0)
        .into_iter()
        .map(|v| v as u8)
        .collect()
}

fn weights(stream: u64, n: usize, least: f64) -> Vec<i8> {
    let drawn = draw(stream, n, least, 128.0);
    drawn.into_iter().map(|v| v.floor() as i8).collect()
}

/// The sums by the definition, term after term; depthwise where `outputs` is none.
fn by_definition(g: &Geometry, outputs: Option<usize>, zero: u8, x: &[u8], w: &[i8]) -> Vec<i32> {
    let (c, k) = (g.channels, g.kernel);
    let mut sums = Vec::new();
    for image in x.chunks_exact(g.image()) {
        for (oy, ox) in (0..g.positions()).map(|i| (i / g.out_width(), i % g.out_width())) {
            for o in 0..outputs.unwrap_or(c) {
                let mut sum = 0;
                for (ky, kx) in (0..k * k).map(|i| (i / k, i % k)) {
                    let (y, x) = (oy * g.stride + ky, ox * g.stride + kx);
                    let inside = (g.padding..g.padding + g.height).contains(&y)
                        && (g.padding..g.padding + g.width).contains(&x);
                    if !inside {
                        continue;
                    }
                    let pixel = &image[((y - g.padding) * g.width + x - g.padding) * c..][..c];
                    let tap = ky * k + kx;
                    if outputs.is_none() {
                        sum +=
                            i32::from(w[o * k * k + tap]) * (i32::from(pixel[o]) - i32::from(zero));
                        continue;
                    }
                    for (channel, value) in pixel.iter().enumerate() {
                        let w = i32::from(w[(o * c + channel) * k * k + tap]);
                        sum += w * (i32::from(*value) - i32::from(zero));
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

/// Factors that spread the sums over the bytes, others for each channel.
fn then(most: &[f64]) -> Requantize {
    let affine = |(at, most): (usize, &f64)| Affine {
        factor: (1.0 + 0.1 * (at % 7) as f64) * 300.0 / (most + 1.0),
        offset: 100.0 + at as f64,
        most: *most,
    };
    let channels: Vec<Affine> = most.iter().enumerate().map(affine).collect();
    Requantize::new(&channels, 3, 250).unwrap()
}

fn expected(sums: &[i32], then: &Requantize) -> Vec<u8> {
    let of = |(at, sum): (usize, &i32)| then.one(at % then.channels(), *sum);
    sums.iter().enumerate().map(of).collect()
}

fn convolution_is_the_definition(g: Geometry, outputs: usize, batch: usize, zero: u8, least: f64) {
    let mut x = bytes(7, batch * g.image());
    let w = weights(8, outputs * g.depth(), least);
    let sums = by_definition(&g, Some(outputs), zero, &x, &w);
    x.extend([255; SLACK]);
    for (name, products) in all_products() {
        let conv = Conv2d::new(g, zero, &w, products);
        let then = then(&conv.most());
        let mut scratch = Scratch::default();
        let (mut y, mut found) = (vec![77; sums.len()], vec![77; sums.len()]);
        conv.forward(&x, &then, &mut y, &mut scratch);
        assert_eq!(y, expected(&sums, &then), "{name}: {g:?} to {outputs}");
        conv.sums(&x, &mut found, &mut scratch);
        assert_eq!(found, sums, "{name}: sums of {g:?} to {outputs}");
        let largest = conv.most();
        for (at, sum) in sums.iter().enumerate() {
            assert!(f64::from(*sum).abs() <= largest[at % outputs]);
        }
    }
}

fn geometry(
    channels: usize,
    (height, width): (usize, usize),
    [kernel, stride, padding]: [usize; 3],
) -> Geometry {
    Geometry {
        channels,
        height,
        width,
        kernel,
        stride,
        padding,
    }
}

proptest! {
    #![proptest_config(drawn(60))]

    #[test]
    fn convolutions_are_the_definition_on_every_path(
        batch in 1_usize..4, channels in 1_usize..40, outputs in 1_usize..70,
        height in 5_usize..12, width in 5_usize..12,
        shape in (1_usize..6, 1_usize..4, 0_usize..3), zero in 0_u8..=255, parts in 1_usize..4,
    ) {
        let g = geometry(channels, (height, width), [shape.0, shape.1, shape.2]);
        threads(parts, || convolution_is_the_definition(g, outputs, batch, zero, -128.0));
    }

    /// Wide enough to be filtered, with tiles that reach beyond the edge.
    #[test]
    fn filtering_is_the_definition_on_every_path(
        batch in 2_usize..4, channels in 40_usize..100, outputs in 33_usize..100,
        height in 9_usize..17, width in 9_usize..17, padding in 0_usize..3, zero in 0_u8..=255,
    ) {
        let g = geometry(channels, (height, width), [3, 1, padding]);
        threads(2, || convolution_is_the_definition(g, outputs, batch, zero, -128.0));
    }

    #[test]
    fn depthwise_convolutions_are_the_definition_on_every_path(
        batch in 1_usize..4, channels in 1_usize..70, height in 5_usize..12, width in 5_usize..12,
        shape in (1_usize..6, 1_usize..4, 0_usize..3), zero in 0_u8..=255,
    ) {
        let g = geometry(channels, (height, width), [shape.0, shape.1, shape.2]);
        let x = bytes(7, batch * g.image());
        let w = weights(8, channels * g.kernel * g.kernel, -128.0);
        let sums = by_definition(&g, None, zero, &x, &w);
        for (name, products) in all_products() {
            let conv = DepthwiseConv2d::new(g, zero, &w, products);
            let then = then(&conv.most());
            let mut y = vec![77; sums.len()];
            conv.forward(&x, &then, &mut y, &mut Scratch::default());
            assert_eq!(y, expected(&sums, &then), "{name}: {g:?}");
        }
    }
}

/// The largest sums that 512 channels can give, of one sign: a filtering keeps them by taking channels in groups.
#[test]
fn the_largest_sums_survive_filtering() {
    let g = geometry(512, (8, 8), [3, 1, 1]);
    let outputs = 64;
    let mut x = vec![255; 6 * g.image() + SLACK];
    x[..g.image()].copy_from_slice(&bytes(1, g.image()));
    let mut w = vec![127; outputs * g.depth()];
    w[..20 * g.depth()].fill(-127);
    w[..9 * g.depth()].copy_from_slice(&weights(2, 9 * g.depth(), 100.0));
    let sums = by_definition(&g, Some(outputs), 0, &x[..6 * g.image()], &w);
    assert!(sums.iter().any(|sum| *sum > 1 << 27) && sums.iter().any(|sum| *sum < -(1 << 27)));
    for (name, products) in all_products() {
        let conv = Conv2d::new(g, 0, &w, products);
        let then = then(&conv.most());
        let mut y = vec![77; sums.len()];
        conv.forward(&x, &then, &mut y, &mut Scratch::default());
        assert_eq!(y, expected(&sums, &then), "{name}");
    }
}

/// Draws other normalizations than a network begins with: factors of either sign, one of 0, shifts and statistics.
fn unsettle(network: &mut Network, stream: u64) {
    let all: Vec<_> = network
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), p.role, p.value.elem_count()))
        .collect();
    for (at, (name, role, n)) in all.into_iter().enumerate() {
        let (low, high) = match role {
            ParameterRole::Weight | ParameterRole::Step => continue,
            ParameterRole::Bias | ParameterRole::Shift => (-0.3, 0.3),
            ParameterRole::Scale => (-0.5, 1.5),
            ParameterRole::RunningMean => (-0.2, 0.2),
            ParameterRole::RunningVariance => (0.3, 2.0),
        };
        let mut values = draw(stream + at as u64, n, low, high);
        if role == ParameterRole::Scale {
            values[0] = 0.0;
        }
        let value = &network.parameters().get(&name).unwrap().value;
        set_values(value, &values).unwrap();
    }
}

/// Bytes of a simulated activation.
fn stored(activation: &Tensor, levels: &shrinklab::nn::op::fake_quant::Levels) -> Vec<u8> {
    let byte = |v: f32| (levels.quantize(v) - levels.q_min) as u8;
    values(activation).unwrap().into_iter().map(byte).collect()
}

/// How often integers and simulation differ, and among how many.
#[derive(Debug, Default)]
struct Differing {
    values: usize,
    apart: usize,
}

/// Given the simulated network's stored activations, each of the integer network's own is within one level, and the logits
/// are those of the simulation up to its floats.
fn follows_the_simulation(simulated: &Network, images: &Tensor, products: Products) -> Differing {
    let integer = IntegerNetwork::lower_for(simulated, products).unwrap();
    let batch = images.dims()[0];
    let mut workspace = Workspace::new();
    let trace = simulated
        .trace(images, Mode::Eval, Keep::Activations, &mut workspace)
        .unwrap();
    let mut activations: Vec<Vec<u8>> = Vec::new();
    let mut differing = Differing::default();
    for (at, place) in integer.places().into_iter().enumerate() {
        let name = &simulated.nodes()[place.node].name;
        let simulated = stored(trace.activation(place.node).unwrap(), &place.levels);
        if at > 0 {
            let inputs: Vec<&[u8]> = place.inputs.iter().map(|i| &activations[*i][..]).collect();
            let found = integer.stored_from(at, &inputs, batch);
            assert_eq!(found.len(), simulated.len());
            for (i, (found, simulated)) in found.iter().zip(&simulated).enumerate() {
                assert!(
                    found.abs_diff(*simulated) <= 1,
                    "{name} at {i}: {found}, {simulated}"
                );
                differing.apart += usize::from(found != simulated);
            }
            differing.values += found.len();
        }
        activations.push(simulated);
    }
    let expected = values(trace.logits()).unwrap();
    let found = integer.logits_from(&activations[integer.last()], batch);
    let scale = expected
        .iter()
        .fold(1e-3_f32, |scale, e| scale.max(e.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!(
            (found - expected).abs() <= 1e-4 * scale,
            "logits: {found}, {expected}"
        );
    }
    // The whole way: where no activation lay between two levels, it is the same.
    drop(trace);
    let mut own = IntegerWorkspace::default();
    let logits = values(&integer.forward(images, &mut own).unwrap()).unwrap();
    let again = values(&integer.forward(images, &mut own).unwrap()).unwrap();
    assert_eq!(logits, again);
    if differing.apart == 0 {
        assert_eq!(logits, found);
    }
    differing
}

fn images(stream: u64, batch: usize, shape: ImageShape) -> Tensor {
    let dims = [batch, shape.channels, shape.height, shape.width];
    tensor(draw(stream, batch * shape.values(), 0.0, 1.0), &dims).unwrap()
}

/// A random network: convolutions of both kinds, normalized or not, poolings, a sum, linear layers.
fn random_network(seed: u64) -> Network {
    let mut at = 0;
    let mut choose = |n: usize| {
        at += 1;
        draw(9000 + seed, at, 0.0, n as f64)[at - 1] as usize
    };
    let shape = ImageShape {
        channels: 1 + 2 * choose(2),
        height: 9 + choose(5),
        width: 9 + choose(5),
    };
    let mut builder = Builder::new("random", shape, 4 + choose(5), seed);
    let (mean, std) = (vec![0.4; shape.channels], vec![0.3; shape.channels]);
    builder
        .then("normalize", Layer::Normalize { mean, std })
        .unwrap();
    for block in 0..=choose(3) {
        let named = |part: &str| format!("{part}{block}");
        let kernel = 1 + 2 * choose(2);
        let conv = Layer::Conv2d {
            out_channels: [3, 8, 20, 40][choose(4)],
            kernel,
            stride: 1 + choose(2),
            padding: choose(kernel.div_ceil(2) + 1),
            bias: choose(2) == 0,
        };
        let mut last = builder.then(&named("conv"), conv).unwrap();
        if choose(2) == 0 {
            last = builder.then(&named("norm"), Layer::batch_norm()).unwrap();
        }
        if choose(3) > 0 {
            last = builder.then(&named("relu"), Layer::Relu).unwrap();
        }
        if choose(2) == 0 {
            builder
                .then(&named("depthwise"), Layer::depthwise3x3(1))
                .unwrap();
            last = builder.then(&named("depthwise.relu"), Layer::Relu).unwrap();
        }
        if choose(2) == 0 {
            let same = Layer::conv_without_bias(builder.shape(last)[0], 3, 1, 1);
            builder.after(&[last], &named("branch"), same).unwrap();
            let branch = builder
                .then(&named("branch.norm"), Layer::batch_norm())
                .unwrap();
            last = builder
                .after(&[branch, last], &named("add"), Layer::Add)
                .unwrap();
            if choose(2) == 0 {
                last = builder.then(&named("add.relu"), Layer::Relu).unwrap();
            }
        }
        let side = builder.shape(last)[1].min(builder.shape(last)[2]);
        let (kernel, stride, padding) = (2 + choose(2), 1 + choose(2), choose(2));
        if side >= 3 {
            last = match choose(3) {
                0 => builder.then(
                    &named("max"),
                    Layer::MaxPool2d {
                        kernel,
                        stride,
                        padding,
                    },
                ),
                1 => builder.then(
                    &named("mean"),
                    Layer::AveragePool2d {
                        kernel,
                        stride,
                        padding,
                    },
                ),
                _ => Ok(last),
            }
            .unwrap();
        }
        if builder.shape(last)[1].min(builder.shape(last)[2]) < 3 {
            break;
        }
    }
    let end = if choose(2) == 0 {
        Layer::Flatten
    } else {
        Layer::GlobalAveragePool
    };
    builder.then("end", end).unwrap();
    if choose(2) == 0 {
        builder.then("hidden", Layer::linear(17)).unwrap();
        builder.then("hidden.relu", Layer::Relu).unwrap();
    }
    let classes = builder.classes();
    builder.then("logits", Layer::linear(classes)).unwrap();
    let mut network = builder.finish().unwrap();
    unsettle(&mut network, 40 + seed);
    network
}

proptest! {
    #![proptest_config(drawn(120))]

    #[test]
    fn random_networks_follow_their_simulation(
        seed in 0_u64..1 << 30, batch in 1_usize..5, bits in 2_u32..9, channel in any::<bool>(),
    ) {
        let network = random_network(seed);
        let granularity = if channel { Granularity::Channel } else { Granularity::Tensor };
        let seen = images(seed + 1, 8, network.input());
        let simulated = quantized(&network, &seen, granularity, bits).unwrap();
        let images = images(seed + 2, batch, network.input());
        let differing = follows_the_simulation(&simulated, &images, Products::fastest());
        // Only values that floats put between two levels.
        prop_assert!(differing.apart <= 2 + differing.values / 1000, "{differing:?}");
    }
}

/// Every architecture with 8 bits, for each output channel; the wide ones narrow enough to be quick.
#[test]
fn architectures_follow_their_simulation() {
    for entry in architecture::ALL {
        let id = &*entry.info.id;
        let (channels, side, batch) = match id {
            "mlp" | "lenet5" | "cnn8" => (1, 28, 4),
            // Built as resnet50 is; a tree's probabilities have no integers.
            "resnet101" | "resnet152" | "soft-decision-tree" => continue,
            _ => (3, 32, 3),
        };
        let setting = entry
            .knobs
            .iter()
            .fold(Setting::default(), |setting, knob| {
                setting.with(&knob.id, knob.range.default())
            });
        let shape = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let (mean, std) = (vec![0.45; channels], vec![0.25; channels]);
        let network = (entry.build)(&setting)
            .build(shape, 10, (&mean, &std), 3)
            .unwrap();
        let seen = images(11, 8, shape);
        let simulated = quantized(&network, &seen, Granularity::Channel, 8).unwrap();
        let images = images(12, batch, shape);
        let differing = follows_the_simulation(&simulated, &images, Products::fastest());
        assert!(
            differing.apart <= 2 + differing.values / 1000,
            "{id}: {differing:?}"
        );
    }
}

/// One image or many, on any number of threads and every path: the same integers.
#[test]
fn every_path_gives_the_same_logits() {
    let network = random_network(5);
    let seen = images(1, 8, network.input());
    let simulated = quantized(&network, &seen, Granularity::Tensor, 8).unwrap();
    let images = images(2, 7, network.input());
    let logits = |products: Products, n: usize| {
        threads(n, || {
            let integer = IntegerNetwork::lower_for(&simulated, products).unwrap();
            let mut workspace = IntegerWorkspace::default();
            values(&integer.forward(&images, &mut workspace).unwrap()).unwrap()
        })
    };
    let first = logits(Products::model(Path::Portable), 1);
    for (name, products) in all_products() {
        for n in [1, 3] {
            assert_eq!(logits(products, n), first, "{name}, {n} threads");
        }
    }
}

#[test]
fn what_is_no_small_integer_is_named() {
    let network = random_network(5);
    let shape = network.input();
    let refusal = |network: &Network| IntegerNetwork::lower(network).unwrap_err().to_string();
    assert_eq!(
        refusal(&network),
        "normalize is no integer layer: its activation is not rounded to levels"
    );
    let seen = images(1, 8, shape);
    let mut simulated = quantized(&network, &seen, Granularity::Tensor, 8).unwrap();
    simulated
        .parameters_mut()
        .set_levels("logits.weight", None)
        .unwrap();
    assert_eq!(
        refusal(&simulated),
        "logits is no integer layer: its weights are not rounded to levels"
    );
    let wide = Layer::FakeQuant {
        scale: 0.001,
        zero_point: 0,
        q_min: 0,
        q_max: 65535,
    };
    let mut simulated = quantized(&network, &seen, Granularity::Tensor, 8).unwrap();
    simulated.replace("normalize.levels", wide).unwrap();
    assert!(refusal(&simulated).contains("its activation has 65536 levels from 0 to 65535"));
}
