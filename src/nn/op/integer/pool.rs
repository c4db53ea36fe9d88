//! Pooling of stored activations, channels last.
//!
//! A maximum keeps its levels: larger bytes stand for larger values. A mean is a sum of bytes less zero points, then
//! [`Requantize`]; pixels of the padding are the zero point, which stands for 0.

use rayon::prelude::*;

use super::requantize::Requantize;
use crate::nn::op::max_pool2d::Windows;
use crate::nn::op::simd::vectorized;
use crate::nn::op::{parts, shares};

/// y = the maxima.
pub fn maximum(windows: &Windows, channels: usize, x: &[u8], y: &mut [u8]) {
    each_row(windows, channels, y, |image, row, y| {
        let x = &x[image * windows.pixels() * channels..];
        y.fill(0);
        windows.each_row(row, |_, line, seeing, column| {
            for (at, window) in seeing.enumerate() {
                let from = (line * windows.width + column + at * windows.stride) * channels;
                let y = &mut y[window * channels..][..channels];
                largest(&x[from..][..channels], y);
            }
        });
    });
}

/// y = the means: `then` divides the sums.
pub fn mean(
    windows: &Windows,
    channels: usize,
    zero: u8,
    x: &[u8],
    then: &Requantize,
    y: &mut [u8],
) {
    let taps = (windows.kernel * windows.kernel) as i32;
    each_row(windows, channels, y, |image, row, y| {
        let x = &x[image * windows.pixels() * channels..];
        // Taps that see no pixel give the zero point less the zero point.
        let mut sums = vec![0; y.len()];
        let mut seen = vec![0; y.len() / channels];
        windows.each_row(row, |_, line, seeing, column| {
            for (at, window) in seeing.enumerate() {
                let from = (line * windows.width + column + at * windows.stride) * channels;
                add(
                    &x[from..][..channels],
                    &mut sums[window * channels..][..channels],
                );
                seen[window] += 1;
            }
        });
        debug_assert!(seen.iter().all(|seen| *seen <= taps));
        finish(&mut sums, &seen, channels, zero, then, y);
    });
}

/// (B, pixels, C) -> (B, C): y = the means over all pixels.
pub fn global_mean(pixels: usize, zero: u8, x: &[u8], then: &Requantize, y: &mut [u8]) {
    let channels = then.channels();
    let parts = parts(y.len() / channels);
    let ys = shares(y, &parts, channels);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        let mut sums = vec![0; channels];
        for (image, y) in part.zip(y.chunks_exact_mut(channels)) {
            sums.fill(0);
            for pixel in x[image * pixels * channels..][..pixels * channels].chunks_exact(channels)
            {
                add(pixel, &mut sums);
            }
            finish(&mut sums, &[pixels as i32], channels, zero, then, y);
        }
    });
}

/// Sums of so many pixels each, stored.
fn finish(
    sums: &mut [i32],
    seen: &[i32],
    channels: usize,
    zero: u8,
    then: &Requantize,
    y: &mut [u8],
) {
    for (sums, seen) in sums.chunks_exact_mut(channels).zip(seen) {
        for sum in sums {
            *sum -= seen * i32::from(zero);
        }
    }
    then.rows(0, channels, (sums, channels), (y, channels));
}

/// Fills the rows of all images' outputs.
fn each_row(
    windows: &Windows,
    channels: usize,
    y: &mut [u8],
    fill: impl Fn(usize, usize, &mut [u8]) + Sync,
) {
    let (rows, line) = (windows.out_height(), windows.out_width() * channels);
    let parts = parts(y.len() / line);
    let ys = shares(y, &parts, line);
    parts.into_par_iter().zip(ys).for_each(|(part, y)| {
        for (of_all, y) in part.zip(y.chunks_exact_mut(line)) {
            fill(of_all / rows, of_all % rows, y);
        }
    });
}

vectorized! {
    fn largest<V>(x: &[u8], y: &mut [u8]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = (*y).max(*x);
        }
    }
}

vectorized! {
    fn add<V>(x: &[u8], sums: &mut [i32]) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += i32::from(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::requantize::Affine;
    use super::*;

    const WINDOWS: Windows = Windows {
        height: 3,
        width: 3,
        kernel: 2,
        stride: 2,
        padding: 1,
    };

    /// Nine pixels of one channel; windows see 1 pixel, 2, 2 and 4.
    const X: [u8; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 90];

    #[test]
    fn maxima_by_hand() {
        let mut y = [7; 4];
        maximum(&WINDOWS, 1, &X, &mut y);
        assert_eq!(y, [10, 30, 70, 90]);
    }

    #[test]
    fn means_by_hand_count_the_padding() {
        let quarter = Affine {
            factor: 0.25,
            offset: 100.0,
            most: 1020.0,
        };
        let then = Requantize::new(&[quarter], 0, 255).unwrap();
        let mut y = [7; 4];
        // (10 - 30) / 4, (20 + 30 - 60) / 4, (40 + 70 - 60) / 4, (50 + 60 + 80 + 90 - 120) / 4; halves go up.
        mean(&WINDOWS, 1, 30, &X, &then, &mut y);
        assert_eq!(y, [95, 98, 113, 140]);
        let ninth = Affine {
            factor: 1.0 / 9.0,
            offset: 0.0,
            most: 2295.0,
        };
        let then = Requantize::new(&[ninth], 0, 255).unwrap();
        let mut y = [7; 1];
        global_mean(9, 30, &X, &then, &mut y);
        assert_eq!(y, [20]);
    }
}
