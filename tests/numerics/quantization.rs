//! Simulated quantization: published levels, ties, and PyTorch forward and backward.

use shrinklab::nn::op::fake_quant::{self, Levels};

use crate::{assert_close, draw, fixture, floats};

const V: [f32; 5] = [-1.0, -0.52, 0.0, 0.25, 0.8];

fn levels(scale: f64, zero_point: i32, q_min: i32, q_max: i32) -> Levels {
    Levels {
        scale: scale as f32,
        zero_point,
        q_min,
        q_max,
    }
}

fn quantized(levels: &Levels, values: &[f32]) -> Vec<i32> {
    values.iter().map(|v| levels.quantize(*v)).collect()
}

fn mean_squared_error(levels: &Levels) -> f64 {
    let error = |v: &f32| (f64::from(*v) - f64::from(levels.simulate(*v))).powi(2);
    V.iter().map(error).sum::<f64>() / V.len() as f64
}

/// Relative to 1e-4: levels and values are 32-bit numbers, the reference was computed in 64 bits.
#[track_caller]
fn assert_error(levels: &Levels, expected: f64) {
    let found = mean_squared_error(levels);
    assert!(
        (found - expected).abs() < 1e-4 * expected,
        "{found} {expected}"
    );
}

/// Reference values: NNI's and PyTorch 2.15's conventions for 8 bits, computed in 64 bits with NumPy.
#[test]
fn eight_bits() {
    let restricted = levels(1.0 / 127.0, 0, -127, 127);
    assert_eq!(quantized(&restricted, &V), [-127, -66, 0, 32, 102]);
    assert_error(&restricted, 2.778_845_6e-6);
    // In exact arithmetic -1 / s = -127.5 is a tie and goes to -128; with a scale of 32 bits it is not quite one, and
    // PyTorch 2.15's `fake_quantize_per_tensor_affine` and `quantize_per_tensor` give -127 too.
    let torch = levels(1.0 / 127.5, 0, -128, 127);
    assert_eq!(quantized(&torch, &V), [-127, -66, 0, 32, 102]);
}

#[test]
fn four_bits_and_two() {
    let restricted = levels(1.0 / 7.0, 0, -7, 7);
    assert_eq!(quantized(&restricted, &V), [-7, -4, 0, 2, 6]);
    assert_error(&restricted, 1.437_142_9e-3);
    // As above: -8 in exact arithmetic, -7 by PyTorch 2.15.
    let full = levels(1.0 / 7.5, 0, -8, 7);
    assert_eq!(quantized(&full, &V), [-7, -4, 0, 2, 6]);
    let ternary = levels(1.0, 0, -1, 1);
    assert_eq!(quantized(&ternary, &V), [-1, -1, 0, 0, 1]);
    assert_error(&ternary, 0.06658);
}

#[test]
fn asymmetric_levels_hold_zero_exactly() {
    let x = [-0.6, -0.1, 0.0, 1.0, 2.0, 2.5];
    let unsigned = levels(2.6 / 255.0, 59, 0, 255);
    assert_eq!(quantized(&unsigned, &x), [0, 49, 59, 157, 255, 255]);
    assert_eq!(unsigned.simulate(0.0), 0.0);
    let signed = levels(2.6 / 254.0, -68, -127, 127);
    assert_eq!(quantized(&signed, &x), [-127, -78, -68, 30, 127, 127]);
    assert_eq!(signed.simulate(0.0), 0.0);
}

/// Rust's own `round` gives 1, 2, 3, -1.
#[test]
fn ties_round_to_even() {
    let whole = levels(1.0, 0, -7, 7);
    assert_eq!(quantized(&whole, &[0.5, 1.5, 2.5, -0.5]), [0, 2, 2, 0]);
}

#[test]
fn values_and_straight_through_gradients_are_those_of_pytorch() {
    let fixture = fixture();
    let cases = fixture["fake_quantizations"].as_array().unwrap();
    for (at, case) in cases.iter().enumerate() {
        let [scale, zero, low, high] = floats(&case["levels"]).try_into().unwrap();
        let levels = levels(scale, zero as i32, low as i32, high as i32);
        let stream = 10 * at as u64 + 400;
        let x: Vec<f32> = draw(stream, 200, -12.0, 12.0)
            .into_iter()
            .map(|v| (v * 16.0).round_ties_even() / 16.0)
            .collect();
        let dy = draw(stream + 1, 200, -1.0, 1.0);
        let (mut y, mut dx) = (vec![0.0; 200], vec![0.0; 200]);
        fake_quant::forward(&levels, &x, &mut y);
        fake_quant::backward(&levels, &x, &dy, &mut dx);
        // The scales are powers of two: everything is exact.
        assert_close(&y, &floats(&case["y"]), 0.0, "y");
        assert_close(&dx, &floats(&case["dx"]), 0.0, "dx");
        assert!(
            dx.contains(&0.0),
            "no value lies outside: the case tests nothing"
        );
    }
}

#[test]
fn nan_stays_nan() {
    assert!(levels(1.0, 0, -7, 7).simulate(f32::NAN).is_nan());
}
