//! Writes a GGUF file so that its path only ever holds the old file or the complete new one.
//!
//! The bytes go to `.NAME.PID.partial` beside the target, whose space is reserved first. Finishing
//! checks that all are there, syncs, renames over the target and syncs the folder. Dropping an
//! unfinished writer removes the partial file; only a killed process leaves one behind.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, RenameFlags, CWD};
use rustix::io::Errno;
use rustix::process::Pid;

use super::{GgufFile, Layout, TensorInfo};
use crate::error::{Error, Result};

/// A file being written. Several threads may write at once.
#[derive(Debug)]
pub struct Writer {
    target: PathBuf,
    overwrite: bool,
    partial: Partial,
    file: File,
    data_offset: u64,
    tensors: Vec<TensorInfo>,
    written: Vec<AtomicU64>,
}

impl Writer {
    /// Starts the file of `layout` that [`finish`](Self::finish) will put at `path`: reserves all
    /// its space and writes the header. An existing file is an error unless `overwrite` is set,
    /// and is not touched before the end.
    pub fn create(path: &Path, layout: &Layout, overwrite: bool) -> Result<Self> {
        refuse_target(path, overwrite)?;
        let partial = Partial(partial_path(path)?);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&partial.0);
        let file = match file {
            Ok(file) => file,
            Err(e) => {
                let found = partial.keep();
                return Err(match e.kind() {
                    io::ErrorKind::AlreadyExists => Error::argument(format!(
                        "{} exists, from a run that was killed or is still writing; remove it",
                        found.display()
                    )),
                    _ => Error::io(found, e),
                });
            }
        };
        reserve(&file, layout.file_bytes()).map_err(|e| Error::io(path, e))?;
        file.write_all_at(layout.header(), 0).map_err(|e| Error::io(path, e))?;
        Ok(Self {
            target: path.into(),
            overwrite,
            partial,
            file,
            data_offset: layout.header().len() as u64,
            tensors: layout.tensors().to_vec(),
            written: layout.tensors().iter().map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Writes `bytes` at `offset_in_tensor` of the tensor with index `tensor`. A range that is not
    /// inside the tensor is an error and writes nothing. Every byte is to be written once.
    pub fn write_at(&self, tensor: usize, offset_in_tensor: u64, bytes: &[u8]) -> Result<()> {
        let n = bytes.len() as u64;
        let found = self.tensors.get(tensor).zip(self.written.get(tensor));
        let (info, written) = found.ok_or_else(|| {
            Error::argument(format!("tensor {tensor} of {} does not exist", self.tensors.len()))
        })?;
        if offset_in_tensor.checked_add(n).is_none_or(|end| end > info.bytes) {
            return Err(Error::argument(format!(
                "tensor {:?}: {n} bytes at {offset_in_tensor} do not fit in its {}",
                info.name, info.bytes
            )));
        }
        #[expect(
            clippy::arithmetic_side_effects,
            reason = "a place inside the file, whose length the layout has as a number"
        )]
        let at = self.data_offset + info.offset + offset_in_tensor;
        self.file.write_all_at(bytes, at).map_err(|e| Error::io(&self.target, e))?;
        written.fetch_add(n, Ordering::Relaxed);
        Ok(())
    }

    /// Checks that every tensor got as many bytes as it has, and that the file opens as what was
    /// laid out; then puts it in place, on disk.
    pub fn finish(self) -> Result<()> {
        self.check()?;
        let Self { target, overwrite, partial, file, .. } = self;
        file.sync_all().map_err(|e| Error::io(&target, e))?;
        publish(&partial.0, &target, overwrite).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => exists(&target),
            _ => Error::io(&target, e),
        })?;
        partial.keep();
        sync_folder(&target).map_err(|e| {
            let what = format!("the file is in place, but its folder cannot be synced: {e}");
            Error::io(&target, io::Error::new(e.kind(), what))
        })
    }

    fn check(&self) -> Result<()> {
        for (info, written) in self.tensors.iter().zip(&self.written) {
            let written = written.load(Ordering::Relaxed);
            if written != info.bytes {
                let TensorInfo { name, bytes, .. } = info;
                let what = format!("tensor {name:?}: {written} bytes written, it has {bytes}");
                return Err(Error::self_check(what));
            }
        }
        let read = GgufFile::open(&self.partial.0)?;
        if read.tensors() != self.tensors || read.data_offset() != self.data_offset {
            return Err(Error::self_check("the written header is not the one laid out"));
        }
        Ok(())
    }
}

