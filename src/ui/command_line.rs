//! The command that does the same as the form.

use crate::catalog::{Catalog, Knob};
use crate::spec::{Checkpoint, KnobValue, Method, Setting, Stage, Study, Suite};

/// The `shrinklab run …` that asks for this study, quoted for a shell.
///
/// What no flag says (several references, several compressions in a row, a named branch) needs
/// the study as a file; the command then names one.
pub fn command_line(study: &Study, catalog: &Catalog) -> String {
    flags(study, catalog).map_or_else(
        || "shrinklab run study.toml".to_owned(),
        |words| {
            let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
            quoted.join(" ")
        },
    )
}

/// Whether flags alone can ask for this study.
pub fn fits_flags(study: &Study, catalog: &Catalog) -> bool {
    flags(study, catalog).is_some()
}

/// The knobs of probes that were turned; nothing when the suite says more than flags can.
fn probe_knobs(suite: &Suite, catalog: &Catalog) -> Option<Vec<(String, KnobValue)>> {
    let plain = Suite {
        full: suite.full,
        probes: suite.probes.clone(),
        attacks: suite.attacks.clone(),
        domains: suite.domains.clone(),
        ..Suite::default()
    };
    let usual = suite.usual_probes(catalog);
    let known: Vec<&str> = usual.iter().map(|probe| &*probe.id).collect();
    let named: Vec<&str> = suite.probes.iter().map(|probe| &*probe.id).collect();
    if *suite != plain || !(named.is_empty() || named == known) {
        return None;
    }
    let mut turned_knobs = Vec::new();
    for method in &suite.probes {
        for (id, value) in turned(&method.setting, knobs_of(method, catalog)) {
            turned_knobs.push((id.to_owned(), value.clone()));
        }
    }
    Some(turned_knobs)
}

/// The knobs of attacks that were turned; nothing where two attacks turn one otherwise, which flags cannot say, or one is
/// asked for twice.
fn attack_knobs(attacks: &[Method], catalog: &Catalog) -> Option<Vec<(String, KnobValue)>> {
    let mut turned_knobs: Vec<(String, KnobValue)> = Vec::new();
    for (at, attack) in attacks.iter().enumerate() {
        if attacks[..at].iter().any(|other| other.id == attack.id) {
            return None;
        }
        for (id, value) in turned(&attack.setting, knobs_of(attack, catalog)) {
            let same = |other: &Method| {
                standing(&other.setting, knobs_of(other, catalog), id)
                    .is_none_or(|own| own == *value)
            };
            if !attacks.iter().all(same) {
                return None;
            }
            if !turned_knobs.iter().any(|(known, _)| known == id) {
                turned_knobs.push((id.to_owned(), value.clone()));
            }
        }
    }
    Some(turned_knobs)
}

