//! Latency: how long a forward pass takes on this machine, for one image and for 256.
//!
//! Median, first and ninth decile of repeated passes after warming up, in milliseconds, and the images per second that
//! follow from the median. Computed in the threads of the study; simulated quantization and zeros make nothing faster.
//! A network whose weights and activations are all rounded to at most 8 bits is timed twice on the CPU: as it is, simulated in
//! 32-bit floats, under the conditions `batch-1` and `batch-256` that every network has; and as the integers that it stands
//! for ([`crate::nn::integer`]), under `batch-1-int8` and `batch-256-int8`. Where the processor has no instructions for
//! 8-bit products, a warning says by which others they were computed.
//! A branch and its reference are timed pass by pass in turn, so that what else the machine does meets both alike; the
//! reference's times are then stated against that branch.
//! How often a pass is repeated depends on its multiply-accumulates and not on the clock, so that two runs repeat alike.
//! A large network is timed in fewer passes, and where even those took too long, with fewer images at a time: the number
//! of passes stands beside each figure, the number of images is its condition, and a warning says it.

use std::time::Instant;

use candle_core::{Device, Tensor};

use crate::catalog::{Entry, Info, text};
use crate::event::Warning;
use crate::lab::context::Context;
use crate::lab::data::Examples;
use crate::lab::error::Result;
use crate::lab::outputs::batch;
use crate::lab::probe::{Probe, When, finding};
use crate::lab::statistics::quantile;
use crate::lab::subject::{Kept, Subject};
use crate::measurement::{Measurement, Metric, Score, Value};
use crate::nn::device;
use crate::nn::integer::{IntegerNetwork, IntegerWorkspace};
use crate::nn::layer::Layer;
use crate::nn::network::{Frozen, Network, Workspace};
use crate::nn::op::to_device;
use crate::spec::Role;

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

/// Passes before the first that counts: memory is taken, and the processor has left its rest. The first of all takes the
/// memory, so a large network's is enough.
const WARM_UPS: (u64, u64) = (1, 10);

/// The least and the most repetitions: a decile of fewer than 20 rests on one pass.
const REPETITIONS: (u64, u64) = (20, 100);

/// Repetitions of a network so large that 20 would take too long: a median that one slow pass does not move.
const FEW: u64 = 5;

/// Multiply-accumulates to spend on one batch size: a fraction of a second on two cores.
const BUDGET: u64 = 20_000_000_000;

/// The most of them for each thread, warming up included: ten seconds at the 50 billion a second that a core gives large
/// networks (ResNet-18 in the README's table: 282 images/s of 0.56 billion on two), half a minute on a slow one.
const MOST: u64 = 500_000_000_000;

/// A GPU does the work of at least so many of a CPU's threads.
const GPU: usize = 256;

struct Latency;

