//! Promises that every compression and every probe keeps, and the chain of them on a small network.

#![expect(clippy::unwrap_used, reason = "a test whose bench cannot be set up may panic")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;

use shrinklab::catalog::Entry;
use shrinklab::event::Event;
use shrinklab::lab::compression::{self, Compressed, Start};
use shrinklab::lab::context::{Context, Control, Unobserved};
use shrinklab::lab::data::{Examples, Split};
use shrinklab::lab::outputs::{Outputs, outputs};
use shrinklab::lab::storage::{Layout, network_bytes};
use shrinklab::lab::subject::{CorruptedSets, Data, Kept, Subject};
use shrinklab::lab::train::{Life, Objective, Recipe, Training, train};
use shrinklab::lab::{architecture, corruption, probe};
use shrinklab::measurement::{Measurement, Metric, Value, Verdict};
use shrinklab::nn::ImageShape;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::{Network, Workspace};
use shrinklab::nn::optimizer::Sgd;
use shrinklab::nn::parameters::{Parameter, ParameterRole};
use shrinklab::nn::rng::Rng;
use shrinklab::nn::schedule::Schedule;
use shrinklab::spec::{
    KnobValue, Method, NetworkId, NetworkPlan, Role, Setting, StageKind, StagePlan,
};

const REFERENCE: NetworkId = NetworkId(0);
const CANDIDATE: NetworkId = NetworkId(9);

const RECIPE: Recipe = Recipe {
    epochs: 2,
    batch: 20,
    learning_rate: 0.02,
    schedule: Schedule::Constant,
    momentum: 0.9,
    weight_decay: 0.0005,
};

/// Noise with a bright square whose place is the class.
fn squares(count: usize, seed: u64) -> Examples {
    let shape = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for index in 0..count {
        let mut rng = Rng::stream(seed, "squares", &[index as u64]);
        let class = index % 10;
        let (top, left) = (
            6 * (class / 4) + rng.below(5),
            6 * (class % 4) + rng.below(4),
        );
        for y in 0..28 {
            for x in 0..28 {
                let inside = (top..top + 6).contains(&y) && (left..left + 6).contains(&x);
                let level = if inside { 150.0 } else { 70.0 };
                images.push((level + 30.0 * rng.normal()).clamp(0.0, 255.0) as u8);
            }
        }
        labels.push(class as u32);
    }
    Examples {
        shape,
        images,
        labels,
        groups: Vec::new(),
    }
}

fn data() -> Data {
    let train = squares(800, 1);
    Data {
        split: Split::new(&train, 7),
        train,
        test: squares(200, 2),
        classes: (0..10).map(|class| class.to_string()).collect(),
    }
}

/// A fresh lenet.
fn build(data: &Data, seed: u64) -> Network {
    let (mean, deviation) = data.train.mean_and_deviation();
    let lenet = (find(architecture::ALL, "lenet5").build)(&Setting::default());
    lenet
        .build(data.train.shape, 10, (&mean, &deviation), seed)
        .unwrap()
}

fn plan(id: NetworkId, role: Role, seed: u64) -> NetworkPlan {
    NetworkPlan {
        id,
        name: format!("network {id}"),
        role,
        reference: 0,
        against: REFERENCE,
        family: String::new(),
        init_seed: seed,
        order_seed: seed,
        stages: vec![
            StagePlan {
                kind: StageKind::Compress,
                epochs: 0,
            },
            StagePlan {
                kind: StageKind::Measure,
                epochs: 0,
            },
        ],
    }
}

fn see(network: &Network, examples: &Examples) -> Outputs {
    outputs(network, examples, &mut Workspace::default(), &mut || Ok(())).unwrap()
}

