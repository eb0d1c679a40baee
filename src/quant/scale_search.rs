//! Scales of sub-blocks, quantized themselves: a few values, weighted by the sums of their
//! sub-blocks' weights.

use super::signed_search::{TINY, TRIALS};
use super::tile::MAX_LANES;
use crate::simd::{nearest_int, Lanes};

/// Quantizes `values` to `round(n_max / maximum * value)`, at most `cap`; returns the step,
/// `maximum / n_max`. All zero if no value is positive.
#[inline(always)]
pub fn from_maximum(values: &[f32], n_max: f32, cap: u8, levels: &mut [u8]) -> f32 {
    let maximum = values.iter().fold(0.0f32, |max, &v| if v > max { v } else { max });
    let inverse = if maximum > 0.0 { n_max / maximum } else { 0.0 };
    for (level, &value) in levels.iter_mut().zip(values) {
        // Kept in eight bits before it is capped, as the format's own writer does.
        *level = (nearest_int(inverse * value) as u8).min(cap);
    }
    maximum / n_max
}

/// The value of largest magnitude, the first of equals; zero if there is none.
#[inline(always)]
pub fn extreme(values: &[f32]) -> f32 {
    let mut extreme = 0.0f32;
    for &value in values {
        if value.abs() > extreme.abs() {
            extreme = value;
        }
    }
    extreme
}

/// Weighted search for values that are not negative: nine steps are tried (one per lane), then
/// single levels are moved for as long as that helps, five times over at most. Returns the step.
#[inline(always)]
pub fn non_negative<L: Lanes, const K: usize>(
    x: &[f32; K],
    w: &[f32; K],
    n_max: i32,
    levels: &mut [u8; K],
) -> f32 {
    // A NaN value is taken as the maximum, the next one replaces it.
    let maximum = x.iter().fold(0.0f32, |max, &v| if max > v { max } else { v });
    if maximum < TINY {
        *levels = [0; K];
        return 0.0;
    }
    let steps = best_of_nine::<L, K>(x, w, n_max, maximum);
    let mut sums = Sums { xl: 0.0, ll: 0.0 };
    for i in 0..K {
        let level = nearest_int(steps * x[i]).min(n_max);
        levels[i] = level as u8;
        let level = level as f32;
        sums.xl += w[i] * x[i] * level;
        sums.ll += w[i] * level * level;
    }
    for _ in 0..5 {
        if !improve(x, w, n_max, levels, &mut sums) {
            break;
        }
    }
    if sums.ll > 0.0 {
        sums.xl / sums.ll
    } else {
        0.0
    }
}

/// Steps per unit with the smallest weighted squared error. The plain guess comes first.
#[inline(always)]
fn best_of_nine<L: Lanes, const K: usize>(
    x: &[f32; K],
    w: &[f32; K],
    n_max: i32,
    maximum: f32,
) -> f32 {
    let guess = n_max as f32 / maximum;
    let scale = 1.0 / guess;
    let mut best_error = 0.0;
    for i in 0..K {
        // The guess is kept in eight bits, the trials below are capped.
        let difference = x[i] - scale * f32::from(nearest_int(guess * x[i]) as u8);
        best_error += w[i] * difference * difference;
    }
    let trials = [-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0];
    let mut steps = [1.0; MAX_LANES];
    for (steps, trial) in steps.iter_mut().zip(trials) {
        *steps = (0.1 * trial + n_max as f32) / maximum;
    }
    let mut errors = [0.0; MAX_LANES];
    for first in (0..trials.len()).step_by(L::LANES) {
        errors_of::<L, K>(x, w, n_max, &steps[first..]).store(&mut errors[first..]);
    }
    let mut best = guess;
    for lane in 0..trials.len() {
        if errors[lane] < best_error {
            (best, best_error) = (steps[lane], errors[lane]);
        }
    }
    best
}

