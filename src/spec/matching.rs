//! Matched comparison: instead of a ratio, what all methods shall have in common; the lab finds each one's strength.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KnobValue, Method, STRENGTHS, SpecError};
use crate::catalog::{Catalog, Described, Range};

/// In what compressed networks are made alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alike {
    /// Validation accuracy equivalent to the reference's; the value is the margin in points.
    Accuracy,
    /// The share of the parameters removed, likewise below.
    Parameters,
    Bytes,
    Macs,
    Latency,
}

impl Alike {
    pub const ALL: [Self; 5] = [
        Self::Accuracy,
        Self::Parameters,
        Self::Bytes,
        Self::Macs,
        Self::Latency,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Parameters => "parameters",
            Self::Bytes => "bytes",
            Self::Macs => "macs",
            Self::Latency => "latency",
        }
    }
}

/// What a branch's strength is searched for. Written as it is typed, `accuracy=0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Match {
    pub of: Alike,
    /// A margin in points for accuracy, a share removed for everything else.
    pub value: f64,
}

impl From<Match> for String {
    fn from(asked: Match) -> Self {
        format!("{}={}", asked.of.word(), asked.value)
    }
}

impl TryFrom<String> for Match {
    type Error = String;

    fn try_from(typed: String) -> Result<Self, String> {
        Self::parse(&typed)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Alike::Accuracy => write!(f, "matched accuracy within {} points", self.value),
            of => write!(
                f,
                "matched, {} % of the {} removed",
                (self.value * 1e4).round() / 100.0,
                of.word()
            ),
        }
    }
}

/// What is typed: `accuracy=0.5`.
const TYPED: &str = "accuracy=POINTS, or parameters, bytes, macs or latency=SHARE";

impl Match {
    /// `accuracy=0.5` or `bytes=.6`.
    ///
    /// # Errors
    /// One sentence: what was typed, and what is allowed.
    pub fn parse(typed: &str) -> Result<Self, String> {
        let known = typed.split_once('=').and_then(|(word, value)| {
            let mut all = Alike::ALL.into_iter();
            let of = all.find(|of| of.word() == word.trim())?;
            let value = value.trim().parse().ok()?;
            Some(Self { of, value })
        });
        known.ok_or_else(|| format!("\"{}\" is not allowed; {TYPED}", super::printable(typed)))
    }

    /// What is wrong with it for the first compression of a branch.
    pub(super) fn check(
        &self,
        method: Option<&Method>,
        known: &[Described],
        place: &str,
        errors: &mut Vec<SpecError>,
    ) {
        let most = if self.of == Alike::Accuracy {
            MOST_POINTS
        } else {
            MOST_SHARE
        };
        if !(self.value > 0.0 && self.value <= most) {
            let problem = match self.of {
                Alike::Accuracy => {
                    format!(
                        "{} is not allowed; points above 0, {most} at most",
                        self.value
                    )
                }
                _ => format!(
                    "{} is not allowed; a share above 0, {most} at most",
                    self.value
                ),
            };
            errors.push(SpecError::new(place, "match", problem));
        }
        let described = method.and_then(|method| known.iter().find(|one| one.info.id == method.id));
        if let Some(described) = described
            && strength(described).is_none()
        {
            let problem = format!(
                "{} has neither ratio nor bits, whose strongest setting could be searched for",
                described.info.id
            );
            errors.push(SpecError::new(place, "match", problem));
        } else if let Some(described) = described {
            self.check_size(described, place, errors);
        }
    }

    /// Whether the method makes that size smaller at all.
    fn check_size(&self, described: &Described, place: &str, errors: &mut Vec<SpecError>) {
        if matches!(self.of, Alike::Accuracy | Alike::Latency) {
            return;
        }
        let shrinks: Vec<&str> = match described.knob("ratio-of").map(|knob| &knob.range) {
            Some(Range::Choice { options, .. }) => options.iter().map(AsRef::as_ref).collect(),
            // Bits alone: the same numbers in fewer bytes.
            _ => vec![Alike::Bytes.word()],
        };
        if !shrinks.contains(&self.of.word()) {
            let sizes = Alike::ALL.into_iter().map(Alike::word);
            let known: Vec<&str> = sizes.filter(|word| shrinks.contains(word)).collect();
            let problem = format!(
                "{} removes no {}; accuracy, {} or latency",
                described.info.id,
                self.of.word(),
                known.join(", ")
            );
            errors.push(SpecError::new(place, "match", problem));
        }
    }
}

/// More is no likeness.
const MOST_POINTS: f64 = 50.0;

/// The greatest ratio of the methods.
const MOST_SHARE: f64 = 0.999;

/// The knob that says how strongly a method compresses.
pub fn strength(described: &Described) -> Option<&'static str> {
    STRENGTHS
        .into_iter()
        .find(|id| described.knob(id).is_some())
}

impl Method {
    /// Without the knob that is searched for.
    pub(super) fn without_strength(&self, catalog: &Catalog) -> Self {
        let mut method = self.clone();
        let known = catalog
            .compressions
            .iter()
            .find(|one| one.info.id == self.id);
        if let Some(knob) = known.and_then(strength) {
            method.setting.0.remove(knob);
        }
        method
    }

    /// With its strength at that value.
    pub fn at_strength(&self, knob: &str, value: &KnobValue) -> Self {
        Self {
            id: self.id.clone(),
            setting: self.setting.clone().with(knob, value.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_or_refused_in_one_sentence() {
        assert_eq!(
            Match::parse("accuracy=0.5"),
            Ok(Match {
                of: Alike::Accuracy,
                value: 0.5
            })
        );
        assert_eq!(Match::parse("macs = .6").map(|m| m.value), Ok(0.6));
        for wrong in ["accuracy", "speed=2", "bytes=much", "=1"] {
            let error = Match::parse(wrong).unwrap_err();
            assert_eq!(error, format!("\"{wrong}\" is not allowed; {TYPED}"));
        }
    }
}
