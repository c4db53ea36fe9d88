//! How the values of a tensor lie in bytes: dense, by a bitmask, or by rows.

use serde::{Deserialize, Serialize};

/// Which values are there, and where the positions of the others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Every value.
    Dense,
    /// One bit per value, then those that are not 0.
    Bitmask,
    /// Counts of the rows, columns, then the values that are not 0.
    Rows,
}

/// Values laid out.
pub(super) struct Laid {
    pub(super) layout: Layout,
    pub(super) bytes: Vec<u8>,
}

/// Bits of a column's number in rows of so many values.
fn column_bits(length: usize) -> u32 {
    match length {
        0..=0x100 => 8,
        0x101..=0x1_0000 => 16,
        _ => 32,
    }
}

fn bytes_for(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

impl Layout {
    /// Bytes of `n` values in `rows` rows, of which `nonzero` are not 0.
    fn bytes(self, n: usize, rows: usize, nonzero: usize, bits: u32) -> usize {
        match self {
            Self::Dense => bytes_for(n, bits),
            Self::Bitmask => bytes_for(n, 1) + bytes_for(nonzero, bits),
            Self::Rows => {
                let columns = bytes_for(nonzero, column_bits(n.div_ceil(rows)));
                4 * (rows + 1) + columns + bytes_for(nonzero, bits)
            }
        }
    }
}

impl Laid {
    /// The smallest layout of words of so many bits.
    pub(super) fn cheapest(words: &[u32], is_zero: &[bool], rows: usize, bits: u32) -> Self {
        let kept = || words.iter().zip(is_zero).filter(|(_, zero)| !**zero);
        let (n, nonzero) = (words.len(), kept().count());
        let layout = [Layout::Dense, Layout::Bitmask, Layout::Rows]
            .into_iter()
            .min_by_key(|layout| layout.bytes(n, rows, nonzero, bits))
            .unwrap_or(Layout::Dense);
        let mut bytes = Vec::with_capacity(layout.bytes(n, rows, nonzero, bits));
        match layout {
            Layout::Dense => push(&mut bytes, words.iter().copied(), bits),
            Layout::Bitmask => {
                let kept_or_not = is_zero.iter().map(|zero| u32::from(!zero));
                push(&mut bytes, kept_or_not, 1);
                push(&mut bytes, kept().map(|(word, _)| *word), bits);
            }
            Layout::Rows => {
                let length = n.div_ceil(rows).max(1);
                let mut before = 0;
                push(&mut bytes, std::iter::once(0), 32);
                for row in is_zero.chunks(length) {
                    before += row.iter().filter(|zero| !**zero).count() as u32;
                    push(&mut bytes, std::iter::once(before), 32);
                }
                let places = is_zero.iter().enumerate().filter(|(_, zero)| !**zero);
                let columns = places.map(|(at, _)| (at % length) as u32);
                push(&mut bytes, columns, column_bits(length));
                push(&mut bytes, kept().map(|(word, _)| *word), bits);
            }
        }
        Self { layout, bytes }
    }
}

/// Appends words of so many bits, the lowest first; the last byte is filled with zeros.
fn push(bytes: &mut Vec<u8>, words: impl Iterator<Item = u32>, bits: u32) {
    let (mut held, mut count) = (0_u64, 0);
    for word in words {
        held |= u64::from(word) << count;
        count += bits;
        while count >= 8 {
            bytes.push(held as u8);
            held >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        bytes.push(held as u8);
    }
}

/// The next `n` words of so many bits, which begin with a byte.
fn take<'a>(
    bytes: &mut &'a [u8],
    n: usize,
    bits: u32,
) -> Result<impl Iterator<Item = u32> + use<'a>, String> {
    let length = bytes_for(n, bits);
    let (own, rest) = bytes
        .split_at_checked(length)
        .ok_or_else(|| "ends before its last value".to_owned())?;
    *bytes = rest;
    let (mut held, mut count, mut at) = (0_u64, 0, 0);
    let mask = (1_u64 << bits) - 1;
    Ok((0..n).map(move |_| {
        while count < bits {
            held |= u64::from(own[at]) << count;
            at += 1;
            count += 8;
        }
        let word = (held & mask) as u32;
        held >>= bits;
        count -= bits;
        word
    }))
}

/// One bit for each, the lowest first.
pub(super) fn bits_of(flags: &[bool]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, flags.iter().map(|flag| u32::from(*flag)), 1);
    bytes
}

/// As many flags as there were.
pub(super) fn bits_from(bytes: &[u8], n: usize) -> Result<Vec<bool>, String> {
    let mut bytes = bytes;
    let flags = take(&mut bytes, n, 1)?.map(|bit| bit == 1).collect();
    ended(bytes, flags)
}

