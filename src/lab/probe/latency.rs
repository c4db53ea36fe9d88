//! Latency: how long a forward pass takes on this machine, for one image and for 256.
//!
//! Median, first and ninth decile of repeated passes after warming up, in milliseconds, and the images per second that
//! follow from the median. Computed in the threads of the study; simulated quantization and zeros make nothing faster.
//! How often a pass is repeated depends on its multiply-accumulates and not on the clock, so that two runs repeat alike.

use std::time::Instant;

use crate::catalog::{Entry, Info, text};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::outputs::batch;
use crate::lab::probe::{Probe, When, finding};
use crate::lab::statistics::quantile;
use crate::lab::subject::Subject;
use crate::measurement::{Measurement, Metric, Score, Value};
use crate::nn::Mode;
use crate::nn::network::Workspace;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("latency"),
        title: text("Latency"),
        summary: text(
            "Time of a forward pass on this machine for 1 and for 256 images, and images per second.",
        ),
        reference: text("arXiv:2003.03033"),
        family: text("cost"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Latency),
};

/// One image, as an edge device sees them; and a batch that fills the caches.
const BATCHES: [usize; 2] = [1, 256];

/// Passes before the first that counts: memory is taken, and the processor has left its rest.
const WARM_UPS: u64 = 10;

/// The least and the most repetitions: a decile of fewer than 20 rests on one pass.
const REPETITIONS: (u64, u64) = (20, 100);

/// Multiply-accumulates to spend on one batch size: about a second on two cores.
const BUDGET: u64 = 20_000_000_000;

struct Latency;

impl Probe for Latency {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, _: &Subject<'_>) -> u64 {
        BATCHES.len() as u64
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let network = &subject.candidate()?.last;
        let mut workspace = Workspace::default();
        for (done, size) in BATCHES.into_iter().enumerate() {
            // A small test set is gone through again.
            let indices: Vec<usize> = (0..subject.data.test.len()).cycle().take(size).collect();
            let images = batch(&subject.data.test, &indices)?;
            let repetitions = repetitions(network.macs() * size as u64);
            let mut milliseconds = Vec::new();
            for pass in 0..WARM_UPS + repetitions {
                cx.checkpoint()?;
                let began = Instant::now();
                network.forward(&images, Mode::Eval, &mut workspace)?;
                if pass >= WARM_UPS {
                    milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
                }
            }
            milliseconds.sort_by(f64::total_cmp);
            let median = quantile(&milliseconds, 0.5);
            let condition = format!("batch-{size}");
            for (metric, value) in [
                (Metric::LatencyMsP50, median),
                (Metric::LatencyMsP10, quantile(&milliseconds, 0.1)),
                (Metric::LatencyMsP90, quantile(&milliseconds, 0.9)),
                (Metric::Throughput, size as f64 / median * 1e3),
            ] {
                let found = finding(
                    &ENTRY.info.id,
                    metric,
                    Value::Scalar(Score(value)),
                    subject,
                    stage,
                )?;
                cx.measured(Measurement {
                    condition: Some(condition.clone()),
                    n: Some(repetitions),
                    ..found
                })?;
            }
            let threads = match subject.threads {
                1 => "1 thread".to_owned(),
                threads => format!("{threads} threads"),
            };
            cx.progress(
                done as u64 + 1,
                BATCHES.len() as u64,
                &format!("latency, {condition}, {threads}"),
            )?;
        }
        Ok(())
    }
}

/// How often a pass of so many multiply-accumulates is repeated.
fn repetitions(macs: u64) -> u64 {
    (BUDGET / macs.max(1)).clamp(REPETITIONS.0, REPETITIONS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_passes_are_repeated_more_often() {
        // The lenet of 225,034 parameters has 2,630,000 multiply-accumulates: 256 images fill the budget 29 times.
        assert_eq!(
            [0, 2_630_000, 256 * 2_630_000, 1 << 40].map(repetitions),
            [100, 100, 29, 20]
        );
    }
}
