//! Normalization of pixels: y = (x - mean) / std, per channel.
//!
//! (B, C, H, W) -> (B, H, W, C): images come in planes, and within the network channels lie side by side. It is every
//! network's first layer, so that images and all their changes are in [0, 1].

use rayon::prelude::*;

use super::{parts, shares};

/// y = (x - mean) / std; x in planes, y channels last. One image has `pixels` positions.
pub fn forward(mean: &[f32], std: &[f32], pixels: usize, x: &[f32], y: &mut [f32]) {
    let channels = mean.len();
    let image = channels * pixels;
    let parts = parts(x.len() / image);
    let ys = shares(y, &parts, image);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        let x = x[part.start * image..part.end * image].chunks_exact(image);
        for (x, y) in x.zip(y.chunks_exact_mut(image)) {
            for (channel, x) in x.chunks_exact(pixels).enumerate() {
                let (mean, std) = (mean[channel], std[channel]);
                for (y, x) in y[channel..].iter_mut().step_by(channels).zip(x) {
                    *y = (x - mean) / std;
                }
            }
        }
    });
}

/// dx = dy / std; dy channels last, dx in planes.
pub fn backward(std: &[f32], pixels: usize, dy: &[f32], dx: &mut [f32]) {
    let channels = std.len();
    let image = channels * pixels;
    let parts = parts(dy.len() / image);
    let dxs = shares(dx, &parts, image);
    parts.into_par_iter().zip(dxs).for_each(|(part, dx)| {
        let dy = dy[part.start * image..part.end * image].chunks_exact(image);
        for (dy, dx) in dy.zip(dx.chunks_exact_mut(image)) {
            for (channel, dx) in dx.chunks_exact_mut(pixels).enumerate() {
                let std = std[channel];
                for (dx, dy) in dx.iter_mut().zip(dy[channel..].iter().step_by(channels)) {
                    *dx = dy / std;
                }
            }
        }
    });
}

/// On a GPU.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use candle_core::Tensor;

    use crate::nn::op::batch_norm2d::cuda::is_wide;
    use crate::nn::op::cuda::{Arg, Engine, Grid, at, countable};
    use crate::nn::{Result, invalid};

    /// Images have few channels: their means and deviations are given with the call.
    ///
    /// Where `wide`, a thread takes four neighboring pixels with all their channels: it reads four values of each plane and
    /// writes as many fours of the other order, or the other way round. `n` is how many such there are; or all values.
    pub(crate) const SOURCE: &str = r"
template <int C> union Pixels {
    float of[4][C];
    Floats<4> fours[C];
};

template <int C>
__device__ __forceinline__ void normalize_fours(const float *x, float *y, const float *mean, const float *std, int pixels,
                                                int n) {
    EACH(i, n) {
        int image = 4 * i / pixels, pixel = 4 * i - image * pixels;
        Floats<4> planes[C];
#pragma unroll
        for (int c = 0; c < C; c++) planes[c] = loaded<4>(x + (image * C + c) * pixels + pixel);
        Pixels<C> found;
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int v = 0; v < 4; v++) found.of[v][c] = (planes[c].v[v] - mean[c]) / std[c];
#pragma unroll
        for (int c = 0; c < C; c++) stored<4>(y + 4 * (i * C + c), found.fours[c]);
    }
}

template <int C>
__device__ __forceinline__ void normalize_fours_back(const float *dy, float *dx, const float *std, int pixels, int n) {
    EACH(i, n) {
        int image = 4 * i / pixels, pixel = 4 * i - image * pixels;
        Pixels<C> read;
#pragma unroll
        for (int c = 0; c < C; c++) read.fours[c] = loaded<4>(dy + 4 * (i * C + c));
#pragma unroll
        for (int c = 0; c < C; c++) {
            Floats<4> plane;
#pragma unroll
            for (int v = 0; v < 4; v++) plane.v[v] = read.of[v][c] / std[c];
            stored<4>(dx + (image * C + c) * pixels + pixel, plane);
        }
    }
}

