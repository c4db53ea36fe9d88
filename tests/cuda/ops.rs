//! Each op over drawn shapes, through small networks: what each layer gives, gradients of the images and of every
//! parameter, and running statistics.

use candle_core::{Device, Tensor};
use shrinklab::nn::device::Precision;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::network::{Builder, Keep, Network, Wanted, Workspace};
use shrinklab::nn::op::sign_step::{self, Lengths};
use shrinklab::nn::op::{add, tensor, to_device, values};
use shrinklab::nn::rng::Rng;
use shrinklab::nn::{ImageShape, Mode, Result, device};

use crate::{assert_near, draw, on_gpu, on_gpu_as, pixels, twin};

/// Sums of at most a few thousand terms in 32 bits on both sides.
const TOLERANCE: f64 = 1e-5;

pub(crate) const CLASSES: usize = 3;

/// What a pass found.
pub(crate) struct Passed {
    pub(crate) logits: Vec<f32>,
    pub(crate) activations: Vec<Option<Vec<f32>>>,
    pub(crate) d_input: Vec<f32>,
    pub(crate) d_parameters: Vec<Option<Vec<f32>>>,
}

/// Forward and backward from drawn gradients of the logits; in training statistics are committed.
pub(crate) fn pass(network: &mut Network, batch: usize, mode: Mode, keep: Keep) -> Result<Passed> {
    let device = network.device();
    let images = pixels(1, batch, network.input());
    let n = batch * network.classes();
    let d_logits = draw("d_logits", 0, n, -1.0, 1.0);
    let d_logits = to_device(&tensor(d_logits, &[batch, network.classes()])?, &device)?;
    let mut workspace = Workspace::new();
    let trace = network.trace(&images, mode, keep, &mut workspace)?;
    let gradients = trace.backward(&d_logits, Wanted::ALL)?;
    let activations = (0..network.nodes().len()).map(|node| trace.activation(node));
    let passed = Passed {
        logits: values(trace.logits())?,
        activations: activations
            .map(|kept| kept.map(values).transpose())
            .collect::<Result<_>>()?,
        d_input: values(gradients.input.as_ref().unwrap())?,
        d_parameters: gradients
            .parameters
            .iter()
            .map(|found| found.as_ref().map(values).transpose())
            .collect::<Result<_>>()?,
    };
    let statistics = trace.statistics();
    drop(trace);
    network.commit(&statistics)?;
    Ok(passed)
}

/// The same of both devices, in both modes, of one image and of many.
pub(crate) fn compare(network: &Network, device: &Device, what: &str) {
    for (mode, batch) in [
        (Mode::Train, 1),
        (Mode::Train, 7),
        (Mode::Eval, 1),
        (Mode::Eval, 7),
    ] {
        for keep in [Keep::Gradients, Keep::Activations] {
            let what = format!("{what}, {mode:?} of {batch}, {keep:?}");
            let (mut here, mut there) = (network.duplicate().unwrap(), twin(network, device));
            let expected = pass(&mut here, batch, mode, keep).unwrap();
            let found = pass(&mut there, batch, mode, keep)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let near = |found: &[f32], expected: &[f32], least: f64, of: &str| {
                assert_near(found, expected, TOLERANCE, least, &format!("{what}: {of}"));
            };
            near(&found.logits, &expected.logits, 0.0, "logits");
            near(&found.d_input, &expected.d_input, 1e-3, "input's gradient");
            if keep == Keep::Activations {
                let nodes = network.nodes().iter();
                let both = found.activations.iter().zip(&expected.activations);
                for (node, (found, expected)) in nodes.zip(both) {
                    let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
                    near(found, expected, 0.0, &node.name);
                }
            }
            let norm = |values: &Vec<f32>| crate::norm(values.iter().map(|v| f64::from(*v)));
            let norms = expected.d_parameters.iter().flatten().map(norm);
            let least = 1e-2 * norms.fold(0.0, f64::max);
            let both = found.d_parameters.iter().zip(&expected.d_parameters);
            for (parameter, (found, expected)) in network.parameters().iter().zip(both) {
                assert_eq!(found.is_some(), expected.is_some(), "{what}");
                if let (Some(found), Some(expected)) = (found, expected) {
                    near(found, expected, least, &parameter.name);
                }
            }
            let running = here.parameters().iter().zip(there.parameters());
            for (h, t) in running.filter(|(h, _)| !h.role.trains()) {
                let (h, t) = (values(&h.value).unwrap(), values(&t.value).unwrap());
                near(&t, &h, 1e-3, "running statistics");
            }
        }
    }
}

