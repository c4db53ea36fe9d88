//! What must be equal bit for bit: two runs, a resumed run, gradients asked for alone, passes that keep more or less.

use candle_core::Tensor;
use shrinklab::nn::Mode;
use shrinklab::nn::layer::Layer;
use shrinklab::nn::loss::cross_entropy;
use shrinklab::nn::network::{Keep, Network, Wanted, Workspace};
use shrinklab::nn::op::{read, tensor};
use shrinklab::nn::optimizer::Sgd;

use crate::networks::{images, labels, network};
use crate::threads;

fn values(tensor: &Tensor) -> Vec<f32> {
    read(tensor).unwrap().to_vec()
}

fn logits(network: &Network, images: &Tensor, mode: Mode) -> Vec<f32> {
    let mut workspace = Workspace::new();
    values(
        network
            .forward(images, mode, &mut workspace)
            .unwrap()
            .logits(),
    )
}

/// Trains on; the images depend on the step.
fn train(network: &mut Network, sgd: &mut Sgd, steps: std::ops::Range<u64>) {
    let mut workspace = Workspace::new();
    for step in steps {
        let trace = network
            .forward(&images(step), Mode::Train, &mut workspace)
            .unwrap();
        let loss = cross_entropy(trace.logits(), &labels()).unwrap();
        let gradients = trace.backward(&loss.d_logits, Wanted::PARAMETERS).unwrap();
        drop(trace);
        sgd.step(network.parameters_mut(), &gradients, 0.01)
            .unwrap();
        workspace.recycle(gradients);
    }
}

#[test]
fn two_runs_are_equal() {
    for id in ["lenet5", "cnn8"] {
        let run = || {
            threads(2, || {
                let mut network = network(id);
                let mut sgd = Sgd::new(network.parameters(), 0.9, 0.0).unwrap();
                train(&mut network, &mut sgd, 0..3);
                network.parameters().to_safetensors().unwrap()
            })
        };
        assert!(run() == run(), "{id}");
    }
}

#[test]
fn resuming_from_saved_weights_and_velocities_is_the_uninterrupted_run() {
    threads(2, || {
        let start = || {
            let network = network("lenet5");
            let sgd = Sgd::new(network.parameters(), 0.9, 1e-3).unwrap();
            (network, sgd)
        };
        let (mut whole, mut sgd) = start();
        train(&mut whole, &mut sgd, 0..2);
        let (weights, velocities) = (whole.parameters().to_safetensors(), sgd.to_safetensors());
        train(&mut whole, &mut sgd, 2..4);

        let (mut resumed, mut sgd) = start();
        resumed
            .parameters_mut()
            .load_safetensors(&weights.unwrap())
            .unwrap();
        sgd.load_safetensors(&velocities.unwrap()).unwrap();
        train(&mut resumed, &mut sgd, 2..4);
        for (a, b) in whole.parameters().iter().zip(resumed.parameters()) {
            assert!(values(&a.value) == values(&b.value), "{}", a.name);
        }
    });
}

#[test]
fn the_images_gradient_alone_is_the_same_and_nothing_else_is_computed() {
    for (id, count) in [("lenet5", 2), ("cnn8", 2), ("lenet5", 8)] {
        threads(count, || {
            let network = network(id);
            let mut workspace = Workspace::new();
            let trace = network
                .trace(&images(0), Mode::Eval, Keep::Gradients, &mut workspace)
                .unwrap();
            let loss = cross_entropy(trace.logits(), &labels()).unwrap();
            let all = trace.backward(&loss.d_logits, Wanted::ALL).unwrap();
            let input = trace.backward(&loss.d_logits, Wanted::INPUT).unwrap();
            let parameters = trace.backward(&loss.d_logits, Wanted::PARAMETERS).unwrap();
            assert!(values(all.input.as_ref().unwrap()) == values(input.input.as_ref().unwrap()));
            assert!(input.parameters.iter().all(Option::is_none));
            assert!(parameters.input.is_none());
            for (a, b) in all.parameters.iter().zip(&parameters.parameters) {
                assert!(values(a.as_ref().unwrap()) == values(b.as_ref().unwrap()));
            }
        });
    }
}

