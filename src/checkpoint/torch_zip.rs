//! A PyTorch file: a zip that is read in place.
//!
//! ```text
//!  TOP/data.pkl      pickle: {"name": view of storage N, ..}
//!  TOP/data/N        elements of storage N, little-endian
//!  TOP/byteorder     "little" (since PyTorch 2.1)
//!  TOP/..            nothing that is needed; TOP is any name
//! ```
//!
//! Several tensors can be views of one storage, and a view need not be contiguous.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::read_some;
use super::pickle::{self, Declared, ElementType};
use super::stored::{self, Stored};
use super::strided::Strides;
use super::zip_directory::{self, Entries, Extent};
use crate::error::{shown, Error, Result};

/// Most bytes of a pickle; one of as many tensors as there may be has 20 MiB.
const MAX_PICKLE_BYTES: u64 = 64 << 20;

/// Checks and decodes what `file`, which is at `path` and has `file_bytes`, says of its tensors.
/// They come out in the order of their names, by code point. No data is read.
pub(super) fn read_header(path: &Path, file: &File, file_bytes: u64) -> Result<Vec<Stored>> {
    let entries = zip_directory::read(path, file, file_bytes)?;
    let (top, program) = top_folder(&entries).map_err(|what| Error::malformed(path, what))?;
    little_endian(path, file, &entries, top)?;
    let program = read_pickle(path, file, program)?;
    let declared = pickle::state_dict(&program).map_err(|what| Error::malformed(path, what))?;
    let mut names = HashSet::new();
    let mut tensors = Vec::with_capacity(declared.len());
    for tensor in &declared {
        if !names.insert(tensor.name) {
            let what = format!("duplicate tensor name {:?}", tensor.name);
            return Err(Error::malformed(path, what));
        }
        let checked = check(tensor, &entries, top)
            .map_err(|what| Error::malformed(path, format!("tensor {:?}: {what}", tensor.name)))?;
        tensors.push(checked);
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

/// The folder with the pickle, and where that is; there is one.
fn top_folder(entries: &Entries) -> std::result::Result<(&str, Extent), String> {
    let mut tops = entries
        .iter()
        .filter_map(|(name, extent)| Some((name.strip_suffix("/data.pkl")?, *extent)))
        .filter(|(top, _)| !top.contains('/'));
    match (tops.next(), tops.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => Err("two data.pkl in the zip".into()),
        (None, _) => Err("a zip without a data.pkl; not a PyTorch file".into()),
    }
}

/// An error if the entry that tells the byte order says that it is another.
fn little_endian(path: &Path, file: &File, entries: &Entries, top: &str) -> Result<()> {
    let Some(extent) = entries.get(&format!("{top}/byteorder")) else { return Ok(()) };
    let mut text = [0; 16];
    let text = read_some(file, extent.offset, extent.bytes, &mut text);
    match text.map_err(|e| Error::io(path, e))? {
        b"little" => Ok(()),
        b"big" => Err(Error::unsupported(
            path,
            "big-endian PyTorch file; only little-endian is supported",
        )),
        other => {
            let found = shown(&String::from_utf8_lossy(other));
            Err(Error::malformed(path, format!("byteorder is \"{found}\", expected little")))
        }
    }
}

fn read_pickle(path: &Path, file: &File, extent: Extent) -> Result<Vec<u8>> {
    if extent.bytes > MAX_PICKLE_BYTES {
        let what = format!("data.pkl of {} bytes exceeds limit {MAX_PICKLE_BYTES}", extent.bytes);
        return Err(Error::malformed(path, what));
    }
    let mut program = vec![0; extent.bytes as usize];
    file.read_exact_at(&mut program, extent.offset).map_err(|e| Error::io(path, e))?;
    Ok(program)
}

/// The tensor, if all of it is in its storage and all of the storage in the file.
fn check(
    tensor: &Declared<'_>,
    entries: &Entries,
    top: &str,
) -> std::result::Result<Stored, String> {
    let Declared { name, storage, offset, dims, strides } = tensor;
    let ty = match storage.ty {
        ElementType::Float(ty) => ty,
        ElementType::Other(name) => return Err(format!("{name}, expected F32/F16/BF16")),
    };
    let key = storage.key;
    let Some(extent) = entries.get(&format!("{top}/data/{key}")) else {
        return Err(format!("storage {} missing", shown(key)));
    };
    let width = ty.block_bytes() as u64;
    let n = u64::try_from(storage.n_elements).ok();
    let Some(n) = n.filter(|n| n.checked_mul(width) == Some(extent.bytes)) else {
        let (n, bytes) = (storage.n_elements, extent.bytes);
        return Err(format!("storage says {n} elements, entry has {bytes} bytes"));
    };
    let (shape, bytes) = stored::size(ty, dims)?;
    let view = Strides::from_torch(&shape, strides);
    let last = view.reach(&shape).and_then(|reach| reach.checked_add(*offset));
    if last.is_none_or(|last| last >= n) {
        return Err(format!(
            "{dims:?} with strides {strides:?} from element {offset} on is not inside the {n} of \
             its storage"
        ));
    }
    // Else a file of a few bytes could ask for any amount of output.
    if shape.n_elements() as u64 > n {
        return Err(format!("{dims:?} repeats the {n} elements of its storage; save a copy of it"));
    }
    let strides = (!view.are_dense(&shape)).then_some(view);
    // The view is inside the storage, and that inside the file.
    let offset = extent.offset.saturating_add(offset.saturating_mul(width));
    Ok(Stored { name: (*name).into(), ty, shape, offset, bytes, strides })
}
