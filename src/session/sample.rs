//! Samples for tests: one of every variant of an event, and a small study from beginning to end.

use super::{FORMAT, Header, VERSION, codec};
use crate::catalog::Catalog;
use crate::event::{
    Cost, DataFacts, Event, KeptChannels, LayerFacts, Outcome, Picture, Pixels, Record, Tally,
    Trial, TrialHits, View, Warning,
};
use crate::measurement::{Direction, MapPoint, Measurement, Metric, Score, Unit, Value, Verdict};
use crate::spec::{
    Branch, Checkpoint, KnobValue, Method, NetworkId, NetworkPlan, Reference, Role, Setting, Stage,
    StageKind, StagePlan, Study, Suite,
};

/// A header with one reference and one branch.
pub(crate) fn header() -> Header {
    Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        app: "0.1.0".to_owned(),
        commit: "0123456789ab".to_owned(),
        seed: 7,
        threads: 2,
        device: "cpu".to_owned(),
        uncached: false,
        study: study(),
        catalog: Catalog::default(),
    }
}

fn study() -> Study {
    Study {
        seed: 7,
        seeds: Vec::new(),
        threads: Some(2),
        device: "cpu".to_owned(),
        tf32: true,
        deterministic: false,
        train_limit: None,
        test_limit: Some(1_000),
        references: vec![Reference {
            dataset: Method::plain("glyphs"),
            architecture: Method::plain("lenet5"),
            from: None,
            resize: None,
            training: Setting::default().with("epochs", KnobValue::Integer(2)),
            seed: None,
            twins: 1,
            same_start_twin: false,
            branches: vec![branch()],
        }],
        suite: Suite::default(),
    }
}

fn branch() -> Branch {
    let mut method = Method::plain("magnitude-pruning");
    method.setting = method.setting.with("ratio", KnobValue::Real(0.5));
    Branch {
        name: String::new(),
        checkpoint: Checkpoint::Last,
        matched: None,
        stages: vec![Stage::Compress(method), Stage::FineTune(Setting::default())],
    }
}

fn plan(id: u32, name: &str, role: Role, stages: &[(StageKind, u32)]) -> NetworkPlan {
    NetworkPlan {
        id: NetworkId(id),
        name: name.to_owned(),
        role,
        reference: 0,
        against: NetworkId(0),
        family: match role {
            Role::Branch => "pruning".to_owned(),
            Role::Reference | Role::Twin | Role::SameStartTwin => String::new(),
        },
        init_seed: 7 + u64::from(id),
        order_seed: 7 + u64::from(id),
        stages: stages
            .iter()
            .map(|(kind, epochs)| StagePlan {
                kind: *kind,
                epochs: *epochs,
            })
            .collect(),
    }
}

fn plans() -> Vec<NetworkPlan> {
    let trained = [(StageKind::Train, 2), (StageKind::Measure, 0)];
    let pruned = [
        (StageKind::Compress, 0),
        (StageKind::FineTune, 1),
        (StageKind::Measure, 0),
    ];
    vec![
        plan(0, "reference", Role::Reference, &trained),
        plan(1, "twin 1", Role::Twin, &trained),
        plan(2, "magnitude pruning 50 %", Role::Branch, &pruned),
    ]
}

