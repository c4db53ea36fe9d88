//! The weights' gradient: the sums of a row of weights stay in registers over a few positions.

#![expect(
    unsafe_code,
    reason = "vectors are loaded by pointer, without a check for each"
)]
#![expect(clippy::inline_always, reason = "parts of vectorized bodies")]

use super::{Columns, Line, SIDE, columns_of, each_line};
use crate::nn::op::depthwise_conv2d::plan::Plan;
use crate::nn::op::simd::{One, Vector, vectorized};

vectorized! {
    /// Adds Σ dy · x to the weights' gradient, (k·k, C), over a plan of forward, for as many images as dy has.
    pub(in crate::nn::op::depthwise_conv2d) fn add_weights<V>(plan: &Plan, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let images = dy.len() / plan.output_image();
        let (taps, channels) = (plan.kernel * plan.kernel, plan.channels);
        assert!(dw.len() >= taps * channels);
        // The last channels, as a vector that overlaps its neighbor, have sums of their own.
        let mut last = vec![0.0; taps * V::LANES];
        each_line(plan, x, images, #[inline(always)] |line, from| {
            let dy = dy[from..][..line.class.count * line.channels].as_ptr();
            // SAFETY: rows and columns lie inside x or are zeros, positions inside dy; this is a vectorized body.
            unsafe {
                if channels < V::LANES {
                    for at in 0..line.class.count {
                        products_any::<One<V>>(line, at, dy, dw.as_mut_ptr(), last.as_mut_ptr());
                    }
                    return;
                }
                with_constants!(line, products_line::<V>(line, dy, dw.as_mut_ptr(), last.as_mut_ptr()), else {
                    for at in 0..line.class.count {
                        products_any::<V>(line, at, dy, dw.as_mut_ptr(), last.as_mut_ptr());
                    }
                });
            }
        });
        if channels >= V::LANES {
            let cut = channels % V::LANES;
            for (dw, last) in dw.chunks_exact_mut(channels).zip(last.chunks_exact(V::LANES)) {
                for (dw, last) in dw[channels - cut..].iter_mut().zip(&last[V::LANES - cut..]) {
                    *dw += last;
                }
            }
        }
    }
}

/// The products of a row of outputs: four positions at a time, then two, then one.
#[inline(always)]
unsafe fn products_line<V: Vector, const TAPS: usize, const STEP: usize>(
    line: &Line<'_>,
    dy: *const f32,
    dw: *mut f32,
    last: *mut f32,
) {
    let count = line.class.count;
    let mut at = 0;
    // SAFETY: the caller's promises.
    unsafe {
        while at + 4 <= count {
            products::<V, TAPS, STEP, 4>(line, at, dy, dw, last);
            at += 4;
        }
        if at + 2 <= count {
            products::<V, TAPS, STEP, 2>(line, at, dy, dw, last);
            at += 2;
        }
        if at < count {
            products::<V, TAPS, STEP, 1>(line, at, dy, dw, last);
        }
    }
}

/// The products of `POSITIONS` positions from `at` on.
#[inline(always)]
unsafe fn products<V: Vector, const TAPS: usize, const STEP: usize, const POSITIONS: usize>(
    line: &Line<'_>,
    at: usize,
    dy: *const f32,
    dw: *mut f32,
    last: *mut f32,
) {
    let columns = columns_of::<TAPS, STEP, POSITIONS>(line, at);
    let dy = dy.wrapping_add(at * line.channels);
    let whole = line.channels / V::LANES * V::LANES;
    let mut c = 0;
    // SAFETY: the caller's promises.
    unsafe {
        while c + 2 * V::LANES <= whole {
            let to = dw.add(c);
            products_of::<V, TAPS, STEP, POSITIONS, 2>(line, &columns, c, dy, to, line.channels);
            c += 2 * V::LANES;
        }
        if c < whole {
            let to = dw.add(c);
            products_of::<V, TAPS, STEP, POSITIONS, 1>(line, &columns, c, dy, to, line.channels);
        }
        if whole < line.channels {
            let c = line.channels - V::LANES;
            products_of::<V, TAPS, STEP, POSITIONS, 1>(line, &columns, c, dy, last, V::LANES);
        }
    }
}

/// The same for `PARTS` vectors of channels from `c` on; the sums of one weight and the next lie `pitch` apart.
#[inline(always)]
unsafe fn products_of<
    V: Vector,
    const TAPS: usize,
    const STEP: usize,
    const POSITIONS: usize,
    const PARTS: usize,
>(
    line: &Line<'_>,
    columns: &Columns,
    c: usize,
    dy: *const f32,
    dw: *mut f32,
    pitch: usize,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut dys = [[V::splat(0.0); PARTS]; POSITIONS];
        for (p, dys) in dys.iter_mut().enumerate() {
            for (part, value) in dys.iter_mut().enumerate() {
                *value = V::load(dy.add(p * line.channels + c + part * V::LANES));
            }
        }
        for (row, columns) in line.rows.iter().zip(columns) {
            // Forward's weights are in order from the first on.
            let dw = dw.add(row.weight * pitch);
            let mut sums = [[V::splat(0.0); PARTS]; TAPS];
            for (tap, sums) in sums.iter_mut().enumerate() {
                for (part, sum) in sums.iter_mut().enumerate() {
                    *sum = V::load(dw.add(tap * pitch + part * V::LANES));
                }
            }
            for column in 0..(POSITIONS - 1) * STEP + TAPS {
                let x = columns[column].add(c);
                for part in 0..PARTS {
                    let x = V::load(x.add(part * V::LANES));
                    for tap in 0..TAPS {
                        if column >= tap
                            && (column - tap) % STEP == 0
                            && (column - tap) / STEP < POSITIONS
                        {
                            let sum = &mut sums[tap][part];
                            *sum = sum.plus_product(x, dys[(column - tap) / STEP][part]);
                        }
                    }
                }
            }
            for (tap, sums) in sums.iter().enumerate() {
                for (part, sum) in sums.iter().enumerate() {
                    sum.store(dw.add(tap * pitch + part * V::LANES));
                }
            }
        }
    }
}

/// The products of one position with any number of weights.
#[inline(always)]
unsafe fn products_any<V: Vector>(
    line: &Line<'_>,
    at: usize,
    dy: *const f32,
    dw: *mut f32,
    last: *mut f32,
) {
    let (first, channels) = (line.first(at), line.channels);
    let whole = channels / V::LANES * V::LANES;
    for row in line.rows {
        for (tap, weight) in line.class.weights.iter().enumerate() {
            let x = line.column(*row, first + tap as isize);
            let weight = row.weight + weight;
            // SAFETY: the caller's promises.
            unsafe {
                let dy = dy.add(at * channels);
                for c in (0..whole).step_by(V::LANES) {
                    add_product::<V>(x.add(c), dy.add(c), dw.add(weight * channels + c));
                }
                if whole < channels {
                    let c = channels - V::LANES;
                    add_product::<V>(x.add(c), dy.add(c), last.add(weight * V::LANES));
                }
            }
        }
    }
}

/// Adds the product of two vectors to a third.
#[inline(always)]
unsafe fn add_product<V: Vector>(a: *const f32, b: *const f32, to: *mut f32) {
    // SAFETY: the caller's promises.
    unsafe {
        V::load(to).plus_product(V::load(a), V::load(b)).store(to);
    }
}
