//! The one product kernel of integer convolutions and linear layers, and the packing of its weights.
//!
//! C[i, j] = S[j] + Σ_k A[i, k] · B[k, j] for a tile of few rows i and a panel of columns j, kept in registers; k advances by
//! words of two or four values. As with floats (`op::kernel`), the values of A are read from where they lie in memory, each
//! row from its own beginning; B is packed in panels: what the sums start with (S), then for each word of k the words of
//! all columns side by side.
//! k runs over segments, stretches of values side by side at the same offsets from each row's beginning. The last word of a
//! segment may reach beyond it: its weights are 0 there.

#![expect(
    unsafe_code,
    reason = "rows that lie anywhere are read through pointers; `product` has checked them"
)]
#![expect(
    clippy::inline_always,
    reason = "parts of functions compiled for each path"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "an index that the compiler unrolls keeps the sums in registers"
)]

use std::ops::Range;

use super::path::Unit;
use super::words::Words;

/// A stretch of A's bytes, relative to a row's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// In bytes.
    pub(super) offset: usize,
    pub(super) words: usize,
}

/// What a tile computes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    a: *const u8,
    a_rows: &'a [usize],
    segments: &'a [Segment],
    b: *const i32,
    c: *mut i32,
    pitch: usize,
}

/// A kernel.
///
/// # Safety
/// The processor has its instructions; four bytes at each A[row + offset + 4 i], as many panels' words of B as the segments
/// have, and `width` words at each row of C lie inside their allocations; nobody else uses C's.
pub(super) type Run = unsafe fn(&Tile<'_>);

/// The left matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    bytes: &'a [u8],
    rows: &'a [usize],
    segments: &'a [Segment],
    words: usize,
}

impl<'a> Left<'a> {
    /// Rows that begin at these bytes.
    pub(super) fn new(bytes: &'a [u8], rows: &'a [usize], segments: &'a [Segment]) -> Self {
        let ends = segments.iter().map(|s| s.offset + 4 * s.words);
        let end = ends.max().unwrap_or_default() + rows.iter().max().copied().unwrap_or_default();
        assert!(end <= bytes.len(), "a product reads outside of its values");
        Self {
            bytes,
            rows,
            segments,
            words: segments.iter().map(|segment| segment.words).sum(),
        }
    }
}

/// C of some rows and one panel: rows of the unit's width, `pitch` words apart.
pub(super) fn product(
    unit: &Unit,
    left: &Left<'_>,
    rows: Range<usize>,
    panel: &[i32],
    c: &mut [i32],
    pitch: usize,
) {
    let rows = &left.rows[rows];
    assert!(
        (left.words + 1) * unit.width <= panel.len(),
        "a product reads outside of its panel"
    );
    assert!(
        rows.is_empty() || (rows.len() - 1) * pitch + unit.width <= c.len(),
        "a product writes outside of its slice"
    );
    for (at, rows) in rows.chunks(unit.rows).enumerate() {
        let tile = Tile {
            a: left.bytes.as_ptr(),
            a_rows: rows,
            segments: left.segments,
            b: panel.as_ptr(),
            c: c[at * unit.rows * pitch..].as_mut_ptr(),
            pitch,
        };
        // SAFETY: checked above and by `Left::new`; a `Unit` exists only where the processor has its instructions.
        unsafe { (unit.run)(&tile) }
    }
}

/// A tile of 1 to 8 rows.
///
/// # Safety
/// That of [`Run`].
#[inline(always)]
pub(super) unsafe fn tile<W: Words>(tile: &Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.a_rows.len() {
            8 => of_rows::<W, 8>(tile),
            7 => of_rows::<W, 7>(tile),
            6 => of_rows::<W, 6>(tile),
            5 => of_rows::<W, 5>(tile),
            4 => of_rows::<W, 4>(tile),
            3 => of_rows::<W, 3>(tile),
            2 => of_rows::<W, 2>(tile),
            1 => of_rows::<W, 1>(tile),
            _ => {}
        }
    }
}

/// A tile of M rows.
///
/// # Safety
/// That of [`Run`].
#[inline(always)]
unsafe fn of_rows<W: Words, const M: usize>(tile: &Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let start = [W::load(tile.b), W::load(tile.b.add(W::LANES))];
        let mut sums = [start; M];
        let mut a = [tile.a; M];
        for i in 0..M {
            a[i] = tile.a.add(*tile.a_rows.get_unchecked(i));
        }
        let mut b = tile.b.add(2 * W::LANES);
        for segment in tile.segments {
            let mut at = segment.offset;
            for _ in 0..segment.words / UNROLLED {
                for word in 0..UNROLLED {
                    add_word(&mut sums, &a, at + 4 * word, b.add(2 * W::LANES * word));
                }
                b = b.add(2 * W::LANES * UNROLLED);
                at += 4 * UNROLLED;
            }
            for _ in 0..segment.words % UNROLLED {
                add_word(&mut sums, &a, at, b);
                b = b.add(2 * W::LANES);
                at += 4;
            }
        }
        for i in 0..M {
            let row = tile.c.add(i * tile.pitch);
            sums[i][0].store(row);
            sums[i][1].store(row.add(W::LANES));
        }
    }
}

/// Words of k in a row, so that counting them costs little.
const UNROLLED: usize = 2;

/// Adds the products of one word of k.
///
/// # Safety
/// That of [`Run`].
#[inline(always)]
unsafe fn add_word<W: Words, const M: usize>(
    sums: &mut [[W; 2]; M],
    a: &[*const u8; M],
    at: usize,
    b: *const i32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (left, right) = (W::load(b), W::load(b.add(W::LANES)));
        for i in 0..M {
            let x = W::splat(a[i].add(at));
            sums[i][0] = sums[i][0].plus_dot(x, left);
            sums[i][1] = sums[i][1].plus_dot(x, right);
        }
    }
}

/// Words of one panel over segments of so many values: what the sums start with, and the weights.
pub(super) fn panel(unit: &Unit, segments: &[usize]) -> usize {
    let of_segment = |values: &usize| values.div_ceil(unit.group.size());
    (1 + segments.iter().map(of_segment).sum::<usize>()) * unit.width
}

/// The panels of `columns` columns: `start` is what a column's sums begin with, `value` that of a segment, a place in it and
/// a column.
pub(super) fn pack(
    unit: &Unit,
    segments: &[usize],
    columns: usize,
    start: impl Fn(usize) -> i32,
    value: impl Fn(usize, usize, usize) -> i32,
) -> Vec<i32> {
    let group = unit.group.size();
    let mut panels = Vec::with_capacity(panel(unit, segments) * columns.div_ceil(unit.width));
    for first in (0..columns).step_by(unit.width) {
        let own = first..first + unit.width;
        panels.extend(
            own.clone()
                .map(|column| if column < columns { start(column) } else { 0 }),
        );
        for (segment, &length) in segments.iter().enumerate() {
            for word in 0..length.div_ceil(group) {
                panels.extend(own.clone().map(|column| {
                    unit.group.word(|part| {
                        let at = word * group + part;
                        if column < columns && at < length {
                            value(segment, at, column)
                        } else {
                            0
                        }
                    })
                }));
            }
        }
    }
    panels
}
