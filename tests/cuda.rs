//! The lab on a GPU against the lab on the CPU.
//!
//! Without a GPU, or in a program that was built without CUDA, each test says why it is skipped and passes;
//! SHRINKLAB_NEEDS_GPU=1 makes that a failure. `cuda/check.sh` runs them on an emulated device, `cuda/run-on-gpu.sh` on a
//! real one.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

use candle_core::{Device, Tensor};
use shrinklab::nn::ImageShape;
use shrinklab::nn::device::{self, Precision};
use shrinklab::nn::network::Network;
use shrinklab::nn::op::{tensor, values};
use shrinklab::nn::rng::Rng;

#[path = "cuda/architectures.rs"]
mod architectures;
#[path = "cuda/features.rs"]
mod features;
#[path = "cuda/graphs.rs"]
mod graphs;
#[path = "cuda/images.rs"]
mod images;
#[path = "cuda/levels.rs"]
mod levels;
#[path = "cuda/loops.rs"]
mod loops;
#[path = "cuda/memory.rs"]
mod memory;
#[path = "cuda/ops.rs"]
mod ops;
#[path = "cuda/parameters.rs"]
mod parameters;
#[path = "cuda/studies.rs"]
mod studies;
#[path = "cuda/training.rs"]
mod training;

/// Whether the device is one that the tests of little memory are meant for, and no other.
fn is_small() -> bool {
    std::env::var_os("SHRINKLAB_SMALL_GPU").is_some()
}

/// Calls `work` with the first GPU, in full precision and repeatable, on a thread that alone uses it.
fn on_gpu(work: impl FnOnce(&Device) + Send) {
    on_gpu_as(REPEATABLE, work);
}

const REPEATABLE: Precision = Precision {
    tf32: false,
    deterministic: true,
};

fn on_gpu_as(precision: Precision, work: impl FnOnce(&Device) + Send) {
    if is_small() {
        eprintln!("skipped: SHRINKLAB_SMALL_GPU asks for the tests of little memory alone");
        return;
    }
    on_any_gpu(precision, work);
}

fn on_any_gpu(precision: Precision, work: impl FnOnce(&Device) + Send) {
    let run = move || match device::open("cuda", precision) {
        Ok(device) => {
            work(&device);
            device::close();
        }
        Err(error) => {
            assert!(
                std::env::var_os("SHRINKLAB_NEEDS_GPU").is_none(),
                "no GPU: {error}"
            );
            eprintln!("skipped: {error}");
        }
    };
    let done = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// `n` numbers in [low, high) of the stream of that name and number.
fn draw(name: &str, number: u64, n: usize, low: f64, high: f64) -> Vec<f32> {
    let mut rng = Rng::stream(4, name, &[number]);
    (0..n).map(|_| rng.between(low, high) as f32).collect()
}

/// Images in [0, 1).
fn pixels(number: u64, batch: usize, shape: ImageShape) -> Tensor {
    let drawn = draw("pixels", number, batch * shape.values(), 0.0, 1.0);
    let dims = [batch, shape.channels, shape.height, shape.width];
    tensor(drawn, &dims).unwrap()
}

/// The same network on a device.
fn twin(network: &Network, device: &Device) -> Network {
    network.duplicate().unwrap().to_device(device).unwrap()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// By the norm of the error, relative to that of the expected values or to `least`.
#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], tolerance: f64, least: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: how many");
    let wide = |v: &f32| f64::from(*v);
    let error = norm(found.iter().zip(expected).map(|(f, e)| wide(f) - wide(e)));
    let allowed = tolerance * norm(expected.iter().map(wide)).max(least);
    assert!(
        error <= allowed,
        "{what}: off by {error:e}, allowed {allowed:e}"
    );
}

/// All parameters and running statistics, by the norm of the error of each; those that are almost nothing count by the
/// largest's.
#[track_caller]
fn assert_same_weights(found: &Network, expected: &Network, tolerance: f64, what: &str) {
    let largest = expected.parameters().iter().map(|p| {
        let values = values(&p.value).unwrap();
        norm(values.iter().map(|v| f64::from(*v)))
    });
    let least = 1e-2 * largest.fold(0.0, f64::max);
    for (f, e) in found.parameters().iter().zip(expected.parameters()) {
        let what = format!("{what}: {}", e.name);
        let (f, e) = (values(&f.value).unwrap(), values(&e.value).unwrap());
        assert_near(&f, &e, tolerance, least, &what);
    }
}
