//! The binary layout of CIFAR-10 and CIFAR-100.
//!
//! Records of label bytes (one for CIFAR-10; coarse and fine for CIFAR-100) and 3,072 bytes of image: 32x32 red, then
//! green, then blue, row by row. The number of records follows from the file's size.
//! Krizhevsky 2009, "Learning multiple layers of features from tiny images".

use std::path::{Path, PathBuf};

use super::file::{Content, MOST_BYTES, by_fetching, completeness, missing, wrong};
use super::{Dataset, Examples};
use crate::lab::error::Result;
use crate::nn::ImageShape;

/// A data set in the binary layout.
pub(super) struct CifarSet {
    pub(super) id: &'static str,
    /// The folder that the official archive unpacks to.
    pub(super) unpacked: &'static str,
    /// What each label byte must stay below; the last one is the class.
    pub(super) labels: &'static [(&'static str, usize)],
    pub(super) classes: &'static [&'static str],
    pub(super) train: TrainFiles,
    pub(super) test: &'static str,
}

/// How the training files are called.
pub(super) enum TrainFiles {
    /// One file.
    One(&'static str),
    /// Any number of files: what comes before the number, and after it.
    Numbered(&'static str, &'static str),
}

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

/// Official numbers of training and test images, the same for both sets.
const OFFICIAL: (usize, usize) = (50_000, 10_000);

impl CifarSet {
    /// Reads the set from the first folder that has any of its files.
    pub(super) fn load(&self, folders: &[PathBuf]) -> Result<Dataset> {
        for folder in folders {
            let directory = folder.join(self.id);
            for directory in [directory.clone(), directory.join(self.unpacked)] {
                let train = self.training_files(&directory);
                let test = directory.join(self.test);
                match (train.is_empty(), test.is_file()) {
                    (true, false) => {}
                    (false, true) => return self.read(&train, &test),
                    (true, true) => {
                        let name = match self.train {
                            TrainFiles::One(name) => name.to_owned(),
                            TrainFiles::Numbered(before, after) => format!("{before}1{after}"),
                        };
                        return Err(wrong(&directory, format!("{name} is missing")));
                    }
                    (false, false) => {
                        return Err(wrong(&directory, format!("{} is missing", self.test)));
                    }
                }
            }
        }
        Err(missing(self.id, folders, &by_fetching(self.id)))
    }

    /// The training files that are there, in the order of their numbers.
    fn training_files(&self, directory: &Path) -> Vec<PathBuf> {
        match self.train {
            TrainFiles::One(name) => {
                let path = directory.join(name);
                if path.is_file() {
                    vec![path]
                } else {
                    Vec::new()
                }
            }
            TrainFiles::Numbered(before, after) => {
                let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(directory)
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| {
                        let path = entry.ok()?.path();
                        let name = path.file_name()?.to_str()?;
                        let number = name.strip_prefix(before)?.strip_suffix(after)?;
                        Some((number.parse().ok()?, path))
                    })
                    .collect();
                found.sort();
                found.into_iter().map(|(_, path)| path).collect()
            }
        }
    }

    fn read(&self, train_paths: &[PathBuf], test_path: &Path) -> Result<Dataset> {
        let mut train = Examples {
            shape: SHAPE,
            images: Vec::new(),
            labels: Vec::new(),
            groups: Vec::new(),
        };
        let mut test = train.clone();
        for path in train_paths {
            self.append(path, &mut train)?;
        }
        self.append(test_path, &mut test)?;
        let warnings = completeness(self.id, &train, &test, OFFICIAL);
        Ok(Dataset {
            train,
            test,
            classes: self.classes.iter().map(|&name| name.to_owned()).collect(),
            groups: Vec::new(),
            warnings,
        })
    }

