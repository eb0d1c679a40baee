//! Compares our quantizers with ggml's over many weights: every type, every instruction set of this
//! processor, with and without an importance matrix.
//!
//! ```text
//! cargo run --release --example check_quantizers -- 100000000
//! ```
//! The argument is the number of weights of each type, 10^8 unless given. Stops at the first block
//! that differs; prints what was compared otherwise.

use std::process::ExitCode;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Cauchy, Distribution, StandardNormal};
use rayon::prelude::*;
use rwkvq::ggml::{self, TensorType};
use rwkvq::quant::{self, InstructionSet};

/// Weights that are drawn, quantized and compared at a time.
const CHUNK: usize = 1 << 19;

/// Weights in a row.
const N_COLS: usize = 2048;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "100000000".to_owned());
    let Ok(n_weights) = argument.parse::<usize>() else {
        eprintln!("error: {argument} is not a number of weights");
        return ExitCode::from(2);
    };
    let sets: Vec<String> = InstructionSet::available().iter().map(ToString::to_string).collect();
    println!("instruction sets: {}", sets.join(", "));
    for &ty in TensorType::ALL.iter().filter(|&&ty| quant::supports(ty)) {
        let start = Instant::now();
        let n_chunks = n_weights.div_ceil(CHUNK) as u64;
        let difference = (0..n_chunks).into_par_iter().find_map_any(|seed| compare(ty, seed));
        if let Some(difference) = difference {
            eprintln!("error: {difference}");
            return ExitCode::FAILURE;
        }
        println!(
            "{ty}: {} weights, each with and without importance, equal to ggml in every byte ({:.0?})",
            n_chunks as usize * CHUNK,
            start.elapsed()
        );
    }
    ExitCode::SUCCESS
}

/// Quantizes the chunk drawn from `seed` in all ways; describes the first block that differs.
fn compare(ty: TensorType, seed: u64) -> Option<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let src = weights(seed, &mut rng);
    let columns: Vec<f32> = (0..N_COLS).map(|_| normal(&mut rng).powi(2)).collect();
    let mut expected = vec![0; CHUNK / ty.block_len() * ty.block_bytes()];
    let mut found = expected.clone();
    for importance in [None, Some(&columns[..])] {
        ggml::quantize(ty, &src, N_COLS, importance, &mut expected);
        for set in InstructionSet::available() {
            found.fill(0xa5);
            quant::quantize_on(set, ty, &src, N_COLS, importance, &mut found);
            if let Some(at) = (0..found.len()).find(|&at| found[at] != expected[at]) {
                let with = if importance.is_some() { "with" } else { "without" };
                let (block, byte) = (at / ty.block_bytes(), at % ty.block_bytes());
                return Some(format!(
                    "{ty} on {set}, {with} importance, seed {seed}: block {block} differs at byte {byte}"
                ));
            }
        }
    }
    None
}

/// A chunk of one of seven kinds, most of them like the weights of a model.
fn weights(seed: u64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let tails = Cauchy::new(0.0, 0.02).expect("positive scale");
    let draw = |i: usize, rng: &mut ChaCha8Rng| match seed % 7 {
        0 | 1 => normal(rng) * 0.02,
        2 => tails.sample(rng),
        3 => normal(rng) * 1e-6,
        4 => normal(rng) * 10f32.powi((i / 32 % 9) as i32 - 4),
        5 => 0.7 + normal(rng) * 0.05,
        _ => any_finite(rng),
    };
    (0..CHUNK).map(|i| draw(i, rng)).collect()
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    StandardNormal.sample(rng)
}

fn any_finite(rng: &mut ChaCha8Rng) -> f32 {
    loop {
        let value = f32::from_bits(rng.random());
        if value.is_finite() {
            return value;
        }
    }
}
