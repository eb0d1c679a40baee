//! Blocks of sixteen rows to panels: the bits of the levels to bytes, then transposes of eight
//! rows of eight 32-bit elements.

use std::arch::x86_64::*;

use crate::simd::tiles::{LevelBits, TileMachine, PANEL_ROWS, SUPERBLOCK, WIDE_BLOCK};

impl TileMachine {
    /// One superblock of `LevelsPanels::levels` from the bits of each row. Panics unless all are
    /// of the sizes that `bits` names and `out` is that of a superblock of a panel.
    pub fn unpack_levels(
        self,
        bits: LevelBits,
        low: [&[u8]; PANEL_ROWS],
        high: [&[u8]; PANEL_ROWS],
        out: &mut [u8],
    ) {
        assert!(low.iter().all(|low| low.len() == bits.low_bytes()));
        assert!(high.iter().all(|high| high.len() == bits.high_bytes()));
        assert!(out.len() == PANEL_ROWS * SUPERBLOCK);
        let (low, high) = (low.map(<[u8]>::as_ptr), high.map(<[u8]>::as_ptr));
        let out = out.as_mut_ptr();
        // SAFETY: `self` says that the processor has AVX2; the assertions are the contracts.
        unsafe {
            match bits {
                LevelBits::Two => {
                    let of = |low, _: [_; 0], part, _| bits_at::<3>(low, 2 * part);
                    levels(low, high, out, |piece, part: usize| 4 * piece + part, of, 2);
                }
                LevelBits::Three => {
                    let of = |low, [high]: [_; 1], part, j| {
                        let third = _mm256_slli_epi16::<2>(bits_at::<1>(high, j));
                        _mm256_or_si256(bits_at::<3>(low, 2 * part), third)
                    };
                    levels(low, high, out, |piece, part| 4 * piece + part, of, 2);
                }
                LevelBits::Four => {
                    let of = |low, _: [_; 0], part, _| bits_at::<15>(low, 4 * part);
                    levels(low, high, out, |piece, part| 2 * piece + part, of, 4);
                }
                LevelBits::Five => {
                    let of = |low, [high]: [_; 1], part, j| {
                        let fifth = _mm256_slli_epi16::<4>(bits_at::<1>(high, j));
                        _mm256_or_si256(bits_at::<15>(low, 4 * part), fifth)
                    };
                    levels(low, high, out, |piece, part| 2 * piece + part, of, 4);
                }
                LevelBits::Six => {
                    // Of each half of a superblock: 32s 0 and 1 are the low nibbles of 32 bytes
                    // each, 2 and 3 the high ones; 32 bytes above hold two bits of each.
                    let of = |low, high: [_; 2], part, j: usize| {
                        let high = _mm256_slli_epi16::<4>(bits_at::<3>(high[j / 4], 2 * (j % 4)));
                        _mm256_or_si256(bits_at::<15>(low, 4 * part), high)
                    };
                    let at = |piece: usize, part| 4 * (piece / 2) + 2 * part + piece % 2;
                    levels(low, high, out, at, of, 4);
                }
            }
        }
    }

    /// One block of 32 of `BlockPanels::weights` as i16 from the bytes of each row. Panics unless a row has
    /// 32 and `out` is the size of a block of a panel.
    pub fn unpack_wide(self, rows: [&[u8]; PANEL_ROWS], out: &mut [i16]) {
        assert!(rows.iter().all(|row| row.len() == WIDE_BLOCK));
        assert!(out.len() == PANEL_ROWS * WIDE_BLOCK);
        // SAFETY: `self` says that the processor has AVX2. Step s of half h is 16 values at
        // 32 s + 16 h, the last one at 32 * 15 + 16.
        unsafe { wide(rows, out.as_mut_ptr()) }
    }

    /// One block of 32 of `BlockPanels::weights` as bytes from the signed bytes of each row. Panics unless a
    /// row has 32 and `out` is the size of a block of a panel.
    pub fn unpack_bytes(self, rows: [&[u8]; PANEL_ROWS], out: &mut [u8]) {
        assert!(rows.iter().all(|row| row.len() == WIDE_BLOCK));
        assert!(out.len() == PANEL_ROWS * WIDE_BLOCK);
        // SAFETY: `self` says that the processor has AVX2; the assertions say that 32 bytes of
        // each row can be read and eight times 64 written.
        unsafe {
            let offset = _mm256_set1_epi8(self.byte_offset() as i8);
            columns(rows, out.as_mut_ptr(), |row| _mm256_xor_si256(load(row), offset));
        }
    }

