//! The widest vectors that the processor has, chosen at run time.
//!
//! The crate is built for any x86-64 processor, whose vectors hold 4 floats and know no fused multiply-add.
//! [`vectorized!`] compiles a function for the baseline, for AVX2 with FMA (8 floats, since 2013) and for AVX-512
//! (16 floats), and calls the widest one that the processor runs. Inside, `V` is a [`Vector`]: plain loops are
//! vectorized by the compiler for that width, and registers can be written out where a loop does not suffice.

#![expect(
    unsafe_code,
    reason = "vector instructions are functions that only some processors may call"
)]
#![expect(
    clippy::inline_always,
    reason = "a function of its own would be compiled for the baseline"
)]

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Avx512,
    Avx2,
    Baseline,
}

/// The level of this processor; the standard library asks it once.
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("fma") {
            let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            return if wide { Level::Avx512 } else { Level::Avx2 };
        }
    }
    Level::Baseline
}

/// Several floats in a register.
///
/// `load` and `splat` are the only ways to make one, and are called in bodies of [`vectorized!`] alone: who holds a value
/// runs on a processor that has its instructions.
pub(crate) trait Vector: Copy {
    const LANES: usize;

    /// a b + c of single floats, rounded once where the level has an instruction for it.
    fn fused(a: f32, b: f32, c: f32) -> f32;

    /// # Safety
    /// The processor has this level, and `LANES` floats can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// The processor has this level.
    unsafe fn splat(value: f32) -> Self;

    /// # Safety
    /// `LANES` floats can be written at `to`.
    unsafe fn store(self, to: *mut f32);

    /// self + a b.
    fn plus_product(self, a: Self, b: Self) -> Self;

    /// max(self, floor), keeping a NaN as `relu::rectified` does.
    fn at_least(self, floor: Self) -> Self;

    /// `other` where `x` is above `y` or is no number, else self.
    fn or_where_above(self, other: Self, x: Self, y: Self) -> Self;
}

/// Vectors of the baseline, which the compiler maps to whatever the target has.
#[derive(Clone, Copy)]
pub(crate) struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;

    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; floats lie side by side as in an array.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| a.0[i] * b.0[i] + self.0[i]))
    }

    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if self.0[i] < floor.0[i] {
                floor.0[i]
            } else {
                self.0[i]
            }
        }))
    }

    #[inline(always)]
    fn or_where_above(self, other: Self, x: Self, y: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if (x.0[i] > y.0[i]) | x.0[i].is_nan() {
                other.0[i]
            } else {
                self.0[i]
            }
        }))
    }
}

/// What is left over at the end of a row: one float at a time, fused or not as at the level of `V`.
#[derive(Clone, Copy)]
pub(crate) struct One<V> {
    value: f32,
    level: std::marker::PhantomData<V>,
}

impl<V: Vector> One<V> {
    #[inline(always)]
    fn of(value: f32) -> Self {
        let level = std::marker::PhantomData;
        Self { value, level }
    }
}

