//! Accuracy: the share of test images whose largest output is their label's.
//!
//! With Wilson's 95 % score interval over the images (Wilson 1927). Among equal outputs the first class counts.

use crate::catalog::{Entry, Info, text};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, answered, finding, latest};
use crate::lab::subject::Subject;
use crate::measurement::{Metric, Score, Value};

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("accuracy"),
        title: text("Accuracy"),
        summary: text(
            "Share of the test images that are classified correctly, with Wilson's interval.",
        ),
        reference: text("doi:10.1080/01621459.1927.10502953"),
        family: text("quality"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Accuracy),
};

struct Accuracy;

impl Probe for Accuracy {
    fn when(&self) -> When {
        When::EveryStage
    }

    fn parts(&self, _: &Subject<'_>) -> u64 {
        1
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let labels = &subject.data.test.labels;
        let right = latest(subject.candidate()?)?.right(labels);
        // The share takes the place of this number.
        let value = Value::Scalar(Score(0.0));
        let found = finding(&ENTRY.info.id, Metric::Accuracy, value, subject, stage)?;
        cx.measured(answered(found, right, subject))
    }
}
