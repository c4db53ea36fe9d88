//! References that differ in their seed alone: repetitions of one another.

use super::{CheckedStudy, KnobValue, NetworkPlan, Reference, SpecError, Study};

/// Far more than a mean over seeds needs.
pub(super) const MOST_SEEDS: usize = 100;

impl Study {
    /// The references that repeat one another, by number, in order; one that nothing repeats stands alone. Branches do not
    /// count: users add some to one of them.
    pub fn repetitions(&self) -> Vec<Vec<u32>> {
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for (number, reference) in self.references.iter().enumerate() {
            let number = number as u32;
            let seed = self.seed_of(number);
            // The same seed once more is the same network, and no repetition.
            let is_repeated = |group: &&mut Vec<u32>| {
                let first = &self.references[group[0] as usize];
                is_same_recipe(first, reference)
                    && group.iter().all(|other| self.seed_of(*other) != seed)
            };
            match groups.iter_mut().find(is_repeated) {
                Some(group) => group.push(number),
                None => groups.push(vec![number]),
            }
        }
        groups
    }

    /// Whether any reference is made from several seeds.
    pub fn is_repeated(&self) -> bool {
        self.repetitions().len() < self.references.len()
    }

    /// What tells a reference from the others of its study: `seed 3` where all differ in their seed alone, `reference 2`
    /// where none does, `reference 2, seed 3` otherwise. Nothing where there is only one.
    pub fn told_apart(&self, reference: u32) -> Option<String> {
        if self.references.len() < 2 {
            return None;
        }
        let groups = self.repetitions();
        let place = groups.iter().position(|group| group.contains(&reference))?;
        let number = (groups.len() > 1).then(|| format!("reference {}", place + 1));
        let seed = (groups[place].len() > 1).then(|| format!("seed {}", self.seed_of(reference)));
        let words: Vec<String> = number.into_iter().chain(seed).collect();
        Some(words.join(", "))
    }

    /// What a network is called in every repetition of its reference: without the seed.
    pub fn name_over_seeds(&self, plan: &NetworkPlan) -> String {
        let seed = format!("seed {}", self.seed_of(plan.reference));
        let of = plan.name.strip_suffix(&format!(" of {seed}"));
        let after = || plan.name.strip_suffix(&format!(", {seed}"));
        of.or_else(after).unwrap_or(&plan.name).to_owned()
    }

