//! Baselines that need no language model: mean GloVe vectors.
//!
//! In: a GloVe text file, or an array with its words beside it, and a data set. Out: a similarity for each pair and its correlation with
//! the labels. Protocol: lower case, split on white space, an unknown word counts as a zero vector,
//! a text is the mean over all its words, similarity is the cosine.

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

mod npy;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use super::dataset::Dataset;
use super::metrics::{cosine, spearman};
use crate::error::{Error, Result};

/// Longest line of a GloVe file that is read (300 dimensions need about 3 KiB).
const MAX_LINE_BYTES: usize = 64 << 10;
/// Most different words of a data set: four times those of an unabridged dictionary.
const MAX_WORDS: usize = 1 << 22;
/// Most memory that the kept vectors may take.
const MAX_KEPT_BYTES: usize = 1 << 30;

/// Word vectors of the words of one data set.
#[derive(Debug)]
pub struct Glove {
    n_dims: usize,
    vectors: HashMap<String, Vec<f32>>,
}

/// A baseline measured on a data set.
#[derive(Debug, Clone)]
pub struct BaselineResult {
    /// Similarity of each pair, in order.
    pub similarities: Vec<f64>,
    /// Spearman of the similarities against the scores.
    pub spearman: Option<f64>,
    /// Share of the words, counted with repetition, that the file does not know.
    pub oov_rate: f64,
    /// Wall seconds to embed and compare a pair, loading not counted.
    pub seconds_per_pair: f64,
}

