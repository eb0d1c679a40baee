//! Every operation against plain sums in f64, on every instruction set.

use super::{Recurrence, Rows};
use crate::simd::InstructionSet;

/// Widths that fill registers, leave a rest, and are less than one.
const WIDTHS: [usize; 6] = [1, 5, 15, 40, 64, 2048];
const N: usize = 4;

/// Numbers between -`size` and `size`, others for each seed.
fn values(n: usize, seed: u32, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 * 2.0 - 1.0) * size
    };
    (0..n).map(next).collect()
}

/// `expected(row, column)` to 1e-6 of its largest element, the same bits on every set.
#[track_caller]
fn check(rows: Rows<&[f32]>, n_cols: usize, expected: impl Fn(usize, usize) -> f64) {
    for row in 0..N {
        let expected: Vec<f64> = (0..n_cols).map(|col| expected(row, col)).collect();
        let largest = expected.iter().fold(0f64, |max, x| max.max(x.abs()));
        let mut best = vec![0.0; n_cols];
        rows.compute(row, &mut best);
        for (col, (found, expected)) in best.iter().zip(&expected).enumerate() {
            let error = (f64::from(*found) - expected).abs();
            assert!(error <= 1e-6 * largest, "{n_cols} columns, row {row}, {col}: {error}");
        }
        for set in InstructionSet::available() {
            let mut out = vec![0.0; n_cols];
            rows.compute_on(set, row, &mut out);
            assert_eq!(out, best, "{set}");
        }
    }
}

fn sigmoid(x: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(x)).exp())
}

/// The element of a norm over `values` at `col`, in f64.
fn normal(values: &[f64], col: usize, eps: f32) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (values[col] - mean) / (variance + f64::from(eps)).sqrt()
}

#[test]
fn norms() {
    for n in WIDTHS {
        let [x, y] = [1, 2].map(|seed| values(n * N, seed, 3.0));
        let [weight, bias] = [3, 4].map(|seed| values(n, seed, 1.0));
        for y in [None, Some(&*y)] {
            let rows = Rows::Norm { x: &*x, y, weight: &weight, bias: &bias, eps: 0.1 };
            check(rows, n, |row, col| {
                let sum = |i| f64::from(x[i]) + y.map_or(0.0, |y| f64::from(y[i]));
                let values: Vec<f64> = (row * n..(row + 1) * n).map(sum).collect();
                normal(&values, col, 0.1) * f64::from(weight[col]) + f64::from(bias[col])
            });
        }
    }
}

#[test]
fn token_shift() {
    for n in WIDTHS {
        let [x, mix] = [1, 2].map(|seed| values(n * N, seed, 3.0));
        let (states, lerp) = (values(n * 2, 3, 3.0), values(n, 4, 1.0));
        // Nothing, the second lane's state, the row before, and one further up.
        let shift = [0, 2, 1 + 2 + 1, 1 + 2].map(|row: i32| f32::from_bits(row as u32));
        let before = |row: usize, col: usize| match row {
            0 => 0.0,
            1 => states[n + col],
            2 => x[n + col],
            _ => x[col],
        };
        for mix in [None, Some(&*mix)] {
            let rows = Rows::Shifted { x: &*x, states: &states, shift: &shift, lerp: &lerp, mix };
            check(rows, n, |row, col| {
                let at = row * n + col;
                let by = f64::from(lerp[col]) + mix.map_or(0.0, |mix| f64::from(mix[at]));
                f64::from(x[at]) + (f64::from(before(row, col)) - f64::from(x[at])) * by
            });
        }
    }
}

#[test]
fn activation_functions() {
    for n in WIDTHS {
        let x = values(n * N, 1, 12.0);
        check(Rows::SquaredRelu { x: &x }, n, |row, col| {
            f64::from(x[row * n + col]).max(0.0).powi(2)
        });
        let width = n + 9;
        let x = values(width * N, 2, 12.0);
        let rows = Rows::Tanh { x: &*x, width, first: 4, n_cols: n };
        check(rows, n, |row, col| f64::from(x[row * width + 4 + col]).tanh());
    }
}

#[test]
fn gates() {
    for (head_size, n_head) in [(5, 3), (16, 1), (64, 4)] {
        let n = head_size * n_head;
        let [x, y, v, gate] = [1, 2, 3, 4].map(|seed| values(n * N, seed, 9.0));
        let [weight, bias] = [5, 6].map(|seed| values(n, seed, 1.0));
        let rows = Rows::NormGated {
            x: &*x,
            head_size,
            weight: &weight,
            bias: &bias,
            eps: 0.1,
            gate: &gate,
        };
        check(rows, n, |row, col| {
            let (at, first) = (row * n + col, row * n + col / head_size * head_size);
            let head = x[first..first + head_size].iter().map(|&x| f64::from(x));
            let normal = normal(&head.collect::<Vec<_>>(), col % head_size, 0.1);
            let affine = normal * f64::from(weight[col]) + f64::from(bias[col]);
            affine * f64::from(gate[at]) * sigmoid(gate[at])
        });
        let rows = Rows::AddGated { x: &*x, y: &y, v: &v, gate: &gate, scale: 0.5 };
        check(rows, n, |row, col| {
            let at = row * n + col;
            (f64::from(x[at]) + f64::from(y[at]) + f64::from(v[at]) * sigmoid(gate[at])) / 2.0
        });
    }
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    let (nan, n) = ([f32::NAN; 4], 4);
    let (fine, shift) = ([1.0f32, -2.0, 3.0, 0.5], [f32::from_bits(0)]);
    let (x, gate) = (&nan[..], &fine[..]);
    let (weight, bias, eps, head_size) = (gate, gate, 0.1, 2);
    let all = [
        Rows::Same { x },
        Rows::Norm { x, y: None, weight, bias, eps },
        Rows::Norm { x: gate, y: Some(x), weight, bias, eps },
        Rows::Shifted { x, states: gate, shift: &shift, lerp: gate, mix: None },
        Rows::Shifted { x: gate, states: gate, shift: &shift, lerp: gate, mix: Some(x) },
        Rows::Tanh { x, width: n, first: 0, n_cols: n },
        Rows::SquaredRelu { x },
        Rows::NormGated { x, head_size, weight, bias, eps, gate },
        Rows::NormGated { x: gate, head_size, weight, bias, eps, gate: x },
        Rows::AddGated { x: gate, y: gate, v: gate, gate: x, scale: 1.0 },
        Rows::AddGated { x: gate, y: gate, v: x, gate, scale: 1.0 },
    ];
    for rows in all {
        let mut out = [0.0; 4];
        rows.compute(0, &mut out);
        assert!(out.iter().all(|x| x.is_nan()), "{rows:?}: {out:?}");
    }
}

