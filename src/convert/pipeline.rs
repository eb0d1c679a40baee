//! The work itself: pieces of tensors are read, checked, quantized to every type that a plan
//! wants, and written to their places.
//!
//! A piece is a few rows. Every thread takes the next piece in file order, so memory is a few
//! pieces for each thread, whatever the size of the model; the bytes do not depend on who did what.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::importance::Weights;
use super::report::{ConvertReport, FileReport, Sums};
use super::source::TensorSource;
use super::ConvertOptions;
use crate::error::{Error, Result};
use crate::ggml::{self, TensorType};
use crate::gguf::Writer;
use crate::progress::Progress;
use crate::quant;
use crate::recipe::Plan;

/// Weights in a piece, roughly: 1 MiB as f32, so that a piece stays in the cache from the read to
/// the last type it is quantized to.
const PIECE: usize = 1 << 18;

/// More than any quantized type can hold: that of widest reach is q6_k, to 65504 x 127 x 32. The
/// search for its scale overflows on such a weight, and all of its block would silently become 0.
const REACH: f32 = 1e9;
/// Largest weight that is quantized by codebook, far above any of a model that works.
const MAX_CODEBOOK: f32 = 1e6;

/// A file being written.
pub(super) struct Output<'a> {
    pub(super) plan: &'a Plan,
    pub(super) weights: &'a Weights,
    pub(super) writer: &'a Writer,
}

/// Some rows of one tensor.
struct Piece {
    tensor: usize,
    first: usize,
    n: usize,
}

/// A type that a tensor is wanted in, and where its bytes go.
struct Wanted<'a> {
    ty: TensorType,
    /// Importance of the columns of each matrix, one matrix after the other.
    weights: Option<&'a [f32]>,
    places: Vec<Place>,
}

/// Output, row of its plan.
struct Place {
    output: usize,
    row: usize,
}

/// Quantizes every tensor of `source` into all `outputs`.
pub(super) fn run(
    source: &dyn TensorSource,
    outputs: &[Output<'_>],
    options: ConvertOptions,
    progress: &dyn Progress,
) -> Result<ConvertReport> {
    let pieces = pieces(source);
    let work = Work {
        source,
        outputs,
        wanted: wanted(source, outputs),
        measure_errors: options.measure_errors,
        progress,
    };
    let n_threads = options.n_threads;
    let errors = Mutex::new(vec![Vec::new(); pieces.len()]);
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
            match work.piece(piece, &mut scratch) {
                Ok(sums) => errors.lock().unwrap_or_else(PoisonError::into_inner)[index] = sums,
                Err(error) => {
                    // Of several failures the first in the file is told, on any number of threads.
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(at, _)| index < *at) {
                        *first = Some((index, error));
                    }
                    next.store(pieces.len(), Ordering::Relaxed);
                    return;
                }
            }
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => {
            Ok(work.report(&pieces, &errors.into_inner().unwrap_or_else(PoisonError::into_inner)))
        }
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

/// For each tensor: what it is wanted as, each once, and where.
fn wanted<'a>(source: &dyn TensorSource, outputs: &[Output<'a>]) -> Vec<Vec<Wanted<'a>>> {
    let mut all: Vec<Vec<Wanted<'a>>> = source.tensors().iter().map(|_| Vec::new()).collect();
    for (output, Output { plan, weights, .. }) in outputs.iter().enumerate() {
        for (row, (planned, weights)) in plan.rows.iter().zip(*weights).enumerate() {
            let (ty, weights) = (planned.to, weights.as_deref());
            let of_tensor = &mut all[planned.source];
            let place = Place { output, row };
            match of_tensor.iter_mut().find(|w| w.ty == ty && w.weights == weights) {
                Some(wanted) => wanted.places.push(place),
                None => of_tensor.push(Wanted { ty, weights, places: vec![place] }),
            }
        }
    }
    all
}

#[derive(Default)]
struct Scratch {
    values: Vec<f32>,
    bytes: Vec<u8>,
    back: Vec<f32>,
}

