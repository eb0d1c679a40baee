//! Checks the shapes of panels and rows, and runs the kernels over all of them.

use std::marker::PhantomData;

use bytemuck::{cast_slice, NoUninit};

use super::dot::{self, Dot, Product, STEP_BYTES};
use super::kernels::{self, Sums, Superblocks};
use super::winograd::Winograd;
use super::LevelsShape::{Block16Levels32, Block16Levels64, Block32Levels16, Block32Levels32};
use super::{
    BlockPanels, Columns, LevelsPanels, LevelsShape, PlanesPanels, TileMachine, Tokens,
    WinogradPanels, PANEL_ROWS, SUPERBLOCK, TILE_TOKENS, WIDE_BLOCK,
};
use crate::simd::Ahead;

// No closures here and in the kernels: one that has the features of the function around it is not
// compiled into the library's loops, which have not.

/// Sums over panels and some tokens, in pieces that registers of `D` hold.
pub(super) trait Work<D: Dot> {
    /// Sums of `R` registers of rows with the `T` tokens from `first` on.
    ///
    /// # Safety
    /// The processor has what `D` needs, and all rows and tokens are there.
    unsafe fn tile<const R: usize, const T: usize>(
        &self,
        at: [Place; R],
        first: usize,
    ) -> Sums<D::Float, R, T>;
}

/// The rows of a register, from `row` of a panel on.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) panel: usize,
    pub(super) row: usize,
}

/// Does `work` for all tokens, `T` at a time and what is left by [`TILE_TOKENS`].
///
/// # Safety
/// The caller has the features that `D` needs; there are as many panels and tokens as `out` says.
#[inline(always)]
pub(super) unsafe fn run<D: Dot, W: Work<D>, const R: usize, const T: usize>(
    work: &W,
    out: &mut Columns<'_>,
) {
    // What is left has to be whole tiles.
    const { assert!(T.is_multiple_of(TILE_TOKENS)) };
    let whole = out.n_tokens() / T * T;
    // SAFETY: by the contract, and all tokens are whole tiles, as `Tokens::check` saw: neither loop
    // takes more than there are.
    unsafe {
        for first in (0..whole).step_by(T) {
            all::<D, W, R, T>(work, first, out);
        }
        for first in (whole..out.n_tokens()).step_by(TILE_TOKENS) {
            all::<D, W, R, TILE_TOKENS>(work, first, out);
        }
    }
}

/// All rows with `T` tokens, `R` registers at a time and what is left one by one.
///
/// # Safety
/// As for [`run`]; there are so many tokens from `token` on.
#[inline(always)]
unsafe fn all<D: Dot, W: Work<D>, const R: usize, const T: usize>(
    work: &W,
    token: usize,
    out: &mut Columns<'_>,
) {
    let n_registers = n_panels(out) * (PANEL_ROWS / D::LANES);
    let mut first = 0;
    // SAFETY: by the contract; `some` stays inside of the panels.
    unsafe {
        while first + R <= n_registers {
            some::<D, W, R, T>(work, token, first, out);
            first += R;
        }
        while first < n_registers {
            some::<D, W, 1, T>(work, token, first, out);
            first += 1;
        }
    }
}

/// # Safety
/// As for [`all`]; there are `R` registers of rows from `first` on.
#[inline(always)]
unsafe fn some<D: Dot, W: Work<D>, const R: usize, const T: usize>(
    work: &W,
    token: usize,
    first: usize,
    out: &mut Columns<'_>,
) {
    let mut at = [Place { panel: 0, row: 0 }; R];
    for (r, at) in at.iter_mut().enumerate() {
        let row = (first + r) * D::LANES;
        *at = Place { panel: row / PANEL_ROWS, row: row % PANEL_ROWS };
    }
    // SAFETY: by the contract: `at` are rows of the panels, and the tokens are there.
    let sums = unsafe { work.tile::<R, T>(at, token) };
    for (r, sums) in sums.iter().enumerate() {
        for (t, &sum) in sums.iter().enumerate() {
            // SAFETY: by the contract; `t` is one of the tokens from `token` on.
            unsafe { put::<D>(sum, token + t, (first + r) * D::LANES, out) };
        }
    }
}