fn flags(study: &Study, catalog: &Catalog) -> Option<Vec<String>> {
    let [reference] = study.references.as_slice() else {
        return None;
    };
    let probes = probe_knobs(&study.suite, catalog)?;
    let mut words: Vec<String> = vec!["shrinklab".to_owned(), "run".to_owned()];
    let mut say = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    say("-d", reference.dataset.id.clone());
    say("-a", reference.architecture.id.clone());
    for (id, value) in probes {
        say("--set", format!("{id}={value}"));
    }
    let attacks = &study.suite.attacks;
    if !attacks.is_empty() {
        let ids: Vec<&str> = attacks.iter().map(|attack| &*attack.id).collect();
        say("--attacks", ids.join(","));
    }
    let domains = &study.suite.domains;
    if !domains.is_empty() {
        // A domain with knobs of its own has no flag.
        if domains.iter().any(|domain| {
            turned(&domain.setting, knobs_of(domain, catalog))
                .next()
                .is_some()
        }) {
            return None;
        }
        let ids: Vec<&str> = domains.iter().map(|domain| &*domain.id).collect();
        say("--domains", ids.join(","));
    }
    for (id, value) in attack_knobs(attacks, catalog)? {
        say("--set", format!("{id}={value}"));
    }
    for (method, knobs) in [
        (&reference.dataset, knobs_of(&reference.dataset, catalog)),
        (
            &reference.architecture,
            knobs_of(&reference.architecture, catalog),
        ),
    ] {
        for (id, value) in turned(&method.setting, knobs) {
            say("--set", format!("{id}={value}"));
        }
    }
    if let Some(from) = &reference.from {
        // A file is named here and not held against its digest.
        say("--from", from.file.clone());
        for (flag, numbers) in [("--mean", &from.mean), ("--std", &from.std)] {
            if !numbers.is_empty() {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                say(flag, numbers.join(","));
            }
        }
    }
    if let Some(side) = reference.resize {
        say("--resize", side.to_string());
    }
    for (id, value) in turned(&reference.training, &catalog.training) {
        if id != "epochs" {
            say("--set", format!("{id}={value}"));
        }
    }
    if let Some(epochs) = standing(&reference.training, &catalog.training, "epochs") {
        say("--epochs", epochs.to_string());
    }
    say("--twins", reference.twins.to_string());
    let seeds: Vec<String> = study.seeds.iter().map(u64::to_string).collect();
    if seeds.is_empty() {
        say("--seed", reference.seed.unwrap_or(study.seed).to_string());
    } else {
        say("--seed", seeds.join(","));
    }
    for (flag, limit) in [
        ("--threads", study.threads),
        ("--train-limit", study.train_limit),
        ("--test-limit", study.test_limit),
    ] {
        if let Some(n) = limit {
            say(flag, n.to_string());
        }
    }
    if study.device != "cpu" {
        say("--device", study.device.clone());
    }
    for (flag, is_set) in [
        ("--fp32", !study.tf32),
        ("--deterministic", study.deterministic),
    ] {
        if is_set {
            words.push(flag.to_owned());
        }
    }
    if study.suite.full {
        words.push("--full".to_owned());
    }
    if reference.same_start_twin {
        words.push("--same-start-twin".to_owned());
    }
    for branch in &reference.branches {
        let (method, tuning) = match branch.stages.as_slice() {
            [Stage::Compress(method)] => (method, None),
            [Stage::Compress(method), Stage::FineTune(tuning)] => (method, Some(tuning)),
            _ => return None,
        };
        if !branch.name.is_empty() {
            return None;
        }
        let mut say = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        say("--compress", method.id.clone());
        let knobs = knobs_of(method, catalog);
        if let Some(ratio) = standing(&method.setting, knobs, "ratio") {
            say("--ratio", ratio.to_string());
        }
        for (id, value) in turned(&method.setting, knobs) {
            if id != "ratio" {
                say("--set", format!("{id}={value}"));
            }
        }
        if branch.checkpoint == Checkpoint::Best {
            say("--checkpoint", "best".to_owned());
        }
        match tuning {
            None => say("--fine-tune", "none".to_owned()),
            Some(tuning) => {
                // Beside its epochs a fine-tuning inherits the recipe; anything else has no flag.
                let inherits = tuning.0.iter().all(|(id, value)| {
                    id == "epochs"
                        || standing(&reference.training, &catalog.training, id).as_ref()
                            == Some(value)
                });
                if !inherits {
                    return None;
                }
                let epochs = tuning
                    .0
                    .get("epochs")
                    .map_or("1".to_owned(), ToString::to_string);
                say("--fine-tune-epochs", epochs);
            }
        }
    }
    Some(words)
}

fn knobs_of<'a>(method: &Method, catalog: &'a Catalog) -> &'a [Knob] {
    catalog
        .find(&method.id)
        .map_or(&[], |found| found.knobs.as_slice())
}

fn standing(setting: &Setting, knobs: &[Knob], id: &str) -> Option<KnobValue> {
    let knob = knobs.iter().find(|knob| knob.id == id)?;
    Some(
        setting
            .0
            .get(id)
            .cloned()
            .unwrap_or_else(|| knob.range.default()),
    )
}

/// The knobs that do not stand where they stand by themselves.
fn turned<'a>(
    setting: &'a Setting,
    knobs: &'a [Knob],
) -> impl Iterator<Item = (&'a str, &'a KnobValue)> {
    setting
        .0
        .iter()
        .filter(|(id, value)| {
            knobs
                .iter()
                .find(|knob| knob.id == **id)
                .is_none_or(|knob| knob.range.default() != **value)
        })
        .map(|(id, value)| (id.as_str(), value))
}

/// A word as a POSIX shell takes it literally.
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(quote("ratio=0.5"), "ratio=0.5");
        assert_eq!(quote("it's; rm"), r"'it'\''s; rm'");
        assert_eq!(quote(""), "''");
    }
}
