//! What is checked of a `tokenizer.json` before the library reads it. Uses `error`.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Parsed;
use crate::error::{Error, Result};

/// Most values a file may hold. The library keeps each as a heap value of about 100 bytes; the
/// largest vocabularies in use have about two million.
const MAX_VALUES: usize = 4_000_000;

/// Most tokens of a vocabulary, as of a World one. The largest in use have 900,000.
const MAX_TOKENS: usize = 1 << 20;

/// A token that a file adds to its model's, and the id it has there.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
}

/// Checks the size of the JSON at `path` and, for byte pairs, that every merge gives a token.
/// Returns the tokens that the file adds.
pub(super) fn check(path: &Path, content: &[u8]) -> Result<Vec<Added>> {
    check_size(path, content)?;
    let not_one = |e| Error::malformed(path, format!("not a tokenizer.json: {e}"));
    serde_json::from_slice::<Unicode>(content).map_err(not_one)?;
    let file: File<Head> = serde_json::from_slice(content).map_err(not_one)?;
    let n_tokens = file.model.vocab.map_or(0, |Entries(n)| n);
    check_tokens(n_tokens).map_err(|what| Error::malformed(path, what))?;
    if let Some(dropout) = file.model.dropout.filter(|&dropout| dropout != 0.0) {
        let what = format!("dropout {dropout} makes ids random; set model.dropout to null");
        return Err(Error::unsupported(path, what));
    }
    let is_bpe = match file.model.kind.as_deref() {
        None => file.model.merges.is_some(),
        Some(kind) => kind == "BPE",
    };
    if is_bpe {
        let file: File<Bpe> = serde_json::from_slice(content).map_err(not_one)?;
        check_merges(&file.model).map_err(|what| Error::malformed(path, what))?;
    }
    Ok(file.added_tokens)
}

/// GPT-2's vocabulary, if `content` is one: a JSON object with an id for every token.
///
/// # Errors
/// [`Error::Malformed`] if the file's name says that it is one and it is not.
pub(super) fn gpt2_vocab(path: &Path, content: &[u8]) -> Result<Option<HashMap<String, u32>>> {
    check_size(path, content)?;
    match serde_json::from_slice::<HashMap<String, u32>>(content) {
        Ok(vocab) if !vocab.is_empty() => {
            check_tokens(vocab.len()).map_err(|what| Error::malformed(path, what))?;
            Ok(Some(vocab))
        }
        Err(e) if ["vocab.json", "encoder.json"].iter().any(|name| path.ends_with(name)) => {
            Err(Error::malformed(path, format!("not a vocabulary: {e}")))
        }
        _ => Ok(None),
    }
}

#[derive(serde::Deserialize)]
struct File<M> {
    model: M,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(serde::Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f64>,
    merges: Option<IgnoredAny>,
    vocab: Option<Entries>,
}

/// A list or a map, of which only the number of entries is kept.
struct Entries(usize);

#[derive(serde::Deserialize)]
struct Bpe {
    vocab: HashMap<String, IgnoredAny>,
    merges: Vec<Merge>,
    continuing_subword_prefix: Option<String>,
}

/// A pair of tokens: `"a b"` or `["a", "b"]`.
struct Merge(String, String);

fn check_size(path: &Path, content: &[u8]) -> Result<()> {
    let n_values = content.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if n_values > MAX_VALUES {
        let what = format!("about {n_values} JSON values, at most {MAX_VALUES} allowed");
        return Err(Error::malformed(path, what));
    }
    Ok(())
}

fn check_tokens(n: usize) -> Parsed<()> {
    if n > MAX_TOKENS {
        return Err(format!("{n} tokens, at most {MAX_TOKENS} allowed"));
    }
    Ok(())
}

fn check_merges(model: &Bpe) -> Parsed<()> {
    let n_prefix = model.continuing_subword_prefix.as_ref().map_or(0, String::len);
    for (i, Merge(left, right)) in model.merges.iter().enumerate() {
        let tail = right.get(n_prefix..);
        let tail = tail.ok_or_else(|| format!("model.merges[{i}]: {right:?} has no prefix"))?;
        for token in [left, right, &format!("{left}{tail}")] {
            if !model.vocab.contains_key(token) {
                return Err(format!("model.merges[{i}]: {token:?} is not in model.vocab"));
            }
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or map of tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
        let mut n = 0usize;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            n = n.saturating_add(1);
        }
        Ok(Entries(n))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Entries, A::Error> {
        let mut n = 0usize;
        while list.next_element::<IgnoredAny>()?.is_some() {
            n = n.saturating_add(1);
        }
        Ok(Entries(n))
    }
}

/// Any JSON whose texts are Unicode. What is passed over may have bytes that are not UTF-8, and
/// escapes of half a character; the library panics on both.
struct Unicode;

impl<'de> Deserialize<'de> for Unicode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(UnicodeVisitor)
    }
}

struct UnicodeVisitor;

