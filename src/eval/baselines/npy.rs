//! Word vectors as a NumPy array, with the words in a text file beside it.
//!
//! In: `vectors.npy`, `[n_words][n_dims]` floats, and `vectors.vocab` or `vectors.txt`, a word a
//! line in the same order (what follows a space, such as a count, does not matter). Out: the rows
//! of the words wanted; the others are never read.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::f16;

use super::{room_for_another, Lines};
use crate::error::{shown, Error, Result};

/// First bytes of a NumPy file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Largest header; ours needs about a hundred bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Vectors of the wanted words, and their length.
pub(super) type Kept = (usize, HashMap<String, Vec<f32>>);

/// True for a file that this module reads.
pub(super) fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

/// The vectors of the words in `wanted`. Of a repeated word the last row counts.
pub(super) fn open(path: &Path, wanted: &HashSet<String>) -> Result<Kept> {
    let array = Array::open(path)?;
    let vocabulary = vocabulary_of(path)?;
    let file = File::open(&vocabulary).map_err(|e| Error::io(&vocabulary, e))?;
    let mut lines = Lines::new(&vocabulary, BufReader::with_capacity(1 << 20, file));
    let (mut vectors, mut line, mut row) = (HashMap::new(), Vec::new(), 0usize);
    while lines.next(&mut line)? {
        let text = std::str::from_utf8(&line).map_err(|_| lines.bad("not UTF-8"))?;
        let word = text.split([' ', '\t']).next().unwrap_or_default();
        if row < array.n_rows && wanted.contains(word) {
            room_for_another(path, vectors.len(), array.n_dims)?;
            vectors.insert(word.to_owned(), array.row(row, word)?);
        }
        row = row.saturating_add(1);
    }
    if row != array.n_rows {
        let (expected, name) = (array.n_rows, vocabulary.display());
        let what = format!("expected as many words in {name} as rows, {expected}, found {row}");
        return Err(Error::malformed(path, what));
    }
    Ok((array.n_dims, vectors))
}

/// The file with the words.
fn vocabulary_of(path: &Path) -> Result<PathBuf> {
    let candidates = ["vocab", "txt"].map(|extension| path.with_extension(extension));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let what = format!(
            "its words are missing: expected {stem}.vocab or {stem}.txt beside it, a word a line"
        );
        Error::unsupported(path, what)
    })
}

/// An array of two dimensions on disk.
struct Array<'a> {
    path: &'a Path,
    file: File,
    first: u64,
    /// Bytes of a value.
    width: usize,
    n_rows: usize,
    n_dims: usize,
}

impl<'a> Array<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let bad = |what: String| Error::malformed(path, what);
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let (first, header) = header(&mut file).map_err(bad)?;
        let width = match value_of(&header, "descr").map(|text| text.trim_matches(['\'', '"'])) {
            Some("<f2") => 2,
            Some("<f4") => 4,
            Some("<f8") => 8,
            other => {
                let what = format!(
                    "values of type {}; expected <f2, <f4 or <f8",
                    other.map_or("none".into(), shown)
                );
                return Err(Error::unsupported(path, what));
            }
        };
        if value_of(&header, "fortran_order") != Some("False") {
            return Err(Error::unsupported(path, "column after column; save it in C order"));
        }
        let shape: Option<Vec<usize>> = shape_of(&header);
        let Some([n_rows, n_dims]) = shape.as_deref().and_then(|s| <[usize; 2]>::try_from(s).ok())
        else {
            return Err(bad("expected two dimensions, words and values".into()));
        };
        let bytes = n_rows.checked_mul(n_dims).and_then(|n| n.checked_mul(width));
        let len = file.metadata().map_err(|e| Error::io(path, e))?.len();
        if n_dims == 0 || bytes.is_none_or(|n| len.checked_sub(first) != Some(n as u64)) {
            let found = len.saturating_sub(first);
            return Err(bad(format!(
                "shape [{n_rows}, {n_dims}] does not fit {found} bytes of data"
            )));
        }
        Ok(Self { path, file, first, width, n_rows, n_dims })
    }

    #[expect(
        clippy::arithmetic_side_effects,
        reason = "the bytes of all rows are a number, and the file has them; a value has some"
    )]
    fn row(&self, row: usize, word: &str) -> Result<Vec<f32>> {
        let mut bytes = vec![0; self.n_dims * self.width];
        let at = self.first + row as u64 * bytes.len() as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|e| Error::io(self.path, e))?;
        let values: Vec<f32> = bytes.chunks_exact(self.width).map(float).collect();
        if values.iter().any(|value| !value.is_finite()) {
            let what = format!("row {row} (\"{}\"): not all values are finite", shown(word));
            return Err(Error::non_finite(self.path, what));
        }
        Ok(values)
    }
}

/// One value of 2, 4 or 8 bytes.
fn float(bytes: &[u8]) -> f32 {
    match *bytes {
        [a, b] => f16::from_le_bytes([a, b]).to_f32(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
        _ => f32::NAN,
    }
}

/// Where the data begins, and the Python dictionary before it.
fn header(file: &mut File) -> std::result::Result<(u64, String), String> {
    let cut = |_| "not a NumPy array, or one that is cut".to_string();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(cut)?;
    if !start.starts_with(MAGIC) {
        return Err("not a NumPy array".into());
    }
    let [.., version, _] = start;
    let n = match version {
        1 => 2,
        2 | 3 => 4,
        version => return Err(format!("version {version} of the format is not known")),
    };
    let mut len = Vec::new();
    file.take(n).read_to_end(&mut len).map_err(cut)?;
    let len = match *len {
        [a, b] if n == 2 => u16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => return Err("not a NumPy array, or one that is cut".into()),
    };
    let len = len as usize;
    if len > MAX_HEADER_BYTES {
        return Err(format!("a header of {len} bytes exceeds the limit {MAX_HEADER_BYTES}"));
    }
    let mut text = vec![0; len];
    file.read_exact(&mut text).map_err(cut)?;
    let text = String::from_utf8(text).map_err(|_| "its header is not text".to_string())?;
    let start = start.len() as u64;
    Ok((start.saturating_add(n).saturating_add(len as u64), text))
}

/// The value of a key, up to the comma after it.
fn value_of<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    Some(rest.split([',', '}']).next()?.trim())
}

fn shape_of(header: &str) -> Option<Vec<usize>> {
    let (_, rest) = header.split_once("'shape'")?;
    let (inside, _) =
        rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('(')?.split_once(')')?;
    let numbers = inside.split(',').map(str::trim).filter(|text| !text.is_empty());
    numbers.map(|text| text.parse().ok()).collect()
}
