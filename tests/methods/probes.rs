//! What each probe promises: ideal values of a network against itself, finite numbers, the same bytes for all.

use shrinklab::event::Warning;
use shrinklab::nn::op::integer::Path;

use super::*;

#[test]
fn a_network_compared_with_itself_is_the_same() {
    let mut bench = Bench::new();
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    for (id, ideal) in [
        ("agreement", [1.0, 0.0, 0.0, 0.0].as_slice()),
        ("output-divergence", &[0.0]),
    ] {
        let values: Vec<f64> = bench
            .probe(id, CANDIDATE)
            .0
            .iter()
            .map(|found| found.scalar().unwrap())
            .collect();
        assert_eq!(values, ideal, "{id}");
        assert!(
            bench.probe(id, REFERENCE).0.is_empty(),
            "{id}: a reference has nothing to be compared with"
        );
    }
}

#[test]
fn every_finding_is_finite_and_within_its_interval() {
    let mut bench = Bench::new();
    let pruned = bench.prune(bench.reference(), 0.9).network;
    bench.put(CANDIDATE, Role::Branch, &pruned);
    for entry in probe::ALL {
        for network in [REFERENCE, CANDIDATE] {
            let (found, _) = bench.probe(&entry.info.id, network);
            for found in found {
                let Some(value) = found.scalar() else {
                    assert!(matches!(found.value, Value::Masking { .. }), "{found:?}");
                    continue;
                };
                // A corruption that changes nothing of these images has no noise.
                let is_clean = found.metric == Metric::Psnr && value == f64::INFINITY;
                assert!(value.is_finite() || is_clean, "{found:?}");
                assert_eq!(&*found.probe, &*entry.info.id);
                // A branch's latency is taken in turn with its reference's, which is stated against it.
                // Images are made against either of two networks and asked of the other.
                let of_pairs = ["latency", "transfer"].contains(&&*entry.info.id);
                let in_turn = of_pairs && found.against == Some(network);
                assert!(found.network == network || in_turn, "{found:?}");
                if let Some((low, high)) = found.interval {
                    assert!(low.0 <= value && value <= high.0, "{found:?}");
                    assert!(found.n.is_some(), "{found:?}");
                }
            }
        }
    }
}

#[test]
fn corruptions_are_measured_on_the_same_bytes_for_all() {
    let mut bench = Bench::new();
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    let numbers = |network| {
        let (found, _) = bench.probe("corruption-error", network);
        found
            .iter()
            .filter(|f| f.condition.is_some())
            .filter(|f| matches!(f.metric, Metric::Accuracy | Metric::Error))
            .map(|f| (f.metric, f.condition.clone(), f.severity, f.scalar()))
            .collect::<Vec<_>>()
    };
    let reference = numbers(REFERENCE);
    assert_eq!(reference, numbers(CANDIDATE));
    assert_eq!(reference.len(), 2 * 5 * corruption::ALL.len());
    for pair in reference.chunks(2) {
        assert_eq!((pair[0].0, pair[1].0), (Metric::Accuracy, Metric::Error));
        assert!((pair[0].3.unwrap() + pair[1].3.unwrap() - 1.0).abs() < 1e-12);
    }
    let entry = find(probe::ALL, "corruption-error");
    let parts = (entry.build)(&Setting::default()).parts(&bench.subject(&bench.candidate));
    let (_, events) = bench.probe("corruption-error", REFERENCE);
    assert_eq!(
        events
            .iter()
            .filter(|event| matches!(event, Event::Progressed { .. }))
            .count() as u64,
        parts
    );
}

#[test]
fn a_corruption_that_does_nothing_is_warned_of_once() {
    let mut bench = Bench::new();
    // Black images stay black in another contrast.
    bench.data.test.images.fill(0);
    bench.corruptions = vec![Method::plain("contrast")];
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    let warnings = |network| {
        let (_, events) = bench.probe("corruption-error", network);
        events
            .iter()
            .filter(|event| matches!(event, Event::Warned { .. }))
            .count()
    };
    assert_eq!((warnings(REFERENCE), warnings(CANDIDATE)), (5, 0));
}

