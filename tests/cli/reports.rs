//! Sessions shown and written down: `check`, `report`, `replay --once`.

use std::collections::BTreeSet;

use serde_json::Value;
use shrinklab::measurement::Metric;

use super::sandbox::{Sandbox, tiny};

fn report(format: &str) -> String {
    Sandbox::new()
        .run_on(&["report", "--format", format], tiny().0)
        .well()
}

#[test]
fn a_session_is_checked() {
    let checked = Sandbox::new().run_on(&["check"], tiny().0).well();
    assert_eq!(checked.lines().count(), 1, "nothing is odd: {checked}");
    assert!(checked.contains("tiny.jsonl: a session of "), "{checked}");
}

#[test]
fn a_torn_last_line_is_set_aside() {
    let sandbox = Sandbox::new();
    let whole = std::fs::read(tiny().0).unwrap();
    let torn = sandbox.file("torn.jsonl", &whole[..whole.len() - 9]);
    let checked = sandbox.run_on(&["check"], &torn).well();
    assert!(checked.contains("the last line is torn"), "{checked}");
    sandbox.run_on(&["replay", "--once"], &torn).well();
    sandbox
        .run_on(&["report", "--format", "json"], &torn)
        .well();
}

#[test]
fn the_json_report_has_one_flat_row_per_number() {
    let document: Value = serde_json::from_str(&report("json")).unwrap();
    let rows = document["measurements"].as_array().unwrap();
    let keys: BTreeSet<&str> = [
        "network",
        "role",
        "stage",
        "epoch",
        "probe",
        "metric",
        "condition",
        "severity",
        "against",
        "value",
        "deviation_percent",
        "unit",
        "low",
        "high",
        "n",
        "budget",
    ]
    .into();
    let known: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
    let mut seen = BTreeSet::new();
    for row in rows {
        let found: BTreeSet<&str> = row.as_object().unwrap().keys().map(|key| &**key).collect();
        assert_eq!(found, keys, "{row}");
        let metric = row["metric"].as_str().unwrap();
        assert!(known.contains(metric), "{metric}");
        seen.insert(metric);
        if row["unit"] == "fraction" {
            assert!(
                row["n"].is_u64() && row["low"].is_f64() && row["high"].is_f64(),
                "{row}"
            );
            let ends = ["low", "value", "high"].map(|key| row[key].as_f64());
            for end in ends.into_iter().flatten() {
                assert!((0.0..=1.0).contains(&end), "{row}");
            }
            if let [Some(low), Some(value), Some(high)] = ends {
                assert!(low <= value && value <= high, "{row}");
            }
        }
    }
    for metric in [
        "accuracy",
        "error",
        "agreement",
        "js",
        "nonzero",
        "macs",
        "bytes",
        "latency_ms_p50",
    ] {
        assert!(seen.contains(metric), "{metric} was not measured");
    }
    let roles: BTreeSet<&str> = rows
        .iter()
        .map(|row| row["role"].as_str().unwrap())
        .collect();
    assert!(
        roles.is_superset(&["reference", "twin", "branch"].into()),
        "{roles:?}"
    );
    assert_eq!(document["networks"].as_array().unwrap().len(), 3);
    assert_eq!(document["epochs"].as_array().unwrap().len(), 3);
    assert_eq!(document["verdicts"].as_array().unwrap().len(), 1);
    assert_eq!(document["sessions"][0]["outcome"]["is"], "completed");
}

#[test]
fn the_csv_report_says_the_same_in_columns() {
    let document: Value = serde_json::from_str(&report("json")).unwrap();
    let csv = report("csv");
    let mut lines = csv.lines();
    assert_eq!(
        lines.next().unwrap(),
        "network,role,stage,epoch,probe,metric,condition,severity,against,value,unit,low,high,n,deviation_percent,budget"
    );
    assert_eq!(
        lines.count(),
        document["measurements"].as_array().unwrap().len()
    );
}

