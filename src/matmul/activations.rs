//! Activations as the products want them.

use std::ops::Range;

use super::Machine;
use crate::simd::tiles::{Tokens, SUPERBLOCK, WIDE_BLOCK, WINOGRAD_BLOCK};

/// Rows begin at multiples of this many bytes.
const ALIGN: usize = 64;

/// What a row of activations becomes before a product. A value that is NaN or infinite makes the
/// scale above it NaN, where there are scales, and so the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// f32 as they are.
    Float,
    /// `[n] bf16`, and a zero after an odd number.
    Pairs,
    /// `[n] i16 | scales [n / 32] f32`, zeros after the last value of a block that is not whole.
    Wide {
        /// Magnitude of the largest value of each block.
        largest: i16,
    },
    /// `[n / 4][4] i16 | scales [n / 256] f32 | corrections [n / 256] i32`, zeros after the last value
    /// of four that are not whole; of each four the second, fourth, first and third.
    Winograd,
    /// `[n] i8 | scales [n / 32] f32 | offsets [n / 32] i32`: the largest magnitude of each 32 is
    /// 127, an offset what is taken from their products with weights that are not signed.
    Bytes,
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
            Self::Pairs => (2 * n.next_multiple_of(2)).next_multiple_of(ALIGN),
            Self::Bytes => (n + n / WIDE_BLOCK * 8).next_multiple_of(ALIGN),
            Self::Wide { .. } => {
                let n_blocks = n.div_ceil(WIDE_BLOCK);
                (n_blocks * (2 * WIDE_BLOCK + 4)).next_multiple_of(ALIGN)
            }
            Self::Winograd => {
                let numbers = 2 * n.next_multiple_of(4);
                (numbers + n.div_ceil(WINOGRAD_BLOCK) * 8).next_multiple_of(ALIGN)
            }
            Self::Levels { block } => {
                (n + n / SUPERBLOCK * 4 + n / block * 2).next_multiple_of(ALIGN)
            }
        }
    }

    /// Prepares one row. Panics unless `out` is its size and begins at a multiple of four bytes, and
    /// `Bytes` and `Levels` unless the row is whole blocks; `Float` rows need no preparing.
    pub fn prepare(self, machine: Machine, row: &[f32], out: &mut [u8]) {
        let n = row.len();
        assert_eq!(out.len(), self.row_bytes(n), "bytes of {n} activations");
        match self {
            Self::Float => out.copy_from_slice(bytemuck::cast_slice(row)),
            Self::Pairs => {
                let out: &mut [u16] = bytemuck::cast_slice_mut(out);
                machine.round_pairs(row, &mut out[..n]);
                out[n..].fill(0);
            }
            Self::Bytes => {
                assert!(n.is_multiple_of(WIDE_BLOCK), "{n} activations");
                let (quants, rest) = out.split_at_mut(n);
                let (scales, rest) = rest.split_at_mut(n / WIDE_BLOCK * 4);
                let quants: &mut [i8] = bytemuck::cast_slice_mut(quants);
                let scales: &mut [f32] = bytemuck::cast_slice_mut(scales);
                let offsets = bytemuck::cast_slice_mut(&mut rest[..n / WIDE_BLOCK * 4]);
                let parts = row.chunks_exact(WIDE_BLOCK).zip(quants.chunks_exact_mut(WIDE_BLOCK));
                for ((row, quants), (scale, offset)) in parts.zip(scales.iter_mut().zip(offsets)) {
                    let sum;
                    (*scale, sum) = machine.round_bytes(row, quants);
                    *offset = -i32::from(machine.byte_offset()) * sum;
                }
            }
            Self::Wide { largest } => {
                let (quants, scales) = out.split_at_mut(2 * n.next_multiple_of(WIDE_BLOCK));
                let quants: &mut [i16] = bytemuck::cast_slice_mut(quants);
                let scales: &mut [f32] = bytemuck::cast_slice_mut(scales);
                let parts = row.chunks(WIDE_BLOCK).zip(quants.chunks_exact_mut(WIDE_BLOCK));
                for ((row, quants), scale) in parts.zip(scales) {
                    *scale = if row.len() == WIDE_BLOCK {
                        machine.round_wide(row, largest, quants)
                    } else {
                        let mut whole = [0.0; WIDE_BLOCK];
                        whole[..row.len()].copy_from_slice(row);
                        machine.round_wide(&whole, largest, quants)
                    };
                }
            }
            Self::Winograd => {
                let (quants, rest) = out.split_at_mut(2 * n.next_multiple_of(4));
                let n_blocks = n.div_ceil(WINOGRAD_BLOCK);
                let (scales, rest) = rest.split_at_mut(4 * n_blocks);
                let quants: &mut [i16] = bytemuck::cast_slice_mut(quants);
                let scales: &mut [f32] = bytemuck::cast_slice_mut(scales);
                let corrections: &mut [i32] = bytemuck::cast_slice_mut(&mut rest[..4 * n_blocks]);
                let parts = row.chunks(WINOGRAD_BLOCK).zip(quants.chunks_mut(WINOGRAD_BLOCK));
                for ((row, quants), sums) in parts.zip(scales.iter_mut().zip(corrections)) {
                    (*sums.0, *sums.1) = if row.len() == WINOGRAD_BLOCK {
                        machine.round_winograd(row, quants)
                    } else {
                        let (mut whole, mut numbers) = ([0.0; WINOGRAD_BLOCK], [0; WINOGRAD_BLOCK]);
                        whole[..row.len()].copy_from_slice(row);
                        let sums = machine.round_winograd(&whole, &mut numbers);
                        quants.copy_from_slice(&numbers[..quants.len()]);
                        sums
                    };
                }
            }
            Self::Levels { block } => {
                assert!(n.is_multiple_of(SUPERBLOCK), "{n} activations");
                let (quants, rest) = out.split_at_mut(n);
                let (scales, rest) = rest.split_at_mut(n / SUPERBLOCK * 4);
                let quants: &mut [i8] = bytemuck::cast_slice_mut(quants);
                let scales: &mut [f32] = bytemuck::cast_slice_mut(scales);
                let sums: &mut [i16] = bytemuck::cast_slice_mut(&mut rest[..n / block * 2]);
                let parts = row
                    .chunks_exact(SUPERBLOCK)
                    .zip(quants.chunks_exact_mut(SUPERBLOCK))
                    .zip(scales.iter_mut().zip(sums.chunks_exact_mut(SUPERBLOCK / block)));
                for ((row, quants), (scale, sums)) in parts {
                    *scale = machine.round_levels(row, quants, sums);
                }
            }
        }
    }

    /// `cols` of `rows`, prepared rows of `n` values one after the other.
    pub(super) fn tokens<'a>(self, rows: &'a [u8], n: usize, cols: &Range<usize>) -> Tokens<'a> {
        let (numbers, scales, sums) = match self {
            Self::Float => (4 * cols.start, 0, 0),
            Self::Pairs => (2 * cols.start, 0, 0),
            Self::Wide { .. } => {
                let scales = 2 * n.next_multiple_of(WIDE_BLOCK);
                (2 * cols.start, scales + cols.start / WIDE_BLOCK * 4, 0)
            }
            Self::Winograd => {
                let (start, n_blocks) = (cols.start / WINOGRAD_BLOCK, n.div_ceil(WINOGRAD_BLOCK));
                let scales = 2 * n.next_multiple_of(4) + 4 * start;
                (2 * cols.start, scales, scales + 4 * n_blocks)
            }
            Self::Bytes => {
                let scales = n + cols.start / WIDE_BLOCK * 4;
                (cols.start, scales, scales + n / WIDE_BLOCK * 4)
            }
            Self::Levels { block } => {
                let sums = n + n / SUPERBLOCK * 4 + cols.start / block * 2;
                (cols.start, n + cols.start / SUPERBLOCK * 4, sums)
            }
        };
        Tokens { bytes: rows, stride: self.row_bytes(n), numbers, scales, sums }
    }
}
