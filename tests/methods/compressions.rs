//! What each compression promises: the reference stays as it is, masks and levels are kept, neutral knobs are neutral.

use super::*;

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
        let levels = *parameter.levels.as_ref().unwrap().one().unwrap();
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
    // Untrained weights: with the reference's own there is hardly a gradient left.
    let fresh = || bench.quantize(&bench.prune(&build(&bench.data, 7), 0.5).network, "4");
    let mut quantized = fresh();
    let labels = &bench.data.test.labels;
    let before = (
        weights(&quantized),
        see(&quantized, &bench.data.test).tally(labels).loss.0,
    );
    trained(&mut quantized, &bench.data, &RECIPE, 7);
    let after = (
        weights(&quantized),
        see(&quantized, &bench.data.test).tally(labels).loss.0,
    );
    assert!(before.0 != after.0, "no weight moved to another level");
    assert!(
        after.1 < 0.5 * before.1,
        "the loss went from {} to {}",
        before.1,
        after.1
    );
    for parameter in quantized.parameters() {
        let levels = *parameter.levels.as_ref().unwrap().one().unwrap();
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
    let mut again = fresh();
    again
        .parameters_mut()
        .load_safetensors(&bytes(&quantized))
        .unwrap();
    assert_eq!(bytes(&again), bytes(&quantized));
    let optimizer = Sgd::new(quantized.parameters(), 0.9, 0.0).unwrap();
    let mut restored = Sgd::new(again.parameters(), 0.9, 0.0).unwrap();
    restored
        .load_safetensors(&optimizer.to_safetensors().unwrap())
        .unwrap();
    assert_eq!(
        restored.to_safetensors().unwrap(),
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

/// The student starts from the reference's initial weights, but without those that its teacher lost.
#[test]
fn a_student_keeps_its_teachers_masks_and_not_its_levels() {
    let bench = Bench::new();
    let pruned = bench.prune(bench.reference(), 0.9).network;
    let epochs = [("epochs", KnobValue::Integer(1))];
    let student = bench.compress(&pruned, "self-distillation", &epochs);
    let places = |network: &Network| -> Vec<bool> {
        weights(network)
            .iter()
            .map(|weight| *weight == 0.0)
            .collect()
    };
    assert_eq!(places(&student.network), places(&pruned));
    assert_ne!(weights(&student.network), weights(&pruned));
    assert!(
        student
            .remarks
            .iter()
            .any(|remark| remark.contains("masks"))
    );

    let quantized = bench
        .compress(bench.reference(), "post-training-quantization", &[])
        .network;
    let student = bench.compress(&quantized, "self-distillation", &epochs);
    let mut parameters = student.network.parameters().iter();
    assert!(parameters.all(|parameter| parameter.levels.is_none()));
    assert!(
        student
            .remarks
            .iter()
            .any(|remark| remark.contains("not quantized"))
    );
}
