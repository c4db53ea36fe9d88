//! Sweeps: what a number becomes as networks are compressed harder, one strand per method.
//!
//! Branches that differ in one knob alone lie on one strand. Nothing is fitted or smoothed: a strand is its points.

use std::sync::Arc;

use super::comparison::Estimate;
use super::{NetworkState, State};
use crate::measurement::{Measurement, Metric, Unit};
use crate::spec::{Branch, NetworkId, Role};

/// What a chart is drawn against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Across {
    /// A knob of the compression: `ratio`, `bits`.
    Knob(String),
    /// A size that was measured.
    Size(Metric),
}

/// What a chart draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    pub metric: Metric,
    /// A corruption's id, or `batch-1` for a latency.
    pub condition: Option<String>,
    pub severity: Option<u8>,
}

/// One network of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    pub network: NetworkId,
    /// Its place from left to right.
    pub across: f64,
    pub found: Estimate,
    /// 100 · (A_c / A_b - 1): per cent by which it lies above its reference.
    pub deviation: Option<f64>,
}

/// The networks of one method, from left to right.
#[derive(Clone, Debug, PartialEq)]
pub struct Strand {
    /// What they have in common; its label is the strand's.
    pub method: Branch,
    /// Which reference of the study they belong to.
    pub reference: u32,
    pub marks: Vec<Mark>,
}

/// A reference beside the strands: the level from which they depart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Base {
    pub network: NetworkId,
    pub reference: u32,
    /// Nothing where it has no place from left to right: it has no such knob.
    pub across: Option<f64>,
    pub found: Estimate,
}

/// A chart: everything that is known of one quantity against one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    pub across: Across,
    pub across_unit: Unit,
    pub quantity: Quantity,
    pub unit: Unit,
    pub strands: Vec<Strand>,
    pub bases: Vec<Base>,
}

/// Whether a knob says anything of a network: the ratio of a student of another architecture does not.
fn counts(network: &NetworkState, id: &str) -> bool {
    let mut done = network.compressions.iter();
    id != "ratio" || network.compressions.is_empty() || done.any(|done| done.asked.is_some())
}

/// Per cent by which a value lies above another's: 100 · (A_c / A_b - 1).
pub fn deviation(candidate: f64, reference: f64) -> Option<f64> {
    let percent = 100.0 * (candidate / reference - 1.0);
    (reference != 0.0 && percent.is_finite()).then_some(percent)
}

impl Sweep {
    /// The chart of the branches that have both; of unmeasured ones it says nothing.
    pub fn of(state: &State, across: &Across, quantity: &Quantity) -> Self {
        let mut strands: Vec<Strand> = Vec::new();
        let mut bases: Vec<Base> = Vec::new();
        let mut unit = Unit::None;
        for network in &state.networks {
            let Some(found) = estimate(network, quantity) else {
                continue;
            };
            unit = latest(network, quantity).map_or(unit, |found| found.unit);
            let size = match across {
                Across::Size(metric) => number(network, *metric),
                Across::Knob(_) => None,
            };
            if network.plan.role == Role::Reference {
                bases.push(Base {
                    network: network.plan.id,
                    reference: network.plan.reference,
                    across: size,
                    found,
                });
            }
            let Some(branch) = state.branch(network.plan.id) else {
                continue;
            };
            let (place, method) = match across {
                Across::Knob(id) => {
                    let place = branch.number(id).filter(|_| counts(network, id));
                    (place, branch.without(id))
                }
                Across::Size(_) => {
                    let strength = branch.strength().unwrap_or_default();
                    (size, branch.without(strength))
                }
            };
            let Some(across) = place.filter(|place| place.is_finite()) else {
                continue;
            };
            let base = state
                .network(network.plan.against)
                .and_then(|base| estimate(base, quantity));
            let mark = Mark {
                network: network.plan.id,
                across,
                found,
                deviation: base.and_then(|base| deviation(found.value, base.value)),
            };
            let reference = network.plan.reference;
            let same =
                |strand: &&mut Strand| (strand.reference, &strand.method) == (reference, &method);
            match strands.iter_mut().find(same) {
                Some(strand) => strand.marks.push(mark),
                None => strands.push(Strand {
                    method,
                    reference,
                    marks: vec![mark],
                }),
            }
        }
        for strand in &mut strands {
            strand.marks.sort_by(|a, b| a.across.total_cmp(&b.across));
        }
        bases.retain(|base| {
            strands
                .iter()
                .any(|strand| strand.reference == base.reference)
        });
        let across_unit = match across {
            Across::Knob(_) => Unit::None,
            Across::Size(metric) => {
                let found = |network: &Arc<NetworkState>| {
                    let found = network.measurements.latest(*metric, None, None);
                    found.map(|found| found.unit)
                };
                state.networks.iter().find_map(found).unwrap_or(Unit::None)
            }
        };
        Self {
            across: across.clone(),
            across_unit,
            quantity: quantity.clone(),
            unit,
            strands,
            bases,
        }
    }

