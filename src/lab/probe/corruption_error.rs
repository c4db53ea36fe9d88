//! Corruption error: how often a network is wrong under every corruption, at each of five severities.
//!
//! E(c, s) = share of wrong answers on a fixed stratified subset of the test images under corruption c at severity s;
//! Hendrycks & Dietterich 2019, arXiv:1903.12261. Every network sees the same bytes.
//! Deviation: errors are reported as they are. The published mean is relative to AlexNet, which exists for ImageNet
//! alone; here the yardstick is the network's own reference.

use crate::catalog::{Entry, Info, text};
use crate::event::Warning;
use crate::lab::context::Context;
use crate::lab::corruption::{Severity, effect};
use crate::lab::error::Result;
use crate::lab::outputs::outputs;
use crate::lab::probe::{Probe, When, finding, interval};
use crate::lab::statistics::wilson;
use crate::lab::subject::Subject;
use crate::measurement::{Measurement, Metric, Score, Value};
use crate::nn::network::Workspace;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("corruption-error"),
        title: text("Corruption error"),
        summary: text(
            "Accuracy and error under every corruption at severities 1 to 5, on the same corrupted images for every \
             network.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("robustness"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(CorruptionError),
};

/// Below this mean change, in grey levels of 255, a corruption does next to nothing: it would round to no change at all.
const LEAST_CHANGE: f64 = 0.5;

struct CorruptionError;

impl Probe for CorruptionError {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, subject: &Subject<'_>) -> u64 {
        (subject.corruptions.len() * Severity::ALL.len()) as u64
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let clean = subject.data.test.select(subject.corrupted_subset);
        let network = &subject.candidate()?.last;
        let mut workspace = Workspace::default();
        let n = clean.len() as u64;
        let total = self.parts(subject);
        let mut done = 0;
        for corruption in subject.corruptions {
            for severity in Severity::ALL {
                let images = subject.corrupted.get(
                    &corruption.id,
                    &corruption.setting,
                    severity,
                    &clean,
                    subject.seed,
                )?;
                if subject.network.id == subject.network.against {
                    let change = effect(&clean, &images).mean_absolute_change;
                    if change < LEAST_CHANGE {
                        cx.warn(Warning::CorruptionWithoutEffect {
                            corruption: corruption.id.clone(),
                            severity: severity.get(),
                            mean_absolute_change: Score(change),
                        })?;
                    }
                }
                let correct = outputs(network, &images, &mut workspace, &mut || cx.checkpoint())?
                    .correct(&clean.labels);
                for (metric, count) in [(Metric::Accuracy, correct), (Metric::Error, n - correct)] {
                    let value = Value::Scalar(Score(count as f64 / n as f64));
                    let found = finding(&ENTRY.info.id, metric, value, subject, stage)?;
                    cx.measured(Measurement {
                        condition: Some(corruption.id.clone()),
                        severity: Some(severity.get()),
                        interval: interval(wilson(count, n)),
                        n: Some(n),
                        ..found
                    })?;
                }
                done += 1;
                cx.progress(
                    done,
                    total,
                    &format!("{}, severity {}", corruption.id, severity.get()),
                )?;
            }
        }
        Ok(())
    }
}
