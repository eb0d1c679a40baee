//! How far quantization moved the embeddings themselves.
//!
//! In: embeddings of the same texts by two models, or similarities of the same pairs. Out: how much
//! alike they are. This sees changes that a correlation with a few hundred labels cannot.

use super::metrics::{cosine, spearman};

/// A level's embeddings of one layer beside those of the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingFidelity {
    /// Mean over texts of the cosine between a text's two embeddings.
    pub mean_cosine: f64,
    /// The smallest of these cosines: the text that moved most.
    pub min_cosine: f64,
}

/// Compares two matrices `[n][n_embd]` row by row.
///
/// `mean_cosine = 1/n sum cos(reference_i, level_i)`, `min_cosine = min cos(reference_i, level_i)`
///
/// Two zero rows count as equal (cosine 1), a zero row against another as 0. `None` without rows or
/// if an entry is not finite. Panics if the sizes differ or are no multiple of `n_embd`.
pub fn embedding_fidelity(
    reference: &[f32],
    level: &[f32],
    n_embd: usize,
) -> Option<EmbeddingFidelity> {
    assert_eq!(reference.len(), level.len(), "fidelity of matrices of different size");
    assert!(
        n_embd > 0 && level.len().is_multiple_of(n_embd),
        "{} are no rows of {n_embd}",
        level.len()
    );
    let rows = reference.chunks_exact(n_embd).zip(level.chunks_exact(n_embd));
    let cosines: Vec<f64> = rows.map(|(r, l)| row_cosine(r, l)).collect();
    if cosines.is_empty() || cosines.iter().any(|cosine| cosine.is_nan()) {
        return None;
    }
    Some(EmbeddingFidelity {
        mean_cosine: cosines.iter().sum::<f64>() / cosines.len() as f64,
        min_cosine: cosines.iter().copied().fold(1.0, f64::min),
    })
}

/// Spearman between the pair similarities of two models: 1 if both rank the pairs alike.
///
/// `None` where Spearman is undefined.
pub fn similarity_spearman(reference: &[f64], level: &[f64]) -> Option<f64> {
    spearman(reference, level)
}

fn row_cosine(reference: &[f32], level: &[f32]) -> f64 {
    let is_zero = |row: &[f32]| row.iter().all(|&x| x == 0.0);
    if is_zero(reference) && is_zero(level) {
        return 1.0;
    }
    cosine(reference, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_turned_and_zero_rows() {
        let reference = [1.0f32, 0.0, 0.0, 2.0, 0.0, 0.0];
        let same = embedding_fidelity(&reference, &reference, 2).unwrap();
        assert_eq!((same.mean_cosine, same.min_cosine), (1.0, 1.0));

        let turned = [0.0f32, 1.0, 0.0, 4.0, 0.0, 0.0];
        let found = embedding_fidelity(&reference, &turned, 2).unwrap();
        assert!((found.mean_cosine - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!(found.min_cosine, 0.0);
    }

    #[test]
    fn nothing_and_nan_are_none() {
        assert_eq!(embedding_fidelity(&[], &[], 3), None);
        assert_eq!(embedding_fidelity(&[1.0, f32::NAN], &[1.0, 1.0], 2), None);
        assert_eq!(similarity_spearman(&[0.5, 0.5], &[0.1, 0.2]), None);
    }
}
