//! The products for AVX2 and FMA.

// Loops run over the same index of several arrays of registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{
    LevelsPanel, LevelsRow, LevelsShape, Tile, TileMachine, WidePanel, PANEL_ROWS, SUPERBLOCK,
    TILE_TOKENS, WIDE_BLOCK,
};

type Registers<T> = [[T; 2]; TILE_TOKENS];

impl TileMachine {
    /// Sums over `panel` and four rows of activations. Panics unless all have the same number of
    /// superblocks.
    pub fn levels(
        self,
        shape: LevelsShape,
        panel: LevelsPanel,
        rows: [LevelsRow; TILE_TOKENS],
    ) -> Tile {
        let n = panel.d.len() / PANEL_ROWS;
        let n_blocks = SUPERBLOCK / shape.block();
        assert!(panel.levels.len() == n * PANEL_ROWS * SUPERBLOCK);
        assert!(panel.d.len() == n * PANEL_ROWS && panel.d_min.len() == n * PANEL_ROWS);
        assert!(panel.scales.len() == n * n_blocks * 2 * PANEL_ROWS);
        assert!(panel.mins.len() == n * n_blocks * PANEL_ROWS);
        for row in rows {
            assert!(row.quants.len() == n * SUPERBLOCK && row.scales.len() == n);
            assert!(row.sums.len() == n * n_blocks);
        }
        // SAFETY: `self` says that the processor has AVX2 and FMA; the assertions are the
        // contract of the function for these constants.
        unsafe {
            match shape {
                LevelsShape::Block32Levels16 => levels::<32, 8>(n, panel, rows),
                LevelsShape::Block32Levels32 => levels::<32, 4>(n, panel, rows),
                LevelsShape::Block16Levels32 => levels::<16, 4>(n, panel, rows),
                LevelsShape::Block16Levels64 => levels::<16, 2>(n, panel, rows),
            }
        }
    }

    /// Sums over `panel` and four rows of i16 activations without their scales. Panics unless all
    /// have the same length, a multiple of 32.
    pub fn wide(self, panel: WidePanel, rows: [&[i16]; TILE_TOKENS]) -> Tile {
        let n = panel.d.len() / PANEL_ROWS;
        assert!(panel.d.len() == n * PANEL_ROWS);
        assert!(panel.weights.len() == n * PANEL_ROWS * WIDE_BLOCK);
        assert!(rows.iter().all(|row| row.len() == n * WIDE_BLOCK));
        // SAFETY: `self` says that the processor has AVX2 and FMA; lengths are asserted.
        unsafe { wide(n, panel, rows.map(<[i16]>::as_ptr)) }
    }

    /// Sums over the float panel `[k][16]` and four rows of activations. Panics unless all have
    /// the same length.
    pub fn floats(self, panel: &[f32], rows: [&[f32]; TILE_TOKENS]) -> Tile {
        let n = panel.len() / PANEL_ROWS;
        assert!(panel.len() == n * PANEL_ROWS && rows.iter().all(|row| row.len() == n));
        // SAFETY: `self` says that the processor has AVX2 and FMA; lengths are asserted.
        unsafe { floats(n, panel.as_ptr(), rows.map(<[f32]>::as_ptr)) }
    }
}

/// `BLOCK` weights a sub-block; `FLUSH` steps of four weights fit into 16 bits.
///
/// # Safety
/// AVX2 and FMA; every slice is as long as `n` superblocks want it.
#[target_feature(enable = "avx2,fma")]
unsafe fn levels<const BLOCK: usize, const FLUSH: usize>(
    n: usize,
    panel: LevelsPanel,
    rows: [LevelsRow; TILE_TOKENS],
) -> Tile {
    let n_blocks = SUPERBLOCK / BLOCK;
    let mut weights = panel.levels.as_ptr();
    let mut scales = panel.scales.as_ptr();
    let mut mins = panel.mins.as_ptr();
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
                        let a = unsafe { broadcast(rows[t].quants.as_ptr().add(k + 4 * step)) };
                        for i in 0..2 {
                            let product = _mm256_maddubs_epi16(w[i], a);
                            short[t][i] = _mm256_add_epi16(short[t][i], product);
                        }
                    }
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
                let a = unsafe { broadcast(rows[t].sums.as_ptr().add(at)) };
                for i in 0..2 {
                    let product = _mm256_madd_epi16(min[i], a);
                    min_sums[t][i] = _mm256_add_epi32(min_sums[t][i], product);
                }
            }
        }
        // SAFETY: sixteen scales for each superblock.
        let (d, d_min) = unsafe {
            let at = superblock * PANEL_ROWS;
            (load_floats(panel.d.as_ptr().add(at)), load_floats(panel.d_min.as_ptr().add(at)))
        };
        for t in 0..TILE_TOKENS {
            let a = _mm256_set1_ps(rows[t].scales[superblock]);
            for i in 0..2 {
                let sum = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[t][i]), d[i]);
                let sum = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(min_sums[t][i]), d_min[i], sum);
                total[t][i] = _mm256_fmadd_ps(sum, a, total[t][i]);
            }
        }
    }
    tile(total)
}

