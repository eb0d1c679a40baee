//! One register of floats: the intrinsics behind [`Lanes`](super::Lanes).
//!
//! The types are private to `simd`, and only `dispatch` instantiates a kernel with one, inside a
//! function that has its features and after it has asked the processor for them. That is what
//! makes each intrinsic here safe to call.

use super::lanes::ROUNDER;

/// A register of `LANES` floats. See [`Lanes`](super::Lanes) for what each operation means.
#[allow(missing_docs)]
pub trait Register: Copy {
    type Mask: Copy;
    const LANES: usize;
    fn splat(value: f32) -> Self;
    fn load(values: &[f32]) -> Self;
    fn columns(rows: &[f32], stride: usize) -> [Self; 4];
    fn store(self, out: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn less(self, other: Self) -> Self::Mask;
    fn differs(self, other: Self) -> Self::Mask;
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn all(mask: Self::Mask) -> bool;
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    fn store_bytes(self, out: &mut [u8]);
    fn nearest_int(self) -> Self;
}

/// Methods that are one expression of intrinsics each.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident $(: $ty:ty)?),*) -> $out:ty { $body:expr })*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)]
        fn $name($($arg $(: $ty)?),*) -> $out {
            // SAFETY: see the head of this file.
            unsafe { $body }
        }
    )*};
}

