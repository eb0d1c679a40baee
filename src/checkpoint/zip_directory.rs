//! The entries of a zip file that is read in place.
//!
//! The rawzip crate finds and decodes the directory; it trusts it, and shows every entry. Here each
//! one is held against the rest of the file: stored as it is, inside the file, under the same name
//! where its data is, sharing no byte and no name with another. Checksums are not looked at, for
//! that would mean to read all data twice.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rawzip::{
    CompressionMethod, ErrorKind, ReaderAt, ZipArchive, ZipFileHeaderRecord, ZipLocator,
    MAX_CENTRAL_DIRECTORY_RECORD_SIZE,
};

use crate::error::{shown, Error, Result};

/// Most entries: one for each of the most tensors there may be, and some more.
const MAX_ENTRIES: usize = 100_000;

/// Most bytes of an entry's name.
const MAX_NAME_BYTES: usize = 512;

/// Bytes of a local header before the name.
const LOCAL_HEADER_BYTES: u64 = 30;

/// Where the data of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// From the start of the file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Every entry by its name.
pub(super) type Entries = HashMap<String, Extent>;

/// Reads and checks the directory of `file`, which is at `path` and has `file_bytes`.
pub(super) fn read(path: &Path, file: &File, file_bytes: u64) -> Result<Entries> {
    let directory = Directory::locate(path, file, file_bytes)?;
    let found = directory.entries()?;
    directory.no_overlap(&found)?;
    let mut entries = Entries::with_capacity(found.len());
    for Found { name, extent, .. } in found {
        if entries.contains_key(&name) {
            return Err(Error::malformed(path, format!("zip entry {name:?} is there twice")));
        }
        entries.insert(name, extent);
    }
    Ok(entries)
}

struct Directory<'a> {
    path: &'a Path,
    archive: ZipArchive<Positioned<'a>>,
}

/// An entry, and where it begins: its local header comes before its data.
struct Found {
    name: String,
    header: u64,
    extent: Extent,
}

impl<'a> Directory<'a> {
    fn locate(path: &'a Path, file: &'a File, file_bytes: u64) -> Result<Self> {
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let archive = ZipLocator::new()
            .locate_in_reader(Positioned(file), &mut buffer, file_bytes)
            .map_err(|(_, e)| unreadable(path, e))?;
        if archive.end_offset() != file_bytes {
            let end = archive.end_offset();
            let what = format!("zip ends at byte {end}, file has {file_bytes}");
            return Err(Error::malformed(path, what));
        }
        if archive.entries_hint() > MAX_ENTRIES as u64 {
            let n = archive.entries_hint();
            let what = format!("zip of {n} entries exceeds the limit {MAX_ENTRIES}");
            return Err(Error::malformed(path, what));
        }
        Ok(Self { path, archive })
    }

    fn entries(&self) -> Result<Vec<Found>> {
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let mut local = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let mut entries = self.archive.entries(&mut buffer);
        let mut found = Vec::new();
        while let Some(record) = entries.next_entry().map_err(|e| unreadable(self.path, e))? {
            if found.len() == MAX_ENTRIES {
                let what = format!("zip lists more than {MAX_ENTRIES} entries");
                return Err(Error::malformed(self.path, what));
            }
            found.push(self.check(&record, &mut local)?);
        }
        if found.len() as u64 != self.archive.entries_hint() {
            let (n, hint) = (found.len(), self.archive.entries_hint());
            let what = format!("zip says it has {hint} entries, it lists {n}");
            return Err(Error::malformed(self.path, what));
        }
        Ok(found)
    }

    /// The entry of `record`, if it is stored in the file in one piece under the same name.
    fn check(&self, record: &ZipFileHeaderRecord<'_>, local: &mut [u8]) -> Result<Found> {
        let raw = record.file_path();
        let name = match std::str::from_utf8(raw.as_ref()) {
            Ok(name) if name.len() <= MAX_NAME_BYTES => name,
            _ => {
                let what =
                    format!("zip entry whose name is not UTF-8 or over {MAX_NAME_BYTES} bytes");
                return Err(Error::malformed(self.path, what));
            }
        };
        let refuse =
            |what: &str| Error::malformed(self.path, format!("zip entry {} {what}", quoted(name)));
        let unsupported = |what: &str| {
            Error::unsupported(self.path, format!("zip entry {} {what}", quoted(name)))
        };
        if record.flags().is_encrypted() {
            return Err(unsupported("is encrypted"));
        }
        if record.compression_method() != CompressionMethod::STORE {
            return Err(unsupported("is compressed; only stored entries are supported"));
        }
        let bytes = record.compressed_size_hint();
        if record.uncompressed_size_hint() != bytes {
            let n = record.uncompressed_size_hint();
            return Err(refuse(&format!("is stored in {bytes} bytes but said to have {n}")));
        }
        let header = record.local_header_offset();
        let directory = self.archive.directory_offset();
        let outside = |end: Option<u64>| end.is_none_or(|end| end > directory);
        if outside(header.checked_add(LOCAL_HEADER_BYTES)) {
            return Err(refuse("lies outside the file"));
        }
        let entry = self.archive.get_entry(record.wayfinder());
        let entry = entry.map_err(|e| self.bad_header(name, e))?;
        let (offset, end) = entry.compressed_data_range();
        if outside(Some(end)) {
            return Err(refuse("lies outside the file"));
        }
        let local = entry.local_header(local).map_err(|e| self.bad_header(name, e))?;
        if local.file_path().as_ref() != name.as_bytes() {
            return Err(refuse("has another name where its data is"));
        }
        if local.compression_method() != CompressionMethod::STORE || local.flags().is_encrypted() {
            return Err(refuse("is compressed or encrypted where its data is"));
        }
        Ok(Found { name: name.into(), header, extent: Extent { offset, bytes } })
    }

    fn bad_header(&self, name: &str, error: rawzip::Error) -> Error {
        match error.into_kind() {
            ErrorKind::IO(e) if e.kind() != io::ErrorKind::UnexpectedEof => Error::io(self.path, e),
            _ => {
                let what = format!("zip entry {} is not where the directory says", quoted(name));
                Error::malformed(self.path, what)
            }
        }
    }

    fn no_overlap(&self, found: &[Found]) -> Result<()> {
        let mut sorted: Vec<&Found> = found.iter().collect();
        sorted.sort_by_key(|entry| entry.header);
        for (first, second) in sorted.iter().zip(sorted.iter().skip(1)) {
            if first.extent.offset.saturating_add(first.extent.bytes) > second.header {
                let (a, b) = (quoted(&first.name), quoted(&second.name));
                return Err(Error::malformed(
                    self.path,
                    format!("zip entries {a} and {b} overlap"),
                ));
            }
        }
        Ok(())
    }
}

/// The error for a directory that cannot be found or decoded.
fn unreadable(path: &Path, error: rawzip::Error) -> Error {
    match error.into_kind() {
        ErrorKind::IO(e) if e.kind() != io::ErrorKind::UnexpectedEof => Error::io(path, e),
        ErrorKind::MissingEndOfCentralDirectory => {
            Error::malformed(path, "truncated: the zip has no directory at its end")
        }
        _ => Error::malformed(path, "the directory of the zip is damaged"),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", shown(name))
}

/// A file that is read by position.
struct Positioned<'a>(&'a File);

impl ReaderAt for Positioned<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}
