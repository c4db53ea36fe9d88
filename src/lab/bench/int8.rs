//! Networks of integers beside the same in floats: how fast each is used.
//!
//! Random images and weights; the network is rounded to 8 bits as post-training quantization leaves it, with ranges of the
//! same images. Passes of the network in 32-bit floats, before it was rounded, and of the integers take turns, so that
//! what else the machine does meets both alike; what counts is the median of each.

use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::{LEAST_STEPS, Phase, WARM_UPS};
use crate::lab::error::Result;
use crate::lab::quantization::levels::{Symmetry, Weights, asymmetric};
use crate::lab::quantization::{Activations, places, round_biases};
use crate::lab::statistics::quantile;
use crate::lab::worker::pool;
use crate::nn::Mode;
use crate::nn::device::Precision;
use crate::nn::integer::{IntegerNetwork, IntegerWorkspace};
use crate::nn::network::{Frozen, Keep, Network, Workspace};
use crate::nn::op::values;
use crate::nn::parameters::ParameterRole;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The architecture's id.
    pub architecture: &'a str,
    /// Images of a pass.
    pub batch: usize,
    pub threads: usize,
    pub time: Duration,
}

/// How fast both went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paces {
    /// Passes of each that counted.
    pub steps: usize,
    /// Seconds of the median pass.
    pub float: f64,
    pub integer: f64,
}

/// Times both networks.
///
/// # Errors
/// When there is no such architecture, it has layers without an integer form, or the system gives no more threads.
pub fn paces(asked: &Asked<'_>) -> Result<Paces> {
    pool(asked.threads)?.install(|| {
        let bench = super::Asked {
            architecture: asked.architecture,
            phase: Phase::Eval,
            batch: asked.batch,
            threads: asked.threads,
            time: asked.time,
            device: "cpu",
            precision: Precision::default(),
        };
        let bench = super::Bench::new(&bench)?;
        let simulated = quantized(&bench.network, &bench.images, Granularity::Channel, 8)?;
        let integer = IntegerNetwork::lower(&simulated)?;
        let mut workspace = IntegerWorkspace::default();
        // Both have their weights packed once.
        let mut floats = Frozen::new(&bench.network, Workspace::default());
        let mut seconds = [Vec::new(), Vec::new()];
        let began = Instant::now();
        for pass in 0.. {
            let start = Instant::now();
            floats.forward(&bench.images)?;
            let between = Instant::now();
            integer.forward(&bench.images, &mut workspace)?;
            if pass >= WARM_UPS {
                seconds[0].push((between - start).as_secs_f64());
                seconds[1].push(between.elapsed().as_secs_f64());
            }
            if began.elapsed() >= asked.time && seconds[0].len() >= LEAST_STEPS {
                break;
            }
        }
        for seconds in &mut seconds {
            seconds.sort_by(f64::total_cmp);
        }
        Ok(Paces {
            steps: seconds[0].len(),
            float: quantile(&seconds[0], 0.5),
            integer: quantile(&seconds[1], 0.5),
        })
    })
}

/// Levels of a weight: one for all of it, or for each output channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    Tensor,
    Channel,
}

/// The network with its weights and stored activations on levels of so many bits, 2 to 8: symmetric ones, and asymmetric
/// ones over the ranges that these images give.
///
/// # Errors
/// When the images do not fit the network.
pub fn quantized(
    network: &Network,
    images: &Tensor,
    granularity: Granularity,
    bits: u32,
) -> Result<Network> {
    let mut copy = network.duplicate()?;
    let mut workspace = Workspace::default();
    let trace = network.trace(images, Mode::Eval, Keep::Activations, &mut workspace)?;
    let mut activations = Activations {
        places: Vec::new(),
        levels: Vec::new(),
    };
    for place in places::stored(network) {
        let Some(activation) = trace.activation(place) else {
            continue;
        };
        let range = values(activation)?
            .into_iter()
            .fold((0.0_f32, 0.0_f32), |(least, most), v| {
                (least.min(v), most.max(v))
            });
        activations.places.push(network.nodes()[place].name.clone());
        activations.levels.push(asymmetric(range, bits));
    }
    activations.insert(&mut copy)?;
    let weights = Weights {
        bits,
        symmetry: Symmetry::Symmetric,
        per_channel: granularity == Granularity::Channel,
        least_error: false,
    };
    for parameter in network.parameters() {
        if parameter.role == ParameterRole::Weight {
            let channels = parameter.value.dims()[0];
            let levels = weights.levels(&values(&parameter.value)?, channels);
            copy.parameters_mut()
                .set_levels(&parameter.name, Some(levels))?;
        }
    }
    round_biases(&mut copy)?;
    Ok(copy)
}
