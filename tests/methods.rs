//! Promises that every compression and every probe keeps, and the chain of them on a small network.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose bench cannot be set up may panic"
)]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;

use shrinklab::catalog::Entry;
use shrinklab::event::Event;
use shrinklab::lab::adversarial::Adversarial;
use shrinklab::lab::answers::Answers;
use shrinklab::lab::augmentation::Augmentation;
use shrinklab::lab::compression::{self, Compressed, Start};
use shrinklab::lab::context::{Context, Control, Unobserved};
use shrinklab::lab::data::{Examples, Split};
use shrinklab::lab::outputs::{Outputs, outputs};
use shrinklab::lab::storage::{Layout, network_bytes};
use shrinklab::lab::subject::{CorruptedSets, Data, Kept, Subject};
use shrinklab::lab::train::{Life, Objective, Recipe, Training, train};
use shrinklab::lab::{architecture, attack, corruption, probe};
use shrinklab::measurement::{Measurement, Metric, Value, Verdict};
use shrinklab::nn::ImageShape;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::{Network, Workspace};
use shrinklab::nn::optimizer::{Rule, Sgd};
use shrinklab::nn::parameters::{Parameter, ParameterRole};
use shrinklab::nn::rng::Rng;
use shrinklab::nn::schedule::Schedule;
use shrinklab::spec::{
    KnobValue, Method, NetworkId, NetworkPlan, Role, Setting, StageKind, StagePlan,
};

#[path = "methods/adjusting.rs"]
mod adjusting;
#[path = "methods/attacks.rs"]
mod attacks;
#[path = "methods/channel_pruning.rs"]
mod channel_pruning;
#[path = "methods/compressions.rs"]
mod compressions;
#[path = "methods/distilling.rs"]
mod distilling;
#[path = "methods/levels.rs"]
mod levels;
#[path = "methods/low_rank.rs"]
mod low_rank;
#[path = "methods/names.rs"]
mod names;
#[path = "methods/probes.rs"]
mod probes;
#[path = "methods/quantization.rs"]
mod quantization;
#[path = "methods/residual.rs"]
mod residual;

const REFERENCE: NetworkId = NetworkId(0);
const CANDIDATE: NetworkId = NetworkId(9);

const RECIPE: Recipe = Recipe {
    epochs: 2,
    batch: 20,
    learning_rate: 0.02,
    schedule: Schedule::Constant,
    momentum: 0.9,
    weight_decay: 0.0005,
    optimizer: Rule::Sgd,
    cycle_momentum: false,
    augmentation: Augmentation::None,
    label_smoothing: 0.0,
    patience: 0,
    adversarial: None,
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
        domains: Vec::new(),
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
        adjust: None,
    };
    stating(REFERENCE, |cx| {
        train(network, &training, &mut Unobserved, cx)
            .map(|_| ())
            .unwrap();
    });
}

fn kept(plan: NetworkPlan, initial: Option<Network>, network: &Network, data: &Data) -> Kept {
    let seen = Rc::new(see(network, &data.test));
    Kept {
        plan,
        initial,
        last: network.duplicate().unwrap().into(),
        best: network.duplicate().unwrap().into(),
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
    adversarial: Adversarial,
    answers: Answers,
    corruptions: Vec<Method>,
    subset: Vec<usize>,
    architecture: Method,
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
        Self::of(data, initial, network)
    }

    /// With this reference, trained from that start.
    fn of(data: Data, initial: &Network, network: &Network) -> Self {
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
            architecture: Method::plain(network.name()),
            corrupted: CorruptedSets::default(),
            adversarial: Adversarial::new("glyphs", &[]),
            answers: Answers::default(),
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
            elsewhere: &[],
            network,
            corrupted: &self.corrupted,
            corruptions: &self.corruptions,
            corrupted_subset: &self.subset,
            adversarial: &self.adversarial,
            answers: &self.answers,
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
            architecture: &self.architecture,
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
            method.measure(&self.subject(plan), 0, cx).unwrap();
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
fn compressions_attacks_and_probes_say_what_they_are() {
    check_table(compression::ALL);
    check_table(attack::ALL);
    check_table(probe::ALL);
}
