//! A GGUF file that has been checked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::header::{self, Header};
use super::{Array, TensorInfo, Value, MAGIC};
use crate::error::{Error, Result};
use crate::mmap::{Access, Mmap};

/// A GGUF file: its header checked and decoded, its data mapped. Can be shared between threads.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Arc<Mmap>,
    header: Header,
    by_name: HashMap<String, usize>,
}

impl GgufFile {
    /// Maps `path` and checks everything but the weights themselves. The file must not change
    /// while it is open.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Access::Map)
    }

    /// The same with a choice of how the file gets into memory.
    pub fn open_with(path: &Path, access: Access) -> Result<Self> {
        let map = Arc::new(Mmap::open_with(path, access)?);
        let header = header::scan(&map, map.len() as u64).map_err(|fault| fault.in_file(path))?;
        let names = header.tensors.iter().map(|tensor| tensor.name.clone());
        let by_name = names.zip(0..).collect();
        Ok(Self { path: path.into(), map, header, by_name })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keys and values, in the order of the file.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.header.metadata
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata().iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).and_then(|&index| self.header.tensors.get(index))
    }

    /// Bytes of `tensor`, which must be one of this file's. Panics if it reaches past the end.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "the scan has shown that this file's tensors lie inside the map; one of another \
                  file is the caller's mistake"
    )]
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let start = (self.header.data_offset + tensor.offset) as usize;
        &self.map[start..start + tensor.bytes as usize]
    }

    /// Bytes before the first tensor's data.
    pub fn data_offset(&self) -> u64 {
        self.header.data_offset
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Alignment of tensor data, in bytes.
    pub fn alignment(&self) -> u32 {
        self.header.alignment
    }

    /// SHA-256 of the whole file, lower-case hex: of the one that was opened, even if another has
    /// taken its name. A mapped one is read, so that a large model does not become resident by it.
    pub fn sha256(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        self.map.copy_to(&mut hasher).map_err(|e| Error::io(&self.path, e))?;
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Fails if the file was written to or shortened while it was mapped.
    pub fn check_unchanged(&self) -> Result<()> {
        self.map.check_unchanged(&self.path)
    }

    /// The file in memory.
    pub(crate) fn map(&self) -> &Arc<Mmap> {
        &self.map
    }

    /// Bytes of the header behind its magic, without padding.
    pub(super) fn header_bytes(&self) -> &[u8] {
        self.map().get(MAGIC.len()..self.header.header_end).unwrap_or_default()
    }
}

/// Defines getters: `None` without the key, an error if its value is of another type.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident -> $ty:ty, $expected:literal, $pattern:pat => $found:expr;)*) => {
        $($(#[$doc])*
        pub fn $name(&self, key: &str) -> Result<Option<$ty>> {
            match self.get(key) {
                None => Ok(None),
                Some($pattern) => Ok(Some($found)),
                Some(other) => {
                    Err(Error::mismatch(&self.path, key, $expected, other.type_name()))
                }
            }
        })*
    };
}

impl GgufFile {
    getters! {
        /// The `u32` of `key`: `None` if it is absent, an error if it has another type.
        u32 -> u32, "u32", Value::U32(value) => *value;
        /// The `f32` of `key`: `None` if it is absent, an error if it has another type.
        f32 -> f32, "f32", Value::F32(value) => *value;
        /// The `bool` of `key`: `None` if it is absent, an error if it has another type.
        bool -> bool, "bool", Value::Bool(value) => *value;
        /// The text of `key`: `None` if it is absent, an error if it has another type.
        str -> &str, "string", Value::String(value) => value;
        /// The texts of `key`: `None` if it is absent, an error if it has another type.
        strings -> &[String], "array of string", Value::Array(Array::String(values)) => values;
        /// The `i32` array of `key`: `None` if it is absent, an error if it has another type.
        i32s -> &[i32], "array of i32", Value::Array(Array::I32(values)) => values;
    }

    /// The `u32` of `key`, which must be there.
    pub fn required_u32(&self, key: &str) -> Result<u32> {
        self.u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// The `f32` of `key`, which must be there.
    pub fn required_f32(&self, key: &str) -> Result<f32> {
        self.f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// The text of `key`, which must be there.
    pub fn required_str(&self, key: &str) -> Result<&str> {
        self.str(key)?.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> Error {
        Error::malformed(&self.path, format!("missing metadata key {key:?}"))
    }
}
