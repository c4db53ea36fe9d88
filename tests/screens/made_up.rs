//! A session that never was, with plausible figures, and a catalog to go with it.

use std::borrow::Cow;

use shrinklab::catalog::{Catalog, Described, Info, Knob, Range, Text, text};
use shrinklab::event::{
    Cost, DataFacts, Event, KeptChannels, LayerFacts, Outcome, Record, Tally, Trial, TrialHits,
};
use shrinklab::measurement::{
    Direction, MapPoint, Measurement, Metric, Score, Unit, Value, Verdict,
};
use shrinklab::spec::{
    Branch, Checkpoint, KnobValue, Method, NetworkId, Reference, Setting, Stage, StageKind, Study,
    Suite,
};

fn info(
    id: &'static str,
    title: &'static str,
    family: &'static str,
    summary: &'static str,
) -> Info {
    Info {
        id: text(id),
        title: text(title),
        summary: text(summary),
        reference: text("made up for the tests"),
        family: text(family),
        ratio_of: None,
    }
}

fn knob(id: &'static str, range: Range) -> Knob {
    Knob {
        id: text(id),
        title: text(id),
        summary: text("Turns something."),
        range,
    }
}

fn choice(options: &'static [Text], default: &'static str) -> Range {
    Range::Choice {
        options: Cow::Borrowed(options),
        default: text(default),
    }
}

const DOMAINS: &[Text] = &[text("print"), text("chalk"), text("neon")];
const SCOPES: &[Text] = &[text("global"), text("per-layer")];
const BITS: &[Text] = &[text("16"), text("8"), text("4")];

/// Two data sets, two architectures, three compressions, five corruptions, the usual recipe.
pub(crate) fn catalog() -> Catalog {
    let plain = |info: Info| Described {
        info,
        knobs: Vec::new(),
    };
    let ratio = Range::Real {
        least: 0.0,
        most: 0.999,
        step: 0.05,
        default: 0.5,
    };
    let mut pruning = info(
        "magnitude-pruning",
        "Magnitude pruning",
        "pruning",
        "Sets the smallest weights to zero. Nothing becomes faster by itself: zeros are multiplied like other numbers.",
    );
    pruning.ratio_of = Some(text("weights"));
    Catalog {
        datasets: vec![
            Described {
                info: info(
                    "glyphs",
                    "Glyphs",
                    "built-in",
                    "Ten classes of drawn signs.",
                ),
                knobs: vec![knob("domain", choice(DOMAINS, "print"))],
            },
            plain(info(
                "fashion-mnist",
                "Fashion-MNIST",
                "images",
                "Clothes, grey, 28 by 28.",
            )),
        ],
        architectures: vec![
            plain(info(
                "lenet5",
                "LeNet-5",
                "convolutional",
                "225,034 parameters.",
            )),
            plain(info(
                "cnn8",
                "CNN-8",
                "convolutional",
                "549,994 parameters.",
            )),
        ],
        compressions: vec![
            Described {
                info: pruning,
                knobs: vec![
                    knob("ratio", ratio),
                    knob("scope", choice(SCOPES, "global")),
                ],
            },
            Described {
                info: info(
                    "post-training-quantization",
                    "Post-training quantization",
                    "quantization",
                    "Rounds weights and activations to few bits.",
                ),
                knobs: vec![knob("bits", choice(BITS, "8"))],
            },
            Described {
                info: info(
                    "self-distillation",
                    "Self-distillation",
                    "distillation",
                    "A student from the same start learns the teacher's answers.",
                ),
                knobs: vec![knob(
                    "temperature",
                    Range::Real {
                        least: 1.0,
                        most: 100.0,
                        step: 1.0,
                        default: 20.0,
                    },
                )],
            },
        ],
        corruptions: [
            ("gaussian-noise", "Gaussian noise"),
            ("brightness", "Brightness"),
            ("contrast", "Contrast"),
            ("defocus-blur", "Defocus blur"),
            ("pixel-dropout", "Pixel dropout"),
        ]
        .map(|(id, title)| plain(info(id, title, "corruption", "Harms the image.")))
        .to_vec(),
        attacks: Vec::new(),
        probes: vec![plain(info(
            "accuracy",
            "Accuracy",
            "quality",
            "Counts hits.",
        ))],
        training: vec![
            knob(
                "epochs",
                Range::Integer {
                    least: 1,
                    most: 1000,
                    default: 3,
                },
            ),
            knob(
                "batch",
                Range::Integer {
                    least: 1,
                    most: 4096,
                    default: 64,
                },
            ),
            knob(
                "learning-rate",
                Range::Real {
                    least: 0.0,
                    most: 10.0,
                    step: 0.01,
                    default: 0.05,
                },
            ),
        ],
        usual_corruptions: Vec::new(),
        corruption_sets: Vec::new(),
        live: vec![
            text("magnitude-pruning"),
            text("post-training-quantization"),
        ],
    }
}

