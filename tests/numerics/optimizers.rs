//! AdamW against the formulas in 64 bits and PyTorch.

use shrinklab::nn::op::adamw::{self, Step};

use crate::{assert_close, draw, threads};

const STEP: Step = Step {
    rate: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.1,
    count: 1,
};

/// PyTorch 2.15, `AdamW(lr=0.01, weight_decay=0.1)` in 64 bits: five steps from (0.5, -1, 2, 0.25) down the gradients
/// t (0.3, -0.2, 0, 1.5) - (1, 0, 0, 3), t from 1 on.
#[test]
fn five_steps_are_those_of_pytorch() {
    let expected: [[f64; 4]; 5] = [
        [
            0.509_499_999_857,
            -0.989_000_000_500,
            1.998,
            0.259_749_999_933,
        ],
        [
            0.518_500_862_823,
            -0.978_359_180_546,
            1.996_002,
            0.266_190_832_412,
        ],
        [
            0.526_064_901_817,
            -0.967_800_809_347,
            1.994_005_998,
            0.265_065_964_442,
        ],
        [
            0.530_576_163_608,
            -0.957_228_906_020,
            1.992_011_992,
            0.259_648_600_497,
        ],
        [
            0.530_896_662_348,
            -0.946_599_302_929,
            1.990_019_980,
            0.252_409_320_099,
        ],
    ];
    let (mut p, mut m, mut v) = ([0.5, -1.0, 2.0, 0.25], [0.0; 4], [0.0; 4]);
    for (count, expected) in (1_u8..).zip(&expected) {
        let t = f32::from(count);
        let gradient = [0.3 * t - 1.0, -0.2 * t, 0.0, 1.5 * t - 3.0];
        let step = Step {
            count: u64::from(count),
            ..STEP
        };
        adamw::step(step, &gradient, None, &mut p, &mut m, &mut v);
        // Where the gradient is 0 up to rounding, the moments are what is left of it.
        assert_close(&p, expected, 1e-6, "p");
    }
    let moments = [-0.015_187, -0.262_882, 0.0, 0.743_085];
    assert_close(&m, &moments, 1e-6, "m");
    let squares = [0.000_947_503, 0.002_198_001, 0.0, 0.033_727_516];
    assert_close(&v, &squares, 1e-8, "v");
}

/// Many values: the seams between threads and vectors, and the late steps of long training.
#[test]
fn a_late_step_of_many_values_is_that_of_the_formula() {
    let n = 40_001;
    let (gradient, start) = (draw(1, n, -1.0, 1.0), draw(2, n, -1.0, 1.0));
    let (m0, v0) = (draw(3, n, -1.0, 1.0), draw(4, n, 0.0, 1.0));
    let step = Step {
        count: 100_000,
        ..STEP
    };
    let expected: Vec<f64> = (0..n)
        .map(|i| {
            let (g, p) = (f64::from(gradient[i]), f64::from(start[i]));
            let m = 0.9 * f64::from(m0[i]) + 0.1 * g;
            let v = 0.999 * f64::from(v0[i]) + 0.001 * g * g;
            p - 0.01 * 0.1 * p - 0.01 * m / (v.sqrt() + 1e-8)
        })
        .collect();
    let run = || {
        let (mut p, mut m, mut v) = (start.clone(), m0.clone(), v0.clone());
        adamw::step(step, &gradient, None, &mut p, &mut m, &mut v);
        p
    };
    let one = threads(1, run);
    assert_close(&one, &expected, 1e-6, "p");
    assert_eq!(threads(2, run), one);
}
