//! A play head over the log.
//!
//! [`Mode::Following`] is live: what arrives is shown at once. Held or moved back, the head stays where it is while the
//! log goes on growing behind it. A replay plays by the times of the records, with long waits cut short.
//! Seeking back folds again from the nearest keyframe.

use super::State;
use crate::event::{Event, Record};
use crate::spec::{NetworkId, StageKind};

/// Records from keyframe to keyframe: folding so many takes a few milliseconds.
const BETWEEN_KEYFRAMES: usize = 4_096;

/// Milliseconds that a wait between two records lasts at most in a replay.
const LONGEST_WAIT: u64 = 2_000;

/// The speeds of a replay, from slow to fast.
pub const SPEEDS: [f64; 11] = [
    0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0,
];

/// Where 1 stands in [`SPEEDS`].
const NORMAL: usize = 2;

/// How the play head moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At the end, wherever that is.
    Following,
    /// By the times of the records.
    Playing,
    /// Not at all.
    Paused,
}

/// A place worth jumping to.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// How many records are applied when the head stands on it.
    pub position: usize,
    pub what: MarkKind,
}

/// What makes a place worth jumping to.
#[derive(Clone, Debug, PartialEq)]
pub enum MarkKind {
    Stage {
        network: NetworkId,
        kind: StageKind,
        title: String,
    },
    Note(String),
}

impl MarkKind {
    fn is_note(&self) -> bool {
        matches!(self, Self::Note(_))
    }
}

/// A play head over the log.
#[derive(Clone, Debug)]
pub struct Timeline {
    records: Vec<Record>,
    /// When each record is due in a replay, in milliseconds: its time with long waits cut short.
    due: Vec<u64>,
    marks: Vec<Mark>,
    state: State,
    /// How many records are in `state`.
    position: usize,
    /// `keyframes[i]` is the state after `i * BETWEEN_KEYFRAMES` records.
    keyframes: Vec<State>,
    mode: Mode,
    speed: usize,
    is_looping: bool,
    /// Where the replay stands, in milliseconds of `due`.
    clock: f64,
    /// What [`Self::advance`] was told last.
    now: Option<u64>,
}

impl Timeline {
    /// An empty log that is about to grow, followed.
    pub fn following() -> Self {
        Self {
            records: Vec::new(),
            due: Vec::new(),
            marks: Vec::new(),
            state: State::default(),
            position: 0,
            keyframes: vec![State::default()],
            mode: Mode::Following,
            speed: NORMAL,
            is_looping: false,
            clock: 0.0,
            now: None,
        }
    }

    /// A log to replay, held at its beginning.
    pub fn replaying(records: Vec<Record>) -> Self {
        let mut timeline = Self {
            mode: Mode::Paused,
            ..Self::following()
        };
        for record in records {
            timeline.push(record);
        }
        timeline
    }

    /// Adds a record at the end. Only while following does it show at once.
    pub fn push(&mut self, record: Record) {
        let due = match self.records.last().zip(self.due.last()) {
            Some((before, due)) => due + record.at.saturating_sub(before.at).min(LONGEST_WAIT),
            None => 0,
        };
        self.due.push(due);
        let position = self.records.len() + 1;
        if let Some(what) = mark(&record.event) {
            self.marks.push(Mark { position, what });
        }
        self.records.push(record);
        if self.mode == Mode::Following {
            self.go_forward(position);
        }
    }

