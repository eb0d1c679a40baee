//! Superblocks of 256 weights, two at a time: what all K-quants share.

use super::tile::MAX_LANES;
use crate::simd::Lanes;

/// Weights in a superblock.
pub const SUPERBLOCK: usize = 256;

/// Weights in a pair of superblocks.
pub const PAIR: usize = 2 * SUPERBLOCK;

/// Two superblocks with their importance. An odd last superblock has a second one of zeros.
pub struct Pair {
    /// The weights.
    pub x: [f32; PAIR],
    /// Importance of each weight, if there is a matrix.
    pub importance: Option<[f32; PAIR]>,
    /// Sum of the squares of each superblock, added in order; computed if there is a matrix.
    pub sum_squares: [f32; 2],
}

impl Pair {
    /// `factor` times the mean square of the superblock of each sub-block from `first` on, of
    /// which there are `k` in a superblock.
    #[inline(always)]
    pub fn mean_squares<L: Lanes>(&self, factor: f32, first: usize, k: usize) -> L {
        let mut means = [0.0; MAX_LANES];
        for (t, mean) in means[..L::LANES].iter_mut().enumerate() {
            *mean = factor * self.sum_squares[(first + t) / k] / SUPERBLOCK as f32;
        }
        L::load(&means)
    }
}

/// A type of superblocks.
pub trait PairFormat {
    /// Bytes of one superblock.
    const BYTES: usize;

    /// Quantizes a pair into `out`, which holds one or two superblocks. `#[inline(always)]`.
    fn quantize<L: Lanes, Wide: Lanes>(pair: &Pair, out: &mut [u8]);
}

/// Quantizes rows of whole superblocks.
#[inline(always)]
pub fn quantize_rows<F: PairFormat, L: Lanes, Wide: Lanes>(
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let mut pair =
        Pair { x: [0.0; PAIR], importance: importance.map(|_| [0.0; PAIR]), sum_squares: [0.0; 2] };
    let sums = importance.map(|_| sums_of_squares(src, SUPERBLOCK));
    let pairs = src.chunks(PAIR).zip(out.chunks_mut(2 * F::BYTES));
    for (index, (values, blocks)) in pairs.enumerate() {
        if values.len() < PAIR {
            pair.x = [0.0; PAIR];
        }
        pair.x[..values.len()].copy_from_slice(values);
        if let (Some(columns), Some(weights)) = (importance, &mut pair.importance) {
            for (half, weights) in weights.chunks_exact_mut(SUPERBLOCK).enumerate() {
                let column = (2 * index + half) * SUPERBLOCK % columns.len();
                weights.copy_from_slice(&columns[column..column + SUPERBLOCK]);
            }
        }
        if let Some(sums) = &sums {
            let ends = (sums[2 * index], sums.get(2 * index + 1).copied().unwrap_or(0.0));
            pair.sum_squares = [ends.0, ends.1];
        }
        F::quantize::<L, Wide>(&pair, blocks);
    }
}

/// Sum of the squares of each `len` consecutive values, added in order. Eight sums run side by
/// side, because a sum in order waits for each addition.
#[inline(always)]
pub fn sums_of_squares(values: &[f32], len: usize) -> Vec<f32> {
    let mut sums = Vec::with_capacity(values.len() / len);
    let mut groups = values.chunks_exact(8 * len);
    for group in &mut groups {
        let mut lanes = [0.0; 8];
        for i in 0..len {
            for t in 0..8 {
                lanes[t] += group[t * len + i] * group[t * len + i];
            }
        }
        sums.extend_from_slice(&lanes);
    }
    for block in groups.remainder().chunks_exact(len) {
        sums.push(block.iter().fold(0.0, |sum, &value| sum + value * value));
    }
    sums
}

/// Levels of `x` for a scale `d` and a minimum `-dm`, `low` to `high`, stored with `offset`.
#[inline(always)]
pub fn requantize<L: Lanes>(
    x: &[f32],
    d: f32,
    dm: f32,
    (low, high, offset): (i32, i32, i32),
    q: &mut [u8],
) {
    for (x, q) in x.chunks_exact(L::LANES).zip(q.chunks_exact_mut(L::LANES)) {
        let v = (L::load(x) + L::splat(dm)) / L::splat(d);
        let level = v.nearest_int_clamped(low as f32, high as f32);
        (level + L::splat(offset as f32)).store_bytes(q);
    }
}

/// Writes `value` as f16 at `at` and returns it as rounded. NaN, which only sums that overflow
/// give, gets the sign that x86 gives it, on every processor.
#[inline(always)]
pub fn put_f16(out: &mut [u8], at: usize, value: f32) -> f32 {
    let value = if value.is_nan() { f32::from_bits(0xffc0_0000) } else { value };
    let rounded = half::f16::from_f32(value);
    out[at..at + 2].copy_from_slice(&rounded.to_le_bytes());
    rounded.to_f32()
}

/// The low two bits of 256 levels in 64 bytes: byte `i` of the 32 bytes for weights
/// `128 g..128 g + 128` has weights `i`, `i + 32`, `i + 64` and `i + 96` from its low bits up.
#[inline(always)]
pub fn put_two_bits(q: &[u8; SUPERBLOCK], out: &mut [u8]) {
    for (out, q) in out.chunks_exact_mut(32).zip(q.chunks_exact(128)) {
        for i in 0..32 {
            let [a, b, c, d] = [q[i] & 3, q[i + 32] & 3, q[i + 64] & 3, q[i + 96] & 3];
            out[i] = a | (b << 2) | (c << 4) | (d << 6);
        }
    }
}
