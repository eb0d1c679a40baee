//! Checks the shapes of panels and rows, and calls the products of the processor's instruction set.

use super::LevelsShape::{Block16Levels32, Block16Levels64, Block32Levels16, Block32Levels32};
use super::{
    avx2, vnni, BlockPanels, BytesRow, LevelsPanels, LevelsRow, LevelsShape, Set, TileMachine,
    WideRow, PANEL_ROWS, SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK,
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

impl<T> BlockPanels<'_, T> {
    /// Where weights and scales of each panel of `n` blocks begin. Panics unless there are as many
    /// panels as `sums` has room for.
    fn starts(&self, n: usize, sums: &[f32]) -> impl Fn(usize) -> (*const T, *const f32) + '_ {
        let n_panels = sums.len() / (TILE_TOKENS * PANEL_ROWS);
        assert!(sums.len() == n_panels * TILE_TOKENS * PANEL_ROWS);
        assert!(self.d.len() == n_panels * n * PANEL_ROWS);
        assert!(self.weights.len() == n_panels * n * PANEL_ROWS * WIDE_BLOCK);
        move |panel| {
            let weights = self.weights[panel * n * PANEL_ROWS * WIDE_BLOCK..].as_ptr();
            (weights, self.d[panel * n * PANEL_ROWS..].as_ptr())
        }
    }
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
        let panel = |index: usize| {
            let at = index * n;
            // Inside by the assertions: `at + n` superblocks are at most `n_panels n`.
            Superblocks {
                levels: panels.levels[at * PANEL_ROWS * SUPERBLOCK..].as_ptr(),
                scales: panels.scales[at * n_blocks * 2 * PANEL_ROWS..].as_ptr(),
                mins: panels.mins[at * n_blocks * PANEL_ROWS..].as_ptr(),
                d: panels.d[at * PANEL_ROWS..].as_ptr(),
                d_min: panels.d_min[at * PANEL_ROWS..].as_ptr(),
            }
        };
        // SAFETY: `self` says what the processor has; the assertions are the contract of the
        // functions for these constants.
        unsafe {
            match (self.0, shape) {
                (Set::Avx2, Block32Levels16) => {
                    each(sums, panel, |panel| avx2::levels::<32, 8>(n, panel, &rows));
                }
                (Set::Avx2, Block32Levels32) => {
                    each(sums, panel, |panel| avx2::levels::<32, 4>(n, panel, &rows));
                }
                (Set::Avx2, Block16Levels32) => {
                    each(sums, panel, |panel| avx2::levels::<16, 4>(n, panel, &rows));
                }
                (Set::Avx2, Block16Levels64) => {
                    each(sums, panel, |panel| avx2::levels::<16, 2>(n, panel, &rows));
                }
                (Set::Vnni | Set::Bf16, Block32Levels16 | Block32Levels32) => each_two(
                    sums,
                    panel,
                    |panels| vnni::levels::<32, 2>(n, panels, &rows),
                    |panel| vnni::levels::<32, 1>(n, panel, &rows),
                ),
                (Set::Vnni | Set::Bf16, Block16Levels32 | Block16Levels64) => each_two(
                    sums,
                    panel,
                    |panels| vnni::levels::<16, 2>(n, panels, &rows),
                    |panel| vnni::levels::<16, 1>(n, panel, &rows),
                ),
            }
        }
    }

    /// Sums over each of `panels` and four rows of i8 activations, into `sums`
    /// `[token][panel][row]`. Panics unless all have the same number of blocks, and where there
    /// [are no such products](Self::has_bytes).
    pub fn bytes(self, panels: BlockPanels<u8>, rows: [BytesRow; TILE_TOKENS], sums: &mut [f32]) {
        assert!(self.has_bytes(), "products of bytes on {self}");
        let n = rows[0].scales.len();
        let panel = panels.starts(n, sums);
        for row in rows {
            assert!(row.quants.len() == n * WIDE_BLOCK && row.scales.len() == n);
            assert!(row.offsets.len() == n);
        }
        each_two(
            sums,
            panel,
            // SAFETY: the processor has the instructions, as asserted; lengths are too.
            |[a, b]| unsafe { vnni::bytes(n, [a.0, b.0], [a.1, b.1], &rows) },
            // SAFETY: as above.
            |[a]| unsafe { vnni::bytes(n, [a.0], [a.1], &rows) },
        );
    }

    /// Sums over each of `panels` and four rows of i16 activations, into `sums`
    /// `[token][panel][row]`; wrong where magnitudes are beyond `WIDE_LIMIT`.
    /// Panics unless all have the same number of blocks.
    pub fn wide(self, panels: BlockPanels<i16>, rows: [WideRow; TILE_TOKENS], sums: &mut [f32]) {
        let n = rows[0].scales.len();
        let panel = panels.starts(n, sums);
        let fits = |row: &WideRow| row.quants.len() == n * WIDE_BLOCK && row.scales.len() == n;
        assert!(rows.iter().all(fits));
        // SAFETY: `self` says what the processor has; lengths are asserted.
        unsafe {
            match self.0 {
                Set::Avx2 => each(sums, panel, |(w, d)| avx2::wide(n, w, d, &rows)),
                Set::Vnni | Set::Bf16 => each_two(
                    sums,
                    panel,
                    |[a, b]| vnni::wide(n, [a.0, b.0], [a.1, b.1], &rows),
                    |[a]| vnni::wide(n, [a.0], [a.1], &rows),
                ),
            }
        }
    }

    /// Sums over each of the panels `[panel][k / 2][16][2]` of BF16 and four rows of BF16
    /// activations, into `sums` `[token][panel][row]`. Panics unless all have the same length, an
    /// even one, and where there [are no such products](Self::has_pairs).
    pub fn pairs(self, panels: &[u16], rows: [&[u16]; TILE_TOKENS], sums: &mut [f32]) {
        assert!(self.has_pairs(), "products of BF16 on {self}");
        let n = rows[0].len() / 2;
        let n_panels = sums.len() / (TILE_TOKENS * PANEL_ROWS);
        assert!(sums.len() == n_panels * TILE_TOKENS * PANEL_ROWS);
        assert!(panels.len() == n_panels * n * 2 * PANEL_ROWS);
        assert!(rows.iter().all(|row| row.len() == 2 * n));
        let rows = rows.map(<[u16]>::as_ptr);
        let panel = |panel: usize| panels[panel * n * 2 * PANEL_ROWS..].as_ptr();
        each_two(
            sums,
            panel,
            // SAFETY: the processor has the instructions, as asserted; lengths are too.
            |panels| unsafe { vnni::pairs(n, panels, rows) },
            // SAFETY: as above.
            |panel| unsafe { vnni::pairs(n, panel, rows) },
        );
    }

    /// Sums over each of the float panels `[panel][k][16]` and four rows of activations, into
    /// `sums` `[token][panel][row]`. Panics unless all have the same length.
    pub fn floats(self, panels: &[f32], rows: [&[f32]; TILE_TOKENS], sums: &mut [f32]) {
        let n = rows[0].len();
        let n_panels = sums.len() / (TILE_TOKENS * PANEL_ROWS);
        assert!(sums.len() == n_panels * TILE_TOKENS * PANEL_ROWS);
        assert!(panels.len() == n_panels * n * PANEL_ROWS && rows.iter().all(|row| row.len() == n));
        let rows = rows.map(<[f32]>::as_ptr);
        let panel = |panel: usize| panels[panel * n * PANEL_ROWS..].as_ptr();
        // SAFETY: `self` says what the processor has; lengths are asserted.
        unsafe {
            match self.0 {
                Set::Avx2 => each(sums, panel, |panel| avx2::floats(n, panel, rows)),
                Set::Vnni | Set::Bf16 => each_two(
                    sums,
                    panel,
                    |panels| vnni::floats::<2>(n, panels, rows),
                    |panel| vnni::floats::<1>(n, panel, rows),
                ),
            }
        }
    }
}

