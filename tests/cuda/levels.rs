//! Levels that move while a network learns: those that follow the weights, and those whose step is learned.

use std::collections::HashMap;

use candle_core::Device;
use shrinklab::nn::ImageShape;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::{Gradients, Network};
use shrinklab::nn::op::beside;
use shrinklab::nn::op::fake_quant::Levels;
use shrinklab::nn::optimizer::{Optimizer, Rule};
use shrinklab::nn::parameters::{Moves, ParameterRole, RowLevels};

use crate::architectures::built;
use crate::ops::{CLASSES, compare};
use crate::parameters::some;
use crate::training::{Goal, follows_the_cpu, train};
use crate::{assert_near, draw, on_gpu, twin};

const STEP: &str = ".step";

/// Levels of so many bits for a weight, for all of it or for each row: reaching a little less far than its values, so that
/// some of them lie outside.
fn levels(values: &[f32], rows: usize, bits: u32, moves: Moves) -> RowLevels {
    let q_max = (1 << (bits - 1)) - 1;
    let of = |row: &[f32]| Levels {
        scale: 0.8 * row.iter().fold(1e-3_f32, |most, v| most.max(v.abs())) / q_max as f32,
        zero_point: 0,
        q_min: -q_max,
        q_max,
    };
    let rows = values.chunks(values.len() / rows).map(of);
    RowLevels::new(rows.collect()).unwrap().moving(moves)
}

/// Puts the weights of those names on levels that move; the whole of each, or each of its rows.
fn train_on(network: &mut Network, names: &[String], by_row: bool, bits: u32, moves: Moves) {
    for name in names {
        let parameter = network.parameters().get(name).unwrap();
        let rows = if by_row { parameter.value.dims()[0] } else { 1 };
        let values = network.parameters().values(name).unwrap();
        let levels = levels(&values, rows, bits, moves);
        network.parameters_mut().train_on(name, levels).unwrap();
    }
    if moves == Moves::Learn {
        network.learn_steps().unwrap();
    }
}

/// Right behind the normalization, whose bits are the same on both sides; and with no gradient of the images to go on.
#[test]
fn a_learned_scale_of_activations_has_the_cpus_gradient() {
    on_gpu(|device| {
        for (number, (q_min, q_max)) in [(-7, 7), (0, 15), (0, 255)].into_iter().enumerate() {
            let shape = ImageShape {
                channels: [1, 3, 3][number],
                height: [7, 40, 64][number],
                width: [6, 33, 64][number],
            };
            let levels = Layer::FakeQuant {
                scale: 1.5 / (q_max - q_min) as f32,
                zero_point: 0,
                q_min,
                q_max,
            };
            let normalize = Layer::Normalize {
                mean: vec![0.5; shape.channels],
                std: vec![0.25; shape.channels],
            };
            let layers = vec![
                ("normalize", normalize),
                ("rounded", levels),
                ("flatten", Layer::Flatten),
                ("last", Layer::linear(CLASSES)),
            ];
            let mut network = Network::chain("learned", shape, CLASSES, layers, 1).unwrap();
            network.learn_steps().unwrap();
            // What was learned counts, and what the layer began with does not.
            let scale = [1.7 / (q_max - q_min) as f32];
            let parameters = network.parameters_mut();
            parameters.set(&format!("rounded{STEP}"), &scale).unwrap();
            compare(&network, device, &format!("levels {q_min} to {q_max}"));
        }
    });
}

/// What an optimizer remembers, by name.
fn remembered(optimizer: &Optimizer) -> HashMap<String, Vec<f32>> {
    let bytes = optimizer.to_safetensors().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let of = |bytes: &[u8]| {
        let floats = bytes.as_chunks::<4>().0.iter();
        floats.map(|b| f32::from_le_bytes(*b)).collect()
    };
    let all = file.tensors().into_iter();
    all.map(|(name, view)| (name, of(view.data()))).collect()
}

