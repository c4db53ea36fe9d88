//! What attacks did to every network: accuracy against the budget, distances, transfer, and whether gradients tell the truth.

use std::fmt::{self, Write as _};

use super::{percent, words};
use crate::measurement::{CheckOutcome, Measurement, Metric, Value};
use crate::state::{NetworkState, State};

/// The section, where anything was attacked.
pub(super) fn write(state: &State, text: &mut String) -> fmt::Result {
    let conditions = conditions(state);
    let is_suspected = state
        .networks
        .iter()
        .any(|network| network.masking.is_some());
    if conditions.is_empty() && !is_suspected {
        return Ok(());
    }
    writeln!(text, "## Attacks\n")?;
    writeln!(
        text,
        "Share of the images that are right as they are and after the attack; budgets are in pixels from 0 to 1.\n"
    )?;
    for condition in conditions {
        write_curve(state, &condition, text)?;
    }
    write_transfer(state, text)?;
    for network in &state.networks {
        write_verdict(network, text)?;
    }
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

fn write_curve(state: &State, condition: &str, text: &mut String) -> fmt::Result {
    let mut budgets: Vec<f64> = Vec::new();
    for network in &state.networks {
        budgets.extend(network.measurements.budgets(Metric::Accuracy, condition));
    }
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    let distance = |network: &NetworkState, metric| {
        let found = network.measurements.latest(metric, Some(condition), None)?;
        found.scalar()
    };
    let is_minimal = state
        .networks
        .iter()
        .any(|network| distance(network, Metric::DistanceMean).is_some());
    write!(text, "| {} |", words(condition))?;
    for budget in &budgets {
        write!(text, " {} |", number(*budget))?;
    }
    writeln!(
        text,
        " n |{}",
        if is_minimal {
            " distance, mean | median |"
        } else {
            ""
        }
    )?;
    let columns = budgets.len() + 1 + if is_minimal { 2 } else { 0 };
    writeln!(text, "|---|{}", "---:|".repeat(columns))?;
    for network in &state.networks {
        let found: Vec<Option<&Measurement>> = budgets
            .iter()
            .map(|budget| {
                let all = &network.measurements;
                all.within(Metric::Accuracy, Some(condition), None, Some(*budget))
            })
            .collect();
        let Some(n) = found.iter().flatten().find_map(|found| found.n) else {
            continue;
        };
        write!(text, "| {} |", words(&network.plan.name))?;
        for found in found {
            let value = found.and_then(Measurement::scalar);
            write!(text, " {} |", value.map_or_else(|| "-".to_owned(), percent))?;
        }
        write!(text, " {n} |")?;
        if is_minimal {
            for metric in [Metric::DistanceMean, Metric::DistanceMedian] {
                let value = distance(network, metric);
                write!(text, " {} |", value.map_or_else(|| "-".to_owned(), number))?;
            }
        }
        writeln!(text)?;
    }
    writeln!(text)
}

/// Images made against the network of a row, asked of that of a column.
fn write_transfer(state: &State, text: &mut String) -> fmt::Result {
    let asked = |to: &NetworkState, from: &NetworkState| {
        let mut found = to.measurements.iter();
        let found = found.rfind(|found| {
            found.metric == Metric::TransferAccuracy && found.against == Some(from.plan.id)
        });
        found.and_then(Measurement::scalar)
    };
    let is_in = |network: &&NetworkState| asked(network, network).is_some();
    let networks: Vec<&NetworkState> = state.networks.iter().map(|n| &**n).filter(is_in).collect();
    if networks.len() < 2 {
        return Ok(());
    }
    write!(text, "| made against, asked of |")?;
    for network in &networks {
        write!(text, " {} |", words(&network.plan.name))?;
    }
    writeln!(text, "\n|---|{}", "---:|".repeat(networks.len()))?;
    for from in &networks {
        write!(text, "| {} |", words(&from.plan.name))?;
        for to in &networks {
            let value = asked(to, from);
            write!(text, " {} |", value.map_or_else(|| "-".to_owned(), percent))?;
        }
        writeln!(text)?;
    }
    writeln!(text)
}

fn write_verdict(network: &NetworkState, text: &mut String) -> fmt::Result {
    let Some(found) = &network.masking else {
        return Ok(());
    };
    let Value::Masking { verdict, checks } = &found.value else {
        return Ok(());
    };
    write!(
        text,
        "Gradients of {}: {}",
        words(&network.plan.name),
        verdict.word()
    )?;
    if let Some(estimator) = &found.estimator {
        write!(text, ", {} through rounded activations", estimator.word())?;
    }
    writeln!(text, " ({} images).\n", found.n.unwrap_or(0))?;
    let told = checks
        .iter()
        .filter(|check| check.outcome != CheckOutcome::Passed);
    let mut any = false;
    for check in told {
        let word = match check.outcome {
            CheckOutcome::Failed => "fails",
            _ => "unclear",
        };
        let [a, b] = &check.names;
        writeln!(
            text,
            "- {word}: {} ({} {}, {} {})",
            words(&check.title),
            words(a),
            number(check.numbers[0].0),
            words(b),
            number(check.numbers[1].0)
        )?;
        any = true;
    }
    if any {
        writeln!(text)?;
    }
    Ok(())
}

/// Four digits behind the point at most.
fn number(value: f64) -> String {
    let rounded = (value * 1e4).round() / 1e4 + 0.0;
    rounded.to_string()
}