/// Runs something that may state facts, and yields those.
fn stating<R>(network: NetworkId, work: impl FnOnce(&mut Context<'_>) -> R) -> (R, Vec<Event>) {
    let mut events: Vec<Event> = Vec::new();
    let mut control = Control::default();
    let result = work(&mut Context::new(&mut events, &mut control, network));
    (result, events)
}

fn trained(network: &mut Network, data: &Data, recipe: &Recipe, seed: u64) {
    let training = Training {
        data,
        recipe,
        objective: Objective::Classify,
        order_seed: seed,
        life: Life::default(),
    };
    stating(REFERENCE, |cx| {
        train(network, &training, &mut Unobserved, cx)
            .map(|_| ())
            .unwrap()
    });
}

fn kept(plan: NetworkPlan, initial: Option<Network>, network: &Network, data: &Data) -> Kept {
    let seen = Rc::new(see(network, &data.test));
    Kept {
        plan,
        initial,
        last: network.duplicate().unwrap(),
        best: network.duplicate().unwrap(),
        life: Life { step: 1, epoch: 1 },
        outputs: vec![(1, seen)],
    }
}

/// A trained reference, and whatever else is put beside it.
struct Bench {
    data: Data,
    networks: BTreeMap<NetworkId, Kept>,
    candidate: NetworkPlan,
    corrupted: CorruptedSets,
    corruptions: Vec<Method>,
    subset: Vec<usize>,
}

impl Bench {
    fn new() -> Self {
        static TRAINED: OnceLock<[Network; 2]> = OnceLock::new();
        let data = data();
        let [initial, network] = TRAINED.get_or_init(|| {
            let initial = build(&data, 7);
            let mut network = initial.duplicate().unwrap();
            trained(&mut network, &data, &RECIPE, 7);
            [initial, network]
        });
        let initial = initial.duplicate().unwrap();
        let reference = kept(
            plan(REFERENCE, Role::Reference, 7),
            Some(initial),
            network,
            &data,
        );
        Self {
            networks: BTreeMap::from([(REFERENCE, reference)]),
            subset: data.test.stratified(50, 7),
            data,
            candidate: plan(CANDIDATE, Role::Branch, 7),
            corrupted: CorruptedSets::default(),
            corruptions: corruption::ALL
                .iter()
                .map(|entry| Method::plain(&*entry.info.id))
                .collect(),
        }
    }

    fn reference(&self) -> &Network {
        &self.networks[&REFERENCE].last
    }

    fn put(&mut self, id: NetworkId, role: Role, network: &Network) {
        let kept = kept(plan(id, role, 7), None, network, &self.data);
        self.networks.insert(id, kept);
    }

    fn subject<'a>(&'a self, network: &'a NetworkPlan) -> Subject<'a> {
        Subject {
            seed: 7,
            data: &self.data,
            networks: &self.networks,
            network,
            corrupted: &self.corrupted,
            corruptions: &self.corruptions,
            corrupted_subset: &self.subset,
            threads: 1,
        }
    }

    fn compress(&self, network: &Network, id: &str, knobs: &[(&str, KnobValue)]) -> Compressed {
        let entry = find(compression::ALL, id);
        let method = (entry.build)(&setting(entry, knobs));
        let subject = self.subject(&self.candidate);
        let start = Start {
            subject: &subject,
            network,
            recipe: &RECIPE,
            life: Life::default(),
        };
        stating(CANDIDATE, |cx| method.compress(&start, &mut Unobserved, cx))
            .0
            .unwrap()
    }

    fn prune(&self, network: &Network, ratio: f64) -> Compressed {
        self.compress(
            network,
            "magnitude-pruning",
            &[("ratio", KnobValue::Real(ratio))],
        )
    }

    fn quantize(&self, network: &Network, bits: &str) -> Network {
        self.compress(
            network,
            "post-training-quantization",
            &[("bits", word(bits))],
        )
        .network
    }

    /// What a probe finds about the network of that id.
    fn probe(&self, id: &str, network: NetworkId) -> (Vec<Measurement>, Vec<Event>) {
        let entry = find(probe::ALL, id);
        let plan = &self.networks[&network].plan;
        let method = (entry.build)(&setting(entry, &[]));
        let ((), events) = stating(network, |cx| {
            method.measure(&self.subject(plan), 0, cx).unwrap()
        });
        let found = events.iter().filter_map(|event| match event {
            Event::Measured(measurement) => Some(measurement.clone()),
            _ => None,
        });
        (found.collect(), events)
    }
}

fn word(word: &str) -> KnobValue {
    KnobValue::Choice(word.to_owned())
}

fn find<'a, T: ?Sized>(table: &'a [Entry<T>], id: &str) -> &'a Entry<T> {
    table.iter().find(|entry| entry.info.id == id).unwrap()
}

