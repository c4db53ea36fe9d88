//! What the corruptions did to the images, whose images they are, and the means over all of them.

use std::fmt::{self, Write as _};

use super::{count, words};
use crate::measurement::{Measurement, Metric};
use crate::spec::NetworkId;
use crate::state::State;

/// A table of all corruptions: how far each moves the images, and who made them.
pub(super) fn write_effects(state: &State, text: &mut String) -> fmt::Result {
    let mut is_begun = false;
    for network in &state.networks {
        for found in network.measurements.iter() {
            let (Metric::MeanAbsoluteChange, Some(condition)) = (found.metric, &found.condition)
            else {
                continue;
            };
            if !is_begun {
                writeln!(text, "## Corruptions\n")?;
                writeln!(
                    text,
                    "| corruption | severity | mean absolute change, of 255 | PSNR, dB | images | n |"
                )?;
                writeln!(text, "|---|---:|---:|---:|---|---:|")?;
                is_begun = true;
            }
            let number = |found: Option<&Measurement>, decimals: usize| {
                found
                    .and_then(Measurement::scalar)
                    .map_or("-".to_owned(), |value| {
                        if value.is_infinite() {
                            "∞: unchanged".to_owned()
                        } else {
                            format!("{value:.decimals$}")
                        }
                    })
            };
            let psnr = network
                .measurements
                .latest(Metric::Psnr, Some(condition), found.severity);
            let is_official = state.data.iter().any(|facts| {
                facts.reference == network.plan.reference && facts.official.contains(condition)
            });
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                words(condition),
                found.severity.map(|s| s.to_string()).unwrap_or_default(),
                number(Some(found), 2),
                number(psnr, 1),
                if is_official { "official" } else { "made here" },
                count(found.n.map(|n| n as f64)),
            )?;
        }
    }
    if is_begun {
        writeln!(text)?;
    }
    Ok(())
}

/// The means over all corruptions, of a branch and of its reference.
pub(super) fn write_means(state: &State, id: NetworkId, text: &mut String) -> fmt::Result {
    let Some(network) = state.network(id) else {
        return Ok(());
    };
    let latest = |of: NetworkId, metric| {
        let network = state.network(of)?;
        network.measurements.latest(metric, None, None)
    };
    let written = |found: &Measurement, scale: f64, decimals: usize, unit: &str| {
        let number = |value: f64| format!("{:.decimals$}", value * scale);
        let value = number(found.scalar().unwrap_or(f64::NAN));
        let range = found
            .interval
            .map_or("no interval".to_owned(), |(low, high)| {
                format!("{} to {}", number(low.0), number(high.0))
            });
        let n = found.n.map_or(String::new(), |n| format!(", n = {n}"));
        format!("{value}{unit} [{range}{n}]")
    };
    let Some(own) = latest(id, Metric::MeanCorruptionError) else {
        return Ok(());
    };
    write!(
        text,
        "Mean corruption error: {}",
        written(own, 100.0, 2, " %")
    )?;
    if let Some(found) = latest(network.plan.against, Metric::MeanCorruptionError) {
        write!(
            text,
            "; of the reference {}",
            written(found, 100.0, 2, " %")
        )?;
    }
    writeln!(text, ".")?;
    for (metric, name) in [
        (
            Metric::RelativeCorruptionError,
            "Relative corruption error, 1 being the reference's",
        ),
        (
            Metric::RelativeMce,
            "Relative mCE, what corruption adds to the clean error, 1 being the reference's",
        ),
    ] {
        match latest(id, metric) {
            Some(found) => writeln!(text, "{name}: {}.", written(found, 1.0, 3, ""))?,
            None => writeln!(
                text,
                "{name}: undefined, since under some corruption the reference has no such error."
            )?,
        }
    }
    writeln!(text)
}
