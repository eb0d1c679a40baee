//! What Q2_K, Q4_K and Q5_K share: sub-blocks with a scale and a minimum, both quantized over the
//! superblock, and levels found anew for the rounded ones.

use super::affine_search::{level, search, Affine, AffineSearch};
use super::lanes::{transpose, Lanes, Tile};
use super::scale_search::{from_maximum, non_negative};
use super::superblock::{put_f16, requantize, Pair, PairFormat, PAIR, SUPERBLOCK};

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
    fn weights<const W: usize>(x: &Tile<W, N>) -> Tile<W, N>;

    /// Writes the levels of scales and minima.
    fn put_scales(scales: &[u8; K], mins: &[u8; K], block: &mut [u8]);

    /// Reads the level of scale and minimum of sub-block `j`.
    fn scale(j: usize, block: &[u8]) -> (u8, u8);

    /// Writes the levels of the weights.
    fn put_levels(q: &[u8; SUPERBLOCK], block: &mut [u8]);
}

/// Quantizes a pair of superblocks into the one or two blocks of `out`.
#[inline(always)]
pub fn quantize_pair<F, const N: usize, const K: usize, const W: usize>(
    pair: &Pair,
    out: &mut [u8],
) where
    F: AffineFormat<N, K>,
{
    let found = match &pair.importance {
        None => search_pair::<F::Plain, N, W>(&pair.x, |x, _| F::weights(x)),
        Some(importance) => search_pair::<F::Weighted, N, W>(&pair.x, |x, first| {
            let q = transpose(&importance[first * N..]);
            let mean = pair.sum_squares.map(|sum| F::MEAN_SQUARES * sum / SUPERBLOCK as f32);
            let mut means = Lanes::zero();
            for t in 0..W {
                means.0[t] = mean[(first + t) / K];
            }
            weigh(x, &q, means)
        }),
    };
    for (half, block) in out.chunks_exact_mut(F::BYTES).enumerate() {
        let x = &pair.x[half * SUPERBLOCK..(half + 1) * SUPERBLOCK];
        let found = found.of_superblock::<K>(half);
        if pair.importance.is_some() {
            finish::<F, F::Weighted, N, K>(x, &found, true, block);
        } else {
            finish::<F, F::Plain, N, K>(x, &found, false, block);
        }
    }
}

/// Importance times the root of a mean square plus the element's own square.
#[inline(always)]
pub fn weigh<const W: usize, const N: usize>(
    x: &Tile<W, N>,
    importance: &Tile<W, N>,
    mean_square: Lanes<W>,
) -> Tile<W, N> {
    let mut w = [Lanes::zero(); N];
    for i in 0..N {
        w[i] = importance[i] * (mean_square + x[i] * x[i]).sqrt();
    }
    w
}

/// What the search found, one value per sub-block: `K` of a superblock, or those of a pair, of
/// which there are up to 32.
struct Found<const K: usize> {
    scale: [f32; K],
    neg_min: [f32; K],
    sum_w: [f32; K],
    level_scale: [f32; K],
    level_min: [f32; K],
}

impl<const K: usize> Found<K> {
    #[inline(always)]
    fn put<const W: usize>(&mut self, first: usize, found: &Affine<W>) {
        self.scale[first..first + W].copy_from_slice(&found.scale.0);
        self.neg_min[first..first + W].copy_from_slice(&found.neg_min.0);
        self.sum_w[first..first + W].copy_from_slice(&found.sum_w.0);
        self.level_scale[first..first + W].copy_from_slice(&found.level_scale.0);
        self.level_min[first..first + W].copy_from_slice(&found.level_min.0);
    }

    #[inline(always)]
    fn of_superblock<const J: usize>(&self, half: usize) -> Found<J> {
        let part = |values: &[f32; K]| Lanes::<J>::load(&values[half * J..]).0;
        Found {
            scale: part(&self.scale),
            neg_min: part(&self.neg_min),
            sum_w: part(&self.sum_w),
            level_scale: part(&self.level_scale),
            level_min: part(&self.level_min),
        }
    }
}

/// Searches all sub-blocks of a pair. `weights` gets a tile and the index of its first sub-block.
#[inline(always)]
fn search_pair<S: AffineSearch, const N: usize, const W: usize>(
    x: &[f32; PAIR],
    weights: impl Fn(&Tile<W, N>, usize) -> Tile<W, N>,
) -> Found<32> {
    let none = [0.0; 32];
    let mut found =
        Found { scale: none, neg_min: none, sum_w: none, level_scale: none, level_min: none };
    for first in (0..PAIR / N).step_by(W) {
        let tile = transpose::<W, N>(&x[first * N..]);
        let w = weights(&tile, first);
        found.put(first, &search::<S, W, N>(&tile, &w));
    }
    found
}

/// Quantizes the scales and minima of one superblock, then its weights, and packs all of it.
#[inline(always)]
fn finish<F, S, const N: usize, const K: usize>(
    x: &[f32],
    found: &Found<K>,
    weighted: bool,
    block: &mut [u8],
) where
    F: AffineFormat<N, K>,
    S: AffineSearch,
{
    let (mut scales, mut mins) = ([0; K], [0; K]);
    let quantize = |values: &[f32; K], levels: &mut [u8; K]| {
        if weighted {
            non_negative(values, &found.sum_w, i32::from(F::SCALE_MAX), levels)
        } else {
            from_maximum(values, f32::from(F::SCALE_MAX), F::SCALE_CAP, levels)
        }
    };
    let d = quantize(&found.scale, &mut scales);
    let d_min = quantize(&found.neg_min, &mut mins);
    let d = put_f16(block, F::STEPS_AT, d);
    let d_min = put_f16(block, F::STEPS_AT + 2, d_min);
    F::put_scales(&scales, &mins, block);
    let mut q = [0; SUPERBLOCK];
    for (j, (x, q)) in x.chunks_exact(N).zip(q.chunks_exact_mut(N)).enumerate() {
        let (scale, min) = F::scale(j, block);
        let d = d * f32::from(scale);
        if d != 0.0 {
            requantize(x, d, d_min * f32::from(min), (0, S::N_MAX, 0), q);
            continue;
        }
        // A scale that rounded to zero cannot place the weights: they stay as the search had them.
        for (q, &x) in q.iter_mut().zip(x) {
            *q = level::<S>(x, found.level_scale[j], found.level_min[j]);
        }
    }
    F::put_levels(&q, block);
}
