//! Domain accuracy: how often a network is right on images of other domains than the one it learned.
//!
//! The share of right answers on every image of each domain that the study names, with Wilson's 95 % interval and the
//! pairs with the reference's answers. Every network is asked the same images.

use crate::catalog::{Entry, Info, text};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::outputs::outputs;
use crate::lab::probe::{Probe, When, answered, finding};
use crate::lab::subject::Subject;
use crate::measurement::{Measurement, Metric, Score, Value};
use crate::nn::network::Workspace;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("domain-accuracy"),
        title: text("Domain accuracy"),
        summary: text(
            "Accuracy on the images of other domains that the study names, for which no network was trained.",
        ),
        reference: text("arXiv:2401.12014"),
        family: text("robustness"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(DomainAccuracy),
};

struct DomainAccuracy;

impl Probe for DomainAccuracy {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, subject: &Subject<'_>) -> u64 {
        subject.data.domains.len() as u64
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let network = &subject.candidate()?.last;
        let mut workspace = Workspace::default();
        let total = self.parts(subject);
        for (done, domain) in subject.data.domains.iter().enumerate() {
            let examples = &domain.examples;
            let right = outputs(network, examples, &mut workspace, &mut || cx.checkpoint())?
                .right(&examples.labels);
            // The share takes the place of this number.
            let value = Value::Scalar(Score(0.0));
            let found = finding(&ENTRY.info.id, Metric::Accuracy, value, subject, stage)?;
            let found = Measurement {
                condition: Some(domain.name.clone()),
                ..found
            };
            cx.measured(answered(found, right, subject))?;
            cx.progress(done as u64 + 1, total, &domain.name)?;
        }
        Ok(())
    }
}
