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
use std::ops::{Deref, Range};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicUsize, Ordering};
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

    /// Has the pages of `ranges` mapped now, by `n_threads` threads: as they are first read it would
    /// take one fault for every few. Pages that cannot be mapped are left to their readers, and so
    /// are all where the system has no such call, where the file was read, and where there are so many
    /// that the first might be gone before they are wanted.
    pub fn populate(&self, ranges: &[Range<usize>], n_threads: usize) {
        let n_bytes: usize = ranges.iter().map(Range::len).sum();
        if self.mapped.is_some() && memory().is_some_and(|memory| n_bytes as u64 <= memory / 2) {
            populate(&self.map, ranges, n_threads);
        }
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

/// Bytes of this machine's memory.
fn memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let info = rustix::system::sysinfo();
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
        let total = u64::from(info.totalram);
        Some(total.saturating_mul(info.mem_unit.into()))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
fn populate(map: &memmap2::Mmap, ranges: &[Range<usize>], n_threads: usize) {
    /// Bytes that a thread takes at a time.
    const PIECE: usize = 4 << 20;
    let pieces: Vec<(usize, usize)> = ranges
        .iter()
        .flat_map(|range| {
            let starts = range.clone().step_by(PIECE);
            starts.map(|start| (start, PIECE.min(range.end - start)))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&(start, len)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            if map.advise_range(memmap2::Advice::PopulateRead, start, len).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..n_threads.min(pieces.len()) {
            // Without it the others do all.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

#[cfg(not(target_os = "linux"))]
fn populate(_: &memmap2::Mmap, _: &[Range<usize>], _: usize) {}

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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;

    use super::*;

    /// Pages of files that this process has mapped, in bytes.
    fn mapped_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("facts of the process");
        let line =
            status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("its pages");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    #[test]
    fn pages_are_mapped_before_they_are_read() {
        const LEN: usize = (64 << 20) + 5;
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&vec![7; LEN]).expect("room for it");
        let map = Mmap::open(file.path()).expect("a file that can be mapped");
        let before = mapped_bytes();
        // In pieces, unaligned, twice.
        map.populate(&[5000..LEN / 2, LEN / 2..LEN, 5000..6000], 3);
        assert!(mapped_bytes() > before + LEN / 2, "{before} before, {} behind", mapped_bytes());
        assert!(map.iter().all(|&byte| byte == 7));
        // What is not there is left to its reader.
        file.as_file().set_len(4096).expect("a shorter file");
        map.populate(&[0..LEN, 0..1], 2);
        let read = Mmap::open_with(file.path(), Access::Read).expect("a file that can be read");
        read.populate(&[0..4096, 0..1], 2);
        assert_eq!(read.len(), 4096);
    }
}
