//! Rows of activations to whole numbers.

use std::arch::x86_64::*;

use crate::simd::tiles::{TileMachine, SUPERBLOCK, WIDE_BLOCK};

impl TileMachine {
    /// Rounds a superblock of activations to whole numbers of magnitude 127 and adds up each
    /// `SUPERBLOCK / sums.len()` of them; the row is the numbers times the scale returned. A value
    /// that is NaN or infinite makes the scale NaN. Panics unless there are 8 or 16 sums and
    /// `row` and `quants` are a superblock.
    pub fn round_levels(self, row: &[f32], quants: &mut [i8], sums: &mut [i16]) -> f32 {
        assert!(row.len() == SUPERBLOCK && quants.len() == SUPERBLOCK);
        assert!(sums.len() == 8 || sums.len() == 16);
        // SAFETY: `self` says AVX2; lengths are asserted.
        unsafe {
            let (inverse, scale) = scales(row, 127.0);
            levels(row, inverse, quants);
            block_sums(quants, sums);
            scale
        }
    }

    /// Rounds a block of activations to whole numbers of magnitude 127; returns the scale as
    /// [`round_levels`](Self::round_levels) does, and the sum of the numbers. Panics unless
    /// both have 32.
    pub fn round_bytes(self, row: &[f32], quants: &mut [i8]) -> (f32, i32) {
        assert!(row.len() == WIDE_BLOCK && quants.len() == WIDE_BLOCK);
        let mut sum = [0];
        // SAFETY: `self` says AVX2; lengths are asserted.
        let scale = unsafe {
            let (inverse, scale) = scales(row, 127.0);
            levels(row, inverse, quants);
            block_sums(quants, &mut sum);
            scale
        };
        (scale, sum[0].into())
    }

    /// Rounds a row of activations to BF16, ties to even. Panics unless both have the same length.
    pub fn round_pairs(self, row: &[f32], out: &mut [u16]) {
        assert!(row.len() == out.len());
        // SAFETY: `self` says AVX2; lengths are asserted.
        unsafe { pairs(row, out) }
    }

    /// Rounds a block of activations to whole numbers of magnitude `largest`, scale as in
    /// [`round_levels`](Self::round_levels). Panics unless both have 32.
    pub fn round_wide(self, row: &[f32], largest: i16, quants: &mut [i16]) -> f32 {
        assert!(row.len() == WIDE_BLOCK && quants.len() == WIDE_BLOCK);
        // SAFETY: `self` says AVX2; lengths are asserted.
        unsafe {
            let (inverse, scale) = scales(row, largest.into());
            wide(row, inverse, quants);
            scale
        }
    }
}

/// What brings the largest magnitude of `row` to `max`, and what takes it back.
#[target_feature(enable = "avx2")]
fn scales(row: &[f32], max: f32) -> (f32, f32) {
    let sign = _mm256_set1_ps(-0.0);
    let mut largest = _mm256_setzero_ps();
    // Zero, or NaN if a value is not finite.
    let mut poison = _mm256_setzero_ps();
    for part in row.chunks_exact(8) {
        // SAFETY: the chunk has eight values.
        let x = unsafe { _mm256_loadu_ps(part.as_ptr()) };
        largest = _mm256_max_ps(_mm256_andnot_ps(sign, x), largest);
        poison = _mm256_add_ps(poison, _mm256_mul_ps(x, _mm256_setzero_ps()));
    }
    let largest = across(largest, |a, b| _mm_max_ps(a, b));
    let poison = across(poison, |a, b| _mm_add_ps(a, b));
    // A row so small that the quotient is not finite is zero.
    let inverse = max / largest;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    (inverse, if inverse == 0.0 { 0.0 } else { 1.0 / inverse } + poison)
}

/// All lanes by `f`, two halves at a time.
#[inline]
#[target_feature(enable = "avx2")]
fn across(x: __m256, f: impl Fn(__m128, __m128) -> __m128) -> f32 {
    let fours = f(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let pairs = f(fours, _mm_movehl_ps(fours, fours));
    _mm_cvtss_f32(f(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
}

/// `row` times `inverse` to the nearest whole numbers, ties to even.
#[target_feature(enable = "avx2")]
fn levels(row: &[f32], inverse: f32, quants: &mut [i8]) {
    // Packing works within halves of registers; this brings the fours back into their order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (row, quants) in row.chunks_exact(32).zip(quants.chunks_exact_mut(32)) {
        let [a, b, c, d] = std::array::from_fn(|i| rounded(&row[8 * i..8 * i + 8], inverse));
        let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let packed = _mm256_permutevar8x32_epi32(packed, order);
        // SAFETY: the chunk has 32 values.
        unsafe { _mm256_storeu_si256(quants.as_mut_ptr().cast(), packed) };
    }
}

#[target_feature(enable = "avx2")]
fn wide(row: &[f32], inverse: f32, quants: &mut [i16]) {
    for (row, quants) in row.chunks_exact(16).zip(quants.chunks_exact_mut(16)) {
        let [a, b] = std::array::from_fn(|i| rounded(&row[8 * i..8 * i + 8], inverse));
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
        // SAFETY: the chunk has 16 values.
        unsafe { _mm256_storeu_si256(quants.as_mut_ptr().cast(), packed) };
    }
}

#[target_feature(enable = "avx2")]
fn pairs(row: &[f32], out: &mut [u16]) {
    let whole = row.len() / 16 * 16;
    for (row, out) in row.chunks_exact(16).zip(out.chunks_exact_mut(16)) {
        let [a, b] = std::array::from_fn(|i| upper_half(&row[8 * i..8 * i + 8]));
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(a, b));
        // SAFETY: the chunk has 16 values.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), packed) };
    }
    for (row, out) in row[whole..].iter().zip(&mut out[whole..]) {
        *out = half::bf16::from_f32(*row).to_bits();
    }
}

/// Eight floats to the bits of a BF16 each: the upper half, after half a unit of it was added, less
/// one bit where the upper half is even. A NaN becomes one that no addition turns into infinity.
#[inline]
#[target_feature(enable = "avx2")]
fn upper_half(eight: &[f32]) -> __m256i {
    let eight: &[f32; 8] = eight.try_into().expect("eight values");
    // SAFETY: eight values can be read.
    let x = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    let bits = _mm256_castps_si256(x);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
    _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan)
}

#[inline]
#[target_feature(enable = "avx2")]
fn rounded(eight: &[f32], inverse: f32) -> __m256i {
    let eight: &[f32; 8] = eight.try_into().expect("eight values");
    // SAFETY: eight values can be read.
    let x = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
    _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(inverse)))
}

/// Sums of the parts of `quants`, as many as there are `sums`: 16 or 32 values each.
#[target_feature(enable = "avx2")]
fn block_sums(quants: &[i8], sums: &mut [i16]) {
    let per_half = sums.len() == quants.len() / 16;
    for (i, quants) in quants.chunks_exact(32).enumerate() {
        // SAFETY: the chunk has 32 values.
        let quants = unsafe { _mm256_loadu_si256(quants.as_ptr().cast()) };
        let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), quants);
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        let eights = _mm256_add_epi32(fours, _mm256_shuffle_epi32::<0b01_00_11_10>(fours));
        let halves = _mm256_add_epi32(eights, _mm256_shuffle_epi32::<0b10_11_00_01>(eights));
        let low = _mm256_extract_epi32::<0>(halves) as i16;
        let high = _mm256_extract_epi32::<4>(halves) as i16;
        if per_half {
            (sums[2 * i], sums[2 * i + 1]) = (low, high);
        } else {
            sums[i] = low + high;
        }
    }
}
