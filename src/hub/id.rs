//! How a repository of the hub is named: `owner/name`, `owner/name@revision`.
//!
//! Uses `error` only.

use std::fmt;

use crate::error::{shown, Error, Result};

/// Longest owner, name or revision.
const MAX_LEN: usize = 96;

/// Endings that say that a text is the path of a file, even if no such file is there.
const FILE_ENDINGS: [&str; 11] = [
    ".gguf",
    ".safetensors",
    ".pth",
    ".pt",
    ".bin",
    ".json",
    ".jsonl",
    ".txt",
    ".tsv",
    ".csv",
    ".parquet",
];

/// A repository of the hub at one revision. Every part is fit for an address and a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoId {
    owner: String,
    name: String,
    revision: String,
}

impl RepoId {
    /// Reads `owner/name` (its revision is `main`) or `owner/name@revision`, a revision being a
    /// branch, a tag or a commit.
    ///
    /// # Errors
    /// [`Error::Argument`] if `text` is no such thing.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| {
            let text = shown(text);
            Error::argument(format!(
                "\"{text}\" is not a hub id; give owner/name or owner/name@revision"
            ))
        })
    }

    /// True if `text` is written like a hub id. Whether a path of that name exists must be asked
    /// first: it wins.
    pub fn looks_like(text: &str) -> bool {
        let lower = text.to_lowercase();
        Self::read(text).is_some() && !FILE_ENDINGS.iter().any(|ending| lower.ends_with(ending))
    }

    /// The same repository at another revision.
    pub(super) fn at(&self, revision: &str) -> Self {
        Self { revision: revision.into(), ..self.clone() }
    }

    /// `owner/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Base name of the repository.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// `owner--name`, as the cache writes it.
    pub(super) fn folder(&self) -> String {
        format!("{}--{}", self.owner, self.name)
    }

    fn read(text: &str) -> Option<Self> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = path.split_once('/')?;
        let good = is_part(owner) && is_part(name) && is_revision(revision);
        good.then(|| Self { owner: owner.into(), name: name.into(), revision: revision.into() })
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// True for a full commit: 40 digits in lower-case hex.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_part(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty()
        && text.len() <= MAX_LEN
        && text.bytes().all(inside)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("..")
        && !text.contains("--")
}

/// Names of branches may have folders, as in `refs/pr/1`; none of them may lead out of the cache.
fn is_revision(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    let is_step =
        |step: &str| !step.is_empty() && !step.starts_with(['-', '.']) && step.bytes().all(inside);
    text.len() <= MAX_LEN && text.split('/').all(is_step) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_an_owner_a_name_and_perhaps_a_revision() {
        let id = RepoId::parse("RWKV/v6-Finch-1B6-HF").unwrap();
        assert_eq!((id.path().as_str(), id.revision()), ("RWKV/v6-Finch-1B6-HF", "main"));
        assert_eq!(
            (id.name(), id.to_string().as_str()),
            ("v6-Finch-1B6-HF", "RWKV/v6-Finch-1B6-HF")
        );
        let id = RepoId::parse("a/b@refs/pr/1").unwrap();
        assert_eq!((id.revision(), id.to_string().as_str()), ("refs/pr/1", "a/b@refs/pr/1"));
    }

    #[test]
    fn nothing_that_could_leave_the_cache_is_an_id() {
        for text in [
            "",
            "gpt2",
            "a/b/c",
            "/b",
            "a/",
            "../b",
            "a/..",
            ".a/b",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a/b@x/../y",
            "a/b@x y",
            "a b/c",
            "a/b\0",
            "a--b/c",
            "a/b@.git",
            "\u{e9}/b",
            "a/b@x//y",
        ] {
            assert!(RepoId::parse(text).is_err(), "{text:?}");
        }
        assert!(RepoId::parse(&format!("a/{}", "b".repeat(97))).is_err());
    }

    #[test]
    fn names_of_files_do_not_look_like_ids() {
        assert!(RepoId::looks_like("RWKV/v6-Finch-1B6-HF@main"));
        for text in ["out/model.gguf", "out/model.PTH", "./a/b", "a/b/", "/a/b"] {
            assert!(!RepoId::looks_like(text), "{text}");
        }
    }
}
