//! Which inputs and weights an output position meets, along one axis: the same form for y from x and for dx from dy.
//!
//! y from x: output i meets the weights t at input i·s + t - p. dx from dy: the positions with equal φ := (i + p) mod s
//! are a class of their own; with i + p = q·s + φ, they meet the weights φ + s·t at output q - t.

use std::ops::Range;

use crate::nn::op::geometry::Geometry;

/// Positions that meet the same weights: position j lies at `output` + j · `output_step` and meets, for each u, the weight
/// `weights`[u] at input `input` + j · `input_step` + u, where that is inside.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) count: usize,
    pub(super) output: usize,
    pub(super) output_step: usize,
    pub(super) input: isize,
    pub(super) input_step: usize,
    pub(super) weights: Vec<usize>,
}

impl Class {
    /// y from x: the positions `wanted`, the first of which is output 0.
    fn forward(g: &Geometry, wanted: &Range<usize>) -> Self {
        Self {
            count: wanted.len(),
            output: 0,
            output_step: 1,
            input: (wanted.start * g.stride) as isize - g.padding as isize,
            input_step: g.stride,
            weights: (0..g.kernel).collect(),
        }
    }

    /// dx from dy: the positions of a phase among those wanted.
    fn backward(g: &Geometry, wanted: &Range<usize>, phase: usize) -> Self {
        let (s, p) = (g.stride, g.padding);
        let mut positions = wanted.clone().filter(|i| (i + p) % s == phase);
        let count = positions.clone().count();
        let first = positions.next().unwrap_or(wanted.start);
        let taps = g.kernel.saturating_sub(phase).div_ceil(s);
        Self {
            count,
            output: first - wanted.start,
            output_step: s,
            input: ((first + p) / s + 1) as isize - taps as isize,
            input_step: 1,
            weights: (0..taps).rev().map(|t| phase + s * t).collect(),
        }
    }
}

/// A correlation of images with a kernel per channel: (n, rows, columns, C) to (n, rows', columns', C).
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) channels: usize,
    /// k.
    pub(super) kernel: usize,
    /// Height and width of the input.
    pub(super) height: usize,
    pub(super) width: usize,
    /// How many rows of the output are computed, and its columns.
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) vertical: Vec<Class>,
    pub(super) horizontal: Vec<Class>,
}

impl Plan {
    /// Rows of y from x.
    pub(super) fn forward(g: &Geometry, rows: &Range<usize>) -> Self {
        Self {
            channels: g.channels,
            kernel: g.kernel,
            height: g.height,
            width: g.width,
            rows: rows.len(),
            columns: g.out_width(),
            vertical: vec![Class::forward(g, rows)],
            horizontal: vec![Class::forward(g, &(0..g.out_width()))],
        }
    }

    /// Rows of dx from dy.
    pub(super) fn backward(g: &Geometry, rows: &Range<usize>) -> Self {
        let classes = |wanted: &Range<usize>| {
            let class = |phase| Class::backward(g, wanted, phase);
            (0..g.stride).map(class).collect()
        };
        Self {
            channels: g.channels,
            kernel: g.kernel,
            height: g.out_height(),
            width: g.out_width(),
            rows: rows.len(),
            columns: g.width,
            vertical: classes(rows),
            horizontal: classes(&(0..g.width)),
        }
    }

    /// Values of one input image.
    pub(super) fn input_image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values of what is computed of one output image.
    pub(super) fn output_image(&self) -> usize {
        self.rows * self.columns * self.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Met = (usize, usize, usize);

    /// Every position and every weight of one axis, against the definition; wherever it begins.
    #[test]
    fn positions_meet_what_the_definition_says() {
        for (kernel, stride, padding) in [
            (1, 1, 0),
            (3, 1, 1),
            (3, 2, 1),
            (5, 2, 2),
            (1, 2, 2),
            (7, 3, 2),
            (2, 2, 0),
            (2, 3, 1),
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
                let mut all = Vec::new();
                for (o, t) in (0..outputs).flat_map(|o| (0..kernel).map(move |t| (o, t))) {
                    if let Some(i) = (o * stride + t).checked_sub(padding).filter(|i| *i < side) {
                        all.push((o, i, t));
                    }
                }
                for first in 0..outputs {
                    let class = Class::forward(&g, &(first..outputs));
                    let found = met(&[class], side, |output, input, t| {
                        (output + first, input, t)
                    });
                    let expected = all.iter().copied().filter(|(o, ..)| *o >= first);
                    assert_eq!(found, expected.collect::<Vec<_>>(), "{g:?} from {first}");
                }
                all.sort_unstable_by_key(|(o, i, t)| (*i, *o, *t));
                for first in 0..side {
                    let class = |phase| Class::backward(&g, &(first..side), phase);
                    let classes: Vec<Class> = (0..stride).map(class).collect();
                    let mut found = met(&classes, outputs, |input, output, t| {
                        (output, input + first, t)
                    });
                    found.sort_unstable_by_key(|(o, i, t)| (*i, *o, *t));
                    let expected = all.iter().copied().filter(|(_, i, _)| *i >= first);
                    assert_eq!(found, expected.collect::<Vec<_>>(), "{g:?} from {first}");
                }
            }
        }
    }

    /// Output, input and weight, where the input is inside.
    fn met(classes: &[Class], inputs: usize, of: impl Fn(usize, usize, usize) -> Met) -> Vec<Met> {
        let mut met = Vec::new();
        for class in classes {
            for j in 0..class.count {
                for (u, weight) in class.weights.iter().enumerate() {
                    let input = class.input + (j * class.input_step + u) as isize;
                    if (0..inputs as isize).contains(&input) {
                        let output = class.output + j * class.output_step;
                        met.push(of(output, input as usize, *weight));
                    }
                }
            }
        }
        met
    }
}
