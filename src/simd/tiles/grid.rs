//! Products on a processor that multiplies whole tiles: sixteen tokens with sixteen rows of a panel
//! and up to sixteen steps in one instruction, of which sums come back through memory.
//!
//! Two tiles of tokens, a group, meet two panels at a time; a few groups meet the same part of the
//! panels before the next part is read, so that it comes from the second-level cache once. What the
//! registers of a [`Dot`] are needed for is
//! left: sums times scales. To need it seldom, K-quants come as [`PlanesPanels`]: each level is
//! multiplied with the scale of its sub-block beforehand, which makes a whole number of 16 bits, and
//! its two bytes are multiplied apart. So only superblocks have scales.

use super::dot::Dot;
use super::products::{put, Bytes, Pairs};
use super::tokens::{number, Token};
use super::{Columns, PlanesPanels, Tokens, PANEL_ROWS, SUPERBLOCK, WIDE_BLOCK};

/// Tokens of a tile, and of a group.
const TILE: usize = 16;
const GROUP: usize = 2 * TILE;

/// Groups that meet a part of the panels, at most: their sums, a superblock of two panels and of a
/// group's tokens fill the first-level cache.
const AT_ONCE: usize = 2;

/// Steps of a tile, of four bytes of a row each.
pub(super) const TILE_STEPS: usize = 16;

/// Bytes of the steps of a tile in a row, and of a step in a panel.
const ROW_BYTES: usize = 64;

/// Bytes of the steps of a tile in a panel.
const PANEL_BYTES: usize = TILE_STEPS * ROW_BYTES;

/// How much of the tiles is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Tokens of each of the two tiles, 1 to 16.
    pub(super) rows: [usize; 2],
    /// Steps, 1 to 16.
    pub(super) steps: usize,
}

/// Two tiles of tokens, two panels, and how many tiles of steps follow each other.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) n: usize,
    /// A token begins `stride` bytes after the one before.
    pub(super) tokens: [*const u8; 2],
    pub(super) stride: usize,
    pub(super) panels: [*const u8; 2],
}

/// Sums of tokens with the rows of a panel, for the first tile with both panels, then the second:
/// `[4][16][16]`, of i32 or f32.
#[repr(align(64))]
pub(super) struct Sums([[[u32; PANEL_ROWS]; TILE]; 4]);

impl Sums {
    const fn new() -> Self {
        Self([[[0; PANEL_ROWS]; TILE]; 4])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// One of four parts, which hold a tile with a panel each.
    #[inline(always)]
    fn part(&mut self, part: usize) -> *mut u8 {
        self.0[part].as_mut_ptr().cast()
    }

    /// The sums of a tile with a panel, 16 a token.
    #[inline(always)]
    fn tile(&self, tile: usize, panel: usize) -> *const u32 {
        self.0[2 * tile + panel].as_ptr().cast()
    }

    /// The sums of a tile with a panel, 16 a token.
    #[inline(always)]
    fn tile_mut(&mut self, tile: usize, panel: usize) -> *mut f32 {
        self.0[2 * tile + panel].as_mut_ptr().cast()
    }
}

/// Registers of sixteen lanes, and tiles beside them.
pub(super) trait Grid: Dot {
    /// Gets the tiles ready for products of `shape`, and returns what was in force before.
    ///
    /// # Safety
    /// The processor has tiles.
    unsafe fn configure(shape: Shape);

    /// Sums of bytes with a sign times bytes, which have one if `SIGNED`.
    ///
    /// # Safety
    /// [`configure`](Self::configure) was called with `shape` last on this thread; the operands can
    /// be read.
    unsafe fn byte_tiles<const SIGNED: bool>(shape: Shape, operands: Operands, out: &mut Sums);

    /// The same of one tile of tokens, the `SECOND` or the first, with one panel, both signed, and
    /// without more steps; `out` is `[16][16]`.
    ///
    /// # Safety
    /// As for [`byte_tiles`](Self::byte_tiles), and `out` can be written.
    unsafe fn byte_tile<const SECOND: bool>(
        shape: Shape,
        tokens: *const u8,
        stride: usize,
        panel: *const u8,
        out: *mut u8,
    );

