//! The networks that a study will make, in the order in which it makes them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Branch, CheckedStudy, Checkpoint, KnobValue, Method, NetworkId, Setting, Stage, Study, distinct,
};
use crate::catalog::Catalog;

/// What a network is to its study, for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Reference,
    /// Same recipe, other seed.
    Twin,
    /// Same initial weights, other data order.
    SameStartTwin,
    Branch,
}

impl Role {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Twin => "twin",
            Self::SameStartTwin => "same-start-twin",
            Self::Branch => "branch",
        }
    }
}

/// What is done in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    Train,
    Compress,
    FineTune,
    Measure,
}

impl StageKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Compress => "compress",
            Self::FineTune => "fine-tune",
            Self::Measure => "measure",
        }
    }
}

/// One stage of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    pub kind: StageKind,
    /// Epochs, where the stage trains; 0 otherwise. A distillation trains though its kind is `compress`.
    #[serde(default)]
    pub epochs: u32,
}

/// One network of a study: who it is and what will happen to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkPlan {
    pub id: NetworkId,
    /// Unique in its study.
    pub name: String,
    pub role: Role,
    /// Which reference of the study it belongs to, counted from 0.
    pub reference: u32,
    /// The network it is compared with; a reference's is itself.
    pub against: NetworkId,
    /// The family of its first compression (`pruning` …); empty for what was only trained. It decides the glyph.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// Seed of its initial weights.
    pub init_seed: u64,
    /// Seed of its data order.
    pub order_seed: u64,
    /// The stages; the last one measures.
    pub stages: Vec<StagePlan>,
}

impl NetworkPlan {
    /// How a stage of this network is called: `train`, `compress`, and `compress-2` for the second of its kind.
    pub fn stage_name(&self, stage: u32) -> Option<String> {
        let kind = self.stages.get(stage as usize)?.kind;
        let before = self.stages[..stage as usize].iter();
        Some(match before.filter(|stage| stage.kind == kind).count() {
            0 => kind.name().to_owned(),
            earlier => format!("{}-{}", kind.name(), earlier + 1),
        })
    }
}

impl CheckedStudy {
    /// Every network, in the order of work: a reference, its twins, its branches; then the next reference.
    pub fn plan(&self, catalog: &Catalog) -> Vec<NetworkPlan> {
        let study = self.study();
        let mut networks: Vec<NetworkPlan> = Vec::new();
        let groups = study.repetitions();
        for (index, reference) in study.references.iter().enumerate() {
            let (own_name, of) = match study.told_apart(index as u32) {
                None => ("reference".to_owned(), String::new()),
                Some(told) if told.starts_with("reference") => {
                    (told.clone(), format!(" of {told}"))
                }
                Some(told) => (format!("reference, {told}"), format!(" of {told}")),
            };
            let seed = reference.seed.unwrap_or(study.seed);
            let own = NetworkId(networks.len() as u32);
            let is_repeated = groups
                .iter()
                .any(|group| group.len() > 1 && group.contains(&(index as u32)));
            let epochs = epochs(&reference.training.0);
            let trained = vec![
                StagePlan {
                    kind: StageKind::Train,
                    epochs,
                },
                StagePlan {
                    kind: StageKind::Measure,
                    epochs: 0,
                },
            ];
            let mut push = |name: String, role, init_seed, order_seed| {
                networks.push(NetworkPlan {
                    id: NetworkId(networks.len() as u32),
                    name,
                    role,
                    reference: index as u32,
                    against: own,
                    family: String::new(),
                    init_seed,
                    order_seed,
                    stages: trained.clone(),
                });
            };
            push(own_name, Role::Reference, seed, seed);
            for twin in 1..=u64::from(reference.twins) {
                let other = if is_repeated {
                    // The next seed may be another repetition's, whose twin would be no other network then.
                    seed.wrapping_add(twin << 33)
                } else {
                    seed.wrapping_add(twin)
                };
                push(format!("twin {twin}{of}"), Role::Twin, other, other);
            }
            if reference.same_start_twin {
                // Far from the seeds of the twins, so that the two kinds never share a data order.
                push(
                    format!("same-start twin{of}"),
                    Role::SameStartTwin,
                    seed,
                    seed.wrapping_add(1 << 32),
                );
            }
            for branch in &reference.branches {
                let plan = self.plan_branch(catalog, index as u32, branch, &networks);
                networks.push(plan);
            }
        }
        networks
    }

