//! What attacks did to every network: accuracy against the budget, distances, transfer, and whether gradients tell the truth.

use std::fmt::{self, Write as _};

use super::super::Chapter;
use super::{budget, share, words};
use crate::measurement::{Masking, Measurement, Metric, Through, Value};
use crate::state::suspicion::through;
use crate::state::{NetworkState, State, rounded};

mod gradients;
mod knobs;
mod transfer;

use knobs::Asked;

/// The section, where anything was attacked.
pub(super) fn write(chapter: &Chapter<'_>, text: &mut String) -> fmt::Result {
    let state = &chapter.state;
    let mut told = String::new();
    for condition in conditions(state) {
        write_curve(chapter, &condition, &mut told)?;
    }
    transfer::write(chapter, &mut told)?;
    for network in &state.networks {
        gradients::write(state, network, &mut told)?;
    }
    if told.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "## Attacks\n\n\
         Share of the images that are right as they are and after the attack, with its 95 % Wilson interval; an image that is \
         wrong as it is counts as not robust. Budgets are in pixels from 0 to 1: the largest change of a pixel (L-infinity), \
         or the length of all changes together (Euclidean). An attack leaves an image where the network first errs on it, just \
         beyond the boundary, where rounding to bytes undoes it by chance: such images are attacked once more as bytes, and \
         the rows rounded to bytes are what stands that, too.\n"
    )?;
    text.push_str(&told);
    Ok(())
}

/// The conditions that have budgets, in the order in which they were found.
fn conditions(state: &State) -> Vec<String> {
    let mut conditions: Vec<String> = Vec::new();
    for network in &state.networks {
        for found in network.measurements.iter() {
            let is_attack = found.metric == Metric::Accuracy && found.budget.is_some();
            if let Some(condition) = found.condition.as_deref().filter(|_| is_attack)
                && !conditions.iter().any(|known| known == condition)
            {
                conditions.push(condition.to_owned());
            }
        }
    }
    conditions
}

/// The n that all of these have.
fn common_n<'a>(found: impl IntoIterator<Item = &'a Measurement>) -> Option<u64> {
    let mut all = found.into_iter().map(|found| found.n);
    let first = all.next()??;
    all.all(|n| n == Some(first)).then_some(first)
}

/// Whether attacks by gradients cannot be believed.
fn is_masked(network: &NetworkState) -> bool {
    let found = network.masking.as_ref().map(|found| &found.value);
    matches!(
        found,
        Some(Value::Masking {
            verdict: Masking::Masked,
            ..
        })
    )
}

/// What stands under an attack: a row per network, and another one after rounding to bytes where that was stated.
fn write_curve(chapter: &Chapter<'_>, condition: &str, text: &mut String) -> fmt::Result {
    let state = &chapter.state;
    let mut budgets: Vec<f64> = Vec::new();
    for network in &state.networks {
        budgets.extend(network.measurements.budgets(Metric::Accuracy, condition));
    }
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    let curve = |network: &NetworkState, metric: Metric| -> Vec<Option<Measurement>> {
        let all = &network.measurements;
        let at = |budget: &f64| all.within(metric, Some(condition), None, Some(*budget));
        budgets.iter().map(|budget| at(budget).cloned()).collect()
    };
    let rows: Vec<(&NetworkState, Vec<Option<Measurement>>)> = state
        .networks
        .iter()
        .map(|network| (&**network, curve(network, Metric::Accuracy)))
        .filter(|(_, found)| found.iter().any(Option::is_some))
        .collect();
    let n = common_n(rows.iter().flat_map(|(_, found)| found.iter().flatten()));
    let asked = Asked::of(chapter.header, condition);
    let norm = asked.first().and_then(Asked::norm);
    writeln!(
        text,
        "**{}**: accuracy within a budget{}{}.\n",
        words(condition),
        norm.map_or(String::new(), |norm| format!(" in the {norm} norm")),
        n.map_or(String::new(), |n| format!(", n = {n}"))
    )?;
    // Where it found nothing at all, that is what it came to.
    let is_minimal = asked.iter().any(Asked::is_minimal);
    let is_minimal = is_minimal
        || rows.iter().any(|(network, _)| {
            let all = &network.measurements;
            all.latest(Metric::DistanceMean, Some(condition), None)
                .is_some()
        });
    write!(text, "| network |")?;
    for at in &budgets {
        write!(text, " {} |", budget(*at))?;
    }
    let distances = if is_minimal {
        " mean distance of the nearest error | median | errors found |"
    } else {
        ""
    };
    writeln!(text, "{distances}")?;
    let columns = budgets.len() + if is_minimal { 3 } else { 0 };
    writeln!(text, "|---|{}", "---|".repeat(columns))?;
    for (network, found) in &rows {
        let mark = if is_masked(network) { " (†)" } else { "" };
        write!(text, "| {}{mark} |", words(&network.plan.name))?;
        for found in found {
            write!(text, " {} |", share(found.as_ref(), n))?;
        }
        if is_minimal {
            write_distances(network, condition, text)?;
        }
        writeln!(text)?;
        let rounded = curve(network, Metric::AccuracyRounded);
        write_rounded(network, found, &rounded, n, text)?;
    }
    writeln!(text)?;
    if rows.iter().any(|(network, _)| is_masked(network)) {
        writeln!(
            text,
            "† Its gradients are masked (see below): accuracy under attacks by gradients is too high to be believed, and so are \
             differences from it.\n"
        )?;
    }
    for asked in &asked {
        writeln!(text, "{}\n", asked.sentence())?;
    }
    if asked.is_empty() {
        writeln!(text, "The session does not say how its knobs stood.\n")?;
    }
    write_estimators(&rows, text)
}

