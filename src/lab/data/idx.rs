//! The IDX format of MNIST and its relatives, plain or gzip.
//!
//! All numbers are big-endian 32-bit. Images: magic 0x00000803, count, height, width, then one byte a pixel.
//! Labels: magic 0x00000801, count, then one byte a label. (LeCun, Cortes, Burges: "The MNIST database".)

use std::path::{Path, PathBuf};

use super::file::{Content, MOST_BYTES, completeness, missing, wrong};
use super::{Dataset, Examples};
use crate::lab::error::Result;
use crate::nn::ImageShape;

/// A data set in four IDX files.
pub(super) struct IdxSet {
    pub(super) id: &'static str,
    /// Height and width of an image.
    pub(super) side: usize,
    pub(super) classes: &'static [&'static str],
    /// Official numbers of training and test images.
    pub(super) official: (usize, usize),
    /// What to do when it is not there.
    pub(super) way_out: String,
}

/// The four files, without what varies in their spelling: the mark before `idx` (`-` or `.`) and `.gz`.
pub(super) const FILES: [(&str, &str); 4] = [
    ("train-images", "idx3-ubyte"),
    ("train-labels", "idx1-ubyte"),
    ("t10k-images", "idx3-ubyte"),
    ("t10k-labels", "idx1-ubyte"),
];

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

impl IdxSet {
    /// Reads the set from the first folder that has any of its files.
    pub(super) fn load(&self, folders: &[PathBuf]) -> Result<Dataset> {
        let [train_images, train_labels, test_images, test_labels] = self.find(folders)?;
        let train = self.part(&train_images, &train_labels)?;
        let test = self.part(&test_images, &test_labels)?;
        let warnings = completeness(self.id, &train, &test, self.official);
        Ok(Dataset {
            train,
            test,
            classes: self.classes.iter().map(|&name| name.to_owned()).collect(),
            groups: Vec::new(),
            warnings,
        })
    }

    fn find(&self, folders: &[PathBuf]) -> Result<[PathBuf; 4]> {
        for folder in folders {
            let directory = folder.join(self.id);
            let found = FILES.map(|(name, kind)| spelled(&directory, name, kind));
            if found.iter().all(Option::is_none) {
                continue;
            }
            let mut paths = Vec::new();
            for (path, (name, kind)) in found.into_iter().zip(FILES) {
                paths.push(path.ok_or_else(|| {
                    wrong(
                        &directory,
                        format!(
                            "{name}-{kind} or {name}-{kind}.gz is missing beside the other files"
                        ),
                    )
                })?);
            }
            return Ok(paths.try_into().expect("one path for each of four files"));
        }
        Err(missing(self.id, folders, &self.way_out))
    }

    fn part(&self, images_path: &Path, labels_path: &Path) -> Result<Examples> {
        let ([count, height, width], images) = read::<3>(images_path, IMAGES_MAGIC, "images")?;
        if (height as usize, width as usize) != (self.side, self.side) {
            return Err(wrong(
                images_path,
                format!(
                    "its images are {height}x{width}; those of {} are {side}x{side}",
                    self.id,
                    side = self.side
                ),
            ));
        }
        let ([labels_count], labels) = read::<1>(labels_path, LABELS_MAGIC, "labels")?;
        if labels_count != count {
            return Err(wrong(
                labels_path,
                format!(
                    "holds {labels_count} labels, but {} holds {count} images; one label an image is needed",
                    images_path.display()
                ),
            ));
        }
        if let Some(place) = labels
            .iter()
            .position(|&label| usize::from(label) >= self.classes.len())
        {
            return Err(wrong(
                labels_path,
                format!(
                    "label {} of image {place} is out of range; 0 to {} is allowed",
                    labels[place],
                    self.classes.len() - 1
                ),
            ));
        }
        Ok(Examples {
            shape: ImageShape {
                channels: 1,
                height: self.side,
                width: self.side,
            },
            images,
            labels: labels.into_iter().map(u32::from).collect(),
            groups: Vec::new(),
        })
    }
}

/// The file under any of its spellings.
pub(super) fn spelled(directory: &Path, name: &str, kind: &str) -> Option<PathBuf> {
    ["-", "."]
        .into_iter()
        .flat_map(|mark| ["", ".gz"].map(|end| directory.join(format!("{name}{mark}{kind}{end}"))))
        .find(|path| path.is_file())
}

