//! Quantizers of our own: rows of f32 to rows of blocks, byte for byte what ggml's
//! `ggml_quantize_chunk` writes on x86-64, several times faster.
//!
//! ggml searches the scale of one sub-block after another, in scalar single precision. Here as many
//! sub-blocks as a register has lanes are searched side by side. Each lane does exactly the scalar
//! sequence of operations: products are not fused with sums, sums are not reordered, divisions and
//! roots are exact. So the bytes are the same on every [`InstructionSet`], for every finite input.
//! Uses simd and the types of ggml; the caller goes to [`crate::ggml::quantize`] for a type
//! that [`supports`] denies.

// Loops run over the same element or lane of several arrays.
#![allow(clippy::needless_range_loop)]

mod affine_search;
mod affine_superblock;
mod level_descent;
mod q2_k;
mod q3_k;
mod q4_k;
mod q6_k;
mod q8_0;
mod scale_search;
mod signed_search;
mod signed_superblock;
mod small_blocks;
mod superblock;
mod tile;

pub use crate::simd::InstructionSet;

use std::marker::PhantomData;

use crate::ggml::TensorType;
use crate::simd::{dispatch, Kernel, Lanes};

/// True if [`quantize`] covers the type `ty`.
pub fn supports(ty: TensorType) -> bool {
    use TensorType::*;
    matches!(ty, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K)
}

/// Quantizes rows of `n_cols` weights into `out`, on the fastest instruction set of this processor.
/// `importance` holds one weight per column. Panics unless `ty` is supported, `src` is whole rows,
/// `out` their exact size and `importance` one row long. The weights must be finite.
pub fn quantize(
    ty: TensorType,
    src: &[f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    quantize_on(InstructionSet::best(), ty, src, n_cols, importance, out);
}

/// As [`quantize`], on the instruction set `set`. Panics if this processor does not have it.
pub fn quantize_on(
    set: InstructionSet,
    ty: TensorType,
    src: &[f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let row_bytes = ty.row_bytes(n_cols).expect("n_cols is a multiple of the block length");
    let n_rows = src.len() / n_cols;
    assert_eq!(src.len(), n_rows * n_cols, "whole rows");
    assert_eq!(out.len(), n_rows * row_bytes, "{ty}: bytes of {n_rows} rows of {n_cols}");
    assert!(importance.is_none_or(|weights| weights.len() == n_cols), "one weight per column");
    run(set, ty, Job { src, n_cols, importance, out });
}

fn run(set: InstructionSet, ty: TensorType, job: Job<'_>) {
    match ty {
        TensorType::Q8_0 => dispatch(set, Q80(job)),
        TensorType::Q4_0 => small_blocks::<small_blocks::Q4_0>(set, job),
        TensorType::Q4_1 => small_blocks::<small_blocks::Q4_1>(set, job),
        TensorType::Q5_0 => small_blocks::<small_blocks::Q5_0>(set, job),
        TensorType::Q5_1 => small_blocks::<small_blocks::Q5_1>(set, job),
        TensorType::Q2_K => superblocks::<q2_k::Q2K>(set, job),
        TensorType::Q3_K => dispatch(set, Q3K(job)),
        TensorType::Q4_K => superblocks::<q4_k::Q4K>(set, job),
        TensorType::Q5_K => superblocks::<q4_k::Q5K>(set, job),
        TensorType::Q6_K => superblocks::<q6_k::Q6K>(set, job),
        _ => panic!("{ty}: not supported"),
    }
}

/// Arguments that have passed the checks.
struct Job<'a> {
    src: &'a [f32],
    n_cols: usize,
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
}

struct Q80<'a>(Job<'a>);

impl Kernel for Q80<'_> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        q8_0::quantize::<L>(self.0.src, self.0.out);
    }
}

struct Q3K<'a>(Job<'a>);

impl Kernel for Q3K<'_> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        q3_k::quantize_rows::<L, Wide>(self.0.src, self.0.importance, self.0.out);
    }
}

struct SmallBlocks<'a, F>(Job<'a>, PhantomData<F>);

impl<F: small_blocks::SmallBlock> Kernel for SmallBlocks<'_, F> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        let job = self.0;
        small_blocks::quantize_rows::<F, L>(job.src, job.n_cols, job.importance, job.out);
    }
}

fn small_blocks<F: small_blocks::SmallBlock>(set: InstructionSet, job: Job<'_>) {
    dispatch(set, SmallBlocks::<F>(job, PhantomData));
}

struct Superblocks<'a, F>(Job<'a>, PhantomData<F>);

impl<F: superblock::PairFormat> Kernel for Superblocks<'_, F> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        superblock::quantize_rows::<F, L, Wide>(self.0.src, self.0.importance, self.0.out);
    }
}

fn superblocks<F: superblock::PairFormat>(set: InstructionSet, job: Job<'_>) {
    dispatch(set, Superblocks::<F>(job, PhantomData));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ggml;

    /// Bytes of two blocks of `n` weights each, by the kernels that every processor has.
    fn portable(ty: TensorType, src: &[f32], n: usize, block_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; 2 * block_bytes];
        let job = Job { src: &src[..2 * n], n_cols: n, importance: None, out: &mut bytes };
        run(InstructionSet::Portable, ty, job);
        bytes
    }

    /// The codecs alone: no size is asked of ggml, so that Miri can run it.
    #[test]
    fn on_slices_codecs_keep_to_their_blocks() {
        let src: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin() * (i % 7) as f32).collect();
        for (ty, n, block_bytes) in [
            (TensorType::Q4_0, 32, 18),
            (TensorType::Q4_1, 32, 20),
            (TensorType::Q5_0, 32, 22),
            (TensorType::Q5_1, 32, 24),
            (TensorType::Q8_0, 32, 34),
            (TensorType::Q2_K, 256, 84),
            (TensorType::Q3_K, 256, 110),
            (TensorType::Q4_K, 256, 144),
            (TensorType::Q5_K, 256, 176),
            (TensorType::Q6_K, 256, 210),
        ] {
            let bytes = portable(ty, &src, n, block_bytes);
            assert!(bytes[..block_bytes].iter().any(|byte| *byte != 0));
            if !cfg!(miri) {
                let mut expected = vec![0; 2 * block_bytes];
                ggml::quantize(ty, &src[..2 * n], n, None, &mut expected);
                assert_eq!(bytes, expected, "{ty}");
            }
        }
    }
}