    /// Sums of BF16.
    ///
    /// # Safety
    /// As for [`byte_tiles`](Self::byte_tiles).
    unsafe fn pair_tiles(shape: Shape, operands: Operands, out: &mut Sums);
}

/// A few groups of tokens that follow each other, and two panels.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    shape: Shape,
    first: usize,
    n: usize,
    /// Tokens of each tile of a group. Where there is no second tile, the first is computed twice.
    wanted: [usize; 2],
    /// Where there is no second panel, the first is computed twice.
    panels: [usize; 2],
}

/// Memory for what tiles leave.
pub(super) struct Buffers {
    sums: [Sums; 2],
    totals: [Sums; AT_ONCE],
}

impl Buffers {
    /// The sums, and the totals of `n` groups, which become zero.
    #[inline(always)]
    fn cleared(&mut self, n: usize) -> (&mut [Sums; 2], &mut [Sums]) {
        let totals = &mut self.totals[..n];
        for totals in &mut *totals {
            totals.0 = [[[0; PANEL_ROWS]; TILE]; 4];
        }
        (&mut self.sums, totals)
    }
}

/// What is added up for groups.
pub(super) trait GridWork<G: Grid> {
    /// Steps of a tile.
    const STEPS: usize;

    /// Leaves the sums of the groups in their totals.
    ///
    /// # Safety
    /// The processor has what `G` needs, tiles are configured for the groups, and all tokens and
    /// panels are there.
    unsafe fn sum(&self, groups: &Groups, buffers: &mut Buffers);
}

/// Does `work` for all tokens and panels.
///
/// # Safety
/// The caller has the features that `G` needs; there are as many panels and tokens as `out` says.
#[inline(always)]
pub(super) unsafe fn run<G: Grid, W: GridWork<G>>(work: &W, out: &mut Columns<'_>) {
    let (n_tokens, n_panels) = (out.n_tokens(), out.width().div_ceil(PANEL_ROWS));
    let mut buffers =
        Buffers { sums: [const { Sums::new() }; 2], totals: [const { Sums::new() }; AT_ONCE] };
    let mut configured = None;
    let mut first = 0;
    while first < n_tokens {
        let left = n_tokens - first;
        let n = (left / GROUP).clamp(1, AT_ONCE);
        let wanted = [left.min(TILE), left.saturating_sub(TILE).min(TILE)];
        let rows = if wanted[1] == 0 { [wanted[0]; 2] } else { wanted };
        let shape = Shape { rows, steps: W::STEPS };
        if configured != Some(shape) {
            // SAFETY: by the contract.
            unsafe { G::configure(shape) };
            configured = Some(shape);
        }
        for panel in (0..n_panels).step_by(2) {
            let panels = [panel, (panel + 1).min(n_panels - 1)];
            let groups = Groups { shape, first, n, wanted, panels };
            // SAFETY: by the contract.
            unsafe {
                work.sum(&groups, &mut buffers);
                put_groups::<G>(&groups, &mut buffers.totals, out);
            }
        }
        first += n * GROUP;
    }
}

/// # Safety
/// As for [`run`]; the tokens and panels of `groups` are there.
#[inline(always)]
unsafe fn put_groups<G: Grid>(
    groups: &Groups,
    totals: &mut [Sums; AT_ONCE],
    out: &mut Columns<'_>,
) {
    let n_panels = if groups.panels[0] == groups.panels[1] { 1 } else { 2 };
    for (group, totals) in totals.iter_mut().enumerate().take(groups.n) {
        for tile in 0..2 {
            for token in 0..groups.wanted[tile] {
                for panel in 0..n_panels {
                    let column = groups.panels[panel] * PANEL_ROWS;
                    let row = groups.first + group * GROUP + tile * TILE + token;
                    // SAFETY: by the contract.
                    unsafe {
                        let sums = totals.tile_mut(tile, panel).add(token * PANEL_ROWS);
                        put::<G>(G::load_floats(sums), row, column, out);
                    }
                }
            }
        }
    }
}

