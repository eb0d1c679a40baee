//! The products for AVX-512 with VNNI, and where a processor has them with those of BF16: a register
//! holds what a step of a panel's sixteen rows wants. Two panels at a time, because otherwise more
//! operands have to be loaded than there are products.
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
use super::dot::{dpbf16, dpwssd};
#[cfg(test)]
use super::emulated::*;
use super::products::{Superblocks, Tile};
use super::{BytesRow, LevelsRow, WideRow, PANEL_ROWS, SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK};

/// `BLOCK` weights a sub-block; `P` panels share one reading of the tokens.
///
/// # Safety
/// AVX-512 with VNNI; every slice is as long as `n` superblocks want it.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bw,avx512vnni"))]
pub(super) unsafe fn levels<const BLOCK: usize, const P: usize>(
    n: usize,
    mut panels: [Superblocks; P],
    rows: &[LevelsRow; TILE_TOKENS],
) -> [Tile; P] {
    let n_blocks = SUPERBLOCK / BLOCK;
    let mut quants = rows.map(|row| row.quants.as_ptr());
    let mut quant_sums = rows.map(|row| row.sums.as_ptr());
    let mut total = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
    for superblock in 0..n {
        let mut d = [_mm512_setzero_ps(); P];
        for p in 0..P {
            // SAFETY: sixteen scales for each superblock.
            d[p] = unsafe { _mm512_loadu_ps(panels[p].d.add(superblock * PANEL_ROWS)) };
        }
        let mut sums = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
        for _ in 0..n_blocks {
            let mut products = [[_mm512_setzero_si512(); TILE_TOKENS]; P];
            for step in 0..BLOCK / 4 {
                let mut w = [_mm512_setzero_si512(); P];
                for p in 0..P {
                    // SAFETY: 64 bytes of levels for each step of four weights.
                    w[p] = unsafe { _mm512_loadu_si512(panels[p].levels.cast()) };
                    panels[p].levels = panels[p].levels.wrapping_add(64);
                }
                for t in 0..TILE_TOKENS {
                    // SAFETY: four activations for each step.
                    let a = unsafe { broadcast(quants[t].wrapping_add(4 * step)) };
                    for p in 0..P {
                        products[p][t] = _mm512_dpbusd_epi32(products[p][t], w[p], a);
                    }
                }
            }
            quants = quants.map(|row| row.wrapping_add(BLOCK));
            for p in 0..P {
                // SAFETY: a register of scales, each twice, for each sub-block.
                let scale = unsafe { _mm512_loadu_si512(panels[p].scales.cast()) };
                panels[p].scales = panels[p].scales.wrapping_add(2 * PANEL_ROWS);
                let scale = _mm512_cvtepi32_ps(_mm512_srai_epi32::<16>(scale));
                let scale = _mm512_mul_ps(scale, d[p]);
                for t in 0..TILE_TOKENS {
                    let products = _mm512_cvtepi32_ps(products[p][t]);
                    sums[p][t] = _mm512_fmadd_ps(products, scale, sums[p][t]);
                }
            }
        }
        let mut min_sums = [[_mm512_setzero_si512(); TILE_TOKENS]; P];
        for _ in 0..n_blocks / 2 {
            let mut min = [_mm512_setzero_si512(); P];
            for p in 0..P {
                // SAFETY: a register of minima for each pair of sub-blocks.
                min[p] = unsafe { _mm512_loadu_si512(panels[p].mins.cast()) };
                panels[p].mins = panels[p].mins.wrapping_add(2 * PANEL_ROWS);
            }
            for t in 0..TILE_TOKENS {
                // SAFETY: two sums, of 16 bits each, for each pair.
                let a = unsafe { broadcast(quant_sums[t]) };
                for p in 0..P {
                    min_sums[p][t] = dpwssd(min_sums[p][t], min[p], a);
                }
                quant_sums[t] = quant_sums[t].wrapping_add(2);
            }
        }
        for p in 0..P {
            // SAFETY: sixteen scales for each superblock.
            let d_min = unsafe { _mm512_loadu_ps(panels[p].d_min.add(superblock * PANEL_ROWS)) };
            for t in 0..TILE_TOKENS {
                let a = _mm512_set1_ps(rows[t].scales[superblock]);
                let min_sums = _mm512_cvtepi32_ps(min_sums[p][t]);
                let sum = _mm512_fnmadd_ps(min_sums, d_min, sums[p][t]);
                total[p][t] = _mm512_fmadd_ps(sum, a, total[p][t]);
            }
        }
    }
    tiles(total)
}

