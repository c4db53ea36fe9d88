//! Small studies end to end, without a screen.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

use std::path::Path;

use crossbeam_channel::unbounded;
use shrinklab::event::{Event, Outcome, Said, Warning};
use shrinklab::lab;
use shrinklab::lab::cache::Cache;
use shrinklab::lab::context::Control;
use shrinklab::lab::error::Result as LabResult;
use shrinklab::lab::run::{Means, run};
use shrinklab::lab::worker::{Job, spawn};
use shrinklab::measurement::Metric;
use shrinklab::session::{Header, Session, Writer};
use shrinklab::session::{Recorded, Recorder};
use shrinklab::spec::{
    Branch, CheckedStudy, Command, KnobValue, Method, NetworkId, Setting, Stage, Study,
};
use shrinklab::state::State;

#[path = "lab/knob.rs"]
mod knob;
#[path = "lab/resume.rs"]
mod resume;

/// A study that takes a second or two: few images, one epoch, a twin, a pruned branch that is fine-tuned.
fn small() -> Study {
    let mut study = Study {
        seed: 7,
        threads: Some(2),
        train_limit: Some(600),
        test_limit: Some(100),
        ..Study::default()
    };
    study.references[0]
        .training
        .0
        .insert("epochs".into(), KnobValue::Integer(1));
    study.suite.corrupted_images = 20;
    study
}

fn checked(study: Study) -> CheckedStudy {
    study.check(&lab::catalog()).unwrap()
}

fn events(study: &CheckedStudy, cache: Cache) -> (Outcome, Vec<Event>) {
    let means = Means {
        folders: Vec::new(),
        cache,
        save: None,
    };
    let mut sink = Vec::new();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let outcome = pool.install(|| {
        run(
            study,
            &lab::catalog(),
            &means,
            &mut sink,
            &mut Control::default(),
        )
    });
    (outcome, sink)
}

fn assert_repeats(again: &[Event], first: &[Event]) {
    assert_eq!(again.len(), first.len());
    for (place, (a, b)) in again.iter().zip(first).enumerate() {
        assert!(a.repeats(b), "fact {place} differs:\n{a:?}\n{b:?}");
    }
}

