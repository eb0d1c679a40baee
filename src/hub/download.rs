//! One file of the hub into the cache: resumed, counted, checked.
//!
//! In: what the listing says of a file. Out: a blob whose size and hash are what the hub says, or
//! an error and no blob. What has arrived of a file stays beside the blobs and is the start of the
//! next attempt, in this run or a later one.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::cache::Place;
use super::client::{read_failed, Answer, Client, Failure};
use super::listing::{Hash, Hasher, RemoteFile};
use super::{patiently, pause, HubOptions};
use crate::error::{shown, Error, Result};
use crate::progress::Progress;

const CHUNK: usize = 256 << 10;

/// Downloads files of one repository at one commit.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a HubOptions,
    /// What messages call the repository.
    pub(super) id: &'a str,
    /// Address of its files below the endpoint.
    pub(super) address: String,
    pub(super) place: &'a Place,
    pub(super) commit: &'a str,
    pub(super) progress: &'a dyn Progress,
    /// Says in words why a request failed.
    pub(super) explain: &'a dyn Fn(Failure) -> Error,
}

/// A file whose size and hash are known.
struct Known<'a> {
    name: &'a str,
    size: u64,
    hash: Hash,
}

/// How an attempt ended early.
enum Stop {
    /// Worth another attempt.
    Failure(Failure),
    Error(Error),
}

impl Download<'_> {
    /// Makes sure that `file` is in the snapshot.
    pub(super) fn fetch(&self, file: &RemoteFile) -> Result<()> {
        let known = self.identify(file)?;
        let blob = self.place.blob(&known.hash);
        let link = self.place.snapshot(self.commit).join(known.name);
        if has_size(&link, known.size) {
            self.progress.advance(known.size);
            return Ok(());
        }
        let lock = self.place.lock(&known.hash, self.progress)?;
        if has_size(&blob, known.size) {
            self.progress.advance(known.size);
        } else {
            self.download(&known, &blob)?;
        }
        self.place.link(self.commit, known.name, &known.hash)?;
        drop(lock);
        Ok(())
    }

    /// Size and hash, from the listing or else from the headers of the file itself.
    fn identify<'f>(&self, file: &'f RemoteFile) -> Result<Known<'f>> {
        let (name, listed) = (file.name.as_str(), (file.size, file.hash.clone()));
        if let (Some(size), Some(hash)) = listed {
            return Ok(Known { name, size, hash });
        }
        let address = self.address_of(name);
        let ask = || self.client.open(&address, 0);
        let answer = patiently(self.options, self.progress, ask)?.map_err(self.explain)?;
        let size = file.size.or_else(|| size_of(&answer));
        let hash = file.hash.clone().or_else(|| hash_of(&answer));
        match (size, hash) {
            (Some(size), Some(hash)) => Ok(Known { name, size, hash }),
            _ => Err(self.lie(name, "the server tells neither its size nor its hash")),
        }
    }

    /// All of the content to `blob`. A wrong content of which a part is from an earlier run is
    /// fetched once more as a whole: that part may be the one that is wrong.
    fn download(&self, file: &Known<'_>, blob: &Path) -> Result<()> {
        let path = self.place.partial(&file.hash);
        let io = |e| Error::io(&path, e);
        let mut partial = Partial::open(&path, file).map_err(io)?;
        self.progress.advance(partial.len);
        let resumed = partial.len > 0;
        self.fill(file, &mut partial)?;
        let mut found = partial.hash();
        if found != file.hash.as_str() && resumed {
            self.progress.note(&format!("{}: what was there of it is wrong; again", file.name));
            partial.restart(file).map_err(io)?;
            self.fill(file, &mut partial)?;
            found = partial.hash();
        }
        if found != file.hash.as_str() {
            fs::remove_file(&path).map_err(io)?;
            let what = format!(
                "expected hash {}, found {found}; it is not kept; try again later",
                file.hash.as_str()
            );
            return Err(self.lie(file.name, &what));
        }
        partial.file.sync_all().map_err(io)?;
        fs::rename(&path, blob).map_err(|e| Error::io(blob, e))
    }

    /// Requests until the content is whole; gives up when several in a row bring nothing.
    fn fill(&self, file: &Known<'_>, partial: &mut Partial) -> Result<()> {
        let mut idle = 0;
        while partial.len < file.size {
            let before = partial.len;
            let failure = match self.request(file, partial) {
                Ok(()) => continue,
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Failure(failure)) => failure,
            };
            idle = if partial.len > before { 0 } else { idle + 1 };
            match failure {
                Failure::Transport(_) if idle <= self.options.retries => {
                    pause(self.options, idle, self.progress)?
                }
                Failure::Transport(what) => {
                    let (len, size, name) = (partial.len, file.size, file.name);
                    let what = format!(
                        "{name}: {what} after {len} of {size} bytes; run again to continue from there"
                    );
                    return Err(Error::io(self.id, std::io::Error::other(what)));
                }
                other => return Err((self.explain)(other)),
            }
        }
        Ok(())
    }

    /// One request for all that is missing.
    fn request(&self, file: &Known<'_>, partial: &mut Partial) -> std::result::Result<(), Stop> {
        let from = partial.len;
        let address = self.address_of(file.name);
        let answer = self.client.open(&address, from).map_err(Stop::Failure)?;
        self.check_identity(file, &answer).map_err(Stop::Error)?;
        let io = |e| Stop::Error(Error::io(self.place.partial(&file.hash), e));
        let is_whole = answer.status == 200;
        let is_rest = answer.status == 206 && starts_at(&answer, from, file.size);
        if from > 0 && !is_rest {
            partial.restart(file).map_err(io)?;
        }
        if !is_whole && !is_rest {
            let what = "another part than that asked for".into();
            return Err(Stop::Failure(Failure::Transport(what)));
        }
        let mut reader = answer.into_reader();
        let mut chunk = vec![0; CHUNK];
        while partial.len <= file.size {
            if self.progress.cancelled() {
                return Err(Stop::Error(Error::Interrupted));
            }
            let n = reader.read(&mut chunk).map_err(|e| Stop::Failure(read_failed(e)))?;
            if n == 0 {
                break;
            }
            if partial.len + n as u64 > file.size {
                let what = format!("more than the {} bytes that the hub says", file.size);
                return Err(Stop::Error(self.lie(file.name, &what)));
            }
            let new = partial.push(&chunk[..n]).map_err(io)?;
            self.progress.advance(new);
        }
        match partial.len == file.size {
            true => Ok(()),
            false => Err(Stop::Failure(Failure::Transport("the connection was cut".into()))),
        }
    }

    /// The server with the file must mean what the listing meant.
    fn check_identity(&self, file: &Known<'_>, answer: &Answer) -> Result<()> {
        let commit = answer.hub_header("x-repo-commit");
        if let Some(other) = commit.filter(|&commit| commit != self.commit) {
            let what = format!("asked for at commit {}, sent from {}", self.commit, shown(other));
            return Err(self.lie(file.name, &what));
        }
        if let Some(hash) = hash_of(answer).filter(|hash| *hash != file.hash) {
            let (listed, sent) = (file.hash.as_str(), hash.as_str());
            return Err(
                self.lie(file.name, &format!("listed with hash {listed}, sent with {sent}"))
            );
        }
        if let Some(size) = size_of(answer).filter(|&size| size != file.size) {
            let what = format!("listed with {} bytes, sent with {size}", file.size);
            return Err(self.lie(file.name, &what));
        }
        Ok(())
    }

    fn address_of(&self, name: &str) -> String {
        format!("{}/resolve/{}/{}", self.address, self.commit, encoded(name))
    }

    /// The error for a server whose answers do not fit together.
    fn lie(&self, name: &str, what: &str) -> Error {
        Error::malformed(self.id, format!("{name}: {what}"))
    }
}

