//! Probes that attack: a network that masks its gradients is found out, an honest one is not.

use shrinklab::event::Warning;
use shrinklab::measurement::{CheckOutcome, Masking, MaskingCheck, Through};

use super::*;

/// What the lab says of a network's gradients, beside the honest reference.
fn suspected(
    network: &Network,
    role: Role,
    knobs: &[(&str, KnobValue)],
) -> (Masking, Vec<MaskingCheck>) {
    let mut bench = Bench::new();
    let id = if role == Role::Reference {
        REFERENCE
    } else {
        CANDIDATE
    };
    bench.put(id, role, network);
    let entry = find(probe::ALL, "gradient-masking");
    let mut all = vec![("masking-queries", KnobValue::Integer(150))];
    all.extend(knobs.iter().cloned());
    let method = (entry.build)(&setting(entry, &all));
    let plan = &bench.networks[&id].plan;
    let ((), events) = stating(id, |cx| {
        method.measure(&bench.subject(plan), 0, cx).unwrap();
    });
    let found = events.into_iter().find_map(|event| match event {
        Event::Measured(found) => Some(found),
        _ => None,
    });
    match found.unwrap().value {
        Value::Masking { verdict, checks } => (verdict, checks),
        other => panic!("{other:?}"),
    }
}

fn failed(checks: &[MaskingCheck]) -> Vec<&str> {
    let failed = checks
        .iter()
        .filter(|check| check.outcome == CheckOutcome::Failed);
    failed.map(|check| &*check.id).collect()
}

#[test]
fn an_honest_network_is_not_called_masked() {
    let bench = Bench::new();
    let (verdict, checks) = suspected(bench.reference(), Role::Reference, &[]);
    assert_eq!(verdict, Masking::NotMasked, "{checks:?}");
    // A branch is held against images of the reference, too.
    let (verdict, checks) = suspected(bench.reference(), Role::Branch, &[]);
    assert_eq!(verdict, Masking::NotMasked, "{checks:?}");
    assert!(checks.iter().any(|check| check.id == "transfer-stronger"));
}

/// Logits so far apart that no gradient of the cross-entropy is left.
#[test]
fn saturated_logits_are_called_masked() {
    let bench = Bench::new();
    let mut network = bench.reference().duplicate().unwrap();
    let last: Vec<String> = network
        .parameters()
        .iter()
        .rev()
        .take(2)
        .map(|parameter| parameter.name.clone())
        .collect();
    for name in last {
        let values = network.parameters().values(&name).unwrap();
        let scaled: Vec<f32> = values.iter().map(|v| v * 1e4).collect();
        network.parameters_mut().set(&name, &scaled).unwrap();
    }
    let (verdict, checks) = suspected(&network, Role::Branch, &[]);
    assert_eq!(verdict, Masking::Masked, "{checks:?}");
    let failed = failed(&checks);
    for id in ["zero-gradients", "transfer-stronger", "large-budget-holds"] {
        assert!(failed.contains(&id), "{id}: {failed:?}");
    }
}

/// Rounded activations: masked by their own gradient, which is nothing, and not by the straight-through one.
#[test]
fn rounding_without_an_estimator_is_called_masked() {
    let bench = Bench::new();
    let quantized = bench.quantize(bench.reference(), "8");
    let none = [("masking-gradient", word("none"))];
    let (verdict, checks) = suspected(&quantized, Role::Branch, &none);
    assert_eq!(verdict, Masking::Masked, "{checks:?}");
    let share = checks
        .iter()
        .find(|check| check.id == "zero-gradients")
        .unwrap();
    assert_eq!(share.numbers[0].0, 1.0);
    let (verdict, checks) = suspected(&quantized, Role::Branch, &[]);
    assert_eq!(verdict, Masking::NotMasked, "{checks:?}");
}

