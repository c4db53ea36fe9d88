//! Losses against published values, PyTorch, and central differences.

use shrinklab::nn::loss::{KlDirection, Loss, cross_entropy, distillation, softmax_rows};
use shrinklab::nn::op::{read, tensor};

use crate::{assert_close, draw, fixture, floats};

fn distilled(
    student: &[f32],
    teacher: &[f32],
    label: u32,
    t: f64,
    a: f64,
    direction: KlDirection,
) -> Loss {
    let n = student.len();
    let student = tensor(student.to_vec(), &[1, n]).unwrap();
    let teacher = tensor(teacher.to_vec(), &[1, n]).unwrap();
    distillation(&student, &teacher, &[label], t, a, direction).unwrap()
}

/// PyTorch 2.15 and SciPy 1.16 give these.
#[test]
fn softmax_and_cross_entropy() {
    let p = softmax_rows(&[2.0, 0.0, -1.0], 3);
    assert_close(
        &p,
        &[0.843_794_7, 0.114_195_2, 0.042_010_1],
        1e-7,
        "softmax",
    );
    let logits = tensor(vec![2.0, 0.0, -1.0], &[1, 3]).unwrap();
    let loss = cross_entropy(&logits, &[0]).unwrap();
    assert!((loss.mean - 0.169_846_0).abs() < 1e-7);
    assert_eq!(loss.correct, 1);
    // softmax minus the label's one.
    let expected = [0.843_794_7 - 1.0, 0.114_195_2, 0.042_010_1];
    assert_close(&read(&loss.d_logits).unwrap(), &expected, 1e-7, "gradient");
}

/// z_s = (1, 2, 3), z_t = (3, 1, 0), T = 3, by hand.
#[test]
fn divergences_at_a_temperature() {
    let (student, teacher) = ([1.0, 2.0, 3.0], [3.0, 1.0, 0.0]);
    let forward = distilled(&student, &teacher, 2, 3.0, 1.0, KlDirection::Forward);
    assert!((forward.mean - 2.140_815_9).abs() < 1e-6);
    assert!((forward.mean / 9.0 - 0.237_868_4).abs() < 1e-7);
    let reverse = distilled(&student, &teacher, 2, 3.0, 1.0, KlDirection::Reverse);
    assert!((reverse.mean / 9.0 - 0.232_039_4).abs() < 1e-7);
    // T (p_s - p_t).
    let (p_s, p_t) = (
        [0.230_237, 0.321_322, 0.448_441],
        [0.531_548, 0.272_906, 0.195_546],
    );
    let expected: Vec<f64> = (0..3).map(|k| 3.0 * (p_s[k] - p_t[k])).collect();
    assert_close(
        &read(&forward.d_logits).unwrap(),
        &expected,
        5e-6,
        "gradient",
    );
}

#[test]
fn the_teachers_weight_is_the_soft_terms() {
    let (student, teacher) = ([1.0, 2.0, 3.0], [3.0, 1.0, 0.0]);
    let at = |a| distilled(&student, &teacher, 2, 3.0, a, KlDirection::Forward).mean;
    assert!((at(0.0) - 0.407_606_0).abs() < 1e-7);
    assert!((at(0.9) - 1.967_494_9).abs() < 1e-6);
    assert!((at(0.1) - 0.580_927_0).abs() < 1e-6);
}

/// With logits of mean zero and a high temperature the soft term's gradient is (z_s - z_t) / K.
#[test]
fn a_high_temperature_matches_logits() {
    let (student, teacher) = ([1.0, -0.5, -0.5], [-1.0, 0.25, 0.75]);
    let loss = distilled(&student, &teacher, 0, 1e6, 1.0, KlDirection::Forward);
    let expected: Vec<f64> = (0..3)
        .map(|k| f64::from(student[k] - teacher[k]) / 3.0)
        .collect();
    assert_close(&read(&loss.d_logits).unwrap(), &expected, 1e-5, "gradient");
}

#[test]
fn distillation_is_that_of_pytorch() {
    for (at, case) in fixture()["distillations"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let stream = 10 * at as u64 + 500;
        let student = tensor(draw(stream, 50, -4.0, 4.0), &[5, 10]).unwrap();
        let teacher = tensor(draw(stream + 1, 50, -4.0, 4.0), &[5, 10]).unwrap();
        let labels: Vec<u32> = (0..5).map(|i| i * 3 % 10).collect();
        let direction = if case["reverse"].as_bool().unwrap() {
            KlDirection::Reverse
        } else {
            KlDirection::Forward
        };
        let number = |name: &str| case[name].as_f64().unwrap();
        let (t, a) = (number("temperature"), number("teacher_weight"));
        let loss = distillation(&student, &teacher, &labels, t, a, direction).unwrap();
        assert!((loss.mean - number("loss")).abs() < 1e-9);
        assert_close(
            &read(&loss.d_logits).unwrap(),
            &floats(&case["d_logits"]),
            1e-7,
            "gradient",
        );
        let mean = loss.per_example.iter().map(|l| f64::from(*l)).sum::<f64>() / 5.0;
        assert!((mean - loss.mean).abs() < 1e-6);
    }
}

#[test]
fn gradients_are_central_differences() {
    let (student, teacher) = (draw(7, 10, -3.0, 3.0), draw(8, 10, -3.0, 3.0));
    for direction in [KlDirection::Forward, KlDirection::Reverse] {
        let value = |z: &[f32]| distilled(z, &teacher, 4, 2.5, 0.6, direction).mean;
        let gradient = distilled(&student, &teacher, 4, 2.5, 0.6, direction).d_logits;
        let difference = |at: usize| {
            let (mut above, mut below) = (student.clone(), student.clone());
            above[at] += 1e-2;
            below[at] -= 1e-2;
            (value(&above) - value(&below)) / f64::from(above[at] - below[at])
        };
        let differences: Vec<f64> = (0..10).map(difference).collect();
        assert_close(&read(&gradient).unwrap(), &differences, 2e-5, "gradient");
    }
}

#[test]
fn extreme_logits_stay_finite_and_nan_is_not_hidden() {
    let logits = tensor(vec![1e30, -1e30, 0.0], &[1, 3]).unwrap();
    let loss = cross_entropy(&logits, &[0]).unwrap();
    assert_eq!(loss.mean, 0.0);
    let logits = tensor(vec![f32::NAN, 0.0, 0.0], &[1, 3]).unwrap();
    assert!(cross_entropy(&logits, &[0]).unwrap().mean.is_nan());
}

#[test]
fn a_label_that_is_no_class_is_refused() {
    let logits = tensor(vec![0.0; 3], &[1, 3]).unwrap();
    let error = cross_entropy(&logits, &[3]).unwrap_err().to_string();
    assert_eq!(error, "label 3 is not one of 3 classes");
}
