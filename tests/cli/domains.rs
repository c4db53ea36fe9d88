//! Other domains: of which networks are asked what they did not learn.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::sandbox::{Sandbox, TINY, records};

/// Accuracies of the probe of domains: the network, the domain, the finding.
fn found(records: &[(String, Value)]) -> Vec<(u64, String, Value)> {
    let of = records.iter().filter(|(kind, _)| kind == "measured");
    let own = of
        .map(|(_, facts)| facts)
        .filter(|facts| facts["probe"] == "domain-accuracy");
    own.map(|facts| {
        let domain = facts["condition"].as_str().unwrap().to_owned();
        (facts["network"].as_u64().unwrap(), domain, facts.clone())
    })
    .collect()
}

#[test]
fn every_network_is_asked_of_the_looks_that_it_did_not_learn() {
    let sandbox = Sandbox::new();
    let flags = [
        "--domains",
        "all",
        "--twins",
        "0",
        "--compress",
        "magnitude-pruning",
        "--ratio",
        ".9",
        "--session",
        "made.jsonl",
    ];
    let said = sandbox.run(&[&TINY[..], &flags].concat()).well();
    let found = found(&records(&sandbox.path("made.jsonl")));
    let asked: Vec<(u64, &str)> = found
        .iter()
        .map(|(id, domain, _)| (*id, &**domain))
        .collect();
    assert_eq!(
        asked,
        [(0, "chalk"), (0, "outline"), (1, "chalk"), (1, "outline")]
    );
    for (network, domain, facts) in &found {
        assert_eq!(facts["n"], 100, "{domain}");
        assert!(facts["interval"].is_array());
        assert_eq!(facts["paired"].is_null(), *network == 0, "{facts}");
    }
    assert!(said.contains("chalk"), "{said}");
}

/// Pictures of squares and of bars, light on dark in one domain and dark on light in the other.
fn pictures(root: &Path) {
    for (domain, paper, ink) in [("night", 20, 230), ("day", 230, 20)] {
        for (class, is_bar) in [("bar", true), ("square", false)] {
            let folder = root.join(domain).join("images").join(class);
            fs::create_dir_all(&folder).unwrap();
            for n in 0..60_u32 {
                let picture = image::GrayImage::from_fn(40, 30, |x, y| {
                    let (x, y) = (x.wrapping_sub(8 + n % 5), y.wrapping_sub(4 + n % 4));
                    let is_ink = x < if is_bar { 4 } else { 16 } && y < 16;
                    image::Luma([if is_ink { ink } else { paper + (n as u8 % 10) }])
                });
                let suffix = if n % 2 == 0 { "png" } else { "jpg" };
                picture.save(folder.join(format!("{n}.{suffix}"))).unwrap();
            }
        }
    }
}

#[test]
fn a_folder_of_pictures_is_a_data_set_with_domains() {
    let sandbox = Sandbox::new();
    pictures(&sandbox.path("pictures"));
    let torn = sandbox.path("pictures/day/images/bar/torn.jpg");
    fs::write(&torn, b"\xff\xd8\xff\xe0 torn").unwrap();
    let base = [
        "run",
        "-d",
        "image-folder",
        "-a",
        "lenet5",
        "--epochs",
        "3",
        "--no-cache",
        "--domains",
        "all",
        "--session",
        "made.jsonl",
        "--set",
        "root=pictures",
        "--set",
        "size=28",
        "--set",
        "gray=true",
        "--set",
        "batch=8",
    ];
    let said = sandbox
        .run(&[&base[..], &["--set", "domain=night"]].concat())
        .well();
    let records = records(&sandbox.path("made.jsonl"));
    let found = found(&records);
    // Every readable file of the other domain is asked; one of 121 is torn.
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].1.as_str(), &found[0].2["n"]),
        ("day", &Value::from(120))
    );
    assert!(
        said.contains("image-folder day: 1 file skipped: "),
        "{said}"
    );
    let data = records
        .iter()
        .find(|(kind, _)| kind == "data-ready")
        .unwrap();
    assert_eq!(data.1["classes"], serde_json::json!(["bar", "square"]));
    assert_eq!(data.1["domains"], serde_json::json!([["day", 120]]));
}

#[test]
fn what_is_no_domain_is_refused_before_anything_is_trained() {
    let sandbox = Sandbox::new();
    pictures(&sandbox.path("pictures"));
    fs::create_dir_all(sandbox.path("pictures/empty")).unwrap();
    let folder = |more: &[&str]| {
        let base = ["run", "-d", "image-folder", "-a", "lenet5", "--no-cache"];
        sandbox.run(&[&base[..], more].concat()).refused(2)
    };
    for (more, words) in [
        (&[][..], "root: a folder is needed"),
        (&["--set", "root=nowhere"], "root: nowhere: "),
        (
            &["--set", "root=pictures", "--set", "domain=dusk"],
            "domain: dusk is not known; one of day, empty, night",
        ),
        (
            &["--set", "root=pictures", "--set", "domain=empty"],
            "domain: pictures/empty holds no class/*.jpg or *.png",
        ),
    ] {
        let error = folder(more);
        assert!(error.contains(words), "{more:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let flags = ["--domains", "cifar10"];
    let error = sandbox.run(&[&TINY[..], &flags].concat()).refused(2);
    assert!(
        error.contains("domains: images of cifar10 are 3x32x32, those of glyphs 1x28x28"),
        "{error}"
    );
    let flags = ["--domains", "moon"];
    let error = sandbox.run(&[&TINY[..], &flags].concat()).refused(2);
    assert!(
        error.contains("domain: \"moon\" is not known; one of glyphs"),
        "{error}"
    );
}
