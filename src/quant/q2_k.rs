//! Q2_K: sub-blocks of 16, scales and minima of four bits, levels of two.
//!
//! ```text
//! scale | min << 4, 16 bytes | levels 64 | d f16 | d_min f16        84 bytes
//! ```
//! Byte `i` of the 32 bytes for weights `128 g..128 g + 128` has weights `i`, `i + 32`, `i + 64` and
//! `i + 96` from its low bits up.

use super::affine_search::{AffineSearch, WithImportance};
use super::affine_superblock::{quantize_pair, AffineFormat};
use super::superblock::{put_two_bits, Pair, PairFormat, SUPERBLOCK};
use super::tile::Tile;
use crate::simd::Lanes;

/// Marker of the type.
pub struct Q2K;

impl PairFormat for Q2K {
    const BYTES: usize = 84;

    #[inline(always)]
    fn quantize<L: Lanes, Wide: Lanes>(pair: &Pair, out: &mut [u8]) {
        quantize_pair::<Self, L, 16, 16>(pair, out);
    }
}

/// Search of Q2_K without an importance matrix.
pub struct Q2KSearch;

impl AffineSearch for Q2KSearch {
    const N_MAX: i32 = 3;
    const FIRST: f32 = -0.5;
    const DELTA: f32 = 0.1;
    const N_STEPS: i32 = 15;
    const ABSOLUTE: bool = true;
    const CLAMP_FIRST: bool = false;
}

impl AffineFormat<16, 16> for Q2K {
    type Plain = Q2KSearch;
    type Weighted = WithImportance<3>;
    const SCALE_MAX: u8 = 15;
    const SCALE_CAP: u8 = u8::MAX;
    const MEAN_SQUARES: f32 = 1.0;
    const STEPS_AT: usize = 80;

    #[inline(always)]
    fn weights<L: Lanes>(x: &Tile<L, 16>) -> Tile<L, 16> {
        x.map(L::abs)
    }

    #[inline(always)]
    fn put_scales(scales: &[u8; 16], mins: &[u8; 16], block: &mut [u8]) {
        for j in 0..16 {
            block[j] = scales[j] | (mins[j] << 4);
        }
    }

    #[inline(always)]
    fn scale(j: usize, block: &[u8]) -> (u8, u8) {
        (block[j] & 15, block[j] >> 4)
    }

    #[inline(always)]
    fn put_levels(q: &[u8; SUPERBLOCK], block: &mut [u8]) {
        put_two_bits(q, &mut block[16..80]);
    }
}
