//! The methods of a [`TileMachine`] on processors for which there is none: they cannot be called.

use super::{
    Arithmetic, BlockPanels, Columns, LevelBits, LevelsPanels, LevelsShape, PlanesPanels,
    TileMachine, Tokens, WinogradPanels, PANEL_ROWS,
};
use crate::simd::Ahead;

/// No instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {}

impl Set {
    pub(super) fn available() -> Vec<Self> {
        Vec::new()
    }

    pub(super) fn byte_offset(self) -> u8 {
        match self {}
    }

    pub(super) fn has_planes(self) -> bool {
        match self {}
    }

    pub(super) fn has_factors(self) -> bool {
        match self {}
    }

    pub(super) fn has_bytes(self) -> bool {
        match self {}
    }

    pub(super) fn has_pairs(self) -> bool {
        match self {}
    }

    pub(super) fn has_winograd(self) -> bool {
        match self {}
    }

    pub(super) fn has_wide(self) -> bool {
        match self {}
    }

    pub(super) fn name(self) -> &'static str {
        match self {}
    }
}

macro_rules! absent {
    ($($name:ident($($of:ty),*) $(-> $returns:ty)?;)*) => {
        impl TileMachine {
            $(
                /// Not on this processor.
                pub fn $name(self, $(_: $of),*) $(-> $returns)? {
                    match self.0 {}
                }
            )*
        }
    };
}

absent! {
    levels(LevelsShape, LevelsPanels, Tokens, usize, Columns);
    planes(PlanesPanels, Tokens, usize, Columns);
    multiply_levels(&[u8], u8, &[i16], &mut [u8]);
    multiply_scales(&[i16], &[f32], &mut [f32]);
    bytes(BlockPanels<u8>, Tokens, usize, Columns);
    wide(BlockPanels<i16>, Tokens, usize, Columns);
    pairs(&[u16], Tokens, usize, &Ahead, Columns);
    winograd(WinogradPanels, Tokens, usize, &Ahead, Columns);
    floats(&[f32], Tokens, usize, &Ahead, Columns);
    unpack_levels(LevelBits, [&[u8]; PANEL_ROWS], [&[u8]; PANEL_ROWS], &mut [u8]);
    unpack_wide([&[u8]; PANEL_ROWS], &mut [i16]);
    unpack_bytes([&[u8]; PANEL_ROWS], &mut [u8]);
    unpack_scaled([&[u8]; PANEL_ROWS], i16, &mut [i16], &mut [f32]);
    unpack_pairs([&[u8]; PANEL_ROWS], &mut [u16]);
    unpack_winograd([&[u8]; PANEL_ROWS], &mut [i16], &mut [f32], &mut [i32]);
    unpack_f32([&[u8]; PANEL_ROWS], &mut [f32]);
    unpack_f16([&[u8]; PANEL_ROWS], &mut [f32]);
    halves(&[u16; PANEL_ROWS]) -> [f32; PANEL_ROWS];
    round_levels(&[f32], &mut [i8], &mut [i16]) -> f32;
    round_bytes(&[f32], &mut [i8]) -> (f32, i32);
    round_wide(&[f32], i16, &mut [i16]) -> f32;
    round_pairs(&[f32], &mut [u16]);
    round_winograd(&[f32], &mut [i16]) -> (f32, i32);
    multiply_adds(Arithmetic, usize) -> u64;
}
