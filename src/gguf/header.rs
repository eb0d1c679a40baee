//! Checks a header and decodes it, in one pass and in time linear in its length.
//!
//! What comes out is right: names and keys are unique, every tensor's bytes lie inside the file,
//! aligned, one after the other without gaps.

use std::collections::HashSet;

use super::cursor::{malformed, unsupported, Cursor, Fault};
use super::value::{Metadata, Value};
use super::{limits, metadata, ALIGNMENT, ALIGNMENT_KEY, MAGIC};
use crate::ggml::TensorType;
use crate::shape::Shape;

/// A tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, 1 to 63 bytes.
    pub name: String,
    /// Type of its elements.
    pub ty: TensorType,
    /// Its dimensions, with the rank the file gives.
    pub shape: Shape,
    /// First byte of its data, counted from the start of the file's data.
    pub offset: u64,
    /// Bytes of its data, without padding.
    pub bytes: u64,
}

/// A checked header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    /// Bytes up to the end of the last tensor's entry.
    pub(super) header_end: usize,
    /// Bytes up to the start of the data.
    pub(super) data_offset: u64,
}

/// Checks and decodes the header at the start of `bytes`, which belongs to a file of `file_bytes`.
pub(super) fn scan(bytes: &[u8], file_bytes: u64) -> Result<Header, Fault> {
    let mut at = Cursor::new(bytes);
    let version = magic_and_version(&mut at)?;
    let (n_tensors, n_keys) = counts(&mut at)?;
    let metadata = metadata::read(&mut at, n_keys)?;
    let alignment = alignment(&metadata)?;
    let tensors = tensors(&mut at, n_tensors, alignment)?;
    let header_end = at.position();
    // A length in memory is far below 2^63, and the alignment is at most 65,536.
    let data_offset = (header_end as u64).next_multiple_of(alignment.into());
    all_inside(&tensors, data_offset, file_bytes)?;
    Ok(Header { version, alignment, metadata, tensors, header_end, data_offset })
}

/// Bytes of a tensor's data; `None` if a row is no whole number of blocks, or on overflow.
pub(super) fn data_bytes(ty: TensorType, shape: &Shape) -> Option<u64> {
    // Rows first, then blocks, then bytes: in this order no product can wrap unseen.
    let bytes = ty.row_bytes(shape.n_cols())?.checked_mul(shape.n_rows())?;
    i64::try_from(bytes).ok().map(i64::unsigned_abs)
}

/// Where the tensor after one of `bytes` at `offset` starts.
pub(super) fn next_offset(offset: u64, bytes: u64, alignment: u32) -> Option<u64> {
    offset.checked_add(bytes.checked_next_multiple_of(alignment.into())?)
}

/// The alignment that `metadata` asks for.
pub(super) fn alignment(metadata: &[(String, Value)]) -> Result<u32, Fault> {
    match metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY) {
        None => Ok(ALIGNMENT),
        Some((_, Value::U32(n))) if n.is_power_of_two() && (8..=65_536).contains(n) => Ok(*n),
        Some((_, Value::U32(n))) => {
            malformed(format!("{ALIGNMENT_KEY} {n} is not a power of two in 8..=65536"))
        }
        Some((_, other)) => {
            malformed(format!("{ALIGNMENT_KEY} must be u32, is type {}", other.type_id()))
        }
    }
}

fn magic_and_version(at: &mut Cursor<'_>) -> Result<u32, Fault> {
    let magic: [u8; 4] = at.array("magic")?;
    if magic != MAGIC {
        return malformed(format!("not a GGUF file (magic {magic:02x?})"));
    }
    let version = at.u32("version")?;
    if version != 0 && version & 0xffff == 0 {
        return unsupported(format!("version {version:#x}: big-endian GGUF is not supported"));
    }
    if !(2..=3).contains(&version) {
        return unsupported(format!("GGUF version {version} is not supported (2 and 3 are)"));
    }
    Ok(version)
}

fn counts(at: &mut Cursor<'_>) -> Result<(u64, u64), Fault> {
    let n_tensors = at.u64("tensor count")?;
    let n_keys = at.u64("metadata count")?;
    for (what, n, limit) in
        [("metadata", n_keys, limits::KEYS), ("tensor", n_tensors, limits::TENSORS)]
    {
        if n > limit {
            return malformed(format!("{what} count {n} exceeds limit {limit}"));
        }
    }
    // The shortest key takes 13 bytes (length, type, one byte of value), the shortest tensor 24.
    let left = at.left();
    let least = n_keys.saturating_mul(13).saturating_add(n_tensors.saturating_mul(24));
    if least > left {
        return malformed(format!(
            "header declares {n_keys} keys and {n_tensors} tensors but only {left} bytes follow"
        ));
    }
    Ok((n_tensors, n_keys))
}

