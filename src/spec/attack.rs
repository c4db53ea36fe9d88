//! How an attack is called: under which name its findings stand.

use super::{KnobValue, Setting};
use crate::catalog::Knob;

/// Knobs whose values stand in no name: the variant says them, or they say on what an attack is used.
const SAID: [&str; 5] = ["epsilons", "images", "norm", "space", "gradient"];

/// Knobs that an attack as published has of its own, whatever they stand at.
pub const FIXED_AS_PUBLISHED: [&str; 5] = ["steps", "step-size", "restarts", "start", "norm"];

/// What tells an attack's findings from those of the same attack asked for otherwise, in short: `-l2`, `:published`,
/// `:gradient-none`.
pub fn attack_variant(setting: &Setting) -> String {
    let said = [
        ("norm", "l2", "-l2"),
        ("space", "published", ":published"),
        ("gradient", "none", ":gradient-none"),
    ];
    let stands = |(knob, word, _): &&(&str, &str, &str)| matches!(setting.0.get(*knob), Some(KnobValue::Choice(own)) if own == word);
    said.iter().filter(stands).map(|(.., name)| *name).collect()
}

/// The id, the variant, and every other knob that is not where it stands by itself: `pgd-l2:steps=50`. A name means the
/// same in every study.
pub fn attack_name(id: &str, setting: &Setting, knobs: &[Knob]) -> String {
    let mut name = format!("{id}{}", attack_variant(setting));
    for knob in knobs.iter().filter(|knob| !SAID.contains(&&*knob.id)) {
        let value = setting.0.get(&*knob.id);
        if let Some(value) = value.filter(|value| **value != knob.range.default()) {
            name = format!("{name}:{}={value}", knob.id);
        }
    }
    name
}
