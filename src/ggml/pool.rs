//! Pooling of ragged segments inside the graph, as an operation of our own.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;

use ggml_sys as sys;

use super::graph::share;
use crate::rowwise::row_before;

/// What a segment of rows becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum SegmentPool {
    /// The sum of its rows, accumulated in f64.
    Sum,
    /// The element-wise maximum.
    Max,
    /// The last row.
    Last,
    /// The sum of the squares of its elements, accumulated in f64.
    SumOfSquares,
}

/// Pools the columns of this thread of every segment.
///
/// # Safety
/// Called by ggml alone, with a `dst` that `Graph::pool` made: f32 `{n_cols, n_segments}`,
/// source 0 contiguous f32 `{n_cols, n}`, sources 1 and 2 contiguous i32 `{n_segments}` and `{n}`,
/// all allocated, `userdata` a [`PoolOp`] as an address.
pub(super) unsafe extern "C" fn pool_segments(
    dst: *mut sys::ggml_tensor,
    ith: c_int,
    nth: c_int,
    userdata: *mut c_void,
) {
    // SAFETY: per the contract above these tensors and their data are alive during the call and
    // have the stated shapes; sources are not written by anyone meanwhile. Each thread makes
    // slices of the output that cover its own columns only, so no two overlap.
    unsafe {
        let (x, last) = (&*(*dst).src[0], &*(*dst).src[1]);
        let (n_cols, n_rows) = (x.ne[0] as usize, x.ne[1] as usize);
        let x = slice::from_raw_parts(x.data.cast::<f32>(), n_cols * n_rows);
        let n_segments = (*dst).ne[1] as usize;
        let last = slice::from_raw_parts(last.data.cast::<i32>(), n_segments);
        let shift = slice::from_raw_parts((*(*dst).src[2]).data.cast::<i32>(), n_rows);
        let Range { start: from, end: to } = share(n_cols, ith, nth);
        if from == to {
            return;
        }
        let PoolOp { how, n_lanes } = PoolOp::from_address(userdata.addr());
        let mut rows = Vec::new();
        for (i, &last) in last.iter().enumerate() {
            rows_of(last, shift, n_lanes, &mut rows);
            let out = (*dst).data.cast::<f32>().add(i * n_cols + from);
            let out = slice::from_raw_parts_mut(out, to - from);
            pool(rows.iter().map(|&row| &x[row * n_cols..][from..to]), how, out);
        }
    }
}

/// What [`pool_segments`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolOp {
    pub(super) how: SegmentPool,
    pub(super) n_lanes: usize,
}

impl PoolOp {
    /// By their numbers, which an address is made from.
    const KINDS: [SegmentPool; 4] =
        [SegmentPool::Sum, SegmentPool::Max, SegmentPool::Last, SegmentPool::SumOfSquares];

    /// As a pointer's value; nothing is pointed to.
    pub(super) fn address(self) -> usize {
        self.n_lanes * Self::KINDS.len() + self.how as usize
    }

    fn from_address(address: usize) -> Self {
        let n = Self::KINDS.len();
        Self { how: Self::KINDS[address % n], n_lanes: address / n }
    }
}

/// The rows that stand behind each other up to row `last`, in this order: see `Io::shift`. None if
/// there is no such row.
fn rows_of(last: i32, shift: &[i32], n_lanes: usize, rows: &mut Vec<usize>) {
    rows.clear();
    let mut next = usize::try_from(last).ok().filter(|&row| row < shift.len());
    while let Some(row) = next {
        rows.push(row);
        // A row stands above those behind it; anything else would never end.
        next = row_before(shift[row], n_lanes).filter(|&before| before < row);
    }
    rows.reverse();
}

fn pool<'a>(
    mut rows: impl DoubleEndedIterator<Item = &'a [f32]>,
    how: SegmentPool,
    out: &mut [f32],
) {
    match how {
        SegmentPool::Sum => sum(rows, out, |value| value),
        SegmentPool::SumOfSquares => sum(rows, out, |value| value * value),
        SegmentPool::Max => {
            out.fill(f32::NEG_INFINITY);
            for row in rows {
                for (o, &value) in out.iter_mut().zip(row) {
                    // A NaN must come through: it is reported, not hidden.
                    *o = if value > *o || value.is_nan() { value } else { *o };
                }
            }
        }
        SegmentPool::Last => {
            if let Some(row) = rows.next_back() {
                out.copy_from_slice(row);
            }
        }
    }
}

fn sum<'a>(rows: impl Iterator<Item = &'a [f32]>, out: &mut [f32], term: impl Fn(f64) -> f64) {
    let mut sums = vec![0f64; out.len()];
    for row in rows {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += term(f64::from(value));
        }
    }
    for (o, sum) in out.iter_mut().zip(sums) {
        *o = sum as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_is_done() {
        for how in PoolOp::KINDS {
            for n_lanes in [1, 7, 4096] {
                let op = PoolOp { how, n_lanes };
                assert_eq!(PoolOp::from_address(op.address()), op);
            }
        }
    }

    #[test]
    fn rows_stand_behind_each_other() {
        // Two lanes of four rows; the last one goes on from the one before.
        let shift = [0, 3, 3, 5, 2, 7, 0, 8];
        let mut rows = Vec::new();
        for (last, expected) in [(3, vec![0, 2, 3]), (7, vec![4, 5, 7]), (6, vec![6])] {
            rows_of(last, &shift, 2, &mut rows);
            assert_eq!(rows, expected);
        }
        // What no packer makes: a row that is not there, and one behind itself.
        rows_of(8, &shift, 2, &mut rows);
        assert!(rows.is_empty());
        rows_of(0, &[4], 2, &mut rows);
        assert_eq!(rows, [0]);
    }
}
