//! x86-64 with AVX2, FMA and F16C, and what processors have beyond.

mod amx;
mod avx2;
mod ceiling;
mod round;
mod unpack;
mod winograd;
mod ymm;
mod zmm;

use super::grid::{self, GridWork, Planes, TILE_STEPS};
use super::products::{run, Bytes, Pairs, Work};
use super::winograd::{run_winograd, Winograd};
use super::{Columns, PlanesPanels, Tokens, TILE_TOKENS};
use ymm::{Ymm, YmmVnni};
use zmm::Zmm;

/// Which instructions the products use; everything else uses AVX2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Set {
    /// AVX2, FMA and F16C.
    Avx2,
    /// And products of bytes and of 16-bit numbers that add to a sum of 32 bits.
    AvxVnni,
    /// The same in registers of 512 bits.
    Avx512Vnni,
    /// And products of BF16.
    Avx512Bf16,
    /// And additions of whole numbers that run beside products.
    Avx512Winograd,
    /// And products of whole tiles, but without those additions.
    Amx,
}

impl Set {
    /// All that this processor can run, slowest first.
    pub(super) fn available() -> Vec<Self> {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx_vnni = avx2 && is_x86_feature_detected!("avxvnni");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        let bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
        let amx = bf16 && amx::is_available();
        let sets = [
            (avx2, Self::Avx2),
            (avx_vnni, Self::AvxVnni),
            (avx512, Self::Avx512Vnni),
            (bf16, Self::Avx512Bf16),
            (bf16 && winograd::is_faster(), Self::Avx512Winograd),
            (amx, Self::Amx),
        ];
        sets.into_iter().filter_map(|(there, set)| there.then_some(set)).collect()
    }

    /// `dpbusd` takes weights as unsigned bytes, tiles as either.
    pub(super) fn byte_offset(self) -> u8 {
        match self {
            Self::Amx => 0,
            _ => 128,
        }
    }

    pub(super) fn has_planes(self) -> bool {
        self >= Self::Amx
    }

    pub(super) fn has_factors(self) -> bool {
        self >= Self::AvxVnni
    }

    pub(super) fn has_bytes(self) -> bool {
        self >= Self::AvxVnni
    }

    pub(super) fn has_pairs(self) -> bool {
        self >= Self::Avx512Bf16
    }

    pub(super) fn has_winograd(self) -> bool {
        self == Self::Avx512Winograd
    }

    pub(super) fn has_wide(self) -> bool {
        true
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512Winograd => "avx512-winograd",
            Self::Amx => "amx",
        }
    }

    /// Does `work` on this set's registers.
    pub(super) fn run(
        self,
        work: &(impl Work<Ymm> + Work<YmmVnni> + Work<Zmm>),
        out: &mut Columns<'_>,
    ) {
        // SAFETY: the set says what the processor has.
        unsafe {
            match self {
                Self::Avx2 => avx2(work, out),
                Self::AvxVnni => avx_vnni(work, out),
                Self::Avx512Vnni | Self::Avx512Bf16 | Self::Avx512Winograd | Self::Amx => {
                    avx512_vnni(work, out);
                }
            }
        }
    }

    /// Does `work` whose sums need no registers beside them.
    pub(super) fn run_steps(
        self,
        work: &(impl Work<Ymm> + Work<YmmVnni> + Work<Zmm>),
        out: &mut Columns<'_>,
    ) {
        match self {
            Self::Avx2 | Self::AvxVnni => self.run(work, out),
            Self::Avx512Vnni | Self::Avx512Bf16 | Self::Avx512Winograd | Self::Amx => {
                // SAFETY: the set says what the processor has.
                unsafe { avx512(work, out) }
            }
        }
    }

    /// Sums of `n` superblocks. Panics where there are no tiles.
    pub(super) fn run_planes(
        self,
        panels: PlanesPanels<'_>,
        tokens: Tokens<'_>,
        n: usize,
        mut out: Columns<'_>,
    ) {
        assert!(self.has_planes(), "products of planes on {}", self.name());
        let pairs = panels.mins.len() / (2 * panels.d.len()).max(1);
        // SAFETY: asserted.
        unsafe {
            match pairs {
                0 => amx(&Planes::<0>::new(panels, tokens, n, &out), &mut out),
                4 => amx(&Planes::<4>::new(panels, tokens, n, &out), &mut out),
                _ => amx(&Planes::<8>::new(panels, tokens, n, &out), &mut out),
            }
        }
    }

    /// Does `work`.
    pub(super) fn run_bytes(self, work: &Bytes<'_>, out: &mut Columns<'_>) {
        match self {
            // SAFETY: the set says what the processor has.
            Self::Amx => unsafe { amx(work, out) },
            _ => self.run(work, out),
        }
    }

    /// Does `work`. Panics where there are no such products.
    pub(super) fn run_winograd(self, work: &Winograd<'_>, out: &mut Columns<'_>) {
        assert!(self.has_winograd(), "Winograd's products on {}", self.name());
        // SAFETY: asserted; the only caller has made `work` for this `out`.
        unsafe { avx512_winograd(work, out) }
    }

    /// Does `work` that needs products of BF16. Panics where there are none.
    pub(super) fn run_pairs(self, work: &Pairs<'_>, out: &mut Columns<'_>) {
        assert!(self.has_pairs(), "products of BF16 on {}", self.name());
        let whole = work.n > 0 && work.n.is_multiple_of(TILE_STEPS);
        // SAFETY: asserted, and the set says what the processor has.
        unsafe {
            match self {
                Self::Amx if whole => amx(work, out),
                _ => avx512_bf16(work, out),
            }
        }
    }
}

/// Panels of Winograd's products at a time: their sums, and what these are made from, fit
/// into 32 registers.
const WINOGRAD_AT_ONCE: usize = 4;

/// # Safety
/// AVX-512 with BW and VNNI, and `work` was made for this `out`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512_winograd(work: &Winograd<'_>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run_winograd::<Zmm, WINOGRAD_AT_ONCE>(work, out) }
}

/// # Safety
/// AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(work: &impl Work<Ymm>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run::<Ymm, _, 2, TILE_TOKENS>(work, out) }
}

/// # Safety
/// AVX-VNNI, AVX2 and FMA.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn avx_vnni(work: &impl Work<YmmVnni>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run::<YmmVnni, _, 2, TILE_TOKENS>(work, out) }
}

/// Two panels at a time, because otherwise more operands are loaded than there are products.
///
/// # Safety
/// AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512_vnni(work: &impl Work<Zmm>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run::<Zmm, _, 2, TILE_TOKENS>(work, out) }
}

/// Tokens that meet two panels at a time where a sum takes one register. Products take four to six
/// cycles, and there are processors that begin two in each: with sixteen sums none is waited for.
const STEP_TOKENS: usize = 8;

/// # Safety
/// AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn avx512(work: &impl Work<Zmm>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run::<Zmm, _, 2, STEP_TOKENS>(work, out) }
}

/// # Safety
/// AVX-512 with products of BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16(work: &impl Work<Zmm>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe { run::<Zmm, _, 2, STEP_TOKENS>(work, out) }
}

/// # Safety
/// AMX with products of bytes and of BF16, AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn amx(work: &impl GridWork<Zmm>, out: &mut Columns<'_>) {
    // SAFETY: by the contract.
    unsafe {
        let _before = amx::Restored::new();
        grid::run(work, out);
    }
}
