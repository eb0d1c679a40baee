//! Registers of 256 bits: eight of a panel's sixteen rows.

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx2;
use crate::simd::tiles::dot::{memory, registers, Dot};
use crate::simd::tiles::kernels::{Sums, Superblocks};
use crate::simd::tiles::tokens::Token;

/// AVX2 and FMA. There are no sums of four products of bytes.
#[derive(Clone, Copy)]
pub(in crate::simd::tiles) struct Ymm;

/// And AVX-VNNI.
#[derive(Clone, Copy)]
pub(in crate::simd::tiles) struct YmmVnni;

macro_rules! dot {
    ($name:ident, $bytes:ident, $wide:ident $(, $levels:ident)?) => {
        impl Dot for $name {
            const LANES: usize = 8;
            type Int = __m256i;
            type Float = __m256;
            type Four = *const u8;
            type Wide = __m256i;

            registers! {
                fn ints(value: i32) -> __m256i { _mm256_set1_epi32(value) }
                fn floats(value: f32) -> __m256 { _mm256_set1_ps(value) }
                fn to_floats(ints: __m256i) -> __m256 { _mm256_cvtepi32_ps(ints) }
                fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
                fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
                fn fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
                fn fnma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fnmadd_ps(a, b, c) }
            }

            memory! {
                fn load_ints(from: *const u8) -> __m256i { _mm256_loadu_si256(from.cast()) }
                fn load_wide(from: *const u8) -> __m256i { _mm256_loadu_si256(from.cast()) }
                fn load_floats(from: *const f32) -> __m256 { _mm256_loadu_ps(from) }
                fn store(to: *mut f32, value: __m256) { _mm256_storeu_ps(to, value) }
                fn four(from: *const u8) -> *const u8 { from }
                fn one(from: *const u8) -> *const u8 { from }
                fn bytes<const STEP>(sum: __m256i, w: __m256i, a: *const u8) -> __m256i {
                    $bytes(sum, w, broadcast::<STEP>(a))
                }
                fn wide<const STEP>(sum: __m256i, w: __m256i, a: *const u8) -> __m256i {
                    $wide(sum, w, broadcast::<STEP>(a))
                }
                fn product<const STEP>(sum: __m256, w: __m256, a: *const u8) -> __m256 {
                    _mm256_fmadd_ps(w, _mm256_castsi256_ps(broadcast::<STEP>(a)), sum)
                }
            }

            $(
                const FACTORS: bool = false;

                #[inline(always)]
                unsafe fn $levels<
                    const BLOCK: usize,
                    const FLUSH: usize,
                    const R: usize,
                    const T: usize,
                >(
                    n: usize,
                    panels: [Superblocks; R],
                    rows: &[Token; T],
                ) -> Sums<__m256, R, T> {
                    assert_eq!(R, 2, "registers of a panel");
                    let rows = rows[..].try_into().expect("tokens of a tile");
                    // SAFETY: by the contract, and as the head of `dot.rs` says: the second
                    // register has the rows behind the first one's.
                    let tile = unsafe { avx2::levels::<BLOCK, FLUSH>(n, panels[0], rows) };
                    let mut sums = [[Self::floats(0.0); T]; R];
                    for r in 0..R {
                        for t in 0..T {
                            sums[r][t] = tile[t][r];
                        }
                    }
                    sums
                }
            )?
        }
    };
}

dot!(Ymm, no_bytes, madd, levels);
dot!(YmmVnni, _mm256_dpbusd_avx_epi32, dpwssd);

/// Step `STEP` in all lanes.
///
/// # Safety
/// AVX2; the step can be read.
#[inline(always)]
unsafe fn broadcast<const STEP: i32>(from: *const u8) -> __m256i {
    // SAFETY: by the contract.
    unsafe { _mm256_set1_epi32(from.cast::<i32>().add(STEP as usize).read_unaligned()) }
}

fn no_bytes(_: __m256i, _: __m256i, _: __m256i) -> __m256i {
    unreachable!("levels have a product of their own, and bytes are asked for first")
}

/// `sum` plus the two products of the 16-bit halves of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn madd(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    let mut sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, a));
    // Else the compiler adds up products first, for which there are not enough registers.
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {} */", inout(ymm_reg) sum, options(pure, nomem, nostack, preserves_flags)) };
    sum
}

/// The same in one instruction. Given the intrinsic, the compiler multiplies and adds apart.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
pub(super) fn dpwssd(mut sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the processor has the instruction, and it touches these registers only.
    unsafe {
        asm!(
            "{{vex}} vpdpwssd {}, {}, {}",
            inout(ymm_reg) sum,
            in(ymm_reg) w,
            in(ymm_reg) a,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
