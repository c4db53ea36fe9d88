//! From typed flags, or a file, to a study.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use clap::ArgMatches;

use super::{RunArguments, UsageError, print};
use crate::catalog::Catalog;
use crate::lab::feasibility::{left_out, problems, spelled_out};
use crate::lab::saved;
use crate::spec::{
    Branch, CheckedStudy, Checkpoint, KnobValue, Match, Method, Reference, Setting, SpecError,
    Stage, Study, Suite, Weights,
};
use crate::state::counted;

/// Where each flag stood on the command line, in order of appearance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    compress: Vec<usize>,
    ratio: Vec<usize>,
    ratio_of: Vec<usize>,
    set: Vec<usize>,
    fine_tune: Vec<usize>,
    fine_tune_epochs: Vec<usize>,
    checkpoint: Vec<usize>,
}

impl Places {
    /// Reads them off.
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let of = |id: &str| {
            matches
                .indices_of(id)
                .map(Iterator::collect)
                .unwrap_or_default()
        };
        Self {
            compress: of("compress"),
            ratio: of("ratio"),
            ratio_of: of("ratio_of"),
            set: of("set"),
            fine_tune: of("fine_tune"),
            fine_tune_epochs: of("fine_tune_epochs"),
            checkpoint: of("checkpoint"),
        }
    }

    /// The branch that a flag at `place` belongs to: the last one opened before it.
    fn branch(&self, place: usize) -> Option<usize> {
        self.compress
            .iter()
            .filter(|opened| **opened < place)
            .count()
            .checked_sub(1)
    }
}

/// One branch as it was typed.
#[derive(Clone, Debug, Default)]
struct Typed {
    method: String,
    ratios: Vec<String>,
    knobs: Vec<(String, KnobValue)>,
    fine_tune: Option<String>,
    epochs: Option<i64>,
    checkpoint: Checkpoint,
}

