//! The lab's own training loop on the device, and a training that diverges.

use shrinklab::event::{Event, Warning};
use shrinklab::lab::context::{Context, Control, Unobserved};
use shrinklab::lab::data::{Examples, Split};
use shrinklab::lab::error::Error;
use shrinklab::lab::subject::Data;
use shrinklab::lab::train::{self as lab, KNOBS, Life, Recipe, Training};
use shrinklab::nn::ImageShape;
use shrinklab::nn::network::Network;
use shrinklab::nn::op::values;
use shrinklab::nn::rng::Rng;
use shrinklab::spec::{KnobValue, NetworkId, Setting};

use crate::architectures::built;
use crate::{assert_same_weights, on_gpu, twin};

/// Some drawn images of ten classes.
pub(crate) fn data(images: usize) -> Data {
    let shape = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let examples = |stream: u64| {
        let mut rng = Rng::stream(stream, "examples", &[]);
        Examples {
            shape,
            images: (0..images * shape.values())
                .map(|_| rng.below(256) as u8)
                .collect(),
            labels: (0..images).map(|i| (i % 10) as u32).collect(),
            groups: Vec::new(),
        }
    };
    let train = examples(1);
    Data {
        domains: Vec::new(),
        split: Split::new(&train, 1),
        train,
        test: examples(2),
        classes: (0..10).map(|class| class.to_string()).collect(),
    }
}

pub(crate) fn recipe(knobs: &[(&str, KnobValue)]) -> Recipe {
    let defaults = KNOBS.iter();
    let defaults = defaults.fold(Setting::default(), |setting, knob| {
        setting.with(&knob.id, knob.range.default())
    });
    let setting = knobs.iter();
    Recipe::new(&setting.fold(defaults, |setting, (id, value)| {
        setting.with(id, value.clone())
    }))
}

/// The lab's own training loop: how it ended, and what it said.
pub(crate) fn loop_of(
    network: &mut Network,
    data: &Data,
    recipe: &Recipe,
) -> (shrinklab::lab::error::Result<()>, Vec<Event>) {
    let training = Training {
        data,
        recipe,
        objective: lab::Objective::Classify,
        order_seed: 1,
        life: Life::default(),
        adjust: None,
    };
    let (mut said, mut control) = (Vec::new(), Control::default());
    let mut cx = Context::new(&mut said, &mut control, NetworkId(0));
    let trained = lab::train(network, &training, &mut Unobserved, &mut cx);
    (trained.map(|_| ()), said)
}

#[test]
fn a_training_that_diverges_stops_at_the_cpus_step_and_another_one_works() {
    on_gpu(|device| {
        let data = data(300);
        let wild = recipe(&[
            ("batch", KnobValue::Integer(8)),
            ("learning-rate", KnobValue::Real(10.0)),
            // Each step multiplies the weights by -9.
            ("weight-decay", KnobValue::Real(1.0)),
            ("schedule", KnobValue::Choice("constant".into())),
        ]);
        let network = built("lenet5", 1);
        let mut here = network.duplicate().unwrap();
        let mut there = twin(&network, device);
        let mut stopped = [0; 2];
        for (stopped, network) in stopped.iter_mut().zip([&mut here, &mut there]) {
            let (ended, said) = loop_of(network, &data, &wild);
            let Err(Error::Diverged { step }) = ended else {
                panic!("{ended:?}");
            };
            assert!(said.iter().any(|event| matches!(
                event,
                Event::Warned { warning: Warning::LossNotFinite { step: at }, .. } if *at == step
            )));
            *stopped = step;
        }
        assert_eq!(stopped[0], stopped[1]);
        // As they were before the step whose loss was not finite, and on a GPU others were asked for behind it.
        let weights = |network: &Network| -> Vec<f32> {
            let all = network.parameters().iter();
            all.flat_map(|p| values(&p.value).unwrap()).collect()
        };
        let (h, t) = (weights(&here), weights(&there));
        let size = |all: &[f32]| {
            all.iter()
                .fold(0.0_f32, |most, v| most.max(v.abs()))
                .log10()
        };
        assert!(
            (size(&h) - size(&t)).abs() < 0.3,
            "10^{} and 10^{}",
            size(&h),
            size(&t)
        );
        let calm = recipe(&[
            ("epochs", KnobValue::Integer(1)),
            ("learning-rate", KnobValue::Real(1e-3)),
        ]);
        let mut again = twin(&network, device);
        let (ended, said) = loop_of(&mut again, &data, &calm);
        ended.unwrap();
        let mut expected = network.duplicate().unwrap();
        let (ended, heard) = loop_of(&mut expected, &data, &calm);
        ended.unwrap();
        assert_said(&said, &heard, 1e-3);
        assert_same_weights(&again, &expected, 1e-3, "afterwards");
    });
}

/// The same reports of losses, within `tolerance`.
#[track_caller]
pub(crate) fn assert_said(found: &[Event], expected: &[Event], tolerance: f64) {
    let losses = |said: &[Event]| -> Vec<f64> {
        let all = said.iter().filter_map(|event| match event {
            Event::StepsTrained { loss_mean, .. } => Some(vec![loss_mean.0]),
            Event::EpochEnded {
                train, validation, ..
            } => Some(vec![train.loss.0, validation.loss.0]),
            _ => None,
        });
        all.flatten().collect()
    };
    let (found, expected) = (losses(found), losses(expected));
    assert!(!expected.is_empty() && found.len() == expected.len());
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() <= tolerance * e, "{found:?} and {expected:?}");
    }
}
