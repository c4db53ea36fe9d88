//! A growing list whose clones share what was full when they were made.

use std::sync::Arc;

/// Items per chunk: a clone that grows copies at most one chunk.
const CHUNK: usize = 256;

/// A list in chunks; only the last one may be short.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chunks<T> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Clone> Chunks<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.chunks.last()?.last()
    }

    pub(super) fn push(&mut self, item: T) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::new(Vec::with_capacity(CHUNK)));
        }
        let last = self.chunks.last_mut().expect("a chunk was just pushed");
        Arc::make_mut(last).push(item);
        self.len += 1;
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.chunks.truncate(len.div_ceil(CHUNK));
        if let Some(last) = self.chunks.last_mut() {
            let rest = len - (len - 1) / CHUNK * CHUNK;
            Arc::make_mut(last).truncate(rest);
        }
        self.len = len;
    }

    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// How many of the first items satisfy a condition that none satisfies after the first that does not.
    pub(super) fn partition_point(&self, condition: impl Fn(&T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(&condition) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_list_is_the_list_of_the_first_items() {
        for keep in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let mut long = Chunks::default();
            (0..3 * CHUNK).for_each(|item| long.push(item));
            let before = long.clone();
            long.truncate(keep);
            let mut short = Chunks::default();
            (0..keep).for_each(|item| short.push(item));
            assert_eq!(long, short);
            assert_eq!(before.iter().count(), 3 * CHUNK);
            assert_eq!(before.partition_point(|item| *item < keep), keep);
        }
    }
}
