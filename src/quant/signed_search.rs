//! Scale of a sub-block without a minimum: `x` is near `scale * level`, levels `-n_max` to
//! `n_max - 1`. The element of largest magnitude (the first of them) gets level `-n_max` in the
//! first guess, whatever its sign. One sub-block per lane; a lane does the operations of a scalar
//! search in the same order.

use super::tile::{products, Tile};
use crate::simd::{nearest_int, Lanes};

/// A sub-block whose largest magnitude is below this counts as all zero.
pub const TINY: f32 = 1e-15;

/// Step multiples tried around the first guess, in tenths of a level; zero is the guess itself.
pub const TRIALS: std::ops::RangeInclusive<i32> = -9..=9;

/// Outcome of a search, one sub-block per lane.
#[derive(Clone, Copy)]
pub struct Signed<L: Lanes> {
    /// Scale; zero for an all-zero sub-block.
    pub scale: L,
    /// Sum of the weights.
    pub sum_w: L,
    /// The levels are those of `level_scale * x`; zero for an all-zero sub-block.
    pub level_scale: L,
}

/// Tries 19 steps and keeps the one whose least-squares scale leaves the smallest weighted error.
#[inline(always)]
pub fn search<const N_MAX: i32, L: Lanes, const N: usize>(
    x: &Tile<L, N>,
    w: &Tile<L, N>,
) -> Signed<L> {
    let extreme = extreme(x);
    let wx = products(w, x);
    let steps = L::splat(-(N_MAX as f32)) / extreme;
    let sums = sum_levels::<N_MAX, L, N>(x, w, &wx, steps);
    // Without any weight the scale is zero.
    let mut scale = ratio_or_zero(sums.xl, sums.ll);
    let mut best = scale * sums.xl;
    let mut level_scale = steps;
    for trial in TRIALS.filter(|&trial| trial != 0) {
        let steps = L::splat(-(N_MAX as f32 + 0.1 * trial as f32)) / extreme;
        let Sums { xl, ll } = sum_levels::<N_MAX, L, N>(x, w, &wx, steps);
        let better = L::and(L::zero().less(ll), (best * ll).less(xl * xl));
        let fitted = xl / ll;
        level_scale = L::select(better, steps, level_scale);
        best = L::select(better, fitted * xl, best);
        scale = L::select(better, fitted, scale);
    }
    let scale = zero_if_tiny(extreme, scale);
    Signed { scale, sum_w: total(w), level_scale: zero_if_tiny(extreme, level_scale) }
}

/// Level of `x` (before the offset of the stored form) in the trial that won.
#[inline(always)]
pub fn level<const N_MAX: i32>(x: f32, level_scale: f32) -> i32 {
    nearest_int(level_scale * x).clamp(-N_MAX, N_MAX - 1)
}

/// The value of largest magnitude in each lane, the first of equals, zero if all are.
#[inline(always)]
pub fn extreme<L: Lanes, const N: usize>(x: &Tile<L, N>) -> L {
    let mut extreme = L::zero();
    let mut magnitude = L::zero();
    for &value in x {
        let new = value.abs();
        extreme = L::select(magnitude.less(new), value, extreme);
        magnitude = new.max(magnitude);
    }
    extreme
}

/// `a / b`, zero where `b` is.
#[inline(always)]
pub fn ratio_or_zero<L: Lanes>(a: L, b: L) -> L {
    L::select(b.differs(L::zero()), a / b, L::zero())
}

/// `value`, but zero for a sub-block that counts as all zero by its extreme.
#[inline(always)]
pub fn zero_if_tiny<L: Lanes>(extreme: L, value: L) -> L {
    L::select(extreme.abs().less(L::splat(TINY)), L::zero(), value)
}

#[inline(always)]
fn total<L: Lanes, const N: usize>(w: &Tile<L, N>) -> L {
    let mut sum = L::zero();
    for &value in w {
        sum = sum + value;
    }
    sum
}

/// Weighted sums of `x * level` and `level * level`.
struct Sums<L: Lanes> {
    xl: L,
    ll: L,
}

#[inline(always)]
fn sum_levels<const N_MAX: i32, L: Lanes, const N: usize>(
    x: &Tile<L, N>,
    w: &Tile<L, N>,
    wx: &Tile<L, N>,
    steps: L,
) -> Sums<L> {
    let mut sums = Sums { xl: L::zero(), ll: L::zero() };
    for i in 0..N {
        // |steps * x| is at most a little over N_MAX, so rounding is exact.
        let level = (steps * x[i]).round_clamped(-N_MAX as f32, (N_MAX - 1) as f32);
        sums.xl = sums.xl + wx[i] * level;
        sums.ll = sums.ll + w[i] * level * level;
    }
    sums
}
