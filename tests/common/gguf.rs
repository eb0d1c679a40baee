//! GGUF files made of checkpoints, taken apart and put together again with changes.

use std::path::{Path, PathBuf};

use rwkvq::checkpoint::random::Spec;
use rwkvq::convert::{self, ConvertOptions, Job};
use rwkvq::ggml::{self, TensorType};
use rwkvq::gguf::{GgufFile, Layout, Metadata, Value, Writer};
use rwkvq::recipe::Recipe;
use rwkvq::{Shape, Silent};
use tempfile::TempDir;

use super::fixture;

/// A file in a folder that goes away with the value.
#[derive(Debug)]
pub struct TempGguf {
    pub path: PathBuf,
    _dir: TempDir,
}

/// A random checkpoint in the preset `preset`.
pub fn random(spec: &Spec, preset: &str) -> TempGguf {
    converted(fixture::random_checkpoint(spec).path(), preset)
}

/// The checkpoint in `dir` in the preset `preset`.
pub fn converted(dir: &Path, preset: &str) -> TempGguf {
    let out = tempfile::tempdir().expect("a temporary folder");
    let path = out.path().join("model.gguf");
    let source = convert::open(dir, None).expect("a checkpoint");
    let recipe = Recipe::open(preset).expect("a preset");
    let job = Job::new(source.as_ref(), &recipe, path.clone()).expect("a plan");
    let options = ConvertOptions { n_threads: 1, overwrite: false };
    convert::run(source.as_ref(), &[job], options, &Silent).expect("a conversion");
    TempGguf { path, _dir: out }
}

/// One tensor of a file that has been taken apart.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    pub ty: TensorType,
    pub shape: Shape,
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Its elements.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.n_elements()];
        ggml::to_f32(self.ty, &self.bytes, &mut values);
        values
    }

    /// Replaces its elements, in a type that needs no importance matrix or gets one of ones.
    pub fn set(&mut self, ty: TensorType, values: &[f32]) {
        let n_cols = self.shape.n_cols();
        let row_bytes = ty.row_bytes(n_cols).expect("rows of whole blocks");
        self.bytes = vec![0; row_bytes * self.shape.n_rows()];
        let ones = vec![1.0; n_cols];
        let importance = ggml::requires_importance(ty).then_some(ones.as_slice());
        ggml::quantize(ty, values, n_cols, importance, &mut self.bytes);
        self.ty = ty;
    }
}

/// A file taken apart.
#[derive(Debug, Clone)]
pub struct Parts {
    pub metadata: Metadata,
    pub tensors: Vec<Tensor>,
}

impl Parts {
    pub fn open(path: &Path) -> Self {
        let file = GgufFile::open(path).expect("a GGUF file");
        let part = |tensor: &rwkvq::gguf::TensorInfo| Tensor {
            name: tensor.name.clone(),
            ty: tensor.ty,
            shape: tensor.shape,
            bytes: file.data(tensor).to_vec(),
        };
        Self {
            metadata: file.metadata().to_vec(),
            tensors: file.tensors().iter().map(part).collect(),
        }
    }

    /// Gives `key` another value, or adds it.
    pub fn set_key(&mut self, key: &str, value: Value) {
        match self.metadata.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = value,
            None => self.metadata.push((key.into(), value)),
        }
    }

    pub fn remove_key(&mut self, key: &str) {
        let before = self.metadata.len();
        self.metadata.retain(|(k, _)| k != key);
        assert_eq!(self.metadata.len() + 1, before, "no key {key}");
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn remove_tensor(&mut self, name: &str) {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_eq!(self.tensors.len() + 1, before, "no tensor {name}");
    }

    /// Puts them together.
    pub fn write(&self) -> TempGguf {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("model.gguf");
        let list = self.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.ty, tensor.shape));
        let layout = Layout::new(&self.metadata, list.collect()).expect("a valid layout");
        let writer = Writer::create(&path, &layout, false).expect("a new file");
        for (index, tensor) in self.tensors.iter().enumerate() {
            writer.write_at(index, 0, &tensor.bytes).expect("bytes of the right size");
        }
        writer.finish().expect("a complete file");
        TempGguf { path, _dir: dir }
    }
}
