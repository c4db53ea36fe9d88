//! The means over all corruptions, and why one of them is undefined.

use std::fmt::{self, Write as _};

use super::super::{percent, words};
use super::DOMAINS;
use crate::measurement::{Measurement, Metric};
use crate::spec::{NetworkId, Role};
use crate::state::comparison::{AccuracyRow, Comparison};
use crate::state::{NetworkState, State, counted};

fn latest(state: &State, of: NetworkId, metric: Metric) -> Option<&Measurement> {
    let network = state.network(of)?;
    network.measurements.latest(metric, None, None)
}

/// With interval and n: `15.00 % [13.00 to 17.00, n = 1000]`.
fn written(found: &Measurement) -> String {
    let (scale, decimals, unit) = match found.metric {
        Metric::MeanCorruptionError => (100.0, 2, " %"),
        _ => (1.0, 3, ""),
    };
    let number = |value: f64| format!("{:.decimals$}", value * scale);
    let value = number(found.scalar().unwrap_or(f64::NAN));
    let range = match found.interval {
        Some((low, high)) => format!("{} to {}", number(low.0), number(high.0)),
        None if unit.is_empty() => "no interval, since some draws leave it undefined".to_owned(),
        None => "no interval".to_owned(),
    };
    let n = found.n.map_or(String::new(), |n| format!(", n = {n}"));
    format!("{value}{unit} [{range}{n}]")
}

/// The multiples of a reference's error.
const RELATIVE: [(Metric, &str); 2] = [
    (
        Metric::RelativeCorruptionError,
        "Relative corruption error, 1 being the reference's",
    ),
    (
        Metric::RelativeMce,
        "Relative mCE, what corruption adds to the clean error, 1 being the reference's",
    ),
];

/// The means of networks side by side.
pub(super) fn write_table(
    state: &State,
    networks: &[&NetworkState],
    text: &mut String,
) -> fmt::Result {
    let error = |network: &NetworkState| {
        let id = network.plan.id;
        latest(state, id, Metric::MeanCorruptionError)
    };
    if networks.iter().all(|network| error(network).is_none()) {
        return Ok(());
    }
    writeln!(
        text,
        "| network | mean corruption error | relative corruption error | relative mCE |"
    )?;
    writeln!(text, "|---|---|---|---|")?;
    for network in networks {
        let (id, against) = (network.plan.id, network.plan.against);
        write!(
            text,
            "| {} | {} |",
            words(&network.plan.name),
            error(network).map_or("-".to_owned(), written)
        )?;
        for (metric, _) in RELATIVE {
            let cell = match latest(state, id, metric) {
                Some(found) => written(found),
                None if id == against || error(network).is_none() => "-".to_owned(),
                None => "undefined".to_owned(),
            };
            write!(text, " {cell} |")?;
        }
        writeln!(text)?;
    }
    writeln!(text)?;
    let is_undefined = |metric| {
        networks.iter().any(|network| {
            let (id, against) = (network.plan.id, network.plan.against);
            id != against && error(network).is_some() && latest(state, id, metric).is_none()
        })
    };
    for (metric, name) in RELATIVE {
        let mut references = networks.iter();
        let reference = references.find(|network| network.plan.role == Role::Reference);
        if let Some(reference) = reference.filter(|_| is_undefined(metric)) {
            let why = why_undefined(state, reference.plan.id, metric);
            writeln!(text, "{name}: undefined, {why}.\n")?;
        }
    }
    Ok(())
}

/// The means over all corruptions, of a branch and of its reference.
pub(in crate::report::markdown) fn write(
    state: &State,
    id: NetworkId,
    text: &mut String,
) -> fmt::Result {
    let Some(network) = state.network(id) else {
        return Ok(());
    };
    let Some(own) = latest(state, id, Metric::MeanCorruptionError) else {
        return Ok(());
    };
    let against = network.plan.against;
    write!(text, "Mean corruption error: {}", written(own))?;
    if let Some(found) = latest(state, against, Metric::MeanCorruptionError) {
        write!(text, "; of the reference {}", written(found))?;
    }
    writeln!(text, ".")?;
    for (metric, name) in RELATIVE {
        match latest(state, id, metric) {
            Some(found) => writeln!(text, "{name}: {}.", written(found))?,
            None => writeln!(
                text,
                "{name}: undefined, {}.",
                why_undefined(state, against, metric)
            )?,
        }
    }
    writeln!(text)
}

/// How the reference errs under one corruption.
struct Under {
    condition: String,
    /// Mean over severities.
    error: f64,
    n: Option<u64>,
    /// Whether no value of any image was changed, at any severity.
    is_unchanged: bool,
}

fn under(state: &State, reference: NetworkId, rows: &[&AccuracyRow]) -> Option<Under> {
    let first = rows[0];
    let condition = first.condition.clone()?;
    if first.budget.is_some() || first.probe == DOMAINS {
        return None;
    }
    let mean = AccuracyRow::mean(rows)?.candidate?;
    let all = &state.network(reference)?.measurements;
    let is_unchanged = rows.iter().all(|row| {
        let change = all.latest(Metric::MeanAbsoluteChange, Some(&condition), row.severity);
        change.and_then(Measurement::scalar) == Some(0.0)
    });
    Some(Under {
        condition,
        error: 1.0 - mean.value,
        n: mean.n,
        is_unchanged,
    })
}

/// Shares of images that are equal may differ by this, as sums of them do.
const DUST: f64 = 1e-9;

