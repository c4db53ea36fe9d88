//! Version 1 of the session format: one record per line, `[milliseconds,"kind",{facts}]`.
//!
//! A kind is the event's name in kebab-case, its facts are the event's fields.
//! Unknown kinds are kept word for word, known kinds may have fields this version does not know, and a known kind that
//! cannot be read is kept like an unknown one.

#![warn(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, VariantAccess, Visitor};
use serde_json::value::RawValue;

use super::{Error, FORMAT, Header, VERSION, newer};
use crate::event::{Event, Record};

/// Every kind that this version knows.
pub const KINDS: [&str; 22] = [
    "study-started",
    "branch-added",
    "data-ready",
    "stage-started",
    "network-built",
    "progressed",
    "steps-trained",
    "epoch-ended",
    "stopped-early",
    "network-compressed",
    "pictured",
    "network-saved",
    "measured",
    "warned",
    "note-added",
    "tried",
    "sensed",
    "paused",
    "resumed",
    "stage-ended",
    "study-ended",
    "continued",
];

/// The kind under which an event is written.
pub fn kind(event: &Event) -> &str {
    match event {
        Event::StudyStarted { .. } => "study-started",
        Event::BranchAdded { .. } => "branch-added",
        Event::DataReady(_) => "data-ready",
        Event::StageStarted { .. } => "stage-started",
        Event::NetworkBuilt { .. } => "network-built",
        Event::Progressed { .. } => "progressed",
        Event::StepsTrained { .. } => "steps-trained",
        Event::EpochEnded { .. } => "epoch-ended",
        Event::StoppedEarly { .. } => "stopped-early",
        Event::NetworkCompressed { .. } => "network-compressed",
        Event::Pictured(_) => "pictured",
        Event::NetworkSaved { .. } => "network-saved",
        Event::Measured(_) => "measured",
        Event::Warned { .. } => "warned",
        Event::NoteAdded { .. } => "note-added",
        Event::Tried(_) => "tried",
        Event::Sensed { .. } => "sensed",
        Event::Paused => "paused",
        Event::Resumed => "resumed",
        Event::StageEnded { .. } => "stage-ended",
        Event::StudyEnded { .. } => "study-ended",
        Event::Continued => "continued",
        Event::Unknown { kind, .. } => kind,
    }
}

/// Adds the record's line, with its line feed.
pub fn encode(record: &Record, line: &mut Vec<u8>) {
    write!(line, "[{},", record.at).expect("memory can always be written");
    if let Event::Unknown { kind, facts } = &record.event {
        encode_unknown(kind, facts, line);
    } else {
        let start = line.len();
        serde_json::to_writer(&mut *line, &record.event).expect("an event is always JSON");
        if line[start] == b'{' {
            // {"kind":{facts}} becomes "kind",{facts}
            line.remove(start);
            line.pop();
            let name = kind(&record.event).len() + 2;
            debug_assert_eq!(line[start + name], b':');
            line[start + name] = b',';
        } else {
            line.extend_from_slice(b",{}");
        }
    }
    line.extend_from_slice(b"]\n");
}

fn encode_unknown(kind: &str, facts: &str, line: &mut Vec<u8>) {
    let is_one_line_of_json =
        !facts.contains(['\n', '\r']) && serde_json::from_str::<&RawValue>(facts).is_ok();
    serde_json::to_writer(&mut *line, kind).expect("a string is always JSON");
    line.push(b',');
    if is_one_line_of_json {
        line.extend_from_slice(facts.trim().as_bytes());
    } else {
        serde_json::to_writer(&mut *line, facts).expect("a string is always JSON");
    }
}

/// The record as one line of text, without a line feed.
pub fn line(record: &Record) -> String {
    let mut line = Vec::new();
    encode(record, &mut line);
    line.pop();
    String::from_utf8(line).expect("JSON is UTF-8")
}

