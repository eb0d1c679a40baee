//! The products for AVX-512 with VNNI: a register holds what four steps of a panel's sixteen rows want.
//!
//! Integer sums of a sub-block are exact, as in the other set; they are scaled in f32 where that one
//! scales whole numbers, so sums differ in their last bits.
//!
//! Few processors have these instructions. So that every machine tests the code, the library's own
//! unit tests compile it against a plain account of what each instruction does; all other tests
//! and programs run the instructions.

// Loops run over the same index of several arrays of registers.
#![allow(clippy::needless_range_loop)]

#[cfg(not(test))]
use std::arch::x86_64::*;

#[cfg(not(test))]
use super::dpwssd::dpwssd;
#[cfg(test)]
use super::emulated::*;
use super::products::{Superblocks, Tile};
use super::{LevelsRow, PANEL_ROWS, SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK};

/// `BLOCK` weights a sub-block.
///
/// # Safety
/// AVX-512 with VNNI; every slice is as long as `n` superblocks want it.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bw,avx512vnni"))]
pub(super) unsafe fn levels<const BLOCK: usize>(
    n: usize,
    panel: Superblocks,
    rows: &[LevelsRow; TILE_TOKENS],
) -> Tile {
    let n_blocks = SUPERBLOCK / BLOCK;
    let Superblocks { levels: mut weights, mut scales, mut mins, d, d_min } = panel;
    let mut quants = rows.map(|row| row.quants.as_ptr());
    let mut quant_sums = rows.map(|row| row.sums.as_ptr());
    let mut total = [_mm512_setzero_ps(); TILE_TOKENS];
    for superblock in 0..n {
        // SAFETY: sixteen scales for each superblock.
        let (d, d_min) = unsafe {
            let at = superblock * PANEL_ROWS;
            (_mm512_loadu_ps(d.add(at)), _mm512_loadu_ps(d_min.add(at)))
        };
        let mut sums = [_mm512_setzero_ps(); TILE_TOKENS];
        for _ in 0..n_blocks {
            let mut products = [_mm512_setzero_si512(); TILE_TOKENS];
            for step in 0..BLOCK / 4 {
                // SAFETY: 64 bytes of levels for each step of four weights.
                let w = unsafe { _mm512_loadu_si512(weights.cast()) };
                weights = weights.wrapping_add(64);
                for t in 0..TILE_TOKENS {
                    // SAFETY: four activations for each step.
                    let a = unsafe { broadcast(quants[t].wrapping_add(4 * step)) };
                    products[t] = _mm512_dpbusd_epi32(products[t], w, a);
                }
            }
            quants = quants.map(|row| row.wrapping_add(BLOCK));
            // SAFETY: a register of scales, each twice, for each sub-block.
            let scale = unsafe { _mm512_loadu_si512(scales.cast()) };
            scales = scales.wrapping_add(2 * PANEL_ROWS);
            let scale = _mm512_cvtepi32_ps(_mm512_srai_epi32::<16>(scale));
            let scale = _mm512_mul_ps(scale, d);
            for t in 0..TILE_TOKENS {
                sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[t]), scale, sums[t]);
            }
        }
        let mut min_sums = [_mm512_setzero_si512(); TILE_TOKENS];
        for _ in 0..n_blocks / 2 {
            // SAFETY: a register of minima for each pair of sub-blocks.
            let min = unsafe { _mm512_loadu_si512(mins.cast()) };
            mins = mins.wrapping_add(2 * PANEL_ROWS);
            for t in 0..TILE_TOKENS {
                // SAFETY: two sums, of 16 bits each, for each pair.
                let a = unsafe { broadcast(quant_sums[t]) };
                min_sums[t] = dpwssd(min_sums[t], min, a);
                quant_sums[t] = quant_sums[t].wrapping_add(2);
            }
        }
        for t in 0..TILE_TOKENS {
            let a = _mm512_set1_ps(rows[t].scales[superblock]);
            let sum = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(min_sums[t]), d_min, sums[t]);
            total[t] = _mm512_fmadd_ps(sum, a, total[t]);
        }
    }
    tile(total)
}

/// # Safety
/// AVX-512 with VNNI; the panel and the rows have `n` blocks of 32.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bw,avx512vnni"))]
pub(super) unsafe fn wide(
    n: usize,
    mut weights: *const i16,
    scales: *const f32,
    mut rows: [*const i16; TILE_TOKENS],
) -> Tile {
    let mut total = [_mm512_setzero_ps(); TILE_TOKENS];
    for block in 0..n {
        let mut sums = [_mm512_setzero_si512(); TILE_TOKENS];
        for step in 0..WIDE_BLOCK / 2 {
            // SAFETY: 64 bytes of weights for each step of two.
            let w = unsafe { _mm512_loadu_si512(weights.cast()) };
            weights = weights.wrapping_add(2 * PANEL_ROWS);
            for t in 0..TILE_TOKENS {
                // SAFETY: two activations, of 16 bits each.
                let a = unsafe { broadcast(rows[t].wrapping_add(2 * step)) };
                sums[t] = dpwssd(sums[t], w, a);
            }
        }
        rows = rows.map(|row| row.wrapping_add(WIDE_BLOCK));
        // SAFETY: sixteen scales for each block.
        let d = unsafe { _mm512_loadu_ps(scales.add(block * PANEL_ROWS)) };
        for t in 0..TILE_TOKENS {
            total[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), d, total[t]);
        }
    }
    tile(total)
}

/// # Safety
/// AVX-512 with VNNI; the panel has `n` columns of sixteen, each row `n` values.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bw,avx512vnni"))]
pub(super) unsafe fn floats(n: usize, panel: *const f32, rows: [*const f32; TILE_TOKENS]) -> Tile {
    /// Partial sums of this many products are rounded less often than one long sum.
    const PART: usize = 256;
    let mut total = [_mm512_setzero_ps(); TILE_TOKENS];
    for start in (0..n).step_by(PART) {
        let end = n.min(start + PART);
        // Even and odd columns apart: a sum waits for the one before it.
        let mut sums = [[_mm512_setzero_ps(); TILE_TOKENS]; 2];
        let mut k = start;
        while k < end {
            for sums in &mut sums[..2.min(end - k)] {
                // SAFETY: column k of the panel and value k of each row.
                let (w, a): (_, [f32; TILE_TOKENS]) = unsafe {
                    let w = _mm512_loadu_ps(panel.add(k * PANEL_ROWS));
                    (w, std::array::from_fn(|t| rows[t].add(k).read()))
                };
                for t in 0..TILE_TOKENS {
                    sums[t] = _mm512_fmadd_ps(w, _mm512_set1_ps(a[t]), sums[t]);
                }
                k += 1;
            }
        }
        for t in 0..TILE_TOKENS {
            total[t] = _mm512_add_ps(total[t], _mm512_add_ps(sums[0][t], sums[1][t]));
        }
    }
    tile(total)
}

/// The same four bytes in all lanes.
///
/// # Safety
/// Four bytes can be read.
#[inline]
#[cfg_attr(not(test), target_feature(enable = "avx512f"))]
unsafe fn broadcast<T>(from: *const T) -> __m512i {
    // SAFETY: by the contract.
    _mm512_set1_epi32(unsafe { from.cast::<i32>().read_unaligned() })
}

#[inline]
#[cfg_attr(not(test), target_feature(enable = "avx512f"))]
fn tile(sums: [__m512; TILE_TOKENS]) -> Tile {
    let mut out = [[0.0; PANEL_ROWS]; TILE_TOKENS];
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: there is room for sixteen values.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    out
}
