//! Channel pruning: sizes, equality of masked and removed, ratios of other sizes, controls and schedules.

use super::*;
use shrinklab::lab::error::Error;

/// A network of this architecture that was never trained, on 28x28 grey images, with shifts that are not zero.
fn bench(id: &str, knobs: &[(&str, KnobValue)]) -> Bench {
    let data = data();
    let entry = find(architecture::ALL, id);
    let (mean, deviation) = data.train.mean_and_deviation();
    let mut network = (entry.build)(&setting(entry, knobs))
        .build(data.train.shape, 10, (&mean, &deviation), 7)
        .unwrap();
    let names: Vec<_> = network
        .parameters()
        .iter()
        .filter(|parameter| matches!(parameter.role, ParameterRole::Shift | ParameterRole::Scale))
        .map(|parameter| (parameter.name.clone(), parameter.value.elem_count()))
        .collect();
    for (at, (name, n)) in names.into_iter().enumerate() {
        let mut rng = Rng::stream(3, "shifts", &[at as u64]);
        let drawn: Vec<f32> = (0..n).map(|_| rng.between(0.1, 1.0) as f32).collect();
        network.parameters_mut().set(&name, &drawn).unwrap();
    }
    Bench::of(data, &network, &network)
}

fn narrow() -> [(&'static str, KnobValue); 1] {
    [("width", KnobValue::Real(0.125))]
}

impl Bench {
    fn channels(&self, knobs: &[(&str, KnobValue)]) -> Compressed {
        self.compress(self.reference(), "channel-pruning", knobs)
    }

    fn refused(&self, id: &str, knobs: &[(&str, KnobValue)]) -> String {
        let entry = find(compression::ALL, id);
        let method = (entry.build)(&setting(entry, knobs));
        let subject = self.subject(&self.candidate);
        let start = Start {
            subject: &subject,
            network: self.reference(),
            architecture: &self.architecture,
            recipe: &RECIPE,
            life: Life::default(),
        };
        let compress = |cx: &mut Context<'_>| method.compress(&start, &mut Unobserved, cx);
        match stating(CANDIDATE, compress).0.err() {
            Some(error @ Error::Impossible { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// Document 002's network: 204,282 parameters at 50 %, 66,728 at 80 %, with 7, 7, 13, 13, 26 and 26 channels left.
#[test]
fn sizes_are_those_of_the_paper() {
    let bench = bench("cnn8", &[]);
    for (ratio, parameters, reached) in [(0.5, 204_282, 0.5), (0.8, 66_728, 0.794_642_857)] {
        let made = bench.channels(&[("ratio", KnobValue::Real(ratio))]);
        assert_eq!(made.network.parameters().count(), parameters);
        assert!((made.reached.unwrap() - reached).abs() < 1e-6);
    }
    assert!(
        !bench
            .reference()
            .parameters()
            .iter()
            .any(|p| p.mask.is_some())
    );
}

#[test]
fn masked_and_removed_answer_alike() {
    for (id, knobs) in [
        ("lenet5", &[][..]),
        ("cnn8", &[][..]),
        ("resnet18", &narrow()[..]),
        ("resnet50", &narrow()[..]),
        ("mobilenet-v1", &narrow()[..]),
    ] {
        let bench = bench(id, knobs);
        for criterion in ["l1", "l2", "taylor", "geometric-median", "lamp", "random"] {
            let of = |structure| {
                let knobs = [
                    ("criterion", word(criterion)),
                    ("structure", word(structure)),
                    ("layers", word("all")),
                    ("images", KnobValue::Integer(100)),
                    (
                        "scope",
                        word(if criterion == "taylor" {
                            "global"
                        } else {
                            "per-layer"
                        }),
                    ),
                ];
                bench.channels(&knobs)
            };
            let (masked, removed) = (of("masked"), of("removed"));
            assert_eq!(masked.reached, removed.reached);
            assert!(masked.remarks[0].starts_with("masked only"));
            let (count, before) = (
                removed.network.parameters().count(),
                bench.reference().parameters().count(),
            );
            assert!(
                count * 10 < before * 7,
                "{id} {criterion}: {count} of {before}"
            );
            assert_eq!(masked.network.parameters().count(), before);
            assert_eq!(masked.network.macs(), bench.reference().macs());
            let (one, other) = (
                see(&masked.network, &bench.data.test),
                see(&removed.network, &bench.data.test),
            );
            let pairs = one.probabilities.iter().zip(&other.probabilities);
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{id} {criterion}: {worst}");
        }
    }
}

#[test]
fn other_sizes_are_solved_for() {
    let bench = bench("cnn8", &[]);
    let before = (
        bench.reference().parameters().count() as f64,
        bench.reference().macs() as f64,
    );
    for scope in ["per-layer", "global"] {
        for of in ["parameters", "macs", "nonzero", "bytes"] {
            let knobs = [
                ("ratio", KnobValue::Real(0.6)),
                ("ratio-of", word(of)),
                ("scope", word(scope)),
            ];
            let made = bench.channels(&knobs);
            let reached = made.reached.unwrap();
            // One channel of each layer more or less is two points here.
            assert!((reached - 0.6).abs() < 0.02, "{scope} {of}: {reached}");
            let after = match of {
                "parameters" => made.network.parameters().count() as f64 / before.0,
                "macs" => made.network.macs() as f64 / before.1,
                _ => continue,
            };
            assert!((1.0 - after - reached).abs() < 1e-12);
        }
    }
    let pruned = bench.compress(
        bench.reference(),
        "magnitude-pruning",
        &[("ratio", KnobValue::Real(0.6)), ("ratio-of", word("bytes"))],
    );
    assert!((pruned.reached.unwrap() - 0.6).abs() < 1e-3);
    let bytes = |network: &Network| network_bytes(network, Layout::Smallest) as f64;
    let share = 1.0 - bytes(&pruned.network) / bytes(bench.reference());
    assert!((share - 0.6).abs() < 1e-3, "{share}");
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let lenet = bench("lenet5", &[]);
    let macs = [("ratio", KnobValue::Real(0.5)), ("ratio-of", word("macs"))];
    assert_eq!(
        lenet.refused("magnitude-pruning", &macs),
        "ratio: 50 % of the multiply-accumulates cannot be removed in this way; at most 0 %"
    );
    let error = lenet.refused("channel-pruning", &[("criterion", word("batch-norm"))]);
    assert!(
        error.starts_with("criterion: batch-norm needs a batch normalization behind every layer")
    );
    let mlp = bench("mlp", &[]);
    assert_eq!(
        mlp.refused("channel-pruning", &[]),
        "layers: mlp has no convolution whose channels could go; all lets hidden linear layers lose features"
    );
    let made = mlp.channels(&[("layers", word("all"))]);
    assert!(made.network.parameters().count() < mlp.reference().parameters().count() * 6 / 10);
}

#[test]
fn the_scale_of_a_normalization_decides() {
    let mut bench = bench("resnet18", &narrow());
    // One channel in the middle of the first block has a scale of nothing.
    let mut network = bench.reference().duplicate().unwrap();
    let name = "layer1.0.bn1.weight";
    let mut scales = network.parameters().values(name).unwrap();
    scales[3] = 1e-3;
    network.parameters_mut().set(name, &scales).unwrap();
    bench.put(REFERENCE, Role::Reference, &network);
    let knobs = [
        ("criterion", word("batch-norm")),
        ("ratio", KnobValue::Real(0.13)),
    ];
    let made = bench.channels(&knobs);
    let node = made.network.position("layer1.0.conv1").unwrap();
    let kept = made.network.nodes()[node].kept.clone().unwrap();
    assert_eq!((kept.of, kept.channels), (8, vec![0, 1, 2, 4, 5, 6, 7]));
}

#[test]
fn the_controls_have_the_shape_and_other_weights() {
    let bench = Bench::new();
    let of = |weights| bench.channels(&[("weights", word(weights))]).network;
    let (kept, rewound, scratch) = (of("kept"), of("rewound"), of("scratch"));
    let shapes = |network: &Network| -> Vec<_> {
        network
            .parameters()
            .iter()
            .map(|p| (p.name.clone(), p.value.dims().to_vec()))
            .collect()
    };
    assert_eq!(shapes(&kept), shapes(&rewound));
    assert_eq!(shapes(&kept), shapes(&scratch));
    assert_ne!(weights(&kept), weights(&rewound));
    assert_ne!(weights(&rewound), weights(&scratch));
    // Every weight that was rewound is one of the first ones.
    let initial = bench.networks[&REFERENCE].initial.as_ref().unwrap();
    let first = initial.parameters().values("conv1.weight").unwrap();
    let chosen = kept.nodes()[kept.position("conv1").unwrap()].kept.clone();
    let expected: Vec<f32> = chosen
        .unwrap()
        .channels
        .iter()
        .flat_map(|channel| first[*channel as usize * 9..][..9].to_vec())
        .collect();
    assert_eq!(
        rewound.parameters().values("conv1.weight").unwrap(),
        expected
    );
    let ticket = bench.compress(
        bench.reference(),
        "magnitude-pruning",
        &[("weights", word("rewound"))],
    );
    let (pruned, initial) = (weights(&ticket.network), weights(initial));
    assert_eq!(zeros(&ticket.network), pruned.len() / 2);
    let pairs = pruned.iter().zip(&initial);
    assert!(pairs.into_iter().all(|(a, b)| *a == 0.0 || a == b));
}

#[test]
fn schedules_end_at_the_ratio_that_was_asked_for() {
    let bench = Bench::new();
    for schedule in ["iterative", "gradual"] {
        let knobs = [
            ("schedule", word(schedule)),
            ("epochs", KnobValue::Integer(2)),
            ("ratio", KnobValue::Real(0.6)),
        ];
        let made = bench.channels(&knobs);
        // 32 and 64 filters lose 19 and 38.
        let convolution = |network: &Network, name: &str| {
            let weight = network.parameters().get(name).unwrap();
            weight.value.dims()[0]
        };
        for network in [Some(&made.network), made.best.as_ref()]
            .into_iter()
            .flatten()
        {
            assert_eq!(convolution(network, "conv1.weight"), 13, "{schedule}");
            assert_eq!(convolution(network, "conv2.weight"), 26, "{schedule}");
            assert!(network.parameters().iter().all(|p| p.mask.is_none()));
        }
        assert_eq!(made.life.epoch, 2);
        assert_eq!(made.cost.images, 2 * bench.data.split.train.len() as u64);
        let pruned = bench.compress(bench.reference(), "magnitude-pruning", &knobs);
        let n = weights(&pruned.network).len();
        assert_eq!(zeros(&pruned.network), (0.6 * n as f64).round() as usize);
        let moved = weights(&pruned.network);
        assert!(
            moved
                .iter()
                .zip(weights(bench.reference()))
                .any(|(a, b)| *a != 0.0 && *a != b)
        );
    }
}

#[test]
fn lamp_leaves_every_layer_something() {
    let bench = Bench::new();
    let knobs = [("scope", word("lamp")), ("ratio", KnobValue::Real(0.99))];
    let pruned = bench.compress(bench.reference(), "magnitude-pruning", &knobs);
    for parameter in pruned.network.parameters() {
        assert!(parameter.nonzero() > 0, "{}", parameter.name);
    }
    let n = weights(bench.reference()).len();
    assert_eq!(
        zeros(&pruned.network),
        (0.99 * n as f64).round_ties_even() as usize
    );
}

/// A channel whose weights are all zero still gives its bias.
#[test]
fn what_a_weight_pruning_left_of_a_channel_stays_until_it_is_asked_for() {
    let bench = Bench::new();
    let knobs = [
        ("ratio", KnobValue::Real(0.95)),
        ("scope", word("per-layer")),
    ];
    let pruned = bench.compress(bench.reference(), "magnitude-pruning", &knobs);
    let of = |ratio| {
        let knobs = [("ratio", KnobValue::Real(ratio))];
        bench.compress(&pruned.network, "channel-pruning", &knobs)
    };
    let nothing = of(0.0);
    assert_eq!(nothing.reached, Some(0.0));
    assert_eq!(bytes(&nothing.network), bytes(&pruned.network));
    assert_eq!(of(0.5).reached, Some(0.5));
}

#[test]
fn the_ratio_of_channels_is_met_among_all_layers_too() {
    let bench = bench("resnet18", &narrow());
    for criterion in ["l1", "batch-norm"] {
        let knobs = [("scope", word("global")), ("criterion", word(criterion))];
        let reached = bench.channels(&knobs).reached.unwrap();
        assert!((reached - 0.5).abs() < 0.02, "{criterion}: {reached}");
    }
}
