//! A network under attack: it is asked for logits and for gradients with respect to the pixels, in evaluation mode.

use std::fmt;

use crate::lab::attack::bytes::nearest;
use crate::lab::attack::is_right;
use crate::lab::error::Result;
use crate::nn::device;
use crate::nn::network::{Frozen, Keep, Network, Wanted, Workspace};
use crate::nn::op::fake_quant::Estimator;
use crate::nn::op::{tensor, values};

/// Images that go through the network at once: enough for two threads, few enough for their caches.
const BATCH: usize = 128;

/// Logits of images, row by row, and gradients with respect to their pixels, one set for each direction asked for.
#[derive(Debug, Default)]
pub struct Slopes {
    pub logits: Vec<f32>,
    pub gradients: Vec<Vec<f32>>,
}

/// Fills in a loss's gradient with respect to logits: of an image's place, which of the directions, and its logits.
pub type Direction<'d> = dyn FnMut(usize, usize, &[f32], &mut [f32]) + 'd;

/// A network under attack.
pub struct Victim<'a> {
    network: Frozen<'a>,
    through: Estimator,
    /// Whether it is shown every image as bytes.
    is_rounding: bool,
    batch: usize,
    between: &'a mut dyn FnMut() -> Result<()>,
    /// Images that went forward and backward so far.
    pub passes: u64,
}

impl fmt::Debug for Victim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under attack", self.network.network().name())
    }
}

impl<'a> Victim<'a> {
    /// A network under attack; `between` is asked between batches whether to go on.
    pub fn new(network: &'a Network, between: &'a mut dyn FnMut() -> Result<()>) -> Self {
        Self {
            network: Frozen::new(network, Workspace::default()),
            through: Estimator::StraightThrough,
            is_rounding: false,
            batch: BATCH,
            between,
            passes: 0,
        }
    }

    /// How gradients go back through rounded activations from now on.
    pub fn through(&mut self, estimator: Estimator) {
        self.through = estimator;
    }

    /// Whether it is shown images rounded to bytes from now on; gradients go back as if they were not.
    pub fn set_rounding(&mut self, is_rounding: bool) {
        self.is_rounding = is_rounding;
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.network.network().classes()
    }

    /// So many images at once.
    pub fn set_batch(&mut self, batch: usize) {
        self.batch = batch.max(1);
    }

    /// Logits, row by row.
    ///
    /// # Errors
    /// candle's; and whatever `between` says.
    pub fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>> {
        Ok(self.slopes(pixels, 0, &mut |_, _, _, _| {})?.logits)
    }

    /// Whether each image gets its label.
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn right(&mut self, pixels: &[f32], labels: &[u32]) -> Result<Vec<bool>> {
        let logits = self.logits(pixels)?;
        let rows = logits.chunks_exact(self.classes()).zip(labels);
        Ok(rows.map(|(row, label)| is_right(row, *label)).collect())
    }

    /// Logits and the gradients of a loss of each image with respect to its pixels, in `times` directions.
    ///
    /// `direction` gets an image's place, which of the directions it is, and its logits, and fills in the loss's gradient
    /// with respect to them.
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn slopes(
        &mut self,
        pixels: &[f32],
        times: usize,
        direction: &mut Direction<'_>,
    ) -> Result<Slopes> {
        let each = self.network.network().input().values();
        let whole = pixels.len() / each.max(1);
        let mut found = Slopes {
            logits: Vec::with_capacity(whole * self.classes()),
            gradients: vec![Vec::new(); times],
        };
        let mut done = 0;
        while done < whole {
            let n = self.batch.min(whole - done);
            let part = &pixels[done * each..(done + n) * each];
            match self.of_batch(part, times, done, direction) {
                Ok((logits, gradients)) => {
                    found.logits.extend(logits);
                    for (all, own) in found.gradients.iter_mut().zip(gradients) {
                        all.extend(own);
                    }
                }
                // Images do not see each other here: fewer at a time give the same.
                Err(error) if device::is_out_of_memory(&error) && self.batch > 1 => {
                    self.batch /= 2;
                    let network = self.network.network();
                    self.network = Frozen::new(network, Workspace::default());
                    device::release(&network.device())?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.passes += (n * (1 + times)) as u64;
            done += n;
            (self.between)()?;
        }
        Ok(found)
    }

    fn of_batch(
        &mut self,
        pixels: &[f32],
        times: usize,
        first: usize,
        direction: &mut Direction<'_>,
    ) -> candle_core::Result<(Vec<f32>, Vec<Vec<f32>>)> {
        let input = self.network.network().input();
        let n = pixels.len() / input.values();
        let pixels = if self.is_rounding {
            pixels.iter().map(|pixel| nearest(*pixel)).collect()
        } else {
            pixels.to_vec()
        };
        let images = tensor(pixels, &[n, input.channels, input.height, input.width])?;
        let keep = if times == 0 {
            Keep::Nothing
        } else {
            Keep::Gradients
        };
        let wanted = Wanted::INPUT.through(self.through);
        let classes = self.classes();
        let trace = self.network.trace(&images, keep)?;
        let logits = values(trace.logits())?;
        let mut all = Vec::with_capacity(times);
        let mut spent = Vec::new();
        for which in 0..times {
            let mut d_logits = vec![0.0_f32; n * classes];
            for (at, (row, d)) in logits
                .chunks_exact(classes)
                .zip(d_logits.chunks_exact_mut(classes))
                .enumerate()
            {
                direction(first + at, which, row, d);
            }
            let d_logits = crate::nn::op::beside(trace.logits(), &d_logits)?;
            let mut gradients = trace.backward(&d_logits, wanted)?;
            let own = gradients.input.take().ok_or_else(|| {
                crate::nn::invalid("a backward pass gave no gradient of the images")
            })?;
            all.push(values(&own)?);
            spent.push(gradients);
        }
        drop(trace);
        for gradients in spent {
            self.network.recycle(gradients);
        }
        Ok((logits, all))
    }
}
