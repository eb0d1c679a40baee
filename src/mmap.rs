//! A read-only map of a whole file.
//!
//! In: a path. Out: its bytes. The file must not be changed or shortened while it is mapped: the
//! bytes would change under the reader, and a read past the new end is a fatal signal.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use crate::error::{Error, Result};

/// A mapped file; dereferences to its bytes.
#[derive(Debug)]
pub struct Mmap {
    map: memmap2::Mmap,
}

impl Mmap {
    /// Maps `path`. Fails if it is not a regular file or cannot be mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, _) = open_regular(path)?;
        // SAFETY: the map is private to this value and never written through. That the file stays
        // as it is while mapped is the documented condition of this module.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Self { map })
    }
}

impl Deref for Mmap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Opens `path` for reading and tells its length in bytes. Folders, devices, pipes and empty files
/// are refused; they are looked at before they are opened, for opening a pipe can wait for ever.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let io = |e| Error::io(path, e);
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(Error::malformed(path, "not a regular file"));
    }
    let file = File::open(path).map_err(io)?;
    match file.metadata().map_err(io)?.len() {
        0 => Err(Error::malformed(path, "empty file")),
        len => Ok((file, len)),
    }
}
