//! Feature losses, soft decision trees, attacks in training and robust distillation against PyTorch 2.15 in 64 bits.
//!
//! `fixtures/make_distillation.py` wrote its numbers.

use serde_json::Value;
use shrinklab::event::Event;
use shrinklab::lab::attack::pgd::{Pgd, Start};
use shrinklab::lab::context::{Context, Control, Unobserved};
use shrinklab::lab::data::{Examples, Split};
use shrinklab::lab::subject::Data;
use shrinklab::lab::train::{Lesson, Life, Objective, Recipe, Teacher, Training, train};
use shrinklab::nn::layer::Layer;
use shrinklab::nn::loss::features::{Regressor, attention_transfer};
use shrinklab::nn::loss::{KlDirection, Labels, distillation, expected_log};
use shrinklab::nn::network::{Network, Wanted, Workspace};
use shrinklab::nn::op::soft_tree::{self, Output, Prediction, Tree, Values};
use shrinklab::nn::op::{read, tensor};
use shrinklab::nn::rng::Rng;
use shrinklab::nn::{ImageShape, Mode};
use shrinklab::spec::{KnobValue, NetworkId, Setting};

use crate::{assert_close, draw, floats, integers};

fn fixture() -> Value {
    serde_json::from_str(include_str!("../fixtures/distillation.json")).unwrap()
}

fn cases(fixture: &Value) -> impl Iterator<Item = (u64, &Value)> {
    fixture
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(at, case)| (10 * at as u64, case))
}

/// Definitions O-10: PyTorch's `KLDivLoss` as it stands takes the mean over the classes, too, a tenth of ours.
#[test]
fn the_divergence_is_summed_over_the_classes() {
    let map = |stream| tensor(draw(stream, 50, -4.0, 4.0), &[5, 10]).unwrap();
    let loss = distillation(
        &map(3000),
        &map(3001),
        &[0; 5],
        1.0,
        1.0,
        KlDirection::Forward,
    );
    let theirs = fixture()["kl_mean"].as_f64().unwrap();
    assert!((loss.unwrap().mean - 10.0 * theirs).abs() < 1e-9);
}

#[test]
fn attention_transfer_is_that_of_pytorch() {
    for (stream, case) in cases(&fixture()["attention_transfers"]) {
        let [b, h, w, cs, ct, th, tw] = integers(&case["shape"])[..] else {
            panic!("seven sizes");
        };
        let map = |stream, shape: &[usize]| {
            tensor(draw(stream, shape.iter().product(), -1.0, 1.0), shape).unwrap()
        };
        let student = map(3100 + stream, &[b, h, w, cs]);
        let teacher = map(3101 + stream, &[b, th, tw, ct]);
        let found = attention_transfer(&student, &teacher).unwrap();
        assert!((found.mean - case["loss"].as_f64().unwrap()).abs() < 1e-9);
        let gradient = read(&found.d_student).unwrap();
        assert_close(&gradient, &floats(&case["d_student"]), 1e-8, "gradient");
    }
}

#[test]
fn a_hint_and_its_regressor_are_those_of_pytorch() {
    for (stream, case) in cases(&fixture()["hints"]) {
        let [b, h, w, cs, ct, th, tw] = integers(&case["shape"])[..] else {
            panic!("seven sizes");
        };
        let map = |stream, shape: &[usize]| {
            tensor(draw(stream, shape.iter().product(), -1.0, 1.0), shape).unwrap()
        };
        let mut regressor = Regressor::new(draw(3202 + stream, ct * cs, -1.0, 1.0), ct);
        regressor.bias = draw(3203 + stream, ct, -1.0, 1.0);
        let student = map(3200 + stream, &[b, h, w, cs]);
        let teacher = map(3201 + stream, &[b, th, tw, ct]);
        let found = regressor.hint(&student, &teacher, 1.0).unwrap();
        assert!((found.mean - case["loss"].as_f64().unwrap()).abs() < 1e-6);
        let gradient = read(&found.d_student).unwrap();
        assert_close(&gradient, &floats(&case["d_student"]), 1e-7, "student");
        assert_close(
            &regressor.d_weight,
            &floats(&case["d_weight"]),
            1e-6,
            "weight",
        );
        assert_close(&regressor.d_bias, &floats(&case["d_bias"]), 1e-6, "bias");
    }
}

