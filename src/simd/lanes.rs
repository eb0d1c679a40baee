//! Floats side by side, one block or one trial in each; every operation is done lane by lane.

// Loops run over the same index of several arrays.
#![allow(clippy::needless_range_loop)]

use std::ops::{Add, Div, Mul, Sub};

use super::registers::Register;

/// Added to and subtracted from a float of magnitude below 2^22, it rounds to the nearest integer,
/// ties to even: 1.5 * 2^23, where the unit in the last place is one.
pub const ROUNDER: f32 = 12_582_912.0;

/// Below this magnitude [`Lanes::round_clamped`] and [`nearest_int`] agree: 2^22.
pub const ROUND_LIMIT: f32 = 4_194_304.0;

/// Rounds to the nearest integer, ties to even, by reading the low bits of a float near 1.5 * 2^23.
/// Where the magnitude is 2^22 or more the answer is not the nearest integer but is defined all the
/// same, and quantized files depend on it.
#[inline(always)]
pub fn nearest_int(value: f32) -> i32 {
    ((value + ROUNDER).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// `LANES` floats, an operation on each; divisions and roots are correctly rounded. Only [`dispatch`](super::dispatch) names the types that
/// implement it, so a value exists only where the processor has its instructions.
pub trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// A truth value for each lane.
    type Mask: Copy;

    /// How many.
    const LANES: usize;

    /// The same value in all lanes.
    fn splat(value: f32) -> Self;

    /// The first `LANES` values of `values`. Panics if there are fewer.
    fn load(values: &[f32]) -> Self;

    /// The first four columns of `LANES` rows, one row per lane; row `t` starts at
    /// `rows[t * stride]`. Panics if the last one does not have four values.
    fn columns(rows: &[f32], stride: usize) -> [Self; 4];

    /// Writes the lanes to the start of `out`. Panics if it is shorter.
    fn store(self, out: &mut [f32]);

    /// Square roots.
    fn sqrt(self) -> Self;

    /// Magnitudes.
    fn abs(self) -> Self;

    /// `self` where it is the smaller one, else `other` (also if either is NaN).
    fn min(self, other: Self) -> Self;

    /// `self` where it is the larger one, else `other` (also if either is NaN).
    fn max(self, other: Self) -> Self;

    /// Where `self < other`.
    fn less(self, other: Self) -> Self::Mask;

    /// Where `self` and `other` differ; NaN differs from everything.
    fn differs(self, other: Self) -> Self::Mask;

    /// Where both masks are true.
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;

    /// True if `mask` is true in every lane.
    fn all(mask: Self::Mask) -> bool;

    /// `yes` where `mask` is true, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    /// Writes the lanes, whole numbers from -128 to 127 but for a fraction that is cut off, as a
    /// byte each to the start of `out`. Panics if it is shorter.
    fn store_bytes(self, out: &mut [u8]);

    /// [`nearest_int`] as a float.
    fn nearest_int(self) -> Self;

    /// Zero in all lanes.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// Clamps to `low..=high`, then rounds to the nearest integer, ties to even. NaN becomes
    /// `low`. The bounds are integers, so this is also rounding first and clamping then.
    #[inline(always)]
    fn round_clamped(self, low: f32, high: f32) -> Self {
        let clamped = self.max(Self::splat(low)).min(Self::splat(high));
        clamped + Self::splat(ROUNDER) - Self::splat(ROUNDER)
    }

    /// [`nearest_int`], then clamped to `low..=high`.
    #[inline(always)]
    fn nearest_int_clamped(self, low: f32, high: f32) -> Self {
        self.nearest_int().max(Self::splat(low)).min(Self::splat(high))
    }
}

/// `K` registers side by side.
#[derive(Clone, Copy)]
pub(super) struct Registers<R, const K: usize>([R; K]);

impl<R: Register, const K: usize> Registers<R, K> {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(R, R) -> R) -> Self {
        let mut out = self;
        for k in 0..K {
            out.0[k] = f(self.0[k], other.0[k]);
        }
        out
    }

    #[inline(always)]
    fn map(self, f: impl Fn(R) -> R) -> Self {
        let mut out = self;
        for k in 0..K {
            out.0[k] = f(self.0[k]);
        }
        out
    }
}