fn ended<T>(rest: &[u8], found: T) -> Result<T, String> {
    let longer = || format!("has {} bytes behind its last value", rest.len());
    rest.is_empty().then_some(found).ok_or_else(longer)
}

/// The words of `n` values; none where a value is 0 and left out.
pub(super) fn read(
    layout: Layout,
    bytes: &[u8],
    n: usize,
    rows: usize,
    bits: u32,
) -> Result<Vec<Option<u32>>, String> {
    let mut rest = bytes;
    let words = match layout {
        Layout::Dense => take(&mut rest, n, bits)?.map(Some).collect(),
        Layout::Bitmask => {
            let kept: Vec<bool> = take(&mut rest, n, 1)?.map(|bit| bit == 1).collect();
            let nonzero = kept.iter().filter(|kept| **kept).count();
            let mut words = take(&mut rest, nonzero, bits)?;
            let word = |kept: bool| if kept { words.next() } else { None };
            kept.into_iter().map(word).collect()
        }
        Layout::Rows => {
            let length = n.div_ceil(rows).max(1);
            let before: Vec<usize> = take(&mut rest, rows + 1, 32)?
                .map(|count| count as usize)
                .collect();
            let nonzero = before.last().copied().unwrap_or_default();
            if nonzero > n || !before.is_sorted() {
                return Err("counts more values than it has".to_owned());
            }
            let columns = take(&mut rest, nonzero, column_bits(length))?;
            let columns: Vec<usize> = columns.map(|column| column as usize).collect();
            let mut values = take(&mut rest, nonzero, bits)?;
            let mut words = vec![None; n];
            for (row, own) in before.windows(2).enumerate() {
                for column in columns.get(own[0]..own[1]).unwrap_or_default() {
                    let place = words.get_mut(row * length + column);
                    let place = place.filter(|_| *column < length);
                    *place.ok_or("has a value beyond its rows")? = values.next();
                }
            }
            words
        }
    };
    ended(rest, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(words: &[u32], rows: usize, bits: u32) -> Laid {
        let is_zero: Vec<bool> = words.iter().map(|word| *word == 0).collect();
        Laid::cheapest(words, &is_zero, rows, bits)
    }

    /// By hand: 1, 2, 3 of four bits are the bytes 0x21 and 0x03.
    #[test]
    fn bits_begin_with_the_lowest() {
        let found = laid(&[1, 2, 3], 1, 4);
        assert_eq!(
            (found.layout, found.bytes),
            (Layout::Dense, vec![0x21, 0x03])
        );
        // One value of 16 bits among 16: a mask of two bytes and two for the value.
        let mut words = [0; 16];
        words[9] = 0x1234;
        let found = laid(&words, 1, 16);
        let bytes = vec![0x00, 0x02, 0x34, 0x12];
        assert_eq!((found.layout, found.bytes), (Layout::Bitmask, bytes));
        // One among 512, in two rows: three counts, a column of a byte (it is 44 in the second row) and the value.
        let mut words = [0; 512];
        words[300] = 0x1234;
        let found = laid(&words, 2, 16);
        let bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 44, 0x34, 0x12];
        assert_eq!((found.layout, found.bytes), (Layout::Rows, bytes));
    }

    #[test]
    fn every_layout_and_width_comes_back() {
        for bits in 1..=32_u32 {
            for (n, step) in [(0, 1), (1, 1), (37, 1), (640, 3), (640, 200), (70_000, 900)] {
                let word = |at: usize| {
                    let mixed = (at as u32 + 1).wrapping_mul(0x9E37_79B9) >> (32 - bits);
                    if at.is_multiple_of(step) { mixed } else { 0 }
                };
                let words: Vec<u32> = (0..n).map(word).collect();
                let rows = if n > 600 { 10 } else { 1 };
                let found = laid(&words, rows, bits);
                let back = read(found.layout, &found.bytes, n, rows, bits).unwrap();
                let back: Vec<u32> = back.into_iter().map(Option::unwrap_or_default).collect();
                assert_eq!(back, words, "{bits} bits, {n} values");
                let cut = read(
                    found.layout,
                    &found.bytes[..found.bytes.len() / 2],
                    n,
                    rows,
                    bits,
                );
                assert!(n == 0 || cut.is_err());
                let long = [&found.bytes[..], &[0]].concat();
                assert!(read(found.layout, &long, n, rows, bits).is_err());
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut words = [0; 512];
        words[300] = 7;
        let found = laid(&words, 2, 16).bytes;
        let refused = |at: usize, byte: u8| {
            let mut bytes = found.clone();
            bytes[at] = byte;
            read(Layout::Rows, &bytes, 512, 2, 16).unwrap_err()
        };
        assert_eq!(refused(0, 9), "counts more values than it has");
        assert_eq!(refused(11, 9), "counts more values than it has");
    }
}