/// The study that the flags describe.
///
/// # Errors
/// [`UsageError`] with everything that is wrong.
pub(crate) fn study(arguments: &RunArguments, catalog: &Catalog) -> Result<Study> {
    let mut study = match &arguments.spec {
        Some(file) => read(file)?,
        None => {
            let mut study = Study::default();
            let asked = arguments.dataset.is_some() || arguments.architecture.is_some();
            if asked || !arguments.compress.is_empty() {
                study.references[0].branches.clear();
                study.references[0].twins = u32::from(!arguments.compress.is_empty());
            }
            study
        }
    };
    let branches = typed_branches(arguments, catalog)?;
    let seeds = arguments.seed.iter();
    let seeds: Vec<u64> = seeds
        .filter_map(|seed| within("--seed", Some(*seed), "0 to 18446744073709551615").transpose())
        .collect::<Result<_>>()?;
    let twins = within("--twins", arguments.twins, "0 to 100")?;
    once("--attacks", &arguments.attacks)?;
    once("--corruptions", &arguments.corruptions)?;
    once("--domains", &arguments.domains)?;
    if !arguments.attacks.is_empty() {
        let asked = arguments.attacks.iter();
        study.suite.attacks = asked.map(|id| Method::plain(id.trim())).collect();
    }
    let before = arguments
        .places
        .set
        .iter()
        .zip(&arguments.set)
        .filter(|(place, _)| arguments.places.branch(**place).is_none());
    let knobs = before
        .map(|(_, typed)| knob(typed))
        .collect::<Result<Vec<_>>>()?;
    let mut probes = study.suite.probes.clone();
    if probes.is_empty() {
        probes = study.suite.usual_probes(catalog);
    }
    let is_of = |methods: &[Method], id: &str| methods.iter().any(|m| has(m, id, catalog));
    let (of_probes, knobs): (Vec<_>, Vec<_>) =
        knobs.into_iter().partition(|(id, _)| is_of(&probes, id));
    let (of_attacks, knobs): (Vec<_>, Vec<_>) = knobs
        .into_iter()
        .partition(|(id, _)| is_of(&study.suite.attacks, id));
    for (id, value) in &of_probes {
        turn_probe(&mut study.suite, id, value, catalog);
    }
    for (id, value) in &of_attacks {
        turn(&mut study.suite.attacks, id, value, catalog);
    }
    for reference in &mut study.references {
        if let Some(id) = &arguments.dataset {
            reference.dataset = Method::plain(id);
        }
        if let Some(id) = &arguments.architecture {
            reference.architecture = Method::plain(id);
        }
        if let Some(file) = &arguments.from {
            let from = Weights {
                file: file.clone(),
                ..Weights::default()
            };
            // A network that was saved as a whole is of the architecture that it says. What is wrong with a file is said
            // with all else that is wrong.
            if arguments.architecture.is_none()
                && let Ok(Some(saved)) = saved::read(&from)
            {
                let name = saved.network.name();
                reference.architecture = saved.design.unwrap_or_else(|| Method::plain(name));
            }
            reference.from = Some(from);
        }
        if !(arguments.mean.is_empty() && arguments.std.is_empty()) {
            let Some(from) = &mut reference.from else {
                let problem =
                    "--mean and --std: stand beside no --from, whose weights they are for";
                return Err(anyhow!(UsageError(problem.to_owned())));
            };
            from.mean.clone_from(&arguments.mean);
            from.std.clone_from(&arguments.std);
        }
        reference.resize = arguments.resize.or(reference.resize);
        if let Some(epochs) = arguments.epochs {
            reference
                .training
                .0
                .insert("epochs".into(), KnobValue::Integer(epochs));
        }
        // The twin that comes with a branch is one that is trained.
        if arguments.spec.is_none() && arguments.epochs == Some(0) {
            reference.twins = 0;
        }
        reference.twins = twins.unwrap_or(reference.twins);
        reference.same_start_twin |= arguments.same_start_twin;
        if !seeds.is_empty() {
            reference.seed = None;
        }
        for (id, value) in &knobs {
            place_knob(reference, id, value, catalog)?;
        }
        reference.branches.extend(branches.iter().cloned());
    }
    if !seeds.is_empty() {
        // What differed in its seed alone is the same now.
        let mut kept: Vec<Reference> = Vec::new();
        for reference in study.references.drain(..) {
            if !kept.contains(&reference) {
                kept.push(reference);
            }
        }
        study.references = kept;
    }
    if let Some(first) = seeds.first() {
        // One is the study's; of several the first splits the data of all.
        study.seed = *first;
        study.seeds = if seeds.len() > 1 { seeds } else { Vec::new() };
    }
    study.threads = within("--threads", arguments.threads, "1 to 1024")?.or(study.threads);
    let images = "20 or more images";
    study.train_limit =
        within("--train-limit", arguments.train_limit, images)?.or(study.train_limit);
    study.test_limit = within("--test-limit", arguments.test_limit, images)?.or(study.test_limit);
    if !arguments.domains.is_empty() {
        study.suite.domains = arguments
            .domains
            .iter()
            .map(|id| Method::plain(id.trim()))
            .collect();
    }
    // The budgets of attacks are epsilons; this one is that of a training that is not asked for.
    let is_attacked = |reference: &Reference| {
        let kind = reference.training.0.get("adversarial");
        kind == Some(&KnobValue::Choice("pgd".into()))
    };
    if knobs.iter().any(|(id, _)| id == "epsilon")
        && !study.suite.attacks.is_empty()
        && !study.references.iter().any(is_attacked)
    {
        let problem = "--set epsilon: epsilon is the budget of adversarial training, which is off; those of attacks are epsilons";
        return Err(anyhow!(UsageError(problem.into())));
    }
    study.suite.full |= arguments.full;
    if let Some(device) = &arguments.device {
        study.device.clone_from(device);
    }
    study.tf32 &= !arguments.fp32;
    study.deterministic |= arguments.deterministic;
    if !arguments.corruptions.is_empty() {
        let named = arguments.corruptions.iter();
        study.suite.corruptions = named.map(|id| Method::plain(id.trim())).collect();
    }
    let left_out = left_out(&study);
    if !(left_out.is_empty() || arguments.quiet || arguments.json) {
        print(&format!(
            "warning: the images have no color, and {} of what was asked for are left out: {}\n",
            counted(left_out.len() as u64, "corruption"),
            left_out.join(", ")
        ))?;
    }
    Ok(spelled_out(study))
}

