//! Corruptions: what the world does to an image before the network sees it.
//!
//! One image at a time, bytes in and bytes out, as the published sets are stored.
//! The generator is seeded from (study seed, corruption id, severity, image index), so that batching and threads
//! change nothing and every network sees the same bytes.

use rayon::prelude::*;

use crate::catalog::Entry;
use crate::lab::data::Examples;
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

mod box_resize;
mod brightness;
mod color;
mod contrast;
mod defocus_blur;
mod edges;
mod elastic_transform;
mod fog;
mod frost;
mod frost_texture;
mod gaussian_blur;
mod gaussian_filter;
mod gaussian_noise;
mod glass_blur;
#[cfg(test)]
mod golden;
mod impulse_noise;
mod iso_noise;
mod jpeg;
mod jpeg_compression;
mod kernel;
mod motion;
mod motion_blur;
mod named;
mod pixel_dropout;
mod pixelate;
mod plasma;
mod poisson;
mod random_fog;
mod rgb_shift;
mod saturate;
mod shot_noise;
mod snow;
mod spatter;
mod speckle_noise;
mod variant;
mod warp;
mod zoom;
mod zoom_blur;

pub use named::{Named, SETS, Set, USUAL, named, parse};

/// How strong a corruption is, 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(u8);

impl Severity {
    /// All five.
    pub const ALL: [Self; 5] = [Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// 1 to 5.
    pub fn get(self) -> u8 {
        self.0
    }

    /// 0 to 4, for tables of five constants.
    pub fn index(self) -> usize {
        usize::from(self.0 - 1)
    }
}

/// All five severities, for corruptions that have them.
const FIVE: [Option<Severity>; 5] = [
    Some(Severity(1)),
    Some(Severity(2)),
    Some(Severity(3)),
    Some(Severity(4)),
    Some(Severity(5)),
];

/// For corruptions that have one strength.
const ONCE: [Option<Severity>; 1] = [None];

/// A corruption.
pub trait Corruption: Send + Sync {
    /// The severities that it has: five, or nothing but `None`.
    fn severities(&self) -> &'static [Option<Severity>] {
        &FIVE
    }

    /// Whether it is defined on images with three channels alone; other images it leaves as they are.
    fn needs_color(&self) -> bool {
        false
    }

    /// Changes one image, given as `C`, `H`, `W` bytes. One without severities gets any and looks at none.
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng);
}

/// Every corruption, in the order on screen: the fifteen of CIFAR-10-C, its four others, and those that only document 000
/// has.
pub const ALL: &[Entry<dyn Corruption>] = &[
    gaussian_noise::ENTRY,
    shot_noise::ENTRY,
    impulse_noise::ENTRY,
    defocus_blur::ENTRY,
    glass_blur::ENTRY,
    motion_blur::ENTRY,
    zoom_blur::ENTRY,
    snow::ENTRY,
    frost::ENTRY,
    fog::ENTRY,
    brightness::ENTRY,
    contrast::ENTRY,
    elastic_transform::ENTRY,
    pixelate::ENTRY,
    jpeg_compression::ENTRY,
    speckle_noise::ENTRY,
    gaussian_blur::ENTRY,
    spatter::ENTRY,
    saturate::ENTRY,
    iso_noise::ENTRY,
    rgb_shift::ENTRY,
    pixel_dropout::ENTRY,
    random_fog::ENTRY,
];

/// All examples after a corruption: labels and groups as before, the images changed one by one.
///
/// Image number `index` draws from the stream (`seed`, `stream`, severity or 0, `index`), where `stream` is the corruption's
/// condition and `index` counts within `examples`: for the same bytes give every network the same examples.
pub fn corrupted_set(
    corruption: &dyn Corruption,
    stream: &str,
    examples: &Examples,
    severity: Option<Severity>,
    seed: u64,
) -> Examples {
    let mut corrupted = examples.clone();
    let shape = examples.shape;
    let number = severity.map_or(0, |severity| u64::from(severity.get()));
    corrupted
        .images
        .par_chunks_exact_mut(shape.values())
        .enumerate()
        .for_each(|(index, image)| {
            let mut rng = Rng::stream(seed, stream, &[number, index as u64]);
            corruption.corrupt(image, shape, severity.unwrap_or(Severity(1)), &mut rng);
        });
    corrupted
}

/// How far a corruption moved the images: the guard against one that does nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Mean of |after - before| over all values, in grey levels of 255.
    pub mean_absolute_change: f64,
    /// Peak signal-to-noise ratio in decibels, 10 log10(255² / mean squared change); infinite where nothing changed.
    pub psnr: f64,
}

