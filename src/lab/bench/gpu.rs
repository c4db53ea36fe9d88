//! What every op reaches on a GPU, on the shapes of [`super::ops`], beside what the card itself does: products of large
//! matrices by cuBLAS, and copies of a large piece of its memory.

use std::time::{Duration, Instant};

use candle_core::Device;

use super::ops::{CONVOLUTIONS, DEPTHWISE, LINEAR, NORMALIZATIONS, OpPace, padded, strided};
use crate::lab::error::Result;
use crate::nn::device::{self, Precision};
use crate::nn::op::cuda::work::{self, Work};
use crate::nn::op::geometry::Geometry;

/// Rows of the matrices whose product is the ceiling: large enough to fill every card.
const SIDE: usize = 4096;

/// Floats whose copy is the ceiling of memory: 512 MiB, more than any cache.
const COPIED: usize = 128 << 20;

/// Passes that are asked for before one waits for them: small ones must not be timed by the wait.
const AT_ONCE: u32 = 20;

/// The card's own rates: floating-point operations and bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    pub operations: f64,
    pub bytes: f64,
}

/// Seconds of one pass, the quickest of rounds that take about `time` together.
fn seconds(device: &Device, work: &Work, time: Duration) -> Result<f64> {
    work()?;
    device::synchronize(device)?;
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    while began.elapsed() < time || best.is_infinite() {
        let began = Instant::now();
        for _ in 0..AT_ONCE {
            work()?;
        }
        device::synchronize(device)?;
        best = best.min(began.elapsed().as_secs_f64() / f64::from(AT_ONCE));
    }
    Ok(best)
}

/// Times the ceilings, then every op.
///
/// # Errors
/// When there is no such device, or its memory runs out.
pub fn ops(
    name: &str,
    precision: Precision,
    batch: usize,
    time: Duration,
) -> Result<(Ceilings, Vec<OpPace>)> {
    let device = device::open(name, precision)?;
    let product = seconds(&device, &work::product(&device, SIDE)?, time)?;
    let copy = seconds(&device, &work::copy(&device, COPIED)?, time)?;
    let ceilings = Ceilings {
        operations: 2.0 * (SIDE as f64).powi(3) / product,
        bytes: 8.0 * COPIED as f64 / copy,
    };
    let mut paces = Vec::new();
    let mut note = |op, passes: work::Passes, shape: &str, operations: f64, bytes: &[f64]| {
        for ((pass, work), bytes) in passes.iter().zip(bytes.iter().cycle()) {
            paces.push(OpPace {
                op,
                pass,
                shape: shape.to_owned(),
                operations,
                bytes: *bytes,
                seconds: seconds(&device, work, time)?,
            });
        }
        Ok::<_, crate::lab::error::Error>(())
    };
    let layers = CONVOLUTIONS.map(|layer| ("conv2d", layer));
    let linear = LINEAR.map(|(inputs, outputs)| ("linear", (inputs, 1, outputs, 1, 1)));
    for (op, (channels, side, outputs, kernel, stride)) in layers.into_iter().chain(linear) {
        let geometry = padded(channels, side, kernel, stride);
        let shape = format!(
            "{batch}x{side}x{side}x{channels} -> {outputs}, {kernel}x{kernel}{}",
            strided(stride)
        );
        let n = batch * geometry.positions() * outputs;
        let bytes = batch * geometry.image() + outputs * geometry.depth() + n;
        let passes = work::convolution(&device, geometry, outputs, batch)?;
        let operations = 2.0 * (n * geometry.depth()) as f64;
        note(op, passes, &shape, operations, &[4.0 * bytes as f64])?;
    }
    for (channels, side, stride) in DEPTHWISE {
        let geometry: Geometry = padded(channels, side, 3, stride);
        let shape = format!("{batch}x{side}x{side}x{channels}, 3x3{}", strided(stride));
        let n = batch * geometry.positions() * channels;
        let bytes = 4.0 * (batch * geometry.image() + n) as f64;
        let passes = work::depthwise(&device, geometry, batch)?;
        note(
            "depthwise-conv2d",
            passes,
            &shape,
            18.0 * n as f64,
            &[bytes],
        )?;
    }
    for (channels, side) in NORMALIZATIONS {
        let positions = batch * side * side;
        let shape = format!("{batch}x{side}x{side}x{channels}");
        let n = (positions * channels) as f64;
        let passes = work::normalization(&device, channels, positions)?;
        // As on the CPU: the input for the statistics, again, and the output; forward and backward.
        note(
            "batch-norm2d + relu",
            passes,
            &shape,
            0.0,
            &[12.0 * n, 20.0 * n],
        )?;
    }
    let (channels, side) = NORMALIZATIONS[0];
    let n = batch * side * side * channels;
    let shape = format!("{batch}x{side}x{side}x{channels}");
    let passes = vec![("forward", work::sum(&device, n)?)];
    note("add + relu", passes, &shape, 0.0, &[12.0 * n as f64])?;
    Ok((ceilings, paces))
}
