//! The right half: a GGUF becomes weights in place, sessions, hidden per layer.
//!
//! [`Model`] is immutable and shared; the weights stay in the file map and are used there. A
//! [`Session`] owns what changes: state, threads, the graph it runs.

mod hparams;
mod layers;
mod rwkv6;
mod session;
mod stream;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::arch::{keys, Hparams};
use crate::error::{Error, Result};
use crate::ggml::MappedTensors;
use crate::gguf::GgufFile;
use crate::mmap::Access;
use crate::tokenizer::{Tokenizer, WorldVocab};

pub use layers::{Layer, LayerSelection};
pub use session::{InputSquares, Pooled, Session, SessionOptions, Workload};
use weights::{Resolved, Weights};

pub use crate::ggml::{Products, SegmentPool};

/// A model of one GGUF file: immutable, to be shared between threads.
#[derive(Debug)]
pub struct Model {
    file: GgufFile,
    hparams: Hparams,
    weights: Weights,
    names: Vec<String>,
    tensors: Arc<MappedTensors>,
    tokenizer: OnceLock<Tokenizer>,
}

impl Model {
    /// Maps `path` and checks that it is an RWKV-6 model: keys, every tensor's shape and type.
    /// Reads no weight. The file must not change while the model lives.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Access::Map)
    }

    /// The same with a choice of how the file gets into memory. With [`Access::Read`] it may
    /// change, and takes as much memory as it is long.
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<Self> {
        let path = path.as_ref();
        let file = GgufFile::open_with(path, access)?;
        let architecture = file.required_str(keys::ARCHITECTURE)?;
        if architecture != keys::RWKV6 {
            let what = format!("architecture {architecture:?}; only rwkv6 (Finch) can be run");
            return Err(Error::unsupported(path, what));
        }
        let hparams = hparams::from_gguf(&file)?;
        let Resolved { weights, mapped, names } = weights::resolve(&file, &hparams)?;
        let tensors = Arc::new(MappedTensors::new(Arc::clone(file.map()), &mapped));
        Ok(Self { file, hparams, weights, names, tensors, tokenizer: OnceLock::new() })
    }

    /// The file it was opened from.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Header, metadata and tensor table of the file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Sizes of the model.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// Bytes of the tensors in use.
    pub fn weights_bytes(&self) -> usize {
        self.tensors.n_bytes()
    }

    /// The tokenizer that the file carries; made when first asked for.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let made = self.read_tokenizer()?;
        Ok(self.tokenizer.get_or_init(|| made))
    }

    fn read_tokenizer(&self) -> Result<Tokenizer> {
        let path = self.path();
        let kind = self.file.str(keys::TOKENIZER_MODEL)?;
        if kind != Some("rwkv") {
            let kind = kind.unwrap_or("none");
            let what = format!("tokenizer {kind:?} in the file; give one with --tokenizer");
            return Err(Error::unsupported(path, what));
        }
        let missing = |key: &str| Error::malformed(path, format!("missing metadata key {key:?}"));
        let tokens = self.file.strings(keys::TOKENS)?.ok_or_else(|| missing(keys::TOKENS))?;
        let types = self.file.i32s(keys::TOKEN_TYPES)?.ok_or_else(|| missing(keys::TOKEN_TYPES))?;
        let n_vocab = self.hparams.n_vocab;
        if tokens.len() != n_vocab {
            let expected = format!("{n_vocab} tokens, as token_embd.weight has rows");
            return Err(Error::mismatch(path, keys::TOKENS, expected, tokens.len()));
        }
        WorldVocab::from_gguf_tokens(path, tokens, types).map(Tokenizer::from)
    }

    /// Where the model came from, for messages that outlive it.
    pub(crate) fn path_buf(&self) -> PathBuf {
        self.path().to_owned()
    }
}
