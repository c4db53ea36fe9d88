//! How fast a network is trained, used and attacked on this machine, and what matrix products reach.
//!
//! Random images and labels, three steps to warm up, then steps one after another until the time is over, at least five;
//! what counts is the median step. The same shapes, phases and count of steps as in the comparison with PyTorch, so that
//! one figure can be held against the other:
//!
//! train: forward in training mode, cross-entropy, backward to the parameters, a step of SGD with momentum 0.9;
//! eval: forward in evaluation mode, nothing kept;
//! attack: one step of projected gradient descent within a ball of the maximum norm (Madry et al. 2018,
//! arXiv:1706.06083): forward in evaluation mode, cross-entropy, backward to the images alone, x' = clamp(x + a sign(g)).

use std::time::{Duration, Instant};

use candle_core::Tensor;

use crate::lab::architecture;
use crate::lab::error::{Error, Result};
use crate::lab::statistics::quantile;
use crate::lab::worker::pool;
use crate::nn::device::{self, Graphs, Precision};
use crate::nn::loss::{Labels, Objective, of_step};
use crate::nn::network::{Frozen, Keep, Network, Wanted, Workspace};
use crate::nn::op::gemm::{Into, Matrix, multiply};
use crate::nn::op::sign_step::{self, Lengths};
use crate::nn::op::{tensor, to_device};
use crate::nn::optimizer::Sgd;
use crate::nn::rng::Rng;
use crate::nn::{ImageShape, Mode};
use crate::spec::Setting;

pub mod corruptions;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod int8;
mod listeners;
pub mod ops;

pub use listeners::{Alternating, Stretch, slow_down};

/// Steps before the first that counts: memory is taken, and the processor has left its rest.
const WARM_UPS: u32 = 3;

/// The fewest steps that count, however long each takes.
const LEAST_STEPS: usize = 5;

const CLASSES: usize = 10;

/// The learning rate and momentum of the timed step; its time depends on neither.
const RATE: f64 = 0.01;
const MOMENTUM: f64 = 0.9;

const OBJECTIVE: Objective<'static> = Objective::Labels { smoothing: 0.0 };

/// The attack's step and ball, in units of the pixels' range [0, 1].
const STEP: f32 = 0.01;
const RADIUS: f32 = 0.03;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Train,
    Eval,
    Attack,
}

