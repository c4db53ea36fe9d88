//! Weights that were trained elsewhere: what is taken over, what is replaced, what is refused.

use serde_json::Value;
use shrinklab::lab::architecture;
use shrinklab::nn::ImageShape;
use shrinklab::spec::Setting;

use super::sandbox::{Sandbox, TINY, records};

/// A file of weights for gray images of this side and so many classes, with every knob where it stands by itself.
fn weights(id: &str, side: usize, classes: usize) -> Vec<u8> {
    let entry = architecture::ALL
        .iter()
        .find(|entry| entry.info.id == id)
        .unwrap();
    let knobs = entry.knobs.iter();
    let setting = knobs.fold(Setting::default(), |setting, knob| {
        setting.with(&knob.id, knob.range.default())
    });
    let input = ImageShape {
        channels: 1,
        height: side,
        width: side,
    };
    let network = (entry.build)(&setting).build(input, classes, (&[0.5], &[0.5]), 3);
    network.unwrap().parameters().to_safetensors().unwrap()
}

/// The flags of a tiny study on another architecture.
fn study<'a>(architecture: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let tiny = TINY.iter().map(|word| {
        if *word == "lenet5" {
            architecture
        } else {
            word
        }
    });
    tiny.chain(flags.iter().copied()).collect()
}

/// What a study that began and failed says.
fn failing(sandbox: &Sandbox, flags: &[&str]) -> String {
    let ran = sandbox.run(flags);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    ran.out
}

#[test]
fn a_network_starts_from_a_file_and_the_session_says_which() {
    let sandbox = Sandbox::new();
    sandbox.file("mine.safetensors", weights("mlp", 28, 37));
    let flags = ["--from", "mine.safetensors", "--mean", ".5", "--std", ".25"];
    let ends = ["--session", "made.jsonl"];
    sandbox
        .run(&[study("mlp", &flags), ends.to_vec()].concat())
        .well();
    let written = std::fs::read_to_string(sandbox.path("made.jsonl")).unwrap();
    let header: Value = serde_json::from_str(written.lines().next().unwrap()).unwrap();
    let header = header.to_string();
    for words in [
        "\"file\":\"mine.safetensors\"",
        "\"sha256\":\"",
        "\"mean\":[0.5]",
        "\"std\":[0.25]",
    ] {
        assert!(header.contains(words), "{words} is missing: {header}");
    }
    let warned: Vec<String> = records(&sandbox.path("made.jsonl"))
        .into_iter()
        .filter(|(kind, _)| kind == "warned")
        .map(|(_, facts)| facts["warning"]["message"].as_str().unwrap().to_owned())
        .collect();
    // The file is for 37 classes, glyphs have ten.
    assert_eq!(
        warned,
        [
            "fc3.weight starts from random values: it is [10, 100], and [37, 100] in mine.safetensors",
            "fc3.bias starts from random values: it is [10], and [37] in mine.safetensors"
        ]
    );
    // The same as a study in a file, which names the file of weights.
    let sha256 = header
        .split("\"sha256\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let spec = format!(
        "train-limit = 400\ntest-limit = 100\n[[references]]\ndataset = \"glyphs\"\narchitecture = \"mlp\"\n\
         training = {{ epochs = 1 }}\nfrom = {{ file = \"mine.safetensors\", sha256 = \"{sha256}\" }}\n"
    );
    let spec = sandbox.file("study.toml", spec);
    sandbox.run_on(&["check"], &spec).well();
    // Another file of that name is not what the study asks for.
    sandbox.file("mine.safetensors", weights("mlp", 28, 10));
    let error = sandbox.run_on(&["run"], &spec).refused(1);
    assert!(
        error.contains("mine.safetensors") && error.contains(sha256),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_is_listed() {
    let sandbox = Sandbox::new();
    sandbox.file("mine.safetensors", weights("mlp", 28, 10));
    let flags = ["--from", "mine.safetensors", "--session", "made.jsonl"];
    let error = failing(&sandbox, &study("cnn8", &flags));
    for words in [
        "mine.safetensors: the weights do not fit cnn8",
        "conv1.weight [32, 1, 3, 3] is missing",
        "fc1.weight is [300, 784] instead of [128, 2048]",
        "fc3.bias [10] is unknown",
    ] {
        assert!(error.contains(words), "{words} is missing: {error}");
    }
    let error = sandbox
        .run(&study("mlp", &["--from", "nowhere.safetensors"]))
        .refused(1);
    assert!(error.contains("nowhere.safetensors"), "{error}");
    let flags = [
        "--from",
        "mine.safetensors",
        "--mean",
        ".5,.4,.5",
        "--std",
        ".2,.2,.2",
    ];
    let other = [study("mlp", &flags), vec!["--session", "other.jsonl"]].concat();
    let error = failing(&sandbox, &other);
    assert!(
        error.contains("mean: 3 numbers are given for images with 1 channel;"),
        "{error}"
    );
}

#[test]
fn means_without_weights_or_deviations_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.file("mine.safetensors", weights("mlp", 28, 10));
    let error = sandbox
        .run(&study("mlp", &["--mean", ".5", "--std", ".2"]))
        .refused(2);
    assert!(
        error.contains("--mean") && error.contains("--from"),
        "{error}"
    );
    let from = ["--from", "mine.safetensors"];
    for (flags, field) in [
        (vec!["--mean", ".5"], "std"),
        (vec!["--std", ".5"], "mean"),
        (vec!["--mean", ".5", "--std", "0"], "std"),
        (vec!["--mean", "nan", "--std", "1"], "mean"),
        (vec!["--resize", "9000"], "resize"),
    ] {
        let error = sandbox
            .run(&[study("mlp", &from), flags.clone()].concat())
            .refused(2);
        assert!(error.contains(field), "{flags:?}: {error}");
    }
}

#[test]
fn images_are_enlarged_for_weights_of_larger_ones() {
    let sandbox = Sandbox::new();
    sandbox.file("mine.safetensors", weights("mlp", 40, 10));
    let flags = [
        "--from",
        "mine.safetensors",
        "--resize",
        "40",
        "--session",
        "made.jsonl",
    ];
    sandbox.run(&study("mlp", &flags)).well();
    let ready = records(&sandbox.path("made.jsonl"));
    let ready = ready.iter().find(|(kind, _)| kind == "data-ready").unwrap();
    assert_eq!(ready.1["shape"], serde_json::json!([1, 40, 40]));
    let flags = ["--resize", "8", "--session", "small.jsonl"];
    let error = failing(&sandbox, &study("mlp", &flags));
    assert!(error.contains("resize: 8 pixels are fewer"), "{error}");
}
