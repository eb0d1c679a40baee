//! `W` floats side by side, one block or one trial in each; every operation is done lane by lane.
//!
//! Each operation is its own small loop over an array, which the compiler turns into registers of
//! whatever width the instruction set in force has.

use std::ops::{Add, Div, Mul, Sub};

/// Added to and subtracted from a float of magnitude below 2^22, it rounds to the nearest integer,
/// ties to even: 1.5 * 2^23, where the unit in the last place is one.
const ROUNDER: f32 = 12_582_912.0;

/// Below this magnitude [`Lanes::round`] and [`nearest_int`] agree: 2^22.
pub const ROUND_LIMIT: f32 = 4_194_304.0;

/// `W` floats, an operation on each.
#[derive(Clone, Copy)]
pub struct Lanes<const W: usize>(pub [f32; W]);

impl<const W: usize> Lanes<W> {
    /// The same value in all lanes.
    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self([value; W])
    }

    /// Zero in all lanes.
    #[inline(always)]
    pub fn zero() -> Self {
        Self::splat(0.0)
    }

    /// The first `W` values of `values`.
    #[inline(always)]
    pub fn load(values: &[f32]) -> Self {
        let mut lanes = [0.0; W];
        lanes.copy_from_slice(&values[..W]);
        Self(lanes)
    }

    /// `f` of each lane.
    #[inline(always)]
    pub fn map(self, f: impl Fn(f32) -> f32) -> Self {
        let mut out = [0.0; W];
        for t in 0..W {
            out[t] = f(self.0[t]);
        }
        Self(out)
    }

    /// `f` of each pair of lanes.
    #[inline(always)]
    pub fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = [0.0; W];
        for t in 0..W {
            out[t] = f(self.0[t], other.0[t]);
        }
        Self(out)
    }

    /// The lane of `self` where it is the smaller one, else that of `other` (also if either is
    /// NaN).
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    /// The lane of `self` where it is the larger one, else that of `other` (also if either is
    /// NaN).
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// Magnitudes.
    #[inline(always)]
    pub fn abs(self) -> Self {
        self.map(f32::abs)
    }

    /// Square roots.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }

    /// Clamps to `low..=high`, then rounds to the nearest integer, ties to even. NaN becomes
    /// `low`. The bounds are integers, so this is also rounding first and clamping then.
    #[inline(always)]
    pub fn round_clamped(self, low: f32, high: f32) -> Self {
        let clamped = self.max(Self::splat(low)).min(Self::splat(high));
        clamped + Self::splat(ROUNDER) - Self::splat(ROUNDER)
    }

    /// [`nearest_int`], then clamped to `low..=high`.
    #[inline(always)]
    pub fn nearest_int_clamped(self, low: i32, high: i32) -> Self {
        self.map(|v| nearest_int(v).max(low).min(high) as f32)
    }

    /// In each lane `yes` if `a < b`, else `no`.
    #[inline(always)]
    pub fn if_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let mut out = [0.0; W];
        for t in 0..W {
            out[t] = if a.0[t] < b.0[t] { yes.0[t] } else { no.0[t] };
        }
        Self(out)
    }

    /// True if every lane is below `limit` in magnitude; false if one is NaN.
    #[inline(always)]
    pub fn all_within(self, limit: f32) -> bool {
        let mut within = true;
        for t in 0..W {
            within &= self.0[t].abs() < limit;
        }
        within
    }
}

/// Rounds to the nearest integer, ties to even, by reading the low bits of a float near 1.5 * 2^23.
/// Where the magnitude is 2^22 or more the answer is not the nearest integer but is defined all the
/// same, and quantized files depend on it.
#[inline(always)]
pub fn nearest_int(value: f32) -> i32 {
    ((value + ROUNDER).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

macro_rules! lane_by_lane {
    ($($trait:ident $method:ident $op:tt),*) => {$(
        impl<const W: usize> $trait for Lanes<W> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $op b)
            }
        }
    )*};
}

lane_by_lane!(Add add +, Sub sub -, Mul mul *, Div div /);

/// `N` elements of each of `W` sub-blocks: element `i` of sub-block `t` is `tile[i].0[t]`.
pub type Tile<const W: usize, const N: usize> = [Lanes<W>; N];

/// The tile of `W` consecutive sub-blocks of `N` values.
#[inline(always)]
pub fn transpose<const W: usize, const N: usize>(values: &[f32]) -> Tile<W, N> {
    let values = &values[..W * N];
    let mut tile = [Lanes::zero(); N];
    for t in 0..W {
        for i in 0..N {
            tile[i].0[t] = values[t * N + i];
        }
    }
    tile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_int_breaks_ties_to_even_and_is_defined_everywhere() {
        let table = [
            (0.5, 0),
            (1.5, 2),
            (-0.5, 0),
            (-2.5, -2),
            (4_194_303.0, 4_194_303),
            (4_194_304.0, -4_194_304),
            (f32::INFINITY, -4_194_304),
            (f32::NEG_INFINITY, -4_194_304),
            (f32::NAN, 0),
        ];
        for (value, expected) in table {
            assert_eq!(nearest_int(value), expected, "{value}");
        }
    }

    #[test]
    fn both_roundings_agree_below_the_limit() {
        for i in -1000..1000 {
            let v = i as f32 * 0.037;
            let lanes = Lanes([v; 4]);
            assert_eq!(lanes.round_clamped(-9.0, 8.0).0, lanes.nearest_int_clamped(-9, 8).0);
        }
        assert_eq!(Lanes([f32::NAN; 2]).round_clamped(0.0, 3.0).0, [0.0; 2]);
    }

    #[test]
    fn a_tile_has_one_sub_block_per_lane() {
        let values: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let tile = transpose::<2, 4>(&values);
        assert_eq!(tile[1].0, [1.0, 5.0]);
        assert!(tile[3].all_within(7.5) && !tile[3].all_within(7.0));
    }
}