impl<'de> Visitor<'de> for UnicodeVisitor {
    type Value = Unicode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Unicode, E> {
        Ok(Unicode)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Unicode, E> {
        Ok(Unicode)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Unicode, E> {
        Ok(Unicode)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Unicode, E> {
        Ok(Unicode)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Unicode, E> {
        Ok(Unicode)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Unicode, E> {
        Ok(Unicode)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Unicode, A::Error> {
        while list.next_element::<Unicode>()?.is_some() {}
        Ok(Unicode)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Unicode, A::Error> {
        while map.next_entry::<Unicode, Unicode>()?.is_some() {}
        Ok(Unicode)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two tokens")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Merge, E> {
        let pair = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| E::custom(format!("{text:?} is no merge")))?;
        Ok(Merge(left.into(), right.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> std::result::Result<Merge, A::Error> {
        let (left, right, more) =
            (pair.next_element()?, pair.next_element()?, pair.next_element::<IgnoredAny>()?);
        match (left, right, more) {
            (Some(left), Some(right), None) => Ok(Merge(left, right)),
            _ => Err(A::Error::custom("a merge is two tokens")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        check(Path::new("tokenizer.json"), json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn merges_of_both_kinds_pass() {
        for merges in [r#""a b""#, r#"["a", "b"]"#] {
            let model = r#""vocab": {"a": 0, "b": 1, "ab": 2}"#;
            for kind in [r#""type": "BPE", "#, ""] {
                let json = format!(r#"{{"model": {{{kind}{model}, "merges": [{merges}]}}}}"#);
                check(Path::new("tokenizer.json"), json.as_bytes()).unwrap();
            }
        }
    }

    #[test]
    fn a_merge_outside_the_vocabulary_is_refused() {
        let json = r#"{"model": {"vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}"#;
        let expected = r#"tokenizer.json: model.merges[0]: "ab" is not in model.vocab"#;
        assert_eq!(message(json), expected);
    }

    #[test]
    fn a_merge_shorter_than_the_prefix_is_refused() {
        let json = r###"{"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"],
            "continuing_subword_prefix": "##"}}"###;
        assert_eq!(message(json), r#"tokenizer.json: model.merges[0]: "b" has no prefix"#);
    }

    #[test]
    fn dropout_is_refused() {
        let json = r#"{"model": {"vocab": {}, "merges": [], "dropout": 0.1}}"#;
        let expected = "tokenizer.json: dropout 0.1 makes ids random; set model.dropout to null";
        assert_eq!(message(json), expected);
    }

    #[test]
    fn other_json_is_refused() {
        let expected = "tokenizer.json: not a tokenizer.json: missing field `model` at line 1";
        assert!(message(r#"{"version": "1.0"}"#).starts_with(expected));
    }

    #[test]
    fn what_is_not_unicode_is_refused_wherever_it_is() {
        let file = |text: &[u8]| {
            let start = br#"{"model": {"vocab": {}}, "decoder": [1, -2, 0.5, null, true, {"a": ""#;
            let json = [start, text, b"\"}]}"].concat();
            check(Path::new("tokenizer.json"), &json).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(file(br"\ud83d\ude00"), Ok(()));
        for text in [&br"\ud800"[..], br"\udc00", b"\xff"] {
            let line = file(text).unwrap_err();
            assert!(line.starts_with("tokenizer.json: not a tokenizer.json: "), "{line}");
        }
    }

    #[test]
    fn a_flood_of_values_is_refused() {
        let json = format!("[{}0]", "0,".repeat(MAX_VALUES));
        let expected = "tokenizer.json: about 4000001 JSON values, at most 4000000 allowed";
        assert_eq!(message(&json), expected);
    }

    #[test]
    fn a_flood_of_tokens_is_refused() {
        let words: Vec<String> = (0..=MAX_TOKENS).map(|i| format!("\"{i:x}\":{i}")).collect();
        let words = words.join(",");
        let expected = "1048577 tokens, at most 1048576 allowed";
        let json = format!(r#"{{"model": {{"type": "WordLevel", "vocab": {{{words}}}}}}}"#);
        assert_eq!(message(&json), format!("tokenizer.json: {expected}"));
        let error = gpt2_vocab(Path::new("v.json"), format!("{{{words}}}").as_bytes());
        assert_eq!(error.unwrap_err().to_string(), format!("v.json: {expected}"));
    }

    #[test]
    fn gpt2_vocabularies_are_known_by_content_or_name() {
        let read = |name: &str, json: &str| gpt2_vocab(Path::new(name), json.as_bytes());
        assert_eq!(read("x.json", r#"{"model": 1}"#).unwrap().unwrap()["model"], 1);
        assert!(read("x.json", r#"{"model": {}}"#).unwrap().is_none());
        assert!(read("x.json", "{}").unwrap().is_none());
        let error = read("vocab.json", r#"{"a": -1}"#).unwrap_err().to_string();
        assert!(error.starts_with("vocab.json: not a vocabulary: invalid value"), "{error}");
    }
}
