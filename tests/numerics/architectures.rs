//! Every architecture at an eighth of its width against PyTorch: logits and loss in both modes, the images' gradient, every
//! parameter's, and the running statistics after a step that was committed.
//!
//! `fixtures/make_architectures.py` wrote PyTorch's numbers, in 64 bits. Of a tensor it keeps the norm, the sum with signs
//! that are drawn, and four values: an error anywhere shows in that sum, about as large as its own norm.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use candle_core::Tensor;
use serde_json::Value;
use shrinklab::lab::architecture;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::loss::cross_entropy;
use shrinklab::nn::network::{Keep, Network, Wanted, Workspace};
use shrinklab::nn::op::{read, tensor};
use shrinklab::nn::parameters::ParameterRole;
use shrinklab::nn::{ImageShape, Mode};
use shrinklab::spec::{KnobValue, Setting};

use crate::{draw, floats, threads};

fn cases() -> &'static Value {
    static CASES: OnceLock<Value> = OnceLock::new();
    let parsed = || {
        let fixture: Value =
            serde_json::from_str(include_str!("../fixtures/architectures.json")).unwrap();
        fixture["cases"].clone()
    };
    CASES.get_or_init(parsed)
}

/// A network of the fixture, with its images and labels.
struct Case {
    network: Network,
    images: Tensor,
    labels: Vec<u32>,
    expected: &'static Value,
    /// Allowed error, relative to the norm.
    tolerance: f64,
}

impl Case {
    fn new(name: &str) -> Self {
        let expected = &cases()[name];
        let number = |key: &str| expected[key].as_u64().unwrap() as usize;
        let (channels, side, batch) = (number("channels"), number("side"), number("batch"));
        let id = expected["architecture"].as_str().unwrap();
        let entry = architecture::ALL.iter().find(|e| e.info.id == id).unwrap();
        let mut setting = Setting::default();
        for knob in entry.knobs {
            let asked = match &expected["knobs"][&*knob.id] {
                Value::String(word) => KnobValue::Choice(word.clone()),
                Value::Number(n) => KnobValue::Integer(n.as_i64().unwrap()),
                // PyTorch's is as wide as it stands.
                _ if knob.id == "width" && id != "mlp" => KnobValue::Real(0.125),
                _ => knob.range.default(),
            };
            setting = setting.with(&knob.id, asked);
        }
        let input = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let normalization = (&*vec![0.45; channels], &*vec![0.25; channels]);
        let mut network = (entry.build)(&setting)
            .build(input, number("classes"), normalization, 1)
            .unwrap();
        fill(&mut network);
        let pixels = draw(number("stream") as u64, batch * input.values(), 0.0, 1.0);
        // "up to 20 layers": those that have weights and are no shortcuts.
        let layers = network.nodes().iter().filter(|node| {
            let weighs = matches!(
                node.layer,
                Layer::Conv2d { .. } | Layer::DepthwiseConv2d { .. } | Layer::Linear { .. }
            );
            weighs && !node.name.contains("downsample")
        });
        Self {
            tolerance: if layers.count() <= 20 { 1e-4 } else { 1e-3 },
            images: tensor(pixels, &[batch, channels, side, side]).unwrap(),
            labels: (0..batch)
                .map(|i| (i * 7 % network.classes()) as u32)
                .collect(),
            network,
            expected,
        }
    }
}

