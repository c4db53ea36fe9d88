//! Compressions and probes on networks with batch normalizations and sums: narrow ones.

use super::*;

/// A network of a sixteenth of the usual width, trained for an epoch.
fn bench(id: &str) -> Bench {
    let data = data();
    let entry = find(architecture::ALL, id);
    let (mean, deviation) = data.train.mean_and_deviation();
    let narrow = setting(entry, &[("width", KnobValue::Real(0.0625))]);
    let initial = (entry.build)(&narrow)
        .build(data.train.shape, 10, (&mean, &deviation), 7)
        .unwrap();
    let mut network = initial.duplicate().unwrap();
    let recipe = Recipe {
        epochs: 1,
        ..RECIPE
    };
    trained(&mut network, &data, &recipe, 7);
    let mut bench = Bench::of(data, &initial, &network);
    bench.architecture.setting = narrow;
    bench
}

/// All that a batch normalization holds.
fn normalizations(network: &Network) -> Vec<(String, Vec<f32>)> {
    let of = network
        .parameters()
        .iter()
        .filter(|parameter| !matches!(parameter.role, ParameterRole::Weight | ParameterRole::Bias));
    of.map(|parameter| {
        assert!(parameter.mask.is_none() && parameter.levels.is_none());
        let values = network.parameters().values(&parameter.name).unwrap();
        (parameter.name.clone(), values)
    })
    .collect()
}

#[test]
fn training_moves_running_statistics_and_probes_do_not() {
    let mut bench = bench("resnet18");
    let initial = bench.networks[&REFERENCE].initial.as_ref().unwrap();
    for ((name, drawn), (_, learnt)) in normalizations(initial)
        .into_iter()
        .zip(normalizations(bench.reference()))
    {
        assert_ne!(drawn, learnt, "{name}");
    }
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    let before = bytes(bench.reference());
    for entry in probe::ALL {
        for network in [REFERENCE, CANDIDATE] {
            bench.probe(&entry.info.id, network);
            assert!(
                bytes(&bench.networks[&network].last) == before,
                "{}",
                entry.info.id
            );
        }
    }
}

#[test]
fn normalizations_are_neither_pruned_nor_quantized() {
    for id in ["resnet18", "mobilenet-v1"] {
        let bench = bench(id);
        let before = normalizations(bench.reference());
        let pruned = bench.prune(bench.reference(), 0.7).network;
        let share = zeros(&pruned) as f64 / weights(&pruned).len() as f64;
        assert!((share - 0.7).abs() < 1e-3, "{id}: {share}");
        assert_eq!(normalizations(&pruned), before, "{id}");
        // One scale per tensor is known to cost depthwise convolutions much at 8 bits (Nagel et al. 2019, section 3).
        let bits = if id == "resnet18" { "8" } else { "16" };
        let knobs = [("bits", word(bits)), ("fold", KnobValue::Flag(false))];
        let quantized = bench.compress(bench.reference(), "post-training-quantization", &knobs);
        let quantized = quantized.network;
        assert_eq!(normalizations(&quantized), before, "{id}");
        let (reference, outputs) = (
            see(bench.reference(), &bench.data.test),
            see(&quantized, &bench.data.test),
        );
        let same = agreement(&reference, &outputs);
        assert!(same > 0.8, "{id}: {bits} bits leave {same} of the answers");
    }
}

/// Where integer inference stores: behind each product with its normalization and ReLU, each sum, each mean.
#[test]
fn activations_of_a_graph_are_rounded_where_integers_would_be_stored() {
    let bench = bench("resnet18");
    for (folds, second, shortcut) in [
        (true, "conv2", "downsample.0"),
        (false, "bn2", "downsample.1"),
    ] {
        let knobs = [("fold", KnobValue::Flag(folds))];
        let quantized = bench.compress(bench.reference(), "post-training-quantization", &knobs);
        let nodes = quantized.network.nodes();
        let rounded: Vec<&str> = nodes
            .iter()
            .filter(|node| node.layer.levels().is_some())
            .map(|node| nodes[node.inputs[0]].name.as_str())
            .collect();
        let of_block = |name: &str| -> Vec<&str> {
            let parts = rounded.iter().filter_map(|n| n.strip_prefix(name));
            parts.collect()
        };
        assert_eq!(rounded[..2], ["normalize", "relu"]);
        assert_eq!(of_block("layer1.0."), ["relu1", second, "relu"]);
        assert_eq!(of_block("layer2.0."), [shortcut, "relu1", second, "relu"]);
        assert_eq!(rounded.last(), Some(&"avgpool"));
        // Everything behind reads what was rounded.
        for node in nodes
            .iter()
            .filter(|node| matches!(node.layer, Layer::Conv2d { .. } | Layer::Add))
        {
            for input in &node.inputs {
                assert!(nodes[*input].layer.levels().is_some(), "{}", node.name);
            }
        }
    }
}

