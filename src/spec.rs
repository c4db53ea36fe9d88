//! What is asked: a study is a tree of references, each with twins and branches.
//!
//! ```toml
//! seed = 7
//! [[references]]
//! dataset = "glyphs"
//! architecture = "lenet5"
//! training = { epochs = 3 }
//! twins = 1
//!   [[references.branches]]
//!   stages = [{ compress = { id = "magnitude-pruning", ratio = 0.5 } }, { fine-tune = { epochs = 1 } }]
//! ```
//!
//! A study is plain data. [`Study::check`] holds it against a catalog, finds everything that is wrong at once, fills in
//! what was left open, and yields a [`CheckedStudy`]; only that can run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;

mod attack;
mod check;
mod matching;
mod plan;
mod read;
mod repeated;
mod sweep;

pub use attack::{FIXED_AS_PUBLISHED, attack_name, attack_variant};
pub use check::{ALL_DOMAINS, CheckedStudy, SpecError, is_device};
pub use matching::{Alike, Match, strength};
pub use plan::{NetworkPlan, Role, StageKind, StagePlan, usual_tuning};
pub use read::Misread;
pub use sweep::STRENGTHS;

/// A network of a study, for life. Numbered in the order of the plan; branches added later follow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NetworkId(pub u32);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a knob stands at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KnobValue {
    Flag(bool),
    Integer(i64),
    Real(f64),
    Choice(String),
    /// Several, one after another: each makes a branch of its own. Only what is asked holds lists; checking spreads them.
    List(Vec<KnobValue>),
}

impl KnobValue {
    /// What a person typed: a number where it reads as one, several where commas stand between them, a word otherwise.
    pub fn parse(typed: &str) -> Self {
        let typed = typed.trim();
        if typed.contains(',') {
            Self::List(typed.split(',').map(Self::parse).collect())
        } else if let Ok(v) = typed.parse::<i64>() {
            Self::Integer(v)
        } else if let Ok(v) = typed.parse::<f64>() {
            Self::Real(v)
        } else {
            match typed {
                "true" => Self::Flag(true),
                "false" => Self::Flag(false),
                word => Self::Choice(word.to_owned()),
            }
        }
    }
}

impl fmt::Display for KnobValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(v) => write!(f, "{v}"),
            Self::Integer(v) => write!(f, "{v}"),
            Self::Real(v) => write!(f, "{v}"),
            Self::Choice(v) => f.write_str(v),
            Self::List(values) => {
                let words: Vec<String> = values.iter().map(ToString::to_string).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

/// Knobs by id. After checking, every knob of the method is present, in its own type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Setting(pub BTreeMap<String, KnobValue>);

impl Setting {
    /// The setting with one more knob turned.
    pub fn with(mut self, id: &str, value: KnobValue) -> Self {
        self.0.insert(id.to_owned(), value);
        self
    }

    /// A whole-number knob of a checked setting.
    ///
    /// # Panics
    /// When the knob is missing or of another type, which checking excludes.
    pub fn integer(&self, id: &str) -> i64 {
        match self.0.get(id) {
            Some(KnobValue::Integer(v)) => *v,
            other => panic!("knob {id} of a checked setting is a whole number, not {other:?}"),
        }
    }

    /// A real knob of a checked setting; panics as [`Self::integer`] does.
    pub fn real(&self, id: &str) -> f64 {
        match self.0.get(id) {
            Some(KnobValue::Real(v)) => *v,
            other => panic!("knob {id} of a checked setting is a number, not {other:?}"),
        }
    }

    /// A choice of a checked setting; panics as [`Self::integer`] does.
    pub fn choice(&self, id: &str) -> &str {
        match self.0.get(id) {
            Some(KnobValue::Choice(v)) => v,
            other => panic!("knob {id} of a checked setting is a word, not {other:?}"),
        }
    }

    /// The numbers of a checked setting; panics as [`Self::integer`] does.
    pub fn numbers(&self, id: &str) -> Vec<f64> {
        let wrong = |other: &dyn fmt::Debug| -> f64 {
            panic!("knob {id} of a checked setting is some numbers, not {other:?}")
        };
        match self.0.get(id) {
            Some(KnobValue::List(values)) => values
                .iter()
                .map(|value| match value {
                    KnobValue::Real(v) => *v,
                    other => wrong(other),
                })
                .collect(),
            other => vec![wrong(&other)],
        }
    }

    /// A flag of a checked setting; panics as [`Self::integer`] does.
    pub fn flag(&self, id: &str) -> bool {
        match self.0.get(id) {
            Some(KnobValue::Flag(v)) => *v,
            other => panic!("knob {id} of a checked setting is a flag, not {other:?}"),
        }
    }
}

/// A method and how its knobs stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Method {
    pub id: String,
    #[serde(flatten)]
    pub setting: Setting,
}

impl Method {
    /// The method with every knob where it stands by itself.
    pub fn plain(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            setting: Setting::default(),
        }
    }
}

impl<'de> Deserialize<'de> for Method {
    /// Either `"glyphs"` or `{ id = "glyphs", domain = "ink" }`.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Plain(String),
            Table {
                id: String,
                #[serde(flatten)]
                setting: BTreeMap<String, KnobValue>,
            },
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Plain(id) => Self::plain(id),
            Either::Table { id, setting } => Self {
                id,
                setting: Setting(setting),
            },
        })
    }
}

/// One step in the life of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A compression; its knobs are the method's.
    Compress(Method),
    /// More training of what came before, with masks and quantizers kept; its knobs are those of a training.
    FineTune(Setting),
}

/// Which checkpoint of the reference a branch starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// After the last epoch.
    #[default]
    Last,
    /// The epoch with the lowest validation loss.
    Best,
}

