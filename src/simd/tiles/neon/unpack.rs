//! Blocks of sixteen rows to panels: the bits of the levels to bytes, then transposes of four rows
//! of four 32-bit elements.

use std::arch::aarch64::*;

use half::f16;
use half::slice::HalfFloatSliceExt;

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
        match bits {
            LevelBits::Two => levels(out, |row, j| two_bits(low[row], j)),
            LevelBits::Three => levels(out, |row, j| {
                let third = bits_at(&high[row][16 * (j % 2)..], j / 2, 1);
                or(two_bits(low[row], j), third, 2)
            }),
            LevelBits::Four => levels(out, |row, j| four_bits(low[row], j)),
            LevelBits::Five => levels(out, |row, j| {
                let fifth = bits_at(&high[row][16 * (j % 2)..], j / 2, 1);
                or(four_bits(low[row], j), fifth, 4)
            }),
            LevelBits::Six => levels(out, |row, j| {
                // Of each half: parts 0 and 1 are the low nibbles of 32 bytes each, 2 and 3 the
                // high ones; 32 bytes above hold two bits of each.
                let (half, part, odd) = (j / 8, j / 2 % 4, 16 * (j % 2));
                let low = &low[row][64 * half + 32 * (part % 2) + odd..];
                let high = bits_at(&high[row][32 * half + odd..], 2 * part, 3);
                or(bits_at(low, 4 * (part / 2), 15), high, 4)
            }),
        }
    }

    /// One block of 32 of `BlockPanels::weights` as i16 from the bytes of each row. Panics unless a row has
    /// 32 and `out` is the size of a block of a panel.
    pub fn unpack_wide(self, rows: [&[u8]; PANEL_ROWS], out: &mut [i16]) {
        assert!(rows.iter().all(|row| row.len() == WIDE_BLOCK));
        assert!(out.len() == PANEL_ROWS * WIDE_BLOCK);
        for (step, out) in out.chunks_exact_mut(2 * PANEL_ROWS).enumerate() {
            for (out, row) in out.chunks_exact_mut(2).zip(rows) {
                out.copy_from_slice(&[row[2 * step], row[2 * step + 1]].map(|b| (b as i8).into()));
            }
        }
    }

    /// One block of 32 of `BlockPanels::weights` as bytes from the signed bytes of each row. Panics unless a
    /// row has 32 and `out` is the size of a block of a panel.
    pub fn unpack_bytes(self, rows: [&[u8]; PANEL_ROWS], out: &mut [u8]) {
        assert!(rows.iter().all(|row| row.len() == WIDE_BLOCK));
        assert!(out.len() == PANEL_ROWS * WIDE_BLOCK);
        columns(rows, out);
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
        for (row, (bytes, d)) in rows.into_iter().zip(d).enumerate() {
            let value = |k: usize| {
                let half = u16::from_le_bytes([bytes[2 * k], bytes[2 * k + 1]]);
                f32::from_bits(u32::from(half) << 16)
            };
            let mut quants = [0; WIDE_BLOCK];
            *d = self.round_wide(
                &std::array::from_fn::<_, WIDE_BLOCK, _>(value),
                largest,
                &mut quants,
            );
            for (pair, out) in quants.chunks_exact(2).zip(out.chunks_exact_mut(2 * PANEL_ROWS)) {
                out[2 * row..2 * row + 2].copy_from_slice(pair);
            }
        }
    }

    /// The first `16 n` columns of a panel of pairs from bf16 rows: `out` is `[8 n][16][2]`. Panics if
    /// it is not, or a row is shorter.
    pub fn unpack_pairs(self, rows: [&[u8]; PANEL_ROWS], out: &mut [u16]) {
        assert!(out.len().is_multiple_of(16 * PANEL_ROWS), "{} values", out.len());
        columns(rows, bytemuck::cast_slice_mut(out));
    }

    /// The first `8 n` columns of a float panel from f32 rows: `out` is `[8 n][16]`. Panics if it is
    /// not, or a row is shorter.
    pub fn unpack_f32(self, rows: [&[u8]; PANEL_ROWS], out: &mut [f32]) {
        assert!(out.len().is_multiple_of(8 * PANEL_ROWS), "{} values", out.len());
        columns(rows, bytemuck::cast_slice_mut(out));
    }

    /// Eight columns of a float panel from f16 rows: `out` is `[8][16]`. Panics if a row is shorter
    /// than eight.
    pub fn unpack_f16(self, rows: [&[u8]; PANEL_ROWS], out: &mut [f32]) {
        assert!(out.len() == 8 * PANEL_ROWS && rows.iter().all(|row| row.len() >= 16));
        let wide = rows.map(|row| {
            let half = |k: usize| f16::from_le_bytes([row[2 * k], row[2 * k + 1]]);
            let mut wide = [0f32; 8];
            std::array::from_fn::<_, 8, _>(half).convert_to_f32_slice(&mut wide);
            wide
        });
        let bytes: [&[u8]; PANEL_ROWS] = wide.each_ref().map(|row| bytemuck::cast_slice(row));
        columns(bytes, bytemuck::cast_slice_mut(out));
    }

    /// Sixteen IEEE halves to f32.
    pub fn halves(self, halves: &[u16; PANEL_ROWS]) -> [f32; PANEL_ROWS] {
        let mut out = [0.0; PANEL_ROWS];
        halves.map(f16::from_bits).convert_to_f32_slice(&mut out);
        out
    }
}

