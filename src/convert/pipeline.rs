//! The work itself: pieces of tensors are read, checked, quantized to every type that a plan
//! wants, and written to their places.
//!
//! A piece is a few rows. Every thread takes the next piece in file order, so memory is a few
//! pieces for each thread, whatever the size of the model; the bytes do not depend on who did what.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use super::source::TensorSource;
use crate::error::{Error, Result};
use crate::ggml::{self, TensorType};
use crate::gguf::Writer;
use crate::progress::Progress;
use crate::quant;
use crate::recipe::Plan;

/// Weights in a piece, roughly: 4 MiB as f32.
const PIECE: usize = 1 << 20;

/// More than any quantized type can hold: that of widest reach is q6_k, to 65504 x 127 x 32. The
/// search for its scale overflows on such a weight, and all of its block would silently become 0.
const REACH: f32 = 1e9;

/// A file being written.
pub(super) struct Output<'a> {
    pub(super) plan: &'a Plan,
    pub(super) writer: &'a Writer,
}

/// Some rows of one tensor.
struct Piece {
    tensor: usize,
    first: usize,
    n: usize,
}

/// Where the bytes of a tensor go: output, row of its plan.
struct Place {
    output: usize,
    row: usize,
}

/// Quantizes every tensor of `source` into all `outputs` with `n_threads` threads.
pub(super) fn run(
    source: &dyn TensorSource,
    outputs: &[Output<'_>],
    n_threads: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let pieces = pieces(source);
    let work = Work { source, outputs, places: places(source, outputs), progress };
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
    let threads =
        threads.map_err(|e| Error::argument(format!("cannot start {n_threads} threads: {e}")))?;
    threads.broadcast(|_| {
        let mut scratch = Scratch::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(index) else { return };
            if let Err(error) = work.piece(piece, &mut scratch) {
                // Of several failures the first in the file is told, on any number of threads.
                let mut first = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if first.as_ref().is_none_or(|(at, _)| index < *at) {
                    *first = Some((index, error));
                }
                next.store(pieces.len(), Ordering::Relaxed);
                return;
            }
        }
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn pieces(source: &dyn TensorSource) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (tensor, planned) in source.tensors().iter().enumerate() {
        let n = planned.shape.n_elements();
        let rows = (PIECE / planned.shape.n_cols()).max(1);
        let step = if source.in_pieces(tensor) { rows * planned.shape.n_cols() } else { n };
        let starts = (0..n).step_by(step);
        pieces.extend(starts.map(|first| Piece { tensor, first, n: step.min(n - first) }));
    }
    pieces
}

/// For each tensor: the types it is wanted in, and where.
fn places(
    source: &dyn TensorSource,
    outputs: &[Output<'_>],
) -> Vec<BTreeMap<TensorType, Vec<Place>>> {
    let mut places: Vec<BTreeMap<TensorType, Vec<Place>>> =
        source.tensors().iter().map(|_| BTreeMap::new()).collect();
    for (output, Output { plan, .. }) in outputs.iter().enumerate() {
        for (row, planned) in plan.rows.iter().enumerate() {
            places[planned.source].entry(planned.to).or_default().push(Place { output, row });
        }
    }
    places
}

#[derive(Default)]
struct Scratch {
    values: Vec<f32>,
    bytes: Vec<u8>,
}

struct Work<'a> {
    source: &'a dyn TensorSource,
    outputs: &'a [Output<'a>],
    places: Vec<BTreeMap<TensorType, Vec<Place>>>,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    fn piece(&self, piece: &Piece, scratch: &mut Scratch) -> Result<()> {
        if self.progress.cancelled() {
            return Err(Error::Interrupted);
        }
        let tensor = &self.source.tensors()[piece.tensor];
        scratch.values.resize(piece.n, 0.0);
        self.source.read(piece.tensor, piece.first, &mut scratch.values)?;
        if let Some(i) = scratch.values.iter().position(|value| !value.is_finite()) {
            let value = if scratch.values[i].is_nan() { "NaN" } else { "infinite" };
            let what = format!("tensor {:?}: element {} is {value}", tensor.name, piece.first + i);
            return Err(Error::non_finite(
                self.source.path(),
                format!("{what}; nothing was written"),
            ));
        }
        let n_cols = tensor.shape.n_cols();
        for (&ty, places) in &self.places[piece.tensor] {
            let row_bytes = ty.row_bytes(n_cols).expect("a plan names types that fill the rows");
            scratch.bytes.resize(row_bytes * (piece.n / n_cols), 0);
            quantize(ty, &scratch.values, n_cols, &mut scratch.bytes);
            if let Some((i, value)) = too_large(ty, &scratch.values, n_cols, &scratch.bytes) {
                let (name, at) = (&tensor.name, piece.first + i);
                let value =
                    if value.abs() < 1e6 { value.to_string() } else { format!("{value:e}") };
                let what = format!(
                    "tensor {name:?}: element {at} is {value}, too large for {ty}; choose a wider type"
                );
                return Err(Error::non_finite(self.source.path(), what));
            }
            let offset = (piece.first / n_cols * row_bytes) as u64;
            for place in places {
                self.outputs[place.output].writer.write_at(place.row, offset, &scratch.bytes)?;
            }
        }
        self.progress.advance(piece.n as u64);
        Ok(())
    }
}

/// Our own quantizers where there is one, which write the bytes that ggml's write; ggml's otherwise.
fn quantize(ty: TensorType, values: &[f32], n_cols: usize, out: &mut [u8]) {
    if quant::supports(ty) {
        quant::quantize(ty, values, n_cols, None, out);
    } else {
        ggml::quantize(ty, values, n_cols, None, out);
    }
}

/// The element that `ty` cannot hold, if `bytes`, which `values` were quantized to, have a scale
/// or a value that is not finite.
fn too_large(ty: TensorType, values: &[f32], n_cols: usize, bytes: &[u8]) -> Option<(usize, f32)> {
    let fits = |values: &[f32], bytes: &[u8]| {
        let in_reach = !ty.is_quantized() || values.iter().all(|value| value.abs() <= REACH);
        in_reach && ggml::all_finite(ty, bytes)
    };
    if fits(values, bytes) {
        return None;
    }
    let row_bytes = ty.row_bytes(n_cols)?;
    let mut rows = values.chunks_exact(n_cols).zip(bytes.chunks_exact(row_bytes));
    let row = rows.position(|(values, bytes)| !fits(values, bytes))?;
    let elements = (row * n_cols..).zip(&values[row * n_cols..(row + 1) * n_cols]);
    let largest = elements.max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
    largest.map(|(i, &value)| (i, value))
}
