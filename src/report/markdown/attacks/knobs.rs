//! How an attack's knobs stood: every one of them, those that nobody turned included, so that a reader can ask it again.

use crate::catalog::{Described, completed};
use crate::session::Header;
use crate::spec::{FIXED_AS_PUBLISHED, KnobValue, Method, Setting, attack_name, attack_variant};

use super::super::code;

/// An attack as a study asked for it.
pub(super) struct Asked<'a> {
    method: &'a Method,
    setting: Setting,
    described: Option<&'a Described>,
}

/// The family of attacks that look for what is nearest: those of them that take no norm go by the Euclidean one.
const MINIMAL: &str = "minimal";

impl<'a> Asked<'a> {
    /// The attacks whose findings stand under this condition: several where they differ in budgets alone, none where the
    /// session does not say.
    pub(super) fn of(header: &'a Header, condition: &str) -> Vec<Self> {
        let all = || {
            let attacks = header.study.suite.attacks.iter();
            attacks.map(|method| Self::new(header, method))
        };
        let named: Vec<Self> = all().filter(|asked| asked.is_named(condition)).collect();
        if !named.is_empty() {
            return named;
        }
        // In sessions of earlier versions only the second of the same attack says what sets it apart.
        all()
            .find(|asked| asked.admits(condition))
            .into_iter()
            .collect()
    }

    /// An attack, with the knobs that it leaves open where they stand by themselves in the catalog of the session.
    pub(super) fn new(header: &'a Header, method: &'a Method) -> Self {
        let mut attacks = header.catalog.attacks.iter();
        let described = attacks.find(|attack| attack.info.id == method.id);
        let mut setting = method.setting.clone();
        if let Some(described) = described {
            let rest = setting.0;
            setting = completed(&method.setting, &described.knobs);
            for (id, value) in rest {
                setting.0.entry(id).or_insert(value);
            }
        }
        Self {
            method,
            setting,
            described,
        }
    }

    fn word(&self, knob: &str) -> Option<&str> {
        match self.setting.0.get(knob)? {
            KnobValue::Choice(word) => Some(word),
            _ => None,
        }
    }

    fn is_named(&self, condition: &str) -> bool {
        let knobs = self.described.map(|attack| &*attack.knobs);
        let name = attack_name(&self.method.id, &self.setting, knobs.unwrap_or_default());
        let images = self.setting.0.get("images");
        let with_images = images.map(|images| format!("{name}:images={images}"));
        condition == name || Some(condition) == with_images.as_deref()
    }

    /// Whether the condition is that of this attack, as far as it says anything of its knobs.
    fn admits(&self, condition: &str) -> bool {
        let Some(rest) = condition.strip_prefix(&format!(
            "{}{}",
            self.method.id,
            attack_variant(&self.setting)
        )) else {
            return false;
        };
        let holds = |part: &str| match part.split_once('=') {
            Some((knob, value)) => {
                let own = self.setting.0.get(knob);
                own.is_some_and(|own| own.to_string() == value)
            }
            None => false,
        };
        rest.is_empty() || rest.starts_with(':') && rest[1..].split(':').all(holds)
    }

    /// Whether it looks for the nearest errors.
    pub(super) fn is_minimal(&self) -> bool {
        let described = self.described.as_ref();
        described.is_some_and(|attack| attack.info.family == MINIMAL)
    }

    /// By what its budgets are measured, where that is known.
    pub(super) fn norm(&self) -> Option<&'static str> {
        match self.word("norm") {
            Some("linf") => Some("L-infinity"),
            Some("l2") => Some("Euclidean"),
            _ => {
                let is_minimal = self.described?.info.family == MINIMAL;
                is_minimal.then_some("Euclidean")
            }
        }
    }

    /// Whether the session says how its knobs stand.
    pub(super) fn is_known(&self) -> bool {
        self.described.is_some()
    }

    /// The attack with its knobs as a study's file takes it.
    pub(super) fn written(&self, left_out: &[&str]) -> String {
        let mut written = format!("id = {}", value(&KnobValue::Choice(self.method.id.clone())));
        for (knob, stood) in &self.setting.0 {
            if !left_out.contains(&&**knob) {
                written = format!("{written}, {knob} = {}", value(stood));
            }
        }
        code(&format!("{{ {written} }}"))
    }

    /// Every knob, and what that leaves open.
    pub(super) fn sentence(&self) -> String {
        let is_published = self.word("space") == Some("published");
        let left_out = if is_published {
            &FIXED_AS_PUBLISHED[..]
        } else {
            &[]
        };
        let mut sentence = format!("Asked as {}", self.written(left_out));
        if self.setting.0.get("epsilons") == Some(&KnobValue::List(Vec::new())) {
            sentence += ", `epsilons = []` being the usual ones, which are the table's";
        }
        if is_published {
            sentence += ", which is as in arXiv:2403.09441: 20 steps of 0.01 in pixels stretched to -1 to 1, from the image \
                         itself, and pixels may leave their range; its epsilons are twice the budgets of the table";
        }
        sentence + "."
    }
}