/// Nothing is asked for twice: a second one would be dropped, or was meant to be another.
fn once(flag: &str, words: &[String]) -> Result<()> {
    for (at, word) in words.iter().enumerate() {
        if words[..at].iter().any(|other| other.trim() == word.trim()) {
            let problem = format!(
                "{flag}: {} stands twice; each is measured once",
                word.trim()
            );
            return Err(anyhow!(UsageError(problem)));
        }
    }
    Ok(())
}

/// A study from a file.
///
/// # Errors
/// One sentence that names the file; [`UsageError`] with everything that cannot be read, a line each.
pub(crate) fn read(file: &Path) -> Result<Study> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Study::from_toml(&text).map_err(|misread| {
        let lines = misread
            .iter()
            .map(|misread| format!("{}, {misread}", file.display()));
        anyhow!(UsageError(lines.collect::<Vec<_>>().join("\n")))
    })
}

/// Holds a study against the catalog, and what it asks for against the data sets and its files of weights.
///
/// # Errors
/// [`UsageError`] with everything that is wrong, a line each.
pub(crate) fn checked(study: Study, catalog: &Catalog) -> Result<CheckedStudy> {
    let study = spelled_out(study)
        .check(catalog)
        .map_err(|errors| usage(&errors))?;
    match problems(&study) {
        errors if errors.is_empty() => Ok(study),
        errors => Err(usage(&errors)),
    }
}

fn usage(errors: &[SpecError]) -> anyhow::Error {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    anyhow!(UsageError(lines.join("\n")))
}

fn typed_branches(arguments: &RunArguments, catalog: &Catalog) -> Result<Vec<Branch>> {
    let places = &arguments.places;
    let mut typed: Vec<Typed> = arguments
        .compress
        .iter()
        .map(|method| Typed {
            method: method.clone(),
            ..Typed::default()
        })
        .collect();
    let stray = |flag: &str| {
        anyhow!(UsageError(format!(
            "{flag}: stands before any --compress, whose flag it is"
        )))
    };
    for (place, ratios) in places.ratio.iter().zip(&arguments.ratio) {
        let branch = places.branch(*place).ok_or_else(|| stray("--ratio"))?;
        typed[branch]
            .ratios
            .extend(ratios.split(',').map(str::to_owned));
    }
    for (place, size) in places.ratio_of.iter().zip(&arguments.ratio_of) {
        let branch = places.branch(*place).ok_or_else(|| stray("--ratio-of"))?;
        let size = KnobValue::Choice(size.clone());
        typed[branch].knobs.push(("ratio-of".to_owned(), size));
    }
    for (place, text) in places.set.iter().zip(&arguments.set) {
        if let Some(branch) = places.branch(*place) {
            let (id, value) = knob(text)?;
            let branch = &mut typed[branch];
            let is_ratio = id == "ratio" && !branch.ratios.is_empty();
            if is_ratio || branch.knobs.iter().any(|(known, _)| *known == id) {
                let problem = format!("--set {id}: {id} of {} is given twice", branch.method);
                return Err(anyhow!(UsageError(problem)));
            }
            branch.knobs.push((id, value));
        }
    }
    for (place, kind) in places.fine_tune.iter().zip(&arguments.fine_tune) {
        let branch = places.branch(*place).ok_or_else(|| stray("--fine-tune"))?;
        typed[branch].fine_tune = Some(kind.clone());
    }
    for (place, epochs) in places
        .fine_tune_epochs
        .iter()
        .zip(&arguments.fine_tune_epochs)
    {
        let branch = places
            .branch(*place)
            .ok_or_else(|| stray("--fine-tune-epochs"))?;
        typed[branch].epochs = Some(*epochs);
    }
    for (place, which) in places.checkpoint.iter().zip(&arguments.checkpoint) {
        let branch = places.branch(*place).ok_or_else(|| stray("--checkpoint"))?;
        typed[branch].checkpoint = if which == "best" {
            Checkpoint::Best
        } else {
            Checkpoint::Last
        };
    }
    let matched = arguments.matched.as_deref().map(Match::parse).transpose();
    let matched = matched.map_err(|problem| anyhow!(UsageError(format!("--match: {problem}"))))?;
    if matched.is_some() && typed.iter().any(|branch| !branch.ratios.is_empty()) {
        let problem = "--match: stands beside --ratio, which it searches for; one of both";
        return Err(anyhow!(UsageError(problem.into())));
    }
    if matched.is_some() && typed.is_empty() {
        let problem = "--match: stands without any --compress, whose strength it searches for; in a study's file it is \
                       a branch's own `match`";
        return Err(anyhow!(UsageError(problem.into())));
    }
    let mut branches = Vec::new();
    for branch in typed {
        branches.append(&mut branch.branches(catalog)?);
    }
    for branch in &mut branches {
        branch.matched = matched;
    }
    Ok(branches)
}