/// Stores what `out` has columns for, or adds it.
///
/// # Safety
/// The caller has the features that `D` needs; `out` has such a token.
#[inline(always)]
pub(super) unsafe fn put<D: Dot>(
    sum: D::Float,
    token: usize,
    column: usize,
    out: &mut Columns<'_>,
) {
    let (add, width) = (out.add(), out.width());
    if column + D::LANES <= width {
        // SAFETY: as many columns are there as the register has values.
        unsafe {
            let to = out.at(token, column);
            D::store(to, if add { D::add(D::load_floats(to), sum) } else { sum });
        }
    } else if column < width {
        let mut values = [0.0; PANEL_ROWS];
        // SAFETY: a register has no more values than a panel has rows; those that are read are
        // columns of `out`.
        unsafe {
            D::store(values.as_mut_ptr(), sum);
            for (i, &value) in values.iter().enumerate().take(width - column) {
                let to = out.at(token, column + i);
                to.write(if add { to.read() + value } else { value });
            }
        }
    }
}

/// Number of panels whose rows the columns are.
pub(super) fn n_panels(out: &Columns<'_>) -> usize {
    out.width().div_ceil(PANEL_ROWS)
}

/// [`TileMachine::levels`]. Lengths are checked.
pub(super) struct Levels<'a> {
    shape: LevelsShape,
    n: usize,
    panels: LevelsPanels<'a>,
    tokens: Tokens<'a>,
}

impl<'a> Levels<'a> {
    pub(super) fn new(
        shape: LevelsShape,
        panels: LevelsPanels<'a>,
        tokens: Tokens<'a>,
        n: usize,
        out: &Columns<'_>,
    ) -> Self {
        let (all, n_blocks) = (n_panels(out) * n * PANEL_ROWS, SUPERBLOCK / shape.block());
        assert!(panels.levels.len() == all * SUPERBLOCK);
        assert!(panels.mins.len() == all * n_blocks);
        assert!(panels.d.len() == all && panels.d_min.len() == all);
        tokens.check(out.n_tokens(), n * SUPERBLOCK, n * 4, n * n_blocks * 2);
        Self { shape, n, panels, tokens }
    }

    /// Where the superblocks of a register begin. Panics unless there are the scales or the factors
    /// that `D` wants.
    #[inline(always)]
    fn superblocks<D: Dot>(&self, at: Place) -> Superblocks {
        let (first, n_blocks) = (at.panel * self.n, SUPERBLOCK / self.shape.block());
        let n_scales = self.panels.mins.len();
        let (mut scales, mut factors) = (std::ptr::null(), std::ptr::null());
        if D::FACTORS {
            assert!(self.panels.factors.len() == n_scales);
            factors = self.panels.factors[first * n_blocks * PANEL_ROWS + at.row..].as_ptr();
        } else {
            assert!(self.panels.scales.len() == 2 * n_scales);
            let start = 2 * (first * n_blocks * PANEL_ROWS + at.row);
            scales = self.panels.scales[start..].as_ptr();
        }
        // Inside of the panels: `first + n` superblocks are at most `n_panels n`.
        Superblocks {
            scales,
            factors,
            levels: self.panels.levels[first * PANEL_ROWS * SUPERBLOCK + 4 * at.row..].as_ptr(),
            mins: self.panels.mins[first * n_blocks * PANEL_ROWS + 2 * at.row..].as_ptr(),
            d: self.panels.d[first * PANEL_ROWS + at.row..].as_ptr(),
            d_min: self.panels.d_min[first * PANEL_ROWS + at.row..].as_ptr(),
        }
    }
}

