//! GGUF files: read and written, every number in them checked. Knows nothing of any model.
//!
//! In: a path, or metadata and a list of tensors. Out: a [`GgufFile`] whose header is known to be
//! right, or a complete file on disk. May use `error`, `shape`, `mmap` and ggml's tensor types.
//!
//! ```text
//!  "GGUF"  u32 version  u64 n_tensors  u64 n_keys
//!  n_keys    x  key: string   u32 value type   value
//!  n_tensors x  name: string  u32 rank  u64 ne[rank]  u32 tensor type  u64 offset
//!  zeros up to a multiple of the alignment            <- data offset; tensor offsets start here
//!  n_tensors x  data, zeros up to a multiple of the alignment
//!
//!  string = u64 length, bytes          array = u32 element type, u64 length, elements
//! ```
//!
//! Everything is little-endian. Versions 2 and 3 are read, 3 is written. The alignment is
//! [`ALIGNMENT`] unless the key `general.alignment` says otherwise. Dimensions are in ggml's order.
//!
//! ```
//! use rwkvq::gguf::{GgufFile, Layout, Writer};
//! use rwkvq::{ggml::TensorType, Shape};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("tiny.gguf");
//! let metadata = [("general.architecture".to_string(), "rwkv6".into())];
//! let shape = Shape::new(&[2]).unwrap();
//! let layout = Layout::new(&metadata, vec![("w".into(), TensorType::F32, shape)])?;
//! let writer = Writer::create(&path, &layout, false)?;
//! writer.write_at(0, 0, &[0, 0, 128, 63, 0, 0, 0, 64])?;
//! writer.finish()?;
//!
//! let file = GgufFile::open(&path)?;
//! assert_eq!(file.required_str("general.architecture")?, "rwkv6");
//! assert_eq!(file.data(&file.tensors()[0])[4..], 2f32.to_le_bytes());
//! # Ok::<(), rwkvq::Error>(())
//! ```

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

mod cursor;
mod header;
mod json;
mod layout;
mod metadata;
mod reader;
mod second_opinion;
mod value;
mod writer;

pub use header::TensorInfo;
pub use layout::Layout;
pub use reader::GgufFile;
pub use value::{Array, Metadata, Value};
pub use writer::{partial_path, stale_partials, Writer};

/// First four bytes of a GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written.
pub const VERSION: u32 = 3;

/// Alignment in bytes of tensor data where `general.alignment` does not say otherwise.
pub const ALIGNMENT: u32 = 32;

/// The key that changes the alignment.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// What a file may ask for before it is refused. A model's vocabulary of 65,536 tokens needs a
/// hundredth of each; without caps, a file of 100 bytes could ask for all memory.
pub(crate) mod limits {
    /// Metadata keys.
    pub const KEYS: u64 = 65_536;
    /// Tensors.
    pub const TENSORS: u64 = 65_536;
    /// Bytes of a metadata key.
    pub const KEY_BYTES: u64 = 65_535;
    /// Bytes of a tensor name: ggml's 64 with the terminating zero.
    pub const NAME_BYTES: u64 = 63;
    /// Bytes of a string value.
    pub const STRING_BYTES: u64 = 16 << 20;
    /// Elements of an array.
    pub const ARRAY_LEN: u64 = 1 << 24;
    /// Bytes of the metadata section.
    pub const METADATA_BYTES: usize = 256 << 20;
    /// Bytes that the arrays may take once decoded, in this crate or as JSON.
    pub const DECODED_BYTES: u64 = 512 << 20;
    /// What one array element takes as a JSON value: the costliest form it is ever held in.
    pub const DECODED_BYTES_PER_ELEMENT: u64 = 72;
}