    /// What the log says up to the head.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many records lie before the head, and how many there are.
    pub fn position(&self) -> usize {
        self.position
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The log.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The speed of a replay, one of [`SPEEDS`].
    pub fn speed(&self) -> f64 {
        SPEEDS[self.speed]
    }

    pub fn is_looping(&self) -> bool {
        self.is_looping
    }

    /// Whether a replay begins again at its end.
    pub fn set_looping(&mut self, looping: bool) {
        self.is_looping = looping;
    }

    /// The place of the head in the time of the log, and the length of the log, in milliseconds.
    pub fn time(&self) -> (u64, u64) {
        let last = self.records.last().map_or(0, |record| record.at);
        (self.state.at, last)
    }

    /// The place of a number of records in the time of the log, in milliseconds.
    pub fn time_at(&self, position: usize) -> u64 {
        position
            .min(self.records.len())
            .checked_sub(1)
            .map_or(0, |last| self.records[last].at)
    }

    /// The starts of stages and the notes, in order.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Moves a replay on to the time `now`, in milliseconds of any steady clock. Answers whether the state changed.
    pub fn advance(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.now.replace(now).unwrap_or(now));
        if self.mode != Mode::Playing {
            return false;
        }
        let before = self.position;
        self.clock += passed as f64 * self.speed();
        let target = self.due.partition_point(|due| *due as f64 <= self.clock);
        self.go_forward(target);
        if self.position < self.records.len() {
            return self.position != before;
        }
        if self.is_looping && !self.records.is_empty() {
            // The end stays on screen as long as the longest wait.
            let end = self.due.last().map_or(0, |due| due + LONGEST_WAIT);
            if self.clock >= end as f64 {
                self.seek(0);
                return true;
            }
        } else {
            self.mode = Mode::Paused;
        }
        self.position != before
    }

    /// Plays from the head on; at the end, from the beginning.
    pub fn play(&mut self) {
        if self.position == self.records.len() {
            self.seek(0);
        }
        self.mode = Mode::Playing;
        self.set_clock();
    }

    /// Holds the head. While the log is live this freezes the picture and nothing else.
    pub fn pause(&mut self) {
        self.mode = Mode::Paused;
    }

    /// Goes to the end and stays there.
    pub fn follow(&mut self) {
        self.mode = Mode::Following;
        self.go_forward(self.records.len());
    }

    /// One speed faster.
    pub fn faster(&mut self) {
        self.speed = (self.speed + 1).min(SPEEDS.len() - 1);
    }

    /// One speed slower.
    pub fn slower(&mut self) {
        self.speed = self.speed.saturating_sub(1);
    }

    /// The speed nearest to this one.
    pub fn set_speed(&mut self, speed: f64) {
        let distance = |i: &usize| (SPEEDS[*i].log2() - speed.max(SPEEDS[0]).log2()).abs();
        self.speed = (0..SPEEDS.len())
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .unwrap_or(NORMAL);
    }

    /// Puts the head behind the first `position` records, or at the end. Whoever followed is held there.
    pub fn seek(&mut self, position: usize) {
        let position = position.min(self.records.len());
        if self.mode == Mode::Following {
            self.mode = Mode::Paused;
        }
        let nearest = (position / BETWEEN_KEYFRAMES).min(self.keyframes.len() - 1);
        if position < self.position || nearest * BETWEEN_KEYFRAMES > self.position {
            self.state.clone_from(&self.keyframes[nearest]);
            self.position = nearest * BETWEEN_KEYFRAMES;
        }
        self.go_forward(position);
        self.set_clock();
    }

    /// Moves the head by single records, backward if negative.
    pub fn step(&mut self, records: isize) {
        self.seek(self.position.saturating_add_signed(records));
    }

    /// Puts the head where this share of the playing time has passed.
    pub fn seek_share(&mut self, share: f64) {
        let end = self.due.last().copied().unwrap_or(0) as f64;
        // Rounded, so that the share of a position leads back to it.
        let clock = (share.clamp(0.0, 1.0) * end).round();
        self.seek(self.due.partition_point(|due| *due as f64 <= clock));
    }

    /// The share of the playing time that has passed at a position.
    pub fn share_at(&self, position: usize) -> f64 {
        let end = self.due.last().copied().unwrap_or(0).max(1) as f64;
        position
            .min(self.due.len())
            .checked_sub(1)
            .map_or(0.0, |last| self.due[last] as f64 / end)
    }

    /// Jumps to the next start of a stage, or to the end.
    pub fn next_stage(&mut self) {
        self.jump_forward(|what| !what.is_note());
    }

