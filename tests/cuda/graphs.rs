//! Work that comes again and again is asked for by CUDA graphs, and nothing of it is otherwise.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{Device, Tensor};
use shrinklab::lab::attack::pgd::{Pgd, Start};
use shrinklab::lab::context::{Context, Control, Unobserved};
use shrinklab::lab::train::{self as lab, FeatureLoss, Features, Lesson, Life, Teacher, Training};
use shrinklab::nn::device::{graphs, set_graphs};
use shrinklab::nn::loss::{self, KlDirection, Labels, Objective};
use shrinklab::nn::network::{Network, Wanted, Workspace};
use shrinklab::nn::op::add::sum_up;
use shrinklab::nn::op::{tensor, to_device, values};
use shrinklab::nn::optimizer::{Optimizer, Rule};
use shrinklab::nn::parameters::{Moves, Parameter};
use shrinklab::nn::rng::Rng;
use shrinklab::nn::{Mode, Result};
use shrinklab::spec::{KnobValue, NetworkId};

use crate::architectures::built;
use crate::levels::rounded;
use crate::loops::{data, loop_of, recipe};
use crate::{on_gpu, pixels, twin};

const BATCH: usize = 8;

fn launched(device: &Device) -> u64 {
    let graphs = graphs(device).unwrap().unwrap();
    assert_eq!(graphs.without, None);
    graphs.launched
}

/// Calls `work` with and without graphs: the same comes out, bit for bit. Yields how many graphs were launched.
fn same<T: PartialEq + std::fmt::Debug>(device: &Device, work: impl Fn() -> T) -> u64 {
    set_graphs(device, false).unwrap();
    let expected = work();
    assert!(graphs(device).unwrap().unwrap().without.is_some());
    set_graphs(device, true).unwrap();
    let before = launched(device);
    let found = work();
    assert!(found == expected, "{found:?}\ninstead of\n{expected:?}");
    launched(device) - before
}

fn weights(network: &Network) -> Vec<f32> {
    let all = network.parameters().iter();
    all.flat_map(|p| values(&p.value).unwrap()).collect()
}

/// A step on drawn images; its loss is read later.
fn step(
    network: &mut Network,
    optimizer: &mut Optimizer,
    workspace: &mut Workspace,
    number: u64,
    batch: usize,
    rate: f64,
) -> Result<loss::Found> {
    let device = network.device();
    let images = to_device(&pixels(number, batch, network.input()), &device)?;
    let labels = (0..batch as u64).map(|i| ((i * 7 + number) % 10) as u32);
    let labels = Labels::new(labels.collect(), &device)?;
    workspace.repeat(&device, batch, |workspace| {
        let trace = network.forward(&images, Mode::Train, workspace)?;
        let objective = if network.is_tree() {
            Objective::Expected {
                smoothing: 0.0,
                teacher: None,
                temperature: 1.0,
                weight: 0.0,
            }
        } else {
            Objective::Labels { smoothing: 0.0 }
        };
        let loss = loss::of_step(objective, trace.logits(), &labels, batch)?;
        let gradients = trace.backward(&loss.d_logits, Wanted::PARAMETERS)?;
        let statistics = trace.statistics();
        drop(trace);
        network.commit(&statistics)?;
        optimizer.step(network.parameters_mut(), &gradients, rate)?;
        workspace.recycle(gradients);
        Ok(loss.found)
    })
}

fn read(found: &[loss::Found]) -> Vec<f64> {
    found.iter().map(|found| found.read().unwrap().0).collect()
}

#[test]
fn steps_become_graphs_after_a_few_and_give_the_same_bits() {
    on_gpu(|device| {
        let mut networks: Vec<(&str, Network, u64)> = [
            ("lenet5", 12),
            ("cnn8", 8),
            ("resnet18", 6),
            ("mobilenet-v1", 6),
            ("soft-decision-tree", 8),
        ]
        .map(|(name, steps)| (name, built(name, 1), steps))
        .into();
        for moves in [Moves::Stay, Moves::Follow, Moves::Learn] {
            networks.push(("on levels", rounded(true, moves), 8));
        }
        for (name, network, steps) in networks {
            for rule in [Rule::Sgd, Rule::AdamW] {
                let launched = same(device, || {
                    let mut network = twin(&network, device);
                    let mut optimizer =
                        Optimizer::new(rule, network.parameters(), 0.9, 1e-3).unwrap();
                    let mut workspace = Workspace::new();
                    let found: Vec<_> = (0..steps)
                        .map(|at| {
                            // Other images at other places, another rate: a graph is told them.
                            let rate = 1e-3 / (at + 1) as f64;
                            optimizer.set_momentum(0.9 - at as f64 / 100.0);
                            let optimizer = &mut optimizer;
                            step(&mut network, optimizer, &mut workspace, at, BATCH, rate).unwrap()
                        })
                        .collect();
                    (read(&found), weights(&network))
                });
                assert!(
                    launched >= steps - 4 && launched < steps,
                    "{name}, {rule:?}: {launched}"
                );
            }
        }
    });
}