/// A tree's gradients, all of them.
struct Gradients {
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
    d_leaves: Vec<f32>,
}

fn backward(tree: &Tree, output: Output, x: &[f32], values: Values<'_>, dy: &[f32]) -> Gradients {
    let mut found = Gradients {
        dx: vec![9.0; x.len()],
        dw: vec![9.0; values.w.len()],
        db: vec![9.0; values.b.len()],
        d_leaves: vec![9.0; values.leaves.len()],
    };
    let wanted = soft_tree::Wanted {
        dx: Some(&mut found.dx),
        dw: Some(&mut found.dw),
        db: Some(&mut found.db),
        d_leaves: Some(&mut found.d_leaves),
    };
    tree.backward(output, x, values, dy, wanted);
    found
}

#[test]
fn a_soft_decision_tree_is_that_of_pytorch() {
    for (stream, case) in cases(&fixture()["soft_trees"]) {
        let [depth, b, d, k] = integers(&case["shape"])[..] else {
            panic!("four sizes");
        };
        let tree = Tree {
            depth,
            features: d,
            classes: k,
            beta: case["beta"].as_f64().unwrap(),
            penalty: case["lambda"].as_f64().unwrap(),
        };
        let x = draw(3300 + stream, b * d, -1.0, 1.0);
        let w = draw(3301 + stream, tree.questions() * d, -1.0, 1.0);
        let bias = draw(3302 + stream, tree.questions(), -1.0, 1.0);
        let leaves = draw(3303 + stream, tree.leaves() * k, -2.0, 2.0);
        let dy = draw(3304 + stream, b * k, -1.0, 1.0);
        let values = Values {
            w: &w,
            b: &bias,
            leaves: &leaves,
        };
        let mut y = vec![9.0; b * k];
        for (output, what, answer) in [
            (Output::Scores, "trained", "scores"),
            (Output::Log(Prediction::Expected), "used", "expected"),
        ] {
            let expected = &case[what];
            tree.forward(output, &x, values, &mut y);
            assert_close(&y, &floats(&expected[answer]), 1e-6, answer);
            let found = backward(&tree, output, &x, values, &dy);
            for (found, name) in [
                (found.dx, "dx"),
                (found.dw, "dw"),
                (found.db, "db"),
                (found.d_leaves, "d_leaves"),
            ] {
                assert_close(&found, &floats(&expected[name]), 2e-6, name);
            }
        }
        tree.forward(Output::Log(Prediction::MaxPath), &x, values, &mut y);
        assert_close(&y, &floats(&case["used"]["max_path"]), 1e-6, "max path");
        // What comes out are log-probabilities.
        for row in y.chunks_exact(k) {
            assert!((row.iter().map(|y| y.exp()).sum::<f32>() - 1.0).abs() < 1e-6);
        }
        let penalty = tree.penalty(&x, values);
        assert!((penalty - case["trained"]["penalty"].as_f64().unwrap()).abs() < 1e-6);
    }
}

/// Questions, their offsets and the leaves.
fn of(parts: &[Vec<f32>; 3]) -> Values<'_> {
    Values {
        w: &parts[0],
        b: &parts[1],
        leaves: &parts[2],
    }
}

