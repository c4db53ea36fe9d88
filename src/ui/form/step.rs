//! Turning a row of the form: by steps, and by typing.

use super::{Form, Place, standing};
use crate::catalog::{Catalog, Described, Knob, Range};
use crate::spec::{ALL_DOMAINS, Checkpoint, KnobValue, Method, Setting, Stage, usual_tuning};

/// Images that one key press adds to a limit.
const LIMIT_STEP: i64 = 1_000;

/// Pixels that one key press adds to a side: the usual sides are multiples.
const SIDE_STEP: i64 = 32;

impl Form {
    /// A suite that names no probes means all; to turn a knob of one, all are named.
    fn name_probes(&mut self, place: &Place, catalog: &Catalog) {
        if matches!(place, Place::ProbeKnob(..)) && self.study.suite.probes.is_empty() {
            self.study.suite.probes = self.study.suite.usual_probes(catalog);
        }
    }

    /// The next set of attacks; probes that were named are named anew, since those that attack come and go with them.
    fn turn_attacks(&mut self, catalog: &Catalog, by: i64) {
        let sets = attack_sets(catalog);
        let suite = &mut self.study.suite;
        let at = sets.iter().position(|(_, set)| *set == suite.attacks);
        let next = (at.unwrap_or(0) as i64 + by).rem_euclid(sets.len() as i64) as usize;
        suite.attacks.clone_from(&sets[next].1);
        if !suite.probes.is_empty() {
            let usual = suite.usual_probes(catalog);
            let named = std::mem::take(&mut suite.probes);
            let as_named = |probe: Method| {
                let known = named.iter().find(|known| known.id == probe.id);
                known.cloned().unwrap_or(probe)
            };
            suite.probes = usual.into_iter().map(as_named).collect();
        }
    }

    /// Turns the row under the cursor by so many steps.
    pub fn turn(&mut self, by: i64, catalog: &Catalog) {
        self.settle();
        let Some(place) = self.place(catalog) else {
            return;
        };
        self.bad.remove(&place);
        match &place {
            Place::Dataset => {
                let table = &catalog.datasets;
                turn_method(&mut self.asked_mut().dataset, table, by);
            }
            Place::Architecture => {
                let table = &catalog.architectures;
                turn_method(&mut self.asked_mut().architecture, table, by);
            }
            Place::Method(branch, stage) => self.turn_compression(*branch, *stage, by, catalog),
            Place::ProbeKnob(..)
            | Place::DatasetKnob(_)
            | Place::ArchitectureKnob(_)
            | Place::Training(_)
            | Place::Knob(..) => {
                self.name_probes(&place, catalog);
                if let Some(knob) = self.knob(&place, catalog)
                    && let Some(setting) = self.setting_mut(&place)
                {
                    turn_knob(setting, knob, by);
                }
            }
            Place::Seed => {
                let seed = self.asked().seed.unwrap_or(self.study.seed);
                self.put_seed(seed.saturating_add_signed(by));
            }
            Place::Twins => {
                let twins = &mut self.asked_mut().twins;
                *twins = twins.saturating_add_signed(by as i32).min(100);
            }
            Place::SameStartTwin => {
                let flag = &mut self.asked_mut().same_start_twin;
                *flag = !*flag;
            }
            Place::Corruptions => turn_corruptions(&mut self.study.suite.corruptions, catalog, by),
            Place::Attacks => self.turn_attacks(catalog, by),
            Place::Domains => {
                let domains = &mut self.study.suite.domains;
                *domains = if domains.is_empty() {
                    vec![Method::plain(ALL_DOMAINS)]
                } else {
                    Vec::new()
                };
            }
            Place::FullSuite => self.study.suite.full = !self.study.suite.full,
            Place::TrainLimit => turn_limit(&mut self.study.train_limit, by * LIMIT_STEP),
            Place::TestLimit => turn_limit(&mut self.study.test_limit, by * LIMIT_STEP),
            Place::Resize => turn_limit(&mut self.asked_mut().resize, by * SIDE_STEP),
            Place::Threads => turn_limit(&mut self.study.threads, by),
            Place::Device => turn_device(&mut self.study.device, by),
            Place::FineTune(branch, stage) => {
                let epochs = self.epochs_of_tuning(*branch, *stage);
                self.put_fine_tuning(*branch, *stage, epochs.saturating_add(by).max(0));
            }
            Place::Then(branch) => {
                let count = catalog.compressions.len();
                if count > 0
                    && let Some(branch) = self.asked_mut().branches.get_mut(*branch)
                {
                    let pick = if by > 0 { 0 } else { count - 1 };
                    let id = &catalog.compressions[pick].info.id;
                    branch.stages.push(Stage::Compress(Method::plain(&**id)));
                    let stage = branch.stages.len() - 1;
                    let branch = place.branch().unwrap_or(0);
                    self.go_to(&Place::Method(branch, stage), catalog);
                }
            }
            Place::Checkpoint(branch) => {
                if let Some(branch) = self.asked_mut().branches.get_mut(*branch) {
                    branch.checkpoint = match branch.checkpoint {
                        Checkpoint::Last => Checkpoint::Best,
                        Checkpoint::Best => Checkpoint::Last,
                    };
                }
            }
            Place::Measure | Place::From | Place::Mean | Place::Std => {}
            Place::AddBranch => {
                if by > 0 {
                    self.add_branch(catalog);
                }
            }
        }
    }

