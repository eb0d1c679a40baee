//! The right half: a GGUF becomes weights in place, sessions, hidden per layer.
//!
//! [`Model`] is immutable and shared; the weights stay in the file map and are used there. A
//! [`Session`] owns what changes: state, threads, the graph it runs.

mod hparams;
mod layers;
mod open;
mod plan;
mod rwkv6;
mod rwkv6_fused;
mod session;
mod stream;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::arch::{keys, Hparams};
use crate::error::{Error, Result};
use crate::ggml::{MappedTensors, Upload};
use crate::gguf::GgufFile;
use crate::tokenizer::{Tokenizer, WorldVocab};

pub use layers::{Layer, LayerSelection};
pub use open::OpenOptions;
pub use plan::{MemoryPlan, PlannedBytes};
pub use session::{InputSquares, Pooled, Session, SessionOptions, Workload};
use weights::{Resolved, Weights};

pub use crate::ggml::{Device, DeviceChoice, Products, SegmentPool};

/// A model of one GGUF file: immutable, to be shared between threads.
#[derive(Debug)]
pub struct Model {
    file: Arc<GgufFile>,
    hparams: Hparams,
    weights: Weights,
    names: Vec<String>,
    tensors: Arc<MappedTensors>,
    /// Layers whose weights are on the device, counted from the first.
    gpu_layers: usize,
    tokenizer: OnceLock<Tokenizer>,
}

impl Model {
    /// Maps `path` and checks that it is an RWKV-6 model: keys, every tensor's shape and type.
    /// Reads no weight. The file must not change while the model lives.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, OpenOptions::default())
    }

    /// The same with a choice of how the file gets into memory and of the device that runs it. With
    /// [`Access::Read`](crate::mmap::Access::Read) the file may change, and takes as much memory as
    /// it is long. Weights for a device are read and copied there now.
    pub fn open_with(path: impl AsRef<Path>, options: impl Into<OpenOptions>) -> Result<Self> {
        let (path, options) = (path.as_ref(), options.into());
        let file = Arc::new(GgufFile::open_with(path, options.access)?);
        Self::from_file(file, &options, Upload::Now)
    }

    fn from_file(file: Arc<GgufFile>, options: &OpenOptions, upload: Upload) -> Result<Self> {
        let path = file.path();
        let architecture = file.required_str(keys::ARCHITECTURE)?;
        if architecture != keys::RWKV6 {
            let what = format!("architecture {architecture:?}; only rwkv6 (Finch) can be run");
            return Err(Error::unsupported(path, what));
        }
        let hparams = hparams::from_gguf(&file)?;
        let Resolved { weights, mut mapped, names } = weights::resolve(&file, &hparams)?;
        let device = options.device.as_ref();
        let asked = options.gpu_layers.unwrap_or(usize::MAX).min(hparams.n_layer);
        let gpu_layers = if device.is_some() { asked } else { 0 };
        if let Some(device) = device {
            open::place(&weights, &mut mapped, gpu_layers, hparams.n_layer, device);
        }
        let map = Arc::clone(file.map());
        let tensors = Arc::new(MappedTensors::new(map, &mapped, device, upload)?);
        let tokenizer = OnceLock::new();
        Ok(Self { file, hparams, weights, names, tensors, gpu_layers, tokenizer })
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

    /// The device that runs it, or the first layers of it; `None` for the CPU.
    pub fn device(&self) -> Option<&Device> {
        self.tensors.device()
    }

    /// Layers whose weights are on the device, counted from the first.
    pub fn gpu_layers(&self) -> usize {
        self.gpu_layers
    }

    /// Bytes of the tensors that are on the device.
    pub fn device_weights_bytes(&self) -> usize {
        self.tensors.device_bytes()
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
