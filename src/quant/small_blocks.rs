//! Q4_0, Q4_1, Q5_0 and Q5_1: blocks of 32 weights of their own, without a superblock.
//!
//! ```text
//! Q4_0  d f16 |         |           | low four bits 16        18 bytes
//! Q4_1  d f16 | min f16 |           | low four bits 16        20 bytes
//! Q5_0  d f16 |         | fifth u32 | low four bits 16        22 bytes
//! Q5_1  d f16 | min f16 | fifth u32 | low four bits 16        24 bytes
//! ```
//! Byte `i` has weight `i` in its low half and weight `i + 16` in its high half; bit `i` of `fifth`
//! is the fifth bit of weight `i`. Without a minimum, levels are stored with an offset.

use super::affine_search::{self, WithImportance};
use super::signed_search;
use super::superblock::{put_f16, sums_of_squares};
use super::tile::{largest, transpose, weigh, MAX_LANES};
use crate::simd::Lanes;

/// Weights in a block.
const BLOCK: usize = 32;

/// A type of blocks.
pub trait SmallBlock {
    /// Bytes of a block.
    const BYTES: usize;
    /// Bits of a level.
    const BITS: u32;

    /// Quantizes a block without an importance matrix.
    fn plain<L: Lanes>(x: &[f32], block: &mut [u8]);

    /// Quantizes up to `L::LANES` blocks into `out`, with weights made from their `importance` and
    /// the mean square of the row of each. The inputs are padded with zeros.
    fn weighted<L: Lanes>(x: &[f32], importance: &[f32], means: L, out: &mut [u8]);
}

/// Blocks with a scale only.
pub struct Signed<const BITS: u32, const N_MAX: i32>;

/// Blocks with a scale and a minimum.
pub struct Affine<const BITS: u32, const N_MAX: i32>;

/// Marker of the type.
pub type Q4_0 = Signed<4, 8>;

/// Marker of the type.
pub type Q4_1 = Affine<4, 15>;

/// Marker of the type.
pub type Q5_0 = Signed<5, 16>;

/// Marker of the type.
pub type Q5_1 = Affine<5, 31>;