#[test]
fn the_markdown_report_names_the_study_and_its_numbers() {
    let markdown = report("markdown");
    let unasked = Sandbox::new().run_on(&["report"], tiny().0).well();
    let without_command = |text: &str| text.split("Made by").next().map(ToOwned::to_owned);
    assert_eq!(without_command(&unasked), without_command(&markdown));
    assert!(markdown.starts_with("# "), "{markdown}");
    for word in [
        "glyphs",
        "lenet5",
        "magnitude pruning 50 %",
        "| ",
        "tiny.jsonl",
        "accuracy",
    ] {
        assert!(
            markdown.to_lowercase().contains(word),
            "{word} is missing: {markdown}"
        );
    }
}

#[test]
fn the_svg_report_is_a_picture_and_goes_into_a_file() {
    let sandbox = Sandbox::new();
    let printed = sandbox
        .run_on(
            &["report", "--format", "svg", "-o", "figures.svg"],
            tiny().0,
        )
        .well();
    assert_eq!(printed, "");
    let picture = std::fs::read_to_string(sandbox.path("figures.svg")).unwrap();
    assert!(
        picture.starts_with("<svg") || picture.starts_with("<?xml"),
        "{picture:.80}"
    );
    assert!(picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("magnitude pruning 50 %"));
    let error = sandbox
        .run_on(&["report", "--format", "pdf"], tiny().0)
        .refused(2);
    assert!(
        error.contains("pdf") && error.contains("markdown"),
        "{error}"
    );
}

fn once(flags: &[&str]) -> String {
    Sandbox::new()
        .run_on(&[&["replay", "--once"], flags].concat(), tiny().0)
        .well()
}

#[test]
fn a_picture_has_the_size_asked() {
    for (size, columns, rows) in [("120x40", 120, 40), ("80x24", 80, 24), ("39x11", 39, 11)] {
        let picture = once(&["--size", size]);
        assert!(!picture.contains('\u{1b}'));
        assert_eq!(picture.lines().count(), rows, "{picture}");
        assert!(
            picture.lines().all(|line| line.chars().count() <= columns),
            "{picture}"
        );
    }
    let picture = once(&["--size", "120x40"]);
    for title in ["Loss", "Accuracy under corruption", "Function", "Numbers"] {
        assert!(picture.contains(title), "{title} is missing: {picture}");
    }
    assert!(picture.contains("magnitude pruning 50 %"), "{picture}");
}

#[test]
fn each_screen_can_be_named() {
    for (name, words) in [
        ("live", "Numbers"),
        ("loss", "train"),
        ("corruption", "gaussian noise"),
        ("function", "nearer than a twin"),
        ("numbers", "mult-adds"),
        ("table", "metric"),
        ("help", "esc"),
    ] {
        let picture = once(&["--screen", name]);
        assert!(
            picture.contains(words),
            "{name}: {words} is missing: {picture}"
        );
    }
    let sandbox = Sandbox::new();
    let error = sandbox
        .run_on(&["replay", "--once", "--screen", "matrix"], tiny().0)
        .refused(2);
    assert!(
        error.contains("matrix") && error.contains("table"),
        "{error}"
    );
}

#[test]
fn a_picture_can_be_of_an_earlier_record_or_an_svg() {
    let (early, late) = (once(&["--at", "0"]), once(&[]));
    assert!(!early.contains("done in"), "{early}");
    assert!(late.contains("done in"), "{late}");
    let picture = once(&["--svg"]);
    assert!(picture.contains("<svg") && picture.trim_end().ends_with("</svg>"));
    let sandbox = Sandbox::new();
    for [flag, value] in [
        ["--at", "999999"],
        ["--at", "-1"],
        ["--size", "wide"],
        ["--size", "0x0"],
        ["--size", "-5x5"],
    ] {
        let error = sandbox
            .run_on(&["replay", "--once", flag, value], tiny().0)
            .refused(2);
        assert!(error.contains(flag), "{error}");
    }
    for speed in ["1000", "-2", "-1/4"] {
        let error = sandbox
            .run_on(&["replay", "--speed", speed], tiny().0)
            .refused(2);
        assert!(
            error.contains("--speed") && error.contains("256"),
            "{error}"
        );
    }
}
