//! Convolution: the definition in 64 bits, its central differences, and PyTorch.

use proptest::prelude::*;
use shrinklab::nn::op::Scratch;
use shrinklab::nn::op::conv2d::{Conv2d, Geometry, Operands, Saved, Then, Wanted};
use shrinklab::nn::op::max_pool2d::{self, Windows};
use shrinklab::nn::op::relu;

use crate::{
    assert_close, assert_summary, channels_first, channels_last, draw, fixture, integers, threads,
};

/// Batch, channels, height, width, outputs, kernel, stride, padding.
type Shape = [usize; 8];

fn convolution([_, channels, height, width, outputs, kernel, stride, padding]: Shape) -> Conv2d {
    Conv2d {
        geometry: Geometry {
            channels,
            height,
            width,
            kernel,
            stride,
            padding,
        },
        outputs,
        then: Then::Nothing,
    }
}

/// y by the definition, term after term.
fn by_definition(shape: Shape, x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let [batch, channels, height, width, outputs, k, s, p] = shape;
    let (oh, ow) = ((height + 2 * p - k) / s + 1, (width + 2 * p - k) / s + 1);
    let mut y = Vec::new();
    for (n, o) in (0..batch * outputs).map(|i| (i / outputs, i % outputs)) {
        for (oy, ox) in (0..oh * ow).map(|i| (i / ow, i % ow)) {
            let mut sum = b[o];
            for (c, i) in (0..channels * k * k).map(|i| (i / (k * k), i % (k * k))) {
                let (iy, ix) = (oy * s + i / k, ox * s + i % k);
                if (p..p + height).contains(&iy) && (p..p + width).contains(&ix) {
                    let pixel = x[((n * channels + c) * height + iy - p) * width + ix - p];
                    sum += w[(o * channels + c) * k * k + i] * pixel;
                }
            }
            y.push(sum);
        }
    }
    y
}