/// What a line after the header turned out to be.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every line is a record, and none is kept"
)]
pub enum Decoded {
    Blank,
    /// Without the `#`.
    Comment(String),
    Record {
        record: Record,
        /// Why the record of a known kind is kept as an unknown one.
        problem: Option<String>,
        /// Fields of the question that only a newer version knows; they are left out.
        newer: Option<Box<[String]>>,
    },
    /// No record; says why.
    Damaged(String),
}

/// The text of a comment line.
pub fn comment(line: &[u8]) -> Option<String> {
    line.trim_ascii_start()
        .strip_prefix(b"#")
        .map(|text| String::from_utf8_lossy(text.trim_ascii()).into_owned())
}

/// Reads one line after the header.
pub fn decode(line: &[u8], seq: u64) -> Decoded {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text.trim(),
        Err(_) if comment(line).is_some() => {
            return Decoded::Comment(comment(line).unwrap_or_default());
        }
        Err(_) => return Decoded::Damaged("the line is not UTF-8 text".to_owned()),
    };
    if text.is_empty() {
        return Decoded::Blank;
    }
    if let Some(comment) = comment(line) {
        return Decoded::Comment(comment);
    }
    if let Some((at, kind, facts)) = split(text)
        && let Ok(event) = known(kind, facts)
    {
        return Decoded::Record {
            record: Record { seq, at, event },
            problem: None,
            newer: None,
        };
    }
    match serde_json::from_str::<(u64, Cow<'_, str>, &RawValue)>(text) {
        Ok((at, kind, facts)) => {
            let (event, problem, newer) = keep(&kind, facts.get());
            Decoded::Record {
                record: Record { seq, at, event },
                problem,
                newer,
            }
        }
        Err(error) => Decoded::Damaged(format!(
            "the line is no record [milliseconds, \"kind\", {{facts}}]: {error}"
        )),
    }
}

/// The usual spelling taken apart without parsing it: `[8412,"epoch-ended",` and what stands before the last `]`.
fn split(text: &str) -> Option<(u64, &str, &str)> {
    let rest = text.strip_prefix('[')?;
    let (at, rest) = rest.split_once(",\"")?;
    let (kind, rest) = rest.split_once("\",")?;
    let plain = |text: &str, allowed: fn(&u8) -> bool| {
        !text.is_empty() && text.bytes().all(|b| allowed(&b))
    };
    (plain(at, u8::is_ascii_digit) && plain(kind, |b| b.is_ascii_lowercase() || *b == b'-'))
        .then_some(())?;
    Some((at.parse().ok()?, kind, rest.strip_suffix(']')?))
}

/// The event of a kind and facts that are JSON, whatever they are.
fn keep(kind: &str, facts: &str) -> (Event, Option<String>, Option<Box<[String]>>) {
    let unknown = || Event::Unknown {
        kind: kind.to_owned(),
        // Between values a carriage return is a space, and inside a string JSON allows none: kept as a space, the facts
        // can be written into a line again.
        facts: facts.replace('\r', " "),
    };
    if !KINDS.contains(&kind) {
        return (unknown(), None, None);
    }
    match known(kind, facts) {
        Ok(event) => (event, None, None),
        Err(error) => match without_newer(kind, facts) {
            Some((event, newer)) => (event, None, Some(newer.into())),
            None => (
                unknown(),
                Some(format!("the facts of \"{kind}\" cannot be read: {error}")),
                None,
            ),
        },
    }
}

/// The event without the fields of its question that only a newer version knows, if that is what was in the way.
fn without_newer(kind: &str, facts: &str) -> Option<(Event, Vec<String>)> {
    let mut facts: serde_json::Value = serde_json::from_str(facts).ok()?;
    let newer = match kind {
        "study-started" => newer::prune_study(facts.get_mut("study")?),
        "branch-added" => newer::prune_branch(facts.get_mut("branch")?),
        _ => return None,
    };
    let event = known(kind, &facts.to_string()).ok()?;
    Some((event, newer))
}

/// The event of a known kind.
fn known(kind: &str, facts: &str) -> serde_json::Result<Event> {
    let mut deserializer = serde_json::Deserializer::from_str(facts);
    let event = Event::deserialize(Tagged {
        kind,
        facts: &mut deserializer,
    })?;
    deserializer.end()?;
    Ok(event)
}

