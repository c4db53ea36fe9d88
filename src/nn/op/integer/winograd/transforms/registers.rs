//! Registers of 16-bit and of 32-bit integers, for what the transforms do with them.

#![expect(
    unsafe_code,
    reason = "vector instructions are functions that only some processors may call"
)]
#![expect(
    clippy::inline_always,
    reason = "parts of functions compiled for each path"
)]

use super::super::LANES;
use crate::nn::op::integer::requantize::{self, Requantize};

/// Sixteen 16-bit integers; everything modulo 2^16.
pub(super) trait Shorts: Copy {
    /// # Safety
    /// The processor has the instructions, and 16 bytes can be read at `from`.
    unsafe fn widen(from: *const u8) -> Self;

    /// # Safety
    /// The processor has the instructions.
    unsafe fn splat(value: i16) -> Self;

    /// # Safety
    /// 16 values can be written at `to`.
    unsafe fn store(self, to: *mut i16);

    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn twice(self) -> Self;
    fn fourfold(self) -> Self;
}

/// Eight 32-bit integers; everything modulo 2^32.
pub(super) trait Ints: Copy {
    /// # Safety
    /// The processor has the instructions, and eight values can be read at `from`.
    unsafe fn load(from: *const i32) -> Self;

    /// # Safety
    /// The processor has the instructions.
    unsafe fn splat(value: i32) -> Self;

    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn twice(self) -> Self;
    fn fourfold(self) -> Self;
    /// Divided by 2^by, downwards.
    fn halved(self, by: i32) -> Self;

    /// Stores the sums of the channels `8 at` to `8 at + 7`.
    ///
    /// # Safety
    /// The channels are there, and eight bytes can be written at `to`.
    unsafe fn finish(self, then: &Requantize, at: usize, to: *mut u8);
}

#[derive(Clone, Copy)]
pub(super) struct Plain<T, const N: usize>([T; N]);

pub(super) type PlainShorts = Plain<i16, LANES>;
pub(super) type PlainInts = Plain<i32, { requantize::LANES }>;

impl Shorts for PlainShorts {
    #[inline(always)]
    unsafe fn widen(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[u8; LANES]>().read_unaligned() }.map(i16::from))
    }

    #[inline(always)]
    unsafe fn splat(value: i16) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i16) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[i16; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_add(other.0[i])))
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_sub(other.0[i])))
    }

    #[inline(always)]
    fn twice(self) -> Self {
        self.plus(self)
    }

    #[inline(always)]
    fn fourfold(self) -> Self {
        self.twice().twice()
    }
}

impl Ints for PlainInts {
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[i32; requantize::LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self([value; requantize::LANES])
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_add(other.0[i])))
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_sub(other.0[i])))
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_mul(other.0[i])))
    }

    #[inline(always)]
    fn twice(self) -> Self {
        self.plus(self)
    }

    #[inline(always)]
    fn fourfold(self) -> Self {
        self.twice().twice()
    }

    #[inline(always)]
    fn halved(self, by: i32) -> Self {
        Self(self.0.map(|value| value >> by))
    }

    #[inline(always)]
    unsafe fn finish(self, then: &Requantize, at: usize, to: *mut u8) {
        for (i, sum) in self.0.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i) = then.one(requantize::LANES * at + i, sum) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_cvtepu8_epi16,
        _mm256_loadu_si256, _mm256_mullo_epi32, _mm256_set1_epi16, _mm256_set1_epi32,
        _mm256_slli_epi16, _mm256_slli_epi32, _mm256_srav_epi32, _mm256_storeu_si256,
        _mm256_sub_epi16, _mm256_sub_epi32,
    };

    use super::{Ints, Requantize, Shorts};

    /// Of 16-bit or of 32-bit integers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Register(__m256i);

    impl Shorts for Register {
        #[inline(always)]
        unsafe fn widen(from: *const u8) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(from.cast())) })
        }

        #[inline(always)]
        unsafe fn splat(value: i16) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { _mm256_set1_epi16(value) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut i16) {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_si256(to.cast(), self.0) }
        }

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            // SAFETY: a value exists only where the processor has AVX2.
            Self(unsafe { _mm256_add_epi16(self.0, other.0) })
        }

        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_sub_epi16(self.0, other.0) })
        }

        #[inline(always)]
        fn twice(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_slli_epi16(self.0, 1) })
        }

        #[inline(always)]
        fn fourfold(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_slli_epi16(self.0, 2) })
        }
    }

    impl Ints for Register {
        #[inline(always)]
        unsafe fn load(from: *const i32) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { _mm256_loadu_si256(from.cast()) })
        }

        #[inline(always)]
        unsafe fn splat(value: i32) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { _mm256_set1_epi32(value) })
        }

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            // SAFETY: a value exists only where the processor has AVX2.
            Self(unsafe { _mm256_add_epi32(self.0, other.0) })
        }

        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_sub_epi32(self.0, other.0) })
        }

        #[inline(always)]
        fn times(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_mullo_epi32(self.0, other.0) })
        }

        #[inline(always)]
        fn twice(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_slli_epi32(self.0, 1) })
        }

        #[inline(always)]
        fn fourfold(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_slli_epi32(self.0, 2) })
        }

        #[inline(always)]
        fn halved(self, by: i32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_srav_epi32(self.0, _mm256_set1_epi32(by)) })
        }

        #[inline(always)]
        unsafe fn finish(self, then: &Requantize, at: usize, to: *mut u8) {
            // SAFETY: the caller's promise, and a value exists only where the processor has AVX2.
            unsafe { then.store(at, self.0, to) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Register;