/// The default study with a second branch.
pub(crate) fn study() -> Study {
    let tuned = Setting::default().with("epochs", KnobValue::Integer(1));
    let branch = |id: &str, tuning: Option<Setting>| Branch {
        name: String::new(),
        checkpoint: Checkpoint::Last,
        matched: None,
        stages: [Stage::Compress(Method::plain(id))]
            .into_iter()
            .chain(tuning.map(Stage::FineTune))
            .collect(),
    };
    Study {
        seed: 7,
        seeds: Vec::new(),
        threads: None,
        device: "cpu".to_owned(),
        tf32: true,
        deterministic: false,
        train_limit: None,
        test_limit: None,
        references: vec![Reference {
            dataset: Method::plain("glyphs"),
            architecture: Method::plain("lenet5"),
            from: None,
            resize: None,
            training: Setting::default(),
            seed: None,
            twins: 1,
            same_start_twin: false,
            branches: vec![
                branch("magnitude-pruning", Some(tuned)),
                branch("post-training-quantization", None),
            ],
        }],
        suite: Suite::default(),
    }
}

/// A study that sweeps ratios and bits, without twins and tuning.
pub(crate) fn sweep() -> Study {
    let mut study = study();
    let reference = &mut study.references[0];
    reference.twins = 0;
    for (branch, (knob, values)) in reference
        .branches
        .iter_mut()
        .zip([("ratio", ".1,.4,.6,.75,.9"), ("bits", "16,8,4")])
    {
        branch.stages.truncate(1);
        let Stage::Compress(method) = &mut branch.stages[0] else {
            continue;
        };
        let value = KnobValue::parse(values);
        method.setting = Setting::default().with(knob, value);
    }
    study
}

/// A log that is being written.
pub(crate) struct Story {
    pub(crate) records: Vec<Record>,
    at: u64,
    points: Vec<(u32, f64, f64, u32)>,
}

/// Steps of an epoch: 9,000 images by 64.
const STEPS: u64 = 141;

impl Story {
    pub(crate) fn begin() -> Self {
        Self::of(study())
    }

    pub(crate) fn of(study: Study) -> Self {
        let mut story = Self {
            records: Vec::new(),
            at: 0,
            points: Vec::new(),
        };
        let study = study.check(&catalog()).expect("the made-up study is sound");
        story.say(
            0,
            Event::StudyStarted {
                study: Box::new(study.study().clone()),
                networks: study.plan(&catalog()),
            },
        );
        story.say(
            300,
            Event::DataReady(DataFacts {
                domains: Vec::new(),
                reference: 0,
                dataset: "glyphs".to_owned(),
                train: 9_000,
                validation: 1_000,
                test: 2_000,
                shape: [1, 28, 28],
                classes: (0..10).map(|class| format!("sign {class}")).collect(),
                digest: "0".repeat(64),
                official: Vec::new(),
            }),
        );
        story
    }

    /// States a fact so many milliseconds after the last one.
    pub(crate) fn say(&mut self, after: u64, event: Event) {
        self.at += after;
        self.records.push(Record {
            seq: self.records.len() as u64,
            at: self.at,
            event,
        });
    }

    pub(crate) fn start(
        &mut self,
        network: u32,
        stage: u32,
        kind: StageKind,
        title: &str,
        steps: u64,
    ) {
        self.say(
            20,
            Event::StageStarted {
                network: NetworkId(network),
                stage,
                kind,
                title: title.to_owned(),
                steps,
            },
        );
    }