/// The tree's loss and its price by central differences, and a loss by hand with T = (0.8, 0.2).
#[test]
fn a_trees_gradients_are_central_differences() {
    let tree = Tree {
        depth: 3,
        features: 4,
        classes: 3,
        beta: 1.3,
        penalty: 0.2,
    };
    let x = draw(3500, 20, -1.0, 1.0);
    let parts = [28, 7, 24].map(|n| draw(3501 + n as u64, n, -1.0, 1.0));
    let labels = [0, 1, 2, 1, 0];
    let teacher = tensor(draw(3510, 15, -2.0, 2.0), &[5, 3]).unwrap();
    let loss = |scores: &[f32]| {
        let scores = tensor(scores.to_vec(), &[5, 3]).unwrap();
        expected_log(&scores, &labels, 0.0, Some((&teacher, 2.0, 0.6))).unwrap()
    };
    let whole = |parts: &[Vec<f32>; 3]| {
        let values = of(parts);
        let mut scores = [0.0; 15];
        tree.forward(Output::Scores, &x, values, &mut scores);
        loss(&scores).mean + tree.penalty(&x, values)
    };
    let mut scores = [0.0; 15];
    tree.forward(Output::Scores, &x, of(&parts), &mut scores);
    let dy = read(&loss(&scores).d_logits).unwrap().to_vec();
    let found = backward(&tree, Output::Scores, &x, of(&parts), &dy);
    for (part, found) in [found.dw, found.db, found.d_leaves].into_iter().enumerate() {
        let difference = |at: usize| {
            let (mut above, mut below) = (parts.clone(), parts.clone());
            above[part][at] += 1e-2;
            below[part][at] -= 1e-2;
            (whole(&above) - whole(&below)) / f64::from(above[part][at] - below[part][at])
        };
        let differences: Vec<f64> = (0..found.len()).map(difference).collect();
        assert_close(&found, &differences, 2e-5, "gradient");
    }
    let one = tensor(vec![0.5_f32.ln(), 0.25_f32.ln()], &[1, 2]).unwrap();
    let smoothed = expected_log(&one, &[0], 0.4, None).unwrap();
    let by_hand = 0.8 * 2.0_f64.ln() + 0.2 * 4.0_f64.ln();
    assert!((smoothed.mean - by_hand).abs() < 1e-6);
    assert_close(&read(&smoothed.d_logits).unwrap(), &[-0.8, -0.2], 1e-7, "T");
}

const SIDE: usize = 6;

/// The fixture's small network: a convolution and a linear layer.
fn small(stream: u64) -> Network {
    let input = ImageShape {
        channels: 1,
        height: SIDE,
        width: SIDE,
    };
    let layers = vec![
        (
            "normalize",
            Layer::Normalize {
                mean: vec![0.5],
                std: vec![0.25],
            },
        ),
        ("conv", Layer::conv3x3(4, 1, 0)),
        ("relu", Layer::Relu),
        ("flatten", Layer::Flatten),
        ("fc", Layer::linear(3)),
    ];
    let mut network = Network::chain("small", input, 3, layers, 1).unwrap();
    let names = ["conv.weight", "conv.bias", "fc.weight", "fc.bias"];
    for (at, name) in names.into_iter().enumerate() {
        let n = network.parameters().values(name).unwrap().len();
        let values = draw(stream + at as u64, n, -0.3, 0.3);
        network.parameters_mut().set(name, &values).unwrap();
    }
    network
}

fn data() -> Data {
    let bytes = draw(3400, 10 * SIDE * SIDE, 0.0, 256.0);
    let examples = || Examples {
        shape: ImageShape {
            channels: 1,
            height: SIDE,
            width: SIDE,
        },
        images: bytes.iter().map(|byte| *byte as u8).collect(),
        labels: (0..10).map(|at| at % 3).collect(),
        groups: Vec::new(),
    };
    Data {
        domains: Vec::new(),
        train: examples(),
        split: Split {
            train: (0..10).collect(),
            validation: vec![0],
        },
        test: examples(),
        classes: vec![String::new(); 3],
    }
}

const ATTACK: Pgd = Pgd {
    epsilon: 0.1,
    step: 0.03,
    steps: 5,
    start: Start::Image,
};

fn images(data: &Data) -> candle_core::Tensor {
    let values = data
        .train
        .images
        .iter()
        .map(|byte| f32::from(*byte) / 255.0);
    tensor(values.collect(), &[10, 1, SIDE, SIDE]).unwrap()
}

fn attacked(pgd: &Pgd, seed: u64) -> Vec<f32> {
    let (data, network) = (data(), small(3410));
    let labels = Labels::new(data.train.labels.clone(), &candle_core::Device::Cpu).unwrap();
    let mut streams = |at: usize| Rng::stream(seed, "attack", &[at as u64]);
    let images = images(&data);
    let found = pgd.attack(
        &network,
        &images,
        &labels,
        &mut streams,
        &mut Workspace::default(),
    );
    read(&found.unwrap()).unwrap().to_vec()
}

