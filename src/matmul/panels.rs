//! Sixteen rows to a panel, a few panels to all tokens.

use std::ops::Range;

use super::activations::{bytes_row, levels_row, wide_row};
use super::fill::fill;
use super::{Activations, Machine, Matrix, Scratch, PANEL_ROWS, TILE_TOKENS};
use crate::simd::tiles::{BlockPanels, LevelsPanels, LevelsShape};

/// Bytes of a panel. Narrower ones add up sums more often.
const PANEL_BYTES: usize = 64 << 10;

/// Bytes of panels at a time. They stay in the second-level cache while all tokens pass, and the
/// more there are, the more seldom the tokens come from further away.
const GROUP_BYTES: usize = 256 << 10;

/// Panels at a time.
pub(super) const AT_ONCE: usize = GROUP_BYTES / PANEL_BYTES;

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
    let panel_cols = PANEL_BYTES / (PANEL_ROWS * weight_bytes(matrix.activations(machine)));
    let mut sums = [0.0; AT_ONCE * TILE_TOKENS * PANEL_ROWS];
    for first in rows.clone().step_by(AT_ONCE * PANEL_ROWS) {
        let n_rows = (AT_ONCE * PANEL_ROWS).min(rows.end - first);
        let stride = n_rows.next_multiple_of(PANEL_ROWS);
        let sums = &mut sums[..TILE_TOKENS * stride];
        for start in (0..n_in).step_by(panel_cols) {
            let cols = start..n_in.min(start + panel_cols);
            let panels = fill(machine, matrix, first..first + n_rows, cols.clone(), scratch);
            let tiles = activations.chunks_exact(TILE_TOKENS * row_bytes).enumerate();
            for (tile, tokens) in tiles {
                let tokens = std::array::from_fn(|t| &tokens[t * row_bytes..][..row_bytes]);
                panels.times(machine, tokens, n_in, cols.clone(), sums);
                for (t, sums) in sums.chunks_exact(stride).enumerate() {
                    receive(TILE_TOKENS * tile + t, first, &sums[..n_rows], start > 0);
                }
            }
        }
    }
}

/// Bytes of a weight in the panels that meet such activations.
fn weight_bytes(activations: Activations) -> usize {
    match activations {
        Activations::Float => 4,
        Activations::Wide { .. } | Activations::Pairs => 2,
        Activations::Bytes | Activations::Levels { .. } => 1,
    }
}

/// Some columns of a few times sixteen rows.
pub(super) enum Panels<'a> {
    Levels(LevelsShape, LevelsPanels<'a>),
    Bytes(BlockPanels<'a, u8>),
    Wide(BlockPanels<'a, i16>),
    Pairs(&'a [u16]),
    Float(&'a [f32]),
}

impl Panels<'_> {
    /// Sums over `cols` of four prepared rows of `n_in` activations: `[token][row]`.
    fn times(
        &self,
        machine: Machine,
        tokens: [&[u8]; TILE_TOKENS],
        n_in: usize,
        cols: Range<usize>,
        sums: &mut [f32],
    ) {
        match *self {
            Self::Levels(shape, panels) => {
                let rows = tokens.map(|token| levels_row(token, n_in, shape.block()).part(&cols));
                machine.levels(shape, panels, rows, sums);
            }
            Self::Bytes(panels) => {
                let rows = tokens.map(|token| bytes_row(token, n_in, cols.clone()));
                machine.bytes(panels, rows, sums);
            }
            Self::Pairs(panels) => {
                let cols = cols.start..cols.end.next_multiple_of(2);
                let row = |token| &bytemuck::cast_slice::<u8, u16>(token)[cols.clone()];
                machine.pairs(panels, tokens.map(row), sums);
            }
            Self::Wide(panels) => {
                let rows = tokens.map(|token| wide_row(token, n_in, cols.clone()));
                machine.wide(panels, rows, sums);
            }
            Self::Float(panels) => {
                let row = |token| &bytemuck::cast_slice::<u8, f32>(token)[cols.clone()];
                machine.floats(panels, tokens.map(row), sums);
            }
        }
    }
}
