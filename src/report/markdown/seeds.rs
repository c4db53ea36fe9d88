//! The table of what was repeated with other seeds.

use std::fmt::{self, Write as _};

use super::words;
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
        "| network | under | seeds | mean accuracy | standard deviation |"
    )?;
    writeln!(text, "|---|---|---:|---|---:|")?;
    for found in all {
        let mut under = found
            .condition
            .clone()
            .unwrap_or_else(|| "clean".to_owned());
        if let Some(severity) = found.severity {
            write!(under, ", severity {severity}")?;
        }
        if let Some(budget) = found.budget {
            write!(under, " within {budget}")?;
        }
        let (low, high) = found.interval();
        writeln!(
            text,
            "| {} | {} | {} | {:.2} % [{:.2}, {:.2}] | {:.2} |",
            words(&found.name),
            words(&under),
            found.values.len(),
            100.0 * found.mean(),
            100.0 * low,
            100.0 * high,
            100.0 * found.deviation()
        )?;
    }
    writeln!(
        text,
        "\nThe intervals are Student's over seeds: how the mean would move with other seeds, on the same images.\n"
    )
}
