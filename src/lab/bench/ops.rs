//! What each op reaches on the shapes of the networks, pass by pass.
//!
//! Operations are counted as usual: two for each multiply-accumulate of a convolution or a linear layer. Normalizations,
//! sums and poolings compute next to nothing and wait for memory: there the bytes that must travel at least once count.

use crate::nn::op::batch_norm2d::{self, Affine, Flow};
use crate::nn::op::conv2d::{Conv2d, Geometry, Operands, Saved, Then, Wanted};
use crate::nn::op::max_pool2d::{self, Windows};
use crate::nn::op::{Scratch, add, depthwise_conv2d};
use crate::nn::rng::Rng;

/// One pass of an op over one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct OpPace {
    pub op: &'static str,
    pub pass: &'static str,
    /// As `64x32x32x64 -> 64, 3x3`: images, height, width, channels, outputs, kernel.
    pub shape: String,
    /// Floating-point operations; 0 where memory is what counts.
    pub operations: f64,
    /// Bytes that must be read and written at least once.
    pub bytes: f64,
    /// Of the quickest run.
    pub seconds: f64,
}

/// Channels in, side, channels out, kernel, stride: the layers in which the networks spend their time.
pub(super) const CONVOLUTIONS: [(usize, usize, usize, usize, usize); 14] = [
    (3, 32, 64, 3, 1),
    (64, 32, 64, 3, 1),
    (64, 32, 128, 3, 2),
    (64, 32, 128, 1, 2),
    (128, 16, 128, 3, 1),
    (256, 8, 256, 3, 1),
    (512, 4, 512, 3, 1),
    (1, 28, 32, 3, 1),
    (32, 28, 32, 3, 2),
    (32, 14, 64, 3, 1),
    (128, 7, 128, 3, 2),
    (32, 32, 64, 1, 1),
    (256, 8, 256, 1, 1),
    (1024, 2, 1024, 1, 1),
];

pub(super) const LINEAR: [(usize, usize); 3] = [(1600, 128), (2048, 128), (512, 10)];

/// Channels, side, stride.
pub(super) const DEPTHWISE: [(usize, usize, usize); 4] =
    [(32, 32, 1), (64, 32, 2), (256, 8, 1), (512, 4, 1)];

/// Channels, side.
pub(super) const NORMALIZATIONS: [(usize, usize); 3] = [(64, 32), (256, 8), (512, 4)];

/// Runs every op over every shape; `quickest` times a piece of work.
pub(super) fn all(batch: usize, quickest: &mut dyn FnMut(&mut dyn FnMut()) -> f64) -> Vec<OpPace> {
    let mut paces = Vec::new();
    for (channels, side, outputs, kernel, stride) in CONVOLUTIONS {
        let geometry = padded(channels, side, kernel, stride);
        let shape = format!(
            "{batch}x{side}x{side}x{channels} -> {outputs}, {kernel}x{kernel}{}",
            strided(stride)
        );
        dense(
            "conv2d", geometry, outputs, &shape, batch, quickest, &mut paces,
        );
    }
    for (inputs, outputs) in LINEAR {
        let shape = format!("{batch}x{inputs} -> {outputs}");
        let geometry = Geometry::pixel(inputs);
        dense(
            "linear", geometry, outputs, &shape, batch, quickest, &mut paces,
        );
    }
    for (channels, side, stride) in DEPTHWISE {
        depthwise(channels, side, stride, batch, quickest, &mut paces);
    }
    for (channels, side) in NORMALIZATIONS {
        normalization(channels, side, batch, quickest, &mut paces);
    }
    passing(batch, quickest, &mut paces);
    paces
}

/// A square image and a kernel that sees it all.
pub(super) fn padded(channels: usize, side: usize, kernel: usize, stride: usize) -> Geometry {
    Geometry {
        channels,
        height: side,
        width: side,
        kernel,
        stride,
        padding: kernel / 2,
    }
}

pub(super) fn strided(stride: usize) -> String {
    if stride == 1 {
        String::new()
    } else {
        format!(" at stride {stride}")
    }
}

fn values(n: usize) -> Vec<f32> {
    let mut rng = Rng::stream(0, "bench", &[n as u64]);
    (0..n).map(|_| rng.between(-1.0, 1.0) as f32).collect()
}

/// A convolution or a linear layer: forward, the gradient of the input, that of the weights.
fn dense(
    op: &'static str,
    geometry: Geometry,
    outputs: usize,
    shape: &str,
    batch: usize,
    quickest: &mut dyn FnMut(&mut dyn FnMut()) -> f64,
    paces: &mut Vec<OpPace>,
) {
    let conv = Conv2d {
        geometry,
        outputs,
        then: Then::Nothing,
    };
    let x = values(batch * geometry.image());
    let w = values(outputs * geometry.depth());
    let n = batch * conv.values();
    let (mut y, dy) = (vec![0.0; n], values(n));
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; outputs]);
    let mut scratch = Scratch::default();
    let operations = 2.0 * (n * geometry.depth()) as f64;
    let bytes = 4.0 * (x.len() + w.len() + n) as f64;
    let saved = Saved {
        x: &x,
        w: &w,
        scale: None,
        y: &[],
        place: &[],
        dy: &dy,
    };
    let mut note = |pass, seconds| {
        paces.push(OpPace {
            op,
            pass,
            shape: shape.to_owned(),
            operations,
            bytes,
            seconds,
        });
    };
    let operands = Operands {
        w: &w,
        scale: None,
        b: None,
        add: None,
    };
    note(
        "forward",
        quickest(&mut || conv.forward(&x, operands, &mut y, &mut [], &mut scratch)),
    );
    note(
        "to input",
        quickest(&mut || {
            let wanted = Wanted {
                dx: Some(&mut dx),
                ..Wanted::default()
            };
            conv.backward(saved, wanted, &mut scratch);
        }),
    );
    note(
        "to weights",
        quickest(&mut || {
            let wanted = Wanted {
                dw: Some(&mut dw),
                db: Some(&mut db),
                ..Wanted::default()
            };
            conv.backward(saved, wanted, &mut scratch);
        }),
    );
}