/// The sample after this one: a variant without an arm does not compile.
fn after(event: &Event) -> Option<Event> {
    let network = NetworkId(2);
    Some(match event {
        Event::StudyStarted { .. } => Event::BranchAdded {
            reference: 0,
            branch: branch(),
            network: plan(3, "magnitude pruning 50 % (2)", Role::Branch, &[]),
        },
        Event::BranchAdded { .. } => Event::DataReady(data()),
        Event::DataReady(_) => Event::StageStarted {
            network,
            stage: 0,
            kind: StageKind::Compress,
            title: "compress: magnitude pruning \"50 %\"".to_owned(),
            steps: 0,
        },
        Event::StageStarted { .. } => Event::NetworkBuilt {
            network,
            architecture: "lenet5".to_owned(),
            parameters: 156,
            layers: vec![LayerFacts {
                name: "conv1".to_owned(),
                kind: "conv".to_owned(),
                output: vec![6, 24, 24],
                parameters: 156,
                macs: 86_400,
                weights: Some(150),
                nonzero: Some(100),
                bits: Some(8),
                kept: Some(KeptChannels::new(6, [0, 1, 4])),
            }],
        },
        Event::NetworkBuilt { .. } => Event::Progressed {
            network,
            stage: 0,
            done: 1,
            total: 3,
            what: "layer 1\u{1b}[2J\u{202e}".to_owned(),
        },
        Event::Progressed { .. } => steps(network, 0, 10, f64::NAN),
        Event::StepsTrained { .. } => Event::EpochEnded {
            network,
            stage: 0,
            epoch: 1,
            step: 10,
            train: tally(f64::INFINITY, 5),
            validation: tally(0.25, 5),
            best: true,
        },
        Event::EpochEnded { .. } => Event::StoppedEarly {
            network,
            stage: 0,
            epoch: 1,
            waited: 3,
        },
        Event::StoppedEarly { .. } => Event::NetworkCompressed {
            network,
            stage: 0,
            method: Method::plain("magnitude-pruning"),
            counts: Some("weights".to_owned()),
            asked: Some(Score(0.5)),
            reached: Some(Score(0.499_9)),
            removed: None,
            remarks: vec!["zeros are stored".to_owned()],
        },
        Event::NetworkCompressed { .. } => Event::Pictured(Picture {
            network,
            example: 17,
            label: 3,
            shape: [1, 1, 2],
            is_flipped: true,
            views: vec![View {
                condition: Some("pgd".to_owned()),
                severity: None,
                budget: Some(Score(0.1)),
                pixels: Some(Pixels(vec![0, 255])),
                class: 5,
                confidence: Score(0.75),
            }],
        }),
        Event::Pictured(_) => Event::NetworkSaved {
            network,
            file: "networks/reference.safetensors".to_owned(),
            bytes: 901_234,
        },
        Event::NetworkSaved { .. } => Event::Measured(Measurement {
            condition: Some("defocus-blur".to_owned()),
            severity: Some(5),
            interval: Some((Score(0.1), Score(0.3))),
            against: Some(NetworkId(0)),
            ..scalar(network, 2, Metric::Accuracy, 0.2)
        }),
        Event::Measured(_) => Event::Warned {
            network: Some(network),
            warning: Warning::LossNotFinite { step: 10 },
        },
        Event::Warned { .. } => Event::NoteAdded {
            text: "# no comment, \"quoted\"\nsecond line ☃".to_owned(),
        },
        Event::NoteAdded { .. } => Event::Tried(trial("0.65", 0.91)),
        Event::Tried(_) => Event::Sensed {
            reference: 0,
            layer: "conv1".to_owned(),
            ratio: Score(0.5),
            n: 1_000,
            hits: 902,
            base: 950,
        },
        Event::Sensed { .. } => Event::Paused,
        Event::Paused => Event::Resumed,
        Event::Resumed => Event::StageEnded {
            network,
            stage: 0,
            outcome: Outcome::Failed {
                message: "the loss was not finite".to_owned(),
            },
            cost: Cost {
                steps: 10,
                images: 640,
                gradients: u64::MAX,
                joules: None,
            },
        },
        Event::StageEnded { .. } => Event::StudyEnded {
            outcome: Outcome::Completed,
        },
        Event::StudyEnded { .. } => Event::Continued,
        Event::Continued => Event::Unknown {
            kind: "of-tomorrow".to_owned(),
            facts: "{\"b\" : 1e999, \"a\":[1,  2], \"a\":null}".to_owned(),
        },
        Event::Unknown { .. } => return None,
    })
}

/// One of every variant.
pub(crate) fn events() -> Vec<Event> {
    let first = Event::StudyStarted {
        study: Box::new(study()),
        networks: plans(),
    };
    std::iter::successors(Some(first), after).collect()
}

/// Events as records, a tenth of a second apart.
pub(crate) fn records(events: Vec<Event>) -> Vec<Record> {
    events
        .into_iter()
        .enumerate()
        .map(|(seq, event)| Record {
            seq: seq as u64,
            at: seq as u64 * 100,
            event,
        })
        .collect()
}

/// A session as a file, with comments and one of every variant.
pub(crate) fn file() -> Vec<u8> {
    let mut file = b"# a sample\n".to_vec();
    file.extend(codec::encode_header(&header()));
    for record in records(events()) {
        codec::encode(&record, &mut file);
        if record.seq == 3 {
            file.extend_from_slice(b"# in between\n\n");
        }
    }
    file
}

fn data() -> DataFacts {
    DataFacts {
        reference: 0,
        dataset: "glyphs".to_owned(),
        train: 9_000,
        validation: 1_000,
        test: 1_000,
        shape: [1, 28, 28],
        domains: Vec::new(),
        classes: vec!["zero".to_owned(), "\u{7}one".to_owned()],
        digest: "00ff".to_owned(),
        official: Vec::new(),
    }
}

fn tally(loss: f64, correct: u64) -> Tally {
    Tally {
        loss: Score(loss),
        correct,
        n: 10,
    }
}

/// Ten steps of training that end at `step`.
pub(crate) fn steps(network: NetworkId, stage: u32, step: u64, loss: f64) -> Event {
    Event::StepsTrained {
        network,
        stage,
        step,
        count: 10,
        images: 640,
        loss_mean: Score(loss),
        loss_min: Score(loss - 0.1),
        loss_max: Score(loss + 0.1),
        learning_rate: Score(0.05),
    }
}