/// Load, store and splat. `$load` and `$store` take unaligned pointers.
macro_rules! memory {
    ($lanes:literal, $splat:expr, $load:expr, $store:expr) => {
        const LANES: usize = $lanes;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see the head of this file.
            Self(unsafe { $splat(value) })
        }

        #[inline(always)]
        fn load(values: &[f32]) -> Self {
            assert!(values.len() >= Self::LANES);
            // SAFETY: the assertion says that so many floats can be read.
            Self(unsafe { $load(values.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, out: &mut [f32]) {
            assert!(out.len() >= Self::LANES);
            // SAFETY: the assertion says that so many floats can be written.
            unsafe { $store(out.as_mut_ptr(), self.0) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Sse2 as Portable};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Register, ROUNDER};

    /// The first four values of `4 * Q` rows: of rows 0, 4, 8 and so on, of rows 1, 5, 9 and so on,
    /// and likewise for 2 and 3. Unpacking and shuffling registers of those, quarter by quarter,
    /// brings the columns together.
    #[inline(always)]
    fn quarters<const Q: usize>(rows: &[f32], stride: usize) -> [[__m128; Q]; 4] {
        assert!(rows.len() >= (4 * Q - 1) * stride + 4);
        // SAFETY: every x86-64 processor has SSE2; the assertion says that the last row has four
        // values, so all have.
        unsafe {
            let mut out = [[_mm_setzero_ps(); Q]; 4];
            for (t, quarters) in out.iter_mut().enumerate() {
                for (q, quarter) in quarters.iter_mut().enumerate() {
                    *quarter = _mm_loadu_ps(rows.as_ptr().add((4 * q + t) * stride));
                }
            }
            out
        }
    }

    /// A register of four quarters.
    ///
    /// # Safety
    /// The processor must have AVX-512.
    #[inline(always)]
    unsafe fn join(quarters: [__m128; 4]) -> __m512 {
        // SAFETY: by the contract of this function.
        unsafe {
            let joined = _mm512_castps128_ps512(quarters[0]);
            let joined = _mm512_insertf32x4::<1>(joined, quarters[1]);
            let joined = _mm512_insertf32x4::<2>(joined, quarters[2]);
            _mm512_insertf32x4::<3>(joined, quarters[3])
        }
    }

    /// Four floats; every x86-64 processor has it.
    #[derive(Clone, Copy)]
    pub struct Sse2(__m128);

    impl Register for Sse2 {
        type Mask = __m128;

        memory!(4, _mm_set1_ps, _mm_loadu_ps, _mm_storeu_ps);

        #[inline(always)]
        fn columns(rows: &[f32], stride: usize) -> [Self; 4] {
            // SAFETY: see the head of this file.
            unsafe {
                let [a, b, c, d] = quarters::<1>(rows, stride).map(|[row]| row);
                let (low, high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
                let (low2, high2) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
                [
                    Self(_mm_movelh_ps(low, low2)),
                    Self(_mm_movehl_ps(low2, low)),
                    Self(_mm_movelh_ps(high, high2)),
                    Self(_mm_movehl_ps(high2, high)),
                ]
            }
        }

        #[inline(always)]
        fn store_bytes(self, out: &mut [u8]) {
            // SAFETY: see the head of this file.
            let bytes = unsafe {
                let words = _mm_cvttps_epi32(self.0);
                let halves = _mm_packs_epi32(words, words);
                _mm_cvtsi128_si32(_mm_packs_epi16(halves, halves))
            };
            out[..4].copy_from_slice(&bytes.to_le_bytes());
        }

        intrinsics! {
            fn add(self, other: Self) -> Self { Self(_mm_add_ps(self.0, other.0)) }
            fn sub(self, other: Self) -> Self { Self(_mm_sub_ps(self.0, other.0)) }
            fn mul(self, other: Self) -> Self { Self(_mm_mul_ps(self.0, other.0)) }
            fn div(self, other: Self) -> Self { Self(_mm_div_ps(self.0, other.0)) }
            fn sqrt(self) -> Self { Self(_mm_sqrt_ps(self.0)) }
            fn abs(self) -> Self { Self(_mm_andnot_ps(_mm_set1_ps(-0.0), self.0)) }
            fn min(self, other: Self) -> Self { Self(_mm_min_ps(self.0, other.0)) }
            fn max(self, other: Self) -> Self { Self(_mm_max_ps(self.0, other.0)) }
            fn less(self, other: Self) -> __m128 { _mm_cmplt_ps(self.0, other.0) }
            fn differs(self, other: Self) -> __m128 { _mm_cmpneq_ps(self.0, other.0) }
            fn and(a: __m128, b: __m128) -> __m128 { _mm_and_ps(a, b) }
            fn all(mask: __m128) -> bool { _mm_movemask_ps(mask) == 0xf }
            fn select(mask: __m128, yes: Self, no: Self) -> Self {
                Self(_mm_or_ps(_mm_and_ps(mask, yes.0), _mm_andnot_ps(mask, no.0)))
            }
            fn nearest_int(self) -> Self { {
                let bits = _mm_castps_si128(_mm_add_ps(self.0, _mm_set1_ps(ROUNDER)));
                let low = _mm_and_si128(bits, _mm_set1_epi32(0x007f_ffff));
                Self(_mm_cvtepi32_ps(_mm_sub_epi32(low, _mm_set1_epi32(0x0040_0000))))
            } }
        }
    }

    /// Eight floats.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);

    impl Register for Avx2 {
        type Mask = __m256;

        memory!(8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps);

        #[inline(always)]
        fn columns(rows: &[f32], stride: usize) -> [Self; 4] {
            let [a, b, c, d] = quarters::<2>(rows, stride);
            // SAFETY: see the head of this file.
            unsafe {
                let (a, b) = (_mm256_set_m128(a[1], a[0]), _mm256_set_m128(b[1], b[0]));
                let (c, d) = (_mm256_set_m128(c[1], c[0]), _mm256_set_m128(d[1], d[0]));
                let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (low2, high2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                [
                    Self(_mm256_shuffle_ps::<0x44>(low, low2)),
                    Self(_mm256_shuffle_ps::<0xee>(low, low2)),
                    Self(_mm256_shuffle_ps::<0x44>(high, high2)),
                    Self(_mm256_shuffle_ps::<0xee>(high, high2)),
                ]
            }
        }

        #[inline(always)]
        fn store_bytes(self, out: &mut [u8]) {
            // SAFETY: see the head of this file.
            let bytes = unsafe {
                let words = _mm256_cvttps_epi32(self.0);
                let (low, high) =
                    (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                let halves = _mm_packs_epi32(low, high);
                _mm_cvtsi128_si64(_mm_packs_epi16(halves, halves))
            };
            out[..8].copy_from_slice(&bytes.to_le_bytes());
        }

        intrinsics! {
            fn add(self, other: Self) -> Self { Self(_mm256_add_ps(self.0, other.0)) }
            fn sub(self, other: Self) -> Self { Self(_mm256_sub_ps(self.0, other.0)) }
            fn mul(self, other: Self) -> Self { Self(_mm256_mul_ps(self.0, other.0)) }
            fn div(self, other: Self) -> Self { Self(_mm256_div_ps(self.0, other.0)) }
            fn sqrt(self) -> Self { Self(_mm256_sqrt_ps(self.0)) }
            fn abs(self) -> Self { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
            fn min(self, other: Self) -> Self { Self(_mm256_min_ps(self.0, other.0)) }
            fn max(self, other: Self) -> Self { Self(_mm256_max_ps(self.0, other.0)) }
            fn less(self, other: Self) -> __m256 { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) }
            fn differs(self, other: Self) -> __m256 { _mm256_cmp_ps::<_CMP_NEQ_UQ>(self.0, other.0) }
            fn and(a: __m256, b: __m256) -> __m256 { _mm256_and_ps(a, b) }
            fn all(mask: __m256) -> bool { _mm256_movemask_ps(mask) == 0xff }
            fn select(mask: __m256, yes: Self, no: Self) -> Self {
                Self(_mm256_blendv_ps(no.0, yes.0, mask))
            }
            fn nearest_int(self) -> Self { {
                let bits = _mm256_castps_si256(_mm256_add_ps(self.0, _mm256_set1_ps(ROUNDER)));
                let low = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
                Self(_mm256_cvtepi32_ps(_mm256_sub_epi32(low, _mm256_set1_epi32(0x0040_0000))))
            } }
        }
    }

    /// Sixteen floats.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    impl Register for Avx512 {
        type Mask = u16;

        memory!(16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps);

        #[inline(always)]
        fn columns(rows: &[f32], stride: usize) -> [Self; 4] {
            let [a, b, c, d] = quarters::<4>(rows, stride);
            // SAFETY: see the head of this file.
            unsafe {
                let (a, b, c, d) = (join(a), join(b), join(c), join(d));
                let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (low2, high2) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                [
                    Self(_mm512_shuffle_ps::<0x44>(low, low2)),
                    Self(_mm512_shuffle_ps::<0xee>(low, low2)),
                    Self(_mm512_shuffle_ps::<0x44>(high, high2)),
                    Self(_mm512_shuffle_ps::<0xee>(high, high2)),
                ]
            }
        }

        #[inline(always)]
        fn store_bytes(self, out: &mut [u8]) {
            assert!(out.len() >= 16);
            // SAFETY: see the head of this file; the assertion says that 16 bytes can be written.
            unsafe {
                let bytes = _mm512_cvtsepi32_epi8(_mm512_cvttps_epi32(self.0));
                _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
            }
        }

        intrinsics! {
            fn add(self, other: Self) -> Self { Self(_mm512_add_ps(self.0, other.0)) }
            fn sub(self, other: Self) -> Self { Self(_mm512_sub_ps(self.0, other.0)) }
            fn mul(self, other: Self) -> Self { Self(_mm512_mul_ps(self.0, other.0)) }
            fn div(self, other: Self) -> Self { Self(_mm512_div_ps(self.0, other.0)) }
            fn sqrt(self) -> Self { Self(_mm512_sqrt_ps(self.0)) }
            fn abs(self) -> Self { Self(_mm512_abs_ps(self.0)) }
            fn min(self, other: Self) -> Self { Self(_mm512_min_ps(self.0, other.0)) }
            fn max(self, other: Self) -> Self { Self(_mm512_max_ps(self.0, other.0)) }
            fn less(self, other: Self) -> u16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
            fn differs(self, other: Self) -> u16 { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, other.0) }
            fn and(a: u16, b: u16) -> u16 { a & b }
            fn all(mask: u16) -> bool { mask == 0xffff }
            fn select(mask: u16, yes: Self, no: Self) -> Self {
                Self(_mm512_mask_blend_ps(mask, no.0, yes.0))
            }
            fn nearest_int(self) -> Self { {
                let bits = _mm512_castps_si512(_mm512_add_ps(self.0, _mm512_set1_ps(ROUNDER)));
                let low = _mm512_and_si512(bits, _mm512_set1_epi32(0x007f_ffff));
                Self(_mm512_cvtepi32_ps(_mm512_sub_epi32(low, _mm512_set1_epi32(0x0040_0000))))
            } }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub use arm::Neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::{Register, ROUNDER};

    /// Four floats.
    #[derive(Clone, Copy)]
    pub struct Neon(float32x4_t);

    impl Register for Neon {
        type Mask = uint32x4_t;

        memory!(4, vdupq_n_f32, vld1q_f32, vst1q_f32);

        #[inline(always)]
        fn columns(rows: &[f32], stride: usize) -> [Self; 4] {
            let row = |t: usize| Self::load(&rows[t * stride..]).0;
            // SAFETY: see the head of this file.
            unsafe {
                let (low, high) = (vzip1q_f32(row(0), row(1)), vzip2q_f32(row(0), row(1)));
                let (low2, high2) = (vzip1q_f32(row(2), row(3)), vzip2q_f32(row(2), row(3)));
                [
                    Self(vcombine_f32(vget_low_f32(low), vget_low_f32(low2))),
                    Self(vcombine_f32(vget_high_f32(low), vget_high_f32(low2))),
                    Self(vcombine_f32(vget_low_f32(high), vget_low_f32(high2))),
                    Self(vcombine_f32(vget_high_f32(high), vget_high_f32(high2))),
                ]
            }
        }

        #[inline(always)]
        fn store_bytes(self, out: &mut [u8]) {
            // SAFETY: see the head of this file.
            let bytes = unsafe {
                let halves = vqmovn_s32(vcvtq_s32_f32(self.0));
                let bytes = vqmovn_s16(vcombine_s16(halves, halves));
                vget_lane_u32::<0>(vreinterpret_u32_s8(bytes))
            };
            out[..4].copy_from_slice(&bytes.to_le_bytes());
        }

        intrinsics! {
            fn add(self, other: Self) -> Self { Self(vaddq_f32(self.0, other.0)) }
            fn sub(self, other: Self) -> Self { Self(vsubq_f32(self.0, other.0)) }
            fn mul(self, other: Self) -> Self { Self(vmulq_f32(self.0, other.0)) }
            fn div(self, other: Self) -> Self { Self(vdivq_f32(self.0, other.0)) }
            fn sqrt(self) -> Self { Self(vsqrtq_f32(self.0)) }
            fn abs(self) -> Self { Self(vabsq_f32(self.0)) }
            fn min(self, other: Self) -> Self { Self::select(self.less(other), self, other) }
            fn max(self, other: Self) -> Self { Self::select(other.less(self), self, other) }
            fn less(self, other: Self) -> uint32x4_t { vcltq_f32(self.0, other.0) }
            fn differs(self, other: Self) -> uint32x4_t { vmvnq_u32(vceqq_f32(self.0, other.0)) }
            fn and(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t { vandq_u32(a, b) }
            fn all(mask: uint32x4_t) -> bool { vminvq_u32(mask) != 0 }
            fn select(mask: uint32x4_t, yes: Self, no: Self) -> Self {
                Self(vbslq_f32(mask, yes.0, no.0))
            }
            fn nearest_int(self) -> Self { {
                let bits = vreinterpretq_s32_f32(vaddq_f32(self.0, vdupq_n_f32(ROUNDER)));
                let low = vandq_s32(bits, vdupq_n_s32(0x007f_ffff));
                Self(vcvtq_f32_s32(vsubq_s32(low, vdupq_n_s32(0x0040_0000))))
            } }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub use plain::Plain as Portable;

#[cfg(not(target_arch = "x86_64"))]
mod plain {
    use super::super::lanes::nearest_int;
    use super::Register;

    /// Four floats in an array, for processors without a path of their own.
    #[derive(Clone, Copy)]
    pub struct Plain([f32; 4]);

    impl Plain {
        #[inline(always)]
        fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
            Self(std::array::from_fn(|t| f(self.0[t], other.0[t])))
        }
    }

    #[rustfmt::skip]
    impl Register for Plain {
        type Mask = [bool; 4];
        const LANES: usize = 4;
        #[inline(always)] fn splat(value: f32) -> Self { Self([value; 4]) }
        #[inline(always)] fn load(values: &[f32]) -> Self { Self(std::array::from_fn(|t| values[t])) }
        #[inline(always)] fn columns(rows: &[f32], stride: usize) -> [Self; 4] {
            std::array::from_fn(|c| Self(std::array::from_fn(|t| rows[t * stride + c])))
        }
        #[inline(always)] fn store(self, out: &mut [f32]) { out[..4].copy_from_slice(&self.0) }
        #[inline(always)] fn add(self, other: Self) -> Self { self.zip(other, |a, b| a + b) }
        #[inline(always)] fn sub(self, other: Self) -> Self { self.zip(other, |a, b| a - b) }
        #[inline(always)] fn mul(self, other: Self) -> Self { self.zip(other, |a, b| a * b) }
        #[inline(always)] fn div(self, other: Self) -> Self { self.zip(other, |a, b| a / b) }
        #[inline(always)] fn sqrt(self) -> Self { Self(self.0.map(f32::sqrt)) }
        #[inline(always)] fn abs(self) -> Self { Self(self.0.map(f32::abs)) }
        #[inline(always)] fn min(self, other: Self) -> Self { self.zip(other, |a, b| if a < b { a } else { b }) }
        #[inline(always)] fn max(self, other: Self) -> Self { self.zip(other, |a, b| if a > b { a } else { b }) }
        #[inline(always)] fn less(self, other: Self) -> [bool; 4] { std::array::from_fn(|t| self.0[t] < other.0[t]) }
        #[inline(always)] fn differs(self, other: Self) -> [bool; 4] { std::array::from_fn(|t| self.0[t] != other.0[t]) }
        #[inline(always)] fn and(a: [bool; 4], b: [bool; 4]) -> [bool; 4] { std::array::from_fn(|t| a[t] & b[t]) }
        #[inline(always)] fn all(mask: [bool; 4]) -> bool { mask == [true; 4] }
        #[inline(always)] fn select(mask: [bool; 4], yes: Self, no: Self) -> Self {
            Self(std::array::from_fn(|t| if mask[t] { yes.0[t] } else { no.0[t] }))
        }
        #[inline(always)] fn store_bytes(self, out: &mut [u8]) { out[..4].copy_from_slice(&self.0.map(|v| v as i8 as u8)) }
        #[inline(always)] fn nearest_int(self) -> Self { Self(self.0.map(|v| nearest_int(v) as f32)) }
    }
}
