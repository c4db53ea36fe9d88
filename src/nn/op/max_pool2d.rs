//! Maximum over square windows, without padding; rows and columns that fill no window are left out (floor).
//!
//! (B, C, H, W) -> (B, C, (H-k)/s+1, (W-k)/s+1).
//! The gradient goes to the first maximum of each window in reading order, as in PyTorch; overlapping windows add.

use rayon::prelude::*;

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
}

impl Windows {
    pub fn out_height(&self) -> usize {
        (self.height - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width - self.kernel) / self.stride + 1
    }

    /// Windows in a plane.
    pub fn count(&self) -> usize {
        self.out_height() * self.out_width()
    }
}

/// y = the maxima; `place` = where in its window each was found, row by row.
pub fn forward(windows: &Windows, x: &[f32], y: &mut [f32], place: &mut [u8]) {
    let (plane, count) = (windows.height * windows.width, windows.count());
    let parts = parts(x.len() / plane);
    let ys = shares(y, &parts, count);
    let places = shares(place, &parts, count);
    parts
        .into_par_iter()
        .zip(ys)
        .zip(places)
        .for_each(|((part, y), place)| {
            let x = &x[part.start * plane..part.end * plane];
            for ((x, y), place) in x
                .chunks_exact(plane)
                .zip(y.chunks_exact_mut(count))
                .zip(place.chunks_exact_mut(count))
            {
                maxima(windows, x, y, place);
            }
        });
}

/// dx = dy at the places, else 0.
pub fn backward(windows: &Windows, place: &[u8], dy: &[f32], dx: &mut [f32]) {
    let (plane, count) = (windows.height * windows.width, windows.count());
    dx.par_chunks_mut(plane)
        .zip(place.par_chunks(count).zip(dy.par_chunks(count)))
        .with_min_len(16)
        .for_each(|(dx, (place, dy))| {
            spread(windows, place, dy, dx);
        });
}

/// The maxima of one plane and their places.
pub(crate) fn maxima(windows: &Windows, plane: &[f32], y: &mut [f32], place: &mut [u8]) {
    let (kernel, stride, width) = (windows.kernel, windows.stride, windows.width);
    let rows = y
        .chunks_exact_mut(windows.out_width())
        .zip(place.chunks_exact_mut(windows.out_width()));
    for (oy, (y, place)) in rows.enumerate() {
        if kernel == 2 && stride == 2 {
            let (top, bottom) = plane[2 * oy * width..].split_at(width);
            quarters(top, bottom, y, place);
            continue;
        }
        for (ox, (y, place)) in y.iter_mut().zip(place).enumerate() {
            (*y, *place) = (f32::NEG_INFINITY, 0);
            for ky in 0..kernel {
                let row = &plane[(oy * stride + ky) * width + ox * stride..][..kernel];
                for (kx, x) in row.iter().enumerate() {
                    (*y, *place) = later(*y, *place, *x, (ky * kernel + kx) as u8);
                }
            }
        }
    }
}

/// The common case, 2x2 at stride 2: one row of windows.
fn quarters(top: &[f32], bottom: &[f32], y: &mut [f32], place: &mut [u8]) {
    let (top, bottom) = (top.as_chunks::<2>().0, bottom.as_chunks::<2>().0);
    for ((t, b), (y, place)) in top.iter().zip(bottom).zip(y.iter_mut().zip(place)) {
        let (upper, at_upper) = later(t[0], 0, t[1], 1);
        let (lower, at_lower) = later(b[0], 2, b[1], 3);
        (*y, *place) = later(upper, at_upper, lower, at_lower);
    }
}

/// The larger of two, the first of equals; a NaN wins, so that a diverged network does not look healthy.
#[inline]
fn later(first: f32, at_first: u8, second: f32, at_second: u8) -> (f32, u8) {
    // Without a short circuit: which of two is larger is hard to predict.
    if (second > first) | second.is_nan() {
        (second, at_second)
    } else {
        (first, at_first)
    }
}

/// dx = dy at each window's place in one plane, else 0.
pub(crate) fn spread(windows: &Windows, place: &[u8], dy: &[f32], dx: &mut [f32]) {
    let (kernel, stride, width) = (windows.kernel, windows.stride, windows.width);
    let out_width = windows.out_width();
    if kernel == 2 && stride == 2 {
        // Windows do not overlap: each writes its four values.
        let rows = place
            .chunks_exact(out_width)
            .zip(dy.chunks_exact(out_width));
        for (dx, (place, dy)) in dx.chunks_exact_mut(2 * width).zip(rows) {
            let (top, bottom) = dx.split_at_mut(width);
            spread_row(place, dy, 0, top);
            spread_row(place, dy, 2, bottom);
        }
        dx[2 * windows.out_height() * width..].fill(0.0);
        return;
    }
    dx.fill(0.0);
    for (window, (place, dy)) in place.iter().zip(dy).enumerate() {
        let (oy, ox) = (window / out_width, window % out_width);
        let (ky, kx) = (*place as usize / kernel, *place as usize % kernel);
        dx[(oy * stride + ky) * width + ox * stride + kx] += dy;
    }
}

/// One pixel row of a row of 2x2 windows; `first` is the place of a window's left pixel in it.
fn spread_row(place: &[u8], dy: &[f32], first: u8, dx: &mut [f32]) {
    let (pairs, rest) = dx.as_chunks_mut::<2>();
    for (pair, (place, dy)) in pairs.iter_mut().zip(place.iter().zip(dy)) {
        let chosen = |at: u8| f32::from_bits(dy.to_bits() & u32::from(*place == at).wrapping_neg());
        *pair = [chosen(first), chosen(first + 1)];
    }
    rest.fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(side: usize, kernel: usize, stride: usize, x: &[f32]) -> Vec<f32> {
        let windows = Windows {
            height: side,
            width: side,
            kernel,
            stride,
        };
        let n = windows.count();
        let (mut y, mut place, mut dx) = (vec![0.0; n], vec![0; n], vec![9.0; side * side]);
        forward(&windows, x, &mut y, &mut place);
        backward(&windows, &place, &vec![1.0; n], &mut dx);
        dx
    }

    /// candle 0.11.1 gives 0.25 at the maximum.
    #[test]
    fn the_whole_gradient_goes_to_the_maximum() {
        assert_eq!(
            gradient(2, 2, 2, &[1.0, 2.0, 3.0, 4.0]),
            [0.0, 0.0, 0.0, 1.0]
        );
    }

    /// candle 0.11.1 gives 1 to all four.
    #[test]
    fn the_first_of_equal_maxima_takes_it_all() {
        assert_eq!(gradient(2, 2, 2, &[0.0; 4]), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(gradient(3, 3, 3, &[5.0; 9])[0], 1.0);
    }

    /// candle 0.11.1 loses about half of the windows of a 7x7 map.
    #[test]
    fn no_window_is_lost_when_the_size_does_not_divide() {
        let x: Vec<f32> = (0..49).map(|i| ((i * 31) % 49) as f32).collect();
        assert_eq!(gradient(7, 2, 2, &x).iter().sum::<f32>(), 9.0);
    }

    #[test]
    fn overlapping_windows_add() {
        // A maximum in the middle of 3x3 belongs to all four windows of 2x2 at stride 1.
        let x = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(gradient(3, 2, 1, &x)[4], 4.0);
    }
}
