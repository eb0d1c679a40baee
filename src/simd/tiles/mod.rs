//! Products of a panel of sixteen weight rows with rows of activations, four tokens at a time.
//!
//! A panel is a copy of sixteen rows in the order in which the registers want them; it is made once
//! and meets every token of a chunk, so that the work of making it is spread over them. Three kinds
//! of panels serve all tensor types:
//!
//! ```text
//! levels  u8 [superblock][step of 4 k][2][8 rows][4 k]   K-quants: u8 levels x i8 activations
//! wide    i16       [step of 2 k][2][8 rows][2 k]        Q8_0: i16 weights x i16 activations
//! float   f32       [k][2][8 rows]                       f32, f16, bf16: f32 activations
//! ```
//!
//! Integer sums are exact: levels are so small that a few products fit into 16 bits
//! ([`LevelsShape`]), and the wide ones into 32.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod interleave;

/// Weight rows in a panel.
pub const PANEL_ROWS: usize = 16;

/// Tokens that share one reading of a panel. Numbers of tokens are multiples of it.
pub const TILE_TOKENS: usize = 4;

/// Weights in a superblock of a K-quant.
pub const SUPERBLOCK: usize = 256;

/// Weights under one scale of the wide panel.
pub const WIDE_BLOCK: usize = 32;

/// Sums of one tile: `[token][row]`.
pub type Tile = [[f32; PANEL_ROWS]; TILE_TOKENS];

/// How a K-quant is cut into sub-blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelsShape {
    /// Sub-blocks of 32, levels up to 15: 8 products of pairs fit into 16 bits.
    Block32Levels16,
    /// Sub-blocks of 32, levels up to 31: 4 do.
    Block32Levels32,
    /// Sub-blocks of 16, levels up to 31: the 4 of a sub-block do.
    Block16Levels32,
    /// Sub-blocks of 16, levels up to 63: 2 do.
    Block16Levels64,
}

impl LevelsShape {
    /// Weights in a sub-block.
    pub const fn block(self) -> usize {
        match self {
            Self::Block32Levels16 | Self::Block32Levels32 => 32,
            Self::Block16Levels32 | Self::Block16Levels64 => 16,
        }
    }
}

/// Sixteen rows of a K-quant: weight = `d scale level - d_min min`.
#[derive(Debug, Clone, Copy)]
pub struct LevelsPanel<'a> {
    /// `[superblock][64][2][8][4]`
    pub levels: &'a [u8],
    /// `[superblock][sub-block][2][8][2]`, each scale twice.
    pub scales: &'a [i16],
    /// `[superblock][pair of sub-blocks][2][8][2]`
    pub mins: &'a [i16],
    /// `[superblock][16]`
    pub d: &'a [f32],
    /// `[superblock][16]`
    pub d_min: &'a [f32],
}

/// Rows of i8 activations with a scale for each superblock and the sum of each sub-block.
#[derive(Debug, Clone, Copy)]
pub struct LevelsRow<'a> {
    /// `[k]`, -127 to 127.
    pub quants: &'a [i8],
    /// `[superblock]`
    pub scales: &'a [f32],
    /// `[sub-block]`
    pub sums: &'a [i16],
}

/// Sixteen rows of i16 weights with a scale for each 32.
#[derive(Debug, Clone, Copy)]
pub struct WidePanel<'a> {
    /// `[k / 2][2][8][2]`, -128 to 127.
    pub weights: &'a [i16],
    /// `[k / 32][16]`
    pub d: &'a [f32],
}

/// A processor with AVX2, FMA and F16C. A value of this type is the proof.
#[derive(Debug, Clone, Copy)]
pub struct TileMachine(());

impl TileMachine {
    /// `None` on a processor without the instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            return Some(Self(()));
        }
        None
    }
}
