//! The form of a study: rows derived from the catalog, a cursor, and what is being typed.
//!
//! The form holds a [`Study`] and nothing beside it that could disagree: each row reads and changes that study, so a new
//! knob of a method is a new row without a line here.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, Described, Knob, Range};
use crate::spec::{
    Branch, Checkpoint, KnobValue, Method, Reference, Setting, SpecError, Stage, Study, Suite,
};

mod knob;
mod rows;
mod step;
mod typing;

pub use rows::{Kind, Row};
pub use step::turn_knob;

/// What a row stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Dataset,
    DatasetKnob(String),
    Architecture,
    ArchitectureKnob(String),
    /// The side to which images are enlarged.
    Resize,
    /// The file of weights to start from; a flag or a study in a file says it.
    From,
    /// What those weights take off and divide by.
    Mean,
    Std,
    /// A knob of a probe: the probe's id and the knob's.
    ProbeKnob(String, String),
    Training(String),
    Seed,
    Twins,
    SameStartTwin,
    TrainLimit,
    TestLimit,
    /// Which set of corruptions.
    Corruptions,
    /// Which attacks.
    Attacks,
    /// Whether other domains are asked, too.
    Domains,
    FullSuite,
    Threads,
    Device,
    /// The compression at that stage of that branch.
    Method(usize, usize),
    Knob(usize, usize, String),
    /// Epochs of fine-tuning behind that stage.
    FineTune(usize, usize),
    /// One more compression behind the others.
    Then(usize),
    Checkpoint(usize),
    AddBranch,
    /// What every network is measured by; nothing to turn yet.
    Measure,
}

impl Place {
    /// The branch that the row belongs to.
    pub fn branch(&self) -> Option<usize> {
        match self {
            Self::Method(branch, _)
            | Self::Knob(branch, _, _)
            | Self::FineTune(branch, _)
            | Self::Then(branch)
            | Self::Checkpoint(branch) => Some(*branch),
            _ => None,
        }
    }
}

/// The form.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    study: Study,
    /// The reference of the study whose fields are shown.
    reference: usize,
    /// Set for the small form: only this branch is shown, and it alone is asked for.
    only: Option<usize>,
    cursor: usize,
    /// What is being typed into the field under the cursor.
    typed: Option<String>,
    /// The study before the typing began, for Esc.
    before: Option<Box<Study>>,
    /// What was typed and is no number.
    bad: BTreeMap<Place, String>,
    /// Whether the knobs that few people turn are shown.
    shows_all: bool,
}

impl Form {
    /// One reference, one twin, one branch: the first data set, architecture and compression of the catalog.
    pub fn new(catalog: &Catalog) -> Self {
        let first = |table: &[Described]| {
            Method::plain(
                table
                    .first()
                    .map_or(String::new(), |method| method.info.id.to_string()),
            )
        };
        let study = Study {
            seed: 7,
            seeds: Vec::new(),
            threads: None,
            device: "cpu".to_owned(),
            tf32: true,
            deterministic: false,
            train_limit: None,
            test_limit: None,
            references: vec![Reference {
                dataset: first(&catalog.datasets),
                architecture: first(&catalog.architectures),
                from: None,
                resize: None,
                training: Setting::default(),
                seed: None,
                twins: 1,
                same_start_twin: false,
                branches: Vec::new(),
            }],
            suite: Suite::default(),
        };
        let mut form = Self::of(study);
        form.add_branch(catalog);
        form.cursor = 0;
        form
    }

    /// The form that asks for this study.
    pub fn of(mut study: Study) -> Self {
        if study.references.is_empty() {
            study.references.push(Reference {
                dataset: Method::plain(""),
                architecture: Method::plain(""),
                from: None,
                resize: None,
                training: Setting::default(),
                seed: None,
                twins: 0,
                same_start_twin: false,
                branches: Vec::new(),
            });
        }
        Self {
            study,
            reference: 0,
            only: None,
            cursor: 0,
            typed: None,
            before: None,
            bad: BTreeMap::new(),
            shows_all: false,
        }
    }

    /// The small form: one more branch for a reference of a running study.
    pub fn branch_of(study: &Study, reference: u32, catalog: &Catalog) -> Self {
        let mut form = Self::of(study.clone());
        form.reference = (reference as usize).min(form.study.references.len() - 1);
        form.add_branch(catalog);
        form.only = Some(form.asked().branches.len() - 1);
        form.cursor = 0;
        form
    }

    /// The form with that device to compute on.
    pub fn on(mut self, device: &str) -> Self {
        device.clone_into(&mut self.study.device);
        self
    }

