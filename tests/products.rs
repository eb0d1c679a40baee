//! The matrix products against plain f64 sums over the same weights and activations.

mod common;

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::ggml::{self, TensorType};
use rwkvq::matmul::{multiply, Activations, Columns, Format, Machine, Matrix, Parts, Scratch};

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
        Activations::Winograd => return in_numbers_of_winograd(row),
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
        (Format::BF16, Activations::Winograd) => in_numbers_of_winograd(row),
        _ => row.iter().map(|&w| f64::from(w)).collect(),
    }
}

/// The step of whole numbers of Winograd's products: the largest is 16,383 of them at most, the
/// Euclidean norm of the block 46,300.
fn step_of_winograd(block: &[f32]) -> f64 {
    let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
    let norm = block.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    (f64::from(largest) / 16_383.0).max(norm / 46_300.0)
}

fn in_numbers_of_winograd(row: &[f32]) -> Vec<f64> {
    let round = |block: &[f32]| -> Vec<f64> {
        let step = step_of_winograd(block);
        let worth = |&x: &f32| (f64::from(x) / step).round_ties_even() * step;
        block.iter().map(|x| if step == 0.0 { 0.0 } else { worth(x) }).collect()
    };
    row.chunks(256).flat_map(round).collect()
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
    let out = Columns::all(&mut y, n_out);
    multiply(machine, matrix, 0..n_out, &prepared, &mut Scratch::default(), out);
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
        for (n_in, n_out, n_tokens) in [
            (256, 16, 4),
            (2304, 33, 8),
            // Several tiles of tokens, of which the last is not full, and of rows.
            (512, 40, 84),
            (1088, 16, 36),
            (4352, 5, 12),
            (36, 3, 4),
            (32, 17, 8),
            (7, 1, 4),
            (2081, 18, 4),
        ] {
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

#[test]
fn parts_are_all_rows_once_and_foresee_the_next() {
    let (n_in, n_out) = (3, 1100);
    let bytes = vec![0; 4 * n_in * n_out];
    let matrix = Matrix::new(Format::F32, &bytes, n_in);
    for n_threads in 1..=3 {
        let parts = Parts::default();
        let all: Vec<_> = std::iter::from_fn(|| parts.take(&matrix, n_threads)).collect();
        assert!(all.len() >= 4 * n_threads, "{n_threads} threads");
        assert_eq!((all[0].rows.start, all[all.len() - 1].rows.end), (0, n_out));
        assert!(all.windows(2).all(|pair| pair[0].rows.end == pair[1].rows.start));
        for (i, part) in all.iter().enumerate() {
            let next = all.get(i + n_threads).map_or(n_out..n_out, |part| part.rows.clone());
            assert_eq!(part.next, next, "part {i} of {n_threads} threads");
        }
    }
}

/// A weight or an activation that is not finite makes all sums that it is in not finite, and no
/// other one.
#[test]
fn what_is_not_finite_stays_apart() {
    const N_IN: usize = 256;
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for machine in Machine::available() {
        for format in Format::ALL {
            let (mut bytes, _) = weights(format, N_IN, 3, &mut rng);
            let width = match format {
                Format::F32 => 4,
                Format::F16 | Format::BF16 => 2,
                // What levels say of a block that is not finite is the quantizer's business.
                _ => 0,
            };
            if width > 0 {
                let infinite = bytes.len() / 3 + 70 * width;
                bytes[infinite..infinite + width].copy_from_slice(match format {
                    Format::F32 => &[0, 0, 0x80, 0x7f],
                    Format::F16 => &[0, 0x7c],
                    _ => &[0x80, 0x7f],
                });
                // A NaN.
                let last = bytes.len() - width;
                bytes[last..].fill(0xff);
            }
            let mut x: Vec<f32> = (0..8 * N_IN).map(|_| rng.random_range(0.1..1.0f32)).collect();
            (x[N_IN + 40], x[6 * N_IN + 255]) = (f32::NAN, f32::NEG_INFINITY);
            let y = product(machine, format, &bytes, &x, N_IN);
            for (at, sum) in y.iter().enumerate() {
                let (token, row) = (at / 3, at % 3);
                let finite = ![1, 6].contains(&token) && (width == 0 || row == 0);
                assert_eq!(sum.is_finite(), finite, "{machine} {format:?} {token} {row}: {sum}");
            }
        }
    }
}

#[test]
fn activations_become_bf16_as_in_a_well_kept_library() {
    let Some(machine) = Machine::detect() else { return };
    let special = [
        f32::NAN,
        -f32::NAN,
        // NaNs whose payload lies in the lower half, and one that an addition would overflow.
        f32::from_bits(0x7f80_0001),
        f32::from_bits(0xffff_ffff),
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN_POSITIVE,
        f32::from_bits(0x8000_8000),
        -0.0,
        // Ties, to even both ways, and what lies beside them.
        f32::from_bits(0x3f80_8000),
        f32::from_bits(0x3f81_8000),
        f32::from_bits(0x3f80_8001),
        f32::from_bits(0xbf80_7fff),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    for n in [1, 14, 15, 16, 33, 64] {
        let mut row: Vec<f32> = (0..n).map(|_| f32::from_bits(rng.random())).collect();
        let n_special = n.min(special.len());
        row[..n_special].copy_from_slice(&special[..n_special]);
        let mut out = vec![0xffffu16; Activations::Pairs.row_bytes(n) / 2];
        Activations::Pairs.prepare(machine, &row, bytemuck::cast_slice_mut(&mut out));
        for (value, &bits) in row.iter().zip(&out) {
            let (ours, expected) = (bf16::from_bits(bits), bf16::from_f32(*value));
            let same = ours.to_bits() == expected.to_bits() || ours.is_nan() && expected.is_nan();
            assert!(same, "{value:e}: {ours:?} {expected:?}");
        }
        assert!(out[n..].iter().all(|&padding| padding == 0), "{n}");
    }
}

#[test]
fn activations_become_bytes_with_a_scale_for_each_block() {
    let Some(machine) = Machine::detect() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut row: Vec<f32> = (0..128).map(|_| rng.random_range(-5.0..5.0f32)).collect();
    row[32..64].fill(0.0);
    row[70] = -1e3;
    let mut memory = vec![0u64; Activations::Bytes.row_bytes(128) / 8];
    Activations::Bytes.prepare(machine, &row, bytemuck::cast_slice_mut(&mut memory));
    let bytes: &[u8] = bytemuck::cast_slice(&memory);
    let quants: &[i8] = bytemuck::cast_slice(&bytes[..128]);
    let scales: &[f32] = bytemuck::cast_slice(&bytes[128..144]);
    let offsets: &[i32] = bytemuck::cast_slice(&bytes[144..160]);
    for (i, block) in row.chunks(32).enumerate() {
        let quants = &quants[32 * i..32 * i + 32];
        for (value, &quant) in rounded(Activations::Bytes, block).iter().zip(quants) {
            let worth = f64::from(quant) * f64::from(scales[i]);
            assert!((worth - value).abs() <= 1e-6 * value.abs(), "block {i}: {worth} {value}");
        }
        let sum: i32 = quants.iter().map(|&quant| i32::from(quant)).sum();
        assert_eq!(offsets[i], -i32::from(machine.byte_offset()) * sum, "block {i}");
    }
}

/// Panels of whole numbers of 16 bits, also on machines whose formats have faster ones.
#[test]
fn wide_panels_hold_the_weights() {
    const LARGEST: i16 = 8191;
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let values: Vec<f32> = (0..16 * 32).map(|_| rng.random_range(-2.0..2.0f32)).collect();
    let halves: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    for machine in Machine::available() {
        let (mut panel, mut d) = ([0i16; 512], [0f32; 16]);
        let rows = std::array::from_fn(|row| &halves[64 * row..][..32]);
        machine.unpack_wide(rows, &mut panel);
        for (at, &number) in panel.iter().enumerate() {
            let (row, k) = (at / 2 % 16, at / 32 * 2 + at % 2);
            assert_eq!(number, i16::from(rows[row][k] as i8), "{machine}: row {row} column {k}");
        }
        let rows = std::array::from_fn(|row| &halves[64 * row..][..64]);
        machine.unpack_scaled(rows, LARGEST, &mut panel, &mut d);
        for row in 0..16 {
            let worth: Vec<f32> =
                rows[row].chunks(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
            let expected = in_whole_numbers(&worth, 32, LARGEST.into());
            for (k, expected) in expected.iter().enumerate() {
                let number = panel[k / 2 * 32 + 2 * row + k % 2];
                let ours = f64::from(number) * f64::from(d[row]);
                assert!((ours - expected).abs() <= 1e-6, "{machine}: {row} {k}: {ours} {expected}");
            }
        }
        let mut quants = [0i16; 32];
        let scale = machine.round_wide(&values[..32], LARGEST, &mut quants);
        let expected = in_whole_numbers(&values[..32], 32, LARGEST.into());
        for (quant, expected) in quants.iter().zip(expected) {
            let ours = f64::from(*quant) * f64::from(scale);
            assert!((ours - expected).abs() <= 1e-6, "{machine}: {ours} {expected}");
        }
    }
}

/// The largest sums that there can be, of every sign: partial ones wrap around, all together do not.
#[test]
fn sums_of_winograd_fit() {
    const N_IN: usize = 512;
    let one_large = |k: usize| if k % 256 == 3 { 1.0 } else { 0.0 };
    let growing = |k: usize| (k % 256) as f32 / 255.0;
    let alike = |_: usize| 1.0;
    let shapes: [&dyn Fn(usize) -> f32; 3] = [&one_large, &growing, &alike];
    for machine in Machine::available().into_iter().filter(|machine| machine.has_winograd()) {
        for (i, shape) in shapes.iter().enumerate() {
            let row: Vec<f32> = (0..N_IN).map(|k| bf16::from_f32(shape(k)).to_f32()).collect();
            let signs = [1.0f32, -1.0];
            let bytes: Vec<u8> = signs
                .iter()
                .flat_map(|sign| row.iter().map(move |x| bf16::from_f32(sign * x)))
                .flat_map(bf16::to_le_bytes)
                .collect();
            let x: Vec<f32> =
                (0..4).flat_map(|t| row.iter().map(move |x| signs[t % 2] * x * 1e4)).collect();
            let y = product(machine, Format::BF16, &bytes, &x, N_IN);
            let square: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            for (at, &sum) in y.iter().enumerate() {
                let exact = f64::from(signs[at / 2 % 2] * signs[at % 2]) * square * 1e4;
                let error = (f64::from(sum) / exact - 1.0).abs();
                assert!(error < 2e-4, "{machine}, shape {i}: {at} is {sum}, should be {exact}");
            }
        }
    }
}

/// Squares of such weights and activations are beyond f32, or nothing.
#[test]
fn numbers_of_winograd_are_near_whatever_the_magnitude() {
    const N_IN: usize = 300;
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    for machine in Machine::available().into_iter().filter(|machine| machine.has_winograd()) {
        for magnitude in [1e-30f32, 1e-15, 1.0, 1e15, 1e30] {
            let (bytes, _) = weights(Format::BF16, N_IN, 5, &mut rng);
            let halves = bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32());
            let halves: Vec<_> = halves.map(|w| bf16::from_f32(w * magnitude)).collect();
            let bytes: Vec<u8> = halves.iter().flat_map(|w| w.to_le_bytes()).collect();
            let x: Vec<f32> =
                (0..4 * N_IN).map(|_| rng.random_range(-3.0..3.0f32) / magnitude).collect();
            let y = product(machine, Format::BF16, &bytes, &x, N_IN);
            for (at, &sum) in y.iter().enumerate() {
                let (w, a) = (&halves[at % 5 * N_IN..][..N_IN], &x[at / 5 * N_IN..][..N_IN]);
                let w: Vec<f32> = w.iter().map(|w| w.to_f32()).collect();
                let sums = |w: &[f64], a: &[f64]| w.iter().zip(a).map(|(w, a)| w * a).sum::<f64>();
                let expected = sums(&in_numbers_of_winograd(&w), &in_numbers_of_winograd(a));
                assert!(
                    (f64::from(sum) - expected).abs() < 1e-3,
                    "{machine}, {magnitude:e}: sum {at} is {sum}, should be {expected}"
                );
            }
        }
    }
}

/// How far whole numbers may take BF16, and products of it, from what weights and activations are.
#[test]
fn bf16_keeps_near_to_exact_products() {
    let (n_in, n_out, n_tokens) = (2081, 18, 4);
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for machine in Machine::available() {
        let (mut bytes, mut worth) = weights(Format::BF16, n_in, n_out, &mut rng);
        // A block of zeros, and one so small that it becomes zeros.
        bytes[..64].fill(0);
        worth[..32].fill(0.0);
        for k in 64..96 {
            worth[k] = f32::from_bits(0x0001_0000);
            bytes[2 * k..2 * k + 2].copy_from_slice(&[1, 0]);
        }
        let x: Vec<f32> = (0..n_in * n_tokens).map(|_| rng.random_range(-3.0..3.0f32)).collect();
        let y = product(machine, Format::BF16, &bytes, &x, n_in);
        let size = |values: &[f32]| values.iter().map(|v| f64::from(v.abs())).sum::<f64>();
        let most = |values: &[f32]| values.iter().fold(0f64, |m, v| m.max(v.abs().into()));
        for (t, a) in x.chunks_exact(n_in).enumerate() {
            for (i, w) in worth.chunks_exact(n_in).enumerate() {
                let exact: f64 = w.iter().zip(a).map(|(&w, &a)| f64::from(w) * f64::from(a)).sum();
                let terms: f64 = w.iter().zip(a).map(|(w, a)| f64::from((w * a).abs())).sum();
                let may_be_off: f64 = match Format::BF16.activations(machine) {
                    // Half a step of each weight and each activation, a little more for both.
                    Activations::Wide { .. } => {
                        let off = |(w, a): (&[f32], &[f32])| most(w) * size(a) + most(a) * size(w);
                        w.chunks(32).zip(a.chunks(32)).map(off).sum::<f64>() / 16380.0
                    }
                    Activations::Winograd => {
                        let off = |(w, a): (&[f32], &[f32])| {
                            let (w_step, a_step) = (step_of_winograd(w), step_of_winograd(a));
                            w_step * size(a) + a_step * size(w)
                        };
                        w.chunks(256).zip(a.chunks(256)).map(off).sum::<f64>() / 1.99
                    }
                    _ => terms / 256.0,
                };
                let error = (f64::from(y[t * n_out + i]) - exact).abs();
                let bound = may_be_off + 4e-6 * terms;
                assert!(error <= bound, "{machine}: token {t} row {i}: {error:e} of {bound:e}");
            }
        }
    }
}