/// How far away the nearest errors are.
fn write_distances(network: &NetworkState, condition: &str, text: &mut String) -> fmt::Result {
    let of = |metric| network.measurements.latest(metric, Some(condition), None);
    let number = |found: Option<&Measurement>| {
        let value = found.and_then(Measurement::scalar);
        value.map_or_else(|| "-".to_owned(), |value| rounded(value, 4))
    };
    let mean = of(Metric::DistanceMean);
    let ends = mean
        .and_then(|found| found.interval)
        .map_or(String::new(), |(low, high)| {
            format!(" [{}, {}]", rounded(low.0, 4), rounded(high.0, 4))
        });
    write!(
        text,
        " {}{ends} | {} | {} |",
        number(mean),
        number(of(Metric::DistanceMedian)),
        mean.and_then(|found| found.n).unwrap_or(0)
    )
}

/// The accuracies after rounding to bytes. Where none is stated beside others, rounding changed no image's answer.
fn write_rounded(
    network: &NetworkState,
    asked: &[Option<Measurement>],
    found: &[Option<Measurement>],
    n: Option<u64>,
    text: &mut String,
) -> fmt::Result {
    if found.iter().all(Option::is_none) {
        return Ok(());
    }
    write!(text, "| {}, rounded to bytes |", words(&network.plan.name))?;
    for (asked, found) in asked.iter().zip(found) {
        let written = match (asked, found) {
            (_, Some(found)) => share(Some(found), n),
            (Some(_), None) => "the same".to_owned(),
            // Not measured, or not yet.
            (None, None) => "-".to_owned(),
        };
        write!(text, " {written} |")?;
    }
    writeln!(text)
}

