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
        &[
            "suite, attack pgd: epsilons",
            "-0.1",
            "numbers from 0 to 1000",
        ],
    );
    refused(
        &["--attacks", "pgd", "--set", "epsilons=many"],
        &["suite, attack pgd: epsilons", "many is not allowed"],
    );
    refused(
        &["--attacks", "pgd", "--set", "norm=l1"],
        &["suite, attack pgd: norm", "l1", "linf, l2"],
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

#[test]
fn seeds_repeat_every_network_and_all_that_see_the_same_images_attack_one_another() {
    let sandbox = Sandbox::new();
    sandbox.file(
        "study.toml",
        r#"
seeds = [3, 4]
train-limit = 200
test-limit = 60
[[references]]
dataset = "glyphs"
architecture = "lenet5"
training = { epochs = 1 }
[[references]]
dataset = { id = "glyphs", domain = "chalk" }
architecture = "lenet5"
training = { epochs = 1 }
[suite]
probes = ["accuracy", { id = "transfer", transfer-images = 20 }]
corruptions = ["contrast"]
attacks = [{ id = "fgsm", images = 20 }]
"#,
    );
    let printed = sandbox
        .run(&["run", "study.toml", "--session", "made.jsonl"])
        .well();
    for words in [
        "seeds 3, 4",
        "reference 1, seed 3",
        "reference 2, seed 4 transfer_accuracy pgd within 0.1000 made against reference 2, seed 3",
    ] {
        assert!(printed.contains(words), "{words} is missing: {printed}");
    }
    let records = records(&sandbox.path("made.jsonl"));
    let number = |value: &Value| value.as_u64().unwrap();
    let mut pairs: Vec<(u64, u64)> = records
        .iter()
        .filter(|(kind, facts)| kind == "measured" && facts["metric"] == "transfer_accuracy")
        .map(|(_, facts)| (number(&facts["against"]), number(&facts["network"])))
        .collect();
    pairs.sort_unstable();
    // 0 and 2 are of one data set, 1 and 3 of the other.
    assert_eq!(
        pairs,
        [
            (0, 0),
            (0, 2),
            (1, 1),
            (1, 3),
            (2, 0),
            (2, 2),
            (3, 1),
            (3, 3)
        ]
    );
    // One split for all seeds, and first weights of their own.
    let of = |id: &str| {
        let found = records.iter().filter(|(kind, _)| kind == id);
        found
            .map(|(_, facts)| facts.clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(of("study-started")[0]["study"]["seed"], 3);
    let seeds: Vec<u64> = of("study-started")[0]["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| number(&plan["init_seed"]))
        .collect();
    assert_eq!(seeds, [3, 3, 4, 4]);
    let report = sandbox.run(&["report", "made.jsonl"]).well();
    assert_eq!(report.matches("**Transfer**").count(), 2, "{report}");
    assert!(
        report.contains("| reference 1 | clean images | 2 | 60 |"),
        "{report}"
    );
}

#[test]
fn a_seed_counts_once_however_often_it_is_asked_for() {
    let sandbox = Sandbox::new();
    let reference = |seed: u64| {
        format!("[[references]]\ndataset = \"glyphs\"\narchitecture = \"mlp\"\nseed = {seed}\n")
    };
    sandbox.file("two.toml", reference(1) + &reference(2));
    let planned = |flags: &[&str]| -> Vec<String> {
        let all = [&["check", "two.toml"], flags].concat();
        let printed = sandbox.run(&all).well();
        let names = printed
            .lines()
            .filter_map(|line| line.trim().strip_suffix(" (reference)"));
        names.map(str::to_owned).collect()
    };
    assert_eq!(planned(&[]), ["reference, seed 1", "reference, seed 2"]);
    // One seed for all: the two are one network, and it is made once.
    let small = "train-limit = 100\ntest-limit = 40\n";
    let once = "[suite]\nprobes = [\"accuracy\"]\n";
    sandbox.file(
        "two.toml",
        format!("{small}{}{}{once}", reference(1), reference(2)),
    );
    let flags = [
        "--seed",
        "3",
        "--epochs",
        "1",
        "--quiet",
        "--session",
        "made.jsonl",
    ];
    sandbox
        .run(&[&["run", "two.toml"], &flags[..]].concat())
        .well();
    let built = records(&sandbox.path("made.jsonl"));
    let built = built.iter().filter(|(kind, _)| kind == "network-built");
    assert_eq!(built.count(), 1);
    sandbox.file("two.toml", reference(1) + &reference(1));
    assert_eq!(planned(&[]), ["reference 1", "reference 2"]);
}
