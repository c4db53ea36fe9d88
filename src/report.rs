//! Documents out of sessions: tables for people and programs, figures for papers.
//!
//! Built from the same [`State`] that the screen draws. Every document names the sessions it is made from, their
//! SHA-256, and the command that makes it again, byte for byte. Nothing in a session can steer a terminal or break
//! out of a document's syntax: control characters are spelled out in every format.

use std::fmt;
use std::str::FromStr;

use crate::session::{Header, Session};
use crate::state::State;

mod csv;
mod json;
mod markdown;
mod svg;
mod table;

/// What a report can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables for people.
    Markdown,
    /// The table of measurements, RFC 4180.
    Csv,
    /// Everything, for programs.
    Json,
    /// Figures.
    Svg,
}

impl Format {
    /// Every format, by the name on the command line.
    pub const ALL: [(&'static str, Self); 4] = [
        ("markdown", Self::Markdown),
        ("csv", Self::Csv),
        ("json", Self::Json),
        ("svg", Self::Svg),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, format)| *format)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|(known, _)| *known).collect();
                format!(
                    "format {name:?} is not known; it is one of {}",
                    names.join(", ")
                )
            })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Self::ALL
            .iter()
            .find(|(_, format)| format == self)
            .expect("the table has every format");
        f.write_str(name)
    }
}

/// One session of a report.
struct Chapter<'a> {
    /// The file's name, made unique by its path where two are alike.
    name: String,
    digest: &'a str,
    header: &'a Header,
    state: State,
}

/// One or several sessions, ready to be written.
pub struct Report<'a> {
    chapters: Vec<Chapter<'a>>,
}