    /// One block of 32 of `BlockPanels::weights` and of `BlockPanels::d` from bf16 rows: the largest
    /// magnitude of a row becomes `largest`. A value that is NaN or infinite makes its scale NaN.
    /// Panics unless a row has 64 bytes and `out` is the size of a block of a panel.
    pub fn unpack_scaled(
        self,
        rows: [&[u8]; PANEL_ROWS],
        largest: i16,
        out: &mut [i16],
        d: &mut [f32],
    ) {
        assert!(rows.iter().all(|row| row.len() == 2 * WIDE_BLOCK));
        assert!(out.len() == PANEL_ROWS * WIDE_BLOCK && d.len() == PANEL_ROWS);
        // SAFETY: `self` says that the processor has AVX2; lengths are asserted.
        unsafe { scaled(rows, largest, out.as_mut_ptr(), d.as_mut_ptr()) }
    }

    /// The first `16 n` columns of a panel of pairs from bf16 rows: `out` is `[8 n][16][2]`. Panics if
    /// it is not, or a row is shorter.
    pub fn unpack_pairs(self, rows: [&[u8]; PANEL_ROWS], out: &mut [u16]) {
        self.unpack_words(rows, bytemuck::cast_slice_mut(out));
    }

    /// The first `8 n` columns of a float panel from f32 rows: `out` is `[8 n][16]`. Panics if it is
    /// not, or a row is shorter.
    pub fn unpack_f32(self, rows: [&[u8]; PANEL_ROWS], out: &mut [f32]) {
        self.unpack_words(rows, bytemuck::cast_slice_mut(out));
    }

    /// Elements of 32 bits from their rows: `out` is `[8 n][16]` of them.
    fn unpack_words(self, rows: [&[u8]; PANEL_ROWS], out: &mut [u8]) {
        let n = out.len() / (PIECE_BYTES * PANEL_ROWS);
        assert!(out.len() == n * PIECE_BYTES * PANEL_ROWS, "{} bytes", out.len());
        assert!(rows.iter().all(|row| row.len() >= n * PIECE_BYTES));
        // SAFETY: `self` says that the processor has AVX2; the assertions say that so many bytes of
        // each row can be read, and sixteen times as many written.
        unsafe { words(rows.map(<[u8]>::as_ptr), n, out.as_mut_ptr()) }
    }

    /// Eight columns of a float panel from f16 rows: `out` is `[8][16]`. Panics if a row is shorter
    /// than eight.
    pub fn unpack_f16(self, rows: [&[u8]; PANEL_ROWS], out: &mut [f32]) {
        assert!(out.len() == 8 * PANEL_ROWS && rows.iter().all(|row| row.len() >= 16));
        // SAFETY: `self` says that the processor has AVX2 and F16C; the assertion says that 16 bytes
        // of each row can be read and eight times 64 written.
        unsafe {
            columns(rows, out.as_mut_ptr().cast(), |p| {
                _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())))
            });
        }
    }

    /// Sixteen IEEE halves to f32.
    pub fn halves(self, halves: &[u16; PANEL_ROWS]) -> [f32; PANEL_ROWS] {
        // SAFETY: `self` says F16C.
        unsafe { widen(halves) }
    }
}

