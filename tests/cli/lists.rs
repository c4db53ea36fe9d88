//! What the program says of itself and of the machine.

use serde_json::Value;

use super::sandbox::Sandbox;

#[test]
fn the_catalog_is_listed() {
    let sandbox = Sandbox::new();
    let all = sandbox.run(&["list"]).well();
    for word in [
        "datasets",
        "glyphs",
        "fashion-mnist",
        "architectures",
        "lenet5",
        "compressions",
        "magnitude-pruning",
        "corruptions",
        "gaussian-noise",
        "attacks",
        "probes",
        "latency",
    ] {
        assert!(all.contains(word), "{word} is missing: {all}");
    }
    let one = sandbox.run(&["list", "architectures"]).well();
    assert!(one.contains("cnn8") && !one.contains("glyphs"), "{one}");
    // Definitions O-38: CIFAR's ResNet-18.
    let cost = "11,173,962 parameters; 555.42 M multiply-accumulates, or 0.555 \"GFLOPs\"";
    assert!(one.contains(cost), "{one}");
    let attacks = sandbox.run(&["list", "attacks"]).well();
    let budgets = "mnist 0.3 (1.5), fashion-mnist 0.1 (0.75), usps 0.3 (1.5), cifar10 0.0314 (0.5)";
    assert!(attacks.contains(budgets), "{attacks}");
    let error = sandbox.run(&["list", "optimizers"]).refused(2);
    assert!(error.contains("optimizers") && error.contains("compressions"));
}

#[test]
fn the_catalog_is_json_with_every_knob() {
    let sandbox = Sandbox::new();
    let all: Value = serde_json::from_str(&sandbox.run(&["list", "--json"]).well()).unwrap();
    let compressions = all["compressions"].as_array().unwrap();
    let pruning = compressions
        .iter()
        .find(|method| {
            method["info"]["id"] == "magnitude-pruning" || method["id"] == "magnitude-pruning"
        })
        .unwrap();
    assert!(pruning.to_string().contains("\"ratio\""), "{pruning}");
    let one: Value =
        serde_json::from_str(&sandbox.run(&["list", "probes", "--json"]).well()).unwrap();
    assert_eq!(
        one.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["probes"]
    );
}

#[test]
fn data_sets_are_listed_with_the_folders_looked_in() {
    let sandbox = Sandbox::new();
    let listed = sandbox.run(&["data", "list"]).well();
    assert!(listed.contains("fashion-mnist"), "{listed}");
    assert!(listed.contains(&*sandbox.path("data").display().to_string()));
    let named = sandbox.path("elsewhere");
    let listed = sandbox
        .run(&["data", "list", "--data-dir", named.to_str().unwrap()])
        .well();
    assert!(listed.contains(&*named.display().to_string()), "{listed}");
    let error = sandbox.run(&["data", "fetch", "imagenet"]).refused(1);
    assert!(
        error.contains("imagenet") && error.contains("fashion-mnist"),
        "{error}"
    );
}

#[test]
fn the_doctor_says_what_the_machine_offers() {
    let sandbox = Sandbox::new();
    let said = sandbox.run(&["doctor"]).well();
    for word in [
        "shrinklab",
        env!("CARGO_PKG_VERSION"),
        "processor",
        "int8 by ",
        "threads",
        "GFLOP/s on 1 thread",
        "device",
        "terminal",
    ] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
    for folder in ["data", "cache"] {
        let folder = sandbox.path(folder).display().to_string();
        assert!(said.contains(&folder), "{folder} is missing: {said}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let sandbox = Sandbox::new();
    let help = sandbox.run(&["--help"]).well();
    for word in [
        "run", "replay", "attach", "report", "check", "doctor", "demo",
    ] {
        assert!(help.contains(word), "{word} is missing: {help}");
    }
    assert!(
        sandbox
            .run(&["run", "--help"])
            .well()
            .contains("--fine-tune-epochs")
    );
    assert!(
        sandbox
            .run(&["--version"])
            .well()
            .contains(env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn without_a_terminal_the_lab_says_what_works_instead() {
    let sandbox = Sandbox::new();
    let error = sandbox.run(&[]).refused(1);
    assert!(
        error.contains("terminal") && error.contains("shrinklab run"),
        "{error}"
    );
}