/// How far `after` lies from `before`. Both have the same shape and length.
pub fn effect(before: &Examples, after: &Examples) -> Effect {
    let (sum, squares) = before
        .images
        .iter()
        .zip(&after.images)
        .map(|(&x, &y)| u64::from(x.abs_diff(y)))
        .fold((0_u64, 0_u64), |(sum, squares), change| {
            (sum + change, squares + change * change)
        });
    let count = before.images.len().max(1) as f64;
    Effect {
        mean_absolute_change: sum as f64 / count,
        psnr: 10.0 * (255.0 * 255.0 * count / squares as f64).log10(),
    }
}

/// A value in grey levels as a byte: clipped to 0 to 255, then truncated, as NumPy's `astype(uint8)` does.
///
/// Deviation: a value less than 1e-6 below a whole number counts as that number. The published code computes in
/// [0, 1], where 151 can come out as 150.99999999999997; which one it is would depend on the order of the operations.
fn truncated(value: f64) -> u8 {
    (value + 1e-6).clamp(0.0, 255.0) as u8
}

/// A value in grey levels as a byte: rounded and clipped, where nothing published wants it truncated.
fn rounded(value: f64) -> u8 {
    value.round() as u8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalog::Range;
    use crate::spec::{KnobValue, Method};

    /// Smooth, with edges, neither black nor white everywhere.
    fn picture(shape: ImageShape, count: usize) -> Examples {
        let mut images = Vec::new();
        for n in 0..count {
            for c in 0..shape.channels {
                for y in 0..shape.height {
                    for x in 0..shape.width {
                        let edge = if (x / 4 + y / 5 + n) % 2 == 0 {
                            120
                        } else {
                            20
                        };
                        images.push((edge + 3 * x + 2 * y + 9 * c) as u8);
                    }
                }
            }
        }
        Examples {
            shape,
            images,
            labels: (0..count as u32).collect(),
            groups: vec![1; count],
        }
    }

    const GREY: ImageShape = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    const COLOR: ImageShape = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };

    /// Every corruption in every variant, with its condition.
    fn each(mut check: impl FnMut(&str, &dyn Corruption)) {
        for entry in ALL {
            let mut methods = vec![Method::plain(&*entry.info.id)];
            for knob in entry.knobs {
                let Range::Choice { options, default } = &knob.range else {
                    panic!("{} is no choice", knob.id);
                };
                for option in options.iter().filter(|option| option != &default) {
                    let value = KnobValue::Choice(option.to_string());
                    let mut method = Method::plain(&*entry.info.id);
                    method.setting = method.setting.with(&knob.id, value);
                    methods.push(method);
                }
            }
            for method in methods {
                let named = named(&method).unwrap();
                check(&named.condition, &*named.corruption);
            }
        }
    }

    #[test]
    fn ids_are_kebab_case_and_different_and_every_file_is_in_the_table() {
        let ids: BTreeSet<&str> = ALL.iter().map(|entry| entry.info.id.as_ref()).collect();
        assert_eq!(ids.len(), ALL.len());
        for entry in ALL {
            let id = &entry.info.id;
            assert!(
                id.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{id}"
            );
            assert!(!entry.info.reference.is_empty(), "{id}");
            assert!(!entry.info.summary.is_empty(), "{id}");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/corruption");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.is_file())
            .filter(|path| {
                let text = std::fs::read_to_string(path).unwrap();
                text.contains("const ENTRY: Entry<dyn Corruption>")
            })
            .map(|path| {
                path.file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .replace('_', "-")
            })
            .collect();
        assert_eq!(files, ids.into_iter().map(str::to_owned).collect());
    }

    #[test]
    fn shape_and_labels_are_kept_at_any_size() {
        for (channels, height, width) in [
            (1, 28, 28),
            (3, 32, 32),
            (1, 1, 1),
            (3, 1, 1),
            (3, 2, 1),
            (1, 3, 7),
            (2, 5, 4),
            (3, 40, 23),
            (3, 1, 90),
        ] {
            let shape = ImageShape {
                channels,
                height,
                width,
            };
            let before = picture(shape, 3);
            each(|id, corruption| {
                for severity in corruption.severities() {
                    let after = corrupted_set(corruption, id, &before, *severity, 1);
                    assert_eq!(after.images.len(), before.images.len(), "{id}");
                    assert_eq!((after.shape, &after.labels), (shape, &before.labels));
                    assert_eq!(after.groups, before.groups);
                    let is_left = channels != 3 && corruption.needs_color();
                    assert!(!is_left || after == before, "{id}");
                }
            });
        }
    }

    #[test]
    fn black_and_white_images_are_no_trouble() {
        let shape = COLOR;
        for level in [0, 255] {
            let mut before = picture(shape, 2);
            before.images.fill(level);
            each(|id, corruption| {
                for severity in corruption.severities() {
                    let after = corrupted_set(corruption, id, &before, *severity, 1);
                    assert_eq!(after.images.len(), before.images.len(), "{id}");
                }
            });
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_whatever_the_threads_and_neighbors() {
        let before = picture(COLOR, 9);
        each(|id, corruption| {
            let severity = *corruption.severities().last().unwrap();
            let here = corrupted_set(corruption, id, &before, severity, 7);
            let alone = rayon::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .unwrap()
                .install(|| corrupted_set(corruption, id, &before, severity, 7));
            assert_eq!(here, alone, "{id}");
            let first = corrupted_set(
                corruption,
                id,
                &before.clone().limited(Some(2)),
                severity,
                7,
            );
            assert_eq!(first.images, here.images[..first.images.len()], "{id}");
        });
    }

    #[test]
    fn another_seed_changes_what_is_random_and_nothing_else() {
        let before = picture(COLOR, 4);
        each(|id, corruption| {
            let severity = *corruption.severities().last().unwrap();
            let set = |seed| corrupted_set(corruption, id, &before, severity, seed);
            let is_fixed = [
                "defocus-blur",
                "zoom-blur",
                "brightness",
                "contrast",
                "pixelate",
                "jpeg-compression",
                "gaussian-blur",
                "saturate",
                // Nothing at this size.
                "random-fog:published",
            ]
            .contains(&id);
            assert_eq!(set(1) != set(2), !is_fixed, "{id}");
        });
    }

    #[test]
    fn every_severity_has_an_effect_and_five_moves_further_than_one() {
        let mut wrong = Vec::new();
        for shape in [GREY, COLOR] {
            let before = picture(shape, 20);
            each(|id, corruption| {
                if shape.channels != 3 && corruption.needs_color() {
                    return;
                }
                let severities = corruption.severities().iter();
                let moved: Vec<Effect> = severities
                    .map(|severity| {
                        let after = corrupted_set(corruption, id, &before, *severity, 3);
                        effect(&before, &after)
                    })
                    .collect();
                let change = |place: usize| moved[place].mean_absolute_change;
                // At this size the published fog draws nothing at all.
                let has_effect = if id == "random-fog:published" {
                    change(0) == 0.0
                } else {
                    change(0) > 0.1
                };
                // Elastic transforms trade shearing for stretching, frost dims what it has brightened, and saturation is
                // lowered before it is raised: further from the image there is another image, not more of a change.
                let may_turn = ["elastic-transform", "frost", "saturate"].contains(&id);
                let grows = moved.len() == 1
                    || may_turn
                    || (change(4) > 1.2 * change(0) && moved[4].psnr < moved[0].psnr);
                if !(has_effect && grows) {
                    wrong.push(format!("{id} {shape:?}: {moved:?}"));
                }
            });
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_variant_has_a_stream_of_its_own() {
        let method = parse("pixel-dropout:published");
        assert_eq!(named(&method).unwrap().condition, "pixel-dropout:published");
        let same = parse("pixel-dropout:corrected");
        assert_eq!(named(&same).unwrap().condition, "pixel-dropout");
    }

    #[test]
    fn the_effect_of_a_known_change() {
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 2,
        };
        let set = |images: Vec<u8>| Examples {
            shape,
            images,
            labels: vec![0, 0],
            groups: Vec::new(),
        };
        let before = set(vec![0, 10, 20, 30]);
        // Changes 3, 0, 0, 1: mean 1, mean square 2.5; 10 log10(65025 / 2.5) = 44.1514.
        let moved = effect(&before, &set(vec![3, 10, 20, 29]));
        assert_eq!(moved.mean_absolute_change, 1.0);
        assert!((moved.psnr - 44.151_4).abs() < 1e-4, "{moved:?}");
        assert_eq!(effect(&before, &before).psnr, f64::INFINITY);
    }

    #[test]
    fn bytes_are_truncated_not_rounded() {
        let bytes = [-3.0, 0.99, 150.999_999_999_999_97, 150.99, 255.9, 300.0].map(truncated);
        assert_eq!(bytes, [0, 0, 151, 150, 255, 255]);
    }
}
