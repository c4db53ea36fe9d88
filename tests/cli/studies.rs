//! Studies without a screen: what they print, and what the flags make of them.

use serde_json::Value;

use super::sandbox::{BRANCH, Ran, Sandbox, TINY, count, records, tiny};

#[test]
fn a_study_prints_plain_lines_into_a_pipe() {
    let (session, printed) = tiny();
    assert!(
        !printed.contains(|c: char| c.is_control() && c != '\n'),
        "{printed:?}"
    );
    for words in [
        "session ",
        "glyphs · lenet5 · seed ",
        "360 images to train on, 40 to validate, 100 to test",
        "epoch 1  train loss ",
        "magnitude pruning 50 %",
        "50.00 % of the weights removed, 50.00 % asked",
        "nearer than a twin?",
    ] {
        assert!(printed.contains(words), "{words} is missing: {printed}");
    }
    let records = records(session);
    assert_eq!(records[0].0, "study-started");
    let (last, ended) = records.last().unwrap();
    assert_eq!(
        (&**last, &ended["outcome"]["is"]),
        ("study-ended", &Value::from("completed"))
    );
    assert_eq!(
        count(&records, "network-built"),
        3,
        "reference, twin, branch"
    );
    assert_eq!(count(&records, "network-compressed"), 1);
    assert_eq!(count(&records, "epoch-ended"), 3);
}

#[test]
fn json_is_the_session_line_by_line() {
    let sandbox = Sandbox::new();
    let printed = sandbox
        .run(
            &[
                &TINY[..],
                &["--twins", "0", "--json", "--session", "made.jsonl"],
            ]
            .concat(),
        )
        .well();
    let lines: Vec<&str> = printed.lines().collect();
    for line in &lines {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!(record.is_array(), "{line}");
    }
    let written = std::fs::read_to_string(sandbox.path("made.jsonl")).unwrap();
    let written: Vec<&str> = written
        .lines()
        .filter(|line| line.starts_with('['))
        .collect();
    assert_eq!(lines, written);
}

#[test]
fn quiet_prints_the_end_alone_and_the_session_has_a_place_of_its_own() {
    let sandbox = Sandbox::new();
    let printed = sandbox
        .run(&[&TINY[..], &QUANTIZED, &["--quiet"]].concat())
        .well();
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(
        printed.starts_with("post-training quantization 8 bits: "),
        "{printed}"
    );
    let folder = sandbox.path("data/shrinklab/sessions");
    let names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".jsonl") && !name.contains(".lock"))
        .collect();
    assert_eq!(names, ["glyphs-lenet5-post-training-quantization-1.jsonl"]);
}

const QUANTIZED: [&str; 4] = ["--twins", "0", "--compress", "post-training-quantization"];

/// The study of a run that was stopped before it began to train: what the flags said.
fn asked(arguments: &[&str]) -> Value {
    let sandbox = Sandbox::new();
    let file = sandbox.path("asked.jsonl");
    let mut process = sandbox
        .program()
        .args(arguments)
        .args(["--quiet", "--session"])
        .arg(&file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    super::endings::wait_for("the study to begin", || {
        let over = process.try_wait().unwrap();
        assert!(over.is_none(), "it ended at once: {over:?}");
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"study-started\""))
    });
    process.kill().unwrap();
    process.wait().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let header = text.lines().find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str::<Value>(header).unwrap()["study"].take()
}

