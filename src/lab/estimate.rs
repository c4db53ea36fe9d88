//! How long and how large a study will be, before it starts.
//!
//! Work is counted in multiply-accumulates of the forward pass, three times as many for a training step and twice as many
//! for each step of an attack, and divided by a rate per thread. The rate is a rule of thumb; the words say "about".

use crate::catalog::Catalog;
use crate::lab::adversarial::{Adversarial, Asked};
use crate::lab::architecture;
use crate::lab::corruption::named;
use crate::lab::data;
use crate::lab::feasibility::of_shapes;
use crate::lab::train::Recipe;
use crate::lab::worker::available_threads;
use crate::spec::{CheckedStudy, Reference, Stage, Study};

/// Multiply-accumulates a second and thread that networks of so many reach in training: `lenet5` (1.1 M a forward pass) at
/// 9,000 images/s on two threads, `cnn8` (13.7 M) at 1,860, `resnet18` (555 M) at 83.
fn rate(macs: f64) -> f64 {
    match macs {
        ..5e6 => 1.5e10,
        ..1e8 => 3.8e10,
        _ => 6.9e10,
    }
}

/// Seconds per network for measuring latencies, which run for a time and not for a number of images.
const LATENCY: f64 = 2.5;

/// The estimate in words, or why the images do not suit the study; empty when something else is wrong with it.
pub fn estimate(study: &Study, catalog: &Catalog) -> String {
    let Ok(study) = study.clone().check(catalog) else {
        return String::new();
    };
    if let Some(problem) = of_shapes(&study).first() {
        return problem.to_string();
    }
    let (mut seconds, mut bytes) = (0.0, 0.0);
    for reference in &study.study().references {
        let Some((time, size)) = of_reference(&study, reference) else {
            return String::new();
        };
        seconds += time;
        bytes += size;
    }
    format!(
        "about {}, session about {}",
        words(seconds),
        megabytes(bytes)
    )
}

fn of_reference(study: &CheckedStudy, reference: &Reference) -> Option<(f64, f64)> {
    let study = study.study();
    let source = data::ALL
        .iter()
        .find(|entry| entry.info.id == reference.dataset.id)?;
    let facts = (source.build)(&reference.dataset.setting).extent();
    let limit =
        |n: u64, limit: Option<u32>| limit.map_or(n, |limit| n.min(u64::from(limit))) as f64;
    let (train, test) = (
        limit(facts.train, study.train_limit),
        limit(facts.test, study.test_limit),
    );
    let entry = architecture::ALL
        .iter()
        .find(|entry| entry.info.id == reference.architecture.id)?;
    let mut shape = facts.shape;
    if let Some(side) = reference.resize {
        (shape.height, shape.width) = (side as usize, side as usize);
    }
    let network = (entry.build)(&reference.architecture.setting)
        .outline(shape, facts.classes)
        .ok()?;
    let macs = network.macs() as f64;
    let epochs = |recipe: &Recipe| {
        let step = 3.0 + 2.0 * recipe.attack_evaluations() as f64;
        f64::from(recipe.epochs) * (train * 0.9 * step + train * 0.1 + test)
    };
    let recipe = Recipe::new(&reference.training);
    let own = recipe.epochs;
    let corrupted = if study.suite.full {
        test
    } else {
        f64::from(study.suite.corrupted_images).min(test)
    };
    // Only what the named probes measure takes time.
    let measures = |probe: &str| study.suite.probes.iter().any(|method| method.id == probe);
    let attacked = if measures("adversarial-accuracy") {
        attacked(study, &reference.dataset.id, facts.classes, test)
    } else {
        0.0
    };
    let severities = |method| named(method).map_or(0, |named| named.corruption.severities().len());
    let conditions: usize = if measures("corruption-error") {
        study.suite.corruptions.iter().map(severities).sum()
    } else {
        0
    };
    let measured = conditions as f64 * corrupted + attacked;
    let trained = 1.0 + f64::from(reference.twins) + f64::from(u8::from(reference.same_start_twin));
    let mut images = trained * (epochs(&recipe) + measured);
    let mut points = trained * f64::from(own);
    for branch in &reference.branches {
        images += measured;
        for stage in &branch.stages {
            let tuned = match stage {
                Stage::FineTune(setting) => Recipe::new(setting),
                Stage::Compress(method) => Recipe {
                    epochs: match method.setting.0.get("epochs") {
                        Some(crate::spec::KnobValue::Integer(n)) => u32::try_from(*n).unwrap_or(0),
                        _ => 0,
                    },
                    ..recipe.clone()
                },
            };
            images += epochs(&tuned) + test;
            points += f64::from(tuned.epochs.max(1));
        }
    }
    let threads = f64::from(study.threads.unwrap_or_else(available_threads));
    let networks = trained + reference.branches.len() as f64;
    let timed = if measures("latency") {
        networks * LATENCY
    } else {
        0.0
    };
    let seconds = images * macs / (rate(macs) * threads) + timed;
    // A record of ten steps has about 170 bytes; every point of the map states all points again.
    let steps = images / (64.0 * 10.0) / 3.0 * 170.0;
    Some((
        seconds,
        // A finding has about 350 bytes; there are two for each condition of each network.
        20_000.0
            + steps
            + points * points * 45.0
            + networks * (7_500.0 + conditions as f64 * 700.0),
    ))
}

/// Forward passes that the attacks on one network take, a backward pass counted as one more.
fn attacked(study: &Study, dataset: &str, classes: usize, test: f64) -> f64 {
    /// Images that hold take every pass; of a network that was not trained for it most leave early.
    const STAY: f64 = 0.5;
    let asked = Adversarial::new(dataset, &study.suite.attacks).asked();
    let of = |asked: &Asked| {
        let images = (asked.images as f64).min(test);
        let times = if asked.attack.is_minimal() {
            1.0
        } else {
            asked.epsilons.len() as f64 - 1.0
        };
        images * times * asked.attack.passes(classes) as f64 * STAY
    };
    asked.unwrap_or_default().iter().map(of).sum()
}

fn words(seconds: f64) -> String {
    let whole = seconds.ceil() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

fn megabytes(bytes: f64) -> String {
    if bytes < 1e6 {
        format!("{:.0} kB", bytes / 1e3)
    } else {
        format!("{:.1} MB", bytes / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Method;

    #[test]
    fn only_what_is_measured_takes_time() {
        let catalog = crate::lab::catalog();
        let seconds = |probes: &[&str]| {
            let mut study = Study::default();
            study.suite.attacks = vec![Method::plain("pgd")];
            study.suite.probes = probes.iter().copied().map(Method::plain).collect();
            let study = study.check(&catalog).unwrap();
            of_reference(&study, &study.study().references[0])
                .unwrap()
                .0
        };
        // Attacks that were asked for are measured, named or not.
        let least = seconds(&["accuracy"]);
        let all = seconds(&[]);
        let timed = seconds(&["accuracy", "latency"]);
        assert!(
            (timed - least - 3.0 * LATENCY).abs() < 1e-9,
            "{timed} {least}"
        );
        assert!(all > timed && seconds(&["accuracy", "corruption-error"]) > least);
    }
}
