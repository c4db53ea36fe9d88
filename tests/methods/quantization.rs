//! Quantization: what folding, equalizing, correcting and learning to round promise, and training on levels.

use super::*;
use shrinklab::lab::quantization::{equalization, places};
use shrinklab::nn::Mode;
use shrinklab::nn::network::Builder;
use shrinklab::nn::op::values;
use shrinklab::nn::trace::Keep;

pub(crate) const PTQ: &str = "post-training-quantization";

fn flag(value: bool) -> KnobValue {
    KnobValue::Flag(value)
}

pub(crate) fn integer(value: i64) -> KnobValue {
    KnobValue::Integer(value)
}

/// A network of a sixteenth of the usual width, whose normalizations are far from where they began.
pub(crate) fn normalized(id: &str) -> Network {
    let data = data();
    let entry = find(architecture::ALL, id);
    let narrow = setting(entry, &[("width", KnobValue::Real(0.0625))]);
    let mut network = (entry.build)(&narrow)
        .build(data.train.shape, 10, (&[0.5], &[0.25]), 7)
        .unwrap();
    let mut rng = Rng::stream(7, "normalizations", &[]);
    let drawn: Vec<(String, Vec<f32>)> = network
        .parameters()
        .iter()
        .filter(|parameter| parameter.role != ParameterRole::Weight)
        .map(|parameter| {
            let (low, high) = match parameter.role {
                ParameterRole::Scale | ParameterRole::RunningVariance => (0.5, 1.5),
                _ => (-0.5, 0.5),
            };
            let n = parameter.value.elem_count();
            let values = (0..n).map(|_| rng.between(low, high) as f32).collect();
            (parameter.name.clone(), values)
        })
        .collect();
    for (name, values) in drawn {
        network.parameters_mut().set(&name, &values).unwrap();
    }
    network
}

