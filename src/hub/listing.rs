//! What a repository holds at a revision: the answer of the hub, checked.
//!
//! In: the JSON of `/api/<kind>/<id>/revision/<revision>?blobs=true`. Out: the commit, and name,
//! size and hash of every file. Nothing in it is trusted: names that could leave a folder and
//! hashes that are none are errors.

use std::path::{Component, Path};

use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::id::is_commit;
use crate::error::shown;

/// Most files of a repository.
const MAX_FILES: usize = 1 << 16;

/// A repository at one commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Path inside the repository, `/` between folders.
    pub(super) name: String,
    /// Bytes, where the listing tells.
    pub(super) size: Option<u64>,
    /// Hash of the content, where the listing tells.
    pub(super) hash: Option<Hash>,
}

/// By what the hub knows a content, and the cache names its file: SHA-256 for large files, git's
/// hash of a blob for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hash(String);

impl Hash {
    /// From lower-case hex of 64 (SHA-256) or 40 (git) digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (is_hex && matches!(text.len(), 40 | 64)).then(|| Self(text.into()))
    }

    /// From an `ETag`, in quotes and perhaps weak; `None` if it is of another kind.
    pub(super) fn of_etag(etag: &str) -> Option<Self> {
        Self::parse(etag.trim_start_matches("W/").trim_matches('"'))
    }

    /// The digits.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Computes such a hash over a content of `size` bytes.
    pub(super) fn hasher(&self, size: u64) -> Hasher {
        if self.0.len() == 64 {
            return Hasher::Sha256(Sha256::new());
        }
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {size}\0"));
        Hasher::Git(hasher)
    }
}

/// A hash on its way.
#[derive(Clone)]
pub(super) enum Hasher {
    Git(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Git(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// The hash in hex.
    pub(super) fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Git(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
        }
    }
}

impl Listing {
    /// Reads the answer; the error says what is wrong with it.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let value: Value =
            serde_json::from_slice(json).map_err(|_| "an answer that is not JSON".to_string())?;
        let commit = value.get("sha").and_then(Value::as_str).unwrap_or_default();
        if !is_commit(commit) {
            return Err(format!("an answer without a commit (sha \"{}\")", shown(commit)));
        }
        let Some(siblings) = value.get("siblings").and_then(Value::as_array) else {
            return Err("an answer without a list of files".into());
        };
        if siblings.len() > MAX_FILES {
            return Err(format!("{} files exceed the limit {MAX_FILES}", siblings.len()));
        }
        let files = siblings.iter().map(RemoteFile::parse).collect::<Result<_, _>>()?;
        Ok(Self { commit: commit.into(), files })
    }
}

impl RemoteFile {
    fn parse(sibling: &Value) -> Result<Self, String> {
        let name = sibling.get("rfilename").and_then(Value::as_str).unwrap_or_default();
        if !is_safe(name) {
            return Err(format!("a file called \"{}\"", shown(name)));
        }
        let large = sibling.get("lfs").filter(|lfs| !lfs.is_null());
        let (hash, size) = match large {
            Some(lfs) => (lfs.get("sha256"), lfs.get("size").or(sibling.get("size"))),
            None => (sibling.get("blobId"), sibling.get("size")),
        };
        let hash = match hash.filter(|hash| !hash.is_null()) {
            None => None,
            Some(hash) => {
                let text = hash.as_str().unwrap_or_default();
                let hash = Hash::parse(text).filter(|hash| large.is_none() || hash.0.len() == 64);
                Some(hash.ok_or_else(|| format!("{name}: a hash \"{}\"", shown(text)))?)
            }
        };
        Ok(Self { name: name.into(), size: size.and_then(Value::as_u64), hash })
    }
}

/// True for a relative path whose every step goes down.
fn is_safe(name: &str) -> bool {
    let steps = Path::new(name).components();
    !name.is_empty()
        && name.len() <= 1024
        && steps.clone().all(|step| matches!(step, Component::Normal(_)))
        && steps.count() == name.split('/').count()
        && !name.contains('\\')
        && !name.contains(char::is_control)
        && name.split('/').all(|step| step.len() <= 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn parse(siblings: &str) -> Result<Listing, String> {
        Listing::parse(format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{siblings}]}}").as_bytes())
    }

    #[test]
    fn files_have_the_hash_of_their_kind() {
        let sha256 = "f".repeat(64);
        let listing = parse(&format!(
            "{{\"rfilename\":\"a/b.json\",\"size\":7,\"blobId\":\"{COMMIT}\"}},
             {{\"rfilename\":\"w\",\"blobId\":\"{COMMIT}\",\"lfs\":{{\"sha256\":\"{sha256}\",\"size\":9}}}},
             {{\"rfilename\":\"bare\"}}"
        ));
        let file = |name: &str, size, hash: Option<&str>| RemoteFile {
            name: name.into(),
            size,
            hash: hash.and_then(Hash::parse),
        };
        let listing = listing.unwrap();
        assert_eq!(listing.commit, COMMIT);
        assert_eq!(
            listing.files,
            [
                file("a/b.json", Some(7), Some(COMMIT)),
                file("w", Some(9), Some(&sha256)),
                file("bare", None, None)
            ]
        );
    }

    #[test]
    fn git_hashes_count_the_length() {
        // What `git hash-object` gives for an empty file and for "hello\n".
        let empty = Hash::parse("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").unwrap();
        assert_eq!(empty.hasher(0).finish(), empty.as_str());
        let hello = Hash::parse("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let mut hasher = hello.hasher(6);
        hasher.update(b"hello\n");
        assert_eq!(hasher.finish(), hello.as_str());
    }

    #[test]
    fn names_and_hashes_that_could_leave_the_cache_are_refused() {
        for name in ["", "/x", "../x", "a/../x", "a//b", "./a", "a/", "a\\\\b", "a\\u0000", "a\\n"]
        {
            assert!(parse(&format!("{{\"rfilename\":\"{name}\"}}")).is_err(), "{name:?}");
        }
        for hash in ["\"../../x\"", "\"\"", "7", "\"0123\""] {
            assert!(
                parse(&format!("{{\"rfilename\":\"a\",\"blobId\":{hash}}}")).is_err(),
                "{hash}"
            );
        }
        assert!(Listing::parse(b"{\"sha\":\"../x\",\"siblings\":[]}").is_err());
        assert!(Listing::parse(b"<html>").is_err());
    }

    #[test]
    fn etags_come_in_quotes() {
        let hash = Hash::parse(COMMIT);
        assert_eq!(Hash::of_etag(&format!("\"{COMMIT}\"")), hash);
        assert_eq!(Hash::of_etag(&format!("W/\"{COMMIT}\"")), hash);
        assert_eq!(Hash::of_etag("\"5f-6a\""), None);
    }
}