/// Sizes and content of an IDX file of bytes with `N` dimensions.
fn read<const N: usize>(path: &Path, magic: u32, what: &str) -> Result<([u32; N], Vec<u8>)> {
    let mut content = Content::open(path)?;
    let head_bytes = 4 * (1 + N as u64);
    let head = content.read_up_to(head_bytes)?;
    let mut words = head
        .chunks_exact(4)
        .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    match words.next() {
        Some(found) if found == magic => {}
        Some(found) => {
            return Err(wrong(
                path,
                format!("begins with {found:#010x}; IDX {what} begin with {magic:#010x}"),
            ));
        }
        None => return Err(cut_off(path, head_bytes, head.len())),
    }
    let sizes: Vec<u32> = words.collect();
    let sizes: [u32; N] = sizes
        .try_into()
        .map_err(|_| cut_off(path, head_bytes, head.len()))?;
    // A header can claim anything: nothing is allocated from it.
    let claimed = sizes
        .iter()
        .try_fold(1_u64, |product, &size| product.checked_mul(u64::from(size)))
        .filter(|&bytes| bytes <= MOST_BYTES)
        .ok_or_else(|| {
            wrong(
                path,
                format!("its header claims a content of {sizes:?} bytes; at most {MOST_BYTES} in all are allowed"),
            )
        })?;
    if claimed == 0 {
        return Err(wrong(
            path,
            format!("holds no {what}; at least one is needed"),
        ));
    }
    let values = content.read_up_to(claimed + 1)?;
    if (values.len() as u64) < claimed {
        return Err(cut_off(
            path,
            head_bytes + claimed,
            head.len() + values.len(),
        ));
    }
    if values.len() as u64 > claimed {
        return Err(wrong(
            path,
            format!(
                "has further bytes after the {claimed} that its header announces; nothing may follow"
            ),
        ));
    }
    Ok((sizes, values))
}