    /// The first compression of a branch turns round; a later one disappears beyond the end of the table.
    fn turn_compression(&mut self, branch: usize, stage: usize, by: i64, catalog: &Catalog) {
        let table = &catalog.compressions;
        let Some(asked) = self.asked_mut().branches.get_mut(branch) else {
            return;
        };
        let Some(Stage::Compress(method)) = asked.stages.get_mut(stage) else {
            return;
        };
        let at = table.iter().position(|entry| entry.info.id == method.id);
        let beyond = at.is_some_and(|at| {
            let next = at as i64 + by;
            next < 0 || next >= table.len() as i64
        });
        if stage > 0 && beyond {
            let tuned = matches!(asked.stages.get(stage + 1), Some(Stage::FineTune(_)));
            asked.stages.drain(stage..=stage + usize::from(tuned));
            self.go_to(&Place::Then(branch), catalog);
        } else {
            let before = i64::from(usual_tuning(&method.id, catalog));
            turn_method(method, table, by);
            let now = i64::from(usual_tuning(&method.id, catalog));
            // What somebody turned stays as it was turned.
            if before != now && self.epochs_of_tuning(branch, stage) == before {
                self.put_fine_tuning(branch, stage, now);
            }
        }
    }

    /// Epochs of fine-tuning directly behind a stage.
    fn epochs_of_tuning(&self, branch: usize, stage: usize) -> i64 {
        match self.fine_tuning(branch, stage) {
            None => 0,
            Some(setting) => match setting.0.get("epochs") {
                Some(KnobValue::Integer(n)) => *n,
                _ => 1,
            },
        }
    }

    /// One, or several of which each makes every network once more.
    fn put_seeds(&mut self, seeds: Vec<u64>) {
        if let [seed] = seeds.as_slice() {
            return self.put_seed(*seed);
        }
        for reference in &mut self.study.references {
            reference.seed = None;
        }
        self.study.seed = seeds.first().copied().unwrap_or(self.study.seed);
        self.study.seeds = seeds;
    }

    fn put_seed(&mut self, seed: u64) {
        self.study.seeds.clear();
        let only_one = self.study.references.len() == 1;
        if only_one {
            self.study.seed = seed;
            self.asked_mut().seed = None;
        } else {
            self.asked_mut().seed = Some(seed);
        }
    }

