//! The rows of the form, read from the study and the catalog.

use super::knob::{knob_row, removed, several};
use super::step::attack_sets;
use super::{Form, Place, standing};
use crate::catalog::{Catalog, Described, Knob};
use crate::spec::{ALL_DOMAINS, Checkpoint, KnobValue, Stage, Weights};
use crate::ui::{figure, text};

/// How a row is turned.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One of a few words.
    Choice,
    /// A number, typed or stepped; `slider` is its place between its ends where that can be pictured.
    Number { slider: Option<f64> },
    /// On or off.
    Flag,
    /// Something that happens on a key.
    Button,
    /// Nothing to turn.
    Fixed,
}

/// One line of the form.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub place: Place,
    pub label: String,
    pub value: String,
    pub kind: Kind,
    /// What the value means, behind it.
    pub note: String,
    /// What is wrong with it.
    pub errors: Vec<String>,
    /// Belongs to the row above.
    pub is_inner: bool,
}

/// Training knobs that are shown at once; the others on request.
const USUAL: [&str; 1] = ["epochs"];

impl Form {
    /// Every row, from above.
    pub fn rows(&self, catalog: &Catalog) -> Vec<Row> {
        let errors = self.errors(catalog);
        let mut rows = Vec::new();
        let mut push = |row: Row| {
            let mut row = row;
            let field = self.field_of(&row.place);
            row.errors = errors
                .iter()
                .filter(|error| error.field == field)
                .map(|error| error.problem.clone())
                .collect();
            rows.push(row);
        };
        if self.only.is_none() {
            self.study_rows(catalog, &mut push);
        }
        for number in 0..self.asked().branches.len() {
            if self.only.is_none_or(|only| only == number) {
                self.branch_rows(number, catalog, &mut push);
            }
        }
        if self.only.is_none() {
            push(Row {
                label: "+ add branch".to_owned(),
                kind: Kind::Button,
                ..plain(Place::AddBranch)
            });
            let usual = self.study().suite.usual_probes(catalog);
            let titles: Vec<&str> = usual.iter().map(|probe| &*probe.id).collect();
            push(Row {
                label: "Measure".to_owned(),
                value: titles.join(", "),
                kind: Kind::Fixed,
                ..plain(Place::Measure)
            });
            let is_usual = |probe: &&Described| usual.iter().any(|own| own.id == probe.info.id);
            let shown = catalog.probes.iter().filter(is_usual);
            for probe in shown.filter(|_| self.shows_all()) {
                let suite = &self.study().suite.probes;
                let named = suite.iter().find(|method| method.id == probe.info.id);
                let setting = named
                    .map(|method| method.setting.clone())
                    .unwrap_or_default();
                for knob in &probe.knobs {
                    let place = Place::ProbeKnob(probe.info.id.to_string(), knob.id.to_string());
                    push(knob_row(place, knob, &setting));
                }
            }
        }
        rows
    }

    /// What is wrong and belongs to no row that is shown.
    pub fn homeless(&self, catalog: &Catalog) -> Vec<String> {
        let fields: Vec<String> = self
            .rows(catalog)
            .iter()
            .map(|row| self.field_of(&row.place))
            .collect();
        self.errors(catalog)
            .into_iter()
            .filter(|error| !fields.contains(&error.field))
            .map(|error| error.to_string())
            .collect()
    }

