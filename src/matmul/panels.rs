//! Sixteen rows to a panel, the panel to all tokens.

use std::ops::Range;

use super::activations::{levels_row, wide_row};
use super::decode::{half, Superblock};
use super::{Format, Machine, Matrix, PANEL_ROWS, TILE_TOKENS};
use crate::simd::tiles::{LevelsPanel, LevelsShape, Tile, WidePanel, SUPERBLOCK, WIDE_BLOCK};
use crate::simd::{dispatch, InstructionSet, Kernel, Lanes};

/// Weights of a row that are in a panel at a time. A panel of floats, 128 KiB, then fits the
/// second-level cache; with less the sums are added up more often, which costs more than it saves
/// (256: 36 % slower for Q4_K, 1024: 10 %).
const PANEL_COLS: usize = 2048;

/// Memory for a panel, to be used again for the next.
#[derive(Debug, Default)]
pub struct Scratch {
    levels: Vec<u8>,
    scales: Vec<i16>,
    mins: Vec<i16>,
    d: Vec<f32>,
    d_min: Vec<f32>,
    wide: Vec<i16>,
    floats: Vec<f32>,
}

pub(super) fn multiply(
    machine: Machine,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    activations: &[u8],
    row_bytes: usize,
    scratch: &mut Scratch,
    mut receive: impl FnMut(usize, usize, &[f32], bool),
) {
    let n_in = matrix.n_in;
    for first in rows.clone().step_by(PANEL_ROWS) {
        let n_rows = PANEL_ROWS.min(rows.end - first);
        for start in (0..n_in).step_by(PANEL_COLS) {
            let cols = start..n_in.min(start + PANEL_COLS);
            let panel = fill(machine, matrix, first, n_rows, cols.clone(), scratch);
            let tiles = activations.chunks_exact(TILE_TOKENS * row_bytes).enumerate();
            for (tile, tokens) in tiles {
                let tokens = std::array::from_fn(|t| &tokens[t * row_bytes..][..row_bytes]);
                let sums = panel.times(machine, tokens, n_in, cols.clone());
                for (t, sums) in sums.iter().enumerate() {
                    receive(TILE_TOKENS * tile + t, first, &sums[..n_rows], start > 0);
                }
            }
        }
    }
}

/// Some columns of sixteen rows.
enum Panel<'a> {
    Levels(LevelsShape, LevelsPanel<'a>),
    Wide(WidePanel<'a>),
    Float(&'a [f32]),
}

impl Panel<'_> {
    /// Sums over `cols` of four prepared rows of `n_in` activations.
    fn times(
        &self,
        machine: Machine,
        tokens: [&[u8]; TILE_TOKENS],
        n_in: usize,
        cols: Range<usize>,
    ) -> Tile {
        match *self {
            Self::Levels(shape, panel) => {
                let rows = tokens.map(|token| levels_row(token, n_in, shape.block()).part(&cols));
                machine.levels(shape, panel, rows)
            }
            Self::Wide(panel) => {
                let rows = tokens.map(|token| wide_row(token, n_in));
                let mut sums = machine.wide(panel, rows.map(|(row, _)| &row[cols.clone()]));
                for (sums, (_, scale)) in sums.iter_mut().zip(rows) {
                    sums.iter_mut().for_each(|sum| *sum *= scale);
                }
                sums
            }
            Self::Float(panel) => {
                let row = |token| &bytemuck::cast_slice::<u8, f32>(token)[cols.clone()];
                machine.floats(panel, tokens.map(row))
            }
        }
    }
}

/// Unpacks `cols` of the `n_rows` rows from `first` on; rows that are not there are zeros or a copy
/// of the last one.
fn fill<'a>(
    machine: Machine,
    matrix: Matrix<'_>,
    first: usize,
    n_rows: usize,
    cols: Range<usize>,
    scratch: &'a mut Scratch,
) -> Panel<'a> {
    let format = matrix.format;
    let block = |col: usize| col / format.block_len() * format.block_bytes();
    let bytes = block(cols.start)..block(cols.end);
    let rows = std::array::from_fn(|row| &matrix.row(first + row.min(n_rows - 1))[bytes.clone()]);
    match format.levels() {
        Some(shape) => Panel::Levels(shape, levels(machine, format, shape, rows, scratch)),
        None if format == Format::Q8_0 => Panel::Wide(wide(machine, rows, scratch)),
        None => Panel::Float(floats(machine, format, rows, cols.len(), scratch)),
    }
}

