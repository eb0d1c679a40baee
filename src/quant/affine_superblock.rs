//! What Q2_K, Q4_K and Q5_K share: sub-blocks with a scale and a minimum, both quantized over the
//! superblock, and levels found anew for the rounded ones.

use super::affine_search::{level, search, Affine, AffineSearch};
use super::scale_search::{from_maximum, non_negative};
use super::superblock::{put_f16, requantize, Pair, PairFormat, PAIR, SUPERBLOCK};
use super::tile::{transpose, weigh, Tile};
use crate::simd::Lanes;

/// A type of superblocks with `K` sub-blocks of `N` weights each.
pub trait AffineFormat<const N: usize, const K: usize>: PairFormat {
    /// Search without an importance matrix.
    type Plain: AffineSearch;
    /// Search with one.
    type Weighted: AffineSearch;
    /// Highest level of a sub-block's scale and minimum.
    const SCALE_MAX: u8;
    /// Scales and minima found without importance are capped here.
    const SCALE_CAP: u8;
    /// With an importance matrix, a weight is the importance times the root of the element's
    /// square plus this times the superblock's mean square.
    const MEAN_SQUARES: f32;
    /// Where the f16 steps of the scales and the minima lie in a block.
    const STEPS_AT: usize;

    /// Weights of the search without an importance matrix.
    fn weights<L: Lanes>(x: &Tile<L, N>) -> Tile<L, N>;

    /// Writes the levels of scales and minima.
    fn put_scales(scales: &[u8; K], mins: &[u8; K], block: &mut [u8]);

    /// Reads the level of scale and minimum of sub-block `j`.
    fn scale(j: usize, block: &[u8]) -> (u8, u8);

    /// Writes the levels of the weights.
    fn put_levels(q: &[u8; SUPERBLOCK], block: &mut [u8]);
}

/// Quantizes a pair of superblocks into the one or two blocks of `out`.
#[inline(always)]
pub fn quantize_pair<F, L: Lanes, const N: usize, const K: usize>(pair: &Pair, out: &mut [u8])
where
    F: AffineFormat<N, K>,
{
    let none = [0.0; 32];
    let mut found =
        Found { scale: none, min: none, sum_w: none, level_scale: none, level_min: none };
    for first in (0..PAIR / N).step_by(L::LANES) {
        let x = transpose::<L, N>(&pair.x[first * N..]);
        found.put(
            first,
            match &pair.importance {
                None => search::<F::Plain, L, N>(&x, &F::weights(&x)),
                Some(importance) => {
                    let importance = transpose(&importance[first * N..]);
                    let means = pair.mean_squares::<L>(F::MEAN_SQUARES, first, K);
                    search::<F::Weighted, L, N>(&x, &weigh(&x, &importance, means))
                }
            },
        );
    }
    for (half, block) in out.chunks_exact_mut(F::BYTES).enumerate() {
        let x = &pair.x[half * SUPERBLOCK..(half + 1) * SUPERBLOCK];
        let found = found.of_superblock::<K>(half);
        if pair.importance.is_some() {
            finish::<F, F::Weighted, L, N, K>(x, &found, true, block);
        } else {
            finish::<F, F::Plain, L, N, K>(x, &found, false, block);
        }
    }
}

/// What the search found, one value per sub-block: `K` of a superblock, or those of a pair, of
/// which there are up to 32.
struct Found<const K: usize> {
    scale: [f32; K],
    min: [f32; K],
    sum_w: [f32; K],
    level_scale: [f32; K],
    level_min: [f32; K],
}

impl<const K: usize> Found<K> {
    #[inline(always)]
    fn put<L: Lanes>(&mut self, first: usize, found: Affine<L>) {
        found.scale.store(&mut self.scale[first..]);
        found.min.store(&mut self.min[first..]);
        found.sum_w.store(&mut self.sum_w[first..]);
        found.level_scale.store(&mut self.level_scale[first..]);
        found.level_min.store(&mut self.level_min[first..]);
    }

    #[inline(always)]
    fn of_superblock<const J: usize>(&self, half: usize) -> Found<J> {
        let part = |values: &[f32; K]| std::array::from_fn(|j| values[half * J + j]);
        Found {
            scale: part(&self.scale),
            min: part(&self.min),
            sum_w: part(&self.sum_w),
            level_scale: part(&self.level_scale),
            level_min: part(&self.level_min),
        }
    }
}

/// Quantizes the scales and minima of one superblock, then its weights, and packs all of it.
#[inline(always)]
fn finish<F, S, L: Lanes, const N: usize, const K: usize>(
    x: &[f32],
    found: &Found<K>,
    weighted: bool,
    block: &mut [u8],
) where
    F: AffineFormat<N, K>,
    S: AffineSearch,
{
    let (mut scales, mut mins) = ([0; K], [0; K]);
    // The format subtracts its minima.
    let neg_mins = found.min.map(|min| -min);
    let (d, d_min) = if weighted {
        let max = i32::from(F::SCALE_MAX);
        (
            non_negative::<L, K>(&found.scale, &found.sum_w, max, &mut scales),
            non_negative::<L, K>(&neg_mins, &found.sum_w, max, &mut mins),
        )
    } else {
        let max = f32::from(F::SCALE_MAX);
        (
            from_maximum(&found.scale, max, F::SCALE_CAP, &mut scales),
            from_maximum(&neg_mins, max, F::SCALE_CAP, &mut mins),
        )
    };
    let d = put_f16(block, F::STEPS_AT, d);
    let d_min = put_f16(block, F::STEPS_AT + 2, d_min);
    F::put_scales(&scales, &mins, block);
    let mut q = [0; SUPERBLOCK];
    for (j, (x, q)) in x.chunks_exact(N).zip(q.chunks_exact_mut(N)).enumerate() {
        let (scale, min) = F::scale(j, block);
        let d = d * f32::from(scale);
        if d != 0.0 {
            requantize::<L>(x, d, d_min * f32::from(min), (0, S::N_MAX, 0), q);
            continue;
        }
        // A scale that rounded to zero cannot place the weights: they stay as the search had them.
        for (q, &x) in q.iter_mut().zip(x) {
            *q = level::<S>(x, found.level_scale[j], found.level_min[j]);
        }
    }
    F::put_levels(&q, block);
}
