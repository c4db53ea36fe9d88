//! A study as somebody wrote it in TOML: everything that cannot be read is said at once, with its line and field.
//!
//! Only shapes are looked at here; ids and ranges are [`Study::check`]'s.

use std::fmt;

use toml::de::{DeTable, DeValue};

use super::{Study, printable};

mod shape;

use shape::{Field, STUDY, Shape};

/// One thing in a text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// From 1.
    pub line: usize,
    /// Where: `branch 1: name`; empty where the text is no TOML.
    pub field: String,
    /// What was wrong and what is allowed.
    pub problem: String,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            field,
            problem,
        } = self;
        if field.is_empty() {
            write!(f, "line {line}: {problem}")
        } else {
            write!(f, "line {line}: {field}: {problem}")
        }
    }
}

impl std::error::Error for Misread {}

impl Study {
    /// Reads a study.
    ///
    /// # Errors
    /// One [`Misread`] for each thing that cannot be read, from above.
    pub fn from_toml(text: &str) -> Result<Self, Vec<Misread>> {
        let no_toml = |error: &toml::de::Error| {
            let problem = error.message().trim().replace('\n', " ");
            Misread {
                line: line(text, error.span().map_or(0, |span| span.start)),
                field: String::new(),
                problem: format!("this is no TOML: {problem}"),
            }
        };
        let table = DeTable::parse(text).map_err(|error| vec![no_toml(&error)])?;
        let mut reader = Reader {
            text,
            place: Vec::new(),
            misread: Vec::new(),
        };
        let at = table.span().start;
        let has_seed = table.get_ref().contains_key("seed");
        reader.value("study", &DeValue::Table(table.into_inner()), at, &STUDY);
        let mut misread = reader.misread;
        misread.sort_by_key(|misread| misread.line);
        if !misread.is_empty() {
            return Err(misread);
        }
        let mut study: Self = toml::from_str(text).map_err(|error| vec![no_toml(&error)])?;
        // By itself the first of several splits the data.
        if let Some(first) = study.seeds.first().filter(|_| !has_seed) {
            study.seed = *first;
        }
        Ok(study)
    }
}

/// The line of a byte, from 1.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

struct Reader<'t> {
    text: &'t str,
    /// `reference 2`, `branch 1`.
    place: Vec<String>,
    misread: Vec<Misread>,
}