/// Steps down the same drawn gradients; the optimizer as it is then.
fn stepped(network: &mut Network, rule: Rule, steps: u64) -> Optimizer {
    let mut optimizer = Optimizer::new(rule, network.parameters(), 0.9, 1e-2).unwrap();
    for step in 0..steps {
        let drawn = network.parameters().iter().enumerate().map(|(at, p)| {
            let n = p.value.elem_count();
            let drawn = draw("gradient", 1000 * step + at as u64, n, -1.0, 1.0);
            let has = p.role.trains() && p.role != ParameterRole::Step;
            has.then(|| beside(&p.value, &drawn).unwrap())
        });
        let gradients = Gradients::of_parameters(drawn.collect());
        optimizer
            .step(network.parameters_mut(), &gradients, 0.003)
            .unwrap();
    }
    optimizer
}

/// From the same gradients, for weights in every order: unrounded values, what is remembered of them, steps, and levels
/// as they are kept. A row of zeros has the least scale.
fn moves_as_on_the_cpu(moves: Moves, device: &Device) {
    let mut plain = built("mobilenet-v1", 1);
    let names: Vec<_> = some(&plain).into_iter().map(|(name, _)| name).collect();
    let names: Vec<_> = names
        .into_iter()
        .filter(|n| n.ends_with("weight"))
        .collect();
    let of_depthwise = names.iter().find(|name| {
        let dims = plain.parameters().get(name).unwrap().value.dims();
        dims.len() == 4 && dims[1] == 1
    });
    let (pruned, n) = of_depthwise
        .map(|name| (name.clone(), plain.parameters().values(name).unwrap().len()))
        .unwrap();
    let mask: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i >= 9))).collect();
    plain.parameters_mut().set_mask(&pruned, &mask).unwrap();
    for (rule, by_row) in [(Rule::Sgd, false), (Rule::Sgd, true), (Rule::AdamW, true)] {
        let what = format!("{moves:?}, {rule:?}, by row: {by_row}");
        let mut here = plain.duplicate().unwrap();
        train_on(&mut here, &names, by_row, 8, moves);
        let mut there = twin(&here, device);
        let expected = remembered(&stepped(&mut here, rule, 5));
        let found = remembered(&stepped(&mut there, rule, 5));
        assert_eq!(found.len(), expected.len());
        for (name, expected) in &expected {
            let what = format!("{what}: {name}");
            assert_near(&found[name], expected, 1e-5, 1e-6, &what);
        }
        let copy = there.duplicate().unwrap();
        let written = there.parameters().to_safetensors().unwrap();
        assert!(copy.parameters().to_safetensors().unwrap() == written);
        let mut loaded = plain.duplicate().unwrap();
        train_on(&mut loaded, &names, by_row, 8, moves);
        loaded.parameters_mut().load_safetensors(&written).unwrap();
        there.settle_steps().unwrap();
        here.settle_steps().unwrap();
        for name in &names {
            let of = |network: &Network| {
                let parameter = network.parameters().get(name).unwrap();
                let levels = parameter.levels.clone().unwrap();
                let values = network.parameters().values(name).unwrap();
                let mut again = values.clone();
                levels.simulate(&mut again);
                assert_eq!(values, again, "{what}: {name} is on its levels");
                let scales = levels.all().iter().map(|levels| levels.scale);
                (scales.collect::<Vec<_>>(), values)
            };
            let (expected, found) = (of(&here), of(&there));
            for (e, f) in expected.0.iter().zip(&found.0) {
                assert!((e - f).abs() <= 1e-5 * e, "{what}: {name}: {f} for {e}");
            }
            assert_eq!(of(&copy), found, "{what}: the copy's {name}");
            assert_eq!(of(&loaded), found, "{what}: the written {name}");
            // Now and then a value lies between two levels, and goes the other way.
            assert_near(&found.1, &expected.1, 3e-3, 0.0, &what);
        }
        assert_eq!(there.parameters().len(), plain.parameters().len());
    }
}

#[test]
fn steps_of_weights_are_learned_as_on_the_cpu() {
    on_gpu(|device| moves_as_on_the_cpu(Moves::Learn, device));
}

