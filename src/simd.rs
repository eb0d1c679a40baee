//! Run-time choice of instruction set, and the one place that calls a `target_feature` function.
//!
//! A [`Kernel`] is written once, in safe code over arrays of `W` floats. [`dispatch`] compiles it
//! once per instruction set: its body is inlined into a function that has the features switched
//! on, and `W` is what suits their registers. Only IEEE operations that round the same everywhere
//! are used (no fused multiply-add is ever formed from a product and a sum), so every path gives
//! the same bits. Uses std only.

use std::fmt;

/// Code that gains from wide registers. `run` and all that it calls must be `#[inline(always)]`:
/// what is not inlined is compiled for the baseline.
pub trait Kernel {
    /// Does the work. `W` floats are computed side by side; `WIDE` is twice as many, for loops
    /// that wait for their own results.
    fn run<const W: usize, const WIDE: usize>(self);
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
        InstructionSet::Portable => kernel.run::<8, 8>(),
        InstructionSet::Neon => kernel.run::<8, 16>(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the assertion above has asked the processor for the features.
        InstructionSet::Avx2 => unsafe { avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the assertion above has asked the processor for the features.
        InstructionSet::Avx512 => unsafe { avx512(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        InstructionSet::Avx2 | InstructionSet::Avx512 => unreachable!("asserted above"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<K: Kernel>(kernel: K) {
    kernel.run::<16, 32>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) {
    kernel.run::<16, 32>();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a [f32; 64], &'a mut f32);

    impl Kernel for Sum<'_> {
        #[inline(always)]
        fn run<const W: usize, const WIDE: usize>(self) {
            let mut lanes = [0.0; WIDE];
            for chunk in self.0.chunks_exact(WIDE) {
                for (lane, value) in lanes.iter_mut().zip(chunk) {
                    *lane += value;
                }
            }
            *self.1 = lanes.iter().sum();
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
