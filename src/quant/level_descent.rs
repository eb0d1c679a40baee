//! Levels of sub-blocks without a minimum, by moving one level at a time: the search of Q3_K
//! without an importance matrix. The first guess is that of `signed_search`; then each level in
//! turn goes where the others would have it, if the weighted fit gains, at most five times over.
//! One sub-block per lane; a lane does the operations of a scalar search in the same order.
//!
//! Four in five sub-blocks are done after one pass, so those that are not are gathered from many
//! sub-blocks before the next one: lanes left in place would wait for the slowest of them.

use super::signed_search::{extreme, TINY};
use super::tile::{transpose, Tile, MAX_LANES};
use crate::simd::Lanes;

/// Sub-blocks that are searched together: as many as a byte can number.
pub const BATCH: usize = 256;

/// Passes over a sub-block at most.
const PASSES: usize = 5;

/// Levels of up to [`BATCH`] sub-blocks of `N` values, and their weighted sums.
pub struct Fits<const N: usize> {
    levels: [[f32; BATCH]; N],
    xl: [f32; BATCH],
    ll: [f32; BATCH],
}

impl<const N: usize> Fits<N> {
    /// Room for the outcome.
    pub fn new() -> Self {
        Self { levels: [[0.0; BATCH]; N], xl: [0.0; BATCH], ll: [0.0; BATCH] }
    }

    /// Scale of sub-block `j`; zero if it is all zero.
    #[inline(always)]
    pub fn scale(&self, j: usize) -> f32 {
        if self.ll[j] > 0.0 {
            self.xl[j] / self.ll[j]
        } else {
            0.0
        }
    }

    /// Levels of sub-block `j` as they are stored, `N_MAX` added; zero if it is all zero.
    #[inline(always)]
    pub fn stored<const N_MAX: i32>(&self, j: usize) -> [u8; N] {
        std::array::from_fn(|i| (self.levels[i][j] + N_MAX as f32) as u8)
    }

    /// Finds the levels (`-N_MAX` to `N_MAX - 1`) of up to [`BATCH`] sub-blocks `x`, weighted by
    /// their squares.
    #[inline(always)]
    pub fn search<const N_MAX: i32, L: Lanes>(&mut self, x: &[f32]) {
        let n = x.len() / N;
        let mut open = [0u8; BATCH];
        let mut n_open = 0;
        for first in (0..n).step_by(L::LANES) {
            // A short group repeats its last sub-block.
            let mut picked = [0; MAX_LANES];
            for t in 0..L::LANES {
                picked[t] = (first + t).min(n - 1) as u8;
            }
            let tile = match x[first * N..].len() >= L::LANES * N {
                true => transpose::<L, N>(&x[first * N..]),
                false => gather::<L, N>(x, &picked),
            };
            let mut fit = Fit::guess::<N_MAX>(&tile);
            let moved = fit.improve::<N_MAX>(&tile);
            let moved = fit.settle_tiny::<N_MAX>(&tile, moved);
            for i in 0..N {
                fit.levels[i].store(&mut self.levels[i][first..]);
            }
            fit.xl.store(&mut self.xl[first..]);
            fit.ll.store(&mut self.ll[first..]);
            n_open = keep_open::<L>(moved, &picked, n - first, &mut open, n_open);
        }
        for _ in 1..PASSES {
            let n = n_open;
            n_open = 0;
            for first in (0..n).step_by(L::LANES) {
                let mut picked = [0; MAX_LANES];
                for t in 0..L::LANES {
                    picked[t] = open[(first + t).min(n - 1)];
                }
                let tile = gather::<L, N>(x, &picked);
                let mut fit = self.pick::<L>(&picked);
                let moved = fit.improve::<N_MAX>(&tile);
                self.put(&fit, &picked);
                n_open = keep_open::<L>(moved, &picked, n - first, &mut open, n_open);
            }
        }
    }

    #[inline(always)]
    fn pick<L: Lanes>(&self, picked: &Picked) -> Fit<L, N> {
        let mut levels = [L::zero(); N];
        for i in 0..N {
            levels[i] = pick(&self.levels[i], picked);
        }
        Fit { levels, xl: pick(&self.xl, picked), ll: pick(&self.ll, picked) }
    }

    #[inline(always)]
    fn put<L: Lanes>(&mut self, fit: &Fit<L, N>, picked: &Picked) {
        for i in 0..N {
            put(fit.levels[i], &mut self.levels[i], picked);
        }
        put(fit.xl, &mut self.xl, picked);
        put(fit.ll, &mut self.ll, picked);
    }
}

/// Sub-blocks in the lanes of a tile.
type Picked = [u8; MAX_LANES];

