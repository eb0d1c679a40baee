//! Checks the shapes of panels and rows, and calls the products of the processor's instruction set.

use super::LevelsShape::{Block16Levels32, Block16Levels64, Block32Levels16, Block32Levels32};
use super::{
    avx2, vnni, LevelsPanels, LevelsRow, LevelsShape, Set, TileMachine, WidePanels, PANEL_ROWS,
    SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK,
};

/// Sums of four rows of activations and a panel: `[token][row]`.
pub(super) type Tile = [[f32; PANEL_ROWS]; TILE_TOKENS];

/// Where a panel of superblocks begins: see [`LevelsPanels`].
#[derive(Clone, Copy)]
pub(super) struct Superblocks {
    pub(super) levels: *const u8,
    pub(super) scales: *const i16,
    pub(super) mins: *const i16,
    pub(super) d: *const f32,
    pub(super) d_min: *const f32,
}

impl TileMachine {
    /// Sums over each of `panels` and four rows of activations, into `sums`
    /// `[token][panel][row]`. Panics unless all have the same number of superblocks.
    pub fn levels(
        self,
        shape: LevelsShape,
        panels: LevelsPanels,
        rows: [LevelsRow; TILE_TOKENS],
        sums: &mut [f32],
    ) {
        let n = rows[0].scales.len();
        let n_panels = sums.len() / (TILE_TOKENS * PANEL_ROWS);
        let n_blocks = SUPERBLOCK / shape.block();
        assert!(sums.len() == n_panels * TILE_TOKENS * PANEL_ROWS);
        assert!(panels.levels.len() == n_panels * n * PANEL_ROWS * SUPERBLOCK);
        assert!(panels.scales.len() == n_panels * n * n_blocks * 2 * PANEL_ROWS);
        assert!(panels.mins.len() == n_panels * n * n_blocks * PANEL_ROWS);
        assert!(panels.d.len() == n_panels * n * PANEL_ROWS);
        assert!(panels.d_min.len() == n_panels * n * PANEL_ROWS);
        for row in rows {
            assert!(row.quants.len() == n * SUPERBLOCK && row.scales.len() == n);
            assert!(row.sums.len() == n * n_blocks);
        }
        for index in 0..n_panels {
            let at = index * n;
            // Inside by the assertions: `at + n` superblocks are at most `n_panels n`.
            let panel = Superblocks {
                levels: panels.levels[at * PANEL_ROWS * SUPERBLOCK..].as_ptr(),
                scales: panels.scales[at * n_blocks * 2 * PANEL_ROWS..].as_ptr(),
                mins: panels.mins[at * n_blocks * PANEL_ROWS..].as_ptr(),
                d: panels.d[at * PANEL_ROWS..].as_ptr(),
                d_min: panels.d_min[at * PANEL_ROWS..].as_ptr(),
            };
            // SAFETY: `self` says what the processor has; the assertions are the contract of the
            // functions for these constants.
            let tile = unsafe {
                match (self.0, shape) {
                    (Set::Avx2, Block32Levels16) => avx2::levels::<32, 8>(n, panel, &rows),
                    (Set::Avx2, Block32Levels32) => avx2::levels::<32, 4>(n, panel, &rows),
                    (Set::Avx2, Block16Levels32) => avx2::levels::<16, 4>(n, panel, &rows),
                    (Set::Avx2, Block16Levels64) => avx2::levels::<16, 2>(n, panel, &rows),
                    (Set::Vnni, Block32Levels16 | Block32Levels32) => {
                        vnni::levels::<32>(n, panel, &rows)
                    }
                    (Set::Vnni, Block16Levels32 | Block16Levels64) => {
                        vnni::levels::<16>(n, panel, &rows)
                    }
                }
            };
            place(&tile, index, sums);
        }
    }

    /// Sums over each of `panels` and four rows of i16 activations without their scales, into
    /// `sums` `[token][panel][row]`. Panics unless all have the same length, a multiple of 32.
    pub fn wide(self, panels: WidePanels, rows: [&[i16]; TILE_TOKENS], sums: &mut [f32]) {
        let n = rows[0].len() / WIDE_BLOCK;
        let n_panels = sums.len() / (TILE_TOKENS * PANEL_ROWS);
        assert!(sums.len() == n_panels * TILE_TOKENS * PANEL_ROWS);
        assert!(panels.d.len() == n_panels * n * PANEL_ROWS);
        assert!(panels.weights.len() == n_panels * n * PANEL_ROWS * WIDE_BLOCK);
        assert!(rows.iter().all(|row| row.len() == n * WIDE_BLOCK));
        let rows = rows.map(<[i16]>::as_ptr);
        for panel in 0..n_panels {
            let weights = panels.weights[panel * n * PANEL_ROWS * WIDE_BLOCK..].as_ptr();
            let d = panels.d[panel * n * PANEL_ROWS..].as_ptr();
            // SAFETY: `self` says what the processor has; lengths are asserted.
            let tile = unsafe {
                match self.0 {
                    Set::Avx2 => avx2::wide(n, weights, d, rows),
                    Set::Vnni => vnni::wide(n, weights, d, rows),
                }
            };
            place(&tile, panel, sums);
        }
    }

    /// Sums over each of the float panels `[panel][k][16]` and four rows of activations, into
    /// `sums` `[token][panel][row]`. Panics unless all have the same length.
    pub fn floats(self, panels: &[f32], rows: [&[f32]; TILE_TOKENS], sums: &mut [f32]) {
        let n = rows[0].len();
        let n_panels = sums.len() / (TILE_TOKENS * PANEL_ROWS);
        assert!(sums.len() == n_panels * TILE_TOKENS * PANEL_ROWS);
        assert!(panels.len() == n_panels * n * PANEL_ROWS && rows.iter().all(|row| row.len() == n));
        let rows = rows.map(<[f32]>::as_ptr);
        for panel in 0..n_panels {
            let weights = panels[panel * n * PANEL_ROWS..].as_ptr();
            // SAFETY: `self` says what the processor has; lengths are asserted.
            let tile = unsafe {
                match self.0 {
                    Set::Avx2 => avx2::floats(n, weights, rows),
                    Set::Vnni => vnni::floats(n, weights, rows),
                }
            };
            place(&tile, panel, sums);
        }
    }
}

/// Puts a tile among the sums of all panels.
fn place(tile: &Tile, panel: usize, sums: &mut [f32]) {
    let n_rows = sums.len() / TILE_TOKENS;
    for (tile, sums) in tile.iter().zip(sums.chunks_exact_mut(n_rows)) {
        sums[panel * PANEL_ROWS..][..PANEL_ROWS].copy_from_slice(tile);
    }
}