/// Images, and so many channels made of them.
fn begun(rng: &mut Rng, channels: usize) -> Builder {
    let of_image = [1, 3][rng.below(2)];
    let shape = ImageShape {
        channels: of_image,
        height: 5 + rng.below(9),
        width: 5 + rng.below(9),
    };
    let mut builder = Builder::new("drawn", shape, CLASSES, rng.bits());
    let normalize = Layer::Normalize {
        mean: vec![0.5, 0.4, 0.3][..of_image].to_vec(),
        std: vec![0.25, 0.2, 0.3][..of_image].to_vec(),
    };
    builder.then("normalize", normalize).unwrap();
    let made = Layer::conv_without_bias(channels, 1, 1, 0);
    builder.then("made", made).unwrap();
    builder
}

fn ended(mut builder: Builder) -> Network {
    builder.then("flatten", Layer::Flatten).unwrap();
    builder.then("last", Layer::linear(CLASSES)).unwrap();
    let mut network = builder.finish().unwrap();
    // Parameters that begin at 0 or 1 would hide errors.
    let drawn: Vec<_> = network
        .parameters()
        .iter()
        .filter(|p| p.value.dims().len() == 1)
        .map(|p| (p.name.clone(), p.value.elem_count()))
        .collect();
    for (at, (name, n)) in drawn.into_iter().enumerate() {
        let values = draw("one", at as u64, n, 0.25, 1.0);
        network.parameters_mut().set(&name, &values).unwrap();
    }
    network
}

/// As many networks as asked for, each with the layers that `layers` draws.
fn drawn(
    name: &str,
    count: u64,
    device: &Device,
    mut layers: impl FnMut(&mut Rng) -> (usize, Vec<Layer>),
) {
    let mut made = 0;
    for number in 0.. {
        let mut rng = Rng::stream(number, name, &[]);
        let (channels, layers) = layers(&mut rng);
        let mut builder = begun(&mut rng, channels);
        let what = format!("{name} {number}, {channels} channels, {layers:?}");
        let fits = layers
            .into_iter()
            .enumerate()
            .all(|(at, layer)| builder.then(&format!("drawn{at}"), layer).is_ok());
        if fits {
            let network = ended(builder);
            compare(
                &network,
                device,
                &format!("{what} on {:?}", network.input()),
            );
            made += 1;
        }
        if made == count {
            return;
        }
        assert!(number < 10 * count, "{name}: the shapes do not fit");
    }
}

fn convolutions(device: &Device) {
    drawn("conv2d", 24, device, |rng| {
        let mut layers = vec![Layer::Conv2d {
            out_channels: 1 + rng.below(11),
            kernel: 1 + rng.below(7),
            stride: 1 + rng.below(2),
            padding: rng.below(3),
            bias: rng.below(2) == 0,
        }];
        match rng.below(3) {
            0 => {}
            1 => layers.push(Layer::Relu),
            _ => {
                let kernel = 2 + rng.below(2);
                layers.push(Layer::Relu);
                layers.push(Layer::MaxPool2d {
                    kernel,
                    stride: kernel + rng.below(2),
                    padding: 0,
                });
            }
        }
        (1 + rng.below(10), layers)
    });
}

#[test]
fn convolutions_are_the_cpus() {
    on_gpu(convolutions);
}

#[test]
fn convolutions_as_products_of_matrices_are_the_cpus() {
    on_gpu(|device| {
        device::set_products(device, true).unwrap();
        convolutions(device);
    });
}

#[test]
fn depthwise_convolutions_are_the_cpus() {
    on_gpu(|device| {
        drawn("depthwise", 24, device, |rng| {
            let kernel = [3, 3, 1, 2, 5][rng.below(5)];
            let mut layers = vec![Layer::DepthwiseConv2d {
                kernel,
                stride: 1 + rng.below(2),
                padding: rng.below(3),
                bias: rng.below(2) == 0,
            }];
            if rng.below(2) == 0 {
                layers.push(Layer::Relu);
            }
            ([1, 3, 4, 7, 8, 20][rng.below(6)], layers)
        });
    });
}