#[test]
fn what_changes_between_steps_is_done() {
    on_gpu(|device| {
        let (network, other) = (built("cnn8", 1), built("cnn8", 2));
        let launched = same(device, || {
            let (mut network, mut other) = (twin(&network, device), twin(&other, device));
            let optimizer = |network: &Network| {
                Optimizer::new(Rule::Sgd, network.parameters(), 0.9, 1e-3).unwrap()
            };
            let mut mine = optimizer(&network);
            let mut others = optimizer(&other);
            let mut workspace = Workspace::new();
            let mut found = Vec::new();
            for at in 0..36_u64 {
                if at == 8 {
                    // Half of the weights are masked.
                    let parameters = network.parameters_mut();
                    let is_weight = |p: &&Parameter| p.role.decays();
                    let weight = parameters.iter().find(is_weight).unwrap();
                    let (name, n) = (weight.name.clone(), weight.value.elem_count());
                    let mask: Vec<f32> = (0..n).map(|i| (i % 2) as f32).collect();
                    parameters.set_mask(&name, &mask).unwrap();
                    parameters.apply_masks().unwrap();
                }
                // Batches of other sizes, one and two in a row.
                let batch = if at % 9 == 4 || (20..22).contains(&at) {
                    3
                } else {
                    BATCH
                };
                // Another network in the same memory, now and then.
                let (network, optimizer) = if (26..29).contains(&at) {
                    (&mut other, &mut others)
                } else {
                    (&mut network, &mut mine)
                };
                found.push(step(network, optimizer, &mut workspace, at, batch, 1e-3).unwrap());
                if at == 14 {
                    // What training does between two epochs takes memory of the same workspace.
                    let images = pixels(1, 20, network.input());
                    let trace = network
                        .forward(&images, Mode::Eval, &mut workspace)
                        .unwrap();
                    values(trace.logits()).unwrap();
                }
            }
            (read(&found), weights(&network), weights(&other))
        });
        assert!(launched >= 8, "{launched}");
    });
}

#[test]
fn work_that_is_interrupted_is_done_in_its_order() {
    on_gpu(|device| {
        let on = |values: Vec<f32>| to_device(&tensor(values, &[4]).unwrap(), device).unwrap();
        let launched = same(device, || {
            let (sum, one) = (on(vec![0.0; 4]), on(vec![1.0, 2.0, 3.0, 4.0]));
            let mut workspace = Workspace::new();
            let mut said = Vec::new();
            for at in 0..10 {
                let read = workspace.repeat(device, 1, |_| {
                    sum_up(&sum, &one)?;
                    // From the host, and back to it.
                    sum_up(&sum, &on(vec![at as f32; 4]))?;
                    let read = values(&sum)?;
                    sum_up(&sum, &one)?;
                    Ok(read)
                });
                said.push(read.unwrap());
            }
            (said, values(&sum).unwrap())
        });
        assert_eq!(launched, 0);
    });
}

#[test]
fn work_that_fails_leaves_nothing_behind() {
    on_gpu(|device| {
        let on = |values: Vec<f32>| to_device(&tensor(values, &[2]).unwrap(), device).unwrap();
        let (sum, one) = (on(vec![0.0; 2]), on(vec![1.0, 10.0]));
        let mut workspace = Workspace::new();
        let add = |workspace: &mut Workspace, fails: bool| {
            workspace.repeat(device, 1, |_| {
                sum_up(&sum, &one)?;
                sum_up(&sum, &one)?;
                if fails {
                    return Err(candle_core::Error::Msg("no more".to_owned()));
                }
                Ok(())
            })
        };
        let before = launched(device);
        for _ in 0..5 {
            add(&mut workspace, false).unwrap();
        }
        assert!(launched(device) > before);
        assert_eq!(values(&sum).unwrap(), [10.0, 100.0]);
        // A graph was ready: of work that fails then nothing is asked for.
        assert_eq!(
            add(&mut workspace, true).unwrap_err().to_string(),
            "no more"
        );
        assert_eq!(values(&sum).unwrap(), [10.0, 100.0]);
        for _ in 0..5 {
            add(&mut workspace, false).unwrap();
        }
        assert_eq!(values(&sum).unwrap(), [20.0, 200.0]);
    });
}

