//! Expressions over the rows of matrices.

use std::iter;

use super::exponential::{sigmoid, tanh};
use super::norm::norm;
use crate::simd::{dispatch, InstructionSet, Kernel, Lanes};

/// Rows of f32, each an expression over the same row of other matrices `{n_cols, n}`, vectors
/// `{n_cols}` and row numbers, i32, which a `T` stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rows<T> {
    /// `x`
    Same {
        /// `{n_cols, n}`
        x: T,
    },
    /// `norm(x + y) * weight + bias`, over the whole row.
    Norm {
        /// `{n_cols, n}`
        x: T,
        /// `{n_cols, n}`
        y: Option<T>,
        /// `{n_cols}`
        weight: T,
        /// `{n_cols}`
        bias: T,
        /// Added to the variance.
        eps: f32,
    },
    /// `x + (before - x) * (lerp + mix)`; `before` is the row of x before this one.
    Shifted {
        /// `{n_cols, n}`
        x: T,
        /// `{n_cols, n_lanes}`: what stands before the first row of each lane.
        states: T,
        /// `{n}`: the row before is 0 zeros, 1 + l row l of `states`, 1 + n_lanes + i row i of x.
        shift: T,
        /// `{n_cols}`
        lerp: T,
        /// `{n_cols, n}`
        mix: Option<T>,
    },
    /// `tanh` of `n_cols` columns of x from `first` on.
    Tanh {
        /// `{width, n}`
        x: T,
        /// Columns of x.
        width: usize,
        /// First column.
        first: usize,
        /// Number of columns.
        n_cols: usize,
    },
    /// `max(x, 0)^2`
    SquaredRelu {
        /// `{n_cols, n}`
        x: T,
    },
    /// `(norm(x) * weight + bias) * gate * sigmoid(gate)`, the norm over each head.
    NormGated {
        /// `{n_cols, n}`
        x: T,
        /// Columns of a head.
        head_size: usize,
        /// `{n_cols}`
        weight: T,
        /// `{n_cols}`
        bias: T,
        /// Added to the variance.
        eps: f32,
        /// `{n_cols, n}`
        gate: T,
    },
    /// `(x + y + v * sigmoid(gate)) * scale`
    AddGated {
        /// `{n_cols, n}`
        x: T,
        /// `{n_cols, n}`
        y: T,
        /// `{n_cols, n}`
        v: T,
        /// `{n_cols, n}`
        gate: T,
        /// A power of two.
        scale: f32,
    },
}

impl<T: Copy> Rows<T> {
    /// The matrix with the rows that go in.
    pub fn x(&self) -> T {
        match *self {
            Self::Same { x }
            | Self::Norm { x, .. }
            | Self::Shifted { x, .. }
            | Self::Tanh { x, .. }
            | Self::SquaredRelu { x }
            | Self::NormGated { x, .. }
            | Self::AddGated { x, .. } => x,
        }
    }

    /// The same expression over what `f` makes of its operands, which it meets in a fixed order.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Rows<U> {
        match self {
            Self::Same { x } => Rows::Same { x: f(x) },
            Self::Norm { x, y, weight, bias, eps } => {
                Rows::Norm { x: f(x), y: y.map(&mut f), weight: f(weight), bias: f(bias), eps }
            }
            Self::Shifted { x, states, shift, lerp, mix } => Rows::Shifted {
                x: f(x),
                states: f(states),
                shift: f(shift),
                lerp: f(lerp),
                mix: mix.map(f),
            },
            Self::Tanh { x, width, first, n_cols } => Rows::Tanh { x: f(x), width, first, n_cols },
            Self::SquaredRelu { x } => Rows::SquaredRelu { x: f(x) },
            Self::NormGated { x, head_size, weight, bias, eps, gate } => Rows::NormGated {
                x: f(x),
                head_size,
                weight: f(weight),
                bias: f(bias),
                eps,
                gate: f(gate),
            },
            Self::AddGated { x, y, v, gate, scale } => {
                Rows::AddGated { x: f(x), y: f(y), v: f(v), gate: f(gate), scale }
            }
        }
    }
}

impl Rows<usize> {
    /// Whether operands of these numbers of elements are what `n` rows of `n_cols` need.
    pub fn fits(self, n_cols: usize, n: usize) -> bool {
        let is_matrix = |size| size == n_cols * n;
        let is_vector = |size| size == n_cols;
        match self {
            Self::Same { x } | Self::SquaredRelu { x } => is_matrix(x),
            Self::Norm { x, y, weight, bias, .. } => {
                is_matrix(x) && y.is_none_or(is_matrix) && is_vector(weight) && is_vector(bias)
            }
            Self::Shifted { x, states, shift, lerp, mix } => {
                let inputs = is_matrix(x) && is_vector(lerp) && mix.is_none_or(is_matrix);
                inputs && states.is_multiple_of(n_cols) && shift == n
            }
            Self::Tanh { x, width, first, n_cols } => x == width * n && first + n_cols <= width,
            Self::NormGated { x, head_size, weight, bias, gate, .. } => {
                let affine = is_vector(weight) && is_vector(bias);
                is_matrix(x) && is_matrix(gate) && affine && n_cols.is_multiple_of(head_size)
            }
            Self::AddGated { x, y, v, gate, .. } => [x, y, v, gate].into_iter().all(is_matrix),
        }
    }
}

