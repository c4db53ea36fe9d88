//! Networks that a study saved, and studies that begin from them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::sandbox::{Sandbox, TINY, records};

/// Files of networks in a folder, by name.
fn saved(sandbox: &Sandbox, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(sandbox.path(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What was measured of the network of that number, by metric: without clocks, and of clean images.
fn measured(records: &[(String, Value)], network: u64) -> Vec<(String, Value)> {
    let of = records.iter().filter(|(kind, _)| kind == "measured");
    let own = of.map(|(_, facts)| facts).filter(|facts| {
        facts["network"] == network && facts["condition"].is_null() && facts["against"].is_null()
    });
    let mut all: Vec<(String, Value)> = own
        .map(|facts| {
            let metric = facts["metric"].as_str().unwrap().to_owned();
            (metric, facts["value"].clone())
        })
        .filter(|(metric, _)| metric != "landscape" && metric != "nearer_than_twin")
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn a_compressed_network_is_saved_and_another_study_begins_from_it() {
    saved_and_begun_from(&[
        "--compress",
        "channel-pruning",
        "--ratio",
        ".4",
        "--compress",
        "low-rank",
        "--ratio",
        ".3",
        "--compress",
        "magnitude-pruning",
        "--ratio",
        ".6",
        "--compress",
        "post-training-quantization",
        "--set",
        "bits=4",
    ]);
}

/// What was trained while it was compressed, or after it, is measured as it is kept.
#[test]
fn a_network_that_learned_while_it_was_compressed_is_saved_as_it_was_measured() {
    let first = saved_and_begun_from(&[
        "--compress",
        "quantization-aware-training",
        "--set",
        "bits=4",
        "--set",
        "epochs=1",
        "--compress",
        "quantization-aware-training",
        "--set",
        "bits=3",
        "--set",
        "epochs=1",
        "--set",
        "steps=learned-step",
        "--compress",
        "magnitude-pruning",
        "--ratio",
        ".9",
        "--fine-tune-epochs",
        "1",
        "--compress",
        "magnitude-pruning",
        "--ratio",
        ".8",
        "--set",
        "schedule=gradual",
        "--set",
        "epochs=1",
    ]);
    // Zeros are left out of the file, after a training too; beside the weights it has names and the graph.
    for network in [3, 4] {
        let all = measured(&first, network);
        let last = |metric: &str| {
            let found = all.iter().rfind(|(name, _)| name == metric).unwrap();
            found.1["scalar"].as_f64().unwrap()
        };
        let (written, bitmask) = (last("bytes_written"), last("bytes_bitmask"));
        assert!(written < bitmask + 4000.0, "{written} beside {bitmask}");
        // The share of bytes is that of the files.
        let whole = measured(&first, 0);
        let whole = whole.iter().rfind(|(name, _)| name == "bytes_written");
        let whole = whole.unwrap().1["scalar"].as_f64().unwrap();
        let mut made = first
            .iter()
            .rev()
            .filter(|(kind, facts)| kind == "network-compressed" && facts["network"] == network);
        let (_, made) = made.next().unwrap();
        let share = made["removed"]["bytes"].as_f64().unwrap();
        assert!((share - (1.0 - written / whole)).abs() < 0.01, "{share}");
    }
}

/// Saves the networks of a tiny study with these branches, and holds each against one that begins from its file; the
/// records of the first study.
fn saved_and_begun_from(branches: &[&str]) -> Vec<(String, Value)> {
    let sandbox = Sandbox::new();
    let base = ["--twins", "0", "--save", "nets", "--session", "made.jsonl"];
    sandbox.run(&[&TINY[..], &base, branches].concat()).well();
    let first = records(&sandbox.path("made.jsonl"));
    let files = saved(&sandbox, "nets");
    assert_eq!(files.len(), 5, "{files:?}");
    let stated: Vec<&Value> = first
        .iter()
        .filter(|(kind, _)| kind == "network-saved")
        .map(|(_, facts)| facts)
        .collect();
    for facts in &stated {
        let file = sandbox.path(facts["file"].as_str().unwrap());
        let bytes = fs::metadata(&file).unwrap().len();
        assert_eq!(facts["bytes"], bytes, "{}", file.display());
    }
    for facts in stated {
        let (file, network) = (
            facts["file"].as_str().unwrap(),
            facts["network"].as_u64().unwrap(),
        );
        let session = format!("again-{network}.jsonl");
        // Neither architecture nor weights are said again, and nothing is trained.
        let again = [
            "run",
            "-d",
            "glyphs",
            "--train-limit",
            "400",
            "--test-limit",
            "100",
            "--no-cache",
            "--epochs",
            "0",
            "--from",
            file,
            "--session",
            &session,
        ];
        sandbox.run(&again).well();
        let second = records(&sandbox.path(&session));
        let (before, after) = (measured(&first, network), measured(&second, 0));
        // Every size, and what is right on every image.
        for (metric, value) in &after {
            let same = before.iter().rfind(|(name, _)| name == metric);
            if metric != "bytes_written" {
                assert_eq!(
                    same.map(|(_, value)| value),
                    Some(value),
                    "{file}: {metric}"
                );
            }
        }
        assert!(
            after.iter().any(|(metric, _)| metric == "accuracy"),
            "{after:?}"
        );
        assert!(
            after.iter().any(|(metric, _)| metric == "nonzero"),
            "{after:?}"
        );
    }
    first
}

#[test]
fn a_saved_network_goes_on_being_compressed_and_trained() {
    let sandbox = Sandbox::new();
    let flags = [
        "--twins",
        "0",
        "--save",
        "nets",
        "--compress",
        "channel-pruning",
        "--ratio",
        ".4",
        "--session",
        "made.jsonl",
    ];
    sandbox.run(&[&TINY[..], &flags].concat()).well();
    let file = "nets/glyphs-lenet5-channel-pruning-40-not-tuned.safetensors";
    assert!(sandbox.path(file).exists(), "{:?}", saved(&sandbox, "nets"));
    let go_on = [
        "run",
        "-d",
        "glyphs",
        "--train-limit",
        "400",
        "--test-limit",
        "100",
        "--no-cache",
        "--epochs",
        "1",
        "--twins",
        "0",
        "--from",
        file,
        "--compress",
        "magnitude-pruning",
        "--ratio",
        ".5",
        "--session",
        "on.jsonl",
    ];
    sandbox.run(&go_on).well();
    let records = records(&sandbox.path("on.jsonl"));
    let channels = measured(&records, 0)
        .into_iter()
        .find(|(metric, _)| metric == "channels");
    // floor(0.6 * 32) and floor(0.6 * 64) of lenet5's 96, as channel pruning keeps n - floor(n r).
    assert_eq!(channels.unwrap().1["scalar"], 32.0 - 12.0 + 64.0 - 25.0);
}

#[test]
fn a_saved_network_that_does_not_fit_is_refused_in_one_sentence() {
    let sandbox = Sandbox::new();
    let flags = ["--save", "nets", "--session", "made.jsonl"];
    sandbox.run(&[&TINY[..], &flags].concat()).well();
    let file = "nets/glyphs-lenet5-reference.safetensors";
    for (flags, words) in [
        (
            &["-a", "cnn8"][..],
            "architecture: cnn8 was asked for, nets/glyphs-lenet5-reference.safetensors holds lenet5",
        ),
        (
            &["--resize", "32"],
            "holds a network for images of 1x28x28 in 10 classes, the data set has images of 1x32x32 in 10 classes",
        ),
        (
            &["--mean", ".1", "--std", ".3"],
            "has a mean and a deviation of its own; leave them out",
        ),
    ] {
        let all = [
            &["run", "-d", "glyphs", "--no-cache", "--from", file][..],
            flags,
        ]
        .concat();
        let error = sandbox.run(&all).refused(2);
        assert!(error.contains(words), "{flags:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let untrained = [
        "run",
        "-d",
        "glyphs",
        "--no-cache",
        "--from",
        file,
        "--epochs",
        "0",
        "--twins",
        "1",
    ];
    let error = sandbox.run(&untrained).refused(2);
    assert!(
        error.contains("twins: without training, twins are the reference itself"),
        "{error}"
    );
    // Half a file, and another file where the session says which one it was.
    let bytes = fs::read(sandbox.path(file)).unwrap();
    sandbox.file("half.safetensors", &bytes[..bytes.len() / 2]);
    let error = sandbox
        .run(&[
            "run",
            "-d",
            "glyphs",
            "--no-cache",
            "--from",
            "half.safetensors",
        ])
        .refused(2);
    assert!(error.contains("half.safetensors: "), "{error}");
}
