//! Weights and activations for Winograd's products.

use std::arch::x86_64::*;

use super::zmm::{dpbf16, dpwssd};
use crate::simd::tiles::{
    TileMachine, PANEL_ROWS, WINOGRAD_BLOCK, WINOGRAD_LARGEST, WINOGRAD_NORM,
};

/// Whether a processor with products of 16-bit numbers in registers of 512 bits can begin as many
/// additions of such registers beside them: those of AMD can, while with Intel's all go the ways of
/// the products.
pub(super) fn is_faster() -> bool {
    #[allow(unused_unsafe)]
    // SAFETY: every processor of x86-64 has the instruction, and says in leaf 0 who made it.
    let maker = unsafe { __cpuid(0) };
    [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

impl TileMachine {
    /// A block of `WinogradPanels` from bf16 rows of 256 values. A value that is NaN or infinite
    /// makes its scale NaN. Panics unless a row has 512 bytes and all others are as long as a block,
    /// and where there are no such products.
    pub fn unpack_winograd(
        self,
        rows: [&[u8]; PANEL_ROWS],
        out: &mut [i16],
        d: &mut [f32],
        corrections: &mut [i32],
    ) {
        assert!(self.has_winograd(), "Winograd's products on {self}");
        assert!(rows.iter().all(|row| row.len() == 2 * WINOGRAD_BLOCK));
        assert!(out.len() == PANEL_ROWS * WINOGRAD_BLOCK);
        assert!(d.len() == PANEL_ROWS && corrections.len() == PANEL_ROWS);
        // SAFETY: asserted.
        unsafe {
            let (d, corrections) = (d.as_mut_ptr(), corrections.as_mut_ptr());
            weights(rows.map(<[u8]>::as_ptr), out.as_mut_ptr(), d, corrections);
        }
    }

    /// Rounds a block of activations to whole numbers, of each four the second, fourth, first and
    /// third; returns the scale, NaN where a value is NaN or infinite, and the correction. Panics
    /// unless both have 256, and where there are no such products.
    pub fn round_winograd(self, row: &[f32], quants: &mut [i16]) -> (f32, i32) {
        assert!(self.has_winograd(), "Winograd's products on {self}");
        assert!(row.len() == WINOGRAD_BLOCK && quants.len() == WINOGRAD_BLOCK);
        // SAFETY: asserted.
        unsafe { activations(row.as_ptr(), quants.as_mut_ptr()) }
    }
}

/// A block of sixteen rows, a row in each lane.
///
/// # Safety
/// AVX-512 with BW, VNNI and BF16, and AVX2; each row has 512 bytes, and all others as much room as
/// a block of a panel wants.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni,avx512bf16")]
unsafe fn weights(
    rows: [*const u8; PANEL_ROWS],
    out: *mut i16,
    d: *mut f32,
    corrections: *mut i32,
) {
    let mut pairs = [_mm512_setzero_si512(); WINOGRAD_BLOCK / 2];
    // SAFETY: by the contract.
    unsafe { transpose(rows, &mut pairs) };
    let magnitude = _mm512_set1_epi16(i16::MAX);
    let mut largest = _mm512_setzero_si512();
    let mut squares = [_mm512_setzero_ps(); SUMS];
    for pairs in pairs.chunks_exact(SUMS) {
        for (&pair, squares) in pairs.iter().zip(&mut squares) {
            largest = _mm512_max_epu16(largest, _mm512_and_si512(pair, magnitude));
            *squares = dpbf16(*squares, pair, pair);
        }
    }
    let [even, odd] = both(largest).map(|values| _mm512_castps_si512(values));
    let range = Range { largest: _mm512_max_epu32(even, odd), squares: sum(squares) };
    let factor = range.factor(|to_largest| {
        let mut squares = [_mm512_setzero_ps(); SUMS];
        for &pair in &pairs {
            for (values, squares) in both(pair).into_iter().zip(&mut squares) {
                let values = _mm512_mul_ps(values, to_largest);
                *squares = _mm512_fmadd_ps(values, values, *squares);
            }
        }
        sum(squares)
    });
    let mut products = _mm512_setzero_si512();
    for (step, pairs) in pairs.chunks_exact(2).enumerate() {
        let [first, second] = both(pairs[0]).map(|values| round(values, factor));
        let [third, fourth] = both(pairs[1]).map(|values| round(values, factor));
        let (even, odd) = (halves(first, third), halves(second, fourth));
        products = dpwssd(products, even, odd);
        // SAFETY: by the contract: 64 numbers a step.
        unsafe {
            let to = out.add(4 * PANEL_ROWS * step);
            _mm512_storeu_si512(to.cast(), even);
            _mm512_storeu_si512(to.add(2 * PANEL_ROWS).cast(), odd);
        }
    }
    // SAFETY: by the contract.
    unsafe {
        _mm512_storeu_ps(d, range.scale(factor));
        let minus = _mm512_sub_epi32(_mm512_setzero_si512(), products);
        _mm512_storeu_si512(corrections.cast(), minus);
    }
}

/// # Safety
/// AVX-512 with BW, and AVX2; both have 256 values.
#[target_feature(enable = "avx2,avx512f,avx512bw")]
unsafe fn activations(row: *const f32, quants: *mut i16) -> (f32, i32) {
    let mut values = [_mm512_setzero_ps(); WINOGRAD_BLOCK / 16];
    let magnitude = _mm512_set1_epi32(i32::MAX);
    let mut largest = _mm512_setzero_si512();
    let mut squares = [_mm512_setzero_ps(); SUMS];
    for (i, values) in values.iter_mut().enumerate() {
        // SAFETY: by the contract.
        *values = unsafe { _mm512_loadu_ps(row.add(16 * i)) };
        let bits = _mm512_and_si512(_mm512_castps_si512(*values), magnitude);
        largest = _mm512_max_epu32(largest, bits);
        squares[i % SUMS] = _mm512_fmadd_ps(*values, *values, squares[i % SUMS]);
    }
    let range = Range {
        largest: _mm512_set1_epi32(_mm512_reduce_max_epu32(largest) as i32),
        squares: _mm512_set1_ps(_mm512_reduce_add_ps(sum(squares))),
    };
    let factor = range.factor(|to_largest| {
        let mut squares = _mm512_setzero_ps();
        for &values in &values {
            let values = _mm512_mul_ps(values, to_largest);
            squares = _mm512_fmadd_ps(values, values, squares);
        }
        _mm512_set1_ps(_mm512_reduce_add_ps(squares))
    });
    // Of each four the second, the fourth, the first and the third.
    let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        2, 3, 6, 7, 0, 1, 4, 5, 10, 11, 14, 15, 8, 9, 12, 13,
    ));
    let mut products = _mm256_setzero_si256();
    for (i, &values) in values.iter().enumerate() {
        let numbers = _mm256_shuffle_epi8(_mm512_cvtepi32_epi16(round(values, factor)), order);
        // What belongs together stands there twice.
        let other = _mm256_shuffle_epi32::<0b10_11_00_01>(numbers);
        let fours = _mm256_srli_epi64::<32>(_mm256_madd_epi16(numbers, other));
        products = _mm256_add_epi32(products, fours);
        // SAFETY: by the contract.
        unsafe { _mm256_storeu_si256(quants.add(16 * i).cast(), numbers) };
    }
    let products = _mm512_reduce_add_epi32(_mm512_zextsi256_si512(products));
    (_mm512_cvtss_f32(range.scale(factor)), products.wrapping_neg())
}

