//! The innermost loops: one rectangle of positions, one vector of channels, its weights in registers.

#![expect(
    unsafe_code,
    reason = "vectors are loaded by pointer, without a check for each"
)]
#![expect(clippy::inline_always, reason = "parts of vectorized bodies")]

use super::plan::{Plan, Segment};
use crate::nn::op::simd::{One, Vector, vectorized};

/// A rectangle of a group of images, as pointers and steps between values.
#[derive(Clone, Copy)]
struct Tile {
    images: usize,
    rows: usize,
    columns: usize,
    input_image: usize,
    output_image: usize,
    input_row: usize,
    output_row: usize,
    input_column: usize,
    output_column: usize,
    /// From tap to tap in the input.
    tap_row: isize,
    tap_column: isize,
    /// How many taps there are in each direction, and from tap to tap in the weights.
    taps: (usize, usize),
    weight_row: usize,
    weight_column: usize,
    channels: usize,
}

/// Calls `visit` with each tile of `images` images and where it begins in input, output and weights.
///
/// Every place that a tile reaches lies inside the images: that is what segments are.
#[inline(always)]
fn each_tile(plan: &Plan, images: usize, mut visit: impl FnMut(&Tile, usize, usize, usize)) {
    let (v, h) = (&plan.vertical, &plan.horizontal);
    let c = plan.channels;
    let group = plan.group();
    for first in (0..images).step_by(group) {
        plan.each_tile(
            #[inline(always)]
            |rows: &Segment, columns: &Segment| {
                let tile = Tile {
                    images: group.min(images - first),
                    rows: rows.count,
                    columns: columns.count,
                    input_image: plan.input_image,
                    output_image: plan.output_image,
                    input_row: v.input_step * plan.input_row,
                    output_row: v.output_step * plan.output_row,
                    input_column: h.input_step * c,
                    output_column: h.output_step * c,
                    tap_row: v.tap_step * plan.input_row as isize,
                    tap_column: h.tap_step * c as isize,
                    taps: (rows.taps, columns.taps),
                    weight_row: v.weight_step * plan.kernel * c,
                    weight_column: h.weight_step * c,
                    channels: c,
                };
                visit(
                    &tile,
                    first * plan.input_image + rows.input * plan.input_row + columns.input * c,
                    first * plan.output_image + rows.output * plan.output_row + columns.output * c,
                    (rows.weight * plan.kernel + columns.weight) * c,
                );
            },
        );
    }
}

/// Calls a function with the numbers of taps as constants, up to three by three, or another where they are not.
macro_rules! with_taps {
    ($taps:expr, $known:ident::<$v:ty>($($argument:expr),*), else $other:expr) => {
        match $taps {
            (1, 1) => $known::<$v, 1, 1>($($argument),*),
            (1, 2) => $known::<$v, 1, 2>($($argument),*),
            (1, 3) => $known::<$v, 1, 3>($($argument),*),
            (2, 1) => $known::<$v, 2, 1>($($argument),*),
            (2, 2) => $known::<$v, 2, 2>($($argument),*),
            (2, 3) => $known::<$v, 2, 3>($($argument),*),
            (3, 1) => $known::<$v, 3, 1>($($argument),*),
            (3, 2) => $known::<$v, 3, 2>($($argument),*),
            (3, 3) => $known::<$v, 3, 3>($($argument),*),
            _ => $other,
        }
    };
}