/// A number about a network, under no condition.
pub(crate) fn scalar(network: NetworkId, stage: u32, metric: Metric, value: f64) -> Measurement {
    Measurement {
        probe: metric.name().replace('_', "-"),
        metric,
        network,
        stage,
        epoch: 2,
        against: None,
        condition: None,
        severity: None,
        value: Value::Scalar(Score(value)),
        unit: Unit::Fraction,
        direction: Direction::HigherIsBetter,
        interval: None,
        n: Some(1_000),
        budget: None,
        paired: None,
        estimator: None,
    }
}

/// A small study from beginning to end: a reference, a twin, a pruned branch.
pub(crate) fn story() -> Vec<Event> {
    let mut events = vec![
        Event::StudyStarted {
            study: Box::new(study()),
            networks: plans(),
        },
        Event::DataReady(data()),
    ];
    for plan in plans() {
        let (id, last) = (plan.id, plan.stages.len() as u32 - 1);
        for (stage, of) in (0..).zip(&plan.stages) {
            events.push(Event::StageStarted {
                network: id,
                stage,
                kind: of.kind,
                title: of.kind.name().to_owned(),
                steps: 20 * u64::from(of.epochs),
            });
            if of.kind == StageKind::Compress {
                events.push(Event::NetworkCompressed {
                    network: id,
                    stage,
                    method: Method::plain("magnitude-pruning"),
                    counts: Some("weights".to_owned()),
                    asked: Some(Score(0.5)),
                    reached: Some(Score(0.5)),
                    removed: None,
                    remarks: vec!["zeros are stored, so nothing gets faster".to_owned()],
                });
            }
            for epoch in 1..=of.epochs {
                let before = if id.0 == 2 { 2 } else { 0 };
                let step = u64::from(before + epoch) * 20;
                let loss = 2.0 / step as f64;
                events.push(steps(id, stage, step - 10, loss + 0.02));
                events.push(steps(id, stage, step, loss));
                events.push(Event::EpochEnded {
                    network: id,
                    stage,
                    epoch: before + epoch,
                    step,
                    train: tally(loss, 9),
                    validation: tally(loss + 0.1, 8),
                    best: true,
                });
            }
            if stage == last {
                // What is measured is the network as the stage before left it.
                measure(id, last - 1, &mut events);
            }
            events.push(Event::StageEnded {
                network: id,
                stage,
                outcome: Outcome::Completed,
                cost: Cost {
                    steps: 20 * u64::from(of.epochs),
                    images: 1_280 * u64::from(of.epochs),
                    gradients: 1_280 * u64::from(of.epochs),
                    joules: None,
                },
            });
        }
    }
    events.push(Event::NoteAdded {
        text: "that's it, <b>\u{1b}[31mred</b>".to_owned(),
    });
    events.push(Event::StudyEnded {
        outcome: Outcome::Completed,
    });
    events
}