/// Sixteen rows of `pieces` times 32 bytes of low bits, and of `HIGH` times 32 of those above. A piece
/// has parts of several 32 levels: part `part` of piece `piece` is in 32 number `at(piece, part)` of
/// the superblock. `of` makes levels from low bits, those above, the part and the number of the 32.
/// Bytes become columns before they become levels, because there are fewer of them.
///
/// # Safety
/// AVX2; so many bytes can be read; `at` is below eight; `out` has room for 4096 bytes.
#[target_feature(enable = "avx2")]
unsafe fn levels<const HIGH: usize>(
    low: [*const u8; PANEL_ROWS],
    high: [*const u8; PANEL_ROWS],
    out: *mut u8,
    at: impl Fn(usize, usize) -> usize + Copy,
    of: impl Fn(__m256i, [__m256i; HIGH], usize, usize) -> __m256i + Copy,
    pieces: usize,
) {
    for half in 0..2 {
        let columns = |rows: &[*const u8; PANEL_ROWS], piece: usize| {
            // SAFETY: per the contract.
            let row = |row: usize| unsafe { load(rows[8 * half + row].add(32 * piece)) };
            transpose(std::array::from_fn(row))
        };
        let mut above = [[_mm256_setzero_si256(); HIGH]; 8];
        for piece in 0..HIGH {
            for (above, column) in above.iter_mut().zip(columns(&high, piece)) {
                above[piece] = column;
            }
        }
        for piece in 0..pieces {
            let below = columns(&low, piece);
            for part in 0..8 / pieces {
                let j = at(piece, part);
                for step in 0..8 {
                    // SAFETY: per the contract; the largest offset is 64 * 63 + 32.
                    unsafe {
                        let to = out.add(64 * (8 * j + step) + 32 * half);
                        _mm256_storeu_si256(to.cast(), of(below[step], above[step], part, j));
                    }
                }
            }
        }
    }
}

/// Bits of each byte from `shift` on, as many as `MASK` has.
#[inline]
#[target_feature(enable = "avx2")]
fn bits_at<const MASK: i8>(bytes: __m256i, shift: usize) -> __m256i {
    let shifted = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(shift as i32));
    _mm256_and_si256(shifted, _mm256_set1_epi8(MASK))
}

/// # Safety
/// AVX2; 32 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const u8) -> __m256i {
    // SAFETY: by the contract.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// # Safety
