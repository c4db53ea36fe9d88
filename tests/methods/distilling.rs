//! What distillations, adversarial recipes and the recalibration of batch normalizations promise.

use candle_core::Device;
use shrinklab::lab::attack::pgd::{Pgd, Start as From};
use shrinklab::lab::error::Error;
use shrinklab::nn::loss::Labels;
use shrinklab::nn::op::values;

use super::*;

const ONE: (&str, KnobValue) = ("epochs", KnobValue::Integer(1));

fn real(value: f64) -> KnobValue {
    KnobValue::Real(value)
}

fn flag(id: &'static str, choice: &str) -> (&'static str, KnobValue) {
    (id, word(choice))
}

fn distilled(bench: &Bench, knobs: &[(&str, KnobValue)]) -> Compressed {
    let knobs = [&[ONE], knobs].concat();
    bench.compress(bench.reference(), "distillation", &knobs)
}

/// Why a compression is refused: the knob and the problem.
fn refused(bench: &Bench, id: &str, knobs: &[(&str, KnobValue)]) -> String {
    let entry = find(compression::ALL, id);
    let method = (entry.build)(&setting(entry, knobs));
    let subject = bench.subject(&bench.candidate);
    let start = Start {
        subject: &subject,
        network: bench.reference(),
        architecture: &bench.architecture,
        recipe: &RECIPE,
        life: Life::default(),
    };
    let (made, _) = stating(CANDIDATE, |cx| method.compress(&start, &mut Unobserved, cx));
    match made {
        Err(error @ Error::Impossible { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{knobs:?} were taken"),
    }
}

#[test]
fn a_student_has_the_parameters_that_were_asked_for_and_is_really_smaller() {
    let bench = Bench::new();
    let before = bytes(bench.reference());
    let whole = bench.reference().parameters().count();
    for ratio in [0.1, 0.4, 0.6, 0.75, 0.9] {
        let made = distilled(&bench, &[("ratio", real(ratio))]);
        let reached = made.reached.unwrap();
        let own = made.network.parameters().count();
        assert_eq!(made.asked, Some(ratio));
        assert!((reached - ratio).abs() <= 0.02, "{ratio}: {reached}");
        assert_eq!(reached, 1.0 - own as f64 / whole as f64);
        assert!(made.network.macs() < bench.reference().macs());
        assert_eq!(made.network.nodes().len(), bench.reference().nodes().len());
        let remark = format!("{own} parameters, the reference has {whole}");
        assert!(made.remarks[0].contains(&remark), "{:?}", made.remarks);
    }
    assert_eq!(bytes(bench.reference()), before);
}

/// Without a teacher in the loss a student of full size is the reference over again, whoever would have taught it.
#[test]
fn a_student_without_a_teacher_learns_from_the_labels_alone() {
    let bench = Bench::new();
    let scratch = |more: &[(&str, KnobValue)]| {
        let knobs = [
            &[
                ("epochs", KnobValue::Integer(i64::from(RECIPE.epochs))),
                ("teacher-weight", real(0.0)),
                ("ratio", real(0.0)),
            ],
            more,
        ];
        bench.compress(bench.reference(), "distillation", &knobs.concat())
    };
    let alone = scratch(&[]);
    assert_eq!(bytes(&alone.network), bytes(bench.reference()));
    assert_eq!(alone.reached, Some(0.0));
    for teacher in ["random", "label-smoothing"] {
        let other = scratch(&[flag("teacher", teacher)]);
        assert_eq!(bytes(&other.network), bytes(bench.reference()), "{teacher}");
    }
    assert!(
        alone
            .remarks
            .iter()
            .any(|remark| remark.contains("labels alone"))
    );
}

#[test]
fn every_way_of_teaching_makes_another_student_and_says_what_it_was() {
    let bench = Bench::new();
    let mut made = vec![bytes(&distilled(&bench, &[]).network)];
    for (knobs, said) in [
        (vec![flag("direction", "reverse")], "1 epoch"),
        (vec![flag("teacher", "random")], "never trained"),
        (
            vec![flag("teacher", "label-smoothing")],
            "spread over all classes",
        ),
        (
            vec![flag("feature", "attention-transfer")],
            "brought together: pool1, pool2",
        ),
        (vec![flag("feature", "fitnets")], "brought together: pool1"),
        (
            vec![
                flag("robust", "ard"),
                ("attack-steps", KnobValue::Integer(2)),
            ],
            "2 steps, epsilon 0.03137255",
        ),
    ] {
        let student = distilled(&bench, &knobs);
        assert!(
            student.remarks.iter().any(|remark| remark.contains(said)),
            "{said}: {:?}",
            student.remarks
        );
        let own = bytes(&student.network);
        assert!(!made.contains(&own), "{said}");
        made.push(own);
        // The same again is the same.
        if said == "1 epoch" {
            assert_eq!(
                &bytes(&distilled(&bench, &knobs).network),
                made.last().unwrap()
            );
        }
        let images = student.cost.images;
        let each = if said.contains("epsilon") { 4 } else { 1 };
        assert_eq!(student.cost.gradients, each * images, "{said}");
    }
}

#[test]
fn a_student_of_another_architecture_is_as_large_as_it_is() {
    let bench = Bench::new();
    let made = distilled(&bench, &[flag("student", "mlp"), ("ratio", real(0.9))]);
    assert_eq!(made.network.name(), "mlp");
    assert_eq!(made.network.parameters().count(), 266_610);
    assert_eq!(made.asked, None);
    assert!(
        made.reached.unwrap() < 0.0,
        "a larger one is not called smaller"
    );
    let tree = distilled(&bench, &[flag("student", "soft-decision-tree")]);
    assert!(tree.network.is_tree());
}

#[test]
fn settings_that_contradict_one_another_are_refused_in_one_sentence() {
    let bench = Bench::new();
    let of = |knobs: &[(&str, KnobValue)]| refused(&bench, "distillation", knobs);
    assert_eq!(
        of(&[flag("robust", "ard"), ("teacher-weight", real(0.0))]),
        "teacher-weight: robust = ard learns the teacher's answers; more than 0"
    );
    assert_eq!(
        of(&[
            flag("feature", "fitnets"),
            flag("teacher", "label-smoothing")
        ]),
        "feature: smoothed labels have no feature maps; teacher = reference has"
    );
    assert_eq!(
        of(&[flag("feature", "fitnets"), flag("student", "mlp")]),
        "feature: mlp has no feature maps; none is the one that it can learn by"
    );
    assert_eq!(
        of(&[flag("shrink", "width-and-depth")]),
        "shrink: lenet5 has no depth to solve for; width alone"
    );
    assert_eq!(
        of(&[
            flag("student", "soft-decision-tree"),
            flag("direction", "reverse")
        ]),
        "direction: a soft decision tree learns a teacher's answers forward alone"
    );
}

/// What it gives are log-probabilities, in every mode of prediction.
#[test]
fn a_tree_learns_from_its_teacher_and_gives_probabilities() {
    let bench = Bench::new();
    for prediction in ["max-path", "expected"] {
        let knobs = [
            flag("prediction", prediction),
            ("depth", KnobValue::Integer(5)),
            ("epochs", KnobValue::Integer(4)),
        ];
        let made = bench.compress(bench.reference(), "tree-distillation", &knobs);
        let network = &made.network;
        assert_eq!(network.parameters().count(), 31 * 785 + 320);
        assert!(made.remarks[0].contains("31 questions and 32 leaves"));
        let seen = see(network, &bench.data.test);
        let right = seen.correct(&bench.data.test.labels);
        assert!(right > 60, "{prediction}: {right} of 200");
        let images = vec![0.5; 784];
        let images = shrinklab::nn::op::tensor(images, &[1, 1, 28, 28]).unwrap();
        let mut workspace = Workspace::default();
        let trace = network
            .forward(&images, shrinklab::nn::Mode::Eval, &mut workspace)
            .unwrap();
        let sum: f32 = values(trace.logits())
            .unwrap()
            .iter()
            .map(|z| z.exp())
            .sum();
        assert!((sum - 1.0).abs() < 1e-5, "{prediction}: {sum}");
    }
}

/// Right predictions on images that PGD attacked.
fn robust(network: &Network, examples: &Examples) -> u64 {
    let pgd = Pgd {
        epsilon: 0.1,
        step: 0.025,
        steps: 10,
        start: From::Uniform,
    };
    let labels = Labels::new(examples.labels.clone(), &Device::Cpu).unwrap();
    let all: Vec<usize> = (0..examples.len()).collect();
    let images = shrinklab::lab::outputs::batch(examples, &all).unwrap();
    let mut workspace = Workspace::default();
    let mut streams = |at: usize| Rng::stream(3, "attack", &[at as u64]);
    let attacked = pgd
        .attack(network, &images, &labels, &mut streams, &mut workspace)
        .unwrap();
    let mut set = examples.select(&all);
    set.images = values(&attacked)
        .unwrap()
        .iter()
        .map(|pixel| (255.0 * pixel).round_ties_even() as u8)
        .collect();
    see(network, &set).correct(&set.labels)
}

#[test]
fn training_on_attacked_images_makes_a_network_hold() {
    let bench = Bench::new();
    let standard = robust(bench.reference(), &bench.data.test);
    let mut hardened = bench.reference().duplicate().unwrap();
    let recipe = Recipe {
        adversarial: Some(Pgd {
            epsilon: 0.1,
            step: 0.05,
            steps: 4,
            start: From::Uniform,
        }),
        ..RECIPE
    };
    trained(&mut hardened, &bench.data, &recipe, 7);
    let robust = robust(&hardened, &bench.data.test);
    assert!(robust > standard + 20, "{standard} became {robust} of 200");
}

#[test]
fn without_batch_normalizations_nothing_is_recalibrated() {
    let bench = Bench::new();
    let made = bench.compress(bench.reference(), "batch-norm-recalibration", &[]);
    assert_eq!(bytes(&made.network), bytes(bench.reference()));
    assert_eq!(
        made.remarks,
        ["the network has no batch normalizations: nothing was measured and nothing changed"]
    );
}