/// A curve starts at clean accuracy, never rises where budgets carry over, and is paired with the reference's.
#[test]
fn accuracy_against_the_budget_is_a_curve() {
    let mut bench = Bench::new();
    let knobs = |id: &str, knobs: &[(&str, KnobValue)]| {
        let mut method = Method::plain(id);
        for (id, value) in knobs {
            method.setting = method.setting.with(id, value.clone());
        }
        method
    };
    let few = ("images", KnobValue::Integer(50));
    let steps = ("steps", KnobValue::Integer(5));
    bench.adversarial = Adversarial::new(
        "mnist",
        &[
            knobs("pgd", &[few.clone(), steps.clone()]),
            knobs(
                "fgsm",
                &[
                    few.clone(),
                    ("epsilons", KnobValue::List(vec![KnobValue::Real(0.2)])),
                ],
            ),
            knobs("deepfool", &[few.clone(), steps]),
            knobs("pgd", &[few, ("space", word("published"))]),
        ],
    );
    let quantized = bench.quantize(bench.reference(), "8");
    bench.put(CANDIDATE, Role::Branch, &quantized);
    for network in [REFERENCE, CANDIDATE] {
        let (found, events) = bench.probe("adversarial-accuracy", network);
        let warned = events.iter().any(|event| {
            matches!(
                event,
                Event::Warned {
                    warning: Warning::BudgetExceeded { .. },
                    ..
                }
            )
        });
        assert!(!warned);
        let curve = |condition: &str| -> Vec<(f64, f64)> {
            let of = |found: &&Measurement| {
                found.condition.as_deref() == Some(condition) && found.metric == Metric::Accuracy
            };
            let points = found.iter().filter(of);
            points
                .map(|point| (point.budget.unwrap().0, point.scalar().unwrap()))
                .collect()
        };
        let pgd = curve("pgd:steps=5");
        assert_eq!(pgd.len(), 5);
        assert_eq!((pgd[0].0, pgd[3].0), (0.0, 0.3));
        assert!(pgd.windows(2).all(|pair| pair[1].1 <= pair[0].1), "{pgd:?}");
        assert!(pgd[4].1 < pgd[0].1);
        assert_eq!(curve("fgsm").len(), 2);
        assert_eq!(curve("fgsm")[0].1, pgd[0].1);
        // In pixels a published budget is half as large.
        assert_eq!(curve("pgd:published")[3].0, 0.15);
        let minimal = curve("deepfool");
        assert!(
            minimal.windows(2).all(|pair| pair[1].1 <= pair[0].1),
            "{minimal:?}"
        );
        for metric in [Metric::DistanceMean, Metric::DistanceMedian] {
            assert!(
                found
                    .iter()
                    .any(|found| found.metric == metric && found.scalar().unwrap() > 0.0)
            );
        }
        for found in &found {
            assert_eq!(found.probe, "adversarial-accuracy");
            let is_accuracy = found.metric == Metric::Accuracy;
            assert_eq!(found.paired.is_some(), is_accuracy && network == CANDIDATE);
            let rounds = network == CANDIDATE;
            assert_eq!(
                found.estimator.map(Through::word),
                rounds.then_some("straight-through")
            );
        }
    }
}

#[test]
fn every_pair_of_networks_is_in_the_matrix() {
    let mut bench = Bench::new();
    let pruned = bench.prune(bench.reference(), 0.5).network;
    bench.put(CANDIDATE, Role::Branch, &pruned);
    let (found, _) = bench.probe("transfer", CANDIDATE);
    let pairs: Vec<(NetworkId, NetworkId)> = found
        .iter()
        .map(|found| (found.against.unwrap(), found.network))
        .collect();
    assert_eq!(
        pairs,
        [
            (REFERENCE, CANDIDATE),
            (CANDIDATE, REFERENCE),
            (CANDIDATE, CANDIDATE)
        ]
    );
    // What was made against a network itself is the worst for it.
    let own = found[2].scalar().unwrap();
    assert!(own <= found[0].scalar().unwrap() + 0.05);
}