/// Weighted squared error of each of the first `steps`.
#[inline(always)]
fn errors_of<L: Lanes, const K: usize>(x: &[f32; K], w: &[f32; K], n_max: i32, steps: &[f32]) -> L {
    let steps = L::load(steps);
    let scales = L::splat(1.0) / steps;
    let mut errors = L::zero();
    for i in 0..K {
        let x = L::splat(x[i]);
        let level = (steps * x).nearest_int_clamped(f32::NEG_INFINITY, n_max as f32);
        let difference = x - scales * level;
        errors = errors + L::splat(w[i]) * difference * difference;
    }
    errors
}

/// Weighted sums of `x * level` and `level * level`.
struct Sums {
    xl: f32,
    ll: f32,
}

/// Moves each level to where the others would have it, if the fit gains. False if none moved.
#[inline(always)]
fn improve<const K: usize>(
    x: &[f32; K],
    w: &[f32; K],
    n_max: i32,
    levels: &mut [u8; K],
    sums: &mut Sums,
) -> bool {
    let mut moved = false;
    for i in 0..K {
        let old = f32::from(levels[i]);
        let mut xl = sums.xl - w[i] * x[i] * old;
        let mut ll = sums.ll - w[i] * old * old;
        if !(xl > 0.0 && ll > 0.0) {
            continue;
        }
        let level = nearest_int(x[i] * ll / xl).min(n_max);
        if level == i32::from(levels[i]) {
            continue;
        }
        let new = level as f32;
        xl += w[i] * x[i] * new;
        ll += w[i] * new * new;
        if xl * xl * sums.ll > sums.xl * sums.xl * ll {
            levels[i] = level as u8;
            *sums = Sums { xl, ll };
            moved = true;
        }
    }
    moved
}

/// Weighted search for values of either sign, levels `-n_max` to `n_max - 1`, stored with an
/// offset of `n_max`; all stored as zero if every value is. Returns the step. The trials are those
/// of `signed_search`, here one per lane.
#[inline(always)]
pub fn signed<L: Lanes, const K: usize>(
    x: &[f32; K],
    w: &[f32; K],
    n_max: i32,
    levels: &mut [u8; K],
) -> f32 {
    let extreme = extreme(x);
    if extreme.abs() < TINY {
        *levels = [0; K];
        return 0.0;
    }
    // The guess, then the trials in order.
    let trials = std::iter::once(0).chain(TRIALS.filter(|&trial| trial != 0));
    let mut steps = [1.0; MAX_LANES];
    for (steps, trial) in steps.iter_mut().zip(trials) {
        *steps = -(n_max as f32 + 0.1 * trial as f32) / extreme;
    }
    let (mut xl, mut ll) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    for first in (0..TRIALS.count()).step_by(L::LANES) {
        let sums = signed_sums::<L, K>(x, w, n_max as f32, &steps[first..]);
        sums.0.store(&mut xl[first..]);
        sums.1.store(&mut ll[first..]);
    }
    let mut winner = 0;
    let mut scale = if ll[0] != 0.0 { xl[0] / ll[0] } else { 0.0 };
    let mut best = scale * xl[0];
    for lane in 1..TRIALS.count() {
        if ll[lane] > 0.0 && xl[lane] * xl[lane] > best * ll[lane] {
            winner = lane;
            scale = xl[lane] / ll[lane];
            best = scale * xl[lane];
        }
    }
    for (level, &value) in levels.iter_mut().zip(x) {
        *level = (nearest_int(steps[winner] * value).clamp(-n_max, n_max - 1) + n_max) as u8;
    }
    scale
}

/// Weighted sums of `x * level` and of `level * level` for each of the first `steps`.
#[inline(always)]
fn signed_sums<L: Lanes, const K: usize>(
    x: &[f32; K],
    w: &[f32; K],
    n_max: f32,
    steps: &[f32],
) -> (L, L) {
    let steps = L::load(steps);
    let (mut xl, mut ll) = (L::zero(), L::zero());
    for i in 0..K {
        let level = (steps * L::splat(x[i])).nearest_int_clamped(-n_max, n_max - 1.0);
        xl = xl + L::splat(w[i] * x[i]) * level;
        ll = ll + L::splat(w[i]) * level * level;
    }
    (xl, ll)
}
