//! Takes bytes off the front of a slice and never reads past its end.

use std::path::Path;

use crate::error::Error;

/// Why a header is refused, before it is known which file it belongs to.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes break the format.
    Malformed(String),
    /// The bytes are valid, but of a kind that is not handled.
    Unsupported(String),
}

impl Fault {
    /// The error for the file at `path`.
    pub(super) fn in_file(self, path: &Path) -> Error {
        match self {
            Self::Malformed(what) => Error::malformed(path, what),
            Self::Unsupported(what) => Error::unsupported(path, what),
        }
    }

    /// The reason alone.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Malformed(what) | Self::Unsupported(what) => what,
        }
    }
}

/// The bytes break the format.
pub(super) fn malformed<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Malformed(what.into()))
}

/// The bytes are of a kind that is not handled.
pub(super) fn unsupported<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Unsupported(what.into()))
}

/// A position in the bytes of a header.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, position: 0 }
    }

    /// Bytes taken so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    /// The next `n` bytes, which are `what`.
    pub(super) fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], Fault> {
        let split = usize::try_from(n).ok().and_then(|n| self.rest.split_at_checked(n));
        let (taken, rest) = split.ok_or_else(|| self.truncated(n, what))?;
        self.go_on(rest, taken.len());
        Ok(taken)
    }

    /// The next `N` bytes, which are `what`.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let split = self.rest.split_first_chunk();
        let (taken, rest) = split.ok_or_else(|| self.truncated(N as u64, what))?;
        self.go_on(rest, N);
        Ok(*taken)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length, at most `limit`, and as many bytes of UTF-8.
    pub(super) fn string(&mut self, limit: u64, what: &str) -> Result<&'a str, Fault> {
        let at = self.position;
        let len = self.u64(what)?;
        if len > limit {
            return malformed(format!("{what}: length {len} exceeds limit {limit} at byte {at}"));
        }
        let start = self.position;
        std::str::from_utf8(self.take(len, what)?).or_else(|e| {
            let at = start.saturating_add(e.valid_up_to());
            malformed(format!("{what}: not UTF-8 at byte {at}"))
        })
    }

    /// `rest` is what follows the next `n` bytes.
    fn go_on(&mut self, rest: &'a [u8], n: usize) {
        self.rest = rest;
        self.position = self.position.saturating_add(n);
    }

    fn truncated(&self, n: u64, what: &str) -> Fault {
        let (at, left) = (self.position, self.left());
        Fault::Malformed(format!("truncated at byte {at}: {what} needs {n} bytes, {left} left"))
    }
}