fn logits(network: &Network, data: &Data) -> Vec<f32> {
    let images = shrinklab::lab::outputs::batch(&data.test, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let mut workspace = Workspace::default();
    let trace = network.trace(&images, Mode::Eval, Keep::Nothing, &mut workspace);
    values(trace.unwrap().logits()).unwrap()
}

/// Relative to the largest.
#[track_caller]
fn assert_same(found: &[f32], expected: &[f32], tolerance: f32) {
    let largest = expected
        .iter()
        .fold(1.0_f32, |largest, v| largest.max(v.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance * largest,
            "{found} {expected}"
        );
    }
}

pub(crate) fn is_normalization(node: &shrinklab::nn::network::Node) -> bool {
    matches!(node.layer, Layer::BatchNorm2d { .. })
}

#[test]
fn a_folded_network_is_the_same_function_without_its_normalizations() {
    let data = data();
    for id in ["resnet18", "mobilenet-v1"] {
        let network = normalized(id);
        let mut folded = network.duplicate().unwrap();
        let count = folded.fold_normalizations().unwrap();
        let before = network
            .nodes()
            .iter()
            .filter(|node| is_normalization(node))
            .count();
        assert!(count == before && count > 10, "{id}: {count} of {before}");
        assert!(!folded.nodes().iter().any(is_normalization), "{id}");
        assert_eq!(folded.nodes().len() + count, network.nodes().len());
        assert!(folded.parameters().count() < network.parameters().count());
        assert!(network_bytes(&folded, Layout::Dense) < network_bytes(&network, Layout::Dense));
        assert_same(&logits(&folded, &data), &logits(&network, &data), 1e-5);
        // Layer by layer too: nothing is fused behind its back.
        let images = shrinklab::lab::outputs::batch(&data.test, &[0]).unwrap();
        let mut workspace = Workspace::default();
        let trace = folded
            .trace(&images, Mode::Eval, Keep::Activations, &mut workspace)
            .unwrap();
        let apart = values(trace.logits()).unwrap();
        assert_same(&apart, &logits(&network, &data)[..10], 1e-5);
        // What it has become is kept as any other network.
        let mut again = folded.duplicate().unwrap();
        again
            .parameters_mut()
            .load_safetensors(&bytes(&folded))
            .unwrap();
        assert_eq!(bytes(&again), bytes(&folded));
        let names: Vec<&str> = folded
            .parameters()
            .iter()
            .map(|p| p.name.as_str())
            .collect();
        for node in folded
            .nodes()
            .iter()
            .filter(|node| places::has_weights(&node.layer))
        {
            assert_eq!(names[node.parameters[0]], format!("{}.weight", node.name));
            assert_eq!(names[node.parameters[1]], format!("{}.bias", node.name));
        }
    }
}

/// By hand: w = (1, -2), b = .5, γ = 1.5, β = .2, μ = .3, σ² = .25, ε = 1e-5.
#[test]
fn folding_by_hand() {
    let shape = ImageShape {
        channels: 2,
        height: 1,
        width: 1,
    };
    let mut builder = Builder::new("one", shape, 1, 7);
    let conv = Layer::Conv2d {
        out_channels: 1,
        kernel: 1,
        stride: 1,
        padding: 0,
        bias: true,
    };
    let normalize = Layer::Normalize {
        mean: vec![0.0; 2],
        std: vec![1.0; 2],
    };
    let layers = vec![
        ("images", normalize),
        ("conv", conv),
        ("norm", Layer::batch_norm()),
        ("flat", Layer::Flatten),
    ];
    builder.chain(layers).unwrap();
    let mut network = builder.finish().unwrap();
    for (name, values) in [
        ("conv.weight", &[1.0, -2.0][..]),
        ("conv.bias", &[0.5]),
        ("norm.weight", &[1.5]),
        ("norm.bias", &[0.2]),
        ("norm.running_mean", &[0.3]),
        ("norm.running_var", &[0.25]),
    ] {
        network.parameters_mut().set(name, values).unwrap();
    }
    assert_eq!(network.fold_normalizations().unwrap(), 1);
    let parameters = network.parameters();
    assert_eq!(parameters.len(), 2);
    let weight = parameters.values("conv.weight").unwrap();
    assert!((weight[0] - 2.999_94).abs() < 1e-5 && (weight[1] + 5.999_88).abs() < 1e-5);
    assert!((parameters.values("conv.bias").unwrap()[0] - 0.799_988).abs() < 1e-6);
}

#[test]
fn equalized_layers_are_the_same_function_with_like_ranges() {
    let data = data();
    for id in ["resnet18", "mobilenet-v1"] {
        let mut network = normalized(id);
        network.fold_normalizations().unwrap();
        let mut equal = network.duplicate().unwrap();
        let layers = equalization::equalize(&mut equal).unwrap();
        assert!(layers >= 16, "{id}: {layers}");
        assert_same(&logits(&equal, &data), &logits(&network, &data), 1e-4);
        assert_ne!(bytes(&equal), bytes(&network));
    }
    // The first layer of a lenet meets the second in the geometric mean of each channel.
    let mut lenet = build(&data, 7);
    let before = logits(&lenet, &data);
    equalization::equalize(&mut lenet).unwrap();
    assert_same(&logits(&lenet, &data), &before, 1e-5);
    // With a normalization in between nothing can be moved.
    assert_eq!(
        equalization::equalize(&mut normalized("resnet18")).unwrap(),
        0
    );
}

/// The means of each layer's outputs come back to those of floats.
#[test]
fn corrected_biases_bring_means_back() {
    let bench = Bench::new();
    let knobs = |corrects| {
        [
            ("bits", integer(3)),
            ("activation-bits", word("floats")),
            ("bias-correction", flag(corrects)),
        ]
    };
    let sample = |network: &Network| {
        let images = shrinklab::lab::outputs::batch(&bench.data.train, &bench.data.split.train);
        let mut workspace = Workspace::default();
        let images = images.unwrap();
        let trace = network
            .trace(&images, Mode::Eval, Keep::Activations, &mut workspace)
            .unwrap();
        let mut means = Vec::new();
        for at in places::weighted(network) {
            let outputs = values(trace.activation(at).unwrap()).unwrap();
            let channels = network.shape(at)[0];
            for channel in 0..channels {
                let of: Vec<f64> = outputs[channel..]
                    .iter()
                    .step_by(channels)
                    .map(|v| f64::from(*v))
                    .collect();
                means.push(of.iter().sum::<f64>() / of.len() as f64);
            }
        }
        means
    };
    let reference = sample(bench.reference());
    let off = |corrects| {
        let made = bench.compress(bench.reference(), PTQ, &knobs(corrects));
        let found = sample(&made.network);
        let largest = found.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        (largest.fold(0.0, f64::max), made.remarks.join(" "))
    };
    let (plain, remarks) = off(false);
    assert!(!remarks.contains("corrected"));
    let (corrected, remarks) = off(true);
    assert!(
        remarks.contains("the biases of 4 layers were corrected"),
        "{remarks}"
    );
    // The sample of 512 calibration images is not all of the training images.
    assert!(corrected < 0.2 * plain, "{corrected} {plain}");
}

#[test]
fn learned_rounding_is_nearer_to_the_reference() {
    let bench = Bench::new();
    let pruned = bench.prune(bench.reference(), 0.3).network;
    let knobs = |learns| {
        [
            ("bits", integer(3)),
            ("activation-bits", word("floats")),
            ("adaround", flag(learns)),
            ("adaround-steps", integer(300)),
        ]
    };
    let made = |learns| bench.compress(&pruned, PTQ, &knobs(learns)).network;
    let reference = see(&pruned, &bench.data.test);
    let distance = |network: &Network| {
        let seen = see(network, &bench.data.test);
        let pairs = seen.probabilities.iter().zip(&reference.probabilities);
        pairs.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
    };
    let (nearest, learned) = (made(false), made(true));
    let (plain, better) = (distance(&nearest), distance(&learned));
    assert!(better < 0.7 * plain, "{better} {plain}");
    let mut moved = 0;
    for parameter in learned
        .parameters()
        .iter()
        .filter(|p| p.role == ParameterRole::Weight)
    {
        let levels = parameter.levels.as_ref().unwrap();
        let values = |network: &Network| network.parameters().values(&parameter.name).unwrap();
        let own = values(&learned);
        let mut rounded = own.clone();
        levels.simulate(&mut rounded);
        assert_eq!(own, rounded, "{}: on its levels", parameter.name);
        let floats = values(&pruned);
        for ((of, weight), float) in levels.each(&own).zip(&floats) {
            assert!(
                (weight - float).abs() <= 1.0001 * of.scale,
                "{weight} {float}"
            );
            assert!(*float != 0.0 || weight == 0.0, "what was pruned stays 0");
        }
        let nearest = values(&nearest);
        moved += own.iter().zip(&nearest).filter(|(a, b)| a != b).count();
    }
    assert!(moved > 100, "{moved} weights went the other way");
    // Chance has one source.
    assert_eq!(bytes(&made(true)), bytes(&learned));
}

#[test]
fn channels_of_their_own_cost_scales_and_save_error() {
    let bench = Bench::new();
    let made = |granularity| {
        let knobs = [
            ("bits", integer(4)),
            ("activation-bits", word("floats")),
            ("granularity", word(granularity)),
        ];
        bench.compress(bench.reference(), PTQ, &knobs).network
    };
    let (one, many) = (made("per-tensor"), made("per-channel"));
    let floats = weights(bench.reference());
    let error = |network: &Network| {
        let pairs = weights(network).into_iter().zip(&floats);
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    assert!(
        error(&many) < error(&one),
        "{} {}",
        error(&many),
        error(&one)
    );
    let rows: usize = places::weighted(&many)
        .iter()
        .map(|at| many.shape(*at)[0])
        .sum();
    let layers = places::weighted(&many).len();
    assert_eq!(
        network_bytes(&many, Layout::Dense) - network_bytes(&one, Layout::Dense),
        4 * (rows - layers) as u64
    );
    let mut again = made("per-channel");
    again
        .parameters_mut()
        .load_safetensors(&bytes(&many))
        .unwrap();
    assert_eq!(bytes(&again), bytes(&many));
    // Activations of integers make biases of each channel's sums.
    let made = bench.compress(
        bench.reference(),
        PTQ,
        &[("granularity", word("per-channel"))],
    );
    let bias = made
        .network
        .parameters()
        .get("conv1.bias")
        .unwrap()
        .levels
        .clone()
        .unwrap();
    assert_eq!(
        bias.all().len(),
        made.network.shape(made.network.position("conv1").unwrap())[0]
    );
}

#[test]
fn two_bits_are_ternary_and_every_knob_does_something() {
    let bench = Bench::new();
    let made = |knobs: &[(&str, KnobValue)]| bench.compress(bench.reference(), PTQ, knobs);
    let ternary = made(&[("bits", integer(2))]);
    for parameter in ternary
        .network
        .parameters()
        .iter()
        .filter(|p| p.role == ParameterRole::Weight)
    {
        let levels = *parameter.levels.as_ref().unwrap().one().unwrap();
        assert_eq!((levels.q_min, levels.q_max), (-1, 1));
    }
    assert!(
        ternary.remarks[0].contains("ternary"),
        "{:?}",
        ternary.remarks
    );
    // Sixteen bits are next to nothing, with or without what keeps the function.
    let reference = see(bench.reference(), &bench.data.test);
    for more in [("equalize", flag(false)), ("equalize", flag(true))] {
        let seen = see(
            &made(&[("bits", integer(16)), more]).network,
            &bench.data.test,
        );
        assert_same(&seen.probabilities, &reference.probabilities, 1e-2);
    }
    let plain = made(&[]);
    let levels = |network: &Network| {
        let nodes = network.nodes().iter().map(|node| node.layer.levels());
        nodes.collect::<Vec<_>>()
    };
    let mut found = vec![levels(&plain.network)];
    for range in ["moving-average", "percentile", "mse", "entropy"] {
        let knobs = [
            ("range", word(range)),
            ("percentile", KnobValue::Real(99.0)),
        ];
        let network = made(&knobs).network;
        for (own, widest) in levels(&network).iter().zip(&found[0]) {
            if let (Some(own), Some(widest)) = (own, widest) {
                let (a, b) = (own.range(), widest.range());
                let slack = widest.scale;
                assert!(
                    a.0 >= b.0 - slack && a.1 <= b.1 + slack,
                    "{range}: {a:?} {b:?}"
                );
            }
        }
        assert!(!found.contains(&levels(&network)), "{range}");
        found.push(levels(&network));
    }
    for knob in [
        ("weight-levels", word("full")),
        ("weight-levels", word("asymmetric")),
        ("weight-range", word("mse")),
        ("granularity", word("per-channel")),
        ("equalize", flag(true)),
        ("bias-correction", flag(true)),
    ] {
        let network = made(std::slice::from_ref(&knob)).network;
        assert_ne!(bytes(&network), bytes(&plain.network), "{knob:?}");
    }
}

#[test]
fn settings_of_earlier_sessions_are_read() {
    let bench = Bench::new();
    let entry = find(compression::ALL, PTQ);
    let with = |setting: Setting| {
        let method = (entry.build)(&setting);
        let subject = bench.subject(&bench.candidate);
        let start = Start {
            subject: &subject,
            network: bench.reference(),
            recipe: &RECIPE,
            life: Life::default(),
        };
        let (made, _) = stating(CANDIDATE, |cx| method.compress(&start, &mut Unobserved, cx));
        bytes(&made.unwrap().network)
    };
    for (bits, activations, new) in [
        ("4", "as-weights", "4"),
        ("8", "floats", "floats"),
        ("8", "16", "16"),
    ] {
        let old = Setting::default()
            .with("bits", word(bits))
            .with("activation-bits", word(activations))
            .with("calibration-images", integer(64));
        let knobs = [
            ("bits", integer(bits.parse().unwrap())),
            ("activation-bits", word(new)),
            ("calibration-images", integer(64)),
        ];
        let now = bench.compress(bench.reference(), PTQ, &knobs);
        assert_eq!(with(old), bytes(&now.network), "{bits} {activations}");
    }
}

#[test]
fn a_second_quantization_replaces_the_first() {
    let bench = Bench::new();
    let first = bench.quantize(bench.reference(), "4");
    let second = bench.compress(&first, PTQ, &[("activation-bits", word("floats"))]);
    assert!(
        second
            .network
            .nodes()
            .iter()
            .all(|node| node.layer.levels().is_none())
    );
    assert!(
        second
            .remarks
            .join(" ")
            .contains("an earlier quantization was taken away")
    );
    let third = bench.compress(&second.network, PTQ, &[]);
    assert_eq!(third.network.nodes().len(), first.nodes().len());
}
