//! Checks the shapes of panels and rows, and runs the kernels over all panels.

use std::marker::PhantomData;

use bytemuck::{cast_slice, NoUninit};

use super::dot::{self, Dot, Product, STEP_BYTES};
use super::kernels::{self, Sums, Superblocks};
use super::LevelsShape::{Block16Levels32, Block16Levels64, Block32Levels16, Block32Levels32};
use super::{
    BlockPanels, BytesRow, LevelsPanels, LevelsRow, LevelsShape, TileMachine, WideRow, PANEL_ROWS,
    SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK,
};

/// Sums over panels and four tokens, in pieces that registers of `D` hold.
pub(super) trait Work<D: Dot> {
    /// Sums of `R` registers of rows.
    ///
    /// # Safety
    /// The processor has what `D` needs, and all rows are there.
    unsafe fn tile<const R: usize>(&self, at: [Place; R]) -> Sums<D::Float, R>;
}

/// The rows of a register, from `row` of a panel on.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) panel: usize,
    pub(super) row: usize,
}

/// Does `work`, `R` registers at a time and what is left one by one, into `sums`
/// `[token][panel][row]`.
///
/// # Safety
/// The caller has the features that `D` needs; there are as many panels as `sums` has room for.
#[inline(always)]
pub(super) unsafe fn run<D: Dot, W: Work<D>, const R: usize>(work: W, sums: &mut [f32]) {
    let n_registers = sums.len() / (TILE_TOKENS * D::LANES);
    let mut first = 0;
    // SAFETY: by the contract; `some` stays inside of the sums.
    unsafe {
        while first + R <= n_registers {
            some::<D, W, R>(&work, first, sums);
            first += R;
        }
        while first < n_registers {
            some::<D, W, 1>(&work, first, sums);
            first += 1;
        }
    }
}

/// # Safety
/// As for [`run`]; there are `R` registers of rows from `first` on.
#[inline(always)]
unsafe fn some<D: Dot, W: Work<D>, const R: usize>(work: &W, first: usize, sums: &mut [f32]) {
    let mut at = [Place { panel: 0, row: 0 }; R];
    for (r, at) in at.iter_mut().enumerate() {
        let row = (first + r) * D::LANES;
        *at = Place { panel: row / PANEL_ROWS, row: row % PANEL_ROWS };
    }
    // SAFETY: by the contract.
    let tile = unsafe { work.tile::<R>(at) };
    let n_rows = sums.len() / TILE_TOKENS;
    for (r, tile) in tile.iter().enumerate() {
        for (t, &sum) in tile.iter().enumerate() {
            let sums = &mut sums[t * n_rows + (first + r) * D::LANES..][..D::LANES];
            // SAFETY: the slice has as many values as the register.
            unsafe { D::store(sums.as_mut_ptr(), sum) };
        }
    }
}

/// Number of panels, if `sums` is a whole number of tiles.
fn n_panels(sums: &[f32]) -> usize {
    assert!(sums.len().is_multiple_of(TILE_TOKENS * PANEL_ROWS), "{} sums", sums.len());
    sums.len() / (TILE_TOKENS * PANEL_ROWS)
}

/// [`TileMachine::levels`]. Lengths are checked.
pub(super) struct Levels<'a> {
    shape: LevelsShape,
    n: usize,
    panels: LevelsPanels<'a>,
    rows: [LevelsRow<'a>; TILE_TOKENS],
}