impl Reader<'_> {
    fn say(&mut self, at: usize, name: &str, problem: String) {
        let place = self.place.join(", ");
        let colon = if place.is_empty() { "" } else { ": " };
        self.misread.push(Misread {
            line: line(self.text, at),
            field: format!("{place}{colon}{}", printable(name)),
            problem,
        });
    }

    fn refuse(&mut self, at: usize, name: &str, value: &DeValue<'_>, allowed: &str) {
        self.say(
            at,
            name,
            format!("{} is not allowed; {allowed}", shown(value)),
        );
    }

    /// Holds what stands under `name` at that byte against what may stand there.
    fn value(&mut self, name: &str, value: &DeValue<'_>, at: usize, shape: &Shape) {
        match (shape, value) {
            (Shape::Whole(least, most), value) => {
                let whole = match value {
                    DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
                    _ => None,
                };
                if whole.is_none_or(|n| !(least..=most).contains(&&n)) {
                    let allowed = format!("a whole number from {least} to {most}");
                    self.refuse(at, name, value, &allowed);
                }
            }
            (Shape::Flag, DeValue::Boolean(_))
            | (Shape::Word | Shape::Method | Shape::Compression, DeValue::String(_)) => {}
            (Shape::Flag, value) => self.refuse(at, name, value, "true or false"),
            (Shape::Word, value) => self.refuse(at, name, value, "a text in quotation marks"),
            (Shape::Choice(words), value) => {
                if !value.as_str().is_some_and(|word| words.contains(&word)) {
                    let words: Vec<String> =
                        words.iter().map(|word| format!("\"{word}\"")).collect();
                    self.refuse(at, name, value, &format!("one of {}", words.join(", ")));
                }
            }
            (Shape::Numbers, DeValue::Array(list)) => {
                let is_number = |value: &DeValue<'_>| value.is_float() || value.is_integer();
                for each in list.iter().filter(|each| !is_number(each.get_ref())) {
                    self.refuse(each.span().start, name, each.get_ref(), "a number");
                }
            }
            (Shape::Numbers, value) => self.refuse(at, name, value, "a list of numbers"),
            (Shape::Method | Shape::Compression, DeValue::Table(table)) => {
                match table.get("id").map(|id| (id.span().start, id.get_ref())) {
                    None => self.say(at, name, "has no id; { id = \"…\", knob = … }".to_owned()),
                    Some((_, DeValue::String(_))) => {}
                    Some((at, id)) => self.refuse(at, name, id, "an id in quotation marks"),
                }
                self.knobs(table, &["id"], matches!(shape, Shape::Compression));
            }
            (Shape::Method | Shape::Compression, value) => {
                self.refuse(at, name, value, "an id, or { id = \"…\", knob = … }");
            }
            (Shape::Setting, DeValue::Table(table)) => self.knobs(table, &[], false),
            (Shape::Setting, value) => self.refuse(at, name, value, "knobs, { knob = … }"),
            (Shape::Table(fields), DeValue::Table(table)) => {
                self.fields(table, fields);
                for field in fields.iter().filter(|field| field.is_needed) {
                    if !table.contains_key(field.name) {
                        self.say(at, field.name, "is missing".to_owned());
                    }
                }
            }
            (Shape::OneOf(fields), DeValue::Table(table)) if table.len() == 1 => {
                self.fields(table, fields);
            }
            (Shape::OneOf(fields), value) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
                let allowed = format!("a table with one of {}", names.join(", "));
                let problem = match value {
                    DeValue::Table(table) => {
                        format!("{} fields are not allowed; {allowed}", table.len())
                    }
                    value => format!("{} is not allowed; {allowed}", shown(value)),
                };
                self.say(at, name, problem);
            }
            (Shape::Table(_), value) => self.refuse(at, name, value, "a table"),
            (Shape::List(each, shape), DeValue::Array(list)) => {
                for (index, value) in list.iter().enumerate() {
                    // A study has one reference and a branch one stage most often; then the number says nothing.
                    let is_named = *each == "branch" || list.len() > 1;
                    if is_named {
                        self.place.push(format!("{each} {}", index + 1));
                    }
                    self.value(name, value.get_ref(), value.span().start, shape);
                    if is_named {
                        self.place.pop();
                    }
                }
            }
            (Shape::List(..), value) => self.refuse(at, name, value, "a list"),
        }
    }

    fn fields(&mut self, table: &DeTable<'_>, fields: &[Field]) {
        for (key, value) in table {
            match fields.iter().find(|field| field.name == key.get_ref()) {
                Some(field) => {
                    self.value(
                        field.name,
                        value.get_ref(),
                        value.span().start,
                        &field.shape,
                    );
                }
                None => {
                    let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                    let problem = format!("is not known; one of {}", known.join(", "));
                    self.say(key.span().start, key.get_ref(), problem);
                }
            }
        }
    }

    /// Knobs take numbers, words and flags, which, the catalog knows; where a list makes branches, also several of them.
    fn knobs(&mut self, table: &DeTable<'_>, other: &[&str], takes_lists: bool) {
        fn is_one(value: &DeValue<'_>) -> bool {
            match value {
                DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).is_ok(),
                DeValue::Float(_) | DeValue::String(_) | DeValue::Boolean(_) => true,
                DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => false,
            }
        }
        let knobs = table
            .iter()
            .filter(|(key, _)| !other.contains(&&**key.get_ref()));
        for (key, value) in knobs {
            let at = value.span().start;
            let allowed = "a number, a word, true or false";
            match value.get_ref() {
                DeValue::Array(list) if takes_lists && !list.is_empty() => {
                    for each in list.iter().filter(|each| !is_one(each.get_ref())) {
                        self.refuse(each.span().start, key.get_ref(), each.get_ref(), allowed);
                    }
                }
                one if is_one(one) => {}
                DeValue::Array(_) if takes_lists => {
                    let allowed = "at least one value";
                    self.refuse(at, key.get_ref(), value.get_ref(), allowed);
                }
                other => self.refuse(at, key.get_ref(), other, allowed),
            }
        }
    }
}

