//! JPEG compression: stored too small.
//!
//! Compressed as a baseline JPEG of quality q and unpacked again, with libjpeg's arithmetic (`jpeg.rs`).
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`, Pillow with its defaults).
//! Bytes in, bytes out; three channels as RGB with color at half the size, any other number as gray images of their own.

use super::jpeg::{Tables, round_trip};
use super::{Corruption, Severity};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("jpeg-compression"),
        title: text("JPEG compression"),
        summary: text(
            "Stores the image as a JPEG of quality 80 to 40: blocks, ringing, washed-out color.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("digital"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(JpegCompression),
};

struct JpegCompression;

/// Quality at severity 1 to 5: `make_cifar_c.py`, `jpeg_compression`.
const QUALITY: [i32; 5] = [80, 65, 58, 50, 40];

impl Corruption for JpegCompression {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        round_trip(image, shape, &Tables::of_quality(QUALITY[severity.index()]));
    }
}
