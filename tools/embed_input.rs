//! The texts that `rwkvq embed` reads: lines, tokenized, some at a time.
//!
//! Where a group ends follows from the texts alone, so that a run that goes on after a group
//! computes exactly what it would have.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use rwkvq::tokenizer::Tokenizer;
use rwkvq::{Error, Result};
use sha2::{Digest, Sha256};

/// A line longer than this is not a text.
const MAX_LINE: u64 = 16 << 20;

/// Takes off what says how a file of text is written and belongs to no text.
pub fn drop_byte_order_mark(text: &mut Vec<u8>) {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if text.starts_with(MARK) {
        text.drain(..MARK.len());
    }
}

/// How far the input has been read: what a later run checks and skips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Bytes up to the end of a line.
    pub bytes: u64,
    /// Lines in them.
    pub lines: u64,
    /// Their SHA-256, lower-case hex.
    pub sha256: String,
}

/// Some texts in order.
#[derive(Default)]
pub struct Group {
    pub texts: Vec<String>,
    pub ids: Vec<Vec<u32>>,
    /// Bytes of input that each text took, with the lines skipped before it.
    pub bytes: Vec<u64>,
}

/// A file of texts, a line each; only the line ending is removed, and a byte order mark.
pub struct Input {
    path: PathBuf,
    reader: BufReader<Box<dyn Read>>,
    skip_empty: bool,
    len: Option<u64>,
    /// Some line was a text.
    has_texts: bool,
    /// Lines, bytes and content read so far.
    lines: u64,
    bytes: u64,
    hash: Sha256,
}

