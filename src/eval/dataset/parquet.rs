//! Parquet files: the form in which the hub keeps data sets.
//!
//! In: the bytes of a file. Out: its pairs in file order, or what is wrong with it. Only the
//! score and the two texts are decoded, so what the other columns hold does not matter. These
//! three must be flat and without nulls.
//!
//! ```text
//! PAR1  pages of row group 0, column by column  row group 1 ..  footer  its length (4)  PAR1
//! ```

mod hybrid;
mod pages;
mod thrift;

use std::path::Path;

use super::columns::{known_names, Columns};
use super::rows::{Rows, MAX_LINE_BYTES, MAX_PAIRS};
use super::Pair;
use crate::error::{shown, Error, Result};
use pages::{Texts, Values};
use thrift::Value;

/// First and last four bytes of a file.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Largest footer. Decoded it takes thirty times as much.
const MAX_FOOTER_BYTES: usize = 8 << 20;

/// A value of the file, or what is wrong with it. Which file it is, the caller knows.
type Parsed<T> = std::result::Result<T, String>;

/// Reads at most `limit` pairs.
pub(super) fn read(path: &Path, bytes: &[u8], limit: Option<usize>) -> Result<Rows> {
    let limit = limit.unwrap_or(usize::MAX);
    read_rows(bytes, limit).map_err(|what| Error::malformed(path, what))
}

/// How the values of a column are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Physical {
    Int32,
    Int64,
    Float,
    Double,
    Text,
}

/// One of the three columns.
#[derive(Debug)]
struct Column {
    physical: Physical,
    is_optional: bool,
    codec: i64,
}

fn read_rows(bytes: &[u8], limit: usize) -> Parsed<Rows> {
    let footer = footer(bytes)?;
    let schema = leaves(footer.list(2).ok_or("no schema")?)?;
    let names: Vec<&str> = schema.iter().map(|leaf| leaf.name).collect();
    let columns = Columns::from_header(&names).ok_or_else(|| {
        let names: Vec<String> = names.iter().take(20).map(|name| shown(name)).collect();
        format!("expected {}; found the columns {}", known_names(), names.join(", "))
    })?;
    let (score, a, b) = columns.of_row(&schema.iter().collect::<Vec<_>>()).ok_or("no columns")?;
    let mut rows = Rows { is_mrpc: columns.is_mrpc, ..Rows::default() };
    for group in footer.list(4).ok_or("no row groups")? {
        if rows.pairs.len() >= limit {
            break;
        }
        let n_rows = group.size(3).ok_or("a row group without a number of rows")?;
        if n_rows > MAX_PAIRS.saturating_sub(rows.pairs.len()) {
            return Err(format!("more than {MAX_PAIRS} rows"));
        }
        let column = |leaf| column(bytes, group, leaf, n_rows);
        let (scores, a, b) = (column(score)?, column(a)?, column(b)?);
        push(&mut rows.pairs, scores, a, b, limit)?;
    }
    Ok(rows)
}

/// The decoded footer.
fn footer(bytes: &[u8]) -> Parsed<Value<'_>> {
    let cut = || "not a Parquet file, or one that is cut".to_string();
    let inner = bytes.strip_prefix(MAGIC).and_then(|rest| rest.strip_suffix(MAGIC));
    let (rest, len) = inner.and_then(|inner| inner.split_last_chunk::<4>()).ok_or_else(cut)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_FOOTER_BYTES {
        return Err(format!("a footer of {len} bytes exceeds the limit {MAX_FOOTER_BYTES}"));
    }
    let start = rest.len().checked_sub(len);
    let footer = start.and_then(|start| rest.get(start..)).ok_or_else(cut)?;
    let footer = Value::read_struct(footer);
    Ok(footer.ok_or("the footer is not what Parquet writes")?.0)
}

/// A column of the file's outermost level.
struct Leaf<'a> {
    name: &'a str,
    element: &'a Value<'a>,
}

