//! Which positions a depthwise convolution computes with which weights: rectangles inside which nothing depends on the
//! border any more.
//!
//! Along one axis, output position i takes the taps (weights) t whose input lies inside the image. Positions with the same
//! taps that lie side by side make a [`Segment`]. For y from x, i·s + t - p is the input of i and t. For dx from dy the
//! positions with equal (i + p) mod s =: φ are taken together: i + p = q·s + φ meets the weights φ + s·t at output q - t.

use std::ops::Range;

use crate::nn::op::patches::Geometry;

/// Positions computed together: in the caches, 64 bytes of input and of output for each stay in 16 KiB.
const POSITIONS: usize = 128;

/// Values of the images computed together: 256 KiB, half of a core's own cache.
const VALUES: usize = 64 * 1024;

/// Neighboring positions with the same taps along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first position's place in the output, and how many there are.
    pub(super) output: usize,
    pub(super) count: usize,
    /// The input place of the first position's first tap.
    pub(super) input: usize,
    /// The first tap's weight, and how many taps there are.
    pub(super) weight: usize,
    pub(super) taps: usize,
}

/// The segments of one axis, and the steps from one position and one tap to the next.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) segments: Vec<Segment>,
    /// From position to position.
    pub(super) output_step: usize,
    pub(super) input_step: usize,
    /// From tap to tap: 1, or -1 for dx.
    pub(super) tap_step: isize,
    pub(super) weight_step: usize,
}

impl Axis {
    /// y from x: the output positions `wanted` over `inputs`.
    fn forward(inputs: usize, g: &Geometry, wanted: Range<usize>) -> Self {
        let (s, p) = (g.stride, g.padding);
        let mut segments = Vec::new();
        for (output, i) in wanted.enumerate() {
            let taps = p.saturating_sub(i * s)..g.kernel.min((inputs + p).saturating_sub(i * s));
            let input = (i * s + taps.start).saturating_sub(p);
            join(&mut segments, output, input, taps.clone(), taps.start);
        }
        Self {
            segments,
            output_step: 1,
            input_step: s,
            tap_step: 1,
            weight_step: 1,
        }
    }

    /// dx from dy: the positions `wanted` of the images' gradient whose (i + p) mod s is `phase`, over `outputs` of dy.
    fn backward(outputs: usize, g: &Geometry, wanted: &Range<usize>, phase: usize) -> Self {
        let (s, p) = (g.stride, g.padding);
        let taps_of_phase = g.kernel.saturating_sub(phase).div_ceil(s);
        let mut segments = Vec::new();
        for i in wanted.clone().filter(|i| (i + p) % s == phase) {
            let q = (i + p) / s;
            let taps = (q + 1).saturating_sub(outputs)..taps_of_phase.min(q + 1);
            let input = q.saturating_sub(taps.start);
            let weight = phase + s * taps.start;
            join(&mut segments, i - wanted.start, input, taps, weight);
        }
        Self {
            segments,
            output_step: s,
            input_step: 1,
            tap_step: -1,
            weight_step: s,
        }
    }
}

/// Puts a position to the last segment, if that has the same taps, or begins a new one.
fn join(
    segments: &mut Vec<Segment>,
    output: usize,
    input: usize,
    taps: Range<usize>,
    weight: usize,
) {
    let taps = taps.len();
    // Where there are no taps, nothing is read: any place will do.
    let (input, weight) = if taps == 0 { (0, 0) } else { (input, weight) };
    match segments.last_mut() {
        Some(last) if last.taps == taps && last.weight == weight => last.count += 1,
        _ => segments.push(Segment {
            output,
            count: 1,
            input,
            weight,
            taps,
        }),
    }
}

/// A correlation of images with a kernel per channel: (n, rows, columns, C) to (n, rows', columns', C).
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) channels: usize,
    pub(super) kernel: usize,
    /// Values of one input image, and of one row.
    pub(super) input_image: usize,
    pub(super) input_row: usize,
    /// Values of what is computed of one output image, and of one row.
    pub(super) output_image: usize,
    pub(super) output_row: usize,
    pub(super) vertical: Axis,
    pub(super) horizontal: Axis,
}