struct Found {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

/// The op's results, channels first as PyTorch has them; buffers begin as NaN, so that what it forgets to write is seen.
fn run(conv: &Conv2d, batch: usize, x: &[f32], w: &[f32], b: &[f32], dy: &[f32]) -> Found {
    let nan = |n| vec![f32::NAN; n];
    let (channels, outputs) = (conv.geometry.channels, conv.outputs);
    let (x, dy) = (
        channels_last(x, batch, channels),
        channels_last(dy, batch, outputs),
    );
    let mut scratch = Scratch::default();
    let n = batch * conv.values();
    let mut y = nan(n);
    let pools = matches!(conv.then, Then::ReluMaxPool(_));
    let mut place = vec![255; if pools { n } else { 0 }];
    let operands = Operands {
        w,
        scale: None,
        b: Some(b),
        add: None,
    };
    conv.forward(&x, operands, &mut y, &mut place, &mut scratch);
    let (mut dx, mut dw, mut db) = (nan(x.len()), nan(w.len()), nan(b.len()));
    let saved = Saved {
        x: &x,
        w,
        scale: None,
        y: &y,
        place: &place,
        dy: &dy,
    };
    let wanted = Wanted {
        dx: Some(&mut dx),
        adds: false,
        dw: Some(&mut dw),
        db: Some(&mut db),
    };
    conv.backward(saved, wanted, &mut scratch);
    // The same gradient of the input when nothing else is wanted, bit for bit.
    let mut alone = nan(x.len());
    let wanted = Wanted {
        dx: Some(&mut alone),
        ..Wanted::default()
    };
    conv.backward(saved, wanted, &mut scratch);
    assert_eq!(alone, dx);
    Found {
        y: channels_first(&y, batch, outputs),
        dx: channels_first(&dx, batch, channels),
        dw,
        db,
    }
}

/// Weights and biases of about the size that networks have.
fn inputs(shape: Shape, stream: u64) -> [Vec<f32>; 4] {
    let [batch, channels, height, width, outputs, kernel, ..] = shape;
    let n = batch * convolution(shape).values();
    [
        draw(stream, batch * channels * height * width, -1.0, 1.0),
        draw(stream + 1, outputs * channels * kernel * kernel, -1.0, 1.0),
        draw(stream + 2, outputs, -1.0, 1.0),
        draw(stream + 3, n, -1.0, 1.0),
    ]
}

#[test]
fn gradients_are_the_central_differences_of_the_definition() {
    let mut shapes = Vec::new();
    for kernel in [1, 3, 5, 7] {
        for (stride, padding) in [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)] {
            shapes.push([2, 2, 9, 7, 3, kernel, stride, padding]);
        }
    }
    shapes.extend([
        [1, 3, 5, 5, 2, 3, 1, 1],
        [7, 1, 4, 4, 2, 2, 2, 0],
        [3, 2, 1, 1, 2, 3, 2, 1],
    ]);
    for shape in shapes {
        let [x, w, b, dy] = inputs(shape, 1);
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let all = [wide(&x), wide(&w), wide(&b)];
        let value = |all: &[Vec<f64>; 3]| {
            let y = by_definition(shape, &all[0], &all[1], &all[2]);
            y.iter()
                .zip(&dy)
                .map(|(y, dy)| y * f64::from(*dy))
                .sum::<f64>()
        };
        // The value is linear in each input, so the difference is exact at any step.
        let difference = |which: usize, at: usize| {
            let mut moved = all.clone();
            moved[which][at] += 0.5;
            let above = value(&moved);
            moved[which][at] -= 1.0;
            above - value(&moved)
        };
        let differences = |which: usize| {
            let n = all[which].len();
            (0..n).map(|at| difference(which, at)).collect::<Vec<_>>()
        };
        let y = by_definition(shape, &all[0], &all[1], &all[2]);
        let (dx, dw, db) = (differences(0), differences(1), differences(2));
        for n in [1, 2, 5] {
            let found = threads(n, || run(&convolution(shape), shape[0], &x, &w, &b, &dy));
            let what = |name| format!("{name} of {shape:?} with {n} threads");
            assert_close(&found.y, &y, 1e-6, &what("y"));
            assert_close(&found.dx, &dx, 1e-6, &what("dx"));
            assert_close(&found.dw, &dw, 1e-6, &what("dw"));
            assert_close(&found.db, &db, 1e-6, &what("db"));
        }
    }
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    for (at, case) in fixture()["convolutions"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let shape: Shape = integers(&case["shape"]).try_into().unwrap();
        let [x, w, b, dy] = inputs(shape, 10 * at as u64 + 100);
        let found = threads(2, || run(&convolution(shape), shape[0], &x, &w, &b, &dy));
        assert_summary(&found.y, &case["y"], 1e-6, "y");
        assert_summary(&found.dx, &case["dx"], 1e-6, "dx");
        assert_summary(&found.dw, &case["dw"], 1e-6, "dw");
        assert_close(&found.db, &crate::floats(&case["db"]), 1e-6, "db");
    }
}

/// Many channels and images: several slabs of channels, several images in one product, and remainders of both.
#[test]
fn large_shapes_are_divided_without_a_seam() {
    for shape in [
        [13, 90, 5, 5, 4, 3, 2, 1],
        [3, 40, 16, 16, 3, 3, 1, 1],
        [1, 300, 7, 7, 2, 3, 1, 1],
    ] {
        let [x, w, b, dy] = inputs(shape, 40);
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let y = by_definition(shape, &wide(&x), &wide(&w), &wide(&b));
        let one = threads(1, || run(&convolution(shape), shape[0], &x, &w, &b, &dy));
        assert_close(&one.y, &y, 1e-5, "y");
        // <dy, conv(x)> without bias is <dx, x> and <dw, w>: backward is the transpose of forward.
        let dot = |a: &[f32], b: &[f32]| {
            let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
            terms.sum::<f64>()
        };
        let expected = dot(&one.y, &dy) - dot(&one.db, &b);
        assert!(
            (dot(&one.dx, &x) - expected).abs() < 1e-3 * expected.abs().max(1.0),
            "{shape:?}"
        );
        assert!(
            (dot(&one.dw, &w) - expected).abs() < 1e-3 * expected.abs().max(1.0),
            "{shape:?}"
        );
        for n in [2, 4] {
            let several = threads(n, || run(&convolution(shape), shape[0], &x, &w, &b, &dy));
            let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            assert_close(&several.dx, &wide(&one.dx), 1e-5, "dx");
            assert_close(&several.dw, &wide(&one.dw), 1e-5, "dw");
        }
    }
}

