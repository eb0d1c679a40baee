//! Winograd's inner product: see the head of [`tiles`](super).

// Loops run over the same index of several arrays of registers.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;

use super::dot::{Dot, STEP_BYTES};
use super::kernels::PANEL_STEP;
use super::products::{n_panels, put};
use super::tokens::{number, Token};
use super::{Columns, Tokens, WinogradPanels, PANEL_ROWS, TILE_TOKENS, WINOGRAD_BLOCK};
use crate::simd::Ahead;

/// A register with what Winograd's products want. Whole numbers wrap around.
pub(super) trait DotWinograd: Dot {
    /// The four bytes at `from` in all lanes.
    ///
    /// # Safety
    /// They can be read.
    unsafe fn wides(from: *const u8) -> Self::Wide;
    /// Sums of the numbers of 16 bits.
    fn add_wide(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// `a + b`
    fn add_ints(a: Self::Int, b: Self::Int) -> Self::Int;
    /// `sum` and the two products of signed 16-bit numbers.
    fn multiply_wide(sum: Self::Int, a: Self::Wide, b: Self::Wide) -> Self::Int;
}

/// [`TileMachine::winograd`]. Lengths are checked.
pub(super) struct Winograd<'a> {
    /// Steps of four columns.
    n: usize,
    panels: WinogradPanels<'a>,
    tokens: Tokens<'a>,
    ahead: &'a Ahead<'a>,
}

/// Steps of a whole block.
const WINOGRAD_STEPS: usize = WINOGRAD_BLOCK / 4;

/// Tokens that meet a block of the panels before its next one: the block stays in the first-level
/// cache, and what they add up to in the second.
const WINOGRAD_TOKENS: usize = 256;

/// Sums of a tile of tokens with `R` panels.
type Tile<const R: usize> = [[[f32; PANEL_ROWS]; TILE_TOKENS]; R];

/// Sums of some tokens, which the first block of the panels leaves there.
#[repr(align(64))]
struct Totals<const R: usize>([MaybeUninit<Tile<R>>; WINOGRAD_TOKENS / TILE_TOKENS]);

impl<'a> Winograd<'a> {
    pub(super) fn new(
        panels: WinogradPanels<'a>,
        tokens: Tokens<'a>,
        n: usize,
        ahead: &'a Ahead<'a>,
        out: &Columns<'_>,
    ) -> Self {
        let (n_panels, n_blocks) = (n_panels(out), n.div_ceil(WINOGRAD_STEPS));
        assert!(panels.weights.len() == n_panels * n * 4 * PANEL_ROWS);
        assert!(panels.d.len() == n_panels * n_blocks * PANEL_ROWS);
        assert!(panels.corrections.len() == panels.d.len() && n > 0);
        tokens.check(out.n_tokens(), n * WINOGRAD_STEP, n_blocks * 4, n_blocks * 4);
        Self { n, panels, tokens, ahead }
    }
}

/// Does `work` for all tokens, `R` panels at a time and what is left one by one.
///
/// # Safety
/// The caller has the features that `D` needs, whose registers are a panel's rows; there are as many
/// panels and tokens as `out` says.
#[inline(always)]
pub(super) unsafe fn run_winograd<D: DotWinograd, const R: usize>(
    work: &Winograd<'_>,
    out: &mut Columns<'_>,
) {
    const { assert!(D::LANES == PANEL_ROWS) };
    let n_panels = n_panels(out);
    let whole = n_panels / R * R;
    // SAFETY: by the contract; neither loop takes more panels than there are.
    unsafe {
        for panel in (0..whole).step_by(R) {
            work.panels::<D, R>(panel, out);
        }
        for panel in whole..n_panels {
            work.panels::<D, 1>(panel, out);
        }
    }
}

