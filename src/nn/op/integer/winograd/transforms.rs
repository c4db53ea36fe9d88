//! The transforms of tiles and kernels in integers, channel by channel, each along one side and then along the other.

#![expect(
    unsafe_code,
    reason = "registers are loaded and stored through pointers, whose slices are checked first"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "indices that the compiler unrolls keep tiles in registers"
)]
#![expect(
    clippy::inline_always,
    reason = "parts of functions compiled for each path"
)]

use super::super::requantize::{self, Requantize};
use super::{FREQUENCIES, LANES, SPAN, TILE};
#[cfg(target_arch = "x86_64")]
use registers::Register;
use registers::{Ints, PlainInts, PlainShorts, Shorts};

mod registers;

use crate::nn::op::integer::Path;

/// G g along one side, its rows times 4, 6, 6, 24, 24 and 1, with the signs of the definition.
pub(super) fn kernel_side([a, b, c]: [i32; 3]) -> [i32; SPAN] {
    [
        a,
        -(a + b + c),
        -(a - b + c),
        a + 2 * b + 4 * c,
        a - 2 * b + 4 * c,
        c,
    ]
}

/// Bᵀ d along one side.
#[inline(always)]
fn input_side<S: Shorts>(d: [S; SPAN]) -> [S; SPAN] {
    let even = d[4].minus(d[2].fourfold());
    let odd = d[3].minus(d[1].fourfold());
    let near = d[4].minus(d[2]);
    let far = d[3].minus(d[1]);
    [
        even.minus(d[2]).plus(d[0].fourfold()),
        even.plus(odd),
        even.minus(odd),
        near.plus(far.twice()),
        near.minus(far.twice()),
        d[5].minus(d[3]).minus(far.fourfold()),
    ]
}

/// Aᵀ m along one side with the kernels' factors undone: 24, 12, 6 and 6 times the result.
#[inline(always)]
fn output_side<I: Ints>(m: [I; SPAN]) -> [I; TILE] {
    let six = |x: I| x.fourfold().plus(x.twice());
    let (near, far) = (m[1].plus(m[2]), m[3].plus(m[4]));
    let (odd, wide) = (m[1].minus(m[2]), m[3].minus(m[4]));
    [
        six(m[0]).plus(near.fourfold()).plus(far),
        odd.twice().plus(wide),
        near.plus(far),
        odd.plus(wide.twice()).plus(six(m[5])),
    ]
}

/// The powers of two in 24, 12, 6 and 6.
const POWERS: [i32; TILE] = [3, 2, 1, 1];

/// The inverse of 9 modulo 2^32.
const NINTH: i32 = 0x38e3_8e39;

/// Bᵀ d B of a row of tiles: (36, tiles, channels), of which these tiles begin at `first`.
pub(super) fn transform_row(
    copied: &[u8],
    across: usize,
    channels: usize,
    zero: u8,
    (tiles, first): (usize, usize),
    transformed: &mut [i16],
) {
    let line = (across * TILE + SPAN - TILE) * channels;
    assert!(copied.len() >= SPAN * line && channels.is_multiple_of(LANES));
    assert!(first + across <= tiles && transformed.len() >= FREQUENCIES * tiles * channels);
    #[cfg(target_arch = "x86_64")]
    if Path::Avx2.runs() {
        #[target_feature(enable = "avx2")]
        fn compiled(
            copied: &[u8],
            across: usize,
            channels: usize,
            zero: u8,
            places: (usize, usize),
            transformed: &mut [i16],
        ) {
            // SAFETY: the outer function's asserts.
            unsafe {
                tiles_of_row::<Register>(copied, across, channels, zero, places, transformed);
            }
        }
        // SAFETY: the processor has AVX2.
        unsafe { compiled(copied, across, channels, zero, (tiles, first), transformed) };
        return;
    }
    // SAFETY: the asserts above.
    unsafe {
        tiles_of_row::<PlainShorts>(copied, across, channels, zero, (tiles, first), transformed);
    }
}