/// AVX2; each row has 32 bytes, `out` has room for 512 values.
#[target_feature(enable = "avx2")]
unsafe fn wide(rows: [&[u8]; PANEL_ROWS], out: *mut i16) {
    for half in 0..2 {
        for chunk in 0..2 {
            let columns = transpose(std::array::from_fn(|row| {
                // SAFETY: per the contract: 16 bytes from 0 or 16 on.
                unsafe {
                    let from = rows[8 * half + row].as_ptr().add(16 * chunk);
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast()))
                }
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
/// AVX2; each row has 64 bytes, `out` has room for 512 values, `d` for 16.
#[target_feature(enable = "avx2")]
unsafe fn scaled(rows: [&[u8]; PANEL_ROWS], largest: i16, out: *mut i16, d: *mut f32) {
    let (zero, sign) = (_mm256_setzero_ps(), _mm256_set1_ps(-0.0));
    let top = _mm256_set1_ps(largest.into());
    for half in 0..2 {
        // Pairs of columns, a row in each lane.
        let mut pairs = [_mm256_setzero_si256(); WIDE_BLOCK / 2];
        for (chunk, pairs) in pairs.chunks_exact_mut(8).enumerate() {
            let row = |row: usize| {
                // SAFETY: per the contract: 32 bytes from 0 or 32 on.
                unsafe { load(rows[8 * half + row].as_ptr().add(32 * chunk)) }
            };
            pairs.copy_from_slice(&transpose(std::array::from_fn(row)));
        }
        // Zero, or NaN if a value is not finite.
        let (mut most, mut poison) = (zero, zero);
        for value in pairs.iter().flat_map(|&pair| both(pair)) {
            most = _mm256_max_ps(_mm256_andnot_ps(sign, value), most);
            poison = _mm256_add_ps(poison, _mm256_mul_ps(value, zero));
        }
        // A row so small that the quotient is not finite is zero.
        let inverse = _mm256_div_ps(top, most);
        let finite = _mm256_cmp_ps::<_CMP_LT_OQ>(inverse, _mm256_set1_ps(f32::INFINITY));
        let inverse = _mm256_and_ps(inverse, finite);
        let scale = _mm256_and_ps(_mm256_div_ps(most, top), finite);
        for (step, &pair) in pairs.iter().enumerate() {
            let [even, odd] =
                both(pair).map(|value| _mm256_cvtps_epi32(_mm256_mul_ps(value, inverse)));
            let pair = _mm256_blend_epi16::<0b1010_1010>(even, _mm256_slli_epi32::<16>(odd));
            // SAFETY: per the contract; the largest offset is 32 * 15 + 16.
            unsafe { _mm256_storeu_si256(out.add(32 * step + 16 * half).cast(), pair) };
        }
        // SAFETY: per the contract.
        unsafe { _mm256_storeu_ps(d.add(8 * half), _mm256_add_ps(scale, poison)) };
    }
}

/// The lower and the upper BF16 of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn both(pair: __m256i) -> [__m256; 2] {
    let upper = _mm256_and_si256(pair, _mm256_set1_epi32(0xffff_0000_u32 as i32));
    [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair)), _mm256_castsi256_ps(upper)]
}

/// # Safety
/// AVX2 and what `load` needs; `load` may read the start of every row; `out` has room for 512
/// bytes.
#[target_feature(enable = "avx2,f16c")]
unsafe fn columns(
    rows: [&[u8]; PANEL_ROWS],
    out: *mut u8,
    load: impl Fn(*const u8) -> __m256i + Copy,
) {
    for half in 0..2 {
        let columns = transpose(std::array::from_fn(|row| load(rows[8 * half + row].as_ptr())));
        for (k, column) in columns.into_iter().enumerate() {
            // SAFETY: per the contract; the largest offset is 64 * 7 + 32.
            unsafe { _mm256_storeu_si256(out.add(64 * k + 32 * half).cast(), column) };
        }
    }
}

/// What a register holds of a row.
const PIECE_BYTES: usize = 32;

/// `n` pieces of each row. Rows of a model often lie a multiple of 4 KiB apart, and then the lines of
/// sixteen do not fit into the ways of the first-level cache. So whole lines of eight rows are read,
/// and then those of the other eight.
///
/// # Safety
/// AVX2; each row has so many pieces, and `out` has room for sixteen times as many.
#[target_feature(enable = "avx2")]
unsafe fn words(rows: [*const u8; PANEL_ROWS], n: usize, out: *mut u8) {
    let (mut first, mut end) =
        (0, if rows[0].addr().is_multiple_of(2 * PIECE_BYTES) { 2 } else { 1 });
    while first < n {
        for half in 0..2 {
            for piece in first..end.min(n) {
                // SAFETY: per the contract: the piece is one of the row's.
                let row =
                    |row: usize| unsafe { load(rows[8 * half + row].add(PIECE_BYTES * piece)) };
                for (k, column) in transpose(std::array::from_fn(row)).into_iter().enumerate() {
                    // SAFETY: per the contract: 512 bytes for each piece, the last 32 of them at
                    // 64 * 7 + 32.
                    unsafe {
                        let to = out.add(512 * piece + 64 * k + 32 * half);
                        _mm256_storeu_si256(to.cast(), column);
                    }
                }
            }
        }
        (first, end) = (end, end + 2);
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

#[target_feature(enable = "f16c")]
fn widen(halves: &[u16; PANEL_ROWS]) -> [f32; PANEL_ROWS] {
    let mut out = [0.0; PANEL_ROWS];
    for (halves, out) in halves.chunks_exact(8).zip(out.chunks_exact_mut(8)) {
        // SAFETY: both chunks have eight values.
        unsafe {
            let halves = _mm_loadu_si128(halves.as_ptr().cast());
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any number of pieces, from any place in a cache line on.
    #[test]
    fn words_become_columns() {
        let Some(machine) = TileMachine::detect() else { return };
        for n in 0..6 {
            let n_bytes = n * PIECE_BYTES;
            let bytes: Vec<u8> =
                (0..PANEL_ROWS * (n_bytes + 64)).map(|i| (i * 31 % 251) as u8).collect();
            for offset in 0..64 {
                let start = |row: usize| row * n_bytes + offset;
                let rows = std::array::from_fn(|row| &bytes[start(row)..][..n_bytes]);
                let mut out = vec![0u16; 16 * n * PANEL_ROWS];
                machine.unpack_pairs(rows, &mut out);
                for (at, pair) in out.chunks_exact(2).enumerate() {
                    let (column, row) = (at / PANEL_ROWS, at % PANEL_ROWS);
                    let word = &bytes[start(row) + 4 * column..][..4];
                    assert_eq!(bytemuck::cast_slice::<u16, u8>(pair), word, "{n} {offset} {at}");
                }
            }
        }
    }
}
