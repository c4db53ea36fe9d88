//! CIFAR-10: 50,000 + 10,000 color images of 32x32 in ten classes.
//!
//! Krizhevsky 2009, "Learning multiple layers of features from tiny images".
//! `data_batch_1.bin` and so on, and `test_batch.bin`, in `cifar10/` or `cifar10/cifar-10-batches-bin/`.

use std::path::PathBuf;

use super::cifar_binary::{CifarSet, TrainFiles};
use super::{Dataset, Extent, Source};
use crate::catalog::{Entry, Info, text};
use crate::lab::error::Result;
use crate::nn::ImageShape;

pub(super) const ENTRY: Entry<dyn Source> = Entry {
    info: Info {
        id: text("cifar10"),
        title: text("CIFAR-10"),
        summary: text(
            "Animals and vehicles: 50,000 + 10,000 color images of 32x32 in ten classes.",
        ),
        reference: text("Krizhevsky 2009"),
        family: text("files"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Cifar10),
};

struct Cifar10;

/// As in `batches.meta.txt`.
const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

impl Source for Cifar10 {
    fn class_names(&self) -> Vec<String> {
        CLASSES.iter().map(|&name| name.to_owned()).collect()
    }

    fn load(&self, folders: &[PathBuf]) -> Result<Dataset> {
        CifarSet {
            id: "cifar10",
            unpacked: "cifar-10-batches-bin",
            labels: &[("label", 10)],
            classes: &CLASSES,
            train: TrainFiles::Numbered("data_batch_", ".bin"),
            test: "test_batch.bin",
        }
        .load(folders)
    }

    fn extent(&self) -> Extent {
        Extent {
            train: 50_000,
            test: 10_000,
            shape: ImageShape {
                channels: 3,
                height: 32,
                width: 32,
            },
            classes: CLASSES.len(),
        }
    }
}