/// Every parameter and running statistic from a stream that its name decides, as `make_architectures.py` does.
fn fill(network: &mut Network) {
    let needed: Vec<_> = network
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), p.role, p.value.dims().to_vec()))
        .collect();
    for (name, role, dims) in needed {
        let bytes: u64 = name.bytes().map(u64::from).sum();
        let stream = bytes * 131 + name.len() as u64;
        let n: usize = dims.iter().product();
        let values = match role {
            ParameterRole::Weight => {
                let bound = (6.0 / dims[1..].iter().product::<usize>() as f64).sqrt() as f32;
                draw(stream, n, -1.0, 1.0)
                    .into_iter()
                    .map(|v| (f64::from(v) * f64::from(bound)) as f32)
                    .collect()
            }
            ParameterRole::RunningVariance | ParameterRole::Step => draw(stream, n, 0.5, 2.0),
            ParameterRole::RunningMean => draw(stream, n, -0.25, 0.25),
            ParameterRole::Bias | ParameterRole::Shift => draw(stream, n, 0.0, 0.5),
            ParameterRole::Scale if name.ends_with("bn3.weight") => draw(stream, n, 0.125, 0.25),
            ParameterRole::Scale => draw(stream, n, 0.5, 1.0),
        };
        network.parameters_mut().set(&name, &values).unwrap();
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// All values, by the norm of the error.
#[track_caller]
fn assert_norm(found: &Tensor, expected: &Value, tolerance: f64, what: &str) {
    let (found, expected) = (read(found).unwrap(), floats(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    let error = norm(found.iter().zip(&expected).map(|(f, e)| f64::from(*f) - e));
    let allowed = tolerance * norm(expected.iter().copied());
    assert!(
        error <= allowed,
        "{what}: off by {error:e}, allowed {allowed:e}"
    );
}

/// A tensor against its summary; `least` is the norm below which errors count absolutely.
#[track_caller]
fn assert_kept(
    found: &Tensor,
    expected: &Value,
    signs: u64,
    tolerance: f64,
    least: f64,
    what: &str,
) {
    let found: Vec<f64> = read(found).unwrap().iter().map(|v| f64::from(*v)).collect();
    let expected = floats(expected);
    let n = found.len();
    let signs = draw(signs, n, -1.0, 1.0);
    let signed = |(v, s): (&f64, &f32)| match s.total_cmp(&0.0) {
        std::cmp::Ordering::Less => -v,
        std::cmp::Ordering::Equal => 0.0,
        std::cmp::Ordering::Greater => *v,
    };
    let mut summary = vec![
        norm(found.iter().copied()),
        found.iter().zip(&signs).map(signed).sum(),
    ];
    summary.extend((0..4).map(|i| found[i * (n - 1) / 3]));
    let allowed = tolerance * expected[0].max(least);
    for (at, (found, expected)) in summary.iter().zip(&expected).enumerate() {
        assert!(
            (found - expected).abs() <= allowed,
            "{what}, number {at} of its summary: {found} instead of {expected}, allowed {allowed:e}"
        );
    }
}

fn follows_pytorch(name: &str) {
    let Case {
        mut network,
        images,
        labels,
        expected,
        tolerance,
    } = Case::new(name);
    let mut workspace = Workspace::new();
    for (mode, expected) in [
        (Mode::Eval, &expected["eval"]),
        (Mode::Train, &expected["train"]),
    ] {
        let what = |of: &str| format!("{name}, {mode:?}: {of}");
        let trace = network
            .trace(&images, mode, Keep::Gradients, &mut workspace)
            .unwrap();
        assert_norm(
            trace.logits(),
            &expected["logits"],
            tolerance,
            &what("logits"),
        );
        let loss = cross_entropy(trace.logits(), &labels).unwrap();
        let mean = expected["loss"].as_f64().unwrap();
        assert!(
            (loss.mean - mean).abs() <= tolerance * mean,
            "{}",
            what("loss")
        );
        let wanted = match mode {
            Mode::Eval => Wanted::INPUT,
            Mode::Train => Wanted::ALL,
        };
        let gradients = trace.backward(&loss.d_logits, wanted).unwrap();
        let d_images = gradients.input.as_ref().unwrap();
        assert_kept(
            d_images,
            &expected["d_images"],
            5,
            tolerance,
            0.0,
            &what("d_images"),
        );
        if mode == Mode::Eval {
            continue;
        }
        let listed = expected["gradients"].as_object().unwrap();
        let largest = listed
            .values()
            .map(|g| g[0].as_f64().unwrap())
            .fold(0.0, f64::max);
        let mut checked = 0;
        for (p, found) in network.parameters().iter().zip(&gradients.parameters) {
            let Some(found) = found else {
                assert!(!p.role.trains(), "{}", p.name);
                continue;
            };
            // Of a bias in front of a normalization nothing but rounding is left.
            let least = 1e-3 * largest;
            assert_kept(found, &listed[&p.name], 6, tolerance, least, &what(&p.name));
            checked += 1;
        }
        assert_eq!(
            checked,
            listed.len(),
            "{name}: every parameter of PyTorch's"
        );
        let statistics = trace.statistics();
        drop(trace);
        workspace.recycle(gradients);
        network.commit(&statistics).unwrap();
    }
    let running: BTreeMap<_, _> = network
        .parameters()
        .iter()
        .filter(|p| !p.role.trains())
        .map(|p| (&p.name, &p.value))
        .collect();
    let listed = expected["running"].as_object().unwrap();
    assert_eq!(running.len(), listed.len());
    for (of, found) in running {
        assert_kept(
            found,
            &listed[of],
            7,
            tolerance,
            0.0,
            &format!("{name}: {of}"),
        );
    }
}

#[test]
fn residual_networks_of_small_images_are_pytorchs() {
    for name in ["resnet18", "resnet18-grey", "resnet18-pooled", "resnet34"] {
        threads(2, || follows_pytorch(name));
    }
}

#[test]
fn residual_networks_of_large_images_are_pytorchs() {
    threads(2, || follows_pytorch("resnet18-large"));
}

#[test]
fn bottlenecks_are_pytorchs_however_many() {
    for name in ["resnet50", "resnet101", "resnet152"] {
        threads(2, || follows_pytorch(name));
    }
}

#[test]
fn mobilenet_is_pytorchs() {
    for name in ["mobilenet-v1", "mobilenet-v1-large"] {
        threads(2, || follows_pytorch(name));
    }
}

/// MobileNet's fixture is padded as Keras pads, and mirrored.
#[test]
fn kerass_networks_are_pytorchs() {
    for name in ["resnet50-keras", "mobilenet-v1-keras"] {
        threads(2, || follows_pytorch(name));
    }
}

#[test]
fn fully_connected_layers_are_pytorchs() {
    threads(2, || follows_pytorch("mlp"));
}

#[test]
fn every_architecture_has_a_case() {
    // The first two are in `networks`, the tree in `distillation`.
    let mut missing: Vec<_> = architecture::ALL
        .iter()
        .map(|entry| &*entry.info.id)
        .collect();
    missing.retain(|id| !["lenet5", "cnn8", "soft-decision-tree"].contains(id));
    let cases = cases().as_object().unwrap();
    missing.retain(|id| cases.values().all(|case| case["architecture"] != *id));
    assert!(missing.is_empty(), "{missing:?}");
}

/// Passes in training and in use, taps on activations, backward passes and attacks measure without leaving a trace;
/// what a pass in training measured counts when it is committed.
#[test]
fn running_statistics_move_when_they_are_committed_and_only_then() {
    for name in ["resnet18", "resnet50-keras", "mobilenet-v1"] {
        let Case {
            mut network,
            images,
            labels,
            ..
        } = Case::new(name);
        let before = network.parameters().to_safetensors().unwrap();
        let mut workspace = Workspace::new();
        let mut seen = Vec::new();
        for (mode, keep, wanted) in [
            (Mode::Eval, Keep::Nothing, None),
            (Mode::Eval, Keep::Activations, Some(Wanted::ALL)),
            (Mode::Eval, Keep::Gradients, Some(Wanted::INPUT)),
            (Mode::Train, Keep::Gradients, Some(Wanted::ALL)),
            (Mode::Train, Keep::Activations, Some(Wanted::INPUT)),
        ] {
            let trace = network.trace(&images, mode, keep, &mut workspace).unwrap();
            if let Some(wanted) = wanted {
                let loss = cross_entropy(trace.logits(), &labels).unwrap();
                let gradients = trace.backward(&loss.d_logits, wanted).unwrap();
                drop(gradients);
            }
            seen.push(trace.statistics());
            drop(trace);
            let after = network.parameters().to_safetensors().unwrap();
            assert!(before == after, "{name}: {mode:?}, {keep:?}");
        }
        // What was seen in use moves nothing either.
        for statistics in &seen[..3] {
            network.commit(statistics).unwrap();
        }
        assert!(
            before == network.parameters().to_safetensors().unwrap(),
            "{name}"
        );
        let trained = |p: &&shrinklab::nn::parameters::Parameter| p.role.trains();
        let weights = |network: &Network| -> Vec<Vec<f32>> {
            let of = network.parameters().iter().filter(trained);
            of.map(|p| read(&p.value).unwrap().to_vec()).collect()
        };
        let held = weights(&network);
        network.commit(&seen[3]).unwrap();
        assert!(held == weights(&network), "{name}");
        let moved = network.parameters().iter().filter(|p| !p.role.trains());
        let before = Case::new(name).network;
        for p in moved {
            let old = before.parameters().values(&p.name).unwrap();
            assert!(
                *read(&p.value).unwrap() != *old,
                "{name}: {} stood still",
                p.name
            );
        }
    }
}
