//! Calibration: what the activations of a network are like on training images.
//!
//! The images are a stratified sample of the training images without the validation split: nothing is chosen on the test
//! images. They go through in evaluation mode, in batches of 32, before anything is rounded.

use crate::lab::compression::Start;
use crate::lab::context::Context;
use crate::lab::data::Examples;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::batch;
use crate::lab::quantization::ranges::{Rule, Seen};
use crate::nn::network::{Frozen, Network};
use crate::nn::op::values;
use crate::nn::trace::{Keep, Trace};
use crate::nn::workspace::Workspace;

/// Images of a batch: what one step of a moving average sees.
pub const BATCH: usize = 32;

/// Images between two reports.
const REPORT_EVERY: usize = 8 * BATCH;

/// The images to calibrate on.
pub struct Sample<'a> {
    pub examples: &'a Examples,
    /// Their places among the examples, every class in its share.
    pub indices: Vec<usize>,
}

impl<'a> Sample<'a> {
    /// At most so many training images.
    pub fn of(start: &Start<'a>, images: usize) -> Self {
        let data = start.subject.data;
        let train = data.train.select(&data.split.train);
        let chosen = train.stratified(images, start.subject.seed);
        Self {
            examples: &data.train,
            indices: chosen
                .into_iter()
                .map(|index| data.split.train[index])
                .collect(),
        }
    }

    /// Sends the images through a network, batch by batch, and keeps the output of every node for a look.
    ///
    /// # Errors
    /// candle's, the look's, and when the user stopped it.
    pub fn through(
        &self,
        network: &Network,
        what: &str,
        cx: &mut Context<'_>,
        look: &mut dyn FnMut(&Trace<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut network = Frozen::new(network, Workspace::default());
        let total = self.indices.len();
        let mut seen = 0;
        for indices in self.indices.chunks(BATCH) {
            let images = batch(self.examples, indices)?;
            let trace = network.trace(&images, Keep::Activations)?;
            look(&trace)?;
            seen += indices.len();
            if seen == total || seen.is_multiple_of(REPORT_EVERY) {
                cx.progress(seen as u64, total as u64, what)?;
            } else {
                cx.checkpoint()?;
            }
        }
        Ok(())
    }

    /// What is seen at these places; with histograms where the rule needs them, which is a second look.
    ///
    /// # Errors
    /// As [`Self::through`].
    pub fn seen(
        &self,
        network: &Network,
        places: &[usize],
        rule: Rule,
        cx: &mut Context<'_>,
    ) -> Result<Vec<Seen>> {
        let mut seen = vec![Seen::default(); places.len()];
        let what = "looking up the ranges of activations";
        self.through(network, what, cx, &mut |trace| {
            for (&place, seen) in places.iter().zip(&mut seen) {
                seen.look(&output(trace, place)?);
            }
            Ok(())
        })?;
        for seen in &mut seen {
            seen.histogram = seen.histogram_for(rule);
        }
        if seen.iter().any(|seen| seen.histogram.is_some()) {
            let what = "counting activations";
            self.through(network, what, cx, &mut |trace| {
                for (&place, seen) in places.iter().zip(&mut seen) {
                    seen.count(rule, &output(trace, place)?);
                }
                Ok(())
            })?;
        }
        Ok(seen)
    }

    /// The mean of each channel of these nodes' outputs.
    ///
    /// # Errors
    /// As [`Self::through`].
    pub fn means(
        &self,
        network: &Network,
        nodes: &[usize],
        cx: &mut Context<'_>,
    ) -> Result<Vec<Vec<f64>>> {
        let channels = nodes.iter().map(|at| network.shape(*at)[0]);
        let mut sums: Vec<Vec<f64>> = channels.map(|n| vec![0.0; n]).collect();
        let mut rows = vec![0_u64; nodes.len()];
        self.through(
            network,
            "looking up means of activations",
            cx,
            &mut |trace| {
                for ((at, sums), rows) in nodes.iter().zip(&mut sums).zip(&mut rows) {
                    // Channels are last.
                    for row in output(trace, *at)?.chunks_exact(sums.len()) {
                        for (sum, value) in sums.iter_mut().zip(row) {
                            *sum += f64::from(*value);
                        }
                        *rows += 1;
                    }
                }
                Ok(())
            },
        )?;
        for (sums, rows) in sums.iter_mut().zip(rows) {
            for sum in sums {
                *sum /= rows.max(1) as f64;
            }
        }
        Ok(sums)
    }
}

/// What a node gave.
pub fn output(trace: &Trace<'_>, node: usize) -> Result<Vec<f32>> {
    let activation = trace
        .activation(node)
        .ok_or_else(|| Error::Internal(format!("the activations of node {node} were not kept")))?;
    Ok(values(activation)?)
}
