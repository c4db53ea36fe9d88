//! The live knob: what came out at each setting, as strands of the chart and as a point of the map.

use super::comparison::{Difference, Estimate};
use super::landscape::Landscape;
use super::sweep::{Across, Quantity};
use super::{NetworkState, State};
use crate::event::{Trial, TrialHits};
use crate::measurement::{Metric, Score};
use crate::spec::{Method, STRENGTHS};

/// What came of one layer's losing a share of its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensed {
    pub ratio: f64,
    pub n: u64,
    /// Right answers without these weights, and with them.
    pub hits: u64,
    pub base: u64,
}

impl Sensed {
    /// The change of accuracy, as a share.
    pub fn change(&self) -> f64 {
        (self.hits as f64 - self.base as f64) / self.n.max(1) as f64
    }
}

/// One setting on a strand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spot {
    pub across: f64,
    pub found: Estimate,
}

/// What the knob traced of one method, from left to right.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub reference: u32,
    /// Without the knob that was turned.
    pub method: Method,
    pub spots: Vec<Spot>,
}

impl Trial {
    /// The id of the knob that was turned, and where it stood.
    pub fn strength(&self) -> Option<(&'static str, f64)> {
        STRENGTHS
            .into_iter()
            .find_map(|id| Some((id, self.method.setting.0.get(id)?.number()?)))
    }

    /// Accuracy and its difference from the reference's under a condition.
    pub fn accuracy(&self, hits: &TrialHits) -> (Estimate, Estimate, Difference) {
        (
            Estimate::of_hits(hits.reference, self.n),
            Estimate::of_hits(hits.own, self.n),
            Difference::paired(hits.reference, hits.own, hits.both, self.n),
        )
    }

    /// A size of the trial.
    pub fn size(&self, metric: Metric) -> Option<f64> {
        let found = self.sizes.iter().find(|(known, _)| *known == metric)?;
        Some(found.1.0).filter(|size| size.is_finite())
    }

    fn found(&self, quantity: &Quantity) -> Option<Estimate> {
        if quantity.metric == Metric::Accuracy {
            let same = |hits: &&TrialHits| {
                hits.condition == quantity.condition && hits.severity == quantity.severity
            };
            let hits = self.hits.iter().find(same)?;
            return Some(Estimate::of_hits(hits.own, self.n));
        }
        if quantity.condition.is_some() {
            return None;
        }
        if quantity.metric == Metric::Agreement {
            return Some(Estimate::of_hits(self.same, self.n));
        }
        Some(Estimate {
            value: self.size(quantity.metric)?,
            interval: None,
            n: None,
        })
    }

    /// Where it lies among the networks of a map, from its distances: where the squared errors of the distances in the
    /// plane are least, by steps down their slope from the network that is nearest. Two distances leave open on which
    /// side; with fewer it has no place.
    pub fn place(&self, landscape: &Landscape) -> Option<(f64, f64)> {
        /// More than enough for a dozen anchors.
        const STEPS: u32 = 200;
        let map = landscape.map("mds")?;
        let anchors: Vec<(f64, f64, f64)> = self
            .distances
            .iter()
            .filter_map(|(network, Score(distance))| {
                let points = map.points.iter().filter(|point| point.network == *network);
                let last = points.max_by_key(|point| point.epoch)?;
                let anchor = (last.x.0, last.y.0, *distance);
                let is_finite =
                    anchor.0.is_finite() && anchor.1.is_finite() && distance.is_finite();
                is_finite.then_some(anchor)
            })
            .collect();
        if anchors.len() < 2 {
            return None;
        }
        let nearest = anchors.iter().min_by(|a, b| a.2.total_cmp(&b.2))?;
        // A hair beside it, where the slope has a direction.
        let (mut x, mut y) = (nearest.0 + 1e-6, nearest.1 + 1e-6);
        let rate = 1.0 / anchors.len() as f64;
        for _ in 0..STEPS {
            let (mut dx, mut dy) = (0.0, 0.0);
            for (ax, ay, wanted) in &anchors {
                let apart = (x - ax).hypot(y - ay).max(1e-9);
                let pull = (wanted - apart) / apart;
                dx += pull * (x - ax);
                dy += pull * (y - ay);
            }
            x += rate * dx;
            y += rate * dy;
        }
        (x.is_finite() && y.is_finite()).then_some((x, y))
    }
}

impl State {
    /// The last setting of the knob for a reference.
    pub fn last_trial(&self, reference: u32) -> Option<&Trial> {
        let mut trials = self.trials.iter().rev();
        trials
            .find(|trial| trial.reference == reference)
            .map(|trial| &**trial)
    }

    /// What the knob traced, in the terms of a chart; where a setting was tried again, the last time counts.
    pub fn traces(&self, across: &Across, quantity: &Quantity) -> Vec<Trace> {
        let mut traces: Vec<Trace> = Vec::new();
        for trial in &self.trials {
            let Some((id, strength)) = trial.strength() else {
                continue;
            };
            let place = match across {
                Across::Knob(knob) if knob == id => Some(strength),
                Across::Knob(_) => None,
                Across::Size(metric) => trial.size(*metric),
            };
            let Some((across, found)) = place.zip(trial.found(quantity)) else {
                continue;
            };
            let mut method = trial.method.clone();
            method.setting.0.remove(id);
            let spot = Spot { across, found };
            let same =
                |trace: &&mut Trace| (trace.reference, &trace.method) == (trial.reference, &method);
            match traces.iter_mut().find(same) {
                Some(trace) => {
                    trace.spots.retain(|known| known.across != across);
                    trace.spots.push(spot);
                }
                None => traces.push(Trace {
                    reference: trial.reference,
                    method,
                    spots: vec![spot],
                }),
            }
        }
        for trace in &mut traces {
            trace.spots.sort_by(|a, b| a.across.total_cmp(&b.across));
        }
        traces
    }

