//! The same networks from several seeds: how much of a number, and of a difference, is the seed's.
//!
//! References that differ in their seed alone are repetitions of one another, and so are their branches of the same place.
//! Seeds are then a second level of doubt, above images. A mean over k seeds moves with other seeds by Student's
//! t(0.975, k - 1) s / √k (Student 1908, doi:10.1093/biomet/6.1.1). With other images it moves by no more than the mean of
//! the seeds' own arms, Wilson's for an accuracy and Newcombe's for pairs for a difference: all seeds are asked of the same
//! images, and however their answers go together, the standard deviation of a mean is at most the mean of the standard
//! deviations. The two are independent, so that an arm of the interval over both is the root of the sum of their squares. A
//! difference is taken within each seed first, of a branch and its own reference, so that what a seed does to both falls out.
//! Deviation: no bootstrap of seeds and images, since a session holds counts and not every answer, and of three seeds a
//! bootstrap has ten samples.

use super::comparison::{ACCURACIES, AccuracyRow, Comparison, Difference, Estimate};
use super::{NetworkState, State};
use crate::spec::{NetworkId, Role};

/// One number for each seed, two or more.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    values: Vec<f64>,
    /// How far the intervals over images go below and above, on average; nowhere without intervals.
    images: [f64; 2],
}

/// A number with its interval over images.
type Bounded = (f64, Option<(f64, f64)>);

impl Sample {
    /// Nothing where fewer than two seeds have it.
    fn of(found: &[Bounded]) -> Option<Self> {
        let values: Vec<f64> = found.iter().map(|(value, _)| *value).collect();
        let arms = found.iter().map(|(value, ends)| {
            let (low, high) = ends.unwrap_or((*value, *value));
            [value - low, high - value]
        });
        let sum = arms.fold([0.0, 0.0], |[a, b], [c, d]| [a + c, b + d]);
        let images = sum.map(|arm| arm / values.len().max(1) as f64);
        (values.len() > 1).then_some(Self { values, images })
    }

    /// How many seeds.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// Of one seed to another, with k - 1 below.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares = self.values.iter().map(|value| (value - mean).powi(2));
        (squares.sum::<f64>() / (self.values.len() as f64 - 1.0)).sqrt()
    }

    /// How far the mean moves with other seeds on the same images, to either side, in 95 of 100 cases.
    fn of_seeds(&self) -> f64 {
        let k = self.count();
        student(k - 1) * self.deviation() / (k as f64).sqrt()
    }

    /// The 95 % interval of the mean over seeds and images.
    pub fn interval(&self) -> (f64, f64) {
        let [below, above] = self.images.map(|arm| self.of_seeds().hypot(arm));
        (self.mean() - below, self.mean() + above)
    }

    /// As a share, whose interval ends where shares do: of two seeds it is wide enough to leave them.
    fn share(&self, n: Option<u64>) -> Estimate {
        let (low, high) = self.interval();
        Estimate {
            value: self.mean(),
            interval: Some((low.max(0.0), high.min(1.0))),
            n,
        }
    }
}

/// Student's 97.5 % point. SciPy 1.17.1: `scipy.stats.t.ppf(0.975, df)`; beyond the table that of the normal
/// distribution, which is 2 % too small at 31.
fn student(freedom: usize) -> f64 {
    const POINTS: [f64; 30] = [
        12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004,
        2.262_157, 2.228_139, 2.200_985, 2.178_813, 2.160_369, 2.144_787, 2.131_45, 2.119_905,
        2.109_816, 2.100_922, 2.093_024, 2.085_963, 2.079_614, 2.073_873, 2.068_658, 2.063_899,
        2.059_539, 2.055_529, 2.051_831, 2.048_407, 2.045_23, 2.042_272,
    ];
    freedom
        .checked_sub(1)
        .and_then(|at| POINTS.get(at).copied())
        .unwrap_or(crate::measurement::Z_95)
}

/// A network as it came out from several seeds.
#[derive(Clone, Debug)]
pub struct Repeated {
    /// The network of the first seed.
    pub first: NetworkId,
    /// What it is called in every repetition.
    pub name: String,
    pub rows: Vec<Row>,
}