/// By hand, of the lenet: 224,800 weights and 234 biases, 4 bytes each; at 8 bits 224,800 bytes of weights, 4 · 234 of
/// biases, 4 scales of weights, and a scale and a zero point for each of 4 activations.
#[test]
fn the_footprint_is_that_of_what_would_be_written() {
    let mut bench = Bench::new();
    let footprint = |bench: &Bench, network: NetworkId| -> Vec<f64> {
        bench
            .probe("footprint", network)
            .0
            .iter()
            .filter(|found| {
                use Metric::{Bytes, Macs, Nonzero, Parameters};
                matches!(found.metric, Parameters | Nonzero | Macs | Bytes)
            })
            .map(|found| found.scalar().unwrap())
            .collect()
    };
    // In the same order: channels, all as floats, a bit for each weight more, column and value of each, the least of them.
    let others: Vec<f64> = bench
        .probe("footprint", REFERENCE)
        .0
        .iter()
        .filter(|found| {
            use Metric::{Bytes, Macs, Nonzero, Parameters};
            !matches!(found.metric, Parameters | Nonzero | Macs | Bytes)
        })
        .map(|found| found.scalar().unwrap())
        .collect();
    let rows = 4.0 * (32.0 + 64.0 + 128.0 + 10.0 + 4.0);
    // The file has names and shapes, too.
    let (written, others) = others.split_last().unwrap();
    assert!((900_136.0..903_000.0).contains(written), "{written}");
    assert_eq!(
        others,
        [
            96.0,
            900_136.0,
            900_136.0 + 28_100.0,
            936.0 + 8.0 * 224_800.0 + rows
        ]
    );
    let biases = |parameter: &&Parameter| parameter.role == ParameterRole::Bias;
    let nonzero: u64 = bench
        .reference()
        .parameters()
        .iter()
        .filter(biases)
        .map(Parameter::nonzero)
        .sum();
    let nonzero = (224_800 - zeros(bench.reference()) as u64 + nonzero) as f64;
    assert_eq!(
        footprint(&bench, REFERENCE),
        [225_034.0, nonzero, 2_631_040.0, 900_136.0]
    );
    let quantized = bench.quantize(bench.reference(), "8");
    bench.put(CANDIDATE, Role::Branch, &quantized);
    assert_eq!(footprint(&bench, CANDIDATE)[3], 225_784.0);
}

#[test]
fn latency_is_stated_for_both_batches() {
    let bench = Bench::new();
    let (found, _) = bench.probe("latency", REFERENCE);
    let conditions: Vec<&str> = found
        .iter()
        .filter_map(|found| found.condition.as_deref())
        .collect();
    assert_eq!(conditions, [["batch-1"; 4], ["batch-256"; 4]].concat());
    for found in found.chunks(4) {
        let [p50, p10, p90, _] = [0, 1, 2, 3].map(|at| found[at].scalar().unwrap());
        assert!(0.0 < p10 && p10 <= p50 && p50 <= p90);
    }
}

/// A quantized network is timed as it is and as integers, each under conditions of its own; with 16 bits there are no small
/// integers, and nobody says there were.
#[test]
fn latency_of_integers_is_stated_apart() {
    let conditions = |found: &[Measurement], network: NetworkId| -> Vec<String> {
        let own = found.iter().filter(|found| found.network == network);
        own.filter_map(|found| found.condition.clone()).collect()
    };
    let floats = [["batch-1"; 4], ["batch-256"; 4]].concat();
    for bits in ["8", "4", "16"] {
        let mut bench = Bench::new();
        let quantized = bench.quantize(bench.reference(), bits);
        bench.put(CANDIDATE, Role::Branch, &quantized);
        let (found, events) = bench.probe("latency", CANDIDATE);
        assert_eq!(conditions(&found, REFERENCE), floats);
        let warned = |words: &str| {
            events.iter().any(|event| match event {
                Event::Warned {
                    warning: Warning::Other { message },
                    ..
                } => message.contains(words),
                _ => false,
            })
        };
        let path = Path::fastest();
        if bits == "16" {
            assert_eq!(conditions(&found, CANDIDATE), floats);
            assert!(!warned("int8"));
        } else {
            let both = ["batch-1", "batch-1-int8", "batch-256", "batch-256-int8"];
            let both = both.map(|condition| [condition; 4]).concat();
            assert_eq!(conditions(&found, CANDIDATE), both);
            assert_eq!(warned(&path.remark()), !path.has_vnni());
        }
    }
}

#[test]
fn the_verdict_needs_two_twins() {
    let mut bench = Bench::new();
    let copy = bench.reference().duplicate().unwrap();
    bench.put(CANDIDATE, Role::Branch, &copy);
    assert!(
        bench.probe("functional-landscape", CANDIDATE).0.is_empty(),
        "without a twin there is nothing to say"
    );
    for twin in 1..=2 {
        let mut network = build(&bench.data, 7 + twin);
        trained(&mut network, &bench.data, &RECIPE, 7 + twin);
        bench.put(NetworkId(twin as u32), Role::Twin, &network);
        let (found, _) = bench.probe("functional-landscape", CANDIDATE);
        let [
            Measurement {
                value:
                    Value::Verdict {
                        verdict,
                        difference,
                        twins,
                    },
                ..
            },
        ] = found.as_slice()
        else {
            panic!("{found:?}")
        };
        assert_eq!(u64::from(*twins), twin);
        assert!(difference.0 < 0.0);
        assert_eq!(
            *verdict,
            if twin == 1 {
                Verdict::Undecided
            } else {
                Verdict::Nearer
            }
        );
        assert!(bench.probe("functional-landscape", REFERENCE).0.is_empty());
    }
}
