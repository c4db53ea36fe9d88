//! A batch of images from many: picked, moved, mirrored, and brought from bytes to [0, 1].
//!
//! y[b, c, i, j] = x[pick, c, i + down, j' + right] / 255, j' = j or, mirrored, W - 1 - j; 0 outside of the image.
//! x bytes (N, C, H, W), y (B, C, H, W).

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::tensor;
use crate::nn::{ImageShape, Result};

/// Which image, and how it is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    pub index: u32,
    /// Rows and columns from a pixel of the result to the one that it shows.
    pub down: i32,
    pub right: i32,
    pub mirrored: bool,
}

impl Pick {
    /// An image as it is.
    pub fn plain(index: usize) -> Self {
        Self {
            index: index as u32,
            ..Self::default()
        }
    }
}

/// Many images to take batches from: in main memory, or in that of the device that computes.
#[derive(Debug)]
pub struct Source<'a> {
    shape: ImageShape,
    images: &'a [u8],
    #[cfg(feature = "cuda")]
    resident: Option<Tensor>,
}

impl<'a> Source<'a> {
    /// Images side by side, for networks on a device; a GPU takes a copy.
    pub fn new(shape: ImageShape, images: &'a [u8], device: &Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        let resident = match device {
            Device::Cuda(device) => {
                Some(super::cuda::engine(device)?.upload(images, &[images.len()])?)
            }
            _ => None,
        };
        let _ = device;
        Ok(Self {
            shape,
            images,
            #[cfg(feature = "cuda")]
            resident,
        })
    }

    /// A batch, (B, C, H, W), where networks of that device take it.
    pub fn batch(&self, picks: &[Pick]) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(resident) = &self.resident
            && let Some(engine) = super::cuda::engine_of(resident)?
        {
            return cuda::forward(&engine, self.shape, resident, picks);
        }
        let mut values = vec![0.0; picks.len() * self.shape.values()];
        forward(self.shape, self.images, picks, &mut values);
        let shape = self.shape;
        tensor(
            values,
            &[picks.len(), shape.channels, shape.height, shape.width],
        )
    }
}

/// Writes the picked images.
pub fn forward(shape: ImageShape, x: &[u8], picks: &[Pick], y: &mut [f32]) {
    let image = shape.values().max(1);
    y.par_chunks_exact_mut(image)
        .zip(picks)
        .for_each(|(y, pick)| one(shape, &x[pick.index as usize * image..][..image], *pick, y));
}

fn one(shape: ImageShape, image: &[u8], pick: Pick, y: &mut [f32]) {
    let (height, width) = (shape.height, shape.width);
    if (pick.down, pick.right, pick.mirrored) == (0, 0, false) {
        for (y, byte) in y.iter_mut().zip(image) {
            *y = f32::from(*byte) / 255.0;
        }
        return;
    }
    // The columns of the result, before it is mirrored, that show a pixel.
    let first = pick.right.min(0).unsigned_abs() as usize;
    let end = (width as i64 - i64::from(pick.right)).clamp(0, width as i64) as usize;
    let planes = image.chunks_exact(height * width);
    for (plane, y) in planes.zip(y.chunks_exact_mut(height * width)) {
        for (row, y) in y.chunks_exact_mut(width).enumerate() {
            y.fill(0.0);
            let from = row as i64 + i64::from(pick.down);
            if (0..height as i64).contains(&from) && first < end {
                let begin = from as usize * width + pick.right.max(0) as usize;
                for (y, byte) in y[first..end].iter_mut().zip(&plane[begin..]) {
                    *y = f32::from(*byte) / 255.0;
                }
            }
            if pick.mirrored {
                y.reverse();
            }
        }
    }
}

/// On a GPU.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use candle_core::{DType, Tensor};

    use super::Pick;
    use crate::nn::op::cuda::{Engine, Grid, at};
    use crate::nn::{ImageShape, Result};

    pub(crate) const SOURCE: &str = r"
KERNEL gather_images(const unsigned char *x, const int *picks, float *y, int channels, int height, int width, int n) {
    EACH(i, n) {
        int column = i % width, row = i / width % height, c = i / width / height % channels;
        const int *pick = picks + 4 * (i / width / height / channels);
        int from = row + pick[1], at = (pick[3] ? width - 1 - column : column) + pick[2];
        bool inside = from >= 0 && from < height && at >= 0 && at < width;
        size_t place = (((size_t)pick[0] * channels + c) * height + from) * width + at;
        y[i] = inside ? x[place] / 255.0f : 0.0f;
    }
}
";

    /// As [`super::forward`]; the picks come from the host.
    pub(crate) fn forward(
        engine: &Engine,
        shape: ImageShape,
        x: &Tensor,
        picks: &[Pick],
    ) -> Result<Tensor> {
        let words = picks.iter().flat_map(|pick| {
            let index = pick.index.cast_signed();
            [index, pick.down, pick.right, i32::from(pick.mirrored)]
        });
        let bytes: Vec<u8> = words.flat_map(i32::to_le_bytes).collect();
        let chosen = engine.empty(bytes.len(), DType::U8)?;
        engine.write_bytes(at(&chosen)?, &bytes)?;
        let n = picks.len() * shape.values();
        let y = engine.empty(n, DType::F32)?;
        let args = [
            at(x)?.into(),
            at(&chosen)?.into(),
            at(&y)?.into(),
            shape.channels.into(),
            shape.height.into(),
            shape.width.into(),
            n.into(),
        ];
        engine.launch("gather_images", Grid::over(n), &args)?;
        y.reshape((picks.len(), shape.channels, shape.height, shape.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_move_and_mirror_and_leave_black_behind() {
        let shape = ImageShape {
            channels: 1,
            height: 2,
            width: 3,
        };
        let x: Vec<u8> = [[9; 6], [51, 102, 153, 204, 255, 0]].concat();
        let pick = |down, right, mirrored| {
            let pick = Pick {
                index: 1,
                down,
                right,
                mirrored,
            };
            let mut y = [9.0; 6];
            forward(shape, &x, &[pick], &mut y);
            y
        };
        assert_eq!(pick(0, 0, false), [0.2, 0.4, 0.6, 0.8, 1.0, 0.0]);
        assert_eq!(pick(0, 0, true), [0.6, 0.4, 0.2, 0.0, 1.0, 0.8]);
        assert_eq!(pick(1, 1, false), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(pick(-1, -2, false), [0.0, 0.0, 0.0, 0.0, 0.0, 0.2]);
        assert_eq!(pick(0, 4, false), [0.0; 6]);
        assert_eq!(pick(0, -1, true), [0.4, 0.2, 0.0, 1.0, 0.8, 0.0]);
    }
}
