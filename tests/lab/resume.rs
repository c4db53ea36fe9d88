//! An interrupted training ends as one that was not: the same facts, and the same bytes in the cache, for each kind of
//! recipe. Interrupted is: nobody listens any more between two reports of an epoch, as when the process is killed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use shrinklab::event::{Event, Outcome};
use shrinklab::lab;
use shrinklab::lab::cache::Cache;
use shrinklab::lab::context::{Control, Sink};
use shrinklab::lab::error::{Error, Result as LabResult};
use shrinklab::lab::resume::Resuming;
use shrinklab::lab::run::{Means, run};
use shrinklab::spec::{Branch, CheckedStudy, KnobValue, Method, Setting, Stage, Study};

use super::{assert_repeats, checked};

fn word(word: &str) -> KnobValue {
    KnobValue::Choice(word.into())
}

/// Recipes that differ in all that is remembered from step to step.
fn recipes() -> Vec<(&'static str, Setting)> {
    let three = || Setting::default().with("epochs", KnobValue::Integer(3));
    let with = |setting: Setting, knobs: &[(&str, KnobValue)]| {
        knobs.iter().fold(setting, |setting, (id, value)| {
            setting.with(id, value.clone())
        })
    };
    vec![
        ("sgd", three()),
        (
            "one-cycle, moved images, smoothed labels",
            with(
                three(),
                &[
                    ("schedule", word("one-cycle")),
                    ("cycle-momentum", KnobValue::Flag(true)),
                    ("augmentation", word("crop-flip")),
                    ("label-smoothing", KnobValue::Real(0.1)),
                ],
            ),
        ),
        (
            "adamw",
            with(
                three(),
                &[
                    ("optimizer", word("adamw")),
                    ("learning-rate", KnobValue::Real(0.002)),
                    ("weight-decay", KnobValue::Real(0.01)),
                    ("schedule", word("linear")),
                    ("augmentation", word("crop")),
                ],
            ),
        ),
        (
            "on attacked images",
            with(
                three(),
                &[
                    ("adversarial", word("pgd")),
                    ("attack-steps", KnobValue::Integer(2)),
                ],
            ),
        ),
        (
            "stopped early",
            with(
                three(),
                &[
                    ("epochs", KnobValue::Integer(9)),
                    // So fast that the validation loss does not keep falling.
                    ("learning-rate", KnobValue::Real(0.3)),
                    ("patience", KnobValue::Integer(1)),
                    ("schedule", word("step")),
                ],
            ),
        ),
    ]
}

/// One network and one branch that is fine-tuned with a mask; only what a seed determines is measured.
fn study(training: Setting) -> CheckedStudy {
    let mut study = Study {
        seed: 5,
        threads: Some(2),
        train_limit: Some(400),
        test_limit: Some(50),
        ..Study::default()
    };
    study.references[0].training = training.with("batch", KnobValue::Integer(24));
    study.references[0].twins = 0;
    study.references[0].branches = vec![Branch {
        stages: vec![
            Stage::Compress(Method::plain("magnitude-pruning")),
            Stage::FineTune(Setting::default().with("epochs", KnobValue::Integer(2))),
        ],
        ..Branch::default()
    }];
    study.suite.probes = vec![Method::plain("accuracy")];
    checked(study)
}

/// A listener that goes away after so many reports.
#[derive(Clone)]
struct Leaving {
    heard: Rc<RefCell<Vec<Event>>>,
    reports: usize,
}

impl Sink for Leaving {
    fn state(&mut self, event: Event) -> LabResult<()> {
        if let Event::StepsTrained { .. } = event {
            if self.reports == 0 {
                return Err(Error::Cancelled);
            }
            self.reports -= 1;
        } else if self.reports == 0 {
            return Err(Error::Cancelled);
        }
        self.heard.borrow_mut().push(event);
        Ok(())
    }
}

fn go(study: &CheckedStudy, cache: &Path, past: Vec<Event>, reports: usize) -> Vec<Event> {
    let means = Means {
        folders: Vec::new(),
        cache: Cache::at(cache.to_owned()),
        save: None,
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    // The pool's thread makes the listener, since a list that is shared within a thread cannot be sent to another.
    pool.install(|| {
        let listener = Leaving {
            heard: Rc::default(),
            reports,
        };
        let mut sink = Resuming::new(past, listener.clone());
        let mut control = Control::default();
        let outcome = run(study, &lab::catalog(), &means, &mut sink, &mut control);
        let completes = reports == usize::MAX;
        assert_eq!(outcome == Outcome::Completed, completes, "{outcome:?}");
        listener.heard.take()
    })
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn every_recipe_goes_on_as_if_it_had_not_been_interrupted() {
    for (name, training) in recipes() {
        let study = study(training);
        let whole = tempfile::tempdir().unwrap();
        let facts = go(&study, whole.path(), Vec::new(), usize::MAX);
        let early = facts
            .iter()
            .any(|fact| matches!(fact, Event::StoppedEarly { .. }));
        assert_eq!(early, name == "stopped early");
        let bytes = files(whole.path());
        // 15 steps an epoch are three reports: in the first epoch, in the second, and while the branch is fine-tuned.
        let reports = facts
            .iter()
            .filter(|fact| matches!(fact, Event::StepsTrained { .. }))
            .count();
        for interrupted in [1, 4, reports - 2] {
            let folder = tempfile::tempdir().unwrap();
            let past = go(&study, folder.path(), Vec::new(), interrupted);
            let rest = go(&study, folder.path(), past.clone(), usize::MAX);
            assert!(!past.is_empty() && !rest.is_empty());
            assert_repeats(&[past, rest].concat(), &facts);
            let again = files(folder.path());
            assert!(
                again == bytes,
                "{name}, interrupted after {interrupted} reports"
            );
        }
    }
}