struct Work<'a> {
    source: &'a dyn TensorSource,
    outputs: &'a [Output<'a>],
    wanted: Vec<Vec<Wanted<'a>>>,
    measure_errors: bool,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    /// Converts one piece; the errors of each type it is wanted in, if they are asked for.
    fn piece(&self, piece: &Piece, scratch: &mut Scratch) -> Result<Vec<Sums>> {
        if self.progress.cancelled() {
            return Err(Error::Interrupted);
        }
        let tensor = &self.source.tensors()[piece.tensor];
        let [n_cols, rows_per_matrix, ..] = tensor.shape.ne();
        let Scratch { values, bytes, back } = scratch;
        let values = at_least(values, piece.n);
        self.source.read(piece.tensor, piece.first, values)?;
        self.check_source(piece, values)?;
        let mut errors = Vec::new();
        for wanted in &self.wanted[piece.tensor] {
            let ty = wanted.ty;
            let row_bytes = ty.row_bytes(n_cols).expect("a plan names types that fill the rows");
            self.check_range(piece, ty, values)?;
            let bytes = at_least(bytes, row_bytes * (piece.n / n_cols));
            let first_row = piece.first / n_cols;
            let rows = Rows { n_cols, first: first_row, per_matrix: rows_per_matrix };
            quantize(wanted, rows, values, bytes);
            if let Some((i, value)) = too_large(ty, values, n_cols, bytes) {
                let (name, at) = (&tensor.name, piece.first + i);
                let value =
                    if value.abs() < 1e6 { value.to_string() } else { format!("{value:e}") };
                let what = format!(
                    "tensor {name:?}: element {at} is {value}, too large for {ty}; choose a wider type"
                );
                return Err(Error::non_finite(self.source.path(), what));
            }
            if self.measure_errors {
                let back = at_least(back, piece.n);
                ggml::to_f32(ty, bytes, back);
                let first_block = piece.first / ty.block_len();
                errors.push(Sums::of(values, back, ty.block_len(), first_block));
            }
            let offset = (first_row * row_bytes) as u64;
            for place in &wanted.places {
                self.outputs[place.output].writer.write_at(place.row, offset, bytes)?;
            }
        }
        self.progress.advance(piece.n as u64);
        Ok(errors)
    }

    fn check_source(&self, piece: &Piece, values: &[f32]) -> Result<()> {
        if all_finite(values) {
            return Ok(());
        }
        let Some(i) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let value = if values[i].is_nan() { "NaN" } else { "infinite" };
        let name = &self.source.tensors()[piece.tensor].name;
        let what = format!("tensor {name:?}: element {} is {value}", piece.first + i);
        Err(Error::non_finite(self.source.path(), format!("{what}; nothing was written")))
    }

    /// ggml ends the process where its search in a codebook overflows; so such values do not get
    /// there.
    fn check_range(&self, piece: &Piece, ty: TensorType, values: &[f32]) -> Result<()> {
        if quant::supports(ty) || !ty.is_quantized() {
            return Ok(());
        }
        let Some(i) = values.iter().position(|value| value.abs() > MAX_CODEBOOK) else {
            return Ok(());
        };
        let name = &self.source.tensors()[piece.tensor].name;
        let what = format!("tensor {name:?}: element {} ({:e})", piece.first + i, values[i]);
        let what = format!("{what} is too large for {ty}; choose a wider type");
        Err(Error::non_finite(self.source.path(), what))
    }

    /// Adds up the errors of the pieces, in the order of the file.
    fn report(&self, pieces: &[Piece], errors: &[Vec<Sums>]) -> ConvertReport {
        let mut files = vec![FileReport::default(); self.outputs.len()];
        if !self.measure_errors {
            return ConvertReport { files };
        }
        let mut sums: Vec<Vec<Sums>> =
            self.wanted.iter().map(|wanted| vec![Sums::default(); wanted.len()]).collect();
        for (piece, errors) in pieces.iter().zip(errors) {
            for (sums, errors) in sums[piece.tensor].iter_mut().zip(errors) {
                sums.extend(errors);
            }
        }
        for (wanted, sums) in self.wanted.iter().flatten().zip(sums.iter().flatten()) {
            for place in &wanted.places {
                let row = &self.outputs[place.output].plan.rows[place.row];
                if row.to != row.from {
                    let error = sums.finish(place.row, wanted.ty.block_len());
                    files[place.output].tensors.push(error);
                }
            }
        }
        files.iter_mut().for_each(|file| file.tensors.sort_by_key(|tensor| tensor.row));
        ConvertReport { files }
    }
}