    pub(crate) fn end(&mut self, network: u32, stage: u32) {
        self.say(
            20,
            Event::StageEnded {
                network: NetworkId(network),
                stage,
                outcome: Outcome::Completed,
                cost: Cost::default(),
            },
        );
    }

    /// So many epochs of training; the loss falls from `from` towards `to`. The last epoch may be cut off.
    pub(crate) fn train(
        &mut self,
        network: u32,
        stage: u32,
        epochs: u32,
        from: f64,
        to: f64,
        cut: bool,
    ) {
        let total = u64::from(epochs) * STEPS;
        let last = if cut { total - STEPS / 2 } else { total };
        // Noise without chance: a walk round the unit circle by an irrational angle.
        let wobble =
            |step: u64| (step as f64 * 2.399_963).sin() * 0.5 + (step as f64 * 0.7).cos() * 0.5;
        for step in 1..=last {
            let falling = to + (from - to) * (-(step as f64) / 60.0).exp();
            let loss = (falling * (1.0 + 0.25 * wobble(step))).max(0.01);
            if step % 5 == 0 || step % STEPS == 0 {
                self.say(
                    45,
                    Event::StepsTrained {
                        network: NetworkId(network),
                        stage,
                        step,
                        count: 5,
                        images: 5 * 64,
                        loss_mean: Score(loss),
                        loss_min: Score(loss * 0.8),
                        loss_max: Score(loss * 1.2),
                        learning_rate: Score(0.05),
                    },
                );
            }
            if step % STEPS == 0 {
                let epoch = (step / STEPS) as u32;
                self.say(
                    90,
                    Event::EpochEnded {
                        network: NetworkId(network),
                        stage,
                        epoch,
                        step,
                        train: Tally {
                            loss: Score(falling),
                            correct: 8_700,
                            n: 9_000,
                        },
                        validation: Tally {
                            loss: Score(falling * 1.15 + 0.02),
                            correct: 955,
                            n: 1_000,
                        },
                        best: true,
                    },
                );
                self.point(network, stage, epoch);
            }
        }
    }

    /// One more point of the landscape, with the map of all of them.
    pub(crate) fn point(&mut self, network: u32, stage: u32, epoch: u32) {
        let (angle, radius) = match network {
            0 => (0.3, 1.0),
            1 => (1.9, 1.1),
            2 => (0.2, 0.35),
            _ => (0.25, 0.1),
        };
        let share = match network {
            0 | 1 => 1.0 - f64::from(epoch) * 0.3,
            _ => 1.0,
        };
        let home = if network == 1 {
            (-0.8, 0.5)
        } else {
            (0.6, -0.3)
        };
        let x = home.0 + share * radius * f64::cos(angle);
        let y = home.1 + share * radius * f64::sin(angle);
        let row = self
            .points
            .iter()
            .map(|(_, a, b, _)| Score(((a - x).hypot(b - y) * 1e3).round() / 1e4))
            .collect();
        self.points.push((network, x, y, epoch));
        let found = |metric, value| Measurement {
            value,
            unit: Unit::None,
            direction: Direction::Neutral,
            stage,
            epoch,
            ..plain(network, "functional-landscape", metric)
        };
        let points = self
            .points
            .iter()
            .map(|(network, x, y, epoch)| MapPoint {
                network: NetworkId(*network),
                epoch: *epoch,
                x: Score(*x),
                y: Score(*y),
            })
            .collect();
        self.say(
            5,
            Event::Measured(found(Metric::Landscape, Value::Row(row))),
        );
        self.say(
            5,
            Event::Measured(found(
                Metric::Landscape,
                Value::Scatter {
                    method: "mds".to_owned(),
                    points,
                },
            )),
        );
    }

    pub(crate) fn share(
        &mut self,
        network: u32,
        stage: u32,
        metric: Metric,
        value: f64,
        n: u64,
        condition: Option<(&str, u8)>,
    ) {
        let half = 1.96 * (value * (1.0 - value) / n as f64).sqrt();
        self.say(
            10,
            Event::Measured(Measurement {
                stage,
                epoch: 3,
                condition: condition.map(|(id, _)| id.to_owned()),
                severity: condition.map(|(_, severity)| severity),
                value: Value::Scalar(Score(value)),
                interval: Some((
                    Score((value - half).max(0.0)),
                    Score((value + half).min(1.0)),
                )),
                n: Some(n),
                ..plain(network, "accuracy", metric)
            }),
        );
    }

