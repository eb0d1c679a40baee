//! Scale of a sub-block without a minimum: `x` is near `scale * level`, levels `-n_max` to
//! `n_max - 1`. The element of largest magnitude (the first of them) gets level `-n_max` in the
//! first guess, whatever its sign. One sub-block per lane; a lane does the operations of a scalar
//! search in the same order.

use super::lanes::{Lanes, Tile};

/// A sub-block whose largest magnitude is below this counts as all zero.
pub const TINY: f32 = 1e-15;

/// Step multiples tried around the first guess, in tenths of a level; zero is the guess itself.
pub const TRIALS: std::ops::RangeInclusive<i32> = -9..=9;

/// Outcome of a search, one sub-block per lane.
#[derive(Clone, Copy)]
pub struct Signed<const W: usize> {
    /// Scale; zero for an all-zero sub-block.
    pub scale: Lanes<W>,
    /// Sum of the weights.
    pub sum_w: Lanes<W>,
    /// The levels are those of `level_scale * x`; zero for an all-zero sub-block.
    pub level_scale: Lanes<W>,
}

/// Tries 19 steps and keeps the one whose least-squares scale leaves the smallest weighted error.
#[inline(always)]
pub fn search<const N_MAX: i32, const W: usize, const N: usize>(
    x: &Tile<W, N>,
    w: &Tile<W, N>,
) -> Signed<W> {
    let extreme = extreme(x);
    let wx = products(w, x);
    let steps = Lanes::splat(-(N_MAX as f32)) / extreme;
    let sums = sum_levels::<N_MAX, W, N>(x, w, &wx, steps);
    // Without any weight the scale is zero.
    let mut scale = sums.xl.zip(sums.ll, |xl, ll| if ll != 0.0 { xl / ll } else { 0.0 });
    let mut best = scale * sums.xl;
    let mut level_scale = steps;
    for trial in TRIALS.filter(|&trial| trial != 0) {
        let steps = Lanes::splat(-(N_MAX as f32 + 0.1 * trial as f32)) / extreme;
        let Sums { xl, ll } = sum_levels::<N_MAX, W, N>(x, w, &wx, steps);
        // Better only if `ll` is positive too; NaN compares as not better.
        let gain = Lanes::if_less(Lanes::zero(), ll, xl * xl, Lanes::splat(f32::NEG_INFINITY));
        let bar = best * ll;
        let keep = |new, old| Lanes::if_less(bar, gain, new, old);
        let fitted = xl / ll;
        level_scale = keep(steps, level_scale);
        best = keep(fitted * xl, best);
        scale = keep(fitted, scale);
    }
    let alive = |found| Lanes::if_less(extreme.abs(), Lanes::splat(TINY), Lanes::zero(), found);
    Signed { scale: alive(scale), sum_w: total(w), level_scale: alive(level_scale) }
}

/// Level of `x` (before the offset of the stored form) in the trial that won.
#[inline(always)]
pub fn level<const N_MAX: i32>(x: f32, level_scale: f32) -> i32 {
    super::lanes::nearest_int(level_scale * x).clamp(-N_MAX, N_MAX - 1)
}

/// The value of largest magnitude in each lane, the first of equals, zero if all are.
#[inline(always)]
pub fn extreme<const W: usize, const N: usize>(x: &Tile<W, N>) -> Lanes<W> {
    let mut extreme = Lanes::zero();
    let mut magnitude = Lanes::zero();
    for &value in x {
        let new = value.abs();
        extreme = Lanes::if_less(magnitude, new, value, extreme);
        magnitude = new.max(magnitude);
    }
    extreme
}

/// Lane by lane products of two tiles.
#[inline(always)]
pub fn products<const W: usize, const N: usize>(a: &Tile<W, N>, b: &Tile<W, N>) -> Tile<W, N> {
    let mut out = [Lanes::zero(); N];
    for i in 0..N {
        out[i] = a[i] * b[i];
    }
    out
}

#[inline(always)]
fn total<const W: usize, const N: usize>(w: &Tile<W, N>) -> Lanes<W> {
    let mut sum = Lanes::zero();
    for &value in w {
        sum = sum + value;
    }
    sum
}

/// Weighted sums of `x * level` and `level * level`.
struct Sums<const W: usize> {
    xl: Lanes<W>,
    ll: Lanes<W>,
}

#[inline(always)]
fn sum_levels<const N_MAX: i32, const W: usize, const N: usize>(
    x: &Tile<W, N>,
    w: &Tile<W, N>,
    wx: &Tile<W, N>,
    steps: Lanes<W>,
) -> Sums<W> {
    let mut sums = Sums { xl: Lanes::zero(), ll: Lanes::zero() };
    for i in 0..N {
        // |steps * x| is at most a little over N_MAX, so rounding is exact.
        let level = (steps * x[i]).round_clamped(-N_MAX as f32, (N_MAX - 1) as f32);
        sums.xl = sums.xl + wx[i] * level;
        sums.ll = sums.ll + w[i] * level * level;
    }
    sums
}