fn tensors(at: &mut Cursor<'_>, n: u64, alignment: u32) -> Result<Vec<TensorInfo>, Fault> {
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    let mut expected = 0;
    for i in 0..n {
        let name = at.string(limits::NAME_BYTES, &format!("name of tensor {i}"))?;
        if name.is_empty() || name.contains('\0') {
            return malformed(format!("tensor {i}: empty name or NUL in name"));
        }
        if !names.insert(name) {
            return malformed(format!("duplicate tensor name {name:?}"));
        }
        let tensor = tensor(at, name)?;
        let offset = tensor.offset;
        if !offset.is_multiple_of(alignment.into()) {
            return malformed(format!(
                "tensor {name:?}: offset {offset} is not a multiple of alignment {alignment}"
            ));
        }
        if offset != expected {
            return malformed(format!(
                "tensor {name:?}: offset {offset}, expected {expected} (tensors must be contiguous)"
            ));
        }
        expected = next_offset(offset, tensor.bytes, alignment).ok_or_else(|| {
            Fault::Malformed(format!("tensor {name:?}: end of the data overflows"))
        })?;
        tensors.push(tensor);
    }
    Ok(tensors)
}

/// The rest of a tensor's entry.
fn tensor(at: &mut Cursor<'_>, name: &str) -> Result<TensorInfo, Fault> {
    let rank = at.u32("number of dimensions")?;
    if !(1..=4).contains(&rank) {
        return malformed(format!("tensor {name:?}: {rank} dimensions (1 to 4 allowed)"));
    }
    let dims = (0..rank).map(|_| at.u64("dim")).collect::<Result<Vec<u64>, _>>()?;
    let id = at.u32("tensor type")?;
    let offset = at.u64("tensor offset")?;
    let Some(ty) = TensorType::from_id(id) else {
        return unsupported(format!("tensor {name:?}: unsupported ggml type {id}"));
    };
    if dims.contains(&0) {
        return malformed(format!("tensor {name:?}: zero dimension in {dims:?}"));
    }
    let block = ty.block_len() as u64;
    if let Some(cols) = dims.first().filter(|cols| !cols.is_multiple_of(block)) {
        return malformed(format!(
            "tensor {name:?}: row of {cols} values is not a multiple of block {block}"
        ));
    }
    let overflow = || Fault::Malformed(format!("tensor {name:?}: size of {dims:?} overflows"));
    let ne = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>();
    let shape = ne.and_then(|ne| Shape::new(&ne)).ok_or_else(overflow)?;
    let bytes = data_bytes(ty, &shape).ok_or_else(overflow)?;
    Ok(TensorInfo { name: name.into(), ty, shape, offset, bytes })
}

/// Tensors do not overlap, so it is enough that each ends inside the file.
fn all_inside(tensors: &[TensorInfo], data_offset: u64, file_bytes: u64) -> Result<(), Fault> {
    for tensor in tensors {
        // Three numbers of 64 bits, whose sum may wrap in 64 and cannot in 128.
        let end: u128 = [data_offset, tensor.offset, tensor.bytes].map(u128::from).iter().sum();
        if end > file_bytes.into() {
            let name = &tensor.name;
            return malformed(format!(
                "tensor {name:?}: data ends at byte {end}, file has {file_bytes}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Layout;

    #[test]
    fn on_slices_no_change_panics() {
        let metadata: Metadata = vec![
            ("a".into(), 7u32.into()),
            ("b".into(), vec![true, false].into()),
            ("c".into(), "text".into()),
            ("d".into(), vec!["x".to_string(), "y".into()].into()),
            ("e".into(), 0.5f64.into()),
        ];
        // Without tensors, whose sizes are asked of ggml.
        let layout = Layout::new(&metadata, Vec::new()).unwrap();
        let whole = layout.header();
        let header = scan(whole, whole.len() as u64).unwrap();
        assert_eq!(header.metadata, metadata);
        for n in 0..header.header_end {
            scan(&whole[..n], n as u64).unwrap_err();
            for change in [1, 0x80, 0xff] {
                let mut changed = whole.to_vec();
                changed[n] ^= change;
                let _ = scan(&changed, whole.len() as u64);
            }
        }
    }
}