macro_rules! register_by_register {
    (two: $($two:ident)*, one: $($one:ident)*) => {
        $(#[inline(always)]
        fn $two(self, other: Self) -> Self {
            self.zip(other, R::$two)
        })*
        $(#[inline(always)]
        fn $one(self) -> Self {
            self.map(R::$one)
        })*
    };
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl<R: Register, const K: usize> $trait for Registers<R, K> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, R::$method)
            }
        }
    )*};
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl<R: Register, const K: usize> Lanes for Registers<R, K> {
    type Mask = [R::Mask; K];

    const LANES: usize = K * R::LANES;

    register_by_register!(two: min max, one: sqrt abs nearest_int);

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([R::splat(value); K])
    }

    #[inline(always)]
    fn load(values: &[f32]) -> Self {
        let values = &values[..Self::LANES];
        let mut out = Self::zero();
        for k in 0..K {
            out.0[k] = R::load(&values[k * R::LANES..(k + 1) * R::LANES]);
        }
        out
    }

    #[inline(always)]
    fn columns(rows: &[f32], stride: usize) -> [Self; 4] {
        let mut out = [Self::zero(); 4];
        for k in 0..K {
            let columns = R::columns(&rows[k * R::LANES * stride..], stride);
            for c in 0..4 {
                out[c].0[k] = columns[c];
            }
        }
        out
    }

    #[inline(always)]
    fn store(self, out: &mut [f32]) {
        let out = &mut out[..Self::LANES];
        for k in 0..K {
            self.0[k].store(&mut out[k * R::LANES..(k + 1) * R::LANES]);
        }
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        let out = &mut out[..Self::LANES];
        for k in 0..K {
            self.0[k].store_bytes(&mut out[k * R::LANES..(k + 1) * R::LANES]);
        }
    }

    #[inline(always)]
    fn less(self, other: Self) -> [R::Mask; K] {
        let mut mask = [self.0[0].less(other.0[0]); K];
        for k in 1..K {
            mask[k] = self.0[k].less(other.0[k]);
        }
        mask
    }

    #[inline(always)]
    fn differs(self, other: Self) -> [R::Mask; K] {
        let mut mask = [self.0[0].differs(other.0[0]); K];
        for k in 1..K {
            mask[k] = self.0[k].differs(other.0[k]);
        }
        mask
    }

    #[inline(always)]
    fn and(a: [R::Mask; K], b: [R::Mask; K]) -> [R::Mask; K] {
        let mut mask = a;
        for k in 0..K {
            mask[k] = R::and(a[k], b[k]);
        }
        mask
    }

    #[inline(always)]
    fn all(mask: [R::Mask; K]) -> bool {
        let mut all = true;
        for mask in mask {
            all &= R::all(mask);
        }
        all
    }

    #[inline(always)]
    fn select(mask: [R::Mask; K], yes: Self, no: Self) -> Self {
        let mut out = no;
        for k in 0..K {
            out.0[k] = R::select(mask[k], yes.0[k], no.0[k]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::{dispatch, InstructionSet, Kernel};
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

    /// Every operation against its scalar form, bit by bit, on awkward values.
    struct Compare;

    impl Kernel for Compare {
        #[inline(always)]
        fn run<L: Lanes, Wide: Lanes>(self) {
            compare::<L>();
            compare::<Wide>();
            columns::<L>();
            columns::<Wide>();
            bytes::<L>();
            bytes::<Wide>();
        }
    }

    const AWKWARD: [f32; 20] = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        0.5,
        2.5,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-40,
        4_194_304.0,
        -4_194_305.0,
        12_345_678.0,
        3.999_999_8,
        -7.3,
        1e20,
    ];

    fn compare<L: Lanes>() {
        for shift in 0..AWKWARD.len() {
            let a: Vec<f32> = (0..L::LANES).map(|t| AWKWARD[t % 20]).collect();
            let b: Vec<f32> = (0..L::LANES).map(|t| AWKWARD[(t + shift) % 20]).collect();
            let (x, y) = (L::load(&a), L::load(&b));
            check2(x + y, &a, &b, |a, b| a + b);
            check2(x - y, &a, &b, |a, b| a - b);
            check2(x * y, &a, &b, |a, b| a * b);
            check2(x / y, &a, &b, |a, b| a / b);
            check2(x.min(y), &a, &b, |a, b| if a < b { a } else { b });
            check2(x.max(y), &a, &b, |a, b| if a > b { a } else { b });
            check2(x.abs(), &a, &b, |a, _| a.abs());
            check2(x.sqrt(), &a, &b, |a, _| a.sqrt());
            check2(x.nearest_int(), &a, &b, |a, _| nearest_int(a) as f32);
            let seven = L::splat(7.0);
            check2(L::select(x.less(y), x, seven), &a, &b, |a, b| if a < b { a } else { 7.0 });
            check2(L::select(x.differs(y), x, seven), &a, &b, |a, b| if a != b { a } else { 7.0 });
            let both = L::and(x.less(y), x.less(seven));
            check2(
                L::select(both, x, seven),
                &a,
                &b,
                |a, b| if a < b && a < 7.0 { a } else { 7.0 },
            );
            check2(x.nearest_int_clamped(-4.0, 3.0), &a, &b, |a, _| {
                nearest_int(a).clamp(-4, 3) as f32
            });
            if shift == 0 {
                check2(x.round_clamped(-4.0, 3.0), &a, &b, |a, _| {
                    let low = if a > -4.0 { a } else { -4.0 };
                    nearest_int(if low < 3.0 { low } else { 3.0 }) as f32
                });
            }
            let all = a.iter().zip(&b).all(|(a, b)| a < b);
            assert_eq!(L::all(x.less(y)), all);
        }
        assert!(L::all(L::splat(1.0).less(L::splat(2.0))));
    }

    fn columns<L: Lanes>() {
        let rows: Vec<f32> = (0..L::LANES * 5 - 1).map(|i| i as f32).collect();
        for (c, column) in L::columns(&rows, 5).into_iter().enumerate() {
            let mut out = vec![0.0; L::LANES];
            column.store(&mut out);
            for (t, value) in out.into_iter().enumerate() {
                assert_eq!(value, (t * 5 + c) as f32);
            }
        }
    }

    fn bytes<L: Lanes>() {
        for start in -128..=127 - L::LANES as i32 {
            let values: Vec<f32> = (0..L::LANES).map(|t| (start + t as i32) as f32).collect();
            let mut out = vec![0; L::LANES];
            L::load(&values).store_bytes(&mut out);
            for t in 0..L::LANES {
                assert_eq!(out[t] as i8 as f32, values[t]);
            }
        }
        let mut out = [0; 32];
        L::splat(-2.75).store_bytes(&mut out);
        assert_eq!(out[0] as i8, -2);
    }

    fn check2<L: Lanes>(found: L, a: &[f32], b: &[f32], expected: impl Fn(f32, f32) -> f32) {
        let mut out = vec![0.0; L::LANES];
        found.store(&mut out);
        for t in 0..L::LANES {
            let expected = expected(a[t], b[t]);
            assert!(
                out[t].to_bits() == expected.to_bits() || (out[t].is_nan() && expected.is_nan()),
                "{} and {}: {} is not {expected}",
                a[t],
                b[t],
                out[t]
            );
        }
    }

    #[test]
    fn lanes_do_what_scalars_do() {
        for set in InstructionSet::available() {
            dispatch(set, Compare);
        }
    }
}
