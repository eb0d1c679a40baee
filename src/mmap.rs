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
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        if !meta.is_file() {
            return Err(Error::malformed(path, "not a regular file"));
        }
        if meta.len() == 0 {
            return Err(Error::malformed(path, "empty file"));
        }
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