    /// The plan of a branch that joins the networks there are.
    pub fn plan_branch(
        &self,
        catalog: &Catalog,
        reference: u32,
        branch: &Branch,
        networks: &[NetworkPlan],
    ) -> NetworkPlan {
        let study = self.study();
        let asked = &study.references[reference as usize];
        let seed = asked.seed.unwrap_or(study.seed);
        let against = networks
            .iter()
            .find(|network| network.reference == reference && network.role == Role::Reference)
            .map_or(NetworkId(0), |network| network.id);
        let taken: BTreeSet<String> = networks
            .iter()
            .map(|network| network.name.clone())
            .collect();
        let name = if branch.name.is_empty() {
            branch.label(catalog)
        } else {
            branch.name.clone()
        };
        let name = match study.told_apart(reference) {
            Some(told) => format!("{name} of {told}"),
            None => name,
        };
        let mut stages: Vec<StagePlan> = branch
            .stages
            .iter()
            .map(|stage| match stage {
                Stage::Compress(method) => StagePlan {
                    kind: StageKind::Compress,
                    epochs: epochs(&method.setting.0),
                },
                Stage::FineTune(setting) => StagePlan {
                    kind: StageKind::FineTune,
                    epochs: epochs(&setting.0),
                },
            })
            .collect();
        stages.push(StagePlan {
            kind: StageKind::Measure,
            epochs: 0,
        });
        NetworkPlan {
            id: NetworkId(
                networks
                    .iter()
                    .map(|network| network.id.0 + 1)
                    .max()
                    .unwrap_or(0),
            ),
            name: distinct(&name, &taken),
            role: Role::Branch,
            reference,
            against,
            family: branch.family(catalog),
            init_seed: seed,
            order_seed: seed,
            stages,
        }
    }
}

impl Study {
    /// What it is about, in one line: `glyphs · lenet5 · magnitude pruning 50 %`.
    pub fn describe(&self, catalog: &Catalog) -> String {
        let Some(first) = self.references.first() else {
            return "nothing".to_owned();
        };
        let mut words = vec![first.dataset.id.clone(), first.architecture.id.clone()];
        words.extend(first.branches.iter().map(|branch| branch.label(catalog)));
        words.join(" · ")
    }
}

impl Branch {
    /// What people call it: its compressions and what is unusual about them, `magnitude pruning 50 %`.
    ///
    /// Fine-tuning is named where it is not what each method comes with, and the checkpoint where it is not the last.
    pub fn label(&self, catalog: &Catalog) -> String {
        let tunings = self.tunings();
        let usual = |at: usize| match &self.stages[at] {
            Stage::Compress(method) => usual_tuning(&method.id, catalog),
            Stage::FineTune(_) => 1,
        };
        let is_usual = tunings.iter().all(|&(at, epochs)| epochs == usual(at));
        let is_tuned = tunings.iter().any(|&(_, epochs)| epochs > 0);
        let mut parts = Vec::new();
        for &(at, epochs) in &tunings {
            parts.push(match &self.stages[at] {
                Stage::Compress(method) if at == tunings[0].0 && self.matched.is_some() => {
                    method_label(&method.without_strength(catalog), catalog)
                }
                Stage::Compress(method) => method_label(method, catalog),
                Stage::FineTune(_) => "fine-tuned".to_owned(),
            });
            if !is_usual && epochs > 0 {
                parts.push(epochs_label(epochs));
            }
        }
        let mut remarks = Vec::new();
        let matched = self.matched.map(|asked| asked.to_string());
        remarks.extend(matched.as_deref());
        if self.checkpoint == Checkpoint::Best {
            remarks.push("best epoch");
        }
        let learns =
            |stage: &Stage| matches!(stage, Stage::Compress(method) if trains(method, catalog));
        if !is_usual && !is_tuned && !self.stages.iter().any(learns) {
            remarks.push("not tuned");
        }
        if self.stages.iter().any(is_adversarial) {
            remarks.push("adversarially tuned");
        }
        let label = parts.join(" + ");
        if remarks.is_empty() {
            label
        } else {
            format!("{label} ({})", remarks.join(", "))
        }
    }

    /// Each compression by its place among the stages, with the epochs of fine-tuning that follow it; a fine-tuning
    /// before any compression stands for itself.
    fn tunings(&self) -> Vec<(usize, u32)> {
        let mut tunings: Vec<(usize, u32)> = Vec::new();
        for (at, stage) in self.stages.iter().enumerate() {
            match (stage, tunings.last_mut()) {
                (Stage::Compress(_), _) => tunings.push((at, 0)),
                (Stage::FineTune(setting), Some(last)) => {
                    last.1 = last.1.saturating_add(tuning(setting));
                }
                (Stage::FineTune(setting), None) => tunings.push((at, tuning(setting))),
            }
        }
        tunings
    }

