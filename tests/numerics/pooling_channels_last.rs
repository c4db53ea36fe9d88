//! Pooling, channels last: the definitions in 64 bits and their central differences.

use proptest::prelude::*;
use shrinklab::nn::op::average_pool2d;
use shrinklab::nn::op::max_pool2d::{self, Windows};

use crate::{assert_close, draw, threads};

/// For each window and channel the values under it, and its place beside each, in reading order; (n, oy, ox, c).
fn each_window(
    g: &Windows,
    channels: usize,
    x: &[f64],
    mut visit: impl FnMut(&[(usize, usize, f64)]),
) {
    let image = g.height * g.width * channels;
    for n in 0..x.len() / image {
        for (oy, ox) in
            (0..g.out_height()).flat_map(|oy| (0..g.out_width()).map(move |ox| (oy, ox)))
        {
            for c in 0..channels {
                let mut under = Vec::new();
                for (ky, kx) in (0..g.kernel).flat_map(|ky| (0..g.kernel).map(move |kx| (ky, kx))) {
                    let iy = (oy * g.stride + ky).checked_sub(g.padding);
                    let ix = (ox * g.stride + kx).checked_sub(g.padding);
                    if let (Some(iy), Some(ix)) = (iy, ix)
                        && iy < g.height
                        && ix < g.width
                    {
                        let at = n * image + (iy * g.width + ix) * channels + c;
                        under.push((ky * g.kernel + kx, at, x[at]));
                    }
                }
                visit(&under);
            }
        }
    }
}

/// The maxima, their places in the windows and in x.
fn maxima(g: &Windows, channels: usize, x: &[f64]) -> (Vec<f64>, Vec<u8>, Vec<usize>) {
    let (mut y, mut place, mut source) = (Vec::new(), Vec::new(), Vec::new());
    each_window(g, channels, x, |under| {
        let mut best = under[0];
        for candidate in under {
            if candidate.2 > best.2 {
                best = *candidate;
            }
        }
        y.push(best.2);
        place.push(best.0 as u8);
        source.push(best.1);
    });
    (y, place, source)
}

fn means(g: &Windows, channels: usize, x: &[f64]) -> Vec<f64> {
    let mut y = Vec::new();
    each_window(g, channels, x, |under| {
        let sum: f64 = under.iter().map(|(.., x)| x).sum();
        y.push(sum / (g.kernel * g.kernel) as f64);
    });
    y
}

