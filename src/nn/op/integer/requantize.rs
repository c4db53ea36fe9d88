//! From sums to stored activations: one real factor and one offset for each channel, in fixed point.
//!
//! q = clamp(⌊(a · f + c) / 2^s + ½⌋, low, high) with a the 32-bit sum, f = round(M 2^s) the factor in 32 bits and
//! c = round(o 2^s) the offset, which holds the zero point, the bias and what a batch normalization adds.
//! M = s_x s_w / s_y, times a batch normalization's factor. Jacob et al. 2018, arXiv:1712.05877, section 2.2.
//!
//! As there, M is an integer of 31 bits and a shift, s = 31 + n for M = 2^-n M0.
//! Deviation: the product is kept in 64 bits and rounded once, half up, where the paper's reference code rounds its upper
//! 32 bits and then again when shifting; and the offset is added with all the product's bits instead of as an integer of
//! the sums' scale, so that a batch normalization whose factor is small or 0 loses nothing.

#![expect(
    unsafe_code,
    reason = "vector instructions are functions that only some processors may call"
)]

use crate::nn::{Result, invalid};

/// Channels that are computed together.
pub(super) const LANES: usize = 8;

/// What one channel's sums become, before they are rounded: factor · sum + offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    pub factor: f64,
    /// In stored steps, with the zero point.
    pub offset: f64,
    /// No sum is larger, on either side of 0.
    pub most: f64,
}

/// The numbers of eight channels, as the registers have them: the even channels' 64-bit numbers apart from the odd ones'.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
struct Eight {
    factor: [i32; LANES],
    offset: [[i64; 4]; 2],
    shift: [[i64; 4]; 2],
    /// Taken away again behind the shift: numbers are shifted as if they had no sign.
    back: [i32; LANES],
}

/// For every channel of an activation.
#[derive(Clone, Debug)]
pub struct Requantize {
    eights: Vec<Eight>,
    channels: usize,
    low: u8,
    high: u8,
    /// Whether the processor has AVX2.
    avx2: bool,
}

/// Added to the products, so that none is below 0.
const LIFT: i64 = 1 << 62;

impl Requantize {
    /// Of these channels, between these stored values.
    ///
    /// # Errors
    /// When a sum can reach so many steps that 32 bits do not hold it: the levels are too fine for what they store.
    pub fn new(channels: &[Affine], low: u8, high: u8) -> Result<Self> {
        let mut eights = vec![Eight::default(); channels.len().div_ceil(LANES)];
        for (at, affine) in channels.iter().enumerate() {
            let (factor, offset, shift) = fixed(*affine)?;
            let eight = &mut eights[at / LANES];
            let (pair, side) = (at % LANES / 2, at % 2);
            eight.factor[at % LANES] = factor;
            eight.offset[side][pair] = offset;
            eight.shift[side][pair] = i64::from(shift);
            eight.back[at % LANES] = (-(LIFT >> shift)) as i32;
        }
        Ok(Self {
            eights,
            channels: channels.len(),
            low,
            high,
            avx2: super::Path::Avx2.runs(),
        })
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// What a sum of a channel is stored as.
    pub fn one(&self, channel: usize, sum: i32) -> u8 {
        let eight = &self.eights[channel / LANES];
        let (lane, pair, side) = (channel % LANES, channel % LANES / 2, channel % 2);
        let product = i64::from(sum) * i64::from(eight.factor[lane]);
        let shifted =
            product.wrapping_add(eight.offset[side][pair]) as u64 >> eight.shift[side][pair];
        let q = (shifted as i32).wrapping_add(eight.back[lane]);
        q.clamp(i32::from(self.low), i32::from(self.high)) as u8
    }

    /// Stores rows of sums of neighboring channels from `first` on, which is a multiple of eight: rows of `width` sums, of
    /// which the first `columns` count, to rows of bytes `pitch` apart.
    pub(super) fn rows(
        &self,
        first: usize,
        columns: usize,
        sums: (&[i32], usize),
        y: (&mut [u8], usize),
    ) {
        assert!(first.is_multiple_of(LANES) && first + columns <= self.channels);
        let ((sums, width), (y, pitch)) = (sums, y);
        assert!(columns <= width && columns <= pitch);
        let whole = if self.avx2 {
            columns / LANES * LANES
        } else {
            0
        };
        for (sums, y) in sums.chunks_exact(width).zip(y.chunks_mut(pitch)) {
            let (sums, y) = (&sums[..columns], &mut y[..columns]);
            #[cfg(target_arch = "x86_64")]
            if whole > 0 {
                // SAFETY: the processor has AVX2, and `whole` sums and bytes are there, of as many channels.
                unsafe { self.row(first / LANES, &sums[..whole], y) }
            }
            for at in whole..columns {
                y[at] = self.one(first + at, sums[at]);
            }
        }
    }

    /// Stores whole eights of sums of the channels from `8 at` on.
    ///
    /// # Safety
    /// The processor has AVX2, the channels are there, and `y` is as long as `sums`.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn row(&self, at: usize, sums: &[i32], y: &mut [u8]) {
        for (eight, (sums, y)) in sums
            .chunks_exact(LANES)
            .zip(y.chunks_exact_mut(LANES))
            .enumerate()
        {
            // SAFETY: the caller's promise.
            unsafe {
                let sums = std::arch::x86_64::_mm256_loadu_si256(sums.as_ptr().cast());
                self.store(at + eight, sums, y.as_mut_ptr());
            }
        }
    }

