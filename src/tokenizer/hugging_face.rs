//! Tokenizers of the Hugging Face `tokenizers` library, and GPT-2's, which it can express.
//!
//! In: the content of `tokenizer.json`, or of GPT-2's two files. Out: ids and bytes. Uses `error`.
//!
//! The library trusts its files in places (it slices by lengths that a merge list gives), so what
//! it would panic on is checked here first, and a panic that is left becomes an error.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    DecoderWrapper, Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizer,
    PreTokenizerWrapper,
};

use super::byte_level::{alphabet, char_byte, token_bytes};
use super::{tokenizer_json, Parsed};
use crate::error::{Error, Result};

/// A tokenizer of the library, set to add nothing and to cut nothing.
pub(super) struct HuggingFace {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// Tokens are written in GPT-2's byte alphabet.
    is_byte_level: bool,
    /// Text becomes bytes in that alphabet before tokens are looked for.
    makes_bytes: bool,
    /// The library leaves out characters that are no tokens, without a word.
    drops: bool,
    n_tokens: usize,
}

impl HuggingFace {
    /// From the content of the `tokenizer.json` at `path`.
    pub(super) fn from_json(path: &Path, content: &[u8]) -> Result<Self> {
        let added = tokenizer_json::check(path, content)?;
        let inner = guarded(|| tokenizers::Tokenizer::from_bytes(content));
        let inner = inner.map_err(|what| Error::malformed(path, what))?;
        // The library numbers added tokens itself and only logs that the file says otherwise.
        for token in added {
            let id = inner.token_to_id(&token.content);
            if id != Some(token.id) {
                let given = id.map_or("none".into(), |id| id.to_string());
                let what = format!(
                    "added token {:?} has id {}; after the {} tokens of the model it can only be {given}",
                    token.content,
                    token.id,
                    inner.get_vocab_size(false),
                );
                return Err(Error::malformed(path, what));
            }
        }
        Self::new(path, inner)
    }

    /// From GPT-2's `vocab`, read from `path`, and the content of its list of merges.
    pub(super) fn from_gpt2(
        path: &Path,
        vocab: HashMap<String, u32>,
        merges_path: &Path,
        merges: &[u8],
    ) -> Result<Self> {
        let ids: HashSet<u32> = vocab.values().copied().collect();
        if ids.len() < vocab.len() {
            return Err(Error::malformed(path, "an id belongs to two tokens"));
        }
        let merges = parse_merges(merges, &vocab).map_err(|e| Error::malformed(merges_path, e))?;
        let inner = guarded(|| {
            let vocab: tokenizers::models::bpe::Vocab = vocab.into_iter().collect();
            let model = BPE::builder().vocab_and_merges(vocab, merges).build()?;
            let mut inner = tokenizers::Tokenizer::new(model);
            inner.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
            inner.with_decoder(Some(ByteLevel::default()));
            Ok(inner)
        });
        Self::new(path, inner.map_err(|what| Error::malformed(path, what))?)
    }

    fn new(path: &Path, mut inner: tokenizers::Tokenizer) -> Result<Self> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::malformed(path, e.to_string()))?;
        // Text is text: "<|endoftext|>" in a sentence must not end it.
        inner.set_encode_special_tokens(true);
        let is_byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let makes_bytes = makes_bytes(&inner);
        let drops = match inner.get_model() {
            ModelWrapper::BPE(bpe) => {
                bpe.unk_token.is_none() && !(makes_bytes && knows_all_bytes(bpe))
            }
            _ => false,
        };
        let highest = inner.get_vocab(true).into_values().max();
        let n_tokens = highest.map(|id| (id as usize).saturating_add(1));
        let n_tokens = n_tokens.ok_or_else(|| Error::malformed(path, "no tokens"))?;
        Ok(Self { path: path.into(), inner, is_byte_level, makes_bytes, drops, n_tokens })
    }

    /// Ids of `text`.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let failed = |e| Error::malformed(&self.path, format!("text cannot be encoded: {e}"));
        if self.drops {
            if let Some(c) = guarded(|| self.first_dropped(text)).map_err(failed)? {
                let what = match char_byte(c).filter(|_| self.makes_bytes) {
                    Some(byte) => format!("byte 0x{byte:02x}"),
                    None => format!("character {c:?}"),
                };
                return Err(Error::argument(format!(
                    "{what} of the text is no token of {}, which has no token for unknown ones",
                    self.path.display()
                )));
            }
        }
        let encoding = guarded(|| self.inner.encode_fast(text, false)).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The first character, as the model of pairs meets it, that it would leave out.
    fn first_dropped(&self, text: &str) -> tokenizers::Result<Option<char>> {
        let ModelWrapper::BPE(bpe) = self.inner.get_model() else { return Ok(None) };
        let affix = |affix: &Option<String>| affix.clone().unwrap_or_default();
        let (prefix, suffix) =
            (affix(&bpe.continuing_subword_prefix), affix(&bpe.end_of_word_suffix));
        let added = self.inner.get_added_vocabulary();
        let mut pieces = added.extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            let is_whole = bpe.ignore_merges && bpe.token_to_id(piece).is_some();
            if tokens.is_some() || is_whole {
                continue;
            }
            let mut before = "";
            let mut chars = piece.chars().peekable();
            while let Some(c) = chars.next() {
                let after = if chars.peek().is_none() { suffix.as_str() } else { "" };
                let token = format!("{before}{c}{after}");
                let has_bytes = || bpe.byte_fallback && has_bytes_of(bpe, &token);
                if bpe.token_to_id(&token).is_none() && !has_bytes() {
                    return Ok(Some(c));
                }
                before = &prefix;
            }
        }
        Ok(None)
    }

    /// Bytes of `ids`.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let tokens = ids.iter().map(|&id| {
            let token = self.inner.id_to_token(id);
            token.ok_or_else(|| super::no_such_id(id, &self.path))
        });
        let tokens = tokens.collect::<Result<Vec<String>>>()?;
        if self.is_byte_level {
            return Ok(tokens.iter().flat_map(|token| token_bytes(token)).collect());
        }
        let text = guarded(|| self.inner.decode(ids, false));
        let text =
            text.map_err(|e| Error::malformed(&self.path, format!("ids cannot be decoded: {e}")))?;
        Ok(text.into_bytes())
    }

    /// The highest id + 1.
    pub(super) fn n_tokens(&self) -> usize {
        self.n_tokens
    }
}