/// A value as it stands in a sentence.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", printable(text)),
        DeValue::Integer(number) => printable(&number.to_string()),
        DeValue::Float(number) => printable(&number.to_string()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        Branch, Checkpoint, KnobValue, Method, Reference, Setting, Stage, Suite, Weights,
    };

    fn said(text: &str) -> Vec<String> {
        let misread = Study::from_toml(text).unwrap_err();
        misread.iter().map(ToString::to_string).collect()
    }

    const REST: &str = "dataset = \"glyphs\"\narchitecture = \"lenet5\"\n";

    /// Everything that a study can say; a new field does not compile here before it stands.
    fn full() -> Study {
        let setting = || Setting::default().with("epochs", KnobValue::Integer(2));
        let method = Method {
            id: "any".into(),
            setting: setting().with("on", KnobValue::Flag(true)),
        };
        Study {
            seed: 1,
            seeds: Vec::new(),
            threads: Some(2),
            device: "cpu".into(),
            tf32: false,
            deterministic: true,
            train_limit: Some(20),
            test_limit: Some(20),
            references: vec![Reference {
                dataset: method.clone(),
                architecture: Method::plain("lenet5"),
                from: Some(Weights {
                    file: "a".into(),
                    mean: vec![0.5],
                    std: vec![1.0],
                    sha256: Some("b".into()),
                }),
                resize: Some(40),
                training: setting(),
                seed: Some(3),
                twins: 1,
                same_start_twin: true,
                branches: vec![Branch {
                    name: "mine".into(),
                    checkpoint: Checkpoint::Best,
                    matched: None,
                    stages: vec![Stage::Compress(method.clone()), Stage::FineTune(setting())],
                }],
            }],
            suite: Suite {
                probes: vec![method.clone()],
                corruptions: vec![method.clone()],
                domains: vec![method.clone()],
                corrupted_images: 10,
                full: true,
                attacks: vec![method],
            },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for study in [full(), Study::default()] {
            let text = toml::to_string(&study).unwrap();
            assert_eq!(Study::from_toml(&text).unwrap(), study, "{text}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_named_with_line_field_and_range() {
        assert_eq!(
            said(&format!(
                "seed = 18446744073709551616\n[[references]]\n{REST}twins = -1\nresize = \"large\"\n"
            )),
            [
                "line 1: seed: 18446744073709551616 is not allowed; a whole number from 0 to 18446744073709551615",
                "line 5: twins: -1 is not allowed; a whole number from 0 to 100",
                "line 6: resize: \"large\" is not allowed; a whole number from 1 to 512",
            ]
        );
    }

    #[test]
    fn a_stage_is_one_thing() {
        let text = format!(
            "[[references]]\n{REST}[[references.branches]]\ncheckpoint = \"first\"\n\
             stages = [{{ compress = \"a\", fine-tune = {{}} }}, {{ zip = 1 }}, 7]\n"
        );
        assert_eq!(
            said(&text),
            [
                "line 5: branch 1: checkpoint: \"first\" is not allowed; one of \"last\", \"best\"",
                "line 6: branch 1, stage 1: stages: 2 fields are not allowed; a table with one of compress, fine-tune",
                "line 6: branch 1, stage 2: zip: is not known; one of compress, fine-tune",
                "line 6: branch 1, stage 3: stages: 7 is not allowed; a table with one of compress, fine-tune",
            ]
        );
    }

    #[test]
    fn methods_knobs_and_fields() {
        let text = format!(
            "full = 1\n[[references]]\n{REST}[[references]]\ndataset = {{ domain = \"ink\" }}\n\
             training = {{ epochs = [1] }}\nfrom = {{ mean = [\"a\"] }}\nsame-start-twin = \"yes\"\n"
        );
        assert_eq!(
            said(&text),
            [
                "line 1: full: is not known; one of seed, seeds, threads, device, tf32, deterministic, train-limit, test-limit, references, suite",
                "line 5: reference 2: architecture: is missing",
                "line 6: reference 2: dataset: has no id; { id = \"…\", knob = … }",
                "line 7: reference 2: epochs: a list is not allowed; a number, a word, true or false",
                "line 8: reference 2: mean: \"a\" is not allowed; a number",
                "line 8: reference 2: file: is missing",
                "line 9: reference 2: same-start-twin: \"yes\" is not allowed; true or false",
            ]
        );
    }

    #[test]
    fn a_knob_of_a_compression_may_have_several_values() {
        let branch = |compress: &str| {
            format!("[[references]]\n{REST}[[references.branches]]\nstages = [{{ {compress} }}]\n")
        };
        let study = Study::from_toml(&branch(
            "compress = { id = \"a\", ratio = [0.1, 1], scope = [\"x\", \"y\"] }",
        ));
        let Stage::Compress(method) = &study.unwrap().references[0].branches[0].stages[0] else {
            panic!("the stage compresses");
        };
        let list = KnobValue::List(vec![KnobValue::Real(0.1), KnobValue::Integer(1)]);
        assert_eq!(method.setting.0["ratio"], list);
        assert_eq!(
            said(&branch(
                "compress = { id = \"a\", ratio = [], bits = [8, [4]] }"
            )),
            [
                "line 5: branch 1: bits: a list is not allowed; a number, a word, true or false",
                "line 5: branch 1: ratio: a list is not allowed; at least one value",
            ]
        );
        assert_eq!(
            said(&branch("fine-tune = { epochs = [1, 2] }")),
            ["line 5: branch 1: epochs: a list is not allowed; a number, a word, true or false"]
        );
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_line() {
        let said = said("seed = 3\nthreads 2\n");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("line 2: this is no TOML: "), "{said:?}");
        assert_eq!(super::line("a\nb", 2), 2);
        let nothing = Study::from_toml("").unwrap_err();
        assert_eq!(nothing[0].to_string(), "line 1: references: is missing");
    }
}