vectorized! {
    /// output = max(start + Σ weights · input, floor) over a plan, for as many images as the output has.
    pub(super) fn correlate<V>(
        plan: &Plan,
        input: &[f32],
        weights: &[f32],
        start: &[f32],
        floor: f32,
        output: &mut [f32],
    ) {
        let images = output.len() / plan.output_image;
        assert!(input.len() >= images * plan.input_image);
        assert!(weights.len() >= plan.kernel * plan.kernel * plan.channels);
        assert!(start.len() >= plan.channels);
        each_tile(plan, images, #[inline(always)] |tile, from, to, weight| {
            // SAFETY: tiles lie inside the images, whose lengths were checked; this is a vectorized body.
            unsafe {
                let (x, y) = (input.as_ptr().add(from), output.as_mut_ptr().add(to));
                let (w, b) = (weights.as_ptr().add(weight), start.as_ptr());
                if tile.channels < V::LANES {
                    for c in 0..tile.channels {
                        sums_any::<One<V>>(tile, c, x, w, b, floor, y);
                    }
                    return;
                }
                with_taps!(tile.taps, sums_all::<V>(tile, x, w, b, floor, y), else {
                    each_block::<V>(tile.channels, #[inline(always)] |c| sums_any::<V>(tile, c, x, w, b, floor, y));
                });
            }
        });
    }
}

/// The first channel of each vector; the last one overlaps its neighbor rather than being cut.
#[inline(always)]
fn each_block<V: Vector>(channels: usize, mut visit: impl FnMut(usize)) {
    let mut c = 0;
    loop {
        visit(c);
        if c + V::LANES >= channels {
            return;
        }
        c = (c + V::LANES).min(channels - V::LANES);
    }
}

/// Calls `visit` with the input and the output of each position of a tile.
#[inline(always)]
unsafe fn each_position(
    tile: &Tile,
    x: *const f32,
    y: *mut f32,
    mut visit: impl FnMut(*const f32, *mut f32),
) {
    for image in 0..tile.images {
        for row in 0..tile.rows {
            // SAFETY: the caller's tile lies inside the images.
            unsafe {
                let mut x = x.add(image * tile.input_image + row * tile.input_row);
                let mut y = y.add(image * tile.output_image + row * tile.output_row);
                for _ in 0..tile.columns {
                    visit(x, y);
                    x = x.wrapping_add(tile.input_column);
                    y = y.wrapping_add(tile.output_column);
                }
            }
        }
    }
}

/// The sums of a tile with `ROWS` x `COLUMNS` taps, for all channels.
#[inline(always)]
unsafe fn sums_all<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    tile: &Tile,
    x: *const f32,
    w: *const f32,
    start: *const f32,
    floor: f32,
    y: *mut f32,
) {
    each_block::<V>(
        tile.channels,
        #[inline(always)]
        |c| {
            // SAFETY: the caller's tile lies inside the images, and `c` + LANES <= channels.
            unsafe {
                let floor = V::splat(floor);
                let start = V::load(start.add(c));
                let mut weights = [[start; COLUMNS]; ROWS];
                for (row, weights) in weights.iter_mut().enumerate() {
                    for (column, weight) in weights.iter_mut().enumerate() {
                        *weight =
                            V::load(w.add(row * tile.weight_row + column * tile.weight_column + c));
                    }
                }
                each_position(
                    tile,
                    x.add(c),
                    y.add(c),
                    #[inline(always)]
                    |x, y| {
                        let mut sum = start;
                        for (row, weights) in weights.iter().enumerate() {
                            let x = x.offset(row as isize * tile.tap_row);
                            for (column, weight) in weights.iter().enumerate() {
                                let x = V::load(x.offset(column as isize * tile.tap_column));
                                sum = sum.plus_product(x, *weight);
                            }
                        }
                        sum.at_least(floor).store(y);
                    },
                );
            }
        },
    );
}

/// The sums of a tile with any number of taps (also none), for the channels from `c` on.
#[inline(always)]
unsafe fn sums_any<V: Vector>(
    tile: &Tile,
    c: usize,
    x: *const f32,
    w: *const f32,
    start: *const f32,
    floor: f32,
    y: *mut f32,
) {
    // SAFETY: the caller's tile lies inside the images, and `c` + LANES <= channels.
    unsafe {
        let floor = V::splat(floor);
        let start = V::load(start.add(c));
        each_position(
            tile,
            x.add(c),
            y.add(c),
            #[inline(always)]
            |x, y| {
                let mut sum = start;
                for row in 0..tile.taps.0 {
                    for column in 0..tile.taps.1 {
                        let w = w.add(row * tile.weight_row + column * tile.weight_column + c);
                        let x = x.offset(
                            row as isize * tile.tap_row + column as isize * tile.tap_column,
                        );
                        sum = sum.plus_product(V::load(x), V::load(w));
                    }
                }
                sum.at_least(floor).store(y);
            },
        );
    }
}

