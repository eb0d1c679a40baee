//! The text formats, read into pairs.
//!
//! In: the bytes of a file. Out: its pairs, or the first bad line.

use std::path::Path;
use std::str;

use serde_json::Value;

use super::columns::{known_names, Columns, SCORES, TEXTS};
use super::{parquet, Pair};
use crate::error::{Error, Result};

/// Longest line (CSV: longest record) that is read.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;
/// Most pairs of one file.
pub(super) const MAX_PAIRS: usize = 1 << 20;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub pairs: Vec<Pair>,
    pub is_mrpc: bool,
}

/// Reads at most `limit` pairs.
pub(super) fn read(path: &Path, bytes: &[u8], limit: Option<usize>) -> Result<Rows> {
    let is_parquet =
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    if is_parquet || bytes.starts_with(parquet::MAGIC) {
        return parquet::read(path, bytes, limit);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = Reader { path, limit, columns: None, rows: Rows::default() };
    match Format::of(path, bytes)? {
        Format::Tsv => reader.tsv(bytes)?,
        Format::Csv => reader.csv(bytes)?,
        Format::Jsonl => reader.jsonl(bytes)?,
    }
    Ok(reader.rows)
}

enum Format {
    Tsv,
    Csv,
    Jsonl,
}

impl Format {
    /// By extension; by the first line where the extension does not tell.
    fn of(path: &Path, bytes: &[u8]) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "tsv" | "tab" => return Ok(Self::Tsv),
            "csv" => return Ok(Self::Csv),
            "jsonl" | "ndjson" => return Ok(Self::Jsonl),
            _ => {}
        }
        let first = lines(bytes).find(|line| !line.is_empty()).unwrap_or_default();
        match first.trim_ascii_start().first() {
            Some(b'{') => Ok(Self::Jsonl),
            Some(b'[') if extension == "json" => {
                Err(Error::unsupported(path, "a JSON array; write one object a line (JSONL)"))
            }
            _ if first.contains(&b'\t') || !first.contains(&b',') => Ok(Self::Tsv),
            _ => Ok(Self::Csv),
        }
    }
}

fn csv_reader(bytes: &[u8]) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes)
}

struct Reader<'a> {
    path: &'a Path,
    limit: Option<usize>,
    /// Known after the first row.
    columns: Option<Columns>,
    rows: Rows,
}

