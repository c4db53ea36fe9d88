//! Fashion-MNIST: pieces of clothing, 60,000 + 10,000 gray images of 28x28.
//!
//! Xiao, Rasul, Vollgraf 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms".
//! Four IDX files in `fashion-mnist/`, plain or gzip. Class names as in the authors' README.

use std::path::PathBuf;

use super::file::by_fetching;
use super::idx::IdxSet;
use super::{Dataset, Extent, Source};
use crate::catalog::{Entry, Info, text};
use crate::lab::error::Result;
use crate::nn::ImageShape;

pub(super) const ENTRY: Entry<dyn Source> = Entry {
    info: Info {
        id: text("fashion-mnist"),
        title: text("Fashion-MNIST"),
        summary: text("Pieces of clothing: 60,000 + 10,000 gray images of 28x28 in ten classes."),
        reference: text("arXiv:1708.07747"),
        family: text("files"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(FashionMnist),
};

struct FashionMnist;

const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

impl Source for FashionMnist {
    fn class_names(&self) -> Vec<String> {
        CLASSES.iter().map(|&name| name.to_owned()).collect()
    }

    fn load(&self, folders: &[PathBuf]) -> Result<Dataset> {
        IdxSet {
            id: "fashion-mnist",
            side: 28,
            classes: &CLASSES,
            official: (60_000, 10_000),
            way_out: by_fetching("fashion-mnist"),
        }
        .load(folders)
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
