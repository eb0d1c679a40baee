//! Rows to panels: transposes of eight rows of eight 32-bit elements.

use std::arch::x86_64::*;

use super::{TileMachine, PANEL_ROWS, SUPERBLOCK, WIDE_BLOCK};

/// Natural order of one superblock of each row of a panel.
pub type LevelRows = [[u8; SUPERBLOCK]; PANEL_ROWS];

impl TileMachine {
    /// One superblock of `LevelsPanel::levels`. Panics unless `out` is its size.
    pub fn interleave_levels(self, rows: &LevelRows, out: &mut [u8]) {
        assert_eq!(out.len(), PANEL_ROWS * SUPERBLOCK);
        // SAFETY: `self` says that the processor has AVX2. Eight rows of 256 bytes are read 32 at
        // a time; step s of half h is 32 bytes at 64 s + 32 h, the last one at 64 * 63 + 32.
        unsafe { levels(rows, out.as_mut_ptr()) }
    }

    /// One block of 32 of `WidePanel::weights`. Panics unless `out` is its size.
    pub fn interleave_wide(self, rows: &[[i8; WIDE_BLOCK]; PANEL_ROWS], out: &mut [i16]) {
        assert_eq!(out.len(), PANEL_ROWS * WIDE_BLOCK);
        // SAFETY: `self` says that the processor has AVX2. Step s of half h is 16 values at
        // 32 s + 16 h, the last one at 32 * 15 + 16.
        unsafe { wide(rows, out.as_mut_ptr()) }
    }

    /// Eight columns of a float panel from f32 rows: `out` is `[8][16]`. Panics if a row is
    /// shorter than eight.
    pub fn interleave_f32(self, rows: [&[u8]; PANEL_ROWS], out: &mut [f32]) {
        assert!(out.len() == 8 * PANEL_ROWS && rows.iter().all(|row| row.len() >= 32));
        // SAFETY: `self` says that the processor has AVX2; the assertion says that 32 bytes of
        // each row can be read and eight times 16 values written.
        unsafe { floats(rows, out.as_mut_ptr(), |p| _mm256_loadu_si256(p.cast())) }
    }

    /// The same from bf16 rows.
    pub fn interleave_bf16(self, rows: [&[u8]; PANEL_ROWS], out: &mut [f32]) {
        assert!(out.len() == 8 * PANEL_ROWS && rows.iter().all(|row| row.len() >= 16));
        // SAFETY: as above with 16 bytes of each row.
        unsafe {
            floats(rows, out.as_mut_ptr(), |p| {
                _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))
            });
        }
    }

    /// The same from f16 rows.
    pub fn interleave_f16(self, rows: [&[u8]; PANEL_ROWS], out: &mut [f32]) {
        assert!(out.len() == 8 * PANEL_ROWS && rows.iter().all(|row| row.len() >= 16));
        // SAFETY: as above with 16 bytes of each row; `self` says F16C too.
        unsafe {
            floats(rows, out.as_mut_ptr(), |p| {
                _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())))
            });
        }
    }
}

/// # Safety
/// AVX2; `out` has room for 4096 bytes.
#[target_feature(enable = "avx2")]
unsafe fn levels(rows: &LevelRows, out: *mut u8) {
    for half in 0..2 {
        for chunk in 0..SUPERBLOCK / 32 {
            let columns = transpose(std::array::from_fn(|row| {
                let row = &rows[8 * half + row][32 * chunk..][..32];
                // SAFETY: the slice has 32 bytes.
                unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
            }));
            for (step, column) in columns.into_iter().enumerate() {
                // SAFETY: per the contract; the largest offset is 64 * 63 + 32.
                unsafe {
                    let at = out.add(64 * (8 * chunk + step) + 32 * half);
                    _mm256_storeu_si256(at.cast(), column);
                }
            }
        }
    }
}

/// # Safety
/// AVX2; `out` has room for 512 values.
#[target_feature(enable = "avx2")]
unsafe fn wide(rows: &[[i8; WIDE_BLOCK]; PANEL_ROWS], out: *mut i16) {
    for half in 0..2 {
        for chunk in 0..2 {
            let columns = transpose(std::array::from_fn(|row| {
                let row = &rows[8 * half + row][16 * chunk..][..16];
                // SAFETY: the slice has 16 bytes.
                unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(row.as_ptr().cast())) }
            }));
            for (step, column) in columns.into_iter().enumerate() {
                // SAFETY: per the contract; the largest offset is 32 * 15 + 16.
                unsafe {
                    let at = out.add(32 * (8 * chunk + step) + 16 * half);
                    _mm256_storeu_si256(at.cast(), column);
                }
            }
        }
    }
}

/// # Safety
/// AVX2 and what `load` needs; `load` may read the start of every row; `out` has room for 128
/// values.
#[target_feature(enable = "avx2,f16c")]
unsafe fn floats(
    rows: [&[u8]; PANEL_ROWS],
    out: *mut f32,
    load: impl Fn(*const u8) -> __m256i + Copy,
) {
    for half in 0..2 {
        let columns = transpose(std::array::from_fn(|row| load(rows[8 * half + row].as_ptr())));
        for (k, column) in columns.into_iter().enumerate() {
            // SAFETY: per the contract; the largest offset is 16 * 7 + 8.
            unsafe { _mm256_storeu_si256(out.add(16 * k + 8 * half).cast(), column) };
        }
    }
}

/// Rows of eight 32-bit elements to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    // Pairs of rows, then fours, within each half of a register; then the halves.
    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    let (ef_low, ef_high) = (_mm256_unpacklo_epi32(e, f), _mm256_unpackhi_epi32(e, f));
    let (gh_low, gh_high) = (_mm256_unpacklo_epi32(g, h), _mm256_unpackhi_epi32(g, h));
    let top = [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ];
    let bottom = [
        _mm256_unpacklo_epi64(ef_low, gh_low),
        _mm256_unpackhi_epi64(ef_low, gh_low),
        _mm256_unpacklo_epi64(ef_high, gh_high),
        _mm256_unpackhi_epi64(ef_high, gh_high),
    ];
    std::array::from_fn(|i| {
        if i < 4 {
            _mm256_permute2x128_si256::<0x20>(top[i], bottom[i])
        } else {
            _mm256_permute2x128_si256::<0x31>(top[i - 4], bottom[i - 4])
        }
    })
}