impl<'a> Report<'a> {
    /// Joins the sessions.
    pub fn new(sessions: &[&'a Session]) -> Self {
        let chapters = sessions
            .iter()
            .map(|session| {
                let is_alone = sessions
                    .iter()
                    .filter(|other| other.name() == session.name())
                    .count()
                    == 1;
                Chapter {
                    name: if is_alone {
                        session.name()
                    } else {
                        session.path.display().to_string()
                    },
                    digest: &session.digest,
                    header: &session.header,
                    state: State::fold(&session.records),
                }
            })
            .collect();
        Self { chapters }
    }

    /// The document.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Markdown => markdown::render(self),
            Format::Csv => csv::render(self),
            Format::Json => json::render(self),
            Format::Svg => svg::render(self),
        }
    }

    /// The command that makes the document again.
    fn command(&self, format: Format) -> String {
        let files: Vec<String> = self
            .chapters
            .iter()
            .map(|chapter| quoted(&chapter.name))
            .collect();
        format!("shrinklab report {} --format {format}", files.join(" "))
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::event::Event;
    use crate::measurement::{
        CheckOutcome, Masking, MaskingCheck, Measurement, Metric, Score, Value,
    };
    use crate::session::{codec, sample};
    use crate::spec::NetworkId;
    use crate::state::is_steering;

    fn session(name: &str) -> Session {
        let mut bytes = codec::encode_header(&sample::header());
        for record in sample::records(sample::story()) {
            codec::encode(&record, &mut bytes);
        }
        Session::from_bytes(Path::new(name), &bytes).unwrap()
    }

    fn render(format: Format) -> String {
        Report::new(&[&session("a.jsonl")]).render(format)
    }

    #[test]
    fn json_has_one_flat_row_per_number() {
        let document: serde_json::Value = serde_json::from_str(&render(Format::Json)).unwrap();
        let rows = document["measurements"].as_array().unwrap();
        // Accuracy, two corruptions, four sizes, three latencies of three networks, and an agreement.
        assert_eq!(rows.len(), 31);
        let agreement = rows
            .iter()
            .find(|row| row["metric"] == "agreement")
            .unwrap();
        let expected = serde_json::json!({
            "network": "magnitude pruning 50 %", "role": "branch", "stage": "fine-tune", "epoch": 2,
            "probe": "agreement", "metric": "agreement", "condition": null, "severity": null,
            "against": "reference", "value": 0.97, "unit": "fraction", "low": null, "high": null, "n": 1000,
            "deviation_percent": null, "budget": null,
        });
        assert_eq!(agreement, &expected);
        let sessions = &document["sessions"][0];
        assert_eq!(sessions["sha256"], session("a.jsonl").digest);
        assert_eq!(document["epochs"].as_array().unwrap().len(), 5);
        assert_eq!(document["verdicts"][0]["verdict"], "undecided");
        assert_eq!(document["networks"][2]["status"], "done");
    }

    #[test]
    fn json_has_the_verdicts_on_gradients_with_their_checks() {
        let check = MaskingCheck {
            id: "zero-gradients".to_owned(),
            title: "Gradients are zero".to_owned(),
            outcome: CheckOutcome::Failed,
            names: ["share".to_owned(), "allowed".to_owned()],
            numbers: [Score(0.5), Score(0.01)],
            p: None,
        };
        let mut events = sample::story();
        events.push(Event::Measured(Measurement {
            value: Value::Masking {
                verdict: Masking::Masked,
                checks: vec![check],
            },
            budget: Some(Score(0.1)),
            n: Some(188),
            ..sample::scalar(NetworkId(2), 1, Metric::GradientMasking, 0.0)
        }));
        let mut bytes = codec::encode_header(&sample::header());
        for record in sample::records(events) {
            codec::encode(&record, &mut bytes);
        }
        let session = Session::from_bytes(Path::new("a.jsonl"), &bytes).unwrap();
        let text = Report::new(&[&session]).render(Format::Json);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let found = &document["gradients"][0];
        assert_eq!(found["network"], "magnitude pruning 50 %");
        assert_eq!(
            (&found["verdict"], &found["n"]),
            (&"masked".into(), &188.into())
        );
        assert_eq!(found["checks"][0]["id"], "zero-gradients");
    }

    #[test]
    fn csv_is_the_table_of_json() {
        let text = render(Format::Csv);
        let mut lines = text.split("\r\n");
        assert_eq!(
            lines.next().unwrap(),
            "network,role,stage,epoch,probe,metric,condition,severity,against,value,unit,low,high,n,deviation_percent,budget"
        );
        let document: serde_json::Value = serde_json::from_str(&render(Format::Json)).unwrap();
        for row in document["measurements"].as_array().unwrap() {
            let cells: Vec<&str> = lines.next().unwrap().split(',').collect();
            assert_eq!(cells.len(), 16);
            assert_eq!(cells[0], row["network"].as_str().unwrap());
            assert_eq!(cells[9].parse::<f64>().ok(), row["value"].as_f64());
            assert_eq!(cells[11].parse::<f64>().ok(), row["low"].as_f64());
        }
        assert_eq!(lines.collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn several_sessions_are_joined_and_told_apart() {
        let (a, b) = (session("a.jsonl"), session("b.jsonl"));
        let report = Report::new(&[&a, &b]);
        let csv = report.render(Format::Csv);
        assert!(csv.starts_with("session,network,"));
        assert_eq!(csv.matches("\r\na.jsonl,").count(), 31);
        assert_eq!(csv.matches("\r\nb.jsonl,").count(), 31);
        let document: serde_json::Value =
            serde_json::from_str(&report.render(Format::Json)).unwrap();
        assert_eq!(document["networks"][3]["session"], "b.jsonl");
        let same = [&session("x/a.jsonl"), &session("y/a.jsonl")];
        assert!(
            Report::new(&same)
                .render(Format::Csv)
                .contains("y/a.jsonl,")
        );
    }

    #[test]
    fn no_accuracy_stands_without_its_n_and_its_interval() {
        let text = render(Format::Markdown);
        assert!(text.contains(
            "| magnitude pruning 50 % | branch | done | 3 | 94.9 % (93.4 % to 96.1 %, n = 1000) |"
        ));
        let row = "| gaussian-noise | 2 | 80.0 % (78.0 % to 82.0 %, n = 1000) \
                   | 75.0 % (73.0 % to 77.0 %, n = 1000) | -5.0 ±2.8 | - | - | - | -6.25 % |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| non-zero parameters | 1,000 | 500 | 50.0 % removed |"));
        assert!(text.contains("undecided (-0.0100 nats [-0.0200, +0.0100], 1 twin)"));
    }

    #[test]
    fn nothing_in_a_session_steers_a_terminal_or_breaks_out() {
        for (name, format) in Format::ALL {
            let text = Report::new(&[&session("a\u{1b}[2J<&>.jsonl")]).render(format);
            let steers = |letter| is_steering(letter) && !"\r\n".contains(letter);
            assert!(!text.contains(steers), "{name}");
            let expects_note = format != Format::Csv && format != Format::Svg;
            assert_eq!(text.contains("red"), expects_note, "{name}");
        }
        assert!(!render(Format::Markdown).contains("<b>"));
    }

    #[test]
    fn figures_name_their_origin_and_tell_networks_apart_by_shape() {
        let figure = render(Format::Svg);
        assert_eq!(figure, render(Format::Svg));
        assert!(figure.contains(&session("a.jsonl").digest));
        assert!(figure.contains("shrinklab report a.jsonl --format svg"));
        for part in [
            "Loss:",
            "Accuracy under corruption",
            "Function: mds",
            "nearer than a twin?",
        ] {
            assert!(figure.contains(part), "{part}");
        }
        assert!(!figure.contains("NaN") && !figure.contains("inf"));
        for element in ["g", "text", "svg", "style", "desc", "clipPath"] {
            let opened = figure.matches(&format!("<{element}")).count();
            let closed = figure.matches(&format!("</{element}>")).count();
            assert_eq!(opened, closed, "{element}");
        }
    }

    #[test]
    fn a_session_of_all_kinds_and_an_empty_one_can_be_reported() {
        let all = Session::from_bytes(Path::new("all.jsonl"), &sample::file()).unwrap();
        let header = codec::encode_header(&sample::header());
        let empty = Session::from_bytes(Path::new("empty.jsonl"), &header).unwrap();
        for (_, format) in Format::ALL {
            assert!(!Report::new(&[&all, &empty]).render(format).contains("NaN"));
            assert!(!Report::new(&[]).render(format).is_empty());
        }
    }

    /// 100 · (0.9 / 0.95 - 1) and 100 · (0.5 / 0.95 - 1), rounded by hand.
    #[test]
    fn a_sweep_is_a_table_of_relative_deviations_and_a_figure() {
        let mut bytes = codec::encode_header(&sample::header());
        for record in sample::records(sample::swept()) {
            codec::encode(&record, &mut bytes);
        }
        let session = Session::from_bytes(Path::new("swept.jsonl"), &bytes).unwrap();
        let report = Report::new(&[&session]);
        let text = report.render(Format::Markdown);
        for row in [
            "| 0.5 | 90.0 % (no interval, n = 1000) | -5.26 % |",
            "| 0.9 | 50.0 % (no interval, n = 1000) | -47.37 % |",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
        assert_eq!(text.matches("## Sweeps").count(), 1);
        let document: serde_json::Value =
            serde_json::from_str(&report.render(Format::Json)).unwrap();
        let sweeps = document["sweeps"].as_array().unwrap();
        assert_eq!(
            sweeps.len(),
            5,
            "clean: two strands over ratio, one over bits; noise: one each"
        );
        assert_eq!(sweeps[0]["points"][1]["at"], 0.9);
        let figure = report.render(Format::Svg);
        assert!(figure.contains("Sweeps:") && figure.contains("class=\"level\""));
        assert!(
            !render(Format::Svg).contains("Sweeps:"),
            "one branch is no sweep"
        );
    }

    #[test]
    fn formats_are_known_by_name() {
        for (name, format) in Format::ALL {
            assert_eq!(name.parse(), Ok(format));
            assert_eq!(format.to_string(), name);
        }
        let error = "pdf".parse::<Format>().unwrap_err();
        assert_eq!(
            error,
            "format \"pdf\" is not known; it is one of markdown, csv, json, svg"
        );
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("a-1.jsonl"), "a-1.jsonl");
        assert_eq!(quoted("it's $x"), "'it'\\''s $x'");
    }
}