impl Plan {
    /// Rows of y from x.
    pub(super) fn forward(g: &Geometry, rows: Range<usize>) -> Self {
        let row = g.out_width() * g.channels;
        Self {
            channels: g.channels,
            kernel: g.kernel,
            input_image: g.image(),
            input_row: g.width * g.channels,
            output_image: rows.len() * row,
            output_row: row,
            vertical: Axis::forward(g.height, g, rows),
            horizontal: Axis::forward(g.width, g, 0..g.out_width()),
        }
    }

    /// Rows of dx from dy: one plan for each of the s·s phases, which together write every value.
    pub(super) fn backward(g: &Geometry, rows: &Range<usize>) -> impl Iterator<Item = Self> {
        let row = g.width * g.channels;
        let phases = (0..g.stride).flat_map(|y| (0..g.stride).map(move |x| (y, x)));
        phases.map(move |(y, x)| Self {
            channels: g.channels,
            kernel: g.kernel,
            input_image: g.positions() * g.channels,
            input_row: g.out_width() * g.channels,
            output_image: rows.len() * row,
            output_row: row,
            vertical: Axis::backward(g.out_height(), g, rows, y),
            horizontal: Axis::backward(g.out_width(), g, &(0..g.width), x),
        })
    }

    /// How many images are computed together.
    pub(super) fn group(&self) -> usize {
        let positions = self.output_image.max(self.input_image) / self.channels;
        let of_cache = VALUES / (self.output_image + self.input_image);
        (POSITIONS / positions).min(of_cache).max(1)
    }

    /// The rectangles of one image, none larger than the caches like.
    #[expect(clippy::inline_always, reason = "part of vectorized bodies")]
    #[inline(always)]
    pub(super) fn each_tile(&self, mut visit: impl FnMut(&Segment, &Segment)) {
        for rows in &self.vertical.segments {
            let width = self.horizontal.segments.iter().map(|s| s.count).max();
            let band = (POSITIONS / width.unwrap_or(1)).max(1);
            for first in (0..rows.count).step_by(band) {
                let rows = Segment {
                    output: rows.output + first * self.vertical.output_step,
                    input: rows.input + first * self.vertical.input_step,
                    count: band.min(rows.count - first),
                    ..*rows
                };
                for columns in &self.horizontal.segments {
                    visit(&rows, columns);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every position and every tap, against the definition.
    #[test]
    fn segments_are_what_the_definition_says() {
        for (kernel, stride, padding) in [
            (1, 1, 0),
            (3, 1, 1),
            (3, 2, 1),
            (5, 2, 2),
            (1, 2, 2),
            (7, 3, 2),
            (2, 2, 0),
        ] {
            for side in [5, 6, 8] {
                let g = Geometry {
                    channels: 1,
                    height: side,
                    width: side,
                    kernel,
                    stride,
                    padding,
                };
                if side + 2 * padding < kernel {
                    continue;
                }
                let outputs = g.out_width();
                let mut forward = Vec::new();
                let axis = Axis::forward(side, &g, 1..outputs);
                each(&axis, |output, input, weight| {
                    forward.push((output + 1, input, weight));
                });
                let mut backward = Vec::new();
                for phase in 0..stride {
                    let axis = Axis::backward(outputs, &g, &(1..side), phase);
                    each(&axis, |input, output, weight| {
                        backward.push((output, input + 1, weight));
                    });
                }
                let mut all = Vec::new();
                for (o, t) in (0..outputs).flat_map(|o| (0..kernel).map(move |t| (o, t))) {
                    if let Some(i) = (o * stride + t).checked_sub(padding).filter(|i| *i < side) {
                        all.push((o, i, t));
                    }
                }
                forward.sort_unstable();
                backward.sort_unstable();
                let from_one = |of: fn(&(usize, usize, usize)) -> usize| {
                    let all = all.iter().copied();
                    all.filter(|v| of(v) > 0).collect::<Vec<_>>()
                };
                assert_eq!(forward, from_one(|v| v.0), "{g:?}");
                assert_eq!(backward, from_one(|v| v.1), "{g:?}");
            }
        }
    }

    fn each(axis: &Axis, mut visit: impl FnMut(usize, usize, usize)) {
        for s in &axis.segments {
            for (at, tap) in (0..s.count).flat_map(|at| (0..s.taps).map(move |tap| (at, tap))) {
                let input = s.input + at * axis.input_step;
                visit(
                    s.output + at * axis.output_step,
                    input.strict_add_signed(tap as isize * axis.tap_step),
                    s.weight + tap * axis.weight_step,
                );
            }
        }
    }
}
