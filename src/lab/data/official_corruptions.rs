//! CIFAR-10-C as its authors publish it: CIFAR-10's test images, corrupted, in files of NumPy.
//!
//! `CIFAR-10-C/gaussian_noise.npy` and so on: bytes of 50,000 x 32 x 32 x 3, the 10,000 test images in their order at severity
//! 1, then at 2 and so on to 5; `labels.npy` has the label of each. Hendrycks and Dietterich 2019, doi:10.5281/zenodo.2535967.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Examples;
use super::file::wrong;
use crate::lab::error::{Error, Result};

/// The data set whose test images they are.
pub const OF: &str = "cifar10";

/// The folder beside those of the data sets.
const FOLDER: &str = "CIFAR-10-C";

/// Test images.
const IMAGES: usize = 10_000;

const SEVERITIES: usize = 5;

const SIDE: usize = 32;
const CHANNELS: usize = 3;
const VALUES: usize = SIDE * SIDE * CHANNELS;

/// The longest header that is read; NumPy's are 128 bytes.
const LONGEST_HEADER: usize = 4096;

/// Files that were found and have the right form, by condition: where each is, and where its images begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfficialCorruptions(BTreeMap<String, (PathBuf, u64)>);

impl OfficialCorruptions {
    /// Those among the conditions for which there is a file, and what is wrong with files that cannot be used, a sentence
    /// each. `test` are the first test images of CIFAR-10.
    pub fn find(
        folders: &[PathBuf],
        conditions: &[String],
        test: &Examples,
    ) -> (Option<Self>, Vec<String>) {
        let mut troubles = Vec::new();
        let Some(folder) = folders
            .iter()
            .map(|folder| folder.join(FOLDER))
            .find(|folder| folder.is_dir())
        else {
            return (None, troubles);
        };
        let mut found = BTreeMap::new();
        for condition in conditions {
            let path = folder.join(format!("{}.npy", condition.replace('-', "_")));
            if !path.is_file() {
                continue;
            }
            match begin(&path, &[IMAGES * SEVERITIES, SIDE, SIDE, CHANNELS]) {
                Ok(at) => {
                    found.insert(condition.clone(), (path, at));
                }
                Err(error) => troubles.push(format!(
                    "{error}; the images under {condition} are made here instead"
                )),
            }
        }
        if found.is_empty() {
            return (None, troubles);
        }
        if let Err(error) = same_order(&folder.join("labels.npy"), test) {
            troubles.push(format!(
                "{error}; all corrupted images are made here instead"
            ));
            return (None, troubles);
        }
        (Some(Self(found)), troubles)
    }