    fn append(&self, path: &Path, examples: &mut Examples) -> Result<()> {
        let record = self.labels.len() + SHAPE.values();
        let bytes = Content::open(path)?.read_up_to(MOST_BYTES + 1)?;
        if bytes.is_empty() || bytes.len() % record != 0 || bytes.len() as u64 > MOST_BYTES {
            return Err(wrong(
                path,
                format!(
                    "is {} bytes long; a whole number of records of {record} bytes is needed, at least one and at most {}",
                    bytes.len(),
                    MOST_BYTES / record as u64
                ),
            ));
        }
        for (place, record) in bytes.chunks_exact(record).enumerate() {
            let (labels, image) = record.split_at(self.labels.len());
            for (&label, &(kind, limit)) in labels.iter().zip(self.labels) {
                if usize::from(label) >= limit {
                    return Err(wrong(
                        path,
                        format!(
                            "{kind} {label} of record {place} is out of range; 0 to {} is allowed",
                            limit - 1
                        ),
                    ));
                }
            }
            let class = labels.last().expect("a record has at least one label");
            examples.labels.push(u32::from(*class));
            examples.images.extend_from_slice(image);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Warning;

    fn set() -> CifarSet {
        CifarSet {
            id: "tiny",
            unpacked: "tiny-bin",
            labels: &[("coarse label", 2), ("fine label", 3)],
            classes: &["a", "b", "c"],
            train: TrainFiles::Numbered("batch_", ".bin"),
            test: "test.bin",
        }
    }

    fn records(labels: &[(u8, u8)]) -> Vec<u8> {
        labels
            .iter()
            .flat_map(|&(coarse, fine)| {
                let mut record = vec![coarse, fine];
                record.extend((0..3072).map(|value| (value / 1024) as u8 * 10 + fine));
                record
            })
            .collect()
    }

    fn folder(sub: &str, files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(sub);
        std::fs::create_dir_all(&place).unwrap();
        for (name, bytes) in files {
            std::fs::write(place.join(name), bytes).unwrap();
        }
        folder
    }

    fn load(folder: &tempfile::TempDir) -> Result<Dataset> {
        set().load(&[folder.path().to_path_buf()])
    }

    #[test]
    fn batches_are_read_in_the_order_of_their_numbers_and_counted_by_size() {
        for sub in ["tiny", "tiny/tiny-bin"] {
            let folder = folder(
                sub,
                &[
                    ("batch_10.bin", records(&[(0, 1)])),
                    ("batch_2.bin", records(&[(1, 2), (0, 0)])),
                    ("batch_x.bin", vec![1]),
                    ("test.bin", records(&[(1, 1)])),
                ],
            );
            let data = load(&folder).unwrap();
            assert_eq!(data.train.labels, [2, 0, 1]);
            // Red, green, blue planes.
            assert_eq!(
                [0, 1024, 2048, 3071].map(|place| data.train.image(0)[place]),
                [2, 12, 22, 22]
            );
            assert_eq!(data.test.labels, [1]);
            assert_eq!(
                data.warnings[0],
                Warning::DataIncomplete {
                    dataset: "tiny".into(),
                    found: 3,
                    official: 50_000
                }
            );
        }
    }

    #[test]
    fn a_size_that_is_no_whole_number_of_records_is_refused() {
        for cut in [0, 1, 3073] {
            let broken = records(&[(0, 0)])[..cut].to_vec();
            let folder = folder(
                "tiny",
                &[("batch_1.bin", broken), ("test.bin", records(&[(0, 0)]))],
            );
            let said = load(&folder).unwrap_err().to_string();
            assert!(
                said.contains("batch_1.bin") && said.contains("3074"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_label_out_of_range_is_named_with_its_kind() {
        for (record, kind) in [((0, 3), "fine label 3"), ((2, 0), "coarse label 2")] {
            let folder = folder(
                "tiny",
                &[
                    ("batch_1.bin", records(&[(0, 0), record])),
                    ("test.bin", records(&[(0, 0)])),
                ],
            );
            let said = load(&folder).unwrap_err().to_string();
            assert!(said.contains(kind) && said.contains("record 1"), "{said}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let only_train = folder("tiny", &[("batch_1.bin", records(&[(0, 0)]))]);
        let said = load(&only_train).unwrap_err().to_string();
        assert!(said.contains("test.bin is missing"), "{said}");
        let only_test = folder("tiny", &[("test.bin", records(&[(0, 0)]))]);
        let said = load(&only_test).unwrap_err().to_string();
        assert!(said.contains("batch_1.bin is missing"), "{said}");
        let nothing = folder("tiny", &[]);
        let said = load(&nothing).unwrap_err().to_string();
        assert!(said.contains("shrinklab data fetch tiny"), "{said}");
    }
}
