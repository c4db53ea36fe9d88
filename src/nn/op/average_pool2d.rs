//! Mean over square windows, or over whole planes, channels last.
//!
//! (B, H, W, C) -> (B, (H+2p-k)/s+1, (W+2p-k)/s+1, C), each a sum over k·k: padding counts as zeros, as PyTorch's
//! `AvgPool2d` has it by default. Over whole planes: (B, H·W, C) -> (B, C).

use rayon::prelude::*;

use super::max_pool2d::Windows;
use super::simd::vectorized;
use super::{parts, shares};

/// y = the means.
pub fn forward(windows: &Windows, channels: usize, x: &[f32], y: &mut [f32]) {
    let image = windows.pixels() * channels;
    let (rows, row) = (windows.out_height(), windows.out_width() * channels);
    // All rows of all images: there may be more threads than images.
    let parts = parts(x.len() / image * rows);
    let ys = shares(y, &parts, row);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        for (of_all, y) in part.zip(y.chunks_exact_mut(row)) {
            let x = &x[of_all / rows * image..][..image];
            sums(windows, of_all % rows, channels, x, share(windows), y);
        }
    });
}

/// dx = the share of each window's dy; overlapping windows add.
pub fn backward(windows: &Windows, channels: usize, dy: &[f32], dx: &mut [f32]) {
    let image = windows.pixels() * channels;
    let values = windows.count() * channels;
    let parts = parts(dx.len() / image);
    let dxs = shares(dx, &parts, image);
    parts.into_par_iter().zip(dxs).for_each(|(part, dx)| {
        let dys = dy[part.start * values..part.end * values].chunks_exact(values);
        for (dx, dy) in dx.chunks_exact_mut(image).zip(dys) {
            spread(windows, channels, dy, share(windows), dx);
        }
    });
}

/// y = the mean of each channel over the positions of each image.
pub fn forward_global(positions: usize, channels: usize, x: &[f32], y: &mut [f32]) {
    let parts = parts(y.len() / channels);
    let ys = shares(y, &parts, channels);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        let image = positions * channels;
        let xs = x[part.start * image..part.end * image].chunks_exact(image);
        for (x, y) in xs.zip(y.chunks_exact_mut(channels)) {
            means(x, 1.0 / positions as f32, y);
        }
    });
}

/// dx = the share of its channel's dy.
pub fn backward_global(positions: usize, channels: usize, dy: &[f32], dx: &mut [f32]) {
    let parts = parts(dy.len() / channels);
    let image = positions * channels;
    let dxs = shares(dx, &parts, image);
    parts.into_par_iter().zip(dxs).for_each(|(part, dx)| {
        let dys = dy[part.start * channels..part.end * channels].chunks_exact(channels);
        for (dx, dy) in dx.chunks_exact_mut(image).zip(dys) {
            repeat(dy, 1.0 / positions as f32, dx);
        }
    });
}

fn share(windows: &Windows) -> f32 {
    1.0 / (windows.kernel * windows.kernel) as f32
}

vectorized! {
    /// A row of windows: one offset of the kernel after another.
    fn sums<V>(windows: &Windows, row: usize, channels: usize, x: &[f32], share: f32, y: &mut [f32]) {
        y.fill(0.0);
        windows.each_row(row, #[inline(always)] |_, pixel_row, seeing, first| {
            let step = windows.stride * channels;
            let pixels = x[(pixel_row * windows.width + first) * channels..].chunks(step);
            let sums = y[seeing.start * channels..seeing.end * channels].chunks_exact_mut(channels);
            for (pixel, sums) in pixels.zip(sums) {
                for (sum, pixel) in sums.iter_mut().zip(&pixel[..channels]) {
                    *sum += pixel;
                }
            }
        });
        for sum in y {
            *sum *= share;
        }
    }
}

vectorized! {
    /// One image.
    fn spread<V>(windows: &Windows, channels: usize, dy: &[f32], share: f32, dx: &mut [f32]) {
        dx.fill(0.0);
        let out = windows.out_width() * channels;
        for (row, dy) in dy.chunks_exact(out).enumerate() {
            windows.each_row(row, #[inline(always)] |_, pixel_row, seeing, first| {
                let step = windows.stride * channels;
                let pixels = dx[(pixel_row * windows.width + first) * channels..].chunks_mut(step);
                let dys = dy[seeing.start * channels..seeing.end * channels].chunks_exact(channels);
                for (pixel, dy) in pixels.zip(dys) {
                    for (pixel, dy) in pixel[..channels].iter_mut().zip(dy) {
                        *pixel = V::fused(*dy, share, *pixel);
                    }
                }
            });
        }
    }
}

vectorized! {
    /// One image's means.
    fn means<V>(x: &[f32], share: f32, y: &mut [f32]) {
        y.fill(0.0);
        for x in x.chunks_exact(y.len()) {
            for (sum, x) in y.iter_mut().zip(x) {
                *sum += x;
            }
        }
        for sum in y {
            *sum *= share;
        }
    }
}

vectorized! {
    /// One image's gradient.
    fn repeat<V>(dy: &[f32], share: f32, dx: &mut [f32]) {
        for dx in dx.chunks_exact_mut(dy.len()) {
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx = dy * share;
            }
        }
    }
}

/// On a GPU.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use candle_core::Tensor;

    use super::{Windows, share};
    use crate::nn::Result;
    use crate::nn::op::cuda::{Engine, Grid, at, countable};
    use crate::nn::op::max_pool2d::cuda::sizes;

    /// Over whole planes a block takes `block_width` neighboring channels of an image; its threads share the positions.
    pub(crate) const SOURCE: &str = r"