    /// The conditions that there are files for.
    pub fn conditions(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The images of these test indices at a severity, with the labels of `clean`; nothing for a condition without a file.
    pub fn read(
        &self,
        condition: &str,
        severity: u8,
        indices: &[usize],
        clean: &Examples,
    ) -> Option<Result<Examples>> {
        let (path, at) = self.0.get(condition)?;
        Some(read(path, *at, severity, indices, clean))
    }
}

fn read(
    path: &Path,
    at: u64,
    severity: u8,
    indices: &[usize],
    clean: &Examples,
) -> Result<Examples> {
    let failed = |source| Error::File {
        context: path.display().to_string(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut examples = clean.clone();
    let mut pixels = vec![0; VALUES];
    for (index, image) in indices.iter().zip(examples.images.chunks_exact_mut(VALUES)) {
        let row = (usize::from(severity) - 1) * IMAGES + index;
        let start = at + (row * VALUES) as u64;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        file.read_exact(&mut pixels).map_err(failed)?;
        for (place, pixel) in pixels.chunks_exact(CHANNELS).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                image[channel * SIDE * SIDE + place] = *value;
            }
        }
    }
    Ok(examples)
}

/// Where the values of a file of NumPy begin, which must be bytes of that shape, all there.
fn begin(path: &Path, shape: &[usize]) -> Result<u64> {
    let failed = |source| Error::File {
        context: path.display().to_string(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut start = vec![0; LONGEST_HEADER.min(length as usize)];
    file.read_exact(&mut start).map_err(failed)?;
    let no_numpy = || wrong(path, "is no file of NumPy (.npy)");
    let version = match start.get(..8) {
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', version, _]) => *version,
        _ => return Err(no_numpy()),
    };
    // The header's length has two bytes in version 1 and four from version 2 on.
    let (first, header) = match (version, start.get(8..12)) {
        (1, Some(&[a, b, ..])) => (10, usize::from(u16::from_le_bytes([a, b]))),
        (2 | 3, Some(&[a, b, c, d])) => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => return Err(no_numpy()),
    };
    let words = start.get(first..first + header).ok_or_else(no_numpy)?;
    let words: String = String::from_utf8_lossy(words)
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let comma = if sides.len() == 1 { "," } else { "" };
    let expected = format!("'shape':({}{comma})", sides.join(","));
    let is_bytes = words.contains("'descr':'|u1'") && words.contains("'fortran_order':False");
    if !is_bytes || !words.contains(&expected) {
        let problem = format!(
            "holds {words}; bytes ('|u1') of shape ({}) in C order are needed",
            sides.join(", ")
        );
        return Err(wrong(path, problem));
    }
    let at = (first + header) as u64;
    let needed = at + shape.iter().product::<usize>() as u64;
    if length != needed {
        let problem = format!("has {length} bytes; {needed} are needed");
        return Err(wrong(path, problem));
    }
    Ok(at)
}

/// That the labels are those of the test images, at every severity.
fn same_order(path: &Path, test: &Examples) -> Result<()> {
    if !path.is_file() {
        return Err(wrong(
            path,
            "is missing, which shows the order of the images",
        ));
    }
    let at = begin(path, &[IMAGES * SEVERITIES])?;
    let failed = |source| Error::File {
        context: path.display().to_string(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(at)).map_err(failed)?;
    let mut labels = vec![0; IMAGES * SEVERITIES];
    file.read_exact(&mut labels).map_err(failed)?;
    if test.len() > IMAGES {
        let problem = format!(
            "{} test images are here, {IMAGES} were corrupted",
            test.len()
        );
        return Err(wrong(path, problem));
    }
    for block in labels.chunks_exact(IMAGES) {
        let other = test
            .labels
            .iter()
            .zip(block)
            .position(|(a, b)| *a != u32::from(*b));
        if let Some(index) = other {
            let problem = format!("another label than the test image {index}: another order");
            return Err(wrong(path, problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::nn::ImageShape;

    fn header(shape: &str) -> Vec<u8> {
        let mut words = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
        while (10 + words.len() + 1) % 64 != 0 {
            words.push(' ');
        }
        words.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((words.len() as u16).to_le_bytes());
        bytes.extend(words.bytes());
        bytes
    }

    const FULL: &str = "(50000, 32, 32, 3)";

    /// A file of zeros, in which these bytes stand at these places behind the header.
    fn file(path: &Path, shape: &str, length: u64, written: &[(u64, &[u8])]) {
        let header = header(shape);
        let mut file = File::create(path).unwrap();
        file.write_all(&header).unwrap();
        file.set_len(header.len() as u64 + length).unwrap();
        for (at, bytes) in written {
            file.seek(SeekFrom::Start(header.len() as u64 + at))
                .unwrap();
            file.write_all(bytes).unwrap();
        }
    }

    fn clean(n: usize) -> Examples {
        Examples {
            shape: ImageShape {
                channels: CHANNELS,
                height: SIDE,
                width: SIDE,
            },
            images: vec![9; n * VALUES],
            labels: (0..n as u32).map(|i| i % 10).collect(),
            groups: Vec::new(),
        }
    }

    fn labels(folder: &Path) {
        let all: Vec<u8> = (0..50_000_u32).map(|i| (i % 10_000 % 10) as u8).collect();
        file(&folder.join("labels.npy"), "(50000,)", 50_000, &[(0, &all)]);
    }

    fn find(folder: &Path, names: &[&str]) -> (Option<OfficialCorruptions>, Vec<String>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        OfficialCorruptions::find(&[folder.to_path_buf()], &names, &clean(30))
    }

    #[test]
    fn rows_are_those_of_the_severity_and_the_index() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        labels(&folder);
        // Row 7 of severity 3: its second pixel is (1, 2, 3).
        let at = ((2 * IMAGES + 7) * VALUES + 3) as u64;
        let path = folder.join("shot_noise.npy");
        file(&path, FULL, 153_600_000, &[(at, &[1, 2, 3])]);
        let (found, troubles) = find(temporary.path(), &["shot-noise", "fog"]);
        let found = found.unwrap();
        assert!(troubles.is_empty(), "{troubles:?}");
        assert_eq!(found.conditions(), ["shot-noise"]);
        let examples = clean(30).select(&[4, 7]);
        let read = found
            .read("shot-noise", 3, &[4, 7], &examples)
            .unwrap()
            .unwrap();
        assert_eq!(read.labels, examples.labels);
        let second = &read.images[VALUES..];
        assert_eq!([second[1], second[1025], second[2049]], [1, 2, 3]);
        let sum: u32 = read.images.iter().map(|value| u32::from(*value)).sum();
        assert_eq!(sum, 6);
        assert!(found.read("fog", 3, &[4, 7], &examples).is_none());
    }

    #[test]
    fn what_is_broken_is_one_sentence_and_is_not_used() {
        let temporary = tempfile::tempdir().unwrap();
        assert_eq!(find(temporary.path(), &["fog"]), (None, Vec::new()));
        let folder = temporary.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        labels(&folder);
        let said = |name: &str| {
            let (found, troubles) = find(temporary.path(), &[name]);
            assert_eq!(found, None);
            troubles.join("\n")
        };
        std::fs::write(folder.join("fog.npy"), b"nothing of the kind").unwrap();
        assert!(
            said("fog").contains(
                "fog.npy: is no file of NumPy (.npy); the images under fog are made here"
            )
        );
        std::fs::write(folder.join("snow.npy"), b"").unwrap();
        assert!(said("snow").contains("is no file of NumPy"));
        file(&folder.join("frost.npy"), FULL, 1_000, &[]);
        assert!(
            said("frost").contains("153600128 are needed"),
            "{}",
            said("frost")
        );
        file(
            &folder.join("contrast.npy"),
            "(10000, 32, 32, 3)",
            30_720_000,
            &[],
        );
        assert!(said("contrast").contains("of shape (50000, 32, 32, 3)"));
        // A good one among them is used all the same, unless the labels are others.
        file(&folder.join("pixelate.npy"), FULL, 153_600_000, &[]);
        let (found, troubles) = find(temporary.path(), &["fog", "pixelate"]);
        assert_eq!(found.unwrap().conditions(), ["pixelate"]);
        assert_eq!(troubles.len(), 1);
        file(&folder.join("labels.npy"), "(50000,)", 50_000, &[]);
        assert!(said("pixelate").contains("another label than the test image 1"));
        std::fs::remove_file(folder.join("labels.npy")).unwrap();
        assert!(said("pixelate").contains("labels.npy: is missing"));
    }
}
