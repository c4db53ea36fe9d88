//! Schedules, smoothed labels and optimizer steps against PyTorch 2.15: fixtures/recipes.json, made by make_recipes.py.

use serde_json::Value;
use shrinklab::nn::ImageShape;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::loss::{cross_entropy, smoothed_cross_entropy};
use shrinklab::nn::network::{Gradients, Network};
use shrinklab::nn::op::{read, tensor};
use shrinklab::nn::optimizer::{Optimizer, Rule};
use shrinklab::nn::schedule::Schedule;

use crate::{assert_close, draw, floats, integers};

fn recipes() -> Value {
    serde_json::from_str(include_str!("../fixtures/recipes.json")).unwrap()
}

#[test]
fn schedules_are_those_of_pytorch() {
    let fixture = recipes();
    let base = fixture["base"].as_f64().unwrap();
    for case in fixture["schedules"].as_array().unwrap() {
        let name = case["schedule"].as_str().unwrap();
        let schedule = match name {
            "constant" => Schedule::Constant,
            "step" => Schedule::Step,
            "linear" => Schedule::Linear,
            "cosine" => Schedule::Cosine,
            "one-cycle" => Schedule::OneCycle,
            other => panic!("{other}"),
        };
        let total = case["total"].as_u64().unwrap();
        let (rates, momenta) = (floats(&case["rates"]), floats(&case["momenta"]));
        for step in 0..total {
            let at = step as usize;
            let rate = schedule.rate(base, step, total);
            assert!(
                (rate - rates[at]).abs() < 1e-14,
                "{name} {step} of {total}: {rate} instead of {}",
                rates[at]
            );
            let momentum = schedule.momentum(0.9, step, total);
            assert!(
                (momentum - momenta[at]).abs() < 1e-14,
                "{name} {step} of {total}: momentum {momentum} instead of {}",
                momenta[at]
            );
        }
        // Whoever goes on stays where it ended.
        assert_eq!(
            schedule.rate(base, total + 5, total),
            schedule.rate(base, total, total)
        );
    }
}

#[test]
fn smoothed_labels_are_those_of_pytorch() {
    for case in recipes()["smoothing"].as_array().unwrap() {
        let size = |name: &str| case[name].as_u64().unwrap() as usize;
        let (batch, classes) = (size("batch"), size("classes"));
        let share = case["share"].as_f64().unwrap();
        let z = draw(size("stream") as u64, batch * classes, -6.0, 6.0);
        let z = tensor(z, &[batch, classes]).unwrap();
        let labels: Vec<u32> = integers(&case["labels"])
            .into_iter()
            .map(|label| label as u32)
            .collect();
        let loss = smoothed_cross_entropy(&z, &labels, share).unwrap();
        assert!((loss.mean - case["loss"].as_f64().unwrap()).abs() < 1e-12);
        let gradient = read(&loss.d_logits).unwrap();
        assert_close(&gradient, &floats(&case["gradient"]), 1e-7, "gradient");
        let sharp = cross_entropy(&z, &labels).unwrap();
        let none = smoothed_cross_entropy(&z, &labels, 0.0).unwrap();
        assert_eq!((none.mean, none.correct), (sharp.mean, sharp.correct));
        assert!(smoothed_cross_entropy(&z, &labels, 1.0).is_err());
    }
}

/// A network whose weight has five values, and whose bias has no gradient.
fn five() -> Network {
    let (input, normalize) = (
        ImageShape {
            channels: 1,
            height: 1,
            width: 1,
        },
        Layer::Normalize {
            mean: vec![0.0],
            std: vec![1.0],
        },
    );
    let layers = vec![
        ("normalize", normalize),
        ("flatten", Layer::Flatten),
        ("fc", Layer::linear(5)),
    ];
    let mut network = Network::chain("five", input, 5, layers, 0).unwrap();
    let parameters = network.parameters_mut();
    parameters
        .set("fc.weight", &draw(6000, 5, -1.0, 1.0))
        .unwrap();
    network
}

#[test]
fn steps_are_those_of_pytorch_and_go_on_from_a_file() {
    for case in recipes()["steps"].as_array().unwrap() {
        let rule = match case["rule"].as_str().unwrap() {
            "adamw" => Rule::AdamW,
            _ => Rule::Sgd,
        };
        let number = |name: &str| case[name].as_f64().unwrap();
        let mut network = five();
        let bias = network.parameters().values("fc.bias").unwrap();
        let fresh = |network: &Network| {
            let (momentum, decay) = (number("momentum"), number("weight_decay"));
            Optimizer::new(rule, network.parameters(), momentum, decay).unwrap()
        };
        let mut optimizer = fresh(&network);
        for (step, expected) in case["values"].as_array().unwrap().iter().enumerate() {
            // Every step is that of another process.
            let bytes = optimizer.to_safetensors().unwrap();
            optimizer = fresh(&network);
            optimizer.load_safetensors(&bytes).unwrap();
            assert!(optimizer.to_safetensors().unwrap() == bytes);
            let gradient = tensor(draw(6001 + step as u64, 5, -1.0, 1.0), &[5, 1]).unwrap();
            let gradients = Gradients::of_parameters(vec![Some(gradient), None]);
            let rate = 0.1 / (step as f64 + 1.0);
            optimizer
                .step(network.parameters_mut(), &gradients, rate)
                .unwrap();
            let found = network.parameters().values("fc.weight").unwrap();
            let what = format!("{rule:?} step {step}");
            assert_close(&found, &floats(expected), 2e-6, &what);
        }
        assert_eq!(network.parameters().values("fc.bias").unwrap(), bias);
    }
}

/// Biases are pulled by no weight decay; what a mask covers stays 0.
#[test]
fn decay_and_masks() {
    for rule in [Rule::Sgd, Rule::AdamW] {
        let mut network = five();
        let parameters = network.parameters_mut();
        parameters.set("fc.weight", &[1.0; 5]).unwrap();
        parameters.set("fc.bias", &[1.0; 5]).unwrap();
        parameters
            .set_mask("fc.weight", &[1.0, 0.0, 1.0, 1.0, 1.0])
            .unwrap();
        let mut optimizer = Optimizer::new(rule, parameters, 0.9, 0.1).unwrap();
        let zero = |shape: &[usize]| Some(tensor(vec![0.0; 5], shape).unwrap());
        let gradients = Gradients::of_parameters(vec![zero(&[5, 1]), zero(&[5])]);
        optimizer.step(parameters, &gradients, 0.5).unwrap();
        let expected = [0.95, 0.0, 0.95, 0.95, 0.95];
        assert_close(
            &parameters.values("fc.weight").unwrap(),
            &expected,
            1e-7,
            "weight",
        );
        assert_eq!(parameters.values("fc.bias").unwrap(), [1.0; 5]);
    }
}

#[test]
fn a_file_of_another_optimizer_is_refused() {
    let network = five();
    let of = |rule| Optimizer::new(rule, network.parameters(), 0.9, 0.0).unwrap();
    let (sgd, adamw) = (of(Rule::Sgd), of(Rule::AdamW));
    for (mut into, from) in [(of(Rule::Sgd), adamw), (of(Rule::AdamW), sgd)] {
        let bytes = from.to_safetensors().unwrap();
        let error = into.load_safetensors(&bytes).unwrap_err().to_string();
        assert!(error.contains("does not fit the network"), "{error}");
    }
}
