//! Copies and sums of short rows: what turns an image into patches and back, one strip of rows at a time.
//!
//! The rows of feature maps are 4 to 32 values long. Where the compiler knows the length, a copy is a few vector
//! instructions; where it does not, each row is a call. So the lengths up to 32 are spelt out.

/// Calls a function with the width as a constant, if it is one of those spelt out.
macro_rules! with_width {
    ($width:expr, $of:ident($($argument:expr),*), else $other:expr) => {
        with_width!(@ $width, $of($($argument),*), $other,
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
    };
    (@ $width:expr, $of:ident $arguments:tt, $other:expr, $($constant:literal)+) => {
        match $width {
            $($constant => with_width!(@call $of $constant $arguments),)+
            _ => $other,
        }
    };
    (@call $of:ident $constant:literal ($($argument:expr),*)) => {
        $of::<$constant>($($argument),*)
    };
}

/// Copies rows that begin `pitch` apart to rows that lie side by side.
pub(crate) fn pack(width: usize, source: &[f32], pitch: usize, target: &mut [f32]) {
    with_width!(width, pack_of(source, pitch, target), else {
        for (t, s) in target.chunks_exact_mut(width).zip(source.chunks(pitch)) {
            t.copy_from_slice(&s[..width]);
        }
    });
}

fn pack_of<const W: usize>(source: &[f32], pitch: usize, target: &mut [f32]) {
    for (t, s) in target
        .as_chunks_mut::<W>()
        .0
        .iter_mut()
        .zip(source.chunks(pitch))
    {
        if let Some(s) = s.first_chunk::<W>() {
            *t = *s;
        }
    }
}

/// Adds rows that lie side by side onto rows that begin `pitch` apart.
pub(crate) fn unpack_add(width: usize, source: &[f32], target: &mut [f32], pitch: usize) {
    with_width!(width, unpack_add_of(source, target, pitch), else {
        for (s, t) in source.chunks_exact(width).zip(target.chunks_mut(pitch)) {
            for (t, s) in t.iter_mut().zip(s) {
                *t += *s;
            }
        }
    });
}

fn unpack_add_of<const W: usize>(source: &[f32], target: &mut [f32], pitch: usize) {
    for (s, t) in source
        .as_chunks::<W>()
        .0
        .iter()
        .zip(target.chunks_mut(pitch))
    {
        if let Some(t) = t.first_chunk_mut::<W>() {
            for (t, s) in t.iter_mut().zip(s) {
                *t += *s;
            }
        }
    }
}

/// Takes the even and the odd values of a row apart; an odd length has one more even value.
pub(crate) fn separate(row: &[f32], even: &mut [f32], odd: &mut [f32]) {
    let (pairs, rest) = row.as_chunks::<2>();
    if let ([last], Some(e)) = (rest, even.last_mut()) {
        *e = *last;
    }
    with_width!(pairs.len(), separate_of(pairs, even, odd), else {
        for ((e, o), pair) in even.iter_mut().zip(odd).zip(pairs) {
            (*e, *o) = (pair[0], pair[1]);
        }
    });
}

fn separate_of<const W: usize>(pairs: &[[f32; 2]], even: &mut [f32], odd: &mut [f32]) {
    let (Some(pairs), Some(even), Some(odd)) = (
        pairs.first_chunk::<W>(),
        even.first_chunk_mut::<W>(),
        odd.first_chunk_mut::<W>(),
    ) else {
        return;
    };
    for ((e, o), pair) in even.iter_mut().zip(odd).zip(pairs) {
        (*e, *o) = (pair[0], pair[1]);
    }
}

/// Puts even and odd values together again.
pub(crate) fn join(even: &[f32], odd: &[f32], row: &mut [f32]) {
    let (pairs, rest) = row.as_chunks_mut::<2>();
    if let ([last], Some(e)) = (rest, even.last()) {
        *last = *e;
    }
    with_width!(pairs.len(), join_of(even, odd, pairs), else {
        for ((e, o), pair) in even.iter().zip(odd).zip(pairs) {
            *pair = [*e, *o];
        }
    });
}

fn join_of<const W: usize>(even: &[f32], odd: &[f32], pairs: &mut [[f32; 2]]) {
    let (Some(pairs), Some(even), Some(odd)) = (
        pairs.first_chunk_mut::<W>(),
        even.first_chunk::<W>(),
        odd.first_chunk::<W>(),
    ) else {
        return;
    };
    for ((e, o), pair) in even.iter().zip(odd).zip(pairs) {
        *pair = [*e, *o];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On both sides of the longest length that is spelt out.
    #[test]
    fn short_rows_and_long_ones() {
        for width in [1, 7, 32, 33, 40] {
            let pitch = width + 3;
            let source: Vec<f32> = (0..2 * pitch + width).map(|v| v as f32).collect();
            let mut packed = vec![0.0; 3 * width];
            pack(width, &source, pitch, &mut packed);
            let expected: Vec<f32> = (0..3 * width)
                .map(|at| (at / width * pitch + at % width) as f32)
                .collect();
            assert_eq!(packed, expected);
            let mut back = vec![1.0; source.len()];
            unpack_add(width, &packed, &mut back, pitch);
            for (at, value) in back.iter().enumerate() {
                let inside = at % pitch < width;
                assert_eq!(*value, 1.0 + if inside { at as f32 } else { 0.0 });
            }
        }
    }

    #[test]
    fn even_and_odd_values_come_apart_and_together() {
        for n in [1, 2, 13, 64, 65, 80, 81] {
            let row: Vec<f32> = (0..n).map(|v| v as f32).collect();
            let (mut even, mut odd) = (vec![0.0; row.len().div_ceil(2)], vec![0.0; row.len() / 2]);
            separate(&row, &mut even, &mut odd);
            assert!(even.iter().enumerate().all(|(i, v)| *v == 2.0 * i as f32));
            assert!(
                odd.iter()
                    .enumerate()
                    .all(|(i, v)| *v == 2.0 * i as f32 + 1.0)
            );
            let mut back = vec![-1.0; row.len()];
            join(&even, &odd, &mut back);
            assert_eq!(back, row);
        }
    }
}
