//! Registers of 512 bits: all sixteen rows of a panel.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::transmute;

use crate::simd::tiles::dot::{memory, registers, Dot, DotPairs};
use crate::simd::tiles::winograd::DotWinograd;

/// AVX-512 with VNNI, with BF16 for [`DotPairs`] and with BW for [`DotWinograd`].
#[derive(Clone, Copy)]
pub(in crate::simd::tiles) struct Zmm;

impl Dot for Zmm {
    const LANES: usize = 16;
    type Int = __m512i;
    type Float = __m512;
    type Four = *const u8;
    type Wide = __m512i;

    registers! {
        fn ints(value: i32) -> __m512i { _mm512_set1_epi32(value) }
        fn floats(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn to_floats(ints: __m512i) -> __m512 { _mm512_cvtepi32_ps(ints) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fnmadd_ps(a, b, c) }
    }

    memory! {
        fn load_ints(from: *const u8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        fn load_wide(from: *const u8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        fn load_floats(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        fn store(to: *mut f32, value: __m512) { _mm512_storeu_ps(to, value) }
        fn four(from: *const u8) -> *const u8 { from }
        fn one(from: *const u8) -> *const u8 { from }
        fn bytes<const STEP>(sum: __m512i, w: __m512i, a: *const u8) -> __m512i {
            _mm512_dpbusd_epi32(sum, w, broadcast::<STEP>(a))
        }
        fn wide<const STEP>(sum: __m512i, w: __m512i, a: *const u8) -> __m512i {
            dpwssd(sum, w, broadcast::<STEP>(a))
        }
        fn product<const STEP>(sum: __m512, w: __m512, a: *const u8) -> __m512 {
            _mm512_fmadd_ps(w, _mm512_castsi512_ps(broadcast::<STEP>(a)), sum)
        }
    }
}

impl DotPairs for Zmm {
    memory! {
        fn pairs<const STEP>(sum: __m512, w: __m512i, a: *const u8) -> __m512 {
            dpbf16(sum, w, broadcast::<STEP>(a))
        }
    }
}

impl DotWinograd for Zmm {
    memory! {
        fn wides(from: *const u8) -> __m512i { broadcast::<0>(from) }
    }

    registers! {
        fn add_wide(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi16(a, b) }
        fn add_ints(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn multiply_wide(sum: __m512i, a: __m512i, b: __m512i) -> __m512i { dpwssd(sum, a, b) }
    }
}

/// Step `STEP` in all lanes.
///
/// # Safety
/// AVX-512; the step can be read.
#[inline(always)]
unsafe fn broadcast<const STEP: i32>(from: *const u8) -> __m512i {
    // SAFETY: by the contract.
    unsafe { _mm512_set1_epi32(from.cast::<i32>().add(STEP as usize).read_unaligned()) }
}

/// Each lane of `sum` plus the two products of the 16-bit halves of `a` and `b`. Given the
/// intrinsic, the compiler multiplies and adds apart where sums follow each other, which shortens
/// the wait for one sum; here many are under way at a time, and each instruction counts.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn dpwssd(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the processor has the instruction, and it touches these registers only.
    unsafe {
        asm!(
            "vpdpwssd {}, {}, {}",
            inout(zmm_reg) sum,
            in(zmm_reg) a,
            in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Each lane of `sum` plus the two products of the BF16 halves of `a` and `b`; denormals count as
/// zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn dpbf16(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: both types are 64 bytes of which any bits are a value.
    let (a, b) = unsafe { (transmute::<__m512i, __m512bh>(a), transmute::<__m512i, __m512bh>(b)) };
    _mm512_dpbf16_ps(sum, a, b)
}