/// How gradients went through rounded activations, where some did.
fn write_estimators(
    rows: &[(&NetworkState, Vec<Option<Measurement>>)],
    text: &mut String,
) -> fmt::Result {
    for estimator in [
        Through::StraightThrough,
        Through::None,
        Through::AsTheSimulator,
    ] {
        let is_of = |found: &[Option<Measurement>]| {
            let mut all = found.iter().flatten();
            all.any(|found| found.estimator == Some(estimator))
        };
        let names: Vec<String> = rows
            .iter()
            .filter(|(_, found)| is_of(found))
            .map(|(network, _)| words(&network.plan.name))
            .collect();
        if !names.is_empty() {
            writeln!(text, "Of {}: {}.\n", names.join("; "), through(estimator))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Described, Info, text};
    use crate::measurement::{Masking, Measurement, Metric, Score, Through, Value, wilson};
    use crate::report::markdown::tests::{rendered, with};
    use crate::session::{Header, sample};
    use crate::spec::{KnobValue, Method, NetworkId};

    fn found(network: u32, metric: Metric, hits: u64, budget: f64) -> Measurement {
        let (low, high) = wilson(hits, 200);
        Measurement {
            probe: "adversarial-accuracy".to_owned(),
            condition: Some("pgd".to_owned()),
            budget: Some(Score(budget)),
            interval: Some((Score(low), Score(high))),
            n: Some(200),
            ..sample::scalar(NetworkId(network), 0, metric, hits as f64 / 200.0)
        }
    }

    fn header() -> Header {
        let mut header = sample::header();
        let mut pgd = Method::plain("pgd");
        for (knob, value) in [
            ("epsilons", KnobValue::List(Vec::new())),
            ("norm", KnobValue::Choice("linf".to_owned())),
            ("space", KnobValue::Choice("pixel".to_owned())),
            ("step-size", KnobValue::Real(0.1)),
            ("steps", KnobValue::Integer(20)),
        ] {
            pgd.setting = pgd.setting.with(knob, value);
        }
        header.study.suite.attacks = vec![pgd];
        header
    }

    /// statsmodels 0.15.0: `proportion_confint(k, 200, method="wilson")` of 188 and 75.
    #[test]
    fn accuracies_under_attack_have_n_and_interval_and_say_how_they_were_made() {
        let budget = 8.0 / 255.0;
        let text = rendered(
            &header(),
            with(vec![
                found(0, Metric::Accuracy, 188, 0.0),
                found(0, Metric::Accuracy, 75, budget),
                found(0, Metric::AccuracyRounded, 76, budget),
                found(2, Metric::Accuracy, 188, 0.0),
                Measurement {
                    estimator: Some(Through::StraightThrough),
                    ..found(2, Metric::Accuracy, 75, budget)
                },
            ]),
        );
        for line in [
            "**pgd**: accuracy within a budget in the L-infinity norm, n = 200.",
            "| network | 0 | 8/255 |",
            "| reference | 94.0 % [89.8, 96.5] | 37.5 % [31.1, 44.4] |",
            "| reference, rounded to bytes | the same | 38.0 % [31.6, 44.9] |",
            "Asked as `{ id = \"pgd\", epsilons = [], norm = \"linf\", space = \"pixel\", step-size = 0.1, steps = 20 }`, \
             `epsilons = []` being the usual ones, which are the table's.",
            "Of magnitude pruning 50 %: gradients went straight through rounded activations, as if nothing were rounded.",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("0.0313"), "{text}");
        assert_eq!(text.matches("rounded to bytes |").count(), 1);
    }

    #[test]
    fn images_of_other_numbers_say_theirs() {
        let fewer = Measurement {
            n: Some(60),
            ..found(2, Metric::Accuracy, 75, 0.1)
        };
        let text = rendered(
            &sample::header(),
            with(vec![found(0, Metric::Accuracy, 75, 0.1), fewer]),
        );
        for line in [
            "**pgd**: accuracy within a budget.",
            "| reference | 37.5 % [31.1, 44.4], n = 200 |",
            "| magnitude pruning 50 % | 37.5 % [31.1, 44.4], n = 60 |",
            "The session does not say how its knobs stood.",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn accuracy_of_a_network_whose_gradients_are_masked_is_marked() {
        let verdict = |verdict| Measurement {
            value: Value::Masking {
                verdict,
                checks: Vec::new(),
            },
            ..sample::scalar(NetworkId(0), 0, Metric::GradientMasking, 0.0)
        };
        let said = |of| {
            let right = found(0, Metric::Accuracy, 188, 0.1);
            rendered(&header(), with(vec![right, verdict(of)]))
        };
        let masked = said(Masking::Masked);
        assert!(masked.contains("| reference (†) | 94.0 % ["), "{masked}");
        assert!(masked.contains("† Its gradients are masked"), "{masked}");
        assert!(!said(Masking::NotMasked).contains('†'));
        assert!(
            masked.contains("reference was trained with seed "),
            "{masked}"
        );
    }

    #[test]
    fn nearest_errors_have_a_distance_with_its_interval() {
        let distance = |metric, value| Measurement {
            condition: Some("deepfool".to_owned()),
            budget: None,
            interval: (metric == Metric::DistanceMean).then_some((Score(0.45), Score(0.55))),
            n: Some(39),
            ..sample::scalar(NetworkId(0), 0, metric, value)
        };
        let of = |budget| Measurement {
            condition: Some("deepfool".to_owned()),
            ..found(0, Metric::Accuracy, 75, budget)
        };
        let mut header = header();
        header.study.suite.attacks = vec![Method::plain("deepfool")];
        header.catalog.attacks = vec![Described {
            info: Info {
                id: text("deepfool"),
                title: text("DeepFool"),
                summary: text(""),
                reference: text(""),
                family: text("minimal"),
                ratio_of: None,
            },
            knobs: Vec::new(),
        }];
        let text = rendered(
            &header,
            with(vec![
                of(0.75),
                distance(Metric::DistanceMean, 0.506_123),
                distance(Metric::DistanceMedian, 0.368_7),
            ]),
        );
        for line in [
            "in the Euclidean norm, n = 200",
            "| reference | 37.5 % [31.1, 44.4] | 0.5061 [0.45, 0.55] | 0.3687 | 39 |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