#[test]
fn an_attacked_image_is_that_of_torchattacks_steps() {
    let expected = floats(&fixture()["robust"]["attacked"]);
    assert_close(&attacked(&ATTACK, 1), &expected, 1e-6, "pixel");
}

#[test]
fn an_attack_keeps_its_budget_and_a_budget_of_nothing_changes_nothing() {
    let clean = read(&images(&data())).unwrap().to_vec();
    let uniform = Pgd {
        start: Start::Uniform,
        ..ATTACK
    };
    let found = attacked(&uniform, 1);
    assert_eq!(found, attacked(&uniform, 1));
    assert_ne!(found, attacked(&uniform, 2));
    assert_ne!(found, attacked(&ATTACK, 1));
    for (found, clean) in found.iter().zip(&clean) {
        assert!((found - clean).abs() <= 0.1 + 1e-6 && (0.0..=1.0).contains(found));
    }
    let noise = attacked(
        &Pgd {
            steps: 0,
            ..uniform
        },
        1,
    );
    let apart = noise.iter().zip(&clean).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) > 0.09);
    for start in [Start::Image, Start::Uniform] {
        let nothing = Pgd {
            epsilon: 0.0,
            step: 0.0,
            start,
            ..ATTACK
        };
        assert_eq!(attacked(&nothing, 1), clean);
    }
}

/// One step of plain gradient descent on all images.
fn one_step(objective: Objective<'_>) -> (Vec<f32>, f64, u64) {
    let setting = Setting::default()
        .with("epochs", KnobValue::Integer(1))
        .with("batch", KnobValue::Integer(10))
        .with("learning-rate", KnobValue::Real(0.1))
        .with("schedule", KnobValue::Choice("constant".into()))
        .with("momentum", KnobValue::Real(0.0))
        .with("weight-decay", KnobValue::Real(0.0));
    let recipe = Recipe {
        adversarial: Some(ATTACK),
        ..Recipe::new(&setting)
    };
    let (data, mut network) = (data(), small(3410));
    let training = Training {
        data: &data,
        recipe: &recipe,
        objective,
        order_seed: 1,
        life: Life::default(),
        adjust: None,
    };
    let (mut said, mut control) = (Vec::new(), Control::default());
    let mut cx = Context::new(&mut said, &mut control, NetworkId(0));
    let trained = train(&mut network, &training, &mut Unobserved, &mut cx).unwrap();
    let loss = said.iter().find_map(|event| match event {
        Event::EpochEnded { train, .. } => Some(train.loss.0),
        _ => None,
    });
    let values = network.parameters().iter();
    let values = values.flat_map(|p| network.parameters().values(&p.name).unwrap());
    (values.collect(), loss.unwrap(), trained.cost.gradients)
}

fn joined(lists: &Value) -> Vec<f64> {
    lists.as_array().unwrap().iter().flat_map(floats).collect()
}

#[test]
fn robust_distillation_steps_as_pytorch_does() {
    let expected = &fixture()["robust"];
    let teacher = small(3420);
    let (values, loss, gradients) = one_step(Objective::Distill(Lesson {
        teacher: Teacher::Network(&teacher),
        temperature: 3.0,
        teacher_weight: 0.7,
        direction: KlDirection::Forward,
        features: None,
        labels_on_clean: true,
    }));
    assert_close(&values, &joined(&expected["after"]), 1e-6, "weight");
    assert!(
        (loss - expected["loss"].as_f64().unwrap()).abs() < 1e-5,
        "{loss}"
    );
    // Five of the attack, one for the clean images and one for the attacked ones.
    assert_eq!(gradients, 70);
}

#[test]
fn adversarial_training_steps_as_pytorch_does() {
    let expected = &fixture()["robust"]["adversarial_after"];
    let (values, _, gradients) = one_step(Objective::Classify);
    assert_close(&values, &joined(expected), 1e-6, "weight");
    assert_eq!(gradients, 60);
}