    /// The reference of that number.
    pub fn reference(&self, number: u32) -> Option<&NetworkState> {
        let mut all = self.networks.iter();
        all.find(|network| {
            network.plan.reference == number && network.plan.against == network.plan.id
        })
        .map(|network| &**network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::session::{codec, sample};
    use crate::spec::NetworkId;

    fn turned() -> State {
        let mut events = sample::story();
        for (ratio, accuracy) in [("0.5", 0.94), ("0.9", 0.6), ("0.7", 0.9), ("0.5", 0.945)] {
            events.push(Event::Tried(sample::trial(ratio, accuracy)));
        }
        State::fold(&sample::records(events))
    }

    #[test]
    fn the_settings_make_a_curve_and_the_last_counts() {
        let state = turned();
        assert_eq!(state.oddities, []);
        assert!(!state.is_running(), "the study has ended and stays so");
        let clean = Quantity {
            metric: Metric::Accuracy,
            condition: None,
            severity: None,
        };
        let ratio = Across::Knob("ratio".to_owned());
        let traces = state.traces(&ratio, &clean);
        let spots: Vec<(f64, f64)> = traces[0]
            .spots
            .iter()
            .map(|spot| (spot.across, spot.found.value))
            .collect();
        assert_eq!(
            (traces.len(), spots),
            (1, vec![(0.5, 0.945), (0.7, 0.9), (0.9, 0.6)])
        );
        let nonzero = Across::Size(Metric::Nonzero);
        assert_eq!(state.traces(&nonzero, &clean)[0].spots.len(), 1);
        assert_eq!(state.traces(&Across::Knob("bits".to_owned()), &clean), []);
        let agreement = Quantity {
            metric: Metric::Agreement,
            ..clean
        };
        assert_eq!(
            state.traces(&ratio, &agreement)[0].spots[0].found.value,
            0.942
        );
    }

    /// Of the corners of a right triangle with legs 3 and 4, by hand: 3, 4 and 5 away lies the fourth of a rectangle.
    #[test]
    fn a_setting_lies_where_its_distances_meet() {
        let mut state = turned();
        let landscape = state.landscapes.get_mut(&0).unwrap();
        let points = [(0, 0.0, 0.0), (1, 3.0, 0.0), (2, 0.0, 4.0)];
        let points: Vec<crate::measurement::MapPoint> = points
            .into_iter()
            .map(|(network, x, y)| crate::measurement::MapPoint {
                network: NetworkId(network),
                epoch: 9,
                x: Score(x),
                y: Score(y),
            })
            .collect();
        landscape.draw(0, "mds", &points);
        let mut trial = sample::trial("0.5", 0.9);
        trial.distances = vec![
            (NetworkId(0), Score(5.0)),
            (NetworkId(1), Score(4.0)),
            (NetworkId(2), Score(3.0)),
        ];
        let (x, y) = trial.place(landscape).unwrap();
        assert!((x - 3.0).abs() < 1e-3 && (y - 4.0).abs() < 1e-3, "{x} {y}");
        trial.distances.truncate(1);
        assert_eq!(trial.place(landscape), None);
    }

    /// Six conditions, six distances, a knob of every kind turned, and the longest names.
    #[test]
    fn a_record_of_the_knob_takes_at_most_a_kilobyte() {
        let mut trial = sample::trial("0.65", 0.91);
        for knob in 0..8 {
            let id = format!("calibration-images-{knob}");
            let value = crate::spec::KnobValue::Choice("moving-average".to_owned());
            trial.method.setting.0.insert(id, value);
        }
        trial.hits = vec![
            TrialHits {
                condition: Some("gaussian-noise-and-more".to_owned()),
                severity: Some(5),
                own: 1_000,
                reference: 1_000,
                both: 1_000,
            };
            6
        ];
        trial.sizes = [Metric::LatencyMsP50; 6]
            .map(|metric| (metric, Score(123_456_789_012.0)))
            .to_vec();
        trial.distances = vec![(NetworkId(10_000), Score(0.1234)); 6];
        let record = crate::event::Record {
            seq: 1,
            at: 100_000_000,
            event: Event::Tried(trial),
        };
        let line = codec::line(&record);
        assert!(line.len() < 1024, "{} bytes: {line}", line.len());
        assert_eq!(
            codec::decode(line.as_bytes(), 1),
            codec::Decoded::Record {
                record,
                problem: None,
                newer: None
            }
        );
    }

    /// Of 1,000 images the reference has 950, the trial 910, both 905: as the formula of paired shares has it.
    #[test]
    fn a_difference_is_of_the_same_images() {
        let trial = sample::trial("0.65", 0.91);
        let (reference, own, difference) = trial.accuracy(&trial.hits[0]);
        assert_eq!((reference.value, own.value), (0.95, 0.91));
        let margin = difference.margin().unwrap();
        let apart = Difference::paired(950, 910, 865, 1_000).margin().unwrap();
        assert!(margin < apart, "{margin} {apart}");
    }
}
