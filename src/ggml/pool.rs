//! Pooling of ragged segments inside the graph, as an operation of our own.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;

use ggml_sys as sys;

use super::graph::share;

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
/// source 0 contiguous f32 `{n_cols, n}`, source 1 contiguous i32 `{2 * n_segments}`, all
/// allocated, `userdata` a `SegmentPool` as an address.
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
        let (x, segments) = (&*(*dst).src[0], &*(*dst).src[1]);
        let (n_cols, n_rows) = (x.ne[0] as usize, x.ne[1] as usize);
        let x = slice::from_raw_parts(x.data.cast::<f32>(), n_cols * n_rows);
        let n_segments = (*dst).ne[1] as usize;
        let segments = slice::from_raw_parts(segments.data.cast::<i32>(), 2 * n_segments);
        let Range { start: from, end: to } = share(n_cols, ith, nth);
        let how = userdata.addr();
        for (i, bounds) in segments.chunks_exact(2).enumerate() {
            let (first, end) = (bounds[0].max(0) as usize, bounds[1].max(0) as usize);
            if first >= end || end > n_rows || from == to {
                continue;
            }
            let out = (*dst).data.cast::<f32>().add(i * n_cols + from);
            let out = slice::from_raw_parts_mut(out, to - from);
            let rows = x[first * n_cols..end * n_cols].chunks_exact(n_cols);
            pool(rows.map(|row| &row[from..to]), how, out);
        }
    }
}

fn pool<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, how: usize, out: &mut [f32]) {
    if how == SegmentPool::Sum as usize {
        sum(rows, out, |value| value);
    } else if how == SegmentPool::SumOfSquares as usize {
        sum(rows, out, |value| value * value);
    } else if how == SegmentPool::Max as usize {
        out.fill(f32::NEG_INFINITY);
        for row in rows {
            for (o, &value) in out.iter_mut().zip(row) {
                // A NaN must come through: it is reported, not hidden.
                *o = if value > *o || value.is_nan() { value } else { *o };
            }
        }
    } else if let Some(row) = rows.last() {
        out.copy_from_slice(row);
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
