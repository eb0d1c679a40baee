//! The recurrence of RWKV-6. For each head, with the state `s` from keys `i` to values `j`:
//!
//! ```text
//! out_j = sum_i r_i (s_ij + bonus_i k_i v_j)
//! s_ij  = w_i s_ij + k_i v_j        w_i = exp(-exp(base_i + decay_i))
//! ```

// Loops run over the same index of several arrays.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::exponential::exp;
use crate::simd::{dispatch, prefetch, InstructionSet, Kernel, Lanes};

/// Operands for all heads and lanes. C = heads * head size; rows of a lane are consecutive, and each
/// stands behind any row above it.
#[derive(Debug, Clone, Copy)]
pub struct Recurrence<'a> {
    /// Keys, values, receptances, and decay without its base: `{C, n}` each.
    pub k: &'a [f32],
    /// See `k`.
    pub v: &'a [f32],
    /// See `k`.
    pub r: &'a [f32],
    /// See `k`.
    pub decay: &'a [f32],
    /// `{C}`
    pub base: &'a [f32],
    /// `{C}`
    pub bonus: &'a [f32],
    /// `[lane][head][i][j]`
    pub states: &'a [f32],
    /// `{n}`, what stands before each row: 0 nothing, so that it meets an empty state; 1 to the
    /// number of lanes the end of a lane before, for its first row; above that a row above it in
    /// the same lane, counted from there.
    pub shift: &'a [i32],
    /// Width of a head.
    pub head_size: usize,
    /// Number of lanes.
    pub n_lanes: usize,
}

impl Recurrence<'_> {
    /// Heads of all lanes.
    pub fn n_heads(&self) -> usize {
        self.base.len() / self.head_size * self.n_lanes
    }

    /// The row of which `row` meets the state: one of its lane.
    fn before(&self, row: usize) -> Option<usize> {
        row_before(self.shift[row], self.n_lanes)
    }

    /// Runs head `index` of all: hands `receive` each row of the lane with the head's outputs
    /// `[head_size]`, and returns its state after the last row, `[head_size][head_size]`.
    pub fn run(&self, index: usize, receive: impl FnMut(usize, &[f32])) -> Vec<f32> {
        self.run_on(InstructionSet::best(), index, receive)
    }

    pub(super) fn run_on(
        &self,
        set: InstructionSet,
        index: usize,
        receive: impl FnMut(usize, &[f32]),
    ) -> Vec<f32> {
        let mut state = vec![0.0; self.head_size * self.head_size];
        dispatch(set, HeadKernel { all: self, index, receive, last: &mut state });
        state
    }
}

/// The row that stands before one, if what [`Recurrence::shift`] says for it is a row.
pub fn row_before(shift: i32, n_lanes: usize) -> Option<usize> {
    usize::try_from(shift).ok()?.checked_sub(1 + n_lanes)
}

struct HeadKernel<'a, F> {
    all: &'a Recurrence<'a>,
    index: usize,
    receive: F,
    last: &'a mut [f32],
}

/// States behind rows that others than the next one stand behind.
struct Forks {
    first: usize,
    /// By row, whether it is one; the states in the order in which they came.
    is_fork: Vec<bool>,
    states: Vec<(usize, Vec<f32>)>,
}

impl Forks {
    fn new(all: &Recurrence<'_>, rows: Range<usize>) -> Self {
        let mut is_fork = vec![false; rows.len()];
        for row in rows.clone() {
            if let Some(before) = all.before(row).filter(|before| before + 1 != row) {
                is_fork[before - rows.start] = true;
            }
        }
        Self { first: rows.start, is_fork, states: Vec::new() }
    }

    fn at(&self, row: usize) -> bool {
        self.is_fork[row - self.first]
    }

    fn keep(&mut self, row: usize, state: &[f32]) {
        if self.at(row) {
            self.states.push((row, state.to_vec()));
        }
    }

    /// Panics unless the row has been kept.
    fn recall(&self, row: usize, state: &mut [f32]) {
        let at = self.states.binary_search_by_key(&row, |&(row, _)| row).expect("a row above");
        state.copy_from_slice(&self.states[at].1);
    }
}

/// One row of one head; as many values as registers want, zeros at the end.
struct Row {
    k: Vec<f32>,
    v: Vec<f32>,
    r: Vec<f32>,
    w: Vec<f32>,
    out: Vec<f32>,
    /// `sum_i r_i bonus_i k_i`
    bonus: f32,
}

