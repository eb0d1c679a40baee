//! Importance matrices: how much each column of a weight matrix matters, measured on text.
//!
//! In: sums that were measured, or a file of ours or of llama.cpp's `llama-imatrix`. Out: an
//! [`Imatrix`], which conversion quantizes with, and its file. The importance of a column
//! is the mean square of the activation that it is multiplied with.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod file;
mod legacy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::mmap::Access;

/// Sums of squared activations for each matrix of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Imatrix {
    /// The file it was read from, or the model it was measured on.
    pub path: PathBuf,
    /// Names of the texts it was measured on.
    pub datasets: Vec<String>,
    /// Chunks of text that were run.
    pub chunk_count: u32,
    /// Tokens in a chunk; 0 if the file does not say.
    pub chunk_size: u32,
    /// By name of the matrix.
    pub entries: BTreeMap<String, Entry>,
}

/// What went into one matrix, or into each of several of the same width.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    sums: Vec<f32>,
    counts: Vec<f32>,
}

impl Imatrix {
    /// Reads a GGUF imatrix or one of llama.cpp's older `.dat` files, told apart by content.
    /// Anything that is not a finite, non-negative number is an error that names its entry.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Access::default())
    }

    /// The same with a choice of how a GGUF gets into memory.
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<Self> {
        let path = path.as_ref();
        if file::starts_with_magic(path)? {
            file::read(path, access)
        } else {
            legacy::read(path)
        }
    }

    /// Writes a GGUF imatrix as llama.cpp lays it out. A file that exists is an error unless
    /// `overwrite` is set.
    pub fn write(&self, path: impl AsRef<Path>, overwrite: bool) -> Result<()> {
        file::write(self, path.as_ref(), overwrite)
    }
}

impl Entry {
    /// Sums of squares, matrix after matrix, and the number of rows that went into each matrix.
    /// `None` unless there are matrices of one width, and every number is finite and not negative.
    pub fn new(sums: Vec<f32>, counts: Vec<f32>) -> Option<Self> {
        let whole =
            !counts.is_empty() && !sums.is_empty() && sums.len().is_multiple_of(counts.len());
        let sound = |values: &[f32]| values.iter().all(|&x| x.is_finite() && x >= 0.0);
        (whole && sound(&sums) && sound(&counts)).then_some(Self { sums, counts })
    }

    /// Sums of squares of the columns, matrix after matrix.
    pub fn sums(&self) -> &[f32] {
        &self.sums
    }

    /// Rows that were summed over, for each matrix.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }

    /// Columns of each matrix.
    fn n_cols(&self) -> usize {
        self.sums.len().checked_div(self.counts.len()).unwrap_or_default()
    }

    /// Mean square of each column, matrix after matrix; 1 for all columns of a matrix that
    /// nothing went into.
    pub fn weights(&self) -> Vec<f32> {
        let matrices = self.sums.chunks_exact(self.n_cols()).zip(&self.counts);
        matrices
            .flat_map(|(sums, &count)| {
                // Counts are whole numbers; a file may hold anything.
                let count = count.round();
                sums.iter().map(move |&sum| if count > 0.0 { sum / count } else { 1.0 })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_means_and_one_where_nothing_was_counted() {
        let entry = Entry::new(vec![6.0, 3.0, 5.0, 7.0], vec![3.0, 0.4]).unwrap();
        assert_eq!(entry.weights(), [2.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        assert!(Entry::new(vec![1.0, 2.0, 3.0], vec![1.0, 1.0]).is_none());
        assert!(Entry::new(vec![], vec![1.0]).is_none());
        assert!(Entry::new(vec![1.0], vec![]).is_none());
        for bad in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(Entry::new(vec![1.0, bad], vec![1.0]).is_none(), "{bad}");
            assert!(Entry::new(vec![1.0], vec![bad]).is_none(), "{bad}");
        }
    }
}