    fn family(&self, catalog: &Catalog) -> String {
        self.stages
            .iter()
            .find_map(|stage| match stage {
                Stage::Compress(method) => catalog
                    .find(&method.id)
                    .map(|found| found.info.family.to_string()),
                Stage::FineTune(_) => None,
            })
            .unwrap_or_default()
    }
}

/// Epochs of fine-tuning that a compression comes with: what it does to a network is seen when nothing else was done
/// to it, but nobody leaves a pruned network untrained.
pub fn usual_tuning(compression: &str, catalog: &Catalog) -> u32 {
    let family = catalog.find(compression).map(|found| &*found.info.family);
    u32::from(!matches!(
        family,
        Some("quantization" | "distillation" | "recalibration")
    ))
}

/// Epochs of a fine-tuning, of which there is 1 where nothing is said.
fn tuning(setting: &Setting) -> u32 {
    match setting.0.get("epochs") {
        None => 1,
        Some(_) => epochs(&setting.0),
    }
}

fn epochs_label(epochs: u32) -> String {
    let plural = if epochs == 1 { "" } else { "s" };
    format!("{epochs} epoch{plural}")
}

fn percent(ratio: f64) -> String {
    format!("{} %", (ratio * 1e4).round() / 100.0)
}

/// Whether a compression trains the network itself: one with epochs, unless a schedule prunes at once.
fn trains(method: &Method, catalog: &Catalog) -> bool {
    let described = catalog.find(&method.id);
    let is_at_once = || match method.setting.0.get("schedule") {
        Some(schedule) => schedule.to_string() == "one-shot",
        None => described.is_some_and(|described| described.knob("schedule").is_some()),
    };
    described.is_some_and(|described| described.knob("epochs").is_some()) && !is_at_once()
}

/// The title and the knobs that are not where they stand by themselves; ratio and bits always.
fn method_label(method: &Method, catalog: &Catalog) -> String {
    let mut label = catalog.title(&method.id).to_lowercase();
    let knobs = &method.setting.0;
    let described = catalog.find(&method.id);
    let activations = knobs.get("activation-bits").map(ToString::to_string);
    let bits = knobs.get("bits").map(ToString::to_string);
    // The ratio is what a method's branches differ by.
    let first = ["ratio", "ratio-of"];
    let named = |id: &&str| knobs.get_key_value(*id);
    let others = knobs.iter().filter(|(id, _)| !first.contains(&id.as_str()));
    for (id, value) in first.iter().filter_map(named).chain(others) {
        let knob = described.and_then(|described| described.knob(id));
        let words = match (id.as_str(), value) {
            // A student of another architecture is as large as it is.
            ("ratio", _) if is_named(knobs.get("student")) => continue,
            ("ratio", KnobValue::Real(ratio)) => percent(*ratio),
            ("ratio", KnobValue::List(ratios)) => {
                let words = ratios.iter().map(|ratio| match ratio.number() {
                    Some(ratio) => percent(ratio),
                    None => ratio.to_string(),
                });
                words.collect::<Vec<_>>().join(", ")
            }
            ("bits", bits) => match &activations {
                Some(other) if *other != "as-weights" && *other != bits.to_string() => {
                    let other = match other.as_str() {
                        "floats" => "float".to_owned(),
                        other => format!("{other}-bit"),
                    };
                    format!("{bits}-bit weights, {other} activations")
                }
                _ => format!("{bits} bits"),
            },
            // Said beside the bits of the weights.
            ("activation-bits", _) if bits.is_some() => continue,
            (_, value) if knob.map(|knob| knob.range.default()).as_ref() == Some(value) => continue,
            ("ratio-of", word) => format!("of {word}"),
            ("epochs", KnobValue::Integer(epochs)) => {
                epochs_label(u32::try_from(*epochs).unwrap_or(u32::MAX))
            }
            (id, value) => match knob {
                Some(knob) => format!("{} {value}", knob.title),
                None => format!("{id} {value}"),
            },
        };
        label = format!("{label} {words}");
    }
    label
}

/// Whether a stage tunes on attacked images.
fn is_adversarial(stage: &Stage) -> bool {
    let Stage::FineTune(setting) = stage else {
        return false;
    };
    let attack = setting.0.get("adversarial");
    tuning(setting) > 0 && attack == Some(&KnobValue::Choice("pgd".into()))
}

/// Whether a student is another architecture than the reference's.
fn is_named(student: Option<&KnobValue>) -> bool {
    student.is_some_and(|student| student.to_string() != "same")
}

fn epochs(setting: &std::collections::BTreeMap<String, KnobValue>) -> u32 {
    // A pruning that does not train has the knob too.
    if setting.get("schedule") == Some(&KnobValue::Choice("one-shot".to_owned())) {
        return 0;
    }
    match setting.get("epochs") {
        Some(KnobValue::Integer(n)) => u32::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}
