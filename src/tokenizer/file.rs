//! Reading a whole vocabulary file without trusting its size. Uses `error`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// The content of `path`, which must not have more than `max_bytes`.
pub(super) fn read_capped(path: &Path, max_bytes: usize) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut content = Vec::with_capacity(size.min(max_bytes as u64) as usize + 1);
    let mut limited = file.take(max_bytes as u64 + 1);
    limited.read_to_end(&mut content).map_err(|e| Error::io(path, e))?;
    if content.len() > max_bytes {
        return Err(Error::malformed(path, format!("more than {max_bytes} bytes")));
    }
    Ok(content)
}