/// `P` panels share one reading of the tokens.
///
/// # Safety
/// AVX-512 with VNNI; the panels and the rows have `n` blocks of 32.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bw,avx512vnni"))]
pub(super) unsafe fn bytes<const P: usize>(
    n: usize,
    mut weights: [*const u8; P],
    scales: [*const f32; P],
    rows: &[BytesRow; TILE_TOKENS],
) -> [Tile; P] {
    let mut quants = rows.map(|row| row.quants.as_ptr());
    let mut total = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
    for block in 0..n {
        // What the 128 added to every weight comes to is taken away before anything is added.
        let offsets = rows.map(|row| _mm512_set1_epi32(row.offsets[block]));
        let mut products = [offsets; P];
        for step in 0..WIDE_BLOCK / 4 {
            let mut w = [_mm512_setzero_si512(); P];
            for p in 0..P {
                // SAFETY: 64 bytes of weights for each step of four.
                w[p] = unsafe { _mm512_loadu_si512(weights[p].cast()) };
                weights[p] = weights[p].wrapping_add(64);
            }
            for t in 0..TILE_TOKENS {
                // SAFETY: four activations for each step.
                let a = unsafe { broadcast(quants[t].wrapping_add(4 * step)) };
                for p in 0..P {
                    products[p][t] = _mm512_dpbusd_epi32(products[p][t], w[p], a);
                }
            }
        }
        quants = quants.map(|row| row.wrapping_add(WIDE_BLOCK));
        for p in 0..P {
            // SAFETY: sixteen scales for each block.
            let d = unsafe { _mm512_loadu_ps(scales[p].add(block * PANEL_ROWS)) };
            for t in 0..TILE_TOKENS {
                let scale = _mm512_mul_ps(d, _mm512_set1_ps(rows[t].scales[block]));
                let products = _mm512_cvtepi32_ps(products[p][t]);
                total[p][t] = _mm512_fmadd_ps(products, scale, total[p][t]);
            }
        }
    }
    tiles(total)
}

/// `P` panels share one reading of the tokens.
///
/// # Safety
/// AVX-512 with VNNI; the panels and the rows have `n` blocks of 32.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bw,avx512vnni"))]
pub(super) unsafe fn wide<const P: usize>(
    n: usize,
    mut weights: [*const i16; P],
    scales: [*const f32; P],
    rows: &[WideRow; TILE_TOKENS],
) -> [Tile; P] {
    let mut quants = rows.map(|row| row.quants.as_ptr());
    let mut total = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
    for block in 0..n {
        let mut sums = [[_mm512_setzero_si512(); TILE_TOKENS]; P];
        for step in 0..WIDE_BLOCK / 2 {
            let mut w = [_mm512_setzero_si512(); P];
            for p in 0..P {
                // SAFETY: 64 bytes of weights for each step of two.
                w[p] = unsafe { _mm512_loadu_si512(weights[p].cast()) };
                weights[p] = weights[p].wrapping_add(2 * PANEL_ROWS);
            }
            for t in 0..TILE_TOKENS {
                // SAFETY: two activations, of 16 bits each, for each step.
                let a = unsafe { broadcast(quants[t].wrapping_add(2 * step)) };
                for p in 0..P {
                    sums[p][t] = dpwssd(sums[p][t], w[p], a);
                }
            }
        }
        quants = quants.map(|row| row.wrapping_add(WIDE_BLOCK));
        for p in 0..P {
            // SAFETY: sixteen scales for each block.
            let d = unsafe { _mm512_loadu_ps(scales[p].add(block * PANEL_ROWS)) };
            for t in 0..TILE_TOKENS {
                let scale = _mm512_mul_ps(d, _mm512_set1_ps(rows[t].scales[block]));
                let sums = _mm512_cvtepi32_ps(sums[p][t]);
                total[p][t] = _mm512_fmadd_ps(sums, scale, total[p][t]);
            }
        }
    }
    tiles(total)
}