impl Input {
    /// Opens `path`, `-` for stdin.
    pub fn open(path: &Path, skip_empty: bool) -> Result<Self> {
        let (reader, len): (Box<dyn Read>, _) = if path == Path::new("-") {
            (Box::new(io::stdin().lock()), None)
        } else {
            let file = File::open(path).map_err(|e| Error::io(path, e))?;
            let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        let reader = BufReader::with_capacity(1 << 20, reader);
        let hash = Sha256::new();
        let path = path.into();
        Ok(Self { path, reader, skip_empty, len, has_texts: false, lines: 0, bytes: 0, hash })
    }

    /// Bytes of the file; none of a pipe, which cannot be read again.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// What has been read.
    pub fn place(&self) -> Place {
        Place { bytes: self.bytes, lines: self.lines, sha256: hex(&self.hash.clone().finalize()) }
    }

    /// Reads up to `place`, which must be where these bytes lead; returns their number.
    pub fn skip_to(&mut self, place: &Place) -> Result<u64> {
        let mut skipped = (&mut self.reader).take(place.bytes);
        self.bytes =
            io::copy(&mut skipped, &mut self.hash).map_err(|e| Error::io(&self.path, e))?;
        self.lines = place.lines;
        self.has_texts = true;
        if self.place() != *place {
            let what = format!(
                "its first {} lines are not those that the stopped run has read; give the same \
                 input, or remove the partial file to begin again",
                place.lines
            );
            return Err(Error::malformed(&self.path, what));
        }
        Ok(self.bytes)
    }

    /// The next texts, until they have `n_tokens` tokens; none at the end.
    pub fn next_group(&mut self, n_tokens: usize, tokens: &mut TokenIds) -> Result<Group> {
        let mut group = Group::default();
        let (mut found, mut before) = (0, self.bytes);
        while found < n_tokens {
            let Some(text) = self.next_line()? else { break };
            if text.is_empty() && self.skip_empty {
                continue;
            }
            if text.is_empty() {
                return Err(self.fault("empty; --skip-empty leaves such lines out"));
            }
            let ids = tokens.encode(&text).map_err(|e| self.fault(e))?;
            if let Some(what) = tokens.beyond_model(&ids) {
                let place = format!("{}: line {}", self.path.display(), self.lines);
                return Err(Error::argument(format!("{place}: {what}")));
            }
            if ids.is_empty() {
                return Err(self.fault("the tokenizer makes no token of this text"));
            }
            self.has_texts = true;
            found += ids.len();
            group.bytes.push(self.bytes - before);
            before = self.bytes;
            group.texts.push(text);
            group.ids.push(ids);
        }
        if !self.has_texts {
            let what = if self.lines == 0 { "the input is empty" } else { "all lines are empty" };
            return Err(Error::malformed(&self.path, format!("no texts: {what}")));
        }
        Ok(group)
    }

    fn next_line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_LINE + 1);
        limited.read_until(b'\n', &mut line).map_err(|e| Error::io(&self.path, e))?;
        if line.is_empty() {
            return Ok(None);
        }
        self.lines += 1;
        if line.len() as u64 > MAX_LINE {
            return Err(self.fault(format!("longer than {MAX_LINE} bytes")));
        }
        self.bytes += line.len() as u64;
        self.hash.update(&line);
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if self.lines == 1 {
            drop_byte_order_mark(&mut line);
        }
        String::from_utf8(line).map(Some).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            self.fault(format!("not UTF-8 at byte {at}"))
        })
    }

    /// What is wrong with the line read last.
    fn fault(&self, what: impl std::fmt::Display) -> Error {
        Error::malformed(&self.path, format!("line {}: {what}", self.lines))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tokenizer in use, which may not be the model's own. A model knows only the ids it was
/// trained with, so the first text that gets others is worth a warning.
pub struct TokenIds {
    used: Tokenizer,
    /// Ids that the model has.
    n_vocab: usize,
    /// The model's own, as long as both agree.
    own: Option<Tokenizer>,
}

impl TokenIds {
    /// Those of the model's own tokenizer.
    pub fn of(used: Tokenizer, n_vocab: usize) -> Self {
        Self { used, n_vocab, own: None }
    }

    /// Those of `used`, which stands in for `own`.
    pub fn instead(used: Tokenizer, own: Option<Tokenizer>, n_vocab: usize) -> Self {
        if own.is_none() {
            eprintln!(
                "warning: the model has no tokenizer that the {} one could be compared with",
                used.kind()
            );
        }
        Self { used, n_vocab, own }
    }

    /// The tokenizer that makes them.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.used
    }

    /// What is wrong with ids that the model does not have.
    fn beyond_model(&self, ids: &[u32]) -> Option<String> {
        let id = ids.iter().find(|&&id| id as usize >= self.n_vocab)?;
        Some(format!(
            "token id {id} of the {} tokenizer, but the model has 0 to {}; take the tokenizer that \
             the model was made for",
            self.used.kind(),
            self.n_vocab.saturating_sub(1)
        ))
    }

    fn encode(&mut self, text: &str) -> Result<Vec<u32>> {
        let ids = self.used.encode(text)?;
        if let Some(own) = self.own.take() {
            if own.encode(text).is_ok_and(|own| own == ids) {
                self.own = Some(own);
            } else {
                let kind = self.used.kind();
                eprintln!("warning: the {kind} tokenizer does not give the token ids that the model was made for; these embeddings say little about it");
            }
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: &str = "one\n\ntwo\r\nthree";

    fn input(folder: &tempfile::TempDir, texts: &str) -> Input {
        let path = folder.path().join("texts.txt");
        std::fs::write(&path, texts).unwrap();
        Input::open(&path, true).unwrap()
    }

    /// One token a byte.
    fn bytes() -> TokenIds {
        let line = |byte: usize| format!("{} b'\\x{byte:02x}' 1\n", byte + 1);
        let vocabulary: String = (0..256).map(line).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocabulary.txt");
        std::fs::write(&path, vocabulary).unwrap();
        TokenIds::of(Tokenizer::open(&path).unwrap(), 257)
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let mut marked = input(&folder, "\u{feff}one\n\u{feff}two\n");
        let group = marked.next_group(100, &mut bytes()).unwrap();
        assert_eq!(
            (group.texts, group.bytes),
            (vec!["one".into(), "\u{feff}two".into()], vec![7, 7])
        );
    }

    #[test]
    fn an_input_without_texts_is_none() {
        let folder = tempfile::tempdir().unwrap();
        for (texts, expected) in [("", "the input is empty"), ("\n\r\n\n", "all lines are empty")] {
            let error = input(&folder, texts).next_group(4, &mut bytes()).err().unwrap();
            assert!(error.to_string().ends_with(&format!("no texts: {expected}")), "{error}");
        }
    }

    #[test]
    fn groups_after_a_place_are_those_of_the_whole_input() {
        let folder = tempfile::tempdir().unwrap();
        let mut tokens = bytes();
        let mut whole = input(&folder, TEXTS);
        let first = whole.next_group(4, &mut tokens).unwrap();
        assert_eq!((first.texts, first.bytes), (vec!["one".into(), "two".into()], vec![4, 6]));
        let place = whole.place();
        assert_eq!((place.bytes, place.lines), (10, 3));
        // What comes after the place may have changed.
        for (texts, next) in [(TEXTS, "three"), ("one\n\ntwo\r\nfour\n", "four")] {
            let mut later = input(&folder, texts);
            later.skip_to(&place).unwrap();
            assert_eq!(later.next_group(4, &mut tokens).unwrap().texts, [next]);
            assert!(later.next_group(4, &mut tokens).unwrap().texts.is_empty());
        }
        for changed in ["one\n\ntwa\r\nthree", "one\n\ntwo\r", ""] {
            let message = input(&folder, changed).skip_to(&place).unwrap_err().to_string();
            assert!(message.contains("its first 3 lines are not those"), "{message}");
        }
    }
}
