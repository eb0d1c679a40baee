//! The matrix products against plain f64 sums over the same weights and activations.

mod common;

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::ggml::{self, TensorType};
use rwkvq::matmul::{multiply, Activations, Format, Machine, Matrix, Scratch};

fn tensor_type(format: Format) -> TensorType {
    match format {
        Format::F32 => TensorType::F32,
        Format::F16 => TensorType::F16,
        Format::BF16 => TensorType::BF16,
        Format::Q8_0 => TensorType::Q8_0,
        Format::Q2K => TensorType::Q2_K,
        Format::Q3K => TensorType::Q3_K,
        Format::Q4K => TensorType::Q4_K,
        Format::Q5K => TensorType::Q5_K,
        Format::Q6K => TensorType::Q6_K,
    }
}

/// Random weights of `format` and what they are worth, by ggml.
fn weights(format: Format, n_in: usize, n_out: usize, rng: &mut ChaCha8Rng) -> (Vec<u8>, Vec<f32>) {
    let values: Vec<f32> = (0..n_in * n_out).map(|_| rng.random_range(-1.0..1.0f32)).collect();
    let ty = tensor_type(format);
    let mut bytes = vec![0; ty.row_bytes(n_in).unwrap() * n_out];
    match format {
        Format::F32 => {
            let parts = bytes.chunks_exact_mut(4).zip(&values);
            parts.for_each(|(bytes, value)| bytes.copy_from_slice(&value.to_le_bytes()));
        }
        Format::F16 => {
            let parts = bytes.chunks_exact_mut(2).zip(&values);
            parts.for_each(|(b, &value)| b.copy_from_slice(&f16::from_f32(value).to_le_bytes()));
        }
        Format::BF16 => {
            let parts = bytes.chunks_exact_mut(2).zip(&values);
            parts.for_each(|(b, &value)| b.copy_from_slice(&bf16::from_f32(value).to_le_bytes()));
        }
        _ => ggml::quantize(ty, &values, n_in, None, &mut bytes),
    }
    let mut worth = vec![0.0; n_in * n_out];
    ggml::to_f32(ty, &bytes, &mut worth);
    (bytes, worth)
}

/// What a prepared row stands for: the rounding of activations, written down independently.
fn rounded(activations: Activations, row: &[f32]) -> Vec<f64> {
    let (part, max) = match activations {
        Activations::Float => return row.iter().map(|&x| f64::from(x)).collect(),
        Activations::Pairs => return row.iter().map(|&x| bf16::from_f32(x).to_f64()).collect(),
        Activations::Bytes => (32, 127.0),
        Activations::Wide { largest } => (32, f64::from(largest)),
        Activations::Levels { .. } => (256, 127.0),
    };
    in_whole_numbers(row, part, max)
}

/// Weights as the products take them: those of BF16 become whole numbers where there is no
/// arithmetic for them.
fn taken(format: Format, activations: Activations, row: &[f32]) -> Vec<f64> {
    match (format, activations) {
        (Format::BF16, Activations::Wide { largest }) => in_whole_numbers(row, 32, largest.into()),
        _ => row.iter().map(|&w| f64::from(w)).collect(),
    }
}

/// Multiples of a step, `max` of which are the largest magnitude of each `part`.
fn in_whole_numbers(row: &[f32], part: usize, max: f64) -> Vec<f64> {
    let round = |part: &[f32]| -> Vec<f64> {
        let largest = part.iter().fold(0f32, |m, x| m.max(x.abs()));
        let inverse = max as f32 / largest;
        let worth = |&x: &f32| f64::from((x * inverse).round_ties_even()) / f64::from(inverse);
        if largest == 0.0 {
            vec![0.0; part.len()]
        } else {
            part.iter().map(worth).collect()
        }
    };
    row.chunks(part).flat_map(round).collect()
}

fn product(machine: Machine, format: Format, bytes: &[u8], x: &[f32], n_in: usize) -> Vec<f32> {
    let matrix = Matrix::new(format, bytes, n_in);
    let (n_out, n_tokens) = (matrix.n_out(), x.len() / n_in);
    let row_bytes = format.activations(machine).row_bytes(n_in);
    let mut prepared = vec![0u8; n_tokens * row_bytes];
    for (row, out) in x.chunks_exact(n_in).zip(prepared.chunks_exact_mut(row_bytes)) {
        format.activations(machine).prepare(machine, row, out);
    }
    let mut y = vec![f32::NAN; n_out * n_tokens];
    multiply(
        machine,
        matrix,
        0..n_out,
        &prepared,
        n_tokens,
        &mut Scratch::default(),
        |t, row, sums, add| {
            for (y, sum) in y[t * n_out + row..].iter_mut().zip(sums) {
                *y = if add { *y + sum } else { *sum };
            }
        },
    );
    y
}

#[test]
fn products_are_the_sums_of_f64() {
    let machines = Machine::available();
    assert_eq!(machines.last(), Machine::detect().as_ref());
    if machines.is_empty() {
        eprintln!("skipped: this processor has no fast products");
    }
    for machine in machines {
        products_of(machine);
    }
}

fn products_of(machine: Machine) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for format in Format::ALL {
        for (n_in, n_out, n_tokens) in
            [(256, 16, 4), (2304, 33, 8), (4352, 5, 12), (36, 3, 4), (32, 17, 8), (7, 1, 4)]
        {
            if n_in % format.block_len() != 0 {
                continue;
            }
            let (bytes, worth) = weights(format, n_in, n_out, &mut rng);
            let mut x: Vec<f32> =
                (0..n_in * n_tokens).map(|_| rng.random_range(-3.0..3.0f32)).collect();
            // A row of zeros, and one with a value that dwarfs the others.
            x[..n_in].fill(0.0);
            x[n_in + 1] = 1e4;
            let y = product(machine, format, &bytes, &x, n_in);
            let mut worst = 0f64;
            let activations = format.activations(machine);
            let worth: Vec<Vec<f64>> =
                worth.chunks_exact(n_in).map(|w| taken(format, activations, w)).collect();
            for (t, row) in x.chunks_exact(n_in).enumerate() {
                let row = rounded(activations, row);
                for (i, w) in worth.iter().enumerate() {
                    let terms = w.iter().zip(&row).map(|(w, a)| w * a);
                    let (sum, size) = terms.fold((0.0, 0.0), |(s, m), x| (s + x, m + x.abs()));
                    let error = (f64::from(y[t * n_out + i]) - sum).abs();
                    // Some hundred roundings of f32 on the way; levels carry the minimum too.
                    assert!(
                        error <= 4e-6 * size.max(1e-30),
                        "{machine} {format:?} {n_in} {n_out}: token {t} row {i}: {error:e} of {size}"
                    );
                    worst = worst.max(error / size.max(1e-30));
                }
            }
            println!("{machine} {format:?} {n_in}x{n_out}x{n_tokens}: {worst:e}");
        }
    }
}
