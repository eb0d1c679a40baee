//! The cache that all clients of the hub share.
//!
//! ```text
//! models--owner--name/
//!   blobs/<hash>              contents; <hash>.incomplete while one arrives
//!   snapshots/<commit>/<file> links to blobs
//!   refs/<revision>           the commit that a branch or tag had when it was last asked
//! .locks/models--owner--name/<hash>.lock
//! ```
//!
//! A ref is written last, so that what it leads to is whole. Uses `error` and `progress`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::id::{is_commit, RepoId};
use super::listing::Hash;
use super::Kind;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The place of one repository in the cache.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    locks: PathBuf,
    revision: String,
}

impl Place {
    pub(super) fn new(cache: &Path, kind: Kind, id: &RepoId) -> Self {
        let name = format!("{}s--{}", kind.singular(), id.folder());
        let locks = cache.join(".locks").join(&name);
        Self { folder: cache.join(name), locks, revision: id.revision().into() }
    }

    /// The folder of the repository.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder with the files of `commit`.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The content with this hash.
    pub(super) fn blob(&self, hash: &Hash) -> PathBuf {
        self.folder.join("blobs").join(hash.as_str())
    }

    /// The content with this hash, as far as it has arrived.
    pub(super) fn partial(&self, hash: &Hash) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", hash.as_str()))
    }

    /// The commit that the revision had when it was last asked, if its snapshot is there.
    pub(super) fn known_commit(&self) -> Option<String> {
        let commit = match is_commit(&self.revision) {
            true => self.revision.clone(),
            false => fs::read_to_string(self.ref_path()).ok()?.trim().to_owned(),
        };
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Remembers the commit of the revision.
    pub(super) fn remember(&self, commit: &str) -> Result<()> {
        if self.revision == commit {
            return Ok(());
        }
        let path = self.ref_path();
        let folder = path.parent().unwrap_or(&self.folder);
        create_folder(folder)?;
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(commit.as_bytes())?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(|e| Error::io(&path, e))
    }

    /// Gives the blob of `hash`, whose lock is held, its name in the snapshot of `commit`.
    pub(super) fn link(&self, commit: &str, name: &str, hash: &Hash) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(name);
        create_folder(path.parent().unwrap_or(&self.folder))?;
        // From the folder of the file up to that of the repository: snapshots, commit, folders.
        let up = "../".repeat(2 + name.matches('/').count());
        let target = format!("{up}blobs/{}", hash.as_str());
        let fresh = path.with_file_name(format!(".{}.{}", hash.as_str(), std::process::id()));
        let _ = fs::remove_file(&fresh);
        symlink(&target, &fresh).map_err(|e| Error::io(&path, e))?;
        fs::rename(&fresh, &path).map_err(|e| Error::io(&path, e))?;
        Ok(path)
    }

    /// Waits until no other process downloads the content of `hash`.
    pub(super) fn lock(&self, hash: &Hash, progress: &dyn Progress) -> Result<File> {
        create_folder(&self.locks)?;
        create_folder(&self.folder.join("blobs"))?;
        let path = self.locks.join(format!("{}.lock", hash.as_str()));
        let file = File::create(&path).map_err(|e| Error::io(&path, e))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(Error::io(&path, e)),
            }
            if progress.cancelled() {
                return Err(Error::Interrupted);
            }
            if !std::mem::replace(&mut told, true) {
                progress.note("waiting for another process that downloads the same file");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn ref_path(&self) -> PathBuf {
        self.folder.join("refs").join(&self.revision)
    }
}

/// Fails, before anything is downloaded, where `bytes` more do not fit.
pub(super) fn check_space(folder: &Path, bytes: u64) -> Result<()> {
    create_folder(folder)?;
    let free = match rustix::fs::statvfs(folder) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        // A file system that does not tell.
        Err(_) => return Ok(()),
    };
    if free >= bytes {
        return Ok(());
    }
    let what = format!("{bytes} bytes are to be downloaded, {free} are free; set HF_HOME");
    Err(Error::io(folder, io::Error::new(io::ErrorKind::StorageFull, what)))
}

fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
}
