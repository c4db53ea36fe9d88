//! What the log says so far: a pure fold over records, the same for a live run and for a replay.
//!
//! [`State::apply`] reads no clock and no file and cannot fail. Records that contradict each other are collected as
//! [`Oddity`]s. Cloning is cheap: what has not changed since is shared.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{DataFacts, Outcome, Picture, Record, Trial, Warning};
use crate::spec::{NetworkId, Role, Study};

mod apply;
mod chunks;
pub mod comparison;
pub mod knob;
mod landscape;
mod measurements;
mod network;
mod pace;
mod remaining;
pub mod seeds;
pub mod series;
mod summary;
pub mod suspicion;
pub mod sweep;
pub mod timeline;
pub mod transfer;
mod wording;

pub use comparison::{Comparison, closing_sentence, closing_sentences};
pub use knob::Sensed;
pub use landscape::{Landscape, Map, NOBODY, Nearness, Point};
pub use measurements::Measurements;
pub use network::{Compressed, Epoch, NetworkState, StageState, Status};
pub use pace::Pace;
pub use series::{Block, Series, Smoothing};
pub use summary::{counted, is_steering, plain, rounded};
pub use timeline::{Mode, Timeline};
pub use wording::{doing, say};

/// Words of a user, at their place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub seq: u64,
    pub at: u64,
    pub text: String,
}

/// A warning, at its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Warned {
    pub seq: u64,
    /// The network it is about, if it is about one.
    pub network: Option<NetworkId>,
    pub warning: Warning,
}

/// A record that contradicts those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oddity {
    pub seq: u64,
    /// One sentence.
    pub problem: String,
}

impl std::fmt::Display for Oddity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {}: {}", self.seq, self.problem)
    }
}

/// Oddities that are kept; a broken log could hold one in each record.
const ODDITIES_KEPT: usize = 200;

/// What the log says so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The question, with the branches that were added later.
    pub study: Option<Study>,
    /// In the order of the plan; branches added later follow.
    pub networks: Vec<Arc<NetworkState>>,
    /// What the data sets turned out to be.
    pub data: Vec<DataFacts>,
    /// Who lies how near to whom, by reference: answers to the images of different data sets have no distance.
    pub landscapes: BTreeMap<u32, Landscape>,
    pub warnings: Vec<Warned>,
    pub notes: Vec<Note>,
    /// What came out at each setting of the live knob, in order.
    pub trials: Vec<Arc<Trial>>,
    /// The gallery: test images as every network sees them.
    pub pictures: Vec<Arc<Picture>>,
    /// What layers of references bear, by reference and the layer's name.
    pub sensed: BTreeMap<(u32, String), Sensed>,
    /// Whether training is held at a step.
    pub is_paused: bool,
    /// How the study ended; nothing while it runs.
    pub outcome: Option<Outcome>,
    /// The network and stage that are being worked on.
    pub current: Option<(NetworkId, u32)>,
    /// How fast it goes at the moment.
    pub pace: Pace,
    /// How many records were applied, and the time of the last one in milliseconds since the log began.
    pub records: u64,
    pub at: u64,
    /// How often the study was taken up again after an interruption.
    pub continued: u32,
    /// How many records there were of each kind that this version does not know.
    pub unknown: BTreeMap<String, u64>,
    /// The first records that contradict others, and how many there were in all.
    pub oddities: Vec<Oddity>,
    pub oddities_in_all: u64,
}

