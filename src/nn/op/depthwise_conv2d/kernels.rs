//! The innermost loops: a few positions side by side, all channels, a vector of them at a time.
//!
//! Four positions with three weights each per row meet six columns. Each input is loaded once per row of the kernel and
//! goes into up to three sums, each weight once for all four positions: half a load for each multiply-add, of which the
//! processor does two at a time. Memory is read along the channels, as it lies. Columns outside the image are read from
//! a row of zeros; rows outside are left out.

#![expect(
    unsafe_code,
    reason = "vectors are loaded by pointer, without a check for each"
)]
#![expect(clippy::inline_always, reason = "parts of vectorized bodies")]

use super::plan::{Class, Plan};
use crate::nn::op::simd::{One, Vector, vectorized};

/// Calls a function with the number of weights in a row and the stride as constants, or another where they are not.
macro_rules! with_constants {
    ($line:expr, $known:ident::<$v:ty>($($argument:expr),*), else $other:expr) => {
        match ($line.class.weights.len(), $line.class.input_step, $line.rows.len()) {
            (1, 1, ..=SIDE) => $known::<$v, 1, 1>($($argument),*),
            (2, 1, ..=SIDE) => $known::<$v, 2, 1>($($argument),*),
            (3, 1, ..=SIDE) => $known::<$v, 3, 1>($($argument),*),
            (3, 2, ..=SIDE) => $known::<$v, 3, 2>($($argument),*),
            _ => $other,
        }
    };
}

mod products;

pub(super) use products::add_weights;

/// The most rows and columns of weights whose kernels are spelt out.
const SIDE: usize = 3;

/// The columns that four positions meet: 3 · 2 + 3 at stride 2.
const COLUMNS: usize = 9;

/// One row of an input image under a row of the kernel, by their first values.
#[derive(Clone, Copy)]
struct Row {
    x: *const f32,
    /// The number of the first weight in that row of the kernel.
    weight: usize,
}

/// Where a row of outputs is computed from.
struct Line<'a> {
    rows: &'a [Row],
    class: &'a Class,
    channels: usize,
    width: usize,
    /// As many zeros as there are channels.
    zeros: *const f32,
}

impl Line<'_> {
    /// Column `at` of a row, or zeros outside.
    #[inline(always)]
    fn column(&self, row: Row, at: isize) -> *const f32 {
        if (0..self.width as isize).contains(&at) {
            // Inside the row, whose length was checked.
            row.x.wrapping_add(at as usize * self.channels)
        } else {
            self.zeros
        }
    }

    /// The column that position `at` meets first.
    #[inline(always)]
    fn first(&self, at: usize) -> isize {
        self.class.input + (at * self.class.input_step) as isize
    }
}

/// Calls `visit` with each row of outputs: its line, and where its first value lies.
#[inline(always)]
fn each_line(plan: &Plan, x: &[f32], images: usize, mut visit: impl FnMut(&Line<'_>, usize)) {
    assert!(x.len() >= images * plan.input_image());
    let (channels, zeros) = (plan.channels, vec![0.0; plan.channels]);
    let mut rows = Vec::with_capacity(plan.kernel);
    for image in 0..images {
        let x = &x[image * plan.input_image()..][..plan.input_image()];
        for (vertical, j) in plan
            .vertical
            .iter()
            .flat_map(|class| (0..class.count).map(move |j| (class, j)))
        {
            let first = vertical.input + (j * vertical.input_step) as isize;
            rows.clear();
            for (u, weight) in vertical.weights.iter().enumerate() {
                let at = first + u as isize;
                if (0..plan.height as isize).contains(&at) {
                    rows.push(Row {
                        x: x[at as usize * plan.width * channels..].as_ptr(),
                        weight: weight * plan.kernel,
                    });
                }
            }
            let output = vertical.output + j * vertical.output_step;
            for class in &plan.horizontal {
                let line = Line {
                    rows: &rows,
                    class,
                    channels,
                    width: plan.width,
                    zeros: zeros.as_ptr(),
                };
                let first = (image * plan.rows + output) * plan.columns + class.output;
                visit(&line, first * channels);
            }
        }
    }
}

vectorized! {
    /// y = max(start + Σ w · x, floor) over a plan, for as many images as y has; w is (k·k, C).
    pub(super) fn correlate<V>(plan: &Plan, x: &[f32], w: &[f32], start: &[f32], floor: f32, y: &mut [f32]) {
        let images = y.len() / plan.output_image();
        assert!(w.len() >= plan.kernel * plan.kernel * plan.channels);
        assert!(start.len() >= plan.channels);
        each_line(plan, x, images, #[inline(always)] |line, to| {
            let (w, start) = (w.as_ptr(), start.as_ptr());
            // The last position's last channel, which the classes keep inside.
            let last = (line.class.count.max(1) - 1) * line.class.output_step + 1;
            let y = y[to..][..last * line.channels].as_mut_ptr();
            // SAFETY: rows and columns lie inside x or are zeros, positions inside y; this is a vectorized body.
            unsafe {
                if line.channels < V::LANES {
                    for at in 0..line.class.count {
                        sums_any::<One<V>>(line, at, w, start, floor, y);
                    }
                    return;
                }
                with_constants!(line, sums_line::<V>(line, w, start, floor, y), else {
                    for at in 0..line.class.count {
                        sums_any::<V>(line, at, w, start, floor, y);
                    }
                });
            }
        });
    }
}