impl<V: Vector> Vector for One<V> {
    const LANES: usize = 1;

    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        V::fused(a, b, c)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self::of(unsafe { *from })
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self::of(value)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *to = self.value }
    }

    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        Self::of(V::fused(a.value, b.value, self.value))
    }

    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        if self.value < floor.value {
            floor
        } else {
            self
        }
    }

    #[inline(always)]
    fn or_where_above(self, other: Self, x: Self, y: Self) -> Self {
        if (x.value > y.value) | x.value.is_nan() {
            other
        } else {
            self
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _CMP_GT_OQ, _CMP_UNORD_Q, _mm256_blendv_ps, _mm256_cmp_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_max_ps, _mm256_or_ps, _mm256_set1_ps, _mm256_storeu_ps,
        _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_max_ps,
        _mm512_set1_ps, _mm512_storeu_ps,
    };

    use super::Vector;

    #[inline]
    #[target_feature(enable = "avx")]
    fn choose_of_eight(one: __m256, other: __m256, x: __m256, y: __m256) -> __m256 {
        let above = _mm256_cmp_ps::<_CMP_GT_OQ>(x, y);
        let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
        _mm256_blendv_ps(one, other, _mm256_or_ps(above, nan))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn choose_of_sixteen(one: __m512, other: __m512, x: __m512, y: __m512) -> __m512 {
        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, y);
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        _mm512_mask_blend_ps(above | nan, one, other)
    }

    macro_rules! vector {
        ($name:ident = $lanes:literal in $register:ident: $load:ident $splat:ident $store:ident $fmadd:ident $max:ident $choose:ident) => {
            #[derive(Clone, Copy)]
            pub(crate) struct $name($register);

            impl Vector for $name {
                const LANES: usize = $lanes;

                #[inline(always)]
                fn fused(a: f32, b: f32, c: f32) -> f32 {
                    a.mul_add(b, c)
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: the caller's promise.
                    Self(unsafe { $splat(value) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the caller's promise.
                    unsafe { $store(to, self.0) }
                }

                #[inline(always)]
                fn plus_product(self, a: Self, b: Self) -> Self {
                    // SAFETY: a value exists only where the processor has the level.
                    Self(unsafe { $fmadd(a.0, b.0, self.0) })
                }

                #[inline(always)]
                fn at_least(self, floor: Self) -> Self {
                    // The second operand is the result when one is NaN.
                    // SAFETY: a value exists only where the processor has the level.
                    Self(unsafe { $max(floor.0, self.0) })
                }

                #[inline(always)]
                fn or_where_above(self, other: Self, x: Self, y: Self) -> Self {
                    // SAFETY: a value exists only where the processor has the level.
                    Self(unsafe { $choose(self.0, other.0, x.0, y.0) })
                }
            }
        };
    }

    vector! {
        Eight = 8 in __m256:
        _mm256_loadu_ps _mm256_set1_ps _mm256_storeu_ps _mm256_fmadd_ps _mm256_max_ps choose_of_eight
    }
    vector! {
        Sixteen = 16 in __m512:
        _mm512_loadu_ps _mm512_set1_ps _mm512_storeu_ps _mm512_fmadd_ps _mm512_max_ps choose_of_sixteen
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Eight, Sixteen};

/// Defines a function whose body, generic over a [`Vector`], is compiled for every level and called at the widest.
///
/// All that the body calls with `V` must be `#[inline(always)]`: a function of its own would be compiled for the baseline.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$v:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, reason = "the level is looked up before a function of that level is called")]
        #[allow(clippy::inline_always, reason = "the body must be compiled inside each level")]
        #[allow(clippy::too_many_arguments, reason = "a kernel reads and writes many slices")]
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body<$v: $crate::nn::op::simd::Vector>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn sixteen($($arg: $type),*) {
                body::<$crate::nn::op::simd::Sixteen>($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn eight($($arg: $type),*) {
                body::<$crate::nn::op::simd::Eight>($($arg),*);
            }

            match $crate::nn::op::simd::level() {
                // SAFETY: `level` found these features.
                #[cfg(target_arch = "x86_64")]
                $crate::nn::op::simd::Level::Avx512 => unsafe { sixteen($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::nn::op::simd::Level::Avx2 => unsafe { eight($($arg),*) },
                _ => body::<$crate::nn::op::simd::Four>($($arg),*),
            }
        }
    };
}

pub(crate) use vectorized;

#[cfg(test)]
mod tests {
    use super::*;

    /// max(a + b c, 0) for as many values as fill whole vectors, then one at a time.
    #[inline(always)]
    fn rows<V: Vector>(a: &[f32], b: &[f32], c: f32, y: &mut [f32]) {
        let whole = y.len() / V::LANES * V::LANES;
        assert!(a.len() == y.len() && b.len() == y.len());
        for at in (0..whole).step_by(V::LANES) {
            // SAFETY: `at` + LANES <= `whole`; the levels are those below.
            unsafe {
                let product = V::load(&raw const a[at]);
                product
                    .plus_product(V::load(&raw const b[at]), V::splat(c))
                    .at_least(V::splat(0.0))
                    .store(&raw mut y[at]);
            }
        }
        for at in whole..y.len() {
            // SAFETY: as above.
            unsafe {
                One::<V>::load(&raw const a[at])
                    .plus_product(One::load(&raw const b[at]), One::splat(c))
                    .at_least(One::splat(0.0))
                    .store(&raw mut y[at]);
            }
        }
    }

    vectorized! {
        fn widest<V>(a: &[f32], b: &[f32], c: f32, y: &mut [f32]) {
            rows::<V>(a, b, c, y);
        }
    }

    #[test]
    fn every_level_computes_the_same() {
        let mut a: Vec<f32> = (0..37).map(|i| (i * 7 % 23) as f32 - 11.0).collect();
        let b: Vec<f32> = (0..37).map(|i| (i * 5 % 19) as f32 - 9.0).collect();
        (a[3], a[36]) = (f32::NAN, f32::NAN);
        let (mut wide, mut narrow) = (vec![9.0; 37], vec![9.0; 37]);
        widest(&a, &b, 0.5, &mut wide);
        rows::<Four>(&a, &b, 0.5, &mut narrow);
        for (at, (wide, narrow)) in wide.iter().zip(&narrow).enumerate() {
            let exact = a[at] + b[at] * 0.5;
            if exact.is_nan() {
                assert!(wide.is_nan() && narrow.is_nan(), "{at}");
            } else {
                assert_eq!((*wide, *narrow), (exact.max(0.0), exact.max(0.0)), "{at}");
            }
        }
    }

    #[test]
    fn a_product_is_rounded_once_where_the_processor_can() {
        // (1 + 2^-12)² = 1 + 2^-11 + 2^-24, whose last term 24 bits do not hold.
        let b = 1.0 + 1.0 / 4096.0;
        let a = -(1.0 + 1.0 / 2048.0);
        let mut y = [9.0; 40];
        widest(&[a; 40], &[b; 40], b, &mut y);
        let expected = if level() == Level::Baseline {
            0.0
        } else {
            1.0 / 16_777_216.0
        };
        assert_eq!(y, [expected; 40]);
    }
}
