//! Whole networks against PyTorch: logits, loss, every gradient, and three steps of SGD with momentum.

use candle_core::Tensor;
use shrinklab::lab::architecture;
use shrinklab::nn::loss::cross_entropy;
use shrinklab::nn::network::{Network, Wanted, Workspace};
use shrinklab::nn::op::{read, tensor};
use shrinklab::nn::optimizer::Sgd;
use shrinklab::nn::parameters::ParameterRole;
use shrinklab::nn::{ImageShape, Mode};
use shrinklab::spec::Setting;

use crate::{assert_close, assert_summary, draw, fixture, floats, threads};

pub(crate) const BATCH: usize = 5;

/// An architecture with the weights that `make_numerics.py` gives it.
pub(crate) fn network(id: &str) -> Network {
    let entry = architecture::ALL.iter().find(|entry| entry.info.id == id);
    let input = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let architecture = (entry.unwrap().build)(&Setting::default());
    let mut network = architecture.build(input, 10, (&[0.25], &[0.5]), 1).unwrap();
    let needed: Vec<_> = network
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), p.role, p.value.dims().to_vec()))
        .collect();
    for (at, (name, role, dims)) in needed.into_iter().enumerate() {
        let bound = match role {
            ParameterRole::Weight => (6.0 / dims[1..].iter().product::<usize>() as f64).sqrt(),
            _ => 0.05,
        };
        let n = dims.iter().product();
        let values: Vec<f32> = draw(1000 + at as u64, n, -1.0, 1.0)
            .into_iter()
            .map(|v| (f64::from(v) * f64::from(bound as f32)) as f32)
            .collect();
        network.parameters_mut().set(&name, &values).unwrap();
    }
    network
}

pub(crate) fn images(step: u64) -> Tensor {
    tensor(
        draw(2000 + step, BATCH * 784, 0.0, 1.0),
        &[BATCH, 1, 28, 28],
    )
    .unwrap()
}

pub(crate) fn labels() -> Vec<u32> {
    (0..BATCH as u32).map(|i| i * 7 % 10).collect()
}

/// The reference computes in 64 bits; ours in 32, over up to 2,048 terms and eight layers.
const TOLERANCE: f64 = 2e-5;

/// The same of the gradients of weights, where convolutions of many channels are filtered by Winograd's way, whose
/// transforms round more: for cnn8 alone.
const FILTERED: f64 = 5e-5;

fn follows_pytorch(id: &str) {
    let fixture = fixture();
    let case = &fixture["networks"][id];
    let losses = floats(&case["losses"]);
    let mut network = network(id);
    let mut workspace = Workspace::new();
    let mut sgd = Sgd::new(network.parameters(), 0.9, 1e-3).unwrap();
    for (step, expected) in losses.iter().enumerate() {
        let trace = network
            .forward(&images(step as u64), Mode::Train, &mut workspace)
            .unwrap();
        let loss = cross_entropy(trace.logits(), &labels()).unwrap();
        assert!(
            (loss.mean - expected).abs() < 1e-4 * expected,
            "loss {} at {step}",
            loss.mean
        );
        if step == 3 {
            break;
        }
        let gradients = trace.backward(&loss.d_logits, Wanted::ALL).unwrap();
        if step == 0 {
            assert_close(
                &read(trace.logits()).unwrap(),
                &floats(&case["logits"]),
                TOLERANCE,
                "logits",
            );
            let d_images = gradients.input.as_ref().unwrap();
            assert_summary(
                &read(d_images).unwrap(),
                &case["d_images"],
                TOLERANCE,
                "d_images",
            );
            let expected = case["gradients"].as_array().unwrap();
            assert_eq!(expected.len(), gradients.parameters.len());
            for ((found, expected), p) in gradients
                .parameters
                .iter()
                .zip(expected)
                .zip(network.parameters())
            {
                let found = found.as_ref().unwrap();
                assert_eq!(found.dims(), p.value.dims());
                let tolerance = if id == "cnn8" { FILTERED } else { TOLERANCE };
                assert_summary(&read(found).unwrap(), expected, tolerance, &p.name);
            }
        }
        drop(trace);
        sgd.step(network.parameters_mut(), &gradients, 0.01)
            .unwrap();
        workspace.recycle(gradients);
    }
    let expected = case["parameters"].as_array().unwrap();
    for (p, expected) in network.parameters().iter().zip(expected) {
        assert_summary(&read(&p.value).unwrap(), expected, 1e-4, &p.name);
    }
}

#[test]
fn lenet5_is_pytorchs() {
    threads(2, || follows_pytorch("lenet5"));
}

#[test]
fn cnn8_is_pytorchs() {
    threads(2, || follows_pytorch("cnn8"));
}

/// More threads than images: the other division of the work gives the same numbers.
#[test]
fn many_threads_give_pytorchs_numbers_too() {
    for id in ["lenet5", "cnn8"] {
        threads(8, || follows_pytorch(id));
    }
}
