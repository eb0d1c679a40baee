//! Embeddings of a level, kept in an unnamed temporary file instead of memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// `[n_texts][n_layers][n_embd]` f32 on disk. The file has no name and goes with the value.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    n_layers: usize,
    n_embd: usize,
    n_texts: usize,
}

impl Spill {
    pub(super) fn new(n_layers: usize, n_embd: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(failed)?;
        Ok(Self { file, n_layers, n_embd, n_texts: 0 })
    }

    pub(super) fn n_embd(&self) -> usize {
        self.n_embd
    }

    /// Appends embeddings of whole texts.
    pub(super) fn push(&mut self, values: &[f32]) -> Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, &self.file);
        for value in values {
            out.write_all(&value.to_le_bytes()).map_err(failed)?;
        }
        out.flush().map_err(failed)?;
        self.n_texts += values.len() / (self.n_layers * self.n_embd);
        Ok(())
    }

    /// All vectors of one layer: `[n_texts][n_embd]`.
    pub(super) fn layer(&self, layer: usize) -> Result<Vec<f32>> {
        let row_bytes = self.n_embd * 4;
        let mut row = vec![0u8; row_bytes];
        let mut values = Vec::with_capacity(self.n_texts * self.n_embd);
        for text in 0..self.n_texts {
            let offset = (text * self.n_layers + layer) * row_bytes;
            self.file.read_exact_at(&mut row, offset as u64).map_err(failed)?;
            let row = row.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok());
            values.extend(row.map(f32::from_le_bytes));
        }
        Ok(values)
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::io(std::env::temp_dir(), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_come_back_text_by_text() {
        let mut spill = Spill::new(2, 3).unwrap();
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        spill.push(&values[..6]).unwrap();
        spill.push(&values[6..]).unwrap();
        assert_eq!(spill.layer(0).unwrap(), [0., 1., 2., 6., 7., 8.]);
        assert_eq!(spill.layer(1).unwrap(), [3., 4., 5., 9., 10., 11.]);
    }
}