/// ReLU and pooling in the same pass give the same bits as one after the other.
#[test]
fn what_follows_in_the_same_pass_changes_no_bit() {
    for (kernel, stride) in [(2, 2), (3, 3), (2, 3)] {
        let shape = [5, 3, 11, 9, 4, 3, 1, 1];
        let [x, w, b, _] = inputs(shape, 60);
        let apart = convolution(shape);
        let windows = Windows {
            height: 11,
            width: 9,
            kernel,
            stride,
            padding: 0,
        };
        let together = Conv2d {
            then: Then::ReluMaxPool(windows),
            ..apart
        };
        let batch = shape[0];
        let dy = draw(64, batch * together.values(), -1.0, 1.0);
        let fused = threads(2, || run(&together, batch, &x, &w, &b, &dy));

        let mut d_y = vec![0.0; batch * apart.values()];
        let y = threads(2, || run(&apart, batch, &x, &w, &b, &d_y)).y;
        let n = y.len();
        let y = channels_last(&y, batch, 4);
        let pooled_dy = channels_last(&dy, batch, 4);
        let (mut positive, mut d_positive) = (vec![0.0; n], vec![0.0; n]);
        let (mut pooled, mut place) = (vec![0.0; dy.len()], vec![0; dy.len()]);
        threads(2, || {
            relu::forward(&y, &mut positive);
            max_pool2d::forward(&windows, 4, &positive, &mut pooled, &mut place);
            max_pool2d::backward(&windows, 4, &place, &pooled_dy, &mut d_positive);
            relu::backward(&positive, &d_positive, &mut d_y);
        });
        let d_y = channels_first(&d_y, batch, 4);
        let pooled = channels_first(&pooled, batch, 4);
        let plain = threads(2, || run(&apart, batch, &x, &w, &b, &d_y));
        assert_eq!(fused.y, pooled);
        assert_eq!(fused.dx, plain.dx);
        assert_eq!(fused.dw, plain.dw);
        assert_eq!(fused.db, plain.db);
    }
}

/// y and the gradients by the definition in 64 bits, channels last, with whatever the pass takes along: a factor and a
/// bias per output, a residual, the ReLU, a pooling of 2x2.
struct Definition {
    y: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
    db: Vec<f64>,
    /// How near a sum comes to 0 where a ReLU decides, or to a larger one where a pooling does.
    margin: f64,
}