/// Accuracy under one condition from several seeds.
#[derive(Clone, Debug)]
pub struct Row {
    /// As the shown seed has it, which names the condition.
    shown: AccuracyRow,
    /// The accuracies of those seeds that have one.
    pub accuracy: Option<Sample>,
    /// The same of the references.
    reference: Option<Sample>,
    /// Less the reference of the same seed.
    pub difference: Option<Sample>,
    /// How many examples each rests on, where that is the same for all.
    pub n: Option<u64>,
}

impl Row {
    /// Under what it was measured.
    pub fn condition(&self) -> &AccuracyRow {
        &self.shown
    }

    /// As a row whose intervals are over seeds. A test over images has no place in it.
    fn over_seeds(&self) -> AccuracyRow {
        let share = |sample: &Option<Sample>| sample.as_ref().map(|sample| sample.share(self.n));
        AccuracyRow {
            reference: share(&self.reference),
            candidate: share(&self.accuracy),
            difference: self.difference.as_ref().map(|sample| Difference {
                value: sample.mean(),
                interval: Some(sample.interval()),
            }),
            bootstrap: None,
            p: None,
            adjusted: None,
            ..self.shown.clone()
        }
    }
}

/// The networks that repeat one another with other seeds, the given one among them: references, twins of the same place and
/// equal branches of references that differ in their seed. Nothing where it is the only one.
fn siblings(state: &State, id: NetworkId) -> Option<Vec<&NetworkState>> {
    let (plan, study) = (&state.network(id)?.plan, state.study.as_ref()?);
    let groups = study.repetitions();
    let group = groups.iter().find(|group| group.contains(&plan.reference));
    let alike = |reference: u32| {
        let all = state.networks.iter().map(|network| &**network);
        all.filter(move |network| {
            network.plan.reference == reference && network.plan.role == plan.role
        })
    };
    let branches = |reference: u32| &study.references[reference as usize].branches;
    let own = alike(plan.reference).position(|network| network.plan.id == id)?;
    let place = |reference: u32| match plan.role {
        // Users add branches to one reference alone.
        Role::Branch => {
            let asked = branches(plan.reference).get(own)?;
            branches(reference)
                .iter()
                .position(|branch| branch == asked)
        }
        Role::Reference | Role::Twin | Role::SameStartTwin => Some(own),
    };
    let all: Vec<&NetworkState> = group?
        .iter()
        .filter_map(|reference| alike(*reference).nth(place(*reference)?))
        .collect();
    (all.len() > 1).then_some(all)
}

/// Accuracies of a network from several seeds, under every condition that two of them have.
fn rows(state: &State, id: NetworkId) -> Option<Vec<Row>> {
    let siblings = siblings(state, id)?;
    let all: Vec<Comparison> = siblings
        .iter()
        .filter_map(|network| Comparison::of(state, network.plan.id))
        .collect();
    let shown = all.iter().find(|found| found.candidate == id)?;
    let is_alone = shown.candidate == shown.reference;
    let rows = shown.accuracies.iter().map(|row| {
        let same: Vec<&AccuracyRow> = all.iter().filter_map(|found| found.like(row)).collect();
        let of = |share: &dyn Fn(&AccuracyRow) -> Option<Bounded>| {
            let found: Vec<Bounded> = same.iter().filter_map(|row| share(row)).collect();
            Sample::of(&found)
        };
        let bounded = |found: Estimate| (found.value, found.interval);
        let mut counts = same.iter().filter_map(|row| row.candidate?.n);
        let n = row.candidate.and_then(|found| found.n);
        Row {
            shown: row.clone(),
            accuracy: of(&|row| row.candidate.map(bounded)),
            // Of the seeds that have both.
            reference: of(&|row| row.candidate.and(row.reference).map(bounded)),
            difference: of(&|row| row.difference.map(|found| (found.value, found.interval)))
                .filter(|_| !is_alone),
            n: n.filter(|n| counts.all(|count| count == *n)),
        }
    });
    let rows: Vec<Row> = rows.filter(|row| row.accuracy.is_some()).collect();
    (!rows.is_empty()).then_some(rows)
}

