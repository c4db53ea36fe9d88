//! Depthwise convolution on stored activations: each channel has a kernel of its own.
//!
//! a[p, c] = Σ_{ky, kx} (x[s·oy + ky - padding, s·ox + kx - padding, c] - z_x) w[c, ky, kx], then [`Requantize`].
//! x (B, H, W, C) bytes, w (C, 1, k, k), y (B, OH, OW, C). Sixteen neighboring channels are computed together, two taps at a
//! time: their activations side by side, less the zero point, are pairs of 16-bit integers.

#![expect(
    unsafe_code,
    reason = "registers are loaded through pointers, whose slices are checked first"
)]

use std::ops::Range;

use rayon::prelude::*;

use super::lines::spread;
use super::requantize::{self, Requantize};
use super::{Buffers, Path, Products, Scratch, grown};
use crate::nn::op::geometry::{Geometry, chunks, pieces};
use crate::nn::op::{parts, shares};

/// Channels that are computed together.
const LANES: usize = 16;

/// Copied bytes that stay in a core's own cache.
const CHUNK: usize = 128 * 1024;

/// Weights of a depthwise convolution.
#[derive(Debug)]
pub struct DepthwiseConv2d {
    geometry: Geometry,
    zero: u8,
    /// (k·k, C).
    taps: Vec<i16>,
    /// For 16 channels and two taps: the pairs of the channels 0 to 3 and 8 to 11, then those of 4 to 7 and 12 to 15.
    pairs: Vec<[i16; 2 * LANES]>,
    avx2: bool,
}

impl DepthwiseConv2d {
    /// Of weights (C, 1, k, k) over activations with that zero point.
    pub fn new(geometry: Geometry, zero: u8, weights: &[i8], products: Products) -> Self {
        let (channels, n) = (geometry.channels, geometry.kernel * geometry.kernel);
        assert_eq!(weights.len(), channels * n);
        let weight = |c: usize, tap: usize| {
            let known = c < channels && tap < n;
            if known {
                i16::from(weights[c * n + tap])
            } else {
                0
            }
        };
        let taps = (0..n * channels).map(|at| weight(at % channels, at / channels));
        let blocks = channels.div_ceil(LANES) * n.div_ceil(2);
        let pairs = (0..blocks).map(|at| {
            let (first, tap) = (at / n.div_ceil(2) * LANES, at % n.div_ceil(2) * 2);
            std::array::from_fn(|i| {
                // Registers are halves of 128 bits: eight channels each, of which the first four come first.
                let (low, half, lane) = (i / LANES, i / 8 % 2, i % 8 / 2);
                weight(first + 8 * half + 4 * low + lane, tap + i % 2)
            })
        });
        Self {
            geometry,
            zero,
            taps: taps.collect(),
            pairs: pairs.collect(),
            avx2: products.path() != Path::Portable && Path::Avx2.runs(),
        }
    }

    /// The largest sum that any activation gives each channel, on either side of 0.
    pub fn most(&self) -> Vec<f64> {
        let largest = f64::from(self.zero.max(255 - self.zero));
        let channels = self.geometry.channels;
        let of_channel = |c: usize| {
            let taps = self.taps[c..].iter().step_by(channels);
            taps.map(|w| f64::from(*w).abs()).sum::<f64>() * largest
        };
        (0..channels).map(of_channel).collect()
    }

    /// y = what the sums are stored as.
    pub fn forward(&self, x: &[u8], then: &Requantize, y: &mut [u8], scratch: &mut Scratch) {
        let g = &self.geometry;
        assert_eq!(then.channels(), g.channels);
        let line = g.out_width() * g.channels;
        let parts = parts(y.len() / line);
        let ys = shares(y, &parts, line);
        let buffers = scratch.lend(parts.len());
        parts
            .into_par_iter()
            .zip(ys)
            .zip(buffers)
            .for_each(|((part, y), buffers)| self.part(part, x, then, y, buffers));
    }

    fn part(
        &self,
        part: Range<usize>,
        x: &[u8],
        then: &Requantize,
        y: &mut [u8],
        buffers: &mut Buffers,
    ) {
        let g = &self.geometry;
        let channels = g.channels.next_multiple_of(LANES);
        let pitch = (g.width + 2 * g.padding) * channels;
        let line = g.out_width() * g.channels;
        let mut y = y.chunks_exact_mut(line);
        for chunk in chunks(part, g.out_height(), CHUNK / (g.stride * pitch)) {
            for piece in pieces(chunk, g.out_height()) {
                let lines = (piece.count - 1) * g.stride + g.kernel;
                let copied = grown(&mut buffers.bytes, lines * pitch);
                let image = &x[piece.image * g.image()..][..g.image()];
                for (at, copied) in copied.chunks_exact_mut(pitch).enumerate() {
                    let row = (piece.first * g.stride + at).wrapping_sub(g.padding);
                    spread(g, self.zero, channels, image, row, copied);
                }
                for at in 0..piece.count {
                    if let Some(y) = y.next() {
                        self.line(&copied[at * g.stride * pitch..], pitch, channels, then, y);
                    }
                }
            }
        }
    }

