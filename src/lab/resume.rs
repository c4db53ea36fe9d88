//! Going on where an interrupted session stopped.
//!
//! A study is determined by its header, so going on is running it again and keeping silent for as long as it repeats
//! what the session already holds. Stages that were finished come from the cache, the interrupted one from its last
//! checkpoint, and the session ends up holding the same facts as one that was never interrupted.

use std::collections::VecDeque;

use crate::event::{Event, Outcome};
use crate::lab::context::Sink;
use crate::lab::error::{Error, Result};
use crate::spec::{Branch, NetworkPlan};

/// A sink that passes on only what the past does not hold.
pub struct Resuming<S> {
    past: VecDeque<Event>,
    /// Settings that a search or the knob tried in the past.
    tried: Vec<Event>,
    /// Facts passed over so far.
    repeated: u64,
    ended: bool,
    inner: S,
}

impl<S: Sink> Resuming<S> {
    /// `past` is what the session holds, in order.
    pub fn new(past: Vec<Event>, inner: S) -> Self {
        let is_trial = |event: &&Event| matches!(event, Event::Tried(_));
        Self {
            tried: past.iter().filter(is_trial).cloned().collect(),
            past: past.into(),
            repeated: 0,
            ended: false,
            inner,
        }
    }

    /// The branches that users added in the past, in order.
    pub fn branches_added(&self) -> Vec<(Branch, NetworkPlan)> {
        self.past
            .iter()
            .filter_map(|event| match event {
                Event::BranchAdded {
                    branch, network, ..
                } => Some((branch.clone(), network.clone())),
                _ => None,
            })
            .collect()
    }

    /// Whether the last fact was the study's end.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

/// What the past holds that running again does not repeat: acts by hand, ends that were no completion, and what a newer
/// version wrote.
fn is_passed_over(event: &Event) -> bool {
    match event {
        Event::StageEnded { outcome, .. } | Event::StudyEnded { outcome } => {
            *outcome != Outcome::Completed
        }
        Event::Unknown { .. } => true,
        other => other.is_by_hand(),
    }
}

impl<S: Sink> Sink for Resuming<S> {
    fn state(&mut self, event: Event) -> Result<()> {
        // A search that is gone through again tries the same settings.
        if let Some(at) = self.tried.iter().position(|tried| event.repeats(tried)) {
            self.tried.remove(at);
            return Ok(());
        }
        // What somebody does now is new, whatever the past still holds.
        if event.is_by_hand() {
            return self.inner.state(event);
        }
        self.ended = matches!(event, Event::StudyEnded { .. });
        while let Some(past) = self.past.front() {
            if event.repeats(past) {
                self.past.pop_front();
                self.repeated += 1;
                return Ok(());
            }
            if is_passed_over(past) || matches!(past, Event::StudyEnded { .. }) {
                self.past.pop_front();
                continue;
            }
            // The end of an earlier stop is said while the past still holds more: this run was stopped, too.
            if matches!(&event, Event::StudyEnded { .. } | Event::StageEnded { .. }) {
                break;
            }
            return Err(Error::Internal(format!(
                "the session cannot go on: its fact {} is not repeated by this program on this machine; \
                 run the study anew from its header instead",
                self.repeated + 1
            )));
        }
        self.inner.state(event)
    }

    fn remark(&mut self, remark: &str) {
        self.inner.remark(remark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cost;
    use crate::spec::NetworkId;

    fn ended(stage: u32, outcome: Outcome) -> Event {
        Event::StageEnded {
            network: NetworkId(0),
            stage,
            outcome,
            cost: Cost::default(),
        }
    }

    #[test]
    fn only_what_is_new_is_passed_on() {
        let past = vec![
            ended(0, Outcome::Completed),
            Event::NoteAdded {
                text: "look".into(),
            },
            ended(1, Outcome::Cancelled),
            Event::StudyEnded {
                outcome: Outcome::Cancelled,
            },
            Event::Continued,
        ];
        let mut sink = Resuming::new(past, Vec::new());
        sink.state(ended(0, Outcome::Completed)).unwrap();
        sink.state(ended(1, Outcome::Completed)).unwrap();
        sink.state(Event::StudyEnded {
            outcome: Outcome::Completed,
        })
        .unwrap();
        assert_eq!(
            sink.inner,
            vec![
                ended(1, Outcome::Completed),
                Event::StudyEnded {
                    outcome: Outcome::Completed
                }
            ]
        );
    }

    /// The knob is turned while the past is still being repeated, and was turned in it.
    #[test]
    fn what_is_done_by_hand_now_is_new_and_what_was_tried_is_not_said_twice() {
        let trial = |n| {
            Event::Tried(crate::event::Trial {
                n,
                ..crate::event::Trial::default()
            })
        };
        let (tried, other) = (trial(100), trial(200));
        let past = vec![
            ended(0, Outcome::Completed),
            tried.clone(),
            ended(1, Outcome::Completed),
        ];
        let mut sink = Resuming::new(past, Vec::new());
        sink.state(ended(0, Outcome::Completed)).unwrap();
        sink.state(other.clone()).unwrap();
        sink.state(tried.clone()).unwrap();
        sink.state(tried.clone()).unwrap();
        sink.state(ended(1, Outcome::Completed)).unwrap();
        sink.state(ended(2, Outcome::Completed)).unwrap();
        assert_eq!(sink.inner, vec![other, tried, ended(2, Outcome::Completed)]);
    }

    #[test]
    fn a_past_that_is_not_repeated_is_an_error() {
        let mut sink = Resuming::new(vec![ended(0, Outcome::Completed)], Vec::new());
        let progressed = Event::Progressed {
            network: NetworkId(0),
            stage: 0,
            done: 1,
            total: 2,
            what: "clean".into(),
        };
        let error = sink.state(progressed).unwrap_err().to_string();
        assert!(error.contains("fact 1"), "{error}");
    }
}
