//! Maximum over square windows, channels last; rows and columns that fill no window are left out (floor).
//!
//! (B, H, W, C) -> (B, (H+2p-k)/s+1, (W+2p-k)/s+1, C); padding never wins.
//! The gradient goes to the first maximum of each window in reading order, as in PyTorch; overlapping windows add.

#![expect(
    unsafe_code,
    reason = "vectors are loaded by pointer, without a check for each"
)]
#![expect(clippy::inline_always, reason = "parts of vectorized bodies")]

use std::ops::Range;

use rayon::prelude::*;

use super::simd::{One, Vector, vectorized};
use super::{parts, shares};

/// The largest kernel: the place of a maximum inside its window is kept in one byte.
pub const LARGEST_KERNEL: usize = 16;

/// Windows over planes of `height` x `width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub height: usize,
    pub width: usize,
    pub kernel: usize,
    pub stride: usize,
    /// At most half of the kernel, so that every window holds a pixel.
    pub padding: usize,
}

impl Windows {
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Whether no window reaches into another or the padding.
    pub fn are_apart(&self) -> bool {
        self.padding == 0 && self.stride >= self.kernel
    }

    /// Windows in a plane.
    pub fn count(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Pixels of a plane.
    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Whether windows lie side by side without padding, two by two.
    fn quarters(&self) -> bool {
        self.kernel == 2 && self.stride == 2 && self.padding == 0
    }

    /// For offset `t` of the kernel along an axis of `inputs` pixels, the `outputs` that see a pixel there.
    fn seeing(&self, t: usize, inputs: usize, outputs: usize) -> Range<usize> {
        let first = self.padding.saturating_sub(t).div_ceil(self.stride);
        let end = (inputs + self.padding)
            .saturating_sub(t)
            .div_ceil(self.stride);
        first..end.min(outputs).max(first)
    }

    /// The offsets of the kernel that lie inside, along an axis of `inputs` pixels, for window `at`.
    fn under(&self, at: usize, inputs: usize) -> Range<usize> {
        let first = at * self.stride;
        self.padding.saturating_sub(first)..self.kernel.min(inputs + self.padding - first)
    }

    /// Calls `visit` with each offset of the kernel that sees pixels, for a row of windows: the offset's number, the row of
    /// those pixels, the windows that see one, and the column of the first.
    #[inline(always)]
    pub(crate) fn each_row(
        &self,
        row: usize,
        mut visit: impl FnMut(usize, usize, Range<usize>, usize),
    ) {
        for ky in 0..self.kernel {
            let Some(y) = (row * self.stride + ky).checked_sub(self.padding) else {
                continue;
            };
            if y >= self.height {
                return;
            }
            for kx in 0..self.kernel {
                let windows = self.seeing(kx, self.width, self.out_width());
                if !windows.is_empty() {
                    let x = windows.start * self.stride + kx - self.padding;
                    visit(ky * self.kernel + kx, y, windows, x);
                }
            }
        }
    }
}

/// y = the maxima; `place` = where in its window each was found, row by row; or nothing, where it is empty.
pub fn forward(windows: &Windows, channels: usize, x: &[f32], y: &mut [f32], place: &mut [u8]) {
    let image = windows.pixels() * channels;
    let (rows, row) = (windows.out_height(), windows.out_width() * channels);
    // All rows of all images: there may be more threads than images.
    let parts = parts(x.len() / image * rows);
    let ys = shares(y, &parts, row);
    let places = shares(place, &parts, if place.is_empty() { 0 } else { row });
    let parts = parts.into_par_iter().zip(ys).zip(places);
    parts.for_each(|((part, y), place)| {
        let mut at = vec![0.0; row];
        for (i, (of_all, y)) in part.zip(y.chunks_exact_mut(row)).enumerate() {
            let x = &x[of_all / rows * image..][..image];
            if windows.quarters() {
                let pixels = &x[of_all % rows * 2 * windows.width * channels..];
                quarters(pixels, windows.width * channels, channels, y, &mut at);
            } else {
                maxima(windows, of_all % rows, channels, x, y, &mut at);
            }
            if let Some(place) = place.get_mut(i * row..(i + 1) * row) {
                whole(&at, place);
            }
        }
    });
}

vectorized! {
    /// Places as bytes: beside 2^23 a float's last bits are the number.
    fn whole<V>(at: &[f32], place: &mut [u8]) {
        for (place, at) in place.iter_mut().zip(at) {
            *place = (at + 8_388_608.0).to_bits() as u8;
        }
    }
}

vectorized! {
    /// A row of windows of two by two.
    fn quarters<V>(pixels: &[f32], width: usize, channels: usize, y: &mut [f32], at: &mut [f32]) {
        let (top, bottom) = pixels.split_at(width);
        let pairs = top.chunks_exact(2 * channels).zip(bottom.chunks_exact(2 * channels));
        let outputs = y.chunks_exact_mut(channels).zip(at.chunks_exact_mut(channels));
        for ((top, bottom), (y, at)) in pairs.zip(outputs) {
            let ((a, b), (c, d)) = (top.split_at(channels), bottom.split_at(channels));
            let (b, d) = (&b[..channels], &d[..channels]);
            for i in 0..channels {
                let (upper, at_upper) = later(a[i], 0.0, b[i], 1.0);
                let (lower, at_lower) = later(c[i], 2.0, d[i], 3.0);
                (y[i], at[i]) = later(upper, at_upper, lower, at_lower);
            }
        }
    }
}

/// The larger of two, the first of equals; a NaN wins, so that a diverged network does not look healthy.
#[inline(always)]
fn later(first: f32, at_first: f32, second: f32, at_second: f32) -> (f32, f32) {
    // Without a short circuit: which of two is larger is hard to predict.
    if (second > first) | second.is_nan() {
        (second, at_second)
    } else {
        (first, at_first)
    }
}

vectorized! {
    /// A row of windows.
    fn maxima<V>(windows: &Windows, row: usize, channels: usize, x: &[f32], y: &mut [f32], at: &mut [f32]) {
        let outputs = y.chunks_exact_mut(channels).zip(at.chunks_exact_mut(channels));
        let rows = windows.under(row, windows.height);
        for (column, (y, at)) in outputs.enumerate() {
            let columns = windows.under(column, windows.width);
            let first = (row * windows.stride + rows.start - windows.padding) * windows.width
                + (column * windows.stride + columns.start - windows.padding);
            let end = first + (rows.len() - 1) * windows.width + columns.len();
            let window = Window {
                pixels: x[first * channels..end * channels].as_ptr(),
                row: windows.width * channels,
                column: channels,
                kernel: windows.kernel,
                place: rows.start * windows.kernel + columns.start,
            };
            let size = (rows.len(), columns.len());
            // SAFETY: the window's pixels were checked; this is a vectorized body.
            unsafe {
                if channels < V::LANES {
                    maximum::<One<V>>(&window, size, y, at);
                    continue;
                }
                // The same with the size as a constant: then the compiler spells the loops out.
                match size {
                    (3, 3) => maximum::<V>(&window, (3, 3), y, at),
                    size => maximum::<V>(&window, size, y, at),
                }
            }
        }
    }
}

/// The pixels under a window, from the first channel of the first on.
struct Window {
    pixels: *const f32,
    /// Values from row to row and from column to column.
    row: usize,
    column: usize,
    kernel: usize,
    /// Of the first pixel in the window.
    place: usize,
}

/// The maximum of one window of rows and columns, and its place, for all channels.
#[inline(always)]
unsafe fn maximum<V: Vector>(
    window: &Window,
    (rows, columns): (usize, usize),
    y: &mut [f32],
    at: &mut [f32],
) {
    let mut c = 0;
    while c < y.len() {
        // The last vector overlaps its neighbor rather than being cut.
        let first = c.min(y.len() - V::LANES);
        // SAFETY: the caller's promises; `first` + LANES is a number of channels.
        unsafe {
            let pixels = window.pixels.add(first);
            let mut best = V::load(pixels);
            let mut place = V::splat(window.place as f32);
            for row in 0..rows {
                for column in 0..columns {
                    let x = V::load(pixels.add(row * window.row + column * window.column));
                    let offset = window.place + row * window.kernel + column;
                    place = place.or_where_above(V::splat(offset as f32), x, best);
                    best = best.or_where_above(x, x, best);
                }
            }
            best.store(y[first..].as_mut_ptr());
            place.store(at[first..].as_mut_ptr());
        }
        c += V::LANES;
    }
}

/// dx = dy at the places, else 0; overlapping windows add.
pub fn backward(windows: &Windows, channels: usize, place: &[u8], dy: &[f32], dx: &mut [f32]) {
    let image = windows.pixels() * channels;
    let values = windows.count() * channels;
    let parts = parts(dx.len() / image);
    let dxs = shares(dx, &parts, image);
    parts.into_par_iter().zip(dxs).for_each(|(part, dx)| {
        let range = part.start * values..part.end * values;
        let gradients = place[range.clone()]
            .chunks_exact(values)
            .zip(dy[range].chunks_exact(values));
        for (dx, (place, dy)) in dx.chunks_exact_mut(image).zip(gradients) {
            if windows.quarters() {
                spread_quarters(windows, channels, place, dy, dx);
            } else {
                spread(windows, channels, place, dy, dx);
            }
        }
    });
}

vectorized! {
    /// One image of windows of two by two: each pixel has one window at most, and is written once.
    fn spread_quarters<V>(windows: &Windows, channels: usize, place: &[u8], dy: &[f32], dx: &mut [f32]) {
        let (row, out) = (windows.width * channels, windows.out_width() * channels);
        let (seen, unseen) = dx.split_at_mut(2 * windows.out_height() * row);
        unseen.fill(0.0);
        let gradients = place.chunks_exact(out).zip(dy.chunks_exact(out));
        for (dx, (place, dy)) in seen.chunks_exact_mut(2 * row).zip(gradients) {
            let (top, bottom) = dx.split_at_mut(row);
            for (pixels, first) in [(top, 0), (bottom, 2)] {
                let (pixels, rest) = pixels.split_at_mut(2 * out);
                rest.fill(0.0);
                let gradients = place.chunks_exact(channels).zip(dy.chunks_exact(channels));
                for (pair, (place, dy)) in pixels.chunks_exact_mut(2 * channels).zip(gradients) {
                    let (left, right) = pair.split_at_mut(channels);
                    let (right, dy) = (&mut right[..channels], &dy[..channels]);
                    for i in 0..channels {
                        let place = u32::from(place[i]);
                        left[i] = chosen(place == first, dy[i]);
                        right[i] = chosen(place == first + 1, dy[i]);
                    }
                }
            }
        }
    }
}

vectorized! {
    /// One image of any windows.
    fn spread<V>(windows: &Windows, channels: usize, place: &[u8], dy: &[f32], dx: &mut [f32]) {
        dx.fill(0.0);
        let out = windows.out_width() * channels;
        for (row, (place, dy)) in place.chunks_exact(out).zip(dy.chunks_exact(out)).enumerate() {
            windows.each_row(row, #[inline(always)] |offset, pixel_row, seeing, first| {
                let step = windows.stride * channels;
                let pixels = dx[(pixel_row * windows.width + first) * channels..].chunks_mut(step);
                let range = seeing.start * channels..seeing.end * channels;
                let gradients = place[range.clone()].chunks_exact(channels).zip(dy[range].chunks_exact(channels));
                for (pixel, (place, dy)) in pixels.zip(gradients) {
                    add_chosen(place, dy, offset as u32, &mut pixel[..channels]);
                }
            });
        }
    }
}