/// A row of outputs: four positions at a time, then two, then one.
#[inline(always)]
unsafe fn sums_line<V: Vector, const TAPS: usize, const STEP: usize>(
    line: &Line<'_>,
    w: *const f32,
    start: *const f32,
    floor: f32,
    y: *mut f32,
) {
    let count = line.class.count;
    let mut at = 0;
    // SAFETY: the caller's promises.
    unsafe {
        while at + 4 <= count {
            sums::<V, TAPS, STEP, 4>(line, at, w, start, floor, y);
            at += 4;
        }
        if at + 2 <= count {
            sums::<V, TAPS, STEP, 2>(line, at, w, start, floor, y);
            at += 2;
        }
        if at < count {
            sums::<V, TAPS, STEP, 1>(line, at, w, start, floor, y);
        }
    }
}

/// The columns that some positions meet, for each row.
type Columns = [[*const f32; COLUMNS]; SIDE];

/// Those of `POSITIONS` positions from `at` on.
#[inline(always)]
fn columns_of<const TAPS: usize, const STEP: usize, const POSITIONS: usize>(
    line: &Line<'_>,
    at: usize,
) -> Columns {
    let mut columns = [[line.zeros; COLUMNS]; SIDE];
    let first = line.first(at);
    for (row, columns) in line.rows.iter().zip(&mut columns) {
        for (i, column) in columns[..(POSITIONS - 1) * STEP + TAPS]
            .iter_mut()
            .enumerate()
        {
            *column = line.column(*row, first + i as isize);
        }
    }
    columns
}

/// The sums of `POSITIONS` positions from `at` on, for all channels.
#[inline(always)]
unsafe fn sums<V: Vector, const TAPS: usize, const STEP: usize, const POSITIONS: usize>(
    line: &Line<'_>,
    at: usize,
    w: *const f32,
    start: *const f32,
    floor: f32,
    y: *mut f32,
) {
    let columns = columns_of::<TAPS, STEP, POSITIONS>(line, at);
    let weights = weight_offsets::<TAPS>(line);
    let step = line.class.output_step * line.channels;
    let y = y.wrapping_add(at * step);
    let to: [*mut f32; POSITIONS] = std::array::from_fn(
        #[inline(always)]
        |p| y.wrapping_add(p * step),
    );
    let mut c = 0;
    // SAFETY: the caller's promises; `c` and what follows it up to the vectors' ends are channels.
    unsafe {
        while c + 2 * V::LANES <= line.channels {
            sums_of::<V, TAPS, STEP, POSITIONS, 2>(
                line, &columns, &weights, c, w, start, floor, to,
            );
            c += 2 * V::LANES;
        }
        while c < line.channels {
            // The last vector overlaps its neighbor rather than being cut.
            let c_inside = c.min(line.channels - V::LANES);
            sums_of::<V, TAPS, STEP, POSITIONS, 1>(
                line, &columns, &weights, c_inside, w, start, floor, to,
            );
            c += V::LANES;
        }
    }
}

/// Where the weights of a row of the kernel lie, beyond the row's first.
#[inline(always)]
fn weight_offsets<const TAPS: usize>(line: &Line<'_>) -> [usize; TAPS] {
    std::array::from_fn(
        #[inline(always)]
        |tap| line.class.weights[tap] * line.channels,
    )
}

/// The same for `PARTS` vectors of channels from `c` on.
#[expect(clippy::too_many_arguments, reason = "a kernel reads much")]
#[inline(always)]
unsafe fn sums_of<
    V: Vector,
    const TAPS: usize,
    const STEP: usize,
    const POSITIONS: usize,
    const PARTS: usize,
>(
    line: &Line<'_>,
    columns: &Columns,
    weights: &[usize; TAPS],
    c: usize,
    w: *const f32,
    start: *const f32,
    floor: f32,
    to: [*mut f32; POSITIONS],
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [[V::splat(0.0); PARTS]; POSITIONS];
        for sums in &mut sums {
            for (part, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(start.add(c + part * V::LANES));
            }
        }
        for (row, columns) in line.rows.iter().zip(columns) {
            let mut taps = [[V::splat(0.0); PARTS]; TAPS];
            for (taps, offset) in taps.iter_mut().zip(weights) {
                for (part, tap) in taps.iter_mut().enumerate() {
                    *tap =
                        V::load(w.add(row.weight * line.channels + offset + c + part * V::LANES));
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
                            let sum = &mut sums[(column - tap) / STEP][part];
                            *sum = sum.plus_product(x, taps[tap][part]);
                        }
                    }
                }
            }
        }
        let floor = V::splat(floor);
        for (sums, to) in sums.iter().zip(to) {
            for (part, sum) in sums.iter().enumerate() {
                sum.at_least(floor).store(to.add(c + part * V::LANES));
            }
        }
    }
}

/// The sum of one position with any number of weights (also none), for all channels.
#[inline(always)]
unsafe fn sums_any<V: Vector>(
    line: &Line<'_>,
    at: usize,
    w: *const f32,
    start: *const f32,
    floor: f32,
    y: *mut f32,
) {
    let first = line.first(at);
    let mut c = 0;
    // SAFETY: the caller's promises.
    unsafe {
        let floor = V::splat(floor);
        let y = y.add(at * line.class.output_step * line.channels);
        while c < line.channels {
            let c_inside = c.min(line.channels - V::LANES);
            let mut sum = V::load(start.add(c_inside));
            for row in line.rows {
                for (tap, weight) in line.class.weights.iter().enumerate() {
                    let x = line.column(*row, first + tap as isize).add(c_inside);
                    let w = w.add((row.weight + weight) * line.channels + c_inside);
                    sum = sum.plus_product(V::load(x), V::load(w));
                }
            }
            sum.at_least(floor).store(y.add(c_inside));
            c += V::LANES;
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
