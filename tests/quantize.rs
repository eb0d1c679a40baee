//! Our quantizers write the bytes that ggml writes: every type, every instruction set this
//! processor has, with and without an importance matrix, on ordinary weights and on hostile ones.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Cauchy, Distribution, StandardNormal};
use rwkvq::ggml::{self, TensorType};
use rwkvq::quant::{self, InstructionSet};

const TYPES: [TensorType; 10] = [
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
];

/// What weight `i` is in a block of `len`, drawn with `rng`.
type Weights = fn(i: usize, len: usize, rng: &mut ChaCha8Rng) -> f32;

const WEIGHTS: [(&str, Weights); 23] = [
    ("normal", |_, _, rng| normal(rng)),
    ("heavy tails", |_, _, rng| Cauchy::new(0.0, 1.0).expect("positive scale").sample(rng)),
    ("constant", |_, _, _| 0.25),
    ("negative constant", |_, _, _| -0.3),
    ("zero", |_, _, _| 0.0),
    ("zeros of both signs", |_, _, rng| if rng.random() { 0.0 } else { -0.0 }),
    ("subnormal", |_, _, rng| normal(rng) * 1e-40),
    ("smallest normal", |_, _, rng| normal(rng) * f32::MIN_POSITIVE),
    ("steps without an inverse", |_, _, rng| normal(rng) * 3e-38),
    ("near the limit of all zero", |_, _, rng| normal(rng) * 1e-15),
    ("squares underflow", |_, _, rng| normal(rng) * 1e-21),
    ("near 1e-6", |_, _, rng| normal(rng) * 1e-6),
    ("scales beyond f16", |_, _, rng| normal(rng) * 3e6),
    ("squares overflow", |_, _, rng| normal(rng) * 1e19),
    ("huge", |_, _, rng| rng.random_range(-1.0f32..1.0) * f32::MAX),
    ("alternating", |i, _, _| if i % 2 == 0 { 1.5 } else { -1.5 }),
    ("one outlier", |i, len, rng| normal(rng) * if i % len == 7 { 1e4 } else { 1.0 }),
    ("sparse", |_, _, rng| if rng.random_ratio(1, 40) { normal(rng) } else { 0.0 }),
    ("magnitudes mixed", |i, _, rng| normal(rng) * 10f32.powi((i / 16 % 13) as i32 - 6)),
    ("far from zero", |_, _, rng| 1000.0 + normal(rng) * 1e-4),
    ("far below zero", |i, _, rng| (i / 32 % 3) as f32 * -1000.0 + normal(rng) * 1e-3),
    ("ties", |_, _, rng| rng.random_range(-16i32..=16) as f32 * 0.125),
    ("any bits", |_, _, rng| finite(rng.random())),
];

/// Importance of column `i`.
type Importance = fn(i: usize, rng: &mut ChaCha8Rng) -> f32;

const IMPORTANCE: [(&str, Importance); 6] = [
    ("positive", |_, rng| rng.random_range(0.01f32..2.0)),
    ("squares", |_, rng| normal(rng).powi(2)),
    ("zeros among them", |i, rng| if i / 16 % 3 == 0 { 0.0 } else { rng.random() }),
    ("all zero", |_, _| 0.0),
    ("huge", |_, rng| rng.random_range(0.0f32..1.0) * 1e30),
    ("tiny", |_, rng| rng.random_range(0.0f32..1.0) * 1e-30),
];

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// The float with these bits; with the exponent halved if it would not be finite.
fn finite(bits: u32) -> f32 {
    let value = f32::from_bits(bits);
    if value.is_finite() {
        value
    } else {
        f32::from_bits(bits & !(1 << 30))
    }
}

/// Compares all instruction sets with ggml; `what` describes the input.
fn check(ty: TensorType, src: &[f32], n_cols: usize, importance: Option<&[f32]>, what: &str) {
    let n_bytes = src.len() / n_cols * ty.row_bytes(n_cols).expect("whole blocks");
    let mut expected = vec![0; n_bytes];
    ggml::quantize(ty, src, n_cols, importance, &mut expected);
    for set in InstructionSet::available() {
        let mut found = vec![0xa5; n_bytes];
        quant::quantize_on(set, ty, src, n_cols, importance, &mut found);
        let blocks = found.chunks(ty.block_bytes()).zip(expected.chunks(ty.block_bytes()));
        for (block, (found, expected)) in blocks.enumerate() {
            let Some(byte) = (0..found.len()).find(|&at| found[at] != expected[at]) else {
                continue;
            };
            assert!(
                !is_comparable(ty, expected),
                "{ty} on {set}, {what}: block {block}, byte {byte}: {:#04x}, ggml has {:#04x}",
                found[byte],
                expected[byte]
            );
        }
    }
}

