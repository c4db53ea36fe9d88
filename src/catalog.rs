//! What can be asked: every method the lab knows, as plain data.
//!
//! Each method file declares one [`Entry`]: what it is called, who published it, which knobs it has and how to build it.
//! The lab's tables of entries become a [`Catalog`], a plain value without functions.
//! The screen, the help, the command line and the session header know the lab through that value alone, so an old
//! session still shows the right titles after a method was renamed or removed.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::{KnobValue, Method, Setting};

/// Text that is a constant in a method's file and owned in a catalog read back from a session.
pub type Text = Cow<'static, str>;

/// A constant text.
pub const fn text(words: &'static str) -> Text {
    Cow::Borrowed(words)
}

/// What a method is called and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Kebab-case and permanent: it lives in saved sessions.
    pub id: Text,
    /// What people call it, for headings.
    pub title: Text,
    /// One or two sentences for the form's right side.
    pub summary: Text,
    /// Where it was published: `arXiv:…`, a DOI, or author and year.
    pub reference: Text,
    /// The kind of method (`pruning`, `quantization`, `distillation`, `noise`, `blur` …), which decides its glyph.
    pub family: Text,
    /// For a compression: what its ratio counts (`weights`), if it has one. The ratio is the share removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_of: Option<Text>,
}

/// One thing a user may turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knob {
    /// Kebab-case and permanent.
    pub id: Text,
    /// Shown beside the value.
    pub title: Text,
    /// One sentence: what turning it does.
    pub summary: Text,
    /// Which values it takes.
    pub range: Range,
}

/// The values that a knob takes, and where it stands by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// A whole number, both ends included.
    Integer { least: i64, most: i64, default: i64 },
    /// A real number, both ends included; `step` is what one key press changes.
    Real {
        least: f64,
        most: f64,
        step: f64,
        default: f64,
    },
    /// One of a few words.
    Choice {
        options: Cow<'static, [Text]>,
        default: Text,
    },
    /// On or off.
    Flag { default: bool },
    /// Real numbers, both ends included, as many as are liked; none when nobody says any.
    Numbers { least: f64, most: f64 },
    /// Any text: the name of a folder.
    Text { default: Text },
}

/// Longer than any path.
const LONGEST_TEXT: usize = 4096;

impl Range {
    /// Where the knob stands when nobody turns it.
    pub fn default(&self) -> KnobValue {
        match self {
            Self::Integer { default, .. } => KnobValue::Integer(*default),
            Self::Real { default, .. } => KnobValue::Real(*default),
            Self::Choice { default, .. } | Self::Text { default } => {
                KnobValue::Choice(default.to_string())
            }
            Self::Flag { default } => KnobValue::Flag(*default),
            Self::Numbers { .. } => KnobValue::List(Vec::new()),
        }
    }