/// The first `n` elements of a buffer that grows when it must: what is there is overwritten, so
/// nothing is cleared.
fn at_least<T: Copy + Default>(buffer: &mut Vec<T>, n: usize) -> &mut [T] {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
    &mut buffer[..n]
}

/// False if a value is NaN or infinite. Zero times such a value is NaN, which stays in the sum;
/// the loop has no branch and runs in registers.
fn all_finite(values: &[f32]) -> bool {
    const LANES: usize = 32;
    let mut sums = [0f32; LANES];
    let blocks = values.chunks_exact(LANES);
    let rest = blocks.remainder().iter().all(|value| value.is_finite());
    for block in blocks {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += value * 0.0;
        }
    }
    rest && sums.iter().all(|&sum| sum == 0.0)
}

/// Where rows lie in their tensor.
#[derive(Clone, Copy)]
struct Rows {
    n_cols: usize,
    first: usize,
    per_matrix: usize,
}

/// Quantizes `values` as `wanted`; the rows of each matrix with the weights of that matrix.
fn quantize(wanted: &Wanted<'_>, rows: Rows, values: &[f32], out: &mut [u8]) {
    let Some(weights) = wanted.weights else {
        return quantize_rows(wanted.ty, values, rows.n_cols, None, out);
    };
    let row_bytes = out.len() / (values.len() / rows.n_cols);
    let (mut row, mut values, mut out) = (rows.first, values, out);
    while !values.is_empty() {
        let matrix = row / rows.per_matrix;
        let n_rows = ((matrix + 1) * rows.per_matrix - row).min(values.len() / rows.n_cols);
        let (these, later) = values.split_at(n_rows * rows.n_cols);
        let (written, rest) = out.split_at_mut(n_rows * row_bytes);
        let weights = &weights[matrix * rows.n_cols..(matrix + 1) * rows.n_cols];
        quantize_rows(wanted.ty, these, rows.n_cols, Some(weights), written);
        (row, values, out) = (row + n_rows, later, rest);
    }
}

/// Our own quantizers where there is one, which write the bytes that ggml's write; ggml's otherwise.
fn quantize_rows(
    ty: TensorType,
    values: &[f32],
    n_cols: usize,
    weights: Option<&[f32]>,
    out: &mut [u8],
) {
    if quant::supports(ty) {
        quant::quantize(ty, values, n_cols, weights, out);
    } else {
        ggml::quantize(ty, values, n_cols, weights, out);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_value_is_seen_wherever_it_is() {
        let good: Vec<f32> = (0..100).map(|i| (i as f32 - 50.0) * 6e36).collect();
        assert!(all_finite(&good));
        assert!(all_finite(&[f32::MAX, f32::MIN, -0.0, f32::MIN_POSITIVE / 2.0]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for i in 0..good.len() {
                let mut values = good.clone();
                values[i] = bad;
                assert!(!all_finite(&values), "{bad} at {i}");
            }
        }
    }

    #[test]
    fn every_matrix_gets_its_own_weights() {
        let values: Vec<f32> = (0..6 * 32).map(|i| (i as f32 * 0.61).sin()).collect();
        let weights: Vec<f32> = (0..3 * 32).map(|i| 0.1 + (i % 37) as f32).collect();
        let ty = TensorType::Q4_0;
        let mut expected = Vec::new();
        for matrix in 0..3 {
            let mut out = vec![0; 2 * 18];
            let (values, weights) = (&values[matrix * 64..][..64], &weights[matrix * 32..][..32]);
            ggml::quantize(ty, values, 32, Some(weights), &mut out);
            expected.extend(out);
        }
        let wanted = Wanted { ty, weights: Some(&weights), places: Vec::new() };
        // Cut in the middle of a matrix, as a piece may be.
        for first in 0..6 {
            let rows = Rows { n_cols: 32, first, per_matrix: 2 };
            let mut out = vec![0; (6 - first) * 18];
            quantize(&wanted, rows, &values[first * 32..], &mut out);
            assert_eq!(out, expected[first * 18..], "from row {first}");
        }
    }
}
