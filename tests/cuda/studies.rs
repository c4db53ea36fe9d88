//! A whole study on the device: the same facts as on the CPU.

use std::mem::discriminant;
use std::slice::from_ref;

use shrinklab::event::{Event, Outcome};
use shrinklab::lab;
use shrinklab::lab::cache::Cache;
use shrinklab::lab::context::Control;
use shrinklab::lab::run::{Means, run};
use shrinklab::measurement::{Measurement, Metric};
use shrinklab::spec::{Branch, KnobValue, Method, Stage, Study};

use crate::on_gpu;

/// Few images, one epoch, a twin, a pruned branch that is fine-tuned.
pub(crate) fn small(device: &str) -> Study {
    let mut study = Study {
        seed: 7,
        threads: Some(2),
        train_limit: Some(600),
        test_limit: Some(100),
        device: device.to_owned(),
        ..Study::default()
    };
    study.references[0]
        .training
        .0
        .insert("epochs".into(), KnobValue::Integer(1));
    study.suite.corrupted_images = 20;
    study
}

pub(crate) fn events(study: Study) -> (Outcome, Vec<Event>) {
    let catalog = lab::catalog();
    let study = study.check(&catalog).unwrap();
    let means = Means {
        folders: Vec::new(),
        cache: Cache::off(),
        save: None,
    };
    let mut said = Vec::new();
    let outcome = run(&study, &catalog, &means, &mut said, &mut Control::default());
    (outcome, said)
}

/// Whether two findings agree: TF32 rounds factors to 11 bits, and a class that is a toss-up falls the other way, for up
/// to two of the images.
fn agree(found: &Measurement, expected: &Measurement) -> bool {
    let metric = expected.metric;
    let tossed = expected.n.map_or(0.0, |n| 2.0 / n as f64);
    let (Some(found), Some(expected)) = (found.scalar(), expected.scalar()) else {
        return found.scalar().is_some() == expected.scalar().is_some();
    };
    match metric {
        // What costs is counted, not computed.
        Metric::Macs | Metric::Nonzero => found == expected,
        // One of few images, or whether one distance is below another.
        Metric::NearerThanTwin => true,
        _ => (found - expected).abs() <= tossed + 0.05 * expected.abs().max(1.0),
    }
}

#[test]
fn a_study_says_what_it_says_on_the_cpu() {
    on_gpu(|_| {
        let measured = says_the_same(small);
        assert!(measured > 100, "{measured}");
    });
}

/// Runs a study on both devices, whose facts must agree; how many findings there were.
fn says_the_same(study: impl Fn(&str) -> Study) -> usize {
    let (outcome, there) = events(study("cuda"));
    assert_eq!(outcome, Outcome::Completed);
    let (_, here) = events(study("cpu"));
    // Images whose class falls the other way are shown: of two toss-ups there are two pictures more or less.
    let is_picture = |event: &Event| matches!(event, Event::Pictured(_));
    let [(shown, there), (expected, here)] = [there, here]
        .map(|said| -> (Vec<Event>, Vec<Event>) { said.into_iter().partition(is_picture) });
    let (shown, expected) = (shown.len(), expected.len());
    assert!(
        shown.abs_diff(expected) <= 2 && (shown == 0) == (expected == 0),
        "{shown} pictures instead of {expected}"
    );
    let kinds = |said: &[Event]| said.iter().map(discriminant).collect::<Vec<_>>();
    let mut both = there.iter().zip(&here);
    let apart = both.find(|(t, h)| discriminant(*t) != discriminant(*h));
    assert!(
        kinds(&there) == kinds(&here),
        "other facts, or in another order: {apart:?}"
    );
    let mut measured = 0;
    for (t, h) in there.iter().zip(&here) {
        match (t, h) {
            (Event::Measured(t), Event::Measured(h)) => {
                let same = (t.metric, t.network, t.stage, &t.condition)
                    == (h.metric, h.network, h.stage, &h.condition);
                assert!(same, "{t:?}\n{h:?}");
                measured += 1;
                assert!(t.metric.reads_the_clock() || agree(t, h), "{t:?}\n{h:?}");
            }
            (Event::StepsTrained { .. }, _) => {
                crate::loops::assert_said(from_ref(t), from_ref(h), 0.02);
            }
            _ => {}
        }
    }
    measured
}

/// Few epochs, and of all probes the accuracy alone.
fn compressed_by(id: &str, settings: &[&[(&str, &str)]], device: &str) -> Study {
    let mut study = small(device);
    study.references[0].twins = 0;
    study.suite.probes = vec![Method::plain("accuracy")];
    // Where a loss rises before it falls, as attention transfer's does at this rate, TF32's 11 bits are soon percents.
    study.tf32 = false;
    let branches = settings.iter().map(|knobs| {
        let mut method = Method::plain(id);
        for (knob, word) in *knobs {
            let value = match word.parse() {
                Ok(number) => KnobValue::Integer(number),
                Err(_) => KnobValue::Choice((*word).to_owned()),
            };
            method.setting.0.insert((*knob).into(), value);
        }
        Branch {
            stages: vec![Stage::Compress(method)],
            ..Branch::default()
        }
    });
    study.references[0].branches = branches.collect();
    study
}

#[test]
fn quantization_aware_training_says_what_it_says_on_the_cpu() {
    on_gpu(|_| {
        let steps = |steps, granularity| {
            [
                ("steps", steps),
                ("granularity", granularity),
                ("epochs", "2"),
            ]
        };
        let settings = [
            steps("learned-step", "per-tensor"),
            steps("learned-step", "per-channel"),
            steps("straight-through", "per-tensor"),
            steps("straight-through", "per-channel"),
        ];
        let settings = settings.each_ref().map(|knobs| &knobs[..]);
        let id = "quantization-aware-training";
        let measured = says_the_same(|device| compressed_by(id, &settings, device));
        assert!(measured > 0);
    });
}

#[test]
fn distillation_by_features_says_what_it_says_on_the_cpu() {
    on_gpu(|_| {
        let by = |feature| [("feature", feature), ("epochs", "2")];
        let settings = [by("attention-transfer"), by("fitnets")];
        let settings = settings.each_ref().map(|knobs| &knobs[..]);
        let measured = says_the_same(|device| compressed_by("distillation", &settings, device));
        assert!(measured > 0);
    });
}
