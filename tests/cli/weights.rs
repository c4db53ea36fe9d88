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

/// What a study that is refused before it has a session says, in one line.
fn impossible(sandbox: &Sandbox, flags: &[&str]) -> String {
    let error = sandbox
        .run(&[flags, &["--session", "never.jsonl"]].concat())
        .refused(2);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!sandbox.path("never.jsonl").exists(), "{error}");
    error
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
    let error = impossible(&sandbox, &study("cnn8", &["--from", "mine.safetensors"]));
    for words in [
        "from: mine.safetensors: the weights do not fit cnn8",
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
    let error = impossible(&sandbox, &study("mlp", &flags));
    assert!(
        error.contains("mean: 3 numbers are given for images with 1 channel;"),
        "{error}"
    );
    sandbox.file("letter.safetensors", "Dear all,\n");
    let error = impossible(&sandbox, &study("mlp", &["--from", "letter.safetensors"]));
    assert!(
        error.contains("from: letter.safetensors: this is no readable safetensors file"),
        "{error}"
    );
}

/// A check says what a run would say.
#[test]
fn what_cannot_run_is_said_by_check_too() {
    let sandbox = Sandbox::new();
    sandbox.file("mine.safetensors", weights("mlp", 28, 10));
    let rest = "dataset = \"glyphs\"\narchitecture =";
    for (text, status, words) in [
        (
            format!("{rest} \"cnn8\"\nfrom = {{ file = \"mine.safetensors\" }}\n"),
            2,
            "from: mine.safetensors: the weights do not fit cnn8",
        ),
        (
            format!("{rest} \"mlp\"\nfrom = {{ file = \"nowhere.safetensors\" }}\n"),
            1,
            "from: nowhere.safetensors",
        ),
        (
            format!("{rest} {{ id = \"resnet18\", stem = \"7x7\" }}\n"),
            2,
            "architecture: resnet18 takes images of at least 32x32 pixels, not 28x28; resize 32",
        ),
        (
            format!("{rest} \"lenet5\"\nresize = 8\n"),
            2,
            "resize: 8 pixels are fewer than the images have, 28x28",
        ),
    ] {
        let spec = sandbox.file("study.toml", format!("[[references]]\n{text}"));
        for word in ["check", "run"] {
            let error = sandbox.run_on(&[word], &spec).refused(status);
            assert!(error.contains(words), "{word}: {error}");
        }
    }
    assert!(!sandbox.path("data").exists(), "no session was begun");
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
        (vec!["--mean", ".5"], "std: is missing beside mean"),
        (vec!["--std", ".5"], "mean: is missing beside std"),
        (
            vec!["--mean", ".5,.5", "--std", "1"],
            "std: 1 number beside 2 of mean",
        ),
        (
            vec!["--mean", ".5", "--std", "0"],
            "std: 0 is not allowed; a number from 0.001 to 1",
        ),
        (
            vec!["--mean", ".5,.5,.5", "--std", "-1,1,1"],
            "std: -1 is not allowed; a number from 0.001 to 1",
        ),
        (
            vec!["--mean", "-.5,1,1", "--std", "1,1,1"],
            "mean: -0.5 is not allowed; a number from 0 to 1",
        ),
        (vec!["--mean", "nan", "--std", "1"], "mean: NaN"),
        (vec!["--mean", "123.7", "--std", "58.4"], "mean: 123.7"),
        (vec!["--resize", "9000"], "resize: 9000"),
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
    let error = impossible(&sandbox, &study("mlp", &["--resize", "8"]));
    assert!(error.contains("resize: 8 pixels are fewer"), "{error}");
}
