//! Run-time choice of instruction set, and the one place that calls a `target_feature` function.
//!
//! A [`Kernel`] is written once, in safe code over [`Lanes`]. [`dispatch`] compiles it once per
//! instruction set: its body is inlined into a function that has the features switched on. Only
//! IEEE operations that round the same everywhere are offered (there is no fused multiply-add, and
//! the compiler never forms one), so every path gives the same bits. Uses std only.

mod lanes;
mod prefetch;
mod registers;
pub mod tiles;

use std::fmt;

pub use lanes::{nearest_int, Lanes, ROUNDER, ROUND_LIMIT};
pub use prefetch::{prefetch, Ahead};

use lanes::Registers;

/// Code that gains from wide registers. `run` and all that it calls must be `#[inline(always)]`:
/// what is not inlined is compiled for the baseline.
pub trait Kernel {
    /// Does the work with `L`, or with `Wide` in loops that wait for their own results: it has
    /// more lanes.
    fn run<L: Lanes, Wide: Lanes>(self);
}

/// An instruction set for which the kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// What every processor of the target has: SSE2 on x86-64, NEON on AArch64.
    Portable,
    /// 256-bit registers.
    Avx2,
    /// 512-bit registers.
    Avx512,
    /// 128-bit registers of AArch64.
    Neon,
}

impl InstructionSet {
    const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// The ones this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|set| set.is_available()).collect()
    }

    /// The fastest one that this processor can run.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// True if this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        })
    }
}

/// Runs `kernel` compiled for `set`. Panics if this processor does not have it.
pub fn dispatch<K: Kernel>(set: InstructionSet, kernel: K) {
    assert!(set.is_available(), "this processor has no {set}");
    match set {
        InstructionSet::Portable => {
            kernel.run::<Registers<registers::Portable, 2>, Registers<registers::Portable, 4>>();
        }
        #[cfg(target_arch = "aarch64")]
        // NEON belongs to the baseline of the targets we build for.
        InstructionSet::Neon => {
            kernel.run::<Registers<registers::Neon, 4>, Registers<registers::Neon, 4>>();
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the assertion above has asked the processor for the features.
        InstructionSet::Avx2 => unsafe { avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the assertion above has asked the processor for the features.
        InstructionSet::Avx512 => unsafe { avx512(kernel) },
        #[allow(unreachable_patterns)]
        _ => unreachable!("asserted above"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<K: Kernel>(kernel: K) {
    kernel.run::<Registers<registers::Avx2, 2>, Registers<registers::Avx2, 4>>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) {
    kernel.run::<Registers<registers::Avx512, 1>, Registers<registers::Avx512, 2>>();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a [f32; 64], &'a mut f32);

    impl Kernel for Sum<'_> {
        #[inline(always)]
        fn run<L: Lanes, Wide: Lanes>(self) {
            let mut lanes = Wide::zero();
            for chunk in self.0.chunks_exact(Wide::LANES) {
                lanes = lanes + Wide::load(chunk);
            }
            let mut sums = [0.0; 64];
            lanes.store(&mut sums);
            *self.1 = sums.iter().sum();
        }
    }

    #[test]
    fn every_available_set_runs_the_kernel() {
        let available = InstructionSet::available();
        assert_eq!(available[0], InstructionSet::Portable);
        assert_eq!(available.last(), Some(&InstructionSet::best()));
        let values = std::array::from_fn(|i| i as f32);
        for set in available {
            let mut sum = 0.0;
            dispatch(set, Sum(&values, &mut sum));
            assert_eq!(sum, 2016.0, "{set}");
        }
    }
}