impl Typed {
    /// One branch for each ratio.
    fn branches(&self, catalog: &Catalog) -> Result<Vec<Branch>> {
        for (at, ratio) in self.ratios.iter().enumerate() {
            let same = |other: &String| KnobValue::parse(other) == KnobValue::parse(ratio);
            if self.ratios[..at].iter().any(same) {
                let problem = format!("--ratio: {ratio} stands twice; each value makes a branch");
                return Err(anyhow!(UsageError(problem)));
            }
        }
        let ratios: Vec<Option<&String>> = if self.ratios.is_empty() {
            vec![None]
        } else {
            self.ratios.iter().map(Some).collect()
        };
        ratios
            .into_iter()
            .map(|ratio| self.branch(ratio.map(String::as_str), catalog))
            .collect()
    }

    fn branch(&self, ratio: Option<&str>, catalog: &Catalog) -> Result<Branch> {
        let mut method = Method::plain(&self.method);
        let mut tuning = Setting::default();
        let described = catalog
            .compressions
            .iter()
            .find(|described| described.info.id == self.method);
        for (id, value) in &self.knobs {
            // What the compression does not know may be the fine-tuning's.
            let own = described.is_some_and(|described| described.knob(id).is_some());
            let tunings = self.fine_tune.as_deref() != Some("none")
                && (self.fine_tune.is_some() || self.epochs.is_some());
            if !own && tunings && catalog.training.iter().any(|knob| knob.id == *id) {
                tuning.0.insert(id.clone(), value.clone());
            } else {
                method.setting.0.insert(id.clone(), value.clone());
            }
        }
        if let Some(ratio) = ratio {
            let value = KnobValue::parse(ratio.trim());
            if !matches!(value, KnobValue::Real(_) | KnobValue::Integer(_)) {
                let problem =
                    format!("--ratio: \"{ratio}\" is no number; a share from 0 to 1 is removed");
                return Err(anyhow!(UsageError(problem)));
            }
            method.setting.0.insert("ratio".into(), value);
        }
        let mut stages = vec![Stage::Compress(method)];
        match (self.fine_tune.as_deref(), self.epochs) {
            (Some("none"), Some(_)) => {
                let problem =
                    "--fine-tune-epochs: stands beside --fine-tune none, which trains for none";
                return Err(anyhow!(UsageError(problem.into())));
            }
            (Some("none") | None, None) => {}
            (_, epochs) => {
                let kind = self.fine_tune.as_deref().unwrap_or_default();
                let is_adversarial = matches!(kind, "adversarial" | "published-adversarial");
                let is_published = kind.starts_with("published");
                // Three are those of "Adversarial fine-tuning of compressed neural networks".
                let usual = if is_adversarial || is_published { 3 } else { 1 };
                if is_published {
                    let family = described.map_or("", |described| &*described.info.family);
                    publish(&mut tuning, family, is_adversarial);
                }
                tuning
                    .0
                    .insert("epochs".into(), KnobValue::Integer(epochs.unwrap_or(usual)));
                if is_adversarial {
                    let attack = KnobValue::Choice("pgd".into());
                    tuning.0.entry("adversarial".into()).or_insert(attack);
                }
                stages.push(Stage::FineTune(tuning));
            }
        }
        Ok(Branch {
            name: String::new(),
            checkpoint: self.checkpoint,
            matched: None,
            stages,
        })
    }
}

