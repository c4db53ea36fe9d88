//! Fields of the question that a newer version knows and this one does not.
//!
//! A study that somebody types is refused where it says what nobody understands. One that was recorded is history: it
//! opens without those fields, and says which they were.

use std::cell::Cell;

use serde::de::value::Error as Refused;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde_json::Value;

use crate::spec::{Branch, Reference, Study, Suite};

/// Takes out of a study what this version does not know, and answers what that was: `references.1.color`.
pub(super) fn prune_study(study: &mut Value) -> Vec<String> {
    let mut out = Vec::new();
    prune::<Study>(study, "", &mut out);
    if let Some(suite) = study.get_mut("suite") {
        prune::<Suite>(suite, "suite.", &mut out);
    }
    for (index, reference) in list(study, "references") {
        let place = format!("references.{index}.");
        prune::<Reference>(reference, &place, &mut out);
        for (index, branch) in list(reference, "branches") {
            prune::<Branch>(branch, &format!("{place}branches.{index}."), &mut out);
        }
    }
    out
}

/// The same for a branch alone.
pub(super) fn prune_branch(branch: &mut Value) -> Vec<String> {
    let mut out = Vec::new();
    prune::<Branch>(branch, "", &mut out);
    out
}

fn list<'a>(value: &'a mut Value, key: &str) -> impl Iterator<Item = (usize, &'a mut Value)> {
    value
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .enumerate()
}

fn prune<'de, T: Deserialize<'de>>(value: &mut Value, place: &str, out: &mut Vec<String>) {
    let known = fields::<T>();
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| {
            let is_known = known.contains(&&**key);
            if !is_known {
                out.push(format!("{place}{key}"));
            }
            is_known
        });
    }
}

/// The fields that a type asks for when it is read.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let asked = Cell::new(&[][..]);
    // It is refused once it has asked.
    let _ = T::deserialize(Asked(&asked));
    asked.get()
}

struct Asked<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        Err(Refused::custom("only a struct has fields"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refused> {
        self.0.set(fields);
        Err(Refused::custom("its fields are all that is asked"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sample;

    #[test]
    fn what_is_known_stays_and_what_is_not_is_named() {
        let study = sample::header().study;
        let mut value = serde_json::to_value(&study).unwrap();
        assert_eq!(prune_study(&mut value), [""; 0]);
        assert_eq!(
            serde_json::from_value::<Study>(value.clone()).unwrap(),
            study
        );
        value["color"] = "red".into();
        value["suite"]["speed"] = 3.into();
        value["references"][0]["branches"][0]["mood"] = Value::Null;
        value["references"][0]["weather"] = serde_json::json!({"sun": true});
        assert!(serde_json::from_value::<Study>(value.clone()).is_err());
        assert_eq!(
            prune_study(&mut value),
            [
                "color",
                "suite.speed",
                "references.0.weather",
                "references.0.branches.0.mood"
            ]
        );
        assert_eq!(serde_json::from_value::<Study>(value).unwrap(), study);
    }

    #[test]
    fn what_is_no_study_is_left_alone() {
        for mut value in [Value::Null, 7.into(), serde_json::json!({"references": 7})] {
            let before = value.clone();
            assert_eq!(prune_study(&mut value), [""; 0]);
            assert_eq!(value, before);
        }
    }
}