/// Sums of squares side by side, so that none is waited for.
const SUMS: usize = 4;

#[inline]
#[target_feature(enable = "avx512f")]
fn sum([a, b, c, d]: [__m512; SUMS]) -> __m512 {
    _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d))
}

/// Of the values of each lane.
struct Range {
    /// Bits of the largest magnitude: those of what is not finite are larger than all others.
    largest: __m512i,
    /// What is too large or too small for it left out.
    squares: __m512,
}

impl Range {
    /// What brings values to whole numbers no larger than [`WINOGRAD_LARGEST`] and of a norm up to
    /// [`WINOGRAD_NORM`]. Zero where a value is not finite, or all are so small that the quotient is
    /// not. `again` adds up the squares of the values times its argument.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn factor(&self, again: impl Fn(__m512) -> __m512) -> __m512 {
        let largest = _mm512_castsi512_ps(self.largest);
        let quotient = _mm512_div_ps(_mm512_set1_ps(WINOGRAD_LARGEST.into()), largest);
        let infinity = _mm512_set1_ps(f32::INFINITY);
        let there = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(quotient, infinity);
        let to_largest = _mm512_maskz_mov_ps(there, quotient);
        // Neither square can have been lost.
        let (least, most) = (_mm512_set1_ps(1e-25), _mm512_set1_ps(1e35));
        let kept = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.squares, least)
            & _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.squares, most);
        let norm = if there & !kept == 0 {
            _mm512_mul_ps(_mm512_sqrt_ps(self.squares), to_largest)
        } else {
            _mm512_sqrt_ps(again(to_largest))
        };
        // Where there is no norm, the one is the second argument's.
        let shrink = _mm512_div_ps(_mm512_set1_ps(WINOGRAD_NORM), norm);
        _mm512_mul_ps(to_largest, _mm512_min_ps(shrink, _mm512_set1_ps(1.0)))
    }

    /// What takes `factor` back; NaN where a value is not finite.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scale(&self, factor: __m512) -> __m512 {
        let there = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(factor, _mm512_setzero_ps());
        let scale = _mm512_maskz_div_ps(there, _mm512_set1_ps(1.0), factor);
        let infinity = _mm512_set1_epi32(f32::INFINITY.to_bits() as i32);
        let wrong = _mm512_cmp_epu32_mask::<_MM_CMPINT_NLT>(self.largest, infinity);
        _mm512_mask_mov_ps(scale, wrong, _mm512_set1_ps(f32::NAN))
    }
}

