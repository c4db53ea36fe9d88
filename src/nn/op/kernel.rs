//! The one product kernel that convolutions and linear layers are made of.
//!
//! C[i, j] = Σ_k A[i, k] · B[k, j] for a tile of few rows i and [`width`] columns j, kept in registers. The values of A are
//! read one at a time, each row from where it lies in memory (a pixel of a channels-last image, say), so that no
//! matrix of patches is ever made; B comes packed ([`super::panels`]), [`width`] values side by side for each k.
//! k runs over segments: stretches of values `step` apart, at the same offsets from each row's beginning.
//!
//! Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication", has the tile in registers; Georganas et
//! al. 2018, "Anatomy of high-performance deep learning convolutions on SIMD architectures", the walk over pixels.

#![expect(
    unsafe_code,
    reason = "rows that lie anywhere are read through pointers, which `panels` has checked"
)]

use super::simd::{Level, Vector, level, vectorized};

/// A stretch of A's values, relative to a row's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: usize,
    pub length: usize,
}

/// What a tile computes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    pub(super) a: *const f32,
    /// Where each row of A begins.
    pub(super) a_rows: &'a [usize],
    pub(super) segments: &'a [Segment],
    /// From one value of a segment to the next.
    pub(super) step: usize,
    /// [`width`] values for each k.
    pub(super) b: *const f32,
    pub(super) c: *mut f32,
    /// Where each row of C begins, as many as `a_rows`.
    pub(super) c_rows: &'a [usize],
    /// How many columns there are, at most [`width`].
    pub(super) columns: usize,
    pub(super) then: Then,
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Then {
    /// One value per column is added, unless null.
    pub(super) bias: *const f32,
    /// A value at C's own offsets is added, unless null: C itself, or a residual.
    pub(super) add: *const f32,
    /// max(·, 0) at the end, keeping a NaN.
    pub(super) relu: bool,
}

/// Columns of a tile: two registers of the widest level there is.
pub(super) fn width() -> usize {
    match level() {
        Level::Avx512 => 32,
        Level::Avx2 => 16,
        Level::Baseline => 8,
    }
}

/// The most columns of a tile at any level.
const WIDEST: usize = 32;

/// The most rows of a tile: as many as leave registers for the columns and a value of A (16 registers, with AVX-512 32).
pub(super) fn rows() -> usize {
    match level() {
        Level::Avx512 => 8,
        Level::Avx2 => 6,
        Level::Baseline => 4,
    }
}

vectorized! {
    /// Computes a tile of 1 to [`rows`] rows.
    ///
    /// The caller promises that every A[row + offset + i·step], the segments' total · [`width`] values of B, `columns`
    /// values at each row of C (and of `add`), and `columns` values of `bias` lie inside their allocations, and that
    /// nobody else uses C's.
    pub(super) fn multiply<V>(tile: &Tile<'_>) {
        debug_assert!(tile.a_rows.len() == tile.c_rows.len() && tile.columns <= 2 * V::LANES);
        // SAFETY: the caller's promise.
        unsafe {
            match tile.a_rows.len() {
                8 => run::<V, 8>(tile),
                7 => run::<V, 7>(tile),
                6 => run::<V, 6>(tile),
                5 => run::<V, 5>(tile),
                4 => run::<V, 4>(tile),
                3 => run::<V, 3>(tile),
                2 => run::<V, 2>(tile),
                1 => run::<V, 1>(tile),
                _ => {}
            }
        }
    }
}

/// A tile of M rows.
///
/// # Safety
/// The promise that [`multiply`] is given.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[expect(
    clippy::needless_range_loop,
    reason = "an index that the compiler unrolls keeps the sums in registers"
)]
#[inline(always)]
unsafe fn run<V: Vector, const M: usize>(tile: &Tile<'_>) {
    // SAFETY: the promise of `multiply`.
    unsafe {
        let mut sums = [[V::splat(0.0); 2]; M];
        let mut a = [tile.a; M];
        for i in 0..M {
            a[i] = tile.a.add(*tile.a_rows.get_unchecked(i));
        }
        let mut b = tile.b;
        for segment in tile.segments {
            let mut at = segment.offset;
            for _ in 0..segment.length {
                let (left, right) = (V::load(b), V::load(b.add(V::LANES)));
                for i in 0..M {
                    let x = V::splat(*a[i].add(at));
                    sums[i][0] = sums[i][0].plus_product(x, left);
                    sums[i][1] = sums[i][1].plus_product(x, right);
                }
                b = b.add(2 * V::LANES);
                at += tile.step;
            }
        }
        let Then { bias, add, relu } = tile.then;
        let whole = tile.columns == 2 * V::LANES;
        // Only constants index the sums: anything else would move them from registers to memory.
        let [left, right] = if bias.is_null() || !whole {
            [V::splat(0.0); 2]
        } else {
            [V::load(bias), V::load(bias.add(V::LANES))]
        };
        for i in 0..M {
            let row = *tile.c_rows.get_unchecked(i);
            let [first, second] = sums[i];
            if whole {
                let one = V::splat(1.0);
                let mut first = first.plus_product(left, one);
                let mut second = second.plus_product(right, one);
                if !add.is_null() {
                    first = first.plus_product(V::load(add.add(row)), one);
                    second = second.plus_product(V::load(add.add(row + V::LANES)), one);
                }
                if relu {
                    let zero = V::splat(0.0);
                    (first, second) = (first.at_least(zero), second.at_least(zero));
                }
                first.store(tile.c.add(row));
                second.store(tile.c.add(row + V::LANES));
            } else {
                let mut narrow = [0.0_f32; WIDEST];
                first.store(narrow.as_mut_ptr());
                second.store(narrow.as_mut_ptr().add(V::LANES));
                finish(tile, row, &narrow);
            }
        }
    }
}

/// The end of a row of fewer columns than a tile has.
///
/// # Safety
/// The promise that [`multiply`] is given.
unsafe fn finish(tile: &Tile<'_>, row: usize, sums: &[f32; WIDEST]) {
    let Then { bias, add, relu } = tile.then;
    for (j, sum) in sums.iter().enumerate().take(tile.columns) {
        // SAFETY: the promise of `multiply`.
        unsafe {
            let mut y = *sum;
            if !bias.is_null() {
                y += *bias.add(j);
            }
            if !add.is_null() {
                y += *add.add(row + j);
            }
            if relu && y < 0.0 {
                y = 0.0;
            }
            *tile.c.add(row + j) = y;
        }
    }
}
