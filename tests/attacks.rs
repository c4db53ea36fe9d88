//! Attacks: against other programs on the same network and images, and what every one of them promises.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose bench cannot be set up may panic"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use shrinklab::lab::adversarial::made;
use shrinklab::lab::attack::{ALL, Attack, Images, Norm, Struck, Victim, strike};
use shrinklab::nn::ImageShape;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::{Builder, Network};
use shrinklab::nn::op::fake_quant::Estimator;
use shrinklab::nn::parameters::pretrained;
use shrinklab::spec::KnobValue;

#[path = "attacks/golden.rs"]
mod golden;
#[path = "attacks/linear.rs"]
mod linear;
#[path = "attacks/promises.rs"]
mod promises;

#[derive(Deserialize)]
struct Fixture {
    mean: f32,
    std: f32,
    images: String,
    labels: Vec<u32>,
    clean: f64,
    logits: Vec<f32>,
    gradient: Vec<f32>,
    fgsm: Vec<f32>,
    robust: BTreeMap<String, f64>,
    distances: BTreeMap<String, Distance>,
}

#[derive(Deserialize)]
struct Distance {
    mean: f64,
    median: f64,
    /// The mean of the nearest 60.
    nearest: f64,
    found: f64,
    images: usize,
}

/// What tests/fixtures/make_attacks.py found.
fn fixture() -> &'static Fixture {
    static READ: OnceLock<Fixture> = OnceLock::new();
    READ.get_or_init(|| serde_json::from_str(include_str!("fixtures/attacks.json")).unwrap())
}

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 28,
    width: 28,
};

fn layers(mean: f32, std: f32) -> Vec<(&'static str, Layer)> {
    vec![
        (
            "normalize",
            Layer::Normalize {
                mean: vec![mean],
                std: vec![std],
            },
        ),
        ("conv1", Layer::conv3x3(8, 2, 1)),
        ("relu1", Layer::Relu),
        ("conv2", Layer::conv3x3(16, 2, 1)),
        ("relu2", Layer::Relu),
        ("flatten", Layer::Flatten),
        ("fc1", Layer::linear(32)),
        ("relu3", Layer::Relu),
        ("fc2", Layer::linear(10)),
    ]
}

/// The fixture's network.
fn network() -> Network {
    let mut builder = Builder::new("small", SHAPE, 10, 1);
    let known = fixture();
    builder.chain(layers(known.mean, known.std)).unwrap();
    let mut network = builder.finish().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attacks.safetensors");
    pretrained::load(&mut network, &file, None).unwrap();
    network
}

/// The first of the fixture's images.
fn images(n: usize) -> Images {
    let known = fixture();
    let byte = |at: usize| u8::from_str_radix(&known.images[2 * at..2 * at + 2], 16).unwrap();
    Images {
        shape: SHAPE,
        pixels: (0..n * SHAPE.values())
            .map(|at| f32::from(byte(at)) / 255.0)
            .collect(),
        labels: known.labels[..n].to_vec(),
        ids: (0..n as u64).collect(),
        seed: 7,
    }
}

fn whole(value: i64) -> KnobValue {
    KnobValue::Integer(value)
}

fn word(word: &str) -> KnobValue {
    KnobValue::Choice(word.to_owned())
}

/// What an attack does to images of a network.
fn struck(network: &Network, attack: &dyn Attack, images: &Images, epsilon: f64) -> Struck {
    let mut between = || Ok(());
    let mut victim = Victim::new(network, &mut between);
    strike(attack, "test", &mut victim, images, epsilon).unwrap()
}

/// The same of an attack of the table.
fn under(id: &str, knobs: &[(&str, KnobValue)], images: &Images, epsilon: f64) -> Struck {
    struck(&network(), &*made(id, knobs).unwrap(), images, epsilon)
}
