//! Ranges, scales and learned steps: PyTorch's observers and gradients, searches by NumPy.

use shrinklab::lab::quantization::levels::{Symmetry, Weights, asymmetric};
use shrinklab::lab::quantization::ranges::{Histogram, Rule, Seen, least_error};
use shrinklab::nn::op::fake_quant::{self, Levels};
use shrinklab::nn::rng::Rng;

use crate::{assert_close, draw, floats, quantizations};

/// Sums of three uniform numbers, as in `make_quantization.py`.
fn bell(stream: u64, n: usize) -> Vec<f32> {
    let [a, b, c] = [0, 1, 2].map(|at| draw(stream + at, n, -1.0, 1.0));
    let sums = a.iter().zip(&b).zip(&c).map(|((a, b), c)| a + b + c);
    sums.collect()
}

/// What a rule makes of some batches, after the second look that some rules need.
fn seen(batches: &[Vec<f32>], rule: Rule) -> Seen {
    let mut seen = Seen::default();
    for batch in batches {
        seen.look(batch);
    }
    seen.histogram = seen.histogram_for(rule);
    for batch in batches {
        seen.count(rule, batch);
    }
    seen
}

fn assert_near(found: f32, expected: f64, tolerance: f64) {
    let off = (f64::from(found) - expected).abs();
    assert!(off <= tolerance, "{found} {expected}");
}

#[test]
fn ranges_and_scales_are_those_of_pytorchs_observers() {
    let expected = &quantizations()["observers"];
    let batch = |at: u16| {
        let values = bell(900 + 10 * u64::from(at), 500).into_iter();
        let factor = (1.0 + 0.2 * f64::from(at)) as f32;
        values.map(|v| v * factor + 0.5).collect::<Vec<f32>>()
    };
    let batches: Vec<Vec<f32>> = (0..4).map(batch).collect();
    for (name, rule) in [
        ("min-max", Rule::MinMax),
        ("moving-average", Rule::MovingAverage),
    ] {
        let case = &expected[name];
        let range = seen(&batches, rule).range(rule, 8);
        let [least, greatest] = floats(&case["range"]).try_into().unwrap();
        assert_near(range.0, least, 1e-6);
        assert_near(range.1, greatest, 1e-6);
        let levels = asymmetric(range, 8);
        assert_near(levels.scale, case["scale"].as_f64().unwrap(), 1e-8);
        assert_eq!(
            i64::from(levels.zero_point),
            case["zero"].as_i64().unwrap(),
            "{name}"
        );
    }
}

/// By hand: 1, then .99 · 1 + .01 · 2, then .99 · 1.01 + .01 · 3.
#[test]
fn a_moving_average_moves_by_a_hundredth() {
    let batches = [1.0, 2.0, 3.0].map(|v| vec![v]);
    let range = seen(&batches, Rule::MovingAverage).range(Rule::MovingAverage, 8);
    assert_near(range.1, 1.0299, 1e-6);
    assert_eq!(range.0, 0.0, "0 lies in every range");
}

#[test]
fn channels_are_rounded_as_pytorch_does() {
    let expected = &quantizations()["observers"];
    let values = bell(950, 600).into_iter().enumerate();
    let values: Vec<f32> = values.map(|(at, v)| v * (at / 100 + 1) as f32).collect();
    let of = |bits, symmetry| {
        let weights = Weights {
            bits,
            symmetry,
            per_channel: true,
            least_error: false,
        };
        weights.levels(&values, 6)
    };
    let scales = |levels: &shrinklab::nn::parameters::RowLevels| -> Vec<f32> {
        levels.all().iter().map(|levels| levels.scale).collect()
    };
    let full = of(8, Symmetry::Full);
    assert_close(
        &scales(&full),
        &floats(&expected["full per channel"]),
        1e-7,
        "full",
    );
    let restricted = of(4, Symmetry::Symmetric);
    let wanted = floats(&expected["restricted per channel"]);
    assert_close(&scales(&restricted), &wanted, 1e-7, "restricted");
    let mut rounded = values.clone();
    restricted.simulate(&mut rounded);
    assert_close(
        &rounded,
        &floats(&expected["rounded per channel"]),
        1e-6,
        "rounded",
    );
}

