//! The table of sweeps: accuracy and what it deviates from the reference's, ratio by ratio and bits by bits.

use std::fmt::{self, Write as _};

use super::super::Chapter;
use super::{count, estimate, relative, words};
use crate::measurement::{Measurement, Metric};
use crate::spec::{NetworkId, STRENGTHS};
use crate::state::State;
use crate::state::comparison::{Estimate, FOOTPRINT};
use crate::state::sweep::{Across, Quantity, Sweep, acrosses};

pub(super) fn write(chapter: &Chapter<'_>, text: &mut String) -> fmt::Result {
    let state = &chapter.state;
    let quantity = Quantity {
        metric: Metric::Accuracy,
        condition: None,
        severity: None,
    };
    let mut is_begun = false;
    for across in acrosses(state) {
        let Across::Knob(knob) = &across else {
            continue;
        };
        let sweep = Sweep::of(state, &across, &quantity);
        if !sweep.is_swept() {
            continue;
        }
        if !is_begun {
            writeln!(text, "## Sweeps\n")?;
            is_begun = true;
        }
        let sizes: Vec<Metric> = FOOTPRINT
            .into_iter()
            .filter(|metric| {
                sweep
                    .bases
                    .iter()
                    .any(|base| size(state, base.network, *metric).is_some())
            })
            .collect();
        write!(
            text,
            "| method | {} | test accuracy | relative deviation |",
            words(knob)
        )?;
        for metric in &sizes {
            write!(text, " {} |", super::size(*metric))?;
        }
        writeln!(text, "\n|---|---:|---|---:|{}", "---:|".repeat(sizes.len()))?;
        for base in &sweep.bases {
            let name = words(&state.name(base.network));
            row(
                state,
                &name,
                "-",
                (base.network, &base.found),
                None,
                &sizes,
                text,
            )?;
        }
        // Beside the strength of each method, only what was turned.
        let is_strength = STRENGTHS.contains(&knob.as_str());
        let strands = sweep.strands.iter();
        for strand in strands.filter(|strand| is_strength || strand.is_swept()) {
            let study = state.study.as_ref();
            let told = study.and_then(|study| study.told_apart(strand.reference));
            let of = told.map_or(String::new(), |told| format!(" of {told}"));
            let label = strand.method.label(&chapter.header.catalog) + &of;
            let label = words(&label);
            for mark in &strand.marks {
                let found = (mark.network, &mark.found);
                let at = mark.across.to_string();
                row(state, &label, &at, found, mark.deviation, &sizes, text)?;
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn row(
    state: &State,
    label: &str,
    at: &str,
    (network, found): (NetworkId, &Estimate),
    deviation: Option<f64>,
    sizes: &[Metric],
    text: &mut String,
) -> fmt::Result {
    let deviation = relative(deviation);
    write!(
        text,
        "| {label} | {at} | {} | {deviation} |",
        estimate(Some(found))
    )?;
    for metric in sizes {
        write!(text, " {} |", count(size(state, network, *metric)))?;
    }
    writeln!(text)
}

fn size(state: &State, network: NetworkId, metric: Metric) -> Option<f64> {
    let found = &state.network(network)?.measurements;
    found
        .latest(metric, None, None)
        .and_then(Measurement::scalar)
}
