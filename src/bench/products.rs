//! The matrix products alone, on the model's own weights.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::ggml::format_of;
use crate::gguf::TensorInfo;
use crate::matmul::{
    multiply, Arithmetic, Columns, Machine, Matrix, Parts, Scratch, PANEL_ROWS, TILE_TOKENS,
};
use crate::model::Model;

/// Speed of the product of one matrix.
#[derive(Debug, Clone, Serialize)]
pub struct ProductSpeed {
    /// Type of its weights.
    pub tensor_type: String,
    /// The largest matrix of this type.
    pub tensor: String,
    /// Tokens that it is multiplied with.
    pub n_tokens: usize,
    /// Multiply-adds of all threads together, preparing the activations left out.
    pub multiply_adds_per_s: f64,
    /// Which ceiling it stands under.
    #[serde(with = "ArithmeticName")]
    pub arithmetic: Arithmetic,
}

/// What [`Arithmetic`] is called in JSON: the rooms below know no serde.
#[derive(Serialize)]
#[serde(remote = "Arithmetic", rename_all = "lowercase")]
enum ArithmeticName {
    Int8,
    Int16,
    BF16,
    Winograd,
    Float,
}

/// Repeats, of which the best counts.
const REPEATS: usize = 5;

/// One product for each tensor type that has one; none without tokens.
pub(super) fn measure(
    model: &Model,
    machine: Machine,
    n_tokens: usize,
    n_threads: usize,
) -> Vec<ProductSpeed> {
    let n_tokens = n_tokens / TILE_TOKENS * TILE_TOKENS;
    if n_tokens == 0 {
        return Vec::new();
    }
    let file = model.file();
    let mut largest: BTreeMap<String, &TensorInfo> = BTreeMap::new();
    for tensor in file.tensors() {
        let is_matrix = tensor.shape.n_rows() >= PANEL_ROWS;
        if is_matrix && tensor.name.starts_with("blk.") && format_of(tensor.ty).is_some() {
            let entry = largest.entry(tensor.ty.name()).or_insert(tensor);
            if entry.bytes < tensor.bytes {
                *entry = tensor;
            }
        }
    }
    let speed = |(tensor_type, tensor): (String, &TensorInfo)| {
        let format = format_of(tensor.ty)?;
        let matrix = Matrix::new(format, file.data(tensor), tensor.shape.n_cols());
        let best = (0..REPEATS)
            .map(|_| seconds(machine, matrix, tensor.shape.n_cols(), n_tokens, n_threads))
            .fold(f64::INFINITY, f64::min);
        let multiply_adds = tensor.shape.n_elements() as f64 * n_tokens as f64;
        Some(ProductSpeed {
            tensor_type,
            tensor: tensor.name.clone(),
            n_tokens,
            multiply_adds_per_s: multiply_adds / best,
            arithmetic: format.arithmetic(machine),
        })
    };
    largest.into_iter().filter_map(speed).collect()
}

/// Seconds of one product, its parts taken by threads as in a graph.
fn seconds(
    machine: Machine,
    matrix: Matrix<'_>,
    n_in: usize,
    n_tokens: usize,
    n_threads: usize,
) -> f64 {
    let row: Vec<f32> = (0..n_in).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let activations = matrix.activations(machine);
    let row_bytes = activations.row_bytes(n_in);
    // Memory of numbers, for the alignment of their bytes.
    let mut memory = vec![0u64; (row_bytes * n_tokens).div_ceil(8)];
    let prepared = &mut bytemuck::cast_slice_mut(&mut memory)[..row_bytes * n_tokens];
    prepared.chunks_exact_mut(row_bytes).for_each(|out| activations.prepare(machine, &row, out));
    let prepared = &*prepared;
    let parts = Parts::default();
    let run = || {
        let width = matrix.part_rows(n_threads);
        let (mut scratch, mut out) = (Scratch::default(), vec![0f32; width * n_tokens]);
        let begin = Instant::now();
        while let Some(part) = parts.take(&matrix, n_threads) {
            let mut columns = Columns::all(&mut out, width);
            let columns = columns.part(0..part.rows.len(), false);
            multiply(machine, matrix, part, prepared, &mut scratch, columns);
        }
        let seconds = begin.elapsed().as_secs_f64();
        std::hint::black_box(out);
        seconds
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).fold(0.0, f64::max)
    })
}