/// Every knob where it stands by itself, and some turned.
fn setting<T: ?Sized>(entry: &Entry<T>, knobs: &[(&str, KnobValue)]) -> Setting {
    let plain = entry
        .knobs
        .iter()
        .fold(Setting::default(), |setting, knob| {
            setting.with(&knob.id, knob.range.default())
        });
    knobs.iter().fold(plain, |setting, (id, value)| {
        setting.with(id, value.clone())
    })
}

fn weights(network: &Network) -> Vec<f32> {
    let weights = network
        .parameters()
        .iter()
        .filter(|parameter| parameter.role == ParameterRole::Weight);
    weights
        .flat_map(|parameter| network.parameters().values(&parameter.name).unwrap())
        .collect()
}

fn zeros(network: &Network) -> usize {
    weights(network)
        .iter()
        .filter(|weight| **weight == 0.0)
        .count()
}

fn bytes(network: &Network) -> Vec<u8> {
    network.parameters().to_safetensors().unwrap()
}

fn agreement(a: &Outputs, b: &Outputs) -> f64 {
    let same = a
        .predictions()
        .iter()
        .zip(b.predictions())
        .filter(|(a, b)| **a == *b)
        .count();
    same as f64 / a.len() as f64
}

fn check_table<T: ?Sized>(table: &[Entry<T>]) {
    for entry in table {
        let info = &entry.info;
        let ids = std::iter::once(&info.id).chain(entry.knobs.iter().map(|knob| &knob.id));
        for id in ids {
            assert!(
                id.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{id}"
            );
        }
        for words in [&info.title, &info.summary, &info.reference, &info.family] {
            assert!(!words.is_empty(), "{}", info.id);
        }
        for knob in entry.knobs {
            assert!(
                !knob.title.is_empty() && !knob.summary.is_empty(),
                "{}: {}",
                info.id,
                knob.id
            );
            assert!(
                knob.range.accept(&knob.range.default()).is_some(),
                "{}: {}",
                info.id,
                knob.id
            );
        }
        assert_eq!(
            info.ratio_of.is_some(),
            entry.knobs.iter().any(|knob| knob.id == "ratio"),
            "{}",
            info.id
        );
    }
    let mut ids: Vec<_> = table.iter().map(|entry| &entry.info.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), table.len());
}

#[test]
fn compressions_and_probes_say_what_they_are() {
    check_table(compression::ALL);
    check_table(probe::ALL);
}

#[test]
fn no_compression_touches_the_reference_or_raises_its_cost() {
    let bench = Bench::new();
    let before = bytes(bench.reference());
    let footprint = |network: &Network| {
        (
            network.parameters().count(),
            network.macs(),
            network_bytes(network, Layout::Dense),
            network.nodes().len(),
        )
    };
    let cost = footprint(bench.reference());
    for entry in compression::ALL {
        let id = &entry.info.id;
        let made = bench.compress(bench.reference(), id, &[]);
        assert_eq!(
            bytes(bench.reference()),
            before,
            "{id} changed the reference"
        );
        assert_eq!(
            footprint(bench.reference()),
            cost,
            "{id} changed the reference"
        );
        let after = footprint(&made.network);
        assert!(
            after.0 <= cost.0 && after.1 <= cost.1 && after.2 <= cost.2,
            "{id}: {after:?} after {cost:?}"
        );
        assert!(
            !made.remarks.is_empty(),
            "{id} does not say what is simulated and what is real"
        );
        assert_eq!(made.asked.is_some(), entry.info.ratio_of.is_some(), "{id}");
        assert_eq!(made.asked.is_some(), made.reached.is_some(), "{id}");
        assert_eq!(
            made.life.epoch,
            made.cost.images as u32 / bench.data.split.train.len() as u32,
            "{id}"
        );
    }
}

