//! Which examples each network gets right, under every condition: what a paired comparison rests on.
//!
//! Two networks that are asked the same examples are compared example by example (McNemar 1947); their accuracies alone
//! would take them for independent and see less.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::lab::error::{Error, Result};
use crate::measurement::{Measurement, Paired};
use crate::spec::NetworkId;

/// Under what the examples were shown: a finding's condition, severity and budget.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Under {
    condition: Option<String>,
    severity: Option<u8>,
    /// As it is written, since numbers of this kind have no order.
    budget: Option<String>,
}

impl Under {
    /// Of images under a corruption.
    pub fn corrupted(condition: &str, severity: Option<u8>) -> Self {
        Self {
            condition: Some(condition.to_owned()),
            severity,
            budget: None,
        }
    }

    /// Of a finding.
    pub fn of(found: &Measurement) -> Self {
        Self {
            condition: found.condition.clone(),
            severity: found.severity,
            budget: found.budget.map(|budget| budget.0.to_string()),
        }
    }
}

/// Which examples every network of a reference got right.
#[derive(Debug, Default)]
pub struct Answers(RefCell<BTreeMap<(NetworkId, Under), Right>>);

/// Example by example, whether the answer was right.
pub type Right = Rc<[bool]>;

impl Answers {
    /// Keeps what a network got right, example by example.
    pub fn record(&self, network: NetworkId, under: Under, right: Right) {
        self.0.borrow_mut().insert((network, under), right);
    }

    /// What a network got right.
    pub fn of(&self, network: NetworkId, under: &Under) -> Option<Right> {
        self.0.borrow().get(&(network, under.clone())).cloned()
    }

    /// How two networks differ on the same examples; nothing where one of them was not asked them.
    pub fn paired(
        &self,
        reference: NetworkId,
        candidate: NetworkId,
        under: &Under,
    ) -> Option<Paired> {
        let (from, to) = (self.of(reference, under)?, self.of(candidate, under)?);
        if from.len() != to.len() {
            return None;
        }
        let count = |wanted: (bool, bool)| {
            let pairs = from.iter().copied().zip(to.iter().copied());
            pairs.filter(|pair| *pair == wanted).count() as u64
        };
        Some(Paired {
            reference_only: count((true, false)),
            candidate_only: count((false, true)),
        })
    }

    /// What a network got right, as bytes for the cache.
    ///
    /// # Errors
    /// Never in practice: what is kept can be written.
    pub fn packed(&self, network: NetworkId) -> Result<Vec<u8>> {
        let all = self.0.borrow();
        let own: Vec<(&Under, String)> = all
            .iter()
            .filter(|((of, _), _)| *of == network)
            .map(|((_, under), right)| {
                let letter = |is_right: &bool| if *is_right { '1' } else { '0' };
                (under, right.iter().map(letter).collect())
            })
            .collect();
        serde_json::to_vec(&own).map_err(|error| Error::Internal(format!("answers: {error}")))
    }

    /// Takes back what [`Self::packed`] gave, for a network that may have another number now. Bytes of another kind
    /// leave everything as it is: pairs are missing then, and nothing is wrong.
    pub fn unpack(&self, network: NetworkId, bytes: &[u8]) {
        let own: Vec<(Under, String)> = serde_json::from_slice(bytes).unwrap_or_default();
        for (under, letters) in own {
            let right = letters.bytes().map(|letter| letter == b'1').collect();
            self.record(network, under, right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(severity: u8) -> Under {
        Under {
            condition: Some("contrast".to_owned()),
            severity: Some(severity),
            budget: None,
        }
    }

    #[test]
    fn pairs_are_counted_on_the_same_examples_only() {
        let answers = Answers::default();
        let (reference, candidate) = (NetworkId(0), NetworkId(2));
        answers.record(reference, under(1), [true, true, false, false, true].into());
        answers.record(
            candidate,
            under(1),
            [true, false, true, false, false].into(),
        );
        let paired = answers.paired(reference, candidate, &under(1)).unwrap();
        assert_eq!((paired.reference_only, paired.candidate_only), (2, 1));
        assert_eq!(answers.paired(reference, candidate, &under(2)), None);
        answers.record(candidate, under(2), [true].into());
        answers.record(reference, under(2), [true, false].into());
        assert_eq!(answers.paired(reference, candidate, &under(2)), None);
    }

    #[test]
    fn what_was_packed_comes_back_under_another_number() {
        let answers = Answers::default();
        answers.record(NetworkId(1), under(3), [true, false].into());
        answers.record(NetworkId(4), under(3), [false, false].into());
        let other = Answers::default();
        other.unpack(NetworkId(9), &answers.packed(NetworkId(1)).unwrap());
        assert_eq!(
            other.of(NetworkId(9), &under(3)).as_deref(),
            Some(&[true, false][..])
        );
        assert_eq!(other.0.borrow().len(), 1);
        other.unpack(NetworkId(9), b"of another kind");
        assert_eq!(other.0.borrow().len(), 1);
    }
}