    /// One line of the output, from the copied lines that begin with its first.
    fn line(&self, copied: &[u8], pitch: usize, channels: usize, then: &Requantize, y: &mut [u8]) {
        let g = &self.geometry;
        let offsets: Vec<usize> = (0..g.kernel * g.kernel)
            .map(|tap| tap / g.kernel * pitch + tap % g.kernel * channels)
            .collect();
        let pairs = offsets.len().div_ceil(2);
        for (ox, y) in y.chunks_exact_mut(g.channels).enumerate() {
            let copied = &copied[ox * g.stride * channels..];
            for (block, pairs) in self.pairs.chunks_exact(pairs).enumerate() {
                let first = block * LANES;
                let columns = LANES.min(g.channels - first);
                let y = &mut y[first..first + columns];
                let copied = &copied[first..];
                #[cfg(target_arch = "x86_64")]
                if self.avx2 {
                    let last = offsets.last().copied().unwrap_or_default();
                    assert!(last + LANES <= copied.len() && 2 * pairs.len() > offsets.len() - 1);
                    let mut sums = [0; LANES];
                    // SAFETY: the processor has AVX2, and the last tap's channels lie within what is copied.
                    unsafe {
                        sixteen(copied.as_ptr(), &offsets, pairs, self.zero, &mut sums);
                    }
                    then.rows(first, columns, (&sums, LANES), (y, columns));
                    continue;
                }
                let _ = pairs;
                self.plain(copied, &offsets, then, first, y);
            }
        }
    }

    fn plain(
        &self,
        copied: &[u8],
        offsets: &[usize],
        then: &Requantize,
        first: usize,
        y: &mut [u8],
    ) {
        let mut sums = [0_i32; LANES];
        for (tap, offset) in offsets.iter().enumerate() {
            let weights = &self.taps[tap * self.geometry.channels + first..][..y.len()];
            let values = &copied[*offset..][..y.len()];
            for ((sum, w), x) in sums.iter_mut().zip(weights).zip(values) {
                *sum += i32::from(*w) * (i32::from(*x) - i32::from(self.zero));
            }
        }
        for (at, y) in y.iter_mut().enumerate() {
            *y = then.one(first + at, sums[at]);
        }
    }
}

const _: () = assert!(LANES.is_multiple_of(requantize::LANES));

/// The sums of sixteen channels.
///
/// # Safety
/// The processor has AVX2; sixteen bytes can be read at each offset; there is a pair of weights for each two offsets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn sixteen(
    from: *const u8,
    offsets: &[usize],
    weights: &[[i16; 2 * LANES]],
    zero: u8,
    sums: &mut [i32; LANES],
) {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepu8_epi16, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_permute2x128_si256, _mm256_set1_epi16, _mm256_setzero_si256,
        _mm256_storeu_si256, _mm256_sub_epi16, _mm256_unpackhi_epi16, _mm256_unpacklo_epi16,
    };
    let zero = _mm256_set1_epi16(i16::from(zero));
    let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (taps, weights) in offsets.chunks(2).zip(weights) {
        // SAFETY: the caller's promise.
        let (one, other, first, second) = unsafe {
            let load = |offset: usize| {
                let bytes = _mm_loadu_si128(from.add(offset).cast());
                _mm256_sub_epi16(_mm256_cvtepu8_epi16(bytes), zero)
            };
            let other = taps.get(1).map_or(_mm256_setzero_si256(), |tap| load(*tap));
            let weights = weights.as_ptr();
            (
                load(taps[0]),
                other,
                _mm256_loadu_si256(weights.cast()),
                _mm256_loadu_si256(weights.add(LANES).cast()),
            )
        };
        low = _mm256_add_epi32(
            low,
            _mm256_madd_epi16(_mm256_unpacklo_epi16(one, other), first),
        );
        high = _mm256_add_epi32(
            high,
            _mm256_madd_epi16(_mm256_unpackhi_epi16(one, other), second),
        );
    }
    // SAFETY: sixteen sums are two registers.
    unsafe {
        let to = sums.as_mut_ptr();
        _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256(to.add(8).cast(), _mm256_permute2x128_si256(low, high, 0x31));
    }
}