/// Operands of a recurrence.
struct Heads {
    parts: [Vec<f32>; 4],
    base: Vec<f32>,
    bonus: Vec<f32>,
    states: Vec<f32>,
    shift: Vec<i32>,
    head_size: usize,
    n_lanes: usize,
}

impl Heads {
    /// Texts begin and end at odd and even places of both lanes; some go on behind rows further up,
    /// which are the first (5) or the second (10, 12) of two that could go together.
    fn new(head_size: usize, n_head: usize) -> Self {
        let (c, n_lanes) = (head_size * n_head, 2);
        // Rows count from 3 on.
        let shift = [[1, 3, 0, 0, 6, 7, 8, 0, 8], [0, 12, 13, 14, 13, 16, 15, 18, 13]].concat();
        Self {
            parts: [1, 2, 3, 4].map(|seed| values(c * shift.len(), seed, 1.0)),
            base: values(c, 5, 3.0),
            bonus: values(c, 6, 1.0),
            states: values(c * head_size * n_lanes, 7, 1.0),
            shift,
            head_size,
            n_lanes,
        }
    }

    fn all(&self) -> Recurrence<'_> {
        let [k, v, r, decay] = &self.parts;
        let Self { base, bonus, states, shift, head_size, n_lanes, .. } = self;
        let (head_size, n_lanes) = (*head_size, *n_lanes);
        Recurrence { k, v, r, decay, base, bonus, states, shift, head_size, n_lanes }
    }

    /// Outputs `[row][head][j]` and states, in f64.
    fn expected(&self) -> (Vec<f64>, Vec<f64>) {
        let Self { parts: [k, v, r, decay], head_size: s, .. } = self;
        let (s, c) = (*s, self.base.len());
        let mut out = vec![0.0; k.len()];
        let mut states: Vec<f64> = self.states.iter().map(|&x| x.into()).collect();
        let per_lane = self.shift.len() / self.n_lanes;
        let mut behind: Vec<Vec<f64>> = Vec::new();
        for row in 0..self.shift.len() {
            if let Some(before) = (self.shift[row] as usize).checked_sub(3) {
                let lane = row / per_lane * c * s..(row / per_lane + 1) * c * s;
                states[lane.clone()].copy_from_slice(&behind[before][lane]);
            }
            for col in 0..c {
                let (head, j) = (col / s, col % s);
                let first = (row / per_lane * c + head * s) * s;
                for i in 0..s {
                    let (key, at) = (head * s + i, row * c + head * s + i);
                    let state = &mut states[first + i * s + j];
                    *state = if self.shift[row] == 0 { 0.0 } else { *state };
                    let kv = f64::from(k[at]) * f64::from(v[row * c + col]);
                    let w = (-(f64::from(decay[at]) + f64::from(self.base[key])).exp()).exp();
                    let sum = *state + f64::from(self.bonus[key]) * kv;
                    out[row * c + col] += f64::from(r[at]) * sum;
                    *state = *state * w + kv;
                }
            }
            behind.push(states.clone());
        }
        (out, states)
    }
}

#[test]
fn recurrence_of_heads_of_any_size() {
    for (head_size, n_head) in [(1, 2), (5, 3), (20, 2), (64, 2), (128, 1)] {
        let heads = Heads::new(head_size, n_head);
        let (all, c) = (heads.all(), head_size * n_head);
        let (expected, expected_states) = heads.expected();
        assert_eq!(all.n_heads(), 2 * n_head);
        for index in 0..all.n_heads() {
            let first = index % n_head * head_size;
            let close = |found: &[f32], expected: &[f64]| {
                for (found, expected) in found.iter().zip(expected) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-5, "heads of {head_size}, {index}: {found} {expected}");
                }
            };
            let mut outputs = Vec::new();
            let states = all.run(index, |row, found| {
                close(found, &expected[row * c + first..][..head_size]);
                outputs.push((row, found.to_vec()));
            });
            assert_eq!(outputs.len(), 9);
            close(&states, &expected_states[index * states.len()..][..states.len()]);
            for set in InstructionSet::available() {
                let mut same = Vec::new();
                let found = all.run_on(set, index, |row, out| same.push((row, out.to_vec())));
                assert_eq!((found, same), (states.clone(), outputs.clone()), "{set}");
            }
        }
    }
}

#[test]
fn a_text_after_one_that_is_not_finite_is() {
    let mut heads = Heads::new(8, 1);
    heads.parts[1][..2 * 8].fill(f32::INFINITY);
    let mut finite = Vec::new();
    heads.all().run(0, |_, out| finite.push(out.iter().all(|x| x.is_finite())));
    assert_eq!(finite, [false, false, true, true, true, true, true, true, true]);
}