impl<D: Dot> Work<D> for Levels<'_> {
    #[inline(always)]
    unsafe fn tile<const R: usize, const T: usize>(
        &self,
        at: [Place; R],
        first: usize,
    ) -> Sums<D::Float, R, T> {
        let mut panels = [self.superblocks::<D>(at[0]); R];
        for r in 1..R {
            panels[r] = self.superblocks::<D>(at[r]);
        }
        // SAFETY: by the contract; the lengths were checked.
        unsafe {
            let rows = self.tokens.tile::<T>(first);
            match self.shape {
                Block32Levels16 => D::levels::<32, 8, R, T>(self.n, panels, &rows),
                Block32Levels32 => D::levels::<32, 4, R, T>(self.n, panels, &rows),
                Block16Levels32 => D::levels::<16, 4, R, T>(self.n, panels, &rows),
                Block16Levels64 => D::levels::<16, 2, R, T>(self.n, panels, &rows),
            }
        }
    }
}

/// [`TileMachine::bytes`], with sums, and [`TileMachine::wide`], without: blocks of `STEPS` steps of
/// product `P`. Lengths are checked.
pub(super) struct Blocks<'a, P, const STEPS: usize, const WITH_SUMS: bool> {
    pub(super) n: usize,
    pub(super) weights: &'a [u8],
    pub(super) d: &'a [f32],
    pub(super) tokens: Tokens<'a>,
    product: PhantomData<P>,
}

pub(super) type Bytes<'a> = Blocks<'a, dot::Bytes, { WIDE_BLOCK / 4 }, true>;
pub(super) type Wide<'a> = Blocks<'a, dot::Wide, { WIDE_BLOCK / 2 }, false>;

impl<'a, P, const STEPS: usize, const WITH_SUMS: bool> Blocks<'a, P, STEPS, WITH_SUMS> {
    pub(super) fn new<T: NoUninit>(
        panels: BlockPanels<'a, T>,
        tokens: Tokens<'a>,
        n: usize,
        out: &Columns<'_>,
    ) -> Self {
        let (all, weights) = (n_panels(out) * n * PANEL_ROWS, cast_slice(panels.weights));
        assert!(panels.d.len() == all && weights.len() == all * STEPS * STEP_BYTES);
        let sums = if WITH_SUMS { n * 4 } else { 0 };
        tokens.check(out.n_tokens(), n * STEPS * STEP_BYTES, n * 4, sums);
        Self { n, weights, d: panels.d, tokens, product: PhantomData }
    }
}

impl<D, P, const STEPS: usize, const WITH_SUMS: bool> Work<D> for Blocks<'_, P, STEPS, WITH_SUMS>
where
    D: Dot,
    P: Product<D, Sum = D::Int>,
{
    #[inline(always)]
    unsafe fn tile<const R: usize, const T: usize>(
        &self,
        at: [Place; R],
        first: usize,
    ) -> Sums<D::Float, R, T> {
        let mut weights = [self.weights.as_ptr(); R];
        let mut d = [self.d.as_ptr(); R];
        for r in 0..R {
            let first = at[r].panel * self.n * PANEL_ROWS;
            weights[r] = self.weights[(first * STEPS + at[r].row) * STEP_BYTES..].as_ptr();
            d[r] = self.d[first + at[r].row..].as_ptr();
        }
        // SAFETY: by the contract; the lengths were checked.
        unsafe {
            let rows = self.tokens.tile::<T>(first);
            kernels::blocks::<D, P, STEPS, WITH_SUMS, R, T>(self.n, weights, d, &rows)
        }
    }
}

/// [`TileMachine::floats`] and [`TileMachine::pairs`]: steps without scales, of product `P`. Lengths
/// are checked.
pub(super) struct Steps<'a, P> {
    pub(super) n: usize,
    pub(super) panels: &'a [u8],
    pub(super) tokens: Tokens<'a>,
    ahead: &'a Ahead<'a>,
    product: PhantomData<P>,
}

pub(super) type Floats<'a> = Steps<'a, dot::Floats>;
pub(super) type Pairs<'a> = Steps<'a, dot::Pairs>;

impl<'a, P> Steps<'a, P> {
    pub(super) fn new<T: NoUninit>(
        panels: &'a [T],
        tokens: Tokens<'a>,
        n: usize,
        ahead: &'a Ahead<'a>,
        out: &Columns<'_>,
    ) -> Self {
        let panels = cast_slice(panels);
        assert!(panels.len() == n_panels(out) * n * PANEL_ROWS * STEP_BYTES);
        tokens.check(out.n_tokens(), n * STEP_BYTES, 0, 0);
        Self { n, panels, tokens, ahead, product: PhantomData }
    }
}

