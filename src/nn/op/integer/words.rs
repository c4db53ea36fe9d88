//! Registers of 32-bit words, each of which holds small integers or a sum.

#![expect(
    unsafe_code,
    reason = "vector instructions are functions that only some processors may call"
)]

use super::kernel::{self, Tile};

/// Several words in a register.
///
/// `load` and `splat` are the only ways to make one: who calls them runs on a processor with its instructions.
pub(super) trait Words: Copy {
    const LANES: usize;

    /// [`kernel::tile`], compiled for the instructions of these words.
    ///
    /// # Safety
    /// That of [`kernel::Run`].
    unsafe fn tile(tile: &Tile<'_>);

    /// # Safety
    /// The processor has the instructions, and `LANES` words can be read at `from`.
    unsafe fn load(from: *const i32) -> Self;

    /// The word of the four bytes at `from`, in every lane.
    ///
    /// # Safety
    /// The processor has the instructions, and four bytes can be read at `from`.
    unsafe fn splat(from: *const u8) -> Self;

    /// # Safety
    /// `LANES` words can be written at `to`.
    unsafe fn store(self, to: *mut i32);

    /// self plus, in each lane, the sum of the products of the small integers in the words of `a` and `b`; modulo 2^32.
    fn plus_dot(self, a: Self, b: Self) -> Self;
}

/// Pairs of 16-bit integers, in plain loops.
#[derive(Clone, Copy)]
pub(super) struct Model<const N: usize>([i32; N]);

/// Quads of unsigned (left) and signed (right) bytes, in plain loops.
#[derive(Clone, Copy)]
pub(super) struct Quads<const N: usize>([i32; N]);

macro_rules! model {
    ($name:ident, $dot:expr) => {
        impl<const N: usize> Words for $name<N> {
            const LANES: usize = N;

            unsafe fn tile(tile: &Tile<'_>) {
                // SAFETY: the caller's promise.
                unsafe { kernel::tile::<Self>(tile) }
            }

            #[inline(always)]
            unsafe fn load(from: *const i32) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { from.cast::<[i32; N]>().read_unaligned() })
            }

            #[inline(always)]
            unsafe fn splat(from: *const u8) -> Self {
                // SAFETY: the caller's promise.
                Self([unsafe { from.cast::<i32>().read_unaligned() }; N])
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut i32) {
                // SAFETY: the caller's promise.
                unsafe { to.cast::<[i32; N]>().write_unaligned(self.0) }
            }

            #[inline(always)]
            fn plus_dot(self, a: Self, b: Self) -> Self {
                let dot: fn(i32, i32) -> i32 = $dot;
                Self(std::array::from_fn(|i| {
                    self.0[i].wrapping_add(dot(a.0[i], b.0[i]))
                }))
            }
        }
    };
}

model!(Model, |a, b| {
    let low = i32::from(a as i16) * i32::from(b as i16);
    low.wrapping_add((a >> 16) * (b >> 16))
});
model!(Quads, |a, b| {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    (0..4)
        .map(|i| i32::from(a[i]) * i32::from(b[i] as i8))
        .sum()
});

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_dpwssd_avx_epi32,
        _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_storeu_si256,
        _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32, _mm512_loadu_si512,
        _mm512_madd_epi16, _mm512_set1_epi32, _mm512_storeu_si512,
    };

    use super::super::kernel::{self, Tile};
    use super::Words;

    macro_rules! words {
        ($name:ident = $lanes:literal in $register:ident, $features:literal: $load:ident $splat:ident $store:ident, |$sum:ident, $a:ident, $b:ident| $dot:expr) => {
            #[derive(Clone, Copy)]
            pub(in super::super) struct $name($register);

            impl Words for $name {
                const LANES: usize = $lanes;

                unsafe fn tile(tile: &Tile<'_>) {
                    #[target_feature(enable = $features)]
                    fn compiled(tile: &Tile<'_>) {
                        // SAFETY: the promise of `tile`.
                        unsafe { kernel::tile::<$name>(tile) }
                    }
                    // SAFETY: the caller's promise.
                    unsafe { compiled(tile) }
                }

                #[inline(always)]
                unsafe fn load(from: *const i32) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $load(from.cast()) })
                }

                #[inline(always)]
                unsafe fn splat(from: *const u8) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $splat(from.cast::<i32>().read_unaligned()) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut i32) {
                    // SAFETY: the caller's promise.
                    unsafe { $store(to.cast(), self.0) }
                }

                #[inline(always)]
                fn plus_dot(self, a: Self, b: Self) -> Self {
                    let ($sum, $a, $b) = (self.0, a.0, b.0);
                    // SAFETY: a value exists only where the processor has the instructions.
                    Self(unsafe { $dot })
                }
            }
        };
    }

    words! {
        Pairs8Avx2 = 8 in __m256i, "avx2,fma":
        _mm256_loadu_si256 _mm256_set1_epi32 _mm256_storeu_si256,
        |sum, a, b| _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    }
    words! {
        Pairs8Vnni = 8 in __m256i, "avx2,fma,avxvnni":
        _mm256_loadu_si256 _mm256_set1_epi32 _mm256_storeu_si256,
        |sum, a, b| _mm256_dpwssd_avx_epi32(sum, a, b)
    }
    words! {
        Quads8Vnni = 8 in __m256i, "avx2,fma,avxvnni":
        _mm256_loadu_si256 _mm256_set1_epi32 _mm256_storeu_si256,
        |sum, a, b| _mm256_dpbusd_avx_epi32(sum, a, b)
    }
    words! {
        Pairs16Avx512 = 16 in __m512i, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl":
        _mm512_loadu_si512 _mm512_set1_epi32 _mm512_storeu_si512,
        |sum, a, b| _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
    }
    words! {
        Pairs16Vnni = 16 in __m512i, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni":
        _mm512_loadu_si512 _mm512_set1_epi32 _mm512_storeu_si512,
        |sum, a, b| _mm512_dpwssd_epi32(sum, a, b)
    }
    words! {
        Quads16Vnni = 16 in __m512i, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni":
        _mm512_loadu_si512 _mm512_set1_epi32 _mm512_storeu_si512,
        |sum, a, b| _mm512_dpbusd_epi32(sum, a, b)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Pairs8Avx2, Pairs8Vnni, Pairs16Avx512, Pairs16Vnni, Quads8Vnni, Quads16Vnni};
