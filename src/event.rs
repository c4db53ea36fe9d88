//! What happened: the only words that pass from the lab to the log, and so to the screen.
//!
//! Events are past tense and closed; what a newer version wrote is kept as [`Event::Unknown`].
//! A clock reading stands in a record's time and in measurements of latency, nowhere else.

use serde::{Deserialize, Serialize};

use crate::measurement::{Measurement, Score};
use crate::spec::{Branch, Method, NetworkId, NetworkPlan, StageKind, Study};

mod channels;
mod picture;
mod trial;

pub use channels::KeptChannels;
pub use picture::{Picture, Pixels, View};
pub use trial::{Trial, TrialHits};

/// A fact with its place and time in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Place in the log, from 0.
    pub seq: u64,
    /// Milliseconds since the log began.
    pub at: u64,
    pub event: Event,
}

/// What reaches the log: a fact, or a remark for whoever reads the file, which is no event.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Fact(Event),
    Remark(String),
}

/// How a stage or a study ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Outcome {
    Completed,
    /// Somebody stopped it.
    Cancelled,
    /// One sentence: what went wrong and what is allowed.
    Failed {
        message: String,
    },
}

/// Partial trouble, typed; the work goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Warning {
    /// Fewer training images than the official set has.
    DataIncomplete {
        dataset: String,
        found: u64,
        official: u64,
    },
    /// The loss was not finite at this step; the network's branch ends as failed.
    LossNotFinite { step: u64 },
    /// A corruption changed nothing, or hardly anything, at this severity.
    CorruptionWithoutEffect {
        corruption: String,
        /// 0 where it has none.
        severity: u8,
        mean_absolute_change: Score,
    },
    /// An attack moved an image farther than it may: a fault, whose numbers are left out.
    BudgetExceeded {
        attack: String,
        distance: Score,
        budget: Score,
    },
    /// Files that could not be read, each with its problem.
    FilesSkipped {
        dataset: String,
        skipped: u64,
        files: Vec<String>,
    },
    /// Anything else, as one sentence.
    Other { message: String },
}

/// What a data set turned out to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Which reference of the study it is for, counted from 0.
    pub reference: u32,
    pub dataset: String,
    /// Images after the limits: trained on, validated on, tested on.
    pub train: u64,
    pub validation: u64,
    pub test: u64,
    /// Channels, height, width.
    pub shape: [u32; 3],
    /// Names of the classes, in the order of the labels.
    pub classes: Vec<String>,
    /// Names of the other domains that networks are asked of, and how many images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<(String, u64)>,
    /// SHA-256 over the images and labels in use, in hexadecimal.
    pub digest: String,
    /// Corruptions, by condition, whose images are read from the official files; those of all others are made here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub official: Vec<String>,
}

/// One layer, for the list of layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerFacts {
    pub name: String,
    pub kind: String,
    /// Shape of one example's output.
    pub output: Vec<u32>,
    pub parameters: u64,
    pub macs: u64,
    /// Weights among the parameters: all but biases and what a normalization learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<u64>,
    /// Weights that are not 0, where some are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonzero: Option<u64>,
    /// Bits of a weight where they are fewer than a float's; of what a `fake-quant` lets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Which of its channels are left, where some went: taken out, or all their weights masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptChannels>,
}

/// What a stage used up. Wall time is the difference of the records' times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Optimizer steps.
    pub steps: u64,
    /// Images that went through a training step.
    pub images: u64,
    /// Gradient evaluations, counted per image.
    pub gradients: u64,
    /// Energy that the GPU used meanwhile, by its own counter; a reading, which no seed determines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<u64>,
}

/// A loss and hits over a number of examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Mean cross-entropy in nats.
    pub loss: Score,
    pub correct: u64,
    pub n: u64,
}

/// The share of each of the five sizes that is gone after a compression, of what the branch began with; negative where one
/// grew. Sessions of earlier versions say it of what that compression was given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Outputs of convolutions; without any, of the linear layers before the last.
    pub channels: Score,
    pub parameters: Score,
    /// Weights that are not 0, of all weights.
    pub nonzero: Score,
    /// Multiply-accumulates.
    pub macs: Score,
    /// In the smallest form of writing.
    pub bytes: Score,
}

impl Removed {
    /// Each with its name, in the order in which they are shown.
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("channels", self.channels.0),
            ("parameters", self.parameters.0),
            ("non-zero", self.nonzero.0),
            ("mult-adds", self.macs.0),
            ("written bytes", self.bytes.0),
        ]
    }
}

