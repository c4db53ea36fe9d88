//! Image folder: pictures of anything, in one folder for each domain and in that one for each class.
//!
//! `root/domain/class/*.jpg|png`, and Office-31's `root/domain/images/class/*.jpg`. Saenko et al. 2010, "Adapting visual
//! category models to new domains", is where that layout comes from.
//!
//! Networks are trained on one domain. Of each class a fifth of the files, rounded and at least one, is kept for testing:
//! drawn by a stream of the class's name from the files in order of their names, so that everybody has the same split.
//! Another domain is asked with all of its files.
//!
//! Every picture becomes `size` x `size` pixels: the largest square in its middle, resampled with a triangle filter that
//! widens as the picture shrinks (bilinear with antialiasing, as Pillow's and torchvision's `resize`), rounded to bytes.
//! Transparency is dropped; pictures in gray become colored ones, and colored ones gray where `gray` asks for it.
//! Files that cannot be read are skipped, counted and named. Decoding is spread over all threads.

use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::{FilterType, crop_imm, resize};
use rayon::prelude::*;

use super::{Dataset, Examples, Extent, Source};
use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Warning;
use crate::lab::error::{Error, Result};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;
use crate::spec::{KnobValue, Method, Setting};

mod jpeg;

pub(super) const ENTRY: Entry<dyn Source> = Entry {
    info: Info {
        id: text("image-folder"),
        title: text("Image folder"),
        summary: text(
            "JPEG and PNG files in root/domain/class, as Office-31 has them: trained on one domain, asked of the others.",
        ),
        reference: text("doi:10.1007/978-3-642-15561-1_16"),
        family: text("folder"),
        ratio_of: None,
    },
    knobs: &[
        Knob {
            id: text("root"),
            title: text("Root"),
            summary: text("The folder that holds a folder for each domain."),
            range: Range::Text { default: text("") },
        },
        Knob {
            id: text("domain"),
            title: text("Domain"),
            summary: text("The domain's folder in it; nothing where there is only one."),
            range: Range::Text { default: text("") },
        },
        Knob {
            id: text("size"),
            title: text("Image size"),
            summary: text("Side in pixels to which every picture is brought."),
            range: Range::Integer {
                least: 8,
                most: 256,
                default: 64,
            },
        },
        Knob {
            id: text("gray"),
            title: text("Gray"),
            summary: text("One channel of luminance instead of three of color."),
            range: Range::Flag { default: false },
        },
    ],
    build: |setting| {
        let mut folder = ImageFolder {
            root: PathBuf::from(setting.choice("root")),
            domain: setting.choice("domain").to_owned(),
            size: setting.integer("size") as usize,
            is_gray: setting.flag("gray"),
        };
        // Where there is only one, nobody has to name it.
        if folder.domain.is_empty()
            && let Ok([only]) = folder.all().as_deref()
        {
            folder.domain.clone_from(only);
        }
        Box::new(folder)
    },
};

/// Of how many files of a class one tests.
const TESTS: usize = 5;

/// The split's own seed; another one would make another data set.
const SEED: u64 = 0x666f_6c64_6572; // "folder"

struct ImageFolder {
    root: PathBuf,
    domain: String,
    size: usize,
    is_gray: bool,
}

/// The files of a class.
struct Class {
    name: String,
    files: Vec<PathBuf>,
}

fn wrong(knob: &str, problem: String) -> Error {
    Error::Impossible {
        knob: knob.into(),
        problem,
    }
}

