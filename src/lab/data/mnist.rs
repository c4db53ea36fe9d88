//! MNIST: handwritten digits, 60,000 + 10,000 gray images of 28x28.
//!
//! LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition".
//! Four IDX files in `mnist/`, plain or gzip.

use std::path::PathBuf;

use super::file::by_fetching;
use super::idx::IdxSet;
use super::{Dataset, Extent, Source};
use crate::catalog::{Entry, Info, text};
use crate::lab::error::Result;
use crate::nn::ImageShape;
use crate::spec::{KnobValue, Method, Setting};

pub(super) const ENTRY: Entry<dyn Source> = Entry {
    info: Info {
        id: text("mnist"),
        title: text("MNIST"),
        summary: text("Handwritten digits: 60,000 + 10,000 gray images of 28x28 in ten classes."),
        reference: text("doi:10.1109/5.726791"),
        family: text("files"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Mnist),
};

struct Mnist;

const CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

impl Source for Mnist {
    fn class_names(&self) -> Vec<String> {
        CLASSES.iter().map(|&name| name.to_owned()).collect()
    }

    fn load(&self, folders: &[PathBuf]) -> Result<Dataset> {
        IdxSet {
            id: "mnist",
            side: 28,
            classes: &CLASSES,
            official: (60_000, 10_000),
            way_out: by_fetching("mnist"),
        }
        .load(folders)
    }

    fn siblings(&self, _: &Setting) -> Vec<Method> {
        let size = KnobValue::Choice("28".to_owned());
        vec![Method {
            id: "usps".to_owned(),
            setting: Setting::default().with("size", size),
        }]
    }

    fn extent(&self) -> Extent {
        Extent {
            train: 60_000,
            test: 10_000,
            shape: ImageShape {
                channels: 1,
                height: 28,
                width: 28,
            },
            classes: CLASSES.len(),
        }
    }
}