/// A knob's value in TOML.
fn value(value: &KnobValue) -> String {
    match value {
        KnobValue::Flag(flag) => flag.to_string(),
        KnobValue::Integer(whole) => whole.to_string(),
        // With its point, so that it stays a real number.
        KnobValue::Real(real) => format!("{real:?}"),
        KnobValue::Choice(word) => {
            format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
        }
        KnobValue::List(values) => {
            let written: Vec<String> = values.iter().map(self::value).collect();
            format!("[{}]", written.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Info, Knob, Range, Text, text};
    use crate::session::sample;

    /// PGD with two knobs of its own.
    fn header(attacks: &[&[(&str, KnobValue)]]) -> Header {
        let knob = |id: &'static str, range| Knob {
            id: text(id),
            title: text(id),
            summary: text(""),
            range,
        };
        let choice = |words: &'static [Text]| Range::Choice {
            options: std::borrow::Cow::Borrowed(words),
            default: words[0].clone(),
        };
        let mut header = sample::header();
        header.catalog.attacks = vec![Described {
            info: Info {
                id: text("pgd"),
                title: text("PGD"),
                summary: text(""),
                reference: text(""),
                family: text(""),
                ratio_of: None,
            },
            knobs: vec![
                knob("norm", choice(const { &[text("linf"), text("l2")] })),
                knob(
                    "space",
                    choice(const { &[text("pixel"), text("published")] }),
                ),
                knob(
                    "steps",
                    Range::Integer {
                        least: 1,
                        most: 100,
                        default: 20,
                    },
                ),
            ],
        }];
        let method = |knobs: &&[(&str, KnobValue)]| {
            let mut method = Method::plain("pgd");
            for (knob, value) in *knobs {
                method.setting = method.setting.with(knob, value.clone());
            }
            method
        };
        header.study.suite.attacks = attacks.iter().map(method).collect();
        header
    }

    fn word(word: &str) -> KnobValue {
        KnobValue::Choice(word.to_owned())
    }

    #[test]
    fn a_condition_finds_the_knobs_behind_it() {
        let many = [("steps", KnobValue::Integer(50))];
        let euclidean = [("norm", word("l2"))];
        let published = [("space", word("published"))];
        let header = header(&[&many, &[], &euclidean, &published]);
        let sentences = |condition: &str| -> Vec<String> {
            let asked = Asked::of(&header, condition);
            asked.iter().map(Asked::sentence).collect()
        };
        assert_eq!(
            sentences("pgd"),
            ["Asked as `{ id = \"pgd\", norm = \"linf\", space = \"pixel\", steps = 20 }`."]
        );
        assert!(sentences("pgd:steps=50")[0].contains("steps = 50"));
        assert!(sentences("pgd-l2")[0].contains("norm = \"l2\""));
        let published = sentences("pgd:published");
        assert!(published[0].contains("20 steps of 0.01") && !published[0].contains("steps = 20"));
        assert!(sentences("pgd:steps=7").is_empty() && sentences("fgsm").is_empty());
        assert_eq!(Asked::of(&header, "pgd-l2")[0].norm(), Some("Euclidean"));
    }

    #[test]
    fn in_an_earlier_session_the_first_of_its_kind_has_the_short_name() {
        let header = header(&[&[("steps", KnobValue::Integer(50))]]);
        let asked = Asked::of(&header, "pgd");
        assert!(asked[0].sentence().contains("steps = 50"));
    }

    #[test]
    fn values_are_those_of_a_study_file() {
        for (knob, written) in [
            (KnobValue::Real(1.0), "1.0"),
            (KnobValue::Real(0.1), "0.1"),
            (KnobValue::Flag(true), "true"),
            (word("a\"b\\"), "\"a\\\"b\\\\\""),
            (
                KnobValue::List(vec![KnobValue::Real(0.05), KnobValue::Real(0.1)]),
                "[0.05, 0.1]",
            ),
        ] {
            assert_eq!(value(&knob), written);
        }
    }
}