fn depthwise(
    channels: usize,
    side: usize,
    stride: usize,
    batch: usize,
    quickest: &mut dyn FnMut(&mut dyn FnMut()) -> f64,
    paces: &mut Vec<OpPace>,
) {
    let geometry = padded(channels, side, 3, stride);
    let (x, w) = (values(batch * geometry.image()), values(9 * channels));
    let n = batch * geometry.positions() * channels;
    let (mut y, dy) = (vec![0.0; n], values(n));
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let mut note = |pass, seconds| {
        paces.push(OpPace {
            op: "depthwise-conv2d",
            pass,
            shape: format!("{batch}x{side}x{side}x{channels}, 3x3{}", strided(stride)),
            operations: 18.0 * n as f64,
            bytes: 4.0 * (x.len() + n) as f64,
            seconds,
        });
    };
    let then = depthwise_conv2d::Then::default();
    note(
        "forward",
        quickest(&mut || depthwise_conv2d::forward(&geometry, &x, &w, then, &mut y)),
    );
    let saved = depthwise_conv2d::Saved {
        x: &x,
        w: &w,
        scale: None,
        dy: &dy,
    };
    note(
        "to input",
        quickest(&mut || {
            let wanted = depthwise_conv2d::Wanted {
                dx: Some(&mut dx),
                ..Default::default()
            };
            depthwise_conv2d::backward(&geometry, saved, wanted);
        }),
    );
    note(
        "to weights",
        quickest(&mut || {
            let wanted = depthwise_conv2d::Wanted {
                dw: Some(&mut dw),
                ..Default::default()
            };
            depthwise_conv2d::backward(&geometry, saved, wanted);
        }),
    );
}

/// Batch normalization with its ReLU, in training.
fn normalization(
    channels: usize,
    side: usize,
    batch: usize,
    quickest: &mut dyn FnMut(&mut dyn FnMut()) -> f64,
    paces: &mut Vec<OpPace>,
) {
    let n = batch * side * side * channels;
    let (x, dy) = (values(n), values(n));
    let (mut y, mut dx) = (vec![0.0; n], vec![0.0; n]);
    let (weight, bias) = (vec![1.0; channels], vec![0.1; channels]);
    let (mut d_weight, mut d_bias) = (vec![0.0; channels], vec![0.0; channels]);
    let affine = Affine {
        weight: &weight,
        bias: &bias,
        epsilon: 1e-5,
    };
    let mut note = |pass, bytes: usize, seconds| {
        paces.push(OpPace {
            op: "batch-norm2d + relu",
            pass,
            shape: format!("{batch}x{side}x{side}x{channels}"),
            operations: 0.0,
            bytes: 4.0 * (bytes * n) as f64,
            seconds,
        });
    };
    let mut statistics = batch_norm2d::Statistics::default();
    // Read for the statistics, read again and written.
    let forward = quickest(&mut || {
        statistics = batch_norm2d::forward_train(&affine, &x, None, true, &mut y);
    });
    note("forward", 3, forward);
    // Input and gradient are read for the sums, read again, and a gradient written.
    let backward = quickest(&mut || {
        let saved = batch_norm2d::Saved {
            x: &x,
            relu: batch_norm2d::Relu::FromInput,
        };
        let flow = Flow::Apart {
            dy: &dy,
            dx: Some(&mut dx),
        };
        let wanted = batch_norm2d::Wanted {
            weight: Some(&mut d_weight),
            bias: Some(&mut d_bias),
            residual: None,
        };
        batch_norm2d::backward_train(&affine, &statistics, saved, flow, wanted);
    });
    note("backward", 5, backward);
}

/// A sum with its ReLU, and a pooling.
fn passing(
    batch: usize,
    quickest: &mut dyn FnMut(&mut dyn FnMut()) -> f64,
    paces: &mut Vec<OpPace>,
) {
    let (channels, side) = (64, 32);
    let n = batch * side * side * channels;
    let (a, b) = (values(n), values(n));
    let mut y = vec![0.0; n];
    let windows = Windows {
        height: side,
        width: side,
        kernel: 2,
        stride: 2,
        padding: 0,
    };
    let mut place = vec![0; n / 4];
    let seconds = [
        quickest(&mut || add::forward(&a, &b, true, &mut y)),
        quickest(&mut || max_pool2d::forward(&windows, channels, &a, &mut y[..n / 4], &mut place)),
    ];
    for ((op, bytes), seconds) in [
        ("add + relu", 12 * n),
        ("max-pool2d 2x2", 4 * n + 5 * n / 4),
    ]
    .into_iter()
    .zip(seconds)
    {
        paces.push(OpPace {
            op,
            pass: "forward",
            shape: format!("{batch}x{side}x{side}x{channels}"),
            operations: 0.0,
            bytes: bytes as f64,
            seconds,
        });
    }
}