fn measure(id: NetworkId, stage: u32, events: &mut Vec<Event>) {
    let is_branch = id.0 == 2;
    let mut found = |measurement| events.push(Event::Measured(measurement));
    // Of 950, 945 and 949 of 1,000: statsmodels 0.15.0, proportion_confint(k, 1000, method="wilson").
    let (accuracy, low, high) = [
        (0.950, 0.934_686_179_756, 0.961_869_737_607),
        (0.945, 0.929_091_612_323, 0.957_502_572_625),
        (0.949, 0.933_564_513_655, 0.960_999_057_225),
    ][id.0 as usize];
    let interval = Some((Score(low), Score(high)));
    found(Measurement {
        interval,
        ..scalar(id, stage, Metric::Accuracy, accuracy)
    });
    for severity in 1..=2 {
        let error = 0.1 * f64::from(severity) + if is_branch { 0.05 } else { 0.0 };
        found(Measurement {
            probe: "corruption-error".to_owned(),
            condition: Some("gaussian-noise".to_owned()),
            severity: Some(severity),
            direction: Direction::LowerIsBetter,
            interval: Some((Score(error - 0.02), Score(error + 0.02))),
            ..scalar(id, stage, Metric::Error, error)
        });
    }
    let sizes = [
        (Metric::Parameters, 1_000.0, Unit::Count),
        (
            Metric::Nonzero,
            if is_branch { 500.0 } else { 1_000.0 },
            Unit::Count,
        ),
        (Metric::Macs, 86_400.0, Unit::Count),
        (Metric::Bytes, 4_100.0, Unit::Bytes),
    ];
    for (metric, value, unit) in sizes {
        found(Measurement {
            probe: "footprint".to_owned(),
            unit,
            n: None,
            ..scalar(id, stage, metric, value)
        });
    }
    for (metric, value) in [
        (Metric::LatencyMsP50, 0.5),
        (Metric::LatencyMsP10, 0.4),
        (Metric::LatencyMsP90, 0.7),
    ] {
        found(Measurement {
            probe: "latency".to_owned(),
            condition: Some("batch-1".to_owned()),
            unit: Unit::Milliseconds,
            direction: Direction::LowerIsBetter,
            n: Some(100),
            ..scalar(id, stage, metric, value)
        });
    }
    if is_branch {
        found(Measurement {
            against: Some(NetworkId(0)),
            ..scalar(id, stage, Metric::Agreement, 0.97)
        });
        found(Measurement {
            probe: "functional-landscape".to_owned(),
            value: Value::Verdict {
                verdict: Verdict::Undecided,
                difference: Score(-0.01),
                twins: 1,
            },
            interval: Some((Score(-0.02), Score(0.01))),
            ..scalar(id, stage, Metric::NearerThanTwin, 0.0)
        });
    }
    let row = (0..id.0)
        .map(|other| Score(0.01 * f64::from(id.0 + other)))
        .collect();
    let points = (0..=id.0)
        .map(|network| MapPoint {
            network: NetworkId(network),
            epoch: 2,
            x: Score(f64::from(network)),
            y: Score(-0.5 * f64::from(network)),
        })
        .collect();
    let shape = |value| Measurement {
        probe: "functional-landscape".to_owned(),
        value,
        unit: Unit::Nats,
        direction: Direction::Neutral,
        ..scalar(id, stage, Metric::Landscape, 0.0)
    };
    found(shape(Value::Row(row)));
    found(shape(Value::Scatter {
        method: "mds".to_owned(),
        points,
    }));
}

/// The story with four branches instead of one: two ratios of a method, one of another scope, and bits.
pub(crate) fn swept() -> Vec<Event> {
    let mut events = story();
    let Some(Event::StudyStarted { study, networks }) = events.first_mut() else {
        panic!("a story begins with its study");
    };
    let branch = |id: &str, knobs: &[(&str, &str)]| {
        let mut method = Method::plain(id);
        for (knob, typed) in knobs {
            let value = KnobValue::parse(typed);
            method.setting.0.insert((*knob).to_owned(), value);
        }
        Branch {
            stages: vec![Stage::Compress(method)],
            ..Branch::default()
        }
    };
    study.references[0].branches = vec![
        branch("magnitude-pruning", &[("ratio", "0.9")]),
        branch("magnitude-pruning", &[("ratio", "0.5")]),
        branch("magnitude-pruning", &[("ratio", "0.5"), ("scope", "x")]),
        branch("quantization", &[("bits", "4"), ("images", "512")]),
    ];
    let own = networks[2].clone();
    for id in 3..6 {
        let mut plan = own.clone();
        (plan.id, plan.name) = (NetworkId(id), format!("branch {id}"));
        networks.push(plan);
    }
    for (id, accuracy, bytes) in [
        (2, 0.5, 100.0),
        (3, 0.9, 200.0),
        (4, 0.8, 200.0),
        (5, 0.7, 50.0),
    ] {
        for (metric, value, unit) in [
            (Metric::Accuracy, accuracy, Unit::Fraction),
            (Metric::Bytes, bytes, Unit::Bytes),
        ] {
            events.push(Event::Measured(Measurement {
                unit,
                ..scalar(NetworkId(id), 9, metric, value)
            }));
        }
    }
    events
}

/// The knob at a ratio, with that share of 1,000 clean images right; the reference has 950.
pub(crate) fn trial(ratio: &str, accuracy: f64) -> Trial {
    let own = (accuracy * 1e3).round() as u64;
    let setting = Setting::default().with("ratio", KnobValue::parse(ratio));
    let hits = |condition: Option<&str>, severity, own: u64, reference: u64| TrialHits {
        condition: condition.map(str::to_owned),
        severity,
        own,
        reference,
        both: own.min(reference) - 5,
    };
    Trial {
        reference: 0,
        method: Method {
            id: "magnitude-pruning".to_owned(),
            setting,
        },
        n: 1_000,
        hits: vec![
            hits(None, None, own, 950),
            hits(Some("gaussian-noise"), Some(3), own - 100, 880),
        ],
        same: own - 3,
        sizes: vec![
            (Metric::Parameters, Score(1_000.0)),
            (Metric::Nonzero, Score(350.0)),
            (Metric::Macs, Score(86_400.0)),
            (Metric::Bytes, Score(4_100.0)),
        ],
        distances: vec![(NetworkId(0), Score(0.11)), (NetworkId(1), Score(0.24))],
        problem: None,
    }
}