    fn put_fine_tuning(&mut self, branch: usize, stage: usize, epochs: i64) {
        let is_tuned = self.fine_tuning(branch, stage).is_some();
        let Some(asked) = self.asked_mut().branches.get_mut(branch) else {
            return;
        };
        match (is_tuned, epochs) {
            (true, 0) => {
                asked.stages.remove(stage + 1);
            }
            (false, 0) => {}
            (true, n) => {
                if let Some(Stage::FineTune(setting)) = asked.stages.get_mut(stage + 1) {
                    setting.0.insert("epochs".to_owned(), KnobValue::Integer(n));
                }
            }
            (false, n) => {
                let setting = Setting::default().with("epochs", KnobValue::Integer(n));
                asked.stages.insert(stage + 1, Stage::FineTune(setting));
            }
        }
    }

    /// Puts what was typed into the study, or keeps it as what is no number.
    pub(super) fn take(&mut self, place: &Place, typed: &str) {
        self.bad.remove(place);
        let whole = typed.parse::<u64>().ok();
        let small = whole.and_then(|n| u32::try_from(n).ok());
        let taken = match place {
            Place::Seed => {
                let seeds: Option<Vec<u64>> =
                    typed.split(',').map(|one| one.parse().ok()).collect();
                seeds.map(|seeds| self.put_seeds(seeds)).is_some()
            }
            Place::Twins => small.map(|n| self.asked_mut().twins = n).is_some(),
            Place::TrainLimit => take_limit(&mut self.study.train_limit, typed, small),
            Place::TestLimit => take_limit(&mut self.study.test_limit, typed, small),
            Place::Threads => take_limit(&mut self.study.threads, typed, small),
            Place::Resize => take_limit(&mut self.asked_mut().resize, typed, small),
            Place::FineTune(branch, stage) => whole
                .and_then(|n| i64::try_from(n).ok())
                .map(|n| self.put_fine_tuning(*branch, *stage, n))
                .is_some(),
            Place::DatasetKnob(id)
            | Place::ArchitectureKnob(id)
            | Place::Training(id)
            | Place::Knob(_, _, id) => {
                let id = id.clone();
                if let Some(setting) = self.setting_mut(place) {
                    // What is no number is refused by the check, with what is allowed.
                    setting.0.insert(id, KnobValue::parse(typed));
                }
                true
            }
            _ => true,
        };
        if !taken {
            self.bad.insert(place.clone(), typed.to_owned());
        }
    }
}

/// An emptied limit is no limit.
fn take_limit(limit: &mut Option<u32>, typed: &str, number: Option<u32>) -> bool {
    if typed.is_empty() {
        *limit = None;
        return true;
    }
    if number.is_some() {
        *limit = number;
    }
    number.is_some()
}

/// Up from "all" begins with one step, and down from one step is "all" again.
fn turn_limit(limit: &mut Option<u32>, by: i64) {
    let next = i64::from(limit.unwrap_or(0)) + by;
    *limit = u32::try_from(next).ok().filter(|n| *n > 0);
}

/// The sets of attacks that the form offers, from none to the strongest, and each attack by itself; only those that the
/// catalog knows.
pub(super) fn attack_sets(catalog: &Catalog) -> Vec<(String, Vec<Method>)> {
    let sets: [(&str, &[&str]); 4] = [
        ("none", &[]),
        ("pgd", &["pgd"]),
        ("fgsm + pgd", &["fgsm", "pgd"]),
        (
            "all cheap",
            &[
                "fgsm",
                "pgd",
                "deepfool",
                "salt-and-pepper",
                "uniform-noise",
            ],
        ),
    ];
    let ids = catalog.attacks.iter().map(|attack| &*attack.info.id);
    let is_known = |id: &&str| ids.clone().any(|known| known == *id);
    let methods = |ids: &[&str]| ids.iter().map(|id| Method::plain(*id)).collect();
    let several = sets
        .into_iter()
        .filter(|(_, members)| members.iter().all(is_known))
        .map(|(name, members)| (name.to_owned(), methods(members)));
    let alone = ids.clone().filter(|id| *id != "pgd");
    several
        .chain(alone.map(|id| (id.to_owned(), methods(&[id]))))
        .collect()
}

