//! Every architecture of the table: logits, loss and gradients.

use candle_core::Device;
use shrinklab::lab::architecture;
use shrinklab::lab::bench::shape;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::loss::cross_entropy;
use shrinklab::nn::network::{Keep, Network};
use shrinklab::nn::parameters::ParameterRole;
use shrinklab::nn::{Mode, device};
use shrinklab::spec::{KnobValue, Setting};

use crate::ops::{Passed, pass};
use crate::{assert_near, draw, norm, on_gpu, pixels, twin};

const BATCH: usize = 4;

/// An architecture on the images it is timed on; at an eighth of its width, if it has one.
pub(crate) fn built(id: &str, seed: u64) -> Network {
    built_with(id, seed, &[])
}

/// With some knobs turned.
fn built_with(id: &str, seed: u64, turned: &[(&str, KnobValue)]) -> Network {
    let entry = architecture::ALL.iter().find(|e| e.info.id == id).unwrap();
    let knobs = entry.knobs.iter();
    let setting = knobs.fold(Setting::default(), |setting, knob| {
        let value = match &*knob.id {
            "width" => KnobValue::Real(0.125),
            _ => knob.range.default(),
        };
        let turned = turned.iter().find(|(id, _)| *id == &*knob.id);
        let value = turned.map_or(value, |(_, value)| value.clone());
        setting.with(&knob.id, value)
    });
    let input = shape(id);
    let normalization = (&*vec![0.45; input.channels], &*vec![0.25; input.channels]);
    let architecture = (entry.build)(&setting);
    let mut network = architecture.build(input, 10, normalization, seed).unwrap();
    fill(&mut network, seed);
    network
}

/// Values with which signals keep their size through many layers, and so do errors.
fn fill(network: &mut Network, seed: u64) {
    let parameters = network.parameters().iter();
    let needed: Vec<_> = parameters
        .map(|p| (p.name.clone(), p.role, p.value.dims().to_vec()))
        .collect();
    for (at, (name, role, dims)) in needed.into_iter().enumerate() {
        let (low, high) = match role {
            ParameterRole::Weight => {
                let bound = (6.0 / dims[1..].iter().product::<usize>() as f64).sqrt();
                (-bound, bound)
            }
            ParameterRole::RunningVariance | ParameterRole::Step => (0.5, 2.0),
            ParameterRole::RunningMean => (-0.25, 0.25),
            ParameterRole::Bias | ParameterRole::Shift => (0.0, 0.5),
            ParameterRole::Scale if name.ends_with("bn3.weight") => (0.125, 0.25),
            ParameterRole::Scale => (0.5, 1.0),
        };
        let values = draw(
            "fill",
            1000 * seed + at as u64,
            dims.iter().product(),
            low,
            high,
        );
        network.parameters_mut().set(&name, &values).unwrap();
    }
}

/// 1e-4 up to 20 layers that have weights and are no shortcuts, 1e-3 beyond.
fn tolerance(network: &Network) -> f64 {
    let layers = network.nodes().iter().filter(|node| {
        let weighs = matches!(
            node.layer,
            Layer::Conv2d { .. } | Layer::DepthwiseConv2d { .. } | Layer::Linear { .. }
        );
        weighs && !node.name.contains("downsample")
    });
    if layers.count() <= 20 { 1e-4 } else { 1e-3 }
}

fn assert_passed(found: &Passed, expected: &Passed, network: &Network, what: &str) {
    let tolerance = tolerance(network);
    let near = |found: &[f32], expected: &[f32], least: f64, of: &str| {
        assert_near(found, expected, tolerance, least, &format!("{what}: {of}"));
    };
    near(&found.logits, &expected.logits, 0.0, "logits");
    near(&found.d_input, &expected.d_input, 0.0, "images' gradient");
    let norms = expected.d_parameters.iter().flatten();
    let norms = norms.map(|g| norm(g.iter().map(|v| f64::from(*v))));
    // Of a bias in front of a normalization nothing but rounding is left.
    let least = 1e-3 * norms.fold(0.0, f64::max);
    let both = found.d_parameters.iter().zip(&expected.d_parameters);
    for (parameter, (found, expected)) in network.parameters().iter().zip(both) {
        assert_eq!(found.is_some(), expected.is_some(), "{what}");
        if let (Some(found), Some(expected)) = (found, expected) {
            near(found, expected, least, &parameter.name);
        }
    }
}

fn follows_the_cpu(id: &str, network: &Network, device: &Device) {
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i * 7 % 10).collect();
    for mode in [Mode::Train, Mode::Eval] {
        let what = format!("{id}, {mode:?}");
        let (mut here, mut there) = (network.duplicate().unwrap(), twin(network, device));
        let expected = pass(&mut here, BATCH, mode, Keep::Gradients).unwrap();
        let found = pass(&mut there, BATCH, mode, Keep::Gradients).unwrap();
        assert_passed(&found, &expected, network, &what);
        crate::assert_same_weights(&there, &here, tolerance(network), &what);
        let mut there = twin(network, device);
        let apart = pass(&mut there, BATCH, mode, Keep::Activations).unwrap();
        assert_passed(&apart, &found, network, &format!("{what}, each layer"));
        let images = pixels(2, BATCH, network.input());
        let mut workspace = shrinklab::nn::network::Workspace::new();
        let [h, t] = [network, &there].map(|network| {
            let trace = network
                .forward(&images, Mode::Eval, &mut workspace)
                .unwrap();
            let loss = cross_entropy(trace.logits(), &labels).unwrap();
            drop(trace);
            (loss.mean, loss.correct)
        });
        if mode == Mode::Eval {
            let near = (h.0 - t.0).abs() <= tolerance(network) * h.0;
            assert!(near && h.1 == t.1, "{what}: {h:?} and {t:?}");
        }
    }
}

#[test]
fn small_architectures_are_the_cpus() {
    on_gpu(|device| {
        for id in ["mlp", "lenet5", "cnn8"] {
            follows_the_cpu(id, &built(id, 1), device);
            device::set_products(device, true).unwrap();
            follows_the_cpu(id, &built(id, 1), device);
            device::set_products(device, false).unwrap();
        }
    });
}

#[test]
fn all_other_architectures_are_the_cpus() {
    on_gpu(|device| {
        let ids = architecture::ALL.iter().map(|entry| &*entry.info.id);
        for id in ids.filter(|id| !["mlp", "lenet5", "cnn8"].contains(id)) {
            follows_the_cpu(id, &built(id, 1), device);
        }
    });
}

/// Both answers of a tree, of one question and of more leaves than a block has threads.
#[test]
fn soft_decision_trees_are_the_cpus() {
    on_gpu(|device| {
        for (depth, prediction) in [(1, "expected"), (4, "max-path"), (9, "expected")] {
            let knobs = [
                ("depth", KnobValue::Integer(depth)),
                ("prediction", KnobValue::Choice(prediction.to_owned())),
            ];
            let network = built_with("soft-decision-tree", 1, &knobs);
            follows_the_cpu(&format!("depth {depth}, {prediction}"), &network, device);
        }
    });
}
