//! Color in JPEG: to Y Cb Cr and back, to half the size and back.

/// Bits behind the point in libjpeg's conversion of colors.
const BITS: u32 = 16;
const HALF: i32 = 1 << (BITS - 1);

/// ITU-R BT.601 in fixed point, `jccolor.c`. The coefficients of each of Cb and Cr sum to 0.
pub(super) fn ycc([r, g, b]: [i32; 3]) -> [u8; 3] {
    let center = (128 << BITS) + HALF - 1;
    [
        (19_595 * r + 38_470 * g + 7_471 * b + HALF) >> BITS,
        (-11_059 * r - 21_709 * g + 32_768 * b + center) >> BITS,
        (32_768 * r - 27_439 * g - 5_329 * b + center) >> BITS,
    ]
    .map(|value| value as u8)
}

/// Back, `jdcolor.c`.
pub(super) fn rgb([y, cb, cr]: [i32; 3]) -> [u8; 3] {
    let (cb, cr) = (cb - 128, cr - 128);
    [
        y + ((91_881 * cr + HALF) >> BITS),
        y + ((-22_554 * cb - 46_802 * cr + HALF) >> BITS),
        y + ((116_130 * cb + HALF) >> BITS),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}

/// Half the size both ways: each value the mean of four, rounded down and up in turn, `jcsample.c`.
///
/// As many columns as fill blocks of eight, the last one repeated before it is halved; one row for two, the last repeated.
pub(super) fn halved(plane: &[u8], height: usize, width: usize) -> Vec<u8> {
    let columns = width.div_ceil(2).div_ceil(8) * 8;
    let at = |y: usize, x: usize| i32::from(plane[y.min(height - 1) * width + x.min(width - 1)]);
    let mut result = Vec::with_capacity(height.div_ceil(2) * columns);
    for y in (0..height).step_by(2) {
        for x in (0..2 * columns).step_by(2) {
            let sum = at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1);
            let bias = 1 + (x as i32 / 2) % 2;
            result.push(((sum + bias) >> 2) as u8);
        }
    }
    result
}

/// Twice the size, each new pixel three quarters of the nearer and one of the farther both ways, `jdsample.c`; images of
/// up to four columns repeat each pixel instead.
pub(super) fn doubled(
    plane: &[u8],
    [rows, columns]: [usize; 2],
    height: usize,
    width: usize,
) -> Vec<u8> {
    let mut result = Vec::with_capacity(height * width);
    if columns <= 2 {
        for y in 0..height {
            result.extend((0..width).map(|x| plane[y / 2 * columns + x / 2]));
        }
        return result;
    }
    let mut sums = vec![0_i32; columns];
    for y in 0..height {
        let near = y / 2;
        let far = if y % 2 == 0 {
            near.saturating_sub(1)
        } else {
            (near + 1).min(rows - 1)
        };
        for (x, sum) in sums.iter_mut().enumerate() {
            *sum = 3 * i32::from(plane[near * columns + x]) + i32::from(plane[far * columns + x]);
        }
        result.extend((0..width).map(|x| {
            let own = sums[x / 2];
            // Halves are rounded down on the left and up on the right.
            let (other, bias) = if x % 2 == 0 {
                (sums[(x / 2).saturating_sub(1)], 8)
            } else {
                (sums[(x / 2 + 1).min(columns - 1)], 7)
            };
            ((3 * own + other + bias) >> 4) as u8
        }));
    }
    result
}
