//! USPS: digits from envelopes, 7,291 + 2,007 gray images of 16x16; a second domain for MNIST.
//!
//! Hull 1994, "A database for handwritten text recognition research".
//! Four IDX files in `usps/`, plain or gzip, of 16x16 images with values rounded to bytes, ink bright on black.
//!
//! By default the images are enlarged to 28x28, so that a network for MNIST takes them as they are; `size = 16` keeps them.
//! Bilinear: the value at pixel i of 28 is read at (i + ½) 16/28 - ½, clamped to the image, and rounded to the nearest byte
//! (PyTorch's `interpolate(mode="bilinear", align_corners=False)`).

use std::borrow::Cow;
use std::path::PathBuf;

use super::idx::IdxSet;
use super::{Dataset, Examples, Extent, Source};
use crate::catalog::{Entry, Info, Knob, Range, Text, text};
use crate::lab::error::Result;
use crate::nn::ImageShape;
use crate::spec::{Method, Setting};

pub(super) const ENTRY: Entry<dyn Source> = Entry {
    info: Info {
        id: text("usps"),
        title: text("USPS"),
        summary: text(
            "Digits from envelopes: 7,291 + 2,007 gray images in ten classes; a second domain for MNIST.",
        ),
        reference: text("doi:10.1109/34.291440"),
        family: text("files"),
        ratio_of: None,
    },
    knobs: &[Knob {
        id: text("size"),
        title: text("Image size"),
        summary: text("28 enlarges the images to those of MNIST; 16 keeps them as they are."),
        range: Range::Choice {
            options: Cow::Borrowed(const { &[text("28"), text("16")] as &[Text] }),
            default: text("28"),
        },
    }],
    build: |setting| {
        Box::new(Usps {
            enlarged: setting.choice("size") == "28",
        })
    },
};

struct Usps {
    enlarged: bool,
}

const CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// The side of MNIST's images.
const ENLARGED: usize = 28;

/// Official numbers of training and test images.
const OFFICIAL: (usize, usize) = (7_291, 2_007);

/// The four files as they are.
fn read(folders: &[PathBuf]) -> Result<Dataset> {
    IdxSet {
        id: "usps",
        side: 16,
        classes: &CLASSES,
        official: OFFICIAL,
        way_out: WAY_OUT.to_owned(),
    }
    .load(folders)
}

/// What is wrong with the files as far as their format tells, since there is no official sum: sizes, labels, the sums
/// inside gzip files, and the official numbers of images.
pub(super) fn trouble(folders: &[PathBuf]) -> Option<String> {
    let data = match read(folders) {
        Ok(data) => data,
        Err(error) => return Some(error.to_string()),
    };
    let found = (data.train.len(), data.test.len());
    (found != OFFICIAL).then(|| {
        format!(
            "the files hold {} + {} images; the official set has {} + {}",
            found.0, found.1, OFFICIAL.0, OFFICIAL.1
        )
    })
}

impl Source for Usps {
    fn class_names(&self) -> Vec<String> {
        CLASSES.iter().map(|&name| name.to_owned()).collect()
    }

    fn load(&self, folders: &[PathBuf]) -> Result<Dataset> {
        let mut data = read(folders)?;
        if self.enlarged {
            data.train = resized(&data.train, ENLARGED);
            data.test = resized(&data.test, ENLARGED);
        }
        Ok(data)
    }

    fn siblings(&self, _: &Setting) -> Vec<Method> {
        // Small ones are of another shape.
        let all = self.enlarged.then(|| Method::plain("mnist"));
        all.into_iter().collect()
    }

    fn extent(&self) -> Extent {
        Extent {
            train: OFFICIAL.0 as u64,
            test: OFFICIAL.1 as u64,
            shape: ImageShape {
                channels: 1,
                height: if self.enlarged { ENLARGED } else { 16 },
                width: if self.enlarged { ENLARGED } else { 16 },
            },
            classes: CLASSES.len(),
        }
    }
}

/// What to do when it is not there. No official home offers it as bytes, so it cannot be fetched.
pub(super) const WAY_OUT: &str = "it cannot be fetched: convert it to the four IDX files of MNIST's naming (16x16, one byte a pixel, plain or .gz) and put them there, or name another folder by --data-dir";

/// All images at another side, bilinear. In whole numbers, so that halves are rounded up whatever the machine.
fn resized(examples: &Examples, side: usize) -> Examples {
    let ImageShape { height, width, .. } = examples.shape;
    let rows = sampling(height, side);
    let columns = sampling(width, side);
    // Each of the two interpolations multiplies by twice the new side.
    let whole = 2 * side;
    let area = whole * whole;
    let mut images = Vec::with_capacity(examples.images.len() / (height * width) * side * side);
    for plane in examples.images.chunks_exact(height * width) {
        let at = |y: usize, x: usize| usize::from(plane[y * width + x]);
        for &(top, bottom, down) in &rows {
            for &(left, right, across) in &columns {
                let upper = at(top, left) * (whole - across) + at(top, right) * across;
                let lower = at(bottom, left) * (whole - across) + at(bottom, right) * across;
                let sum = upper * (whole - down) + lower * down;
                images.push(((sum + area / 2) / area) as u8);
            }
        }
    }
    Examples {
        shape: ImageShape {
            height: side,
            width: side,
            ..examples.shape
        },
        images,
        labels: examples.labels.clone(),
        groups: examples.groups.clone(),
    }
}

/// For each of `to` places, the two of `from` that it lies between and its distance from the first in steps of
/// 1 / (2 `to`).
fn sampling(from: usize, to: usize) -> Vec<(usize, usize, usize)> {
    (0..to)
        .map(|place| {
            // (place + 1/2) from / to - 1/2, times 2 to.
            let exact = ((2 * place + 1) * from).saturating_sub(to);
            let first = (exact / (2 * to)).min(from - 1);
            (first, (first + 1).min(from - 1), exact - first * 2 * to)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_by_two_becomes_four_by_four() {
        let small = Examples {
            shape: ImageShape {
                channels: 1,
                height: 2,
                width: 2,
            },
            images: vec![0, 100, 200, 40],
            labels: vec![7],
            groups: Vec::new(),
        };
        // PyTorch 2.15: F.interpolate(x, size=4, mode="bilinear", align_corners=False).round()
        #[rustfmt::skip]
        let expected = [
              0,  25,  75, 100,
             50,  59,  76,  85,
            150, 126,  79,  55,
            200, 160,  80,  40,
        ];
        assert_eq!(resized(&small, 4).images, expected);
    }
}
