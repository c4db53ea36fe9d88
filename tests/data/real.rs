//! The real data sets, where `SHRINKLAB_DATA` names their folder.

use std::path::PathBuf;

use shrinklab::event::Warning;
use shrinklab::lab::data::fetch::fetchable;
use shrinklab::lab::data::verify::{Verdict, verify};
use shrinklab::lab::data::{ALL, Dataset, Examples};
use shrinklab::spec::{KnobValue, Setting};

/// The folder of real data, or a line that says that the test was skipped.
fn real_data() -> Option<Vec<PathBuf>> {
    let folder = std::env::var_os("SHRINKLAB_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: SHRINKLAB_DATA is not set");
    }
    folder.map(|folder| vec![folder])
}

fn load(id: &str, folders: &[PathBuf], turned: &[(&str, KnobValue)]) -> Dataset {
    let entry = ALL.iter().find(|entry| entry.info.id == id).unwrap();
    let mut setting = Setting::default();
    for knob in entry.knobs {
        setting = setting.with(&knob.id, knob.range.default());
    }
    for (knob, value) in turned {
        setting = setting.with(knob, value.clone());
    }
    (entry.build)(&setting).load(folders).unwrap()
}

/// Sum of each channel's values.
fn channel_sums(data: &Examples) -> Vec<u64> {
    let plane = data.shape.height * data.shape.width;
    let mut sums = vec![0; data.shape.channels];
    for (index, values) in data.images.chunks_exact(plane).enumerate() {
        let sum: u64 = values.iter().map(|&value| u64::from(value)).sum();
        sums[index % data.shape.channels] += sum;
    }
    sums
}

// Counts, first labels and sums of pixel values in the following tests: NumPy 2.4.6 by
// tests/fixtures/make_data_facts.py.

#[test]
fn real_mnist_and_fashion_mnist_are_read_as_numpy_reads_them() {
    let Some(folders) = real_data() else { return };
    for (id, train_labels, test_labels, train_sum, test_sum) in [
        (
            "mnist",
            [5, 0, 4, 1, 9, 2, 1, 3],
            [7, 2, 1, 0, 4, 1, 4, 9],
            1_567_298_545,
            264_923_200,
        ),
        (
            "fashion-mnist",
            [9, 0, 0, 3, 0, 2, 7, 2],
            [9, 2, 1, 1, 6, 1, 4, 6],
            3_431_114_169,
            573_469_082,
        ),
    ] {
        let data = load(id, &folders, &[]);
        assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
        assert_eq!(data.train.labels[..8], train_labels);
        assert_eq!(data.test.labels[..8], test_labels);
        assert_eq!(channel_sums(&data.train), [train_sum]);
        assert_eq!(channel_sums(&data.test), [test_sum]);
        assert!(data.warnings.is_empty());
        assert!(verify(id, &folders).unwrap().is_sound());
        assert_eq!(fetchable(id).unwrap().installed().len(), 4);
    }
}

#[test]
fn real_usps_is_read_as_numpy_reads_it_and_enlarged_as_pytorch_does() {
    let Some(folders) = real_data() else { return };
    let data = load(
        "usps",
        &folders,
        &[("size", KnobValue::Choice("16".into()))],
    );
    assert_eq!((data.train.len(), data.test.len()), (7_291, 2_007));
    assert_eq!(data.train.labels[..8], [6, 5, 4, 7, 3, 6, 3, 1]);
    assert_eq!(channel_sums(&data.train), [121_121_351]);
    assert_eq!(channel_sums(&data.test), [35_061_379]);
    let data = load("usps", &folders, &[]);
    assert_eq!(data.train.shape.height, 28);
    // PyTorch 2.15: the weights of interpolate(bilinear, align_corners=False), in whole numbers, rounded half up.
    assert_eq!(channel_sums(&data.train), [371_209_895]);
    assert_eq!(channel_sums(&data.test), [107_462_685]);
}

#[test]
fn real_cifar10_is_read_as_numpy_reads_it_and_says_what_is_missing() {
    let Some(folders) = real_data() else { return };
    let data = load("cifar10", &folders, &[]);
    assert_eq!(data.test.len(), 10_000);
    assert_eq!(data.test.labels[..8], [3, 8, 8, 0, 6, 6, 1, 6]);
    assert_eq!(
        channel_sums(&data.test),
        [1_290_492_328, 1_266_775_083, 1_176_108_223]
    );
    assert_eq!(data.train.labels[..8], [6, 9, 9, 4, 1, 1, 2, 7]);
    if data.train.len() == 20_000 {
        // The first 4,000 records of each batch.
        assert_eq!(
            channel_sums(&data.train),
            [2_569_345_626, 2_518_784_609, 2_329_539_664]
        );
        assert_eq!(
            data.warnings,
            [Warning::DataIncomplete {
                dataset: "cifar10".into(),
                found: 20_000,
                official: 50_000
            }]
        );
        let verified = verify("cifar10", &folders).unwrap();
        assert!(!verified.is_sound());
        assert_eq!(verified.files[5].verdict, Verdict::Official);
    }
}