    /// Jumps to the start of a stage before the head, or to the beginning.
    pub fn previous_stage(&mut self) {
        self.jump_back(|what| !what.is_note());
    }

    /// Jumps to the next note, or to the end.
    pub fn next_note(&mut self) {
        self.jump_forward(MarkKind::is_note);
    }

    /// Jumps to the note before the head, or to the beginning.
    pub fn previous_note(&mut self) {
        self.jump_back(MarkKind::is_note);
    }

    fn jump_forward(&mut self, wanted: impl Fn(&MarkKind) -> bool) {
        let target = self
            .marks
            .iter()
            .find(|mark| mark.position > self.position && wanted(&mark.what))
            .map_or(self.records.len(), |mark| mark.position);
        self.seek(target);
    }

    fn jump_back(&mut self, wanted: impl Fn(&MarkKind) -> bool) {
        let target = self
            .marks
            .iter()
            .rfind(|mark| mark.position < self.position && wanted(&mark.what))
            .map_or(0, |mark| mark.position);
        self.seek(target);
    }

    fn go_forward(&mut self, position: usize) {
        while self.position < position {
            self.state.apply(&self.records[self.position]);
            self.position += 1;
            if self.position == self.keyframes.len() * BETWEEN_KEYFRAMES {
                self.keyframes.push(self.state.clone());
            }
        }
    }

    /// Lets the clock of the replay stand at the record before the head.
    fn set_clock(&mut self) {
        self.clock = self
            .position
            .checked_sub(1)
            .map_or(0.0, |last| self.due[last] as f64);
    }
}