/// The start of a content, on disk and in the hash.
struct Partial {
    file: File,
    len: u64,
    hasher: Hasher,
    /// Bytes that were told to the progress.
    told: u64,
}

impl Partial {
    fn open(path: &Path, known: &Known<'_>) -> std::io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let hasher = known.hash.hasher(known.size);
        let mut partial = Self { file, len: 0, hasher, told: 0 };
        if partial.file.metadata()?.len() > known.size {
            partial.file.set_len(0)?;
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = partial.file.read(&mut chunk)?;
            if n == 0 {
                partial.told = partial.len;
                return Ok(partial);
            }
            partial.hasher.update(&chunk[..n]);
            partial.len += n as u64;
        }
    }

    /// From the first byte again.
    fn restart(&mut self, known: &Known<'_>) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.len = 0;
        self.hasher = known.hash.hasher(known.size);
        Ok(())
    }

    /// Appends; how many bytes more than ever before are there.
    fn push(&mut self, bytes: &[u8]) -> std::io::Result<u64> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        let new = self.len.saturating_sub(self.told);
        self.told = self.told.max(self.len);
        Ok(new)
    }

    fn hash(&self) -> String {
        self.hasher.clone().finish()
    }
}

fn has_size(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

/// The hash that the hub's headers give; large files have it in a header of its own.
fn hash_of(answer: &Answer) -> Option<Hash> {
    let etag = answer.hub_header("x-linked-etag").or_else(|| answer.hub_header("etag"));
    Hash::of_etag(etag?)
}

/// The size of the whole file that the headers give.
fn size_of(answer: &Answer) -> Option<u64> {
    if let Some(size) = answer.hub_header("x-linked-size") {
        return size.parse().ok();
    }
    match answer.status {
        200 => answer.header("content-length")?.parse().ok(),
        206 => answer.header("content-range")?.rsplit_once('/')?.1.parse().ok(),
        _ => None,
    }
}

/// True if the answer is the rest of the file from byte `first` on.
fn starts_at(answer: &Answer, first: u64, size: u64) -> bool {
    let range = answer.header("content-range").and_then(|range| range.strip_prefix("bytes "));
    let range = range.and_then(|range| range.split_once('-'));
    range.is_some_and(|(start, rest)| {
        start.parse() == Ok(first)
            && rest.rsplit_once('/').is_some_and(|(_, n)| n == size.to_string())
    })
}

/// A path inside a repository as a part of an address.
pub(super) fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => text.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn names_are_fit_for_an_address() {
        assert_eq!(encoded("a/b-1.0_x.json"), "a/b-1.0_x.json");
        assert_eq!(encoded("a b?#%\u{e9}"), "a%20b%3F%23%25%C3%A9");
    }
}