    /// The seeds of its networks in words: `seed 7`, `seeds 1, 2, 3`, `seeds 2, 24, 42 on the split of seed 1`.
    pub fn seeds_in_words(&self) -> String {
        let mut seeds: Vec<u64> = Vec::new();
        for number in 0..self.references.len() as u32 {
            let seed = self.seed_of(number);
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        match seeds.as_slice() {
            [] | [_] => format!("seed {}", self.seed),
            several => {
                let words: Vec<String> = several.iter().map(u64::to_string).collect();
                // By itself the first splits the data.
                let split = if several[0] == self.seed {
                    String::new()
                } else {
                    format!(" on the split of seed {}", self.seed)
                };
                format!("seeds {}{split}", words.join(", "))
            }
        }
    }

    fn seed_of(&self, reference: u32) -> u64 {
        let asked = self.references.get(reference as usize);
        asked.and_then(|asked| asked.seed).unwrap_or(self.seed)
    }

    /// Every reference once for each of the study's seeds: all of the first seed, then all of the next.
    pub(super) fn spread_seeds(&mut self) {
        let seeds = std::mem::take(&mut self.seeds);
        if seeds.is_empty() {
            return;
        }
        let of = |seed: &u64| {
            let own = self.references.iter().cloned();
            let seed = Some(*seed);
            own.map(move |reference| Reference { seed, ..reference })
        };
        self.references = seeds.iter().flat_map(of).collect();
    }

    /// What is wrong with its seeds.
    pub(super) fn check_seeds(&self) -> Vec<SpecError> {
        let mut errors = Vec::new();
        for (at, seed) in self.seeds.iter().enumerate() {
            if self.seeds[..at].contains(seed) {
                let problem = format!("{seed} stands twice; networks of a seed are made once");
                errors.push(SpecError::new("", "seeds", problem));
            }
        }
        if self.seeds.len() > MOST_SEEDS {
            let problem = format!("{} are more than {MOST_SEEDS}, the most", self.seeds.len());
            errors.push(SpecError::new("", "seeds", problem));
        }
        let several = self.references.len() > 1;
        let is_untrained = |reference: &Reference| {
            reference.training.0.get("epochs") == Some(&KnobValue::Integer(0))
        };
        if self.seeds.len() > 1 && self.references.iter().any(is_untrained) {
            let problem = "without training, a reference is the same for every seed; one of them";
            errors.push(SpecError::new("", "seeds", problem));
        }
        for (index, reference) in self.references.iter().enumerate() {
            if let Some(seed) = reference.seed.filter(|_| !self.seeds.is_empty()) {
                let place = if several {
                    format!("reference {}", index + 1)
                } else {
                    String::new()
                };
                let problem =
                    format!("{seed} is not allowed beside the study's seeds, one of them");
                errors.push(SpecError::new(&place, "seed", problem));
            }
        }
        errors
    }
}

/// Whether two references differ in nothing but their seeds and branches. Screens ask in every picture: nothing is copied.
fn is_same_recipe(one: &Reference, other: &Reference) -> bool {
    let Reference {
        dataset,
        architecture,
        from,
        resize,
        training,
        seed: _,
        twins,
        same_start_twin,
        branches: _,
    } = one;
    *dataset == other.dataset
        && *architecture == other.architecture
        && *from == other.from
        && *resize == other.resize
        && *training == other.training
        && *twins == other.twins
        && *same_start_twin == other.same_start_twin
}

impl CheckedStudy {
    /// Whether a reference is an earlier one with another seed, branches and all.
    pub fn repeats(&self, reference: usize) -> bool {
        let all = &self.study().references;
        let own = &all[reference];
        let mut earlier = all[..reference].iter();
        earlier.any(|other| is_same_recipe(other, own) && other.branches == own.branches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(seeds: &[u64], twins: &[u32]) -> Study {
        let first = Study::default().references.remove(0);
        let references = twins.iter().map(|twins| Reference {
            twins: *twins,
            ..first.clone()
        });
        Study {
            seeds: seeds.to_vec(),
            references: references.collect(),
            ..Study::default()
        }
    }

    fn told(study: &Study) -> Vec<Option<String>> {
        let all = 0..study.references.len() as u32;
        all.map(|number| study.told_apart(number)).collect()
    }

    #[test]
    fn references_are_repetitions_where_only_the_seed_differs() {
        let mut study = study(&[], &[0, 1, 0, 0]);
        for (reference, seed) in study.references.iter_mut().zip(1..) {
            reference.seed = Some(seed);
        }
        assert_eq!(study.repetitions(), [vec![0, 2, 3], vec![1]]);
        let words = ["reference 1, seed 1", "reference 2", "reference 1, seed 3"];
        assert_eq!(told(&study)[..3], words.map(|word| Some(word.to_owned())));
        // The same seed once more.
        study.references[3].seed = Some(1);
        assert_eq!(study.repetitions(), [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(told(&study)[3].as_deref(), Some("reference 3"));
    }

    #[test]
    fn seeds_make_every_reference_anew_and_leave_the_split_alone() {
        let catalog = crate::lab::catalog();
        let checked = study(&[2, 24], &[0]).check(&catalog).unwrap();
        let own = checked.study();
        assert_eq!((own.seed, own.seeds.len()), (7, 0));
        let seeds: Vec<Option<u64>> = own.references.iter().map(|r| r.seed).collect();
        assert_eq!(seeds, [Some(2), Some(24)]);
        let plan = checked.plan(&catalog);
        let names: Vec<&str> = plan.iter().map(|plan| &*plan.name).collect();
        let expected = [
            "reference, seed 2",
            "magnitude pruning 50 % of seed 2",
            "reference, seed 24",
            "magnitude pruning 50 % of seed 24",
        ];
        assert_eq!(names, expected);
        assert_eq!(own.name_over_seeds(&plan[0]), "reference");
        assert_eq!(own.name_over_seeds(&plan[3]), "magnitude pruning 50 %");
        // Once checked, it stays what it is.
        assert_eq!(own.clone().check(&catalog).unwrap(), checked);
        assert!(checked.repeats(1) && !checked.repeats(0));

        let several = study(&[1, 2], &[0, 1]).check(&catalog).unwrap();
        assert_eq!(several.study().repetitions(), [[0, 2], [1, 3]]);
        let plan = several.plan(&catalog);
        let names: Vec<&str> = plan.iter().map(|plan| &*plan.name).collect();
        assert_eq!(names[0], "reference 1, seed 1");
        assert_eq!(names[3], "twin 1 of reference 2, seed 1");
        // No network is made twice under two names.
        let seeds = plan.iter().map(|plan| (plan.reference % 2, plan.init_seed));
        let trained = seeds
            .zip(&plan)
            .filter(|(_, plan)| plan.role != crate::spec::Role::Branch);
        let mut trained: Vec<(u32, u64)> = trained.map(|(seed, _)| seed).collect();
        let count = trained.len();
        trained.sort_unstable();
        trained.dedup();
        assert_eq!(trained.len(), count);
        assert_eq!(
            several.study().name_over_seeds(&plan[3]),
            "twin 1 of reference 2"
        );
    }

    #[test]
    fn seeds_that_contradict_are_refused() {
        let mut asked = study(&[3, 3], &[0]);
        asked.references[0].seed = Some(1);
        let said: Vec<String> = asked
            .check_seeds()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "seeds: 3 stands twice; networks of a seed are made once",
                "seed: 1 is not allowed beside the study's seeds, one of them",
            ]
        );
    }
}
