//! Sums of a few registers of rows with a few tokens, written once for all registers whose
//! instructions multiply and add up in lanes of 32 bits.
//!
//! A kernel takes where the rows of each of its `R` registers begin: parts of one panel, or panels
//! side by side where one register holds all rows of a panel. Steps of a panel lie 64 bytes apart.
//!
//! Integer sums of a sub-block are exact and are scaled in f32.

// Loops run over the same index of several arrays of registers.
#![allow(clippy::needless_range_loop)]

use super::dot::{Bytes, Dot, Product, Wide, STEP_BYTES};
use super::tokens::{number, Token};
use super::{PANEL_ROWS, SUPERBLOCK};
use crate::simd::Ahead;

/// Sums of registers of rows and a few tokens.
pub(super) type Sums<S, const R: usize, const T: usize> = [[S; T]; R];

/// Where superblocks of the rows of a register begin: see [`LevelsPanels`](super::LevelsPanels).
#[derive(Clone, Copy)]
pub(super) struct Superblocks {
    pub(super) levels: *const u8,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX2 wants scales"))]
    pub(super) scales: *const i16,
    pub(super) factors: *const f32,
    pub(super) mins: *const i16,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX2 wants scales"))]
    pub(super) d: *const f32,
    pub(super) d_min: *const f32,
}

/// Bytes of a step of a panel.
pub(super) const PANEL_STEP: usize = PANEL_ROWS * STEP_BYTES;

/// Adds up `n` steps, and moves all pointers behind them.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn steps<D: Dot, P: Product<D>, const R: usize, const T: usize>(
    n: usize,
    weights: &mut [*const u8; R],
    rows: &mut [*const u8; T],
    sums: &mut Sums<P::Sum, R, T>,
) {
    // SAFETY: by the contract, and a `Four` is used before its row ends.
    unsafe {
        for _ in 0..n / 4 {
            let mut a = [D::four(rows[0]); T];
            for t in 1..T {
                a[t] = D::four(rows[t]);
            }
            step::<D, P, R, T, 0>(weights, &a, sums);
            step::<D, P, R, T, 1>(weights, &a, sums);
            step::<D, P, R, T, 2>(weights, &a, sums);
            step::<D, P, R, T, 3>(weights, &a, sums);
            for row in &mut *rows {
                *row = row.wrapping_add(4 * STEP_BYTES);
            }
        }
        for _ in 0..n % 4 {
            let mut a = [D::one(rows[0]); T];
            for t in 1..T {
                a[t] = D::one(rows[t]);
            }
            step::<D, P, R, T, 0>(weights, &a, sums);
            for row in &mut *rows {
                *row = row.wrapping_add(STEP_BYTES);
            }
        }
    }
}

/// # Safety
/// The weights and the activations can be read.
#[inline(always)]
unsafe fn step<D: Dot, P: Product<D>, const R: usize, const T: usize, const STEP: i32>(
    weights: &mut [*const u8; R],
    rows: &[D::Four; T],
    sums: &mut Sums<P::Sum, R, T>,
) {
    // SAFETY: by the contract.
    unsafe {
        let mut w = [P::load(weights[0]); R];
        for r in 1..R {
            w[r] = P::load(weights[r]);
        }
        for r in 0..R {
            weights[r] = weights[r].wrapping_add(PANEL_STEP);
        }
        for t in 0..T {
            for r in 0..R {
                sums[r][t] = P::add::<STEP>(sums[r][t], w[r], rows[t]);
            }
        }
    }
}

/// `BLOCK` weights a sub-block.
///
/// # Safety
/// The superblocks and the rows are `n` superblocks long.
#[inline(always)]
pub(super) unsafe fn levels<D: Dot, const BLOCK: usize, const R: usize, const T: usize>(
    n: usize,
    panels: [Superblocks; R],
    rows: &[Token; T],
) -> Sums<D::Float, R, T> {
    let n_blocks = SUPERBLOCK / BLOCK;
    let mut levels = [std::ptr::null(); R];
    let mut factors = [std::ptr::null(); R];
    let mut mins = levels;
    for r in 0..R {
        levels[r] = panels[r].levels;
        factors[r] = panels[r].factors;
        mins[r] = panels[r].mins.cast::<u8>();
    }
    let mut quants = [std::ptr::null(); T];
    let mut quant_sums = quants;
    for t in 0..T {
        quants[t] = rows[t].numbers;
        quant_sums[t] = rows[t].sums;
    }
    let mut total = [[D::floats(0.0); T]; R];
    for superblock in 0..n {
        let at = superblock * PANEL_ROWS;
        let mut sums = [[D::floats(0.0); T]; R];
        for _ in 0..n_blocks {
            let mut products = [[D::ints(0); T]; R];
            // SAFETY: as many levels and activations lie in each sub-block.
            unsafe {
                steps::<D, Bytes, R, T>(BLOCK / 4, &mut levels, &mut quants, &mut products);
            }
            for r in 0..R {
                // SAFETY: a factor of each row for each sub-block.
                let factor = unsafe { D::load_floats(factors[r]) };
                factors[r] = factors[r].wrapping_add(PANEL_ROWS);
                for t in 0..T {
                    sums[r][t] = D::fma(D::to_floats(products[r][t]), factor, sums[r][t]);
                }
            }
        }
        let mut min_sums = [[D::ints(0); T]; R];
        // SAFETY: two minima and two sums, of 16 bits each, for each pair of sub-blocks.
        unsafe {
            steps::<D, Wide, R, T>(n_blocks / 2, &mut mins, &mut quant_sums, &mut min_sums);
        }
        for r in 0..R {
            // SAFETY: a scale of each row for each superblock.
            let d_min = unsafe { D::load_floats(panels[r].d_min.add(at)) };
            for t in 0..T {
                // SAFETY: a scale of each token for each superblock.
                let a = D::floats(unsafe { number(rows[t].scales, superblock) });
                let sum = D::fnma(D::to_floats(min_sums[r][t]), d_min, sums[r][t]);
                total[r][t] = D::fma(sum, a, total[r][t]);
            }
        }
    }
    total
}