impl fmt::Debug for HuggingFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HuggingFace").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether text becomes bytes before tokens are looked for.
fn makes_bytes(tokenizer: &tokenizers::Tokenizer) -> bool {
    let of_bytes = |it: &PreTokenizerWrapper| matches!(it, PreTokenizerWrapper::ByteLevel(_));
    match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::Sequence(all)) => all.as_ref().last().is_some_and(of_bytes),
        Some(one) => of_bytes(one),
        None => false,
    }
}

/// Whether each byte is a token.
fn knows_all_bytes(bpe: &BPE) -> bool {
    let is_plain = bpe.continuing_subword_prefix.is_none() && bpe.end_of_word_suffix.is_none();
    let is_token = |c: char| bpe.token_to_id(c.encode_utf8(&mut [0; 4])).is_some();
    is_plain && alphabet().into_iter().all(is_token)
}

/// Whether each byte of `token` is a token of its own, such as `<0x0A>`.
fn has_bytes_of(bpe: &BPE, token: &str) -> bool {
    token.bytes().all(|byte| bpe.token_to_id(&format!("<0x{byte:02X}>")).is_some())
}

/// GPT-2's pairs from the content of `merges.txt`: two tokens a line, the first line a version.
fn parse_merges(content: &[u8], vocab: &HashMap<String, u32>) -> Parsed<Vec<(String, String)>> {
    let content = std::str::from_utf8(content);
    let content = content.map_err(|e| format!("byte {} is not UTF-8", e.valid_up_to()))?;
    let mut merges = Vec::new();
    for (line, number) in content.lines().zip(1..) {
        if line.is_empty() || number == 1 && line.starts_with("#version") {
            continue;
        }
        let pair = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| format!("line {number}: expected two tokens"))?;
        for token in [left, right, &format!("{left}{right}")] {
            if !vocab.contains_key(token) {
                return Err(format!("line {number}: {token:?} is not in the vocabulary"));
            }
        }
        merges.push((left.into(), right.into()));
    }
    Ok(merges)
}

/// Runs `work`; its error, or that it panicked, in one line.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Parsed<T> {
    // What `work` may leave half done is dropped with it or is a cache of this thread.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string().replace('\n', " ")),
        Err(_) => Err("the tokenizers library fails on this file".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab(tokens: &[&str]) -> HashMap<String, u32> {
        tokens.iter().map(|token| token.to_string()).zip(0..).collect()
    }

    #[test]
    fn merges_say_which_line_is_wrong() {
        let vocab = vocab(&["a", "b", "ab"]);
        let parse = |text: &str| parse_merges(text.as_bytes(), &vocab);
        let merges = parse("#version: 0.2\na b\n\n").unwrap();
        assert_eq!(merges, [("a".to_string(), "b".to_string())]);
        assert_eq!(parse("a b\nab"), Err("line 2: expected two tokens".into()));
        assert_eq!(parse("a b c"), Err("line 1: expected two tokens".into()));
        assert_eq!(parse("ab ab"), Err("line 1: \"abab\" is not in the vocabulary".into()));
        assert_eq!(parse_merges(b"a \xff", &vocab), Err("byte 2 is not UTF-8".into()));
    }

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        let result = guarded::<()>(|| panic!("a test panics on purpose"));
        assert_eq!(result, Err("the tokenizers library fails on this file".into()));
    }
}
