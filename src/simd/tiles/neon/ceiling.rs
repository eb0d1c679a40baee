//! The instructions of the products alone, from registers to registers: what no product can beat.

use std::arch::aarch64::*;
use std::arch::asm;

use super::registers::Quad;
use super::Set;
use crate::simd::tiles::dot::{Dot, DotPairs};
use crate::simd::tiles::{Arithmetic, TileMachine};

impl TileMachine {
    /// Does `n` rounds of the multiply-adds of `arithmetic` and says how many that were: none if
    /// the processor has no such instruction.
    pub fn multiply_adds(self, arithmetic: Arithmetic, n: usize) -> u64 {
        // SAFETY: `self` says what the processor has.
        let a_round = unsafe {
            match (self.0, arithmetic) {
                (_, Arithmetic::Int8) => int8(n),
                (_, Arithmetic::Int16) => int16(n),
                (Set::Dot, Arithmetic::BF16) | (_, Arithmetic::Winograd) => return 0,
                (Set::Bf16, Arithmetic::BF16) => bf16(n),
                (_, Arithmetic::Float) => float(n),
            }
        };
        a_round * n as u64
    }
}

/// Sums side by side, enough that none is waited for.
const SUMS: usize = 16;

/// Repeats `$add` of a sum and two factors, sixteen different pairs of them.
macro_rules! rounds {
    ($n:ident, $zero:expr, $add:expr) => {
        let (mut a, mut b, mut sums) = ([$zero; SUMS / 4], [$zero; 4], [$zero; SUMS]);
        for _ in 0..$n {
            // The factors are different ones as far as the compiler knows, so it has to compute
            // all products of all rounds.
            a.iter_mut().chain(&mut b).chain(&mut sums).for_each(|register| {
                // SAFETY: no instruction at all.
                unsafe { asm!("/* {0:v} */", inout(vreg) * register, options(nomem, nostack)) };
            });
            for i in 0..SUMS {
                sums[i] = $add(sums[i], a[i / 4], b[i % 4]);
            }
        }
        std::hint::black_box(sums);
    };
}

/// Bytes times bytes, added up in 32 bits.
#[target_feature(enable = "neon,dotprod")]
fn int8(n: usize) -> u64 {
    // SAFETY: the processor has the instruction, and a register is always there.
    rounds!(n, vdupq_n_s32(0), |sum, a, b| unsafe { Quad::bytes::<0>(sum, a, b) });
    16 * SUMS as u64
}

/// 16 bits times 16 bits, added up in 32.
#[target_feature(enable = "neon")]
fn int16(n: usize) -> u64 {
    rounds!(n, vdupq_n_s32(0), |sum, a, b| {
        vmlal_high_s16(sum, vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b))
    });
    4 * SUMS as u64
}

/// BF16 times BF16, added up in f32.
#[target_feature(enable = "neon,bf16")]
fn bf16(n: usize) -> u64 {
    rounds!(n, vdupq_n_s32(0), |sum, a, b| {
        // SAFETY: the processor has the instruction, and a register is always there.
        let sum = unsafe { Quad::pairs::<0>(vreinterpretq_f32_s32(sum), a, b) };
        vreinterpretq_s32_f32(sum)
    });
    8 * SUMS as u64
}

#[target_feature(enable = "neon")]
fn float(n: usize) -> u64 {
    rounds!(n, vdupq_n_f32(0.0), |sum, a, b| vfmaq_f32(sum, a, b));
    4 * SUMS as u64
}
