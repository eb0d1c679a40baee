//! AArch64 with NEON's products of bytes, and what processors have beyond.

mod ceiling;
mod registers;
mod round;
mod unpack;

use std::arch::is_aarch64_feature_detected;

use super::products::{run, Bytes, Pairs, Work};
use super::winograd::Winograd;
use super::{Columns, PlanesPanels, TileMachine, Tokens, PANEL_ROWS, TILE_TOKENS};
use registers::Quad;

/// Which instructions the products use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Set {
    /// Products of bytes that add to a sum of 32 bits.
    Dot,
    /// And those of BF16.
    Bf16,
}

impl Set {
    /// All that this processor can run, slowest first.
    pub(super) fn available() -> Vec<Self> {
        let dot = is_aarch64_feature_detected!("dotprod");
        let bf16 = dot && is_aarch64_feature_detected!("bf16");
        let sets = [(dot, Self::Dot), (bf16, Self::Bf16)];
        sets.into_iter().filter_map(|(there, set)| there.then_some(set)).collect()
    }

    /// `sdot` takes weights as signed bytes.
    pub(super) fn byte_offset(self) -> u8 {
        0
    }

    pub(super) fn has_planes(self) -> bool {
        false
    }

    pub(super) fn has_factors(self) -> bool {
        true
    }

    pub(super) fn has_bytes(self) -> bool {
        true
    }

    pub(super) fn has_pairs(self) -> bool {
        self >= Self::Bf16
    }

    pub(super) fn has_winograd(self) -> bool {
        false
    }

    /// As many products of 16-bit numbers are made at a time as of f32.
    pub(super) fn has_wide(self) -> bool {
        false
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dot => "neon-dotprod",
            Self::Bf16 => "neon-bf16",
        }
    }

    /// Does `work`.
    pub(super) fn run(self, work: &impl Work<Quad>, out: &mut Columns<'_>) {
        // SAFETY: the set says what the processor has.
        unsafe { dot(work, out) }
    }

    /// Does `work` whose sums need no registers beside them.
    pub(super) fn run_steps(self, work: &impl Work<Quad>, out: &mut Columns<'_>) {
        self.run(work, out);
    }

    /// There are no products of planes.
    pub(super) fn run_planes(self, _: PlanesPanels<'_>, _: Tokens<'_>, _: usize, _: Columns<'_>) {
        unreachable!("products of planes on {}", self.name())
    }

    /// Does `work`.
    pub(super) fn run_bytes(self, work: &Bytes<'_>, out: &mut Columns<'_>) {
        self.run(work, out);
    }

    /// There are no such products.
    pub(super) fn run_winograd(self, _: &Winograd<'_>, _: &mut Columns<'_>) {
        unreachable!("Winograd's products on {}", self.name())
    }

    /// Does `work` that needs products of BF16. Panics where there are none.
    pub(super) fn run_pairs(self, work: &Pairs<'_>, out: &mut Columns<'_>) {
        assert!(self.has_pairs(), "products of BF16 on {}", self.name());
        // SAFETY: asserted.
        unsafe { bf16(work, out) }
    }
}

/// There are no Winograd's products.
impl TileMachine {
    /// Not on this processor.
    pub fn unpack_winograd(
        self,
        _: [&[u8]; PANEL_ROWS],
        _: &mut [i16],
        _: &mut [f32],
        _: &mut [i32],
    ) {
        unreachable!("Winograd's products on {self}")
    }

    /// Not on this processor.
    pub fn round_winograd(self, _: &[f32], _: &mut [i16]) -> (f32, i32) {
        unreachable!("Winograd's products on {self}")
    }
}

/// Registers of a panel. All of them: the 16 sums of the innermost loop, and what they are made
/// from, fit into 32 registers.
const AT_ONCE: usize = 4;

/// # Safety
/// NEON with products of bytes.
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot(work: &impl Work<Quad>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run::<Quad, _, AT_ONCE, TILE_TOKENS>(work, out) }
}

/// # Safety
/// NEON with products of BF16.
#[target_feature(enable = "neon,bf16")]
unsafe fn bf16(work: &impl Work<Quad>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run::<Quad, _, AT_ONCE, TILE_TOKENS>(work, out) }
}