impl Reader<'_> {
    fn tsv(&mut self, bytes: &[u8]) -> Result<()> {
        for (number, line) in (1..).zip(lines(bytes)) {
            if self.is_full() {
                break;
            }
            if line.is_empty() {
                continue;
            }
            self.check_length(number, line.len())?;
            let fields: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
            self.row(number, &fields)?;
        }
        Ok(())
    }

    fn csv(&mut self, bytes: &[u8]) -> Result<()> {
        let mut csv = csv_reader(bytes);
        let mut record = csv::ByteRecord::new();
        let mut count = LineCount { byte: 0, line: 1 };
        let mut last = None;
        while !self.is_full() {
            let more = csv
                .read_byte_record(&mut record)
                .map_err(|e| Error::malformed(self.path, e.to_string()))?;
            if !more {
                if let Some((line, start)) = last {
                    self.check_quotes(line, bytes.get(start..).unwrap_or_default())?;
                }
                break;
            }
            let start = record.position().map_or(0, |position| position.byte() as usize);
            let line = count.line_at(bytes, start);
            last = Some((line, start));
            self.check_length(line, record.as_slice().len())?;
            let fields: Vec<&[u8]> = record.iter().collect();
            self.row(line, &fields)?;
        }
        Ok(())
    }

    /// The reader takes a file that ends inside quotes for whole. `bytes` are the last record, which
    /// begins in `line`: what follows it is a record of its own unless a quote is open.
    fn check_quotes(&self, line: usize, bytes: &[u8]) -> Result<()> {
        let with_more = [bytes, b"\nx\n"].concat();
        if csv_reader(&with_more).byte_records().count() == 1 {
            let what = format!("line {line}: a quote opens in this row and is never closed");
            return Err(Error::malformed(self.path, what));
        }
        Ok(())
    }

    fn jsonl(&mut self, bytes: &[u8]) -> Result<()> {
        for (number, line) in (1..).zip(lines(bytes)) {
            if self.is_full() {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.check_length(number, line.len())?;
            let object = self.utf8(number, line)?;
            let pair = self.json_pair(number, object)?;
            self.push(number, pair)?;
        }
        Ok(())
    }

    /// One row of a TSV or CSV: the header, or a pair.
    fn row(&mut self, line: usize, fields: &[&[u8]]) -> Result<()> {
        let columns = match self.columns {
            Some(columns) => columns,
            None => {
                let names =
                    fields.iter().map(|f| self.utf8(line, f)).collect::<Result<Vec<_>>>()?;
                let (columns, is_header) = self.first_row(line, &names)?;
                self.columns = Some(columns);
                self.rows.is_mrpc = columns.is_mrpc;
                if is_header {
                    return Ok(());
                }
                columns
            }
        };
        let Some((score, a, b)) = columns.of_row(fields) else {
            let what = format!("expected {} fields, found {}", columns.n_fields, fields.len());
            return Err(self.bad(line, what));
        };
        let score = self.utf8(line, score)?;
        let Some(score) = parse_score(score) else {
            return Err(self.bad(line, format!("score {} is not a finite number", shown(score))));
        };
        let (a, b) = (self.utf8(line, a)?.to_string(), self.utf8(line, b)?.to_string());
        self.push(line, Pair { score, a, b })
    }

    /// The columns, and whether the first row was a header.
    fn first_row(&self, line: usize, fields: &[&str]) -> Result<(Columns, bool)> {
        if let Some(columns) = Columns::from_header(fields) {
            return Ok((columns, true));
        }
        if matches!(*fields, [score, _, _] if parse_score(score).is_some()) {
            return Ok((Columns::headless(), false));
        }
        let what = format!(
            "expected a header with {}, or rows of score, text, text; found {} field(s), the first {}",
            known_names(),
            fields.len(),
            shown(fields.first().copied().unwrap_or_default())
        );
        Err(self.bad(line, what))
    }

    fn json_pair(&self, line: usize, object: &str) -> Result<Pair> {
        let value: Value =
            serde_json::from_str(object).map_err(|e| self.bad(line, not_json(&e)))?;
        let Value::Object(map) = &value else {
            return Err(self.bad(line, "not a JSON object"));
        };
        let get = |name: &str| {
            map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let score = SCORES.iter().find_map(|name| get(name));
        let texts = TEXTS.iter().find_map(|(a, b)| Some((get(a)?, get(b)?)));
        let (Some(score), Some((a, b))) = (score, texts) else {
            return Err(self.bad(line, format!("expected {}", known_names())));
        };
        let Some(score) = score.as_f64().filter(|score| score.is_finite()) else {
            let what = format!("score {} is not a finite number", shown(&score.to_string()));
            return Err(self.bad(line, what));
        };
        let (Some(a), Some(b)) = (a.as_str(), b.as_str()) else {
            return Err(self.bad(line, "a text is not a string"));
        };
        Ok(Pair { score, a: a.to_string(), b: b.to_string() })
    }

    fn push(&mut self, line: usize, pair: Pair) -> Result<()> {
        if pair.a.is_empty() || pair.b.is_empty() {
            return Err(self.bad(line, "empty text"));
        }
        if self.rows.pairs.len() == MAX_PAIRS {
            return Err(self.bad(line, format!("more than {MAX_PAIRS} rows; give a limit")));
        }
        self.rows.pairs.push(pair);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.rows.pairs.len() >= limit)
    }

    fn check_length(&self, line: usize, bytes: usize) -> Result<()> {
        if bytes > MAX_LINE_BYTES {
            return Err(self.bad(line, format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        Ok(())
    }

    fn utf8<'b>(&self, line: usize, bytes: &'b [u8]) -> Result<&'b str> {
        str::from_utf8(bytes).map_err(|_| self.bad(line, "not UTF-8"))
    }

    fn bad(&self, line: usize, what: impl AsRef<str>) -> Error {
        Error::malformed(self.path, format!("line {line}: {}", what.as_ref()))
    }
}

/// Counts lines up to the start of a record. The csv crate's own count stands before the empty
/// lines, or the second half of a CR LF, that it skips.
struct LineCount {
    byte: usize,
    line: usize,
}

impl LineCount {
    /// The line of the first character at or after `start` that ends no line.
    fn line_at(&mut self, bytes: &[u8], start: usize) -> usize {
        let ends_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let rest = bytes.get(self.byte..).unwrap_or_default();
        // Up to the start, then on while lines end.
        let n = start.saturating_sub(self.byte).min(rest.len());
        let skipped = rest.iter().skip(n).take_while(|&byte| ends_line(byte)).count();
        let n = n.saturating_add(skipped);
        let ends = rest.iter().take(n).filter(|&&byte| byte == b'\n').count();
        self.byte = self.byte.saturating_add(n);
        self.line = self.line.saturating_add(ends);
        self.line
    }
}

/// The lines of a file without their LF or CR LF. A final line ending does not begin a line.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let n = if bytes.is_empty() { 0 } else { usize::MAX };
    body.split(|&byte| byte == b'\n').take(n).map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// What is wrong, and in which column; the line is known, and is not the first as serde has it.
fn not_json(error: &serde_json::Error) -> String {
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    format!("not JSON: {what} at column {}", error.column())
}

fn parse_score(field: &str) -> Option<f64> {
    field.trim().parse().ok().filter(|score: &f64| score.is_finite())
}

/// A value of the file, quoted, escaped and cut to a length that fits a message.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(40).collect();
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_slices_no_change_panics() {
        let files = [
            ("d.tsv", "score\ttext1\ttext2\r\n1\tone\t\u{e9}\n0.5\tx\ty\n"),
            ("d.csv", "score,text1,text2\n1,\"a, b\",c\n\n0,\"d \"\"e\"\"\",f\n"),
            ("d.jsonl", "{\"score\": 1, \"a\": \"x\", \"b\": \"\\u00e9\"}\n{\"score\":0,\"a\":\"c\",\"b\":\"d\"}"),
        ];
        for (name, text) in files {
            let read = |bytes: &[u8]| super::read(Path::new(name), bytes, None);
            assert_eq!(read(text.as_bytes()).unwrap().pairs.len(), 2, "{name}");
            for n in 0..text.len() {
                let _ = read(&text.as_bytes()[..n]);
                for change in [1, 0x80, 0x2a] {
                    let mut changed = text.as_bytes().to_vec();
                    changed[n] ^= change;
                    let _ = read(&changed);
                }
            }
        }
    }
}