impl Glove {
    /// Reads the vectors of `dataset`'s words from a file of `word v1 v2 ..` lines split by single
    /// spaces; spaces at the end of a line, empty lines and a byte order mark do not count. The first
    /// row sets the number of dimensions; a first line of two whole numbers (the word2vec text
    /// header) sets it too. Of a repeated word the last row counts.
    ///
    /// Rows of other words are only counted. A row with too few or too many values, or a value of
    /// a kept row that is not a finite number, is [`Error::Malformed`] naming the line. A row whose
    /// word holds spaces (some GloVe files have a few) can match no word and is passed over.
    ///
    /// A file `vectors.npy` is a NumPy array `[n_words][n_dims]` of f16, f32 or f64; its words are
    /// in `vectors.vocab` or `vectors.txt` beside it, one a line.
    pub fn open(path: impl AsRef<Path>, dataset: &Dataset) -> Result<Self> {
        let path = path.as_ref();
        let wanted = wanted_words(dataset)?;
        if npy::is_npy(path) {
            let (n_dims, vectors) = npy::open(path, &wanted)?;
            return Ok(Self { n_dims, vectors });
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let mut lines = Lines::new(path, BufReader::with_capacity(1 << 20, file));
        let mut glove: Option<Self> = None;
        let mut line = Vec::new();
        while lines.next(&mut line)? {
            let row = std::str::from_utf8(&line).map_err(|_| lines.bad("not UTF-8"))?;
            // word2vec and fastText end each row with a space.
            let row = row.trim_end_matches(' ');
            let row = if lines.number == 1 { row.trim_start_matches('\u{feff}') } else { row };
            if row.is_empty() {
                continue;
            }
            match &mut glove {
                Some(glove) => glove.row(&lines, row, &wanted)?,
                None => glove = Some(Self::first_row(&lines, row, &wanted)?),
            }
        }
        glove.ok_or_else(|| Error::malformed(path, "empty file"))
    }

    /// Number of values in a vector.
    pub fn n_dims(&self) -> usize {
        self.n_dims
    }

    /// Number of words that were kept.
    pub fn n_words(&self) -> usize {
        self.vectors.len()
    }

    /// Measures the baseline on the data set whose words were read.
    #[expect(clippy::arithmetic_side_effects, reason = "no more words than there are in memory")]
    pub fn evaluate(&self, dataset: &Dataset) -> BaselineResult {
        let start = Instant::now();
        let (mut all, mut oov) = (0usize, 0usize);
        let similarities: Vec<f64> = dataset
            .pairs
            .iter()
            .map(|pair| {
                let (a, known_a, unknown_a) = self.embed(&pair.a);
                let (b, known_b, unknown_b) = self.embed(&pair.b);
                let (known, unknown) = (known_a + known_b, unknown_a + unknown_b);
                all += known + unknown;
                oov += unknown;
                cosine(&a, &b)
            })
            .collect();
        let seconds = start.elapsed().as_secs_f64();
        BaselineResult {
            spearman: spearman(&similarities, &dataset.scores()),
            similarities,
            oov_rate: oov as f64 / all.max(1) as f64,
            seconds_per_pair: seconds / dataset.pairs.len().max(1) as f64,
        }
    }

    /// Mean vector of a text, and how many of its words are known and unknown. A text without
    /// words gives zeros.
    ///
    /// `v = 1/n sum over words of v_word`
    #[expect(clippy::arithmetic_side_effects, reason = "no more words than there are in memory")]
    fn embed(&self, text: &str) -> (Vec<f64>, usize, usize) {
        let (mut known, mut unknown) = (0usize, 0usize);
        let mut mean = vec![0.0; self.n_dims];
        for word in words(&text.to_lowercase()) {
            match self.vectors.get(word) {
                Some(vector) => {
                    known += 1;
                    mean.iter_mut().zip(vector).for_each(|(sum, &v)| *sum += f64::from(v));
                }
                None => unknown += 1,
            }
        }
        let n = (known + unknown).max(1) as f64;
        mean.iter_mut().for_each(|sum| *sum /= n);
        (mean, known, unknown)
    }

    fn first_row(lines: &Lines, row: &str, wanted: &HashSet<String>) -> Result<Self> {
        let fields: Vec<&str> = row.split(' ').collect();
        if let [rows, n_dims] = fields[..] {
            if let (Ok(_), Ok(n_dims)) = (rows.parse::<u64>(), n_dims.parse::<usize>()) {
                if n_dims == 0 || n_dims > MAX_LINE_BYTES {
                    return Err(lines.bad(format!("{n_dims} dimensions")));
                }
                return Ok(Self { n_dims, vectors: HashMap::new() });
            }
        }
        let values = match fields.split_first() {
            Some((_, values)) if !values.is_empty() => values,
            _ => return Err(lines.bad("expected a word and its vector, split by spaces")),
        };
        let mut glove = Self { n_dims: values.len(), vectors: HashMap::new() };
        glove.check_values(lines, values)?;
        glove.row(lines, row, wanted)?;
        Ok(glove)
    }

    fn row(&mut self, lines: &Lines, row: &str, wanted: &HashSet<String>) -> Result<()> {
        let (word, values) = row.split_once(' ').unwrap_or((row, ""));
        let n_values = if values.is_empty() { 0 } else { values.split(' ').count() };
        if n_values != self.n_dims {
            let is_phrase = n_values > self.n_dims
                && values.split(' ').next().is_some_and(|second| second.parse::<f64>().is_err());
            if is_phrase {
                return Ok(());
            }
            let what = format!("expected {} values, found {n_values}", self.n_dims);
            return Err(lines.bad(what));
        }
        if !wanted.contains(word) {
            return Ok(());
        }
        let vector = self.check_values(lines, &values.split(' ').collect::<Vec<_>>())?;
        room_for_another(lines.path, self.vectors.len(), self.n_dims)?;
        self.vectors.insert(word.to_string(), vector);
        Ok(())
    }

    fn check_values(&self, lines: &Lines, values: &[&str]) -> Result<Vec<f32>> {
        let parse = |value: &&str| {
            let number = value.parse::<f32>().ok().filter(|v| v.is_finite());
            number.ok_or_else(|| {
                let cut: String = value.chars().take(40).collect();
                lines.bad(format!("{cut:?} is not a finite number"))
            })
        };
        values.iter().map(parse).collect()
    }
}

/// An error if one vector more than `n_kept`, of `n_dims` values each, would take too much memory.
fn room_for_another(path: &Path, n_kept: usize, n_dims: usize) -> Result<()> {
    let values = n_kept.saturating_add(1).saturating_mul(n_dims);
    if values.saturating_mul(size_of::<f32>()) > MAX_KEPT_BYTES {
        let what = format!("vectors of more than {} MiB are needed", MAX_KEPT_BYTES >> 20);
        return Err(Error::unsupported(path, what));
    }
    Ok(())
}

/// Lower-case words of all texts.
fn wanted_words(dataset: &Dataset) -> Result<HashSet<String>> {
    let texts = dataset.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
    let mut wanted = HashSet::new();
    for text in texts {
        wanted.extend(words(&text.to_lowercase()).map(str::to_string));
        if wanted.len() > MAX_WORDS {
            let what = format!("more than {MAX_WORDS} different words; take fewer of its rows");
            return Err(Error::unsupported(&dataset.path, what));
        }
    }
    Ok(wanted)
}

/// Words split on white space as Python's `str.split` does: Unicode white space and the four
/// separators U+001C to U+001F.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
        .filter(|word| !word.is_empty())
}

/// Numbered lines of bounded length.
struct Lines<'a> {
    path: &'a Path,
    input: BufReader<File>,
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path, input: BufReader<File>) -> Self {
        Self { path, input, number: 0 }
    }

    /// Reads the next line, without its ending, into `line`. False at the end of the file.
    fn next(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        self.number = self.number.saturating_add(1);
        let limit = (MAX_LINE_BYTES as u64).saturating_add(1);
        let mut bounded = self.input.by_ref().take(limit);
        bounded.read_until(b'\n', line).map_err(|e| Error::io(self.path, e))?;
        if line.is_empty() {
            return Ok(false);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > MAX_LINE_BYTES {
            return Err(self.bad(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(true)
    }

    fn bad(&self, what: impl AsRef<str>) -> Error {
        Error::malformed(self.path, format!("line {}: {}", self.number, what.as_ref()))
    }
}
