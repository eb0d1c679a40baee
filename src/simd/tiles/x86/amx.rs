//! AMX: eight registers of 1024 bytes, tiles, and products of two of them.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::zmm::Zmm;
use crate::simd::tiles::grid::{Grid, Operands, Shape, Sums};

/// Whether the processor has tiles and products of bytes and of BF16, and the system lets this
/// process use them: Linux wants to be asked, because tiles make the state of a thread larger.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted())
}

fn has_instructions() -> bool {
    const LEAF: u32 = 7;
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    #[allow(unused_unsafe)]
    // SAFETY: every processor of x86-64 has the instruction, and what it says of leaf 0 is how many
    // there are.
    let bits = unsafe {
        match __cpuid_count(0, 0).eax {
            LEAF.. => __cpuid_count(LEAF, 0).edx,
            _ => 0,
        }
    };
    bits & BF16_TILE_INT8 == BF16_TILE_INT8
}

#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: i32 = 0x1023;
    const XFEATURE_XTILEDATA: i32 = 18;
    // SAFETY: the call reads and writes no memory of ours. A kernel that does not know it fails.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// What `ldtilecfg` reads: which registers have how many rows of how many bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Config {
    /// 0: no tiles. 1: eight of up to 16 rows of 64 bytes.
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    const fn none() -> Self {
        Self { palette: 0, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] }
    }

    /// Sums in registers 0 to 3, tokens in 4 and 5, panels in 6 and 7.
    fn new(shape: Shape) -> Self {
        let mut config = Self { palette: 1, ..Self::none() };
        let [first, second] = shape.rows;
        let full = 64;
        let steps = 4 * shape.steps;
        let tiles = [
            (first, full),
            (first, full),
            (second, full),
            (second, full),
            (first, steps),
            (second, steps),
            (shape.steps, full),
            (shape.steps, full),
        ];
        for (i, (rows, bytes)) in tiles.into_iter().enumerate() {
            (config.rows[i], config.row_bytes[i]) = (rows as u8, bytes as u16);
        }
        config
    }

    /// # Safety
    /// The processor has tiles, and these are such as it has.
    #[inline(always)]
    unsafe fn load(&self) {
        // SAFETY: by the contract. The instruction reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, preserves_flags)) }
    }

    /// # Safety
    /// The processor has tiles.
    #[inline(always)]
    unsafe fn now() -> Self {
        let mut config = Self::none();
        // SAFETY: by the contract. The instruction writes 64 bytes.
        unsafe {
            asm!("sttilecfg [{}]", in(reg) &raw mut config, options(nostack, preserves_flags))
        }
        config
    }
}

/// Leaves a thread's tiles as they were: others may use them too, and count on their shapes.
pub(super) struct Restored(Config);

impl Restored {
    /// # Safety
    /// The processor has tiles.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        // SAFETY: by the contract.
        Self(unsafe { Config::now() })
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // SAFETY: `new` was called, so the processor has tiles, and this is what it had.
        unsafe { self.0.load() }
    }
}

/// Runs `$product` over the operands. The tiles hold nothing before and after.
macro_rules! products {
    ($product:literal, $operands:ident, $out:ident) => {{
        let Operands { n, tokens, stride, panels } = $operands;
        debug_assert!(n > 0);
        // SAFETY: by the contract of the caller. The instructions read the operands and write the
        // four tiles of `out`, at most 1024 bytes each.
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a0} + {stride}]",
            "tileloadd tmm6, [{b0} + {line}]",
            concat!($product, " tmm0, tmm4, tmm6"),
            "tileloadd tmm7, [{b1} + {line}]",
            concat!($product, " tmm1, tmm4, tmm7"),
            "tileloadd tmm5, [{a1} + {stride}]",
            concat!($product, " tmm2, tmm5, tmm6"),
            concat!($product, " tmm3, tmm5, tmm7"),
            "add {a0}, 64",
            "add {a1}, 64",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {line}], tmm0",
            "tilestored [{out} + {line} + 1024], tmm1",
            "tilestored [{out} + {line} + 2048], tmm2",
            "tilestored [{out} + {line} + 3072], tmm3",
            a0 = inout(reg) tokens[0] => _,
            a1 = inout(reg) tokens[1] => _,
            b0 = inout(reg) panels[0] => _,
            b1 = inout(reg) panels[1] => _,
            n = inout(reg) n => _,
            stride = in(reg) stride,
            line = in(reg) 64usize,
            out = in(reg) $out.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    }};
}

