//! Two instructions on the registers that panels and rows are loaded to.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::transmute;

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
