//! The live knob: settings are tried between steps and while the lab waits, and change nothing of the study.

use crossbeam_channel::unbounded;
use shrinklab::event::{Event, Outcome, Trial};
use shrinklab::lab;
use shrinklab::lab::cache::Cache;
use shrinklab::lab::context::Control;
use shrinklab::lab::run::{Means, run};
use shrinklab::measurement::{Measurement, Metric};
use shrinklab::spec::{Branch, CheckedStudy, Command, KnobValue, Method, NetworkId, Stage, Wish};

use super::{Reacting, assert_repeats, checked, events, small};

/// A setting as the screen asks for it.
fn wish(study: &CheckedStudy, id: &str, knob: &str, value: &str) -> Command {
    let mut method = Method::plain(id);
    let value = KnobValue::parse(value);
    method.setting.0.insert(knob.to_owned(), value);
    let branch = Branch {
        stages: vec![Stage::Compress(method)],
        ..Branch::default()
    };
    let training = &study.study().references[0].training;
    let mut branches = branch.check(&lab::catalog(), training).unwrap();
    let Some(Stage::Compress(method)) = branches.remove(0).stages.pop() else {
        panic!("the stage compresses");
    };
    Command::Try(Wish {
        reference: 0,
        method,
        severity: 3,
    })
}

fn trials(said: &[Event]) -> Vec<&Trial> {
    let tried = said.iter().filter_map(|event| match event {
        Event::Tried(trial) => Some(trial),
        _ => None,
    });
    tried.collect()
}

/// Runs the study; whenever something is said, `react` answers commands.
fn listening(study: &CheckedStudy, react: &dyn Fn(&Event) -> Vec<Command>) -> Vec<Event> {
    let (commands, listening) = unbounded();
    let react = |event: &Event, _: usize| {
        for command in react(event) {
            commands.send(command).unwrap();
        }
    };
    let mut sink = Reacting(Vec::new(), &react);
    let mut control = Control::listening(listening);
    let means = Means::default();
    let outcome = run(study, &lab::catalog(), &means, &mut sink, &mut control);
    assert_eq!(outcome, Outcome::Completed);
    sink.0
}

/// After the end several presses are one evaluation, of the last.
#[test]
fn an_idle_lab_tries_the_latest_of_several_presses() {
    let mut study = small();
    study.references[0].branches[0].stages.truncate(1);
    let study = checked(study);
    let said = listening(&study, &|event| match event {
        Event::StudyEnded { .. } => ["0.1", "0.3", "0.5"]
            .map(|ratio| wish(&study, "magnitude-pruning", "ratio", ratio))
            .to_vec(),
        Event::Tried(trial) if trial.method.id == "magnitude-pruning" => {
            vec![wish(&study, "post-training-quantization", "bits", "4")]
        }
        Event::Tried(trial) if trial.problem.is_none() => {
            vec![wish(&study, "self-distillation", "temperature", "4")]
        }
        Event::Tried(_) => vec![Command::Sense { reference: 0 }],
        Event::Sensed { layer, .. } if layer == "fc2" => vec![Command::Finish],
        _ => Vec::new(),
    });
    let layers = said.iter().filter_map(|event| match event {
        Event::Sensed { layer, n: 60, .. } => Some(layer.as_str()),
        _ => None,
    });
    assert_eq!(layers.collect::<Vec<_>>(), ["conv1", "conv2", "fc1", "fc2"]);
    let tried = trials(&said);
    assert_eq!(tried.len(), 3, "{tried:?}");
    // A tenth of 600 training images validates.
    assert_eq!(tried[0].n, 60);
    assert_eq!(tried[0].hits.len(), 6, "clean images and five corruptions");
    assert!(
        tried[0]
            .hits
            .iter()
            .all(|hits| hits.own <= 60 && hits.both <= hits.own)
    );
    assert_eq!(tried[0].strength(), Some(("ratio", 0.5)));
    assert_eq!(
        tried[0].method.setting.0.len(),
        1,
        "what nobody turned is left out"
    );
    assert_eq!((tried[0].distances.len(), tried[1].distances.len()), (2, 3));
    // The branch of the plan is the same setting, and as large.
    let measured = |metric: Metric| {
        let mut found = said.iter().filter_map(|event| match event {
            Event::Measured(found) if found.network == NetworkId(2) => Some(found),
            _ => None,
        });
        found
            .rfind(|found| found.metric == metric)
            .and_then(Measurement::scalar)
    };
    for metric in [
        Metric::Parameters,
        Metric::Nonzero,
        Metric::Macs,
        Metric::BytesWritten,
    ] {
        assert_eq!(tried[0].size(metric), measured(metric), "{metric:?}");
    }
    // Packed 4-bit weights take an eighth of the floats' bytes, biases as they are.
    let floats = 4.0 * tried[1].size(Metric::Parameters).unwrap();
    let share = tried[1].size(Metric::BytesWritten).unwrap() / floats;
    assert!((0.12..0.14).contains(&share), "{share}");
    let problem = tried[2].problem.as_deref().unwrap();
    assert!(problem.contains("self-distillation trains"), "{problem}");
}

/// While a branch is tuned the knob takes its turn at a step, also when training is held, and the study says the same
/// as without.
#[test]
fn a_training_goes_on_as_if_nobody_had_turned() {
    let study = checked(small());
    let (_, alone) = events(&study, Cache::off());
    let steps = std::cell::Cell::new(0);
    let said = listening(&study, &|event| match event {
        // Of the reference, before it is finished: nobody can turn it.
        Event::StepsTrained { network, .. } if network.0 == 0 => {
            vec![wish(&study, "magnitude-pruning", "ratio", "0.1")]
        }
        Event::StepsTrained { network, .. } if network.0 == 2 => {
            steps.set(steps.get() + 1);
            match steps.get() {
                1 => vec![wish(&study, "magnitude-pruning", "ratio", "0.9")],
                2 => vec![Command::Pause],
                _ => Vec::new(),
            }
        }
        Event::Paused => vec![wish(&study, "magnitude-pruning", "ratio", "0.7")],
        Event::Tried(trial) if trial.strength() == Some(("ratio", 0.7)) => vec![Command::Resume],
        Event::StudyEnded { .. } => vec![Command::Finish],
        _ => Vec::new(),
    });
    let found: Vec<f64> = trials(&said)
        .iter()
        .map(|trial| trial.strength().unwrap().1)
        .collect();
    assert_eq!(found, [0.9, 0.7]);
    let place = |wanted: &dyn Fn(&Event) -> bool| said.iter().position(wanted).unwrap();
    let first = place(&|event| matches!(event, Event::Tried(_)));
    let ended = place(
        &|event| matches!(event, Event::StageEnded { network, stage: 1, .. } if network.0 == 2),
    );
    assert!(first < ended, "in the middle of the tuning");
    let rest: Vec<Event> = said
        .into_iter()
        .filter(|event| !event.is_by_hand())
        .collect();
    assert_repeats(&rest, &alone);
}