/// A bias is on the levels of the sums that it is added to: of what its layer reads, not of what was stored last.
#[test]
fn biases_are_on_the_levels_of_what_their_layer_reads() {
    let data = data();
    let entry = find(architecture::ALL, "resnet50");
    let knobs = [("width", KnobValue::Real(0.0625)), ("head", word("keras"))];
    let padded = data.train.enlarged(32).unwrap();
    let initial = (entry.build)(&setting(entry, &knobs))
        .build(padded.shape, 10, (&[0.5], &[0.25]), 7)
        .unwrap();
    let data = Data {
        domains: Vec::new(),
        train: padded,
        test: data.test.enlarged(32).unwrap(),
        ..data
    };
    let bench = Bench::of(data, &initial, &initial);
    let quantized = bench.quantize(&initial, "8");
    let levels = |name: &str| {
        let parameter = quantized.parameters().get(name).unwrap();
        *parameter.levels.as_ref().unwrap().one().unwrap()
    };
    let stored = |name: &str| {
        let at = quantized.position(&format!("{name}.levels")).unwrap();
        quantized.nodes()[at].layer.levels().unwrap()
    };
    for (layer, read) in [
        ("conv1", "normalize"),
        ("layer2.0.downsample.0", "layer1.2.relu"),
        ("layer2.0.conv1", "layer1.2.relu"),
        ("layer2.0.conv2", "layer2.0.relu1"),
        ("fc1", "avgpool"),
        ("fc2", "fc1.relu"),
    ] {
        let scale = stored(read).scale * levels(&format!("{layer}.weight")).scale;
        assert_eq!(levels(&format!("{layer}.bias")).scale, scale, "{layer}");
    }
}

#[test]
fn a_residual_student_without_a_teacher_becomes_its_reference() {
    let bench = bench("resnet18");
    let knobs = |teacher| {
        [
            ("epochs", KnobValue::Integer(1)),
            ("teacher-weight", KnobValue::Real(teacher)),
        ]
    };
    let alone = bench.compress(bench.reference(), "self-distillation", &knobs(0.0));
    assert!(bytes(&alone.network) == bytes(bench.reference()));
    let before = bytes(bench.reference());
    let taught = bench.compress(bench.reference(), "self-distillation", &knobs(0.5));
    assert!(bytes(&taught.network) != before);
    assert!(
        bytes(bench.reference()) == before,
        "a teacher measures nothing"
    );
}

/// Statistics that were lost come back from training images, and nothing else moves.
#[test]
fn batch_normalizations_are_recalibrated_on_training_images_alone() {
    let mut bench = bench("resnet18");
    let reference = bench.reference().duplicate().unwrap();
    let mut lost = reference.duplicate().unwrap();
    let names: Vec<(String, ParameterRole)> = lost
        .parameters()
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.role))
        .collect();
    for (name, role) in &names {
        let n = lost.parameters().values(name).unwrap().len();
        let forgotten = match role {
            ParameterRole::RunningMean => 0.0,
            ParameterRole::RunningVariance => 1.0,
            _ => continue,
        };
        lost.parameters_mut()
            .set(name, &vec![forgotten; n])
            .unwrap();
    }
    let made = bench.compress(&lost, "batch-norm-recalibration", &[]);
    for (name, role) in &names {
        let of = |network: &Network| network.parameters().values(name).unwrap();
        assert_eq!(of(&made.network) == of(&lost), role.trains(), "{name}");
    }
    assert_eq!((made.life, made.cost.gradients), (Life::default(), 0));
    let test = &bench.data.test;
    let loss = |network: &Network| see(network, test).tally(&test.labels).loss.0;
    let (before, after) = (loss(&lost), loss(&made.network));
    assert!(after < before, "{before} became {after}");
    // Neither test nor validation images have a say.
    bench.data.test.images.fill(255);
    for &index in &bench.data.split.validation.clone() {
        bench.data.train.images[index * 784..(index + 1) * 784].fill(255);
    }
    let again = bench.compress(&lost, "batch-norm-recalibration", &[]);
    assert_eq!(bytes(&again.network), bytes(&made.network));
}

/// A student of a residual network has its blocks, or fewer.
#[test]
fn a_residual_student_is_narrower_or_shallower() {
    let bench = bench("resnet18");
    let one = ("epochs", KnobValue::Integer(1));
    let sums = |network: &Network| {
        let nodes = network.nodes().iter();
        nodes.filter(|node| node.layer == Layer::Add).count()
    };
    let student = |shrink: &str| {
        let knobs = [
            one.clone(),
            ("ratio", KnobValue::Real(0.6)),
            ("shrink", word(shrink)),
        ];
        bench.compress(bench.reference(), "distillation", &knobs)
    };
    let narrow = student("width");
    assert_eq!(sums(&narrow.network), sums(bench.reference()));
    let shallow = student("width-and-depth");
    assert!(sums(&shallow.network) < sums(bench.reference()));
    for made in [narrow, shallow] {
        assert!(made.reached.unwrap() > 0.4, "{:?}", made.reached);
        assert!(made.network.macs() < bench.reference().macs());
    }
}