fn define(conv: &Conv2d, batch: usize, [x, w, b, dy, scale, residual]: [&[f32]; 6]) -> Definition {
    let g = &conv.geometry;
    let (k, outputs, depth) = (g.kernel, conv.outputs, g.channels * g.kernel * g.kernel);
    let (height, width) = (g.out_height(), g.out_width());
    let wide = |v: f32| f64::from(v);
    // Each term of the sums: image and position of y, output, place in x, place in w.
    let terms = |each: &mut dyn FnMut(usize, usize, usize)| {
        for at in 0..batch * height * width {
            let (n, oy, ox) = (at / (height * width), at / width % height, at % width);
            for tap in 0..k * k {
                let (iy, ix) = (oy * g.stride + tap / k, ox * g.stride + tap % k);
                let inside = (g.padding..g.padding + g.height).contains(&iy)
                    && (g.padding..g.padding + g.width).contains(&ix);
                if !inside {
                    continue;
                }
                let pixel = (n * g.height + iy - g.padding) * g.width + ix - g.padding;
                for c in 0..g.channels {
                    each(at * outputs, pixel * g.channels + c, c * k * k + tap);
                }
            }
        }
    };
    let n = batch * height * width * outputs;
    let mut raw: Vec<f64> = (0..n)
        .map(|at| wide(b[at % outputs]) + residual.get(at).map_or(0.0, |r| wide(*r)))
        .collect();
    terms(&mut |at, pixel, weight| {
        for o in 0..outputs {
            raw[at + o] += wide(x[pixel]) * wide(w[o * depth + weight]) * wide(scale[o]);
        }
    });
    let mut d_raw = vec![0.0; n];
    let mut y = raw.clone();
    let mut margin = f64::INFINITY;
    match conv.then {
        Then::Nothing => d_raw = dy.iter().map(|dy| wide(*dy)).collect(),
        Then::Relu => {
            for (at, y) in y.iter_mut().enumerate() {
                *y = y.max(0.0);
                margin = margin.min(raw[at].abs());
                d_raw[at] = if raw[at] > 0.0 { wide(dy[at]) } else { 0.0 };
            }
        }
        Then::ReluMaxPool(windows) => {
            let (down, across) = (windows.out_height(), windows.out_width());
            y.clear();
            for (at, dy) in dy.iter().enumerate() {
                let (position, o) = (at / outputs, at % outputs);
                let (image, py, px) = (
                    position / (down * across),
                    position / across % down,
                    position % across,
                );
                let taps = (0..windows.kernel * windows.kernel).map(|tap| {
                    let line = py * windows.stride + tap / windows.kernel;
                    let column = px * windows.stride + tap % windows.kernel;
                    ((image * height + line) * width + column) * outputs + o
                });
                let first = taps
                    .clone()
                    .rev()
                    .max_by(|a, b| raw[*a].total_cmp(&raw[*b]))
                    .unwrap();
                let others = taps.filter(|at| *at != first);
                margin = others
                    .map(|at| raw[first] - raw[at])
                    .fold(margin.min(raw[first].abs()), f64::min);
                y.push(raw[first].max(0.0));
                if raw[first] > 0.0 {
                    d_raw[first] += wide(*dy);
                }
            }
        }
    }
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    terms(&mut |at, pixel, weight| {
        for o in 0..outputs {
            let d = d_raw[at + o];
            dx[pixel] += d * wide(w[o * depth + weight]) * wide(scale[o]);
            dw[o * depth + weight] += d * wide(x[pixel]);
        }
    });
    let mut db = vec![0.0; outputs];
    for (at, d) in d_raw.iter().enumerate() {
        db[at % outputs] += d;
    }
    Definition {
        y,
        dx,
        dw,
        db,
        margin,
    }
}

/// What a pass is asked for beside its shape.
#[derive(Clone, Copy, Debug)]
struct Asked {
    then: u8,
    adds: bool,
    scaled: bool,
    residual: bool,
    threads: usize,
    stream: u32,
}

fn asked() -> impl Strategy<Value = Asked> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (0_u8..3, flags, 1_usize..5, any::<u32>()).prop_map(
        |(then, (adds, scaled, residual), threads, stream)| Asked {
            then,
            adds,
            scaled,
            residual,
            threads,
            stream,
        },
    )
}

