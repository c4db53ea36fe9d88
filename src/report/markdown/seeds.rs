//! The table of what was repeated with other seeds.

use std::fmt::{self, Write as _};

use super::{condition, count, words};
use crate::state::State;
use crate::state::seeds::repeated;

pub(super) fn write(state: &State, text: &mut String) -> fmt::Result {
    let all = repeated(state);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(text, "## Over seeds\n")?;
    writeln!(
        text,
        "| network | under | seeds | n of each | mean accuracy | standard deviation |"
    )?;
    writeln!(text, "|---|---|---:|---:|---|---:|")?;
    for found in all {
        let mut under = condition(found.condition.as_deref(), found.budget);
        if let Some(severity) = found.severity {
            write!(under, ", severity {severity}")?;
        }
        // Of two seeds the interval is wide enough to leave what an accuracy can be.
        let (low, high) = found.interval();
        let (low, high) = (low.max(0.0), high.min(1.0));
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} % [{:.2}, {:.2}] | {:.2} |",
            words(&found.name),
            words(&under),
            found.values.len(),
            count(found.n.map(|n| n as f64)),
            100.0 * found.mean(),
            100.0 * low,
            100.0 * high,
            100.0 * found.deviation()
        )?;
    }
    writeln!(
        text,
        "\nThe intervals are Student's 95 % over seeds, cut at 0 and 100 %: how the mean would move with other seeds, on the \
         same images. Of two seeds it is 9.0 standard deviations to either side.\n"
    )
}

#[cfg(test)]
mod tests {
    use crate::event::Event;
    use crate::measurement::{Measurement, Metric, Score};
    use crate::report::markdown::tests::{rendered, with};
    use crate::session::sample;
    use crate::spec::NetworkId;

    /// SciPy 1.17.1: `t.interval(0.95, 1, 0.92, sem([0.91, 0.93]))` is 79.29 to 104.71 %; a standard deviation of 1.41.
    #[test]
    fn two_seeds_have_students_interval_cut_where_accuracies_end() {
        let found = |network, value| Measurement {
            probe: "adversarial-accuracy".to_owned(),
            condition: Some("pgd".to_owned()),
            budget: Some(Score(8.0 / 255.0)),
            n: Some(200),
            ..sample::scalar(NetworkId(network), 0, Metric::Accuracy, value)
        };
        let mut events = with(vec![found(0, 0.91), found(9, 0.93)]);
        let Some(Event::StudyStarted { study, networks }) = events.first_mut() else {
            panic!("a story begins with its study");
        };
        let mut again = study.references[0].clone();
        again.seed = Some(8);
        study.references.push(again);
        let mut plan = networks[0].clone();
        (plan.id, plan.against, plan.reference) = (NetworkId(9), NetworkId(9), 1);
        networks.push(plan);
        let text = rendered(&sample::header(), events);
        let row = "| reference | pgd within 8/255 | 2 | 200 | 92.00 % [79.29, 100.00] | 1.41 |";
        assert!(text.contains(row), "{text}");
    }
}