    /// Whether some method was tried at more than one place.
    pub fn is_swept(&self) -> bool {
        self.strands.iter().any(Strand::is_swept)
    }
}

impl Strand {
    /// Whether it has more than one place.
    pub fn is_swept(&self) -> bool {
        let first = self.marks.first().map(|mark| mark.across);
        self.marks.iter().any(|mark| Some(mark.across) != first)
    }
}

/// Everything that a chart can be drawn against: the knobs that say how strongly a method compresses, other knobs that
/// differ between branches, and the sizes that were measured.
pub fn acrosses(state: &State) -> Vec<Across> {
    let branches: Vec<&Branch> = state
        .branches()
        .filter_map(|network| state.branch(network.plan.id))
        .collect();
    let mut knobs: Vec<&str> = Vec::new();
    let mut others: Vec<&str> = Vec::new();
    for branch in &branches {
        if let Some(id) = branch.strength()
            && !knobs.contains(&id)
        {
            knobs.push(id);
        }
        for id in branch.numbers() {
            let differs = || {
                branches.iter().any(|other| {
                    other.without(id) == branch.without(id)
                        && other
                            .number(id)
                            .is_some_and(|n| branch.number(id) != Some(n))
                })
            };
            if !others.contains(&id) && differs() {
                others.push(id);
            }
        }
    }
    let turned = state.trials.iter().filter_map(|trial| trial.strength());
    for (id, _) in turned {
        if !knobs.contains(&id) {
            knobs.push(id);
        }
    }
    // Ratio comes before bits, whichever method came first.
    knobs.sort_by_key(|id| *id != "ratio");
    let others = others.into_iter().filter(|id| !knobs.contains(id));
    let mut all: Vec<Across> = knobs
        .iter()
        .copied()
        .chain(others)
        .map(|id| Across::Knob(id.to_owned()))
        .collect();
    let is_size = |metric: Metric| {
        state.networks.iter().any(|network| {
            let found = network.measurements.latest(metric, None, None);
            found.is_some_and(|found| {
                let is_share = found.probe == "footprint" && found.unit == Unit::Fraction;
                is_share || matches!(found.unit, Unit::Count | Unit::Bytes)
            })
        })
    };
    all.extend(
        Metric::ALL
            .into_iter()
            .filter(|metric| is_size(*metric))
            .map(Across::Size),
    );
    all
}

/// Everything that a chart can draw, corruptions at one severity: what was measured of any branch or reference.
pub fn quantities(state: &State, severity: u8) -> Vec<Quantity> {
    let mut all: Vec<Quantity> = Vec::new();
    for metric in Metric::ALL {
        // The ends of an interval are drawn as such, and an error is one less the accuracy.
        if matches!(
            metric,
            Metric::LatencyMsP10
                | Metric::LatencyMsP90
                | Metric::Error
                // Of the images, not of a network.
                | Metric::MeanAbsoluteChange
                | Metric::Psnr
        ) {
            continue;
        }
        for network in &state.networks {
            if network.plan.role != Role::Branch && network.plan.role != Role::Reference {
                continue;
            }
            for found in network.measurements.iter() {
                let is_error = metric == Metric::Accuracy && found.metric == Metric::Error;
                let wanted = (found.metric == metric || is_error) && found.scalar().is_some();
                // A budget's curve is a chart of its own, and a pair of networks belongs to none of them.
                let is_of_attack = found.budget.is_some();
                if !wanted || is_of_attack || found.severity.is_some_and(|own| own != severity) {
                    continue;
                }
                let quantity = Quantity {
                    metric,
                    condition: found.condition.clone(),
                    severity: found.severity,
                };
                if !all.contains(&quantity) {
                    all.push(quantity);
                }
            }
        }
    }
    all
}

/// The chart to begin with: accuracy on clean images against the first axis.
pub fn usual(state: &State) -> Option<(Across, Quantity)> {
    let across = acrosses(state).into_iter().next()?;
    let quantity = Quantity {
        metric: Metric::Accuracy,
        condition: None,
        severity: None,
    };
    Some((across, quantity))
}

fn latest<'a>(network: &'a NetworkState, quantity: &Quantity) -> Option<&'a Measurement> {
    let condition = quantity.condition.as_deref();
    let of = |metric| {
        network
            .measurements
            .latest(metric, condition, quantity.severity)
    };
    let found = of(quantity.metric);
    if quantity.metric == Metric::Accuracy {
        // An accuracy may have been stated as an error.
        return found.or_else(|| of(Metric::Error));
    }
    found
}

