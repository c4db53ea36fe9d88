//! The same networks from several seeds: how much of a number is the seed's.
//!
//! References that differ in their seed alone are repetitions of one another, and so are their branches of the same name.
//! Seeds are then the units of doubt: the mean over k seeds with Student's interval, mean ± t(0.975, k - 1) s / √k, beside
//! which the intervals over images, which hold for one seed, say nothing about another. Student 1908,
//! doi:10.1093/biomet/6.1.1.

use super::{NetworkState, State};
use crate::measurement::{Measurement, Metric};
use crate::spec::{Reference, Role};

/// A number of the same network from several seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeated {
    /// What the network is called in the first of its studies.
    pub name: String,
    pub metric: Metric,
    pub condition: Option<String>,
    pub severity: Option<u8>,
    pub budget: Option<f64>,
    /// One number for each seed.
    pub values: Vec<f64>,
    /// How many examples each rests on, where that is the same for all.
    pub n: Option<u64>,
}

impl Repeated {
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// Of one seed to another, with k - 1 below.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares = self.values.iter().map(|value| (value - mean).powi(2));
        (squares.sum::<f64>() / (self.values.len() as f64 - 1.0)).sqrt()
    }

    /// The 95 % interval of the mean over seeds.
    pub fn interval(&self) -> (f64, f64) {
        let k = self.values.len();
        let half = student(k - 1) * self.deviation() / (k as f64).sqrt();
        (self.mean() - half, self.mean() + half)
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

/// References that differ in their seed alone, by number; those without another are left out.
fn repetitions(references: &[Reference]) -> Vec<Vec<u32>> {
    let plain = |reference: &Reference| Reference {
        seed: None,
        ..reference.clone()
    };
    let mut groups: Vec<(Reference, Vec<u32>)> = Vec::new();
    for (number, reference) in references.iter().enumerate() {
        let plain = plain(reference);
        match groups.iter_mut().find(|(known, _)| *known == plain) {
            Some((_, numbers)) => numbers.push(number as u32),
            None => groups.push((plain, vec![number as u32])),
        }
    }
    let groups = groups.into_iter().map(|(_, numbers)| numbers);
    groups.filter(|numbers| numbers.len() > 1).collect()
}

/// Accuracies that were measured of networks from several seeds, in the order of the first seed's.
pub fn repeated(state: &State) -> Vec<Repeated> {
    let Some(study) = &state.study else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for numbers in repetitions(&study.references) {
        let of = |reference: u32| {
            let own = state.networks.iter();
            own.filter(move |network| {
                network.plan.reference == reference
                    && matches!(network.plan.role, Role::Reference | Role::Branch)
            })
        };
        for (place, first) in of(numbers[0]).enumerate() {
            let same: Vec<&NetworkState> = numbers
                .iter()
                .filter_map(|number| of(*number).nth(place).map(|network| &**network))
                .collect();
            all.extend(of_network(first, &same));
        }
    }
    all
}

fn of_network(first: &NetworkState, same: &[&NetworkState]) -> Vec<Repeated> {
    let last = |found: &&Measurement| {
        let latest = first.measurements.within(
            found.metric,
            found.condition.as_deref(),
            found.severity,
            found.budget.map(|budget| budget.0),
        );
        found.metric == Metric::Accuracy && latest == Some(*found)
    };
    let found = first.measurements.iter().filter(last);
    let repeated = found.map(|found| {
        let budget = found.budget.map(|budget| budget.0);
        let of = |network: &&NetworkState| {
            let own = network.measurements.within(
                found.metric,
                found.condition.as_deref(),
                found.severity,
                budget,
            )?;
            Some((own.scalar()?, own.n))
        };
        let numbers: Vec<(f64, Option<u64>)> = same.iter().filter_map(of).collect();
        let is_common = numbers.iter().all(|(_, n)| *n == found.n);
        Repeated {
            name: first.plan.name.clone(),
            metric: found.metric,
            condition: found.condition.clone(),
            severity: found.severity,
            budget,
            n: found.n.filter(|_| is_common),
            values: numbers.into_iter().map(|(value, _)| value).collect(),
        }
    });
    repeated
        .filter(|repeated| repeated.values.len() > 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SciPy 1.17.1: `t.interval(0.95, 2, mean, sem)` of 0.91, 0.93, 0.92.
    #[test]
    fn the_interval_over_seeds_is_students() {
        let repeated = Repeated {
            name: "reference".to_owned(),
            metric: Metric::Accuracy,
            condition: None,
            severity: None,
            budget: None,
            values: vec![0.91, 0.93, 0.92],
            n: Some(1_000),
        };
        let (low, high) = repeated.interval();
        assert!((low - 0.895_158_62).abs() < 1e-7, "{low}");
        assert!((high - 0.944_841_38).abs() < 1e-7, "{high}");
        assert!((repeated.deviation() - 0.01).abs() < 1e-12);
        // The same of 0.91 and 0.93 with one degree of freedom.
        let two = Repeated {
            values: vec![0.91, 0.93],
            ..repeated
        };
        let (low, high) = two.interval();
        assert!((low - 0.792_937_953).abs() < 1e-6, "{low}");
        assert!((high - 1.047_062_047).abs() < 1e-6, "{high}");
        assert!((two.deviation() - 0.014_142_136).abs() < 1e-9);
    }

    #[test]
    fn references_are_repetitions_where_only_the_seed_differs() {
        let reference = |seed, twins| Reference {
            seed: Some(seed),
            twins,
            ..crate::spec::Study::default().references.remove(0)
        };
        let all = [
            reference(1, 0),
            reference(2, 1),
            reference(3, 0),
            reference(4, 0),
        ];
        assert_eq!(repetitions(&all), [[0, 2, 3]]);
    }
}