#[test]
fn the_same_seed_says_the_same_from_the_cache_or_not() {
    let study = checked(small());
    let folder = tempfile::tempdir().unwrap();
    let (outcome, first) = events(&study, Cache::off());
    assert_eq!(outcome, Outcome::Completed);
    let (_, filling) = events(&study, Cache::at(folder.path().to_owned()));
    assert_repeats(&filling, &first);
    let (_, restored) = events(&study, Cache::at(folder.path().to_owned()));
    assert_repeats(&restored, &first);
    let mut other = small();
    other.seed = 8;
    let (_, other) = events(&checked(other), Cache::off());
    let losses = |events: &[Event]| {
        events
            .iter()
            .filter_map(|event| match event {
                Event::StepsTrained { loss_mean, .. } => Some(loss_mean.0),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_ne!(
        losses(&other),
        losses(&first),
        "another seed is another run"
    );
}

#[test]
fn every_planned_network_is_made_and_measured() {
    let study = checked(small());
    let (_, said) = events(&study, Cache::off());
    let plan = study.plan(&lab::catalog());
    assert_eq!(plan.len(), 3);
    let found = |network: NetworkId, metric: Metric, condition: Option<&str>| {
        said.iter().any(|event| {
            matches!(event, Event::Measured(m) if m.network == network && m.metric == metric
            && m.condition.as_deref() == condition)
        })
    };
    for network in &plan {
        assert!(found(network.id, Metric::Accuracy, None));
        assert!(found(network.id, Metric::Accuracy, Some("gaussian-noise")));
        assert!(found(network.id, Metric::Error, Some("defocus-blur")));
        assert!(found(network.id, Metric::LatencyMsP50, Some("batch-1")));
        assert!(found(network.id, Metric::Macs, None));
    }
    assert!(found(plan[2].id, Metric::Agreement, None));
    assert!(found(plan[2].id, Metric::Js, None));
    assert!(found(plan[2].id, Metric::NearerThanTwin, None));
    let nonzero: Vec<f64> = said
        .iter()
        .filter_map(|event| match event {
            Event::Measured(m) if m.network == plan[2].id && m.metric == Metric::Nonzero => {
                m.scalar()
            }
            _ => None,
        })
        .collect();
    // 225,034 parameters of which 234 are biases: half of the weights and all biases stay.
    assert!(
        nonzero.iter().all(|n| (*n - 112_634.0).abs() <= 234.0),
        "{nonzero:?}"
    );
}

/// Stays away from the real default cache and session folders.
fn job(study: &CheckedStudy, cache: &Path, past: Vec<Event>) -> Job {
    Job {
        study: study.clone(),
        catalog: lab::catalog(),
        means: Means {
            folders: Vec::new(),
            cache: Cache::at(cache.to_owned()),
            save: None,
        },
        past,
    }
}

/// Runs with a recorder; `stop_at` sends a stop once so many records were seen.
fn record(
    path: &Path,
    cache: &Path,
    study: &CheckedStudy,
    stop_at: Option<usize>,
) -> Vec<Recorded> {
    let (writer, past) = if path.exists() {
        let (writer, session) = Writer::resume(path).unwrap();
        (
            writer,
            session.records.into_iter().map(|r| r.event).collect(),
        )
    } else {
        let header = Header::new(study, 2, "cpu", &lab::catalog());
        (Writer::create(path, &header).unwrap(), Vec::new())
    };
    let (facts, said) = crossbeam_channel::bounded::<Said>(64);
    let (app, recorded) = unbounded();
    let (commands, listening) = unbounded();
    let resumed = !past.is_empty();
    let recorder = Recorder::spawn(writer, said, app);
    if resumed {
        facts.send(Said::Fact(Event::Continued)).unwrap();
    }
    let thread = spawn(job(study, cache, past), facts, listening).unwrap();
    commands.send(Command::Finish).unwrap();
    let mut all = Vec::new();
    for one in recorded {
        all.push(one);
        if stop_at == Some(all.len()) {
            commands.send(Command::Stop).unwrap();
        }
    }
    thread.join().unwrap();
    recorder.join();
    all
}

#[test]
fn live_is_replayed() {
    let study = checked(small());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let live = record(&path, folder.path(), &study, None);
    let live: Vec<_> = live
        .into_iter()
        .map(|one| match one {
            Recorded::Record(record) => record,
            Recorded::Failed(problem) => panic!("{problem}"),
        })
        .collect();
    let session = Session::open(&path).unwrap();
    assert_eq!(session.records, live);
    assert_eq!(State::fold(&session.records), State::fold(&live));
    assert_eq!(State::fold(&live).outcome, Some(Outcome::Completed));
    assert!(session.oddities.is_empty());
    assert!(
        State::fold(&live).oddities.is_empty(),
        "{:?}",
        State::fold(&live).oddities
    );
    assert_eq!(session.header.study, *study.study());
}

#[test]
fn a_stopped_study_goes_on_and_ends_as_if_it_had_not_been_stopped() {
    let study = checked(small());
    let (_, whole) = events(&study, Cache::off());
    for stop_at in [2, 8, 60, 150] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        record(&path, folder.path(), &study, Some(stop_at));
        let stopped = State::fold(&Session::open(&path).unwrap().records);
        assert_eq!(
            stopped.outcome,
            Some(Outcome::Cancelled),
            "stopped at {stop_at}"
        );
        record(&path, folder.path(), &study, None);
        let session = Session::open(&path).unwrap();
        let facts: Vec<Event> = session
            .records
            .iter()
            .map(|record| record.event.clone())
            .filter(|event| match event {
                Event::StageEnded { outcome, .. } | Event::StudyEnded { outcome } => {
                    *outcome == Outcome::Completed
                }
                other => !other.is_by_hand(),
            })
            .collect();
        assert_repeats(&facts, &whole);
        let state = State::fold(&session.records);
        assert_eq!(state.outcome, Some(Outcome::Completed));
    }
}

#[test]
fn a_branch_that_diverges_leaves_the_others_running() {
    let mut study = small();
    let tuning = Setting::default()
        .with("epochs", KnobValue::Integer(1))
        .with("batch", KnobValue::Integer(8))
        .with("learning-rate", KnobValue::Real(10.0))
        // Each step multiplies the weights by -9.
        .with("weight-decay", KnobValue::Real(1.0))
        .with("schedule", KnobValue::Choice("constant".into()));
    let pruned = || Stage::Compress(Method::plain("magnitude-pruning"));
    study.references[0].branches = vec![
        Branch {
            stages: vec![pruned(), Stage::FineTune(tuning)],
            ..Branch::default()
        },
        Branch {
            name: "calm".into(),
            stages: vec![pruned()],
            ..Branch::default()
        },
    ];
    let (outcome, said) = events(&checked(study), Cache::off());
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert!(said.iter().any(|event| matches!(
        event,
        Event::Warned {
            network: Some(NetworkId(2)),
            warning: Warning::LossNotFinite { .. }
        }
    )));
    let ended = |network: u32, completed: bool| {
        said.iter().any(|event| {
            matches!(event, Event::StageEnded { network: id, stage, outcome, .. }
            if id.0 == network && (*stage == 1 || !completed) && (*outcome == Outcome::Completed) == completed)
        })
    };
    assert!(ended(2, false), "the diverging branch is stated as failed");
    assert!(ended(3, true), "the other one is made");
}

#[test]
fn a_batch_larger_than_the_data_is_one_sentence() {
    let mut study = small();
    study.train_limit = None;
    study.references[0]
        .training
        .0
        .insert("batch".into(), KnobValue::Integer(20_000));
    let (outcome, _) = events(&checked(study), Cache::off());
    let Outcome::Failed { message } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        message.contains("batch") && message.contains("9000"),
        "{message}"
    );
}

/// A sink that hands a command over when a fact of interest passes.
struct Reacting<'a>(Vec<Event>, &'a dyn Fn(&Event, usize));