    fn study_rows(&self, catalog: &Catalog, push: &mut dyn FnMut(Row)) {
        let asked = self.asked();
        let study = self.study();
        push(Row {
            label: "Data set".to_owned(),
            value: asked.dataset.id.clone(),
            kind: Kind::Choice,
            ..plain(Place::Dataset)
        });
        if let Some(described) = catalog.find(&asked.dataset.id) {
            for knob in &described.knobs {
                let place = Place::DatasetKnob(knob.id.to_string());
                push(knob_row(place, knob, &asked.dataset.setting));
            }
        }
        if self.shows_all || asked.resize.is_some() {
            push(Row {
                label: "resize".to_owned(),
                value: asked
                    .resize
                    .map_or("no".to_owned(), |side| side.to_string()),
                kind: Kind::Number { slider: None },
                note: "pixels a side".to_owned(),
                is_inner: true,
                ..plain(Place::Resize)
            });
        }
        push(Row {
            label: "Architecture".to_owned(),
            value: asked.architecture.id.clone(),
            kind: Kind::Choice,
            ..plain(Place::Architecture)
        });
        if let Some(described) = catalog.find(&asked.architecture.id) {
            for knob in &described.knobs {
                let place = Place::ArchitectureKnob(knob.id.to_string());
                push(knob_row(place, knob, &asked.architecture.setting));
            }
        }
        if let Some(from) = &asked.from {
            weights_rows(from, push);
        }
        let is_shown = |knob: &Knob| {
            self.shows_all
                || USUAL.contains(&&*knob.id)
                || asked
                    .training
                    .0
                    .get(&*knob.id)
                    .is_some_and(|value| *value != knob.range.default())
        };
        for knob in catalog.training.iter().filter(|knob| is_shown(knob)) {
            let mut row = knob_row(Place::Training(knob.id.to_string()), knob, &asked.training);
            row.is_inner = knob.id != "epochs";
            if knob.id == "epochs" && !self.shows_all {
                row.note = self.recipe(catalog);
            }
            push(row);
        }
        push(Row {
            label: "Seed".to_owned(),
            value: match study.seeds.as_slice() {
                [] => asked.seed.unwrap_or(study.seed).to_string(),
                several => {
                    let several: Vec<String> = several.iter().map(u64::to_string).collect();
                    several.join(",")
                }
            },
            kind: Kind::Number { slider: None },
            note: match study.seeds.len() {
                0 | 1 => "of weights and data order".to_owned(),
                several => format!("every network {several} times"),
            },
            ..plain(Place::Seed)
        });
        push(Row {
            label: "Twins".to_owned(),
            value: asked.twins.to_string(),
            kind: Kind::Number { slider: None },
            note: "same recipe, other seed".to_owned(),
            ..plain(Place::Twins)
        });
        if self.shows_all || asked.same_start_twin {
            push(Row {
                label: "same start".to_owned(),
                value: word(asked.same_start_twin),
                kind: Kind::Flag,
                note: "twin of the same first weights".to_owned(),
                is_inner: true,
                ..plain(Place::SameStartTwin)
            });
        }
        let limit = |limit: Option<u32>| limit.map_or("all".to_owned(), |n| n.to_string());
        let mut extra = |place, label: &str, value, kind, note: &str, is_set: bool| {
            if self.shows_all || is_set {
                push(Row {
                    label: label.to_owned(),
                    value,
                    kind,
                    note: note.to_owned(),
                    ..plain(place)
                });
            }
        };
        let number = || Kind::Number { slider: None };
        extra(
            Place::TrainLimit,
            "Train on",
            limit(study.train_limit),
            number(),
            "images",
            study.train_limit.is_some(),
        );
        extra(
            Place::TestLimit,
            "Test on",
            limit(study.test_limit),
            number(),
            "images",
            study.test_limit.is_some(),
        );
        let chosen = &study.suite.corruptions;
        let set = catalog
            .corruption_sets
            .iter()
            .find(|set| set.members == *chosen);
        let (name, note) = match set {
            Some(set) => (set.id.to_string(), set.summary.to_string()),
            None if chosen.is_empty() => (
                "usual".to_owned(),
                match catalog.usual_corruptions.len() {
                    0 => "all that are known".to_owned(),
                    few => format!("{few} of {}", catalog.corruptions.len()),
                },
            ),
            None => (format!("{} chosen", chosen.len()), String::new()),
        };
        extra(
            Place::Corruptions,
            "Corruptions",
            name,
            Kind::Choice,
            &note,
            !chosen.is_empty(),
        );
        let attacks = &study.suite.attacks;
        let ids: Vec<&str> = attacks.iter().map(|attack| &*attack.id).collect();
        let sets = attack_sets(catalog);
        let set = sets.iter().find(|(_, members)| members == attacks);
        // A knob of theirs may be turned by a flag.
        let (name, note) = match set {
            Some((name, _)) if attacks.is_empty() => {
                (name.clone(), "robustness (7) shows them".to_owned())
            }
            Some((name, _)) if ids.as_slice() == [name.as_str()] => {
                let found = catalog
                    .attacks
                    .iter()
                    .find(|attack| attack.info.id == *name);
                let title = found.map_or(String::new(), |attack| attack.info.title.to_string());
                (name.clone(), title)
            }
            Some((name, _)) => (name.clone(), ids.join(", ")),
            None => (format!("{} chosen", ids.len()), ids.join(", ")),
        };
        if !catalog.attacks.is_empty() {
            extra(Place::Attacks, "Attacks", name, Kind::Choice, &note, true);
        }
        let domains = &study.suite.domains;
        let (name, note) = match domains.as_slice() {
            [] => ("none", String::new()),
            [only] if only.id == ALL_DOMAINS => ("all", "that the data set knows".to_owned()),
            some => {
                let ids: Vec<&str> = some.iter().map(|domain| &*domain.id).collect();
                ("chosen", ids.join(", "))
            }
        };
        extra(
            Place::Domains,
            "Domains",
            name.to_owned(),
            Kind::Choice,
            &note,
            !domains.is_empty() || !catalog.attacks.is_empty(),
        );
        extra(
            Place::FullSuite,
            "Corrupt all",
            word(study.suite.full),
            Kind::Flag,
            &format!(
                "or {} images each",
                figure::count(u64::from(study.suite.corrupted_images))
            ),
            study.suite.full,
        );
        extra(
            Place::Threads,
            "Threads",
            limit(study.threads),
            number(),
            "that compute",
            study.threads.is_some(),
        );
        extra(
            Place::Device,
            "Device",
            study.device.clone(),
            Kind::Choice,
            "auto: a GPU where there is one",
            study.device != "cpu",
        );
    }