/// A network beside its reference as [`Comparison::of`] has it, but every accuracy and difference is the mean over seeds
/// with its interval over seeds and images; how many seeds there are goes with it. Nothing where fewer than two were measured.
pub fn over_seeds(state: &State, id: NetworkId) -> Option<(Comparison, usize)> {
    let rows = rows(state, id)?;
    let comparison = Comparison {
        accuracies: rows.iter().map(Row::over_seeds).collect(),
        ..Comparison::of(state, id)?
    };
    Some((comparison, measured(state, id)))
}

/// From how many seeds a network has accuracies.
pub fn measured(state: &State, id: NetworkId) -> usize {
    let all = siblings(state, id).unwrap_or_default();
    let has_any = |network: &&&NetworkState| {
        let mut found = network.measurements.iter();
        found.any(|found| ACCURACIES.contains(&found.metric))
    };
    all.iter().filter(has_any).count()
}

/// The first of those that repeat one another, which stands for all where their means are shown; itself where it is alone.
pub fn first_of(state: &State, id: NetworkId) -> NetworkId {
    let all = siblings(state, id).unwrap_or_default();
    all.first().map_or(id, |first| first.plan.id)
}

/// Every network that was made from several seeds, in the order of the first seed's.
pub fn repeated(state: &State) -> Vec<Repeated> {
    let Some(study) = &state.study else {
        return Vec::new();
    };
    let is_shown = |network: &&NetworkState| {
        let is_first = study
            .repetitions()
            .iter()
            .any(|group| group[0] == network.plan.reference);
        is_first && matches!(network.plan.role, Role::Reference | Role::Branch)
    };
    let all = state.networks.iter().map(|network| &**network);
    let repeated = all.filter(is_shown).filter_map(|network| {
        Some(Repeated {
            first: network.plan.id,
            name: study.name_over_seeds(&network.plan),
            rows: rows(state, network.plan.id)?,
        })
    });
    repeated.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Record};
    use crate::measurement::{Measurement, Metric};
    use crate::session::sample;

    /// SciPy 1.17.1: `t.interval(0.95, 2, mean, sem)` of 0.91, 0.93, 0.92.
    #[test]
    fn the_interval_over_seeds_is_students() {
        let bare = |values: &[f64]| {
            let found: Vec<Bounded> = values.iter().map(|value| (*value, None)).collect();
            Sample::of(&found)
        };
        let sample = bare(&[0.91, 0.93, 0.92]).unwrap();
        let (low, high) = sample.interval();
        assert!((low - 0.895_158_62).abs() < 1e-7, "{low}");
        assert!((high - 0.944_841_38).abs() < 1e-7, "{high}");
        assert!((sample.deviation() - 0.01).abs() < 1e-12);
        // The same of 0.91 and 0.93 with one degree of freedom.
        let two = bare(&[0.91, 0.93]).unwrap();
        let (low, high) = two.interval();
        assert!((low - 0.792_937_953).abs() < 1e-6, "{low}");
        assert!((high - 1.047_062_047).abs() < 1e-6, "{high}");
        assert!((two.deviation() - 0.014_142_136).abs() < 1e-9);
        assert_eq!(two.share(None).interval.unwrap().1, 1.0);
        assert_eq!(bare(&[0.91]), None);
    }

    /// Three seeds alike have no deviation: what is left is the doubt over images, and of others both, as two sides of a
    /// right angle. statsmodels 0.15.0: `proportion_confint(960, 1000, method="wilson")` is 0.945990 to 0.970489.
    #[test]
    fn seeds_that_agree_do_not_undo_the_doubt_over_images() {
        let one = Estimate::of_hits(960, 1_000);
        let alike = Sample::of(&[(one.value, one.interval); 3]).unwrap();
        let (low, high) = alike.interval();
        assert!((low - 0.945_990_36).abs() < 1e-6 && (high - 0.970_489_03).abs() < 1e-6);
        let other = Sample::of(&[(0.95, Some((0.93, 0.96))), (0.97, Some((0.95, 0.99)))]).unwrap();
        let (low, high) = other.interval();
        let half = 12.706_205 * 0.014_142_136 / 2.0_f64.sqrt();
        assert!((0.96 - low - half.hypot(0.02)).abs() < 1e-6, "{low}");
        assert!((high - 0.96 - half.hypot(0.015)).abs() < 1e-6, "{high}");
    }

    /// Three seeds of the sample's reference and branch: 0.91, 0.93, 0.92 and 0.90, 0.90, 0.91.
    fn state() -> State {
        let mut story = sample::story();
        let Some(Event::StudyStarted { study, networks }) = story.first_mut() else {
            panic!("a story begins with its study");
        };
        let (reference, branch) = (networks[0].clone(), networks[2].clone());
        networks.truncate(0);
        let mut found = Vec::new();
        for (number, (own, changed)) in [(0.91, 0.90), (0.93, 0.90), (0.92, 0.91)]
            .into_iter()
            .enumerate()
        {
            if number > 0 {
                let mut again = study.references[0].clone();
                again.seed = Some(100 + number as u64);
                study.references.push(again);
            }
            let against = NetworkId(2 * number as u32);
            for (at, (plan, value)) in [(&reference, own), (&branch, changed)]
                .into_iter()
                .enumerate()
            {
                let mut plan = plan.clone();
                plan.id = NetworkId(against.0 + at as u32);
                (plan.against, plan.reference) = (against, number as u32);
                let one = sample::scalar(plan.id, 0, Metric::Accuracy, value);
                networks.push(plan);
                found.push(Event::Measured(Measurement {
                    n: Some(1_000),
                    ..one
                }));
            }
        }
        story.truncate(1);
        story.extend(found);
        let records: Vec<Record> = sample::records(story);
        State::fold(&records)
    }

    /// SciPy 1.17.1: `t.interval(0.95, 2, mean, sem)` of -0.01, -0.03, -0.01 is -0.04535 to 0.01202; of 0.90, 0.90, 0.91
    /// it is 0.88899 to 0.91768.
    #[test]
    fn differences_are_taken_within_each_seed() {
        let state = state();
        for id in [1, 3, 5] {
            let (found, seeds) = over_seeds(&state, NetworkId(id)).unwrap();
            assert_eq!((seeds, found.candidate), (3, NetworkId(id)));
            let row = found.clean().unwrap();
            let (low, high) = row.candidate.unwrap().interval.unwrap();
            assert!((low - 0.888_991_16).abs() < 1e-6 && (high - 0.917_675_51).abs() < 1e-6);
            assert!((row.reference.unwrap().value - 0.92).abs() < 1e-12);
            let (low, high) = row.difference.unwrap().interval.unwrap();
            assert!((low + 0.045_351_02).abs() < 1e-6, "{low}");
            assert!((high - 0.012_017_69).abs() < 1e-6, "{high}");
            assert_eq!(row.is_within_noise(), Some(true));
        }
        let mut done = state.clone();
        for network in &mut done.networks {
            std::sync::Arc::make_mut(network).status = crate::state::Status::Done;
        }
        assert_eq!(
            crate::state::closing_sentences(&done),
            ["magnitude pruning 50 % + 1 epoch over 3 seeds: -1.7 ±2.9 points (n = 1000)"]
        );
        // A branch that was added to one of them repeats nothing, and undoes nothing.
        let mut study = state.study.clone().unwrap();
        let mut added = study.references[1].branches[0].clone();
        added.name = "added".to_owned();
        study.references[1].branches.push(added);
        let more = State {
            study: Some(study),
            ..state.clone()
        };
        assert_eq!(over_seeds(&more, NetworkId(3)).unwrap().1, 3);
        let all = repeated(&state);
        let names: Vec<&str> = all.iter().map(|found| &*found.name).collect();
        assert_eq!(names, ["reference", "magnitude pruning 50 %"]);
        assert!(all[0].rows[0].difference.is_none() && all[1].rows[0].difference.is_some());
    }

    #[test]
    fn one_seed_has_no_mean() {
        let state = State::fold(&sample::records(sample::story()));
        assert!(over_seeds(&state, NetworkId(2)).is_none());
        assert!(repeated(&state).is_empty());
    }
}
