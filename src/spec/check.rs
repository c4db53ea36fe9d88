//! Holding a study against a catalog: everything that is wrong, at once, before anything runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Branch, KnobValue, Method, Reference, Setting, Stage, Study, Suite, Weights, printable,
};
use crate::catalog::{Catalog, Described, Knob, Range, Text};

/// One thing that is wrong with a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// Where: `reference 1, branch 2: ratio`, or just `train-limit`. The last word is the field's or the knob's id.
    pub field: String,
    /// What was wrong and what is allowed.
    pub problem: String,
}

impl SpecError {
    /// `place` is empty where a study has only one such.
    pub fn new(place: &str, field: &str, problem: impl Into<String>) -> Self {
        let field = if place.is_empty() {
            field.to_owned()
        } else {
            format!("{place}: {field}")
        };
        Self {
            field,
            problem: problem.into(),
        }
    }

    /// The last word of [`Self::field`]: the knob or field itself.
    pub fn knob(&self) -> &str {
        self.field.rsplit(": ").next().unwrap_or(&self.field)
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for SpecError {}

/// A study that was held against a catalog: ids known, every knob present and in its own type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckedStudy(Study);

impl CheckedStudy {
    /// The study, complete.
    pub fn study(&self) -> &Study {
        &self.0
    }
}

impl Study {
    /// Everything that is wrong, or the study with all that was left open filled in.
    ///
    /// # Errors
    /// One [`SpecError`] per field.
    pub fn check(mut self, catalog: &Catalog) -> Result<CheckedStudy, Vec<SpecError>> {
        let mut errors = Vec::new();
        if self.references.is_empty() {
            errors.push(SpecError::new(
                "",
                "references",
                "a study needs at least one reference",
            ));
        }
        for (name, limit) in [
            ("train-limit", self.train_limit),
            ("test-limit", self.test_limit),
        ] {
            if limit.is_some_and(|n| n < FEWEST_IMAGES) {
                errors.push(SpecError::new(
                    "",
                    name,
                    format!("at least {FEWEST_IMAGES} images are needed"),
                ));
            }
        }
        match self.threads {
            Some(0) => errors.push(SpecError::new("", "threads", "at least 1 thread is needed")),
            Some(n) if n > MOST_THREADS => {
                errors.push(SpecError::new(
                    "",
                    "threads",
                    format!("{n} is more than {MOST_THREADS}, the most"),
                ));
            }
            _ => {}
        }
        if !is_device(&self.device) {
            let problem = format!(
                "\"{}\" is none of cpu, auto, cuda, cuda:N",
                printable(&self.device)
            );
            errors.push(SpecError::new("", "device", problem));
        }
        if self.suite.corrupted_images < FEWEST_CORRUPTED {
            let problem = format!(
                "{} images are too few; at least {FEWEST_CORRUPTED}",
                self.suite.corrupted_images
            );
            errors.push(SpecError::new("suite", "corrupted-images", problem));
        }
        if self.suite.probes.is_empty() {
            self.suite.probes = self.suite.usual_probes(catalog);
        }
        // Attacks that were asked for are measured, whatever else is.
        let measures = |suite: &Suite| suite.probes.iter().any(|probe| probe.id == ATTACKING);
        if !self.suite.attacks.is_empty() && !measures(&self.suite) {
            self.suite.probes.push(Method::plain(ATTACKING));
        }
        if self.suite.corruptions.is_empty() {
            let usual = &catalog.usual_corruptions;
            let is_usual = |id: &Text| usual.is_empty() || usual.contains(id);
            let ids = catalog.corruptions.iter().map(|method| &method.info.id);
            let mut all: Vec<Method> = ids
                .filter(|id| is_usual(id))
                .map(|id| Method::plain(&**id))
                .collect();
            // In the order of that list.
            all.sort_by_key(|method| usual.iter().position(|id| *id == method.id));
            self.suite.corruptions = all;
        }
        for (table, methods, what) in [
            (&catalog.probes, &mut self.suite.probes, "probe"),
            (
                &catalog.corruptions,
                &mut self.suite.corruptions,
                "corruption",
            ),
            (&catalog.attacks, &mut self.suite.attacks, "attack"),
        ] {
            for method in methods.iter_mut() {
                // Several methods have a knob of that name.
                let is_known = table.iter().any(|known| known.info.id == method.id);
                let place = match what {
                    "attack" | "corruption" if is_known => format!("suite, {what} {}", method.id),
                    _ => "suite".to_owned(),
                };
                check_method(method, table, &place, what, &mut errors);
            }
            let mut kept: Vec<Method> = Vec::new();
            for method in methods.drain(..) {
                if !kept.contains(&method) {
                    kept.push(method);
                }
            }
            *methods = kept;
        }
        for domain in &mut self.suite.domains {
            // The domains that a data set knows are found where it is.
            if domain.id != ALL_DOMAINS {
                check_method(domain, &catalog.datasets, "suite", "domain", &mut errors);
            }
        }
        errors.append(&mut self.check_seeds());
        let several = self.references.len() > 1;
        let (seed, train_limit) = (self.seed, self.train_limit);
        let is_repeated = !self.seeds.is_empty();
        for (index, reference) in self.references.iter_mut().enumerate() {
            let place = if several {
                format!("reference {}", index + 1)
            } else {
                String::new()
            };
            check_method(
                &mut reference.dataset,
                &catalog.datasets,
                &place,
                "dataset",
                &mut errors,
            );
            check_method(
                &mut reference.architecture,
                &catalog.architectures,
                &place,
                "architecture",
                &mut errors,
            );
            if let Some(weights) = &reference.from {
                check_weights(weights, &place, &mut errors);
            }
            if let Some(side) = reference.resize
                && !(1..=LARGEST_SIDE).contains(&side)
            {
                let problem =
                    format!("{side} is not allowed; a side from 1 to {LARGEST_SIDE} pixels");
                errors.push(SpecError::new(&place, "resize", problem));
            }
            check_setting(
                &mut reference.training,
                &catalog.training,
                &place,
                "a training",
                &mut errors,
            );
            check_batch(&reference.training, train_limit, &place, &mut errors);
            check_untrained(reference, &place, &mut errors);
            if !is_repeated {
                reference.seed.get_or_insert(seed);
            }
            if reference.twins > MOST_TWINS {
                let problem = format!("{} is more than {MOST_TWINS}, the most", reference.twins);
                errors.push(SpecError::new(&place, "twins", problem));
            }
            let mut branches = Vec::new();
            for (number, mut branch) in std::mem::take(&mut reference.branches)
                .into_iter()
                .enumerate()
            {
                let comma = if place.is_empty() { "" } else { ", " };
                let place = format!("{place}{comma}branch {}", number + 1);
                branch.fill(catalog, &reference.training, &place, &mut errors);
                branches.append(&mut branch.spread(&place, &mut errors));
            }
            reference.branches = branches;
        }
        self.spread_seeds();
        if errors.is_empty() {
            Ok(CheckedStudy(self))
        } else {
            Err(errors)
        }
    }
}

impl Branch {
    /// The branch with all that was left open filled in, for one that is added to a running study; several where a knob
    /// has several values.
    ///
    /// # Errors
    /// One [`SpecError`] per field.
    pub fn check(
        mut self,
        catalog: &Catalog,
        training: &Setting,
    ) -> Result<Vec<Self>, Vec<SpecError>> {
        let mut errors = Vec::new();
        self.fill(catalog, training, "branch", &mut errors);
        let branches = self.spread("branch", &mut errors);
        if errors.is_empty() {
            Ok(branches)
        } else {
            Err(errors)
        }
    }

    /// Fine-tuning inherits what it does not say itself from the reference's recipe, apart from the number of epochs and
    /// whether it learns on attacked images.
    fn fill(
        &mut self,
        catalog: &Catalog,
        training: &Setting,
        place: &str,
        errors: &mut Vec<SpecError>,
    ) {
        if self.stages.is_empty() {
            errors.push(SpecError::new(
                place,
                "stages",
                "a branch needs at least one stage",
            ));
        }
        if let Some(asked) = &self.matched {
            let first = self.stages.iter().find_map(|stage| match stage {
                Stage::Compress(method) => Some(method),
                Stage::FineTune(_) => None,
            });
            asked.check(first, &catalog.compressions, place, errors);
        }
        for stage in &mut self.stages {
            match stage {
                Stage::Compress(method) => {
                    check_compression(method, &catalog.compressions, place, errors);
                }
                Stage::FineTune(setting) => {
                    for (id, value) in &training.0 {
                        if id != "epochs" && id != "adversarial" {
                            setting.0.entry(id.clone()).or_insert_with(|| value.clone());
                        }
                    }
                    setting
                        .0
                        .entry("epochs".to_owned())
                        .or_insert(KnobValue::Integer(1));
                    check_setting(setting, &catalog.training, place, "a fine-tuning", errors);
                    if setting.0.get("epochs") == Some(&KnobValue::Integer(0)) {
                        let problem = "0 is not allowed; at least one epoch, or no fine-tuning";
                        errors.push(SpecError::new(place, "epochs", problem));
                    }
                }
            }
        }
    }
}

/// The probe that measures the attacks that were asked for.
const ATTACKING: &str = "adversarial-accuracy";

/// Only weights from a file can be taken as they are, and then every twin would be the reference.
fn check_untrained(reference: &Reference, place: &str, errors: &mut Vec<SpecError>) {
    if reference.training.0.get("epochs") != Some(&KnobValue::Integer(0)) {
        return;
    }
    if reference.from.is_none() {
        let problem = "0 is not allowed; at least one epoch, where no weights come from a file";
        errors.push(SpecError::new(place, "epochs", problem));
    } else if reference.twins > 0 || reference.same_start_twin {
        let problem = "without training, twins are the reference itself; 0 of them";
        errors.push(SpecError::new(place, "twins", problem));
    }
}

/// In the place of a data set: all the domains that a reference's own knows.
pub const ALL_DOMAINS: &str = "all";

/// Of which a tenth, two images, validates.
pub(super) const FEWEST_IMAGES: u32 = 20;

/// More than any machine has on which small networks are worth training.
pub(super) const MOST_THREADS: u32 = 1024;

/// One of each of ten classes.
pub(super) const FEWEST_CORRUPTED: u32 = 10;

/// Far more than a distribution needs to be seen.
pub(super) const MOST_TWINS: u32 = 100;

/// Twice the side for which ImageNet's networks were made, and a little more.
pub(super) const LARGEST_SIDE: u32 = 512;

/// The smallest deviation in use is 1/255, of networks that were trained on pixels from 0 to 255; much less would blow the
/// rounding of a pixel to a byte up beyond what any network saw.
const LEAST_DEVIATION: f64 = 1e-3;

fn check_weights(weights: &Weights, place: &str, errors: &mut Vec<SpecError>) {
    let mut wrong = |field: &str, problem: String| {
        errors.push(SpecError::new(place, field, problem));
    };
    if weights.file.is_empty() {
        wrong("from", "a file is needed".to_owned());
    }
    if weights.mean.len() != weights.std.len() {
        let (means, deviations) = (weights.mean.len(), weights.std.len());
        match (means, deviations) {
            (_, 0) => wrong(
                "std",
                "is missing beside mean; both are given, or neither".to_owned(),
            ),
            (0, _) => wrong(
                "mean",
                "is missing beside std; both are given, or neither".to_owned(),
            ),
            _ => {
                let numbers = if deviations == 1 { "number" } else { "numbers" };
                let problem = format!(
                    "{deviations} {numbers} beside {means} of mean; as many of both are needed"
                );
                wrong("std", problem);
            }
        }
    }
    for (field, numbers, least) in [
        ("mean", &weights.mean, 0.0),
        ("std", &weights.std, LEAST_DEVIATION),
    ] {
        if let Some(number) = numbers.iter().find(|n| !(least..=1.0).contains(*n)) {
            let problem = format!(
                "{number} is not allowed; a number from {least} to 1, for pixels from 0 to 1"
            );
            wrong(field, problem);
        }
    }
    let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(text) = weights.sha256.as_ref().filter(|text| !is_digest(text)) {
        wrong(
            "sha256",
            format!("{} is no SHA-256; 64 hexadecimal digits", printable(text)),
        );
    }
}

/// Whether a word names a device: `cpu`, `auto`, `cuda` or `cuda:N`.
pub fn is_device(device: &str) -> bool {
    matches!(device, "cpu" | "auto" | "cuda")
        || device
            .strip_prefix("cuda:")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn check_batch(
    training: &Setting,
    train_limit: Option<u32>,
    place: &str,
    errors: &mut Vec<SpecError>,
) {
    let (Some(limit), Some(KnobValue::Integer(batch))) = (train_limit, training.0.get("batch"))
    else {
        return;
    };
    // A tenth of the images, rounded, is kept for validation.
    let images = i64::from(limit) - (i64::from(limit) + 5) / 10;
    if *batch > images {
        let problem = format!(
            "a batch of {batch} is larger than the {images} training images left by train-limit"
        );
        errors.push(SpecError::new(place, "batch", problem));
    }
}

/// Fills in the knobs of a method, or says what is wrong with it.
fn check_method(
    method: &mut Method,
    table: &[Described],
    place: &str,
    what: &str,
    errors: &mut Vec<SpecError>,
) {
    let Some(described) = table
        .iter()
        .find(|described| described.info.id == method.id)
    else {
        let known: Vec<&str> = table.iter().map(|described| &*described.info.id).collect();
        let problem = format!(
            "\"{}\" is not known; one of {}",
            printable(&method.id),
            known.join(", ")
        );
        errors.push(SpecError::new(place, what, problem));
        return;
    };
    if method.setting.0.contains_key("ratio") && described.knob("ratio").is_none() {
        let problem = format!("{} has no ratio", described.info.id);
        errors.push(SpecError::new(place, "ratio", problem));
        method.setting.0.remove("ratio");
    }
    check_setting(
        &mut method.setting,
        &described.knobs,
        place,
        &described.info.id,
        errors,
    );
}

/// The same for a compression, whose knobs may have several values: each is held against the knob by itself.
fn check_compression(
    method: &mut Method,
    table: &[Described],
    place: &str,
    errors: &mut Vec<SpecError>,
) {
    let described = table.iter().find(|entry| entry.info.id == method.id);
    let mut lists = Vec::new();
    for (id, value) in &mut method.setting.0 {
        let Some((knob, KnobValue::List(values))) = described
            .and_then(|described| described.knob(id))
            .zip(Some(&mut *value))
        else {
            continue;
        };
        let taken: Option<Vec<KnobValue>> = values.iter().map(|v| knob.range.accept(v)).collect();
        // What is wrong with one of them is said by the check of all knobs, of that one alone.
        match (
            taken,
            values.iter().find(|v| knob.range.accept(v).is_none()),
        ) {
            (Some(taken), _) if !taken.is_empty() => {
                let twice = |(at, value)| taken[..at].contains(value);
                if let Some((_, value)) = taken.iter().enumerate().find(|pair| twice(*pair)) {
                    let problem = format!("{value} stands twice; each value makes a branch");
                    errors.push(SpecError::new(place, id, problem));
                }
                let first = taken[0].clone();
                lists.push((id.clone(), taken));
                *value = first;
            }
            (_, Some(wrong)) => *value = wrong.clone(),
            (_, None) => *value = KnobValue::Choice(String::new()),
        }
    }
    check_method(method, table, place, "compression", errors);
    for (id, values) in lists {
        method.setting.0.insert(id, KnobValue::List(values));
    }
}

fn check_setting(
    setting: &mut Setting,
    knobs: &[Knob],
    place: &str,
    owner: &str,
    errors: &mut Vec<SpecError>,
) {
    for (id, value) in &setting.0 {
        let problem = match knobs.iter().find(|knob| knob.id == *id) {
            None if knobs.is_empty() => format!("{owner} has no knobs"),
            None => {
                let known: Vec<&str> = knobs.iter().map(|knob| &*knob.id).collect();
                format!("{owner} has no such knob; one of {}", known.join(", "))
            }
            Some(knob)
                if matches!(value, KnobValue::List(_))
                    && !matches!(knob.range, Range::Numbers { .. }) =>
            {
                format!(
                    "{} is a list; only a compression's knob takes one, for a branch of each",
                    printable(&value.to_string())
                )
            }
            Some(knob) if knob.range.accept(value).is_none() => {
                let written = match printable(&value.to_string()) {
                    nothing if nothing.is_empty() => "nothing".to_owned(),
                    written => written,
                };
                format!("{written} is not allowed; {}", knob.range)
            }
            Some(_) => continue,
        };
        errors.push(SpecError::new(place, &printable(id), problem));
    }
    for knob in knobs {
        let value = setting
            .0
            .get(&*knob.id)
            .and_then(|value| knob.range.accept(value));
        setting.0.insert(
            knob.id.to_string(),
            value.unwrap_or_else(|| knob.range.default()),
        );
    }
}