/// Adds dy where the place is `offset`.
#[inline(always)]
fn add_chosen(place: &[u8], dy: &[f32], offset: u32, pixel: &mut [f32]) {
    let n = pixel.len();
    let (place, dy) = (&place[..n], &dy[..n]);
    for i in 0..n {
        pixel[i] += chosen(u32::from(place[i]) == offset, dy[i]);
    }
}

/// `g` where `here`, else 0: by bits, since with a branch the compiler would not use vectors.
#[inline(always)]
fn chosen(here: bool, g: f32) -> f32 {
    f32::from_bits(g.to_bits() & u32::from(here).wrapping_neg())
}

/// On a GPU.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use candle_core::Tensor;

    use super::Windows;
    use crate::nn::Result;
    use crate::nn::op::cuda::{Arg, Engine, Grid, at, at_option, countable};

    pub(crate) const SOURCE: &str = r"
KERNEL max_pool_forward(const float *x, float *y, unsigned char *place, int channels, int height, int width,
                        int out_height, int out_width, int kernel, int stride, int padding, int n) {
    EACH(i, n) {
        int c = i % channels, left = i / channels % out_width * stride - padding, line = i / channels / out_width;
        int top = line % out_height * stride - padding, image = line / out_height;
        int first = max(-left, 0), end = min(kernel, width - left), where = -1;
        float best = 0.0f;
        for (int ky = max(-top, 0); ky < min(kernel, height - top); ky++)
            for (int kx = first; kx < end; kx++) {
                float value = x[((image * height + top + ky) * width + left + kx) * channels + c];
                // A NaN wins: a diverged network must not look healthy.
                if (where < 0 || value > best || value != value) { best = value; where = ky * kernel + kx; }
            }
        y[i] = best;
        if (place) place[i] = where;
    }
}