    /// Stores eight sums of the channels `8 at` to `8 at + 7`.
    ///
    /// # Safety
    /// The processor has AVX2, `at` is in range, and eight bytes can be written at `to`.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn store(&self, at: usize, sums: std::arch::x86_64::__m256i, to: *mut u8) {
        use std::arch::x86_64::{
            _mm_max_epu8, _mm_min_epu8, _mm_packs_epi32, _mm_packus_epi16, _mm_set1_epi8,
            _mm_storel_epi64, _mm256_add_epi32, _mm256_add_epi64, _mm256_blend_epi32,
            _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_load_si256, _mm256_mul_epi32,
            _mm256_slli_epi64, _mm256_srli_epi64, _mm256_srlv_epi64,
        };
        // SAFETY: the caller's promise; the fields of an `Eight` lie on 32 bytes.
        unsafe {
            let eight = self.eights.get_unchecked(at);
            let factor = _mm256_load_si256(eight.factor.as_ptr().cast());
            let side = |product, side: usize| {
                let offset = _mm256_load_si256(eight.offset[side].as_ptr().cast());
                let shift = _mm256_load_si256(eight.shift[side].as_ptr().cast());
                _mm256_srlv_epi64(_mm256_add_epi64(product, offset), shift)
            };
            let even = side(_mm256_mul_epi32(sums, factor), 0);
            let (sums, factor) = (_mm256_srli_epi64(sums, 32), _mm256_srli_epi64(factor, 32));
            let odd = side(_mm256_mul_epi32(sums, factor), 1);
            let all = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0b1010_1010);
            let all = _mm256_add_epi32(all, _mm256_load_si256(eight.back.as_ptr().cast()));
            let (first, last) = (
                _mm256_castsi256_si128(all),
                _mm256_extracti128_si256(all, 1),
            );
            let shorts = _mm_packs_epi32(first, last);
            let bytes = _mm_packus_epi16(shorts, shorts);
            let bytes = _mm_max_epu8(bytes, _mm_set1_epi8(self.low as i8));
            let bytes = _mm_min_epu8(bytes, _mm_set1_epi8(self.high as i8));
            _mm_storel_epi64(to.cast(), bytes);
        }
    }
}

/// Factor, lifted offset with a half, and shift.
fn fixed(affine: Affine) -> Result<(i32, i64, u32)> {
    let Affine {
        factor,
        offset,
        most,
    } = affine;
    let reach = factor.abs() * most + offset.abs() + 1.0;
    let largest = f64::from(1 << 30);
    if !(reach < largest) {
        return Err(invalid(format!(
            "the sums reach {reach:.3e} steps of the levels that store them, more than 32 bits hold"
        )));
    }
    // The most bits that fit: the factor in 31, the product in 62 with what lifts it.
    let fits = |shift: &u32| {
        let unit = (f64::from(*shift)).exp2();
        (factor.abs() * unit).round() < f64::from(i32::MAX) && reach * unit < (LIFT / 2) as f64
    };
    let shift = (1..=60).rev().find(fits).unwrap_or(1);
    let unit = f64::from(shift).exp2();
    let half = 1_i64 << (shift - 1);
    let offset = (offset * unit).round() as i64;
    Ok(((factor * unit).round() as i32, offset + half + LIFT, shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the definition says, in floats of 64 bits, halves up.
    fn by_definition(affine: Affine, sum: i32, low: u8, high: u8) -> u8 {
        let value = (affine.factor * f64::from(sum) + affine.offset + 0.5).floor();
        value.clamp(f64::from(low), f64::from(high)) as u8
    }

    #[test]
    fn sums_are_scaled_as_the_definition_says() {
        let channels: Vec<Affine> = (0..19)
            .map(|i| {
                let sign = if i % 3 == 0 { -1.0 } else { 1.0 };
                Affine {
                    factor: sign * 0.7_f64.powi(i) * 0.013,
                    offset: f64::from(i) * 11.3 - 40.0,
                    most: 4e7,
                }
            })
            .collect();
        let then = Requantize::new(&channels, 7, 250).unwrap();
        for step in -2000..2000 {
            let sums: Vec<i32> = (0..19).map(|i| step * (17 + 40 * i)).collect();
            let mut y = [0; 19];
            then.rows(0, 19, (&sums, 19), (&mut y, 19));
            for (at, affine) in channels.iter().enumerate() {
                let expected = by_definition(*affine, sums[at], 7, 250);
                assert_eq!(then.one(at, sums[at]), expected, "{at} {}", sums[at]);
                assert_eq!(y[at], expected, "{at} {}", sums[at]);
            }
            let mut rest = [9; 12];
            then.rows(8, 11, (&sums[8..], 11), (&mut rest, 12));
            assert_eq!((&rest[..11], rest[11]), (&y[8..], 9));
        }
    }

    #[test]
    fn a_factor_of_nothing_leaves_the_offset() {
        let affine = Affine {
            factor: 0.0,
            offset: 12.5,
            most: 1e9,
        };
        let then = Requantize::new(&[affine], 0, 255).unwrap();
        assert_eq!([i32::MIN, 0, i32::MAX].map(|sum| then.one(0, sum)), [13; 3]);
    }

    /// O-27: M = 0.0003 is 0.6144 · 2^-11, 1,319,413,953 as an integer of 31 bits.
    #[test]
    fn a_factor_is_an_integer_of_31_bits_and_a_shift() {
        let affine = Affine {
            factor: 0.0003,
            offset: 0.0,
            most: 1e6,
        };
        let (factor, _, shift) = fixed(affine).unwrap();
        assert_eq!((factor, shift), (1_319_413_953, 31 + 11));
    }

    #[test]
    fn sums_that_no_word_holds_are_refused() {
        let affine = Affine {
            factor: 1e3,
            offset: 0.0,
            most: 1e9,
        };
        let error = Requantize::new(&[affine], 0, 255).unwrap_err().to_string();
        assert!(error.contains("1.000e12 steps"), "{error}");
    }
}