vectorized! {
    /// Adds Σ dy · x to the weights' gradient, (k·k, C), for as many images as dy has.
    pub(super) fn add_weights<V>(plan: &Plan, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let images = dy.len() / plan.output_image;
        assert!(x.len() >= images * plan.input_image);
        assert!(dw.len() >= plan.kernel * plan.kernel * plan.channels);
        each_tile(plan, images, #[inline(always)] |tile, from, to, weight| {
            // SAFETY: tiles lie inside the images, whose lengths were checked; this is a vectorized body.
            unsafe {
                let (x, dy) = (x.as_ptr().add(from), dy.as_ptr().add(to));
                let dw = dw.as_mut_ptr().add(weight);
                let whole = tile.channels / V::LANES * V::LANES;
                with_taps!(tile.taps, products_all::<V>(tile, x, dy, dw), else {
                    for c in (0..whole).step_by(V::LANES) {
                        products_any::<V>(tile, c, x, dy, dw);
                    }
                });
                for c in whole..tile.channels {
                    products_any::<One<V>>(tile, c, x, dy, dw);
                }
            }
        });
    }
}

/// The products of a tile with `ROWS` x `COLUMNS` taps, for the channels that fill vectors.
#[inline(always)]
unsafe fn products_all<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    tile: &Tile,
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
) {
    let whole = tile.channels / V::LANES * V::LANES;
    for c in (0..whole).step_by(V::LANES) {
        // SAFETY: the caller's tile lies inside the images, and `c` + LANES <= channels; dy is only read.
        unsafe {
            let mut sums = [[V::splat(0.0); COLUMNS]; ROWS];
            each_position(
                tile,
                x.add(c),
                dy.cast_mut().add(c),
                #[inline(always)]
                |x, dy| {
                    let dy = V::load(dy);
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = x.offset(row as isize * tile.tap_row);
                        for (column, sum) in sums.iter_mut().enumerate() {
                            let x = V::load(x.offset(column as isize * tile.tap_column));
                            *sum = sum.plus_product(x, dy);
                        }
                    }
                },
            );
            let one = V::splat(1.0);
            for (row, sums) in sums.iter().enumerate() {
                for (column, sum) in sums.iter().enumerate() {
                    let dw = dw.add(row * tile.weight_row + column * tile.weight_column + c);
                    V::load(dw).plus_product(*sum, one).store(dw);
                }
            }
        }
    }
}

/// The products of a tile with any number of taps, for the channels from `c` on: tap by tap.
#[inline(always)]
unsafe fn products_any<V: Vector>(
    tile: &Tile,
    c: usize,
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
) {
    for (row, column) in
        (0..tile.taps.0).flat_map(|row| (0..tile.taps.1).map(move |column| (row, column)))
    {
        // SAFETY: the caller's tile lies inside the images, and `c` + LANES <= channels; dy is only read.
        unsafe {
            let x = x.offset(row as isize * tile.tap_row + column as isize * tile.tap_column);
            let mut sum = V::splat(0.0);
            each_position(
                tile,
                x.add(c),
                dy.cast_mut().add(c),
                #[inline(always)]
                |x, dy| {
                    sum = sum.plus_product(V::load(x), V::load(dy));
                },
            );
            let dw = dw.add(row * tile.weight_row + column * tile.weight_column + c);
            V::load(dw).plus_product(sum, V::splat(1.0)).store(dw);
        }
    }
}

vectorized! {
    /// Adds the rows of `values` to `sums`.
    pub(super) fn add_rows<V>(values: &[f32], sums: &mut [f32]) {
        let n = sums.len();
        for row in values.chunks_exact(n) {
            for i in 0..n {
                sums[i] = V::fused(row[i], 1.0, sums[i]);
            }
        }
    }
}
