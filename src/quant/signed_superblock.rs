//! What Q3_K and Q6_K share: 16 sub-blocks of 16 with a scale and no minimum.

use super::signed_search::{level, search};
use super::superblock::{requantize, Pair, SUPERBLOCK};
use super::tile::{transpose, Tile};
use crate::simd::Lanes;

/// Weights in a sub-block; also sub-blocks in a superblock.
pub const SUB_BLOCK: usize = 16;

/// What the search found for the sub-blocks of a superblock.
#[derive(Clone, Copy)]
pub struct Found {
    /// Scales.
    pub scale: [f32; SUB_BLOCK],
    /// Sums of the weights.
    pub sum_w: [f32; SUB_BLOCK],
    /// The levels are those of `level_scale * x`.
    pub level_scale: [f32; SUB_BLOCK],
}

/// Searches all sub-blocks of a pair of superblocks for levels `-N_MAX` to `N_MAX - 1`.
#[inline(always)]
pub fn search_pair<W: Weights, L: Lanes, const N_MAX: i32>(pair: &Pair) -> [Found; 2] {
    let (mut scale, mut sum_w, mut level_scale) = ([0.0; 32], [0.0; 32], [0.0; 32]);
    for first in (0..32).step_by(L::LANES) {
        let x = transpose::<L, SUB_BLOCK>(&pair.x[first * SUB_BLOCK..]);
        let found = search::<N_MAX, L, SUB_BLOCK>(&x, &W::weights(pair, first, &x));
        found.scale.store(&mut scale[first..]);
        found.sum_w.store(&mut sum_w[first..]);
        found.level_scale.store(&mut level_scale[first..]);
    }
    let part = |values: &[f32; 32], half| std::array::from_fn(|j| values[half * SUB_BLOCK + j]);
    [0, 1].map(|half| Found {
        scale: part(&scale, half),
        sum_w: part(&sum_w, half),
        level_scale: part(&level_scale, half),
    })
}

/// Weights of the search.
pub trait Weights {
    /// Those of the tile `x` of `pair`, whose first sub-block is the pair's `first`.
    fn weights<L: Lanes>(pair: &Pair, first: usize, x: &Tile<L, SUB_BLOCK>) -> Tile<L, SUB_BLOCK>;
}

/// Levels of a superblock for the step `d` and the quantized scales, stored with an offset of
/// `N_MAX`. A sub-block whose scale came out as zero keeps the levels of the search: `searched`
/// gets its index, its weights and the place of its levels, which holds zeros.
#[inline(always)]
pub fn levels<L: Lanes, const N_MAX: i32>(
    x: &[f32],
    d: f32,
    scales: &[i8; SUB_BLOCK],
    searched: impl Fn(usize, &[f32], &mut [u8]),
) -> [u8; SUPERBLOCK] {
    let mut q = [0; SUPERBLOCK];
    let sub_blocks = x.chunks_exact(SUB_BLOCK).zip(q.chunks_exact_mut(SUB_BLOCK));
    for (j, (x, q)) in sub_blocks.enumerate() {
        let d = d * f32::from(scales[j]);
        if d != 0.0 {
            requantize::<L>(x, d, 0.0, (-N_MAX, N_MAX - 1, N_MAX), q);
        } else {
            searched(j, x, q);
        }
    }
    q
}

impl Found {
    /// Levels of the search for sub-block `j`, stored with an offset of `N_MAX`. One that was all
    /// zero keeps zeros.
    #[inline(always)]
    pub fn levels<const N_MAX: i32>(&self, j: usize, x: &[f32], q: &mut [u8]) {
        if self.level_scale[j] != 0.0 {
            for (q, &x) in q.iter_mut().zip(x) {
                *q = (level::<N_MAX>(x, self.level_scale[j]) + N_MAX) as u8;
            }
        }
    }
}
