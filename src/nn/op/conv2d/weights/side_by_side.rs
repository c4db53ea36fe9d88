//! Both sides of a product over positions, laid in the order in which the product reads them.

use super::{Segment, panels, tile_rows};
use crate::nn::op::simd::vectorized;

/// Values copied at once.
pub(in super::super) const SPARE: usize = 8;

vectorized! {
    /// sums += the beginning of every row of `values`, which are `pitch` apart.
    pub(in super::super) fn add_up<V>(values: &[f32], pitch: usize, sums: &mut [f32]) {
        for row in values.chunks(pitch) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// Lays rows, one per position, side by side in groups of a tile's rows: (groups, positions, rows).
pub(in super::super) fn interleave<'a>(
    of_positions: impl Iterator<Item = &'a [f32]>,
    at: usize,
    pitch: usize,
    interleaved: &mut [f32],
) {
    let each = tile_rows();
    for (position, row) in of_positions.enumerate() {
        for (group, values) in row.chunks(each).enumerate() {
            let target = &mut interleaved[group * pitch + (at + position) * each..];
            // Eight at once where there are eight: the next position overwrites the surplus, or nobody reads it.
            match (
                row[group * each..].first_chunk::<SPARE>(),
                target.first_chunk_mut::<SPARE>(),
            ) {
                (Some(source), Some(target)) => *target = *source,
                _ => target[..values.len()].copy_from_slice(values),
            }
        }
    }
}

/// A panel: for each position some columns of its patch.
pub(super) fn fill_panel(
    values: &[f32],
    begins: &[usize],
    windows: &[Segment],
    from: usize,
    columns: usize,
    panel: &mut [f32],
) {
    let width = panels::width();
    // Stretches of the windows' rows: where from, to which columns.
    let row = windows.first().map_or(1, |window| window.length);
    let mut stretches = Vec::new();
    let mut column = 0;
    while column < columns {
        let (ky, at) = ((from + column) / row, (from + column) % row);
        let length = (row - at).min(columns - column);
        stretches.push((windows[ky].offset + at, column, length));
        column += length;
    }
    // What lies behind the last stretch is computed with and never written, so no zeros are needed there; but the
    // numbers that an earlier use has left may be slow ones (denormal).
    if columns < width {
        panel.fill(0.0);
    }
    for (source, target, length) in stretches {
        match length {
            9..=16 => copy::<16>(values, begins, source, panel, width, target, length),
            5..=8 => copy::<8>(values, begins, source, panel, width, target, length),
            0..=4 => copy::<4>(values, begins, source, panel, width, target, length),
            _ => copy::<32>(values, begins, source, panel, width, target, length),
        }
    }
}

/// Copies a stretch of every position's patch to its columns: N values at once where there is room for them, of which
/// later stretches overwrite the surplus.
pub(in super::super) fn copy<const N: usize>(
    values: &[f32],
    begins: &[usize],
    source: usize,
    panel: &mut [f32],
    width: usize,
    target: usize,
    length: usize,
) {
    for (panel, begin) in panel.chunks_exact_mut(width).zip(begins) {
        let (panel, values) = (&mut panel[target..], &values[begin + source..]);
        match (panel.first_chunk_mut::<N>(), values.first_chunk::<N>()) {
            (Some(panel), Some(values)) => *panel = *values,
            _ => panel[..length].copy_from_slice(&values[..length]),
        }
    }
}
