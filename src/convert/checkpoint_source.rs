//! A checkpoint, seen as the GGUF's tensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::f16;

use super::metadata;
use super::source::TensorSource;
use crate::arch::{self, Hparams, Named, Target, Transform};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::ggml::TensorType;
use crate::gguf::Metadata;
use crate::recipe::{PlanTensor, TensorLayout};
use crate::tokenizer::WorldVocab;

/// Reads an RWKV-6 checkpoint through the table of `arch`.
#[derive(Debug)]
pub struct CheckpointSource {
    checkpoint: Checkpoint,
    hparams: Hparams,
    targets: Vec<Target>,
    tensors: Vec<PlanTensor>,
    vocab: WorldVocab,
    vocab_path: PathBuf,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl CheckpointSource {
    /// Opens `path` and checks names, shapes, config and vocabulary. Reads no weight. `vocab`
    /// takes the place of the vocabulary file of the folder.
    pub fn open(path: &Path, vocab: Option<PathBuf>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let named: Vec<Named<'_>> = checkpoint
            .tensors()
            .iter()
            .map(|tensor| Named { name: &tensor.name, shape: tensor.shape })
            .collect();
        let config = checkpoint.config();
        let model_type =
            config.and_then(|config| config.get("model_type")).and_then(|v| v.as_str());
        let dialect = arch::detect(path, model_type, &named)?;
        let shapes: HashMap<_, _> =
            named.iter().map(|tensor| (dialect.canonical(tensor.name), tensor.shape)).collect();
        let mut notes = Vec::new();
        let hparams = Hparams::from_checkpoint(path, &shapes, config, &mut notes)?;
        let targets = arch::map(path, dialect, &named, &hparams)?;
        let tensors = targets
            .iter()
            .map(|target| PlanTensor {
                name: target.name.clone(),
                shape: target.shape,
                // A tensor that no rule quantizes becomes f32, as llama.cpp's converter does.
                ty: TensorType::F32,
            })
            .collect();
        let vocab_path = match vocab.or_else(|| checkpoint.vocab_path().map(Path::to_owned)) {
            Some(path) => path,
            None => {
                let what = "no rwkv_vocab_v20230424.txt beside it; give one with --vocab";
                return Err(Error::malformed(path, what));
            }
        };
        let vocab = WorldVocab::from_file(&vocab_path)?;
        let warnings = vocabulary_warnings(&vocab, &vocab_path);
        Ok(Self { checkpoint, hparams, targets, tensors, vocab, vocab_path, notes, warnings })
    }

    fn read_all(&self, source: usize) -> Result<Vec<f32>> {
        let mut values = vec![0f32; self.checkpoint.tensors()[source].shape.n_elements()];
        self.checkpoint.read_f32(source, 0, &mut values)?;
        Ok(values)
    }
}

impl TensorSource for CheckpointSource {
    fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    fn name(&self) -> &str {
        self.checkpoint.name()
    }

    fn n_layer(&self) -> usize {
        self.hparams.n_layer
    }

    fn tensors(&self) -> &[PlanTensor] {
        &self.tensors
    }

    fn layout(&self, asked: TensorLayout) -> TensorLayout {
        asked
    }

    fn metadata(&self, file_type: u32, layout: TensorLayout) -> Result<Metadata> {
        metadata::of_checkpoint(&self.checkpoint, &self.hparams, &self.vocab, file_type, layout)
    }

    fn in_pieces(&self, index: usize) -> bool {
        matches!(
            self.targets[index].transform,
            Transform::Keep | Transform::Squeeze | Transform::Divide
        )
    }

    fn read(&self, index: usize, first: usize, out: &mut [f32]) -> Result<()> {
        let target = &self.targets[index];
        let source = target.sources[0];
        match target.transform {
            Transform::Keep | Transform::Squeeze => self.checkpoint.read_f32(source, first, out),
            Transform::Divide => {
                self.checkpoint.read_f32(source, first, out)?;
                divide(out, target.halvings, self.checkpoint.tensors()[source].ty);
                Ok(())
            }
            Transform::Transpose => {
                let n_cols = self.checkpoint.tensors()[source].shape.n_cols();
                let values = self.read_all(source)?;
                transpose(&values, n_cols, first, out);
                Ok(())
            }
            Transform::SwapPlanes => {
                let shape = self.checkpoint.tensors()[source].shape;
                let plane = shape.n_cols() * shape.ne()[1];
                let values = self.read_all(source)?;
                let planes = values.chunks_exact(plane).flat_map(|values| {
                    let mut swapped = vec![0f32; plane];
                    transpose(values, shape.n_cols(), 0, &mut swapped);
                    swapped
                });
                out.iter_mut().zip(planes.skip(first)).for_each(|(out, value)| *out = value);
                Ok(())
            }
            Transform::Stack(_) => {
                let mut stacked = Vec::with_capacity(target.shape.n_elements());
                for &source in &target.sources {
                    stacked.extend(self.read_all(source)?);
                }
                out.copy_from_slice(&stacked[first..first + out.len()]);
                Ok(())
            }
        }
    }

    fn inputs(&self) -> Vec<&Path> {
        let mut inputs = self.checkpoint.inputs();
        inputs.push(&self.vocab_path);
        inputs
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Divides by two to the power of `halvings`. Half precision is divided in half precision, as
/// llama.cpp's converter does: the result can be subnormal and is rounded to f16. bfloat16 and
/// f32 are divided in f32, where the division is exact until the numbers become subnormal.
fn divide(values: &mut [f32], halvings: u32, from: TensorType) {
    if halvings == 0 {
        return;
    }
    let divisor = 2f32.powi(halvings as i32);
    for value in values {
        *value /= divisor;
        if from == TensorType::F16 {
            *value = f16::from_f32(*value).to_f32();
        }
    }
}

/// Elements `first..` of the transpose of `values`, whose rows are `n_cols` long.
fn transpose(values: &[f32], n_cols: usize, first: usize, out: &mut [f32]) {
    let n_rows = values.len() / n_cols;
    for (i, out) in (first..).zip(out) {
        *out = values[(i % n_rows) * n_cols + i / n_rows];
    }
}

fn vocabulary_warnings(vocab: &WorldVocab, path: &Path) -> Vec<String> {
    let missing = vocab.missing_bytes();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "{}: {} of the 256 bytes have no token of their own (the first is {:#04x}); texts that \
         hold one cannot be encoded, and llama.cpp may hang on them",
        path.display(),
        missing.len(),
        missing[0]
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_from_any_element_on() {
        let values = [1., 2., 3., 4., 5., 6.];
        let mut out = [0.; 6];
        transpose(&values, 3, 0, &mut out);
        assert_eq!(out, [1., 4., 2., 5., 3., 6.]);
        let mut tail = [0.; 3];
        transpose(&values, 3, 3, &mut tail);
        assert_eq!(tail, [5., 3., 6.]);
    }

    #[test]
    fn half_precision_is_divided_in_half_precision() {
        let tiny = f16::from_bits(3).to_f32();
        let mut values = [tiny];
        divide(&mut values, 1, TensorType::F16);
        // 1.5 steps of the smallest subnormal round to the even neighbour, 2.
        assert_eq!(values[0], f16::from_bits(2).to_f32());
        let mut values = [tiny];
        divide(&mut values, 1, TensorType::F32);
        assert_eq!(values[0], tiny / 2.0);
    }
}