/// Blocks of 32, of `STEPS` steps each, and for each block the sums that the tokens have, if
/// `WITH_SUMS`.
///
/// # Safety
/// The weights, their scales and the rows have `n` blocks.
#[inline(always)]
pub(super) unsafe fn blocks<
    D: Dot,
    P: Product<D, Sum = D::Int>,
    const STEPS: usize,
    const WITH_SUMS: bool,
    const R: usize,
    const T: usize,
>(
    n: usize,
    mut weights: [*const u8; R],
    scales: [*const f32; R],
    rows: &[Token; T],
) -> Sums<D::Float, R, T> {
    let mut quants = [std::ptr::null(); T];
    for t in 0..T {
        quants[t] = rows[t].numbers;
    }
    let mut total = [[D::floats(0.0); T]; R];
    for block in 0..n {
        let mut sums = [[D::ints(0); T]; R];
        let mut a = [0.0; T];
        for t in 0..T {
            // SAFETY: by the contract, a scale and a sum of each token for each block.
            unsafe {
                a[t] = number(rows[t].scales, block);
                if WITH_SUMS {
                    let sum = D::ints(number(rows[t].sums, block));
                    for r in 0..R {
                        sums[r][t] = sum;
                    }
                }
            }
        }
        // SAFETY: by the contract, so many steps and a scale of each row for each block.
        unsafe {
            steps::<D, P, R, T>(STEPS, &mut weights, &mut quants, &mut sums);
            scale::<D, R, T>(&mut total, sums, scales, block, a);
        }
    }
    total
}

/// Adds the sums of block `block` to `total`, times the scales of the rows and those of the tokens.
///
/// # Safety
/// A scale of each row can be read for the block.
#[inline(always)]
unsafe fn scale<D: Dot, const R: usize, const T: usize>(
    total: &mut Sums<D::Float, R, T>,
    sums: Sums<D::Int, R, T>,
    scales: [*const f32; R],
    block: usize,
    tokens: [f32; T],
) {
    for r in 0..R {
        // SAFETY: by the contract.
        let d = unsafe { D::load_floats(scales[r].add(block * PANEL_ROWS)) };
        for t in 0..T {
            let scale = D::mul(d, D::floats(tokens[t]));
            total[r][t] = D::fma(D::to_floats(sums[r][t]), scale, total[r][t]);
        }
    }
}

/// Steps without scales. Partial sums are rounded less often than one long sum. Some of what is
/// `ahead` comes nearer with each.
///
/// # Safety
/// The weights and the rows have `n` steps.
#[inline(always)]
pub(super) unsafe fn in_parts<
    D: Dot,
    P: Product<D, Sum = D::Float>,
    const R: usize,
    const T: usize,
>(
    n: usize,
    mut weights: [*const u8; R],
    rows: &[Token; T],
    ahead: &Ahead<'_>,
) -> Sums<D::Float, R, T> {
    /// Steps of a partial sum.
    const PART: usize = 256;
    let mut numbers = [std::ptr::null(); T];
    for t in 0..T {
        numbers[t] = rows[t].numbers;
    }
    let mut total = [[D::floats(0.0); T]; R];
    for start in (0..n).step_by(PART) {
        ahead.few();
        let mut sums = [[D::floats(0.0); T]; R];
        // SAFETY: by the contract.
        unsafe {
            steps::<D, P, R, T>(PART.min(n - start), &mut weights, &mut numbers, &mut sums);
        }
        for r in 0..R {
            for t in 0..T {
                total[r][t] = D::add(total[r][t], sums[r][t]);
            }
        }
    }
    total
}