/// # Safety
/// The asserts of [`transform_row`] hold, and the processor has the instructions.
#[inline(always)]
unsafe fn tiles_of_row<S: Shorts>(
    copied: &[u8],
    across: usize,
    channels: usize,
    zero: u8,
    (tiles, first): (usize, usize),
    transformed: &mut [i16],
) {
    let line = (across * TILE + SPAN - TILE) * channels;
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(i16::from(zero));
        for c in (0..channels).step_by(LANES) {
            for tile in 0..across {
                let mut half = [[zero; SPAN]; SPAN];
                for j in 0..SPAN {
                    let from = copied.as_ptr().add((tile * TILE + j) * channels + c);
                    let mut d = [zero; SPAN];
                    for i in 0..SPAN {
                        d[i] = S::widen(from.add(i * line)).minus(zero);
                    }
                    let column = input_side(d);
                    for i in 0..SPAN {
                        half[i][j] = column[i];
                    }
                }
                let to = transformed.as_mut_ptr().add((first + tile) * channels + c);
                for i in 0..SPAN {
                    let row = input_side(half[i]);
                    for j in 0..SPAN {
                        row[j].store(to.add((i * SPAN + j) * tiles * channels));
                    }
                }
            }
        }
    }
}

/// A row of tiles among those of a product.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) tiles: usize,
    pub(super) first: usize,
    /// Sums from one tile to the next.
    pub(super) pitch: usize,
    /// Pixels of a line of the output.
    pub(super) width: usize,
    pub(super) outputs: usize,
}

/// Aᵀ m A of a row of tiles, added over the groups of (groups, 36, tiles, pitch), and stored in as many lines as `y` has.
pub(super) fn finish_row(row: Row, sums: &[i32], then: &Requantize, y: &mut [u8]) {
    let padded = row.outputs.next_multiple_of(requantize::LANES);
    assert!(then.channels() == row.outputs && padded <= row.pitch);
    assert!(row.first + row.width.div_ceil(TILE) <= row.tiles);
    assert!(
        sums.len()
            .is_multiple_of(FREQUENCIES * row.tiles * row.pitch)
    );
    assert!(
        y.len() <= TILE * row.width * row.outputs
            && y.len().is_multiple_of(row.width * row.outputs)
    );
    #[cfg(target_arch = "x86_64")]
    if Path::Avx2.runs() {
        #[target_feature(enable = "avx2")]
        fn compiled(row: Row, sums: &[i32], then: &Requantize, y: &mut [u8]) {
            // SAFETY: the outer function's asserts.
            unsafe { finish_tiles::<Register>(row, sums, then, y) }
        }
        // SAFETY: the processor has AVX2.
        unsafe { compiled(row, sums, then, y) };
        return;
    }
    // SAFETY: the asserts above.
    unsafe { finish_tiles::<PlainInts>(row, sums, then, y) }
}

/// # Safety
/// The asserts of [`finish_row`] hold, and the processor has the instructions.
#[inline(always)]
unsafe fn finish_tiles<I: Ints>(row: Row, sums: &[i32], then: &Requantize, y: &mut [u8]) {
    let Row {
        tiles,
        pitch,
        width,
        outputs,
        ..
    } = row;
    let lines = y.len() / (width * outputs);
    let group = FREQUENCIES * tiles * pitch;
    for tile in 0..width.div_ceil(TILE) {
        let columns = TILE.min(width - tile * TILE);
        for o in (0..outputs).step_by(requantize::LANES) {
            let kept = requantize::LANES.min(outputs - o);
            // SAFETY: the caller's promise.
            unsafe {
                let ninth = I::splat(NINTH);
                let mut all = [[I::splat(0); TILE]; TILE];
                for from in (0..sums.len()).step_by(group) {
                    let from = sums.as_ptr().add(from + (row.first + tile) * pitch + o);
                    let mut half = [[ninth; SPAN]; TILE];
                    for j in 0..SPAN {
                        let mut m = [ninth; SPAN];
                        for i in 0..SPAN {
                            m[i] = I::load(from.add((i * SPAN + j) * tiles * pitch));
                        }
                        let column = output_side(m);
                        for i in 0..TILE {
                            half[i][j] = column[i];
                        }
                    }
                    for i in 0..TILE {
                        let values = output_side(half[i]);
                        for j in 0..TILE {
                            let sum = values[j].times(ninth).halved(POWERS[i] + POWERS[j]);
                            all[i][j] = all[i][j].plus(sum);
                        }
                    }
                }
                for i in 0..TILE {
                    if i >= lines {
                        break;
                    }
                    for j in 0..TILE {
                        if j >= columns {
                            break;
                        }
                        let at = (i * width + tile * TILE + j) * outputs + o;
                        if kept == requantize::LANES {
                            all[i][j].finish(then, o / requantize::LANES, y.as_mut_ptr().add(at));
                        } else {
                            let mut bytes = [0; requantize::LANES];
                            all[i][j].finish(then, o / requantize::LANES, bytes.as_mut_ptr());
                            y[at..at + kept].copy_from_slice(&bytes[..kept]);
                        }
                    }
                }
            }
        }
    }
}
