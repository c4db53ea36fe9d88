//! What `run` prints: words for people, a line per event for programs, or the end alone.

use std::io::{ErrorKind, IsTerminal as _, Write as _, stdout};
use std::path::Path;

use anyhow::Result;

use crate::event::{Event, Outcome, Record, Tally};
use crate::lab::statistics::wilson;
use crate::measurement::{CheckOutcome, Masking, MaskingCheck, Measurement, Metric, Unit, Value};
use crate::session::codec;
use crate::state::suspicion::{said, through};
use crate::state::{State, closing_sentence, counted, say};
use crate::ui::figure;

/// Prints a study as it runs.
pub(crate) trait Printer {
    /// The study begins; its session is that file.
    fn begin(&mut self, session: &Path) -> Result<()>;
    /// Something to know about how the study runs, which is no fact of it.
    fn remark(&mut self, remark: &str) -> Result<()>;
    /// A record was written.
    fn record(&mut self, record: &Record) -> Result<()>;
    /// The session could not be written; the study goes on unrecorded.
    fn trouble(&mut self, problem: &str) -> Result<()>;
    /// Nothing more comes.
    fn end(&mut self) -> Result<()>;
}

/// Prints, and does not mind a reader or a terminal that went away: the study goes on without.
fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A full disk behind a redirection is worth an error; a pipe or a terminal that is gone is not.
        Err(error) if error.kind() == ErrorKind::StorageFull => Err(error.into()),
        _ => Ok(()),
    }
}

/// One event per line, as in the session file.
pub(crate) struct Json;