#[test]
fn a_learned_steps_gradients_are_those_of_pytorch() {
    let fixture = quantizations();
    for (at, case) in fixture["learned"].as_array().unwrap().iter().enumerate() {
        let [scale, zero, low, high] = floats(&case["levels"]).try_into().unwrap();
        let levels = Levels {
            scale: scale as f32,
            zero_point: zero as i32,
            q_min: low as i32,
            q_max: high as i32,
        };
        let x = draw(970 + at as u64, 300, -3.0, 3.0);
        let dy = draw(980 + at as u64, 300, -1.0, 1.0);
        let (mut y, mut dx) = (vec![0.0; 300], vec![0.0; 300]);
        fake_quant::forward(&levels, &x, &mut y);
        fake_quant::backward(&levels, &x, &dy, &mut dx);
        assert_close(&y, &floats(&case["y"]), 0.0, "y");
        assert_close(&dx, &floats(&case["dx"]), 0.0, "dx");
        let ds = fake_quant::backward_scale(&levels, &x, &dy, 300);
        assert_near(ds, case["ds"].as_f64().unwrap(), 1e-5);
    }
}

/// Percentiles lie in a bin's width of NumPy's; the error is that of the best of 10,000 ranges.
#[test]
fn searched_ranges_are_those_that_numpy_finds() {
    let expected = &quantizations()["searches"];
    let x: Vec<f32> = bell(1000, 4000).into_iter().map(|v| v * v * v).collect();
    let batches = [x.clone()];
    let all = seen(&batches, Rule::MinMax).range(Rule::MinMax, 8);
    let bin = f64::from(all.1 - all.0) / 2048.0;
    for percent in [99.03, 99.93] {
        let rule = Rule::Percentile(percent);
        let range = seen(&batches, rule).range(rule, 8);
        let wanted = floats(&expected["percentile"][percent.to_string()]);
        assert_near(range.0, wanted[0], 1.01 * bin);
        assert_near(range.1, wanted[1], 1.01 * bin);
    }
    for bits in [4_u32, 8] {
        let range = seen(&batches, Rule::LeastError).range(Rule::LeastError, bits);
        let levels = asymmetric(range, bits);
        let squares = x.iter().map(|v| f64::from(levels.simulate(*v) - v).powi(2));
        let error = squares.sum::<f64>() / x.len() as f64;
        let least = expected["mse"][bits.to_string()].as_f64().unwrap();
        assert!(error < 1.02 * least, "{bits} bits: {error} {least}");
    }
    for bits in [5_u32, 8] {
        let range = seen(&batches, Rule::Entropy).range(Rule::Entropy, bits);
        let threshold = expected["entropy"][bits.to_string()].as_f64().unwrap();
        // An edge that rounds differently moves a value to the next bin.
        assert_near(
            range.1.max(-range.0),
            threshold,
            1.5 * f64::from(all.1.max(-all.0)) / 2048.0,
        );
    }
}

/// AIMET's own test: 100,000 draws of a normal with mean 2 and deviation 2.
#[test]
fn the_range_of_least_error_leaves_out_the_tails() {
    let mut rng = Rng::stream(1, "normal", &[]);
    let values: Vec<f32> = (0..100_000)
        .map(|_| (2.0 + 2.0 * rng.normal()) as f32)
        .collect();
    let (least, greatest) = values
        .iter()
        .fold((0.0_f32, 0.0_f32), |(a, b), v| (a.min(*v), b.max(*v)));
    let histogram = Histogram::of(&values, least, greatest);
    let (low, high) = least_error(&histogram, &|range| asymmetric(range, 8));
    assert!(
        (-10.0..-2.0).contains(&low) && (6.0..14.0).contains(&high),
        "{low} {high}"
    );
    assert!(
        low > least && high < greatest,
        "{low} {high} in {least} {greatest}"
    );
}