impl Groups {
    /// Group `group` of `tokens` from byte `column` of a row on, and the panels, which begin
    /// `panel_bytes` apart.
    ///
    /// # Safety
    /// All of that is there.
    #[inline(always)]
    unsafe fn operands(
        &self,
        group: usize,
        tokens: &Tokens<'_>,
        column: usize,
        panels: *const u8,
        panel_bytes: usize,
        n: usize,
    ) -> Operands {
        let first = self.first + group * GROUP;
        let second = if self.wanted[1] == 0 { first } else { first + TILE };
        // SAFETY: by the contract.
        unsafe {
            Operands {
                n,
                tokens: [
                    tokens.row(first).numbers.add(column),
                    tokens.row(second).numbers.add(column),
                ],
                stride: tokens.stride,
                panels: [
                    panels.add(self.panels[0] * panel_bytes),
                    panels.add(self.panels[1] * panel_bytes),
                ],
            }
        }
    }

    /// The first token of a tile of group `group`, where there are any.
    ///
    /// # Safety
    /// There are so many groups.
    #[inline(always)]
    unsafe fn token(&self, group: usize, tile: usize, tokens: &Tokens<'_>) -> Token {
        let tile = if self.wanted[tile] == 0 { 0 } else { tile };
        // SAFETY: by the contract.
        unsafe { tokens.row(self.first + group * GROUP + tile * TILE) }
    }
}

/// [`TileMachine::planes`](super::TileMachine::planes). Lengths are checked.
pub(super) struct Planes<'a, const MINS: usize> {
    n: usize,
    panels: PlanesPanels<'a>,
    tokens: Tokens<'a>,
}

impl<'a, const MINS: usize> Planes<'a, MINS> {
    /// `MINS` pairs of minima to a superblock.
    pub(super) fn new(
        panels: PlanesPanels<'a>,
        tokens: Tokens<'a>,
        n: usize,
        out: &Columns<'_>,
    ) -> Self {
        let all = out.width().div_ceil(PANEL_ROWS) * n * PANEL_ROWS;
        assert!(panels.planes.len() == all * 2 * SUPERBLOCK);
        assert!(panels.mins.len() == all * MINS * 2 && panels.d.len() == all);
        assert!(MINS == 0 || panels.d_min.len() == all);
        tokens.check(out.n_tokens(), n * SUPERBLOCK, n * 4, n * MINS * 4);
        Self { n, panels, tokens }
    }
}

/// Bytes of a plane of a superblock of a panel.
const PLANE: usize = PANEL_ROWS * SUPERBLOCK;

impl<G: Grid, const MINS: usize> GridWork<G> for Planes<'_, MINS> {
    const STEPS: usize = TILE_STEPS;

    #[inline(always)]
    unsafe fn sum(&self, groups: &Groups, buffers: &mut Buffers) {
        let ([low, high], totals) = buffers.cleared(groups.n);
        for superblock in 0..self.n {
            for (group, totals) in totals.iter_mut().enumerate() {
                // SAFETY: by the contract; the lengths were checked.
                unsafe {
                    let planes = self.panels.planes.as_ptr().add(superblock * 2 * PLANE);
                    let (column, panel) = (superblock * SUPERBLOCK, self.n * 2 * PLANE);
                    let n = SUPERBLOCK / ROW_BYTES;
                    let mut operands =
                        groups.operands(group, &self.tokens, column, planes, panel, n);
                    G::byte_tiles::<false>(groups.shape, operands, low);
                    operands.panels[0] = operands.panels[0].add(PLANE);
                    operands.panels[1] = operands.panels[1].add(PLANE);
                    G::byte_tiles::<true>(groups.shape, operands, high);
                    self.scale::<G>(groups, group, superblock, [low, high], totals);
                }
            }
        }
    }
}

