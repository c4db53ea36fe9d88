//! Matrix products of rows that lie anywhere and columns packed in panels: the safe wrapper round [`super::kernel`].
//!
//! A panel holds, for each k, [`width`] columns side by side, with zeros where there are fewer.

use std::ptr::{null, null_mut};

pub use super::kernel::Segment;
use super::kernel::{self, Tile};
pub(super) use super::kernel::{rows, width};

/// The left matrix: its rows' beginnings, and where from there the values of k = 0, 1, ... lie.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    pub values: &'a [f32],
    pub rows: &'a [usize],
    pub segments: &'a [Segment],
    /// From one value of a segment to the next.
    pub step: usize,
}

impl Left<'_> {
    fn depth(&self) -> usize {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// One past the last value that any row reads.
    fn end(&self) -> usize {
        let row = self.rows.iter().max().copied().unwrap_or(0);
        let last = self.segments.iter().filter(|s| s.length > 0);
        let last = last.map(|s| s.offset + (s.length - 1) * self.step + 1);
        last.max().map_or(0, |last| row + last)
    }
}

/// What is added to a product.
#[derive(Clone, Copy, Debug, Default)]
pub enum Add<'a> {
    #[default]
    Nothing,
    /// What is there already.
    Itself,
    /// Values at the same places.
    Values(&'a [f32]),
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finish<'a> {
    /// One value per column.
    pub bias: Option<&'a [f32]>,
    pub add: Add<'a>,
    pub relu: bool,
}

/// How many values the panels of a matrix of `depth` rows and `columns` columns have.
pub fn size(depth: usize, columns: usize) -> usize {
    columns.div_ceil(width()) * width() * depth
}

/// C = the product, finished; row i of C begins at `c_rows[i]`.
pub fn product(
    left: Left<'_>,
    panels: &[f32],
    columns: usize,
    c: &mut [f32],
    c_rows: &[usize],
    finish: Finish<'_>,
) {
    let depth = left.depth();
    let c_end = c_rows.iter().max().map_or(0, |row| row + columns);
    assert!(
        left.rows.len() == c_rows.len()
            && left.end() <= left.values.len()
            && size(depth, columns) <= panels.len()
            && c_end <= c.len()
            && finish.bias.is_none_or(|bias| bias.len() >= columns)
            && !matches!(finish.add, Add::Values(values) if c_end > values.len()),
        "a product reads or writes outside of its slices"
    );
    let c = if c_rows.is_empty() {
        null_mut()
    } else {
        c.as_mut_ptr()
    };
    for (at, panel) in panels
        .chunks_exact((depth * width()).max(1))
        .take(columns.div_ceil(width()))
        .enumerate()
    {
        let from = at * width();
        let offset = |values: &[f32]| values[from..].as_ptr();
        let then = kernel::Then {
            bias: finish.bias.map_or(null(), offset),
            add: match finish.add {
                Add::Nothing => null(),
                Add::Itself => c.wrapping_add(from).cast_const(),
                Add::Values(values) => values.as_ptr().wrapping_add(from),
            },
            relu: finish.relu,
        };
        for (a_rows, c_rows) in left.rows.chunks(rows()).zip(c_rows.chunks(rows())) {
            let tile = Tile {
                a: left.values.as_ptr(),
                a_rows,
                segments: left.segments,
                step: left.step,
                b: panel.as_ptr(),
                c: c.wrapping_add(from),
                c_rows,
                columns: width().min(columns - from),
                then,
            };
            // All offsets were checked against the slices' lengths, and C is lent to this call alone.
            kernel::multiply(&tile);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, depths and columns that fill no tile; every way to finish.
    #[test]
    fn products_are_those_of_the_definition() {
        for (m, k, n) in [(1, 1, 1), (6, 5, 16), (13, 7, 37), (8, 3, 32)] {
            let value = |i: usize| ((i * 37) % 19) as f32 - 9.0;
            let a: Vec<f32> = (0..=2 * m * k).map(value).collect();
            let mut panels = vec![0.0; size(k, n)];
            for (at, panel) in panels.chunks_exact_mut((k * width()).max(1)).enumerate() {
                for (k, row) in panel.chunks_exact_mut(width()).enumerate() {
                    for (j, b) in row.iter_mut().enumerate() {
                        let j = at * width() + j;
                        *b = if j < n { value(5 * k + j) } else { 0.0 };
                    }
                }
            }
            // Two segments, and only every second value.
            let rows: Vec<usize> = (0..m).rev().map(|i| i * 2 * k).collect();
            let c_rows: Vec<usize> = (0..m).map(|i| i * (n + 1)).collect();
            let segments = [(0, k / 2), (k / 2 * 2, k - k / 2)]
                .map(|(offset, length)| Segment { offset, length });
            let left = Left {
                values: &a,
                rows: &rows,
                segments: &segments,
                step: 2,
            };
            let bias: Vec<f32> = (0..n).map(|j| value(j + 3)).collect();
            let old: Vec<f32> = (0..m * (n + 1)).map(|j| value(j + 1)).collect();
            for (add, relu) in [
                (Add::Nothing, false),
                (Add::Itself, true),
                (Add::Values(&bias.repeat(m + 1)), false),
            ] {
                let mut c = old.clone();
                let finish = Finish {
                    bias: Some(&bias),
                    add,
                    relu,
                };
                product(left, &panels, n, &mut c, &c_rows, finish);
                for i in 0..m {
                    for (j, bias) in bias.iter().enumerate() {
                        let mut y: f32 =
                            (0..k).map(|t| a[rows[i] + 2 * t] * value(5 * t + j)).sum();
                        let at = i * (n + 1) + j;
                        y += bias;
                        y += match add {
                            Add::Nothing => 0.0,
                            Add::Itself => old[at],
                            Add::Values(values) => values[at],
                        };
                        if relu {
                            y = y.max(0.0);
                        }
                        assert_eq!(c[at], y, "{m} {k} {n}, {i} {j}");
                    }
                    assert_eq!(c[i * (n + 1) + n], old[i * (n + 1) + n]);
                }
            }
        }
    }

    #[test]
    fn a_nan_stays() {
        let a = [f32::NAN];
        let panels = vec![1.0; width()];
        let mut c = [0.0];
        let segments = [Segment {
            offset: 0,
            length: 1,
        }];
        let left = Left {
            values: &a,
            rows: &[0],
            segments: &segments,
            step: 1,
        };
        let finish = Finish {
            relu: true,
            ..Finish::default()
        };
        product(left, &panels, 1, &mut c, &[0], finish);
        assert!(c[0].is_nan());
    }
}