#[test]
fn levels_follow_the_weights_as_on_the_cpu() {
    on_gpu(|device| moves_as_on_the_cpu(Moves::Follow, device));
}

#[test]
fn levels_that_stay_are_the_cpus() {
    on_gpu(|device| moves_as_on_the_cpu(Moves::Stay, device));
}

/// A step never falls to 0.
#[test]
fn a_step_stays_above_zero() {
    on_gpu(|device| {
        let mut network = built("lenet5", 1);
        let names: Vec<_> = some(&network).into_iter().map(|(name, _)| name).collect();
        train_on(&mut network, &names[..1], false, 4, Moves::Learn);
        let step = format!("{}{STEP}", names[0]);
        let mut there = twin(&network, device);
        for network in [&mut network, &mut there] {
            network.parameters_mut().set(&step, &[-1.0]).unwrap();
            stepped(network, Rule::Sgd, 1);
            let found = network.parameters().values(&step).unwrap();
            assert_eq!(found, [shrinklab::nn::op::fake_quant::LEAST_SCALE]);
        }
    });
}

/// A network whose activations and weights are rounded.
pub(crate) fn rounded(by_row: bool, moves: Moves) -> Network {
    let mut network = built("lenet5", 1);
    let relus = network.nodes().iter();
    let relus = relus.filter(|node| matches!(node.layer, Layer::Relu));
    let relus: Vec<_> = relus.map(|node| node.name.clone()).collect();
    for name in &relus {
        let levels = Layer::FakeQuant {
            scale: 0.02,
            zero_point: 0,
            q_min: 0,
            q_max: 255,
        };
        let own = format!("{name}.levels");
        network.insert_after(name, &own, levels).unwrap();
    }
    let weights = network.parameters().iter();
    let weights = weights.filter(|p| p.role == ParameterRole::Weight);
    let names: Vec<_> = weights.map(|p| p.name.clone()).collect();
    train_on(&mut network, &names, by_row, 8, moves);
    network
}

/// Where a value lies between two levels, a last bit decides: a weight or an activation is a level off now and then. AdamW
/// steps as far for the smallest gradients as for the largest ones.
#[test]
fn a_network_on_levels_that_move_learns_as_on_the_cpu() {
    on_gpu(|device| {
        for moves in [Moves::Learn, Moves::Follow] {
            for (rule, by_row) in [(Rule::Sgd, false), (Rule::Sgd, true), (Rule::AdamW, true)] {
                let network = rounded(by_row, moves);
                let what = format!("{moves:?}, {rule:?}, by row: {by_row}");
                let tolerance = if rule == Rule::Sgd { 2e-3 } else { 1e-2 };
                follows_the_cpu(&network, rule, &Goal::PLAIN, tolerance, device, &what);
            }
        }
    });
}

/// Ten steps, all of it written, and ten more: those that a training without a break takes, to the last bit.
#[test]
fn a_training_on_levels_that_move_goes_on_from_its_files() {
    on_gpu(|device| {
        for moves in [Moves::Learn, Moves::Follow] {
            let made = || twin(&rounded(true, moves), device);
            let optimizer =
                |network: &Network| Optimizer::new(Rule::Sgd, network.parameters(), 0.9, 1e-3);
            let mut whole = made();
            let mut of_whole = optimizer(&whole).unwrap();
            train(&mut whole, &mut of_whole, &Goal::PLAIN, 0..10).unwrap();
            let weights = whole.parameters().to_safetensors().unwrap();
            let state = of_whole.to_safetensors().unwrap();
            let mut again = made();
            let mut of_again = optimizer(&again).unwrap();
            again.parameters_mut().load_safetensors(&weights).unwrap();
            of_again.load_safetensors(&state).unwrap();
            let later = train(&mut whole, &mut of_whole, &Goal::PLAIN, 10..20).unwrap();
            let found = train(&mut again, &mut of_again, &Goal::PLAIN, 10..20).unwrap();
            assert_eq!(found, later, "{moves:?}");
            let written = |network: &Network| network.parameters().to_safetensors().unwrap();
            assert!(written(&again) == written(&whole), "{moves:?}");
        }
    });
}