#[test]
fn flags_belong_to_the_compression_before_them() {
    let study = asked(&[
        "run",
        "-d",
        "glyphs",
        "-a",
        "lenet5",
        "--set",
        "batch=32",
        "--set",
        "domain=chalk",
        "--seed",
        "11",
        "--compress",
        "magnitude-pruning",
        "--ratio",
        ".25,.5,.75",
        "--fine-tune-epochs",
        "2",
        "--set",
        "learning-rate=0.003",
        "--compress",
        "post-training-quantization",
        "--set",
        "bits=4",
        "--checkpoint",
        "best",
    ]);
    let reference = &study["references"][0];
    assert_eq!(study["seed"], 11);
    assert_eq!(reference["twins"], 1, "a branch brings a twin");
    assert_eq!(reference["training"]["batch"], 32);
    assert_eq!(reference["dataset"]["domain"], "chalk");
    let branches = reference["branches"].as_array().unwrap();
    assert_eq!(
        branches.len(),
        4,
        "one for each ratio, one for quantization"
    );
    for (branch, ratio) in branches.iter().zip([0.25, 0.5, 0.75]) {
        assert_eq!(branch["stages"][0]["compress"]["ratio"], ratio);
        assert_eq!(branch["stages"][1]["fine-tune"]["epochs"], 2);
        assert_eq!(branch["stages"][1]["fine-tune"]["learning-rate"], 0.003);
        assert_eq!(branch["stages"][1]["fine-tune"]["batch"], 32, "inherited");
        assert_eq!(branch["checkpoint"], "last");
    }
    let quantized = &branches[3];
    assert_eq!(quantized["stages"][0]["compress"]["bits"], 4);
    assert_eq!(
        quantized["stages"].as_array().unwrap().len(),
        1,
        "no fine-tuning asked"
    );
    assert_eq!(quantized["checkpoint"], "best");
}

#[test]
fn a_spec_is_checked_and_run_and_flags_turn_it() {
    let sandbox = Sandbox::new();
    let spec = sandbox.file(
        "study.toml",
        "seed = 3\ntrain-limit = 400\ntest-limit = 100\n[[references]]\ndataset = \"glyphs\"\n\
         architecture = \"lenet5\"\ntraining = { epochs = 1 }\n[[references.branches]]\n\
         stages = [{ compress = { id = \"post-training-quantization\", bits = 8 } }]\n",
    );
    let checked = sandbox.run_on(&["check"], &spec).well();
    assert!(checked.contains("a study of 2 networks"), "{checked}");
    let ran = sandbox
        .program()
        .arg("run")
        .arg(&spec)
        .args([
            "--seed",
            "4",
            "--no-cache",
            "--quiet",
            "--session",
            "made.jsonl",
        ])
        .output()
        .unwrap();
    Ran::of(&ran).well();
    let records = records(&sandbox.path("made.jsonl"));
    assert_eq!(records[0].1["study"]["seed"], 4);
    assert_eq!(count(&records, "network-built"), 2);
}

/// Each reference has a landscape of its own, so that its session is whole and both parts reach the report.
#[test]
fn two_data_sets_in_one_study_make_a_session_without_oddities() {
    let sandbox = Sandbox::new();
    let reference = |domain: &str| {
        format!(
            "[[references]]\ndataset = {{ id = \"glyphs\", domain = \"{domain}\" }}\narchitecture = \"lenet5\"\n\
             training = {{ epochs = 1 }}\ntwins = 1\n[[references.branches]]\n\
             stages = [{{ compress = {{ id = \"magnitude-pruning\", ratio = 0.5 }} }}]\n"
        )
    };
    let spec = format!(
        "seed = 3\ntrain-limit = 200\ntest-limit = 50\n{}{}[suite]\nprobes = [\"functional-landscape\"]\n",
        reference("ink"),
        reference("chalk")
    );
    let spec = sandbox.file("study.toml", spec);
    let flags = ["--no-cache", "--quiet", "--session", "made.jsonl"];
    let mut run = sandbox.program();
    Ran::of(&run.arg("run").arg(&spec).args(flags).output().unwrap()).well();
    let session = sandbox.path("made.jsonl");
    let checked = sandbox.run_on(&["check"], &session).well();
    assert!(checked.contains("a session of"), "{checked}");
    assert!(!checked.contains("joins the landscape"), "{checked}");
    let report = sandbox
        .run_on(&["report", "--format", "json"], &session)
        .well();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["verdicts"].as_array().unwrap().len(), 2, "{report}");
}