KERNEL normalize_forward(const float *x, float *y, int wide, int channels, int pixels, float m0, float m1, float m2,
                         float m3, float s0, float s1, float s2, float s3, int n) {
    const float means[4] = {m0, m1, m2, m3}, stds[4] = {s0, s1, s2, s3};
    if (wide && channels == 1) return normalize_fours<1>(x, y, means, stds, pixels, n);
    if (wide && channels == 3) return normalize_fours<3>(x, y, means, stds, pixels, n);
    EACH(i, n) {
        int c = i % channels, pixel = i / channels % pixels, image = i / channels / pixels;
        float mean = c == 0 ? m0 : c == 1 ? m1 : c == 2 ? m2 : m3, std = c == 0 ? s0 : c == 1 ? s1 : c == 2 ? s2 : s3;
        y[i] = (x[(image * channels + c) * pixels + pixel] - mean) / std;
    }
}

KERNEL normalize_backward(const float *dy, float *dx, int wide, int channels, int pixels, float s0, float s1, float s2,
                          float s3, int n) {
    const float stds[4] = {s0, s1, s2, s3};
    if (wide && channels == 1) return normalize_fours_back<1>(dy, dx, stds, pixels, n);
    if (wide && channels == 3) return normalize_fours_back<3>(dy, dx, stds, pixels, n);
    EACH(i, n) {
        int c = i % channels, pixel = i / channels % pixels, image = i / channels / pixels;
        float std = c == 0 ? s0 : c == 1 ? s1 : c == 2 ? s2 : s3;
        dx[(image * channels + c) * pixels + pixel] = dy[i] / std;
    }
}
";

    /// Whether four pixels go at once, and how many threads that takes; there are kernels for grey and for colored images.
    fn fours(n: usize, channels: usize, pixels: usize, addresses: [u64; 2]) -> (bool, usize) {
        let wide = is_wide(pixels, &addresses) && matches!(channels, 1 | 3);
        (wide, if wide { n / (4 * channels) } else { n })
    }

    fn four(values: &[f32]) -> Result<[Arg; 4]> {
        if values.len() > 4 {
            return Err(invalid("images have at most 4 channels on a GPU"));
        }
        Ok(std::array::from_fn(|c| {
            values.get(c).copied().unwrap_or(1.0).into()
        }))
    }

    /// As [`super::forward`].
    pub(crate) fn forward(
        engine: &Engine,
        (mean, std): (&[f32], &[f32]),
        pixels: usize,
        x: &Tensor,
        y: &Tensor,
    ) -> Result<()> {
        let n = x.elem_count();
        countable(n)?;
        let [m0, m1, m2, m3] = four(mean)?;
        let [s0, s1, s2, s3] = four(std)?;
        let (x, y, channels) = (at(x)?, at(y)?, mean.len());
        let (wide, n) = fours(n, channels, pixels, [x, y]);
        let args = [
            x.into(),
            y.into(),
            wide.into(),
            channels.into(),
            pixels.into(),
            m0,
            m1,
            m2,
            m3,
            s0,
            s1,
            s2,
            s3,
            n.into(),
        ];
        engine.launch("normalize_forward", Grid::over(n), &args)
    }

    /// As [`super::backward`].
    pub(crate) fn backward(
        engine: &Engine,
        std: &[f32],
        pixels: usize,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let n = dy.elem_count();
        countable(n)?;
        let [s0, s1, s2, s3] = four(std)?;
        let (dy, dx, channels) = (at(dy)?, at(dx)?, std.len());
        let (wide, n) = fours(n, channels, pixels, [dy, dx]);
        let first = [dy.into(), dx.into(), wide.into(), channels.into()];
        let args = [&first[..], &[pixels.into(), s0, s1, s2, s3, n.into()]].concat();
        engine.launch("normalize_backward", Grid::over(n), &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_own_mean_and_deviation_and_comes_to_lie_beside_the_others() {
        let (mean, std) = ([0.5, 0.0], [0.25, 2.0]);
        let mut y = [0.0; 4];
        forward(&mean, &std, 2, &[1.0, 0.5, 1.0, 0.5], &mut y);
        assert_eq!(y, [2.0, 0.5, 0.0, 0.25]);
        backward(&std, 2, &[1.0, 1.0, 2.0, 3.0], &mut y);
        assert_eq!(y, [4.0, 8.0, 0.5, 1.5]);
    }
}