impl Phase {
    /// All of them, by the words they are asked for with.
    pub const ALL: [(&'static str, Self); 3] = [
        ("train", Self::Train),
        ("eval", Self::Eval),
        ("attack", Self::Attack),
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
            Self::Attack => "attack",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The architecture's id.
    pub architecture: &'a str,
    pub phase: Phase,
    /// Images of a step.
    pub batch: usize,
    pub threads: usize,
    pub time: Duration,
    /// As a study names it.
    pub device: &'a str,
    pub precision: Precision,
}

/// How fast it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    pub parameters: u64,
    /// Steps that counted.
    pub steps: usize,
    /// Of the median step.
    pub seconds: f64,
    /// On a GPU: how many of them were one graph, and why not all if so.
    pub graphs: Option<Graphs>,
}

/// The images that an architecture is timed on: grey ones of 28x28 for those made for them, else colored ones of 32x32.
pub fn shape(architecture: &str) -> ImageShape {
    let (channels, side) = match architecture {
        "lenet5" | "cnn8" | "mlp" => (1, 28),
        _ => (3, 32),
    };
    ImageShape {
        channels,
        height: side,
        width: side,
    }
}

/// Times the steps of a phase.
///
/// # Errors
/// When there is no such architecture, the system gives no more threads, or memory runs out.
pub fn train(asked: &Asked<'_>) -> Result<Pace> {
    pool(asked.threads)?.install(|| {
        let mut bench = Bench::new(asked)?;
        let (parameters, device) = (bench.network.parameters().count(), bench.network.device());
        let mut seconds = Vec::new();
        let mut before = None;
        bench.repeat(asked.phase, &mut |step| {
            for _ in 0..WARM_UPS {
                step()?;
            }
            device::synchronize(&device)?;
            before = device::graphs(&device)?;
            let began = Instant::now();
            while began.elapsed() < asked.time || seconds.len() < LEAST_STEPS {
                let began = Instant::now();
                step()?;
                device::synchronize(&device)?;
                seconds.push(began.elapsed().as_secs_f64());
            }
            Ok(())
        })?;
        seconds.sort_by(f64::total_cmp);
        let graphs = device::graphs(&device)?.zip(before);
        drop(bench);
        device::close();
        Ok(Pace {
            parameters,
            steps: seconds.len(),
            seconds: quantile(&seconds, 0.5),
            graphs: graphs.map(|(after, before)| Graphs {
                launched: after.launched - before.launched,
                ..after
            }),
        })
    })
}

/// Goes one step of a phase.
type Go<'g> = dyn FnMut() -> Result<()> + 'g;

/// A network, a batch, and what a step needs.
struct Bench {
    network: Network,
    batch: usize,
    images: Tensor,
    labels: Labels,
    /// The images as the attack leaves them.
    attacked: Tensor,
    optimizer: Sgd,
    workspace: Workspace,
}

impl Bench {
    fn new(asked: &Asked<'_>) -> Result<Self> {
        let known = architecture::ALL
            .iter()
            .find(|entry| entry.info.id == asked.architecture);
        let entry = known.ok_or_else(|| {
            let id = asked.architecture;
            Error::Internal(format!("architecture {id} is not in the table"))
        })?;
        let setting = entry
            .knobs
            .iter()
            .fold(Setting::default(), |setting, knob| {
                setting.with(&knob.id, knob.range.default())
            });
        let shape = shape(asked.architecture);
        let (mean, deviation) = (vec![0.5; shape.channels], vec![0.25; shape.channels]);
        let device = device::open(asked.device, asked.precision)?;
        let network = (entry.build)(&setting)
            .build(shape, CLASSES, (&mean, &deviation), 0)?
            .to_device(&device)?;
        let mut rng = Rng::stream(0, "bench", &[]);
        let n = asked.batch * shape.values();
        let values: Vec<f32> = (0..n).map(|_| rng.uniform() as f32).collect();
        let dimensions = [asked.batch, shape.channels, shape.height, shape.width];
        let images = to_device(&tensor(values, &dimensions)?, &device)?;
        let labels = (0..asked.batch).map(|_| rng.below(CLASSES) as u32);
        let labels = Labels::new(labels.collect(), &device)?;
        Ok(Self {
            optimizer: Sgd::new(network.parameters(), MOMENTUM, 0.0)?,
            network,
            attacked: images.copy()?,
            batch: asked.batch,
            images,
            labels,
            workspace: Workspace::default(),
        })
    }

