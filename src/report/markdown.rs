//! Tables for people. No accuracy stands without its n and its interval.

use std::fmt::{self, Write as _};

use super::{Chapter, Format, Report};
use crate::event::Outcome;
use crate::measurement::{Metric, Verdict};
use crate::state::comparison::{Comparison, Estimate};
use crate::state::sweep::deviation;
use crate::state::{NetworkState, State, Status, closing_sentence, counted, plain, say};

mod attacks;
mod corruption;
mod costs;
mod seeds;
mod sweeps;

pub(super) fn render(report: &Report<'_>) -> String {
    let mut text = String::new();
    write(report, &mut text).expect("writing to a string cannot fail");
    text
}

fn write(report: &Report<'_>, text: &mut String) -> fmt::Result {
    for chapter in &report.chapters {
        write_chapter(chapter, text)?;
    }
    writeln!(text, "---\n")?;
    writeln!(
        text,
        "Accuracies are shares of test images with 95 % Wilson intervals. Differences are candidate less reference in \
         percentage points, with Newcombe's 95 % interval for pairs, since both networks are asked the same images (for \
         independent ones where a session of an earlier version did not count pairs), and that of a paired bootstrap. p is \
         McNemar's exact test; Holm's correction is over all rows of the same probe. A relative deviation is 100 · (candidate / reference - 1) per cent."
    )?;
    writeln!(
        text,
        "Latencies hold on the machine that measured them, at the threads named.\n"
    )?;
    writeln!(text, "Made by: {}", code(&report.command(Format::Markdown)))
}

