//! What training left: the tensors of a checkpoint, read a piece at a time.
//!
//! In: a Hugging Face folder, or a file of tensors: safetensors or PyTorch's zip with a pickle in
//! it. Out: a [`Checkpoint`] that lists its tensors and reads their bytes, whatever the format. Shapes are turned into ggml's order here and nowhere else. Data is read
//! with positioned reads, never mapped: memory stays small, and a file that is cut while it is
//! read is an error, not a signal. Nothing in a file is executed, and no file outside the folder
//! is opened because a file names it. May use `error`, `shape`, `mmap` and ggml's tensor types.

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

mod config;
mod floats;
mod format;
mod json;
mod parts;
mod pickle;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "it writes checkpoints and reads none"
)]
pub mod random;
mod safetensors;
mod stored;
mod strided;
mod torch_zip;
mod zip_directory;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::ggml::TensorType;
use crate::mmap::open_regular;
use crate::shape::Shape;
use stored::Stored;
use strided::Strides;

/// File name of the World vocabulary in a model's folder.
pub const WORLD_VOCAB: &str = "rwkv_vocab_v20230424.txt";

/// An open checkpoint. Can be shared between threads.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    name: String,
    parts: Vec<Part>,
    index: Option<PathBuf>,
    tensors: Vec<TensorEntry>,
    by_name: HashMap<String, usize>,
    beside: Beside,
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Its full name.
    pub name: String,
    /// Type of its elements: `F32`, `F16` or `BF16`.
    pub ty: TensorType,
    /// Its dimensions in ggml's order, fastest first.
    pub shape: Shape,
    /// Bytes of its data.
    pub bytes: u64,
    part: usize,
    offset: u64,
    strides: Option<Strides>,
}

/// One file of tensors.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
}

/// The small files that may lie beside the tensors.
#[derive(Debug)]
struct Beside {
    config: Option<(PathBuf, Map<String, Json>)>,
    tokenizer_config: Option<(PathBuf, Map<String, Json>)>,
    generation_config: Option<(PathBuf, Map<String, Json>)>,
    vocab: Option<PathBuf>,
}

impl Checkpoint {
    /// Opens a folder with `config.json` and one or several `model*.safetensors`, or, if it has
    /// none, `pytorch_model*.bin`; or a single safetensors or PyTorch file, whatever its name.
    /// Every header is checked; no tensor is read.
    pub fn open(path: &Path) -> Result<Self> {
        let files = parts::find(path)?;
        let mut parts = Vec::with_capacity(files.parts.len());
        let mut tensors = Vec::new();
        for path in files.parts {
            let (file, file_bytes) = open_regular(&path)?;
            let stored = format::read_header(&path, &file, file_bytes)?;
            let part = parts.len();
            tensors.extend(stored.into_iter().map(|tensor| tensor.entry(part)));
            parts.push(Part { path, file });
        }
        let by_name = unique(path, &parts, &tensors)?;
        let index = match files.index {
            None => None,
            Some(index) => {
                let find = |name: &str| file_of(&parts, tensors.get(*by_name.get(name)?)?);
                index.check(find, tensors.iter().map(|tensor| tensor.name.as_str()))?;
                Some(index.path)
            }
        };
        let beside = Beside::open(&files.folder)?;
        Ok(Self { path: path.into(), name: files.name, parts, index, tensors, by_name, beside })
    }

    /// The folder or file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Base name of the folder, or of the file without its extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields of `config.json`.
    pub fn config(&self) -> Option<&Map<String, Json>> {
        self.beside.config.as_ref().map(|(_, fields)| fields)
    }

    /// Where `config.json` is.
    pub fn config_path(&self) -> Option<&Path> {
        self.beside.config.as_ref().map(|(path, _)| path.as_path())
    }

    /// The fields of `tokenizer_config.json`.
    pub fn tokenizer_config(&self) -> Option<&Map<String, Json>> {
        self.beside.tokenizer_config.as_ref().map(|(_, fields)| fields)
    }

    /// The fields of `generation_config.json`.
    pub fn generation_config(&self) -> Option<&Map<String, Json>> {
        self.beside.generation_config.as_ref().map(|(_, fields)| fields)
    }

    /// Where the World vocabulary is.
    pub fn vocab_path(&self) -> Option<&Path> {
        self.beside.vocab.as_deref()
    }

    /// All tensors: files in the order of their names, within a file in the order of the tensors'
    /// names, by code point.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// Index of the tensor called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The file that holds tensor `index`. Panics if there is no such tensor.
    pub fn file_of(&self, index: usize) -> &Path {
        let (_, part) = self.located(index);
        &part.path
    }

    /// Every file that was or may be read, for the check that the output is none of them.
    pub fn inputs(&self) -> Vec<&Path> {
        let beside = &self.beside;
        let json = [&beside.config, &beside.tokenizer_config, &beside.generation_config];
        let json = json.into_iter().flatten().map(|(path, _)| path.as_path());
        let parts = self.parts.iter().map(|part| part.path.as_path());
        parts.chain(self.index.as_deref()).chain(json).chain(self.vocab_path()).collect()
    }