impl<const MINS: usize> Planes<'_, MINS> {
    /// Adds the sums of `superblock` to `totals`.
    ///
    /// # Safety
    /// The caller has the features that `G` needs; tokens, panels and the superblock are there.
    #[inline(always)]
    unsafe fn scale<G: Grid>(
        &self,
        groups: &Groups,
        group: usize,
        superblock: usize,
        [low, high]: [&Sums; 2],
        totals: &mut Sums,
    ) {
        for panel in 0..2 {
            let at = groups.panels[panel] * self.n + superblock;
            // SAFETY: by the contract.
            unsafe {
                let d = self.panels.d.as_ptr().add(at * PANEL_ROWS);
                // Any sixteen numbers; they are replaced, or there are none.
                let mut mins = [G::load_wide(d.cast()); MINS];
                let d = G::load_floats(d);
                let mut d_min = d;
                if MINS > 0 {
                    d_min = G::load_floats(self.panels.d_min.as_ptr().add(at * PANEL_ROWS));
                    let from = self.panels.mins.as_ptr().add(at * MINS * 2 * PANEL_ROWS);
                    for (i, pair) in mins.iter_mut().enumerate() {
                        *pair = G::load_wide(from.add(i * 2 * PANEL_ROWS).cast());
                    }
                }
                for tile in 0..2 {
                    let token = groups.token(group, tile, &self.tokens);
                    let mut scales = token.scales.wrapping_add(superblock * 4);
                    let mut sums = token.sums.wrapping_add(superblock * MINS * 4);
                    let mut low = low.tile(tile, panel);
                    let mut high = high.tile(tile, panel);
                    let mut to = totals.tile_mut(tile, panel);
                    for _ in 0..groups.wanted[tile] {
                        let below = G::to_floats(min_sums::<G, MINS>(mins, sums));
                        let high_sum = G::to_floats(G::load_ints(high.cast()));
                        let low_sum = G::to_floats(G::load_ints(low.cast()));
                        let mut sum = G::mul(G::fma(high_sum, G::floats(256.0), low_sum), d);
                        if MINS > 0 {
                            sum = G::fnma(below, d_min, sum);
                        }
                        let scale = G::floats(number(scales, 0));
                        G::store(to, G::fma(sum, scale, G::load_floats(to)));
                        low = low.wrapping_add(PANEL_ROWS);
                        high = high.wrapping_add(PANEL_ROWS);
                        to = to.wrapping_add(PANEL_ROWS);
                        scales = scales.wrapping_add(self.tokens.stride);
                        sums = sums.wrapping_add(self.tokens.stride);
                    }
                }
            }
        }
    }
}

/// Minima times the sums of activations of their sub-blocks.
///
/// # Safety
/// The caller has the features that `G` needs; as many pairs of sums can be read.
#[inline(always)]
unsafe fn min_sums<G: Grid, const MINS: usize>(mins: [G::Wide; MINS], sums: *const u8) -> G::Int {
    let mut below = G::ints(0);
    for (i, &pair) in mins.iter().enumerate() {
        // SAFETY: by the contract.
        unsafe { below = G::wide::<0>(below, pair, G::one(sums.add(4 * i))) };
    }
    below
}

/// Blocks are so short that their sums would be stored as often as they are added up: a tile meets
/// one panel at a time, whose totals stay in registers.
impl<G: Grid> GridWork<G> for Bytes<'_> {
    const STEPS: usize = WIDE_BLOCK / 4;

    #[inline(always)]
    unsafe fn sum(&self, groups: &Groups, buffers: &mut Buffers) {
        let Buffers { sums: [sums, _], totals } = buffers;
        for (group, totals) in totals.iter_mut().enumerate().take(groups.n) {
            for panel in 0..2 {
                // SAFETY: by the contract.
                unsafe {
                    self.tile::<G, false>(groups, group, panel, sums, totals);
                    if groups.wanted[1] > 0 {
                        self.tile::<G, true>(groups, group, panel, sums, totals);
                    }
                }
            }
        }
    }
}

