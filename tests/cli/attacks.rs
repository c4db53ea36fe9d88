//! Attacks as they are asked for on the command line and in a study's file.

use serde_json::Value;

use super::sandbox::{Sandbox, records};

const STUDY: &str = r#"
train-limit = 200
test-limit = 60
[[references]]
dataset = "glyphs"
architecture = "lenet5"
training = { epochs = 1 }
  [[references.branches]]
  stages = [{ compress = { id = "magnitude-pruning", ratio = 0.5 } }]
[suite]
probes = ["accuracy", "transfer"]
corruptions = ["contrast"]
attacks = [
  { id = "pgd", epsilons = [0.05, 0.2], images = 20, steps = 4 },
  "fgsm",
  { id = "deepfool", images = 10, epsilons = 1 },
]
"#;

#[test]
fn a_study_is_attacked_as_its_file_says() {
    let sandbox = Sandbox::new();
    sandbox.file("study.toml", STUDY);
    let printed = sandbox
        .run(&["run", "study.toml", "--session", "made.jsonl"])
        .well();
    for words in [
        "accuracy pgd:steps=4 within 0.0500",
        "accuracy pgd:steps=4 within 0.0000",
        "accuracy fgsm within 0.1000",
        "distance_mean deepfool",
        "transfer_accuracy pgd within 0.1000 made against",
    ] {
        assert!(printed.contains(words), "{words} is missing: {printed}");
    }
    let found: Vec<Value> = records(&sandbox.path("made.jsonl"))
        .into_iter()
        .filter(|(kind, _)| kind == "measured")
        .map(|(_, facts)| facts)
        .filter(|found| found["condition"] == "pgd:steps=4" && found["metric"] == "accuracy")
        .collect();
    let budgets: Vec<f64> = found
        .iter()
        .map(|f| f["budget"].as_f64().unwrap())
        .collect();
    assert_eq!(
        budgets,
        [0.0, 0.05, 0.2, 0.0, 0.05, 0.2],
        "reference and branch"
    );
    assert!(found.iter().all(|found| found["n"] == 20));
    assert!(found[5]["paired"].is_object() && found[2]["paired"].is_null());
    let report = sandbox
        .run(&["report", "made.jsonl", "--format", "markdown"])
        .well();
    for words in [
        "## Attacks",
        "**pgd:steps=4**: accuracy within a budget in the L-infinity norm, n = 20.",
        "| network | 0 | 0.05 | 0.2 |",
        "in the Euclidean norm, n = 10",
        "`{ id = \"pgd\", epsilons = [0.05, 0.2], gradient = \"straight-through\", images = 20, norm = \"linf\", restarts = 1, \
         space = \"pixel\", start = \"uniform\", step-size = 0.1, steps = 4 }`",
        "`{ id = \"fgsm\", epsilons = [], gradient = \"straight-through\", images = 1000, norm = \"linf\" }`",
        "within 0.1 in the L-infinity norm, asked of the network of a column",
        "n = 60.",
        "made against, asked of",
    ] {
        assert!(report.contains(words), "{words} is missing: {report}");
    }
    let table = sandbox
        .run(&["report", "made.jsonl", "--format", "csv"])
        .well();
    assert!(
        table
            .lines()
            .next()
            .unwrap()
            .ends_with("deviation_percent,budget")
    );
}

#[test]
fn what_is_wrong_with_an_attack_is_said_before_anything_runs() {
    let refused = |flags: &[&str], words: &[&str]| {
        let sandbox = Sandbox::new();
        let base = [
            "run",
            "-d",
            "glyphs",
            "-a",
            "lenet5",
            "--session",
            "never.jsonl",
        ];
        let error = sandbox.run(&[&base[..], flags].concat()).refused(2);
        for word in words {
            assert!(
                error.contains(word),
                "{flags:?}: {word} is missing: {error}"
            );
        }
        assert!(!sandbox.path("never.jsonl").exists());
    };
    refused(
        &["--attacks", "pgd,lasers"],
        &["attack", "lasers", "autoattack"],
    );
    refused(
        &["--attacks", "pgd", "--set", "epsilons=0.1,-0.1"],
        &["suite: epsilons", "-0.1", "numbers from 0 to 1000"],
    );
    refused(
        &["--attacks", "pgd", "--set", "epsilons=many"],
        &["suite: epsilons", "many is not allowed"],
    );
    refused(
        &["--attacks", "pgd", "--set", "norm=l1"],
        &["suite: norm", "l1", "linf, l2"],
    );
    refused(
        &["--set", "epsilons=0.1"],
        &["epsilons", "attack that is asked for"],
    );
    refused(
        &["--attacks", "pgd, fgsm,pgd"],
        &["--attacks", "pgd stands twice"],
    );
    refused(
        &["--corruptions", "fog,fog"],
        &["--corruptions", "fog stands twice"],
    );
    refused(
        &["--domains", "usps"],
        &["domains: usps has none of the classes A"],
    );
}
