//! Scale and minimum of a sub-block: `x` is near `scale * level + min`, levels 0 to `n_max`,
//! `min` at most zero.
//!
//! The levels of a first guess and of `n_steps + 1` trials, each with another step between
//! minimum and maximum, are fitted by weighted least squares; the trial with the smallest weighted
//! error wins. Each trial starts from the minimum of the best one before it. One sub-block per
//! lane; a lane does the operations of a scalar search in the same order.

use super::tile::Tile;
use crate::simd::{nearest_int, Lanes, ROUND_LIMIT};

/// What a type of affine blocks sets about the search.
pub trait AffineSearch {
    /// Highest level.
    const N_MAX: i32;
    /// The first trial uses `N_MAX + FIRST` steps over the range,
    const FIRST: f32;
    /// each further one so many more.
    const DELTA: f32;
    /// Trials after the first of them.
    const N_STEPS: i32;
    /// The error of an element is its absolute value, not its square.
    const ABSOLUTE: bool;
    /// A level is rounded after it is clamped, which is safe for any trial; otherwise it is
    /// rounded as [`nearest_int`] does, whatever that gives beyond 2^22.
    const CLAMP_FIRST: bool;
}

/// The search with an importance matrix, the same for all types but for the highest level.
pub struct WithImportance<const N_MAX: i32>;

impl<const N_MAX: i32> AffineSearch for WithImportance<N_MAX> {
    const N_MAX: i32 = N_MAX;
    const FIRST: f32 = -0.9;
    const DELTA: f32 = 0.05;
    const N_STEPS: i32 = 36;
    const ABSOLUTE: bool = false;
    const CLAMP_FIRST: bool = true;
}

/// Outcome of the search, one sub-block per lane.
#[derive(Clone, Copy)]
pub struct Affine<L: Lanes> {
    /// Scale; zero for a sub-block whose elements are all equal and not positive.
    pub scale: L,
    /// Minimum, zero or below.
    pub min: L,
    /// Sum of the weights.
    pub sum_w: L,
    /// The levels are those of `level_scale * (x - level_min)`.
    pub level_scale: L,
    /// See `level_scale`.
    pub level_min: L,
}

/// Level of `x` in the trial that won, for `level_scale` and `level_min` of its sub-block.
#[inline(always)]
pub fn level<S: AffineSearch>(x: f32, level_scale: f32, level_min: f32) -> u8 {
    let v = level_scale * (x - level_min);
    let level = match S::CLAMP_FIRST {
        true if v > 0.0 => nearest_int(if v < S::N_MAX as f32 { v } else { S::N_MAX as f32 }),
        true => 0,
        false => nearest_int(v).clamp(0, S::N_MAX),
    };
    level as u8
}

/// Finds scale and minimum for `x` with weights `w`.
#[inline(always)]
pub fn search<S: AffineSearch, L: Lanes, const N: usize>(
    x: &Tile<L, N>,
    w: &Tile<L, N>,
) -> Affine<L> {
    let range = Range::of(x, w);
    // In this order a minimum of minus zero stays one.
    let first_min = L::zero().min(range.min);
    let steps = L::splat(S::N_MAX as f32) / (range.max - first_min);
    let mut best = Best::<L> {
        error: L::zero(),
        scale: L::splat(1.0) / steps,
        min: first_min,
        // Infinite steps (a range below 2^-126 or so) give level 0 everywhere.
        level_scale: L::select(steps.less(L::splat(f32::INFINITY)), steps, L::zero()),
        level_min: first_min,
    };
    best.error = first_error::<S, L, N>(x, w, steps, &best);
    let mut levels = *x;
    for step in 0..=S::N_STEPS {
        let n_steps = S::FIRST + S::DELTA * step as f32 + S::N_MAX as f32;
        let steps = L::splat(n_steps) / (range.max - best.min);
        try_steps::<S, L, N>(x, w, &range, steps, &mut levels, &mut best);
    }
    best.into_affine(&range, first_min)
}

/// Extremes and weighted sums of a sub-block.
struct Range<L: Lanes> {
    min: L,
    max: L,
    sum_w: L,
    sum_x: L,
}

impl<L: Lanes> Range<L> {
    #[inline(always)]
    fn of<const N: usize>(x: &Tile<L, N>, w: &Tile<L, N>) -> Self {
        let mut range = Self { min: x[0], max: x[0], sum_w: w[0], sum_x: w[0] * x[0] };
        for i in 1..N {
            range.min = x[i].min(range.min);
            range.max = x[i].max(range.max);
            range.sum_w = range.sum_w + w[i];
            range.sum_x = range.sum_x + w[i] * x[i];
        }
        range
    }
}

