//! The transforms of tiles and kernels, channel by channel, each along one side and then along the other.

#![expect(
    unsafe_code,
    reason = "registers are loaded and stored through pointers, whose slices are checked first"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "indices that the compiler unrolls keep tiles in registers"
)]

use super::{End, LANES, SPAN, TILE};
use crate::nn::op::simd::{Vector, vectorized};

/// The most columns of a panel.
pub(super) const MOST: usize = 32;

vectorized! {
    /// G g Gᵀ of a row of a panel.
    pub(super) fn transform_kernels<V>(taps: &[[f32; MOST]; 9], at: usize, width: usize, panels: &mut [&mut [f32]]) {
        for j in (0..width).step_by(V::LANES) {
            // SAFETY: `vectorized!` calls at the processor's level; MOST and the panels' rows are at least `width` wide.
            unsafe {
                let mut half = [[V::splat(0.0); 3]; SPAN];
                for kx in 0..3 {
                    let mut g = [V::splat(0.0); 3];
                    for ky in 0..3 {
                        g[ky] = V::load(taps[3 * ky + kx][j..].as_ptr());
                    }
                    let column = kernel_side(g);
                    for i in 0..SPAN {
                        half[i][kx] = column[i];
                    }
                }
                for i in 0..SPAN {
                    let row = kernel_side(half[i]);
                    for k in 0..SPAN {
                        row[k].store(panels[i * SPAN + k][at + j..].as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// G g along one side.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
unsafe fn kernel_side<V: Vector>([a, b, c]: [V; 3]) -> [V; SPAN] {
    // SAFETY: a value exists only where the processor has the level.
    unsafe {
        let zero = V::splat(0.0);
        let times = |x: V, factor: f32| zero.plus_product(x, V::splat(factor));
        let ends = times(a, -1.0 / 6.0).plus_product(c, V::splat(-1.0 / 6.0));
        let middle = times(b, 1.0 / 6.0);
        let wide = times(a, 1.0 / 24.0).plus_product(c, V::splat(1.0 / 6.0));
        let half = times(b, 1.0 / 12.0);
        let (one, minus) = (V::splat(1.0), V::splat(-1.0));
        [
            times(a, 0.25),
            ends.plus_product(middle, minus),
            ends.plus_product(middle, one),
            wide.plus_product(half, one),
            wide.plus_product(half, minus),
            c,
        ]
    }
}

/// A row of tiles among those of a product.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) tiles: usize,
    pub(super) first: usize,
    /// Lines of the output that it covers.
    pub(super) lines: usize,
}

vectorized! {
    /// Bᵀ d B of a row of tiles, channel by channel: (36, tiles, channels).
    pub(super) fn transform_row<V>(copied: &[f32], pitch: usize, across: usize, channels: usize, tiles: usize, first: usize, transformed: &mut [f32]) {
        for tile in 0..across {
            for block in 0..channels.div_ceil(V::LANES) {
                // The last block overlaps the one before it where channels are no multiple.
                let c = (block * V::LANES).min(channels - V::LANES);
                // SAFETY: `vectorized!` calls at the processor's level; slices check their bounds, and there are more
                // channels than lanes.
                unsafe {
                    let mut half = [[V::splat(0.0); SPAN]; SPAN];
                    for j in 0..SPAN {
                        let column = (tile * TILE + j) * channels + c;
                        let mut d = [V::splat(0.0); SPAN];
                        for i in 0..SPAN {
                            d[i] = V::load(copied[i * pitch + column..][..V::LANES].as_ptr());
                        }
                        let column = input_side(d);
                        for i in 0..SPAN {
                            half[i][j] = column[i];
                        }
                    }
                    for i in 0..SPAN {
                        let row = input_side(half[i]);
                        for j in 0..SPAN {
                            let at = ((i * SPAN + j) * tiles + first + tile) * channels + c;
                            row[j].store(transformed[at..][..V::LANES].as_mut_ptr());
                        }
                    }
                }
            }
        }
    }
}

/// Bᵀ d along one side.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
unsafe fn input_side<V: Vector>(d: [V; SPAN]) -> [V; SPAN] {
    // SAFETY: a value exists only where the processor has the level.
    unsafe {
        let plus = |x: V, factor: f32, y: V| x.plus_product(y, V::splat(factor));
        let even = plus(d[4], -4.0, d[2]);
        let odd = plus(d[3], -4.0, d[1]);
        let near = plus(d[4], -1.0, d[2]);
        let far = plus(d[3], -1.0, d[1]);
        [
            plus(plus(d[4], -5.0, d[2]), 4.0, d[0]),
            plus(even, 1.0, odd),
            plus(even, -1.0, odd),
            plus(near, 2.0, far),
            plus(near, -2.0, far),
            plus(plus(d[5], -5.0, d[3]), 4.0, d[1]),
        ]
    }
}

vectorized! {
    /// Aᵀ m A of a row of tiles, finished.
    pub(super) fn finish_row<V>(row: Row, width: usize, outputs: usize, products: &[f32], end: End<'_>, y: &mut [f32]) {
        for tile in 0..width.div_ceil(TILE) {
            let columns = TILE.min(width - tile * TILE);
            for block in 0..outputs.div_ceil(V::LANES) {
                let o = (block * V::LANES).min(outputs - V::LANES);
                // SAFETY: as above.
                unsafe {
                    let mut half = [[V::splat(0.0); SPAN]; TILE];
                    for j in 0..SPAN {
                        let mut m = [V::splat(0.0); SPAN];
                        for i in 0..SPAN {
                            let at = ((i * SPAN + j) * row.tiles + row.first + tile) * outputs + o;
                            m[i] = V::load(products[at..][..V::LANES].as_ptr());
                        }
                        let column = output_side(m);
                        for i in 0..TILE {
                            half[i][j] = column[i];
                        }
                    }
                    let one = V::splat(1.0);
                    let bias = match end.bias {
                        Some(bias) => V::load(bias[o..][..V::LANES].as_ptr()),
                        None => V::splat(0.0),
                    };
                    for i in 0..TILE {
                        if i >= row.lines {
                            break;
                        }
                        let values = output_side(half[i]);
                        for j in 0..TILE {
                            if j >= columns {
                                break;
                            }
                            let at = (i * width + tile * TILE + j) * outputs + o;
                            let mut value = values[j].plus_product(bias, one);
                            if let Some(add) = end.add {
                                value = value.plus_product(V::load(add[at..][..V::LANES].as_ptr()), one);
                            }
                            let y = &mut y[at..][..V::LANES];
                            if end.adds {
                                value = value.plus_product(V::load(y.as_ptr()), one);
                            }
                            if end.relu {
                                value = value.at_least(V::splat(0.0));
                            }
                            value.store(y.as_mut_ptr());
                        }
                    }
                }
            }
        }
    }
}

/// Aᵀ m along one side.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
unsafe fn output_side<V: Vector>(m: [V; SPAN]) -> [V; TILE] {
    // SAFETY: a value exists only where the processor has the level.
    unsafe {
        let plus = |x: V, factor: f32, y: V| x.plus_product(y, V::splat(factor));
        let (near, far) = (plus(m[1], 1.0, m[2]), plus(m[3], 1.0, m[4]));
        let (odd, wide) = (plus(m[1], -1.0, m[2]), plus(m[3], -1.0, m[4]));
        [
            plus(plus(m[0], 1.0, near), 1.0, far),
            plus(odd, 2.0, wide),
            plus(near, 4.0, far),
            plus(plus(odd, 8.0, wide), 1.0, m[5]),
        ]
    }
}

vectorized! {
    /// A dy Aᵀ of a row of tiles: (36, tiles, outputs).
    pub(super) fn transform_gradients<V>(dy: &[f32], across: usize, outputs: usize, tiles: usize, first: usize, transformed: &mut [f32]) {
        let pitch = across * TILE * outputs;
        for tile in 0..across {
            for o in (0..outputs).step_by(V::LANES) {
                // SAFETY: `vectorized!` calls at the processor's level; slices check their bounds, and outputs come in
                // multiples of LANES.
                unsafe {
                    let mut half = [[V::splat(0.0); TILE]; SPAN];
                    for j in 0..TILE {
                        let column = (tile * TILE + j) * outputs + o;
                        let mut y = [V::splat(0.0); TILE];
                        for i in 0..TILE {
                            y[i] = V::load(dy[i * pitch + column..][..V::LANES].as_ptr());
                        }
                        let column = gradient_side(y);
                        for i in 0..SPAN {
                            half[i][j] = column[i];
                        }
                    }
                    for i in 0..SPAN {
                        let row = gradient_side(half[i]);
                        for j in 0..SPAN {
                            let at = ((i * SPAN + j) * tiles + first + tile) * outputs + o;
                            row[j].store(transformed[at..][..V::LANES].as_mut_ptr());
                        }
                    }
                }
            }
        }
    }
}

/// A y along one side.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
unsafe fn gradient_side<V: Vector>(y: [V; TILE]) -> [V; SPAN] {
    // SAFETY: a value exists only where the processor has the level.
    unsafe {
        let plus = |x: V, factor: f32, y: V| x.plus_product(y, V::splat(factor));
        let (even, odd) = (plus(y[0], 1.0, y[2]), plus(y[1], 1.0, y[3]));
        let (far, wide) = (plus(y[0], 4.0, y[2]), plus(y[1], 4.0, y[3]));
        [
            y[0],
            plus(even, 1.0, odd),
            plus(even, -1.0, odd),
            plus(far, 2.0, wide),
            plus(far, -2.0, wide),
            y[3],
        ]
    }
}

vectorized! {
    /// Gᵀ u G of one output's kernels: `sums` has frequencies `stride` apart, `dw` is (C, 3, 3).
    pub(super) fn kernels_back<V>(sums: &[f32], stride: usize, dw: &mut [f32]) {
        let channels = dw.len() / 9;
        for c in (0..channels).step_by(V::LANES) {
            let mut taps = [[0.0_f32; LANES]; 9];
            // SAFETY: as above; the widest register has LANES values.
            unsafe {
                let mut half = [[V::splat(0.0); SPAN]; 3];
                for j in 0..SPAN {
                    let mut u = [V::splat(0.0); SPAN];
                    for i in 0..SPAN {
                        u[i] = V::load(sums[(i * SPAN + j) * stride + c..][..V::LANES].as_ptr());
                    }
                    let column = kernel_back_side(u);
                    for i in 0..3 {
                        half[i][j] = column[i];
                    }
                }
                for i in 0..3 {
                    let row = kernel_back_side(half[i]);
                    for j in 0..3 {
                        row[j].store(taps[i * 3 + j].as_mut_ptr());
                    }
                }
            }
            let of_channels = dw[c * 9..][..V::LANES * 9].as_chunks_mut::<9>().0;
            for (lane, dw) in of_channels.iter_mut().enumerate() {
                *dw = std::array::from_fn(|tap| taps[tap][lane]);
            }
        }
    }
}

/// Gᵀ u along one side.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
unsafe fn kernel_back_side<V: Vector>(u: [V; SPAN]) -> [V; 3] {
    // SAFETY: a value exists only where the processor has the level.
    unsafe {
        let plus = |x: V, factor: f32, y: V| x.plus_product(y, V::splat(factor));
        let zero = V::splat(0.0);
        let (near, far) = (plus(u[1], 1.0, u[2]), plus(u[3], 1.0, u[4]));
        let (odd, wide) = (plus(u[2], -1.0, u[1]), plus(u[3], -1.0, u[4]));
        let sixth = plus(zero, -1.0 / 6.0, near);
        [
            plus(plus(sixth, 1.0 / 24.0, far), 0.25, u[0]),
            plus(plus(zero, 1.0 / 6.0, odd), 1.0 / 12.0, wide),
            plus(plus(sixth, 1.0 / 6.0, far), 1.0, u[5]),
        ]
    }
}
