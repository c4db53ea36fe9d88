//! What the corruptions did to the images, whose images they are, and what references and twins made of them. A branch
//! has a table of its own, beside its reference.

use std::fmt::{self, Write as _};

use super::{count, estimate, words};
use crate::measurement::{Measurement, Metric};
use crate::spec::Role;
use crate::state::comparison::{AccuracyRow, Comparison, Estimate};
use crate::state::{NetworkState, State};

mod means;

pub(super) use means::write as write_means;

/// The probe that asks other domains.
const DOMAINS: &str = "domain-accuracy";

/// The sections on corruptions and on other domains, where networks were asked of any.
pub(super) fn write(state: &State, text: &mut String) -> fmt::Result {
    let mut is_begun = write_effects(state, text)?;
    let mut references: Vec<u32> = state.networks.iter().map(|n| n.plan.reference).collect();
    references.sort_unstable();
    references.dedup();
    for reference in &references {
        let table = Table::of(state, *reference, |row| row.probe != DOMAINS);
        if table.conditions.is_empty() {
            continue;
        }
        if !is_begun {
            writeln!(text, "## Corruptions\n")?;
            is_begun = true;
        }
        table.write("corruption", text)?;
        means::write_table(state, &table.networks, text)?;
    }
    let mut is_begun = false;
    for reference in &references {
        let table = Table::of(state, *reference, |row| row.probe == DOMAINS);
        if table.conditions.is_empty() {
            continue;
        }
        if !is_begun {
            writeln!(text, "## Other domains\n")?;
            is_begun = true;
        }
        table.write("domain", text)?;
    }
    Ok(())
}

/// Accuracies of networks without a table of their own, side by side.
struct Table<'a> {
    networks: Vec<&'a NetworkState>,
    /// Of each network, the clean images first.
    found: Vec<Comparison>,
    /// Conditions with their severities.
    conditions: Vec<(String, Vec<Option<u8>>)>,
}

impl<'a> Table<'a> {
    /// The reference of that number and its twins, under the conditions without a budget that are meant.
    fn of(state: &'a State, reference: u32, is_meant: impl Fn(&AccuracyRow) -> bool) -> Self {
        let mut table = Self {
            networks: Vec::new(),
            found: Vec::new(),
            conditions: Vec::new(),
        };
        for network in &state.networks {
            let is_shown = network.plan.reference == reference && network.plan.role != Role::Branch;
            let found = Comparison::of(state, network.plan.id).filter(|_| is_shown);
            let Some(found) = found else {
                continue;
            };
            for rows in found.by_condition() {
                let first = rows[0];
                let Some(condition) = &first.condition else {
                    continue;
                };
                if first.budget.is_some() || first.candidate.is_none() || !is_meant(first) {
                    continue;
                }
                let own = rows.iter().map(|row| row.severity);
                let mut all = table.conditions.iter_mut();
                match all.find(|(known, _)| known == condition) {
                    Some((_, known)) => {
                        for severity in own {
                            if !known.contains(&severity) {
                                known.push(severity);
                            }
                        }
                    }
                    None => table.conditions.push((condition.clone(), own.collect())),
                }
            }
            table.networks.push(network);
            table.found.push(found);
        }
        table
    }

    fn write(&self, what: &str, text: &mut String) -> fmt::Result {
        write!(text, "| {what} |{}", self.severity("severity"))?;
        for network in &self.networks {
            write!(text, " {} |", words(&network.plan.name))?;
        }
        let ruler = if self.has_severities() { "---:|" } else { "" };
        writeln!(text, "\n|---|{ruler}{}", "---|".repeat(self.networks.len()))?;
        self.line("clean images", "", text, |found| found.clean()?.candidate)?;
        for (condition, severities) in &self.conditions {
            let at = |found: &Comparison, severity: Option<u8>| {
                let mut rows = found.accuracies.iter();
                let row = rows.find(|row| {
                    row.condition.as_deref() == Some(condition)
                        && (row.severity, row.budget) == (severity, None)
                });
                row?.candidate
            };
            for severity in severities {
                let strength = severity.map(|s| s.to_string()).unwrap_or_default();
                self.line(condition, &strength, text, |found| at(found, *severity))?;
            }
            if severities.len() > 1 && severities.iter().all(Option::is_some) {
                self.line(condition, "mean", text, |found| {
                    Estimate::mean(severities.iter().map(|severity| at(found, *severity)))
                })?;
            }
        }
        writeln!(text)
    }