#[test]
fn the_same_seed_makes_the_same_records_and_the_cache_only_saves_time() {
    let sandbox = Sandbox::new();
    let with_cache: Vec<&str> = TINY
        .into_iter()
        .filter(|flag| *flag != "--no-cache")
        .collect();
    let run = |name: &str| {
        let ran = sandbox.run(
            &[
                &with_cache[..],
                &BRANCH,
                &["--seed", "5", "--quiet", "--session", name],
            ]
            .concat(),
        );
        ran.well();
        let text = std::fs::read_to_string(sandbox.path(name)).unwrap();
        (steady(&records(&sandbox.path(name))), text)
    };
    let (first, _) = run("first.jsonl");
    assert!(sandbox.path("cache").exists(), "the cache has a folder");
    let (second, text) = run("second.jsonl");
    assert_eq!(first.len(), second.len());
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first, second);
    }
    assert!(
        text.lines()
            .any(|line| line.starts_with('#') && line.contains("cache")),
        "a remark says what was restored"
    );
}

/// Nothing removed, and nine tenths: what was asked is what the network that comes out has.
#[test]
fn the_reached_ratio_is_that_of_the_weights_that_are_left() {
    let sandbox = Sandbox::new();
    let printed = sandbox
        .run(
            &[
                &TINY[..],
                &["--twins", "0", "--compress", "magnitude-pruning"],
                &["--ratio", "0,.9", "--session", "ratios.jsonl"],
            ]
            .concat(),
        )
        .well();
    for words in [
        "0.00 % of the weights removed, 0.00 % asked",
        "90.00 % of the weights removed, 90.00 % asked",
    ] {
        assert!(printed.contains(words), "{words} is missing: {printed}");
    }
    let records = records(&sandbox.path("ratios.jsonl"));
    let compressed: Vec<&Value> = records
        .iter()
        .filter(|(kind, _)| kind == "network-compressed")
        .map(|(_, facts)| facts)
        .collect();
    let number = |network: &Value, metric: &str| -> u64 {
        let last = records.iter().rfind(|(kind, facts)| {
            kind == "measured" && facts["metric"] == metric && facts["network"] == *network
        });
        let (_, facts) = last.unwrap_or_else(|| panic!("{metric} of {network} is measured"));
        facts["value"]["scalar"].as_f64().unwrap() as u64
    };
    assert_eq!(compressed.len(), 2);
    // Of the 225,034 parameters 234 are biases: 224,800 weights, of which a tenth is 22,480.
    for (facts, asked, weights) in [(compressed[0], 0.0, 224_800), (compressed[1], 0.9, 22_480)] {
        assert_eq!(facts["asked"], asked);
        let reached = facts["reached"].as_f64().unwrap();
        assert!((reached - asked).abs() < 1e-12, "{reached}");
        let (nonzero, biases) = (number(&facts["network"], "nonzero"), 234);
        assert!(
            (weights..=weights + biases).contains(&nonzero),
            "{nonzero} numbers are not zero"
        );
        assert_eq!(number(&facts["network"], "parameters"), 225_034);
    }
    let same = records.iter().any(|(kind, facts)| {
        kind == "measured"
            && facts["metric"] == "agreement"
            && facts["network"] == compressed[0]["network"]
            && facts["value"]["scalar"] == 1.0
    });
    assert!(same, "where nothing is removed nothing changes");
}

/// Records without what the clock said, but with its places.
fn steady(records: &[(String, Value)]) -> Vec<(String, Value)> {
    let mut records = records.to_vec();
    for (_, facts) in &mut records {
        let metric = facts["metric"].as_str().unwrap_or_default();
        if metric.starts_with("latency") || metric == "throughput" {
            for field in ["value", "interval"] {
                facts[field] = Value::Null;
            }
        }
    }
    records
}
