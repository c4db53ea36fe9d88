//! Images that were made against one network, asked of the others.

use std::fmt::{self, Write as _};

use super::super::super::Chapter;
use super::super::{budget, share, words};
use super::common_n;
use super::knobs::Asked;
use crate::spec::Method;
use crate::state::NetworkState;
use crate::state::transfer::{asked, matrices};

/// A matrix for all networks that were asked the same images: a row is whom they were made against, a column who was asked.
pub(super) fn write(chapter: &Chapter<'_>, text: &mut String) -> fmt::Result {
    let matrices = matrices(&chapter.state);
    for networks in matrices.iter().filter(|networks| networks.len() > 1) {
        // Which is whose, where there are several.
        let study = chapter.state.study.as_ref().filter(|_| matrices.len() > 1);
        let reference = networks[0].plan.reference as usize;
        let of = study.and_then(|study| study.references.get(reference));
        let of = of.map_or(String::new(), |reference| {
            format!(" on {}", words(&reference.dataset.id))
        });
        write_matrix(chapter, networks, &of, text)?;
    }
    Ok(())
}

fn write_matrix(
    chapter: &Chapter<'_>,
    networks: &[&NetworkState],
    of: &str,
    text: &mut String,
) -> fmt::Result {
    let pairs = networks
        .iter()
        .flat_map(|from| networks.iter().filter_map(|to| asked(to, from)));
    let n = common_n(pairs);
    let first = asked(networks[0], networks[0]);
    let attack = first.and_then(|found| found.condition.as_deref());
    let attack = attack.unwrap_or("pgd");
    let method = Method::plain(attack);
    let usual = Asked::new(chapter.header, &method);
    write!(
        text,
        "**Transfer**{of}: images that {} made against the network of a row",
        words(attack)
    )?;
    if let Some(within) = first.and_then(|found| found.budget) {
        write!(text, " within {}", budget(within.0))?;
        if let Some(norm) = usual.norm() {
            write!(text, " in the {norm} norm")?;
        }
    }
    writeln!(
        text,
        ", asked of the network of a column: the share of all images that it has right{}.\n",
        n.map_or(String::new(), |n| format!(", n = {n}"))
    )?;
    // Names above so many columns would be longer than what stands below them.
    let is_numbered = networks.len() > 4;
    write!(text, "| made against, asked of |")?;
    for (number, network) in networks.iter().enumerate() {
        if is_numbered {
            write!(text, " {} |", number + 1)?;
        } else {
            write!(text, " {} |", words(&network.plan.name))?;
        }
    }
    writeln!(text, "\n|---|{}", "---|".repeat(networks.len()))?;
    for (number, from) in networks.iter().enumerate() {
        let number = if is_numbered {
            format!("{}: ", number + 1)
        } else {
            String::new()
        };
        write!(text, "| {number}{} |", words(&from.plan.name))?;
        for to in networks {
            write!(text, " {} |", share(asked(to, from), n))?;
        }
        writeln!(text)?;
    }
    writeln!(text)?;
    if usual.is_known() {
        writeln!(
            text,
            "Made by {}, as its knobs stand by themselves.\n",
            usual.written(&["epsilons", "images"])
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::measurement::{Measurement, Metric, Score, wilson};
    use crate::report::markdown::tests::{rendered, with};
    use crate::session::sample;
    use crate::spec::NetworkId;

    /// statsmodels 0.15.0: `proportion_confint(k, 200, method="wilson")` of 1 and 71.
    #[test]
    fn a_matrix_names_its_budget_and_n_and_has_intervals() {
        let found = |from: u32, to: u32, hits: u64| {
            let (low, high) = wilson(hits, 200);
            Measurement {
                condition: Some("pgd".to_owned()),
                budget: Some(Score(0.3)),
                against: Some(NetworkId(from)),
                interval: Some((Score(low), Score(high))),
                n: Some(200),
                ..sample::scalar(
                    NetworkId(to),
                    0,
                    Metric::TransferAccuracy,
                    hits as f64 / 200.0,
                )
            }
        };
        let all = [(0, 0, 1), (0, 2, 71), (2, 0, 71), (2, 2, 1)];
        let all = all.map(|(from, to, hits)| found(from, to, hits));
        let text = rendered(&sample::header(), with(all.to_vec()));
        for line in [
            "**Transfer**: images that pgd made against the network of a row within 0.3, asked of the network of a column: \
             the share of all images that it has right, n = 200.",
            "| made against, asked of | reference | magnitude pruning 50 % |",
            "| reference | 0.5 % [0.1, 2.8] | 35.5 % [29.2, 42.3] |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
