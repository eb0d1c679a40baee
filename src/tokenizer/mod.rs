//! Text to token ids and back.
//!
//! In: a vocabulary of RWKV (World, or a `tokenizer.json`), or GPT-2's. Out: ids, bytes. The
//! `tokenizers` crate stays behind this room. Uses `error`.
//!
//! No tokenizer here adds an id of its own (no BOS, no EOS), and none turns text into a control
//! id: `<s>` in a sentence is three characters.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod byte_level;
mod file;
mod hugging_face;
mod literal;
mod tokenizer_json;
mod trie;
mod world;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
pub use world::WorldVocab;

use crate::error::{Error, Result};
use hugging_face::HuggingFace;

/// Largest file of a tokenizer.
const MAX_FILE_BYTES: usize = 64 << 20;
/// The World vocabulary that every World model up to now ships.
const WORLD_FILE: &str = "rwkv_vocab_v20230424.txt";

/// A line or an element, read. The error says what is wrong with it; where it is, the caller knows.
type Parsed<T> = std::result::Result<T, String>;

/// A tokenizer. Clones share one vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    /// Of the files it was read from.
    sha256: Option<Arc<str>>,
}

#[derive(Debug)]
enum Inner {
    World(WorldVocab),
    HuggingFace(HuggingFace),
    Gpt2(HuggingFace),
}

/// Where a tokenizer's rules come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenizerKind {
    /// RWKV World: longest match over bytes.
    World,
    /// A `tokenizer.json` of the Hugging Face `tokenizers` library.
    HuggingFace,
    /// GPT-2's byte-level pairs, from `vocab.json` and `merges.txt`.
    Gpt2,
}

impl Tokenizer {
    /// Opens a World vocabulary, a `tokenizer.json`, GPT-2's `vocab.json` or `encoder.json` with
    /// `merges.txt` or `vocab.bpe` beside it, or a folder that holds any of these, looked for in
    /// this order.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read; [`Error::Malformed`] if it breaks its format;
    /// [`Error::Unsupported`] if a folder holds no tokenizer, or a file needs one that is not there.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::open_file(&find_in(path)?);
        }
        Self::open_file(path)
    }

    /// Ids of `text`, in order. An empty text has none.
    ///
    /// # Errors
    /// [`Error::Argument`] if the vocabulary has no token for a byte of `text`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &*self.inner {
            Inner::World(vocab) => vocab.encode_bytes(text.as_bytes()),
            Inner::HuggingFace(inner) | Inner::Gpt2(inner) => inner.encode(text),
        }
    }

    /// The bytes `ids` stand for. They need not be UTF-8: a token may be part of a character.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        match &*self.inner {
            Inner::World(vocab) => vocab.decode(ids),
            Inner::HuggingFace(inner) | Inner::Gpt2(inner) => inner.decode(ids),
        }
    }

    /// Which rules this tokenizer follows.
    pub fn kind(&self) -> TokenizerKind {
        match &*self.inner {
            Inner::World(_) => TokenizerKind::World,
            Inner::HuggingFace(_) => TokenizerKind::HuggingFace,
            Inner::Gpt2(_) => TokenizerKind::Gpt2,
        }
    }

    /// The highest id + 1: a model needs at least as many rows of embeddings.
    pub fn n_tokens(&self) -> usize {
        match &*self.inner {
            Inner::World(vocab) => vocab.n_tokens(),
            Inner::HuggingFace(inner) | Inner::Gpt2(inner) => inner.n_tokens(),
        }
    }

    /// SHA-256 of the files it was read from, one after the other, lower-case hex; none if it came
    /// out of a model.
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }

    /// The vocabulary, if it is a World one.
    pub fn world(&self) -> Option<&WorldVocab> {
        match &*self.inner {
            Inner::World(vocab) => Some(vocab),
            _ => None,
        }
    }

    /// True if both are known to give the same ids: clones, or World vocabularies of the same tokens.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
            || self.world().zip(other.world()).is_some_and(|(one, other)| one.has_tokens_of(other))
    }

    fn open_file(path: &Path) -> Result<Self> {
        let content = file::read_capped(path, MAX_FILE_BYTES)?;
        let mut hash = Sha256::new_with_prefix(&content);
        let is_json = content.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let inner = if !is_json {
            Inner::World(WorldVocab::parse(path, &content)?)
        } else if let Some(vocab) = tokenizer_json::gpt2_vocab(path, &content)? {
            let merges = find_merges(path)?;
            let pairs = file::read_capped(&merges, MAX_FILE_BYTES)?;
            hash.update(&pairs);
            Inner::Gpt2(HuggingFace::from_gpt2(path, vocab, &merges, &pairs)?)
        } else {
            Inner::HuggingFace(HuggingFace::from_json(path, &content)?)
        };
        let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { inner: inner.into(), sha256: Some(sha256.into()) })
    }
}

impl From<WorldVocab> for Tokenizer {
    fn from(vocab: WorldVocab) -> Self {
        Self { inner: Inner::World(vocab).into(), sha256: None }
    }
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::World => "rwkv-world",
            Self::HuggingFace => "huggingface",
            Self::Gpt2 => "gpt2",
        })
    }
}

/// The file of `folder` to open.
fn find_in(folder: &Path) -> Result<PathBuf> {
    let mut worlds = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let name = entry.map_err(|e| Error::io(folder, e))?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("rwkv_vocab_v") && name.ends_with(".txt") {
            worlds.push(name.into_owned());
        }
    }
    worlds.sort();
    if worlds.iter().any(|name| name == WORLD_FILE) {
        return Ok(folder.join(WORLD_FILE));
    }
    match &worlds[..] {
        [] => {}
        [one] => return Ok(folder.join(one)),
        [first, second, ..] => {
            let what = format!("holds {first} and {second}; name the vocabulary file to use");
            return Err(Error::unsupported(folder, what));
        }
    }
    let candidates = ["tokenizer.json", "vocab.json", "encoder.json"].map(|name| folder.join(name));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let what = format!(
            "no tokenizer here: expected {WORLD_FILE}, tokenizer.json, or vocab.json with merges.txt"
        );
        Error::unsupported(folder, what)
    })
}

/// The list of merges beside GPT-2's `vocab`.
fn find_merges(vocab: &Path) -> Result<PathBuf> {
    let candidates = ["merges.txt", "vocab.bpe"].map(|name| vocab.with_file_name(name));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::unsupported(vocab, "a GPT-2 vocabulary needs merges.txt or vocab.bpe beside it")
    })
}

/// `byte`, at index `at` of a text, starts no token.
fn no_token(byte: u8, at: usize, vocab: &Path) -> Error {
    Error::argument(format!(
        "byte 0x{byte:02x} at {at} of the text starts no token of {}",
        vocab.display()
    ))
}

/// `id` is outside the vocabulary.
fn no_such_id(id: u32, vocab: &Path) -> Error {
    Error::argument(format!("token id {id} is not in {}", vocab.display()))
}
