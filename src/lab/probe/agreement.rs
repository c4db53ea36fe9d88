//! Agreement: on how many test images a network gives the same answer as its reference, and how the others differ.
//!
//! The rest is churn: *good* from wrong to right, *bad* from right to wrong, *ugly* from wrong to another wrong answer;
//! agreement + good + bad + ugly = 1. Milani Fard et al. 2016, "Launch and iterate: reducing prediction churn".
//! With Wilson's 95 % interval over the images.

use crate::catalog::{Entry, Info, text};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, compared, finding, interval};
use crate::lab::statistics::{Churn, wilson};
use crate::lab::subject::Subject;
use crate::measurement::{Measurement, Metric, Score, Value};

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("agreement"),
        title: text("Agreement"),
        summary: text(
            "Share of the test images with the reference's answer; the rest by whether it was righted, spoiled or \
             replaced by another mistake.",
        ),
        reference: text("Milani Fard et al. 2016"),
        family: text("function"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Agreement),
};

struct Agreement;

impl Probe for Agreement {
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
        let churn = Churn::count(
            &reference.predictions(),
            &candidate.predictions(),
            &subject.data.test.labels,
        );
        let n = churn.n();
        for (metric, count) in [
            (Metric::Agreement, churn.same),
            (Metric::ChurnGood, churn.good),
            (Metric::ChurnBad, churn.bad),
            (Metric::ChurnUgly, churn.ugly),
        ] {
            let value = Value::Scalar(Score(count as f64 / n as f64));
            let found = finding(&ENTRY.info.id, metric, value, subject, stage)?;
            cx.measured(Measurement {
                against: Some(subject.network.against),
                interval: interval(wilson(count, n)),
                n: Some(n),
                ..found
            })?;
        }
        Ok(())
    }
}
