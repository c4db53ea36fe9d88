//! Values and gradients against independent sources: PyTorch's numbers, central differences in 64 bits, arithmetic by hand.
//!
//! `fixtures/make_*.py` wrote PyTorch's numbers; what it draws, [`draw`] draws again here.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy's exception for tests does not reach what they call"
)]

use serde_json::Value;

#[path = "numerics/architectures.rs"]
mod architectures;
#[path = "numerics/batch_norm.rs"]
mod batch_norm;
#[path = "numerics/candle.rs"]
mod candle;
#[path = "numerics/channels.rs"]
mod channels;
#[path = "numerics/conv2d.rs"]
mod conv2d;
#[path = "numerics/depthwise_conv2d.rs"]
mod depthwise_conv2d;
#[path = "numerics/distillation.rs"]
mod distillation;
#[path = "numerics/integer.rs"]
mod integer;
#[path = "numerics/losses.rs"]
mod losses;
#[path = "numerics/networks.rs"]
mod networks;
#[path = "numerics/packed.rs"]
mod packed;
#[path = "numerics/pooling.rs"]
mod pooling;
#[path = "numerics/pooling_channels_last.rs"]
mod pooling_channels_last;
#[path = "numerics/quantization.rs"]
mod quantization;
#[path = "numerics/ranges.rs"]
mod ranges;
#[path = "numerics/recipes.rs"]
mod recipes;
#[path = "numerics/repeatability.rs"]
mod repeatability;

/// PyTorch's numbers.
fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/numerics.json")).unwrap()
}

/// PyTorch's and NumPy's, of quantization.
fn quantizations() -> Value {
    serde_json::from_str(include_str!("fixtures/quantization.json")).unwrap()
}

/// `n` numbers in [low, high): splitmix64 of (stream << 32) + i, its upper 24 bits, as in `make_numerics.py`.
fn draw(stream: u64, n: usize, low: f64, high: f64) -> Vec<f32> {
    let one = |i: u64| {
        let mut z = (stream << 32)
            .wrapping_add(i)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let unit = (z >> 40) as f64 / f64::from(1 << 24);
        (low + (high - low) * unit) as f32
    };
    (0..n as u64).map(one).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap();
    list.iter().map(|v| v.as_f64().unwrap()).collect()
}

fn integers(value: &Value) -> Vec<usize> {
    floats(value).into_iter().map(|v| v as usize).collect()
}

/// How many cases are drawn, and from where: the same ones every time, so that a failure is nobody's bad luck and can be
/// seen again. `PROPTEST_RNG_SEED` draws others.
fn drawn(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let config = Config::with_cases(cases);
    Config {
        failure_persistence: None,
        rng_seed: match config.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            asked @ RngSeed::Fixed(_) => asked,
        },
        ..config
    }
}

/// Every value within `tolerance` of the expected one, relative to the largest expected one (or to 1).
#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: how many");
    let scale = expected.iter().fold(1.0_f64, |scale, e| scale.max(e.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= tolerance * scale,
            "{what} at {at}: {found} instead of {expected}"
        );
    }
}

/// A large tensor against its sum, its norm and seven of its values; the tolerance is relative to the norm.
#[track_caller]
fn assert_summary(found: &[f32], expected: &Value, tolerance: f64, what: &str) {
    let wide: Vec<f64> = found.iter().map(|v| f64::from(*v)).collect();
    let norm = expected["norm"].as_f64().unwrap();
    let close = |found: f64, expected: f64, which: &str| {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * norm,
            "{what}: {which} {found} instead of {expected} (norm {norm})"
        );
    };
    close(wide.iter().map(|v| v * v).sum::<f64>().sqrt(), norm, "norm");
    close(wide.iter().sum(), expected["sum"].as_f64().unwrap(), "sum");
    for (i, value) in floats(&expected["values"]).into_iter().enumerate() {
        close(wide[i * (wide.len() - 1) / 6], value, &format!("value {i}"));
    }
}

/// Runs with that many threads.
/// (B, C, ...) to (B, ..., C), the order within a network.
fn channels_last(values: &[f32], batch: usize, channels: usize) -> Vec<f32> {
    let plane = values.len() / batch / channels;
    let mut moved = Vec::with_capacity(values.len());
    for image in values.chunks_exact(channels * plane) {
        for position in 0..plane {
            moved.extend((0..channels).map(|channel| image[channel * plane + position]));
        }
    }
    moved
}

/// The way back.
fn channels_first(values: &[f32], batch: usize, channels: usize) -> Vec<f32> {
    let plane = values.len() / batch / channels;
    let mut moved = Vec::with_capacity(values.len());
    for image in values.chunks_exact(channels * plane) {
        for channel in 0..channels {
            moved.extend(image[channel..].iter().step_by(channels));
        }
    }
    moved
}

fn threads<R: Send>(n: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
    pool.unwrap().install(work)
}
