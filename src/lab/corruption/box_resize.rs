//! Resizing with a box filter as Pillow does it: whole-number weights of 22 bits, first along the rows, then the columns.
//!
//! A pixel of the result is the mean of the pixels whose middle lies in its box; each pass rounds to bytes. Pillow,
//! `Resample.c`.

/// Bits behind the point: 32, less 8 for the value and 2 to be safe.
const BITS: u32 = 22;

/// For each place of the result, where its pixels begin and how much each counts.
fn boxes(from: usize, to: usize) -> Vec<(usize, Vec<i64>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 0.5 * stretch;
    (0..to)
        .map(|place| {
            let center = (place as f64 + 0.5) * scale;
            let first = ((center - support + 0.5) as i64).max(0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weight = |pixel: usize| {
                let at = (pixel as f64 - center + 0.5) / stretch;
                f64::from(u8::from(at > -0.5 && at <= 0.5))
            };
            let total: f64 = (first..end).map(weight).sum();
            let whole = |pixel| {
                let share = if total == 0.0 {
                    0.0
                } else {
                    weight(pixel) / total
                };
                (share * f64::from(1_u32 << BITS) + 0.5) as i64
            };
            (first, (first..end).map(whole).collect())
        })
        .collect()
}

/// One plane of bytes at another size.
pub(super) fn resized(
    plane: &[u8],
    [height, width]: [usize; 2],
    [rows, columns]: [usize; 2],
) -> Vec<u8> {
    let byte = |sum: i64| ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8;
    let wide: Vec<u8> = if columns == width {
        plane.to_vec()
    } else {
        let boxes = boxes(width, columns);
        let of = |line: &[u8], (first, weights): &(usize, Vec<i64>)| {
            let terms = weights.iter().zip(&line[*first..]);
            byte(
                terms
                    .map(|(weight, value)| weight * i64::from(*value))
                    .sum(),
            )
        };
        plane
            .chunks_exact(width)
            .flat_map(|line| boxes.iter().map(move |each| of(line, each)))
            .collect()
    };
    if rows == height {
        return wide;
    }
    let mut result = Vec::with_capacity(rows * columns);
    for (first, weights) in boxes(height, rows) {
        for column in 0..columns {
            let terms = weights.iter().enumerate();
            let sum = terms
                .map(|(row, weight)| weight * i64::from(wide[(first + row) * columns + column]));
            result.push(byte(sum.sum()));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_means_and_come_back_doubled() {
        // Pillow 13.0: Image.resize((2, 1), BOX) of 10 21 30 40 is 16 35; and (4, 1) of that 16 16 35 35.
        let small = resized(&[10, 21, 30, 40], [1, 4], [1, 2]);
        assert_eq!(small, [16, 35]);
        assert_eq!(resized(&small, [1, 2], [1, 4]), [16, 16, 35, 35]);
    }
}