#[test]
fn batch_normalizations_are_the_cpus() {
    on_gpu(|device| {
        drawn("batch-norm", 10, device, |rng| {
            let mut layers = vec![Layer::BatchNorm2d {
                epsilon: 1e-3,
                momentum: 0.1 + 0.2 * rng.uniform(),
            }];
            if rng.below(2) == 0 {
                layers.push(Layer::Relu);
            }
            ([1, 3, 4, 5, 8, 36, 70][rng.below(7)], layers)
        });
    });
}

/// More rows than all blocks' threads read at once, and columns that fill two blocks and a part of a third: each thread has
/// whole groups of rows and a rest.
#[test]
fn sums_over_many_rows_are_the_cpus() {
    on_gpu(|device| {
        for (channels, layers) in [
            (
                72,
                vec![
                    Layer::BatchNorm2d {
                        epsilon: 1e-3,
                        momentum: 0.1,
                    },
                    Layer::Relu,
                ],
            ),
            (
                3,
                vec![
                    Layer::Conv2d {
                        out_channels: 36,
                        kernel: 2,
                        stride: 1,
                        padding: 0,
                        bias: true,
                    },
                    Layer::Relu,
                    Layer::max_pool(2, 2),
                ],
            ),
            (40, vec![Layer::depthwise3x3(1), Layer::Relu]),
        ] {
            let shape = ImageShape {
                channels: 1,
                height: 41,
                width: 39,
            };
            let what = format!("many rows of {channels}, {layers:?}");
            let mut builder = Builder::new("rows", shape, CLASSES, 1);
            let normalize = Layer::Normalize {
                mean: vec![0.5],
                std: vec![0.25],
            };
            builder.then("normalize", normalize).unwrap();
            let made = Layer::conv_without_bias(channels, 1, 1, 0);
            builder.then("made", made).unwrap();
            for (at, layer) in layers.into_iter().enumerate() {
                builder.then(&format!("layer{at}"), layer).unwrap();
            }
            builder.then("pooled", Layer::max_pool(7, 7)).unwrap();
            compare(&ended(builder), device, &what);
        }
    });
}

/// Windows two by two behind a convolution, of channels in fours and of others; lines and columns beyond the last window,
/// and between windows, whose gradient is zero.
#[test]
fn gradients_behind_windows_that_leave_pixels_out_are_the_cpus() {
    on_gpu(|device| {
        for (number, (outputs, stride, bias)) in [
            (8, 2, true),
            (8, 2, false),
            (5, 2, true),
            (4, 3, true),
            (4, 3, false),
            (3, 4, true),
        ]
        .into_iter()
        .enumerate()
        {
            for (height, width) in [(9, 11), (10, 9), (8, 8), (5, 4)] {
                let shape = ImageShape {
                    channels: 1,
                    height,
                    width,
                };
                let mut builder = Builder::new("windows", shape, CLASSES, number as u64);
                let normalize = Layer::Normalize {
                    mean: vec![0.5],
                    std: vec![0.25],
                };
                builder.then("normalize", normalize).unwrap();
                let made = Layer::conv_without_bias(5, 1, 1, 0);
                builder.then("made", made).unwrap();
                let conv = Layer::Conv2d {
                    out_channels: outputs,
                    kernel: 3,
                    stride: 1,
                    padding: 1,
                    bias,
                };
                builder.then("conv", conv).unwrap();
                builder.then("relu", Layer::Relu).unwrap();
                let pool = Layer::MaxPool2d {
                    kernel: 2,
                    stride,
                    padding: 0,
                };
                builder.then("pool", pool).unwrap();
                let what = format!("{outputs} outputs, stride {stride} on {height}x{width}");
                compare(&ended(builder), device, &what);
            }
        }
    });
}