fn cut_off(path: &Path, needed: u64, found: usize) -> crate::lab::error::Error {
    wrong(
        path,
        format!("is cut off after {found} bytes of content; its header announces {needed}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::event::Warning;

    fn set() -> IdxSet {
        IdxSet {
            id: "tiny",
            side: 2,
            classes: &["zero", "one", "two"],
            official: (3, 2),
            way_out: "fetch it".into(),
        }
    }

    fn images(count: u32, bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, 3];
        for size in [count, 2, 2] {
            file.extend(size.to_be_bytes());
        }
        file.extend(bytes);
        file
    }

    fn labels(count: u32, bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, 1];
        file.extend(count.to_be_bytes());
        file.extend(bytes);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    /// A folder with a sound set of 3 training and 2 test images, in mixed spellings.
    fn sound() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("tiny");
        std::fs::create_dir(&place).unwrap();
        let train: Vec<u8> = (1..=12).collect();
        for (name, bytes) in [
            ("train-images-idx3-ubyte.gz", gzip(&images(3, &train))),
            ("train-labels.idx1-ubyte", labels(3, &[2, 0, 1])),
            ("t10k-images-idx3-ubyte", images(2, &[9; 8])),
            ("t10k-labels.idx1-ubyte.gz", gzip(&labels(2, &[1, 1]))),
        ] {
            std::fs::write(place.join(name), bytes).unwrap();
        }
        folder
    }

    fn load(folder: &tempfile::TempDir) -> Result<Dataset> {
        set().load(&[
            PathBuf::from("not-a-folder-anywhere"),
            folder.path().to_path_buf(),
        ])
    }

    /// What is said after a file of the sound set was replaced.
    fn complaint(name: &str, bytes: &[u8]) -> String {
        let folder = sound();
        std::fs::write(folder.path().join("tiny").join(name), bytes).unwrap();
        let complaint = load(&folder).unwrap_err().to_string();
        assert!(complaint.contains(name), "{complaint}");
        assert!(!complaint.contains('\n'), "{complaint}");
        complaint
    }

    #[test]
    fn gzip_and_plain_and_both_spellings_are_read() {
        let data = load(&sound()).unwrap();
        assert_eq!(data.train.labels, [2, 0, 1]);
        assert_eq!(data.train.image(1), [5, 6, 7, 8]);
        assert_eq!(data.test.len(), 2);
        assert_eq!(data.classes, ["zero", "one", "two"]);
        assert!(data.warnings.is_empty());
    }

    #[test]
    fn a_smaller_set_is_used_with_a_warning_that_names_both_numbers() {
        let folder = sound();
        let place = folder.path().join("tiny");
        std::fs::write(place.join("train-images-idx3-ubyte.gz"), images(2, &[0; 8])).unwrap();
        std::fs::write(place.join("train-labels.idx1-ubyte"), labels(2, &[0, 1])).unwrap();
        let data = load(&folder).unwrap();
        assert_eq!(
            data.warnings,
            [Warning::DataIncomplete {
                dataset: "tiny".into(),
                found: 2,
                official: 3
            }]
        );
    }

    #[test]
    fn a_wrong_magic_number_is_named() {
        let said = complaint("t10k-images-idx3-ubyte", &labels(2, &[1, 1]));
        assert!(
            said.contains("0x00000801") && said.contains("0x00000803"),
            "{said}"
        );
    }

    #[test]
    fn a_cut_off_file_is_named_wherever_it_ends() {
        let whole = images(2, &[9; 8]);
        for end in [0, 3, 4, 11, 16, 23] {
            let said = complaint("t10k-images-idx3-ubyte", &whole[..end]);
            assert!(said.contains("cut off"), "{end}: {said}");
        }
        let packed = gzip(&labels(2, &[1, 1]));
        for end in [12, packed.len() - 1] {
            let said = complaint("t10k-labels.idx1-ubyte.gz", &packed[..end]);
            assert!(said.contains("cut off"), "{end}: {said}");
        }
    }

    #[test]
    fn a_header_that_claims_everything_allocates_nothing() {
        let mut file = vec![0, 0, 8, 3];
        file.extend([0xff; 12]);
        let said = complaint("t10k-images-idx3-ubyte", &file);
        assert!(said.contains("claims"), "{said}");
        let said = complaint("t10k-labels.idx1-ubyte.gz", &labels(u32::MAX, &[1]));
        assert!(said.contains("claims"), "{said}");
        // Below the limit, but not there.
        let said = complaint("t10k-labels.idx1-ubyte.gz", &labels(1 << 29, &[1]));
        assert!(said.contains("cut off after 9 bytes"), "{said}");
    }

    #[test]
    fn further_bytes_an_empty_set_other_sizes_and_broken_gzip_are_refused() {
        let said = complaint("t10k-images-idx3-ubyte", &images(2, &[9; 9]));
        assert!(said.contains("nothing may follow"), "{said}");
        let said = complaint("t10k-images-idx3-ubyte", &images(0, &[]));
        assert!(said.contains("no images"), "{said}");
        let mut wide = images(1, &[9; 8]);
        wide[15] = 4;
        wide[11] = 2;
        wide[7] = 1;
        let said = complaint("t10k-images-idx3-ubyte", &wide);
        assert!(said.contains("2x4") && said.contains("2x2"), "{said}");
        let mut broken = gzip(&labels(2, &[1, 1]));
        let last = broken.len() - 8;
        broken[last] ^= 0xff;
        let said = complaint("t10k-labels.idx1-ubyte.gz", &broken);
        assert!(said.contains("cannot be read"), "{said}");
    }

    #[test]
    fn labels_out_of_range_or_too_few_are_named() {
        let said = complaint("train-labels.idx1-ubyte", &labels(3, &[2, 3, 1]));
        assert!(
            said.contains("label 3 of image 1") && said.contains("0 to 2"),
            "{said}"
        );
        let said = complaint("train-labels.idx1-ubyte", &labels(2, &[2, 1]));
        assert!(
            said.contains("2 labels") && said.contains("3 images"),
            "{said}"
        );
    }

    #[test]
    fn a_missing_file_and_a_missing_set_are_told_apart() {
        let folder = sound();
        std::fs::remove_file(folder.path().join("tiny/t10k-images-idx3-ubyte")).unwrap();
        let said = load(&folder).unwrap_err().to_string();
        assert!(
            said.contains("t10k-images-idx3-ubyte.gz is missing"),
            "{said}"
        );
        let said = set()
            .load(&[PathBuf::from("here"), PathBuf::from("there")])
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("tiny") && said.contains("here") && said.contains("there"),
            "{said}"
        );
        assert!(said.contains("fetch it"), "{said}");
    }
}