/// The columns of the outermost level. The schema is a tree, each node before its children.
fn leaves<'a>(schema: &'a [Value<'a>]) -> Parsed<Vec<Leaf<'a>>> {
    let broken = "a schema that does not fit together";
    let mut leaves = Vec::new();
    let mut elements = schema.iter().skip(1);
    while let Some(element) = elements.next() {
        leaves.push(Leaf { name: element.text(4).ok_or(broken)?, element });
        // Past all that is below it.
        let n_children = |element: &Value<'_>| element.size(5).unwrap_or(0);
        let mut left = n_children(element);
        while let Some(others) = left.checked_sub(1) {
            left = others.saturating_add(n_children(elements.next().ok_or(broken)?));
        }
    }
    Ok(leaves)
}

/// All values of a column in one row group.
fn column(bytes: &[u8], group: &Value<'_>, leaf: &Leaf<'_>, n_rows: usize) -> Parsed<Values> {
    let name = shown(leaf.name);
    let at_column = |what: &str| format!("column {name}: {what}");
    let is_it = |chunk: &&Value<'_>| {
        let path = chunk.field(3).and_then(|meta| meta.list(3));
        path.is_some_and(|path| matches!(path, [one] if one.as_text() == Some(leaf.name)))
    };
    let chunk = group.list(1).and_then(|chunks| chunks.iter().find(is_it));
    let meta = chunk.and_then(|chunk| chunk.field(3));
    let meta = meta.ok_or_else(|| at_column("not in every row group, or not flat"))?;
    let column = Column::of(leaf, meta).map_err(|what| at_column(&what))?;
    let first = meta.size(11).filter(|offset| *offset > 0);
    let first = first.into_iter().chain(meta.size(9)).min();
    let pages = first
        .zip(meta.size(7))
        .and_then(|(first, len)| bytes.get(first..first.checked_add(len)?))
        .ok_or_else(|| at_column("its pages are not inside the file"))?;
    let values = pages::read(pages, &column, n_rows);
    values.map_err(|what| at_column(&what))
}

impl Column {
    fn of(leaf: &Leaf<'_>, meta: &Value<'_>) -> Parsed<Self> {
        let is_optional = match leaf.element.int(3) {
            Some(0) => false,
            Some(1) => true,
            _ => return Err("it repeats; one value a row is needed".into()),
        };
        let physical = match meta.int(1) {
            Some(1) => Physical::Int32,
            Some(2) => Physical::Int64,
            Some(4) => Physical::Float,
            Some(5) => Physical::Double,
            Some(6) => Physical::Text,
            _ => return Err("neither a number nor a text".into()),
        };
        let codec = match meta.int(4) {
            Some(codec @ (0 | 1)) => codec,
            other => {
                let names = ["", "", "gzip", "lzo", "brotli", "lz4", "zstd", "lz4"];
                let known = other.and_then(|n| names.get(usize::try_from(n).ok()?));
                let name = known.unwrap_or(&"an unknown method");
                return Err(format!("packed with {name}; write it with snappy or unpacked"));
            }
        };
        Ok(Self { physical, is_optional, codec })
    }
}

impl Physical {
    /// The first number of `bytes`, and the rest.
    fn number(self, bytes: &[u8]) -> Option<(f64, &[u8])> {
        Some(match self {
            Self::Int32 => {
                let (n, rest) = bytes.split_first_chunk()?;
                (i32::from_le_bytes(*n).into(), rest)
            }
            Self::Int64 => {
                let (n, rest) = bytes.split_first_chunk()?;
                (i64::from_le_bytes(*n) as f64, rest)
            }
            Self::Float => {
                let (n, rest) = bytes.split_first_chunk()?;
                (f32::from_le_bytes(*n).into(), rest)
            }
            Self::Double => {
                let (n, rest) = bytes.split_first_chunk()?;
                (f64::from_le_bytes(*n), rest)
            }
            Self::Text => return None,
        })
    }
}

/// Appends the rows of a group, as many as the limit allows.
fn push(pairs: &mut Vec<Pair>, scores: Values, a: Values, b: Values, limit: usize) -> Parsed<()> {
    let Values::Numbers(scores) = scores else { return Err("the score is not a number".into()) };
    let (Values::Texts(Texts { texts: a, .. }), Values::Texts(Texts { texts: b, .. })) = (a, b)
    else {
        return Err("a text is not a text but a number".into());
    };
    for ((score, a), b) in scores.into_iter().zip(a).zip(b) {
        if pairs.len() >= limit {
            break;
        }
        let row = pairs.len().saturating_add(1);
        if !score.is_finite() {
            return Err(format!("row {row}: score {score} is not a finite number"));
        }
        pairs.push(Pair { score, a: text(a, row)?, b: text(b, row)? });
    }
    Ok(())
}

fn text(bytes: Vec<u8>, row: usize) -> Parsed<String> {
    if bytes.is_empty() {
        return Err(format!("row {row}: empty text"));
    }
    if bytes.len() > MAX_LINE_BYTES {
        return Err(format!("row {row}: longer than {MAX_LINE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| format!("row {row}: not UTF-8"))
}
