//! The header of a safetensors file, checked.
//!
//! ```text
//!  u64 n   n bytes of JSON: {"name": {"dtype": "F32", "shape": [..], "data_offsets": [a, b]}, ..}
//!  data of all tensors, without gaps; a and b count from its start
//! ```
//!
//! The safetensors crate reads the same header, but keeps the last of two tensors of one name,
//! wants the whole file in memory or mapped, and does not bound names or the number of tensors.
//! So the JSON is walked here; the crate is the oracle of the tests.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::config;
use super::format::read_some;
use super::json::{Dims, Header, Raw};
use super::stored::{self, Stored};
use crate::error::{shown, Error, Result};
use crate::ggml::TensorType;

/// Most bytes of the JSON: the limit of the format itself.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Checks and decodes the header of `file`, which is at `path` and has `file_bytes`. Tensors come
/// out in the order of their names, by code point.
pub(super) fn read_header(path: &Path, file: &File, file_bytes: u64) -> Result<Vec<Stored>> {
    let json = read_json(path, file, file_bytes)?;
    let data_offset = (json.len() as u64).saturating_add(8);
    let Header(mut tensors) =
        serde_json::from_slice(&json).map_err(|e| config::bad_json(path, "header", &e))?;
    let mut names = HashSet::new();
    if let Some((name, _)) = tensors.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(Error::malformed(path, format!("duplicate tensor name {name:?}")));
    }
    tensors.sort_by_key(|(_, raw)| raw.data_offsets);
    let mut end = 0;
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, raw) in tensors {
        let tensor = raw.check(name, end).map_err(|what| Error::malformed(path, what))?;
        // Each end is below 2^63, and so is the length of the JSON.
        end = tensor.offset.saturating_add(tensor.bytes);
        stored.push(Stored { offset: data_offset.saturating_add(tensor.offset), ..tensor });
    }
    exact_length(path, data_offset.saturating_add(end), file_bytes)?;
    stored.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(stored)
}

fn read_json(path: &Path, file: &File, file_bytes: u64) -> Result<Vec<u8>> {
    let io = |e| Error::io(path, e);
    let mut head = [0; 9];
    let found = read_some(file, 0, file_bytes, &mut head).map_err(io)?;
    let Some((len, b"{")) = found.split_first_chunk() else {
        let what = format!("neither a safetensors nor a PyTorch file (starts {found:02x?})");
        return Err(Error::malformed(path, what));
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER_BYTES {
        let limit = MAX_HEADER_BYTES;
        return Err(Error::malformed(path, format!("header of {len} bytes exceeds limit {limit}")));
    }
    let end = len.saturating_add(8);
    if end > file_bytes {
        let what = format!("truncated: header ends at byte {end}, file has {file_bytes}");
        return Err(Error::malformed(path, what));
    }
    let mut json = vec![0; len as usize];
    file.read_exact_at(&mut json, 8).map_err(io)?;
    Ok(json)
}

fn exact_length(path: &Path, end: u64, file_bytes: u64) -> Result<()> {
    if end > file_bytes {
        let what = format!("truncated: data ends at byte {end}, file has {file_bytes}");
        return Err(Error::malformed(path, what));
    }
    if end < file_bytes {
        let extra = file_bytes.abs_diff(end);
        return Err(Error::malformed(path, format!("{extra} bytes follow the last tensor")));
    }
    Ok(())
}

impl Raw {
    /// The tensor, if it is one we can read and starts at byte `expected` of the data.
    fn check(self, name: String, expected: u64) -> std::result::Result<Stored, String> {
        let refuse = |what: String| format!("tensor {name:?}: {what}");
        let Self { dtype, shape: Dims { rank, dims }, data_offsets: (start, end) } = self;
        let ty = match dtype.as_str() {
            "F32" => TensorType::F32,
            "F16" => TensorType::F16,
            "BF16" => TensorType::BF16,
            _ => return Err(refuse(format!("{}, expected F32/F16/BF16", shown(&dtype)))),
        };
        if rank > dims.len() {
            return Err(refuse(stored::too_many_dimensions(rank)));
        }
        let (shape, bytes) = stored::size(ty, &dims).map_err(&refuse)?;
        if start != expected {
            let what =
                format!("data starts at {start}, expected {expected} (tensors must be contiguous)");
            return Err(refuse(what));
        }
        if end.checked_sub(start) != Some(bytes) {
            let what =
                format!("{dtype} {dims:?} takes {bytes} bytes, data_offsets are [{start}, {end}]");
            return Err(refuse(what));
        }
        // A running sum of sizes below 2^63 could wrap after two of them.
        if end > i64::MAX as u64 {
            return Err(refuse("end of the data overflows".into()));
        }
        Ok(Stored { name, ty, shape, offset: start, bytes, strides: None })
    }
}
