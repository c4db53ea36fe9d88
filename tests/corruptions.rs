//! Corruptions that draw nothing against the programs that published them: tests/fixtures/corruptions.json, made by
//! make_corruptions.py, which names the programs and their versions.
//! Those that draw something are compared in src/lab/corruption/golden.rs, given what was drawn.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use shrinklab::lab::corruption::{Severity, corrupted_set, named, parse};
use shrinklab::lab::data::Examples;
use shrinklab::nn::ImageShape;

#[derive(Deserialize)]
struct Fixture {
    images: BTreeMap<String, Image>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Image {
    shape: [usize; 3],
    values: String,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    corruption: String,
    severity: u8,
    after: String,
}

const FIXED: [&str; 8] = [
    "brightness",
    "contrast",
    "defocus-blur",
    "gaussian-blur",
    "jpeg-compression",
    "pixelate",
    "saturate",
    "zoom-blur",
];

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pairs = hexadecimal.as_bytes().chunks_exact(2);
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(pair).collect()
}

#[test]
fn bytes_are_those_of_independent_programs() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/corruptions.json")).unwrap();
    let mut compared = BTreeSet::new();
    for case in &fixture.cases {
        if !FIXED.contains(&case.corruption.as_str()) {
            continue;
        }
        let image = &fixture.images[&case.image];
        let [channels, height, width] = image.shape;
        let before = Examples {
            shape: ImageShape {
                channels,
                height,
                width,
            },
            images: bytes(&image.values),
            labels: vec![0],
            groups: Vec::new(),
        };
        let named = named(&parse(&case.corruption)).unwrap();
        let severity = Severity::ALL
            .into_iter()
            .find(|severity| severity.get() == case.severity);
        let corruption = named.corruption.as_ref();
        let after = corrupted_set(corruption, &named.condition, &before, severity, 0);
        assert_eq!(
            after.images,
            bytes(&case.after),
            "{} {} of {}",
            case.corruption,
            case.severity,
            case.image
        );
        compared.insert(case.corruption.as_str());
    }
    assert_eq!(compared, FIXED.into());
}