impl<F: FnMut(usize, &[f32])> Kernel for HeadKernel<'_, F> {
    #[inline(always)]
    fn run<L: Lanes, Wide: Lanes>(mut self) {
        let (all, size) = (self.all, self.all.head_size);
        let padded = size.next_multiple_of(Wide::LANES);
        let n_rows = all.shift.len() / all.n_lanes;
        let first = self.index / (all.n_heads() / all.n_lanes) * n_rows;
        // Rows of the state begin at multiples of a register.
        let mut state = vec![0.0; size * padded];
        let states = all.states[self.index * size * size..].chunks_exact(size);
        for (row, values) in state.chunks_exact_mut(padded).zip(states) {
            row[..size].copy_from_slice(values);
        }
        let (mut one, mut two) = (Row::new(size, padded), Row::new(size, padded));
        let end = first + n_rows;
        let mut forks = Forks::new(all, first..end);
        let mut at = first;
        while at < end {
            match all.before(at) {
                _ if all.shift[at] == 0 => state.fill(0.0),
                Some(before) if before + 1 != at => forks.recall(before, &mut state),
                _ => {}
            }
            one.load(all, self.index, at);
            // Two rows share one way of the state through the registers.
            let n = if at + 1 < end && all.before(at + 1) == Some(at) && !forks.at(at) {
                two.load(all, self.index, at + 1);
                step::<Wide, 2>(&mut state, size, padded, [&mut one, &mut two]);
                (self.receive)(at, &one.out[..size]);
                (self.receive)(at + 1, &two.out[..size]);
                2
            } else {
                step::<Wide, 1>(&mut state, size, padded, [&mut one]);
                (self.receive)(at, &one.out[..size]);
                1
            };
            at += n;
            forks.keep(at - 1, &state);
        }
        for (values, row) in self.last.chunks_exact_mut(size).zip(state.chunks_exact(padded)) {
            values.copy_from_slice(&row[..size]);
        }
    }
}

/// Rows from one to that which is brought nearer meanwhile.
const AHEAD: usize = 4;

impl Row {
    fn new(size: usize, padded: usize) -> Self {
        let zeros = |n| vec![0.0; n];
        Self {
            k: zeros(size),
            v: zeros(padded),
            r: zeros(size),
            w: zeros(size),
            out: zeros(padded),
            bonus: 0.0,
        }
    }

    #[inline(always)]
    fn load(&mut self, all: &Recurrence<'_>, index: usize, row: usize) {
        let (size, c) = (all.head_size, all.base.len());
        let head = index % (c / size) * size;
        let at = row * c + head;
        // Rows of a head lie so far apart that the processor does not foresee them.
        let ahead = at + AHEAD * c;
        for values in [all.k, all.v, all.r, all.decay] {
            if let Some(values) = values.get(ahead..ahead + size) {
                prefetch(values);
            }
        }
        self.k.copy_from_slice(&all.k[at..at + size]);
        self.v[..size].copy_from_slice(&all.v[at..at + size]);
        self.r.copy_from_slice(&all.r[at..at + size]);
        let decay = all.decay[at..at + size].iter().zip(&all.base[head..head + size]);
        for (w, (decay, base)) in self.w.iter_mut().zip(decay) {
            *w = exp(-exp(decay + base));
        }
        self.bonus = dot(&self.r, &all.bonus[head..head + size], &self.k);
    }
}

/// Sum of `a b c`, in an order that is the same on every processor.
#[inline(always)]
fn dot(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0f32; LANES];
    let whole = a.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let (a, b, c) = (&a[at..at + LANES], &b[at..at + LANES], &c[at..at + LANES]);
        for l in 0..LANES {
            sums[l] += a[l] * b[l] * c[l];
        }
    }
    let mut total = 0.0;
    for i in whole..a.len() {
        total += a[i] * b[i] * c[i];
    }
    for sum in sums {
        total += sum;
    }
    total
}

/// `N` rows, one after the other, on a state `[size][padded]`.
#[inline(always)]
fn step<L: Lanes, const N: usize>(
    state: &mut [f32],
    size: usize,
    padded: usize,
    rows: [&mut Row; N],
) {
    for column in (0..padded).step_by(L::LANES) {
        let (mut v, mut out) = ([L::zero(); N], [L::zero(); N]);
        for n in 0..N {
            v[n] = L::load(&rows[n].v[column..]);
            out[n] = v[n] * L::splat(rows[n].bonus);
        }
        for i in 0..size {
            let place = &mut state[i * padded + column..][..L::LANES];
            let mut s = L::load(place);
            for n in 0..N {
                let row = &*rows[n];
                out[n] = out[n] + L::splat(row.r[i]) * s;
                s = s * L::splat(row.w[i]) + L::splat(row.k[i]) * v[n];
            }
            s.store(place);
        }
        for n in 0..N {
            out[n].store(&mut rows[n].out[column..]);
        }
    }
}
