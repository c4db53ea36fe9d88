//! A device with little memory (SHRINKLAB_SMALL_GPU says that this one has, 12 MiB): batches go through in parts.

use shrinklab::event::{Event, Outcome, Warning};
use shrinklab::lab::error::Error;
use shrinklab::nn::op::values;
use shrinklab::spec::KnobValue;

use crate::architectures::built;
use crate::loops::{assert_said, data, loop_of, recipe};
use crate::{REPEATABLE, assert_same_weights, is_small, on_any_gpu, twin};

fn on_small_gpu(work: impl FnOnce(&candle_core::Device) + Send) {
    if is_small() {
        on_any_gpu(REPEATABLE, work);
    } else {
        eprintln!("skipped: no device of little memory (SHRINKLAB_SMALL_GPU)");
    }
}

#[test]
fn a_batch_that_does_not_fit_goes_through_in_parts() {
    on_small_gpu(|device| {
        let data = data(1200);
        let recipe = recipe(&[
            ("epochs", KnobValue::Integer(2)),
            ("batch", KnobValue::Integer(1024)),
            // Of seven million ReLUs a few flip by a last bit: at a usual rate they show.
            ("learning-rate", KnobValue::Real(1e-4)),
        ]);
        let network = built("lenet5", 1);
        let (mut here, mut there) = (network.duplicate().unwrap(), twin(&network, device));
        let (ended, said) = loop_of(&mut there, &data, &recipe);
        ended.unwrap();
        let (ended, heard) = loop_of(&mut here, &data, &recipe);
        ended.unwrap();
        let warnings: Vec<_> = said
            .iter()
            .filter_map(|event| match event {
                Event::Warned {
                    warning: Warning::Other { message },
                    ..
                } => Some(message.as_str()),
                _ => None,
            })
            // So few steps teach nothing, which is said too.
            .filter(|message| message.contains("out of memory"))
            .collect();
        assert!(
            warnings.len() == 1 && warnings[0].contains("batches of 1024 go through in"),
            "{warnings:?}"
        );
        assert_said(&said, &heard, 1e-4);
        assert_same_weights(&there, &here, 1e-3, "in parts");
    });
}

#[test]
fn a_network_that_does_not_fit_at_all_is_one_sentence_with_a_way_out() {
    on_small_gpu(|device| {
        // Weights of 40 MiB.
        let large = shrinklab::nn::network::Network::chain(
            "large",
            built("lenet5", 1).input(),
            10,
            vec![
                (
                    "normalize",
                    shrinklab::nn::layer::Layer::Normalize {
                        mean: vec![0.5],
                        std: vec![0.25],
                    },
                ),
                ("flatten", shrinklab::nn::layer::Layer::Flatten),
                ("wide", shrinklab::nn::layer::Layer::linear(13_000)),
                ("last", shrinklab::nn::layer::Layer::linear(10)),
            ],
            1,
        );
        let error = Error::from(large.unwrap().to_device(device).unwrap_err()).to_string();
        assert!(
            error.contains("memory") && error.contains("--device cpu") && !error.contains("CUDA_"),
            "{error}"
        );
        // The device is as good as before.
        let network = built("lenet5", 1);
        let there = twin(&network, device);
        let of = |network: &shrinklab::nn::network::Network| {
            values(&network.parameters().iter().next().unwrap().value).unwrap()
        };
        assert_eq!(of(&there), of(&network));
    });
}

#[test]
fn a_study_that_does_not_fit_ends_in_that_sentence() {
    on_small_gpu(|_| {
        let mut study = crate::studies::small("cuda");
        study.references[0].architecture.id = "resnet18".into();
        study.references[0].branches.clear();
        let (outcome, _) = crate::studies::events(study);
        let Outcome::Failed { message } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(message.contains("--device cpu"), "{message}");
    });
}