#[test]
fn pruning_nothing_changes_nothing() {
    let bench = Bench::new();
    let made = bench.prune(bench.reference(), 0.0);
    assert_eq!(bytes(&made.network), bytes(bench.reference()));
    assert_eq!(made.reached, Some(0.0));
}

#[test]
fn pruned_weights_stay_zero_in_fine_tuning_and_in_a_second_pruning() {
    let bench = Bench::new();
    let n = weights(bench.reference()).len();
    for scope in ["global", "per-layer"] {
        let knobs = [("ratio", KnobValue::Real(0.8)), ("scope", word(scope))];
        let mut pruned = bench
            .compress(bench.reference(), "magnitude-pruning", &knobs)
            .network;
        let count = zeros(&pruned);
        assert!(
            (count as f64 / n as f64 - 0.8).abs() < 1e-3,
            "{scope}: {count} of {n}"
        );
        let before = weights(&pruned);
        trained(&mut pruned, &bench.data, &RECIPE, 7);
        let after = weights(&pruned);
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| *before != 0.0 || *after == 0.0),
            "{scope}"
        );
        assert_ne!(before, after, "{scope}: the rest was trained");
        // Pruned again: the ratio counts what was pruned before.
        let again = bench.prune(&pruned, 0.9);
        assert_eq!(
            zeros(&again.network),
            (0.9 * n as f64).round_ties_even() as usize
        );
        assert_eq!(again.reached, Some(zeros(&again.network) as f64 / n as f64));
        assert_eq!(
            zeros(&bench.prune(&pruned, 0.1).network),
            count,
            "a smaller ratio brings nothing back"
        );
    }
}

#[test]
fn a_pruned_network_has_zeros_in_all_layers_by_their_share_or_by_size() {
    let bench = Bench::new();
    let per_layer = bench
        .compress(
            bench.reference(),
            "magnitude-pruning",
            &[("scope", word("per-layer"))],
        )
        .network;
    for parameter in per_layer.parameters() {
        let (n, nonzero) = (parameter.value.elem_count() as u64, parameter.nonzero());
        if parameter.role == ParameterRole::Weight {
            assert_eq!(nonzero, n - n / 2, "{}", parameter.name);
        } else {
            assert!(parameter.mask.is_none(), "{}", parameter.name);
        }
    }
    // Globally the threshold is one number.
    let global = bench.prune(bench.reference(), 0.5).network;
    let pairs: Vec<(f32, f32)> = weights(bench.reference())
        .iter()
        .map(|weight| weight.abs())
        .zip(weights(&global))
        .collect();
    let largest_taken = pairs
        .iter()
        .filter(|(_, after)| *after == 0.0)
        .map(|(before, _)| *before)
        .fold(0.0, f32::max);
    let least_kept = pairs
        .iter()
        .filter(|(_, after)| *after != 0.0)
        .map(|(before, _)| *before)
        .fold(f32::MAX, f32::min);
    assert!(largest_taken <= least_kept, "{largest_taken} {least_kept}");
}

