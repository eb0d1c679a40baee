//! `exp` and what is made of it, without a branch, so that loops over them become vector code.

use crate::simd::ROUNDER;

/// ln 2 in two parts. The first has nine bits, so that its product with an exponent is exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = (std::f64::consts::LN_2 - 355.0 / 512.0) as f32;

/// `n` and `e^r - 1` where `x = n ln 2 + r` and `|r|` is at most half of ln 2. The power series
/// ends where the rest is below a tenth of the last bit. For `|x|` up to some thousands.
#[inline(always)]
fn reduced(x: f32) -> (i32, f32) {
    // The nearest integer is in the low bits too.
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 24.0 + r * (1.0 / 120.0 + r * series);
    let series = 0.5 + r * (1.0 / 6.0 + r * series);
    ((shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32), r + r * r * series)
}

/// `2^n`, for `n` from -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `low..=high` of a number; NaN remains.
#[inline(always)]
fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high {
        high
    } else {
        x
    }
}

/// `e^x`, less than 1.25 units in the last place away: 0 and infinity where it leaves the range of
/// f32, subnormal in between, NaN of NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let (n, p) = reduced(within(x, -104.0, 89.0));
    // Twice half of the exponent: 2^128 and 2^-150 are no floats.
    let half = n >> 1;
    (1.0 + p) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent, with all its bits near zero too: `t / (t + 2)` of `t = e^2|x| - 1`.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // From 10 on the result is 1.
    let (n, p) = reduced(within(2.0 * x.abs(), 0.0, 40.0));
    let scale = power_of_two(n);
    let t = scale * p + (scale - 1.0);
    (t / (t + 2.0)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of the f32 nearest to `expected`.
    fn units(found: f32, expected: f64) -> f64 {
        let nearest = expected as f32;
        let unit =
            f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
        (f64::from(found) - expected).abs() / unit
    }

    /// Floats of both signs from the smallest to the largest, the mantissas well mixed.
    fn sweep(largest: f32) -> impl Iterator<Item = f32> {
        (0..=largest.to_bits()).step_by(997).flat_map(|bits| {
            let x = f32::from_bits(bits);
            [x, -x]
        })
    }

    fn worst(largest: f32, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> (f64, f32) {
        sweep(largest).fold((0.0, 0.0), |worst, x| {
            let units = units(f(x), exact(x.into()));
            if units > worst.0 {
                (units, x)
            } else {
                worst
            }
        })
    }

    #[test]
    fn every_exponential_is_near() {
        let (units, x) = worst(88.72, exp, f64::exp);
        assert!(units < 1.25, "exp({x}): {units} units");
    }

    #[test]
    fn subnormals_and_limits_of_exponentials() {
        for i in 0..2000 {
            let x = -87.0 - i as f32 * 0.01;
            let smallest = f64::from(f32::from_bits(1));
            let error = f64::from(exp(x)) - f64::from(x).exp();
            assert!(error.abs() <= smallest.max(2e-7 * f64::from(x).exp()), "exp({x}): {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        for large in [89.0, 1e10, f32::MAX, f32::INFINITY] {
            assert_eq!(exp(large), f32::INFINITY);
            assert_eq!(exp(-large * 1.2), 0.0);
        }
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
    }

    #[test]
    fn sigmoids_and_tangents() {
        let (units, x) = worst(87.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
        assert!(units < 3.0, "sigmoid({x}): {units} units");
        let (units, x) = worst(f32::MAX, tanh, f64::tanh);
        assert!(units < 3.0, "tanh({x}): {units} units");
        assert_eq!([f32::INFINITY, f32::NEG_INFINITY].map(sigmoid), [1.0, 0.0]);
        assert_eq!([f32::INFINITY, f32::NEG_INFINITY].map(tanh), [1.0, -1.0]);
        assert_eq!(tanh(-0.0).to_bits(), (-0f32).to_bits());
        assert!(sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }
}