    /// The knobs of the training that are not shown, in one line.
    fn recipe(&self, catalog: &Catalog) -> String {
        let parts: Vec<String> = catalog
            .training
            .iter()
            .filter(|knob| !USUAL.contains(&&*knob.id))
            .map(|knob| format!("{} {}", knob.id, standing(&self.asked().training, knob)))
            .collect();
        parts.join(" · ")
    }

    fn branch_rows(&self, number: usize, catalog: &Catalog, push: &mut dyn FnMut(Row)) {
        let branch = &self.asked().branches[number];
        for (index, stage) in branch.stages.iter().enumerate() {
            let Stage::Compress(method) = stage else {
                continue;
            };
            push(Row {
                label: if index == 0 {
                    format!("Branch {}", number + 1)
                } else {
                    "then".to_owned()
                },
                value: method.id.clone(),
                kind: Kind::Choice,
                is_inner: index > 0,
                ..plain(Place::Method(number, index))
            });
            if let Some(described) = catalog.find(&method.id) {
                for knob in &described.knobs {
                    let place = Place::Knob(number, index, knob.id.to_string());
                    let mut row = knob_row(place, knob, &method.setting);
                    row.is_inner = true;
                    if knob.id == "ratio" {
                        row.note = removed(&row.value, described);
                    } else if let Some(KnobValue::List(_)) = method.setting.0.get(&*knob.id) {
                        row.note = several(&row.value);
                    }
                    push(row);
                }
            }
            let epochs = self
                .fine_tuning(number, index)
                .map_or(KnobValue::Integer(0), |setting| {
                    setting
                        .0
                        .get("epochs")
                        .cloned()
                        .unwrap_or(KnobValue::Integer(1))
                });
            push(Row {
                label: "fine-tune".to_owned(),
                note: if epochs == KnobValue::Integer(0) {
                    "epochs: none".to_owned()
                } else {
                    let plural = if epochs == KnobValue::Integer(1) {
                        ""
                    } else {
                        "s"
                    };
                    let is_pruned = catalog
                        .find(&method.id)
                        .is_some_and(|found| found.info.family == "pruning");
                    let masks = if is_pruned { ", masks kept" } else { "" };
                    format!("epoch{plural}{masks}")
                },
                value: epochs.to_string(),
                kind: Kind::Number { slider: None },
                is_inner: true,
                ..plain(Place::FineTune(number, index))
            });
        }
        if self.shows_all {
            push(Row {
                label: "then".to_owned(),
                value: "nothing".to_owned(),
                kind: Kind::Choice,
                note: "one more compression".to_owned(),
                is_inner: true,
                ..plain(Place::Then(number))
            });
        }
        if self.shows_all || branch.checkpoint != Checkpoint::Last {
            push(Row {
                label: "checkpoint".to_owned(),
                value: match branch.checkpoint {
                    Checkpoint::Last => "last",
                    Checkpoint::Best => "best",
                }
                .to_owned(),
                kind: Kind::Choice,
                note: "of the reference".to_owned(),
                is_inner: true,
                ..plain(Place::Checkpoint(number))
            });
        }
    }
}

/// Weights to start from: nothing to turn, since a form has no files to offer.
fn weights_rows(from: &Weights, push: &mut dyn FnMut(Row)) {
    let list = |numbers: &[f64]| match numbers {
        [] => "of the training images".to_owned(),
        numbers => {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            numbers.join(", ")
        }
    };
    for (place, label, value) in [
        (Place::From, "from", text::clean(&from.file)),
        (Place::Mean, "mean", list(&from.mean)),
        (Place::Std, "std", list(&from.std)),
    ] {
        push(Row {
            label: label.to_owned(),
            value,
            kind: Kind::Fixed,
            is_inner: true,
            ..plain(place)
        });
    }
}

fn plain(place: Place) -> Row {
    Row {
        place,
        label: String::new(),
        value: String::new(),
        kind: Kind::Button,
        note: String::new(),
        errors: Vec::new(),
        is_inner: false,
    }
}

pub(super) fn word(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}