    pub(crate) fn figure(
        &mut self,
        network: u32,
        stage: u32,
        metric: Metric,
        value: f64,
        unit: Unit,
        condition: Option<&str>,
    ) {
        self.say(
            10,
            Event::Measured(Measurement {
                stage,
                epoch: 3,
                condition: condition.map(str::to_owned),
                value: Value::Scalar(Score(value)),
                unit,
                ..plain(network, "footprint", metric)
            }),
        );
    }

    /// Everything that is measured of a finished network.
    pub(crate) fn measure(
        &mut self,
        network: u32,
        stage: u32,
        accuracy: f64,
        harm: f64,
        size: (f64, f64),
    ) {
        self.start(network, stage, StageKind::Measure, "Measuring", 31);
        self.share(network, stage, Metric::Accuracy, accuracy, 2_000, None);
        for (index, corruption) in catalog().corruptions.iter().enumerate() {
            for severity in 1..=5_u8 {
                let lost = f64::from(severity) * (0.02 + 0.013 * index as f64) * harm;
                let error = 1.0 - (accuracy - lost).max(0.1);
                self.share(
                    network,
                    stage,
                    Metric::Error,
                    error,
                    1_000,
                    Some((&corruption.info.id, severity)),
                );
            }
        }
        let (nonzero, bytes) = size;
        self.figure(
            network,
            stage,
            Metric::Parameters,
            225_034.0,
            Unit::Count,
            None,
        );
        self.figure(network, stage, Metric::Nonzero, nonzero, Unit::Count, None);
        self.figure(network, stage, Metric::Macs, 1_199_960.0, Unit::Count, None);
        self.figure(network, stage, Metric::Bytes, bytes, Unit::Bytes, None);
        self.figure(
            network,
            stage,
            Metric::LatencyMsP50,
            0.61,
            Unit::Milliseconds,
            Some("batch-1"),
        );
        self.figure(
            network,
            stage,
            Metric::LatencyMsP50,
            41.5,
            Unit::Milliseconds,
            Some("batch-256"),
        );
        if network > 0 {
            self.share(network, stage, Metric::Agreement, 0.953, 2_000, None);
            self.share(network, stage, Metric::ChurnGood, 0.011, 2_000, None);
            self.share(network, stage, Metric::ChurnBad, 0.021, 2_000, None);
            self.share(network, stage, Metric::ChurnUgly, 0.015, 2_000, None);
            self.figure(network, stage, Metric::Js, 0.0132, Unit::Nats, None);
        }
        self.end(network, stage);
    }

    /// Reference and twin, trained and measured.
    pub(crate) fn first_two(&mut self) {
        for (network, accuracy) in [(0, 0.964), (1, 0.961)] {
            self.built(network);
            self.start(network, 0, StageKind::Train, "Training", 3 * STEPS);
            self.train(network, 0, 3, 2.3, 0.09, false);
            self.end(network, 0);
            self.measure(network, 1, accuracy, 1.0, (225_034.0, 900_136.0));
        }
    }

    pub(crate) fn built(&mut self, network: u32) {
        self.say(
            10,
            Event::NetworkBuilt {
                network: NetworkId(network),
                architecture: "lenet5".to_owned(),
                parameters: 225_034,
                layers: layers(network),
            },
        );
    }

    /// The pruned branch, up to the middle of its fine-tuning or to its end.
    pub(crate) fn prune(&mut self, cut: bool) {
        self.start(2, 0, StageKind::Compress, "Magnitude pruning", 0);
        self.built(2);
        self.say(
            40,
            Event::NetworkCompressed {
                network: NetworkId(2),
                stage: 0,
                method: Method::plain("magnitude-pruning"),
                counts: Some("weights".to_owned()),
                asked: Some(Score(0.5)),
                reached: Some(Score(0.5)),
                removed: None,
                remarks: vec![
                    "Zeros stay where they are: the layers keep their shapes.".to_owned(),
                ],
            },
        );
        self.end(2, 0);
        self.point(2, 0, 0);
        self.start(2, 1, StageKind::FineTune, "Fine-tuning", STEPS);
        self.train(2, 1, 1, 0.35, 0.08, cut);
        if !cut {
            self.end(2, 1);
            self.measure(2, 2, 0.958, 1.35, (112_700.0, 900_136.0));
            self.verdict(2, 2, -0.0031);
        }
    }