KERNEL average_pool_forward(const float *x, float *y, float share, int channels, int height, int width, int out_height,
                            int out_width, int kernel, int stride, int padding, int n) {
    EACH(i, n) {
        int c = i % channels, left = i / channels % out_width * stride - padding, line = i / channels / out_width;
        int top = line % out_height * stride - padding, image = line / out_height;
        int first = max(-left, 0), end = min(kernel, width - left);
        float sum = 0.0f;
        for (int ky = max(-top, 0); ky < min(kernel, height - top); ky++)
            for (int kx = first; kx < end; kx++)
                sum += x[((image * height + top + ky) * width + left + kx) * channels + c];
        y[i] = sum * share;
    }
}

KERNEL average_pool_backward(const float *dy, float *dx, float share, int channels, int height, int width, int out_height,
                             int out_width, int kernel, int stride, int padding, int n) {
    EACH(i, n) {
        int c = i % channels, px = i / channels % width + padding, line = i / channels / width;
        int py = line % height + padding, image = line / height;
        int top = max(py - kernel + stride, 0) / stride, left = max(px - kernel + stride, 0) / stride;
        float sum = 0.0f;
        // In the order of the host: down, and back along a line.
        for (int oy = top; oy <= min(py / stride, out_height - 1); oy++)
            for (int ox = min(px / stride, out_width - 1); ox >= left; ox--)
                sum = fmaf(dy[((image * out_height + oy) * out_width + ox) * channels + c], share, sum);
        dx[i] = sum;
    }
}

KERNEL global_average_forward(const float *x, float *y, float share, int positions, int channels, int block_width) {
    __shared__ float shared[256];
    int lanes = blockDim.x / block_width, lane = threadIdx.x / block_width, image = blockIdx.x;
    int c = blockIdx.y * block_width + threadIdx.x % block_width;
    float sum = 0.0f;
    if (c < channels)
        for (int p = lane; p < positions; p += lanes) sum += x[(image * positions + p) * channels + c];
    shared[threadIdx.x] = sum;
    for (int half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) shared[threadIdx.x] += shared[threadIdx.x + half * block_width];
    }
    if (lane == 0 && c < channels) y[image * channels + c] = shared[threadIdx.x] * share;
}

KERNEL global_average_backward(const float *dy, float *dx, float share, int positions, int channels, int n) {
    EACH(i, n) dx[i] = dy[i / channels / positions * channels + i % channels] * share;
}
";

    /// As [`super::forward`].
    pub(crate) fn forward(
        engine: &Engine,
        windows: &Windows,
        channels: usize,
        x: &Tensor,
        y: &Tensor,
    ) -> Result<()> {
        countable(x.elem_count())?;
        let n = y.elem_count();
        let first = [at(x)?.into(), at(y)?.into(), share(windows).into()];
        let args = [&first[..], &sizes(windows, channels), &[n.into()]].concat();
        engine.launch("average_pool_forward", Grid::over(n), &args)
    }

    /// As [`super::backward`].
    pub(crate) fn backward(
        engine: &Engine,
        windows: &Windows,
        channels: usize,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let n = dx.elem_count();
        let first = [at(dy)?.into(), at(dx)?.into(), share(windows).into()];
        let args = [&first[..], &sizes(windows, channels), &[n.into()]].concat();
        engine.launch("average_pool_backward", Grid::over(n), &args)
    }

    /// As [`super::forward_global`].
    pub(crate) fn forward_global(
        engine: &Engine,
        positions: usize,
        channels: usize,
        x: &Tensor,
        y: &Tensor,
    ) -> Result<()> {
        countable(x.elem_count())?;
        let images = y.elem_count() / channels;
        let width = channels.next_power_of_two().min(32);
        let args = [
            at(x)?.into(),
            at(y)?.into(),
            (1.0 / positions as f32).into(),
            positions.into(),
            channels.into(),
            width.into(),
        ];
        let grid = Grid::blocks(images, channels.div_ceil(width));
        engine.launch("global_average_forward", grid, &args)
    }

    /// As [`super::backward_global`].
    pub(crate) fn backward_global(
        engine: &Engine,
        positions: usize,
        channels: usize,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let n = dx.elem_count();
        let args = [
            at(dy)?.into(),
            at(dx)?.into(),
            (1.0 / positions as f32).into(),
            positions.into(),
            channels.into(),
            n.into(),
        ];
        engine.launch("global_average_backward", Grid::over(n), &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PyTorch 2.15: `avg_pool2d` of [[1, 2], [3, 4]] with kernel 2, stride 1, padding 1 counts the padding.
    #[test]
    fn padding_counts() {
        let windows = Windows {
            height: 2,
            width: 2,
            kernel: 2,
            stride: 1,
            padding: 1,
        };
        let mut y = [0.0; 9];
        forward(&windows, 1, &[1.0, 2.0, 3.0, 4.0], &mut y);
        assert_eq!(y, [0.25, 0.75, 0.5, 1.0, 2.5, 1.5, 0.75, 1.75, 1.0]);
        let mut dx = [9.0; 4];
        backward(&windows, 1, &[4.0; 9], &mut dx);
        assert_eq!(dx, [4.0; 4]);
    }

    #[test]
    fn whole_planes() {
        let x = [1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 7.0, 70.0];
        let (mut y, mut dx) = ([0.0; 4], [0.0; 8]);
        forward_global(2, 2, &x, &mut y);
        assert_eq!(y, [2.0, 20.0, 6.0, 60.0]);
        backward_global(2, 2, &y, &mut dx);
        assert_eq!(dx, [1.0, 10.0, 1.0, 10.0, 3.0, 30.0, 3.0, 30.0]);
    }
}
