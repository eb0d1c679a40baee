//! The GGUF form of an importance matrix.
//!
//! Keys: `general.type` "imatrix", `imatrix.datasets` (array of string), `imatrix.chunk_count`
//! and `imatrix.chunk_size` (u32). Each entry NAME is two f32 tensors: `NAME.in_sum2`
//! `{n_cols, n_matrices}` and `NAME.counts` `{1, n_matrices}`. Tensors are sorted by entry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Entry, Imatrix};
use crate::error::{Error, Result};
use crate::ggml::{self, TensorType};
use crate::gguf::{GgufFile, Layout, Metadata, TensorInfo, Value, Writer, MAGIC};
use crate::mmap::{open_regular, Access};
use crate::shape::Shape;

const TYPE: &str = "general.type";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// True if the file begins as a GGUF does.
pub(super) fn starts_with_magic(path: &Path) -> Result<bool> {
    let (file, _): (File, _) = open_regular(path)?;
    let mut magic = Vec::new();
    file.take(4).read_to_end(&mut magic).map_err(|e| Error::io(path, e))?;
    Ok(magic == MAGIC)
}

/// Reads the file at `path`. Tensors that are neither sums nor counts are passed over.
pub(super) fn read(path: &Path, access: Access) -> Result<Imatrix> {
    let file = GgufFile::open_with(path, access)?;
    let missing = |key| {
        Error::malformed(path, format!("not an importance matrix: missing metadata key {key:?}"))
    };
    let datasets = file.strings(DATASETS)?.ok_or_else(|| missing(DATASETS))?.to_vec();
    let chunk_count = file.u32(CHUNK_COUNT)?.ok_or_else(|| missing(CHUNK_COUNT))?;
    let chunk_size = file.u32(CHUNK_SIZE)?.ok_or_else(|| missing(CHUNK_SIZE))?;
    let mut entries = BTreeMap::new();
    for tensor in file.tensors() {
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            entries.insert(name.to_owned(), entry(&file, name, tensor)?);
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
            if file.tensor(&format!("{name}{SUMS}")).is_none() {
                return Err(Error::malformed(path, format!("entry {name:?}: counts without sums")));
            }
        }
    }
    if entries.is_empty() {
        return Err(Error::malformed(path, "an importance matrix without entries"));
    }
    Ok(Imatrix { path: path.into(), datasets, chunk_count, chunk_size, entries })
}

fn entry(file: &GgufFile, name: &str, sums: &TensorInfo) -> Result<Entry> {
    let malformed = |what: String| Error::malformed(file.path(), format!("entry {name:?}: {what}"));
    let counts = file.tensor(&format!("{name}{COUNTS}"));
    let counts = counts.ok_or_else(|| malformed("sums without counts".into()))?;
    let (n, n_counts) = (sums.shape.n_elements(), counts.shape.n_elements());
    if !n.is_multiple_of(n_counts) {
        return Err(malformed(format!("{n} sums for {n_counts} counts; expected a multiple")));
    }
    let sums = numbers(file, name, sums)?;
    let counts = numbers(file, name, counts)?;
    Entry::new(sums, counts).ok_or_else(|| malformed("no numbers".into()))
}

fn numbers(file: &GgufFile, entry: &str, tensor: &TensorInfo) -> Result<Vec<f32>> {
    if tensor.ty != TensorType::F32 {
        let name = format!("entry {entry:?}: type of {:?}", tensor.name);
        return Err(Error::mismatch(file.path(), name, TensorType::F32, tensor.ty));
    }
    let mut values = vec![0f32; tensor.shape.n_elements()];
    ggml::to_f32(TensorType::F32, file.data(tensor), &mut values);
    check(file.path(), entry, &values)?;
    Ok(values)
}

/// An error that names the entry and the number, unless all are finite and not negative.
pub(super) fn check(path: &Path, entry: &str, values: &[f32]) -> Result<()> {
    let mut bad = values.iter().enumerate().filter(|(_, x)| !(x.is_finite() && **x >= 0.0));
    match bad.next() {
        None => Ok(()),
        Some((i, x)) if x.is_finite() => {
            Err(Error::malformed(path, format!("entry {entry:?}: number {i} is negative ({x})")))
        }
        Some((i, x)) => Err(Error::non_finite(path, format!("entry {entry:?}: number {i} is {x}"))),
    }
}

/// Writes `imatrix` to `path`.
pub(super) fn write(imatrix: &Imatrix, path: &Path, overwrite: bool) -> Result<()> {
    let metadata: Metadata = vec![
        (TYPE.into(), "imatrix".into()),
        (DATASETS.into(), imatrix.datasets.clone().into()),
        (CHUNK_COUNT.into(), Value::U32(imatrix.chunk_count)),
        (CHUNK_SIZE.into(), Value::U32(imatrix.chunk_size)),
    ];
    let mut tensors = Vec::new();
    for (name, entry) in &imatrix.entries {
        let shape = |n_cols| Shape::new(&[n_cols, entry.counts.len()]).map(|s| s.trimmed());
        let shapes = shape(entry.n_cols()).zip(shape(1));
        // An entry has numbers, or it would not have been made.
        let (sums, counts) = shapes.ok_or_else(|| Error::self_check("an entry without numbers"))?;
        tensors.push((format!("{name}{SUMS}"), TensorType::F32, sums));
        tensors.push((format!("{name}{COUNTS}"), TensorType::F32, counts));
    }
    let layout = Layout::new(&metadata, tensors)?;
    let writer = Writer::create(path, &layout, overwrite)?;
    let tensors = imatrix.entries.values().flat_map(|entry| [&entry.sums, &entry.counts]);
    for (i, values) in tensors.enumerate() {
        writer.write_at(i, 0, &bytes(values))?;
    }
    writer.finish()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