/// Kind and facts as serde sees an enum, so that neither is copied nor read twice.
struct Tagged<'de, 'a> {
    kind: &'de str,
    facts: &'a mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
}

impl<'de> de::Deserializer<'de> for Tagged<'de, '_> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> de::EnumAccess<'de> for Tagged<'de, '_> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> serde_json::Result<(S::Value, Self)> {
        let variant =
            seed.deserialize(BorrowedStrDeserializer::<serde_json::Error>::new(self.kind))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'de, '_> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> serde_json::Result<()> {
        IgnoredAny::deserialize(self.facts).map(|_| ())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> serde_json::Result<S::Value> {
        seed.deserialize(self.facts)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        de::Deserializer::deserialize_tuple(self.facts, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        de::Deserializer::deserialize_struct(self.facts, "", fields, visitor)
    }
}

/// The header as one line, with its line feed.
pub fn encode_header(header: &Header) -> Vec<u8> {
    let mut line = serde_json::to_vec(header).expect("a header is always JSON");
    line.push(b'\n');
    line
}

/// Reads the first line that is no comment, and what in its question only a newer version knows.
pub fn decode_header(path: &Path, line: u64, text: &[u8]) -> Result<(Header, Vec<String>), Error> {
    /// What any version says of itself.
    #[derive(Deserialize)]
    struct Mark {
        format: String,
        version: u64,
    }
    let beginning = || {
        let shown: String = String::from_utf8_lossy(text).chars().take(40).collect();
        format!(
            "line {line} should be a header {{\"format\":\"{FORMAT}\",\"version\":{VERSION},…}} and begins with {}",
            Quoted(&shown)
        )
    };
    let mark: Mark =
        serde_json::from_slice(text).map_err(|_| Error::not_a_session(path, beginning()))?;
    if mark.format != FORMAT {
        return Err(Error::not_a_session(path, beginning()));
    }
    if mark.version > VERSION {
        return Err(Error::Newer {
            path: path.to_owned(),
            version: mark.version,
        });
    }
    match serde_json::from_slice(text) {
        Ok(header) => Ok((header, Vec::new())),
        Err(error) => header_without_newer(text).ok_or_else(|| Error::Line {
            path: path.to_owned(),
            line,
            problem: format!("the header of the session cannot be read: {error}"),
        }),
    }
}

fn header_without_newer(text: &[u8]) -> Option<(Header, Vec<String>)> {
    let mut header: serde_json::Value = serde_json::from_slice(text).ok()?;
    let newer = newer::prune_study(header.get_mut("study")?);
    Some((serde_json::from_value(header).ok()?, newer))
}

/// Text in quotation marks with everything that could steer a terminal spelled out.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::sample;

    fn text(record: &Record) -> String {
        line(record)
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        for record in sample::records(sample::events()) {
            let written = text(&record);
            let expected = Decoded::Record {
                record: record.clone(),
                problem: None,
                newer: None,
            };
            assert_eq!(
                decode(written.as_bytes(), record.seq),
                expected,
                "{written}"
            );
            assert!(!written.contains('\n'));
        }
    }

    #[test]
    fn every_kind_has_a_sample_under_its_name() {
        let events = sample::events();
        let kinds: Vec<&str> = events.iter().map(kind).collect();
        assert_eq!(kinds[..KINDS.len()], KINDS);
        assert_eq!(kinds.len(), KINDS.len() + 1);
        for event in &events[..KINDS.len()] {
            // What serde calls a variant is what the format calls its kind.
            let written = serde_json::to_value(event).unwrap();
            let name = written
                .as_str()
                .or_else(|| Some(written.as_object()?.keys().next()?))
                .unwrap()
                .to_owned();
            assert_eq!(name, kind(event));
        }
    }

    #[test]
    fn records_look_as_the_format_says() {
        let at = |at, event| text(&Record { seq: 0, at, event });
        assert_eq!(at(3, Event::Paused), "[3,\"paused\",{}]");
        let note = Event::NoteAdded {
            text: "a \"b\":c".to_owned(),
        };
        assert_eq!(
            at(9002, note),
            r#"[9002,"note-added",{"text":"a \"b\":c"}]"#
        );
        assert_eq!(
            at(
                8412,
                sample::steps(crate::spec::NetworkId(1), 0, 20, f64::NAN)
            ),
            "[8412,\"steps-trained\",{\"network\":1,\"stage\":0,\"step\":20,\"count\":10,\"images\":640,\
             \"loss_mean\":\"nan\",\"loss_min\":\"nan\",\"loss_max\":\"nan\",\"learning_rate\":0.05}]"
        );
    }

    #[test]
    fn unknown_events_are_written_back_word_for_word() {
        for line in [
            r#"[1,"of-tomorrow",{"b" : 1e999,"a":[1, 2],"a":null}]"#,
            r#"[1,"of tomorrow \u001b",7]"#,
            r#"[1,"",[]]"#,
        ] {
            let Decoded::Record {
                record, problem, ..
            } = decode(line.as_bytes(), 0)
            else {
                panic!("{line} is a record");
            };
            assert_eq!(problem, None);
            assert!(matches!(record.event, Event::Unknown { .. }));
            assert_eq!(text(&record), line);
        }
    }

    #[test]
    fn unknown_facts_that_are_no_json_still_make_one_line() {
        for facts in ["", "{", "[1,\n2]", "\u{0}"] {
            let record = Record {
                seq: 0,
                at: 1,
                event: Event::Unknown {
                    kind: "x".to_owned(),
                    facts: facts.to_owned(),
                },
            };
            let written = text(&record);
            assert!(!written.contains('\n'));
            assert!(
                matches!(decode(written.as_bytes(), 0), Decoded::Record { .. }),
                "{written}"
            );
        }
    }

    #[test]
    fn known_events_may_say_more_than_is_known() {
        for line in [
            r#"[1,"paused",{"why":"lunch"}]"#,
            r#" [ 1 , "paused" , { } ] "#,
            r#"[1,"note-added",{"color":"red","text":"x"}]"#,
        ] {
            let Decoded::Record {
                record, problem, ..
            } = decode(line.as_bytes(), 0)
            else {
                panic!("{line} is a record");
            };
            assert_eq!(problem, None);
            assert!(!matches!(record.event, Event::Unknown { .. }), "{line}");
        }
    }

    #[test]
    fn a_known_event_that_cannot_be_read_is_kept_as_unknown_and_told() {
        for line in [
            r#"[1,"note-added",{"txt":"x"}]"#,
            r#"[1,"note-added",{"text":7}]"#,
            r#"[1,"note-added",[]]"#,
            r#"[1,"measured",{"probe":"p","metric":"beauty"}]"#,
        ] {
            let Decoded::Record {
                record, problem, ..
            } = decode(line.as_bytes(), 0)
            else {
                panic!("{line} is a record");
            };
            assert!(problem.is_some());
            assert_eq!(text(&record), line);
        }
    }

    #[test]
    fn a_question_of_tomorrow_is_read_without_what_is_new() {
        let asked = sample::header().study;
        let study = serde_json::to_value(&asked).unwrap();
        let mut facts = serde_json::json!({"study": study, "networks": []});
        facts["study"]["color"] = "red".into();
        let line = format!("[1,\"study-started\",{facts}]");
        let Decoded::Record {
            record,
            problem,
            newer,
        } = decode(line.as_bytes(), 0)
        else {
            panic!("{line} is a record");
        };
        assert_eq!(problem, None);
        assert_eq!(newer.as_deref(), Some(&["color".to_owned()][..]));
        assert!(matches!(record.event, Event::StudyStarted { study, .. } if *study == asked));
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(line in prop::collection::vec(any::<u8>(), 0..64)) {
            decode(&line, 0);
        }

        #[test]
        fn no_array_is_too_strange(line in r#"\[[0-9]{0,3},?"[a-z-]{0,3}(paused|note-added)?",[\[\]{}":,a-z0-9 ]{0,12}\]?"#) {
            decode(line.as_bytes(), 0);
        }
    }
}
