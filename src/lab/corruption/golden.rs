//! Bytes from the programs that published the corruptions, given what they drew: tests/fixtures/corruptions.json, made by
//! make_corruptions.py, which names the programs and their versions.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::gaussian_noise::noisy;
use super::iso_noise::grained;
use super::pixel_dropout::dropped;
use super::plasma::plasma;
use super::rgb_shift::shifted;
use super::{
    Severity, elastic_transform, fog, frost, glass_blur, motion_blur, random_fog, snow, spatter,
    truncated,
};
use crate::nn::ImageShape;

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
    #[serde(default)]
    numbers: Vec<f64>,
    #[serde(default)]
    field: Vec<f64>,
    #[serde(default)]
    digits: String,
    #[serde(default)]
    bytes: String,
    /// In 32nds.
    #[serde(default)]
    normals: String,
    /// In 256ths from 0.
    #[serde(default)]
    shares: String,
    /// In 128ths.
    #[serde(default)]
    moves: String,
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pairs = hexadecimal.as_bytes().chunks_exact(2);
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(pair).collect()
}

/// The image under what was drawn for it; nothing for a corruption that draws nothing, which tests/corruptions.rs has.
fn corrupted(case: &Case, image: &Image) -> Option<Vec<u8>> {
    let [channels, height, width] = image.shape;
    let shape = ImageShape {
        channels,
        height,
        width,
    };
    let mut after = bytes(&image.values);
    let image = &mut after;
    let all = Severity::ALL.into_iter();
    let severity = all
        .clone()
        .find(|severity| severity.get() == case.severity)
        .unwrap_or(Severity::ALL[0]);
    let (numbers, field) = (&case.numbers, &case.field);
    let steps = |written: &str, each: f64| -> Vec<f64> {
        let of = |byte| (f64::from(byte) - 128.0) / each;
        bytes(written).into_iter().map(of).collect()
    };
    let normals = steps(&case.normals, 32.0);
    let digits: Vec<usize> = case
        .digits
        .bytes()
        .map(|digit| usize::from(digit - b'0'))
        .collect();
    let mut drawn = 0;
    let mut next = || {
        drawn += 1;
        drawn - 1
    };
    match case.corruption.as_str() {
        "glass-blur" => glass_blur::shattered(image, shape, severity, &mut |_| digits[next()]),
        "motion-blur" => motion_blur::smeared(image, shape, severity, numbers[0]),
        "snow" => snow::snowed(image, shape, severity, &normals, numbers[0]),
        "frost" => {
            let texture = bytes(&case.bytes);
            frost::frosted(image, shape, severity, |y, x| {
                let start = 3 * (y * width + x);
                [texture[start], texture[start + 1], texture[start + 2]]
            });
        }
        "fog" => {
            let decay = [3.0, 3.0, 2.5, 2.0, 1.75][severity.index()];
            let shares = steps(&case.shares, 256.0);
            let clouds = plasma(32, decay, &mut || shares[next()] + 0.5);
            fog::fogged(image, shape, severity, &clouds, 32);
        }
        "elastic-transform" => {
            let both = steps(&case.moves, 128.0);
            let (right, down) = both.split_at(height * width);
            let moves = numbers.as_slice().try_into().unwrap();
            let fields = [right.to_vec(), down.to_vec()];
            elastic_transform::stretched(image, shape, severity, moves, fields);
        }
        "spatter" => spatter::spattered(image, shape, severity, &normals),
        "gaussian-noise:published" => noisy(image, 1.0, &mut || field[next()]),
        "iso-noise:published" => grained(image, numbers, field, truncated),
        "rgb-shift:published" => {
            shifted(image, numbers.as_slice().try_into().unwrap(), truncated);
        }
        "pixel-dropout:published" => dropped(image, shape, &mut || digits[next()] == 1),
        "random-fog:published" => {
            let density = numbers[0];
            let mut place = 1;
            let disks = random_fog::disks(height, width, density, &mut |low, high| {
                let drawn = numbers[place] as i64;
                assert!((low..=high).contains(&drawn), "{low} {drawn} {high}");
                place += 1;
                drawn
            });
            assert_eq!(place, numbers.len());
            random_fog::fogged(image, shape, density, &disks);
        }
        _ => return None,
    }
    Some(after)
}

#[test]
fn given_what_was_drawn_the_bytes_are_those_of_the_published_programs() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../../../tests/fixtures/corruptions.json")).unwrap();
    let mut compared: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &fixture.cases {
        let image = &fixture.images[&case.image];
        let Some(found) = corrupted(case, image) else {
            continue;
        };
        let expected = bytes(&case.after);
        assert_eq!(found.len(), expected.len());
        let differences = || found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
        let most = differences().max().unwrap();
        let several = differences().filter(|difference| *difference > 0).count();
        let (values, differing) = compared.entry(&case.corruption).or_default();
        *values += found.len();
        *differing += several;
        // Single precision on their side may fall on the other side of a whole number, and OpenCV's blur over 2x2 pixels
        // rounds quarters up.
        if most > 1 || several * 40 > found.len() {
            wrong.push(format!(
                "{} {} of {}: {several} of {} differ, by up to {most}",
                case.corruption,
                case.severity,
                case.image,
                found.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(compared.len(), 12, "{compared:?}");
}
