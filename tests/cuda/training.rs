//! Twenty training steps on both devices; the same bits again; and a loss that is not finite.

use std::ops::Range;

use candle_core::Device;
use shrinklab::nn::loss::{self, KlDirection, Labels, Objective};
use shrinklab::nn::network::{Gradients, Network, Wanted, Workspace};
use shrinklab::nn::op::fake_quant::Levels;
use shrinklab::nn::op::{beside, tensor, to_device, values};
use shrinklab::nn::optimizer::{Optimizer, Rule};
use shrinklab::nn::{Mode, Result};

use crate::architectures::built;
use crate::{assert_same_weights, on_gpu, pixels, twin};

const BATCH: usize = 16;

/// A tenth of the usual. At ten times this rate MobileNet on the CPU alone, its first weights a last bit off, is some
/// percent off within ten steps: where maps are a pixel, one ReLU that flips is a sixteenth of a channel's gradient.
const RATE: f64 = 0.0005;

/// What steps minimize.
pub(crate) struct Goal<'a> {
    smoothing: f64,
    teacher: Option<(&'a Network, KlDirection)>,
}

impl Goal<'_> {
    pub(crate) const PLAIN: Self = Self {
        smoothing: 0.0,
        teacher: None,
    };
}

/// Steps on batches of their own; the loss of each, all read when the last is asked for.
pub(crate) fn train(
    network: &mut Network,
    optimizer: &mut Optimizer,
    goal: &Goal<'_>,
    steps: Range<u64>,
) -> Result<Vec<f64>> {
    let device = network.device();
    let mut workspace = Workspace::new();
    let mut found = Vec::new();
    for step in steps {
        let images = pixels(100 + step, BATCH, network.input());
        let labels = (0..BATCH as u64).map(|i| ((i * 7 + step) % 10) as u32);
        let labels = Labels::new(labels.collect(), &device)?;
        let logits = |teacher: &Network| {
            let mut workspace = Workspace::new();
            let trace = teacher.forward(&images, Mode::Eval, &mut workspace)?;
            Ok::<_, candle_core::Error>(trace.logits().clone())
        };
        let logits = goal
            .teacher
            .map(|(teacher, _)| logits(teacher))
            .transpose()?;
        let objective = match (&logits, goal.teacher) {
            (logits, _) if network.is_tree() => Objective::Expected {
                smoothing: goal.smoothing,
                teacher: logits.as_ref(),
                temperature: 2.0,
                weight: 0.6,
            },
            (Some(logits), Some((_, direction))) => Objective::Teacher {
                logits,
                temperature: 3.0,
                weight: 0.7,
                direction,
            },
            _ => Objective::Labels {
                smoothing: goal.smoothing,
            },
        };
        let trace = network.forward(&images, Mode::Train, &mut workspace)?;
        let loss = loss::of_step(objective, trace.logits(), &labels, BATCH)?;
        let gradients = trace.backward(&loss.d_logits, Wanted::PARAMETERS)?;
        let statistics = trace.statistics();
        drop(trace);
        network.commit(&statistics)?;
        optimizer.step(network.parameters_mut(), &gradients, RATE)?;
        workspace.recycle(gradients);
        found.push(loss.found);
    }
    found.iter().map(|found| Ok(found.read()?.0)).collect()
}

/// Twenty steps here and there: `tolerance` for each loss and for the norm of each parameter.
pub(crate) fn follows_the_cpu(
    network: &Network,
    rule: Rule,
    goal: &Goal<'_>,
    tolerance: f64,
    device: &Device,
    what: &str,
) {
    let run = |network: &mut Network, goal: &Goal<'_>| {
        let mut optimizer = Optimizer::new(rule, network.parameters(), 0.9, 1e-3).unwrap();
        train(network, &mut optimizer, goal, 0..20).unwrap()
    };
    let (mut here, mut there) = (network.duplicate().unwrap(), twin(network, device));
    let expected = run(&mut here, goal);
    let teacher = goal.teacher.map(|(teacher, _)| twin(teacher, device));
    let directions = goal.teacher.map(|(_, direction)| direction);
    let goal = Goal {
        smoothing: goal.smoothing,
        teacher: teacher.as_ref().zip(directions),
    };
    let found = run(&mut there, &goal);
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * expected.abs(),
            "{what}: step {step}: {found} instead of {expected}"
        );
    }
    assert_same_weights(&there, &here, 5.0 * tolerance, what);
}

