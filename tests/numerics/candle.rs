//! A whole network against candle-nn's own layers on the same weights: a second implementation beside PyTorch's numbers,
//! on inputs that no fixture holds.
//!
//! Values only, and no gradients: candle's of a maximum is a quarter of the true one.

use candle_core::Tensor;
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module as _, loss, ops};
use shrinklab::nn::Mode;
use shrinklab::nn::loss::{cross_entropy, softmax_rows};
use shrinklab::nn::network::{Network, Workspace};
use shrinklab::nn::op::{read, tensor};

use crate::networks::network;
use crate::{assert_close, draw};

const BATCH: usize = 7;

fn wide(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    flat.into_iter().map(f64::from).collect()
}

/// Two convolutions with pooling and two linear layers, as `lenet5` has them.
fn lenet5(network: &Network, images: &Tensor) -> Tensor {
    let of = |name: &str| {
        let mut all = network.parameters().iter();
        let parameter = all.find(|parameter| parameter.name == name);
        parameter.unwrap().value.clone()
    };
    let conv = |name: &str| {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Conv2d::new(of(&weight), Some(of(&bias)), Conv2dConfig::default())
    };
    let linear = |name: &str| {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Linear::new(of(&weight), Some(of(&bias)))
    };
    let pooled = |x: &Tensor| x.relu().unwrap().max_pool2d(2).unwrap();
    // Mean .25 and deviation .5.
    let x = images.affine(2.0, -0.5).unwrap();
    let x = pooled(&conv("conv1").forward(&x).unwrap());
    let x = pooled(&conv("conv2").forward(&x).unwrap());
    let x = x.flatten_from(1).unwrap();
    let x = linear("fc1").forward(&x).unwrap().relu().unwrap();
    linear("fc2").forward(&x).unwrap()
}

#[test]
fn a_network_answers_as_candles_layers_do() {
    let network = network("lenet5");
    let images = tensor(draw(77, BATCH * 784, 0.0, 1.0), &[BATCH, 1, 28, 28]).unwrap();
    let labels: Vec<u32> = (0..BATCH as u32).collect();
    let mut workspace = Workspace::new();
    let trace = network
        .forward(&images, Mode::Eval, &mut workspace)
        .unwrap();
    let theirs = lenet5(&network, &images);
    let ours = read(trace.logits()).unwrap().to_vec();
    assert_close(&ours, &wide(&theirs), 1e-5, "logits");
    let shares = ops::softmax(&theirs, 1).unwrap();
    assert_close(&softmax_rows(&ours, 10), &wide(&shares), 1e-6, "softmax");
    let targets = Tensor::new(labels.as_slice(), theirs.device()).unwrap();
    let expected = loss::cross_entropy(&theirs, &targets).unwrap();
    let expected = f64::from(expected.to_scalar::<f32>().unwrap());
    let found = cross_entropy(trace.logits(), &labels).unwrap().mean;
    assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
}
