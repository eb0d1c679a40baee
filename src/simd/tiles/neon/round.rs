//! Rows of activations to whole numbers. Loops over a few lanes, which the compiler makes
//! instructions of: NEON belongs to the baseline.

use crate::simd::tiles::{TileMachine, SUPERBLOCK, WIDE_BLOCK};

impl TileMachine {
    /// Rounds a superblock of activations to whole numbers of magnitude 127 and adds up each
    /// `SUPERBLOCK / sums.len()` of them; the row is the numbers times the scale returned. A value
    /// that is NaN or infinite makes the scale NaN. Panics unless there are 8 or 16 sums and
    /// `row` and `quants` are a superblock.
    pub fn round_levels(self, row: &[f32], quants: &mut [i8], sums: &mut [i16]) -> f32 {
        assert!(row.len() == SUPERBLOCK && quants.len() == SUPERBLOCK);
        assert!(sums.len() == 8 || sums.len() == 16);
        let (inverse, scale) = scales(row, 127.0);
        levels(row, inverse, quants);
        for (block, out) in quants.chunks_exact(SUPERBLOCK / sums.len()).zip(sums) {
            *out = sum(block);
        }
        scale
    }

    /// Rounds a block of activations to whole numbers of magnitude 127; returns the scale as
    /// [`round_levels`](Self::round_levels) does, and the sum of the numbers. Panics unless
    /// both have 32.
    pub fn round_bytes(self, row: &[f32], quants: &mut [i8]) -> (f32, i32) {
        assert!(row.len() == WIDE_BLOCK && quants.len() == WIDE_BLOCK);
        let (inverse, scale) = scales(row, 127.0);
        levels(row, inverse, quants);
        (scale, sum(quants).into())
    }

    /// Rounds a row of activations to BF16, ties to even. Panics unless both have the same length.
    pub fn round_pairs(self, row: &[f32], out: &mut [u16]) {
        assert!(row.len() == out.len());
        for (x, out) in row.iter().zip(out) {
            // Half a unit of the upper half, less one bit where that is even. A NaN becomes one
            // that no addition turns into infinity.
            let bits = x.to_bits();
            let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
            *out = if x.is_nan() { 0x7fc0 } else { rounded };
        }
    }

    /// Rounds a block of activations to whole numbers of magnitude `largest`, scale as in
    /// [`round_levels`](Self::round_levels). Panics unless both have 32.
    pub fn round_wide(self, row: &[f32], largest: i16, quants: &mut [i16]) -> f32 {
        assert!(row.len() == WIDE_BLOCK && quants.len() == WIDE_BLOCK);
        let (inverse, scale) = scales(row, largest.into());
        for (x, quant) in row.iter().zip(quants) {
            *quant = (x * inverse).round_ties_even() as i16;
        }
        scale
    }
}

/// What brings the largest magnitude of `row` to `max`, and what takes it back.
fn scales(row: &[f32], max: f32) -> (f32, f32) {
    let mut largest = [0f32; 8];
    // Zero, or NaN if a value is not finite.
    let mut poison = [0f32; 8];
    for part in row.chunks_exact(8) {
        for i in 0..8 {
            largest[i] = largest[i].max(part[i].abs());
            poison[i] += part[i] * 0.0;
        }
    }
    let largest = largest.into_iter().fold(0f32, f32::max);
    let poison: f32 = poison.into_iter().sum();
    // A row so small that the quotient is not finite is zero.
    let inverse = max / largest;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    (inverse, if inverse == 0.0 { 0.0 } else { 1.0 / inverse } + poison)
}

/// `row` times `inverse` to the nearest whole numbers, ties to even.
fn levels(row: &[f32], inverse: f32, quants: &mut [i8]) {
    for (x, quant) in row.iter().zip(quants) {
        *quant = (x * inverse).round_ties_even() as i8;
    }
}

fn sum(quants: &[i8]) -> i16 {
    quants.iter().map(|&quant| i16::from(quant)).sum()
}