    /// Reads the bytes of tensor `index` that start at `byte_offset` into `out`. A range outside
    /// the tensor, or one that cuts an element in two, is an error. Panics if there is no such
    /// tensor.
    pub fn read_bytes(&self, index: usize, byte_offset: u64, out: &mut [u8]) -> Result<()> {
        let (tensor, part) = self.located(index);
        tensor.check_range(byte_offset, out.len() as u64)?;
        let read = |offset: u64, out: &mut [u8]| part.read(tensor, offset, out);
        match &tensor.strides {
            None => read(byte_offset, out),
            Some(strides) => {
                let width = tensor.ty.block_bytes();
                // The range is made of whole elements.
                let first = (byte_offset as usize).checked_div(width).unwrap_or_default();
                strides.gather(&tensor.shape, width, first, out, read)
            }
        }
    }

    /// Reads elements of tensor `index`, from `first_element` on, as floats into `out`. A range
    /// outside the tensor is an error. Panics if there is no such tensor.
    pub fn read_f32(&self, index: usize, first_element: usize, out: &mut [f32]) -> Result<()> {
        let (tensor, _) = self.located(index);
        let (ty, width) = (tensor.ty, tensor.ty.block_bytes());
        let bytes_of = |elements: &[f32]| elements.len().saturating_mul(width);
        let mut offset = (first_element as u64).saturating_mul(width as u64);
        tensor.check_range(offset, bytes_of(out) as u64)?;
        // A gather is the cheaper the more it gets at once.
        let at_once = if tensor.strides.is_some() { out.len().max(1) } else { floats::CHUNK };
        let mut bytes = vec![0; bytes_of(out).min(at_once.saturating_mul(width))];
        for out in out.chunks_mut(at_once) {
            let (bytes, _) = bytes.split_at_mut(bytes_of(out));
            self.read_bytes(index, offset, bytes)?;
            let chunks = bytes.chunks(floats::CHUNK.saturating_mul(width));
            let chunks = chunks.zip(out.chunks_mut(floats::CHUNK));
            chunks.for_each(|(bytes, chunk)| floats::decode(ty, bytes, chunk));
            // Not past the end of the tensor, whose length is a number.
            offset = offset.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }

    /// Tensor `index` and the file that holds it.
    #[expect(
        clippy::indexing_slicing,
        reason = "an index that `tensors` and `find` do not give is the caller's mistake, and each \
                  tensor was made with the number of a part"
    )]
    fn located(&self, index: usize) -> (&TensorEntry, &Part) {
        let tensor = &self.tensors[index];
        (tensor, &self.parts[tensor.part])
    }
}

impl TensorEntry {
    /// An error unless the tensor has `n` bytes from `offset` on, and these are whole elements.
    fn check_range(&self, offset: u64, n: u64) -> Result<()> {
        let Self { name, bytes, .. } = self;
        if offset.checked_add(n).is_none_or(|end| end > *bytes) {
            return Err(Error::argument(format!(
                "tensor {name:?}: {n} bytes at {offset} are not inside its {bytes}"
            )));
        }
        let width = self.ty.block_bytes() as u64;
        if !offset.is_multiple_of(width) || !n.is_multiple_of(width) {
            return Err(Error::argument(format!(
                "tensor {name:?}: {n} bytes at {offset} are not whole elements of {width}"
            )));
        }
        Ok(())
    }
}

impl Part {
    /// Reads bytes at `offset` from the first element of `tensor`.
    fn read(&self, tensor: &TensorEntry, offset: u64, out: &mut [u8]) -> Result<()> {
        let at = tensor.offset.saturating_add(offset);
        self.file.read_exact_at(out, at).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                let what = format!("cut while it was read, inside tensor {:?}", tensor.name);
                Error::io(&self.path, io::Error::new(e.kind(), what))
            }
            _ => Error::io(&self.path, e),
        })
    }
}

impl Stored {
    fn entry(self, part: usize) -> TensorEntry {
        let Self { name, ty, shape, offset, bytes, strides } = self;
        TensorEntry { name, ty, shape, bytes, part, offset, strides }
    }
}

impl Beside {
    fn open(folder: &Path) -> Result<Self> {
        let json = |name: &str| config::optional(folder.join(name));
        let vocab = folder.join(WORLD_VOCAB);
        Ok(Self {
            config: json("config.json")?,
            tokenizer_config: json("tokenizer_config.json")?,
            generation_config: json("generation_config.json")?,
            vocab: vocab.is_file().then_some(vocab),
        })
    }
}

/// The one of `parts` that holds `tensor`.
fn file_of<'a>(parts: &'a [Part], tensor: &TensorEntry) -> Option<&'a Path> {
    parts.get(tensor.part).map(|part| part.path.as_path())
}

/// Index of every tensor by its name, which only one part may have.
fn unique(path: &Path, parts: &[Part], tensors: &[TensorEntry]) -> Result<HashMap<String, usize>> {
    let mut by_name = HashMap::with_capacity(tensors.len());
    for (i, tensor) in tensors.iter().enumerate() {
        if let Some(first) = by_name.insert(tensor.name.clone(), i) {
            let file = |tensor: Option<&TensorEntry>| {
                let path = tensor.and_then(|tensor| file_of(parts, tensor));
                path.and_then(Path::file_name).unwrap_or_default().to_string_lossy()
            };
            let (name, first, second) =
                (&tensor.name, file(tensors.get(first)), file(Some(tensor)));
            let what = format!("tensor {name:?} is in two shards, {first} and {second}");
            return Err(Error::malformed(path, what));
        }
    }
    if tensors.len() > json::MAX_TENSORS {
        let (n, limit) = (tensors.len(), json::MAX_TENSORS);
        return Err(Error::malformed(path, format!("tensor count {n} exceeds limit {limit}")));
    }
    Ok(by_name)
}
