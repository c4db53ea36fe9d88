//! Images enlarged to a side, for networks that were made for larger ones.
//!
//! Bilinear: an output pixel at d lies at s = (d + 1/2) n / side - 1/2 of the input, held inside it, and takes its two
//! neighbors each way in their shares; rounded to the nearest byte, halves to even. As PyTorch's `interpolate` with
//! `mode="bilinear", align_corners=False`, and torchvision's `resize` of byte tensors.

use rayon::prelude::*;

use super::Examples;
use crate::lab::error::{Error, Result};
use crate::nn::ImageShape;

/// Bytes of enlarged images that are held at once: half the memory of a small machine.
const MOST_BYTES: usize = 4 << 30;

/// A neighbor, the next one, and the next one's share.
type Between = (usize, usize, f32);

/// The shape of such images with `side` x `side` pixels.
///
/// # Errors
/// When they would shrink.
pub fn enlarged(shape: ImageShape, side: usize) -> Result<ImageShape> {
    let ImageShape { height, width, .. } = shape;
    if side < height || side < width {
        return Err(refused(format!(
            "{side} pixels are fewer than the images have, {height}x{width}; they can only be enlarged"
        )));
    }
    Ok(ImageShape {
        height: side,
        width: side,
        ..shape
    })
}

fn refused(problem: String) -> Error {
    Error::Impossible {
        knob: "resize".into(),
        problem,
    }
}

impl Examples {
    /// The images with `side` x `side` pixels.
    ///
    /// # Errors
    /// When they would shrink, or take more memory than is held here.
    pub fn enlarged(&self, side: usize) -> Result<Self> {
        let ImageShape { height, width, .. } = self.shape;
        let shape = enlarged(self.shape, side)?;
        let bytes = self.len().saturating_mul(shape.values());
        if bytes > MOST_BYTES {
            return Err(refused(format!(
                "{} images of {side}x{side} pixels take {:.1} GB, at most {:.1} GB are held; train-limit and test-limit take fewer",
                self.len(),
                bytes as f64 / 1e9,
                MOST_BYTES as f64 / 1e9
            )));
        }
        let (rows, columns) = (places(height, side), places(width, side));
        let mut images = vec![0; bytes];
        images
            .par_chunks_exact_mut(side * side)
            .zip(self.images.par_chunks_exact(height * width))
            .for_each(|(large, small)| enlarge(small, width, &rows, &columns, large));
        Ok(Self {
            shape,
            images,
            labels: self.labels.clone(),
            groups: self.groups.clone(),
        })
    }
}

/// Where each of `side` output pixels lies among `n`.
fn places(n: usize, side: usize) -> Vec<Between> {
    let place = |d: usize| {
        let s = ((d as f32 + 0.5) * (n as f32 / side as f32) - 0.5).max(0.0);
        let first = (s as usize).min(n - 1);
        (first, (first + 1).min(n - 1), s - first as f32)
    };
    (0..side).map(place).collect()
}

fn enlarge(small: &[u8], width: usize, rows: &[Between], columns: &[Between], large: &mut [u8]) {
    let value = |row: usize, column: usize| f32::from(small[row * width + column]);
    let lines = large.chunks_exact_mut(columns.len());
    for (line, &(top, bottom, down)) in lines.zip(rows) {
        for (pixel, &(left, right, across)) in line.iter_mut().zip(columns) {
            let of = |row| value(row, left) * (1.0 - across) + value(row, right) * across;
            let mixed = of(top) * (1.0 - down) + of(bottom) * down;
            *pixel = mixed.round_ties_even() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(height: usize, width: usize, images: Vec<u8>) -> Examples {
        Examples {
            shape: ImageShape {
                channels: 1,
                height,
                width,
            },
            labels: vec![3; images.len() / (height * width)],
            images,
            groups: Vec::new(),
        }
    }

    /// PyTorch 2.15: `interpolate(x, (5, 5), mode="bilinear", align_corners=False).round()`.
    #[test]
    fn pixels_are_pytorchs() {
        let small = examples(2, 3, vec![0, 100, 250, 40, 8, 200]);
        let large = small.enlarged(5).unwrap();
        assert_eq!(large.shape.height, 5);
        assert_eq!(large.shape.width, 5);
        assert_eq!(large.labels, [3]);
        #[rustfmt::skip]
        assert_eq!(large.images, [
            0, 40, 100, 190, 250,
            4, 39, 91, 183, 245,
            20, 34, 54, 157, 225,
            36, 28, 17, 130, 205,
            40, 27, 8, 123, 200,
        ]);
        assert_eq!(small.enlarged(3).unwrap().images[..3], [0, 100, 250]);
    }

    #[test]
    fn images_neither_shrink_nor_fill_the_memory() {
        let small = examples(2, 3, vec![0; 6]);
        let error = small.enlarged(2).unwrap_err().to_string();
        assert_eq!(
            error,
            "resize: 2 pixels are fewer than the images have, 2x3; they can only be enlarged"
        );
        let many = examples(1, 1, vec![0; 20_000]);
        let error = many.enlarged(512).unwrap_err().to_string();
        assert!(error.contains("20000 images of 512x512") && error.contains("train-limit"));
    }
}
