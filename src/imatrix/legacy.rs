//! llama.cpp's older form of an importance matrix, `imatrix.dat`.
//!
//! ```text
//! i32 n_entries
//! n_entries x  i32 length, name   i32 calls   i32 n   f32 sum[n]     sum = calls x mean square
//! optional:    i32 chunk count    i32 length, name of the text
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::file::check;
use super::{Entry, Imatrix};
use crate::error::{shown, Error, Result};
use crate::mmap::Mmap;

/// Longest name of an entry, in bytes: what a GGUF can hold.
const MAX_NAME: u64 = 63;

/// Longest name of a text, in bytes.
const MAX_DATASET: u64 = 1 << 16;

/// Reads the file at `path`, which is not a GGUF.
pub(super) fn read(path: &Path) -> Result<Imatrix> {
    let map = Mmap::open(path)?;
    let mut at = Bytes { path, rest: &map, position: 0 };
    let n_entries = at.count("number of entries")?;
    // Every entry takes 16 bytes at least, so that the loop ends soon after the file does.
    if n_entries == 0 || n_entries.saturating_mul(16) > map.len() as u64 {
        let what = format!("{n_entries} entries in {} bytes; not an importance matrix", map.len());
        return Err(Error::malformed(path, what));
    }
    let mut entries = BTreeMap::new();
    for i in 1..=n_entries {
        let (name, entry) = at.entry(i)?;
        if entries.contains_key(&name) {
            let what = format!("entry {i}: duplicate name \"{}\"", shown(&name));
            return Err(Error::malformed(path, what));
        }
        entries.insert(name, entry);
    }
    let mut imatrix =
        Imatrix { path: path.into(), datasets: Vec::new(), chunk_count: 0, chunk_size: 0, entries };
    if at.left() > 0 {
        // Not negative, so it fits.
        imatrix.chunk_count = at.count("chunk count")? as u32;
    }
    if at.left() > 0 {
        let dataset = at.string(MAX_DATASET, "name of the text")?;
        imatrix.datasets.extend(Some(dataset).filter(|name| !name.is_empty()));
    }
    match at.left() {
        0 => Ok(imatrix),
        n => Err(Error::malformed(path, format!("{n} bytes after the end"))),
    }
}

/// The rest of a file.
struct Bytes<'a> {
    path: &'a Path,
    rest: &'a [u8],
    position: usize,
}

impl<'a> Bytes<'a> {
    fn entry(&mut self, number: u64) -> Result<(String, Entry)> {
        let name = self.string(MAX_NAME, &format!("entry {number}: name"))?;
        let entry = format!("entry \"{}\"", shown(&name));
        if name.is_empty() {
            return Err(self.malformed(format!("entry {number} has no name")));
        }
        let calls = self.count(&format!("{entry}: calls"))?;
        let n = self.count(&format!("{entry}: number of sums"))?;
        if n == 0 {
            return Err(self.malformed(format!("{entry} has no sums")));
        }
        let (sums, _) = self.take(n.saturating_mul(4), &format!("{entry}: sums"))?.as_chunks();
        let sums: Vec<f32> = sums.iter().copied().map(f32::from_le_bytes).collect();
        check(self.path, &name, &sums)?;
        // A file that counted no calls holds means already.
        let counts = vec![calls.max(1) as f32];
        let made = Entry::new(sums, counts);
        Ok((name, made.ok_or_else(|| self.malformed(format!("{entry}: no numbers")))?))
    }

    fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        let split = usize::try_from(n).ok().and_then(|n| self.rest.split_at_checked(n));
        let Some((taken, rest)) = split else {
            let (at, left) = (self.position, self.left());
            let what = format!("truncated at byte {at}: {what} needs {n} bytes, {left} left");
            return Err(self.malformed(what));
        };
        self.rest = rest;
        self.position = self.position.saturating_add(taken.len());
        Ok(taken)
    }

    /// A 32-bit number that must not be negative.
    fn count(&mut self, what: &str) -> Result<u64> {
        let at = self.position;
        let bytes = self.take(4, what)?;
        let n = bytes.first_chunk().copied().map_or(0, i32::from_le_bytes);
        u64::try_from(n).map_err(|_| self.malformed(format!("{what}: {n} at byte {at}")))
    }

    fn string(&mut self, limit: u64, what: &str) -> Result<String> {
        let at = self.position;
        let len = self.count(what)?;
        if len > limit {
            let what = format!("{what}: length {len} exceeds limit {limit} at byte {at}");
            return Err(self.malformed(format!("{what}; not an importance matrix?")));
        }
        let bytes = self.take(len, what)?;
        let text = std::str::from_utf8(bytes);
        Ok(text.map_err(|_| self.malformed(format!("{what}: not UTF-8 at byte {at}")))?.to_owned())
    }

    fn malformed(&self, what: String) -> Error {
        Error::malformed(self.path, what)
    }
}