/// What happened. Written down, the variant's name is the kind of a session's record and its fields are the facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The question, complete, and the networks it will make.
    StudyStarted {
        /// By far the largest of facts, and said once.
        study: Box<Study>,
        networks: Vec<NetworkPlan>,
    },
    /// A user added a branch. After `StudyEnded` it opens the study again.
    BranchAdded {
        reference: u32,
        branch: Branch,
        network: NetworkPlan,
    },
    DataReady(DataFacts),
    /// `steps` is what the stage expects to do: optimizer steps, or parts of a measurement; 0 if unknown.
    StageStarted {
        network: NetworkId,
        stage: u32,
        kind: StageKind,
        title: String,
        steps: u64,
    },
    NetworkBuilt {
        network: NetworkId,
        architecture: String,
        parameters: u64,
        layers: Vec<LayerFacts>,
    },
    /// `done` of `total` parts of a stage that does not train.
    Progressed {
        network: NetworkId,
        stage: u32,
        done: u64,
        total: u64,
        what: String,
    },
    /// Some optimizer steps: `step` is the last one's number in the network's life, from 1; the loss is over `count`.
    StepsTrained {
        network: NetworkId,
        stage: u32,
        step: u64,
        count: u32,
        images: u64,
        loss_mean: Score,
        loss_min: Score,
        loss_max: Score,
        learning_rate: Score,
    },
    /// `epoch` is its number in the network's life, from 1; `step` the number of its last step.
    EpochEnded {
        network: NetworkId,
        stage: u32,
        epoch: u32,
        step: u64,
        train: Tally,
        validation: Tally,
        best: bool,
    },
    /// A training ended before its last epoch: `waited` epochs had not lowered the validation loss. `epoch` is the last
    /// one's number in the network's life.
    StoppedEarly {
        network: NetworkId,
        stage: u32,
        epoch: u32,
        waited: u32,
    },
    /// A compression made a new network. `asked` and `reached` are ratios of what `counts` names.
    NetworkCompressed {
        network: NetworkId,
        stage: u32,
        method: Method,
        counts: Option<String>,
        asked: Option<Score>,
        reached: Option<Score>,
        /// The shares removed in each of the five senses, of what the compression was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        removed: Option<Removed>,
        /// Anything else worth saying, as short sentences: what is simulated and what is real.
        remarks: Vec<String>,
    },
    Measured(Measurement),
    /// One example of the gallery as a network sees it.
    Pictured(Picture),
    /// A finished network was written to a file of its own, from which another study can begin.
    NetworkSaved {
        network: NetworkId,
        file: String,
        bytes: u64,
    },
    Warned {
        network: Option<NetworkId>,
        warning: Warning,
    },
    /// A user's words at the place where they were typed; a chapter of the replay.
    NoteAdded {
        text: String,
    },
    /// A setting of the live knob was looked at; no network of the study, and no part of a report.
    Tried(Trial),
    /// One layer of a finished reference lost the share `ratio` of its weights, the smallest, and nothing else changed:
    /// `hits` of `n` fixed validation images are right, of the reference itself `base`. Like a setting of the knob it is
    /// no network of the study.
    Sensed {
        reference: u32,
        layer: String,
        ratio: Score,
        n: u64,
        hits: u64,
        base: u64,
    },
    /// Training was held at a step, and went on.
    Paused,
    Resumed,
    StageEnded {
        network: NetworkId,
        stage: u32,
        outcome: Outcome,
        cost: Cost,
    },
    StudyEnded {
        outcome: Outcome,
    },
    /// A study that was interrupted goes on in the same file.
    Continued,
    /// What this version does not know: kind and facts, word for word.
    #[serde(skip)]
    Unknown {
        kind: String,
        facts: String,
    },
}

impl Event {
    /// The same fact said of another network at the same stage: what a restored network states again.
    pub fn said_of(mut self, id: NetworkId, other: NetworkId) -> Self {
        match &mut self {
            Self::StageStarted { network, .. }
            | Self::NetworkBuilt { network, .. }
            | Self::Progressed { network, .. }
            | Self::StepsTrained { network, .. }
            | Self::EpochEnded { network, .. }
            | Self::StoppedEarly { network, .. }
            | Self::NetworkCompressed { network, .. }
            | Self::NetworkSaved { network, .. }
            | Self::StageEnded { network, .. } => *network = id,
            Self::Pictured(picture) => picture.network = id,
            Self::Measured(measurement) => {
                measurement.network = id;
                if measurement.against.is_some() {
                    measurement.against = Some(other);
                }
            }
            Self::Warned { network, .. } => *network = network.map(|_| id),
            Self::StudyStarted { .. }
            | Self::BranchAdded { .. }
            | Self::DataReady(_)
            | Self::NoteAdded { .. }
            | Self::Tried(_)
            | Self::Sensed { .. }
            | Self::Paused
            | Self::Resumed
            | Self::StudyEnded { .. }
            | Self::Continued
            | Self::Unknown { .. } => {}
        }
        self
    }

    /// Whether two facts are the same apart from readings of the clock and of meters.
    pub fn repeats(&self, earlier: &Self) -> bool {
        let unread = |cost: &Cost| Cost {
            joules: None,
            ..*cost
        };
        match (self, earlier) {
            (
                Self::StageEnded {
                    network: a,
                    stage: s,
                    outcome: o,
                    cost: c,
                },
                Self::StageEnded {
                    network,
                    stage,
                    outcome,
                    cost,
                },
            ) => (a, s, o, unread(c)) == (network, stage, outcome, unread(cost)),
            (Self::Measured(a), Self::Measured(b)) if a.metric.reads_the_clock() => {
                (a.metric, a.network, a.stage, &a.condition)
                    == (b.metric, b.network, b.stage, &b.condition)
            }
            _ => self == earlier,
        }
    }

    /// Whether a person made it happen, or a folder that was named for it, so that it is no part of what a seed
    /// determines.
    pub fn is_by_hand(&self) -> bool {
        matches!(
            self,
            Self::BranchAdded { .. }
                | Self::NoteAdded { .. }
                | Self::Tried(_)
                | Self::Sensed { .. }
                | Self::NetworkSaved { .. }
                | Self::Paused
                | Self::Resumed
                | Self::Continued
        )
    }

    /// Whether it stands beside the study's course: it neither goes on with it nor opens it again.
    pub fn is_aside(&self) -> bool {
        matches!(
            self,
            Self::NoteAdded { .. } | Self::Tried(_) | Self::Sensed { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions of earlier versions say less of a layer.
    #[test]
    fn a_layer_of_an_earlier_version_is_read() {
        let text =
            r#"{"name":"conv1","kind":"conv2d","output":[6,24,24],"parameters":156,"macs":86400}"#;
        let layer: LayerFacts = serde_json::from_str(text).unwrap();
        assert_eq!((layer.weights, layer.bits), (None, None));
        assert_eq!(serde_json::to_string(&layer).unwrap(), text);
    }
}
