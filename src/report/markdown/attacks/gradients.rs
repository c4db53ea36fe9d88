//! Whether a network's gradients tell the truth, and every check by how it came out.

use std::fmt::{self, Write as _};

use super::super::{budget, words};
use crate::measurement::{CheckOutcome, MaskingCheck, Value};
use crate::state::{NetworkState, State, rounded, suspicion};

pub(super) fn write(state: &State, network: &NetworkState, text: &mut String) -> fmt::Result {
    let Some(found) = &network.masking else {
        return Ok(());
    };
    let Value::Masking { verdict, checks } = &found.value else {
        return Ok(());
    };
    let right = found.n.unwrap_or(0);
    let images = match suspicion::images(state, found) {
        Some(all) => format!("on the {right} of {all} images that it has right"),
        None => format!("on {right} images, which it has right"),
    };
    write!(
        text,
        "**Gradients of {}: {}**, {images}",
        words(&network.plan.name),
        verdict.word()
    )?;
    let norm = match found.condition.as_deref() {
        Some("linf") => ", L-infinity",
        Some("l2") => ", Euclidean",
        _ => "",
    };
    if let Some(within) = found.budget {
        write!(text, " (budget {}{norm})", budget(within.0))?;
    }
    if let Some(estimator) = found.estimator {
        write!(text, "; {}", suspicion::through(estimator))?;
    }
    writeln!(text, ".\n")?;
    let of = |outcome| checks.iter().filter(move |check| check.outcome == outcome);
    for check in of(CheckOutcome::Failed) {
        let title = suspicion::uncapitalized(&suspicion::said(check));
        writeln!(text, "- found: {} ({})", words(&title), numbers(check))?;
    }
    for check in of(CheckOutcome::Unclear) {
        let said = suspicion::said(check);
        writeln!(text, "- {} ({})", words(&said), numbers(check))?;
    }
    let passed: Vec<String> = of(CheckOutcome::Passed)
        .map(|check| words(&suspicion::uncapitalized(&check.title)))
        .collect();
    if !passed.is_empty() {
        writeln!(text, "- looked for and not found: {}", passed.join("; "))?;
    }
    writeln!(text)
}

/// The two numbers that a check compares.
fn numbers(check: &MaskingCheck) -> String {
    let [a, b] = &check.names;
    let [x, y] = check.numbers.map(|number| rounded(number.0, 3));
    format!("{} {x}, {} {y}", words(a), words(b))
}

#[cfg(test)]
mod tests {
    use crate::measurement::{CheckOutcome, Masking, MaskingCheck, Measurement, Metric};
    use crate::measurement::{Score, Through, Value};
    use crate::report::markdown::tests::{rendered, with};
    use crate::session::sample;
    use crate::spec::NetworkId;

    #[test]
    fn every_check_reads_as_it_came_out() {
        let check = |title: &str, outcome| MaskingCheck {
            id: title.to_lowercase(),
            title: title.to_owned(),
            outcome,
            names: ["broken by FGSM".to_owned(), "broken by PGD".to_owned()],
            numbers: [Score(0.610_638_297_872), Score(0.42)],
            p: None,
        };
        let text = rendered(
            &sample::header(),
            with(vec![Measurement {
                value: Value::Masking {
                    verdict: Masking::Masked,
                    checks: vec![
                        check("Gradients are zero", CheckOutcome::Passed),
                        check("One step is stronger", CheckOutcome::Failed),
                        check("Noise is as strong", CheckOutcome::Unclear),
                        check("Images hold", CheckOutcome::Passed),
                    ],
                },
                condition: Some("linf".to_owned()),
                budget: Some(Score(0.1)),
                estimator: Some(Through::None),
                n: Some(188),
                ..sample::scalar(NetworkId(0), 0, Metric::GradientMasking, 0.0)
            }]),
        );
        let expected = "**Gradients of reference: masked**, on 188 images, which it has right (budget 0.1, L-infinity); no \
                        gradient went through rounded activations.\n\n\
                        - found: one step is stronger (broken by FGSM 0.611, broken by PGD 0.42)\n\
                        - unclear whether noise is as strong (broken by FGSM 0.611, broken by PGD 0.42)\n\
                        - looked for and not found: gradients are zero; images hold\n";
        assert!(text.contains(expected), "{text}");
    }
}
