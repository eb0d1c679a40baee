//! Data sets of scored text pairs.
//!
//! In: a TSV, CSV, JSONL or Parquet file. Out: pairs in file order, the hash of the file, and which of the
//! two MRPC texts it is. Texts are never trimmed and never normalised. Uses `error` only.
//!
//! - **TSV**: tabs split fields, a quote is an ordinary character, a line ends in LF or CR LF. The
//!   GLUE/MRPC file (`Quality`, `#1 ID`, `#2 ID`, `#1 String`, `#2 String`) is one of these.
//! - **CSV**: commas split fields, quoting as in RFC 4180.
//! - **JSONL**: one object a line.
//! - **Parquet**: flat columns, stored or packed with Snappy.
//!
//! Columns are found by name, in any order and without regard to case: a score (`score`, `label`,
//! `similarity`, `quality`, `gold`, ..) and two texts (`sentence1`/`sentence2`, `text1`/`text2`,
//! `a`/`b`, `#1 String`/`#2 String`, ..). Without a header line a TSV or CSV row is score, text,
//! text. A byte order mark and empty lines do not count. Every error names the file and the line.

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

mod columns;
mod parquet;
mod rows;
mod variant;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

pub use variant::TextVariant;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Two texts and how alike a person called them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The label: finite; larger means more alike.
    pub score: f64,
    /// First text; not empty.
    pub a: String,
    /// Second text; not empty.
    pub b: String,
}

/// Pairs in file order; there is at least one.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// `mrpc` for a file with MRPC's header, else the file name without its extension.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the whole file in lower-case hex, whatever `limit` was.
    pub file_sha256: String,
    /// How the text treats punctuation.
    pub text_variant: TextVariant,
    /// The split as given, else as the file name says, else `None`.
    pub split: Option<String>,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

impl Dataset {
    /// Reads the first `limit` pairs of `path` (all of them without a limit).
    ///
    /// Fails with [`Error::Malformed`] on a row that is not a score and two texts, naming the
    /// line; rows past the limit are not looked at.
    pub fn open(path: impl AsRef<Path>, split: Option<&str>, limit: Option<usize>) -> Result<Self> {
        let path = path.as_ref();
        if limit == Some(0) {
            return Err(Error::argument("a data set of 0 rows was asked for; raise the limit"));
        }
        let bytes = read_all(path)?;
        let rows = rows::read(path, &bytes, limit)?;
        if rows.pairs.is_empty() {
            return Err(Error::malformed(path, "empty data set"));
        }
        // GLUE's test splits: labels that are not there are written as -1.
        if rows.pairs.iter().all(|pair| pair.score == -1.0) {
            let what = "all scores are -1: the labels of this split are withheld; take another";
            return Err(Error::unsupported(path, what));
        }
        let name = if rows.is_mrpc { "mrpc".to_string() } else { stem(path) };
        Ok(Self {
            name,
            path: path.to_path_buf(),
            file_sha256: hex(&Sha256::digest(&bytes)),
            text_variant: TextVariant::of(&rows.pairs),
            split: split.map(str::to_string).or_else(|| split_of_name(&stem(path))),
            pairs: rows.pairs,
        })
    }

    /// True when every score is exactly 0 or 1.
    pub fn is_binary(&self) -> bool {
        self.pairs.iter().all(|pair| pair.score == 0.0 || pair.score == 1.0)
    }

    /// Number of pairs with score 1 if the scores are binary, else `None`.
    pub fn n_positive(&self) -> Option<usize> {
        self.is_binary().then(|| self.pairs.iter().filter(|pair| pair.score == 1.0).count())
    }

    /// The scores, in order.
    pub fn scores(&self) -> Vec<f64> {
        self.pairs.iter().map(|pair| pair.score).collect()
    }
}

fn read_all(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let what = format!("larger than {} MiB; cut it into parts", MAX_FILE_BYTES >> 20);
        return Err(Error::unsupported(path, what));
    }
    Ok(bytes)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The one split that the words of a file name (`sts-dev`, `msr_paraphrase_train`) mention.
fn split_of_name(stem: &str) -> Option<String> {
    let lower = stem.to_lowercase();
    let mut found = lower.split(|c: char| !c.is_alphanumeric()).filter_map(|word| match word {
        "train" | "training" => Some("train"),
        "dev" => Some("dev"),
        "validation" | "valid" | "val" => Some("validation"),
        "test" => Some("test"),
        _ => None,
    });
    let first = found.next()?;
    found.all(|other| other == first).then(|| first.to_string())
}

/// Bytes of a hash, lower-case.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::split_of_name;

    #[test]
    fn the_split_is_a_whole_word_of_the_name() {
        for (name, split) in [
            ("dev", Some("dev")),
            ("msr_paraphrase_train", Some("train")),
            ("validation-00000-of-00001", Some("validation")),
            ("STS-Test", Some("test")),
            ("contest", None),
            ("train-and-test", None),
        ] {
            assert_eq!(split_of_name(name).as_deref(), split, "{name}");
        }
    }
}