#[test]
fn training_and_use_give_the_same_logits_whatever_is_kept() {
    for id in ["lenet5", "cnn8"] {
        let network = network(id);
        let expected = logits(&network, &images(0), Mode::Train);
        assert!(expected == logits(&network, &images(0), Mode::Eval));
        let mut workspace = Workspace::new();
        let trace = network
            .trace(&images(0), Mode::Eval, Keep::Activations, &mut workspace)
            .unwrap();
        assert!(expected == values(trace.logits()));
        for at in 0..network.nodes().len() {
            let activation = trace.activation(at).unwrap();
            let shape = match network.shape(at) {
                [channels, height, width] => vec![*height, *width, *channels],
                shape => shape.to_vec(),
            };
            let name = &network.nodes()[at].name;
            assert_eq!(&activation.dims()[1..], shape, "{name}");
        }
        // The same gradients as when layers are computed together.
        let loss = cross_entropy(trace.logits(), &labels()).unwrap();
        let apart = trace.backward(&loss.d_logits, Wanted::ALL).unwrap();
        let mut workspace = Workspace::new();
        let trace = network
            .forward(&images(0), Mode::Train, &mut workspace)
            .unwrap();
        let together = trace.backward(&loss.d_logits, Wanted::ALL).unwrap();
        assert!(values(apart.input.as_ref().unwrap()) == values(together.input.as_ref().unwrap()));
        for (a, b) in apart.parameters.iter().zip(&together.parameters) {
            assert!(values(a.as_ref().unwrap()) == values(b.as_ref().unwrap()));
        }
    }
}

#[test]
fn one_image_gives_its_row_of_the_batch() {
    for (id, count) in [("lenet5", 1), ("cnn8", 1), ("lenet5", 3), ("cnn8", 3)] {
        threads(count, || {
            let network = network(id);
            let batch = logits(&network, &images(0), Mode::Eval);
            for (at, row) in batch.chunks(10).enumerate() {
                let image = images(0).narrow(0, at, 1).unwrap();
                for (a, b) in logits(&network, &image, Mode::Eval).iter().zip(row) {
                    assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{id}: {a} {b}");
                }
            }
        });
    }
}

/// Buffers are used again: what an earlier, larger batch left in them must not show.
#[test]
fn a_used_workspace_gives_what_a_fresh_one_gives() {
    let network = network("cnn8");
    let mut workspace = Workspace::new();
    for size in [5, 2, 4, 1, 5] {
        let images = images(0).narrow(0, 0, size).unwrap();
        let trace = network
            .forward(&images, Mode::Train, &mut workspace)
            .unwrap();
        let loss = cross_entropy(trace.logits(), &labels()[..size]).unwrap();
        let used = trace.backward(&loss.d_logits, Wanted::ALL).unwrap();
        drop(trace);
        let mut fresh = Workspace::new();
        let trace = network.forward(&images, Mode::Train, &mut fresh).unwrap();
        let expected = trace.backward(&loss.d_logits, Wanted::ALL).unwrap();
        for (a, b) in used.parameters.iter().zip(&expected.parameters) {
            assert!(values(a.as_ref().unwrap()) == values(b.as_ref().unwrap()));
        }
        drop(trace);
        workspace.recycle(used);
    }
}

#[test]
fn gradients_that_are_held_are_not_overwritten_by_the_next_pass() {
    let network = network("lenet5");
    let mut workspace = Workspace::new();
    let mut gradients = |step| {
        let trace = network
            .forward(&images(step), Mode::Train, &mut workspace)
            .unwrap();
        let loss = cross_entropy(trace.logits(), &labels()).unwrap();
        trace.backward(&loss.d_logits, Wanted::PARAMETERS).unwrap()
    };
    let first = gradients(0);
    let before = values(first.parameters[0].as_ref().unwrap());
    let second = gradients(1);
    assert!(before == values(first.parameters[0].as_ref().unwrap()));
    assert!(before != values(second.parameters[0].as_ref().unwrap()));
}

#[test]
fn a_copy_shares_no_memory() {
    let mut original = network("lenet5");
    let copy = original.duplicate().unwrap();
    let before = copy.parameters().to_safetensors().unwrap();
    let mut sgd = Sgd::new(original.parameters(), 0.9, 0.0).unwrap();
    train(&mut original, &mut sgd, 0..1);
    let n = original
        .parameters()
        .get("fc2.bias")
        .unwrap()
        .value
        .elem_count();
    original
        .parameters_mut()
        .set_mask("fc2.bias", &vec![0.0; n])
        .unwrap();
    assert!(before == copy.parameters().to_safetensors().unwrap());
    assert!(before != original.parameters().to_safetensors().unwrap());
}