impl shrinklab::lab::context::Sink for Reacting<'_> {
    fn state(&mut self, event: Event) -> LabResult<()> {
        (self.1)(&event, self.0.len());
        self.0.push(event);
        Ok(())
    }
}

#[test]
fn a_branch_added_after_the_end_opens_the_study_again() {
    let catalog = lab::catalog();
    let mut study = small();
    study.references[0].branches.clear();
    study.references[0].twins = 0;
    let study = checked(study);
    let plan = study.plan(&catalog);
    let (commands, listening) = unbounded();
    let branch = Branch {
        stages: vec![Stage::Compress(Method::plain("post-training-quantization"))],
        ..Branch::default()
    }
    .check(&catalog, &study.study().references[0].training)
    .unwrap()
    .remove(0);
    let network = study.plan_branch(&catalog, 0, &branch, &plan);
    assert_eq!(network.id, NetworkId(1));
    let ends = std::cell::Cell::new(0);
    let react = |event: &Event, _: usize| {
        if let Event::StudyEnded { .. } = event {
            ends.set(ends.get() + 1);
            let next = if ends.get() == 1 {
                Command::AddBranch {
                    branch: branch.clone(),
                    network: network.clone(),
                }
            } else {
                Command::Finish
            };
            commands.send(next).unwrap();
        }
    };
    let mut sink = Reacting(Vec::new(), &react);
    let mut control = Control::listening(listening);
    let outcome = run(&study, &catalog, &Means::default(), &mut sink, &mut control);
    assert_eq!(outcome, Outcome::Completed);
    assert_eq!(ends.get(), 2);
    let measured = |event: &Event| matches!(event, Event::Measured(m) if m.network == NetworkId(1) && m.metric == Metric::Agreement);
    assert!(sink.0.iter().any(measured));
}
