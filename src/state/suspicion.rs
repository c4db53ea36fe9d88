//! What a verdict on gradients says, in words: every check with how it came out, and on how many images.
//!
//! A check is called by what would be suspicious, so that its title alone reads as if that had been found. Said is what was
//! found, what is unclear, and what was looked for and not found.

use super::State;
use crate::measurement::{CheckOutcome, MaskingCheck, Measurement, Through};
use crate::spec::KnobValue;

/// Checks of which a title says why nothing can be told, where it is no question.
const OBSTACLES: [(&str, &str); 2] = [
    (
        "few-classes",
        "cannot be told, since there are too few classes for a targeted ratio of logits",
    ),
    (
        "at-chance",
        "cannot be told, since the network may be no better than chance",
    ),
];

/// A check as what it came to: `One step is stronger than many` where that was found, `unclear whether one step is stronger
/// than many`; one that passed is what was looked for, and whoever shows it says that it was not found.
pub fn said(check: &MaskingCheck) -> String {
    if check.outcome != CheckOutcome::Unclear {
        return check.title.clone();
    }
    let mut obstacles = OBSTACLES.iter();
    match obstacles.find(|(id, _)| *id == check.id) {
        Some((_, words)) => (*words).to_owned(),
        None => format!("unclear whether {}", uncapitalized(&check.title)),
    }
}

/// A sentence's beginning as it stands within a sentence.
pub fn uncapitalized(title: &str) -> String {
    let mut letters = title.chars();
    match (letters.next(), letters.clone().next()) {
        // PGD stays PGD.
        (Some(first), second) if second.is_none_or(|second| !second.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => title.to_owned(),
    }
}

/// How gradients went back through rounded activations.
pub fn through(estimator: Through) -> &'static str {
    match estimator {
        Through::StraightThrough => {
            "gradients went straight through rounded activations, as if nothing were rounded"
        }
        Through::None => "no gradient went through rounded activations",
        Through::AsTheSimulator => {
            "gradients went through rounded activations as in the simulator, without a range"
        }
    }
}

/// How many images were looked at before those that the network has right were checked; nothing where the session does
/// not say.
pub fn images(state: &State, found: &Measurement) -> Option<u64> {
    let study = state.study.as_ref()?;
    let mut probes = study.suite.probes.iter();
    let probe = probes.find(|probe| probe.id == found.probe)?;
    let KnobValue::Integer(asked) = probe.setting.0.get("masking-images")? else {
        return None;
    };
    let asked = u64::try_from(*asked).ok()?;
    let reference = state.network(found.network)?.plan.reference;
    let mut data = state.data.iter();
    let facts = data.find(|facts| facts.reference == reference)?;
    let all = asked.min(facts.test);
    (found.n? <= all).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::measurement::{Metric, Score};
    use crate::session::sample;
    use crate::spec::{Method, NetworkId};

    fn check(id: &str, title: &str, outcome: CheckOutcome) -> MaskingCheck {
        MaskingCheck {
            id: id.to_owned(),
            title: title.to_owned(),
            outcome,
            names: ["a".to_owned(), "b".to_owned()],
            numbers: [Score(0.0), Score(0.0)],
            p: None,
        }
    }

    #[test]
    fn what_is_unclear_does_not_read_as_if_it_had_been_found() {
        let title = "One step is stronger than many";
        let of = |outcome| said(&check("one-step-stronger", title, outcome));
        assert_eq!(of(CheckOutcome::Failed), title);
        assert_eq!(
            of(CheckOutcome::Unclear),
            "unclear whether one step is stronger than many"
        );
        let few = check("few-classes", "There are too few", CheckOutcome::Unclear);
        assert!(said(&few).starts_with("cannot be told, since there are too few classes"));
        assert_eq!(uncapitalized("PGD stands still"), "PGD stands still");
        assert_eq!(uncapitalized(""), "");
    }

    #[test]
    fn how_many_images_were_looked_at_is_what_was_asked_and_no_more_than_there_are() {
        let asked = |images: i64| {
            let mut events = sample::story();
            let Some(Event::StudyStarted { study, .. }) = events.first_mut() else {
                panic!("a story begins with its study");
            };
            let mut probe = Method::plain("gradient-masking");
            let knob = KnobValue::Integer(images);
            probe.setting = probe.setting.with("masking-images", knob);
            study.suite.probes.push(probe);
            State::fold(&sample::records(events))
        };
        let found = Measurement {
            n: Some(188),
            ..sample::scalar(NetworkId(2), 0, Metric::GradientMasking, 0.0)
        };
        assert_eq!(images(&asked(200), &found), Some(200));
        assert_eq!(images(&asked(5_000), &found), Some(1_000), "all there are");
        assert_eq!(images(&asked(100), &found), None, "fewer than were right");
        assert_eq!(images(&State::default(), &found), None);
    }
}
