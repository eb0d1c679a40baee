//! Sixteen rows to a panel, a few panels to all tokens.

use std::ops::Range;

use super::fill::fill;
use super::{Activations, Columns, Machine, Matrix, Part, Scratch, PANEL_ROWS};
use crate::simd::tiles::{
    BlockPanels, LevelsPanels, LevelsShape, PlanesPanels, Tokens, WinogradPanels, SUPERBLOCK,
    WIDE_BLOCK,
};
use crate::simd::Ahead;

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
    part: Part,
    prepared: &[u8],
    scratch: &mut Scratch,
    mut out: Columns<'_>,
) {
    let (n_in, activations) = (matrix.n_in, matrix.activations(machine));
    let panel_cols = PANEL_BYTES / (PANEL_ROWS * weight_bytes(activations));
    // Panels that meet the tokens at a time: their rows and columns.
    let groups = |rows: Range<usize>| {
        rows.clone().step_by(AT_ONCE * PANEL_ROWS).flat_map(move |first| {
            let some = first..rows.end.min(first + AT_ONCE * PANEL_ROWS);
            let cols = (0..n_in).step_by(panel_cols);
            cols.map(move |start| (some.clone(), start..n_in.min(start + panel_cols)))
        })
    };
    let Part { rows, next } = part;
    let behind = groups(next).take(1);
    let mut ahead = groups(rows.clone()).chain(behind).skip(1);
    for (some, cols) in groups(rows.clone()) {
        let tokens = activations.tokens(prepared, n_in, &cols);
        let columns = some.start - rows.start..some.end - rows.start;
        let panels = fill(machine, matrix, some, cols.clone(), scratch);
        // It comes while these meet the tokens.
        let ahead = match ahead.next() {
            Some((rows, cols)) => matrix.ahead(rows, &cols),
            None => Ahead::none(),
        };
        panels.times(machine, tokens, cols.len(), &ahead, out.part(columns, cols.start > 0));
    }
}

/// Bytes of a weight in the panels that meet such activations.
fn weight_bytes(activations: Activations) -> usize {
    match activations {
        Activations::Float => 4,
        Activations::Wide { .. } | Activations::Pairs | Activations::Winograd => 2,
        Activations::Bytes | Activations::Levels { .. } => 1,
    }
}

/// Some columns of a few times sixteen rows.
pub(super) enum Panels<'a> {
    Levels(LevelsShape, LevelsPanels<'a>),
    Planes(PlanesPanels<'a>),
    Bytes(BlockPanels<'a, u8>),
    Wide(BlockPanels<'a, i16>),
    Pairs(&'a [u16]),
    Winograd(WinogradPanels<'a>),
    Float(&'a [f32]),
}

impl Panels<'_> {
    /// Sums of the rows of the panels with the `n` columns of `tokens`.
    fn times(
        &self,
        machine: Machine,
        tokens: Tokens<'_>,
        n: usize,
        ahead: &Ahead<'_>,
        out: Columns<'_>,
    ) {
        match *self {
            Self::Levels(shape, panels) => {
                machine.levels(shape, panels, tokens, n / SUPERBLOCK, out);
            }
            Self::Planes(panels) => machine.planes(panels, tokens, n / SUPERBLOCK, out),
            Self::Bytes(panels) => machine.bytes(panels, tokens, n / WIDE_BLOCK, out),
            Self::Wide(panels) => machine.wide(panels, tokens, n.div_ceil(WIDE_BLOCK), out),
            Self::Pairs(panels) => machine.pairs(panels, tokens, n.div_ceil(2), ahead, out),
            Self::Winograd(panels) => machine.winograd(panels, tokens, n.div_ceil(4), ahead, out),
            Self::Float(panels) => machine.floats(panels, tokens, n, ahead, out),
        }
    }
}
