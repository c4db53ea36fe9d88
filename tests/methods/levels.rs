//! Training on levels, and gradients through them.

use super::quantization::{PTQ, integer, is_normalization, normalized};
use super::*;
use shrinklab::nn::Mode;
use shrinklab::nn::network::{Builder, Wanted};
use shrinklab::nn::op::fake_quant::{Estimator, Levels};
use shrinklab::nn::op::values;
use shrinklab::nn::trace::Keep;

const QAT: &str = "quantization-aware-training";

/// At few bits training wins back what rounding alone loses; both ways end on levels that stay. At two, levels that follow
/// the largest weight round nearly all to 0, and nothing is left to learn.
#[test]
fn a_network_trained_on_levels_is_better_than_a_rounded_one() {
    let bench = Bench::new();
    let labels = &bench.data.test.labels;
    let loss = |network: &Network| see(network, &bench.data.test).tally(labels).loss.0;
    let rounded = |bits| {
        loss(
            &bench
                .compress(bench.reference(), PTQ, &[("bits", integer(bits))])
                .network,
        )
    };
    for (steps, bits) in [("straight-through", 3), ("learned-step", 2)] {
        let rounded = rounded(bits);
        for granularity in ["per-tensor", "per-channel"] {
            let knobs = [
                ("bits", integer(bits)),
                ("steps", word(steps)),
                ("granularity", word(granularity)),
                ("rate", KnobValue::Real(0.5)),
                ("epochs", integer(2)),
            ];
            let made = bench.compress(bench.reference(), QAT, &knobs);
            let found = loss(&made.network);
            assert!(
                found < 0.8 * rounded,
                "{steps} {granularity}: {found} after {rounded}"
            );
            assert_eq!(made.life.epoch, 2);
            for network in [&made.network, made.best.as_ref().unwrap()] {
                for parameter in network.parameters() {
                    assert!(parameter.role.trains() && parameter.role != ParameterRole::Step);
                    let levels = parameter.levels.as_ref().unwrap();
                    let values = network.parameters().values(&parameter.name).unwrap();
                    let mut again = values.clone();
                    levels.simulate(&mut again);
                    assert_eq!(values, again, "{steps}: {}", parameter.name);
                    assert_eq!(levels.moves(), shrinklab::nn::parameters::Moves::Stay);
                    if parameter.role == ParameterRole::Weight {
                        let rows = if granularity == "per-tensor" {
                            1
                        } else {
                            parameter.value.dims()[0]
                        };
                        assert_eq!(levels.all().len(), rows);
                    }
                }
                assert!(
                    network
                        .nodes()
                        .iter()
                        .any(|node| node.layer.levels().is_some())
                );
            }
            if granularity == "per-tensor" {
                continue;
            }
            let same = bench.compress(bench.reference(), QAT, &knobs);
            assert_eq!(bytes(&same.network), bytes(&made.network), "the same again");
            // It goes on learning on the levels that it has.
            let mut tuned = made.network.duplicate().unwrap();
            trained(&mut tuned, &bench.data, &RECIPE, 7);
            let levels = |network: &Network| {
                network
                    .parameters()
                    .iter()
                    .map(|p| p.levels.clone())
                    .collect::<Vec<_>>()
            };
            assert_eq!(levels(&tuned), levels(&made.network));
        }
    }
}

/// Pruned weights stay 0, and normalizations are folded before a training on levels.
#[test]
fn training_on_levels_keeps_masks_and_folds() {
    let bench = Bench::new();
    let pruned = bench.prune(bench.reference(), 0.5).network;
    let knobs = [("steps", word("learned-step")), ("epochs", integer(1))];
    let made = bench.compress(&pruned, QAT, &knobs).network;
    let pairs = weights(&pruned).into_iter().zip(weights(&made));
    assert!(
        pairs
            .into_iter()
            .all(|(before, after)| before != 0.0 || after == 0.0)
    );
    let network = normalized("resnet18");
    let bench = Bench::of(data(), &network, &network);
    let made = bench.compress(bench.reference(), QAT, &[("epochs", integer(1))]);
    assert!(!made.network.nodes().iter().any(is_normalization));
    assert!(
        made.remarks
            .join(" ")
            .contains("batch normalizations were folded")
    );
}

/// Inside the range a rounded value passes 1, 0 or 1; outside 0, 0 or 1: as the caller says.
#[test]
fn gradients_through_rounded_values_are_the_callers_choice() {
    let shape = ImageShape {
        channels: 1,
        height: 1,
        width: 4,
    };
    let mut builder = Builder::new("rounded", shape, 4, 7);
    let levels = Levels {
        scale: 0.1,
        zero_point: 0,
        q_min: 0,
        q_max: 5,
    };
    let normalize = Layer::Normalize {
        mean: vec![0.0],
        std: vec![0.5],
    };
    let layers = vec![
        ("images", normalize),
        ("levels", levels.into()),
        ("flat", Layer::Flatten),
    ];
    builder.chain(layers).unwrap();
    let network = builder.finish().unwrap();
    // Twice the pixels: .02, .26, .5 and 1.6 of a range up to .5.
    let images = shrinklab::nn::op::tensor(vec![0.01, 0.13, 0.25, 0.8], &[1, 1, 1, 4]).unwrap();
    let mut workspace = Workspace::default();
    let trace = network
        .trace(&images, Mode::Eval, Keep::Gradients, &mut workspace)
        .unwrap();
    let dy = shrinklab::nn::op::tensor(vec![1.0, -2.0, 3.0, 4.0], &[1, 4]).unwrap();
    for (through, expected) in [
        (Estimator::StraightThrough, [2.0, -4.0, 6.0, 0.0]),
        (Estimator::Nothing, [0.0; 4]),
        (Estimator::Identity, [2.0, -4.0, 6.0, 8.0]),
    ] {
        let gradients = trace.backward(&dy, Wanted::INPUT.through(through)).unwrap();
        let found = values(&gradients.input.unwrap()).unwrap();
        assert_eq!(found, expected, "{}", through.word());
    }
    // Rounding itself has no slope: a small change of the image changes nothing.
    let moved = shrinklab::nn::op::tensor(vec![0.011, 0.131, 0.25, 0.81], &[1, 1, 1, 4]).unwrap();
    let before = values(trace.logits()).unwrap();
    drop(trace);
    let trace = network
        .trace(&moved, Mode::Eval, Keep::Nothing, &mut workspace)
        .unwrap();
    assert_eq!(values(trace.logits()).unwrap(), before);
}
