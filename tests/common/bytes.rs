//! Builds files byte by byte, so that a test can put any lie into them.
#![allow(dead_code)] // each test file uses a part

use std::path::PathBuf;

use tempfile::TempDir;

/// Bytes of a GGUF file, little-endian.
#[derive(Clone, Default)]
pub struct GgufBytes(pub Vec<u8>);

impl GgufBytes {
    /// Magic, version 3 and the two counts.
    pub fn new(n_tensors: u64, n_keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(n_tensors).u64(n_keys)
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn u32(self, n: u32) -> Self {
        self.raw(&n.to_le_bytes())
    }

    pub fn u64(self, n: u64) -> Self {
        self.raw(&n.to_le_bytes())
    }

    /// A length and the text.
    pub fn string(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    /// A key and the number of its value's type; the value follows.
    pub fn key(self, key: &str, value_type: u32) -> Self {
        self.string(key).u32(value_type)
    }

    pub fn key_u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4).u32(value)
    }

    /// A tensor's entry.
    pub fn tensor(self, name: &str, dims: &[u64], ty: u32, offset: u64) -> Self {
        let entry = self.string(name).u32(dims.len() as u32);
        dims.iter().fold(entry, |entry, &dim| entry.u64(dim)).u32(ty).u64(offset)
    }

    /// Zeros up to the alignment of 32, then `n` bytes of data.
    pub fn data(mut self, n: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32), 0);
        self.0.extend((0..n).map(|i| (i % 251) as u8));
        self
    }
}

/// Bytes of a safetensors file: the length of `header`, `header`, `n` bytes of data.
pub fn safetensors(header: &str, n: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..n).map(|i| (i % 251) as u8));
    bytes
}

/// `bytes` as the file `name` in a folder of its own, which lives as long as the first value.
pub fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("a file in the temporary folder");
    (dir, path)
}
