//! Products of a panel of sixteen weight rows with rows of activations, four or eight tokens at
//! a time, or sixteen where a processor multiplies whole tiles.
//!
//! A panel is a copy of sixteen rows in the order in which the registers want them; it is made once
//! and meets every token of a chunk, so that the work of making it is spread over them. Seven kinds
//! of panels serve all tensor types; which one a type takes depends on the processor:
//!
//! ```text
//! levels  u8 [superblock][step of 4 k][16 rows][4 k]   K-quants: u8 levels x i8 activations
//! planes  u8 [superblock][2][step of 4 k][16 rows][4 k]  K-quants on tiles: i16 x i8 activations
//! bytes   u8   [block][step of 4 k][16 rows][4 k]      Q8_0: weights + offset x i8 activations
//! wide    i16       [step of 2 k][16 rows][2 k]        Q8_0, bf16: i16 weights x i16 activations
//! pairs   bf16      [step of 2 k][16 rows][2 k]        bf16: bf16 activations
//! winograd  i16     [step of 4 k][even, odd][16 rows][2 k]  bf16: (i16 + i16) x (i16 + i16)
//! float   f32       [k][16 rows]                       f32, f16, bf16: f32 activations
//! ```
//!
//! Winograd's inner product ("A New Algorithm for Inner Product", IEEE Transactions on Computers,
//! 1968) needs half the multiplications: `w0 a0 + w1 a1` is `(w0 + a1) (w1 + a0) - w0 w1 - a0 a1`, of
//! which the last two belong to a row and to a token alone. The additions are as many as the
//! multiplications were, so it helps where they run beside them.
//!
//! Integer sums are exact: levels are so small that a few products fit into 16 bits
//! ([`LevelsShape`]), and all others into 32 ([`WIDE_LIMIT`], [`WINOGRAD_NORM`]).

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod absent;
mod columns;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod dot;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod emulated;
#[cfg(all(test, target_arch = "x86_64"))]
mod emulated_grid;
#[cfg(target_arch = "x86_64")]
mod grid;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod planes;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod products;
mod tokens;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[cfg_attr(
    not(any(test, target_arch = "x86_64")),
    expect(dead_code, reason = "only x86-64 has such products")
)]
mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::sync::OnceLock;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use absent as arch;
#[cfg(target_arch = "aarch64")]
use neon as arch;
#[cfg(target_arch = "x86_64")]
use x86 as arch;

use arch::Set;
pub use columns::Columns;
pub use tokens::Tokens;

/// Weight rows in a panel.
pub const PANEL_ROWS: usize = 16;

/// Tokens that share one reading of a panel, at least. Numbers of tokens are multiples of it.
pub const TILE_TOKENS: usize = 4;

/// Weights in a superblock of a K-quant.
pub const SUPERBLOCK: usize = 256;

/// Weights under one scale of a panel of bytes or wide numbers.
pub const WIDE_BLOCK: usize = 32;

/// Magnitude of the weights of a wide panel times that of its activations, at most: so many
/// products of a block fit into 32 bits.
pub const WIDE_LIMIT: i32 = i32::MAX / WIDE_BLOCK as i32;

/// Weights and activations under one scale of Winograd's products.
pub const WINOGRAD_BLOCK: usize = 256;

/// Largest magnitude there: the sum of two fits into 16 bits.
pub const WINOGRAD_LARGEST: i16 = i16::MAX / 2;

/// Largest Euclidean norm of a block before it is rounded, which adds at most half a step for each
/// value: that of weights times that of activations bounds their products' sum, which fits into 32
/// bits. Parts of it may wrap around.
pub const WINOGRAD_NORM: f32 = 46_300.0;

const _: () = {
    assert!(2 * WINOGRAD_LARGEST as i32 <= i16::MAX as i32);
    let rounded = WINOGRAD_NORM as i64 + (WINOGRAD_BLOCK.isqrt() / 2) as i64;
    assert!(rounded * rounded <= i32::MAX as i64);
};

/// What a product multiplies and adds with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Bytes: K-quants, and Q8_0 where a processor adds four products of bytes at once.
    Int8,
    /// 16 bits: Q8_0 elsewhere, and BF16 where there are no products of it and these are faster
    /// than those of f32.
    Int16,
    /// Products of BF16 added up in f32.
    BF16,
    /// 16 bits by Winograd's inner product: BF16 where additions run beside multiplications.
    Winograd,
    /// f32: itself, F16, and BF16 elsewhere.
    Float,
}

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

/// How many bits a level has, in bytes as K-quants have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelBits {
    /// 64 bytes of two bits.
    Two,
    /// 64 bytes of the two low bits, 32 of the third.
    Three,
    /// 128 bytes of four bits.
    Four,
    /// 128 bytes of the four low bits, 32 of the fifth.
    Five,
    /// 128 bytes of the four low bits, 64 of the two high ones.
    Six,
}