/// Which corruptions leave a multiple of the reference's error undefined, as far as the recorded errors tell.
///
/// The multiple is over what corruption adds to the clean error on the very images that were corrupted. Where those are not
/// all test images, that error is not recorded: then only a corruption that changes nothing is certain, and otherwise
/// the clean error on all of them is what there is to go by.
fn why_undefined(state: &State, reference: NetworkId, metric: Metric) -> String {
    let Some(found) = Comparison::of(state, reference) else {
        return "since its reference was not measured".to_owned();
    };
    let all: Vec<Under> = found
        .by_condition()
        .iter()
        .filter_map(|rows| under(state, reference, rows))
        .collect();
    let list = |which: &dyn Fn(&&Under) -> bool, note: &dyn Fn(&Under) -> String| {
        let named = all.iter().filter(which);
        let named: Vec<String> = named
            .map(|under| words(&under.condition) + &note(under))
            .collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    if metric == Metric::RelativeCorruptionError {
        let named = list(&|under| under.error < DUST, &|_| String::new());
        return match named {
            Some(named) => format!("since the reference makes no error under {named}"),
            None => "since under some corruption the reference makes no error, or was not \
                     measured"
                .to_owned(),
        };
    }
    let clean = found.clean().and_then(|row| row.candidate);
    let clean_error = clean.map(|clean| 1.0 - clean.value);
    let is_no_more = |under: &Under| clean_error.is_some_and(|error| under.error < error + DUST);
    let is_same_n = |under: &Under| clean.is_some_and(|clean| clean.n == under.n);
    let note = |under: &Under| {
        if under.is_unchanged {
            " (which changes nothing)".to_owned()
        } else {
            format!(" ({})", percent(under.error))
        }
    };
    let certain = list(
        &|under| under.is_unchanged || is_same_n(under) && is_no_more(under),
        &note,
    );
    if let Some(named) = certain {
        // Of other images the error would be no yardstick.
        let clean = clean_error.filter(|_| all.iter().all(is_same_n));
        let clean = clean.map_or(String::new(), |error| format!(" ({})", percent(error)));
        return format!(
            "since the reference errs no more often under {named} than on clean images{clean}"
        );
    }
    let why = "since under some corruption the reference errs no more often than on the same \
               images as they are";
    let likely = list(&|under| is_no_more(under), &note);
    match (likely, clean_error) {
        (Some(named), Some(error)) => format!(
            "{why}; by its error on all {}, {}, that is {named}",
            counted(clean.and_then(|clean| clean.n).unwrap_or(0), "clean image"),
            percent(error)
        ),
        _ => format!("{why}; which, the recorded errors do not tell"),
    }
}

#[cfg(test)]
mod tests {
    use crate::measurement::{Measurement, Metric, Score};
    use crate::report::markdown::tests::{rendered, with};
    use crate::session::sample;
    use crate::spec::NetworkId;

    fn found(network: u32, metric: Metric, condition: Option<&str>, value: f64) -> Measurement {
        Measurement {
            condition: condition.map(str::to_owned),
            probe: "corruption-error".to_owned(),
            ..sample::scalar(NetworkId(network), 0, metric, value)
        }
    }

    /// The reference has 5 % of its clean images wrong, and more under the sample's noise.
    fn told(more: Vec<Measurement>) -> String {
        let mut all = vec![
            found(0, Metric::MeanCorruptionError, None, 0.15),
            found(2, Metric::MeanCorruptionError, None, 0.2),
            found(2, Metric::RelativeCorruptionError, None, 1.3),
        ];
        all.extend(more);
        let text = rendered(&sample::header(), with(all));
        let name =
            "Relative mCE, what corruption adds to the clean error, 1 being the reference's: ";
        let (_, rest) = text.split_once(name).unwrap();
        rest.lines().next().unwrap().to_owned()
    }

    #[test]
    fn what_makes_the_relative_error_undefined_is_named() {
        assert_eq!(
            told(vec![found(0, Metric::Error, Some("brightness"), 0.04)]),
            "undefined, since the reference errs no more often under brightness (4.0 %) than on clean images (5.0 %)."
        );
        let fog = Some("random-fog:published");
        assert_eq!(
            told(vec![
                found(0, Metric::Error, fog, 0.06),
                found(0, Metric::MeanAbsoluteChange, fog, 0.0),
            ]),
            "undefined, since the reference errs no more often under random-fog:published (which changes nothing) than on \
             clean images (5.0 %)."
        );
        let fewer = |value| Measurement {
            n: Some(200),
            ..found(0, Metric::Error, Some("brightness"), value)
        };
        assert!(told(vec![fewer(0.04)]).ends_with(
            "by its error on all 1,000 clean images, 5.0 %, that is brightness (4.0 %)."
        ));
        assert!(told(vec![fewer(0.07)]).ends_with("the recorded errors do not tell."));
    }

    #[test]
    fn what_is_defined_has_its_interval_or_the_reason_for_none() {
        let relative = |interval| Measurement {
            interval,
            ..found(2, Metric::RelativeMce, None, 0.838)
        };
        let ends = Some((Score(0.7), Score(1.02)));
        assert_eq!(
            told(vec![relative(ends)]),
            "0.838 [0.700 to 1.020, n = 1000]."
        );
        assert_eq!(
            told(vec![relative(None)]),
            "0.838 [no interval, since some draws leave it undefined, n = 1000]."
        );
    }
}
