//! Weights per second of our quantizers beside ggml's, on the same buffer, one thread.
//!
//! ```text
//! cargo bench --bench quantize [-- TYPE]
//! ```
//! ggml and every instruction set take turns, so that what else the machine does falls on all of
//! them alike; a line has the median of the turns and, for each instruction set, the median of its
//! ratios to ggml in the same turn with their lowest and highest. The bytes are compared before
//! anything is timed. Q8_0 is also timed beside memcpy, on a buffer larger than the caches.

mod timing;

use std::hint::black_box;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use rwkvq::ggml::{self, TensorType};
use rwkvq::quant::{self, InstructionSet};
use timing::{median, seconds};

/// Weights in the buffer, and in a row.
const N: usize = 1 << 20;
const N_COLS: usize = 2048;

/// Weights in the buffer larger than the caches.
const STREAM: usize = 1 << 25;

/// Turns after one that warms up.
const TURNS: usize = 5;

/// Timed calls last at least this long each.
const AT_LEAST: Duration = Duration::from_millis(30);

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let normal = Normal::new(0.0, 0.02).expect("positive deviation");
    let src: Vec<f32> = (0..N).map(|_| normal.sample(&mut rng)).collect();
    let columns: Vec<f32> = src[..N_COLS].iter().map(|v| v * v + 1e-5).collect();
    println!("{N} weights in rows of {N_COLS}, one thread; M weights/s, median of {TURNS} turns");
    streaming();
    for &ty in TensorType::ALL.iter().filter(|&&ty| quant::supports(ty)) {
        if only.as_ref().is_none_or(|only| *only == ty.name()) {
            compare(ty, &src, None);
            compare(ty, &src, Some(&columns));
        }
    }
}

fn compare(ty: TensorType, src: &[f32], importance: Option<&[f32]>) {
    let mut out = vec![0; N / ty.block_len() * ty.block_bytes()];
    ggml::quantize(ty, src, N_COLS, importance, &mut out);
    let expected = out.clone();
    let sets = InstructionSet::available();
    for &set in &sets {
        quant::quantize_on(set, ty, src, N_COLS, importance, &mut out);
        assert!(out == expected, "{ty} on {set} differs from ggml");
    }
    let mut theirs = Vec::new();
    let mut ours = vec![Vec::new(); sets.len()];
    for turn in 0..=TURNS {
        let peer =
            seconds(AT_LEAST, || ggml::quantize(ty, black_box(src), N_COLS, importance, &mut out));
        let mut times = Vec::new();
        for &set in &sets {
            times.push(seconds(AT_LEAST, || {
                quant::quantize_on(set, ty, black_box(src), N_COLS, importance, &mut out);
            }));
        }
        if turn > 0 {
            theirs.push(peer);
            for (all, time) in ours.iter_mut().zip(times) {
                all.push((time, peer / time));
            }
        }
    }
    print!("{ty} {:10}", if importance.is_some() { "importance" } else { "" });
    print!(" ggml {:7.1}", N as f64 / median(theirs) / 1e6);
    for (set, times) in sets.iter().zip(ours) {
        let (times, ratios): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        let (rate, ratio) = (N as f64 / median(times) / 1e6, median(ratios));
        print!("   {set} {rate:7.1} ({ratio:.2}x, {low:.2} to {high:.2})");
    }
    println!();
}

/// GB/s read by Q8_0 and by memcpy, in turns.
fn streaming() {
    let src = vec![0.5f32; STREAM];
    let mut copy = vec![0.0f32; STREAM];
    let mut out = vec![0; STREAM / 32 * 34];
    let (mut copies, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let times = (
            seconds(AT_LEAST, || copy.copy_from_slice(black_box(&src))),
            seconds(AT_LEAST, || {
                quant::quantize(TensorType::Q8_0, black_box(&src), STREAM, None, &mut out)
            }),
        );
        if turn > 0 {
            copies.push(times.0);
            ours.push(times.1);
        }
    }
    black_box(copy);
    let rate = |times| 4.0 * STREAM as f64 / median(times) / 1e9;
    let (memcpy, q8_0) = (rate(copies), rate(ours));
    println!("{STREAM} weights: memcpy reads {memcpy:.1} GB/s, q8_0 {q8_0:.1} GB/s");
}
