//! The table of what was repeated with other seeds.

use std::fmt::{self, Write as _};

use super::{condition, count, words};
use crate::state::State;
use crate::state::seeds::{Row, Sample, repeated};

pub(super) fn write(state: &State, text: &mut String) -> fmt::Result {
    let all = repeated(state);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(text, "## Over seeds\n")?;
    writeln!(
        text,
        "| network | under | seeds | n of each | mean accuracy | standard deviation | beside its reference, points |"
    )?;
    writeln!(text, "|---|---|---:|---:|---|---:|---|")?;
    for network in &all {
        for row in &network.rows {
            write_row(&network.name, row, text)?;
        }
    }
    writeln!(
        text,
        "\nThe 95 % intervals are over seeds and images: Student's arm, how the mean would move with other seeds, and the mean \
         of the seeds' own arms over images, at right angles; those of accuracies are cut at 0 and 100 %. A difference is \
         taken within each seed first, and is within noise where its interval holds 0; over the rows nothing is corrected, and of twenty without an effect one is expected to \
         be outside. Of two seeds Student's arm is 9.0 \
         standard deviations.\n"
    )
}

fn write_row(name: &str, row: &Row, text: &mut String) -> fmt::Result {
    let Some(accuracy) = &row.accuracy else {
        return Ok(());
    };
    let found = row.condition();
    let mut under = condition(found.condition.as_deref(), found.budget);
    if let Some(severity) = found.severity {
        write!(under, ", severity {severity}")?;
    }
    // Of two seeds the interval is wide enough to leave what an accuracy can be.
    let (low, high) = accuracy.interval();
    let (low, high) = (low.max(0.0), high.min(1.0));
    writeln!(
        text,
        "| {} | {} | {} | {} | {:.2} % [{:.2}, {:.2}] | {:.2} | {} |",
        words(name),
        words(&under),
        accuracy.count(),
        count(row.n.map(|n| n as f64)),
        100.0 * accuracy.mean(),
        100.0 * low,
        100.0 * high,
        100.0 * accuracy.deviation(),
        row.difference.as_ref().map_or(String::new(), beside),
    )
}

fn beside(difference: &Sample) -> String {
    let (low, high) = difference.interval();
    // No zero has a sign.
    let points = |share: f64| format!("{:+.2}", (share * 1e4).round() / 1e2 + 0.0);
    let noise = if low <= 0.0 && high >= 0.0 {
        ", within noise"
    } else {
        ""
    };
    let mean = points(difference.mean());
    format!("{mean} [{}, {}]{noise}", points(low), points(high))
}

#[cfg(test)]
mod tests {
    use crate::event::Event;
    use crate::measurement::{Measurement, Metric, Score};
    use crate::report::markdown::tests::{rendered, with};
    use crate::session::sample;
    use crate::spec::NetworkId;

    /// SciPy 1.17.1: `t.interval(0.95, 1, 0.92, sem([0.91, 0.93]))` is 79.29 to 104.71 %; a standard deviation of 1.41. Of
    /// the differences, -0.01 and -0.02, it is -7.85 to 4.85 points.
    #[test]
    fn two_seeds_have_students_interval_cut_where_accuracies_end() {
        let found = |network, value| Measurement {
            probe: "adversarial-accuracy".to_owned(),
            condition: Some("pgd".to_owned()),
            budget: Some(Score(8.0 / 255.0)),
            n: Some(200),
            ..sample::scalar(NetworkId(network), 0, Metric::Accuracy, value)
        };
        let mut events = with(vec![
            found(0, 0.91),
            found(2, 0.90),
            found(9, 0.93),
            found(11, 0.91),
        ]);
        let Some(Event::StudyStarted { study, networks }) = events.first_mut() else {
            panic!("a story begins with its study");
        };
        let mut again = study.references[0].clone();
        again.seed = Some(8);
        study.references.push(again);
        for number in 0..3 {
            let mut plan = networks[number].clone();
            (plan.id, plan.against) = (NetworkId(9 + number as u32), NetworkId(9));
            plan.reference = 1;
            networks.push(plan);
        }
        let text = rendered(&sample::header(), events);
        for row in [
            "| reference | pgd within 8/255 | 2 | 200 | 92.00 % [79.29, 100.00] | 1.41 |  |",
            "| magnitude pruning 50 % | pgd within 8/255 | 2 | 200 | 90.50 % [84.15, 96.85] | 0.71 | -1.50 [-7.85, +4.85], \
             within noise |",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
    }
}