#[test]
fn lenet5_learns_as_on_the_cpu() {
    on_gpu(|device| {
        let (network, teacher) = (built("lenet5", 1), built("lenet5", 2));
        let smoothed = Goal {
            smoothing: 0.1,
            teacher: None,
        };
        let taught = |direction| Goal {
            smoothing: 0.0,
            teacher: Some((&teacher, direction)),
        };
        // AdamW divides a gradient by its own size: of the smallest ones the last bits decide.
        for (rule, tolerance) in [(Rule::Sgd, 1e-4), (Rule::AdamW, 1e-3)] {
            for (goal, what) in [
                (&Goal::PLAIN, "plain"),
                (&smoothed, "smoothed"),
                (&taught(KlDirection::Forward), "taught"),
                (&taught(KlDirection::Reverse), "taught in reverse"),
            ] {
                let what = format!("{rule:?}, {what}");
                follows_the_cpu(&network, rule, goal, tolerance, device, &what);
            }
        }
    });
}

/// What is masked stays 0, what has levels stays on them.
#[test]
fn pruned_and_quantized_parameters_learn_as_on_the_cpu() {
    on_gpu(|device| {
        let mut network = built("lenet5", 1);
        let names = network.parameters().iter().filter(|p| p.role.decays());
        let names: Vec<_> = names
            .map(|p| (p.name.clone(), p.value.elem_count()))
            .collect();
        let parameters = network.parameters_mut();
        for (name, n) in [&names[0], &names[2]] {
            let mask: Vec<f32> = (0..*n).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
            parameters.set_mask(name, &mask).unwrap();
        }
        let levels = Levels {
            scale: 1.0 / 1024.0,
            zero_point: 0,
            q_min: -128,
            q_max: 127,
        };
        for (name, _) in &names[1..3] {
            parameters.set_levels(name, Some(levels.into())).unwrap();
        }
        for rule in [Rule::Sgd, Rule::AdamW] {
            // Where a value lies between two levels, a last bit decides: a weight is a level off now and then.
            follows_the_cpu(
                &network,
                rule,
                &Goal::PLAIN,
                1e-3,
                device,
                &format!("{rule:?}"),
            );
        }
    });
}

/// The optimizers alone, from the same gradients: what rounds differently is a product and a sum in one.
#[test]
fn optimizers_step_as_on_the_cpu() {
    on_gpu(|device| {
        let mut network = built("mobilenet-v1", 1);
        let first = network.parameters().iter().find(|p| p.role.decays());
        let (name, n) = first
            .map(|p| (p.name.clone(), p.value.elem_count()))
            .unwrap();
        let mask: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
        network.parameters_mut().set_mask(&name, &mask).unwrap();
        for rule in [Rule::Sgd, Rule::AdamW] {
            let (mut here, mut there) = (network.duplicate().unwrap(), twin(&network, device));
            for network in [&mut here, &mut there] {
                let parameters = network.parameters();
                let mut optimizer = Optimizer::new(rule, parameters, 0.9, 1e-2).unwrap();
                for step in 0..5 {
                    let drawn = network.parameters().iter().enumerate().map(|(at, p)| {
                        let n = p.value.elem_count();
                        let drawn = crate::draw("gradient", 1000 * step + at as u64, n, -1.0, 1.0);
                        p.role.trains().then(|| beside(&p.value, &drawn).unwrap())
                    });
                    let gradients = Gradients::of_parameters(drawn.collect());
                    optimizer
                        .step(network.parameters_mut(), &gradients, 0.01)
                        .unwrap();
                }
            }
            let what = format!("{rule:?}");
            for (h, t) in here.parameters().iter().zip(there.parameters()) {
                let (h, t) = (values(&h.value).unwrap(), values(&t.value).unwrap());
                crate::assert_near(&t, &h, 1e-6, 0.0, &what);
            }
        }
    });
}

/// From labels and from a teacher, with the penalty of its questions.
#[test]
fn a_soft_decision_tree_learns_as_on_the_cpu() {
    on_gpu(|device| {
        let [tree, teacher] = [1, 2].map(|seed| built("soft-decision-tree", seed));
        let smoothed = Goal {
            smoothing: 0.1,
            teacher: None,
        };
        let taught = Goal {
            smoothing: 0.0,
            teacher: Some((&teacher, KlDirection::Forward)),
        };
        for (goal, what) in [(&smoothed, "smoothed"), (&taught, "taught")] {
            follows_the_cpu(&tree, Rule::Sgd, goal, 1e-4, device, what);
        }
    });
}

/// Normalization blows rounding up, the more the longer a training goes on.
#[test]
fn networks_that_normalize_learn_as_on_the_cpu() {
    on_gpu(|device| {
        for id in ["resnet18", "mobilenet-v1"] {
            let network = built(id, 1);
            follows_the_cpu(&network, Rule::Sgd, &Goal::PLAIN, 1e-3, device, id);
        }
    });
}