/// The fine-tuning of "Adversarial fine-tuning of compressed neural networks", appendix A.1: gradient descent without
/// momentum at 0.1 after a pruning, with momentum 0.9 at 0.01 after a quantization, the rate constant for three epochs; its
/// repository attacks in 20 steps from the image itself. Budgets are the data set's and stay as they are asked for.
fn publish(tuning: &mut Setting, family: &str, is_adversarial: bool) {
    let (rate, momentum) = if family == "quantization" {
        (0.01, 0.9)
    } else {
        (0.1, 0.0)
    };
    let word = |word: &str| KnobValue::Choice(word.to_owned());
    let mut knobs = vec![
        ("learning-rate", KnobValue::Real(rate)),
        ("momentum", KnobValue::Real(momentum)),
        ("weight-decay", KnobValue::Real(0.0)),
        ("schedule", word("constant")),
        ("optimizer", word("sgd")),
    ];
    if is_adversarial {
        knobs.push(("attack-steps", KnobValue::Integer(20)));
        knobs.push(("attack-start", word("image")));
    }
    for (id, value) in knobs {
        // What was set beside it stands.
        tuning.0.entry(id.to_owned()).or_insert(value);
    }
}

/// A whole number as it was typed, if its kind can hold it; its range is the study's to check.
fn within<Typed: Copy + Display, Kept: TryFrom<Typed>>(
    flag: &str,
    typed: Option<Typed>,
    allowed: &str,
) -> Result<Option<Kept>> {
    let keep = |typed| {
        Kept::try_from(typed).map_err(|_| {
            anyhow!(UsageError(format!(
                "{flag}: {typed} is not allowed; {allowed}"
            )))
        })
    };
    typed.map(keep).transpose()
}

fn knob(typed: &str) -> Result<(String, KnobValue)> {
    match typed.split_once('=') {
        Some((id, value)) if !id.is_empty() => Ok((id.to_owned(), KnobValue::parse(value))),
        _ => Err(anyhow!(UsageError(format!(
            "--set: \"{typed}\" is not KNOB=VALUE"
        )))),
    }
}

/// Turns a knob of a probe. A suite that names no probes means all; then all are named.
fn turn_probe(suite: &mut Suite, id: &str, value: &KnobValue, catalog: &Catalog) {
    if suite.probes.is_empty() {
        suite.probes = suite.usual_probes(catalog);
    }
    turn(&mut suite.probes, id, value, catalog);
}

/// Turns a knob of all methods that have it.
fn turn(methods: &mut [Method], id: &str, value: &KnobValue, catalog: &Catalog) {
    for method in methods {
        if has(method, id, catalog) {
            method.setting.0.insert(id.to_owned(), value.clone());
        }
    }
}

/// Whether a method has a knob.
fn has(method: &Method, id: &str, catalog: &Catalog) -> bool {
    let described = catalog.find(&method.id);
    described.is_some_and(|described| described.knob(id).is_some())
}

/// A knob typed before any branch belongs to the training, the data set or the architecture, whichever has it.
fn place_knob(
    reference: &mut Reference,
    id: &str,
    value: &KnobValue,
    catalog: &Catalog,
) -> Result<()> {
    let has = |method: &Method| {
        catalog
            .find(&method.id)
            .is_some_and(|described| described.knob(id).is_some())
    };
    let setting = if catalog.training.iter().any(|knob| knob.id == id) {
        &mut reference.training
    } else if has(&reference.dataset) {
        &mut reference.dataset.setting
    } else if has(&reference.architecture) {
        &mut reference.architecture.setting
    } else {
        let problem = format!(
            "--set: {id} is a knob of neither the training nor a probe nor an attack that is asked for nor {} nor {}; `shrinklab list --json` names them",
            reference.dataset.id, reference.architecture.id
        );
        return Err(anyhow!(UsageError(problem)));
    };
    setting.0.insert(id.to_owned(), value.clone());
    Ok(())
}