    /// What the form asks for.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// Which reference of the study a new branch is for.
    pub fn reference(&self) -> u32 {
        self.reference as u32
    }

    /// The branch that the small form asks for.
    pub fn branch(&self) -> Option<&Branch> {
        self.asked().branches.get(self.only?)
    }

    fn asked(&self) -> &Reference {
        &self.study.references[self.reference]
    }

    fn asked_mut(&mut self) -> &mut Reference {
        &mut self.study.references[self.reference]
    }

    /// Whether the knobs that few people turn are shown.
    pub fn shows_all(&self) -> bool {
        self.shows_all
    }

    /// Which row has the cursor.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// What is being typed, if anything is.
    pub fn typed(&self) -> Option<&str> {
        self.typed.as_deref()
    }

    /// Everything that is wrong, as [`Study::check`] finds it, and what was typed and is no number.
    pub fn errors(&self, catalog: &Catalog) -> Vec<SpecError> {
        let mut errors = match (self.only, self.branch()) {
            (Some(number), Some(branch)) => branch
                .clone()
                .check(catalog, &self.asked().training)
                .err()
                .unwrap_or_default()
                .into_iter()
                .map(|error| SpecError {
                    field: error
                        .field
                        .replacen("branch", &format!("branch {}", number + 1), 1),
                    problem: error.problem,
                })
                .collect(),
            _ => self.study.clone().check(catalog).err().unwrap_or_default(),
        };
        for (place, typed) in &self.bad {
            errors.push(SpecError {
                field: self.field_of(place),
                problem: format!("\"{typed}\" is not a whole number"),
            });
        }
        errors
    }

    /// How [`Study::check`] calls the field of a row.
    fn field_of(&self, place: &Place) -> String {
        let several = self.study.references.len() > 1 && self.only.is_none();
        let reference = format!("reference {}", self.reference + 1);
        let in_reference = |id: &str| {
            if several {
                format!("{reference}: {id}")
            } else {
                id.to_owned()
            }
        };
        let in_branch = |branch: &usize, id: &str| {
            if several {
                format!("{reference}, branch {}: {id}", branch + 1)
            } else {
                format!("branch {}: {id}", branch + 1)
            }
        };
        match place {
            Place::Dataset => in_reference("dataset"),
            Place::Architecture => in_reference("architecture"),
            Place::Resize => in_reference("resize"),
            Place::From => in_reference("from"),
            Place::Mean => in_reference("mean"),
            Place::Std => in_reference("std"),
            Place::DatasetKnob(id) | Place::ArchitectureKnob(id) | Place::Training(id) => {
                in_reference(id)
            }
            Place::ProbeKnob(_, id) => format!("suite: {id}"),
            Place::Seed if !self.study.seeds.is_empty() => "seeds".to_owned(),
            Place::Seed => in_reference("seed"),
            Place::Twins => in_reference("twins"),
            Place::SameStartTwin => in_reference("same-start-twin"),
            Place::TrainLimit => "train-limit".to_owned(),
            Place::TestLimit => "test-limit".to_owned(),
            Place::Corruptions => "suite: corruption".to_owned(),
            Place::Attacks => "suite: attack".to_owned(),
            Place::Domains => "suite: domain".to_owned(),
            Place::FullSuite => "suite: full".to_owned(),
            Place::Threads => "threads".to_owned(),
            Place::Device => "device".to_owned(),
            Place::Method(branch, _) => in_branch(branch, "compression"),
            Place::Knob(branch, _, id) => in_branch(branch, id),
            Place::FineTune(branch, _) => in_branch(branch, "epochs"),
            Place::Then(branch) => in_branch(branch, "stages"),
            Place::Checkpoint(branch) => in_branch(branch, "checkpoint"),
            Place::AddBranch => in_reference("branches"),
            Place::Measure => "suite: probes".to_owned(),
        }
    }

    /// Moves the cursor by rows.
    pub fn travel(&mut self, rows: isize, catalog: &Catalog) {
        self.settle();
        let last = self.rows(catalog).len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(rows).min(last);
    }

    /// Puts the cursor on a row.
    pub fn put_cursor(&mut self, row: usize, catalog: &Catalog) {
        self.settle();
        self.cursor = row.min(self.rows(catalog).len().saturating_sub(1));
    }

    /// What the cursor is on.
    pub fn place(&self, catalog: &Catalog) -> Option<Place> {
        self.rows(catalog)
            .get(self.cursor)
            .map(|row| row.place.clone())
    }

