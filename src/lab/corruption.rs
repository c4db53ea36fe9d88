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

mod brightness;
mod contrast;
mod defocus_blur;
mod gaussian_noise;
mod kernel;
mod pixel_dropout;

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

/// A corruption.
pub trait Corruption: Send + Sync {
    /// Changes one image, given as `C`, `H`, `W` bytes.
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng);
}

/// Every corruption, in the order on screen.
pub const ALL: &[Entry<dyn Corruption>] = &[
    gaussian_noise::ENTRY,
    defocus_blur::ENTRY,
    brightness::ENTRY,
    contrast::ENTRY,
    pixel_dropout::ENTRY,
];

/// All examples after a corruption: labels and groups as before, the images changed one by one.
///
/// Image number `index` draws from the stream (`seed`, `id`, severity, `index`), where `index` counts within `examples`:
/// for the same bytes give every network the same examples.
pub fn corrupted_set(
    corruption: &dyn Corruption,
    id: &str,
    examples: &Examples,
    severity: Severity,
    seed: u64,
) -> Examples {
    let mut corrupted = examples.clone();
    let shape = examples.shape;
    corrupted
        .images
        .par_chunks_exact_mut(shape.values())
        .enumerate()
        .for_each(|(index, image)| {
            let mut rng = Rng::stream(seed, id, &[u64::from(severity.get()), index as u64]);
            corruption.corrupt(image, shape, severity, &mut rng);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::spec::Setting;

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

    fn each(mut check: impl FnMut(&str, &dyn Corruption)) {
        for entry in ALL {
            let corruption = (entry.build)(&Setting::default());
            check(&entry.info.id, corruption.as_ref());
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
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "kernel.rs")
            .map(|name| name.trim_end_matches(".rs").replace('_', "-"))
            .collect();
        assert_eq!(files, ids.into_iter().map(str::to_owned).collect());
    }

    #[test]
    fn shape_and_labels_are_kept_at_any_size() {
        for (channels, height, width) in [
            (1, 28, 28),
            (3, 32, 32),
            (1, 1, 1),
            (3, 2, 1),
            (1, 3, 7),
            (2, 5, 4),
        ] {
            let shape = ImageShape {
                channels,
                height,
                width,
            };
            let before = picture(shape, 3);
            each(|id, corruption| {
                for severity in Severity::ALL {
                    let after = corrupted_set(corruption, id, &before, severity, 1);
                    assert_eq!(after.images.len(), before.images.len(), "{id}");
                    assert_eq!((after.shape, &after.labels), (shape, &before.labels));
                    assert_eq!(after.groups, before.groups);
                }
            });
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_whatever_the_threads_and_neighbors() {
        let before = picture(COLOR, 9);
        each(|id, corruption| {
            let severity = Severity::ALL[2];
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
        let before = picture(GREY, 4);
        each(|id, corruption| {
            let set = |seed| corrupted_set(corruption, id, &before, Severity::ALL[4], seed);
            let is_random = ["gaussian-noise", "pixel-dropout"].contains(&id);
            assert_eq!(set(1) != set(2), is_random, "{id}");
        });
    }

    #[test]
    fn every_severity_has_an_effect_and_five_moves_further_than_one() {
        for shape in [GREY, COLOR] {
            let before = picture(shape, 20);
            each(|id, corruption| {
                let moved = Severity::ALL.map(|severity| {
                    let after = corrupted_set(corruption, id, &before, severity, 3);
                    effect(&before, &after)
                });
                assert!(moved[0].mean_absolute_change > 0.1, "{id}: {moved:?}");
                assert!(
                    moved[4].mean_absolute_change > 1.5 * moved[0].mean_absolute_change,
                    "{id}: {moved:?}"
                );
                assert!(moved[4].psnr < moved[0].psnr, "{id}: {moved:?}");
            });
        }
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