impl LevelBits {
    /// Bytes of the low bits of a superblock.
    pub const fn low_bytes(self) -> usize {
        match self {
            Self::Two | Self::Three => 64,
            Self::Four | Self::Five | Self::Six => 128,
        }
    }

    /// Bytes of the bits above them.
    pub const fn high_bytes(self) -> usize {
        match self {
            Self::Two | Self::Four => 0,
            Self::Three | Self::Five => 32,
            Self::Six => 64,
        }
    }
}

/// Panels of a K-quant, one after the other: weight = `d scale level - d_min min`.
#[derive(Debug, Clone, Copy)]
pub struct LevelsPanels<'a> {
    /// `[panel][superblock][64][16][4]`
    pub levels: &'a [u8],
    /// `[panel][superblock][sub-block][16][2]`, each scale twice; none where there are factors.
    pub scales: &'a [i16],
    /// `[panel][superblock][sub-block][16]`: `d scale`, where the machine
    /// [wants them](TileMachine::has_factors).
    pub factors: &'a [f32],
    /// `[panel][superblock][pair of sub-blocks][16][2]`
    pub mins: &'a [i16],
    /// `[panel][superblock][16]`
    pub d: &'a [f32],
    /// `[panel][superblock][16]`
    pub d_min: &'a [f32],
}

/// Panels of a K-quant whose levels are multiplied with their scales, one after the other: weight =
/// `d (256 high + low) - d_min min`, `high` a signed byte and `low` one without a sign.
#[derive(Debug, Clone, Copy)]
pub struct PlanesPanels<'a> {
    /// `[panel][superblock][low, high][64][16][4]`
    pub planes: &'a [u8],
    /// `[panel][superblock][pair of sub-blocks][16][2]`; none where there are no minima.
    pub mins: &'a [i16],
    /// `[panel][superblock][16]`
    pub d: &'a [f32],
    /// `[panel][superblock][16]`; of no account where there are no minima.
    pub d_min: &'a [f32],
}

/// Panels of weights with a scale for each 32, one after the other: weight = `d number` for i16,
/// `d (byte - offset)` for bytes, which are signed where [the offset](TileMachine::byte_offset) is 0.
#[derive(Debug, Clone, Copy)]
pub struct BlockPanels<'a, T> {
    /// `[panel][k / step][16][step]`, of four bytes or two i16 a step.
    pub weights: &'a [T],
    /// `[panel][k / 32][16]`
    pub d: &'a [f32],
}

/// Panels of weights for Winograd's products, one after the other: weight = `d number`.
#[derive(Debug, Clone, Copy)]
pub struct WinogradPanels<'a> {
    /// `[panel][step of 4 k][even, odd][16][2]`
    pub weights: &'a [i16],
    /// `[panel][k / 256][16]`
    pub d: &'a [f32],
    /// `[panel][k / 256][16]`, minus the sum of even numbers times the odd ones behind them.
    pub corrections: &'a [i32],
}

/// A processor with AVX2, FMA and F16C, or with NEON's products of bytes, and what it has beyond. A
/// value of this type is the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileMachine(Set);

impl TileMachine {
    /// The best one; `None` on a processor without the instructions. Looked for once: every operation
    /// of a graph asks, and in a virtual machine the question leaves the guest.
    pub fn detect() -> Option<Self> {
        static BEST: OnceLock<Option<TileMachine>> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop())
    }

    /// All that this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        Set::available().into_iter().map(Self).collect()
    }

    /// Whether products of panels of planes are faster than those of levels.
    pub fn has_planes(self) -> bool {
        self.0.has_planes()
    }

    /// Whether products of levels want scales as factors, in f32: where sums of sub-blocks have 32
    /// bits.
    pub fn has_factors(self) -> bool {
        self.0.has_factors()
    }

    /// What is added to signed bytes to make the weights of a panel of bytes: some processors
    /// multiply unsigned bytes with signed ones, others signed ones only.
    pub fn byte_offset(self) -> u8 {
        self.0.byte_offset()
    }

    /// Whether there are products of panels of bytes, which are faster than those of wide ones.
    pub fn has_bytes(self) -> bool {
        self.0.has_bytes()
    }

    /// Whether there are products of BF16.
    pub fn has_pairs(self) -> bool {
        self.0.has_pairs()
    }

    /// Whether there are Winograd's products, which are faster than those of BF16.
    pub fn has_winograd(self) -> bool {
        self.0.has_winograd()
    }

    /// Whether products of wide panels are faster than those of floats.
    pub fn has_wide(self) -> bool {
        self.0.has_wide()
    }
}

impl fmt::Display for TileMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name())
    }
}
