//! Reading a whole vocabulary file without trusting its size. Uses `error`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// The content of `path`, which must not have more than `max_bytes`.
pub(super) fn read_capped(path: &Path, max_bytes: usize) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    // One more than allowed, which tells a file that is too long.
    let limit = (max_bytes as u64).saturating_add(1);
    let mut content = Vec::with_capacity(size.saturating_add(1).min(limit) as usize);
    let mut limited = file.take(limit);
    limited.read_to_end(&mut content).map_err(|e| Error::io(path, e))?;
    if content.len() > max_bytes {
        return Err(Error::malformed(path, format!("more than {max_bytes} bytes")));
    }
    Ok(content)
}
