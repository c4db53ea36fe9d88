//! Motion blur as ImageMagick computes it: half a Gaussian along a line.
//!
//! `width` = 2⌈radius⌉ + 1 taps exp(-i² / 2σ²), normalized; tap i looks i pixels along the angle, each coordinate rounded
//! with halves down (⌈v - 1/2⌉); the edge goes on beyond itself. The sum is rounded to 16 bits and then cut to a byte, as the
//! files of ImageMagick 6.9 show. ImageMagick 6, `MotionBlurImage`.

/// A line of taps: how far down, how far right, how much.
pub(super) struct Line(Vec<(isize, isize, f64)>);

impl Line {
    /// `angle` in degrees, clockwise from the right.
    pub(super) fn new(radius: f64, sigma: f64, angle: f64) -> Self {
        let width = 2 * radius.ceil() as usize + 1;
        let weight = |i: usize| (-((i * i) as f64) / (2.0 * sigma * sigma)).exp();
        let total: f64 = (0..width).map(weight).sum();
        let radians = angle.to_radians();
        let (x, y) = (width as f64 * radians.sin(), width as f64 * radians.cos());
        let length = x.hypot(y);
        let place = |i: usize, along: f64| (i as f64 * along / length - 0.5).ceil() as isize;
        Self(
            (0..width)
                .map(|i| (place(i, x), place(i, y), weight(i) / total))
                .collect(),
        )
    }

    /// Blurs one plane of bytes in place.
    pub(super) fn blur(&self, plane: &mut [u8], height: usize, width: usize) {
        let mut sums = vec![0.0; plane.len()];
        let held = |place: isize, size: usize| place.clamp(0, size as isize - 1) as usize;
        for &(down, right, weight) in &self.0 {
            for (y, sums) in sums.chunks_exact_mut(width).enumerate() {
                let row = held(y as isize + down, height);
                let line = &plane[row * width..(row + 1) * width];
                // From the first to the last column, the source moves with the target; beyond, it stays at the edge.
                let first = held(-right, width + 1);
                let last = held(width as isize - right, width + 1).max(first);
                for sum in &mut sums[..first] {
                    *sum += weight * f64::from(line[0]);
                }
                for sum in &mut sums[last..] {
                    *sum += weight * f64::from(line[width - 1]);
                }
                let moved = &line[held(first as isize + right, width + 1)..];
                for (sum, value) in sums[first..last].iter_mut().zip(moved) {
                    *sum += weight * f64::from(*value);
                }
            }
        }
        for (value, sum) in plane.iter_mut().zip(sums) {
            // A byte is 257 of 16 bits.
            *value = ((sum * 257.0 + 0.5) as u32 / 257) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_to_the_right_looks_right_and_stops_at_the_edge() {
        let mut plane = [0, 0, 100, 0, 200];
        Line::new(1.0, 1.0, 0.0).blur(&mut plane, 1, 5);
        // Weights 1, e^-1/2, e^-2 normalized: .5741, .3482, .0777.
        assert_eq!(plane, [7, 34, 72, 85, 200]);
    }

    #[test]
    fn a_line_longer_than_the_image_stays_inside() {
        for angle in [-135.0, -90.0, -45.0, 0.0, 30.0, 45.0, 180.0] {
            let mut plane = [7; 6];
            Line::new(14.0, 12.0, angle).blur(&mut plane, 2, 3);
            assert_eq!(plane, [7; 6], "{angle}");
            let mut one = [9];
            Line::new(14.0, 12.0, angle).blur(&mut one, 1, 1);
            assert_eq!(one, [9]);
        }
    }
}
