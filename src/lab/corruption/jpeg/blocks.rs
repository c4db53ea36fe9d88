//! Blocks of 8x8: transform, quantization, and back. libjpeg's `jfdctint.c`, `jcdctmgr.c` and `jidctint.c`: Loeffler,
//! Ligtenberg and Moschytz 1989 in whole numbers.

/// Steps of the 64 frequencies, row by row.
pub(super) type Table = [i32; 64];

/// Bits behind the point of the constants, and of the values between the two passes.
const BITS: i32 = 13;
const PASS: i32 = 2;

/// The constants times 2^13, `jfdctint.c`: 0.298631336, 0.390180644 and so on.
const F0_298: i32 = 2446;
const F0_390: i32 = 3196;
const F0_541: i32 = 4433;
const F0_765: i32 = 6270;
const F0_899: i32 = 7373;
const F1_175: i32 = 9633;
const F1_501: i32 = 12299;
const F1_847: i32 = 15137;
const F1_961: i32 = 16069;
const F2_053: i32 = 16819;
const F2_562: i32 = 20995;
const F3_072: i32 = 25172;

/// x / 2^bits, rounded.
fn descaled(x: i32, bits: i32) -> i32 {
    (x + (1 << (bits - 1))) >> bits
}

/// A plane through blocks: padded by repeating its last column and row, transformed, quantized, and back.
pub(super) fn through_blocks(plane: &[u8], [height, width]: [usize; 2], table: &Table) -> Vec<u8> {
    let columns = width.div_ceil(8) * 8;
    if columns == width {
        return through_padded(plane, [height, width], table);
    }
    let mut padded = Vec::with_capacity(height * columns);
    for line in plane.chunks_exact(width) {
        padded.extend_from_slice(line);
        padded.extend(std::iter::repeat_n(line[width - 1], columns - width));
    }
    through_padded(&padded, [height, width], table)
}

/// The same for a plane whose lines are filled up to a multiple of eight already.
pub(super) fn through_padded(padded: &[u8], [height, width]: [usize; 2], table: &Table) -> Vec<u8> {
    let columns = padded.len() / height;
    let mut result = vec![0; height * width];
    for top in (0..height).step_by(8) {
        for left in (0..width).step_by(8) {
            let mut block = [0; 64];
            for (y, line) in block.chunks_exact_mut(8).enumerate() {
                let start = (top + y).min(height - 1) * columns + left;
                for (value, byte) in line.iter_mut().zip(&padded[start..]) {
                    *value = i32::from(*byte) - 128;
                }
            }
            forward(&mut block);
            for (value, step) in block.iter_mut().zip(table) {
                // The transform's values are eight times too large.
                let steps = step * 8;
                let size = (value.abs() + steps / 2) / steps;
                *value = size * value.signum() * step;
            }
            backward(&mut block);
            let wide = (width - left).min(8);
            for (y, line) in block.chunks_exact(8).enumerate().take(height - top) {
                let start = (top + y) * width + left;
                for (byte, value) in result[start..start + wide].iter_mut().zip(line) {
                    *byte = (value + 128).clamp(0, 255) as u8;
                }
            }
        }
    }
    result
}

fn forward(block: &mut [i32; 64]) {
    for row in 0..8 {
        forward_line(block, 8 * row, 1, true);
    }
    for column in 0..8 {
        forward_line(block, column, 8, false);
    }
}

fn forward_line(block: &mut [i32; 64], start: usize, stride: usize, is_first: bool) {
    let at = |place: usize| start + place * stride;
    let d: [i32; 8] = std::array::from_fn(|place| block[at(place)]);
    let sum = |i: usize| d[i] + d[7 - i];
    let difference = |i: usize| d[i] - d[7 - i];
    let (t10, t13) = (sum(0) + sum(3), sum(0) - sum(3));
    let (t11, t12) = (sum(1) + sum(2), sum(1) - sum(2));
    let bits = if is_first { BITS - PASS } else { BITS + PASS };
    if is_first {
        block[at(0)] = (t10 + t11) << PASS;
        block[at(4)] = (t10 - t11) << PASS;
    } else {
        block[at(0)] = descaled(t10 + t11, PASS);
        block[at(4)] = descaled(t10 - t11, PASS);
    }
    let z1 = (t12 + t13) * F0_541;
    block[at(2)] = descaled(z1 + t13 * F0_765, bits);
    block[at(6)] = descaled(z1 - t12 * F1_847, bits);
    let (t4, t5, t6, t7) = (difference(3), difference(2), difference(1), difference(0));
    let z5 = (t4 + t6 + t5 + t7) * F1_175;
    let z1 = -(t4 + t7) * F0_899;
    let z2 = -(t5 + t6) * F2_562;
    let z3 = z5 - (t4 + t6) * F1_961;
    let z4 = z5 - (t5 + t7) * F0_390;
    block[at(7)] = descaled(t4 * F0_298 + z1 + z3, bits);
    block[at(5)] = descaled(t5 * F2_053 + z2 + z4, bits);
    block[at(3)] = descaled(t6 * F3_072 + z2 + z3, bits);
    block[at(1)] = descaled(t7 * F1_501 + z1 + z4, bits);
}

fn backward(block: &mut [i32; 64]) {
    for column in 0..8 {
        backward_line(block, column, 8, BITS - PASS);
    }
    for row in 0..8 {
        backward_line(block, 8 * row, 1, BITS + PASS + 3);
    }
}

fn backward_line(block: &mut [i32; 64], start: usize, stride: usize, bits: i32) {
    let at = |place: usize| start + place * stride;
    let d: [i32; 8] = std::array::from_fn(|place| block[at(place)]);
    let z1 = (d[2] + d[6]) * F0_541;
    let t2 = z1 - d[6] * F1_847;
    let t3 = z1 + d[2] * F0_765;
    let (t0, t1) = ((d[0] + d[4]) << BITS, (d[0] - d[4]) << BITS);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
    let (t0, t1, t2, t3) = (d[7], d[5], d[3], d[1]);
    let z5 = (t0 + t2 + t1 + t3) * F1_175;
    let z1 = -(t0 + t3) * F0_899;
    let z2 = -(t1 + t2) * F2_562;
    let z3 = z5 - (t0 + t2) * F1_961;
    let z4 = z5 - (t1 + t3) * F0_390;
    let odd = [
        t3 * F1_501 + z1 + z4,
        t2 * F3_072 + z2 + z3,
        t1 * F2_053 + z2 + z4,
        t0 * F0_298 + z1 + z3,
    ];
    for (place, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        block[at(place)] = descaled(even + odd, bits);
        block[at(7 - place)] = descaled(even - odd, bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_steps_of_one_hardly_anything_is_lost() {
        let plane: Vec<u8> = (0..63_u32).map(|i| (i * i * 37 % 256) as u8).collect();
        let back = through_blocks(&plane, [7, 9], &[1; 64]);
        let most = plane.iter().zip(&back).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{most:?}");
    }

    #[test]
    fn a_flat_plane_keeps_its_level_where_the_first_step_divides_it() {
        // (200 - 128) 8 = 576 = 36 · 16.
        assert_eq!(through_blocks(&[200; 12], [3, 4], &[16; 64]), [200; 12]);
    }
}