    pub(crate) fn verdict(&mut self, network: u32, stage: u32, difference: f64) {
        self.say(
            10,
            Event::Measured(Measurement {
                stage,
                epoch: 1,
                value: Value::Verdict {
                    verdict: Verdict::Undecided,
                    difference: Score(difference),
                    twins: 1,
                },
                interval: Some((Score(difference - 0.004), Score(difference + 0.004))),
                n: Some(2_000),
                unit: Unit::Nats,
                ..plain(network, "output-divergence", Metric::NearerThanTwin)
            }),
        );
    }

    /// The quantized branch, and the end.
    pub(crate) fn finish(&mut self) {
        self.start(3, 0, StageKind::Compress, "Post-training quantization", 0);
        self.built(3);
        self.end(3, 0);
        self.point(3, 0, 0);
        self.measure(3, 1, 0.963, 1.05, (224_000.0, 226_000.0));
        self.verdict(3, 1, -0.009);
        self.say(
            30,
            Event::StudyEnded {
                outcome: Outcome::Completed,
            },
        );
    }
}

/// The layers of `lenet5`; those of a branch with zeros, and with channels of the second convolution gone.
fn layers(network: u32) -> Vec<LayerFacts> {
    let layer =
        |name: &str, kind: &str, output: &[u32], weights: u64, biases: u64, macs: u64| LayerFacts {
            name: name.to_owned(),
            kind: kind.to_owned(),
            output: output.to_vec(),
            parameters: weights + biases,
            macs,
            weights: Some(weights).filter(|weights| *weights > 0),
            ..LayerFacts::default()
        };
    let mut layers = vec![
        layer("normalize", "normalize", &[1, 28, 28], 0, 0, 0),
        layer("conv1", "conv2d", &[20, 24, 24], 500, 20, 288_000),
        layer("relu1", "relu", &[20, 24, 24], 0, 0, 0),
        layer("pool1", "max-pool2d", &[20, 12, 12], 0, 0, 0),
        layer("conv2", "conv2d", &[50, 8, 8], 25_000, 50, 1_600_000),
        layer("pool2", "max-pool2d", &[50, 4, 4], 0, 0, 0),
        layer("flatten", "flatten", &[800], 0, 0, 0),
        layer("fc1", "linear", &[250], 200_000, 250, 200_000),
        layer("fc2", "linear", &[10], 2_500, 10, 2_500),
    ];
    if network == 2 {
        layers[1].nonzero = Some(480);
        layers[4].output[0] = 32;
        (layers[4].parameters, layers[4].macs) = (16_032, 1_024_000);
        (layers[4].weights, layers[4].nonzero) = (Some(16_000), Some(9_000));
        layers[4].kept = Some(KeptChannels::new(
            50,
            (0..50).filter(|n| n % 7 < 5 && *n != 22 && *n < 46),
        ));
        layers[7].nonzero = Some(70_123);
        layers[7].kept = Some(KeptChannels::new(250, (0..250).filter(|n| *n > 20)));
    }
    if network == 3 {
        for (place, layer) in layers.iter_mut().enumerate() {
            layer.bits = (layer.macs > 0).then_some(if place == 1 { 8 } else { 4 });
        }
        let mut rounded = layer("relu1.quant", "fake-quant", &[20, 24, 24], 0, 0, 0);
        rounded.bits = Some(8);
        layers.insert(3, rounded);
    }
    layers
}

pub(crate) fn plain(network: u32, probe: &str, metric: Metric) -> Measurement {
    Measurement {
        probe: probe.to_owned(),
        metric,
        network: NetworkId(network),
        stage: 0,
        epoch: 0,
        against: None,
        condition: None,
        severity: None,
        value: Value::Scalar(Score(0.0)),
        unit: Unit::Fraction,
        direction: Direction::Neutral,
        interval: None,
        n: None,
        budget: None,
        paired: None,
        estimator: None,
    }
}

