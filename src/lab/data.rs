//! Data sets: images as bytes, labels, and how they are split.
//!
//! Images are kept as they are published, one byte a value, channel by channel (`C`, `H`, `W`), and become `f32` in
//! [0, 1] batch by batch. Nothing is ever chosen on the test images: what needs choosing uses the validation split.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::catalog::Entry;
use crate::event::Warning;
use crate::lab::error::Result;
use crate::nn::ImageShape;
use crate::nn::rng::Rng;
use crate::spec::{Method, Setting};

mod cifar10;
mod cifar100;
mod cifar_binary;
mod fashion_mnist;
pub mod fetch;
mod file;
mod glyphs;
mod idx;
mod image_folder;
mod mnist;
pub mod official_corruptions;
pub mod remote;
mod resize;
mod usps;
pub mod verify;

pub use resize::enlarged;

/// Some labelled images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examples {
    pub shape: ImageShape,
    /// `n` images after one another, each `C`, `H`, `W`.
    pub images: Vec<u8>,
    /// One label an image, below the number of classes.
    pub labels: Vec<u32>,
    /// One group an image, or empty where the data set has none.
    pub groups: Vec<u8>,
}

impl Examples {
    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The bytes of one image.
    pub fn image(&self, index: usize) -> &[u8] {
        let values = self.shape.values();
        &self.images[index * values..(index + 1) * values]
    }

    /// The images of these indices, in this order.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut images = Vec::with_capacity(indices.len() * self.shape.values());
        for &index in indices {
            images.extend_from_slice(self.image(index));
        }
        Self {
            shape: self.shape,
            images,
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            groups: if self.groups.is_empty() {
                Vec::new()
            } else {
                indices.iter().map(|&index| self.groups[index]).collect()
            },
        }
    }

    /// The first `limit` images, or all.
    pub fn limited(self, limit: Option<u32>) -> Self {
        match limit {
            Some(limit) if (limit as usize) < self.len() => {
                let first: Vec<usize> = (0..limit as usize).collect();
                self.select(&first)
            }
            _ => self,
        }
    }

    /// Mean and standard deviation of each channel's values in [0, 1], for the network's first layer.
    pub fn mean_and_deviation(&self) -> (Vec<f32>, Vec<f32>) {
        let plane = self.shape.height * self.shape.width;
        let mut sums = vec![(0_u64, 0_u64); self.shape.channels];
        for (index, values) in self.images.chunks_exact(plane).enumerate() {
            let (sum, squares) = &mut sums[index % self.shape.channels];
            for &value in values {
                *sum += u64::from(value);
                *squares += u64::from(value) * u64::from(value);
            }
        }
        let count = (self.len() * plane).max(1) as f64;
        sums.iter()
            .map(|&(sum, squares)| {
                let mean = sum as f64 / count;
                let variance = (squares as f64 / count - mean * mean).max(0.0);
                // A channel without contrast is left as it is.
                let deviation = if variance > 0.0 {
                    variance.sqrt() / 255.0
                } else {
                    1.0
                };
                ((mean / 255.0) as f32, deviation as f32)
            })
            .unzip()
    }

    /// A fixed subset of at most `n` images with every class in its share, in ascending order of index.
    ///
    /// The count of each class is its share of `n`, rounded by largest remainders.
    pub fn stratified(&self, n: usize, seed: u64) -> Vec<usize> {
        if n >= self.len() {
            return (0..self.len()).collect();
        }
        let mut classes = self.by_class();
        let counts = shares(&classes, n);
        let mut chosen = Vec::with_capacity(n);
        for (class, members) in classes.iter_mut().enumerate() {
            Rng::stream(seed, "stratified", &[class as u64]).shuffle(members);
            chosen.extend_from_slice(&members[..counts[class]]);
        }
        chosen.sort_unstable();
        chosen
    }

    /// Indices by class.
    fn by_class(&self) -> Vec<Vec<usize>> {
        let classes = self
            .labels
            .iter()
            .max()
            .map_or(0, |&most| most as usize + 1);
        let mut members = vec![Vec::new(); classes];
        for (index, &label) in self.labels.iter().enumerate() {
            members[label as usize].push(index);
        }
        members
    }
}

/// How many of each class when there are `n` of all: its share, rounded by largest remainders.
fn shares(classes: &[Vec<usize>], n: usize) -> Vec<usize> {
    let all: usize = classes.iter().map(Vec::len).sum();
    let exact: Vec<f64> = classes
        .iter()
        .map(|members| members.len() as f64 * n as f64 / all.max(1) as f64)
        .collect();
    let mut counts: Vec<usize> = exact.iter().map(|share| share.floor() as usize).collect();
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by(|&a, &b| {
        (exact[b].fract())
            .total_cmp(&exact[a].fract())
            .then(a.cmp(&b))
    });
    let missing = n - counts.iter().sum::<usize>();
    for &class in order.iter().take(missing) {
        counts[class] += 1;
    }
    counts
}