impl State {
    /// The state after these records.
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply(record);
        }
        state
    }

    /// The network of that id.
    pub fn network(&self, id: NetworkId) -> Option<&NetworkState> {
        self.place(id).map(|place| &*self.networks[place])
    }

    /// What people call a network, or its number when the log never planned it.
    pub fn name(&self, id: NetworkId) -> String {
        self.network(id)
            .map_or_else(|| id.to_string(), |network| network.plan.name.clone())
    }

    /// Who lies how near to whom among the networks of this one's reference.
    pub fn landscape(&self, id: NetworkId) -> &Landscape {
        self.network(id)
            .and_then(|network| self.landscapes.get(&network.plan.reference))
            .unwrap_or(&NOBODY)
    }

    /// The branches, in the order of the plan.
    pub fn branches(&self) -> impl Iterator<Item = &NetworkState> {
        self.networks
            .iter()
            .map(|network| &**network)
            .filter(|network| network.plan.role == Role::Branch)
    }

    /// The stage that is being worked on.
    pub fn current_stage(&self) -> Option<(&NetworkState, &StageState)> {
        let (id, stage) = self.current?;
        let network = self.network(id)?;
        Some((network, network.stages.get(stage as usize)?))
    }

    /// Whether the lab is still at work on it, as far as the log says.
    pub fn is_running(&self) -> bool {
        self.study.is_some() && self.outcome.is_none()
    }

    fn place(&self, id: NetworkId) -> Option<usize> {
        let usual = id.0 as usize;
        let is_there = |place: &usize| self.networks.get(*place).is_some_and(|n| n.plan.id == id);
        Some(usual)
            .filter(is_there)
            .or_else(|| self.networks.iter().position(|n| n.plan.id == id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cost, Event};
    use crate::measurement::{Measurement, Metric, Value};
    use crate::session::sample;
    use crate::spec::StageKind;

    fn story() -> State {
        State::fold(&sample::records(sample::story()))
    }

    fn folded(events: Vec<Event>) -> State {
        State::fold(&sample::records(events))
    }

    #[test]
    fn a_story_from_beginning_to_end_leaves_nothing_odd() {
        let state = story();
        assert_eq!(state.oddities, []);
        assert_eq!(state.outcome, Some(Outcome::Completed));
        assert!(state.networks.iter().all(|n| n.status == Status::Done));
        let landscape = state.landscape(NetworkId(1));
        assert_eq!(landscape.points.len(), 3);
        assert_eq!(landscape.distance(1, 2), Some(0.03));
        assert_eq!(landscape.distance(2, 1), Some(0.03));
        assert_eq!(landscape.distance(1, 1), Some(0.0));
        assert_eq!(landscape.distance(3, 1), None);
        assert_eq!(landscape.map("mds").unwrap().points.len(), 3);
    }

    #[test]
    fn networks_of_two_data_sets_lie_in_two_landscapes() {
        let mut events = sample::story();
        // The end of the study, then a network of a second reference with an own landscape of one point.
        let Some(Event::StudyStarted { networks, .. }) = events.first_mut() else {
            panic!("a story begins with its study");
        };
        let mut other = networks[0].clone();
        (other.id, other.against, other.reference) = (NetworkId(9), NetworkId(9), 1);
        networks.push(other);
        let row = |network, distances: &[f64]| {
            Event::Measured(Measurement {
                network,
                value: Value::Row(distances.iter().map(|&d| d.into()).collect()),
                ..sample::scalar(network, 0, Metric::Landscape, 0.0)
            })
        };
        let place = events.len() - 1;
        events.splice(
            place..place,
            [row(NetworkId(9), &[]), row(NetworkId(9), &[0.2])],
        );
        let state = folded(events.clone());
        let complaint = |oddity: &Oddity| oddity.problem.contains("distances");
        assert!(
            !state.oddities.iter().any(complaint),
            "{:?}",
            state.oddities
        );
        assert_eq!(state.landscape(NetworkId(0)).points.len(), 3);
        assert_eq!(state.landscape(NetworkId(9)).distance(0, 1), Some(0.2));
        assert_eq!(state.landscape(NetworkId(77)), &NOBODY);

        // A row that does not fit its own landscape is as odd as ever.
        events.insert(place + 2, row(NetworkId(9), &[0.1; 5]));
        let state = folded(events);
        assert!(state.oddities.iter().any(complaint), "{:?}", state.oddities);
    }

    #[test]
    fn a_branch_added_after_the_end_opens_the_study_again() {
        let mut events = sample::story();
        let branch = sample::events().into_iter().nth(1).unwrap();
        assert!(matches!(branch, Event::BranchAdded { .. }));
        events.push(branch);
        let state = folded(events);
        assert!(state.is_running());
        assert_eq!(state.networks.len(), 4);
        assert_eq!(state.study.unwrap().references[0].branches.len(), 2);
        assert_eq!(state.networks[3].status, Status::Waiting);
        assert_eq!(state.oddities, []);
    }

    #[test]
    fn what_is_measured_again_replaces_what_was() {
        let mut network = NetworkState::new(story().networks[0].plan.clone());
        let found = |stage, epoch, value| Measurement {
            epoch,
            ..sample::scalar(NetworkId(0), stage, Metric::Accuracy, value)
        };
        for (stage, epoch, value) in [
            (0, 1, 0.1),
            (0, 2, 0.2),
            (0, 2, 0.3),
            (1, 2, 0.4),
            (0, 1, 0.5),
        ] {
            network.measurements.insert(found(stage, epoch, value));
        }
        let values: Vec<Option<f64>> = network
            .measurements
            .iter()
            .map(Measurement::scalar)
            .collect();
        assert_eq!(values, [Some(0.5), Some(0.3), Some(0.4)]);
        let latest = network.measurements.latest(Metric::Accuracy, None, None);
        assert_eq!(latest.unwrap().scalar(), Some(0.4));
    }

    #[test]
    fn records_that_contradict_others_are_collected() {
        let state = folded(sample::events()[1..].to_vec());
        assert!(state.oddities_in_all >= 5, "{:?}", state.oddities);
        let flood = vec![
            Event::StudyEnded {
                outcome: Outcome::Completed
            };
            10_000
        ];
        let state = folded(flood);
        assert_eq!(state.oddities.len(), ODDITIES_KEPT);
        assert_eq!(state.oddities_in_all, 9_999);
    }

    #[test]
    fn a_stage_that_was_stopped_goes_on_where_it_was() {
        let mut events = sample::story();
        let start = events
            .iter()
            .position(|e| matches!(e, Event::StageStarted { .. }))
            .unwrap();
        assert!(matches!(
            &events[start + 6],
            Event::EpochEnded { epoch: 2, .. }
        ));
        let outcome = Outcome::Cancelled;
        let stopped = vec![
            Event::StageEnded {
                network: NetworkId(0),
                stage: 0,
                outcome: outcome.clone(),
                cost: Cost::default(),
            },
            Event::StudyEnded { outcome },
        ];
        let mut known = events[..start + 4].to_vec();
        known.extend(stopped.clone());
        let state = folded(known.clone());
        assert_eq!(state.networks[0].status, Status::Cancelled);
        known.extend([Event::Continued, events[start + 4].clone()]);
        let state = folded(known);
        assert!(state.networks[0].status.is_running());
        assert_eq!(state.current, Some((NetworkId(0), 0)));

        events.splice(
            start + 4..start + 4,
            stopped.into_iter().chain([Event::Continued]),
        );
        let (state, plain) = (folded(events.clone()), story());
        assert_eq!(state.oddities, []);
        assert_eq!(state.networks[0].status, Status::Done);
        assert_eq!(
            state.networks[0].epochs.len(),
            plain.networks[0].epochs.len()
        );
        // Without the continuation it is as odd as it looks.
        events.remove(start + 6);
        assert_ne!(folded(events).oddities, []);
    }

    #[test]
    fn a_study_taken_up_again_trains_its_steps_once() {
        let mut events = sample::story();
        // The reference's second epoch is trained, the program dies, and the epoch is trained again.
        let start = events
            .iter()
            .position(|e| matches!(e, Event::StageStarted { .. }))
            .unwrap();
        let epoch: Vec<Event> = events[start + 4..start + 7].to_vec();
        assert!(matches!(&epoch[2], Event::EpochEnded { epoch: 2, .. }));
        let mut again = vec![Event::Continued, events[start].clone()];
        again.extend(epoch);
        events.splice(start + 7..start + 7, again);
        let (state, plain) = (folded(events), story());
        assert_eq!(state.oddities, []);
        assert_eq!(state.continued, 1);
        assert_eq!(
            state.networks[0].loss.samples(),
            plain.networks[0].loss.samples()
        );
        assert_eq!(state.networks[0].loss.steps(), Some((1, 40)));
        assert_eq!(state.networks[0].epochs.len(), 2);
    }

    #[test]
    fn a_stage_that_counts_from_one_again_is_drawn_behind_the_one_before() {
        let start = |stage, kind| Event::StageStarted {
            network: NetworkId(2),
            stage,
            kind,
            title: String::new(),
            steps: 0,
        };
        let state = folded(vec![
            sample::story()[0].clone(),
            start(0, StageKind::Compress),
            sample::steps(NetworkId(2), 0, 10, 2.0),
            sample::steps(NetworkId(2), 0, 20, 1.0),
            start(1, StageKind::FineTune),
            sample::steps(NetworkId(2), 1, 10, 0.5),
        ]);
        assert_eq!(state.networks[2].loss.steps(), Some((1, 30)));
        assert_eq!(state.networks[2].loss.samples(), 3);
    }

    #[test]
    fn pauses_do_not_count_as_time() {
        let mut records = sample::records(vec![
            sample::story()[0].clone(),
            sample::story()[2].clone(),
            Event::Paused,
            Event::Resumed,
            Event::NoteAdded {
                text: String::new(),
            },
        ]);
        for (record, at) in records.iter_mut().zip([0, 1_000, 2_000, 60_000, 61_000]) {
            record.at = at;
        }
        let paused = State::fold(&records[..3]);
        assert!(paused.is_paused);
        assert_eq!(
            paused.networks[0].stages[0].milliseconds(50_000),
            Some(1_000)
        );
        let state = State::fold(&records);
        assert!(!state.is_paused);
        assert_eq!(
            state.networks[0].stages[0].milliseconds(state.at),
            Some(2_000)
        );
    }

    /// Records of a story are a tenth of a second apart.
    #[test]
    fn what_remains_is_told_from_what_was() {
        let records = sample::records(sample::story());
        let place =
            |wanted: fn(&Event) -> bool| records.iter().position(|r| wanted(&r.event)).unwrap();
        let first = place(|event| matches!(event, Event::StepsTrained { .. }));
        let state = State::fold(&records[..=first]);
        // 10 of 40 steps of two epochs took 100 ms, so the twin's two epochs take 400 and the fine-tuning's one 200.
        assert_eq!(state.remaining_in_stage(), Some(300));
        assert_eq!(state.remaining(), Some(300 + 400 + 200));
        assert_eq!(story().remaining(), None);
        assert_eq!(State::default().remaining(), None);
    }

    #[test]
    fn names_of_strangers_are_their_numbers() {
        assert_eq!(story().name(NetworkId(1)), "twin 1");
        assert_eq!(story().name(NetworkId(99)), "#99");
        assert_eq!(counted(1, "twin"), "1 twin");
        assert_eq!(counted(0, "twin"), "0 twins");
        assert_eq!(counted(1_000_000, "image"), "1,000,000 images");
        assert_eq!(plain("a\u{1b}[2J\u{202e}ä☃\n"), "a\\u{1b}[2J\\u{202e}ä☃\\n");
    }
}
