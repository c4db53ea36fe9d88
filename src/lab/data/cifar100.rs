//! CIFAR-100: 50,000 + 10,000 color images of 32x32 in a hundred classes.
//!
//! Krizhevsky 2009, "Learning multiple layers of features from tiny images".
//! `train.bin` and `test.bin` in `cifar100/` or `cifar100/cifar-100-binary/`. Of the two labels the fine one is used.

use std::path::PathBuf;

use super::cifar_binary::{CifarSet, TrainFiles};
use super::{Dataset, Extent, Source};
use crate::catalog::{Entry, Info, text};
use crate::lab::error::Result;
use crate::nn::ImageShape;

pub(super) const ENTRY: Entry<dyn Source> = Entry {
    info: Info {
        id: text("cifar100"),
        title: text("CIFAR-100"),
        summary: text(
            "Animals, plants and things: 50,000 + 10,000 color images of 32x32 in a hundred classes.",
        ),
        reference: text("Krizhevsky 2009"),
        family: text("files"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Cifar100),
};

struct Cifar100;

/// As in `fine_label_names.txt`, which is in alphabetical order.
#[rustfmt::skip]
const CLASSES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

impl Source for Cifar100 {
    fn class_names(&self) -> Vec<String> {
        CLASSES.iter().map(|&name| name.to_owned()).collect()
    }

    fn load(&self, folders: &[PathBuf]) -> Result<Dataset> {
        CifarSet {
            id: "cifar100",
            unpacked: "cifar-100-binary",
            labels: &[("coarse label", 20), ("fine label", 100)],
            classes: &CLASSES,
            train: TrainFiles::One("train.bin"),
            test: "test.bin",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_alphabetical_order() {
        assert!(CLASSES.is_sorted());
    }
}
