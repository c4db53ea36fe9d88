//! From sums to stored activations: one real factor and one offset for each channel, in fixed point.
//!
//! q = clamp(⌊(a · f + c) / 2^s + ½⌋, low, high) with a the 32-bit sum, f = round(M 2^s) the factor in 32 bits and
//! c = round(o 2^s) the offset, which holds the zero point, the bias and what a batch normalization adds.
//! M = s_x s_w / s_y, times a batch normalization's factor. Jacob et al. 2018, arXiv:1712.05877, section 2.2.
//!
//! As there, M is an integer of 31 bits and a shift, s = 31 + n for M = 2^-n M0. Where every channel's largest sum leaves an
//! error below a 64th of a step, s is 32 for all of them: the result is then the upper half of the product.
//! Deviation: the product is kept in 64 bits and rounded once, half up, where the paper's reference code rounds its upper
//! 32 bits and then again when shifting; and the offset is added with all the product's bits instead of as an integer of
//! the sums' scale, so that a batch normalization whose factor is small or 0 loses nothing.

#![expect(
    unsafe_code,
    reason = "vector instructions are functions that only some processors may call"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256i;

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
    /// Those of the odd channels, each a place before.
    odd_factor: [i32; LANES],
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
    /// Whether all shifts are by 32 bits: the result is then the upper half of a product as it stands.
    upper: bool,
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
        let upper = channels.iter().all(fits_upper);
        for (at, affine) in channels.iter().enumerate() {
            let Fixed {
                factor,
                offset,
                shift,
                back,
            } = fixed(*affine, upper)?;
            let eight = &mut eights[at / LANES];
            let (lane, pair, side) = (at % LANES, at % LANES / 2, at % 2);
            eight.factor[lane] = factor;
            if side == 1 {
                eight.odd_factor[lane - 1] = factor;
            }
            eight.offset[side][pair] = offset;
            eight.shift[side][pair] = i64::from(shift);
            eight.back[lane] = back;
        }
        Ok(Self {
            eights,
            channels: channels.len(),
            low,
            high,
            upper,
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
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: the processor has AVX2, and the channels are there.
            unsafe { self.rows_of_registers(first, columns, sums, width, y, pitch) };
            return;
        }
        for (sums, y) in sums.chunks_exact(width).zip(y.chunks_mut(pitch)) {
            for (at, (y, sum)) in y[..columns].iter_mut().zip(sums).enumerate() {
                *y = self.one(first + at, *sum);
            }
        }
    }

    /// As [`Requantize::rows`].
    ///
    /// # Safety
    /// The processor has AVX2, and the channels are there.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn rows_of_registers(
        &self,
        first: usize,
        columns: usize,
        sums: &[i32],
        width: usize,
        y: &mut [u8],
        pitch: usize,
    ) {
        use std::arch::x86_64::{
            _mm_max_epu8, _mm_min_epu8, _mm_packus_epi16, _mm_set1_epi8, _mm_storeu_si128,
            _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256,
            _mm256_packs_epi32, _mm256_permute4x64_epi64,
        };
        let (low, high) = (
            _mm_set1_epi8(self.low as i8),
            _mm_set1_epi8(self.high as i8),
        );
        for (sums, y) in sums.chunks_exact(width).zip(y.chunks_mut(pitch)) {
            let (sums, y) = (&sums[..columns], &mut y[..columns]);
            let mut at = 0;
            // SAFETY: the caller's promise; as many sums and bytes are there.
            unsafe {
                let steps = |at: usize| {
                    let sums = _mm256_loadu_si256(sums.as_ptr().add(at).cast());
                    self.steps((first + at) / LANES, sums)
                };
                while at + 2 * LANES <= columns {
                    let shorts = _mm256_packs_epi32(steps(at), steps(at + LANES));
                    let shorts = _mm256_permute4x64_epi64(shorts, 0b11_01_10_00);
                    let upper = _mm256_extracti128_si256(shorts, 1);
                    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(shorts), upper);
                    let bytes = _mm_min_epu8(_mm_max_epu8(bytes, low), high);
                    _mm_storeu_si128(y.as_mut_ptr().add(at).cast(), bytes);
                    at += 2 * LANES;
                }
                if at + LANES <= columns {
                    let sums = _mm256_loadu_si256(sums.as_ptr().add(at).cast());
                    self.store((first + at) / LANES, sums, y.as_mut_ptr().add(at));
                    at += LANES;
                }
            }
            for at in at..columns {
                y[at] = self.one(first + at, sums[at]);
            }
        }
    }

    /// The steps, not yet clamped, of eight sums of the channels `8 at` to `8 at + 7`.
    ///
    /// # Safety
    /// The processor has AVX2, and `at` is in range.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn steps(&self, at: usize, sums: __m256i) -> __m256i {
        use std::arch::x86_64::{
            _mm256_add_epi32, _mm256_add_epi64, _mm256_blend_epi32, _mm256_load_si256,
            _mm256_mul_epi32, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_srlv_epi64,
        };
        // SAFETY: the caller's promise; the fields of an `Eight` lie on 32 bytes.
        unsafe {
            let eight = self.eights.get_unchecked(at);
            let side = |sums, factors: &[i32; LANES], side: usize| {
                let product = _mm256_mul_epi32(sums, _mm256_load_si256(factors.as_ptr().cast()));
                let offset = _mm256_load_si256(eight.offset[side].as_ptr().cast());
                _mm256_add_epi64(product, offset)
            };
            let even = side(sums, &eight.factor, 0);
            let odd = side(_mm256_srli_epi64(sums, 32), &eight.odd_factor, 1);
            if self.upper {
                return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0b1010_1010);
            }
            let shifted = |product, side: usize| {
                _mm256_srlv_epi64(
                    product,
                    _mm256_load_si256(eight.shift[side].as_ptr().cast()),
                )
            };
            let odd = _mm256_slli_epi64(shifted(odd, 1), 32);
            let all = _mm256_blend_epi32(shifted(even, 0), odd, 0b1010_1010);
            _mm256_add_epi32(all, _mm256_load_si256(eight.back.as_ptr().cast()))
        }
    }

    /// Stores eight sums of the channels `8 at` to `8 at + 7`.
    ///
    /// # Safety
    /// The processor has AVX2, `at` is in range, and eight bytes can be written at `to`.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn store(&self, at: usize, sums: __m256i, to: *mut u8) {
        use std::arch::x86_64::{
            _mm_max_epu8, _mm_min_epu8, _mm_packs_epi32, _mm_packus_epi16, _mm_set1_epi8,
            _mm_storel_epi64, _mm256_castsi256_si128, _mm256_extracti128_si256,
        };
        // SAFETY: the caller's promise.
        unsafe {
            let steps = self.steps(at, sums);
            let (first, last) = (
                _mm256_castsi256_si128(steps),
                _mm256_extracti128_si256(steps, 1),
            );
            let shorts = _mm_packs_epi32(first, last);
            let bytes = _mm_packus_epi16(shorts, shorts);
            let bytes = _mm_max_epu8(bytes, _mm_set1_epi8(self.low as i8));
            let bytes = _mm_min_epu8(bytes, _mm_set1_epi8(self.high as i8));
            _mm_storel_epi64(to.cast(), bytes);
        }
    }
}

