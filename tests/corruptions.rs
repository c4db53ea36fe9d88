//! Corruptions against OpenCV, scikit-image and NumPy: tests/fixtures/corruptions.json, made by make_corruptions.py.

use std::collections::BTreeMap;

use serde::Deserialize;
use shrinklab::lab::corruption::{ALL, Severity, corrupted_set};
use shrinklab::lab::data::Examples;
use shrinklab::nn::ImageShape;
use shrinklab::spec::Setting;

#[derive(Deserialize)]
struct Fixture {
    images: BTreeMap<String, Image>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Image {
    shape: [usize; 3],
    values: Vec<u8>,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    corruption: String,
    severity: u8,
    after: Vec<u8>,
}

#[test]
fn bytes_are_those_of_independent_programs() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/corruptions.json")).unwrap();
    assert_eq!(fixture.cases.len(), 45);
    for case in &fixture.cases {
        let image = &fixture.images[&case.image];
        let [channels, height, width] = image.shape;
        let before = Examples {
            shape: ImageShape {
                channels,
                height,
                width,
            },
            images: image.values.clone(),
            labels: vec![0],
            groups: Vec::new(),
        };
        let entry = ALL
            .iter()
            .find(|entry| entry.info.id == case.corruption)
            .unwrap();
        let severity = Severity::ALL
            .into_iter()
            .find(|severity| severity.get() == case.severity)
            .unwrap();
        let corruption = (entry.build)(&Setting::default());
        let after = corrupted_set(corruption.as_ref(), &entry.info.id, &before, severity, 0);
        assert_eq!(
            after.images, case.after,
            "{} {} of {}",
            case.corruption, case.severity, case.image
        );
    }
}