/// Convolutions of grey and colored images, three by three, whose weights' gradients are asked for without the images': fours of
/// outputs and others, edges that no tile of two by two fills, more tiles than all blocks' threads take at once.
#[test]
fn first_layers_are_the_cpus() {
    on_gpu(|device| {
        let sizes = [(9, 8), (12, 11), (5, 5), (4, 7)];
        let mut shapes: Vec<_> = [4, 8, 12, 5, 32, 64, 128]
            .into_iter()
            .enumerate()
            .map(|(at, outputs)| (outputs, sizes[at % sizes.len()]))
            .collect();
        shapes.push((128, (70, 69)));
        for (number, (outputs, (height, width))) in shapes.into_iter().enumerate() {
            for follows in 0..3 {
                for channels in [1, 3] {
                    let padding = (number + follows) % 3;
                    let shape = ImageShape {
                        channels,
                        height,
                        width,
                    };
                    let mut builder = Builder::new("first", shape, CLASSES, number as u64);
                    let normalize = Layer::Normalize {
                        mean: vec![0.5; channels],
                        std: vec![0.25; channels],
                    };
                    builder.then("normalize", normalize).unwrap();
                    let conv = Layer::Conv2d {
                        out_channels: outputs,
                        kernel: 3,
                        stride: 1,
                        padding,
                        bias: (number + follows) % 2 == 0,
                    };
                    builder.then("conv", conv).unwrap();
                    if follows > 0 {
                        builder.then("relu", Layer::Relu).unwrap();
                    }
                    if follows > 1 {
                        builder.then("pool", Layer::max_pool(2, 2)).unwrap();
                    }
                    // Or the logits were sums of half a million terms.
                    if height > 20 {
                        builder.then("small", Layer::max_pool(7, 7)).unwrap();
                    }
                    let what =
                        format!("{outputs} of {shape:?}, {padding} around, {follows} behind");
                    let network = ended(builder);
                    for products in [false, true] {
                        device::set_products(device, products).unwrap();
                        compare_learning(&network, device, &format!("{what}, {products}"));
                    }
                    device::set_products(device, false).unwrap();
                }
            }
        }
    });
}

/// Logits and the parameters' gradients, without those of the images.
fn compare_learning(network: &Network, device: &Device, what: &str) {
    let learned = |network: &Network| {
        let images = pixels(1, 7, network.input());
        let d_logits = draw("d_logits", 0, 7 * CLASSES, -1.0, 1.0);
        let d_logits = tensor(d_logits, &[7, CLASSES]).unwrap();
        let d_logits = to_device(&d_logits, &network.device()).unwrap();
        let mut workspace = Workspace::new();
        let trace = network
            .trace(&images, Mode::Train, Keep::Gradients, &mut workspace)
            .unwrap();
        let gradients = trace.backward(&d_logits, Wanted::PARAMETERS).unwrap();
        assert!(gradients.input.is_none());
        let mut found = vec![values(trace.logits()).unwrap()];
        let of_parameters = gradients.parameters.iter().flatten();
        found.extend(of_parameters.map(|gradient| values(gradient).unwrap()));
        found
    };
    let (here, there) = (learned(network), learned(&twin(network, device)));
    assert_eq!(here.len(), there.len(), "{what}");
    let norms = here[1..]
        .iter()
        .map(|g| crate::norm(g.iter().map(|v| f64::from(*v))));
    let least = 1e-2 * norms.fold(0.0, f64::max);
    for (at, (found, expected)) in there.iter().zip(&here).enumerate() {
        let least = if at == 0 { 0.0 } else { least };
        assert_near(found, expected, TOLERANCE, least, &format!("{what}: {at}"));
    }
}

/// Views that begin at any value, of any length: with and without four values at a time the same comes out, and nothing
/// beside it is touched.
#[test]
fn values_at_any_address_are_the_cpus() {
    on_gpu(|device| {
        let n = 1027;
        let all: [Vec<f32>; 4] = std::array::from_fn(|i| draw("views", i as u64, n, -1.0, 1.0));
        let lengths = Lengths {
            step: 0.25,
            radius: 0.375,
        };
        for (first, len) in [(0, n), (4, 1020), (4, 1), (1, 1023), (3, 5), (8, 1019)] {
            let part = |tensor: &Tensor| tensor.narrow(0, first, len).unwrap();
            let here = all.each_ref().map(|v| tensor(v.clone(), &[n]).unwrap());
            let there = here.each_ref().map(|t| to_device(t, device).unwrap());
            let [origin, x, gradient, y] = there.each_ref().map(part);
            sign_step::step(lengths, &origin, &x, &gradient, &y).unwrap();
            add::sum_up(&x, &gradient).unwrap();
            let of = |i: usize| &all[i][first..first + len];
            let mut expected = all.clone();
            sign_step::forward(
                lengths,
                of(0),
                of(1),
                of(2),
                &mut expected[3][first..first + len],
            );
            add::forward_in_place(&mut expected[1][first..first + len], of(2), false);
            for (found, expected) in there.iter().zip(&expected) {
                assert_eq!(&values(found).unwrap(), expected, "{len} from {first}");
            }
        }
    });
}

