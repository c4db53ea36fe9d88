//! The state as text: the same facts always give the same lines, whatever the clock said.

use std::fmt::{self, Write as _};

use super::{Comparison, Landscape, NetworkState, Smoothing, State, Status, closing_sentence, say};
use crate::event::Outcome;
use crate::measurement::{Measurement, Value};

impl State {
    /// What the log says so far, for scenarios and for reading. Holds no times of day and nothing of the machine.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        write(self, &mut text).expect("writing to a string cannot fail");
        text
    }
}

fn write(state: &State, text: &mut String) -> fmt::Result {
    let phase = match &state.outcome {
        None if state.study.is_none() => "no study".to_owned(),
        None if state.is_paused => "paused".to_owned(),
        None => "running".to_owned(),
        Some(Outcome::Completed) => "completed".to_owned(),
        Some(Outcome::Cancelled) => "cancelled".to_owned(),
        Some(Outcome::Failed { message }) => format!("failed: {}", plain(message)),
    };
    writeln!(
        text,
        "study: {phase}, {} records, {} ms",
        state.records, state.at
    )?;
    if state.continued > 0 {
        writeln!(text, "continued {} times", state.continued)?;
    }
    for data in &state.data {
        writeln!(
            text,
            "data {}: {} {}/{}/{} images {}x{}x{}, {} classes",
            data.reference,
            plain(&data.dataset),
            data.train,
            data.validation,
            data.test,
            data.shape[0],
            data.shape[1],
            data.shape[2],
            data.classes.len()
        )?;
    }
    for network in &state.networks {
        write_network(state, network, text)?;
    }
    for (reference, landscape) in &state.landscapes {
        if state.landscapes.len() > 1 {
            writeln!(text, "landscape of reference {}", reference + 1)?;
        }
        write_landscape(state, landscape, text)?;
    }
    for warned in &state.warnings {
        let about = warned
            .network
            .map(|id| format!(" {}", plain(&state.name(id))))
            .unwrap_or_default();
        writeln!(text, "warning{about}: {}", plain(&say(&warned.warning)))?;
    }
    for note in &state.notes {
        writeln!(text, "note at record {}: {}", note.seq, plain(&note.text))?;
    }
    for trial in &state.trials {
        let knobs = trial.method.setting.0.iter();
        let knobs: Vec<String> = knobs.map(|(id, value)| format!("{id} {value}")).collect();
        write!(
            text,
            "tried {} {}:",
            plain(&trial.method.id),
            plain(&knobs.join(", "))
        )?;
        if let Some(problem) = &trial.problem {
            write!(text, " {}", plain(problem))?;
        }
        for hits in &trial.hits {
            let condition = hits.condition.as_deref().unwrap_or("clean");
            write!(text, " {} {}/{}", plain(condition), hits.own, trial.n)?;
        }
        writeln!(text)?;
    }
    for ((reference, layer), found) in &state.sensed {
        writeln!(
            text,
            "{} of reference {} without {} of its weights: {}/{}, before {}",
            plain(layer),
            reference + 1,
            found.ratio,
            found.hits,
            found.n,
            found.base
        )?;
    }
    for (kind, count) in &state.unknown {
        writeln!(text, "unknown {}: {count}", plain(kind))?;
    }
    for oddity in &state.oddities {
        writeln!(
            text,
            "odd at record {}: {}",
            oddity.seq,
            plain(&oddity.problem)
        )?;
    }
    if let Some(sentence) = closing_sentence(state) {
        writeln!(text, "so: {}", plain(&sentence))?;
    }
    Ok(())
}

