//! The RWKV World vocabulary: token ids and their bytes, matched greedily.
//!
//! In: `rwkv_vocab_v20230424.txt`, or the token list of a GGUF file. Out: ids for bytes, bytes for
//! ids, and the token list a GGUF file holds. Uses `error`.
//!
//! Text becomes the longest token at each position, as in BlinkDL's reference: no normalisation,
//! no special tokens, nothing in front. Text that looks like a special token is only text.

use std::path::{Path, PathBuf};

use super::file::read_capped;
use super::literal::{escape, parse_python, unescape};
use super::trie::{Trie, TrieError};
use super::Parsed;
use crate::error::{Error, Result};

/// Most tokens a vocabulary may have: 16 times the real one's.
const MAX_TOKENS: usize = 1 << 20;
/// Most bytes of text in a GGUF token list, and largest vocabulary file.
const MAX_TEXT_BYTES: usize = 64 << 20;
/// Longest line of a vocabulary file.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Longest token; the real one's longest has 128 bytes.
const MAX_TOKEN_BYTES: usize = 4 << 10;

/// GGUF's token types that a World vocabulary uses (`tokenizer.ggml.token_type`).
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
/// The highest token type GGUF knows (`BYTE`).
const HIGHEST_TYPE: i32 = 6;

const TOKENS_KEY: &str = "tokenizer.ggml.tokens";
const TYPES_KEY: &str = "tokenizer.ggml.token_type";

/// A World vocabulary. Id 0 marks the end of a text and stands for no bytes.
#[derive(Debug)]
pub struct WorldVocab {
    path: PathBuf,
    /// All tokens' bytes, in the order of their ids.
    bytes: Vec<u8>,
    /// Token `id` is `bytes[starts[id]..starts[id + 1]]`; empty where `id` is no token.
    starts: Vec<u32>,
    trie: Trie,
}

impl WorldVocab {
    /// Reads a vocabulary file: on each line an id, a space, a Python literal, a space and the
    /// literal's length in bytes. Ids count from 1 in file order.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Malformed`] naming the line otherwise.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::parse(path, &read_capped(path, MAX_TEXT_BYTES)?)
    }

    /// Reads the content of a vocabulary file; `path` is for messages.
    pub(super) fn parse(path: &Path, content: &[u8]) -> Result<Self> {
        let mut tokens = Tokens::new();
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        for (line, number) in content.split(|&byte| byte == b'\n').zip(1u32..) {
            parse_line(line, number, &mut tokens)
                .map_err(|what| Error::malformed(path, format!("line {number}: {what}")))?;
        }
        tokens.finish(path, "line")
    }

    /// Reads the token list of a GGUF file: `tokenizer.ggml.tokens` and
    /// `tokenizer.ggml.token_type`. Only tokens of the type NORMAL ever match text.
    /// `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Malformed`] naming the element; [`Error::Mismatch`] if the lists differ in length.
    pub fn from_gguf_tokens(path: &Path, tokens: &[String], types: &[i32]) -> Result<Self> {
        if tokens.len() != types.len() {
            let expected = format!("{} values, one for each token", tokens.len());
            return Err(Error::mismatch(path, TYPES_KEY, expected, types.len()));
        }
        let mut vocab = Tokens::new();
        for (i, (text, &kind)) in tokens.iter().zip(types).enumerate() {
            let at = |what| Error::malformed(path, format!("{TOKENS_KEY}[{i}]: {what}"));
            match kind {
                NORMAL if i == 0 => {
                    return Err(at("id 0 is the end of a text and cannot be NORMAL".into()))
                }
                NORMAL => vocab.push(&unescape(text).map_err(at)?).map_err(at)?,
                2..=HIGHEST_TYPE if i == 0 => {}
                2..=HIGHEST_TYPE => vocab.skip().map_err(at)?,
                _ => {
                    let what = format!("{TYPES_KEY}[{i}]: {kind} is no token type (1 to 6)");
                    return Err(Error::malformed(path, what));
                }
            }
        }
        vocab.finish(path, "id")
    }

    /// The token list of a GGUF file, texts and types, `n_vocab` of each: id 0 is `<s>`, an id
    /// without a token is `[PADn]`, a token is the inside of Python's `repr` of its bytes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `n_vocab`, the rows of the model's embedding table, is too small
    /// for the vocabulary or beyond any model.
    pub fn gguf_tokens(&self, n_vocab: usize) -> Result<(Vec<String>, Vec<i32>)> {
        let n = self.n_tokens();
        if n > n_vocab || n_vocab > MAX_TOKENS {
            let expected = format!("{n} to {MAX_TOKENS} rows of the embedding table");
            return Err(Error::mismatch(&self.path, "vocabulary", expected, n_vocab));
        }
        let token = |id: usize| match self.token(id) {
            _ if id == 0 => ("<s>".to_string(), CONTROL),
            Some(bytes) => (escape(bytes), NORMAL),
            None => (format!("[PAD{id}]"), UNUSED),
        };
        Ok((0..n_vocab).map(token).unzip())
    }

    /// Ids of `bytes`, which need not be UTF-8.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the byte at which no token starts.
    pub fn encode_bytes(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(bytes.len().div_ceil(4));
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let found = self.trie.longest(rest);
            let found = found.and_then(|(id, n_bytes)| Some((id, rest.get(n_bytes..)?)));
            let Some((id, after)) = found else {
                let at = bytes.len().abs_diff(rest.len());
                return Err(super::no_token(byte, at, &self.path));
            };
            ids.push(id);
            rest = after;
        }
        Ok(ids)
    }

    /// Bytes of `ids`.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first id that is not a token.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(ids.len().saturating_mul(4));
        for &id in ids {
            let token = self.token(id as usize);
            bytes.extend_from_slice(token.ok_or_else(|| super::no_such_id(id, &self.path))?);
        }
        Ok(bytes)
    }

    /// The bytes without a token of their own. llama.cpp hangs on a vocabulary that has any.
    pub fn missing_bytes(&self) -> Vec<u8> {
        (0..=u8::MAX).filter(|&byte| self.trie.longest(&[byte]).is_none()).collect()
    }

    /// The highest token's id + 1.
    pub fn n_tokens(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether the ids of both stand for the same bytes.
    pub(super) fn has_tokens_of(&self, other: &Self) -> bool {
        self.starts == other.starts && self.bytes == other.bytes
    }

    fn token(&self, id: usize) -> Option<&[u8]> {
        let &[start, end] = self.starts.get(id..)?.first_chunk()?;
        self.bytes.get(start as usize..end as usize).filter(|token| !token.is_empty())
    }
}

