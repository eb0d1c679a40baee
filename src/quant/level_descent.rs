//! Levels of a sub-block without a minimum, by moving one level at a time: the search of Q3_K
//! without an importance matrix. The first guess is that of `signed_search`; then each level in
//! turn goes where the others would have it, if the weighted fit gains, at most five times over.
//! One sub-block per lane; a lane does the operations of a scalar search in the same order.

use super::signed_search::{extreme, zero_if_tiny};
use super::tile::{products, Tile};
use crate::simd::Lanes;

/// Outcome, one sub-block per lane.
pub struct Descent<L, const N: usize> {
    /// Scale; zero for an all-zero sub-block.
    pub scale: L,
    /// Stored levels, `N_MAX` added; zero for an all-zero sub-block.
    pub stored: Tile<L, N>,
}

/// Finds scale and levels (`-N_MAX` to `N_MAX - 1`) of `x`, weighted by the squares.
#[inline(always)]
pub fn descend<const N_MAX: i32, L: Lanes, const N: usize>(x: &Tile<L, N>) -> Descent<L, N> {
    let w = products(x, x);
    let wx = products(&w, x);
    let extreme = extreme(x);
    let steps = L::splat(-(N_MAX as f32)) / extreme;
    let mut fit = Fit { xl: L::zero(), ll: L::zero(), levels: *x };
    for i in 0..N {
        let level = (steps * x[i]).round_clamped(-N_MAX as f32, (N_MAX - 1) as f32);
        fit.levels[i] = level;
        fit.xl = fit.xl + wx[i] * level;
        fit.ll = fit.ll + w[i] * level * level;
    }
    for _ in 0..5 {
        let mut moved = false;
        for i in 0..N {
            moved |= fit.improve::<N_MAX>(i, x[i], w[i], wx[i]);
        }
        // A lane in which nothing moved would not move in a further pass either.
        if !moved {
            break;
        }
    }
    let scale = L::select(L::zero().less(fit.ll), fit.xl / fit.ll, L::zero());
    let mut stored = fit.levels;
    for level in &mut stored {
        *level = zero_if_tiny(extreme, *level + L::splat(N_MAX as f32));
    }
    Descent { scale: zero_if_tiny(extreme, scale), stored }
}

/// Levels and their weighted sums of `x * level` and `level * level`.
struct Fit<L, const N: usize> {
    xl: L,
    ll: L,
    levels: Tile<L, N>,
}

impl<L: Lanes, const N: usize> Fit<L, N> {
    /// Moves level `i` where that helps. False if it helps nowhere.
    #[inline(always)]
    fn improve<const N_MAX: i32>(&mut self, i: usize, x: L, w: L, wx: L) -> bool {
        let old = self.levels[i];
        let xl = self.xl - wx * old;
        let ll = self.ll - w * old * old;
        let new = (x * ll / xl).nearest_int_clamped(-N_MAX as f32, (N_MAX - 1) as f32);
        let new_xl = xl + wx * new;
        let new_ll = ll + w * new * new;
        let gain = (self.xl * self.xl * new_ll).less(new_xl * new_xl * self.ll);
        let sound = L::and(L::zero().less(xl), L::zero().less(new_ll));
        let moves = L::and(L::and(gain, sound), new.differs(old));
        // Most often nothing moves. A branch lets the processor go on before it knows.
        if !L::any(moves) {
            return false;
        }
        self.levels[i] = L::select(moves, new, old);
        self.xl = L::select(moves, new_xl, self.xl);
        self.ll = L::select(moves, new_ll, self.ll);
        true
    }
}
