//! Scales of sub-blocks, quantized themselves: a few values, weighted by the sums of their
//! sub-blocks' weights.

use super::lanes::{nearest_int, Lanes};
use super::signed_search::{TINY, TRIALS};

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
pub fn non_negative<const K: usize>(
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
    let steps = best_of_nine(x, w, n_max, maximum);
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
fn best_of_nine<const K: usize>(x: &[f32; K], w: &[f32; K], n_max: i32, maximum: f32) -> f32 {
    const OFFSETS: [f32; 8] = [-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0];
    let guess = n_max as f32 / maximum;
    let trials =
        Lanes(OFFSETS.map(|offset| 0.1 * offset + n_max as f32)) / Lanes::splat(maximum);
    let (scale, scales) = (1.0 / guess, Lanes::splat(1.0) / trials);
    let (mut guess_error, mut errors) = (0.0, Lanes::zero());
    for i in 0..K {
        // The guess is kept in eight bits, the trials are capped.
        let difference = x[i] - scale * f32::from(nearest_int(guess * x[i]) as u8);
        guess_error += w[i] * difference * difference;
        let level = (trials * Lanes::splat(x[i])).nearest_int_clamped(i32::MIN, n_max);
        let difference = Lanes::splat(x[i]) - scales * level;
        errors = errors + Lanes::splat(w[i]) * difference * difference;
    }
    let (mut best, mut best_error) = (guess, guess_error);
    for (&trial, &error) in trials.0.iter().zip(&errors.0) {
        if error < best_error {
            (best, best_error) = (trial, error);
        }
    }
    best
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
pub fn signed<const K: usize>(
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
    // Lane 0 is the guess, 1 to 18 the trials in order, the others repeat the guess.
    let mut steps = Lanes::<32>::splat(-(n_max as f32));
    for (lane, trial) in TRIALS.filter(|&trial| trial != 0).enumerate() {
        steps.0[lane + 1] = -(n_max as f32 + 0.1 * trial as f32);
    }
    let steps = steps / Lanes::splat(extreme);
    let (mut xl, mut ll) = (Lanes::zero(), Lanes::zero());
    for i in 0..K {
        let level = (steps * Lanes::splat(x[i])).nearest_int_clamped(-n_max, n_max - 1);
        let w = Lanes::splat(w[i]);
        xl = xl + w * Lanes::splat(x[i]) * level;
        ll = ll + w * level * level;
    }
    let mut scale = if ll.0[0] != 0.0 { xl.0[0] / ll.0[0] } else { 0.0 };
    let mut best = scale * xl.0[0];
    let mut winner = steps.0[0];
    for lane in 1..=18 {
        let (xl, ll) = (xl.0[lane], ll.0[lane]);
        if ll > 0.0 && xl * xl > best * ll {
            scale = xl / ll;
            best = scale * xl;
            winner = steps.0[lane];
        }
    }
    for (level, &value) in levels.iter_mut().zip(x) {
        *level = (nearest_int(winner * value).clamp(-n_max, n_max - 1) + n_max) as u8;
    }
    scale
}