/// Folders, or files, in a folder, in order of their names; hidden ones are left out.
fn entries(folder: &Path, are_folders: bool) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::File {
        context: folder.display().to_string(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_hidden = name(&path).starts_with('.');
        if !is_hidden && path.is_dir() == are_folders {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    ["jpg", "jpeg", "png"]
        .iter()
        .any(|known| extension == *known)
}

impl ImageFolder {
    /// The names of the domains.
    fn all(&self) -> Result<Vec<String>> {
        if self.root.as_os_str().is_empty() {
            let problem = "a folder is needed that holds root/domain/class/*.jpg or *.png";
            return Err(wrong("root", problem.to_owned()));
        }
        let folders = entries(&self.root, true)
            .map_err(|error| wrong("root", format!("{error}; a folder of domains is needed")))?;
        Ok(folders.iter().map(|folder| name(folder)).collect())
    }

    /// The classes of the domain with their files.
    fn classes(&self) -> Result<Vec<Class>> {
        let all = self.all()?;
        let known = if all.is_empty() {
            format!("{} holds no folder", self.root.display())
        } else {
            format!("one of {}", all.join(", "))
        };
        if self.domain.is_empty() {
            return Err(wrong(
                "domain",
                format!("a folder's name is needed; {known}"),
            ));
        }
        if !all.contains(&self.domain) {
            return Err(wrong(
                "domain",
                format!("{} is not known; {known}", self.domain),
            ));
        }
        let mut folder = self.root.join(&self.domain);
        let mut folders = entries(&folder, true)?;
        // Office-31 has one more level, and nothing else in it.
        if let [only] = &folders[..]
            && name(only) == "images"
        {
            folder.clone_from(only);
            folders = entries(&folder, true)?;
        }
        let mut classes = Vec::new();
        for folder in folders {
            let mut files = entries(&folder, false)?;
            files.retain(|file| is_picture(file));
            // A folder without pictures is no class.
            if !files.is_empty() {
                classes.push(Class {
                    name: name(&folder),
                    files,
                });
            }
        }
        match classes.len() {
            0 => Err(wrong(
                "domain",
                format!("{} holds no class/*.jpg or *.png", folder.display()),
            )),
            1 => Err(wrong(
                "domain",
                format!(
                    "{} has one class, {}; at least two are needed",
                    folder.display(),
                    classes[0].name
                ),
            )),
            _ => Ok(classes),
        }
    }

    fn shape(&self) -> ImageShape {
        ImageShape {
            channels: if self.is_gray { 1 } else { 3 },
            height: self.size,
            width: self.size,
        }
    }

    /// The bytes of one picture, channel by channel.
    fn read(&self, file: &Path) -> std::result::Result<Vec<u8>, String> {
        let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        let reader = image::ImageReader::new(std::io::Cursor::new(&bytes))
            .with_guessed_format()
            .map_err(|error| error.to_string())?;
        let is_jpeg = reader.format() == Some(image::ImageFormat::Jpeg);
        let picture = reader.decode().map_err(|error| error.to_string())?;
        if is_jpeg && !jpeg::is_whole(&bytes) {
            return Err("the file ends before its image does".to_owned());
        }
        let side = picture.width().min(picture.height());
        let (x, y) = ((picture.width() - side) / 2, (picture.height() - side) / 2);
        let size = self.size as u32;
        if self.is_gray {
            let gray = picture.into_luma8();
            let square = crop_imm(&gray, x, y, side, side).to_image();
            return Ok(resize(&square, size, size, FilterType::Triangle).into_raw());
        }
        let color = picture.into_rgb8();
        let square = crop_imm(&color, x, y, side, side).to_image();
        let pixels = resize(&square, size, size, FilterType::Triangle).into_raw();
        let plane = |channel: usize| pixels.iter().skip(channel).step_by(3).copied();
        Ok((0..3).flat_map(plane).collect())
    }

    /// All the pictures that can be read, in order, and the names of the others.
    fn examples(&self, files: &[(u32, &Path)]) -> (Examples, Vec<String>) {
        let read: Vec<_> = files
            .par_iter()
            .map(|(label, file)| (*label, *file, self.read(file)))
            .collect();
        let mut examples = Examples {
            shape: self.shape(),
            images: Vec::new(),
            labels: Vec::new(),
            groups: Vec::new(),
        };
        let mut broken = Vec::new();
        for (label, file, found) in read {
            match found {
                Ok(bytes) => {
                    examples.images.extend(bytes);
                    examples.labels.push(label);
                }
                Err(problem) => {
                    // Some decoders say it in several lines.
                    let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
                    broken.push(format!("{}: {problem}", file.display()));
                }
            }
        }
        (examples, broken)
    }
}

/// The files of a class that train, and those that test, both in order of their names.
fn split(class: &Class) -> (Vec<&Path>, Vec<&Path>) {
    let count = class.files.len();
    let tests = ((count + TESTS / 2) / TESTS).max(usize::from(count > 1));
    let mut order: Vec<usize> = (0..count).collect();
    Rng::stream(SEED, &class.name, &[]).shuffle(&mut order);
    let of = |places: &[usize]| {
        let mut places = places.to_vec();
        places.sort_unstable();
        places.into_iter().map(|at| &*class.files[at]).collect()
    };
    let (testing, training) = order.split_at(tests);
    (of(training), of(testing))
}

impl Source for ImageFolder {
    fn check(&self) -> Result<()> {
        self.classes().map(|_| ())
    }

    fn class_names(&self) -> Vec<String> {
        let classes = self.classes().unwrap_or_default();
        classes.into_iter().map(|class| class.name).collect()
    }

    fn load(&self, _: &[PathBuf]) -> Result<Dataset> {
        let classes = self.classes()?;
        let (mut training, mut testing) = (Vec::new(), Vec::new());
        for (label, class) in classes.iter().enumerate() {
            let (train, test) = split(class);
            training.extend(train.into_iter().map(|file| (label as u32, file)));
            testing.extend(test.into_iter().map(|file| (label as u32, file)));
        }
        let (train, mut broken) = self.examples(&training);
        let (test, of_test) = self.examples(&testing);
        broken.extend(of_test);
        if train.is_empty() || test.is_empty() {
            let first = broken.first().cloned().unwrap_or_default();
            let problem = format!(
                "none of the {} files of {} can be read; the first: {first}",
                training.len() + testing.len(),
                self.domain
            );
            return Err(wrong("domain", problem));
        }
        for (label, class) in classes.iter().enumerate() {
            let is_there = |part: &Examples| part.labels.contains(&(label as u32));
            if !(is_there(&train) || is_there(&test)) {
                let name = &class.name;
                let problem = format!(
                    "none of the {} files of class {name} of {} can be read; mend them, or take the folder away",
                    class.files.len(),
                    self.domain
                );
                return Err(wrong("domain", problem));
            }
        }
        let mut warnings = Vec::new();
        if !broken.is_empty() {
            warnings.push(Warning::FilesSkipped {
                dataset: format!("image-folder {}", self.domain),
                skipped: broken.len() as u64,
                files: broken,
            });
        }
        Ok(Dataset {
            train,
            test,
            classes: classes.into_iter().map(|class| class.name).collect(),
            groups: Vec::new(),
            warnings,
        })
    }

    fn extent(&self) -> Extent {
        let classes = self.classes().unwrap_or_default();
        let (mut train, mut test) = (0, 0);
        for class in &classes {
            let (training, testing) = split(class);
            train += training.len() as u64;
            test += testing.len() as u64;
        }
        Extent {
            train,
            test,
            shape: self.shape(),
            classes: classes.len().max(2),
        }
    }

    fn siblings(&self, setting: &Setting) -> Vec<Method> {
        let others = self.all().unwrap_or_default();
        let others = others.into_iter().filter(|name| *name != self.domain);
        let sibling = |name| Method {
            id: ENTRY.info.id.to_string(),
            setting: setting.clone().with("domain", KnobValue::Choice(name)),
        };
        others.map(sibling).collect()
    }

    fn is_asked_whole(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(root: &Path, domain: &str) -> ImageFolder {
        ImageFolder {
            root: root.to_owned(),
            domain: domain.to_owned(),
            size: 8,
            is_gray: false,
        }
    }

    /// A picture of one color with a black left half.
    fn paint(file: &Path, color: [u8; 3]) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let picture = image::RgbImage::from_fn(32, 16, |x, _| {
            image::Rgb(if x < 16 { [0; 3] } else { color })
        });
        picture.save(file).unwrap();
    }

    fn two_classes(root: &Path, domain: &str) {
        for n in 0..10 {
            let suffix = if n % 2 == 0 { "png" } else { "JPG" };
            for (class, color) in [("cup", [250, 40, 40]), ("pen", [40, 40, 250])] {
                let lower = root.join(format!("{domain}/{class}/{n}.{}", suffix.to_lowercase()));
                paint(&lower, color);
                fs::rename(&lower, lower.with_extension(suffix)).unwrap();
            }
        }
    }

    #[test]
    fn pictures_are_squared_resized_and_split_and_broken_ones_are_named() {
        let root = tempfile::tempdir().unwrap();
        two_classes(root.path(), "shop");
        fs::write(
            root.path().join("shop/pen/torn.jpg"),
            b"\xff\xd8\xff\xe0 torn",
        )
        .unwrap();
        fs::write(root.path().join("shop/pen/notes.txt"), b"no picture").unwrap();
        let data = folder(root.path(), "shop").load(&[]).unwrap();
        assert_eq!(data.classes, ["cup", "pen"]);
        assert_eq!(data.train.len() + data.test.len(), 20);
        assert_eq!(data.test.labels, [0, 0, 1, 1]);
        let [Warning::FilesSkipped { skipped, files, .. }] = &data.warnings[..] else {
            panic!("{:?}", data.warnings);
        };
        assert_eq!(*skipped, 1);
        assert!(files[0].contains("torn.jpg: "), "{files:?}");
        // The middle square begins in the black half: its right columns are of the color.
        let image = data.train.image(0);
        let (red, blue) = (image[7], image[2 * 64 + 7]);
        assert!(
            red > 240 && blue < 60 && image[0] < 10,
            "{red} {blue} {}",
            image[0]
        );
        assert_eq!(folder(root.path(), "shop").extent().classes, 2);
    }

    #[test]
    fn a_cut_jpeg_is_skipped_and_a_class_without_a_picture_is_named() {
        let root = tempfile::tempdir().unwrap();
        two_classes(root.path(), "shop");
        let cup = root.path().join("shop/cup");
        let picture = image::RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb([(x * 3) as u8, (y * 3) as u8, (x * y) as u8])
        });
        picture.save(cup.join("whole.jpg")).unwrap();
        let bytes = fs::read(cup.join("whole.jpg")).unwrap();
        fs::write(cup.join("cut.jpg"), &bytes[..bytes.len() / 2]).unwrap();
        let data = folder(root.path(), "shop").load(&[]).unwrap();
        let [Warning::FilesSkipped { skipped, files, .. }] = &data.warnings[..] else {
            panic!("one warning: {:?}", data.warnings);
        };
        assert_eq!(*skipped, 1);
        assert!(files[0].contains("cut.jpg: "), "{files:?}");
        fs::create_dir_all(root.path().join("shop/ink")).unwrap();
        fs::write(root.path().join("shop/ink/a.png"), b"none").unwrap();
        let error = folder(root.path(), "shop")
            .load(&[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("none of the 1 files of class ink of shop can be read"),
            "{error}"
        );
    }

    #[test]
    fn the_only_domain_need_not_be_named() {
        let root = tempfile::tempdir().unwrap();
        two_classes(root.path(), "shop");
        let text = |word: &Path| KnobValue::Choice(word.display().to_string());
        let setting = Setting::default().with("root", text(root.path()));
        let made = || ENTRY.made(&setting);
        assert!(made().check().is_ok());
        assert_eq!(made().class_names(), ["cup", "pen"]);
        two_classes(root.path(), "street");
        let problem = made().check().unwrap_err().to_string();
        assert!(problem.contains("one of shop, street"), "{problem}");
        assert!(made().class_names().is_empty());
    }

    #[test]
    fn office_31_has_one_more_level_and_domains_are_siblings() {
        let root = tempfile::tempdir().unwrap();
        two_classes(root.path(), "amazon/images");
        two_classes(root.path(), "webcam/images");
        let amazon = folder(root.path(), "amazon");
        assert_eq!(amazon.load(&[]).unwrap().classes, ["cup", "pen"]);
        let others = amazon.siblings(&Setting::default());
        assert_eq!(others.len(), 1);
        assert_eq!(others[0].setting.choice("domain"), "webcam");
    }

    #[test]
    fn what_is_missing_is_said_in_one_sentence() {
        let root = tempfile::tempdir().unwrap();
        let says = |domain: &str| folder(root.path(), domain).check().unwrap_err().to_string();
        assert!(says("shop").starts_with("domain: shop is not known; "));
        fs::create_dir_all(root.path().join("shop")).unwrap();
        assert!(says("").ends_with("one of shop"));
        assert!(says("shop").ends_with("holds no class/*.jpg or *.png"));
        fs::create_dir_all(root.path().join("shop/cup")).unwrap();
        fs::write(root.path().join("shop/cup/a.png"), b"none").unwrap();
        assert!(says("shop").ends_with("has one class, cup; at least two are needed"));
        fs::create_dir_all(root.path().join("shop/pen")).unwrap();
        fs::write(root.path().join("shop/pen/a.png"), b"none").unwrap();
        let error = folder(root.path(), "shop")
            .load(&[])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("domain: none of the 2 files of shop can be read"),
            "{error}"
        );
        let nowhere = folder(Path::new("/nowhere"), "shop").check().unwrap_err();
        assert!(
            nowhere.to_string().starts_with("root: /nowhere: "),
            "{nowhere}"
        );
    }
}