impl Printer for Json {
    fn begin(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remark(&mut self, remark: &str) -> Result<()> {
        beside(remark);
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        print(&format!("{}\n", codec::line(record)))
    }

    fn trouble(&mut self, problem: &str) -> Result<()> {
        warn(problem);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Only how it ended.
#[derive(Default)]
pub(crate) struct Quiet {
    state: State,
}

impl Printer for Quiet {
    fn begin(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remark(&mut self, remark: &str) -> Result<()> {
        beside(remark);
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        self.state.apply(record);
        Ok(())
    }

    fn trouble(&mut self, problem: &str) -> Result<()> {
        warn(problem);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match &self.state.outcome {
            Some(outcome) => print(&format!("{}\n", ended(&self.state, outcome))),
            None => Ok(()),
        }
    }
}

fn warn(problem: &str) {
    beside(&format!("{problem}; the study goes on unrecorded"));
}

/// A line beside what is printed for programs.
fn beside(words: &str) {
    // Standard error may be gone, too.
    let _ = writeln!(std::io::stderr(), "shrinklab: {words}");
}

/// Words for people: plain lines, and on a terminal one line that changes in place.
pub(crate) struct Words {
    state: State,
    in_place: bool,
    /// The changing line as it stands on the terminal.
    standing: String,
}

impl Words {
    /// Prints to a terminal, or to a pipe.
    pub(crate) fn new(terminal: bool) -> Self {
        Self {
            state: State::default(),
            in_place: terminal,
            standing: String::new(),
        }
    }

    /// Prints what comes after a state that somebody has seen on screen.
    pub(crate) fn going_on(state: State) -> Self {
        Self {
            state,
            ..Self::new(stdout().is_terminal())
        }
    }

    /// A line of words.
    pub(crate) fn say(&mut self, text: &str) -> Result<()> {
        let wipe = if self.standing.is_empty() {
            ""
        } else {
            "\r\x1b[K"
        };
        self.standing.clear();
        print(&format!("{wipe}{text}\n"))
    }

    fn stand(&mut self) -> Result<()> {
        if !self.in_place {
            return Ok(());
        }
        let Some((network, stage)) = self.state.current_stage() else {
            return Ok(());
        };
        let mut text = format!("{}: {}", network.plan.name, stage.title);
        if let Some(share) = stage.share() {
            text = format!("{text} {:.0} %", share * 100.0);
        }
        if let Some(speed) = self.state.pace.images_per_second() {
            text = format!("{text}, {speed:.0} images/s");
        }
        if let Some(left) = self.state.remaining() {
            text = format!("{text}, {} s left", left.div_ceil(1000));
        }
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .take(78)
            .collect();
        if text == self.standing {
            return Ok(());
        }
        print(&format!("\r\x1b[K{text}"))?;
        self.standing = text;
        Ok(())
    }

    fn words(&self, event: &Event) -> Option<String> {
        let name = |id| self.state.name(id);
        Some(match event {
            Event::StudyStarted { study, networks } => {
                let first = study.references.first()?;
                format!(
                    "{} · {} · {} · {} · {}",
                    first.dataset.id,
                    first.architecture.id,
                    study.seeds_in_words(),
                    counted(u64::from(study.threads.unwrap_or(1)), "thread"),
                    counted(networks.len() as u64, "network")
                )
            }
            Event::DataReady(data) => format!(
                "{}: {} images to train on, {} to validate, {} to test",
                data.dataset, data.train, data.validation, data.test
            ),
            Event::StageStarted { network, title, .. } => format!("{}: {title}", name(*network)),
            Event::EpochEnded {
                network,
                epoch,
                train,
                validation,
                ..
            } => format!(
                "{}: epoch {epoch}  train loss {:.4}  validation loss {:.4}, accuracy {}",
                name(*network),
                train.loss.0,
                validation.loss.0,
                accuracy(validation)
            ),
            Event::StoppedEarly {
                network,
                epoch,
                waited,
                ..
            } => {
                let epochs = if *waited == 1 { "epoch" } else { "epochs" };
                format!(
                    "{}: stopped after epoch {epoch}, since {waited} {epochs} had not lowered the validation loss",
                    name(*network)
                )
            }
            Event::NetworkCompressed {
                network,
                counts,
                asked,
                reached,
                removed,
                remarks,
                ..
            } => {
                let mut text = name(*network);
                if let (Some(counts), Some(asked), Some(reached)) = (counts, asked, reached) {
                    text = format!(
                        "{text}: {:.2} % of the {counts} removed, {:.2} % asked",
                        reached.0 * 100.0,
                        asked.0 * 100.0
                    );
                }
                if let Some(removed) = removed {
                    let shares = removed
                        .named()
                        .map(|(of, share)| format!("{of} {:.2} %", share * 100.0));
                    // With what compressions before it removed.
                    let done = self.state.network(*network);
                    let several = done.is_some_and(|network| network.compressions.len() > 1);
                    let in_all = if several { " in all" } else { "" };
                    text = format!("{text}\n  removed{in_all}: {}", shares.join(", "));
                }
                for remark in remarks {
                    text = format!("{text}\n  {remark}");
                }
                text
            }
            Event::NetworkSaved {
                network,
                file,
                bytes,
            } => format!("{}: saved as {file}, {bytes} bytes", name(*network)),
            Event::Measured(found) => self.finding(found)?,
            Event::Warned { warning, .. } => format!("warning: {}", say(warning)),
            Event::StageEnded {
                network,
                outcome: Outcome::Failed { message },
                ..
            } => {
                format!("{}: failed: {message}", name(*network))
            }
            Event::StudyEnded { outcome } => ended(&self.state, outcome),
            Event::Paused
            | Event::Resumed
            | Event::Continued
            | Event::NoteAdded { .. }
            | Event::Tried(_)
            | Event::Pictured(_)
            | Event::Sensed { .. }
            | Event::BranchAdded { .. }
            | Event::NetworkBuilt { .. }
            | Event::Progressed { .. }
            | Event::StepsTrained { .. }
            | Event::StageEnded { .. }
            | Event::Unknown { .. } => return None,
        })
    }

    /// `gradients masked`, and a line for each check that says why: `One step is stronger than many (broken by FGSM 0.4, broken
    /// by PGD 0.1)`.
    fn masking(&self, found: &Measurement, verdict: Masking, checks: &[MaskingCheck]) -> String {
        let mut text = format!(
            "  {} gradients {}",
            self.state.name(found.network),
            verdict.word()
        );
        if let Some(estimator) = &found.estimator {
            text = format!("{text}; {}", through(*estimator));
        }
        for check in checks {
            if check.outcome == CheckOutcome::Passed {
                continue;
            }
            let [a, b] = &check.names;
            let [x, y] = check.numbers.map(|number| figure::plain(number.0, 3));
            text = format!("{text}\n    {} ({a} {x}, {b} {y})", said(check));
        }
        text
    }

    fn finding(&self, found: &Measurement) -> Option<String> {
        if found.metric == Metric::Error {
            // Its accuracy was said.
            return None;
        }
        let value = match &found.value {
            Value::Scalar(value) => value.0,
            Value::Verdict {
                verdict,
                difference,
                twins,
            } => {
                let (low, high) = found.interval?;
                let word = format!("{verdict:?}").to_lowercase();
                return Some(format!(
                    "  {} nearer than a twin? {word}: {:+.4} [{:+.4}, {:+.4}] nats against {}",
                    self.state.name(found.network),
                    difference.0,
                    low.0,
                    high.0,
                    counted(u64::from(*twins), "twin")
                ));
            }
            Value::Masking { verdict, checks } => {
                return Some(self.masking(found, *verdict, checks));
            }
            Value::Row(_) | Value::Scatter { .. } => return None,
        };
        let mut text = format!(
            "  {} {}",
            self.state.name(found.network),
            found.metric.name()
        );
        if let Some(condition) = &found.condition {
            text = format!("{text} {condition}");
        }
        if let Some(severity) = found.severity {
            text = format!("{text} {severity}");
        }
        if let Some(budget) = found.budget {
            text = format!("{text} within {}", figure::plain(budget.0, 4));
        }
        if found.metric == Metric::TransferAccuracy
            && let Some(from) = found.against
        {
            text = format!("{text} made against {}", self.state.name(from));
        }
        if let Some(estimator) = &found.estimator {
            text = format!("{text} ({})", estimator.word());
        }
        let (low, high) = found
            .interval
            .map_or((f64::NAN, f64::NAN), |(low, high)| (low.0, high.0));
        let bounds = |write: &dyn Fn(f64) -> String| {
            if low.is_nan() || high.is_nan() {
                String::new()
            } else {
                format!(" [{}, {}]", write(low), write(high))
            }
        };
        // Bounds have the decimals of their value.
        text = match found.unit {
            Unit::Fraction => {
                let percent = |share: f64| figure::plain(share * 100.0, 2);
                format!("{text} {} %{}", percent(value), bounds(&percent))
            }
            Unit::Nats => {
                let decimals = figure::digits(value, 3)
                    .split_once('.')
                    .map_or(3, |(_, decimals)| decimals.len());
                let nats = |nats: f64| figure::plain(nats, decimals);
                format!("{text} {} nats{}", nats(value), bounds(&nats))
            }
            Unit::Count
            | Unit::Bytes
            | Unit::Milliseconds
            | Unit::ImagesPerSecond
            | Unit::GreyLevels
            | Unit::Decibels
            | Unit::None => {
                let rounded = |value: f64| ((value * 1e6).round() / 1e6).to_string();
                format!("{text} {}{}", rounded(value), bounds(&rounded))
            }
        };
        if let Some(n) = found.n {
            text = format!("{text} n={n}");
        }
        Some(text)
    }
}

/// How the study ended, in a sentence.
fn ended(state: &State, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed => closing_sentence(state).unwrap_or_else(|| "done".to_owned()),
        Outcome::Cancelled => "stopped; what was recorded stays".to_owned(),
        Outcome::Failed { message } => {
            crate::state::plain(&format!("ended with a failure: {message}"))
        }
    }
}

fn accuracy(tally: &Tally) -> String {
    let (low, high) = wilson(tally.correct, tally.n);
    let share = tally.correct as f64 / tally.n.max(1) as f64;
    format!(
        "{:.2} % [{:.2}, {:.2}] n={}",
        share * 100.0,
        low * 100.0,
        high * 100.0,
        tally.n
    )
}

impl Printer for Words {
    fn begin(&mut self, session: &Path) -> Result<()> {
        let name = crate::state::plain(&session.display().to_string());
        self.say(&format!("session {name}"))
    }

    fn remark(&mut self, remark: &str) -> Result<()> {
        self.say(remark)
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        self.state.apply(record);
        if let Some(words) = self.words(&record.event) {
            let words: Vec<String> = words.lines().map(crate::state::plain).collect();
            self.say(&words.join("\n"))?;
        }
        self.stand()
    }

    fn trouble(&mut self, problem: &str) -> Result<()> {
        self.say(&format!("{problem}; the study goes on unrecorded"))
    }

    fn end(&mut self) -> Result<()> {
        if self.standing.is_empty() {
            Ok(())
        } else {
            print("\r\x1b[K")
        }
    }
}