impl<'a> Levels<'a> {
    pub(super) fn new(
        shape: LevelsShape,
        panels: LevelsPanels<'a>,
        rows: [LevelsRow<'a>; TILE_TOKENS],
        sums: &[f32],
    ) -> Self {
        let n = rows[0].scales.len();
        let (all, n_blocks) = (n_panels(sums) * n * PANEL_ROWS, SUPERBLOCK / shape.block());
        assert!(panels.levels.len() == all * SUPERBLOCK);
        assert!(panels.scales.len() == all * n_blocks * 2);
        assert!(panels.mins.len() == all * n_blocks);
        assert!(panels.d.len() == all && panels.d_min.len() == all);
        for row in rows {
            assert!(row.quants.len() == n * SUPERBLOCK && row.scales.len() == n);
            assert!(row.sums.len() == n * n_blocks);
        }
        Self { shape, n, panels, rows }
    }

    /// Where the superblocks of a register begin.
    #[inline(always)]
    fn superblocks(&self, at: Place) -> Superblocks {
        let (first, n_blocks) = (at.panel * self.n, SUPERBLOCK / self.shape.block());
        // Inside of the panels: `first + n` superblocks are at most `n_panels n`.
        Superblocks {
            levels: self.panels.levels[first * PANEL_ROWS * SUPERBLOCK + 4 * at.row..].as_ptr(),
            scales: self.panels.scales[first * n_blocks * 2 * PANEL_ROWS + 2 * at.row..].as_ptr(),
            mins: self.panels.mins[first * n_blocks * PANEL_ROWS + 2 * at.row..].as_ptr(),
            d: self.panels.d[first * PANEL_ROWS + at.row..].as_ptr(),
            d_min: self.panels.d_min[first * PANEL_ROWS + at.row..].as_ptr(),
        }
    }
}

impl<D: Dot> Work<D> for Levels<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize>(&self, at: [Place; R]) -> Sums<D::Float, R> {
        let panels = at.map(|at| self.superblocks(at));
        // SAFETY: by the contract; the lengths were checked.
        unsafe {
            match self.shape {
                Block32Levels16 => D::levels::<32, 8, R>(self.n, panels, &self.rows),
                Block32Levels32 => D::levels::<32, 4, R>(self.n, panels, &self.rows),
                Block16Levels32 => D::levels::<16, 4, R>(self.n, panels, &self.rows),
                Block16Levels64 => D::levels::<16, 2, R>(self.n, panels, &self.rows),
            }
        }
    }
}

impl<'a, T> BlockPanels<'a, T> {
    /// Panics unless these are panels of `n` blocks, as many as `sums` has room for.
    fn check(&self, n: usize, sums: &[f32]) {
        let all = n_panels(sums) * n * PANEL_ROWS;
        assert!(self.d.len() == all && self.weights.len() == all * WIDE_BLOCK);
    }

    /// Where weights and scales of `n` blocks of a register begin.
    #[inline(always)]
    fn starts(&self, n: usize, at: Place) -> (*const u8, *const f32) {
        let per_step = STEP_BYTES / size_of::<T>();
        let weights = at.panel * n * PANEL_ROWS * WIDE_BLOCK + at.row * per_step;
        let d = at.panel * n * PANEL_ROWS + at.row;
        (self.weights[weights..].as_ptr().cast(), self.d[d..].as_ptr())
    }
}

/// [`TileMachine::bytes`]. Lengths are checked.
pub(super) struct Bytes<'a> {
    n: usize,
    panels: BlockPanels<'a, u8>,
    rows: [BytesRow<'a>; TILE_TOKENS],
}

impl<'a> Bytes<'a> {
    pub(super) fn new(
        panels: BlockPanels<'a, u8>,
        rows: [BytesRow<'a>; TILE_TOKENS],
        sums: &[f32],
    ) -> Self {
        let n = rows[0].scales.len();
        panels.check(n, sums);
        for row in rows {
            assert!(row.quants.len() == n * WIDE_BLOCK && row.scales.len() == n);
            assert!(row.offsets.len() == n);
        }
        Self { n, panels, rows }
    }
}

impl<D: Dot> Work<D> for Bytes<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize>(&self, at: [Place; R]) -> Sums<D::Float, R> {
        let starts = at.map(|at| self.panels.starts(self.n, at));
        let (weights, d) = (starts.map(|start| start.0), starts.map(|start| start.1));
        // SAFETY: by the contract; the lengths were checked.
        unsafe {
            kernels::blocks::<D, dot::Bytes, { WIDE_BLOCK / 4 }, R>(
                self.n,
                weights,
                d,
                self.rows.map(|row| row.quants.as_ptr().cast()),
                self.rows.map(|row| row.scales),
                // What was added to every weight comes to so much.
                |block, t| self.rows[t].offsets[block],
            )
        }
    }
}

/// [`TileMachine::wide`]. Lengths are checked.
pub(super) struct Wide<'a> {
    n: usize,
    panels: BlockPanels<'a, i16>,
    rows: [WideRow<'a>; TILE_TOKENS],
}