/// A loss Σ g A of a feature map A is the first logit of a linear layer whose first row is g.
#[test]
fn gradients_enter_in_the_middle_of_a_network() {
    let network = small(3410);
    let image = images(&data()).narrow(0, 0, 1).unwrap();
    let relu = network.position("relu").unwrap();
    // Channels last, as feature maps lie; a linear layer reads channels first.
    let g = draw(3601, 64, -1.0, 1.0);
    let mut row = vec![0.0; 3 * 64];
    for (at, g) in g.iter().enumerate() {
        row[at % 4 * 16 + at / 4] = *g;
    }
    let mut other = network.duplicate().unwrap();
    other.parameters_mut().set("fc.weight", &row).unwrap();
    let gradients = |network: &Network, logits: [f32; 3], taps: &[&[f32]]| -> Vec<Vec<f32>> {
        let mut workspace = Workspace::default();
        let trace = network
            .forward(&image, Mode::Train, &mut workspace)
            .unwrap();
        let taps = taps.iter().map(|tap| {
            let tap = tensor(tap.to_vec(), &[1, 4, 4, 4]).unwrap();
            (relu, tap)
        });
        let d_logits = tensor(logits.to_vec(), &[1, 3]).unwrap();
        let found = trace
            .backward_with(&d_logits, taps.collect(), Wanted::PARAMETERS)
            .unwrap();
        let of = |gradient: &Option<candle_core::Tensor>| {
            read(gradient.as_ref().unwrap()).unwrap().to_vec()
        };
        found.parameters[..2].iter().map(of).collect()
    };
    let wide = |found: &[f32]| found.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let tapped = gradients(&network, [0.0; 3], &[&g]);
    let expected = gradients(&other, [1.0, 0.0, 0.0], &[]);
    let logits = [0.3, -0.2, 0.5];
    let both = gradients(&network, logits, &[&g]);
    let alone = gradients(&network, logits, &[]);
    for at in 0..2 {
        assert!(expected[at].iter().any(|v| v.abs() > 0.1));
        assert_close(&tapped[at], &wide(&expected[at]), 1e-6, "tapped");
        let sum: Vec<f64> = wide(&alone[at])
            .iter()
            .zip(&expected[at])
            .map(|(a, b)| a + f64::from(*b))
            .collect();
        assert_close(&both[at], &sum, 1e-6, "both");
    }
    // The convolution's own output is never kept in training, and the logits have their own gradient.
    let mut workspace = Workspace::default();
    let trace = network
        .forward(&image, Mode::Train, &mut workspace)
        .unwrap();
    let d_logits = tensor(logits.to_vec(), &[1, 3]).unwrap();
    for node in [relu - 1, relu + 2] {
        let tap = tensor(g.clone(), &[1, 4, 4, 4]).unwrap();
        let wrong = trace.backward_with(&d_logits, vec![(node, tap)], Wanted::ALL);
        assert!(wrong.is_err(), "{node}");
    }
}

#[test]
fn recalibrated_statistics_are_pytorchs_cumulative_averages() {
    let input = ImageShape {
        channels: 2,
        height: 3,
        width: 3,
    };
    let layers = vec![
        (
            "normalize",
            Layer::Normalize {
                mean: vec![0.0; 2],
                std: vec![1.0; 2],
            },
        ),
        ("norm", Layer::batch_norm()),
        ("pool", Layer::GlobalAveragePool),
        ("fc", Layer::linear(3)),
    ];
    let mut network = Network::chain("small", input, 3, layers, 1).unwrap();
    for (at, b) in [4, 4, 3].into_iter().enumerate() {
        let images = draw(3700 + at as u64, b * 18, 0.0, 1.0);
        let images = tensor(images, &[b, 2, 3, 3]).unwrap();
        let mut workspace = Workspace::default();
        let statistics = network
            .forward(&images, Mode::Train, &mut workspace)
            .unwrap()
            .statistics();
        let share = 1.0 / (at + 1) as f64;
        network.commit_by(&statistics, Some(share)).unwrap();
    }
    let expected = &fixture()["running_statistics"];
    for (name, which) in [
        ("norm.running_mean", "mean"),
        ("norm.running_var", "variance"),
    ] {
        let found = network.parameters().values(name).unwrap();
        assert_close(&found, &floats(&expected[which]), 1e-6, name);
    }
}