/// Partial files for `path` that killed runs have left beside it. They are never removed here.
pub fn stale_partials(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name() else { return Vec::new() };
    let Ok(entries) = fs::read_dir(folder(path)) else { return Vec::new() };
    let mut stale: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| pid_of(&entry.file_name(), name).is_some_and(|pid| !is_alive(pid)))
        .map(|entry| entry.path())
        .collect();
    stale.sort();
    stale
}

/// A file that is removed on drop.
#[derive(Debug)]
struct Partial(PathBuf);

impl Partial {
    /// Leaves the file where it is.
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Nothing can be done about a failure here, and the error that led here matters more.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn refuse_target(path: &Path, overwrite: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        // Renaming over a device or a folder would replace it, or fail after all the work.
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => {
            Err(Error::argument(format!("{} is not a regular file", path.display())))
        }
        Ok(_) if !overwrite => Err(exists(path)),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

fn exists(path: &Path) -> Error {
    Error::argument(format!("{} exists; pass --overwrite to replace it", path.display()))
}

/// Where a file for `target` is written before it is whole.
///
/// # Errors
/// [`Error::Argument`] where `target` ends in no name.
pub fn partial_path(target: &Path) -> Result<PathBuf> {
    let Some(name) = target.file_name() else {
        return Err(Error::argument(format!("{} does not name a file", target.display())));
    };
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(format!(".{}.partial", std::process::id()));
    Ok(folder(target).join(partial))
}

/// The process that `file` is or was being written by, if it is a partial file for `name`.
fn pid_of(file: &OsStr, name: &OsStr) -> Option<i32> {
    let rest = file.as_encoded_bytes().strip_prefix(b".")?;
    let rest = rest.strip_prefix(name.as_encoded_bytes())?.strip_prefix(b".")?;
    std::str::from_utf8(rest.strip_suffix(b".partial")?).ok()?.parse().ok()
}

fn is_alive(pid: i32) -> bool {
    // `from_raw` panics on a negative number.
    let Some(pid) = Some(pid).filter(|&pid| pid > 0).and_then(Pid::from_raw) else { return false };
    // A process of another user answers "not permitted", and is alive.
    rustix::process::test_kill_process(pid) != Err(Errno::SRCH)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reserves blocks on disk, so that a full disk is found before the work is done. Where the file
/// system cannot, only the length is set.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return file.set_len(bytes),
            Err(e) => {
                let e = io::Error::from(e);
                let what = format!("cannot reserve {bytes} bytes: {e}");
                return Err(io::Error::new(e.kind(), what));
            }
        }
    }
}

/// Renames; without `overwrite`, a file that has appeared at `target` since is left alone.
fn publish(partial: &Path, target: &Path, overwrite: bool) -> io::Result<()> {
    if !overwrite {
        match rustix::fs::renameat_with(CWD, partial, CWD, target, RenameFlags::NOREPLACE) {
            // The file system does not know the flag: look first, then rename.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                if fs::symlink_metadata(target).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
            }
            other => return other.map_err(Into::into),
        }
    }
    fs::rename(partial, target)
}

fn sync_folder(target: &Path) -> io::Result<()> {
    File::open(folder(target))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partial_files_of_the_same_target_have_a_pid() {
        let pid = |file: &str| pid_of(OsStr::new(file), OsStr::new("a.gguf"));
        assert_eq!(pid(".a.gguf.42.partial"), Some(42));
        for other in ["a.gguf", ".b.gguf.42.partial", ".a.gguf.partial", ".a.gguf.x.partial"] {
            assert_eq!(pid(other), None, "{other}");
        }
    }

    #[test]
    fn this_process_is_alive_and_impossible_ones_are_not() {
        assert!(is_alive(std::process::id() as i32));
        assert!(!is_alive(0));
        assert!(!is_alive(-1));
        // Above the largest PID that Linux and macOS give out.
        assert!(!is_alive(i32::MAX));
    }
}
