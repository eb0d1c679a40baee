//! Activations as the products want them.

use std::ops::Range;

use crate::simd::tiles::{LevelsRow, SUPERBLOCK};
use crate::simd::{dispatch, InstructionSet, Kernel, Lanes, ROUNDER};

/// Rows begin at multiples of this many bytes.
const ALIGN: usize = 64;

/// What a row of activations becomes before a product. A value that is NaN or infinite makes the
/// scale NaN, and so the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// f32 as they are.
    Float,
    /// `[n] i16 | scale f32`: the largest magnitude of the row is 32767.
    Wide,
    /// `[n] i8 | scales [n / 256] f32 | sums [n / block] i16`: the largest magnitude of each 256
    /// is 127.
    Levels {
        /// Weights under one sum.
        block: usize,
    },
}

impl Activations {
    /// Bytes of a prepared row of `n` values.
    pub const fn row_bytes(self, n: usize) -> usize {
        match self {
            Self::Float => 4 * n,
            Self::Wide => (2 * n + 4).next_multiple_of(ALIGN),
            Self::Levels { block } => {
                (n + n / SUPERBLOCK * 4 + n / block * 2).next_multiple_of(ALIGN)
            }
        }
    }

    /// Prepares one row. Panics unless `out` is its size and begins at a multiple of four bytes;
    /// `Float` rows need no preparing.
    pub fn prepare(self, row: &[f32], out: &mut [u8]) {
        assert_eq!(out.len(), self.row_bytes(row.len()), "bytes of {} activations", row.len());
        let set = InstructionSet::best();
        match self {
            Self::Float => out.copy_from_slice(bytemuck::cast_slice(row)),
            Self::Wide => {
                let (quants, rest) = out.split_at_mut(2 * row.len());
                let mut scale = 0.0;
                let quants: &mut [i16] = bytemuck::cast_slice_mut(quants);
                dispatch(set, Round { row, quants, scale: &mut scale, max: 32767.0 });
                rest[..4].copy_from_slice(&scale.to_ne_bytes());
            }
            Self::Levels { block } => {
                assert!(row.len().is_multiple_of(SUPERBLOCK), "{} activations", row.len());
                let (quants, rest) = out.split_at_mut(row.len());
                let (scales, rest) = rest.split_at_mut(row.len() / SUPERBLOCK * 4);
                let sums = &mut rest[..row.len() / block * 2];
                let quants: &mut [i8] = bytemuck::cast_slice_mut(quants);
                let scales: &mut [f32] = bytemuck::cast_slice_mut(scales);
                let parts = row.chunks_exact(SUPERBLOCK).zip(quants.chunks_exact_mut(SUPERBLOCK));
                for ((row, quants), scale) in parts.zip(scales) {
                    dispatch(set, Round { row, quants, scale, max: 127.0 });
                }
                let sums: &mut [i16] = bytemuck::cast_slice_mut(sums);
                for (sum, quants) in sums.iter_mut().zip(quants.chunks_exact(block)) {
                    *sum = quants.iter().map(|&quant| i16::from(quant)).sum();
                }
            }
        }
    }
}

/// A prepared row of `n` values with `block` weights a sum.
pub(super) fn levels_row(row: &[u8], n: usize, block: usize) -> LevelsRow<'_> {
    let (quants, rest) = row.split_at(n);
    let (scales, rest) = rest.split_at(n / SUPERBLOCK * 4);
    LevelsRow {
        quants: bytemuck::cast_slice(quants),
        scales: bytemuck::cast_slice(scales),
        sums: bytemuck::cast_slice(&rest[..n / block * 2]),
    }
}

impl LevelsRow<'_> {
    /// The superblocks that `cols` covers.
    pub(super) fn part(self, cols: &Range<usize>) -> Self {
        let blocks = self.quants.len() / self.sums.len();
        Self {
            quants: &self.quants[cols.clone()],
            scales: &self.scales[cols.start / SUPERBLOCK..cols.end / SUPERBLOCK],
            sums: &self.sums[cols.start / blocks..cols.end / blocks],
        }
    }
}

/// Values and scale of a prepared wide row of `n` values.
pub(super) fn wide_row(row: &[u8], n: usize) -> (&[i16], f32) {
    let (quants, rest) = row.split_at(2 * n);
    (bytemuck::cast_slice(quants), f32::from_ne_bytes(rest[..4].try_into().expect("four bytes")))
}

/// A whole number that a rounded activation becomes.
trait Quant: Copy {
    fn of(rounded: f32) -> Self;
}

impl Quant for i8 {
    #[inline(always)]
    fn of(rounded: f32) -> Self {
        rounded as Self
    }
}

impl Quant for i16 {
    #[inline(always)]
    fn of(rounded: f32) -> Self {
        rounded as Self
    }
}

/// Rounds a row to whole numbers of magnitude `max`; the row is `quants` times `scale`.
struct Round<'a, Q> {
    row: &'a [f32],
    quants: &'a mut [Q],
    scale: &'a mut f32,
    max: f32,
}

impl<Q: Quant> Kernel for Round<'_, Q> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        // Sixteen maxima side by side, for registers of any width.
        let mut largest = [0f32; 16];
        let mut poison = [0f32; 16];
        for part in self.row.chunks(16) {
            for ((largest, poison), &value) in largest.iter_mut().zip(&mut poison).zip(part) {
                let magnitude = value.abs();
                *largest = if magnitude > *largest { magnitude } else { *largest };
                // Zero, or NaN for a value that is not finite.
                *poison += value * 0.0;
            }
        }
        let largest = largest.into_iter().fold(0f32, f32::max);
        let poison: f32 = poison.into_iter().sum();
        // A row so small that the quotient is not finite is zero.
        let inverse = self.max / largest;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        for (quant, &value) in self.quants.iter_mut().zip(self.row) {
            let value = (value * inverse).clamp(-self.max, self.max);
            *quant = Q::of((value + ROUNDER) - ROUNDER);
        }
        *self.scale = if inverse == 0.0 { 0.0 } else { 1.0 / inverse } + poison;
    }
}
