//! Requantization: 32-bit sums become integers of the next activation's scale, in integer arithmetic alone.
//!
//! q_y = z_y + M · sum, M = s_x s_w / s_y = 2^-n M₀ with M₀ in [1/2, 1) as a 32-bit fixed-point number of 31 fractional
//! bits: a saturating rounding doubling high multiplication, then a rounding right shift.
//! Jacob et al. 2018, arXiv:1712.05877, section 2.2; halves as gemmlowp rounds them: the product's up, the shift's away
//! from 0.

use crate::nn::{Result, invalid};

/// A factor as integer arithmetic multiplies by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    /// M₀ · 2^31: from 2^30 to 2^31 - 1.
    pub m0: i32,
    /// n, the shift to the right; negative for factors of 1 and more.
    pub shift: i32,
}

impl Multiplier {
    /// The nearest to a factor.
    ///
    /// # Errors
    /// When the factor is not above 0, or 2^31 or more.
    pub fn new(factor: f64) -> Result<Self> {
        // What is smaller than 2^-32 times any sum is 0.
        if !(factor > 0.0 && factor < f64::from(1_u32 << 31)) {
            return Err(invalid(format!(
                "a factor of requantization lies above 0 and below 2^31, not at {factor}"
            )));
        }
        let exponent = factor.log2().floor() as i32 + 1;
        // A logarithm is rounded: the mantissa decides.
        let mut shift = -exponent;
        let mut mantissa = factor * f64::from(shift).exp2();
        while mantissa >= 1.0 {
            mantissa /= 2.0;
            shift -= 1;
        }
        while mantissa < 0.5 {
            mantissa *= 2.0;
            shift += 1;
        }
        let m0 = (mantissa * f64::from(1_u32 << 31)).round_ties_even() as i64;
        // A mantissa that was rounded up to 1.
        let (m0, shift) = match i32::try_from(m0) {
            Ok(m0) => (m0, shift),
            Err(_) => (1 << 30, shift - 1),
        };
        Ok(Self { m0, shift })
    }

    /// The factor that it stands for.
    pub fn factor(self) -> f64 {
        f64::from(self.m0) / f64::from(1_u32 << 31) * f64::from(-self.shift).exp2()
    }

    /// A sum times the factor, as an integer.
    #[inline]
    pub fn apply(self, sum: i32) -> i32 {
        if self.shift >= 0 {
            let product = saturating_rounding_doubling_high_mul(sum, self.m0);
            rounding_right_shift(product, self.shift as u32)
        } else {
            let moved = i64::from(sum) << (-self.shift).min(31);
            let moved = moved.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            saturating_rounding_doubling_high_mul(moved, self.m0)
        }
    }
}

/// (2 a b) / 2^32, halves up; the one product that does not fit, of two least numbers, is the greatest number.
#[inline]
pub fn saturating_rounding_doubling_high_mul(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    ((i64::from(a) * i64::from(b) + (1 << 30)) >> 31) as i32
}

/// x / 2^n, halves away from 0; n of 32 and more gives 0.
#[inline]
pub fn rounding_right_shift(x: i32, n: u32) -> i32 {
    if n > 31 {
        return 0;
    }
    let mask = (1_i64 << n) - 1;
    let rest = i64::from(x) & mask;
    let threshold = (mask >> 1) + i64::from(x < 0);
    ((i64::from(x) >> n) + i64::from(rest > threshold)) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By hand: .0003 = .6144 / 2^11, and .6144 · 2^31 = 1319413953.3.
    #[test]
    fn a_factor_is_a_mantissa_and_a_shift() {
        let multiplier = Multiplier::new(0.0003).unwrap();
        assert_eq!((multiplier.m0, multiplier.shift), (1_319_413_953, 11));
        assert!((multiplier.factor() - 0.0003).abs() < 1e-13);
        assert_eq!(
            Multiplier::new(0.5).unwrap(),
            Multiplier {
                m0: 1 << 30,
                shift: 0
            }
        );
        assert_eq!(
            Multiplier::new(1.0).unwrap(),
            Multiplier {
                m0: 1 << 30,
                shift: -1
            }
        );
        assert_eq!(Multiplier::new(1.0).unwrap().apply(-77), -77);
        let below_one = 1.0 - f64::EPSILON / 2.0;
        assert_eq!(
            Multiplier::new(below_one).unwrap(),
            Multiplier::new(1.0).unwrap()
        );
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e10] {
            assert!(Multiplier::new(factor).is_err(), "{factor}");
        }
    }

    /// Numbers where something may go wrong: the ends, powers of two and their neighbors.
    fn edges() -> Vec<i32> {
        let powers = (0..31).flat_map(|n| [-1, 0, 1].map(|d| (1_i64 << n) + d));
        let all = powers.flat_map(|v| [v, -v]).chain([
            i64::from(i32::MIN),
            i64::from(i32::MIN) + 1,
            i64::from(i32::MAX),
        ]);
        all.filter_map(|v| i32::try_from(v).ok()).collect()
    }

    /// floor(x / 2^32 + 1/2), in 128 bits.
    fn exact_product(a: i32, b: i32) -> i32 {
        let doubled = 2 * i128::from(a) * i128::from(b) + (1_i128 << 31);
        (doubled >> 32).clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as i32
    }

    /// sign(x) floor(|x| / 2^n + 1/2), in 128 bits.
    fn exact_shift(x: i32, n: u32) -> i32 {
        let half = if n == 0 { 0 } else { 1_i128 << (n - 1) };
        let size = (i128::from(x).abs() + half) >> n;
        (size * i128::from(x.signum())) as i32
    }

    #[test]
    fn edges_are_exact() {
        for a in edges() {
            for b in edges() {
                let found = saturating_rounding_doubling_high_mul(a, b);
                assert_eq!(found, exact_product(a, b), "{a} {b}");
            }
            for n in 0..=40 {
                let expected = if n > 31 { 0 } else { exact_shift(a, n) };
                assert_eq!(rounding_right_shift(a, n), expected, "{a} >> {n}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn products_and_shifts_are_exact(a: i32, b: i32, n in 0_u32..32) {
            prop_assert_eq!(saturating_rounding_doubling_high_mul(a, b), exact_product(a, b));
            prop_assert_eq!(rounding_right_shift(a, n), exact_shift(a, n));
        }

        /// Two roundings are at most 1 apart from the exact product, rounded once.
        #[test]
        fn a_sum_is_within_one_of_the_exact_product(sum in -(1 << 24)..1 << 24, log in -20.0..0.0_f64) {
            let factor = log.exp2();
            let found = Multiplier::new(factor).unwrap().apply(sum);
            let exact = f64::from(sum) * factor;
            prop_assert!((f64::from(found) - exact).abs() <= 1.0, "{} {}", found, exact);
        }
    }
}