// Each pixel adds the gradients of the windows that chose it, in the order of the host: down, and back along a line.
KERNEL max_pool_backward(const unsigned char *place, const float *dy, float *dx, int channels, int height, int width,
                         int out_height, int out_width, int kernel, int stride, int padding, int n) {
    EACH(i, n) {
        int c = i % channels, px = i / channels % width + padding, line = i / channels / width;
        int py = line % height + padding, image = line / height;
        int top = max(py - kernel + stride, 0) / stride, left = max(px - kernel + stride, 0) / stride;
        float sum = 0.0f;
        for (int oy = top; oy <= min(py / stride, out_height - 1); oy++)
            for (int ox = min(px / stride, out_width - 1); ox >= left; ox--) {
                int at = ((image * out_height + oy) * out_width + ox) * channels + c;
                if (place[at] == (py - oy * stride) * kernel + px - ox * stride) sum += dy[at];
            }
        dx[i] = sum;
    }
}
";

    /// As [`super::forward`]; without a `place` none is kept.
    pub(crate) fn forward(
        engine: &Engine,
        windows: &Windows,
        channels: usize,
        x: &Tensor,
        y: &Tensor,
        place: Option<&Tensor>,
    ) -> Result<()> {
        countable(x.elem_count())?;
        let n = y.elem_count();
        let first = [at(x)?.into(), at(y)?.into(), at_option(place)?.into()];
        let args = [&first[..], &sizes(windows, channels), &[n.into()]].concat();
        engine.launch("max_pool_forward", Grid::over(n), &args)
    }

    /// As [`super::backward`].
    pub(crate) fn backward(
        engine: &Engine,
        windows: &Windows,
        channels: usize,
        place: &Tensor,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        countable(dy.elem_count())?;
        let n = dx.elem_count();
        let first = [at(place)?.into(), at(dy)?.into(), at(dx)?.into()];
        let args = [&first[..], &sizes(windows, channels), &[n.into()]].concat();
        engine.launch("max_pool_backward", Grid::over(n), &args)
    }

    /// What kernels over windows are told of them.
    pub(crate) fn sizes(windows: &Windows, channels: usize) -> [Arg; 8] {
        [
            channels.into(),
            windows.height.into(),
            windows.width.into(),
            windows.out_height().into(),
            windows.out_width().into(),
            windows.kernel.into(),
            windows.stride.into(),
            windows.padding.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(windows: &Windows, x: &[f32]) -> (Vec<f32>, Vec<u8>, Vec<f32>) {
        let n = windows.count();
        let (mut y, mut place, mut dx) = (vec![9.0; n], vec![9; n], vec![9.0; x.len()]);
        forward(windows, 1, x, &mut y, &mut place);
        backward(windows, 1, &place, &vec![1.0; n], &mut dx);
        (y, place, dx)
    }

    fn square(side: usize, kernel: usize, stride: usize, padding: usize) -> Windows {
        Windows {
            height: side,
            width: side,
            kernel,
            stride,
            padding,
        }
    }

    #[test]
    fn the_first_of_equal_maxima_takes_it_all() {
        let (_, _, dx) = pooled(&square(2, 2, 2, 0), &[0.0; 4]);
        assert_eq!(dx, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(pooled(&square(3, 3, 3, 0), &[5.0; 9]).2[0], 1.0);
    }

    /// Padding is below every pixel, -∞ included: the place is one inside the image.
    #[test]
    fn padding_never_wins() {
        let (y, place, dx) = pooled(&square(1, 3, 1, 1), &[f32::NEG_INFINITY]);
        assert_eq!((y[0], place[0], dx[0]), (f32::NEG_INFINITY, 4, 1.0));
        assert_eq!(
            pooled(&square(2, 2, 2, 1), &[-1.0, -2.0, -3.0, -4.0]).0,
            [-1.0, -2.0, -3.0, -4.0]
        );
    }

    /// As in PyTorch 2.15: the last NaN of a window.
    #[test]
    fn nan_stays() {
        for windows in [square(2, 2, 2, 0), square(2, 2, 1, 0)] {
            let (y, place, _) = pooled(&windows, &[1.0, f32::NAN, f32::NAN, 2.0]);
            assert!(y[0].is_nan());
            assert_eq!(place[0], 2);
        }
    }

    #[test]
    fn places_need_not_be_kept() {
        let x: Vec<f32> = (0..25).map(|i| (i * 7 % 25) as f32).collect();
        let windows = square(5, 3, 2, 1);
        let mut y = vec![0.0; windows.count()];
        forward(&windows, 1, &x, &mut y, &mut []);
        assert_eq!(y, pooled(&windows, &x).0);
    }
}
