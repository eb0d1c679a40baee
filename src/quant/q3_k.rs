//! Q3_K: sub-blocks of 16, scales of six bits, -32 to 31, levels of three, -4 to 3, both stored
//! with an offset.
//!
//! ```text
//! high bit 32 | low two bits 64 | scales 12 | d f16        110 bytes
//! ```
//! Bit `j` of byte `i` of `high bit` is weight `32 j + i`; the low bits lie as in Q2_K. Of the
//! scales, byte `j` of 0..8 has the low four bits of scales `j` and `j + 8`, and byte `8 + j` of
//! 8..12 the high two bits of scales `j`, `j + 4`, `j + 8` and `j + 12`.

use super::level_descent::{Fits, BATCH};
use super::scale_search::{extreme, signed};
use super::signed_superblock::{levels, search_pair, Weights, SUB_BLOCK};
use super::superblock::{self, put_f16, put_two_bits, Pair, PairFormat, SUPERBLOCK};
use super::tile::{transpose, weigh, Tile};
use crate::simd::{nearest_int, Lanes};

/// Marker of the type with an importance matrix, which is searched in pairs.
struct Q3K;

impl PairFormat for Q3K {
    const BYTES: usize = 110;

    #[inline(always)]
    fn quantize<L: Lanes, Wide: Lanes>(pair: &Pair, out: &mut [u8]) {
        weighted::<L>(pair, out);
    }
}

/// Quantizes rows of whole superblocks.
#[inline(always)]
pub fn quantize_rows<L: Lanes, Wide: Lanes>(
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    if importance.is_some() {
        superblock::quantize_rows::<Q3K, L, Wide>(src, importance, out);
        return;
    }
    let mut fits = Fits::new();
    let batch = BATCH * SUB_BLOCK;
    for (x, blocks) in src.chunks(batch).zip(out.chunks_mut(batch / SUPERBLOCK * Q3K::BYTES)) {
        fits.search::<4, Wide>(x);
        let x = x.chunks_exact(SUPERBLOCK);
        for (index, (block, x)) in blocks.chunks_exact_mut(Q3K::BYTES).zip(x).enumerate() {
            finish_plain::<L>(x, &fits, index * SUB_BLOCK, block);
        }
    }
}

/// Packs the superblock whose first sub-block is the `first` of `fits`.
#[inline(always)]
fn finish_plain<L: Lanes>(x: &[f32], fits: &Fits<SUB_BLOCK>, first: usize, block: &mut [u8]) {
    let (d, scales) = scales_from_extreme(&std::array::from_fn(|j| fits.scale(first + j)));
    let d = put_f16(block, 108, d);
    let q = levels::<L, 4>(x, d, &scales, |j, _, q| {
        q.copy_from_slice(&fits.stored::<4>(first + j));
    });
    put_levels(&q, block);
    put_scales(&scales, block);
}

/// Step that gives the scale of largest magnitude level -32, and all levels. If every scale is
/// zero, so is the step, and the levels are those that are stored as zero.
#[inline(always)]
fn scales_from_extreme(found: &[f32; SUB_BLOCK]) -> (f32, [i8; SUB_BLOCK]) {
    let extreme = extreme(found);
    if extreme == 0.0 {
        return (0.0, [-32; SUB_BLOCK]);
    }
    let inverse = -32.0 / extreme;
    // Kept in eight bits before it is clamped, as the format's own writer does.
    let level = |j| (nearest_int(inverse * found[j]) as i8).clamp(-32, 31);
    (1.0 / inverse, std::array::from_fn(level))
}

#[inline(always)]
fn weighted<L: Lanes>(pair: &Pair, out: &mut [u8]) {
    let found = search_pair::<Weighed, L, 4>(pair);
    let x = pair.x.chunks_exact(SUPERBLOCK);
    for ((block, x), found) in out.chunks_exact_mut(Q3K::BYTES).zip(x).zip(&found) {
        let mut stored = [0; SUB_BLOCK];
        let d = signed::<L, SUB_BLOCK>(&found.scale, &found.sum_w, 32, &mut stored);
        let scales = stored.map(|level| level as i8 - 32);
        let d = put_f16(block, 108, d);
        let q = levels::<L, 4>(x, d, &scales, |j, x, q| found.levels::<4>(j, x, q));
        put_levels(&q, block);
        put_scales(&scales, block);
    }
}

/// Importance times the root of the element's square plus twice the mean square.
struct Weighed;

impl Weights for Weighed {
    #[inline(always)]
    fn weights<L: Lanes>(pair: &Pair, first: usize, x: &Tile<L, SUB_BLOCK>) -> Tile<L, SUB_BLOCK> {
        let importance = pair.importance.as_ref().expect("chosen because there is one");
        let importance = transpose(&importance[first * SUB_BLOCK..]);
        weigh(x, &importance, pair.mean_squares(2.0, first, SUB_BLOCK))
    }
}

#[inline(always)]
fn put_levels(q: &[u8; SUPERBLOCK], block: &mut [u8]) {
    let mut high = [0u8; 32];
    for (j, q) in q.chunks_exact(32).enumerate() {
        for i in 0..32 {
            high[i] |= q[i] >> 2 << j;
        }
    }
    block[..32].copy_from_slice(&high);
    put_two_bits(q, &mut block[32..96]);
}

/// Writes the scales with their offset of 32.
#[inline(always)]
fn put_scales(scales: &[i8; SUB_BLOCK], block: &mut [u8]) {
    let stored = scales.map(|scale| (scale + 32) as u8);
    for j in 0..8 {
        block[96 + j] = (stored[j] & 15) | (stored[j + 8] << 4);
    }
    for j in 0..4 {
        let high = |j: usize| stored[j] >> 4;
        block[104 + j] = high(j) | (high(j + 4) << 2) | (high(j + 8) << 4) | (high(j + 12) << 6);
    }
}
