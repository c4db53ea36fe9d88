//! Depthwise convolution: the definition in 64 bits, its central differences, and PyTorch.

use proptest::prelude::*;
use shrinklab::nn::op::depthwise_conv2d::{Saved, Then, Wanted, backward, forward};
use shrinklab::nn::op::geometry::Geometry;

use crate::{assert_close, draw, threads};

/// y by the definition, term after term: channels last, w (C, k, k).
fn by_definition(g: &Geometry, x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let (channels, k, p) = (g.channels, g.kernel, g.padding);
    let batch = x.len() / g.image();
    let mut y = Vec::new();
    for (n, oy) in (0..batch).flat_map(|n| (0..g.out_height()).map(move |oy| (n, oy))) {
        for (ox, c) in (0..g.out_width()).flat_map(|ox| (0..channels).map(move |c| (ox, c))) {
            let mut sum = b[c];
            for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
                let (iy, ix) = (oy * g.stride + ky, ox * g.stride + kx);
                if (p..p + g.height).contains(&iy) && (p..p + g.width).contains(&ix) {
                    let pixel = (n * g.height + iy - p) * g.width + ix - p;
                    sum += w[(c * k + ky) * k + kx] * x[pixel * channels + c];
                }
            }
            y.push(sum);
        }
    }
    y
}