impl<'a> Wide<'a> {
    pub(super) fn new(
        panels: BlockPanels<'a, i16>,
        rows: [WideRow<'a>; TILE_TOKENS],
        sums: &[f32],
    ) -> Self {
        let n = rows[0].scales.len();
        panels.check(n, sums);
        for row in rows {
            assert!(row.quants.len() == n * WIDE_BLOCK && row.scales.len() == n);
        }
        Self { n, panels, rows }
    }
}

impl<D: Dot> Work<D> for Wide<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize>(&self, at: [Place; R]) -> Sums<D::Float, R> {
        let starts = at.map(|at| self.panels.starts(self.n, at));
        let (weights, d) = (starts.map(|start| start.0), starts.map(|start| start.1));
        // SAFETY: by the contract; the lengths were checked.
        unsafe {
            kernels::blocks::<D, dot::Wide, { WIDE_BLOCK / 2 }, R>(
                self.n,
                weights,
                d,
                self.rows.map(|row| row.quants.as_ptr().cast()),
                self.rows.map(|row| row.scales),
                |_, _| 0,
            )
        }
    }
}

/// [`TileMachine::floats`] and [`TileMachine::pairs`]: steps without scales, of product `P`. Lengths
/// are checked.
pub(super) struct Steps<'a, P> {
    n: usize,
    panels: &'a [u8],
    rows: [&'a [u8]; TILE_TOKENS],
    product: PhantomData<P>,
}

pub(super) type Floats<'a> = Steps<'a, dot::Floats>;
pub(super) type Pairs<'a> = Steps<'a, dot::Pairs>;

impl<'a, P> Steps<'a, P> {
    pub(super) fn new<T: NoUninit>(
        panels: &'a [T],
        rows: [&'a [T]; TILE_TOKENS],
        sums: &[f32],
    ) -> Self {
        let (panels, rows) = (cast_slice(panels), rows.map(cast_slice::<T, u8>));
        let n = rows[0].len() / STEP_BYTES;
        assert!(rows.iter().all(|row| row.len() == n * STEP_BYTES));
        assert!(panels.len() == n_panels(sums) * n * PANEL_ROWS * STEP_BYTES);
        Self { n, panels, rows, product: PhantomData }
    }
}

impl<D: Dot, P: Product<D, Sum = D::Float>> Work<D> for Steps<'_, P> {
    #[inline(always)]
    unsafe fn tile<const R: usize>(&self, at: [Place; R]) -> Sums<D::Float, R> {
        let start = |at: Place| (at.panel * self.n * PANEL_ROWS + at.row) * STEP_BYTES;
        let weights = at.map(|at| self.panels[start(at)..].as_ptr());
        let rows = self.rows.map(<[u8]>::as_ptr);
        // SAFETY: by the contract; the lengths were checked.
        unsafe { kernels::in_parts::<D, P, R>(self.n, weights, rows) }
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
        self.0.run(Levels::new(shape, panels, rows, sums), sums);
    }

    /// Sums over each of `panels` and four rows of i8 activations, into `sums`
    /// `[token][panel][row]`. Panics unless all have the same number of blocks, and where there
    /// [are no such products](Self::has_bytes).
    pub fn bytes(self, panels: BlockPanels<u8>, rows: [BytesRow; TILE_TOKENS], sums: &mut [f32]) {
        assert!(self.has_bytes(), "products of bytes on {self}");
        self.0.run(Bytes::new(panels, rows, sums), sums);
    }

    /// Sums over each of `panels` and four rows of i16 activations, into `sums`
    /// `[token][panel][row]`; wrong where magnitudes are beyond `WIDE_LIMIT`.
    /// Panics unless all have the same number of blocks.
    pub fn wide(self, panels: BlockPanels<i16>, rows: [WideRow; TILE_TOKENS], sums: &mut [f32]) {
        self.0.run(Wide::new(panels, rows, sums), sums);
    }

    /// Sums over each of the panels `[panel][k / 2][16][2]` of BF16 and four rows of BF16
    /// activations, into `sums` `[token][panel][row]`. Panics unless all have the same length, an
    /// even one, and where there [are no such products](Self::has_pairs).
    pub fn pairs(self, panels: &[u16], rows: [&[u16]; TILE_TOKENS], sums: &mut [f32]) {
        self.0.run_pairs(Pairs::new(panels, rows, sums), sums);
    }

    /// Sums over each of the float panels `[panel][k][16]` and four rows of activations, into
    /// `sums` `[token][panel][row]`. Panics unless all have the same length.
    pub fn floats(self, panels: &[f32], rows: [&[f32]; TILE_TOKENS], sums: &mut [f32]) {
        self.0.run(Floats::new(panels, rows, sums), sums);
    }
}
