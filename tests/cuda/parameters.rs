//! Parameters on the device: their values go and come row by row, whatever order they lie in there, and what one device
//! has written the other reads.

use shrinklab::nn::network::Network;
use shrinklab::nn::op::fake_quant::Levels;
use shrinklab::nn::op::values;
use shrinklab::nn::optimizer::{Optimizer, Rule};

use crate::architectures::built;
use crate::training::{Goal, train};
use crate::{draw, on_gpu, twin};

const LEVELS: Levels = Levels {
    scale: 0.01,
    zero_point: 1,
    q_min: -100,
    q_max: 100,
};

fn all(network: &Network) -> Vec<Vec<f32>> {
    let parameters = network.parameters().iter();
    parameters.map(|p| values(&p.value).unwrap()).collect()
}

/// A convolution's, a depthwise convolution's and a linear layer's weights; a normalization's scales.
pub(crate) fn some(network: &Network) -> Vec<(String, usize)> {
    let parameters = network.parameters().iter();
    let mut kinds = Vec::new();
    let new = parameters.filter(|p| {
        let dims = p.value.dims();
        let kind = (dims.len(), dims.get(1) == Some(&1), dims.get(2) == Some(&1));
        !kinds.contains(&kind) && {
            kinds.push(kind);
            true
        }
    });
    new.map(|p| (p.name.clone(), p.value.elem_count()))
        .collect()
}

#[test]
fn values_masks_and_levels_are_given_and_taken_row_by_row() {
    on_gpu(|device| {
        let mut here = built("mobilenet-v1", 1);
        let mut there = twin(&here, device);
        assert_eq!(all(&there), all(&here));
        let names = some(&here);
        assert!(names.len() >= 4, "{names:?}");
        for (at, (name, n)) in names.iter().enumerate() {
            let drawn = draw("set", at as u64, *n, -1.0, 1.0);
            let mask: Vec<f32> = (0..*n).map(|i| f32::from(u8::from(i % 3 != 1))).collect();
            for network in [&mut here, &mut there] {
                let parameters = network.parameters_mut();
                parameters.set(name, &drawn).unwrap();
                assert_eq!(parameters.values(name).unwrap(), drawn);
                parameters.set_levels(name, Some(LEVELS.into())).unwrap();
                parameters.set_mask(name, &mask).unwrap();
            }
        }
        assert_eq!(all(&there), all(&here));
        assert_eq!(there.parameters().nonzero(), here.parameters().nonzero());
        // A copy keeps the order, and shares nothing.
        let copy = there.duplicate().unwrap();
        let (name, n) = &names[0];
        there.parameters_mut().set(name, &vec![9.0; *n]).unwrap();
        assert_eq!(all(&copy), all(&here));
        assert!(here.parameters_mut().set(name, &[1.0]).is_err());
    });
}

#[test]
fn what_one_device_writes_the_other_reads() {
    on_gpu(|device| {
        let mut here = built("mobilenet-v1", 1);
        for (name, n) in some(&here) {
            let mask: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i % 4 != 2))).collect();
            here.parameters_mut().set_mask(&name, &mask).unwrap();
            here.parameters_mut()
                .set_levels(&name, Some(LEVELS.into()))
                .unwrap();
        }
        let written = here.parameters().to_safetensors().unwrap();
        let mut there = twin(&built("mobilenet-v1", 2), device);
        assert_ne!(all(&there), all(&here));
        there.parameters_mut().load_safetensors(&written).unwrap();
        assert_eq!(all(&there), all(&here));
        assert!(there.parameters().to_safetensors().unwrap() == written);
        let moved = here.to_device(device).unwrap();
        assert!(moved.parameters().to_safetensors().unwrap() == written);
    });
}

/// Ten steps on one device, its state written; ten more on the other are those that the first would have taken.
#[test]
fn an_optimizer_goes_on_where_the_other_device_stopped() {
    on_gpu(|device| {
        for rule in [Rule::Sgd, Rule::AdamW] {
            let mut network = built("lenet5", 1);
            let (name, _) = &some(&network)[0];
            network
                .parameters_mut()
                .set_levels(name, Some(LEVELS.into()))
                .unwrap();
            let made = |network: &Network| Optimizer::new(rule, network.parameters(), 0.9, 1e-3);
            let mut whole = network.duplicate().unwrap();
            let mut optimizer = made(&whole).unwrap();
            let losses = train(&mut whole, &mut optimizer, &Goal::PLAIN, 0..10).unwrap();
            let later = train(&mut whole, &mut optimizer, &Goal::PLAIN, 10..20).unwrap();
            for from_gpu in [false, true] {
                let (mut first, mut second) = if from_gpu {
                    (twin(&network, device), built("lenet5", 2))
                } else {
                    (
                        network.duplicate().unwrap(),
                        twin(&built("lenet5", 2), device),
                    )
                };
                let mut optimizer = made(&first).unwrap();
                let begun = train(&mut first, &mut optimizer, &Goal::PLAIN, 0..10).unwrap();
                let state = optimizer.to_safetensors().unwrap();
                let weights = first.parameters().to_safetensors().unwrap();
                second.parameters_mut().load_safetensors(&weights).unwrap();
                let mut optimizer = made(&second).unwrap();
                optimizer.load_safetensors(&state).unwrap();
                assert!(optimizer.to_safetensors().unwrap() == state);
                let ended = train(&mut second, &mut optimizer, &Goal::PLAIN, 10..20).unwrap();
                let both = begun.iter().chain(&ended).zip(losses.iter().chain(&later));
                for (found, expected) in both {
                    let near = (found - expected).abs() <= 1e-3 * expected;
                    assert!(near, "{rule:?}, {from_gpu}: {found} instead of {expected}");
                }
            }
        }
    });
}