/// Appends those of the first `n` picked sub-blocks that moved to `open`, which holds `n_open`. One
/// in which nothing moved would not move in a further pass either.
#[inline(always)]
fn keep_open<L: Lanes>(
    moved: L,
    picked: &Picked,
    n: usize,
    open: &mut [u8; BATCH],
    n_open: usize,
) -> usize {
    let mut flags = [0.0; MAX_LANES];
    moved.store(&mut flags);
    let mut n_open = n_open;
    for t in 0..L::LANES.min(n) {
        open[n_open] = picked[t];
        n_open += usize::from(flags[t] != 0.0);
    }
    n_open
}

#[inline(always)]
fn gather<L: Lanes, const N: usize>(x: &[f32], picked: &Picked) -> Tile<L, N> {
    let mut values = [[0.0; N]; MAX_LANES];
    for t in 0..L::LANES {
        values[t].copy_from_slice(&x[usize::from(picked[t]) * N..][..N]);
    }
    transpose(values.as_flattened())
}

#[inline(always)]
fn pick<L: Lanes>(values: &[f32; BATCH], picked: &Picked) -> L {
    let mut lanes = [0.0; MAX_LANES];
    for t in 0..L::LANES {
        lanes[t] = values[usize::from(picked[t])];
    }
    L::load(&lanes)
}

#[inline(always)]
fn put<L: Lanes>(lanes: L, values: &mut [f32; BATCH], picked: &Picked) {
    let mut from = [0.0; MAX_LANES];
    lanes.store(&mut from);
    for t in 0..L::LANES {
        values[usize::from(picked[t])] = from[t];
    }
}

/// The fits of some sub-blocks, one per lane.
struct Fit<L, const N: usize> {
    levels: Tile<L, N>,
    xl: L,
    ll: L,
}

impl<L: Lanes, const N: usize> Fit<L, N> {
    #[inline(always)]
    fn guess<const N_MAX: i32>(x: &Tile<L, N>) -> Self {
        let steps = L::splat(-(N_MAX as f32)) / extreme(x);
        let mut fit = Self { xl: L::zero(), ll: L::zero(), levels: *x };
        for i in 0..N {
            let w = x[i] * x[i];
            let level = (steps * x[i]).round_clamped(-N_MAX as f32, (N_MAX - 1) as f32);
            fit.levels[i] = level;
            fit.xl = fit.xl + w * x[i] * level;
            fit.ll = fit.ll + w * level * level;
        }
        fit
    }

    /// One pass over all levels. Returns one in the lanes where something moved, else zero.
    #[inline(always)]
    fn improve<const N_MAX: i32>(&mut self, x: &Tile<L, N>) -> L {
        // A tile of its own for the new levels: in place, they would be written lane by lane.
        let mut levels = *x;
        let mut at = Step { xl: self.xl, ll: self.ll, moved: L::zero() };
        for i in 0..N {
            (levels[i], at) = at.move_level::<N_MAX>(x[i], self.levels[i]);
        }
        *self = Self { levels, xl: at.xl, ll: at.ll };
        at.moved
    }

    /// An all-zero sub-block has no scale, is stored as zeros, and is done.
    #[inline(always)]
    fn settle_tiny<const N_MAX: i32>(&mut self, x: &Tile<L, N>, moved: L) -> L {
        let tiny = extreme(x).abs().less(L::splat(TINY));
        self.xl = L::select(tiny, L::zero(), self.xl);
        self.ll = L::select(tiny, L::zero(), self.ll);
        for level in &mut self.levels {
            *level = L::select(tiny, L::splat(-N_MAX as f32), *level);
        }
        L::select(tiny, L::zero(), moved)
    }
}

/// Where a pass stands.
#[derive(Clone, Copy)]
struct Step<L> {
    xl: L,
    ll: L,
    moved: L,
}

impl<L: Lanes> Step<L> {
    /// The level of `x` and the sums after it has moved from `old` where that helps; there `moved`
    /// becomes one.
    #[inline(always)]
    fn move_level<const N_MAX: i32>(self, x: L, old: L) -> (L, Self) {
        let w = x * x;
        let wx = w * x;
        let xl = self.xl - wx * old;
        let ll = self.ll - w * old * old;
        let new = (x * ll / xl).nearest_int_clamped(-N_MAX as f32, (N_MAX - 1) as f32);
        let new_xl = xl + wx * new;
        let new_ll = ll + w * new * new;
        let gain = (self.xl * self.xl * new_ll).less(new_xl * new_xl * self.ll);
        let sound = L::and(L::zero().less(xl), L::zero().less(new_ll));
        let moves = L::and(L::and(gain, sound), new.differs(old));
        let after = Self {
            xl: L::select(moves, new_xl, self.xl),
            ll: L::select(moves, new_ll, self.ll),
            moved: L::select(moves, L::splat(1.0), self.moved),
        };
        (L::select(moves, new, old), after)
    }
}
