//! What kind of file holds the tensors: told by its first bytes, never by its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::stored::Stored;
use super::{safetensors, torch_zip};
use crate::error::{Error, Result};

/// Checks and decodes the header of `file`, which is at `path` and has `file_bytes`. Tensors come
/// out in the order of their names, by code point, each name once.
pub(super) fn read_header(path: &Path, file: &File, file_bytes: u64) -> Result<Vec<Stored>> {
    let mut head = [0; 9];
    read_some(file, 0, file_bytes, &mut head).map_err(|e| Error::io(path, e))?;
    let what = match head {
        // Before the others: a safetensors file starts with a length, which can be any of them.
        [_, _, _, _, 0, 0, 0, 0, b'{'] => return safetensors::read_header(path, file, file_bytes),
        [b'P', b'K', 3, 4, ..] => return torch_zip::read_header(path, file, file_bytes),
        [b'G', b'G', b'U', b'F', ..] => "a GGUF file, not a checkpoint",
        [0x80, 2..=5, ..] => {
            "a pickle without a zip around it, as PyTorch wrote before 1.6; load it there and save \
             it again"
        }
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h'] => {
            "a Git LFS pointer, not the file itself; run git lfs pull"
        }
        _ => return safetensors::read_header(path, file, file_bytes),
    };
    Err(Error::unsupported(path, what))
}

/// The `available` bytes at `offset`, or as many as `buffer` holds.
pub(super) fn read_some<'b>(
    file: &File,
    offset: u64,
    available: u64,
    buffer: &'b mut [u8],
) -> io::Result<&'b [u8]> {
    let n = available.min(buffer.len() as u64) as usize;
    let (bytes, _) = buffer.split_at_mut(n);
    file.read_exact_at(bytes, offset)?;
    Ok(bytes)
}
