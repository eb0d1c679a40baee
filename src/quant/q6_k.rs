//! Q6_K: sub-blocks of 16, scales of eight bits, levels of six, -32 to 31, stored with an offset.
//!
//! ```text
//! low four bits 128 | high two bits 64 | scales i8 16 | d f16        210 bytes
//! ```
//! Of the 64 low bytes for weights `128 g..128 g + 128`, byte `i` has weights `i` and `i + 64`, low
//! half first. Of the 32 high bytes, byte `i` has weights `i`, `i + 32`, `i + 64` and `i + 96`.

use super::scale_search::extreme;
use super::signed_search::TINY;
use super::signed_superblock::{levels, search_pair, Found, Weights, SUB_BLOCK};
use super::superblock::{put_f16, put_two_bits, Pair, PairFormat, SUPERBLOCK};
use super::tile::{products, transpose, Tile};
use crate::simd::{nearest_int, Lanes};

/// Marker of the type.
pub struct Q6K;

impl PairFormat for Q6K {
    const BYTES: usize = 210;

    #[inline(always)]
    fn quantize<L: Lanes, Wide: Lanes>(pair: &Pair, out: &mut [u8]) {
        let found = if pair.importance.is_some() {
            search_pair::<Importance, L, 32>(pair)
        } else {
            search_pair::<Squares, L, 32>(pair)
        };
        let x = pair.x.chunks_exact(SUPERBLOCK);
        for ((block, x), found) in out.chunks_exact_mut(Self::BYTES).zip(x).zip(&found) {
            finish::<L>(x, found, block);
        }
    }
}

/// Weights without an importance matrix.
struct Squares;

impl Weights for Squares {
    #[inline(always)]
    fn weights<L: Lanes>(_: &Pair, _: usize, x: &Tile<L, SUB_BLOCK>) -> Tile<L, SUB_BLOCK> {
        products(x, x)
    }
}

/// The importance as it is.
struct Importance;

impl Weights for Importance {
    #[inline(always)]
    fn weights<L: Lanes>(pair: &Pair, first: usize, _: &Tile<L, SUB_BLOCK>) -> Tile<L, SUB_BLOCK> {
        let importance = pair.importance.as_ref().expect("chosen because there is one");
        transpose(&importance[first * SUB_BLOCK..])
    }
}

#[inline(always)]
fn finish<L: Lanes>(x: &[f32], found: &Found, block: &mut [u8]) {
    let extreme = extreme(&found.scale);
    if extreme.abs() < TINY {
        block.fill(0);
        return;
    }
    let inverse = -128.0 / extreme;
    let scales = found.scale.map(|scale| nearest_int(inverse * scale).min(127) as i8);
    let d = put_f16(block, 208, 1.0 / inverse);
    for (byte, scale) in block[192..208].iter_mut().zip(scales) {
        *byte = scale as u8;
    }
    let q = levels::<L, 32>(x, d, &scales, |j, x, q| found.levels::<32>(j, x, q));
    for (out, q) in block[..128].chunks_exact_mut(64).zip(q.chunks_exact(128)) {
        for i in 0..64 {
            out[i] = (q[i] & 15) | (q[i + 64] << 4);
        }
    }
    put_two_bits(&q.map(|level| level >> 4), &mut block[128..192]);
}