fn levels<'a>(
    machine: Machine,
    format: Format,
    shape: LevelsShape,
    rows: [&[u8]; PANEL_ROWS],
    scratch: &'a mut Scratch,
) -> LevelsPanel<'a> {
    let n = rows[0].len() / format.block_bytes();
    let n_blocks = SUPERBLOCK / shape.block();
    let levels = aligned(&mut scratch.levels, n * PANEL_ROWS * SUPERBLOCK);
    let scales = aligned(&mut scratch.scales, n * n_blocks * 2 * PANEL_ROWS);
    let mins = aligned(&mut scratch.mins, n * n_blocks * PANEL_ROWS);
    let d = aligned(&mut scratch.d, n * PANEL_ROWS);
    let d_min = aligned(&mut scratch.d_min, n * PANEL_ROWS);
    let mut natural = [[0; SUPERBLOCK]; PANEL_ROWS];
    for i in 0..n {
        let at = i * PANEL_ROWS..(i + 1) * PANEL_ROWS;
        dispatch(
            InstructionSet::best(),
            DecodePanel {
                format,
                blocks: rows.map(|row| &row[i * format.block_bytes()..][..format.block_bytes()]),
                levels: &mut natural,
                scales: &mut scales[i * n_blocks * 2 * PANEL_ROWS..][..n_blocks * 2 * PANEL_ROWS],
                mins: &mut mins[i * n_blocks * PANEL_ROWS..][..n_blocks * PANEL_ROWS],
                d: &mut d[at.clone()],
                d_min: &mut d_min[at],
            },
        );
        let size = PANEL_ROWS * SUPERBLOCK;
        machine.interleave_levels(&natural, &mut levels[i * size..][..size]);
    }
    LevelsPanel { levels, scales, mins, d, d_min }
}

/// One superblock of each of sixteen rows; everything but the levels in its final place.
struct DecodePanel<'a> {
    format: Format,
    blocks: [&'a [u8]; PANEL_ROWS],
    levels: &'a mut [[u8; SUPERBLOCK]; PANEL_ROWS],
    scales: &'a mut [i16],
    mins: &'a mut [i16],
    d: &'a mut [f32],
    d_min: &'a mut [f32],
}

impl Kernel for DecodePanel<'_> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        for (row, (block, levels)) in self.blocks.iter().zip(self.levels).enumerate() {
            let mut superblock =
                Superblock { levels, scales: [0; 16], mins: [0; 16], d: 0.0, d_min: 0.0 };
            superblock.decode(self.format, block);
            self.d[row] = superblock.d;
            self.d_min[row] = superblock.d_min;
            // [sub-block][row][2] and [pair of sub-blocks][row][2]
            let scales = self.scales.chunks_exact_mut(2 * PANEL_ROWS);
            for (scales, scale) in scales.zip(superblock.scales) {
                scales[2 * row..2 * row + 2].fill(scale);
            }
            let mins = self.mins.chunks_exact_mut(2 * PANEL_ROWS);
            for (mins, pair) in mins.zip(superblock.mins.chunks_exact(2)) {
                mins[2 * row..2 * row + 2].copy_from_slice(pair);
            }
        }
    }
}

fn wide<'a>(
    machine: Machine,
    rows: [&[u8]; PANEL_ROWS],
    scratch: &'a mut Scratch,
) -> WidePanel<'a> {
    let n = rows[0].len() / Format::Q8_0.block_bytes();
    let size = PANEL_ROWS * WIDE_BLOCK;
    let weights = aligned(&mut scratch.wide, n * size);
    let d = aligned(&mut scratch.d, n * PANEL_ROWS);
    let mut natural = [[0i8; WIDE_BLOCK]; PANEL_ROWS];
    for (i, (weights, d)) in
        weights.chunks_exact_mut(size).zip(d.chunks_exact_mut(PANEL_ROWS)).enumerate()
    {
        for ((row, natural), d) in rows.iter().zip(&mut natural).zip(d) {
            // d f16 | weights 32
            let block = &row[i * Format::Q8_0.block_bytes()..][..Format::Q8_0.block_bytes()];
            *d = half(block);
            natural.copy_from_slice(bytemuck::cast_slice(&block[2..]));
        }
        machine.interleave_wide(&natural, weights);
    }
    WidePanel { weights, d }
}

fn floats<'a>(
    machine: Machine,
    format: Format,
    rows: [&[u8]; PANEL_ROWS],
    n_cols: usize,
    scratch: &'a mut Scratch,
) -> &'a [f32] {
    let panel = aligned(&mut scratch.floats, n_cols * PANEL_ROWS);
    let bytes = format.block_bytes();
    let mut parts = panel.chunks_exact_mut(8 * PANEL_ROWS);
    for (i, out) in parts.by_ref().enumerate() {
        let rows = rows.map(|row| &row[8 * i * bytes..]);
        match format {
            Format::F16 => machine.interleave_f16(rows, out),
            Format::BF16 => machine.interleave_bf16(rows, out),
            _ => machine.interleave_f32(rows, out),
        }
    }
    let done = n_cols / 8 * 8;
    for (col, out) in parts.into_remainder().chunks_exact_mut(PANEL_ROWS).enumerate() {
        for (out, row) in out.iter_mut().zip(rows) {
            *out = value(format, &row[(done + col) * bytes..][..bytes]);
        }
    }
    panel
}

/// One weight of a float format.
fn value(format: Format, bytes: &[u8]) -> f32 {
    match format {
        Format::F16 => half(bytes),
        Format::BF16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        _ => f32::from_le_bytes(bytes.try_into().expect("four bytes")),
    }
}

/// `n` values from a cache line on, so that no register is loaded across two.
fn aligned<T: Copy + Default>(memory: &mut Vec<T>, n: usize) -> &mut [T] {
    const LINE: usize = 64;
    let room = n + LINE / size_of::<T>();
    if memory.len() < room {
        memory.resize(room, T::default());
    }
    let start = memory.as_ptr().align_offset(LINE);
    &mut memory[start..start + n]
}