    /// Lets `times` go steps of a phase; a network that does not learn stays as it is through all of them.
    fn repeat(
        &mut self,
        phase: Phase,
        times: &mut dyn FnMut(&mut Go<'_>) -> Result<()>,
    ) -> Result<()> {
        match phase {
            Phase::Train => times(&mut || self.train()),
            Phase::Eval => {
                let mut network = Frozen::new(&self.network, Workspace::default());
                times(&mut || Ok(network.logits(&self.images).map(|_| ())?))
            }
            Phase::Attack => {
                let mut network = Frozen::new(&self.network, Workspace::default());
                times(&mut || self.attack(&mut network))
            }
        }
    }

    fn train(&mut self) -> Result<()> {
        let Self {
            network,
            batch,
            images,
            labels,
            optimizer,
            workspace,
            ..
        } = self;
        let device = network.device();
        Ok(workspace.repeat(&device, *batch, |workspace| {
            let trace = network.forward(images, Mode::Train, workspace)?;
            let loss = of_step(OBJECTIVE, trace.logits(), labels, *batch)?;
            let gradients = trace.backward(&loss.d_logits, Wanted::PARAMETERS)?;
            let statistics = trace.statistics();
            drop(trace);
            network.commit(&statistics)?;
            optimizer.step(network.parameters_mut(), &gradients, RATE)?;
            workspace.recycle(gradients);
            Ok(())
        })?)
    }

    fn attack(&self, network: &mut Frozen<'_>) -> Result<()> {
        Ok(network.repeat(self.batch, |network| self.attack_once(network))?)
    }

    fn attack_once(&self, network: &mut Frozen<'_>) -> candle_core::Result<()> {
        let trace = network.trace(&self.images, Keep::Gradients)?;
        let loss = of_step(OBJECTIVE, trace.logits(), &self.labels, self.batch)?;
        let mut gradients = trace.backward(&loss.d_logits, Wanted::INPUT)?;
        drop(trace);
        if let Some(gradient) = gradients.input.take() {
            let lengths = Lengths {
                step: STEP,
                radius: RADIUS,
            };
            sign_step::step(
                lengths,
                &self.images,
                &self.images,
                &gradient,
                &self.attacked,
            )?;
        }
        network.recycle(gradients);
        Ok(())
    }
}

/// Rows and columns of the matrices whose product is timed: they fill the second-level cache, as those of a batch do.
const SIDE: usize = 512;

/// Floating-point operations per second that matrix products reach on so many threads, each with a product of its own.
///
/// # Errors
/// When the system gives no more threads.
pub fn product_rate(threads: usize, time: Duration) -> Result<f64> {
    let product = |_: rayon::BroadcastContext<'_>| {
        let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
        let mut c = vec![0.0; SIDE * SIDE];
        let mut multiply = || {
            let (a, b) = (Matrix::rows(&a, SIDE), Matrix::rows(&b, SIDE));
            multiply((SIDE, SIDE, SIDE), &mut c, SIDE, Into::Replace, a, b);
        };
        multiply();
        let (began, mut products) = (Instant::now(), 0);
        while began.elapsed() < time || products == 0 {
            multiply();
            products += 1;
        }
        f64::from(products) * 2.0 * (SIDE * SIDE * SIDE) as f64 / began.elapsed().as_secs_f64()
    };
    Ok(pool(threads)?.broadcast(product).into_iter().sum())
}

/// What every op reaches on `threads` threads, each timed for about `time`.
///
/// # Errors
/// When the system gives no more threads.
pub fn ops(threads: usize, batch: usize, time: Duration) -> Result<Vec<ops::OpPace>> {
    // Other programs only ever slow a run down: the quickest is the op's own.
    let mut quickest = |work: &mut dyn FnMut()| {
        work();
        let (began, mut best) = (Instant::now(), f64::INFINITY);
        while began.elapsed() < time || best.is_infinite() {
            let began = Instant::now();
            work();
            best = best.min(began.elapsed().as_secs_f64());
        }
        best
    };
    Ok(pool(threads)?.install(|| ops::all(batch, &mut quickest)))
}

/// How long every corruption takes for so many color images of 32x32 pixels, each once.
///
/// # Errors
/// When threads cannot be started.
pub fn corruptions(threads: usize, images: usize) -> Result<Vec<corruptions::CorruptionPace>> {
    let mut timed = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    pool(threads)?.install(|| corruptions::all(images, &mut timed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::op::values;

    #[test]
    fn every_phase_of_every_architecture_counts_its_steps() {
        for entry in architecture::ALL {
            for (_, phase) in Phase::ALL {
                let asked = Asked {
                    architecture: &entry.info.id,
                    phase,
                    batch: 2,
                    threads: 1,
                    time: Duration::ZERO,
                    device: "cpu",
                    precision: Precision::default(),
                };
                let pace = train(&asked).unwrap();
                assert_eq!(pace.steps, LEAST_STEPS);
                assert!(pace.seconds > 0.0 && pace.parameters > 0);
            }
        }
    }

    /// The parameters move in training and in no other phase; the images themselves never do.
    #[test]
    fn a_phase_changes_what_it_should() {
        for (_, phase) in Phase::ALL {
            let asked = Asked {
                architecture: "lenet5",
                phase,
                batch: 4,
                threads: 1,
                time: Duration::ZERO,
                device: "cpu",
                precision: Precision::default(),
            };
            let mut bench = Bench::new(&asked).unwrap();
            let weights = bench.network.parameters().to_safetensors().unwrap();
            let images = values(&bench.images).unwrap();
            bench.repeat(phase, &mut |step| step()).unwrap();
            let moved = bench.network.parameters().to_safetensors().unwrap() != weights;
            assert_eq!(moved, phase == Phase::Train);
            assert_eq!(values(&bench.images).unwrap(), images);
            let attacked = values(&bench.attacked).unwrap() != images;
            assert_eq!(attacked, phase == Phase::Attack);
        }
    }

    #[test]
    fn products_have_a_rate() {
        let rate = product_rate(2, Duration::ZERO).unwrap();
        assert!(rate.is_finite() && rate > 0.0);
    }
}
