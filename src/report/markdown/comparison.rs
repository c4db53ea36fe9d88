//! A branch beside its reference: what was done to it, accuracies with their doubt, sizes, times.

use std::fmt::{self, Write as _};

use super::{condition, corruption, count, estimate, percent, relative, size, words};
use crate::measurement::Verdict;
use crate::state::comparison::{AccuracyRow, Comparison};
use crate::state::sweep::deviation;
use crate::state::{NetworkState, State, counted};

pub(super) fn write(
    state: &State,
    branch: &NetworkState,
    comparison: &Comparison,
    text: &mut String,
) -> fmt::Result {
    writeln!(text, "## {}\n", words(&branch.plan.name))?;
    for (at, done) in branch.compressions.iter().enumerate() {
        write!(text, "{}", words(&done.method.id))?;
        if let Some(asked) = done.asked {
            write!(text, ", asked {}", percent(asked))?;
            if let Some(reached) = done.reached {
                write!(text, ", reached {}", percent(reached))?;
            }
            if let Some(counts) = &done.counts {
                write!(text, " of {}", words(counts))?;
            }
        }
        writeln!(text, ".\n")?;
        if let Some(removed) = &done.removed {
            let shares = removed
                .named()
                .map(|(of, share)| format!("{} of {of}", percent(share)));
            let in_all = if at > 0 { " in all" } else { "" };
            writeln!(text, "- removed{in_all}: {}", shares.join(", "))?;
        }
        for remark in &done.remarks {
            writeln!(text, "- {}", words(remark))?;
        }
        if !done.remarks.is_empty() || done.removed.is_some() {
            writeln!(text)?;
        }
    }
    if !comparison.accuracies.is_empty() {
        writeln!(
            text,
            "| accuracy on | severity | reference | candidate | difference | bootstrap | p | after Holm | relative deviation |"
        )?;
        writeln!(text, "|---|---:|---|---|---|---|---:|---:|---:|")?;
        for rows in comparison.by_condition() {
            for row in &rows {
                write_row(row, row.severity.map(|s| s.to_string()), text)?;
            }
            if rows.len() > 1
                && rows.iter().all(|row| row.severity.is_some())
                && let Some(mean) = AccuracyRow::mean(&rows)
            {
                write_row(&mean, Some("mean".to_owned()), text)?;
            }
        }
        writeln!(text)?;
    }
    corruption::write_means(state, branch.plan.id, text)?;
    write_sizes(comparison, text)?;
    if let Some(agreement) = &comparison.agreement {
        writeln!(
            text,
            "Agreement with the reference: {}.\n",
            estimate(Some(agreement))
        )?;
    }
    if let Some(divergence) = comparison.divergence {
        writeln!(
            text,
            "Jensen-Shannon divergence from the reference: {divergence:.4} nats.\n"
        )?;
    }
    if let Some(found) = state.landscape(branch.plan.id).verdict(branch.plan.id) {
        let verdict = match found.verdict {
            Verdict::Nearer => "yes",
            Verdict::Farther => "no",
            Verdict::Undecided => "undecided",
        };
        write!(
            text,
            "Nearer to the reference than a twin is? {verdict} ({:+.4} nats",
            found.difference.0
        )?;
        if let Some((low, high)) = found.interval {
            write!(text, " [{:+.4}, {:+.4}]", low.0, high.0)?;
        }
        writeln!(text, ", {}).\n", counted(u64::from(found.twins), "twin"))?;
    }
    Ok(())
}

/// Accuracy under one condition, of both.
fn write_row(row: &AccuracyRow, severity: Option<String>, text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        words(&condition(row.condition.as_deref(), row.budget)),
        severity.unwrap_or_default(),
        estimate(row.reference.as_ref()),
        estimate(row.candidate.as_ref()),
        row.difference
            .map_or_else(|| "-".to_owned(), |difference| difference.points()),
        row.bootstrap.map_or_else(
            || "-".to_owned(),
            |(low, high)| format!("{:+.1} to {:+.1}", 100.0 * low, 100.0 * high)
        ),
        chance(row.p),
        chance(row.adjusted),
        relative(
            row.candidate
                .zip(row.reference)
                .and_then(|(candidate, base)| deviation(candidate.value, base.value))
        )
    )
}

/// A p value: as many digits as say something.
fn chance(p: Option<f64>) -> String {
    match p {
        None => "-".to_owned(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}

fn write_sizes(comparison: &Comparison, text: &mut String) -> fmt::Result {
    if comparison.footprint.is_empty() && comparison.latencies.is_empty() {
        return Ok(());
    }
    writeln!(text, "| | reference | candidate | change |")?;
    writeln!(text, "|---|---:|---:|---|")?;
    for row in &comparison.footprint {
        writeln!(
            text,
            "| {} | {} | {} | {} |",
            size(row.metric),
            count(row.reference),
            count(row.candidate),
            row.removed().map_or_else(
                || "-".to_owned(),
                |share| format!("{} removed", percent(share))
            )
        )?;
    }
    for row in &comparison.latencies {
        let time = |time: Option<(f64, Option<(f64, f64)>)>| match time {
            Some((median, Some((low, high)))) => format!("{median:.3} ms ({low:.3} to {high:.3})"),
            Some((median, None)) => format!("{median:.3} ms"),
            None => "-".to_owned(),
        };
        writeln!(
            text,
            "| latency, {}, median (p10 to p90) | {} | {} | {} |",
            words(&row.condition),
            time(row.reference),
            time(row.candidate),
            row.ratio()
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x the time"))
        )?;
    }
    writeln!(text)
}