/// Panels one at a time.
fn each<P>(sums: &mut [f32], panel: impl Fn(usize) -> P, product: impl Fn(P) -> Tile) {
    for index in 0..sums.len() / (TILE_TOKENS * PANEL_ROWS) {
        place(&product(panel(index)), index, sums);
    }
}

/// Panels two at a time, and the last of an odd number alone.
fn each_two<P>(
    sums: &mut [f32],
    panel: impl Fn(usize) -> P,
    two: impl Fn([P; 2]) -> [Tile; 2],
    one: impl Fn([P; 1]) -> [Tile; 1],
) {
    let n_panels = sums.len() / (TILE_TOKENS * PANEL_ROWS);
    for index in (0..n_panels / 2).map(|pair| 2 * pair) {
        let tiles = two([panel(index), panel(index + 1)]);
        place(&tiles[0], index, sums);
        place(&tiles[1], index + 1, sums);
    }
    if n_panels % 2 == 1 {
        place(&one([panel(n_panels - 1)])[0], n_panels - 1, sums);
    }
}

/// Puts a tile among the sums of all panels.
fn place(tile: &Tile, panel: usize, sums: &mut [f32]) {
    let n_rows = sums.len() / TILE_TOKENS;
    for (tile, sums) in tile.iter().zip(sums.chunks_exact_mut(n_rows)) {
        sums[panel * PANEL_ROWS..][..PANEL_ROWS].copy_from_slice(tile);
    }
}
