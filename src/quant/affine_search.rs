//! Scale and minimum of a sub-block: `x` is near `scale * level + min`, levels 0 to `n_max`,
//! `min` at most zero.
//!
//! The levels of a first guess and of `n_steps + 1` trials, each with another step between
//! minimum and maximum, are fitted by weighted least squares; the trial with the smallest weighted
//! error wins. Each trial starts from the minimum of the best one before it. One sub-block per
//! lane; a lane does the operations of a scalar search in the same order.

use super::lanes::{nearest_int, Lanes, Tile, ROUND_LIMIT};

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
pub struct Affine<const W: usize> {
    /// Scale; zero for a sub-block whose elements are all equal and not positive.
    pub scale: Lanes<W>,
    /// The minimum, negated: zero or above.
    pub neg_min: Lanes<W>,
    /// Sum of the weights.
    pub sum_w: Lanes<W>,
    /// The levels are those of `level_scale * (x - level_min)`.
    pub level_scale: Lanes<W>,
    /// See `level_scale`.
    pub level_min: Lanes<W>,
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
pub fn search<S: AffineSearch, const W: usize, const N: usize>(
    x: &Tile<W, N>,
    w: &Tile<W, N>,
) -> Affine<W> {
    let range = Range::of(x, w);
    let first_min = range.min.min(Lanes::zero());
    let steps = Lanes::splat(S::N_MAX as f32) / (range.max - first_min);
    let mut best = Best::<W> {
        error: Lanes::zero(),
        scale: Lanes::splat(1.0) / steps,
        min: first_min,
        // Infinite steps (a range below 2^-126 or so) give level 0 everywhere.
        level_scale: steps.map(|s| if s.is_finite() { s } else { 0.0 }),
        level_min: first_min,
    };
    best.error = first_error::<S, W, N>(x, w, steps, &best);
    for step in 0..=S::N_STEPS {
        let n_steps = S::FIRST + S::DELTA * step as f32 + S::N_MAX as f32;
        let steps = Lanes::splat(n_steps) / (range.max - best.min);
        try_steps::<S, W, N>(x, w, &range, steps, &mut best);
    }
    best.into_affine(&range, first_min)
}

/// Extremes and weighted sums of a sub-block.
struct Range<const W: usize> {
    min: Lanes<W>,
    max: Lanes<W>,
    sum_w: Lanes<W>,
    sum_x: Lanes<W>,
}

impl<const W: usize> Range<W> {
    #[inline(always)]
    fn of<const N: usize>(x: &Tile<W, N>, w: &Tile<W, N>) -> Self {
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
struct Best<const W: usize> {
    error: Lanes<W>,
    scale: Lanes<W>,
    min: Lanes<W>,
    level_scale: Lanes<W>,
    level_min: Lanes<W>,
}

impl<const W: usize> Best<W> {
    #[inline(always)]
    fn into_affine(self, range: &Range<W>, first_min: Lanes<W>) -> Affine<W> {
        // Where maximum and minimum are equal there was nothing to search.
        let spread = |found: Lanes<W>, flat| Lanes::if_less(first_min, range.max, found, flat);
        Affine {
            scale: spread(self.scale, Lanes::zero()),
            neg_min: spread(self.min, first_min).map(|min| -min),
            sum_w: range.sum_w,
            level_scale: spread(self.level_scale, Lanes::zero()),
            level_min: spread(self.level_min, Lanes::zero()),
        }
    }
}

#[inline(always)]
fn first_error<S: AffineSearch, const W: usize, const N: usize>(
    x: &Tile<W, N>,
    w: &Tile<W, N>,
    steps: Lanes<W>,
    best: &Best<W>,
) -> Lanes<W> {
    let mut error = Lanes::zero();
    for i in 0..N {
        let level = (steps * (x[i] - best.min)).nearest_int_clamped(0, S::N_MAX);
        error = error + w[i] * loss::<S, W>(best.scale * level + best.min - x[i]);
    }
    error
}

#[inline(always)]
fn try_steps<S: AffineSearch, const W: usize, const N: usize>(
    x: &Tile<W, N>,
    w: &Tile<W, N>,
    range: &Range<W>,
    steps: Lanes<W>,
    best: &mut Best<W>,
) {
    let mut levels = [Lanes::zero(); N];
    let sums = if S::CLAMP_FIRST || within_limit(range, steps, best.min) {
        sum_levels(x, w, steps, best.min, &mut levels, |v| v.round_clamped(0.0, S::N_MAX as f32))
    } else {
        sum_levels(x, w, steps, best.min, &mut levels, |v| v.nearest_int_clamped(0, S::N_MAX))
    };
    let (scale, min, determinant) = sums.fit(range);
    let mut error = Lanes::zero();
    for i in 0..N {
        error = error + w[i] * loss::<S, W>(scale * levels[i] + min - x[i]);
    }
    // A fit without a positive determinant never wins, nor does one whose error is NaN.
    let never = Lanes::splat(f32::INFINITY);
    let error = Lanes::if_less(Lanes::zero(), determinant, error, never);
    let keep = |new, old| Lanes::if_less(error, best.error, new, old);
    *best = Best {
        scale: keep(scale, best.scale),
        level_scale: keep(steps, best.level_scale),
        level_min: keep(best.min, best.level_min),
        min: keep(min, best.min),
        error: keep(error, best.error),
    };
}

/// True if no element's level before rounding reaches 2^22. Subtraction and product are monotone
/// in `x`, rounding included, so the ends of the range answer for all.
#[inline(always)]
fn within_limit<const W: usize>(range: &Range<W>, steps: Lanes<W>, min: Lanes<W>) -> bool {
    (steps * (range.max - min)).all_within(ROUND_LIMIT)
        & (steps * (range.min - min)).all_within(ROUND_LIMIT)
}

/// Weighted sums over a sub-block: of the levels, their squares, and their products with `x`.
struct Sums<const W: usize> {
    l: Lanes<W>,
    ll: Lanes<W>,
    xl: Lanes<W>,
}

#[inline(always)]
fn sum_levels<const W: usize, const N: usize>(
    x: &Tile<W, N>,
    w: &Tile<W, N>,
    steps: Lanes<W>,
    min: Lanes<W>,
    levels: &mut Tile<W, N>,
    round: impl Fn(Lanes<W>) -> Lanes<W>,
) -> Sums<W> {
    let mut sums = Sums { l: Lanes::zero(), ll: Lanes::zero(), xl: Lanes::zero() };
    for i in 0..N {
        let level = round(steps * (x[i] - min));
        levels[i] = level;
        let wl = w[i] * level;
        sums.l = sums.l + wl;
        sums.ll = sums.ll + wl * level;
        sums.xl = sums.xl + wl * x[i];
    }
    sums
}

impl<const W: usize> Sums<W> {
    /// Scale, minimum and determinant of the least-squares fit; a positive minimum becomes zero.
    #[inline(always)]
    fn fit(&self, range: &Range<W>) -> (Lanes<W>, Lanes<W>, Lanes<W>) {
        let determinant = range.sum_w * self.ll - self.l * self.l;
        let scale = (range.sum_w * self.xl - range.sum_x * self.l) / determinant;
        let min = (self.ll * range.sum_x - self.l * self.xl) / determinant;
        let zero = Lanes::zero();
        let scale = Lanes::if_less(zero, min, self.xl / self.ll, scale);
        (scale, Lanes::if_less(zero, min, zero, min), determinant)
    }
}

#[inline(always)]
fn loss<S: AffineSearch, const W: usize>(difference: Lanes<W>) -> Lanes<W> {
    if S::ABSOLUTE {
        difference.abs()
    } else {
        difference * difference
    }
}