#[test]
fn quantized_weights_lie_on_levels_and_activations_are_rounded_where_integers_would_be_stored() {
    let bench = Bench::new();
    let quantized = bench.quantize(bench.reference(), "4");
    for parameter in quantized.parameters() {
        let levels = parameter.levels.unwrap();
        let values = quantized.parameters().values(&parameter.name).unwrap();
        assert!(
            values.iter().all(|&value| levels.simulate(value) == value),
            "{}",
            parameter.name
        );
        if parameter.role == ParameterRole::Weight {
            assert_eq!((levels.q_min, levels.q_max, levels.zero_point), (-7, 7, 0));
            assert!(
                values
                    .iter()
                    .any(|&value| levels.quantize(value).abs() == 7),
                "{}: the range is used",
                parameter.name
            );
        }
    }
    let kinds: Vec<&str> = quantized
        .nodes()
        .iter()
        .map(|node| node.layer.kind())
        .collect();
    assert_eq!(
        kinds.join(" "),
        "normalize fake-quant conv2d relu fake-quant max-pool2d conv2d relu fake-quant max-pool2d flatten linear relu \
         fake-quant linear"
    );
    for node in quantized.nodes() {
        if let Some(levels) = node.layer.levels() {
            assert_eq!((levels.q_min, levels.q_max), (0, 15), "{}", node.name);
            assert_eq!(levels.simulate(0.0), 0.0, "{}", node.name);
        }
    }
}

#[test]
fn fewer_bits_are_farther_from_the_reference() {
    let bench = Bench::new();
    let reference = see(bench.reference(), &bench.data.test);
    let distance = |bits: &str| {
        let seen = see(&bench.quantize(bench.reference(), bits), &bench.data.test);
        let pairs = seen.probabilities.iter().zip(&reference.probabilities);
        (
            pairs.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>(),
            agreement(&seen, &reference),
        )
    };
    let [sixteen, eight, four] = ["16", "8", "4"].map(distance);
    assert!(
        sixteen.0 < 0.1 * eight.0 && eight.0 < 0.5 * four.0,
        "{sixteen:?} {eight:?} {four:?}"
    );
    assert!(sixteen.1 == 1.0 && eight.1 > 0.95, "{sixteen:?} {eight:?}");
    // Floats between rounded weights.
    let knobs = [("bits", word("16")), ("activation-bits", word("floats"))];
    let floats = bench
        .compress(bench.reference(), "post-training-quantization", &knobs)
        .network;
    assert!(
        floats
            .nodes()
            .iter()
            .all(|node| !matches!(node.layer, Layer::FakeQuant { .. }))
    );
}

#[test]
fn ranges_come_from_training_images_alone() {
    let mut bench = Bench::new();
    let before = bench.quantize(bench.reference(), "8");
    bench.data.test.images.fill(255);
    for &index in &bench.data.split.validation.clone() {
        bench.data.train.images[index * 784..(index + 1) * 784].fill(255);
    }
    let after = bench.quantize(bench.reference(), "8");
    let levels = |network: &Network| {
        network
            .nodes()
            .iter()
            .map(|node| node.layer.levels())
            .collect::<Vec<_>>()
    };
    assert_eq!(levels(&before), levels(&after));
}

#[test]
fn a_quantized_network_learns_and_stays_on_its_levels() {
    let bench = Bench::new();
    let mut quantized = bench.quantize(&bench.prune(bench.reference(), 0.5).network, "4");
    let labels = &bench.data.test.labels;
    let before = (
        weights(&quantized),
        see(&quantized, &bench.data.test).tally(labels).loss.0,
        zeros(&quantized),
    );
    trained(&mut quantized, &bench.data, &RECIPE, 7);
    let after = (
        weights(&quantized),
        see(&quantized, &bench.data.test).tally(labels).loss.0,
    );
    assert_ne!(before.0, after.0, "no weight moved to another level");
    assert!(
        after.1 < before.1,
        "the loss went from {} to {}",
        before.1,
        after.1
    );
    for parameter in quantized.parameters() {
        let levels = parameter.levels.unwrap();
        let values = quantized.parameters().values(&parameter.name).unwrap();
        assert!(
            values.iter().all(|&value| levels.simulate(value) == value),
            "{}",
            parameter.name
        );
        if let Some(mask) = &parameter.mask {
            let mask = mask.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(
                mask.iter()
                    .zip(&values)
                    .all(|(kept, value)| *kept == 1.0 || *value == 0.0),
                "{}",
                parameter.name
            );
        }
    }
    // Weights and optimizer come back from their files.
    let mut again = bench.quantize(&bench.prune(bench.reference(), 0.5).network, "4");
    again
        .parameters_mut()
        .load_safetensors(&bytes(&quantized))
        .unwrap();
    assert_eq!(bytes(&again), bytes(&quantized));
    let optimizer = Sgd::new(quantized.parameters(), 0.9, 0.0).unwrap();
    let mut fresh = Sgd::new(again.parameters(), 0.9, 0.0).unwrap();
    fresh
        .load_safetensors(&optimizer.to_safetensors().unwrap())
        .unwrap();
    assert_eq!(
        fresh.to_safetensors().unwrap(),
        optimizer.to_safetensors().unwrap()
    );
}

