//! The networks that a study will make, in the order in which it makes them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Branch, CheckedStudy, KnobValue, Method, NetworkId, Stage, Study, distinct};
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
        let several = study.references.len() > 1;
        let mut networks: Vec<NetworkPlan> = Vec::new();
        for (index, reference) in study.references.iter().enumerate() {
            let of = if several {
                format!(" {}", index + 1)
            } else {
                String::new()
            };
            let seed = reference.seed.unwrap_or(study.seed);
            let own = NetworkId(networks.len() as u32);
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
            push(format!("reference{of}"), Role::Reference, seed, seed);
            for twin in 1..=u64::from(reference.twins) {
                let other = seed.wrapping_add(twin);
                push(format!("twin{of} {twin}"), Role::Twin, other, other);
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
        let name = if study.references.len() > 1 {
            format!("{name} of {}", reference + 1)
        } else {
            name
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
    pub fn label(&self, catalog: &Catalog) -> String {
        let parts: Vec<String> = self
            .stages
            .iter()
            .filter_map(|stage| match stage {
                Stage::Compress(method) => Some(method_label(method, catalog)),
                Stage::FineTune(_) => None,
            })
            .collect();
        if parts.is_empty() {
            "fine-tuned".to_owned()
        } else {
            parts.join(" + ")
        }
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

fn method_label(method: &Method, catalog: &Catalog) -> String {
    let title = catalog.title(&method.id).to_lowercase();
    let mut label = title;
    for (id, value) in &method.setting.0 {
        let default = catalog
            .find(&method.id)
            .and_then(|m| m.knob(id))
            .map(|knob| knob.range.default());
        match value {
            KnobValue::Real(ratio) if id == "ratio" => {
                label = format!("{label} {} %", (ratio * 1e4).round() / 100.0);
            }
            value if id == "bits" => label = format!("{label} {value} bits"),
            value if default.as_ref() != Some(value) => label = format!("{label} {id} {value}"),
            _ => {}
        }
    }
    label
}

fn epochs(setting: &std::collections::BTreeMap<String, KnobValue>) -> u32 {
    match setting.get("epochs") {
        Some(KnobValue::Integer(n)) => u32::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}