/// Two branches of one output, each normalized, summed and rectified: gradients meet, and are added where they meet.
fn residual_blocks(device: &Device) {
    for number in 0..8 {
        let mut rng = Rng::stream(number, "residual", &[]);
        let channels = [1, 4, 6, 9][rng.below(4)];
        let mut builder = begun(&mut rng, channels);
        let norm = Layer::BatchNorm2d {
            epsilon: 1e-5,
            momentum: 0.1,
        };
        builder.then("relu0", Layer::Relu).unwrap();
        let begin = 2;
        let outputs = 1 + rng.below(8);
        let shortcut = Layer::conv_without_bias(outputs, 1, 1, 0);
        let mut short = builder.after(&[begin], "shortcut", shortcut).unwrap();
        if number % 2 == 0 {
            short = builder
                .after(&[short], "shortcut-norm", norm.clone())
                .unwrap();
        }
        let own = Layer::conv_without_bias(outputs, 3, 1, 1);
        let mut long = builder.after(&[begin], "own", own).unwrap();
        if number % 4 < 2 {
            long = builder.after(&[long], "own-norm", norm).unwrap();
        }
        let sum = builder.after(&[long, short], "sum", Layer::Add).unwrap();
        if number != 5 {
            builder.after(&[sum], "relu", Layer::Relu).unwrap();
        }
        let network = ended(builder);
        let what = format!("residual {number} on {:?}", network.input());
        compare(&network, device, &what);
    }
}

#[test]
fn residual_blocks_are_the_cpus() {
    on_gpu(residual_blocks);
}

#[test]
fn convolutions_by_whatever_is_fastest_are_the_cpus() {
    let precision = Precision {
        tf32: false,
        deterministic: false,
    };
    on_gpu_as(precision, |device| {
        convolutions(device);
        residual_blocks(device);
    });
}

#[test]
fn poolings_are_the_cpus() {
    on_gpu(|device| {
        drawn("pooling", 24, device, |rng| {
            let kernel = 1 + rng.below(4);
            let (stride, padding) = (1 + rng.below(3), rng.below(kernel / 2 + 1));
            let layer = if rng.below(2) == 0 {
                Layer::MaxPool2d {
                    kernel,
                    stride,
                    padding,
                }
            } else {
                Layer::AveragePool2d {
                    kernel,
                    stride,
                    padding,
                }
            };
            (1 + rng.below(40), vec![layer])
        });
        for channels in [1, 5, 33, 64] {
            drawn("global", 1, device, |_| {
                (channels, vec![Layer::GlobalAveragePool, Layer::linear(4)])
            });
        }
    });
}

#[test]
fn fully_connected_layers_are_the_cpus() {
    on_gpu(|device| {
        drawn("linear", 8, device, |rng| {
            let mut layers = vec![
                Layer::Flatten,
                Layer::Linear {
                    outputs: 1 + rng.below(90),
                    bias: rng.below(2) == 0,
                },
            ];
            if rng.below(2) == 0 {
                layers.push(Layer::Relu);
            }
            (1 + rng.below(5), layers)
        });
    });
}

/// Right behind the normalization, whose bits are the same on both sides: a last bit of difference would be a level.
#[test]
fn simulated_quantization_is_the_cpus() {
    on_gpu(|device| {
        for (number, (q_min, q_max, zero_point)) in [(-128, 127, 3), (0, 15, 7), (-8, 7, 0)]
            .into_iter()
            .enumerate()
        {
            let shape = ImageShape {
                channels: [1, 3, 3][number],
                height: 7,
                width: 6,
            };
            let layers = vec![
                (
                    "normalize",
                    Layer::Normalize {
                        mean: vec![0.5; shape.channels],
                        std: vec![0.25; shape.channels],
                    },
                ),
                (
                    "quantized",
                    Layer::FakeQuant {
                        scale: 2.5 / (q_max - q_min) as f32,
                        zero_point,
                        q_min,
                        q_max,
                    },
                ),
                ("flatten", Layer::Flatten),
                ("last", Layer::linear(CLASSES)),
            ];
            let network = Network::chain("quantized", shape, CLASSES, layers, 1).unwrap();
            compare(&network, device, &format!("levels {q_min} to {q_max}"));
        }
    });
}