/// Without a teacher in the loss the student is the reference over again: same initial weights, same order.
#[test]
fn a_student_without_a_teacher_becomes_its_reference() {
    let bench = Bench::new();
    let knobs = |teacher| {
        [
            ("epochs", KnobValue::Integer(i64::from(RECIPE.epochs))),
            ("teacher-weight", KnobValue::Real(teacher)),
        ]
    };
    let alone = bench.compress(bench.reference(), "self-distillation", &knobs(0.0));
    assert_eq!(bytes(&alone.network), bytes(bench.reference()));
    let taught = bench.compress(bench.reference(), "self-distillation", &knobs(0.5));
    assert_ne!(bytes(&taught.network), bytes(bench.reference()));
    assert!(taught.best.is_some());
    let reverse = [knobs(0.5).to_vec(), vec![("direction", word("reverse"))]].concat();
    let reverse = bench.compress(bench.reference(), "self-distillation", &reverse);
    assert_ne!(bytes(&reverse.network), bytes(&taught.network));
}

#[test]
fn a_network_compared_with_itself_is_the_same() {
    let mut bench = Bench::new();
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    for (id, ideal) in [
        ("agreement", [1.0, 0.0, 0.0, 0.0].as_slice()),
        ("output-divergence", &[0.0]),
    ] {
        let values: Vec<f64> = bench
            .probe(id, CANDIDATE)
            .0
            .iter()
            .map(|found| found.scalar().unwrap())
            .collect();
        assert_eq!(values, ideal, "{id}");
        assert!(
            bench.probe(id, REFERENCE).0.is_empty(),
            "{id}: a reference has nothing to be compared with"
        );
    }
}

#[test]
fn every_finding_is_finite_and_within_its_interval() {
    let mut bench = Bench::new();
    let pruned = bench.prune(bench.reference(), 0.9).network;
    bench.put(CANDIDATE, Role::Branch, &pruned);
    for entry in probe::ALL {
        for network in [REFERENCE, CANDIDATE] {
            let (found, _) = bench.probe(&entry.info.id, network);
            for found in found {
                let Some(value) = found.scalar() else {
                    panic!("{found:?}")
                };
                assert!(value.is_finite(), "{found:?}");
                assert_eq!((&*found.probe, found.network), (&*entry.info.id, network));
                if let Some((low, high)) = found.interval {
                    assert!(low.0 <= value && value <= high.0, "{found:?}");
                    assert!(found.n.is_some(), "{found:?}");
                }
            }
        }
    }
}

#[test]
fn corruptions_are_measured_on_the_same_bytes_for_all() {
    let mut bench = Bench::new();
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    let numbers = |network| -> Vec<(Metric, Option<String>, Option<u8>, Option<f64>)> {
        let (found, _) = bench.probe("corruption-error", network);
        found
            .iter()
            .map(|f| (f.metric, f.condition.clone(), f.severity, f.scalar()))
            .collect()
    };
    let reference = numbers(REFERENCE);
    assert_eq!(reference, numbers(CANDIDATE));
    assert_eq!(reference.len(), 2 * 5 * corruption::ALL.len());
    for pair in reference.chunks(2) {
        assert_eq!((pair[0].0, pair[1].0), (Metric::Accuracy, Metric::Error));
        assert!((pair[0].3.unwrap() + pair[1].3.unwrap() - 1.0).abs() < 1e-12);
    }
    let entry = find(probe::ALL, "corruption-error");
    let parts = (entry.build)(&Setting::default()).parts(&bench.subject(&bench.candidate));
    let (_, events) = bench.probe("corruption-error", REFERENCE);
    assert_eq!(
        events
            .iter()
            .filter(|event| matches!(event, Event::Progressed { .. }))
            .count() as u64,
        parts
    );
}