/// A line of stages that starts from a reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Branch {
    /// How people call it; made from its stages when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// What the strength of its first compression is searched for, instead of being given: `accuracy=0.5`.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matched: Option<Match>,
    pub stages: Vec<Stage>,
}

/// Weights that were trained elsewhere, for a reference to start from: a safetensors file with PyTorch's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Weights {
    /// Where it is, seen from the folder in which the program was started.
    pub file: String,
    /// Per channel of pixels in [0, 1], what the weights were trained with, or one for all; the training images' own
    /// when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f64>,
    /// Likewise the standard deviation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f64>,
    /// The file's SHA-256 in hexadecimal, filled in when a study begins; a file with another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A network that is trained, from scratch or from weights at hand, with the networks that are compared with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reference {
    /// Data set and domain.
    pub dataset: Method,
    pub architecture: Method,
    /// Weights to start from; random ones when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Weights>,
    /// Side in pixels to which all images are enlarged; as they are when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
    /// The recipe: knobs of a training.
    #[serde(default)]
    pub training: Setting,
    /// Seed of its initial weights and data order; the study's by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How many networks of the same recipe and another seed: the null model for "different function".
    #[serde(default)]
    pub twins: u32,
    /// Also one with the same initial weights and another data order: the control for self-distillation.
    #[serde(default)]
    pub same_start_twin: bool,
    #[serde(default)]
    pub branches: Vec<Branch>,
}

/// What every network of a study is measured by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Suite {
    /// Probes; all that the catalog knows when empty.
    pub probes: Vec<Method>,
    /// Corruptions; the catalog's usual ones when empty.
    pub corruptions: Vec<Method>,
    /// Data sets that are other domains; `all` stands for those that a reference's own data set knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Method>,
    /// Test images per corruption and severity, a fixed stratified subset.
    pub corrupted_images: u32,
    /// All test images instead.
    pub full: bool,
    /// Attacks; none when empty. Where there are some, the probes that need them are used too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attacks: Vec<Method>,
}

impl Suite {
    /// The probes that are meant where none are named: all that the catalog knows, but those of the family `adversarial`
    /// only beside attacks.
    pub fn usual_probes(&self, catalog: &Catalog) -> Vec<Method> {
        let all = catalog.probes.iter();
        all.filter(|probe| probe.info.family != ADVERSARIAL || !self.attacks.is_empty())
            .map(|probe| Method::plain(&*probe.info.id))
            .collect()
    }
}

/// The family of probes that attack.
pub const ADVERSARIAL: &str = "adversarial";

impl Default for Suite {
    fn default() -> Self {
        Self {
            probes: Vec::new(),
            corruptions: Vec::new(),
            domains: Vec::new(),
            corrupted_images: 1_000,
            full: false,
            attacks: Vec::new(),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Study {
    /// The split of the data and all that is drawn of it hang on this one, and references that name no other.
    #[serde(default)]
    pub seed: u64,
    /// Every reference is made once for each of them, its twins and branches too; once with `seed` when empty. Checking
    /// spreads them over references.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// Threads that compute; part of the question, since sums depend on their number. All when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// `cpu`, `auto`, `cuda` or `cuda:N`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Whether a GPU may multiply with 19 bits of its factors (TF32) instead of 32; the CPU never does.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub tf32: bool,
    /// Whether a GPU computes only what gives the same bits every time; the CPU always does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
    /// Training images to use, validation included; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<u32>,
    /// Test images to use; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<u32>,
    pub references: Vec<Reference>,
    #[serde(default)]
    pub suite: Suite,
}

fn cpu() -> String {
    "cpu".to_owned()
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_yes(flag: &bool) -> bool {
    *flag
}

impl Default for Study {
    /// The study that somebody gets who only presses Enter: one reference, one twin, half of the weights pruned and an
    /// epoch of fine-tuning.
    fn default() -> Self {
        let tuning = Setting::default().with("epochs", KnobValue::Integer(1));
        Self {
            seed: 7,
            seeds: Vec::new(),
            threads: None,
            device: cpu(),
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
                branches: vec![Branch {
                    name: String::new(),
                    checkpoint: Checkpoint::Last,
                    matched: None,
                    stages: vec![
                        Stage::Compress(Method::plain("magnitude-pruning")),
                        Stage::FineTune(tuning),
                    ],
                }],
            }],
            suite: Suite::default(),
        }
    }
}

/// What the lab is told while it works.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// One more branch for a reference of the running study, queued behind the planned ones.
    AddBranch {
        branch: Branch,
        network: NetworkPlan,
    },
    /// Hold at the next step.
    Pause,
    /// Go on after [`Command::Pause`].
    Resume,
    /// End at the next step; what was recorded stays.
    Stop,
    /// Try a setting of the live knob; the latest wins.
    Try(Wish),
    /// Find out how much each layer of that finished reference bears, one after another.
    Sense { reference: u32 },
    /// Nobody will add another branch: end when the queue is empty.
    Finish,
}

/// A setting of the live knob: a finished reference compressed anew, and looked at on a few images.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Which reference of the study, counted from 0.
    pub reference: u32,
    /// The compression; its setting was checked.
    pub method: Method,
    /// How strong the corruptions are, 1 to 5.
    pub severity: u8,
}

/// A stranger's text without control characters, cut to a line.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(60)
        .collect()
}

/// Names that are all different, by numbering repeated ones.
fn distinct(name: &str, taken: &BTreeSet<String>) -> String {
    if !taken.contains(name) {
        return name.to_owned();
    }
    let mut number = 2;
    loop {
        let candidate = format!("{name} ({number})");
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}
