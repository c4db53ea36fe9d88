//! Stages and warnings in words.

use super::{counted, rounded};
use crate::event::Warning;
use crate::spec::StageKind;

/// What a stage is called in a sentence about what happens now.
pub fn doing(kind: StageKind) -> &'static str {
    match kind {
        StageKind::Train => "training",
        StageKind::Compress => "compressing",
        StageKind::FineTune => "fine-tuning",
        StageKind::Measure => "measuring",
    }
}

/// A warning as one sentence.
pub fn say(warning: &Warning) -> String {
    match warning {
        Warning::DataIncomplete {
            dataset,
            found,
            official,
        } => format!("{dataset} has {found} of the official {official} training images here"),
        Warning::BudgetExceeded {
            attack,
            distance,
            budget,
        } => {
            // As many digits as tell them apart: an excess is often no more than the dust of rounding.
            let (distance, budget) = (distance.0, budget.0);
            let written = |digits| [distance, budget].map(|value| rounded(value, digits));
            let apart = (4..=17).map(written).find(|[a, b]| a != b);
            let [moved, allowed] = apart.unwrap_or_else(|| written(4));
            format!(
                "{attack} moved an image by {moved} where {allowed} are allowed, in pixels from 0 to 1, or out of their range; its numbers are left out"
            )
        }
        Warning::LossNotFinite { step } => format!("the loss was not finite at step {step}"),
        Warning::CorruptionWithoutEffect {
            corruption,
            severity,
            mean_absolute_change,
        } => {
            let strength = match severity {
                0 => String::new(),
                severity => format!(" at severity {severity}"),
            };
            let change = mean_absolute_change.0;
            if change == 0.0 {
                format!("{corruption}{strength} changes nothing at all: no value of any image")
            } else {
                format!(
                    "{corruption}{strength} hardly changes the images: {} grey levels of 255 on average",
                    rounded(change, 2)
                )
            }
        }
        Warning::FilesSkipped {
            dataset,
            skipped,
            files,
        } => {
            let named = files.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
            let more = match files.len() {
                0..=3 => "",
                _ => "; and others, all named in the session",
            };
            format!(
                "{dataset}: {} skipped: {named}{more}",
                counted(*skipped, "file")
            )
        }
        Warning::Other { message } => message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_warnings_are_written_as_people_write_them() {
        let exceeded = |distance: f64, budget: f64| {
            say(&Warning::BudgetExceeded {
                attack: "pgd".to_owned(),
                distance: distance.into(),
                budget: budget.into(),
            })
        };
        assert!(
            exceeded(0.312_345_678, 8.0 / 255.0)
                .contains("by 0.3123 where 0.03137 are allowed, in pixels from 0 to 1")
        );
        assert!(exceeded(0.300_001_2, 0.3).contains("by 0.300001 where 0.3 are"));
        assert!(exceeded(0.3, 0.3).contains("by 0.3 where 0.3 are"));
        assert!(exceeded(f64::NAN, 0.3).contains("by NaN where 0.3 are"));
        let change = Warning::CorruptionWithoutEffect {
            corruption: "pixel-dropout".to_owned(),
            severity: 1,
            mean_absolute_change: 0.333_639_030_612_244_9.into(),
        };
        assert_eq!(
            say(&change),
            "pixel-dropout at severity 1 hardly changes the images: 0.33 grey levels of 255 on average"
        );
    }
}