/// `P` panels share one reading of the tokens.
///
/// # Safety
/// AVX-512 with VNNI; the panels have `n` columns of sixteen, each row `n` values.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bw,avx512vnni"))]
pub(super) unsafe fn floats<const P: usize>(
    n: usize,
    panels: [*const f32; P],
    rows: [*const f32; TILE_TOKENS],
) -> [Tile; P] {
    let mut total = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
    for start in (0..n).step_by(PART) {
        let mut sums = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
        for k in start..n.min(start + PART) {
            let mut w = [_mm512_setzero_ps(); P];
            for p in 0..P {
                // SAFETY: column k of the panel.
                w[p] = unsafe { _mm512_loadu_ps(panels[p].add(k * PANEL_ROWS)) };
            }
            for t in 0..TILE_TOKENS {
                // SAFETY: value k of the row.
                let a = _mm512_set1_ps(unsafe { rows[t].add(k).read() });
                for p in 0..P {
                    sums[p][t] = _mm512_fmadd_ps(w[p], a, sums[p][t]);
                }
            }
        }
        add(&mut total, sums);
    }
    tiles(total)
}

/// `P` panels share one reading of the tokens.
///
/// # Safety
/// AVX-512 with products of BF16; the panels have `n` pairs of columns of sixteen, each row `n`
/// pairs of values.
#[cfg_attr(not(test), target_feature(enable = "avx512f,avx512bf16"))]
pub(super) unsafe fn pairs<const P: usize>(
    n: usize,
    panels: [*const u16; P],
    rows: [*const u16; TILE_TOKENS],
) -> [Tile; P] {
    let mut total = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
    for start in (0..n).step_by(PART / 2) {
        let mut sums = [[_mm512_setzero_ps(); TILE_TOKENS]; P];
        for k in start..n.min(start + PART / 2) {
            let mut w = [_mm512_setzero_si512(); P];
            for p in 0..P {
                // SAFETY: pair k of the columns of the panel.
                w[p] = unsafe { _mm512_loadu_si512(panels[p].add(k * 2 * PANEL_ROWS).cast()) };
            }
            for t in 0..TILE_TOKENS {
                // SAFETY: pair k of the row.
                let a = unsafe { broadcast(rows[t].add(2 * k)) };
                for p in 0..P {
                    sums[p][t] = dpbf16(sums[p][t], w[p], a);
                }
            }
        }
        add(&mut total, sums);
    }
    tiles(total)
}

/// Partial sums of this many products are rounded less often than one long sum.
const PART: usize = 256;

#[inline]
#[cfg_attr(not(test), target_feature(enable = "avx512f"))]
fn add<const P: usize>(total: &mut [[__m512; TILE_TOKENS]; P], sums: [[__m512; TILE_TOKENS]; P]) {
    for p in 0..P {
        for t in 0..TILE_TOKENS {
            total[p][t] = _mm512_add_ps(total[p][t], sums[p][t]);
        }
    }
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
fn tiles<const P: usize>(sums: [[__m512; TILE_TOKENS]; P]) -> [Tile; P] {
    let mut out = [[[0.0; PANEL_ROWS]; TILE_TOKENS]; P];
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out.iter_mut().zip(sums) {
            // SAFETY: there is room for sixteen values.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
        }
    }
    out
}
