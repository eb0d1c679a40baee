//! gguf-rs reads the header too, and has to agree.
//!
//! It is shown only bytes that our own check has passed, in memory: by itself it does not look at
//! bounds. Of its results only names, type numbers, shapes, offsets and keys are used: its sizes
//! are wrong for several types, and its values have lost theirs.

use std::io::Cursor;
use std::panic::{catch_unwind, AssertUnwindSafe};

use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel, Tensor};

use super::{GgufFile, TensorInfo};
use crate::error::{Error, Result};

impl GgufFile {
    /// Decodes the header with gguf-rs as well. An error names the first thing on which the two
    /// readers differ.
    pub fn cross_check(&self) -> Result<()> {
        let differ = |what: String| {
            Error::self_check(format!("{}: gguf-rs reads {what}", self.path().display()))
        };
        let model = decode(self.header_bytes()).map_err(differ)?;
        let keys = model.metadata();
        if let Some((key, _)) = self.metadata().iter().find(|(key, _)| !keys.contains_key(key)) {
            return Err(differ(format!("no metadata key {key:?}")));
        }
        let counts = (keys.len(), model.tensors().len(), model.data_offset());
        let ours = (self.metadata().len(), self.tensors().len(), self.data_offset());
        if counts != ours {
            return Err(differ(format!("(keys, tensors, data offset) {counts:?}, not {ours:?}")));
        }
        let mut pairs = self.tensors().iter().zip(model.tensors());
        match pairs.find(|(ours, theirs)| !same(ours, theirs)) {
            None => Ok(()),
            Some((ours, theirs)) => Err(differ(format!("{theirs:?}, not {ours:?}"))),
        }
    }
}

/// Decodes a header without its magic. A panic of the decoder is an error like any other.
fn decode(header: &[u8]) -> std::result::Result<GGUFModel, String> {
    let bytes = Cursor::new(header.to_vec());
    let mut container = GGUFContainer::new(ByteOrder::LE, Box::new(bytes), u64::MAX);
    match catch_unwind(AssertUnwindSafe(|| container.decode())) {
        Ok(Ok(model)) => Ok(model),
        Ok(Err(e)) => Err(format!("an error: {e}")),
        Err(_) => Err("nothing, it panics".into()),
    }
}

fn same(ours: &TensorInfo, theirs: &Tensor) -> bool {
    ours.name == theirs.name
        && ours.ty.id() == theirs.kind
        && ours.offset == theirs.offset
        && ours.shape.dims().iter().map(|&dim| dim as u64).eq(theirs.shape.iter().copied())
}
