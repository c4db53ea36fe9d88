//! Low-rank factorization: as many layers twice as thin, and the same function while nothing is lost.

use super::*;

#[test]
fn the_asked_share_of_any_size_goes_and_the_function_stays_near() {
    let bench = Bench::new();
    let before = (
        bench.reference().parameters().count() as f64,
        bench.reference().macs() as f64,
    );
    for allocation in ["energy", "uniform"] {
        for (of, ratio) in [("parameters", 0.5), ("parameters", 0.9), ("macs", 0.4)] {
            let knobs = [
                ("allocation", word(allocation)),
                ("ratio-of", word(of)),
                ("ratio", KnobValue::Real(ratio)),
            ];
            let made = bench.compress(bench.reference(), "low-rank", &knobs);
            let after = match of {
                "macs" => made.network.macs() as f64 / before.1,
                _ => made.network.parameters().count() as f64 / before.0,
            };
            let reached = made.reached.unwrap();
            assert!((1.0 - after - reached).abs() < 1e-12);
            // A rank of the largest layer, 1600 to 128, is 1,728 of 225,034 parameters.
            assert!(
                (reached - ratio).abs() < 0.02,
                "{allocation} {of}: {reached}"
            );
            assert!(made.network.nodes().len() > bench.reference().nodes().len());
        }
    }
    let whole = bench.compress(
        bench.reference(),
        "low-rank",
        &[("ratio", KnobValue::Real(0.0))],
    );
    assert_eq!(bytes(&whole.network), bytes(bench.reference()));
    // Trained weights are far from random: at half of the parameters nearly all answers stay.
    let half = bench.compress(bench.reference(), "low-rank", &[]).network;
    let same = agreement(
        &see(&half, &bench.data.test),
        &see(bench.reference(), &bench.data.test),
    );
    assert!(same > 0.9, "{same}");
}

#[test]
fn factorized_layers_train_and_are_factorized_again() {
    let bench = Bench::new();
    let mut network = bench.compress(bench.reference(), "low-rank", &[]).network;
    let before = weights(&network);
    trained(&mut network, &bench.data, &RECIPE, 7);
    assert_ne!(before, weights(&network));
    let again = bench.compress(&network, "low-rank", &[("ratio", KnobValue::Real(0.3))]);
    assert!((again.reached.unwrap() - 0.3).abs() < 0.02);
    let pruned = bench.prune(bench.reference(), 0.5).network;
    let made = bench.compress(&pruned, "low-rank", &[]);
    assert!(
        made.remarks
            .iter()
            .any(|remark| remark.contains("not zero any more"))
    );
}
