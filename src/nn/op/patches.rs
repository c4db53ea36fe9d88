//! Patches of images as columns of a matrix (im2col), and back (col2im).
//!
//! An image is (C, H, W); its columns are (C·k·k, OH·OW), where column p holds what the kernel sees at output position p.
//! The columns of several images lie side by side: (C·k·k, G·OH·OW).
//!
//! Images are first spread out ([`Geometry::spread`]): zeros around them for the padding, and, at stride s, the s·s
//! planes of every s-th pixel apart (space to depth). Then what one offset of the kernel sees along an output row lies
//! side by side, and a row of the matrix is made of short contiguous copies, whatever stride and padding are.

use std::ops::Range;

use super::strips::{join, pack, separate, unpack_add};

/// The shape of a convolution over one image, with a square kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Geometry {
    /// How many values an image has.
    pub fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Rows of the columns' matrix: C·k·k.
    pub fn rows(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Output positions: OH·OW.
    pub fn positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Whether the columns are the image itself: a 1x1 kernel on every pixel.
    pub fn is_identity(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// Whether an image is its own spread.
    fn is_spread(&self) -> bool {
        self.stride == 1 && self.padding == 0
    }

    /// Height and width of one plane of the spread.
    fn plane(&self) -> (usize, usize) {
        let extent = |side: usize| (side + 2 * self.padding).div_ceil(self.stride);
        (extent(self.height), extent(self.width))
    }

    /// Values of one channel's spread: its s·s planes.
    fn spread_channel(&self) -> usize {
        let (height, width) = self.plane();
        self.stride * self.stride * height * width
    }

    /// Values that the spread of a channel needs in a buffer: none where an image is its own.
    pub fn spread_values(&self) -> usize {
        if self.is_spread() {
            0
        } else {
            self.spread_channel()
        }
    }

    /// Values that a buffer for the columns of some channels of `images` needs.
    pub fn columns(&self, channels: usize, images: usize) -> usize {
        channels * self.kernel * self.kernel * images * self.positions()
    }

    /// Where in a channel's spread the pixels (y, `phase`), (y, `phase` + s), … lie: one after another.
    fn line(&self, y: usize, phase: usize) -> usize {
        let (s, p) = (self.stride, self.padding);
        let (height, width) = self.plane();
        let plane = (y + p) % s * s + (phase + p) % s;
        (plane * height + (y + p) / s) * width + (phase + p) / s
    }

    /// Writes the spread of some channels of an image.
    fn spread(&self, image: &[f32], spread: &mut [f32]) {
        let (area, each) = (self.height * self.width, self.spread_channel());
        spread.fill(0.0);
        for y in 0..self.height {
            let pixels = y * self.width..(y + 1) * self.width;
            let lines: [usize; 2] = std::array::from_fn(|phase| self.line(y, phase));
            let channels = image.chunks_exact(area).zip(spread.chunks_exact_mut(each));
            for (image, spread) in channels {
                let pixels = &image[pixels.clone()];
                match self.stride {
                    1 => spread[lines[0]..][..self.width].copy_from_slice(pixels),
                    2 => {
                        let (even, odd) = pair(spread, lines, self.width);
                        separate(pixels, even, odd);
                    }
                    stride => {
                        for phase in 0..stride.min(self.width) {
                            let row = &mut spread[self.line(y, phase)..];
                            let pixels = pixels[phase..].iter().step_by(stride);
                            for (t, s) in row.iter_mut().zip(pixels) {
                                *t = *s;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Takes the image back out of its spread.
    fn fold(&self, spread: &mut [f32], image: &mut [f32]) {
        let (area, each) = (self.height * self.width, self.spread_channel());
        for y in 0..self.height {
            let pixels = y * self.width..(y + 1) * self.width;
            let lines: [usize; 2] = std::array::from_fn(|phase| self.line(y, phase));
            let channels = image
                .chunks_exact_mut(area)
                .zip(spread.chunks_exact_mut(each));
            for (image, spread) in channels {
                let pixels = &mut image[pixels.clone()];
                match self.stride {
                    1 => pixels.copy_from_slice(&spread[lines[0]..][..self.width]),
                    2 => {
                        let (even, odd) = pair(spread, lines, self.width);
                        join(even, odd, pixels);
                    }
                    stride => {
                        for phase in 0..stride.min(self.width) {
                            let row = &spread[self.line(y, phase)..];
                            let pixels = pixels[phase..].iter_mut().step_by(stride);
                            for (t, s) in pixels.zip(row) {
                                *t = *s;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Calls `row(row, start)` for each row of the matrix of some channels, with the place in the spread where it begins.
    fn each_row(&self, channels: usize, mut row: impl FnMut(usize, usize)) {
        let (k, s) = (self.kernel, self.stride);
        let (height, width) = self.plane();
        let mut at = 0;
        for channel in 0..channels {
            for ky in 0..k {
                for kx in 0..k {
                    let plane = (channel * s + ky % s) * s + kx % s;
                    row(at, (plane * height + ky / s) * width + kx / s);
                    at += 1;
                }
            }
        }
    }

    /// Writes the columns of some channels of some images. `spread` has `spread_values` for each.
    pub fn gather(
        &self,
        channels: Range<usize>,
        images: &[f32],
        spread: &mut [f32],
        columns: &mut [f32],
    ) {
        let area = self.height * self.width;
        let count = images.len() / self.image();
        let (source, each) = if self.is_spread() {
            (&images[channels.start * area..], self.image())
        } else {
            let each = channels.len() * self.spread_channel();
            let images = images.chunks_exact(self.image());
            for (image, spread) in images.zip(spread.chunks_exact_mut(each)) {
                self.spread(&image[channels.start * area..channels.end * area], spread);
            }
            (&*spread, each)
        };
        let (width, pitch) = (self.out_width(), self.plane().1);
        let mut strips = columns.chunks_exact_mut(self.positions());
        self.each_row(channels.len(), |_, start| {
            for (image, strip) in (0..count).zip(&mut strips) {
                pack(width, &source[image * each + start..], pitch, strip);
            }
        });
    }

    /// Adds the columns of images onto them, the transpose of [`gather`](Self::gather), for some channels.
    ///
    /// `columns` and `spread` hold those channels only; `images` gives the same channels of each image.
    pub fn scatter<'a>(
        &self,
        channels: usize,
        columns: &[f32],
        spread: &mut [f32],
        images: impl ExactSizeIterator<Item = &'a mut [f32]>,
    ) {
        let (width, pitch) = (self.out_width(), self.plane().1);
        let (count, positions) = (images.len(), self.positions());
        for (at, image) in images.enumerate() {
            let target: &mut [f32] = if self.is_spread() {
                &mut *image
            } else {
                &mut spread[..channels * self.spread_channel()]
            };
            target.fill(0.0);
            self.each_row(channels, |row, start| {
                let strip = &columns[(row * count + at) * positions..][..positions];
                unpack_add(width, strip, &mut target[start..], pitch);
            });
            if !self.is_spread() {
                self.fold(spread, image);
            }
        }
    }
}

/// The even and the odd pixels of a row of `width` at stride 2, which lie in different planes of the spread.
fn pair(spread: &mut [f32], [even, odd]: [usize; 2], width: usize) -> (&mut [f32], &mut [f32]) {
    let (evens, odds) = (width.div_ceil(2), width / 2);
    if even < odd {
        let (head, tail) = spread.split_at_mut(odd);
        (&mut head[even..even + evens], &mut tail[..odds])
    } else {
        let (head, tail) = spread.split_at_mut(even);
        (&mut tail[..evens], &mut head[odd..odd + odds])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of an image and the image that they are added back to.
    fn there_and_back(g: &Geometry, image: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut spread = vec![f32::NAN; g.channels * g.spread_values()];
        let mut columns = vec![f32::NAN; g.columns(g.channels, 1)];
        g.gather(0..g.channels, image, &mut spread, &mut columns);
        let mut back = vec![f32::NAN; image.len()];
        g.scatter(
            g.channels,
            &columns,
            &mut spread,
            std::iter::once(&mut back[..]),
        );
        columns.truncate(g.rows() * g.positions());
        (columns, back)
    }

    #[test]
    fn columns_by_hand() {
        // 1 2 3      kernel 2, stride 1: the columns' first row is the top left value of each patch.
        // 4 5 6
        // 7 8 9
        let g = Geometry {
            channels: 1,
            height: 3,
            width: 3,
            kernel: 2,
            stride: 1,
            padding: 0,
        };
        let image: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let (columns, back) = there_and_back(&g, &image);
        assert_eq!(columns[..4], [1.0, 2.0, 4.0, 5.0]);
        assert_eq!(columns[12..], [5.0, 6.0, 8.0, 9.0]);
        // Each value goes back as often as a patch holds it.
        assert_eq!(back, [1.0, 4.0, 3.0, 8.0, 20.0, 12.0, 7.0, 16.0, 9.0]);
    }

    #[test]
    fn padding_reads_as_zero_also_when_a_kernel_reaches_beyond_both_sides() {
        // 1x1 image, kernel 5, padding 2: only the middle sees it.
        let g = Geometry {
            channels: 1,
            height: 1,
            width: 1,
            kernel: 5,
            stride: 2,
            padding: 2,
        };
        let (columns, back) = there_and_back(&g, &[7.0]);
        assert_eq!(columns.iter().sum::<f32>(), 7.0);
        assert_eq!(columns[12], 7.0);
        assert_eq!(back, [7.0]);
    }

    /// Every stride, padding and kernel against the definition, on an image of odd sides.
    #[test]
    fn columns_are_what_the_kernel_sees() {
        for (kernel, stride, padding) in [
            (1, 2, 0),
            (2, 1, 1),
            (3, 1, 1),
            (3, 2, 1),
            (3, 3, 0),
            (5, 2, 2),
        ] {
            let g = Geometry {
                channels: 2,
                height: 7,
                width: 9,
                kernel,
                stride,
                padding,
            };
            let image: Vec<f32> = (1..=126).map(|v| v as f32).collect();
            let (columns, _) = there_and_back(&g, &image);
            let mut at = 0;
            for (c, ky, kx) in (0..2 * kernel * kernel)
                .map(|r| (r / kernel / kernel, r / kernel % kernel, r % kernel))
            {
                for (oy, ox) in (0..g.positions()).map(|p| (p / g.out_width(), p % g.out_width())) {
                    let (y, x) = (oy * stride + ky, ox * stride + kx);
                    let inside =
                        (padding..padding + 7).contains(&y) && (padding..padding + 9).contains(&x);
                    let expected = if inside {
                        image[c * 63 + (y - padding) * 9 + x - padding]
                    } else {
                        0.0
                    };
                    assert_eq!(
                        columns[at], expected,
                        "kernel {kernel} stride {stride} padding {padding} at {at}"
                    );
                    at += 1;
                }
            }
        }
    }
}