/// # Safety
/// AVX2 and FMA; the panel and the rows have `n` blocks of 32.
#[target_feature(enable = "avx2,fma")]
unsafe fn wide(n: usize, panel: WidePanel, rows: [*const i16; TILE_TOKENS]) -> Tile {
    let mut weights = panel.weights.as_ptr();
    let mut total = [[_mm256_setzero_ps(); 2]; TILE_TOKENS];
    for block in 0..n {
        let mut sums = [[_mm256_setzero_si256(); 2]; TILE_TOKENS];
        for step in 0..WIDE_BLOCK / 2 {
            // SAFETY: 64 bytes of weights for each step of two.
            let w = unsafe { load_pair(weights.cast()) };
            weights = weights.wrapping_add(2 * PANEL_ROWS);
            for t in 0..TILE_TOKENS {
                // SAFETY: two activations, of 16 bits each.
                let a = unsafe { broadcast(rows[t].add(block * WIDE_BLOCK + 2 * step)) };
                for i in 0..2 {
                    sums[t][i] = _mm256_add_epi32(sums[t][i], _mm256_madd_epi16(w[i], a));
                }
            }
        }
        // SAFETY: sixteen scales for each block.
        let d = unsafe { load_floats(panel.d.as_ptr().add(block * PANEL_ROWS)) };
        for t in 0..TILE_TOKENS {
            for i in 0..2 {
                total[t][i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t][i]), d[i], total[t][i]);
            }
        }
    }
    tile(total)
}

/// # Safety
/// AVX2 and FMA; the panel has `n` columns of sixteen, each row `n` values.
#[target_feature(enable = "avx2,fma")]
unsafe fn floats(n: usize, panel: *const f32, rows: [*const f32; TILE_TOKENS]) -> Tile {
    /// Partial sums of this many products are rounded less often than one long sum.
    const PART: usize = 256;
    let mut total = [[_mm256_setzero_ps(); 2]; TILE_TOKENS];
    let mut start = 0;
    while start < n {
        let end = n.min(start + PART);
        let mut sums = [[_mm256_setzero_ps(); 2]; TILE_TOKENS];
        for k in start..end {
            // SAFETY: column k of the panel and value k of each row.
            let (w, a): (_, [f32; TILE_TOKENS]) = unsafe {
                let w = load_floats(panel.add(k * PANEL_ROWS));
                (w, std::array::from_fn(|t| rows[t].add(k).read()))
            };
            for t in 0..TILE_TOKENS {
                for i in 0..2 {
                    sums[t][i] = _mm256_fmadd_ps(w[i], _mm256_set1_ps(a[t]), sums[t][i]);
                }
            }
        }
        for t in 0..TILE_TOKENS {
            for i in 0..2 {
                total[t][i] = _mm256_add_ps(total[t][i], sums[t][i]);
            }
        }
        start = end;
    }
    tile(total)
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
unsafe fn broadcast<T>(from: *const T) -> __m256i {
    // SAFETY: by the contract.
    _mm256_set1_epi32(unsafe { from.cast::<i32>().read_unaligned() })
}

#[inline]
#[target_feature(enable = "avx2")]
fn tile(sums: Registers<__m256>) -> Tile {
    let mut out = [[0.0; PANEL_ROWS]; TILE_TOKENS];
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out.chunks_exact_mut(8).zip(sums) {
            // SAFETY: the chunk has eight values.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sum) };
        }
    }
    out
}
