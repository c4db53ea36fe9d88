//! Corruptions as they are named on the command line, and what is recorded under them.

use serde_json::Value;

use super::sandbox::{Sandbox, TINY, records};

fn measured(records: &[(String, Value)]) -> Vec<&Value> {
    let of = records.iter().filter(|(name, _)| name == "measured");
    of.map(|(_, facts)| facts).collect()
}

#[test]
fn sets_variants_and_ids_stand_side_by_side() {
    let sandbox = Sandbox::new();
    let flags = [
        "--twins",
        "0",
        "--quiet",
        "--session",
        "made.jsonl",
        "--corruptions",
        "document-000,gaussian-noise,jpeg-compression",
        "--compress",
        "magnitude-pruning",
        "--ratio",
        "0.9",
    ];
    sandbox.run(&[&TINY[..], &flags].concat()).well();
    let records = records(&sandbox.path("made.jsonl"));
    let found = measured(&records);
    let under = |metric: &str, condition: &str| -> Vec<&&Value> {
        let of = found.iter().filter(|found| {
            found["metric"] == metric && found["condition"] == condition && found["network"] == 1
        });
        of.collect()
    };
    // Of the set, ISO noise and RGB shift need color and are left out.
    for condition in [
        "gaussian-noise:published",
        "pixel-dropout:published",
        "random-fog:published",
    ] {
        let accuracy = under("accuracy", condition);
        assert_eq!(accuracy.len(), 1, "{condition}");
        assert!(accuracy[0].get("severity").is_none());
        assert!(accuracy[0].get("paired").is_some(), "{}", accuracy[0]);
    }
    for condition in ["gaussian-noise", "jpeg-compression"] {
        assert_eq!(under("accuracy", condition).len(), 5);
    }
    let conditions: Vec<&str> = found
        .iter()
        .filter(|found| found["metric"] == "psnr")
        .map(|found| {
            assert_eq!(found["network"], 0);
            found["condition"].as_str().unwrap()
        })
        .collect();
    assert_eq!(conditions.len(), 3 + 10);
    assert!(
        !conditions
            .iter()
            .any(|condition| condition.contains("iso") || condition.contains("rgb"))
    );
    // The published fog changes nothing: no grey level, an infinite ratio, and a warning.
    let fog = |metric: &str| {
        let of = |found: &&&Value| {
            found["metric"] == metric && found["condition"] == "random-fog:published"
        };
        found.iter().find(of).unwrap()["value"]["scalar"].clone()
    };
    assert_eq!(fog("mean_absolute_change"), 0.0);
    assert_eq!(fog("psnr"), "inf");
    let warned = records.iter().any(|(name, facts)| {
        name == "warned"
            && facts["warning"]["is"] == "corruption-without-effect"
            && facts["warning"]["corruption"] == "random-fog:published"
    });
    assert!(warned);
    // The means over all of it.
    let mean = |network: u32, metric: &str| {
        let of = |found: &&&Value| found["network"] == network && found["metric"] == metric;
        found
            .iter()
            .find(of)
            .map(|found| found["value"]["scalar"].as_f64().unwrap())
    };
    let errors = |network: u32| {
        let mut sum = 0.0;
        for (condition, severities) in [
            ("gaussian-noise:published", 1.0),
            ("pixel-dropout:published", 1.0),
            ("random-fog:published", 1.0),
            ("gaussian-noise", 5.0),
            ("jpeg-compression", 5.0),
        ] {
            let of = found.iter().filter(|found| {
                found["metric"] == "error"
                    && found["condition"] == condition
                    && found["network"] == network
            });
            let total: f64 = of
                .map(|found| found["value"]["scalar"].as_f64().unwrap())
                .sum();
            sum += total / severities / 5.0;
        }
        sum
    };
    for network in [0, 1] {
        let stated = mean(network, "mean_corruption_error").unwrap();
        assert!(
            (stated - errors(network)).abs() < 1e-9,
            "{stated} {}",
            errors(network)
        );
    }
    assert_eq!(mean(0, "relative_corruption_error"), None);
    assert!(mean(1, "relative_corruption_error").unwrap() > 0.0);
    // And a report tells them.
    let text = sandbox
        .run(&["report", "--format", "markdown", "made.jsonl"])
        .well();
    for words in ["Mean corruption error", "∞: unchanged", "made here"] {
        assert!(text.contains(words), "{words} is missing: {text}");
    }
    assert!(!text.contains("mCE of"), "{text}");
}

#[test]
fn a_study_in_a_file_names_them_too() {
    let sandbox = Sandbox::new();
    let file = sandbox.file(
        "study.toml",
        "[[references]]\ndataset = \"glyphs\"\narchitecture = \"lenet5\"\n[suite]\n\
         corruptions = [{ id = \"gaussian-noise\", variant = \"published\" }, \"fog\", \"cifar-10-c-extra\"]\n",
    );
    sandbox.run_on(&["check"], &file).well();
    let file = sandbox.file(
        "wrong.toml",
        "[[references]]\ndataset = \"glyphs\"\narchitecture = \"lenet5\"\n[suite]\n\
         corruptions = [{ id = \"gaussian-noise\", variant = \"loud\" }, \"rain\", \"saturate\"]\n",
    );
    let error = sandbox.run_on(&["check"], &file).refused(2);
    for words in ["loud", "cifar-10-c, corrected, published", "rain"] {
        assert!(error.contains(words), "{words} is missing: {error}");
    }
}

#[test]
fn what_needs_color_is_refused_before_anything_is_trained() {
    let sandbox = Sandbox::new();
    for (named, condition) in [
        ("iso-noise", "iso-noise"),
        ("fog,rgb-shift:published", "rgb-shift:published"),
    ] {
        let flags = ["--session", "never.jsonl", "--corruptions", named];
        let error = sandbox.run(&[&TINY[..], &flags].concat()).refused(2);
        let words = format!("{condition} needs images with 3 channels, and those of glyphs have 1");
        assert!(error.contains(&words), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert!(!sandbox.path("never.jsonl").exists());
}
