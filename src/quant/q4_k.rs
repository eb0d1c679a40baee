//! Q4_K and Q5_K: sub-blocks of 32, scales and minima of six bits.
//!
//! ```text
//! Q4_K  d f16 | d_min f16 | scales 12 |          | low four bits 128        144 bytes
//! Q5_K  d f16 | d_min f16 | scales 12 | fifth 32 | low four bits 128        176 bytes
//! ```
//! Byte `i` of the 32 bytes for weights `64 g..64 g + 64` has weight `i` in its low half and weight
//! `i + 32` in its high half; their fifth bits are bits `2 g` and `2 g + 1` of byte `i` of `fifth`.

use super::affine_search::{AffineSearch, WithImportance};
use super::affine_superblock::{quantize_pair, AffineFormat};
use super::superblock::{Pair, PairFormat, SUPERBLOCK};
use super::tile::Tile;
use crate::simd::Lanes;

/// Marker of the type.
pub struct Q4K;

/// Marker of the type.
pub struct Q5K;

impl PairFormat for Q4K {
    const BYTES: usize = 144;

    #[inline(always)]
    fn quantize<L: Lanes, Wide: Lanes>(pair: &Pair, out: &mut [u8]) {
        quantize_pair::<Self, L, 32, 8>(pair, out);
    }
}

impl PairFormat for Q5K {
    const BYTES: usize = 176;

    #[inline(always)]
    fn quantize<L: Lanes, Wide: Lanes>(pair: &Pair, out: &mut [u8]) {
        quantize_pair::<Self, L, 32, 8>(pair, out);
    }
}

/// Search of Q4_K without an importance matrix.
pub struct Q4KSearch;

impl AffineSearch for Q4KSearch {
    const N_MAX: i32 = 15;
    const FIRST: f32 = -1.0;
    const DELTA: f32 = 0.1;
    const N_STEPS: i32 = 20;
    const ABSOLUTE: bool = false;
    const CLAMP_FIRST: bool = false;
}

/// Search of Q5_K without an importance matrix.
pub struct Q5KSearch;

impl AffineSearch for Q5KSearch {
    const N_MAX: i32 = 31;
    const FIRST: f32 = -0.5;
    const DELTA: f32 = 0.1;
    const N_STEPS: i32 = 15;
    const ABSOLUTE: bool = false;
    const CLAMP_FIRST: bool = false;
}

impl AffineFormat<32, 8> for Q4K {
    type Plain = Q4KSearch;
    type Weighted = WithImportance<15>;
    const SCALE_MAX: u8 = 63;
    const SCALE_CAP: u8 = 63;
    const MEAN_SQUARES: f32 = 2.0;
    const STEPS_AT: usize = 0;

    #[inline(always)]
    fn weights<L: Lanes>(x: &Tile<L, 32>) -> Tile<L, 32> {
        root_mean_square_plus_magnitude(x)
    }

    #[inline(always)]
    fn put_scales(scales: &[u8; 8], mins: &[u8; 8], block: &mut [u8]) {
        put_six_bits(scales, mins, &mut block[4..16]);
    }

    #[inline(always)]
    fn scale(j: usize, block: &[u8]) -> (u8, u8) {
        six_bits(j, &block[4..16])
    }

    #[inline(always)]
    fn put_levels(q: &[u8; SUPERBLOCK], block: &mut [u8]) {
        put_low_halves(q, &mut block[16..144]);
    }
}

impl AffineFormat<32, 8> for Q5K {
    type Plain = Q5KSearch;
    type Weighted = WithImportance<31>;
    const SCALE_MAX: u8 = 63;
    const SCALE_CAP: u8 = 63;
    const MEAN_SQUARES: f32 = 2.0;
    const STEPS_AT: usize = 0;

    #[inline(always)]
    fn weights<L: Lanes>(x: &Tile<L, 32>) -> Tile<L, 32> {
        root_mean_square_plus_magnitude(x)
    }

    #[inline(always)]
    fn put_scales(scales: &[u8; 8], mins: &[u8; 8], block: &mut [u8]) {
        let capped = |levels: &[u8; 8]| levels.map(|level| level.min(63));
        put_six_bits(&capped(scales), &capped(mins), &mut block[4..16]);
    }

    #[inline(always)]
    fn scale(j: usize, block: &[u8]) -> (u8, u8) {
        six_bits(j, &block[4..16])
    }

    #[inline(always)]
    fn put_levels(q: &[u8; SUPERBLOCK], block: &mut [u8]) {
        let mut fifth = [0u8; 32];
        for (group, q) in q.chunks_exact(64).enumerate() {
            for i in 0..32 {
                fifth[i] |= ((q[i] >> 4) | (q[i + 32] >> 4 << 1)) << (2 * group);
            }
        }
        block[16..48].copy_from_slice(&fifth);
        put_low_halves(q, &mut block[48..176]);
    }
}

/// The sub-block's root mean square plus the element's magnitude.
#[inline(always)]
fn root_mean_square_plus_magnitude<L: Lanes>(x: &Tile<L, 32>) -> Tile<L, 32> {
    let mut sum = L::zero();
    for &value in x {
        sum = sum + value * value;
    }
    let root = (sum / L::splat(32.0)).sqrt();
    let mut w = *x;
    for i in 0..32 {
        w[i] = root + x[i].abs();
    }
    w
}

/// Eight scales and eight minima of six bits in twelve bytes: the first four of each lie in the low
/// six bits of bytes 0..4 and 4..8; of the others, the low four bits share a byte of 8..12 and the
/// high two bits fill the tops of bytes 0..4 (scales) and 4..8 (minima).
#[inline(always)]
fn put_six_bits(scales: &[u8; 8], mins: &[u8; 8], packed: &mut [u8]) {
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4 << 6);
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4 << 6);
        packed[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] << 4);
    }
}

/// Scale and minimum of sub-block `j`.
#[inline(always)]
fn six_bits(j: usize, packed: &[u8]) -> (u8, u8) {
    if j < 4 {
        return (packed[j] & 63, packed[j + 4] & 63);
    }
    let low = packed[j + 4];
    ((low & 15) | (packed[j - 4] >> 6 << 4), (low >> 4) | (packed[j] >> 6 << 4))
}

#[inline(always)]
fn put_low_halves(q: &[u8; SUPERBLOCK], out: &mut [u8]) {
    for (out, q) in out.chunks_exact_mut(32).zip(q.chunks_exact(64)) {
        for i in 0..32 {
            out[i] = (q[i] & 15) | (q[i + 32] << 4);
        }
    }
}