/// 32-bit elements of sixteen rows to columns, a row in each lane. Rows of a model often lie a multiple
/// of 4 KiB apart, and then the lines of sixteen do not fit into the ways of the first-level cache. So
/// eight rows are read to their end, and then the other eight.
///
/// # Safety
/// AVX-512; each row is as long as there are columns, a multiple of sixteen.
#[target_feature(enable = "avx512f")]
unsafe fn transpose(rows: [*const u8; PANEL_ROWS], columns: &mut [__m512i]) {
    for half in 0..2 {
        for (piece, columns) in columns.chunks_exact_mut(16).enumerate() {
            // SAFETY: by the contract.
            let row = |i: usize| unsafe { _mm512_loadu_si512(rows[i].add(64 * piece).cast()) };
            for (q, out) in columns[8 * half..8 * half + 8].chunks_exact_mut(4).enumerate() {
                let first = 8 * half + 4 * q;
                let (a, b, c, d) = (row(first), row(first + 1), row(first + 2), row(first + 3));
                let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                // In each quarter of a register four rows of one of four columns.
                out[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
                out[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
                out[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
                out[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
            }
        }
    }
    for columns in columns.chunks_exact_mut(16) {
        for k in 0..4 {
            let (a, b, c, d) = (columns[k], columns[4 + k], columns[8 + k], columns[12 + k]);
            // Of two registers the quarters 0 and 2, and 1 and 3.
            let even = |a, b| _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b);
            let odd = |a, b| _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b);
            let (ab_even, ab_odd, cd_even, cd_odd) = (even(a, b), odd(a, b), even(c, d), odd(c, d));
            columns[k] = even(ab_even, cd_even);
            columns[4 + k] = even(ab_odd, cd_odd);
            columns[8 + k] = odd(ab_even, cd_even);
            columns[12 + k] = odd(ab_odd, cd_odd);
        }
    }
}

/// To the nearest whole numbers, ties to even.
#[inline]
#[target_feature(enable = "avx512f")]
fn round(values: __m512, factor: __m512) -> __m512i {
    _mm512_cvtps_epi32(_mm512_mul_ps(values, factor))
}

/// The lower halves of the lanes of `a`, and those of `b` above them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(a: __m512i, b: __m512i) -> __m512i {
    _mm512_mask_blend_epi16(0xaaaa_aaaa, a, _mm512_slli_epi32::<16>(b))
}

/// The lower and the upper BF16 of each lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn both(pair: __m512i) -> [__m512; 2] {
    let upper = _mm512_and_si512(pair, _mm512_set1_epi32(0xffff_0000_u32 as i32));
    [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pair)), _mm512_castsi512_ps(upper)]
}