#[test]
fn attacks_become_graphs() {
    on_gpu(|device| {
        let network = built("cnn8", 1);
        let pgd = Pgd {
            epsilon: 0.1,
            step: 0.02,
            steps: 7,
            start: Start::Uniform,
        };
        let launched = same(device, || {
            let network = twin(&network, device);
            let mut workspace = Workspace::new();
            let attacked = |batch: u64, workspace: &mut Workspace| -> Vec<f32> {
                let images = pixels(batch, BATCH, network.input());
                let images: Tensor = to_device(&images, device).unwrap();
                let labels = Labels::new(vec![3; BATCH], device).unwrap();
                let mut streams = |at: usize| Rng::stream(batch, "attack", &[at as u64]);
                let found = pgd.attack(&network, &images, &labels, &mut streams, workspace);
                values(&found.unwrap()).unwrap()
            };
            [1, 2, 3].map(|batch| attacked(batch, &mut workspace))
        });
        // All but the first steps.
        assert!(launched >= 3 * 7 - 5, "{launched}");
    });
}

#[test]
fn the_labs_training_is_asked_for_by_graphs_and_says_the_same() {
    on_gpu(|device| {
        let data = data(300);
        for adversarial in [false, true] {
            let mut knobs = vec![
                ("batch", KnobValue::Integer(16)),
                ("epochs", KnobValue::Integer(2)),
                ("learning-rate", KnobValue::Real(1e-3)),
            ];
            if adversarial {
                knobs.push(("adversarial", KnobValue::Choice("pgd".into())));
                knobs.push(("attack-steps", KnobValue::Integer(2)));
            }
            let recipe = recipe(&knobs);
            assert_eq!(recipe.adversarial.is_some(), adversarial);
            let network = built("lenet5", 1);
            let launched = same(device, || {
                let mut network = twin(&network, device);
                let (ended, said) = loop_of(&mut network, &data, &recipe);
                ended.unwrap();
                (format!("{said:?}"), weights(&network))
            });
            // Of some thirty steps all but those at the beginnings and ends of epochs.
            assert!(launched >= 15, "{adversarial}: {launched}");
        }
    });
}

/// What is learnt beside labels: feature maps of a teacher, or smoothed labels in a teacher's place.
#[test]
fn lessons_are_asked_for_by_graphs_too() {
    on_gpu(|device| {
        let data = data(300);
        let recipe = recipe(&[
            ("batch", KnobValue::Integer(16)),
            ("epochs", KnobValue::Integer(1)),
            ("learning-rate", KnobValue::Real(1e-3)),
        ]);
        let (student, teacher) = (built("lenet5", 1), built("lenet5", 2));
        let lessons = [
            Some(FeatureLoss::AttentionTransfer),
            Some(FeatureLoss::FitNets),
            None,
        ];
        for features in lessons {
            let launched = same(device, || {
                let (mut student, teacher) = (twin(&student, device), twin(&teacher, device));
                let lesson = Lesson {
                    teacher: match features {
                        Some(_) => Teacher::Network(&teacher),
                        None => Teacher::SmoothedLabels(0.1),
                    },
                    temperature: 4.0,
                    teacher_weight: 0.5,
                    direction: KlDirection::Forward,
                    features: features.map(|loss| Features { loss, weight: 1.0 }),
                    labels_on_clean: false,
                };
                let training = Training {
                    data: &data,
                    recipe: &recipe,
                    objective: lab::Objective::Distill(lesson),
                    order_seed: 1,
                    life: Life::default(),
                    adjust: None,
                };
                let (mut said, mut control) = (Vec::new(), Control::default());
                let mut cx = Context::new(&mut said, &mut control, NetworkId(0));
                lab::train(&mut student, &training, &mut Unobserved, &mut cx).unwrap();
                (format!("{said:?}"), weights(&student))
            });
            assert!(launched >= 8, "{features:?}: {launched}");
        }
    });
}

/// Whoever catches a panic goes on with the same device.
#[test]
fn work_that_panics_holds_nothing_back() {
    on_gpu(|device| {
        let on = |values: Vec<f32>| to_device(&tensor(values, &[2]).unwrap(), device).unwrap();
        let (sum, one) = (on(vec![0.0; 2]), on(vec![1.0, 10.0]));
        let mut workspace = Workspace::new();
        let mut add = |panics: bool| {
            workspace.repeat(device, 1, |_| {
                sum_up(&sum, &one)?;
                assert!(!panics, "as asked");
                sum_up(&sum, &one)
            })
        };
        for _ in 0..5 {
            add(false).unwrap();
        }
        let died = catch_unwind(AssertUnwindSafe(|| add(true)));
        assert!(died.is_err());
        assert_eq!(values(&sum).unwrap(), [10.0, 100.0]);
        let before = launched(device);
        for _ in 0..5 {
            add(false).unwrap();
        }
        assert!(launched(device) > before);
        assert_eq!(values(&sum).unwrap(), [20.0, 200.0]);
    });
}