    /// Adds a branch behind the others, with the first compression and one epoch of fine-tuning, and goes there.
    pub fn add_branch(&mut self, catalog: &Catalog) {
        self.settle();
        let Some(first) = catalog.compressions.first() else {
            return;
        };
        let mut epochs = Setting::default();
        epochs.0.insert("epochs".to_owned(), KnobValue::Integer(1));
        self.asked_mut().branches.push(Branch {
            name: String::new(),
            checkpoint: Checkpoint::Last,
            matched: None,
            stages: vec![
                Stage::Compress(Method::plain(&*first.info.id)),
                Stage::FineTune(epochs),
            ],
        });
        let number = self.asked().branches.len() - 1;
        self.go_to(&Place::Method(number, 0), catalog);
    }

    /// Removes the branch under the cursor.
    pub fn remove_branch(&mut self, catalog: &Catalog) {
        self.settle();
        let Some(branch) = self.place(catalog).and_then(|place| place.branch()) else {
            return;
        };
        if self.only.is_none() && branch < self.asked().branches.len() {
            self.asked_mut().branches.remove(branch);
            self.bad.clear();
            self.go_to(&Place::Method(branch, 0), catalog);
            self.cursor = self.cursor.min(self.rows(catalog).len().saturating_sub(1));
        }
    }

    /// Shows every knob, or only the usual ones.
    pub fn show_all(&mut self, catalog: &Catalog) {
        self.settle();
        let place = self.place(catalog);
        self.shows_all = !self.shows_all;
        if let Some(place) = place {
            self.go_to(&place, catalog);
        }
        self.cursor = self.cursor.min(self.rows(catalog).len().saturating_sub(1));
    }

    fn go_to(&mut self, place: &Place, catalog: &Catalog) {
        if let Some(row) = self
            .rows(catalog)
            .iter()
            .position(|row| row.place == *place)
        {
            self.cursor = row;
        }
    }

    /// The knob of a row, if it stands for one.
    fn knob<'a>(&self, place: &Place, catalog: &'a Catalog) -> Option<&'a Knob> {
        match place {
            Place::DatasetKnob(id) => catalog.find(&self.asked().dataset.id)?.knob(id),
            Place::ArchitectureKnob(id) => catalog.find(&self.asked().architecture.id)?.knob(id),
            Place::Training(id) => catalog.training.iter().find(|knob| knob.id == *id),
            Place::ProbeKnob(probe, id) => catalog.find(probe)?.knob(id),
            Place::Knob(branch, stage, id) => {
                catalog.find(&self.method(*branch, *stage)?.id)?.knob(id)
            }
            Place::FineTune(..) => catalog.training.iter().find(|knob| knob.id == "epochs"),
            _ => None,
        }
    }

    fn method(&self, branch: usize, stage: usize) -> Option<&Method> {
        match self.asked().branches.get(branch)?.stages.get(stage)? {
            Stage::Compress(method) => Some(method),
            Stage::FineTune(_) => None,
        }
    }

    /// Epochs of fine-tuning directly behind a stage; `None` if there is none.
    fn fine_tuning(&self, branch: usize, stage: usize) -> Option<&Setting> {
        match self.asked().branches.get(branch)?.stages.get(stage + 1)? {
            Stage::FineTune(setting) => Some(setting),
            Stage::Compress(_) => None,
        }
    }

    fn setting_mut(&mut self, place: &Place) -> Option<&mut Setting> {
        if let Place::ProbeKnob(probe, _) = place {
            let mut probes = self.study.suite.probes.iter_mut();
            return probes
                .find(|method| method.id == *probe)
                .map(|method| &mut method.setting);
        }
        let reference = self.asked_mut();
        match place {
            Place::DatasetKnob(_) => Some(&mut reference.dataset.setting),
            Place::ArchitectureKnob(_) => Some(&mut reference.architecture.setting),
            Place::Training(_) => Some(&mut reference.training),
            Place::Knob(branch, stage, _) => {
                match reference
                    .branches
                    .get_mut(*branch)?
                    .stages
                    .get_mut(*stage)?
                {
                    Stage::Compress(method) => Some(&mut method.setting),
                    Stage::FineTune(_) => None,
                }
            }
            _ => None,
        }
    }
}

/// What a knob stands at: what the setting says, or its own default.
fn standing(setting: &Setting, knob: &Knob) -> KnobValue {
    setting
        .0
        .get(&*knob.id)
        .cloned()
        .unwrap_or_else(|| knob.range.default())
}

/// Whether a knob is turned by typing a number.
fn is_number(range: &Range) -> bool {
    matches!(range, Range::Integer { .. } | Range::Real { .. })
}