/// Quantizes rows of `n_cols` weights.
#[inline(always)]
pub fn quantize_rows<F: SmallBlock, L: Lanes>(
    src: &[f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let Some(importance) = importance else {
        for (x, block) in src.chunks_exact(BLOCK).zip(out.chunks_exact_mut(F::BYTES)) {
            F::plain::<L>(x, block);
        }
        return;
    };
    let sums = sums_of_squares(src, n_cols);
    let group = L::LANES * BLOCK;
    let (mut x, mut weights) = ([0.0; MAX_LANES * BLOCK], [0.0; MAX_LANES * BLOCK]);
    let groups = src.chunks(group).zip(out.chunks_mut(L::LANES * F::BYTES));
    for (index, (values, blocks)) in groups.enumerate() {
        x[values.len()..].fill(0.0);
        x[..values.len()].copy_from_slice(values);
        let mut means = [0.0; MAX_LANES];
        for t in 0..values.len() / BLOCK {
            let at = index * group + t * BLOCK;
            means[t] = sums[at / n_cols] / n_cols as f32;
            let column = at % n_cols;
            weights[t * BLOCK..][..BLOCK].copy_from_slice(&importance[column..][..BLOCK]);
        }
        F::weighted::<L>(&x, &weights, L::load(&means), blocks);
    }
}

impl<const BITS: u32, const N_MAX: i32> SmallBlock for Signed<BITS, N_MAX> {
    const BYTES: usize = if BITS == 4 { 18 } else { 22 };
    const BITS: u32 = BITS;

    #[inline(always)]
    fn plain<L: Lanes>(x: &[f32], block: &mut [u8]) {
        let d = first_extreme::<L>(x) / -(N_MAX as f32);
        put_f16(block, 0, d);
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        let offset = N_MAX as f32 + 0.5;
        put_levels::<Self>(&scaled::<L>(x, 0.0, inverse, offset, 2 * N_MAX - 1), 2, block);
    }

    #[inline(always)]
    fn weighted<L: Lanes>(x: &[f32], importance: &[f32], means: L, out: &mut [u8]) {
        let tile = transpose::<L, BLOCK>(x);
        let w = weigh(&tile, &transpose(importance), means);
        let found = signed_search::search::<N_MAX, L, BLOCK>(&tile, &w);
        let (mut scale, mut level_scale) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        found.scale.store(&mut scale);
        found.level_scale.store(&mut level_scale);
        for (t, (block, x)) in out.chunks_exact_mut(Self::BYTES).zip(x.chunks(BLOCK)).enumerate() {
            put_f16(block, 0, scale[t]);
            let mut q = [0; BLOCK];
            // A block that counts as all zero is stored as zeros, without the offset.
            if level_scale[t] != 0.0 {
                for (x, q) in x.chunks_exact(L::LANES).zip(q.chunks_exact_mut(L::LANES)) {
                    let level = L::load(x) * L::splat(level_scale[t]);
                    let level = level.round_clamped(-N_MAX as f32, (N_MAX - 1) as f32);
                    (level + L::splat(N_MAX as f32)).store_bytes(q);
                }
            }
            put_levels::<Self>(&q, 2, block);
        }
    }
}

impl<const BITS: u32, const N_MAX: i32> SmallBlock for Affine<BITS, N_MAX> {
    const BYTES: usize = if BITS == 4 { 20 } else { 24 };
    const BITS: u32 = BITS;

    #[inline(always)]
    fn plain<L: Lanes>(x: &[f32], block: &mut [u8]) {
        let (min, max) = range::<L>(x);
        let d = (max - min) / N_MAX as f32;
        put_f16(block, 0, d);
        put_f16(block, 2, min);
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        put_levels::<Self>(&scaled::<L>(x, min, inverse, 0.5, N_MAX), 4, block);
    }

    #[inline(always)]
    fn weighted<L: Lanes>(x: &[f32], importance: &[f32], means: L, out: &mut [u8]) {
        let tile = transpose::<L, BLOCK>(x);
        let w = weigh(&tile, &transpose(importance), means);
        let found = affine_search::search::<WithImportance<N_MAX>, L, BLOCK>(&tile, &w);
        let (mut scale, mut min) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        let (mut level_scale, mut level_min) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        found.scale.store(&mut scale);
        found.min.store(&mut min);
        found.level_scale.store(&mut level_scale);
        found.level_min.store(&mut level_min);
        for (t, (block, x)) in out.chunks_exact_mut(Self::BYTES).zip(x.chunks(BLOCK)).enumerate() {
            put_f16(block, 0, scale[t]);
            put_f16(block, 2, min[t]);
            let mut q = [0; BLOCK];
            for (x, q) in x.chunks_exact(L::LANES).zip(q.chunks_exact_mut(L::LANES)) {
                let above = L::load(x) - L::splat(level_min[t]);
                (L::splat(level_scale[t]) * above).round_clamped(0.0, N_MAX as f32).store_bytes(q);
            }
            put_levels::<Self>(&q, 4, block);
        }
    }
}

/// The value of largest magnitude, the first of equals.
#[inline(always)]
fn first_extreme<L: Lanes>(x: &[f32]) -> f32 {
    let (min, max) = extremes::<L>(x);
    if max > -min {
        max
    } else if max < -min {
        min
    } else {
        x.iter().copied().find(|v| v.abs() == max).unwrap_or(0.0) + 0.0
    }
}

/// Minimum and maximum. A zero has the sign of the first one.
#[inline(always)]
fn range<L: Lanes>(x: &[f32]) -> (f32, f32) {
    let (min, max) = extremes::<L>(x);
    if min != 0.0 && max != 0.0 {
        return (min, max);
    }
    let zero = x.iter().copied().find(|&v| v == 0.0).unwrap_or(0.0);
    (if min == 0.0 { zero } else { min }, if max == 0.0 { zero } else { max })
}

/// Minimum and maximum; a zero may have either sign.
#[inline(always)]
fn extremes<L: Lanes>(x: &[f32]) -> (f32, f32) {
    let (mut min, mut max) = (L::load(x), L::load(x));
    for x in x[L::LANES..].chunks_exact(L::LANES) {
        min = L::load(x).min(min);
        max = L::load(x).max(max);
    }
    let [neg_min, max] = largest([L::zero() - min, max]);
    (-neg_min, max)
}

/// Levels `(x - min) * inverse + offset`, the fraction cut off, at most `max`.
#[inline(always)]
fn scaled<L: Lanes>(x: &[f32], min: f32, inverse: f32, offset: f32, max: i32) -> [u8; BLOCK] {
    let mut q = [0; BLOCK];
    // A step so small that it has no finite inverse: out of range, which x86 converts to zero.
    if inverse.is_finite() {
        for (x, q) in x.chunks_exact(L::LANES).zip(q.chunks_exact_mut(L::LANES)) {
            let v = (L::load(x) - L::splat(min)) * L::splat(inverse) + L::splat(offset);
            // An infinite range makes NaN of infinity times zero, which becomes zero too.
            v.max(L::zero()).min(L::splat(max as f32)).store_bytes(q);
        }
    }
    q
}

/// Writes the levels from byte `at` on: fifth bits, if there are any, then low halves.
#[inline(always)]
fn put_levels<F: SmallBlock>(q: &[u8; BLOCK], at: usize, block: &mut [u8]) {
    let mut at = at;
    if F::BITS == 5 {
        for (byte, q) in block[at..at + 4].iter_mut().zip(q.chunks_exact(8)) {
            // The product brings the eight fifth bits together in the top byte, first one lowest.
            let q = u64::from_le_bytes(q.try_into().expect("chunks of eight"));
            let fifths = q >> 4 & 0x0101_0101_0101_0101;
            *byte = (fifths.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
        }
        at += 4;
    }
    for i in 0..16 {
        block[at + i] = (q[i] & 15) | (q[i + 16] << 4);
    }
}