#[test]
fn what_a_mask_covers_stays_zero_in_training() {
    let mut network = network("lenet5");
    let n = network.parameters().values("fc1.weight").unwrap().len();
    let mask: Vec<f32> = (0..n).map(|i| f32::from(i % 3 != 0)).collect();
    network
        .parameters_mut()
        .set_mask("fc1.weight", &mask)
        .unwrap();
    let mut sgd = Sgd::new(network.parameters(), 0.9, 1e-3).unwrap();
    train(&mut network, &mut sgd, 0..2);
    let zeros = |network: &Network| {
        let values = network.parameters().values("fc1.weight").unwrap();
        assert!(
            values
                .iter()
                .zip(&mask)
                .all(|(v, m)| (*v == 0.0) == (*m == 0.0))
        );
    };
    zeros(&network);
    assert_eq!(
        network.parameters().nonzero(),
        network.parameters().count() - mask.iter().filter(|m| **m == 0.0).count() as u64
    );
    // A mask survives saving, and works on.
    let bytes = network.parameters().to_safetensors().unwrap();
    let mut restored = crate::networks::network("lenet5");
    restored.parameters_mut().load_safetensors(&bytes).unwrap();
    train(&mut restored, &mut sgd, 2..3);
    zeros(&restored);
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name_and_shape() {
    let (lenet5, mut cnn8) = (network("lenet5"), network("cnn8"));
    let before = cnn8.parameters().to_safetensors().unwrap();
    let bytes = lenet5.parameters().to_safetensors().unwrap();
    let error = cnn8
        .parameters_mut()
        .load_safetensors(&bytes)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("conv2.weight is [64, 32, 3, 3] instead of [32, 32, 3, 3]"),
        "{error}"
    );
    assert!(
        error.contains("conv3.weight [64, 32, 3, 3] is missing"),
        "{error}"
    );
    assert!(
        before == cnn8.parameters().to_safetensors().unwrap(),
        "half of a file was loaded"
    );
    assert!(cnn8.parameters_mut().load_safetensors(b"junk").is_err());
}

#[test]
fn a_simulated_quantization_can_be_inserted_and_passes_gradients_through() {
    let plain = network("lenet5");
    let mut quantized = plain.duplicate().unwrap();
    // So fine that it changes hardly anything, and wide enough for every value.
    let fine = Layer::FakeQuant {
        scale: 1e-5,
        zero_point: 0,
        q_min: -8_000_000,
        q_max: 8_000_000,
    };
    for node in ["normalize", "conv1", "relu1", "fc1"] {
        let name = format!("{node}-quantized");
        quantized.insert_after(node, &name, fine.clone()).unwrap();
    }
    assert_eq!(quantized.nodes().len(), plain.nodes().len() + 4);
    let position = quantized.position("relu1-quantized").unwrap();
    assert_eq!(quantized.nodes()[position].inputs, [position - 1]);
    assert_eq!(quantized.nodes()[position + 1].inputs, [position]);
    let gradients = |network: &Network| {
        let mut workspace = Workspace::new();
        let trace = network
            .forward(&images(0), Mode::Train, &mut workspace)
            .unwrap();
        let loss = cross_entropy(trace.logits(), &labels()).unwrap();
        let gradients = trace.backward(&loss.d_logits, Wanted::ALL).unwrap();
        (loss.mean, values(gradients.input.as_ref().unwrap()))
    };
    let ((a, dx), (b, dx_quantized)) = (gradients(&plain), gradients(&quantized));
    assert!(a != b && (a - b).abs() < 1e-3, "{a} {b}");
    // Rounding may flip a ReLU or a maximum here and there, no more.
    let (mut difference, mut norm) = (0.0, 0.0);
    for (x, y) in dx.iter().zip(&dx_quantized) {
        difference += (x - y).powi(2);
        norm += x.powi(2);
    }
    assert!(difference < 1e-3 * norm, "{difference} of {norm}");
    let coarse = Layer::FakeQuant {
        scale: 0.0,
        zero_point: 0,
        q_min: -7,
        q_max: 7,
    };
    assert!(quantized.insert_after("fc1", "bad", coarse).is_err());
    assert!(
        quantized
            .insert_after("fc1", "bad", Layer::linear(3))
            .is_err()
    );
    assert!(quantized.insert_after("nobody", "bad", fine).is_err());
}

#[test]
fn images_of_another_shape_are_refused_in_one_sentence() {
    let images = tensor(vec![0.0; 2 * 3 * 32 * 32], &[2, 3, 32, 32]).unwrap();
    let mut workspace = Workspace::new();
    let error = network("lenet5")
        .forward(&images, Mode::Eval, &mut workspace)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "lenet5 takes images of [1, 28, 28], one or more at a time, not [2, 3, 32, 32]"
    );
}