/// A data set as its source delivers it.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub train: Examples,
    pub test: Examples,
    /// Names of the classes, in the order of the labels.
    pub classes: Vec<String>,
    /// Names of the groups, or empty.
    pub groups: Vec<String>,
    /// What should be known about it: an incomplete training set.
    pub warnings: Vec<Warning>,
}

impl Dataset {
    /// SHA-256 over shape, images, labels of both parts, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        self.train.hash(&mut hash);
        self.test.hash(&mut hash);
        hexadecimal(&hash.finalize())
    }
}

impl Examples {
    /// SHA-256 over shape, images and labels, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        self.hash(&mut hash);
        hexadecimal(&hash.finalize())
    }

    fn hash(&self, hash: &mut Sha256) {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        for side in [channels, height, width, self.len()] {
            hash.update((side as u64).to_le_bytes());
        }
        hash.update(&self.images);
        for label in &self.labels {
            hash.update(label.to_le_bytes());
        }
    }
}

/// How many of so many training images validate: a tenth, rounded, halves upward.
fn validating(images: usize) -> usize {
    (images + 5) / 10
}

/// Which training images are trained on and which validate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
}

impl Split {
    /// The last tenth of a seeded shuffle validates, class by class, so that every class has its share in both parts.
    ///
    /// The tenth is that of all images, rounded; that of each class is rounded by largest remainders.
    pub fn new(examples: &Examples, seed: u64) -> Self {
        let mut split = Self {
            train: Vec::new(),
            validation: Vec::new(),
        };
        let classes = examples.by_class();
        let validating = shares(&classes, validating(examples.len()));
        for (class, (mut members, taken)) in classes.into_iter().zip(validating).enumerate() {
            Rng::stream(seed, "split", &[class as u64]).shuffle(&mut members);
            let kept = members.len() - taken;
            split.validation.extend_from_slice(&members[kept..]);
            members.truncate(kept);
            split.train.extend_from_slice(&members);
        }
        split.train.sort_unstable();
        split.validation.sort_unstable();
        split
    }
}

/// How large a data set officially is, known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub train: u64,
    pub test: u64,
    pub shape: ImageShape,
    pub classes: usize,
}

/// Where a data set comes from.
pub trait Source {
    /// How large it officially is.
    fn extent(&self) -> Extent;

    /// Reads or draws it. `folders` are the places to look, in order; each holds one folder per data set.
    ///
    /// # Errors
    /// Names the file and what was wrong with it, or the folders where it was not found.
    fn load(&self, folders: &[PathBuf]) -> Result<Dataset>;

    /// The names of its classes, known without reading its images; none where they are not.
    fn class_names(&self) -> Vec<String>;

    /// What is wrong with where its files are said to be, before anything runs; nothing where that is not known yet.
    ///
    /// # Errors
    /// One sentence that names the knob.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The data sets that are other domains of this one, which has these knobs.
    fn siblings(&self, _setting: &Setting) -> Vec<Method> {
        Vec::new()
    }

    /// Whether another domain's networks are asked with all of its images, since nobody published a split.
    fn is_asked_whole(&self) -> bool {
        false
    }
}

/// Every data set, in the order on screen.
pub const ALL: &[Entry<dyn Source>] = &[
    glyphs::ENTRY,
    mnist::ENTRY,
    fashion_mnist::ENTRY,
    usps::ENTRY,
    cifar10::ENTRY,
    cifar100::ENTRY,
    image_folder::ENTRY,
];

/// The folders in which data sets are looked for, in order; each holds one folder per data set, named by its id.
///
/// First the one asked for, then what `SHRINKLAB_DATA` names, then the platform's own data folder.
pub fn folders(data_dir: Option<&Path>) -> Vec<PathBuf> {
    let from_environment = std::env::var_os("SHRINKLAB_DATA")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let of_platform = directories::ProjectDirs::from("", "", "shrinklab")
        .map(|project| project.data_dir().join("data"));
    data_dir
        .map(Path::to_path_buf)
        .into_iter()
        .chain(from_environment)
        .chain(of_platform)
        .collect()
}