/// The best fit so far.
struct Best<L: Lanes> {
    error: L,
    scale: L,
    min: L,
    level_scale: L,
    level_min: L,
}

impl<L: Lanes> Best<L> {
    #[inline(always)]
    fn into_affine(self, range: &Range<L>, first_min: L) -> Affine<L> {
        // Where maximum and minimum are equal there was nothing to search.
        let spread = first_min.less(range.max);
        Affine {
            scale: L::select(spread, self.scale, L::zero()),
            min: L::select(spread, self.min, first_min),
            sum_w: range.sum_w,
            level_scale: L::select(spread, self.level_scale, L::zero()),
            level_min: L::select(spread, self.level_min, L::zero()),
        }
    }
}

#[inline(always)]
fn first_error<S: AffineSearch, L: Lanes, const N: usize>(
    x: &Tile<L, N>,
    w: &Tile<L, N>,
    steps: L,
    best: &Best<L>,
) -> L {
    let mut error = L::zero();
    for i in 0..N {
        let level = (steps * (x[i] - best.min)).nearest_int_clamped(0.0, S::N_MAX as f32);
        error = error + w[i] * loss::<S, L>(best.scale * level + best.min - x[i]);
    }
    error
}

#[inline(always)]
fn try_steps<S: AffineSearch, L: Lanes, const N: usize>(
    x: &Tile<L, N>,
    w: &Tile<L, N>,
    range: &Range<L>,
    steps: L,
    levels: &mut Tile<L, N>,
    best: &mut Best<L>,
) {
    let sums = if S::CLAMP_FIRST || within_limit(range, steps, best.min) {
        sum_levels::<S, L, N, true>(x, w, steps, best.min, levels)
    } else {
        sum_levels::<S, L, N, false>(x, w, steps, best.min, levels)
    };
    let (scale, min, determinant) = sums.fit(range);
    let mut error = L::zero();
    for i in 0..N {
        error = error + w[i] * loss::<S, L>(scale * levels[i] + min - x[i]);
    }
    let better = L::and(L::zero().less(determinant), error.less(best.error));
    *best = Best {
        scale: L::select(better, scale, best.scale),
        level_scale: L::select(better, steps, best.level_scale),
        level_min: L::select(better, best.min, best.level_min),
        min: L::select(better, min, best.min),
        error: L::select(better, error, best.error),
    };
}

/// True if no element's level before rounding reaches 2^22. Subtraction and product are monotone
/// in `x`, rounding included, so the ends of the range answer for all.
#[inline(always)]
fn within_limit<L: Lanes>(range: &Range<L>, steps: L, min: L) -> bool {
    let limit = L::splat(ROUND_LIMIT);
    L::all((steps * (range.max - min)).abs().less(limit))
        & L::all((steps * (range.min - min)).abs().less(limit))
}

/// Weighted sums over a sub-block: of the levels, their squares, and their products with `x`.
struct Sums<L: Lanes> {
    l: L,
    ll: L,
    xl: L,
}

#[inline(always)]
fn sum_levels<S: AffineSearch, L: Lanes, const N: usize, const CLAMP_FIRST: bool>(
    x: &Tile<L, N>,
    w: &Tile<L, N>,
    steps: L,
    min: L,
    levels: &mut Tile<L, N>,
) -> Sums<L> {
    let mut sums = Sums { l: L::zero(), ll: L::zero(), xl: L::zero() };
    for i in 0..N {
        let level = steps * (x[i] - min);
        let level = if CLAMP_FIRST {
            level.round_clamped(0.0, S::N_MAX as f32)
        } else {
            level.nearest_int_clamped(0.0, S::N_MAX as f32)
        };
        levels[i] = level;
        let wl = w[i] * level;
        sums.l = sums.l + wl;
        sums.ll = sums.ll + wl * level;
        sums.xl = sums.xl + wl * x[i];
    }
    sums
}

impl<L: Lanes> Sums<L> {
    /// Scale, minimum and determinant of the least-squares fit; a positive minimum becomes zero.
    #[inline(always)]
    fn fit(&self, range: &Range<L>) -> (L, L, L) {
        let determinant = range.sum_w * self.ll - self.l * self.l;
        let scale = (range.sum_w * self.xl - range.sum_x * self.l) / determinant;
        let min = (self.ll * range.sum_x - self.l * self.xl) / determinant;
        let zero = L::zero();
        let above = zero.less(min);
        let scale = L::select(above, self.xl / self.ll, scale);
        (scale, L::select(above, zero, min), determinant)
    }
}

#[inline(always)]
fn loss<S: AffineSearch, L: Lanes>(difference: L) -> L {
    if S::ABSOLUTE {
        difference.abs()
    } else {
        difference * difference
    }
}
