//! An importance matrix and the tensors of a source: who gets which weights.

use std::sync::Arc;

use super::TensorSource;
use crate::arch::keys;
use crate::error::{Error, Result};
use crate::gguf::{Metadata, Value};
use crate::imatrix::Imatrix;
use crate::quant;
use crate::recipe::{Plan, PlanRow, PlanTensor};

/// The embedding table is looked up, not multiplied with, so an entry of another length is no sign
/// of a wrong file; llama.cpp passes it over too.
const TOKEN_EMBD: &str = "token_embd.weight";

/// Longest text in the metadata, in bytes: what llama-quantize keeps.
const MAX_TEXT: usize = 127;

/// Largest weight for the types that ggml quantizes by codebook: with larger ones its sums overflow,
/// and where they do it finds no entry and ends the process. No mean square comes near.
const MAX_WEIGHT: f32 = 1e20;

/// Weights for each row of a plan; `None` where there are none.
pub(super) type Weights = Vec<Option<Arc<[f32]>>>;

/// True if `imatrix` has weights for `tensor`.
pub(super) fn covers(imatrix: &Imatrix, tensor: &PlanTensor) -> bool {
    imatrix
        .entries
        .get(&tensor.name)
        .is_some_and(|entry| tensor.name != TOKEN_EMBD || entry.sums().len() == n_weights(tensor))
}

/// Weights of the tensors that `plan` quantizes. An entry of the wrong length is an error.
pub(super) fn weights(
    imatrix: &Imatrix,
    source: &dyn TensorSource,
    plan: &Plan,
) -> Result<Weights> {
    let of = |row: &PlanRow| {
        let tensor = &source.tensors()[row.source];
        if row.to == row.from || !covers(imatrix, tensor) {
            return Ok(None);
        }
        let entry = &imatrix.entries[&tensor.name];
        match (entry.sums().len(), n_weights(tensor)) {
            (found, expected) if found == expected => {
                let weights = entry.weights();
                let largest = weights.iter().copied().fold(0.0, f32::max);
                if largest > MAX_WEIGHT && !quant::supports(row.to) {
                    let what = format!("entry {:?}: {largest:e} is too large", tensor.name);
                    return Err(Error::non_finite(&imatrix.path, format!("{what} for {}", row.to)));
                }
                Ok(Some(weights.into()))
            }
            (found, expected) => Err(Error::mismatch(
                &imatrix.path,
                format!("tensor {:?}", tensor.name),
                format!("importance of {expected} columns"),
                format!("{found}; is it of another model?"),
            )),
        }
    };
    plan.rows.iter().map(of).collect()
}

/// Adds what llama-quantize says about an importance matrix, in its order. The path is reduced to
/// its last part: where a file lay is nobody's business.
pub(super) fn describe(imatrix: &Imatrix, metadata: &mut Metadata) {
    let file = imatrix.path.file_name().unwrap_or_default().to_string_lossy();
    // A source that was made with a matrix itself says so no longer.
    metadata.retain(|(key, _)| !key.starts_with("quantize.imatrix."));
    metadata.push((keys::IMATRIX_FILE.into(), Value::String(cut(&file))));
    if let Some(dataset) = imatrix.datasets.first() {
        metadata.push((keys::IMATRIX_DATASET.into(), Value::String(cut(dataset))));
    }
    // A file of more entries than fit does not exist: each takes a name.
    let n_entries = u32::try_from(imatrix.entries.len()).unwrap_or(u32::MAX);
    metadata.push((keys::IMATRIX_ENTRIES.into(), Value::U32(n_entries)));
    if imatrix.chunk_count > 0 {
        metadata.push((keys::IMATRIX_CHUNKS.into(), Value::U32(imatrix.chunk_count)));
    }
}

/// One weight per column of each matrix.
fn n_weights(tensor: &PlanTensor) -> usize {
    let [n_cols, _, n_matrices, n_sets] = tensor.shape.ne();
    n_cols * n_matrices * n_sets
}

/// At most [`MAX_TEXT`] bytes, whole characters.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut(&"a".repeat(200)).len(), 127);
        assert_eq!(cut(&"é".repeat(100)).len(), 126);
        assert_eq!(cut("short"), "short");
    }
}