/// y, dx, dw, db; buffers begin as NaN, so that what is forgotten is seen.
fn run(g: &Geometry, x: &[f32], w: &[f32], b: &[f32], dy: &[f32]) -> [Vec<f32>; 4] {
    let nan = |n| vec![f32::NAN; n];
    let mut y = nan(dy.len());
    let then = Then {
        shift: Some(b),
        ..Then::default()
    };
    forward(g, x, w, then, &mut y);
    let (mut dx, mut dw, mut db) = (nan(x.len()), nan(w.len()), nan(b.len()));
    let saved = Saved {
        x,
        w,
        scale: None,
        dy,
    };
    let wanted = Wanted {
        dx: Some(&mut dx),
        dw: Some(&mut dw),
        db: Some(&mut db),
    };
    backward(g, saved, wanted);
    // The same bits when each is wanted alone.
    let (mut dx_alone, mut dw_alone) = (nan(x.len()), nan(w.len()));
    let wanted = Wanted {
        dx: Some(&mut dx_alone),
        ..Wanted::default()
    };
    backward(g, saved, wanted);
    let wanted = Wanted {
        dw: Some(&mut dw_alone),
        ..Wanted::default()
    };
    backward(g, saved, wanted);
    assert_eq!((&dx_alone, &dw_alone), (&dx, &dw));
    // Scaled and rectified in the same pass: w times the scale, then max(·, 0).
    let scale: Vec<f32> = (0..g.channels).map(|c| [2.0, -0.5, 1.0][c % 3]).collect();
    let scaled = |then| {
        let mut y = nan(dy.len());
        forward(g, x, w, then, &mut y);
        y
    };
    let plain = scaled(Then::default());
    let then = Then {
        scale: Some(&scale),
        shift: Some(b),
        relu: true,
    };
    for (at, found) in scaled(then).iter().enumerate() {
        let c = at % g.channels;
        let expected = (scale[c] * plain[at] + b[c]).max(0.0);
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }
    [y, dx, dw, db]
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn inputs(g: &Geometry, batch: usize, stream: u64) -> [Vec<f32>; 4] {
    [
        draw(stream, batch * g.image(), -1.0, 1.0),
        draw(stream + 1, g.channels * g.kernel * g.kernel, -1.0, 1.0),
        draw(stream + 2, g.channels, -1.0, 1.0),
        draw(stream + 3, batch * g.positions() * g.channels, -1.0, 1.0),
    ]
}

/// The value is bilinear, so its differences are exact at any step.
fn differences(g: &Geometry, all: &[Vec<f64>; 3], dy: &[f32], which: usize) -> Vec<f64> {
    let value = |all: &[Vec<f64>; 3]| {
        let y = by_definition(g, &all[0], &all[1], &all[2]);
        y.iter()
            .zip(dy)
            .map(|(y, dy)| y * f64::from(*dy))
            .sum::<f64>()
    };
    let difference = |at: usize| {
        let mut moved = all.clone();
        moved[which][at] += 0.5;
        let above = value(&moved);
        moved[which][at] -= 1.0;
        above - value(&moved)
    };
    (0..all[which].len()).map(difference).collect()
}

prop_compose! {
    fn geometries(most_channels: usize, side: usize)(
        channels in 1..=most_channels, height in 1..=side, width in 1..=side,
        kernel in 1_usize..=7, stride in 1_usize..=3, padding in 0_usize..=2,
    ) -> Geometry {
        Geometry { channels, height, width, kernel, stride, padding }
    }
}

fn fits(g: &Geometry) -> bool {
    g.height.min(g.width) + 2 * g.padding >= g.kernel
}

proptest! {
    #![proptest_config(crate::drawn(60))]

    #[test]
    fn gradients_are_the_central_differences_of_the_definition(
        g in geometries(3, 7).prop_filter("the kernel fits", fits), batch in 1_usize..4, stream in 0_u64..1 << 20,
    ) {
        let [x, w, b, dy] = inputs(&g, batch, stream * 4);
        let all = [wide(&x), wide(&w), wide(&b)];
        let y = by_definition(&g, &all[0], &all[1], &all[2]);
        for n in [1, 2] {
            let found = threads(n, || run(&g, &x, &w, &b, &dy));
            assert_close(&found[0], &y, 1e-6, "y");
            for (which, what) in ["dx", "dw", "db"].into_iter().enumerate() {
                // Sums of up to some hundred products.
                assert_close(&found[which + 1], &differences(&g, &all, &dy, which), 4e-6, what);
            }
        }
    }

    /// Whole vectors and what is left over, several images in a tile, several tiles in an image, 3x3 and others.
    #[test]
    fn large_shapes_are_divided_without_a_seam(
        g in (geometries(70, 25), prop::bool::ANY).prop_map(|(g, common)| {
            if common { Geometry { kernel: 3, padding: 1, ..g } } else { g }
        }).prop_filter("the kernel fits", fits),
        batch in 1_usize..20, stream in 0_u64..1 << 20,
    ) {
        let batch = batch.min(1 + 100_000 / g.image());
        let [x, w, b, dy] = inputs(&g, batch, stream * 4);
        let y = by_definition(&g, &wide(&x), &wide(&w), &wide(&b));
        let one = threads(1, || run(&g, &x, &w, &b, &dy));
        assert_close(&one[0], &y, 1e-5, "y");
        // <dy, conv(x)> without the shift is <dx, x> and <dw, w>, in each channel: backward is the transpose of forward.
        let along = |a: &[f32], b: &[f32], c: usize| -> f64 {
            let terms = a.iter().zip(b).skip(c).step_by(g.channels);
            terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let taps = g.kernel * g.kernel;
        for c in 0..g.channels {
            let expected = along(&one[0], &dy, c) - f64::from(one[3][c]) * f64::from(b[c]);
            let of_weights: f64 = (c * taps..(c + 1) * taps).map(|at| f64::from(one[2][at]) * f64::from(w[at])).sum();
            let scale = 1e-4 * (dy.len() as f64 / g.channels as f64).sqrt().max(1.0) * g.kernel as f64;
            prop_assert!((along(&one[1], &x, c) - expected).abs() < scale, "dx of channel {c}");
            prop_assert!((of_weights - expected).abs() < scale, "dw of channel {c}");
        }
        let two = threads(2, || run(&g, &x, &w, &b, &dy));
        prop_assert_eq!(&two[0], &one[0]);
        prop_assert_eq!(&two[1], &one[1]);
        assert_close(&two[2], &wide(&one[2]), 1e-5, "dw");
        assert_close(&two[3], &wide(&one[3]), 1e-5, "db");
        prop_assert_eq!(threads(2, || run(&g, &x, &w, &b, &dy)), two);
    }
}

/// PyTorch 2.15: two images of 3x4 with two channels, x[i] = 7 i mod 11 - 5 in (B, H, W, C), w[i] = 5 i mod 7 - 3,
/// dy[i] = 3 i mod 5 - 2, padding 1; sums of small integers, so every digit counts.
#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let whole = |n: i32, f: fn(i32) -> i32| (0..n).map(|i| f(i) as f32).collect::<Vec<_>>();
    let x = whole(48, |i| i * 7 % 11 - 5);
    let w = whole(18, |i| i * 5 % 7 - 3);
    let cases: [(usize, &[f64], &[f64]); 2] = [
        (
            1,
            &[
                19.0, -27.0, -31.0, 5.0, 16.0, -2.0, -2.0, 14.0, -7.0, -5.0, -3.0, -14.0, -13.0,
                -20.0, -6.0, 31.0, -6.0, -16.0,
            ],
            &[
                6.0, 1.0, -6.0, -9.0, -5.0, -6.0, 3.0, 17.0, 13.0, 7.0, 7.0, -8.0, -9.0, -15.0,
                -6.0, -1.0, -5.0, 3.0, 22.0, 8.0, -3.0, -5.0, -7.0, -9.0, -4.0, -3.0, -4.0, 17.0,
                7.0, 0.0, 0.0, -4.0, -5.0, -8.0, -10.0, -2.0, -6.0, 21.0, 19.0, -1.0, -1.0, -3.0,
                -8.0, -13.0, -8.0, -1.0, -1.0, 9.0,
            ],
        ),
        (
            2,
            &[
                -1.0, 3.0, 3.0, 0.0, 0.0, 2.0, -3.0, -6.0, 7.0, 9.0, -16.0, -3.0, 13.0, -23.0, 2.0,
                -12.0, 0.0, 1.0,
            ],
            &[
                -6.0, -1.0, 0.0, -1.0, -3.0, -2.0, -1.0, -6.0, 6.0, 4.0, -6.0, -4.0, 5.0, 2.0,
                -2.0, -7.0, 0.0, 2.0, -2.0, 5.0, 3.0, 1.0, 1.0, 3.0, 6.0, 0.0, 6.0, 1.0, -6.0,
                -1.0, -2.0, -3.0, -8.0, -4.0, 6.0, 8.0, 6.0, 4.0, -4.0, -8.0, -3.0, -2.0, -1.0,
                -8.0, 0.0, 2.0, 0.0, 6.0,
            ],
        ),
    ];
    for (stride, dw, dx) in cases {
        let g = Geometry {
            channels: 2,
            height: 3,
            width: 4,
            kernel: 3,
            stride,
            padding: 1,
        };
        let dy = whole(2 * 2 * g.positions() as i32, |i| i * 3 % 5 - 2);
        let [y, found_dx, found_dw, _] = run(&g, &x, &w, &[0.0; 2], &dy);
        assert_close(&found_dx, dx, 0.0, "dx");
        assert_close(&found_dw, dw, 0.0, "dw");
        if stride == 2 {
            let expected = [
                -7.0, -7.0, 16.0, -4.0, -17.0, -13.0, 11.0, -2.0, 2.0, 8.0, -17.0, -24.0, 1.0,
                11.0, -19.0, -8.0,
            ];
            assert_eq!(y, expected);
        }
    }
}