/// Sixteen levels `j` of each row from `of` to steps of four.
#[inline(always)]
fn levels(out: &mut [u8], of: impl Fn(usize, usize) -> uint8x16_t) {
    for (j, out) in out.chunks_exact_mut(16 * PANEL_ROWS).enumerate() {
        four_steps(out, |row| of(row, j));
    }
}

/// The first columns of 32-bit elements of all rows, as many as `out` has room for, a multiple of
/// four. Panics if rows are shorter.
#[inline(always)]
fn columns(rows: [&[u8]; PANEL_ROWS], out: &mut [u8]) {
    for (four, out) in out.chunks_exact_mut(16 * PANEL_ROWS).enumerate() {
        four_steps(out, |row| load(&rows[row][16 * four..]));
    }
}

/// Four steps of a panel from sixteen bytes of each row: `out` is `[4][16][4]`.
#[inline(always)]
fn four_steps(out: &mut [u8], of: impl Fn(usize) -> uint8x16_t) {
    assert!(out.len() == 16 * PANEL_ROWS);
    for first in (0..PANEL_ROWS).step_by(4) {
        let rows = std::array::from_fn(|row| of(first + row));
        for (step, column) in transpose(rows).into_iter().enumerate() {
            let out = &mut out[4 * (step * PANEL_ROWS + first)..][..16];
            // SAFETY: NEON belongs to the baseline; the slice has sixteen bytes.
            unsafe { vst1q_u8(out.as_mut_ptr(), column) };
        }
    }
}

/// Two bits of 64 bytes: bits `2 j` of byte `i` of each 32 are weight `32 j + i` of 128.
#[inline(always)]
fn two_bits(low: &[u8], j: usize) -> uint8x16_t {
    bits_at(&low[32 * (j / 8) + 16 * (j % 2)..], 2 * (j / 2 % 4), 3)
}

/// Four bits: byte `i` of each 32 has weight `i` of 64 below and `i + 32` above.
#[inline(always)]
fn four_bits(low: &[u8], j: usize) -> uint8x16_t {
    bits_at(&low[32 * (j / 4) + 16 * (j % 2)..], 4 * (j / 2 % 2), 15)
}

/// Bits of sixteen bytes from `shift` on, as many as `mask` has.
#[inline(always)]
fn bits_at(bytes: &[u8], shift: usize, mask: u8) -> uint8x16_t {
    // SAFETY: NEON belongs to the baseline.
    unsafe {
        let shifted = vshlq_u8(load(bytes), vdupq_n_s8(-(shift as i8)));
        vandq_u8(shifted, vdupq_n_u8(mask))
    }
}

/// `low`, and `high` from bit `shift` on.
#[inline(always)]
fn or(low: uint8x16_t, high: uint8x16_t, shift: i8) -> uint8x16_t {
    // SAFETY: NEON belongs to the baseline.
    unsafe { vorrq_u8(low, vshlq_u8(high, vdupq_n_s8(shift))) }
}

#[inline(always)]
fn load(bytes: &[u8]) -> uint8x16_t {
    assert!(bytes.len() >= 16);
    // SAFETY: NEON belongs to the baseline; sixteen bytes are there.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// Rows of four 32-bit elements to columns.
#[inline(always)]
fn transpose(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    // SAFETY: NEON belongs to the baseline.
    unsafe {
        let [a, b, c, d] = rows.map(|row| vreinterpretq_u32_u8(row));
        let pair = |a, b| {
            [vreinterpretq_u64_u32(vtrn1q_u32(a, b)), vreinterpretq_u64_u32(vtrn2q_u32(a, b))]
        };
        // Elements 0 and 2, 1 and 3 of two rows.
        let ([ab0, ab1], [cd0, cd1]) = (pair(a, b), pair(c, d));
        [vtrn1q_u64(ab0, cd0), vtrn1q_u64(ab1, cd1), vtrn2q_u64(ab0, cd0), vtrn2q_u64(ab1, cd1)]
            .map(|column| vreinterpretq_u8_u64(column))
    }
}
