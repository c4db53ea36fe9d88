//! Tables for people. No accuracy stands without its n and its interval.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::{Chapter, Format, Report};
use crate::event::Outcome;
use crate::measurement::{Measurement, Metric};
use crate::spec::Role;
use crate::state::comparison::{Comparison, Estimate};
use crate::state::{NetworkState, State, Status, closing_sentences, counted, plain, rounded, say};

mod attacks;
mod comparison;
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
         McNemar's exact test. Holm's correction is within one branch and one probe: over all its corruptions at all their \
         severities, over all its attacks at all their budgets, over all its domains; clean images are a family of their own. \
         Rows that ask of the clean images again, within no budget or under a corruption that changes nothing, are not counted \
         and have no corrected p; branches are not corrected for each other. A mean over severities has the mean of their \
         intervals' ends, which is conservative, since the same images are behind all of them; it is not tested. A relative \
         deviation is 100 · (candidate / reference - 1) per cent."
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
        "Session {} (SHA-256 {}), {}, {}, {}, shrinklab {} at commit {}. {outcome}\n",
        code(&chapter.name),
        code(chapter.digest),
        header.study.seeds_in_words(),
        counted(u64::from(header.threads), "thread"),
        words(&header.device),
        words(&header.app),
        words(&header.commit)
    )?;
    match closing_sentences(state).as_slice() {
        [] => {}
        [sentence] => writeln!(text, "**{}**\n", words(sentence))?,
        several => {
            for sentence in several {
                writeln!(text, "- **{}**", words(sentence))?;
            }
            writeln!(text)?;
        }
    }
    // References of the same data say it once.
    let mut said: Vec<&str> = Vec::new();
    for data in &state.data {
        if said.contains(&&*data.digest) {
            continue;
        }
        said.push(&data.digest);
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
    write_references(state, text)?;
    write_networks(state, text)?;
    sweeps::write(chapter, text)?;
    attacks::write(chapter, text)?;
    corruption::write(state, text)?;
    for branch in state.branches() {
        if let Some(comparison) = Comparison::of(state, branch.plan.id) {
            comparison::write(state, branch, &comparison, text)?;
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

/// What the numbers of references stand for, where there are several.
fn write_references(state: &State, text: &mut String) -> fmt::Result {
    let Some(study) = &state.study else {
        return Ok(());
    };
    let groups = study.repetitions();
    if groups.len() < 2 {
        return Ok(());
    }
    for (number, group) in groups.iter().enumerate() {
        let reference = &study.references[group[0] as usize];
        let dataset = match reference.dataset.setting.0.get("domain") {
            Some(domain) => format!("{} ({domain})", reference.dataset.id),
            None => reference.dataset.id.clone(),
        };
        writeln!(
            text,
            "- reference {}: {} on {}",
            number + 1,
            words(&reference.architecture.id),
            words(&dataset)
        )?;
    }
    writeln!(text)
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
    writeln!(text)?;
    let references = state.study.iter().flat_map(|study| &study.references);
    for (index, reference) in references.enumerate() {
        let of = |network: &&Arc<NetworkState>| {
            network.plan.role == Role::Reference && network.plan.reference as usize == index
        };
        let Some(network) = state.networks.iter().find(of) else {
            continue;
        };
        let knobs = reference.training.0.iter();
        let knobs: Vec<String> = knobs.map(|(id, value)| format!("{id} = {value}")).collect();
        writeln!(
            text,
            "{} was trained with seed {}: {}\n",
            words(&network.plan.name),
            network.plan.init_seed,
            code(&knobs.join(", "))
        )?;
    }
    Ok(())
}

/// Under what networks were asked, in words: `clean images`, `contrast`, `pgd within 8/255`.
fn condition(id: Option<&str>, within: Option<f64>) -> String {
    match (id, within) {
        (None, _) => "clean images".to_owned(),
        (Some(id), None) => id.to_owned(),
        (Some(id), Some(0.0)) => format!("{id}, no budget"),
        (Some(id), Some(within)) => format!("{id} within {}", budget(within)),
    }
}

/// A budget as people write it: a short decimal, or so many of 255 levels.
fn budget(value: f64) -> String {
    let near = |other: f64, tolerance: f64| (other - value).abs() <= tolerance * value.abs();
    let short = (value * 1e4).round() / 1e4 + 0.0;
    // What was once an f32 is a short decimal, too.
    if near(short, 1e-6) {
        return short.to_string();
    }
    let levels = (value * 255.0).round();
    if levels >= 1.0 && near(levels / 255.0, 1e-6) {
        return format!("{levels}/255");
    }
    rounded(value, 4)
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

/// A share in a table whose n stands in its caption, and in the cell where it is not the same for all; or a dash.
fn share(found: Option<&Measurement>, common: Option<u64>) -> String {
    let Some(found) = found.and_then(|found| Some((found.scalar()?, found))) else {
        return "-".to_owned();
    };
    let (value, found) = found;
    let interval = found.interval.map_or_else(
        || "no interval".to_owned(),
        |(low, high)| format!("{:.1}, {:.1}", 100.0 * low.0, 100.0 * high.0),
    );
    let n = match (common, found.n) {
        (Some(_), _) => String::new(),
        (None, Some(n)) => format!(", n = {n}"),
        (None, None) => ", n unknown".to_owned(),
    };
    format!("{} [{interval}]{n}", percent(value))
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
    use std::path::Path;

    use super::*;
    use crate::event::Event;
    use crate::session::{Header, Session, codec, sample};

    /// The sample's story with more findings.
    pub(super) fn with(found: Vec<Measurement>) -> Vec<Event> {
        let mut events = sample::story();
        let end = events.len() - 1;
        events.splice(end..end, found.into_iter().map(Event::Measured));
        events
    }

    /// The document of a session of these events.
    pub(super) fn rendered(header: &Header, events: Vec<Event>) -> String {
        let mut bytes = codec::encode_header(header);
        for record in sample::records(events) {
            codec::encode(&record, &mut bytes);
        }
        let session = Session::from_bytes(Path::new("made.jsonl"), &bytes).unwrap();
        render(&Report::new(&[&session]))
    }

    #[test]
    fn budgets_are_written_without_the_dust_of_floats() {
        for (value, expected) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (f64::from(0.2_f32), "0.2"),
            (8.0 / 255.0, "8/255"),
            (0.031_372_55, "8/255"),
            (4.0 / 255.0 / 2.0, "2/255"),
            (0.1 + 0.2, "0.3"),
            (0.187_5, "0.1875"),
            (0.123_456_789, "0.1235"),
            (0.000_05, "0.00005"),
        ] {
            assert_eq!(budget(value), expected);
        }
        assert_eq!(condition(Some("pgd"), Some(0.0)), "pgd, no budget");
        assert_eq!(condition(Some("pgd-l2"), Some(0.5)), "pgd-l2 within 0.5");
    }

    #[test]
    fn severities_have_a_mean_with_an_interval() {
        let text = rendered(&sample::header(), sample::story());
        // Of 90 and 80 % with two points on either side, and of 85 and 75 %.
        let row = "| gaussian-noise | mean | 85.0 % (83.0 % to 87.0 %, n = 1000) \
                   | 80.0 % (78.0 % to 82.0 %, n = 1000) | -5.0 ±2.8 | - | - | - | -5.88 % |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("Holm's correction is within one branch and one probe"));
    }

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
