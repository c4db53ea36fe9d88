//! Sweeps: a branch in which a knob has several values is as many branches, and branches that differ in one knob alone
//! belong together in a chart.

use super::{Branch, KnobValue, SpecError, Stage};

/// Branches that one may ask for: more would take days, and no chart tells them apart.
const MOST: usize = 200;

/// The knobs that say how strongly a method compresses; the first that a method has is its own.
pub const STRENGTHS: [&str; 2] = ["ratio", "bits"];

impl Branch {
    /// How many branches it stands for: the product of its lists' lengths.
    pub fn count(&self) -> usize {
        let lengths = self.lists().into_iter().map(|(_, _, values)| values.len());
        lengths.fold(1, usize::saturating_mul)
    }

    /// The knobs with several values: stage, id, values.
    fn lists(&self) -> Vec<(usize, String, Vec<KnobValue>)> {
        let mut lists = Vec::new();
        for (at, stage) in self.stages.iter().enumerate() {
            let Stage::Compress(method) = stage else {
                continue;
            };
            for (id, value) in &method.setting.0 {
                if let KnobValue::List(values) = value {
                    lists.push((at, id.clone(), values.clone()));
                }
            }
        }
        lists
    }

    /// One branch for each combination of the values that its compressions' knobs list, the last list turning fastest.
    pub(super) fn spread(self, place: &str, errors: &mut Vec<SpecError>) -> Vec<Self> {
        let lists = self.lists();
        let count = self.count();
        if let Some((_, id, _)) = lists.first()
            && count > MOST
        {
            let problem = format!("the lists make {count} branches; at most {MOST}");
            errors.push(SpecError::new(place, id, problem));
            return Vec::new();
        }
        let mut branches = vec![self];
        for (at, id, values) in lists {
            let all = std::mem::take(&mut branches);
            for branch in all {
                branches.extend(values.iter().map(|value| branch.turned(at, &id, value)));
            }
        }
        branches
    }

    /// The branch with one knob of a stage's compression turned; a name of its own says so.
    fn turned(&self, at: usize, id: &str, value: &KnobValue) -> Self {
        let mut branch = self.clone();
        if let Some(Stage::Compress(method)) = branch.stages.get_mut(at) {
            method.setting.0.insert(id.to_owned(), value.clone());
        }
        if !branch.name.is_empty() {
            branch.name = format!("{}, {id} {value}", branch.name);
        }
        branch
    }

    /// The id of the knob that says how strongly the branch compresses.
    pub fn strength(&self) -> Option<&'static str> {
        STRENGTHS.into_iter().find(|id| self.number(id).is_some())
    }

    /// The ids of its compressions' knobs that stand at numbers.
    pub fn numbers(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = Vec::new();
        for stage in &self.stages {
            if let Stage::Compress(method) = stage {
                for id in method.setting.0.keys() {
                    if self.number(id).is_some() && !ids.contains(&&**id) {
                        ids.push(id);
                    }
                }
            }
        }
        ids
    }

    /// What a knob of its compressions stands at, of the last one that has it, where that is a number.
    pub fn number(&self, id: &str) -> Option<f64> {
        self.stages.iter().rev().find_map(|stage| match stage {
            Stage::Compress(method) => method.setting.0.get(id)?.number(),
            Stage::FineTune(_) => None,
        })
    }

    /// The branch without its name and without that knob: what branches have in common that differ in it alone.
    pub fn without(&self, id: &str) -> Self {
        let mut branch = self.clone();
        branch.name.clear();
        for stage in &mut branch.stages {
            if let Stage::Compress(method) = stage {
                method.setting.0.remove(id);
            }
        }
        branch
    }
}

impl KnobValue {
    /// The number that it is, or reads as.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(v) => Some(*v as f64),
            Self::Real(v) => Some(*v),
            Self::Choice(word) => word.parse().ok(),
            Self::Flag(_) | Self::List(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Method;

    fn branch(knobs: &[(&str, &str)]) -> Branch {
        let mut method = Method::plain("any");
        for (id, typed) in knobs {
            method
                .setting
                .0
                .insert((*id).to_owned(), KnobValue::parse(typed));
        }
        Branch {
            stages: vec![Stage::Compress(method)],
            ..Branch::default()
        }
    }

    #[test]
    fn several_lists_make_every_combination() {
        let asked = branch(&[("bits", "8,4"), ("ratio", ".1,.5,.9"), ("scope", "global")]);
        assert_eq!(asked.count(), 6);
        let mut errors = Vec::new();
        let made = asked.spread("branch 1", &mut errors);
        let pairs: Vec<(f64, f64)> = made
            .iter()
            .map(|branch| {
                (
                    branch.number("bits").unwrap(),
                    branch.number("ratio").unwrap(),
                )
            })
            .collect();
        assert_eq!(
            pairs,
            [
                (8.0, 0.1),
                (8.0, 0.5),
                (8.0, 0.9),
                (4.0, 0.1),
                (4.0, 0.5),
                (4.0, 0.9)
            ]
        );
        assert_eq!(errors, []);
        let together: Vec<bool> = made
            .iter()
            .map(|branch| branch.without("ratio") == made[0].without("ratio"))
            .collect();
        assert_eq!(together, [true, true, true, false, false, false]);
        assert_eq!(made[0].strength(), Some("ratio"));
        assert_eq!(made[0].numbers(), ["bits", "ratio"]);
    }

    #[test]
    fn a_name_is_told_apart_and_too_many_are_refused() {
        let mut asked = branch(&[("ratio", "0.1,0.5")]);
        asked.name = "mine".to_owned();
        let names: Vec<String> = asked
            .clone()
            .spread("", &mut Vec::new())
            .into_iter()
            .map(|branch| branch.name)
            .collect();
        assert_eq!(names, ["mine, ratio 0.1", "mine, ratio 0.5"]);
        let many = vec!["0.5"; 201].join(",");
        let mut errors = Vec::new();
        assert!(
            branch(&[("ratio", &many)])
                .spread("branch 2", &mut errors)
                .is_empty()
        );
        assert_eq!(
            errors[0].to_string(),
            "branch 2: ratio: the lists make 201 branches; at most 200"
        );
    }
}