impl Bytes<'_> {
    /// The totals of a tile of tokens, the `SECOND` or the first, with a panel.
    ///
    /// # Safety
    /// The caller has the features that `G` needs; there are such tokens and panels.
    #[inline(always)]
    unsafe fn tile<G: Grid, const SECOND: bool>(
        &self,
        groups: &Groups,
        group: usize,
        panel: usize,
        sums: &mut Sums,
        totals: &mut Sums,
    ) {
        const BYTES: usize = PANEL_ROWS * WIDE_BLOCK;
        let tile = usize::from(SECOND);
        let first = groups.panels[panel] * self.n;
        // SAFETY: by the contract; the lengths were checked. Tokens that are not there stand for
        // the last one, and nobody reads their totals.
        unsafe {
            let tokens = groups.token(group, tile, &self.tokens);
            let mut scales = [tokens.scales; TILE];
            for (t, scales) in scales.iter_mut().enumerate() {
                *scales = scales.add(t.min(groups.wanted[tile] - 1) * self.tokens.stride);
            }
            let mut numbers = tokens.numbers;
            let mut weights = self.weights.as_ptr().add(first * BYTES);
            let mut d = self.d.as_ptr().add(first * PANEL_ROWS);
            let mut total = [G::floats(0.0); TILE];
            let stride = self.tokens.stride;
            G::byte_tile::<SECOND>(groups.shape, numbers, stride, weights, sums.part(0));
            for block in 0..self.n {
                // The next one is under way while this one is added up.
                if block + 1 < self.n {
                    numbers = numbers.add(WIDE_BLOCK);
                    weights = weights.add(BYTES);
                    let to = sums.part(block.wrapping_add(1) % 4);
                    G::byte_tile::<SECOND>(groups.shape, numbers, stride, weights, to);
                }
                let row = G::load_floats(d);
                d = d.wrapping_add(PANEL_ROWS);
                let mut from = sums.part(block % 4).cast_const();
                for t in 0..TILE {
                    let scale = G::floats(number(scales[t], block));
                    let sum = G::to_floats(G::load_ints(from));
                    total[t] = G::fma(sum, G::mul(row, scale), total[t]);
                    from = from.wrapping_add(ROW_BYTES);
                }
            }
            let mut to = totals.tile_mut(tile, panel);
            for total in total {
                G::store(to, total);
                to = to.wrapping_add(PANEL_ROWS);
            }
        }
    }
}

/// Tiles of steps of BF16 in a partial sum.
const PART: usize = 8;

impl<G: Grid> GridWork<G> for Pairs<'_> {
    const STEPS: usize = TILE_STEPS;

    #[inline(always)]
    unsafe fn sum(&self, groups: &Groups, buffers: &mut Buffers) {
        let ([sums, _], totals) = buffers.cleared(groups.n);
        let n_tiles = self.n / TILE_STEPS;
        for start in (0..n_tiles).step_by(PART) {
            let n = PART.min(n_tiles - start);
            for (group, totals) in totals.iter_mut().enumerate() {
                // SAFETY: by the contract; the lengths were checked.
                unsafe {
                    let panels = self.panels.as_ptr().add(start * PANEL_BYTES);
                    let (column, panel) = (start * ROW_BYTES, self.n * ROW_BYTES);
                    let operands = groups.operands(group, &self.tokens, column, panels, panel, n);
                    G::pair_tiles(groups.shape, operands, sums);
                    for tile in 0..2 {
                        for panel in 0..2 {
                            let mut sums = sums.tile(tile, panel);
                            let mut to = totals.tile_mut(tile, panel);
                            for _ in 0..groups.wanted[tile] {
                                let sum = G::load_floats(sums.cast());
                                G::store(to, G::add(G::load_floats(to), sum));
                                sums = sums.wrapping_add(PANEL_ROWS);
                                to = to.wrapping_add(PANEL_ROWS);
                            }
                        }
                    }
                }
            }
        }
    }
}