/// The central differences of <f(x), dy> in every x.
fn differences(x: &[f64], dy: &[f32], step: f64, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let value = |at: usize, step: f64| {
        let mut x = x.to_vec();
        x[at] += step;
        let y = f(&x);
        y.iter()
            .zip(dy)
            .map(|(y, dy)| y * f64::from(*dy))
            .sum::<f64>()
    };
    (0..x.len())
        .map(|at| (value(at, step) - value(at, -step)) / (2.0 * step))
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

prop_compose! {
    /// Windows, channels and images; every fourth time two by two.
    fn shapes(most_channels: usize, side: usize)(
        height in 1..=side, width in 1..=side, kernel in 1_usize..=7, stride in 1_usize..=3,
        padding in 0_usize..=2, common in 0..4, channels in 1..=most_channels, batch in 1_usize..5,
    ) -> (Windows, usize, usize) {
        let (kernel, stride, padding) = if common == 0 { (2, 2, 0) } else { (kernel, stride, padding) };
        (Windows { height, width, kernel, stride, padding }, channels, batch)
    }
}

fn fits((g, ..): &(Windows, usize, usize)) -> bool {
    g.height.min(g.width) + 2 * g.padding >= g.kernel && g.padding <= g.kernel / 2
}

struct Found {
    y: Vec<f32>,
    place: Vec<u8>,
    dx: Vec<f32>,
}

fn max_pooled(g: &Windows, channels: usize, x: &[f32], dy: &[f32]) -> Found {
    let (mut y, mut place) = (vec![f32::NAN; dy.len()], vec![255; dy.len()]);
    let mut dx = vec![f32::NAN; x.len()];
    max_pool2d::forward(g, channels, x, &mut y, &mut place);
    max_pool2d::backward(g, channels, &place, dy, &mut dx);
    let mut alone = vec![f32::NAN; dy.len()];
    max_pool2d::forward(g, channels, x, &mut alone, &mut []);
    assert_eq!(alone, y);
    Found { y, place, dx }
}

proptest! {
    #![proptest_config(crate::drawn(60))]

    #[test]
    fn gradients_are_the_central_differences_of_the_definition(
        shape in shapes(3, 6).prop_filter("the kernel fits", fits), stream in 0_u64..1 << 20,
    ) {
        let (g, channels, batch) = shape;
        let n = batch * g.height * g.width * channels;
        // All different by 1 at least: the maxima stay where they are under a smaller step.
        let drawn = draw(stream * 2, n, 0.0, 1.0);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| drawn[*a].total_cmp(&drawn[*b]));
        let mut x = vec![0.0; n];
        for (rank, at) in order.into_iter().enumerate() {
            x[at] = rank as f32;
        }
        let dy = draw(stream * 2 + 1, batch * g.count() * channels, -1.0, 1.0);
        let expected = differences(&wide(&x), &dy, 0.25, |x| maxima(&g, channels, x).0);
        for threaded in [1, 2] {
            let found = threads(threaded, || max_pooled(&g, channels, &x, &dy));
            assert_close(&found.dx, &expected, 1e-6, "dx of the maximum");
        }
        let expected = differences(&wide(&x), &dy, 0.25, |x| means(&g, channels, x));
        for threaded in [1, 2] {
            let mut dx = vec![f32::NAN; n];
            threads(threaded, || average_pool2d::backward(&g, channels, &dy, &mut dx));
            assert_close(&dx, &expected, 1e-6, "dx of the mean");
        }
    }

    #[test]
    fn values_are_those_of_the_definition_ties_included(
        shape in shapes(40, 17).prop_filter("the kernel fits", fits), stream in 0_u64..1 << 20,
    ) {
        let (g, channels, batch) = shape;
        let n = batch * g.height * g.width * channels;
        let x: Vec<f32> = draw(stream * 2, n, -2.0, 2.0).into_iter().map(f32::floor).collect();
        let dy = draw(stream * 2 + 1, batch * g.count() * channels, -1.0, 1.0);
        let (y, place, source) = maxima(&g, channels, &wide(&x));
        let mut dx = vec![0.0; n];
        for (at, dy) in source.into_iter().zip(&dy) {
            dx[at] += f64::from(*dy);
        }
        let averages = means(&g, channels, &wide(&x));
        for threaded in [1, 2, 5] {
            let found = threads(threaded, || max_pooled(&g, channels, &x, &dy));
            assert_close(&found.y, &y, 0.0, "maximum");
            prop_assert_eq!(&found.place, &place);
            assert_close(&found.dx, &dx, 1e-6, "dx");
            let mut found = vec![f32::NAN; dy.len()];
            threads(threaded, || average_pool2d::forward(&g, channels, &x, &mut found));
            assert_close(&found, &averages, 1e-6, "mean");
        }
    }

    #[test]
    fn whole_planes_are_one_window(
        side in 1_usize..9, channels in 1_usize..40, batch in 1_usize..6, stream in 0_u64..1 << 20,
    ) {
        let g = Windows { height: side, width: side, kernel: side, stride: 1, padding: 0 };
        let x = draw(stream * 2, batch * side * side * channels, -1.0, 1.0);
        let dy = draw(stream * 2 + 1, batch * channels, -1.0, 1.0);
        let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
        threads(2, || {
            average_pool2d::forward_global(side * side, channels, &x, &mut y);
            average_pool2d::backward_global(side * side, channels, &dy, &mut dx);
        });
        assert_close(&y, &means(&g, channels, &wide(&x)), 1e-6, "mean");
        let share = |at: usize| f64::from(dy[at / (side * side * channels) * channels + at % channels]) / (side * side) as f64;
        assert_close(&dx, &(0..x.len()).map(share).collect::<Vec<_>>(), 1e-6, "dx");
    }
}
