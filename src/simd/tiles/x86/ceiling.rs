//! The instructions of the products alone, from registers to registers: what no product can beat.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{amx, ymm, zmm, Set};
use crate::simd::tiles::{Arithmetic, TileMachine};

impl TileMachine {
    /// Does `n` rounds of the multiply-adds of `arithmetic` and says how many that were: none if
    /// the processor has no such instruction.
    pub fn multiply_adds(self, arithmetic: Arithmetic, n: usize) -> u64 {
        // SAFETY: `self` says what the processor has.
        let a_round = unsafe {
            match (self.0, arithmetic) {
                (Set::Avx2, Arithmetic::Int8) => int8(n),
                (Set::Avx2, Arithmetic::Int16) => int16(n),
                (Set::AvxVnni, Arithmetic::Int8) => int8_vnni(n),
                (Set::AvxVnni, Arithmetic::Int16) => int16_vnni(n),
                (Set::Avx2 | Set::AvxVnni, Arithmetic::Float) => float(n),
                (Set::Amx, Arithmetic::Int8) => amx::int8(n),
                (Set::Amx, Arithmetic::BF16) => amx::bf16(n),
                (Set::Avx512Bf16 | Set::Avx512Winograd, Arithmetic::BF16) => bf16(n),
                (Set::Avx512Winograd, Arithmetic::Winograd) => winograd(n),
                (_, Arithmetic::BF16 | Arithmetic::Winograd) => return 0,
                (_, Arithmetic::Int8) => int8_512(n),
                (_, Arithmetic::Int16) => int16_512(n),
                (_, Arithmetic::Float) => float_512(n),
            }
        };
        a_round * n as u64
    }
}

/// Sums side by side, as many as there are registers for, so that none is waited for.
const SUMS: usize = 8;

/// The same in registers of 512 bits, of which there are twice as many.
const SUMS_512: usize = 16;

/// Repeats `$add` of `$sums` sums and two factors, as many different pairs of them.
macro_rules! rounds {
    ($n:ident, $sums:ident, $class:ident, $zero:expr, $add:expr) => {
        let (mut a, mut b, mut sums) = ([$zero; $sums / 2], [$zero; 2], [$zero; $sums]);
        for _ in 0..$n {
            // The factors are different ones as far as the compiler knows, so it has to compute
            // all products of all rounds.
            a.iter_mut().chain(&mut b).chain(&mut sums).for_each(|register| {
                // SAFETY: no instruction at all.
                unsafe { asm!("/* {} */", inout($class) * register, options(nomem, nostack)) };
            });
            for i in 0..$sums {
                sums[i] = $add(sums[i], a[i / 2], b[i % 2]);
            }
        }
        std::hint::black_box(sums);
    };
}

/// Bytes times bytes, added up in 16 bits.
#[target_feature(enable = "avx2")]
fn int8(n: usize) -> u64 {
    rounds!(n, SUMS, ymm_reg, _mm256_setzero_si256(), |sum, a, b| {
        _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b))
    });
    32 * SUMS as u64
}

/// 16 bits times 16 bits, added up in 32.
#[target_feature(enable = "avx2")]
fn int16(n: usize) -> u64 {
    rounds!(n, SUMS, ymm_reg, _mm256_setzero_si256(), |sum, a, b| {
        _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    });
    16 * SUMS as u64
}

#[target_feature(enable = "avx2,fma")]
fn float(n: usize) -> u64 {
    rounds!(n, SUMS, ymm_reg, _mm256_setzero_ps(), |sum, a, b| _mm256_fmadd_ps(a, b, sum));
    8 * SUMS as u64
}

/// Bytes times bytes, added up in 32 bits.
#[target_feature(enable = "avx2,avxvnni")]
fn int8_vnni(n: usize) -> u64 {
    rounds!(n, SUMS, ymm_reg, _mm256_setzero_si256(), |sum, a, b| {
        _mm256_dpbusd_avx_epi32(sum, a, b)
    });
    32 * SUMS as u64
}

/// 16 bits times 16 bits, added up in 32.
#[target_feature(enable = "avx2,avxvnni")]
fn int16_vnni(n: usize) -> u64 {
    rounds!(n, SUMS, ymm_reg, _mm256_setzero_si256(), |sum, a, b| ymm::dpwssd(sum, a, b));
    16 * SUMS as u64
}

/// Bytes times bytes, added up in 32 bits, twice as many.
#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_512(n: usize) -> u64 {
    rounds!(n, SUMS_512, zmm_reg, _mm512_setzero_si512(), |sum, a, b| {
        _mm512_dpbusd_epi32(sum, a, b)
    });
    64 * SUMS_512 as u64
}

/// 16 bits times 16 bits, added up in 32.
#[target_feature(enable = "avx512f,avx512vnni")]
fn int16_512(n: usize) -> u64 {
    rounds!(n, SUMS_512, zmm_reg, _mm512_setzero_si512(), |sum, a, b| zmm::dpwssd(sum, a, b));
    32 * SUMS_512 as u64
}

/// BF16 times BF16, added up in f32.
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16(n: usize) -> u64 {
    rounds!(n, SUMS_512, zmm_reg, _mm512_setzero_si512(), |sum, a, b| {
        _mm512_castps_si512(zmm::dpbf16(_mm512_castsi512_ps(sum), a, b))
    });
    32 * SUMS_512 as u64
}

/// Two sums of 16 bits for each product of them, which stands for two.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn winograd(n: usize) -> u64 {
    rounds!(
        n,
        SUMS_512,
        zmm_reg,
        _mm512_setzero_si512(),
        |mut sum: __m512i, a: __m512i, b: __m512i| {
            // SAFETY: the processor has the instructions, and they touch these registers only.
            unsafe {
                asm!(
                    "vpaddw {x}, {a}, {b}",
                    "vpaddw {y}, {b}, {a}",
                    "vpdpwssd {sum}, {x}, {y}",
                    sum = inout(zmm_reg) sum,
                    a = in(zmm_reg) a,
                    b = in(zmm_reg) b,
                    x = out(zmm_reg) _,
                    y = out(zmm_reg) _,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        }
    );
    64 * SUMS_512 as u64
}

#[target_feature(enable = "avx512f")]
fn float_512(n: usize) -> u64 {
    rounds!(n, SUMS_512, zmm_reg, _mm512_setzero_ps(), |sum, a, b| _mm512_fmadd_ps(a, b, sum));
    16 * SUMS_512 as u64
}