fn mark(event: &Event) -> Option<MarkKind> {
    if let Event::StageStarted {
        network,
        kind,
        title,
        ..
    } = event
    {
        Some(MarkKind::Stage {
            network: *network,
            kind: *kind,
            title: title.clone(),
        })
    } else if let Event::NoteAdded { text } = event {
        Some(MarkKind::Note(text.clone()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::sample;

    fn story() -> Vec<Record> {
        sample::records(sample::story())
    }

    /// A story long enough for several keyframes: much training in the middle.
    fn long_story() -> Vec<Record> {
        let mut events = sample::story();
        let middle =
            (1..=10_000).map(|n| sample::steps(NetworkId(0), 0, 40 + 10 * n, 1.0 / n as f64));
        events.splice(10..10, middle);
        sample::records(events)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn halves_make_the_whole(share in 0.0..=1.0_f64) {
            let mut records = story();
            records.extend(sample::records(sample::events()));
            let (first, second) = records.split_at((share * records.len() as f64) as usize);
            let mut state = State::fold(first);
            for record in second {
                state.apply(record);
            }
            prop_assert_eq!(state, State::fold(&records));
        }

        /// Whatever the order of the records, nothing panics.
        #[test]
        fn any_order_can_be_folded(order in Just(story()).prop_shuffle()) {
            State::fold(&order).summary();
        }
    }

    #[test]
    fn wherever_the_head_goes_it_sees_the_fold_of_what_lies_before() {
        let records = long_story();
        let mut timeline = Timeline::replaying(records.clone());
        for position in [
            5,
            9_000,
            8_192,
            4_095,
            4_096,
            4_097,
            0,
            usize::MAX,
            1,
            8_191,
        ] {
            timeline.seek(position);
            let position = position.min(records.len());
            assert_eq!(timeline.position(), position);
            assert!(
                *timeline.state() == State::fold(&records[..position]),
                "at {position}"
            );
        }
        assert_eq!(
            timeline.keyframes.len(),
            records.len() / BETWEEN_KEYFRAMES + 1
        );
    }

    #[test]
    fn freezing_holds_the_picture_while_the_log_grows() {
        let records = story();
        let mut timeline = Timeline::following();
        let (first, second) = records.split_at(10);
        for record in first {
            timeline.push(record.clone());
        }
        assert_eq!(timeline.position(), 10);
        timeline.pause();
        for record in second {
            timeline.push(record.clone());
        }
        assert_eq!((timeline.position(), timeline.len()), (10, records.len()));
        assert!(*timeline.state() == State::fold(first));
        timeline.follow();
        assert!(*timeline.state() == State::fold(&records));
        timeline.step(-1);
        assert_eq!(timeline.mode(), Mode::Paused);
        assert_eq!(timeline.position(), records.len() - 1);
    }

    #[test]
    fn a_replay_keeps_the_times_of_the_records_and_cuts_long_waits() {
        let mut records = story();
        let wait = 3_600_000;
        records[5..].iter_mut().for_each(|record| record.at += wait);
        let mut timeline = Timeline::replaying(records.clone());
        timeline.play();
        timeline.advance(1_000);
        assert_eq!(timeline.position(), 1, "the first record is due at once");
        timeline.advance(1_000 + 250);
        assert_eq!(timeline.position(), 3);
        timeline.faster();
        assert_eq!(timeline.speed(), 2.0);
        timeline.advance(1_000 + 250 + 75);
        assert_eq!(timeline.position(), 5);
        // An hour lies between the fifth record and the sixth; two seconds of it are left.
        timeline.advance(1_000 + 250 + 75 + 999);
        assert_eq!(timeline.position(), 5);
        timeline.advance(1_000 + 250 + 75 + 1_000);
        assert_eq!(timeline.position(), 6);
        timeline.advance(10_000_000);
        assert_eq!(timeline.position(), records.len());
        assert_eq!(timeline.mode(), Mode::Paused);
        timeline.play();
        assert_eq!(timeline.position(), 0, "playing at the end begins again");
    }

    #[test]
    fn a_loop_begins_again() {
        let mut timeline = Timeline::replaying(story());
        timeline.set_looping(true);
        timeline.play();
        timeline.advance(0);
        timeline.advance(1_000_000);
        assert_eq!((timeline.position(), timeline.mode()), (0, Mode::Playing));
        timeline.advance(1_000_200);
        assert_eq!(timeline.position(), 3);
        let mut empty = Timeline::replaying(Vec::new());
        empty.set_looping(true);
        empty.play();
        empty.advance(5);
        assert_eq!(empty.position(), 0);
    }

    #[test]
    fn jumps_land_on_starts_of_stages_and_on_notes() {
        let records = story();
        let mut timeline = Timeline::replaying(records.clone());
        let mut stops = 0;
        loop {
            timeline.next_stage();
            if timeline.position() == records.len() {
                break;
            }
            let at = &records[timeline.position() - 1];
            assert!(matches!(at.event, Event::StageStarted { .. }));
            stops += 1;
        }
        assert_eq!(stops, 7, "two, two and three stages");
        timeline.previous_note();
        let at = &records[timeline.position() - 1];
        assert!(matches!(at.event, Event::NoteAdded { .. }));
        timeline.previous_note();
        assert_eq!(timeline.position(), 0);
        timeline.next_stage();
        let first = timeline.position();
        timeline.next_stage();
        timeline.previous_stage();
        assert_eq!(timeline.position(), first);
    }

    #[test]
    fn speeds_stay_within_their_table() {
        let mut timeline = Timeline::following();
        for _ in 0..20 {
            timeline.slower();
        }
        assert_eq!(timeline.speed(), 0.25);
        for _ in 0..20 {
            timeline.faster();
        }
        assert_eq!(timeline.speed(), 256.0);
        for (asked, speed) in [
            (1.0, 1.0),
            (3.0, 4.0),
            (0.0, 0.25),
            (1e9, 256.0),
            (f64::NAN, 0.25),
        ] {
            timeline.set_speed(asked);
            assert_eq!(timeline.speed(), speed, "{asked}");
        }
    }

    #[test]
    fn shares_of_the_playing_time_lead_to_their_records_and_back() {
        let records = story();
        let mut timeline = Timeline::replaying(records.clone());
        for position in 1..=records.len() {
            let share = timeline.share_at(position);
            timeline.seek_share(share);
            assert_eq!(timeline.position(), position);
        }
    }
}
