//! Feature maps brought together: the losses alone, and as a student's lesson.

use candle_core::{Device, Tensor};
use shrinklab::lab::context::{Context, Control, Unobserved};
use shrinklab::lab::train::{
    self as lab, FeatureLoss, Features, Lesson, Life, Objective, Teacher, Training,
};
use shrinklab::nn::loss::KlDirection;
use shrinklab::nn::loss::features::Matcher;
use shrinklab::nn::network::Network;
use shrinklab::nn::op::{tensor, to_device, values};
use shrinklab::spec::{KnobValue, NetworkId};

use crate::architectures::built;
use crate::loops::{assert_said, data, recipe};
use crate::{assert_near, assert_same_weights, draw, on_gpu, twin};

/// B, H, W and channels of a student's map; H, W and channels of its teacher's.
const SHAPES: [[usize; 7]; 7] = [
    [1, 2, 2, 1, 2, 2, 1],
    [5, 7, 6, 3, 7, 6, 8],
    [3, 8, 8, 40, 4, 4, 33],
    [2, 5, 3, 17, 11, 9, 4],
    [4, 4, 4, 6, 6, 7, 70],
    [16, 14, 14, 32, 14, 14, 64],
    [1, 33, 31, 2, 16, 16, 2],
];

fn map(name: &str, number: u64, shape: &[usize], device: &Device) -> Tensor {
    let drawn = draw(name, number, shape.iter().product(), -1.0, 1.0);
    to_device(&tensor(drawn, shape).unwrap(), device).unwrap()
}

/// Two pairs of each shape's maps, the second's student a map of zeros in its first image.
fn pairs(number: u64, device: &Device) -> Vec<(Tensor, Tensor)> {
    let [b, h, w, c, th, tw, tc] = SHAPES[number as usize];
    let students = [1, 2].map(|stream| map("student", 10 * number + stream, &[b, h, w, c], device));
    let teachers = [1, 2].map(|s| map("teacher", 10 * number + s, &[b, th, tw, tc], device));
    let [first, second] = students;
    let mut zeroed = values(&second).unwrap();
    zeroed[..h * w * c].fill(0.0);
    let zeroed = tensor(zeroed, &[b, h, w, c]).unwrap();
    let [one, other] = teachers;
    vec![(first, one), (to_device(&zeroed, device).unwrap(), other)]
}

/// The losses and gradients of two devices, batch after batch, each followed by a step of the regressor.
fn compare(matchers: [Matcher; 2], number: u64, device: &Device, tolerance: f64, what: &str) {
    let devices = [&Device::Cpu, device];
    let mut both = matchers;
    for batch in 0..3 {
        let [here, there] = [0, 1].map(|at| {
            let strength = 3.0 + f64::from(batch);
            let pairs = pairs(number, devices[at]);
            let matched = both[at].of(&pairs, strength).unwrap();
            assert_eq!(matched.found.is_known(), at == 0);
            let gradients = matched.d_students.iter();
            let gradients: Vec<_> = gradients.map(|d| values(d).unwrap()).collect();
            let (loss, hits) = matched.found.read().unwrap();
            assert_eq!(hits, 0);
            both[at].step(0.1, 0.9).unwrap();
            (loss, gradients)
        });
        let what = format!("{what}, batch {batch}");
        assert!(
            (here.0 - there.0).abs() <= tolerance * here.0.abs(),
            "{what}: {} instead of {}",
            there.0,
            here.0
        );
        // What a batch that is tried again had added counts for nothing.
        for (matcher, device) in both.iter_mut().zip(devices) {
            matcher.of(&pairs(number, device), 5.0).unwrap();
            matcher.begin_again().unwrap();
        }
        for (h, t) in here.1.iter().zip(&there.1) {
            assert_near(t, h, tolerance, 1e-9, &what);
        }
        match (both[0].regressor().unwrap(), both[1].regressor().unwrap()) {
            (None, None) => {}
            (Some(here), Some(there)) => {
                assert_near(&there.0, &here.0, tolerance, 0.0, &what);
                assert_near(&there.1, &here.1, tolerance, 1e-3, &what);
            }
            _ => panic!("{what}: one device has a regressor"),
        }
    }
}

#[test]
fn attention_is_transferred_as_on_the_cpu() {
    on_gpu(|device| {
        for number in 0..SHAPES.len() as u64 {
            let matchers = [Matcher::attention(&Device::Cpu), Matcher::attention(device)];
            let what = format!("{:?}", SHAPES[number as usize]);
            compare(matchers, number, device, 1e-6, &what);
        }
    });
}

#[test]
fn hints_and_their_regressor_are_the_cpus() {
    on_gpu(|device| {
        for number in 0..SHAPES.len() as u64 {
            let [.., c, _, _, tc] = SHAPES[number as usize];
            let matchers = [&Device::Cpu, device].map(|device| {
                let weight = draw("regressor", number, c * tc, -0.5, 0.5);
                Matcher::hint(weight, tc, device).unwrap()
            });
            let what = format!("{:?}", SHAPES[number as usize]);
            compare(matchers, number, device, 1e-5, &what);
        }
    });
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    on_gpu(|device| {
        let maps = |b| map("map", 1, &[b, 4, 4, 3], device);
        let mut attention = Matcher::attention(device);
        assert!(attention.of(&[(maps(2), maps(3))], 1.0).is_err());
        let mut hint = Matcher::hint(vec![0.0; 8], 2, device).unwrap();
        assert!(hint.of(&[(maps(2), maps(2))], 1.0).is_err());
    });
}

/// Two epochs of a student with a teacher, in the lab's own loop: what is said, and the weights in the end.
fn distilled(loss: FeatureLoss, teacher: &str, teacher_weight: f64, device: &Device) {
    let data = data(200);
    let recipe = recipe(&[
        ("epochs", KnobValue::Integer(2)),
        ("batch", KnobValue::Integer(32)),
        ("learning-rate", KnobValue::Real(2e-3)),
    ]);
    let (student, teacher) = (built("lenet5", 1), built(teacher, 2));
    let run = |student: &mut Network, teacher: &Network| {
        let lesson = Lesson {
            teacher: Teacher::Network(teacher),
            temperature: 4.0,
            teacher_weight,
            direction: KlDirection::Forward,
            features: Some(Features { loss, weight: 1.0 }),
            labels_on_clean: false,
        };
        let training = Training {
            data: &data,
            recipe: &recipe,
            objective: Objective::Distill(lesson),
            order_seed: 1,
            life: Life::default(),
            adjust: None,
        };
        let (mut said, mut control) = (Vec::new(), Control::default());
        let mut cx = Context::new(&mut said, &mut control, NetworkId(0));
        lab::train(student, &training, &mut Unobserved, &mut cx).unwrap();
        said
    };
    let (mut here, mut there) = (student.duplicate().unwrap(), twin(&student, device));
    let expected = run(&mut here, &teacher);
    let found = run(&mut there, &twin(&teacher, device));
    assert_said(&found, &expected, 1e-3);
    assert_same_weights(&there, &here, 5e-3, &format!("{loss:?}"));
}

#[test]
fn a_student_learns_by_attention_as_on_the_cpu() {
    on_gpu(|device| {
        distilled(FeatureLoss::AttentionTransfer, "lenet5", 0.7, device);
        distilled(FeatureLoss::AttentionTransfer, "cnn8", 0.0, device);
    });
}

#[test]
fn a_student_learns_by_hints_as_on_the_cpu() {
    on_gpu(|device| {
        distilled(FeatureLoss::FitNets, "lenet5", 0.7, device);
        distilled(FeatureLoss::FitNets, "cnn8", 0.0, device);
    });
}