/// Bytes as hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("half a byte is below 16");
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Images of one pixel: label `i % 3`, but every tenth is of class 3.
    fn examples(n: usize) -> Examples {
        Examples {
            shape: ImageShape {
                channels: 1,
                height: 1,
                width: 1,
            },
            images: (0..n).map(|i| i as u8).collect(),
            labels: (0..n)
                .map(|i| if i % 10 == 9 { 3 } else { (i % 3) as u32 })
                .collect(),
            groups: (0..n).map(|i| (i % 2) as u8).collect(),
        }
    }

    #[test]
    fn ids_are_kebab_case_and_different_and_every_file_is_in_the_table() {
        let ids: BTreeSet<&str> = ALL.iter().map(|entry| entry.info.id.as_ref()).collect();
        assert_eq!(ids.len(), ALL.len());
        for entry in ALL {
            let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(entry.info.id.chars().all(is_kebab), "{}", entry.info.id);
            assert!(!entry.info.reference.is_empty(), "{}", entry.info.id);
            assert!(["built-in", "files", "folder"].contains(&entry.info.family.as_ref()));
        }
        let shared = [
            "cifar_binary",
            "fetch",
            "file",
            "idx",
            "official_corruptions",
            "remote",
            "resize",
            "verify",
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/data");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
            .filter(|name| !shared.contains(&name.as_str()))
            .map(|name| name.replace('_', "-"))
            .collect();
        assert_eq!(files, ids.into_iter().map(str::to_owned).collect());
    }

    #[test]
    fn a_split_is_seeded_complete_and_has_a_tenth_of_every_class() {
        let all = examples(200);
        let split = Split::new(&all, 7);
        assert_eq!(split, Split::new(&all, 7));
        assert_ne!(split, Split::new(&all, 8));
        let both: BTreeSet<usize> = split
            .train
            .iter()
            .chain(&split.validation)
            .copied()
            .collect();
        assert_eq!(both.len(), 200);
        assert_eq!(split.train.len() + split.validation.len(), 200);
        for class in 0..4 {
            let of_class =
                |part: &[usize]| part.iter().filter(|&&i| all.labels[i] == class).count();
            let n = of_class(&split.train) + of_class(&split.validation);
            assert_eq!(of_class(&split.validation), n / 10);
        }
    }

    /// Of 300 images in classes of 28 to 32 rounding down would leave 25 to validate.
    #[test]
    fn a_tenth_of_all_validates_whatever_the_sizes_of_the_classes() {
        let sizes = [28, 29, 29, 30, 30, 30, 30, 31, 31, 32];
        let labels: Vec<u32> = (0..10)
            .flat_map(|class| std::iter::repeat_n(class, sizes[class as usize]))
            .collect();
        for n in [300, 297, 294, 149, 95, 20] {
            let mut all = examples(n);
            // Spread over the classes.
            all.labels = (0..n).map(|i| labels[i * 300 / n]).collect();
            let split = Split::new(&all, 7);
            assert_eq!(split.validation.len(), (n as f64 / 10.0).round() as usize);
            assert_eq!(split.train.len() + split.validation.len(), n);
            for class in 0..10 {
                let of_class =
                    |part: &[usize]| part.iter().filter(|&&i| all.labels[i] == class).count();
                let taken = of_class(&split.validation);
                let members = taken + of_class(&split.train);
                let exact = (members * split.validation.len()) as f64 / n as f64;
                assert!((taken as f64 - exact).abs() < 1.0, "{taken} of {members}");
            }
        }
    }

    #[test]
    fn a_stratified_subset_has_every_class_in_its_share() {
        let all = examples(200);
        let chosen = all.stratified(50, 3);
        assert_eq!(chosen.len(), 50);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        assert_eq!(chosen, all.stratified(50, 3));
        assert_ne!(chosen, all.stratified(50, 4));
        // Of 200: 60, 60, 60, 20; a quarter of each.
        let part = all.select(&chosen);
        let count = |class| part.labels.iter().filter(|&&label| label == class).count();
        assert_eq!([0, 1, 2, 3].map(count), [15, 15, 15, 5]);
        assert_eq!(all.stratified(500, 3).len(), 200);
    }

    #[test]
    fn mean_and_deviation_of_known_values() {
        let two_channels = Examples {
            shape: ImageShape {
                channels: 2,
                height: 1,
                width: 2,
            },
            images: vec![0, 255, 51, 51, 255, 0, 51, 51],
            labels: vec![0, 1],
            groups: Vec::new(),
        };
        let (mean, deviation) = two_channels.mean_and_deviation();
        assert_eq!(mean, [0.5, 0.2]);
        // The second channel has no contrast.
        assert_eq!(deviation, [0.5, 1.0]);
    }

    #[test]
    fn the_digest_notices_images_labels_and_shape() {
        let data = |train: Examples| Dataset {
            train,
            test: examples(5),
            classes: Vec::new(),
            groups: Vec::new(),
            warnings: Vec::new(),
        };
        let digest = data(examples(8)).digest();
        assert_eq!(digest, data(examples(8)).digest());
        assert_eq!(digest.len(), 64);
        let mut other = examples(8);
        other.images[3] ^= 1;
        assert_ne!(digest, data(other).digest());
        let mut other = examples(8);
        other.labels[3] ^= 1;
        assert_ne!(digest, data(other).digest());
    }

    #[test]
    fn bytes_become_hexadecimal_digits() {
        assert_eq!(hexadecimal(&[0, 0x9f, 0xa0, 255]), "009fa0ff");
    }
}