fn write_chapter(chapter: &Chapter<'_>, text: &mut String) -> fmt::Result {
    let (header, state) = (chapter.header, &chapter.state);
    writeln!(text, "# {}\n", words(&header.title()))?;
    let outcome = match &state.outcome {
        None => "It has not ended.".to_owned(),
        Some(Outcome::Completed) => "It is complete.".to_owned(),
        Some(Outcome::Cancelled) => "It was stopped.".to_owned(),
        Some(Outcome::Failed { message }) => format!("It failed: {}.", words(message)),
    };
    writeln!(
        text,
        "Session {} (SHA-256 {}), seed {}, {}, {}, shrinklab {} at commit {}. {outcome}\n",
        code(&chapter.name),
        code(chapter.digest),
        header.seed,
        counted(u64::from(header.threads), "thread"),
        words(&header.device),
        words(&header.app),
        words(&header.commit)
    )?;
    if let Some(sentence) = closing_sentence(state) {
        writeln!(text, "**{}**\n", words(&sentence))?;
    }
    for data in &state.data {
        writeln!(
            text,
            "Data: {}, {} training, {} validation, {} test images of {}x{}x{}, {} classes, SHA-256 {}\n",
            words(&data.dataset),
            data.train,
            data.validation,
            data.test,
            data.shape[0],
            data.shape[1],
            data.shape[2],
            data.classes.len(),
            code(&data.digest)
        )?;
    }
    write_networks(state, text)?;
    sweeps::write(chapter, text)?;
    attacks::write(state, text)?;
    corruption::write_effects(state, text)?;
    for branch in state.branches() {
        if let Some(comparison) = Comparison::of(state, branch.plan.id) {
            write_comparison(state, branch, &comparison, text)?;
        }
    }
    seeds::write(state, text)?;
    costs::write(state, text)?;
    if !state.warnings.is_empty() {
        writeln!(text, "## Warnings\n")?;
        for warned in &state.warnings {
            let about = warned
                .network
                .map(|id| format!("{}: ", words(&state.name(id))))
                .unwrap_or_default();
            writeln!(text, "- {about}{}", words(&say(&warned.warning)))?;
        }
        writeln!(text)?;
    }
    if !state.notes.is_empty() {
        writeln!(text, "## Notes\n")?;
        for note in &state.notes {
            writeln!(
                text,
                "- at {:.1} s: {}",
                note.at as f64 / 1e3,
                words(&note.text)
            )?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn write_networks(state: &State, text: &mut String) -> fmt::Result {
    writeln!(text, "| network | role | state | epochs | test accuracy |")?;
    writeln!(text, "|---|---|---|---:|---|")?;
    for network in &state.networks {
        let status = match &network.status {
            Status::Waiting => "waiting".to_owned(),
            Status::Running { .. } => "running".to_owned(),
            Status::Done => "done".to_owned(),
            Status::Cancelled => "cancelled".to_owned(),
            Status::Failed(message) => format!("failed: {}", words(message)),
        };
        let accuracy = network
            .measurements
            .latest(Metric::Accuracy, None, None)
            .and_then(Estimate::accuracy);
        writeln!(
            text,
            "| {} | {} | {status} | {} | {} |",
            words(&network.plan.name),
            network.plan.role.name(),
            network.epochs.last().map_or(0, |epoch| epoch.epoch),
            estimate(accuracy.as_ref())
        )?;
    }
    writeln!(text)
}

fn write_comparison(
    state: &State,
    branch: &NetworkState,
    comparison: &Comparison,
    text: &mut String,
) -> fmt::Result {
    writeln!(text, "## {}\n", words(&branch.plan.name))?;
    for done in &branch.compressions {
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
            writeln!(text, "- removed: {}", shares.join(", "))?;
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
        for row in &comparison.accuracies {
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                words(&match (row.condition.as_deref(), row.budget) {
                    (None, _) => "clean images".to_owned(),
                    (Some(condition), None) => condition.to_owned(),
                    (Some(condition), Some(budget)) => format!("{condition} within {budget:.4}"),
                }),
                row.severity.map(|s| s.to_string()).unwrap_or_default(),
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
            )?;
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

fn size(metric: Metric) -> &'static str {
    match metric {
        Metric::Nonzero => "non-zero parameters",
        Metric::Macs => "multiply-accumulates",
        Metric::Bytes => "bytes, each weight in its bits",
        Metric::BytesDense => "bytes as 32-bit floats",
        Metric::BytesBitmask => "bytes with a bitmask",
        Metric::BytesCsr => "bytes in compressed rows",
        Metric::BytesWritten => "bytes on disk, as a packed file",
        other => other.name(),
    }
}

/// With n and interval, or a dash.
fn estimate(estimate: Option<&Estimate>) -> String {
    let Some(estimate) = estimate else {
        return "-".to_owned();
    };
    let interval = estimate.interval.map_or_else(
        || "no interval".to_owned(),
        |(low, high)| format!("{} to {}", percent(low), percent(high)),
    );
    let n = estimate
        .n
        .map_or_else(|| "n unknown".to_owned(), |n| format!("n = {n}"));
    format!("{} ({interval}, {n})", percent(estimate.value))
}

/// Per cent above a reference, as document 003's tables have it, or a dash.
fn relative(deviation: Option<f64>) -> String {
    deviation.map_or_else(
        || "-".to_owned(),
        |percent| format!("{:+.2} %", (percent * 100.0).round() / 100.0 + 0.0),
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A count with its thousands apart.
fn count(number: Option<f64>) -> String {
    let Some(number) = number else {
        return "-".to_owned();
    };
    let digits = format!("{number:.0}");
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", &*digits), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text that means nothing to markdown or to HTML.
fn words(text: &str) -> String {
    let mut escaped = String::new();
    for letter in plain(text).chars() {
        if "\\`*_{}[]<>#|&~$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Text as code; a table's bars and the quotes of code cannot be escaped there, so they are replaced.
fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace(['`', '|'], "?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        for (number, expected) in [
            (0.0, "0"),
            (999.0, "999"),
            (225_034.0, "225,034"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(count(Some(number)), expected);
        }
    }

    #[test]
    fn words_of_a_session_stay_words() {
        assert_eq!(
            words("a|b <script> \u{1b}[2J"),
            "a\\|b \\<script\\> \\\\u\\{1b\\}\\[2J"
        );
        assert_eq!(code("a`b\n"), "`a?b\\n`");
    }
}