impl Winograd<'_> {
    /// `R` panels from `panel` on with all tokens, block after block with some of them at a time.
    ///
    /// # Safety
    /// As for [`run_winograd`]; there are such panels.
    #[inline(always)]
    unsafe fn panels<D: DotWinograd, const R: usize>(&self, panel: usize, out: &mut Columns<'_>) {
        let mut totals = Totals([const { MaybeUninit::uninit() }; _]);
        for first in (0..out.n_tokens()).step_by(WINOGRAD_TOKENS) {
            let n_tiles = (out.n_tokens() - first).min(WINOGRAD_TOKENS) / TILE_TOKENS;
            let totals = &mut totals.0[..n_tiles];
            // SAFETY: by the contract; the first block leaves sums in all tiles.
            unsafe {
                self.block::<D, R, false>(0, panel, first, totals);
                for block in 1..self.n.div_ceil(WINOGRAD_STEPS) {
                    self.block::<D, R, true>(block, panel, first, totals);
                }
                for (tile, totals) in totals.iter().enumerate() {
                    let token = first + tile * TILE_TOKENS;
                    put_tile::<D, R>(totals.assume_init_ref(), token, panel, out);
                }
            }
        }
    }

    /// One block of `R` panels with tokens from `first` on, whose totals it is added to, if `ADD`.
    ///
    /// # Safety
    /// As for [`run_winograd`]; there are such a block, such panels and tokens, and totals if `ADD`.
    #[inline(always)]
    unsafe fn block<D: DotWinograd, const R: usize, const ADD: bool>(
        &self,
        block: usize,
        panel: usize,
        first: usize,
        totals: &mut [MaybeUninit<Tile<R>>],
    ) {
        let start = block * WINOGRAD_STEPS;
        let n_steps = WINOGRAD_STEPS.min(self.n - start);
        let mut weights = [self.panel(block, panel); R];
        for (r, weights) in weights.iter_mut().enumerate() {
            *weights = self.panel(block, panel + r);
        }
        for (tile, totals) in totals.iter_mut().enumerate() {
            let token = first + tile * TILE_TOKENS;
            self.ahead.few();
            // SAFETY: by the contract; the lengths were checked, and all tokens are whole tiles.
            unsafe {
                let mut rows = self.tokens.tile::<TILE_TOKENS>(token);
                for row in &mut rows {
                    row.numbers = row.numbers.add(WINOGRAD_STEP * start);
                    row.scales = row.scales.add(4 * block);
                    row.sums = row.sums.add(4 * block);
                }
                add_up::<D, R, ADD>(n_steps, weights, &rows, totals.as_mut_ptr().cast());
            }
        }
    }

    /// Where a block of a panel begins.
    #[inline(always)]
    fn panel(&self, block: usize, panel: usize) -> WinogradRows {
        let step = panel * self.n + block * WINOGRAD_STEPS;
        let at = (panel * self.n.div_ceil(WINOGRAD_STEPS) + block) * PANEL_ROWS;
        WinogradRows {
            weights: self.panels.weights[step * 4 * PANEL_ROWS..].as_ptr().cast(),
            d: self.panels.d[at..].as_ptr(),
            corrections: self.panels.corrections[at..].as_ptr().cast(),
        }
    }
}

/// [`put`]s the sums of a tile with panels from `panel` on.
///
/// # Safety
/// The caller has the features that `D` needs, whose registers are a panel's rows; `out` has such
/// tokens.
#[inline(always)]
unsafe fn put_tile<D: Dot, const R: usize>(
    tile: &Tile<R>,
    token: usize,
    panel: usize,
    out: &mut Columns<'_>,
) {
    for (r, tokens) in tile.iter().enumerate() {
        for (t, sums) in tokens.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe {
                let sums = D::load_floats(sums.as_ptr());
                put::<D>(sums, token + t, (panel + r) * PANEL_ROWS, out);
            }
        }
    }
}

/// Where a block of the rows of a register of Winograd's panels begins, and what belongs to it.
#[derive(Clone, Copy)]
struct WinogradRows {
    weights: *const u8,
    d: *const f32,
    corrections: *const u8,
}

/// Bytes of a step of four columns: of a token, and of the even or the odd columns of a panel.
const WINOGRAD_STEP: usize = 8;

/// One block of `n` steps of Winograd's products, `[panel][token][16]`, added to `totals` if `ADD`.
/// Steps of a panel lie 128 bytes apart, the even columns before the odd ones.
///
/// # Safety
/// Panels and rows have so many steps, a scale and a correction; a register has the rows of a panel.
/// `totals` can be written, and if `ADD` read.
#[inline(always)]
unsafe fn add_up<D: DotWinograd, const R: usize, const ADD: bool>(
    n: usize,
    panels: [WinogradRows; R],
    rows: &[Token; TILE_TOKENS],
    totals: *mut f32,
) {
    let mut sums = [[D::ints(0); TILE_TOKENS]; R];
    // SAFETY: by the contract.
    unsafe {
        for r in 0..R {
            let correction = D::load_ints(panels[r].corrections);
            for t in 0..TILE_TOKENS {
                sums[r][t] = D::add_ints(correction, D::ints(number(rows[t].sums, 0)));
            }
        }
        for step in 0..n {
            let mut even = [D::load_wide(panels[0].weights.add(2 * PANEL_STEP * step)); R];
            let mut odd = even;
            for r in 0..R {
                let at = panels[r].weights.add(2 * PANEL_STEP * step);
                even[r] = D::load_wide(at);
                odd[r] = D::load_wide(at.add(PANEL_STEP));
            }
            for t in 0..TILE_TOKENS {
                let at = rows[t].numbers.add(WINOGRAD_STEP * step);
                let (odds, evens) = (D::wides(at), D::wides(at.add(STEP_BYTES)));
                for r in 0..R {
                    let (a, b) = (D::add_wide(even[r], odds), D::add_wide(odd[r], evens));
                    sums[r][t] = D::multiply_wide(sums[r][t], a, b);
                }
            }
        }
        for r in 0..R {
            let d = D::load_floats(panels[r].d);
            for t in 0..TILE_TOKENS {
                let scale = D::mul(d, D::floats(number(rows[t].scales, 0)));
                let total = totals.add((r * TILE_TOKENS + t) * PANEL_ROWS);
                let sum = D::to_floats(sums[r][t]);
                let sum = if ADD {
                    D::fma(sum, scale, D::load_floats(total))
                } else {
                    D::mul(sum, scale)
                };
                D::store(total, sum);
            }
        }
    }
}