    fn has_severities(&self) -> bool {
        let mut all = self.conditions.iter().flat_map(|(_, all)| all);
        all.any(Option::is_some)
    }

    /// The cell of a severity, where there are any.
    fn severity(&self, written: &str) -> String {
        if self.has_severities() {
            format!(" {written} |")
        } else {
            String::new()
        }
    }

    /// What each network has right.
    fn line(
        &self,
        condition: &str,
        severity: &str,
        text: &mut String,
        of: impl Fn(&Comparison) -> Option<Estimate>,
    ) -> fmt::Result {
        write!(text, "| {} |{}", words(condition), self.severity(severity))?;
        for found in &self.found {
            write!(text, " {} |", estimate(of(found).as_ref()))?;
        }
        writeln!(text)
    }
}

/// A table of all corruptions: how far each moves the images, and who made them. Whether there was any.
fn write_effects(state: &State, text: &mut String) -> Result<bool, fmt::Error> {
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
    Ok(is_begun)
}

#[cfg(test)]
mod tests {
    use crate::event::Event;
    use crate::measurement::{Measurement, Metric, Score, wilson};
    use crate::report::markdown::tests::{rendered, with};
    use crate::session::sample;
    use crate::spec::{NetworkId, Role};

    /// A study of a reference and a twin.
    fn without_branches(found: Vec<Measurement>) -> String {
        let mut events = with(found);
        events.retain(|event| match event {
            Event::Measured(found) => found.network != NetworkId(2),
            _ => true,
        });
        let Some(Event::StudyStarted { study, networks }) = events.first_mut() else {
            panic!("a story begins with its study");
        };
        study.references[0].branches.clear();
        networks.retain(|plan| plan.role != Role::Branch);
        rendered(&sample::header(), events)
    }

    #[test]
    fn a_study_without_branches_tells_its_accuracies_under_corruption() {
        let error = |network| Measurement {
            interval: Some((Score(0.13), Score(0.17))),
            ..sample::scalar(NetworkId(network), 0, Metric::MeanCorruptionError, 0.15)
        };
        let relative = Measurement {
            interval: Some((Score(1.01), Score(1.12))),
            ..sample::scalar(NetworkId(1), 0, Metric::RelativeCorruptionError, 1.064)
        };
        let text = without_branches(vec![error(0), error(1), relative]);
        for line in [
            "| corruption | severity | reference | twin 1 |",
            "| clean images |  | 95.0 % (93.5 % to 96.2 %, n = 1000) | 94.5 % (92.9 % to 95.8 %, n = 1000) |",
            "| gaussian-noise | 2 | 80.0 % (78.0 % to 82.0 %, n = 1000) | 80.0 % (78.0 % to 82.0 %, n = 1000) |",
            "| gaussian-noise | mean | 85.0 % (83.0 % to 87.0 %, n = 1000) | 85.0 % (83.0 % to 87.0 %, n = 1000) |",
            "| reference | 15.00 % [13.00 to 17.00, n = 1000] | - | - |",
            "| twin 1 | 15.00 % [13.00 to 17.00, n = 1000] | 1.064 [1.010 to 1.120, n = 1000] | undefined |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn other_domains_have_a_table_of_their_own() {
        let (low, high) = wilson(810, 1_000);
        let text = without_branches(vec![Measurement {
            probe: "domain-accuracy".to_owned(),
            condition: Some("chalk".to_owned()),
            interval: Some((Score(low), Score(high))),
            ..sample::scalar(NetworkId(0), 0, Metric::Accuracy, 0.81)
        }]);
        let (corruptions, domains) = text.split_once("## Other domains").unwrap();
        assert!(!corruptions.contains("chalk"), "{text}");
        // statsmodels 0.15.0: `proportion_confint(810, 1000, method="wilson")`.
        let row = "| chalk | 81.0 % (78.5 % to 83.3 %, n = 1000) | - |";
        assert!(domains.contains(row), "{text}");
    }
}