#[test]
fn a_corruption_that_does_nothing_is_warned_of_once() {
    let mut bench = Bench::new();
    // Black images stay black in another contrast.
    bench.data.test.images.fill(0);
    bench.corruptions = vec![Method::plain("contrast")];
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    let warnings = |network| {
        let (_, events) = bench.probe("corruption-error", network);
        events
            .iter()
            .filter(|event| matches!(event, Event::Warned { .. }))
            .count()
    };
    assert_eq!((warnings(REFERENCE), warnings(CANDIDATE)), (5, 0));
}

/// By hand, of the lenet: 224,800 weights and 234 biases, 4 bytes each; at 8 bits 224,800 bytes of weights, 4 · 234 of
/// biases, 4 scales of weights, and a scale and a zero point for each of 4 activations.
#[test]
fn the_footprint_is_that_of_what_would_be_written() {
    let mut bench = Bench::new();
    let footprint = |bench: &Bench, network: NetworkId| -> Vec<f64> {
        bench
            .probe("footprint", network)
            .0
            .iter()
            .map(|found| found.scalar().unwrap())
            .collect()
    };
    let biases = |parameter: &&Parameter| parameter.role == ParameterRole::Bias;
    let nonzero: u64 = bench
        .reference()
        .parameters()
        .iter()
        .filter(biases)
        .map(Parameter::nonzero)
        .sum();
    let nonzero = (224_800 - zeros(bench.reference()) as u64 + nonzero) as f64;
    assert_eq!(
        footprint(&bench, REFERENCE),
        [225_034.0, nonzero, 2_631_040.0, 900_136.0]
    );
    let quantized = bench.quantize(bench.reference(), "8");
    bench.put(CANDIDATE, Role::Branch, &quantized);
    assert_eq!(footprint(&bench, CANDIDATE)[3], 225_784.0);
}

#[test]
fn latency_is_stated_for_both_batches() {
    let bench = Bench::new();
    let (found, _) = bench.probe("latency", REFERENCE);
    let conditions: Vec<&str> = found
        .iter()
        .filter_map(|found| found.condition.as_deref())
        .collect();
    assert_eq!(conditions, [["batch-1"; 4], ["batch-256"; 4]].concat());
    for found in found.chunks(4) {
        let [p50, p10, p90, _] = [0, 1, 2, 3].map(|at| found[at].scalar().unwrap());
        assert!(0.0 < p10 && p10 <= p50 && p50 <= p90);
    }
}

#[test]
fn the_verdict_needs_two_twins() {
    let mut bench = Bench::new();
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    assert!(
        bench.probe("functional-landscape", CANDIDATE).0.is_empty(),
        "without a twin there is nothing to say"
    );
    for twin in 1..=2 {
        let mut network = build(&bench.data, 7 + twin);
        trained(&mut network, &bench.data, &RECIPE, 7 + twin);
        bench.put(NetworkId(twin as u32), Role::Twin, &network);
        let (found, _) = bench.probe("functional-landscape", CANDIDATE);
        let [
            Measurement {
                value:
                    Value::Verdict {
                        verdict,
                        difference,
                        twins,
                    },
                ..
            },
        ] = found.as_slice()
        else {
            panic!("{found:?}")
        };
        assert_eq!(u64::from(*twins), twin);
        assert!(difference.0 < 0.0);
        assert_eq!(
            *verdict,
            if twin == 1 {
                Verdict::Undecided
            } else {
                Verdict::Nearer
            }
        );
        assert!(bench.probe("functional-landscape", REFERENCE).0.is_empty());
    }
}
