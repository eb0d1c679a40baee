//! The bytes of a pickle, taken from front to back.

/// Longest line, which names a module or something in it.
const MAX_LINE_BYTES: usize = 256;

/// What is left of a pickle.
#[derive(Debug)]
pub(super) struct Input<'p> {
    rest: &'p [u8],
    at: usize,
}

impl<'p> Input<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// Number of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Number of bytes left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'p [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| self.truncated(n))?;
        self.go_on(rest, n);
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.truncated(N))?;
        self.go_on(rest, N);
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    /// A length or number of four bytes.
    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    /// A text of `n` bytes.
    pub(super) fn text(&mut self, n: usize) -> Result<&'p str, String> {
        let at = self.at;
        std::str::from_utf8(self.take(n)?)
            .map_err(|_| format!("text at byte {at} of the pickle is not UTF-8"))
    }

    /// The text up to the next line feed, which is taken too.
    pub(super) fn line(&mut self) -> Result<&'p str, String> {
        match self.rest.iter().take(MAX_LINE_BYTES).position(|&byte| byte == b'\n') {
            Some(n) => {
                let line = self.text(n)?;
                self.take(1)?;
                Ok(line)
            }
            None => Err(format!("line at byte {} of the pickle does not end", self.at)),
        }
    }

    /// A signed integer of `n` bytes.
    pub(super) fn integer(&mut self, n: usize) -> Result<i64, String> {
        let at = self.at;
        let bytes = self.take(n)?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        match wide.get_mut(..n) {
            Some(low) => low.copy_from_slice(bytes),
            None => return Err(format!("integer of {n} bytes at byte {at} of the pickle")),
        }
        Ok(i64::from_le_bytes(wide))
    }

    /// `rest` is what follows the next `n` bytes.
    fn go_on(&mut self, rest: &'p [u8], n: usize) {
        self.rest = rest;
        self.at = self.at.saturating_add(n);
    }

    fn truncated(&self, n: usize) -> String {
        let (at, left) = (self.at, self.left());
        format!("pickle truncated at byte {at}: {n} bytes needed, {left} left")
    }
}
