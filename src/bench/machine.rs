//! What the processor's instructions and its memory allow, measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::matmul::{Arithmetic, Machine};

/// Rates of all threads together.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ceilings {
    /// Multiply-adds of bytes: what K-quants use, and Q8_0 where four are added up at once.
    pub int8_per_s: f64,
    /// Multiply-adds of 16-bit numbers: what Q8_0 uses elsewhere, and on x86-64 bf16 without
    /// products of it.
    pub int16_per_s: f64,
    /// Multiply-adds of BF16; null on a processor without them.
    pub bf16_per_s: Option<f64>,
    /// Multiply-adds of 16-bit numbers by Winograd's inner product, which is two of them for each
    /// product: what bf16 uses where that is faster; null elsewhere.
    pub winograd_per_s: Option<f64>,
    /// Multiply-adds of f32.
    pub f32_per_s: f64,
    /// Bytes read from memory.
    pub read_bytes_per_s: f64,
}

/// How long each rate is measured; the best of three such spans counts.
const SPAN: Duration = Duration::from_millis(50);

/// More than the caches of one thread hold.
const READ_BYTES: usize = 64 << 20;

/// `None` on processors without products of our own.
pub(super) fn ceilings(n_threads: usize) -> Option<Ceilings> {
    let machine = Machine::detect()?;
    let rate = |arithmetic| {
        all_threads(n_threads, || {
            best(|| (0..64).map(|_| machine.multiply_adds(arithmetic, 4096)).sum())
        })
    };
    let memory = vec![1u64; READ_BYTES / 8];
    let read = || {
        black_box(memory.iter().fold(0u64, |sum, value| sum.wrapping_add(*value)));
        READ_BYTES as u64
    };
    Some(Ceilings {
        int8_per_s: rate(Arithmetic::Int8),
        int16_per_s: rate(Arithmetic::Int16),
        bf16_per_s: machine.has_pairs().then(|| rate(Arithmetic::BF16)),
        winograd_per_s: machine.has_winograd().then(|| rate(Arithmetic::Winograd)),
        f32_per_s: rate(Arithmetic::Float),
        read_bytes_per_s: all_threads(n_threads, || best(read)),
    })
}

impl Ceilings {
    /// The one for `arithmetic`.
    pub fn of(&self, arithmetic: Arithmetic) -> f64 {
        match arithmetic {
            Arithmetic::Int8 => self.int8_per_s,
            Arithmetic::Int16 => self.int16_per_s,
            Arithmetic::BF16 => self.bf16_per_s.unwrap_or(0.0),
            Arithmetic::Winograd => self.winograd_per_s.unwrap_or(0.0),
            Arithmetic::Float => self.f32_per_s,
        }
    }
}

/// Sum of what `rate` gives on each of `n` threads at once.
fn all_threads(n: usize, rate: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n).map(|_| scope.spawn(&rate)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    })
}

/// Units per second: `work` says how many it did.
fn best(work: impl Fn() -> u64) -> f64 {
    let span = || {
        let begin = Instant::now();
        let mut done = 0;
        while begin.elapsed() < SPAN {
            done += work();
        }
        done as f64 / begin.elapsed().as_secs_f64()
    };
    (0..3).map(|_| span()).fold(0.0, f64::max)
}