fn write_network(state: &State, network: &NetworkState, text: &mut String) -> fmt::Result {
    let plan = &network.plan;
    let status = match &network.status {
        Status::Waiting => "waiting".to_owned(),
        Status::Running { stage, done, total } => format!("stage {stage}, {done} of {total}"),
        Status::Done => "done".to_owned(),
        Status::Failed(message) => format!("failed: {}", plain(message)),
        Status::Cancelled => "cancelled".to_owned(),
    };
    writeln!(
        text,
        "{} {} ({}): {status}",
        plan.id,
        plain(&plan.name),
        plan.role.name()
    )?;
    if !network.architecture.is_empty() {
        writeln!(
            text,
            "  {} with {} parameters in {} layers",
            plain(&network.architecture),
            network.parameters,
            network.layers.len()
        )?;
    }
    for (index, stage) in network.stages.iter().enumerate() {
        if stage.started.is_some() {
            let cost = stage.cost.unwrap_or_default();
            writeln!(
                text,
                "  stage {index} {}: {} ms, {} steps, {} images{}",
                stage.kind.name(),
                stage.milliseconds(state.at).unwrap_or(0),
                cost.steps,
                cost.images,
                if stage.ended.is_some() {
                    ""
                } else {
                    ", not ended"
                }
            )?;
        }
    }
    if let Some((from, to)) = network.loss.steps() {
        let all = network.loss.window(from, to);
        write!(text, "  loss over steps {from} to {to}")?;
        if let Some(all) = all.filter(|all| all.count > 0) {
            write!(
                text,
                ": {:.4} to {:.4}, least {:.4}, greatest {:.4}, smooth {:.4}",
                all.first,
                all.last,
                all.min,
                all.max,
                all.smooth(Smoothing::Medium).unwrap_or(0.0)
            )?;
        }
        match network.loss.not_finite() {
            0 => writeln!(text)?,
            n => writeln!(text, ", {n} not finite")?,
        }
    }
    for epoch in &network.epochs {
        writeln!(
            text,
            "  epoch {} at step {}: train {:.4} {}/{}, validation {:.4} {}/{}{}",
            epoch.epoch,
            epoch.step,
            epoch.train.loss.0,
            epoch.train.correct,
            epoch.train.n,
            epoch.validation.loss.0,
            epoch.validation.correct,
            epoch.validation.n,
            if epoch.is_best { ", best" } else { "" }
        )?;
    }
    for done in &network.compressions {
        let ratio =
            |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.4}"));
        writeln!(
            text,
            "  {}: asked {}, reached {} of {}",
            plain(&done.method.id),
            ratio(done.asked),
            ratio(done.reached),
            plain(done.counts.as_deref().unwrap_or("nothing"))
        )?;
        if let Some(removed) = &done.removed {
            let shares = removed
                .named()
                .map(|(of, share)| format!("{of} {share:.4}"));
            writeln!(text, "    removed: {}", shares.join(", "))?;
        }
        for remark in &done.remarks {
            writeln!(text, "    {}", plain(remark))?;
        }
    }
    for found in network.measurements.iter() {
        write_measured(state, found, text)?;
    }
    if let Some(found) = &network.masking
        && let Value::Masking { verdict, checks } = &found.value
    {
        writeln!(text, "  gradients {}", verdict.word())?;
        for check in checks {
            writeln!(
                text,
                "    {} {:?}: {} {}, {} {}",
                plain(&check.id),
                check.outcome,
                plain(&check.names[0]),
                check.numbers[0].0,
                plain(&check.names[1]),
                check.numbers[1].0
            )?;
        }
    }
    if let Some(comparison) = Comparison::of(state, plan.id)
        && comparison.reference != plan.id
    {
        for row in &comparison.accuracies {
            if let Some(difference) = row.difference {
                writeln!(
                    text,
                    "  beside {}, {}{}{}: {} points",
                    plain(&state.name(comparison.reference)),
                    plain(row.condition.as_deref().unwrap_or("clean")),
                    row.severity.map(|s| format!(" {s}")).unwrap_or_default(),
                    row.budget
                        .map(|b| format!(" within {b}"))
                        .unwrap_or_default(),
                    difference.points()
                )?;
            }
        }
    }
    Ok(())
}

fn write_measured(state: &State, found: &Measurement, text: &mut String) -> fmt::Result {
    write!(
        text,
        "  stage {} epoch {} {} {}",
        found.stage,
        found.epoch,
        plain(&found.probe),
        found.metric.name()
    )?;
    if let Some(condition) = &found.condition {
        write!(text, " {}", plain(condition))?;
    }
    if let Some(severity) = found.severity {
        write!(text, " {severity}")?;
    }
    if let Some(budget) = found.budget {
        write!(text, " within {}", budget.0)?;
    }
    if let Some(against) = found.against {
        write!(text, " against {}", plain(&state.name(against)))?;
    }
    write!(text, ": {}", found.scalar().unwrap_or(f64::NAN))?;
    if let Some((low, high)) = found.interval {
        write!(text, " [{}, {}]", low.0, high.0)?;
    }
    if let Some(n) = found.n {
        write!(text, " n={n}")?;
    }
    writeln!(text)
}

fn write_landscape(state: &State, landscape: &Landscape, text: &mut String) -> fmt::Result {
    for (index, point) in landscape.points.iter().enumerate() {
        let row: Vec<String> = (0..index)
            .map(|other| {
                format!(
                    "{:.4}",
                    landscape.distance(index, other).unwrap_or(f64::NAN)
                )
            })
            .collect();
        writeln!(
            text,
            "point {} epoch {}: {}",
            plain(&state.name(point.network)),
            point.epoch,
            row.join(" ")
        )?;
    }
    for map in &landscape.maps {
        writeln!(
            text,
            "map {}: {} points",
            plain(&map.method),
            map.points.len()
        )?;
    }
    for found in &landscape.verdicts {
        writeln!(
            text,
            "{} nearer than a twin: {:?}, {:+.4} nats, {}",
            plain(&state.name(found.network)),
            found.verdict,
            found.difference.0,
            counted(u64::from(found.twins), "twin")
        )?;
    }
    Ok(())
}

/// So many of something, as people say it: `1 twin`, `2 twins`, `10,000 images`.
pub fn counted(n: u64, one: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    let mut digits = n.to_string();
    let mut place = digits.len();
    while place > 3 {
        place -= 3;
        digits.insert(place, ',');
    }
    format!("{digits} {one}{plural}")
}

/// A number in so many significant digits at most, without zeros behind the last one: `0.0314`, `0.3`, `12`.
pub fn rounded(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return (value + 0.0).to_string();
    }
    let written = format!("{value:.*e}", digits.max(1) - 1);
    // What was written in the decimals of a power of ten is the nearest such number, and the shortest that reads so.
    written
        .parse::<f64>()
        .map_or(written, |value| value.to_string())
}

/// Text from a session with everything that could steer a terminal or break a line spelled out.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if is_steering(character) {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Whether a character steers a terminal, breaks a line, or reorders or hides what stands beside it.
pub fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_so_many_digits_and_no_more() {
        for (value, digits, expected) in [
            (8.0 / 255.0, 4, "0.03137"),
            (0.1 + 0.2, 4, "0.3"),
            (123_456.0, 3, "123000"),
            (-0.000_123_46, 4, "-0.0001235"),
            (-0.0, 4, "0"),
            (f64::INFINITY, 4, "inf"),
        ] {
            assert_eq!(rounded(value, digits), expected);
        }
    }
}