/// The integers of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fixed {
    factor: i32,
    /// With the half that rounds.
    offset: i64,
    shift: u32,
    back: i32,
}

/// Whether a shift by 32 bits leaves enough of a factor: it is below a half, and the half bit that it is wrong by is less
/// than a 64th of a step for the largest sum.
fn fits_upper(affine: &Affine) -> bool {
    affine.factor.abs() < 0.49 && affine.most < f64::from(1 << 27) && affine.offset.abs() < 1e6
}

fn fixed(affine: Affine, upper: bool) -> Result<Fixed> {
    let Affine {
        factor,
        offset,
        most,
    } = affine;
    let reach = factor.abs() * most + offset.abs() + 1.0;
    // A number that is none is refused too.
    if reach.is_nan() || reach >= f64::from(1 << 30) {
        return Err(invalid(format!(
            "the sums reach {reach:.3e} steps of the levels that store them, more than 32 bits hold"
        )));
    }
    // The most bits that fit: the factor in 31, the product in 62 with what lifts it.
    let fits = |shift: &u32| {
        let unit = f64::from(*shift).exp2();
        (factor.abs() * unit).round() < f64::from(i32::MAX) && reach * unit < (LIFT / 2) as f64
    };
    let (shift, lift) = if upper {
        (32, 0)
    } else {
        ((1..=60).rev().find(fits).unwrap_or(1), LIFT)
    };
    let unit = f64::from(shift).exp2();
    let half = 1_i64 << (shift - 1);
    Ok(Fixed {
        factor: (factor * unit).round() as i32,
        offset: (offset * unit).round() as i64 + half + lift,
        shift,
        back: (-(lift >> shift)) as i32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is what floats of 64 bits give, but where those are within a 64th of the middle between two steps.
    fn is_by_definition(found: u8, affine: Affine, sum: i32, low: u8, high: u8) -> bool {
        let value = affine.factor * f64::from(sum) + affine.offset;
        let value = value.clamp(f64::from(low), f64::from(high));
        (f64::from(found) - value).abs() <= 0.5 + 1.0 / 64.0
    }

    #[test]
    fn sums_are_scaled_as_the_definition_says() {
        for (most, upper) in [(4e7, true), (4e8, false)] {
            let then = scaled_as_the_definition_says(most);
            assert_eq!(then.upper, upper);
        }
    }

    fn scaled_as_the_definition_says(most: f64) -> Requantize {
        let channels: Vec<Affine> = (0..19)
            .map(|i| {
                let sign = if i % 3 == 0 { -1.0 } else { 1.0 };
                Affine {
                    factor: sign * 0.7_f64.powi(i) * 0.013,
                    offset: f64::from(i) * 11.3 - 40.0,
                    most,
                }
            })
            .collect();
        let then = Requantize::new(&channels, 7, 250).unwrap();
        for step in -2000..2000 {
            let sums: Vec<i32> = (0..19).map(|i| step * (17 + 40 * i)).collect();
            let mut y = [0; 19];
            then.rows(0, 19, (&sums, 19), (&mut y, 19));
            for (at, affine) in channels.iter().enumerate() {
                let one = then.one(at, sums[at]);
                assert!(
                    is_by_definition(one, *affine, sums[at], 7, 250),
                    "{at} {}",
                    sums[at]
                );
                assert_eq!(y[at], one, "{at} {}", sums[at]);
            }
            let mut rest = [9; 12];
            then.rows(8, 11, (&sums[8..], 11), (&mut rest, 12));
            assert_eq!((&rest[..11], rest[11]), (&y[8..], 9));
        }
        then
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
        let found = fixed(affine, false).unwrap();
        assert_eq!((found.factor, found.shift), (1_319_413_953, 31 + 11));
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