/// The next set of corruptions, round at its ends; before the first stand the usual ones. A choice of one's own is left.
fn turn_corruptions(chosen: &mut Vec<Method>, catalog: &Catalog, by: i64) {
    let sets = &catalog.corruption_sets;
    let at = sets.iter().position(|set| set.members == *chosen);
    let now = at.map_or(0, |at| at as i64 + 1);
    let next = (now + by).rem_euclid(sets.len() as i64 + 1) as usize;
    *chosen = next
        .checked_sub(1)
        .and_then(|place| sets.get(place))
        .map_or_else(Vec::new, |set| set.members.clone());
}

/// Round the devices that can be asked for on any machine; a numbered one counts as `cuda`.
fn turn_device(device: &mut String, by: i64) {
    const DEVICES: [&str; 3] = ["cpu", "auto", "cuda"];
    let at = DEVICES
        .iter()
        .position(|known| device.split(':').next() == Some(*known));
    let next = (at.unwrap_or(0) as i64 + by).rem_euclid(DEVICES.len() as i64);
    DEVICES[next as usize].clone_into(device);
}

/// The next method of the table, round at its ends; knobs of the old one are forgotten.
fn turn_method(method: &mut Method, table: &[Described], by: i64) {
    if table.is_empty() {
        return;
    }
    let at = table.iter().position(|entry| entry.info.id == method.id);
    let next = match at {
        Some(at) => (at as i64 + by).rem_euclid(table.len() as i64) as usize,
        None => 0,
    };
    if at != Some(next) {
        *method = Method::plain(&*table[next].info.id);
    }
}

/// Turns a knob of a setting by so many steps, from where it stands to its ends; words and flags go round.
pub fn turn_knob(setting: &mut Setting, knob: &Knob, by: i64) {
    let value = standing(setting, knob);
    let next = match &knob.range {
        Range::Integer {
            least,
            most,
            default,
        } => {
            let at = match value {
                KnobValue::Integer(v) => v,
                _ => *default,
            };
            KnobValue::Integer(at.saturating_add(by).clamp(*least, *most))
        }
        Range::Real {
            least,
            most,
            step,
            default,
        } => {
            let at = match value {
                KnobValue::Real(v) => v,
                KnobValue::Integer(v) => v as f64,
                _ => *default,
            };
            KnobValue::Real(stepped(at, by, *step).clamp(*least, *most))
        }
        Range::Choice { options, default } => {
            let at = match &value {
                KnobValue::Choice(word) => options.iter().position(|option| option == word),
                other => options
                    .iter()
                    .position(|option| *option == other.to_string()),
            }
            .or_else(|| options.iter().position(|option| option == default))
            .unwrap_or(0);
            let next = (at as i64 + by).rem_euclid(options.len().max(1) as i64) as usize;
            match options.get(next) {
                Some(word) => KnobValue::Choice(word.to_string()),
                None => return,
            }
        }
        Range::Flag { default } => {
            let at = match value {
                KnobValue::Flag(on) => on,
                _ => *default,
            };
            KnobValue::Flag(!at)
        }
        // What is typed is given on the command line, or in the study's file.
        Range::Numbers { .. } | Range::Text { .. } => return,
    };
    setting.0.insert(knob.id.to_string(), next);
}

/// The next multiple of the step in that direction, without the dust of binary fractions: 0.3 and not 0.30000000000000004.
fn stepped(at: f64, by: i64, step: f64) -> f64 {
    if !(step > 0.0 && at.is_finite()) {
        return at;
    }
    let steps = at / step;
    let near = (steps - steps.round()).abs() < 1e-6;
    let base = match (near, by > 0) {
        (true, _) => steps.round(),
        (false, true) => steps.floor(),
        (false, false) => steps.ceil(),
    };
    let next = (base + by as f64) * step;
    format!("{next:.10}").parse().unwrap_or(next)
}