/// Adds the token of one line. The error says what is wrong with the line.
fn parse_line(line: &[u8], number: u32, tokens: &mut Tokens) -> Parsed<()> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("{} bytes, at most {MAX_LINE_BYTES} allowed", line.len()));
    }
    let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line));
    let line = line.map_err(|e| format!("byte {} is not UTF-8", e.valid_up_to()))?;
    let fields = line.split_once(' ');
    let fields = fields.and_then(|(id, rest)| Some((id, rest.rsplit_once(' ')?)));
    let (id, (literal, n_bytes)) = fields.ok_or("expected an id, a literal and a length")?;
    let id = parse_number(id).ok_or_else(|| format!("{id:?} is not an id"))?;
    if id != number {
        return Err(format!("id {id}, expected {number}; ids count from 1 in file order"));
    }
    let n_bytes = parse_number(n_bytes).ok_or_else(|| format!("{n_bytes:?} is not a length"))?;
    let bytes = parse_python(literal)?;
    if bytes.len() != n_bytes as usize {
        return Err(format!("literal is {} bytes, the line says {n_bytes}", bytes.len()));
    }
    tokens.push(&bytes)
}

/// A number in plain decimal digits, without a sign.
fn parse_number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Tokens as they are read, id by id from 1.
struct Tokens {
    bytes: Vec<u8>,
    /// `starts` of the vocabulary, but for its last element.
    starts: Vec<u32>,
}

impl Tokens {
    fn new() -> Self {
        Self { bytes: Vec::new(), starts: vec![0] }
    }

    /// Gives the next id to `token`.
    fn push(&mut self, token: &[u8]) -> Parsed<()> {
        if token.is_empty() {
            return Err("a token cannot be empty".into());
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(format!("token of {} bytes, at most {MAX_TOKEN_BYTES}", token.len()));
        }
        self.skip()?;
        if token.len() > MAX_TEXT_BYTES.saturating_sub(self.bytes.len()) {
            return Err(format!("tokens of more than {MAX_TEXT_BYTES} bytes in all"));
        }
        self.bytes.extend_from_slice(token);
        Ok(())
    }

    /// Leaves the next id without a token.
    fn skip(&mut self) -> Parsed<()> {
        if self.starts.len() >= MAX_TOKENS {
            return Err(format!("more than {MAX_TOKENS} tokens"));
        }
        self.starts.push(self.bytes.len() as u32);
        Ok(())
    }

    /// The vocabulary; `unit` is what an id is called in messages.
    fn finish(mut self, path: &Path, unit: &str) -> Result<WorldVocab> {
        let end = self.bytes.len() as u32;
        // Ids after the last token are padding of the model's table.
        while self.starts.last() == Some(&end) && self.starts.len() > 1 {
            self.starts.pop();
        }
        self.starts.push(end);
        let spans = self.starts.iter().zip(self.starts.iter().skip(1)).zip(0u32..);
        let token =
            |((&start, &end), id)| Some((id, self.bytes.get(start as usize..end as usize)?));
        let tokens = spans.filter_map(token).filter(|(_, bytes)| !bytes.is_empty());
        let tokens: Vec<_> = tokens.collect();
        if tokens.is_empty() {
            return Err(Error::malformed(path, "no tokens"));
        }
        let trie = Trie::build(tokens).map_err(|e| trie_error(path, unit, e))?;
        Ok(WorldVocab { path: path.into(), bytes: self.bytes, starts: self.starts, trie })
    }
}

fn trie_error(path: &Path, unit: &str, error: TrieError) -> Error {
    let what = match error {
        TrieError::Duplicate(first, second) => {
            format!("{unit} {second}: the same bytes as {unit} {first}")
        }
        TrieError::TooLarge => "the tokens share too few beginnings to be held in memory".into(),
    };
    Error::malformed(path, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_slices_no_change_panics() {
        let text = "1 'a' 1\n2 '\\n' 1\n3 b'\\xff' 1\n4 'ab' 2\n";
        let parse = |bytes: &[u8]| WorldVocab::parse(Path::new("v.txt"), bytes);
        let vocab = parse(text.as_bytes()).unwrap();
        let ids = vocab.encode_bytes(b"aab\n\xff").unwrap();
        assert_eq!(ids, [1, 4, 2, 3]);
        assert_eq!(vocab.decode(&ids).unwrap(), b"aab\n\xff");
        for n in 0..text.len() {
            let _ = parse(&text.as_bytes()[..n]);
            for change in [1, 0x80, 0x2a] {
                let mut changed = text.as_bytes().to_vec();
                changed[n] ^= change;
                let _ = parse(&changed);
            }
        }
    }
}