impl<D: Dot, P: Product<D, Sum = D::Float>> Work<D> for Steps<'_, P> {
    #[inline(always)]
    unsafe fn tile<const R: usize, const T: usize>(
        &self,
        at: [Place; R],
        first: usize,
    ) -> Sums<D::Float, R, T> {
        let mut weights = [self.panels.as_ptr(); R];
        for r in 0..R {
            let start = (at[r].panel * self.n * PANEL_ROWS + at[r].row) * STEP_BYTES;
            weights[r] = self.panels[start..].as_ptr();
        }
        // SAFETY: by the contract; the lengths were checked.
        unsafe {
            let rows = self.tokens.tile::<T>(first);
            kernels::in_parts::<D, P, R, T>(self.n, weights, &rows, self.ahead)
        }
    }
}

/// Sums of the rows of panels, which lie one after the other, with all of `tokens`, into `out`. All
/// panic unless panels and tokens are as long as `n` and `out` say.
impl TileMachine {
    /// `n` superblocks.
    pub fn levels(
        self,
        shape: LevelsShape,
        panels: LevelsPanels<'_>,
        tokens: Tokens<'_>,
        n: usize,
        mut out: Columns<'_>,
    ) {
        self.0.run(&Levels::new(shape, panels, tokens, n, &out), &mut out);
    }

    /// `n` superblocks. Panics where there [are no such products](Self::has_planes).
    pub fn planes(self, panels: PlanesPanels<'_>, tokens: Tokens<'_>, n: usize, out: Columns<'_>) {
        self.0.run_planes(panels, tokens, n, out);
    }

    /// `n` blocks. Panics where there [are no such products](Self::has_bytes).
    pub fn bytes(
        self,
        panels: BlockPanels<'_, u8>,
        tokens: Tokens<'_>,
        n: usize,
        mut out: Columns<'_>,
    ) {
        assert!(self.has_bytes(), "products of bytes on {self}");
        self.0.run_bytes(&Bytes::new(panels, tokens, n, &out), &mut out);
    }

    /// `n` blocks; wrong where magnitudes are beyond `WIDE_LIMIT`.
    pub fn wide(
        self,
        panels: BlockPanels<'_, i16>,
        tokens: Tokens<'_>,
        n: usize,
        mut out: Columns<'_>,
    ) {
        self.0.run(&Wide::new(panels, tokens, n, &out), &mut out);
    }

    /// `n` pairs of BF16 in panels `[panel][n][16][2]`. Panics where there
    /// [are no such products](Self::has_pairs).
    ///
    /// What is `ahead` comes nearer meanwhile, where registers are what multiplies.
    pub fn pairs(
        self,
        panels: &[u16],
        tokens: Tokens<'_>,
        n: usize,
        ahead: &Ahead<'_>,
        mut out: Columns<'_>,
    ) {
        self.0.run_pairs(&Pairs::new(panels, tokens, n, ahead, &out), &mut out);
    }

    /// `n` steps of four columns. Panics where there [are no such products](Self::has_winograd). What
    /// is `ahead` comes nearer meanwhile.
    pub fn winograd(
        self,
        panels: WinogradPanels<'_>,
        tokens: Tokens<'_>,
        n: usize,
        ahead: &Ahead<'_>,
        mut out: Columns<'_>,
    ) {
        self.0.run_winograd(&Winograd::new(panels, tokens, n, ahead, &out), &mut out);
    }

    /// `n` floats in panels `[panel][n][16]`. What is `ahead` comes nearer meanwhile.
    pub fn floats(
        self,
        panels: &[f32],
        tokens: Tokens<'_>,
        n: usize,
        ahead: &Ahead<'_>,
        mut out: Columns<'_>,
    ) {
        self.0.run_steps(&Floats::new(panels, tokens, n, ahead, &out), &mut out);
    }
}