impl Rows<&[f32]> {
    /// Computes row `row`; row numbers are the bits of the f32 values of `shift`. Panics where an
    /// operand has no such row.
    pub fn compute(self, row: usize, out: &mut [f32]) {
        self.compute_on(InstructionSet::best(), row, out);
    }

    pub(super) fn compute_on(self, set: InstructionSet, row: usize, out: &mut [f32]) {
        dispatch(set, RowKernel { rows: self, row, out });
    }
}

struct RowKernel<'a> {
    rows: Rows<&'a [f32]>,
    row: usize,
    out: &'a mut [f32],
}

impl Kernel for RowKernel<'_> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(self) {
        let Self { rows, row, out } = self;
        let n = out.len();
        match rows {
            Rows::Same { x } => out.copy_from_slice(part(x, row, n)),
            Rows::Norm { x, y, weight, bias, eps } => {
                let x = part(x, row, n);
                match y {
                    None => out.copy_from_slice(x),
                    Some(y) => {
                        for (out, (x, y)) in out.iter_mut().zip(x.iter().zip(part(y, row, n))) {
                            *out = x + y;
                        }
                    }
                }
                norm(out, part(weight, 0, n), part(bias, 0, n), eps);
            }
            Rows::Shifted { x, states, shift, lerp, mix } => {
                let before = bytemuck::cast_slice::<f32, i32>(shift)[row] as usize;
                let n_lanes = states.len() / n;
                let before = match before {
                    0 => None,
                    _ if before <= n_lanes => Some(part(states, before - 1, n)),
                    _ => Some(part(x, before - 1 - n_lanes, n)),
                };
                let (x, lerp) = (part(x, row, n), part(lerp, 0, n));
                let lerp = lerp.iter().copied();
                let share = mix.map(|mix| lerp.clone().zip(part(mix, row, n)).map(|(l, m)| l + m));
                match (before, share) {
                    (None, None) => toward(out, x, iter::repeat(0.0), lerp),
                    (None, Some(share)) => toward(out, x, iter::repeat(0.0), share),
                    (Some(before), None) => toward(out, x, before.iter().copied(), lerp),
                    (Some(before), Some(share)) => toward(out, x, before.iter().copied(), share),
                }
            }
            Rows::Tanh { x, width, first, .. } => {
                let x = &part(x, row, width)[first..first + n];
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = tanh(x);
                }
            }
            Rows::SquaredRelu { x } => {
                for (out, &x) in out.iter_mut().zip(part(x, row, n)) {
                    // A NaN is not below zero and remains.
                    let positive = if x < 0.0 { 0.0 } else { x };
                    *out = positive * positive;
                }
            }
            Rows::NormGated { x, head_size, weight, bias, eps, gate } => {
                out.copy_from_slice(part(x, row, n));
                let affine = weight.chunks_exact(head_size).zip(bias.chunks_exact(head_size));
                for (head, (weight, bias)) in out.chunks_exact_mut(head_size).zip(affine) {
                    norm(head, weight, bias, eps);
                }
                for (out, &gate) in out.iter_mut().zip(part(gate, row, n)) {
                    *out *= gate * sigmoid(gate);
                }
            }
            Rows::AddGated { x, y, v, gate, scale } => {
                let stream = part(x, row, n).iter().zip(part(y, row, n));
                let added = part(v, row, n).iter().zip(part(gate, row, n));
                for (out, ((x, y), (v, gate))) in out.iter_mut().zip(stream.zip(added)) {
                    *out = (x + y + v * sigmoid(*gate)) * scale;
                }
            }
        }
    }
}

/// From `x` to `before`, as far as `share` says.
#[inline(always)]
fn toward(
    out: &mut [f32],
    x: &[f32],
    before: impl Iterator<Item = f32>,
    share: impl Iterator<Item = f32>,
) {
    for (out, ((x, before), share)) in out.iter_mut().zip(x.iter().zip(before).zip(share)) {
        *out = x + (before - x) * share;
    }
}

/// Row `row` of a matrix of `n` columns.
#[inline(always)]
fn part(matrix: &[f32], row: usize, n: usize) -> &[f32] {
    &matrix[row * n..][..n]
}
