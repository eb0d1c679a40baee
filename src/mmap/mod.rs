//! The bytes of a whole file, mapped or read.
//!
//! In: a path. Out: its bytes, read-only. A mapped file must not be changed or shortened: bytes
//! would change under the reader, and a page that is gone ends the process by a signal, if nothing
//! watches for it ([`exit_when_a_mapped_file_shrinks`]). [`Access::Read`] has neither danger and
//! takes the memory of the whole file.

#[cfg(unix)]
mod lost;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;
use std::time::SystemTime;

#[cfg(unix)]
pub use lost::exit_when_a_mapped_file_shrinks;

use crate::error::{Error, Result};

/// How a file gets into memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Page by page when it is used, shared with other processes.
    #[default]
    Map,
    /// All of it at once, as a copy.
    Read,
}

/// A file in memory; dereferences to its bytes.
#[derive(Debug)]
pub struct Mmap {
    map: memmap2::Mmap,
    /// The file as it was, if it is mapped: it is the one whose bytes can change.
    mapped: Option<Mapped>,
}

#[derive(Debug)]
struct Mapped {
    file: File,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    _watched: lost::Watched,
}

impl Mmap {
    /// Maps `path`. Fails if it is not a regular file or cannot be mapped.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Access::Map)
    }

    /// Maps or reads `path`. Fails if it is not a regular file, or if there is not the memory.
    pub fn open_with(path: &Path, access: Access) -> Result<Self> {
        let (file, len) = open_regular(path)?;
        match access {
            Access::Map => Self::map(file, path),
            Access::Read => Self::read(file, len),
        }
        .map_err(|e| Error::io(path, e))
    }

    fn map(file: File, path: &Path) -> io::Result<Self> {
        // SAFETY: the map is private to this value and never written through. That the file stays
        // as it is while mapped is the documented condition of this module.
        let map = unsafe { memmap2::Mmap::map(&file) }?;
        let modified = file.metadata()?.modified().ok();
        let mapped = Mapped {
            file,
            modified,
            #[cfg(unix)]
            _watched: lost::Watched::new(&map, path),
        };
        #[cfg(not(unix))]
        let _ = path;
        Ok(Self { map, mapped: Some(mapped) })
    }

    fn read(mut file: File, len: u64) -> io::Result<Self> {
        let too_large = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        // A map of no file: page-aligned, as a mapped file is, and zero until written.
        let mut memory = memmap2::MmapMut::map_anon(usize::try_from(len).map_err(too_large)?)?;
        file.read_exact(&mut memory)?;
        Ok(Self { map: memory.make_read_only()?, mapped: None })
    }

    /// Hands all bytes to `out`. Those of a mapped file are read, of the file that was opened, whatever
    /// has its name by now; so none of its pages becomes resident by it.
    pub(crate) fn copy_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(mapped) = &self.mapped {
            use std::os::unix::fs::FileExt;
            let mut buffer = vec![0; 1 << 20];
            let mut at = 0u64;
            loop {
                match mapped.file.read_at(&mut buffer, at) {
                    Ok(0) => return Ok(()),
                    Ok(n) => {
                        out.write_all(buffer.get(..n).unwrap_or_default())?;
                        at = at.saturating_add(n as u64);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
        out.write_all(&self.map)
    }

    /// Fails if the mapped file has another length or was written to since it was opened. A file
    /// that took its name does not matter.
    pub fn check_unchanged(&self, path: &Path) -> Result<()> {
        let Some(mapped) = &self.mapped else { return Ok(()) };
        let now = mapped.file.metadata().map_err(|e| Error::io(path, e))?;
        if now.len() == self.map.len() as u64 && now.modified().ok() == mapped.modified {
            return Ok(());
        }
        Err(Error::io(path, io::Error::other(CHANGED)))
    }
}

/// What is said of a file that did not stay as it was.
const CHANGED: &str = "changed while in use; leave the file alone, or use --no-mmap";

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