/// In the middle of fine-tuning.
pub(crate) fn at_work() -> Vec<Record> {
    let mut story = Story::begin();
    story.first_two();
    story.prune(true);
    story.records
}

/// From beginning to end, with a note.
pub(crate) fn complete() -> Vec<Record> {
    let mut story = Story::begin();
    story.first_two();
    story.say(
        400,
        Event::NoteAdded {
            text: "accuracy holds, agreement does not".to_owned(),
        },
    );
    for (layer, hits) in [("conv1", 811), ("conv2", 951), ("fc1", 958), ("fc2", 957)] {
        story.say(
            5,
            Event::Sensed {
                reference: 0,
                layer: layer.to_owned(),
                ratio: Score(0.5),
                n: 1_000,
                hits,
                base: 957,
            },
        );
    }
    story.prune(false);
    story.finish();
    story.records
}

/// A sweep of five ratios and three bits, measured.
pub(crate) fn swept() -> Vec<Record> {
    let mut story = Story::of(sweep());
    story.built(0);
    story.start(0, 0, StageKind::Train, "Training", 3 * STEPS);
    story.train(0, 0, 3, 2.3, 0.09, false);
    story.end(0, 0);
    story.measure(0, 1, 0.964, 1.0, (225_034.0, 900_136.0));
    story.point(2, 0, 0);
    story.point(5, 0, 0);
    let found = [
        (0.965, 1.0, 202_550.0, 900_136.0),
        (0.963, 1.02, 135_150.0, 900_136.0),
        (0.958, 1.1, 90_180.0, 900_136.0),
        (0.921, 1.3, 56_400.0, 900_136.0),
        (0.655, 1.7, 22_700.0, 900_136.0),
        (0.964, 1.0, 225_034.0, 450_300.0),
        (0.962, 1.0, 224_000.0, 226_000.0),
        (0.887, 1.2, 201_000.0, 113_800.0),
    ];
    for (place, (accuracy, harm, nonzero, bytes)) in found.into_iter().enumerate() {
        let id = place as u32 + 1;
        story.start(id, 0, StageKind::Compress, "Compressing", 0);
        story.end(id, 0);
        story.measure(id, 1, accuracy, harm, (nonzero, bytes));
    }
    story.say(
        30,
        Event::StudyEnded {
            outcome: Outcome::Completed,
        },
    );
    story.records
}

/// The sweep, and then the knob turned up to the ratio that was asked for last.
pub(crate) fn turned(ratios: &[f64]) -> Vec<Record> {
    let mut records = swept();
    for ratio in ratios {
        let own = (964.0 - 500.0 * ratio.powi(4)).round() as u64;
        let hits = |place: usize, condition: Option<&str>| {
            let reference = 964 - 40 * place as u64;
            let own = own - 45 * place as u64;
            TrialHits {
                condition: condition.map(str::to_owned),
                severity: condition.map(|_| 3),
                own,
                reference,
                both: own.min(reference) - 4,
            }
        };
        let catalog = catalog();
        let ids = catalog
            .corruptions
            .iter()
            .map(|corruption| &*corruption.info.id);
        let conditions = std::iter::once(None).chain(ids.map(Some));
        let last = records.last().expect("a session has records");
        let record = Record {
            seq: last.seq + 1,
            at: last.at + 300,
            event: Event::Tried(Trial {
                reference: 0,
                method: Method {
                    id: "magnitude-pruning".to_owned(),
                    setting: Setting::default().with("ratio", KnobValue::Real(*ratio)),
                },
                n: 1_000,
                hits: conditions
                    .enumerate()
                    .map(|(place, id)| hits(place, id))
                    .collect(),
                same: own - 10,
                sizes: vec![
                    (Metric::Parameters, Score(225_034.0)),
                    (Metric::Nonzero, Score((225_034.0 * (1.0 - ratio)).round())),
                    (Metric::Macs, Score(1_199_960.0)),
                    (Metric::Bytes, Score(900_136.0)),
                ],
                distances: vec![
                    (NetworkId(0), Score(0.3 * ratio)),
                    (NetworkId(2), Score(0.4)),
                    (NetworkId(5), Score(0.35)),
                ],
                problem: None,
            }),
        };
        records.push(record);
    }
    records
}
