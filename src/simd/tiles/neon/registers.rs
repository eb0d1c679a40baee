//! Registers of 128 bits: four of a panel's sixteen rows.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::simd::tiles::dot::{memory, registers, Dot, DotPairs};

/// NEON with products of bytes, and with those of BF16 for [`DotPairs`].
#[derive(Clone, Copy)]
pub(in crate::simd::tiles) struct Quad;

/// One instruction that adds to `$sum`: the standard library has no stable function for it.
macro_rules! add {
    ($text:literal, $sum:ident, $w:ident, $a:ident) => {{
        let mut sum = $sum;
        // SAFETY: see the head of `dot.rs`; it touches these registers only.
        unsafe {
            asm!(
                $text,
                sum = inout(vreg) sum,
                w = in(vreg) $w,
                a = in(vreg) $a,
                step = const STEP,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }};
}

impl Dot for Quad {
    const LANES: usize = 4;
    type Int = int32x4_t;
    type Float = float32x4_t;
    /// A lane for each step.
    type Four = int32x4_t;
    /// The first number of each row and the second.
    type Wide = [int16x4_t; 2];

    registers! {
        fn ints(value: i32) -> int32x4_t { vdupq_n_s32(value) }
        fn floats(value: f32) -> float32x4_t { vdupq_n_f32(value) }
        fn to_floats(ints: int32x4_t) -> float32x4_t { vcvtq_f32_s32(ints) }
        fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
        fn fnma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmsq_f32(c, a, b) }
    }

    memory! {
        fn load_ints(from: *const u8) -> int32x4_t { vreinterpretq_s32_u8(vld1q_u8(from)) }
        fn load_floats(from: *const f32) -> float32x4_t { vld1q_f32(from) }
        fn store(to: *mut f32, value: float32x4_t) { vst1q_f32(to, value) }
        fn four(from: *const u8) -> int32x4_t { vreinterpretq_s32_u8(vld1q_u8(from)) }
        fn one(from: *const u8) -> int32x4_t { vdupq_n_s32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_wide(from: *const u8) -> [int16x4_t; 2] {
        // SAFETY: by the contract, and as the head of `dot.rs` says.
        unsafe {
            let pairs = vreinterpretq_s32_u8(vld1q_u8(from));
            [vmovn_s32(pairs), vshrn_n_s32::<16>(pairs)]
        }
    }

    #[inline(always)]
    unsafe fn bytes<const STEP: i32>(sum: int32x4_t, w: int32x4_t, a: int32x4_t) -> int32x4_t {
        add!("sdot {sum:v}.4s, {w:v}.16b, {a:v}.4b[{step}]", sum, w, a)
    }

    #[inline(always)]
    unsafe fn wide<const STEP: i32>(sum: int32x4_t, w: [int16x4_t; 2], a: int32x4_t) -> int32x4_t {
        // SAFETY: see the head of `dot.rs`.
        unsafe {
            let a = vreinterpretq_s16_s32(a);
            match STEP {
                0 => vmlal_laneq_s16::<1>(vmlal_laneq_s16::<0>(sum, w[0], a), w[1], a),
                1 => vmlal_laneq_s16::<3>(vmlal_laneq_s16::<2>(sum, w[0], a), w[1], a),
                2 => vmlal_laneq_s16::<5>(vmlal_laneq_s16::<4>(sum, w[0], a), w[1], a),
                _ => vmlal_laneq_s16::<7>(vmlal_laneq_s16::<6>(sum, w[0], a), w[1], a),
            }
        }
    }

    #[inline(always)]
    unsafe fn product<const STEP: i32>(
        sum: float32x4_t,
        w: float32x4_t,
        a: int32x4_t,
    ) -> float32x4_t {
        // SAFETY: see the head of `dot.rs`.
        unsafe { vfmaq_laneq_f32::<STEP>(sum, w, vreinterpretq_f32_s32(a)) }
    }
}

impl DotPairs for Quad {
    #[inline(always)]
    unsafe fn pairs<const STEP: i32>(sum: float32x4_t, w: int32x4_t, a: int32x4_t) -> float32x4_t {
        add!("bfdot {sum:v}.4s, {w:v}.8h, {a:v}.2h[{step}]", sum, w, a)
    }
}