    /// The value in the knob's own type, or `None` if the knob does not take it.
    ///
    /// A whole number is taken for a real knob, and `8` for the choice `"8"`, since both are what a person types.
    pub fn accept(&self, value: &KnobValue) -> Option<KnobValue> {
        match (self, value) {
            (Self::Integer { least, most, .. }, KnobValue::Integer(v)) => {
                (least..=most).contains(&v).then(|| value.clone())
            }
            // A knob that was a choice of numbers in a session of an earlier version.
            (Self::Integer { .. }, KnobValue::Choice(v)) => {
                self.accept(&KnobValue::Integer(v.parse().ok()?))
            }
            (Self::Integer { .. }, KnobValue::Real(v)) if v.fract() == 0.0 && v.abs() < 9e15 => {
                self.accept(&KnobValue::Integer(*v as i64))
            }
            (Self::Real { least, most, .. }, KnobValue::Real(v)) => {
                (*least..=*most).contains(v).then(|| value.clone())
            }
            (Self::Real { .. }, KnobValue::Integer(v)) => self.accept(&KnobValue::Real(*v as f64)),
            (Self::Choice { options, .. }, KnobValue::Choice(v)) => options
                .iter()
                .any(|option| option == v)
                .then(|| value.clone()),
            (Self::Choice { .. }, KnobValue::Integer(v)) => {
                self.accept(&KnobValue::Choice(v.to_string()))
            }
            (Self::Text { .. }, KnobValue::List(_)) => None,
            (Self::Text { .. }, value) => {
                let words = value.to_string();
                (words.len() <= LONGEST_TEXT).then_some(KnobValue::Choice(words))
            }
            (Self::Flag { .. }, KnobValue::Flag(_)) => Some(value.clone()),
            (Self::Flag { .. }, KnobValue::Choice(v)) => match v.as_str() {
                "true" | "on" | "yes" => Some(KnobValue::Flag(true)),
                "false" | "off" | "no" => Some(KnobValue::Flag(false)),
                _ => None,
            },
            (Self::Numbers { least, most }, KnobValue::List(values)) => {
                let number = |value: &KnobValue| match value {
                    KnobValue::Real(v) => (*least..=*most).contains(v).then(|| value.clone()),
                    KnobValue::Integer(v) => {
                        let v = *v as f64;
                        (*least..=*most).contains(&v).then_some(KnobValue::Real(v))
                    }
                    _ => None,
                };
                Some(KnobValue::List(
                    values.iter().map(number).collect::<Option<_>>()?,
                ))
            }
            // One alone.
            (Self::Numbers { .. }, KnobValue::Real(_) | KnobValue::Integer(_)) => {
                self.accept(&KnobValue::List(vec![value.clone()]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Range {
    /// What is allowed, as it stands in an error: `a number from 0 to 0.999`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { least, most, .. } => write!(f, "a whole number from {least} to {most}"),
            Self::Real { least, most, .. } => write!(f, "a number from {least} to {most}"),
            Self::Choice { options, .. } => {
                let words: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
                write!(f, "one of {}", words.join(", "))
            }
            Self::Flag { .. } => write!(f, "true or false"),
            Self::Numbers { least, most } => write!(f, "numbers from {least} to {most}"),
            Self::Text { .. } => write!(f, "a text of at most {LONGEST_TEXT} bytes"),
        }
    }
}

/// A setting with every knob in the knob's own type, and those that it leaves out, as sessions of earlier versions do,
/// where they stand by themselves.
pub fn completed(setting: &Setting, knobs: &[Knob]) -> Setting {
    let of = |knob: &Knob| {
        let value = setting.0.get(&*knob.id);
        let value = value.and_then(|value| knob.range.accept(value));
        value.unwrap_or_else(|| knob.range.default())
    };
    let each = knobs.iter().map(|knob| (knob.id.to_string(), of(knob)));
    Setting(each.collect())
}

/// One line in the table of a kind of methods.
#[derive(Debug)]
pub struct Entry<T: ?Sized> {
    /// What it is called and where it comes from.
    pub info: Info,
    /// What the user may turn; the form is derived from it.
    pub knobs: &'static [Knob],
    /// Checked knobs to a typed value, in one place.
    pub build: fn(&Setting) -> Box<T>,
}

impl<T: ?Sized> Entry<T> {
    /// The method with these knobs; one that a session of an earlier version does not know stands where it stands by
    /// itself.
    pub fn made(&self, setting: &Setting) -> Box<T> {
        (self.build)(&completed(setting, self.knobs))
    }

    /// The entry as plain data.
    pub fn describe(&self) -> Described {
        Described {
            info: self.info.clone(),
            knobs: self.knobs.to_vec(),
        }
    }
}

/// A method as plain data: what a catalog holds of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// What it is called and where it comes from.
    #[serde(flatten)]
    pub info: Info,
    /// What the user may turn.
    #[serde(default)]
    pub knobs: Vec<Knob>,
}

impl Described {
    /// The knob of that id.
    pub fn knob(&self, id: &str) -> Option<&Knob> {
        self.knobs.iter().find(|knob| knob.id == id)
    }
}

/// Everything the lab knows, in the order of its tables, which is the order on screen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Catalog {
    pub datasets: Vec<Described>,
    pub architectures: Vec<Described>,
    pub compressions: Vec<Described>,
    pub corruptions: Vec<Described>,
    pub attacks: Vec<Described>,
    pub probes: Vec<Described>,
    /// The knobs of a training, and so of a fine-tuning.
    pub training: Vec<Knob>,
    /// The compressions that the live knob can turn, by id: those that train nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<Text>,
    /// The corruptions that a study is measured under when it names none, by id; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usual_corruptions: Vec<Text>,
    /// Published sets of corruptions, for a form to choose from; a study names their members.
    #[serde(skip)]
    pub corruption_sets: Vec<CorruptionSet>,
}

/// A published set of corruptions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CorruptionSet {
    pub id: Text,
    pub summary: Text,
    pub members: Vec<Method>,
}

impl Catalog {
    /// The tables by the name under which the command line lists them.
    pub fn tables(&self) -> [(&'static str, &[Described]); 6] {
        [
            ("datasets", &self.datasets),
            ("architectures", &self.architectures),
            ("compressions", &self.compressions),
            ("corruptions", &self.corruptions),
            ("attacks", &self.attacks),
            ("probes", &self.probes),
        ]
    }

    /// The method of that id in any table.
    pub fn find(&self, id: &str) -> Option<&Described> {
        self.tables()
            .into_iter()
            .flat_map(|(_, table)| table)
            .find(|method| method.info.id == id)
    }

    /// The title of a method, or its id when this catalog does not know it.
    pub fn title<'a>(&'a self, id: &'a str) -> &'a str {
        self.find(id).map_or(id, |method| &method.info.title)
    }

    /// The title of a condition: a method's, with the variant behind it where it names one (`Random fog, published`).
    pub fn title_of_condition(&self, condition: &str) -> String {
        match condition.split_once(':') {
            Some((id, variant)) if self.find(id).is_some() => {
                format!("{}, {variant}", self.title(id))
            }
            _ => self.title(condition).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_knob_takes_a_whole_number_and_refuses_what_lies_outside() {
        let range = Range::Real {
            least: 0.0,
            most: 0.999,
            step: 0.05,
            default: 0.5,
        };
        assert_eq!(
            range.accept(&KnobValue::Integer(0)),
            Some(KnobValue::Real(0.0))
        );
        assert_eq!(range.accept(&KnobValue::Real(1.5)), None);
        assert_eq!(range.accept(&KnobValue::Real(f64::NAN)), None);
        assert_eq!(range.to_string(), "a number from 0 to 0.999");
    }

    #[test]
    fn numbers_take_one_or_several_and_refuse_what_lies_outside() {
        let range = Range::Numbers {
            least: 0.0,
            most: 1.0,
        };
        let list =
            |values: &[f64]| KnobValue::List(values.iter().map(|v| KnobValue::Real(*v)).collect());
        assert_eq!(range.accept(&KnobValue::parse("0.5")), Some(list(&[0.5])));
        assert_eq!(
            range.accept(&KnobValue::parse("0,0.5,1")),
            Some(list(&[0.0, 0.5, 1.0]))
        );
        assert_eq!(range.accept(&KnobValue::parse("0.5,-0.1")), None);
        assert_eq!(range.accept(&KnobValue::parse("0.5,many")), None);
        assert_eq!(range.default(), list(&[]));
    }

    #[test]
    fn a_whole_number_takes_the_digits_of_a_former_choice() {
        let range = Range::Integer {
            least: 2,
            most: 16,
            default: 8,
        };
        let word = |word: &str| range.accept(&KnobValue::Choice(word.into()));
        assert_eq!(word("4"), Some(KnobValue::Integer(4)));
        assert_eq!((word("1"), word("four")), (None, None));
    }

    #[test]
    fn a_choice_of_digits_takes_the_number() {
        let options = Cow::Borrowed(const { &[text("16"), text("8")] as &[Text] });
        let range = Range::Choice {
            options,
            default: text("8"),
        };
        assert_eq!(
            range.accept(&KnobValue::Integer(8)),
            Some(KnobValue::Choice("8".into()))
        );
        assert_eq!(range.accept(&KnobValue::Integer(1)), None);
    }
}