fn is_as_defined(shape: Shape, asked: Asked, tolerance: f64) {
    let [batch, channels, height, width, outputs, kernel, ..] = shape;
    let mut conv = convolution(shape);
    let (oh, ow) = (conv.geometry.out_height(), conv.geometry.out_width());
    let windows = Windows {
        height: oh,
        width: ow,
        kernel: 2,
        stride: 2,
        padding: 0,
    };
    conv.then = match asked.then {
        0 => Then::Nothing,
        1 => Then::Relu,
        _ if oh >= 2 && ow >= 2 => Then::ReluMaxPool(windows),
        _ => Then::Relu,
    };
    let pools = matches!(conv.then, Then::ReluMaxPool(_));
    let n = batch * conv.values();
    let draws = |at: u64, n: usize| draw(u64::from(asked.stream) * 10 + at, n, -1.0, 1.0);
    let (x, b, dy) = (
        draws(0, batch * channels * height * width),
        draws(1, outputs),
        draws(2, n),
    );
    let w = draws(3, outputs * channels * kernel * kernel);
    let scale = if asked.scaled {
        draws(4, outputs)
    } else {
        vec![1.0; outputs]
    };
    let added = if asked.residual && !pools {
        draws(5, n)
    } else {
        Vec::new()
    };
    let expected = define(&conv, batch, [&x, &w, &b, &dy, &scale, &added]);
    // Rounding grows with the number of terms, however small a sum of them turns out.
    let terms = |n: usize| tolerance * (n as f64 / 64.0).sqrt().max(1.0);
    if expected.margin < terms(conv.geometry.depth()) {
        return;
    }
    let nan = |n| vec![f32::NAN; n];
    let (mut y, mut place) = (nan(n), vec![255; if pools { n } else { 0 }]);
    let (mut dx, mut dw, mut db) = (nan(x.len()), nan(w.len()), nan(outputs));
    if asked.adds {
        dx.fill(3.0);
    }
    threads(asked.threads, || {
        let mut scratch = Scratch::default();
        let scale = asked.scaled.then_some(&*scale);
        let operands = Operands {
            w: &w,
            scale,
            b: Some(&b),
            add: (!added.is_empty()).then_some(&added),
        };
        conv.forward(&x, operands, &mut y, &mut place, &mut scratch);
        let saved = Saved {
            x: &x,
            w: &w,
            scale,
            y: &y,
            place: &place,
            dy: &dy,
        };
        let wanted = Wanted {
            dx: Some(&mut dx),
            adds: asked.adds,
            dw: Some(&mut dw),
            db: Some(&mut db),
        };
        conv.backward(saved, wanted, &mut scratch);
    });
    if asked.adds {
        for dx in &mut dx {
            *dx -= 3.0;
        }
    }
    let positions = batch * oh * ow;
    assert_close(&y, &expected.y, terms(conv.geometry.depth()), "y");
    assert_close(&dx, &expected.dx, terms(outputs * kernel * kernel), "dx");
    assert_close(&dw, &expected.dw, terms(positions), "dw");
    assert_close(&db, &expected.db, terms(positions), "db");
}

proptest! {
    #![proptest_config(crate::drawn(200))]

    /// Whatever the shape, what follows in the pass, and the number of threads.
    #[test]
    fn every_shape_is_computed_as_defined(
        (batch, channels, height, width) in (1_usize..6, 1_usize..40, 1_usize..13, 1_usize..13),
        (outputs, kernel, stride, padding) in (1_usize..40, 1_usize..8, 1_usize..4, 0_usize..3),
        asked in asked(),
    ) {
        prop_assume!(height.min(width) + 2 * padding >= kernel);
        let shape = [batch, channels, height, width, outputs, kernel, stride, padding];
        is_as_defined(shape, asked, 2e-6);
    }
}

proptest! {
    #![proptest_config(crate::drawn(40))]

    /// Those that are filtered by Winograd's way: 3x3 kernels over many channels. Without a ReLU in between, whose mask
    /// a difference in the last digit may turn.
    #[test]
    fn many_channels_are_computed_as_defined(
        (batch, height, width, padding) in (1_usize..5, 4_usize..14, 4_usize..14, 0_usize..3),
        (channels, outputs) in (2_usize..5, 2_usize..5),
        // Half of them no multiples of a register, as pruning leaves them.
        (odd, more) in prop_oneof![Just((0, 0)), (0_usize..16, 0_usize..16)],
        asked in asked(),
    ) {
        let (channels, outputs) = (16 * channels + odd, 16 * outputs + more);
        let shape = [batch, channels, height, width, outputs, 3, 1, padding];
        is_as_defined(shape, Asked { then: 0, ..asked }, 1e-5);
    }
}

/// The same with a ReLU and with a pooling, on values where no sum lies so near to 0 or to another that rounding matters.
#[test]
fn many_channels_with_what_follows_are_computed_as_defined() {
    for then in [1, 2] {
        for shape in [
            [3, 64, 11, 11, 64, 3, 1, 0],
            [2, 48, 8, 8, 64, 3, 1, 1],
            [1, 64, 14, 13, 48, 3, 1, 1],
            [2, 45, 12, 12, 37, 3, 1, 1],
        ] {
            let asked = Asked {
                then,
                adds: false,
                scaled: false,
                residual: then == 1,
                threads: 2,
                stream: 7,
            };
            is_as_defined(shape, asked, 1e-5);
        }
    }
}