impl Probe for Latency {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, _: &Subject<'_>) -> u64 {
        BATCHES.len() as u64
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let candidate = subject.candidate()?;
        let device = candidate.last.device();
        let (integers, remark) = match device {
            Device::Cpu => integers(&candidate.last),
            _ => (None, None),
        };
        if let Some(message) = remark {
            cx.warn(Warning::Other { message })?;
        }
        let mut pieces = vec![Piece::floats(candidate)];
        if subject.network.role == Role::Branch {
            pieces.push(Piece::floats(subject.reference()?));
        }
        let macs = pieces.iter().map(|piece| piece.kept.last.macs()).max();
        let macs = macs.unwrap_or_default();
        pieces.extend(integers.as_ref().map(|integers| Piece {
            kept: candidate,
            network: Timed::Integers(integers, IntegerWorkspace::default()),
        }));
        let (hands, computes) = match (&device, subject.threads) {
            (Device::Cpu, 1) => (1, "1 thread".to_owned()),
            (Device::Cpu, threads) => (threads, format!("{threads} threads")),
            _ => (GPU, "on the GPU".to_owned()),
        };
        for (done, size) in BATCHES.into_iter().enumerate() {
            let passes = passes(macs, size, hands);
            if passes.images < size {
                let message = format!(
                    "latency is measured with {} images at a time instead of {size}: a pass of {size} would take too long",
                    passes.images
                );
                cx.warn(Warning::Other { message })?;
            }
            let (size, repetitions) = (passes.images, passes.repetitions);
            // A small test set is gone through again.
            let indices: Vec<usize> = (0..subject.data.test.len()).cycle().take(size).collect();
            let images = to_device(&batch(&subject.data.test, &indices)?, &device)?;
            let mut milliseconds = vec![Vec::new(); pieces.len()];
            for pass in 0..passes.warm_ups + repetitions {
                for (piece, milliseconds) in pieces.iter_mut().zip(&mut milliseconds) {
                    cx.checkpoint()?;
                    let began = Instant::now();
                    piece.network.forward(&images)?;
                    device::synchronize(&device)?;
                    if pass >= passes.warm_ups {
                        milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
            for (piece, mut milliseconds) in pieces.iter().zip(milliseconds) {
                milliseconds.sort_by(f64::total_cmp);
                let median = quantile(&milliseconds, 0.5);
                for (metric, value) in [
                    (Metric::LatencyMsP50, median),
                    (Metric::LatencyMsP10, quantile(&milliseconds, 0.1)),
                    (Metric::LatencyMsP90, quantile(&milliseconds, 0.9)),
                    (Metric::Throughput, size as f64 / median * 1e3),
                ] {
                    let value = Value::Scalar(Score(value));
                    let found = finding(&ENTRY.info.id, metric, value, subject, stage)?;
                    let mut found = Measurement {
                        condition: Some(piece.condition(size)),
                        n: Some(repetitions),
                        ..found
                    };
                    let Kept { plan, life, .. } = piece.kept;
                    if plan.id != candidate.plan.id {
                        // The reference's passes between the candidate's; its only working stage is the first.
                        (found.network, found.against) = (plan.id, Some(candidate.plan.id));
                        (found.stage, found.epoch) = (0, life.epoch);
                    }
                    cx.measured(found)?;
                }
            }
            cx.progress(
                done as u64 + 1,
                BATCHES.len() as u64,
                &format!("latency, batch-{size}, {repetitions} passes, {computes}"),
            )?;
        }
        Ok(())
    }
}

/// The share of the reference's time that a candidate saves: medians of passes over the same images in turn, as many as
/// the probe would make of 256; of the integers where the candidate is rounded to at most 8 bits.
///
/// # Errors
/// candle's, and that the user stopped it.
pub(crate) fn saved(
    reference: &Network,
    candidate: &Network,
    test: &Examples,
    threads: usize,
    cx: &mut Context<'_>,
) -> Result<f64> {
    let device = candidate.device();
    // By which instructions is said where its latency is stated.
    let (integers, _) = match device {
        Device::Cpu => integers(candidate),
        _ => (None, None),
    };
    let hands = if device.is_cpu() { threads } else { GPU };
    let passes = passes(reference.macs().max(candidate.macs()), BATCHES[1], hands);
    let indices: Vec<usize> = (0..test.len()).cycle().take(passes.images).collect();
    let images = to_device(&batch(test, &indices)?, &device)?;
    let mut of_integers = IntegerWorkspace::default();
    let mut frozen =
        [reference, candidate].map(|network| Frozen::new(network, Workspace::default()));
    let mut milliseconds = [Vec::new(), Vec::new()];
    for pass in 0..passes.warm_ups + passes.repetitions {
        for (network, milliseconds) in frozen.iter_mut().zip(&mut milliseconds) {
            cx.checkpoint()?;
            let began = Instant::now();
            match (&integers, std::ptr::eq(network.network(), candidate)) {
                (Some(integers), true) => _ = integers.forward(&images, &mut of_integers)?,
                _ => _ = network.logits(&images)?,
            }
            device::synchronize(&device)?;
            if pass >= passes.warm_ups {
                milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let [of_reference, of_candidate] = milliseconds.map(|mut milliseconds| {
        milliseconds.sort_by(f64::total_cmp);
        quantile(&milliseconds, 0.5)
    });
    Ok(1.0 - of_candidate / of_reference)
}

/// A network that is timed, in one of its forms.
struct Piece<'a> {
    kept: &'a Kept,
    network: Timed<'a>,
}

/// What is timed: a network as it is, its weights packed once as an inference engine would, or the integers that it
/// stands for.
enum Timed<'a> {
    Floats(Frozen<'a>),
    Integers(&'a IntegerNetwork, IntegerWorkspace),
}

impl Timed<'_> {
    fn forward(&mut self, images: &Tensor) -> Result<()> {
        match self {
            Self::Floats(network) => _ = network.logits(images)?,
            Self::Integers(network, workspace) => _ = network.forward(images, workspace)?,
        }
        Ok(())
    }
}

impl<'a> Piece<'a> {
    fn floats(kept: &'a Kept) -> Self {
        Self {
            kept,
            network: Timed::Floats(Frozen::new(&kept.last, Workspace::default())),
        }
    }

    /// Under which its times are stated.
    fn condition(&self, images: usize) -> String {
        match self.network {
            Timed::Integers(..) => format!("batch-{images}-int8"),
            Timed::Floats(_) => format!("batch-{images}"),
        }
    }
}

/// The integers of a network that is rounded to at most 8 bits; and by which instructions they are computed if not by those
/// made for it, or why there are none.
fn integers(network: &Network) -> (Option<IntegerNetwork>, Option<String>) {
    let levels = network.nodes().iter().filter_map(|node| match node.layer {
        Layer::FakeQuant { .. } => node.layer.levels(),
        _ => None,
    });
    let fits = |count: i64| (1..=255).contains(&count);
    let mut levels = levels.peekable();
    let is_small =
        levels.peek().is_some() && levels.all(|of| fits(i64::from(of.q_max) - i64::from(of.q_min)));
    if !is_small {
        return (None, None);
    }
    match IntegerNetwork::lower(network) {
        Ok(integers) if integers.path().has_vnni() => (Some(integers), None),
        Ok(integers) => {
            let by = integers.path().remark();
            let remark = format!("latency under batch-1-int8 and batch-256-int8: {by}");
            (Some(integers), Some(remark))
        }
        Err(error) => (
            None,
            Some(format!(
                "latency is that of the simulation in floats alone: {error}"
            )),
        ),
    }
}

/// How a batch size is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passes {
    /// At a time.
    images: usize,
    warm_ups: u64,
    repetitions: u64,
}

/// How `images` of so many multiply-accumulates each are timed: first fewer passes, then fewer images at a time.
fn passes(macs: u64, images: usize, threads: usize) -> Passes {
    let most = MOST.saturating_mul(threads.max(1) as u64);
    let macs = macs.max(1);
    let pass = macs.saturating_mul(images as u64);
    let repetitions = (BUDGET / pass).clamp(REPETITIONS.0, REPETITIONS.1);
    let affordable = most / pass;
    if affordable >= WARM_UPS.1 + repetitions {
        return Passes {
            images,
            warm_ups: WARM_UPS.1,
            repetitions,
        };
    }
    let fewest = WARM_UPS.0 + FEW;
    if affordable >= fewest {
        // A third warms up, as it does where 20 passes count.
        let warm_ups = (affordable / 3).clamp(WARM_UPS.0, affordable - FEW);
        return Passes {
            images,
            warm_ups,
            repetitions: (affordable - warm_ups).min(REPETITIONS.0),
        };
    }
    let fewer = (most / fewest / macs).clamp(1, images as u64);
    Passes {
        // A power of two, as people choose batches.
        images: 1 << fewer.ilog2(),
        warm_ups: WARM_UPS.0,
        repetitions: FEW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(macs: u64, images: usize) -> (usize, u64, u64) {
        let passes = passes(macs, images, 2);
        (passes.images, passes.warm_ups, passes.repetitions)
    }

    #[test]
    fn small_passes_are_repeated_more_often() {
        // The lenet of 225,034 parameters has 2,630,000 multiply-accumulates: 256 images fill the budget 29 times.
        assert_eq!(of(0, 256), (256, 10, 100));
        assert_eq!(of(2_630_000, 1), (1, 10, 100));
        assert_eq!(of(2_630_000, 256), (256, 10, 29));
    }

    /// Multiply-accumulates as `architecture` counts them.
    #[test]
    fn large_networks_are_timed_in_fewer_passes_and_then_with_fewer_images() {
        let mobilenet = 46_354_432;
        assert_eq!(of(mobilenet, 256), (256, 10, 20));
        let resnet18 = 555_422_720;
        assert_eq!(of(resnet18, 1), (1, 10, 36));
        assert_eq!(of(resnet18, 256), (256, 2, 5));
        let resnet50_at_224 = 4_089_184_256;
        assert_eq!(of(resnet50_at_224, 1), (1, 10, 20));
        assert_eq!(of(resnet50_at_224, 256), (32, 1, 5));
        assert_eq!(of(1 << 50, 256), (1, 1, 5));
    }

    #[test]
    fn nothing_takes_more_than_the_most() {
        for macs in (0..48).map(|power| 1_u64 << power) {
            for images in BATCHES {
                for threads in [1, 2, 16] {
                    let found = passes(macs, images, threads);
                    let all = (found.warm_ups + found.repetitions) * macs * found.images as u64;
                    let least = (WARM_UPS.0 + FEW) * macs;
                    assert!(
                        all <= (MOST * threads as u64).max(least),
                        "{macs} {images} {threads}: {found:?}"
                    );
                    assert!(found.images <= images && found.repetitions >= FEW);
                }
            }
        }
    }
}