#[test]
fn the_same_steps_give_the_same_bits() {
    on_gpu(|device| {
        for id in ["lenet5", "cnn8", "resnet18", "mobilenet-v1"] {
            let run = || {
                let mut network = twin(&built(id, 1), device);
                let parameters = network.parameters();
                let mut optimizer = Optimizer::new(Rule::Sgd, parameters, 0.9, 1e-3).unwrap();
                let losses = train(&mut network, &mut optimizer, &Goal::PLAIN, 0..3).unwrap();
                (losses, network.parameters().to_safetensors().unwrap())
            };
            assert!(run() == run(), "{id}");
        }
    });
}

/// From a loss that is not finite until somebody takes note of it, no weight, no velocity and no statistic moves.
#[test]
fn a_loss_that_is_not_finite_reaches_nothing() {
    on_gpu(|device| {
        for (id, rule) in [("lenet5", Rule::AdamW), ("mobilenet-v1", Rule::Sgd)] {
            let mut network = twin(&built(id, 1), device);
            let mut optimizer = Optimizer::new(rule, network.parameters(), 0.9, 1e-3).unwrap();
            let state = |network: &Network, optimizer: &Optimizer| {
                let weights = network.parameters().to_safetensors().unwrap();
                // AdamW counts its steps on the host, where nobody knows of the loss yet.
                let remembered = match optimizer {
                    Optimizer::Sgd(sgd) => sgd.to_safetensors().unwrap(),
                    Optimizer::AdamW(_) => Vec::new(),
                };
                (weights, remembered)
            };
            train(&mut network, &mut optimizer, &Goal::PLAIN, 0..2).unwrap();
            let held = state(&network, &optimizer);
            let mut teacher = built(id, 2);
            let last = teacher.parameters().iter().last().unwrap();
            let (name, n) = (last.name.clone(), last.value.elem_count());
            teacher
                .parameters_mut()
                .set(&name, &vec![f32::NAN; n])
                .unwrap();
            let poisoned = Goal {
                smoothing: 0.0,
                teacher: Some((&twin(&teacher, device), KlDirection::Forward)),
            };
            let losses = train(&mut network, &mut optimizer, &poisoned, 2..3).unwrap();
            assert!(losses[0].is_nan(), "{losses:?}");
            assert!(state(&network, &optimizer) == held, "{id}");
            let losses = train(&mut network, &mut optimizer, &Goal::PLAIN, 3..5).unwrap();
            assert!(losses.iter().all(|loss| loss.is_finite()));
            assert!(state(&network, &optimizer) == held, "{id}");
            loss::forgive(device).unwrap();
            train(&mut network, &mut optimizer, &Goal::PLAIN, 5..6).unwrap();
            assert!(state(&network, &optimizer) != held, "{id}");
        }
    });
}

/// Gradients of a teacher's loss come from logits wherever those are.
#[test]
fn losses_of_a_step_are_the_cpus_however_many_classes() {
    on_gpu(|device| {
        for (batch, classes) in [(1, 2), (7, 10), (64, 10), (33, 100), (300, 3)] {
            let draw = |name| crate::draw(name, classes as u64, batch * classes, -4.0, 4.0);
            let shaped = |values| tensor(values, &[batch, classes]).unwrap();
            let (logits, teacher) = (shaped(draw("logits")), shaped(draw("teacher")));
            let labels: Vec<u32> = (0..batch).map(|i| (i * 7 % classes) as u32).collect();
            for kind in 0..6 {
                let [here, there] = [&Device::Cpu, device].map(|device| {
                    let (logits, teacher) = (
                        to_device(&logits, device).unwrap(),
                        to_device(&teacher, device).unwrap(),
                    );
                    let taught = |direction| Objective::Teacher {
                        logits: &teacher,
                        temperature: 2.5,
                        weight: 0.6,
                        direction,
                    };
                    let expected = |teacher| Objective::Expected {
                        smoothing: 0.1,
                        teacher,
                        temperature: 2.5,
                        weight: 0.6,
                    };
                    let objective = match kind {
                        0 => Objective::Labels { smoothing: 0.0 },
                        1 => Objective::Labels { smoothing: 0.2 },
                        2 => taught(KlDirection::Forward),
                        4 => expected(None),
                        5 => expected(Some(&teacher)),
                        _ => taught(KlDirection::Reverse),
                    };
                    let labels = Labels::new(labels.clone(), device).unwrap();
                    let loss = loss::of_step(objective, &logits, &labels, batch + 5).unwrap();
                    (values(&loss.d_logits).unwrap(), loss.found.read().unwrap())
                });
                let what = format!("{batch} x {classes}, kind {kind}");
                crate::assert_near(&there.0, &here.0, 1e-6, 0.0, &what);
                let (h, t) = (here.1, there.1);
                assert!(
                    (h.0 - t.0).abs() <= 1e-9 * h.0.abs() && h.1 == t.1,
                    "{what}: {h:?} {t:?}"
                );
            }
        }
    });
}
