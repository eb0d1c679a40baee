//! Where everything in a file to be written goes, known before the first byte is.

use super::header::{self, TensorInfo};
use super::value::Put;
use super::{Value, MAGIC, VERSION};
use crate::error::{Error, Result};
use crate::ggml::TensorType;
use crate::shape::Shape;

/// Header, tensor positions and length of a file to be written.
#[derive(Clone, Debug)]
pub struct Layout {
    header: Vec<u8>,
    tensors: Vec<TensorInfo>,
    file_bytes: u64,
}

impl Layout {
    /// Lays out `metadata` and `tensors` (name, type, shape) in the order given; a shape's rank is
    /// written as it is. What [`GgufFile::open`](super::GgufFile::open) would refuse is an error:
    /// duplicate names, rows that do not fill blocks, anything over a limit.
    pub fn new(
        metadata: &[(String, Value)],
        tensors: Vec<(String, TensorType, Shape)>,
    ) -> Result<Self> {
        let refuse = |what: String| Error::argument(format!("cannot lay out a GGUF file: {what}"));
        let alignment = header::alignment(metadata).map_err(|fault| refuse(fault.reason()))?;
        let (tensors, data_bytes) = place(tensors, alignment).map_err(refuse)?;
        let mut header = encode(metadata, &tensors);
        header.resize(header.len().next_multiple_of(alignment as usize), 0);
        let file_bytes = (header.len() as u64)
            .checked_add(data_bytes)
            .ok_or_else(|| refuse("its length overflows".into()))?;
        // The reader's checks are the only rules, so what is written can be read.
        let checked = header::scan(&header, file_bytes).map_err(|fault| refuse(fault.reason()))?;
        if checked.tensors != tensors || checked.data_offset != header.len() as u64 {
            return Err(Error::self_check("an encoded GGUF header decodes to something else"));
        }
        Ok(Self { header, tensors, file_bytes })
    }

    /// The header, padded to the alignment.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The tensors with their offsets and sizes, in the order given.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Length of the whole file: header, data, and padding after every tensor.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

/// Gives every tensor its offset and size; also the length of all data with padding.
fn place(
    tensors: Vec<(String, TensorType, Shape)>,
    alignment: u32,
) -> std::result::Result<(Vec<TensorInfo>, u64), String> {
    let mut offset = 0;
    let mut placed = Vec::with_capacity(tensors.len());
    for (name, ty, shape) in tensors {
        let Some(bytes) = header::data_bytes(ty, &shape) else {
            let block = ty.block_len();
            return Err(format!("tensor {name:?}: {shape} does not fill {ty} blocks of {block}"));
        };
        let next = header::next_offset(offset, bytes, alignment)
            .ok_or_else(|| format!("tensor {name:?}: end of the data overflows"))?;
        placed.push(TensorInfo { name, ty, shape, offset, bytes });
        offset = next;
    }
    Ok((placed, offset))
}

fn encode(metadata: &[(String, Value)], tensors: &[TensorInfo]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    VERSION.put(&mut out);
    (tensors.len() as u64).put(&mut out);
    (metadata.len() as u64).put(&mut out);
    for (key, value) in metadata {
        key.put(&mut out);
        value.type_id().put(&mut out);
        value.encode(&mut out);
    }
    for tensor in tensors {
        tensor.name.put(&mut out);
        (tensor.shape.rank() as u32).put(&mut out);
        tensor.shape.dims().iter().for_each(|&dim| (dim as u64).put(&mut out));
        tensor.ty.id().put(&mut out);
        tensor.offset.put(&mut out);
    }
    out
}