/// Whether ggml's block is what ours has to be. C leaves open which sign a NaN gets and what becomes
/// of floats beyond the whole numbers, as there are where a step is too small for an inverse; ours
/// are those of x86-64, ggml's those of this processor.
fn is_comparable(ty: TensorType, block: &[u8]) -> bool {
    let mut values = vec![0.0f32; ty.block_len()];
    ggml::to_f32(ty, block, &mut values);
    let is_defined = values.iter().all(|value| value.is_finite());
    cfg!(target_arch = "x86_64") || is_defined && values.iter().any(|&value| value != 0.0)
}

/// A hundred thousand weights of every kind in rows of an odd number of blocks.
fn check_type(ty: TensorType, seed: u64) {
    let n_cols = 5 * 256 + if ty.block_len() == 32 { 3 * 32 } else { 0 };
    let n_rows = 7;
    for (kind, weights) in WEIGHTS {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let src: Vec<f32> =
            (0..n_rows * n_cols).map(|i| weights(i, ty.block_len(), &mut rng)).collect();
        check(ty, &src, n_cols, None, &format!("{kind}, seed {seed}"));
        for (name, importance) in IMPORTANCE {
            let columns: Vec<f32> = (0..n_cols).map(|i| importance(i, &mut rng)).collect();
            let what = format!("{kind}, importance {name}, seed {seed}");
            check(ty, &src, n_cols, Some(&columns), &what);
        }
    }
}

macro_rules! bytes_are_those_of_ggml {
    ($($name:ident $ty:ident),*) => {$(
        #[test]
        fn $name() {
            check_type(TensorType::$ty, 1);
        }
    )*};
}

bytes_are_those_of_ggml!(
    q4_0_bytes Q4_0, q4_1_bytes Q4_1, q5_0_bytes Q5_0, q5_1_bytes Q5_1, q8_0_bytes Q8_0,
    q2_k_bytes Q2_K, q3_k_bytes Q3_K, q4_k_bytes Q4_K, q5_k_bytes Q5_K, q6_k_bytes Q6_K
);

#[test]
fn rows_of_every_length() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for ty in TYPES {
        for n_blocks in 1..=9 {
            let n_cols = n_blocks * ty.block_len();
            for n_rows in 0..=3 {
                let src: Vec<f32> = (0..n_rows * n_cols).map(|_| normal(&mut rng)).collect();
                let importance: Vec<f32> = (0..n_cols).map(|_| rng.random()).collect();
                let what = format!("{n_rows} rows of {n_blocks} blocks");
                check(ty, &src, n_cols, None, &what);
                check(ty, &src, n_cols, Some(&importance), &what);
            }
        }
    }
}

#[test]
fn a_million_weights_of_each_type() {
    for ty in TYPES {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let src: Vec<f32> = (0..1 << 20).map(|_| normal(&mut rng) * 0.02).collect();
        check(ty, &src, 2048, None, "normal, seed 3");
    }
}

#[test]
fn supported_types_are_the_ones_tested() {
    for &ty in TensorType::ALL {
        assert_eq!(quant::supports(ty), TYPES.contains(&ty), "{ty}");
    }
}

#[test]
#[should_panic(expected = "not supported")]
fn an_unsupported_type_is_refused() {
    quant::quantize(TensorType::IQ4_NL, &[0.0; 32], 32, None, &mut [0; 18]);
}

#[test]
#[should_panic(expected = "one weight per column")]
fn importance_of_another_length_is_refused() {
    quant::quantize(TensorType::Q8_0, &[0.0; 64], 32, Some(&[1.0; 64]), &mut [0; 68]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_finite_bits(
        bits in prop::collection::vec(any::<u32>(), 512),
        importance in prop::option::of(prop::collection::vec(0u32..0x7f80_0000, 512)),
        exponents in 0u32..=8,
        centre in 0u32..=0xff,
    ) {
        // A narrow band of exponents, so that the elements of a block matter to each other.
        let band = |bits: u32| {
            let exponent = (bits >> 23 & 0xff) % (1 << exponents);
            let exponent = (centre + exponent) % 0xff;
            f32::from_bits(bits & 0x807f_ffff | exponent << 23)
        };
        let src: Vec<f32> = bits.into_iter().map(band).collect();
        let importance: Option<Vec<f32>> =
            importance.map(|bits| bits.into_iter().map(f32::from_bits).collect());
        for ty in TYPES {
            check(ty, &src, 512, importance.as_deref(), "any bits");
        }
    }
}