/// One product of signed bytes.
macro_rules! product {
    ($sums:literal, $tokens:literal, $a:ident, $stride:ident, $b:ident, $out:ident) => {
        // SAFETY: by the contract of the caller, as above.
        asm!(
            concat!("tilezero ", $sums),
            concat!("tileloadd ", $tokens, ", [{a} + {stride}]"),
            "tileloadd tmm6, [{b} + {line}]",
            concat!("tdpbssd ", $sums, ", ", $tokens, ", tmm6"),
            concat!("tilestored [{out} + {line}], ", $sums),
            a = in(reg) $a,
            b = in(reg) $b,
            stride = in(reg) $stride,
            line = in(reg) 64usize,
            out = in(reg) $out,
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack, preserves_flags),
        )
    };
}

impl Grid for Zmm {
    #[inline(always)]
    unsafe fn configure(shape: Shape) {
        // SAFETY: by the contract; a shape has 1 to 16 rows and steps.
        unsafe { Config::new(shape).load() }
    }

    #[inline(always)]
    unsafe fn byte_tiles<const SIGNED: bool>(_: Shape, operands: Operands, out: &mut Sums) {
        // SAFETY: by the contract.
        unsafe {
            if SIGNED {
                products!("tdpbssd", operands, out);
            } else {
                products!("tdpbsud", operands, out);
            }
        }
    }

    #[inline(always)]
    unsafe fn byte_tile<const SECOND: bool>(
        _: Shape,
        tokens: *const u8,
        stride: usize,
        panel: *const u8,
        out: *mut u8,
    ) {
        // SAFETY: by the contract.
        unsafe {
            if SECOND {
                product!("tmm2", "tmm5", tokens, stride, panel, out);
            } else {
                product!("tmm0", "tmm4", tokens, stride, panel, out);
            }
        }
    }

    #[inline(always)]
    unsafe fn pair_tiles(_: Shape, operands: Operands, out: &mut Sums) {
        // SAFETY: by the contract.
        unsafe { products!("tdpbf16ps", operands, out) }
    }
}

/// Rounds of `$product` from registers to registers.
macro_rules! rounds {
    ($product:literal, $n:ident) => {{
        let shape = Shape { rows: [16; 2], steps: 16 };
        // SAFETY: by the contract of the caller.
        unsafe {
            let _before = Restored::new();
            Zmm::configure(shape);
            asm!(
                "2:",
                concat!($product, " tmm0, tmm4, tmm6"),
                concat!($product, " tmm1, tmm4, tmm7"),
                concat!($product, " tmm2, tmm5, tmm6"),
                concat!($product, " tmm3, tmm5, tmm7"),
                "dec {n}",
                "jnz 2b",
                n = inout(reg) $n.max(1) => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            );
        }
        4 * 16 * 16 * 16
    }};
}

/// `n` rounds of products of bytes; how many a round has.
///
/// # Safety
/// The processor has tiles.
pub(super) unsafe fn int8(n: usize) -> u64 {
    rounds!("tdpbssd", n) * 4
}

/// `n` rounds of products of BF16; how many a round has.
///
/// # Safety
/// The processor has tiles.
pub(super) unsafe fn bf16(n: usize) -> u64 {
    rounds!("tdpbf16ps", n) * 2
}
