//! Timing: one line that a script can read, one that a person can, and refusals in one sentence.

use serde_json::Value;

use super::sandbox::Sandbox;

const SHORT: [&str; 8] = [
    "bench",
    "train",
    "--batch",
    "2",
    "--threads",
    "1",
    "--seconds",
    "0",
];

#[test]
fn a_phase_is_one_line_of_json() {
    let sandbox = Sandbox::new();
    for phase in ["train", "eval", "attack"] {
        let said = sandbox
            .program()
            .args(SHORT)
            .args([
                "--arch", "lenet5", "--phase", phase, "--device", "cpu", "--json",
            ])
            .output()
            .unwrap();
        let said = super::sandbox::Ran::of(&said).well();
        assert_eq!(said.lines().count(), 1, "{said}");
        let line: Value = serde_json::from_str(&said).unwrap();
        let fields: Vec<&str> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "arch",
            "phase",
            "batch",
            "threads",
            "device",
            "params",
            "steps",
            "images_per_s",
            "ms_per_step",
            "peak_rss_bytes",
        ];
        expected.sort_unstable();
        let mut fields = fields;
        fields.sort_unstable();
        assert_eq!(fields, expected);
        assert_eq!(
            (
                &line["arch"],
                &line["phase"],
                &line["batch"],
                &line["params"]
            ),
            (&"lenet5".into(), &phase.into(), &2.into(), &225_034.into())
        );
        let (rate, time) = (
            line["images_per_s"].as_f64().unwrap(),
            line["ms_per_step"].as_f64().unwrap(),
        );
        // Both are rounded: to a tenth of an image and to a microsecond.
        assert!((rate * time / 2e3 - 1.0).abs() < 0.01, "{said}");
    }
}

#[test]
fn without_json_a_person_can_read_it() {
    let sandbox = Sandbox::new();
    let said = sandbox
        .program()
        .args(SHORT)
        .args(["--architecture", "cnn8"])
        .output()
        .unwrap();
    let said = super::sandbox::Ran::of(&said).well();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("cnn8 train on cpu: ") && said.contains("images/s"),
        "{said}"
    );
}

#[test]
fn integers_are_timed_beside_floats() {
    let sandbox = Sandbox::new();
    let short = [
        "bench",
        "int8",
        "--batch",
        "2",
        "--threads",
        "1",
        "--seconds",
        "0",
        "-a",
        "lenet5",
        "-a",
        "mlp",
    ];
    let said = sandbox.run(&short).well();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("int8 by ") && lines[0].contains("2 images"),
        "{said}"
    );
    assert!(
        lines[3].starts_with("lenet5 ") && lines[4].starts_with("mlp "),
        "{said}"
    );
    let said = sandbox.run(&[&short[..], &["--json"]].concat()).well();
    assert_eq!(said.lines().count(), 2, "{said}");
    for (line, id) in said.lines().zip(["lenet5", "mlp"]) {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = |field: &str| line[field].as_f64().unwrap();
        assert_eq!((&line["arch"], &line["batch"]), (&id.into(), &2.into()));
        let ratio = number("int8_images_per_s") / number("f32_images_per_s");
        assert!(
            (ratio / number("int8_over_f32") - 1.0).abs() < 0.01,
            "{line}"
        );
    }
    let error = sandbox.run(&["bench", "int8", "-a", "alexnet"]).refused(2);
    assert!(error.contains("--architecture: alexnet"), "{error}");
}

#[test]
fn what_cannot_be_timed_is_refused_in_one_sentence() {
    let sandbox = Sandbox::new();
    let error = sandbox
        .run(&["bench", "screen", "--seconds", "soon"])
        .refused(2);
    assert_eq!(error.lines().count(), 1, "{error}");
    for (flags, named) in [
        (["-a", "alexnet"], ["--architecture: alexnet", "lenet5"]),
        (["--phase", "test"], ["--phase: test", "attack"]),
        (["--batch", "0"], ["--batch: 0", "from 1"]),
        (["--batch", "-3"], ["--batch: -3", "from 1"]),
        (["--threads", "many"], ["--threads: many", "1024"]),
        (["--seconds", "nan"], ["--seconds: nan", "3600"]),
        (["--seconds", "-1"], ["--seconds: -1", "3600"]),
        (["--device", "tpu"], ["--device: tpu", "cpu"]),
    ] {
        let mut arguments = vec!["bench", "train"];
        if flags[0] != "-a" {
            arguments.extend(["-a", "lenet5"]);
        }
        arguments.extend(flags);
        let error = sandbox.run(&arguments).refused(2);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(named.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// The whole of it on a pseudo-terminal, half a minute long: `SHRINKLAB_SLOW_TESTS=1` asks for it.
#[cfg(unix)]
#[test]
fn the_screen_is_timed_on_a_pseudo_terminal() {
    if std::env::var_os("SHRINKLAB_SLOW_TESTS").is_none() {
        return;
    }
    let sandbox = Sandbox::new();
    let said = sandbox
        .run(&["bench", "screen", "--seconds", "12", "--json"])
        .well();
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["keys"], 200);
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!(number("key_p50_ms") > 0.0 && number("key_p50_ms") <= number("key_p99_ms"));
    assert!(number("bytes_per_s") > 0.0);
    assert!(number("slow_down_low") <= number("slow_down_high"));
}
