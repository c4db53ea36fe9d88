//! What baseline JPEG leaves of an image: libjpeg's arithmetic without the coding between, which loses nothing.
//!
//! Wallace 1991, doi:10.1145/103085.103089; ITU-T T.81, annex K for the tables; libjpeg (and libjpeg-turbo, which gives
//! the same bytes) for what the standard leaves open: the conversion to Y Cb Cr in 16-bit fixed point, color at half the
//! size both ways (4:2:0), the slow integer transform, and triangle-filtered upsampling.
//! Three channels as RGB; any other number as gray images of their own.

mod blocks;
mod chroma;

use crate::nn::ImageShape;
use blocks::{Table, through_blocks};

/// Annex K.1: luminance, row by row.
const LUMINANCE: [i32; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// Annex K.2: chrominance.
const CHROMINANCE: [i32; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// The tables of a quality from 1 to 100, as libjpeg scales them.
pub(super) struct Tables {
    luminance: Table,
    chrominance: Table,
}

impl Tables {
    pub(super) fn of_quality(quality: i32) -> Self {
        let percent = if quality < 50 {
            5000 / quality
        } else {
            200 - 2 * quality
        };
        let scaled = |base: [i32; 64]| base.map(|step| ((step * percent + 50) / 100).clamp(1, 255));
        Self {
            luminance: scaled(LUMINANCE),
            chrominance: scaled(CHROMINANCE),
        }
    }
}

/// Compresses and unpacks an image in place.
pub(super) fn round_trip(image: &mut [u8], shape: ImageShape, tables: &Tables) {
    let (height, width) = (shape.height, shape.width);
    let area = height * width;
    if shape.channels != 3 {
        for channel in image.chunks_exact_mut(area) {
            let decoded = through_blocks(channel, [height, width], &tables.luminance);
            channel.copy_from_slice(&decoded);
        }
        return;
    }
    let mut planes = [vec![0; area], vec![0; area], vec![0; area]];
    for pixel in 0..area {
        let rgb = [0, 1, 2].map(|channel| i32::from(image[channel * area + pixel]));
        for (plane, value) in planes.iter_mut().zip(chroma::ycc(rgb)) {
            plane[pixel] = value;
        }
    }
    let [y, cb, cr] = planes;
    let y = through_blocks(&y, [height, width], &tables.luminance);
    let [cb, cr] = [cb, cr].map(|plane| {
        let halved = chroma::halved(&plane, height, width);
        let size = [height.div_ceil(2), width.div_ceil(2)];
        let decoded = blocks::through_padded(&halved, size, &tables.chrominance);
        chroma::doubled(&decoded, size, height, width)
    });
    for pixel in 0..area {
        let rgb = chroma::rgb([y[pixel], cb[pixel], cr[pixel]].map(i32::from));
        for (channel, value) in rgb.into_iter().enumerate() {
            image[channel * area + pixel] = value;
        }
    }
}
