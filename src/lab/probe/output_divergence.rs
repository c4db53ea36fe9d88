//! Output divergence: how far a network's softmax outputs lie from its reference's, image by image.
//!
//! JS = ½ KL(p‖m) + ½ KL(q‖m), m = (p + q) / 2, in nats, mean over the test images; from 0 to ln 2 = 0.6931; Lin 1991.
//! Sharper than agreement: it moves before any answer flips.
//! The 95 % interval is that of a mean over images by the normal approximation, cut at 0.

use crate::catalog::{Entry, Info, text};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, compared, finding, interval};
use crate::lab::statistics::{divergences, mean_with_interval};
use crate::lab::subject::Subject;
use crate::measurement::{Measurement, Metric, Score, Value};

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("output-divergence"),
        title: text("Output divergence"),
        summary: text(
            "Mean Jensen-Shannon divergence of the outputs from the reference's, in nats: 0 where they are equal.",
        ),
        reference: text("doi:10.1109/18.61115"),
        family: text("function"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(OutputDivergence),
};

struct OutputDivergence;

impl Probe for OutputDivergence {
    fn when(&self) -> When {
        When::EveryStage
    }

    fn parts(&self, _: &Subject<'_>) -> u64 {
        1
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let Some([reference, candidate]) = compared(subject)? else {
            return Ok(());
        };
        let divergences = divergences(reference, candidate);
        let (mean, (low, high)) = mean_with_interval(&divergences);
        let found = finding(
            &ENTRY.info.id,
            Metric::Js,
            Value::Scalar(Score(mean)),
            subject,
            stage,
        )?;
        cx.measured(Measurement {
            against: Some(subject.network.against),
            interval: interval((low.max(0.0), high)),
            n: Some(divergences.len() as u64),
            ..found
        })
    }
}