/// A quantity with its interval; that of a latency is from the tenth to the ninetieth percentile.
fn estimate(network: &NetworkState, quantity: &Quantity) -> Option<Estimate> {
    let found = latest(network, quantity)?;
    if quantity.metric == Metric::Accuracy {
        return Estimate::accuracy(found);
    }
    let value = found.scalar().filter(|value| value.is_finite())?;
    let of = |metric| {
        let condition = quantity.condition.as_deref();
        network
            .measurements
            .latest(metric, condition, None)
            .and_then(Measurement::scalar)
            .filter(|value| value.is_finite())
    };
    let interval = if quantity.metric == Metric::LatencyMsP50 {
        of(Metric::LatencyMsP10).zip(of(Metric::LatencyMsP90))
    } else {
        found
            .interval
            .map(|(low, high)| (low.0, high.0))
            .filter(|(low, high)| low.is_finite() && high.is_finite())
    };
    Some(Estimate {
        value,
        interval,
        n: found.n,
    })
}

fn number(network: &NetworkState, metric: Metric) -> Option<f64> {
    network
        .measurements
        .latest(metric, None, None)
        .and_then(Measurement::scalar)
}

impl State {
    /// What was asked of a branch.
    pub fn branch(&self, id: NetworkId) -> Option<&Branch> {
        let own = self.network(id)?;
        if own.plan.role != Role::Branch {
            return None;
        }
        let reference = own.plan.reference;
        let place = self
            .branches()
            .filter(|network| network.plan.reference == reference)
            .position(|network| network.plan.id == id)?;
        let asked = self.study.as_ref()?.references.get(reference as usize)?;
        asked.branches.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sample;

    /// O-06: document 003's tables with 67.37 and 99.15 for their bases.
    #[test]
    fn the_relative_deviation_is_that_of_the_tables() {
        for (base, percent, expected) in [(67.37, -85.30, 9.903), (99.15, -22.55, 76.79)] {
            let candidate: f64 = base * (1.0 + percent / 100.0);
            assert!((candidate - expected).abs() < 0.005, "{candidate}");
            let back = deviation(candidate, base).unwrap();
            assert!((back - percent).abs() < 1e-9, "{back}");
        }
        assert_eq!(deviation(0.5, 0.0), None);
        assert_eq!(deviation(f64::NAN, 1.0), None);
    }

    fn quantity(metric: Metric) -> Quantity {
        Quantity {
            metric,
            condition: None,
            severity: None,
        }
    }

    fn swept() -> State {
        State::fold(&sample::records(sample::swept()))
    }

    #[test]
    fn branches_that_differ_in_one_knob_lie_on_one_strand() {
        let state = swept();
        let ratio = Across::Knob("ratio".to_owned());
        let sweep = Sweep::of(&state, &ratio, &quantity(Metric::Accuracy));
        let places: Vec<Vec<(f64, f64)>> = sweep
            .strands
            .iter()
            .map(|strand| {
                strand
                    .marks
                    .iter()
                    .map(|m| (m.across, m.found.value))
                    .collect()
            })
            .collect();
        assert_eq!(places, [vec![(0.5, 0.9), (0.9, 0.5)], vec![(0.5, 0.8)]]);
        assert!(sweep.is_swept());
        assert_eq!((sweep.bases.len(), sweep.bases[0].across), (1, None));
        let base = sweep.bases[0].found.value;
        let expected = 100.0 * (0.9 / base - 1.0);
        assert_eq!(sweep.strands[0].marks[0].deviation, Some(expected));

        let bytes = Across::Size(Metric::Bytes);
        let sweep = Sweep::of(&state, &bytes, &quantity(Metric::Accuracy));
        let lengths: Vec<usize> = sweep.strands.iter().map(|s| s.marks.len()).collect();
        assert_eq!(lengths, [2, 1, 1]);
        assert_eq!(sweep.strands[0].marks[0].across, 100.0);
        assert!(sweep.bases[0].across.is_some());
    }

    #[test]
    fn axes_are_the_knobs_that_matter_and_the_sizes() {
        let state = swept();
        let knob = |id: &str| Across::Knob(id.to_owned());
        let found = acrosses(&state);
        assert_eq!(found[..2], [knob("ratio"), knob("bits")]);
        assert!(found.contains(&Across::Size(Metric::Bytes)), "{found:?}");
        assert!(!found.contains(&knob("images")), "512 everywhere");
        let names: Vec<Metric> = quantities(&state, 2).iter().map(|q| q.metric).collect();
        assert_eq!(names[0], Metric::Accuracy);
        assert!(!names.contains(&Metric::Error));
    }

    #[test]
    fn a_study_without_measurements_has_no_strands() {
        let state = State::fold(&sample::records(sample::story()[..1].to_vec()));
        let sweep = Sweep::of(
            &state,
            &Across::Knob("ratio".to_owned()),
            &quantity(Metric::Accuracy),
        );
        assert!(sweep.strands.is_empty() && sweep.bases.is_empty() && !sweep.is_swept());
        assert_eq!(State::default().branch(NetworkId(0)), None);
    }
}
