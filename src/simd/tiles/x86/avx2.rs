//! The product of levels for AVX2, which has no sums of four products of bytes: products are added
//! up in 16 bits for as long as they fit, then scaled in whole numbers.

// Loops run over the same index of several arrays of registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use crate::simd::tiles::kernels::Superblocks;
use crate::simd::tiles::tokens::{number, Token};
use crate::simd::tiles::{PANEL_ROWS, SUPERBLOCK, TILE_TOKENS};

type Registers<T> = [[T; 2]; TILE_TOKENS];

/// `BLOCK` weights a sub-block; `FLUSH` steps of four weights fit into 16 bits.
///
/// # Safety
/// AVX2 and FMA; the panel and the rows are `n` superblocks long.
// Inside of a larger function the compiler does not write the steps out, which costs a tenth of the
// speed.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn levels<const BLOCK: usize, const FLUSH: usize>(
    n: usize,
    panel: Superblocks,
    rows: &[Token; TILE_TOKENS],
) -> Registers<__m256> {
    let n_blocks = SUPERBLOCK / BLOCK;
    let Superblocks { levels: mut weights, mut scales, mut mins, d, d_min, .. } = panel;
    let quants = rows.map(|row| row.numbers);
    let mut total = [[_mm256_setzero_ps(); 2]; TILE_TOKENS];
    for superblock in 0..n {
        let mut sums = [[_mm256_setzero_si256(); 2]; TILE_TOKENS];
        for block in 0..n_blocks {
            // SAFETY: two registers of scales for each sub-block.
            let scale = unsafe { load_pair(scales.cast()) };
            scales = scales.wrapping_add(2 * PANEL_ROWS);
            for flush in 0..BLOCK / 4 / FLUSH {
                let k = superblock * SUPERBLOCK + block * BLOCK + flush * 4 * FLUSH;
                let mut short = [[_mm256_setzero_si256(); 2]; TILE_TOKENS];
                for step in 0..FLUSH {
                    // SAFETY: 64 bytes of levels for each step of four weights.
                    let w = unsafe { load_pair(weights) };
                    weights = weights.wrapping_add(64);
                    for t in 0..TILE_TOKENS {
                        // SAFETY: four activations from k + 4 step on.
                        let a = unsafe { broadcast(quants[t].add(k + 4 * step)) };
                        for i in 0..2 {
                            let product = _mm256_maddubs_epi16(w[i], a);
                            short[t][i] = _mm256_add_epi16(short[t][i], product);
                        }
                    }
                    keep_in_registers(&mut short);
                }
                for t in 0..TILE_TOKENS {
                    for i in 0..2 {
                        let scaled = _mm256_madd_epi16(short[t][i], scale[i]);
                        sums[t][i] = _mm256_add_epi32(sums[t][i], scaled);
                    }
                }
            }
        }
        let mut min_sums = [[_mm256_setzero_si256(); 2]; TILE_TOKENS];
        for pair in 0..n_blocks / 2 {
            // SAFETY: two registers of minima for each pair of sub-blocks.
            let min = unsafe { load_pair(mins.cast()) };
            mins = mins.wrapping_add(2 * PANEL_ROWS);
            for t in 0..TILE_TOKENS {
                let at = superblock * n_blocks + 2 * pair;
                // SAFETY: two sums, of 16 bits each, from `at` on.
                let a = unsafe { broadcast(rows[t].sums.add(2 * at)) };
                for i in 0..2 {
                    let product = _mm256_madd_epi16(min[i], a);
                    min_sums[t][i] = _mm256_add_epi32(min_sums[t][i], product);
                }
            }
        }
        // SAFETY: sixteen scales for each superblock.
        let (d, d_min) = unsafe {
            let at = superblock * PANEL_ROWS;
            (load_floats(d.add(at)), load_floats(d_min.add(at)))
        };
        for t in 0..TILE_TOKENS {
            // SAFETY: a scale for each superblock.
            let a = _mm256_set1_ps(unsafe { number(rows[t].scales, superblock) });
            for i in 0..2 {
                let sum = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[t][i]), d[i]);
                let sum = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(min_sums[t][i]), d_min[i], sum);
                total[t][i] = _mm256_fmadd_ps(sum, a, total[t][i]);
            }
        }
    }
    total
}

/// Forbids the compiler to move sums to memory or to reorder what makes them.
#[inline]
#[target_feature(enable = "avx2")]
fn keep_in_registers(sums: &mut Registers<__m256i>) {
    let [[a, b], [c, d], [e, f], [g, h]] = sums;
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!(
            "/* {} {} {} {} {} {} {} {} */",
            inout(ymm_reg) * a,
            inout(ymm_reg) * b,
            inout(ymm_reg) * c,
            inout(ymm_reg) * d,
            inout(ymm_reg) * e,
            inout(ymm_reg) * f,
            inout(ymm_reg) * g,
            inout(ymm_reg) * h,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// # Safety
/// 64 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_pair(from: *const u8) -> [__m256i; 2] {
    // SAFETY: by the contract.
    unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
}

/// # Safety
/// Sixteen values can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_floats(from: *const f32) -> [__m256; 2] {
    // SAFETY: by the contract.
    unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
}

/// The same four bytes in all lanes.
///
/// # Safety
/// Four bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast(from: *const u8) -> __m256i {
    // SAFETY: by the contract.
    _mm256_set1_epi32(unsafe { number(from, 0) })
}
