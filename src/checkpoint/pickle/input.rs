//! The bytes of a pickle, taken from front to back.

/// Longest line, which names a module or something in it.
const MAX_LINE_BYTES: usize = 256;

/// What is left of a pickle.
#[derive(Debug)]
pub(super) struct Input<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl<'p> Input<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Number of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Number of bytes left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'p [u8], String> {
        if n > self.left() {
            let (at, left) = (self.at, self.left());
            return Err(format!("pickle truncated at byte {at}: {n} bytes needed, {left} left"));
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many bytes as asked for"))
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
        let rest = &self.bytes[self.at..];
        match rest.iter().take(MAX_LINE_BYTES).position(|&byte| byte == b'\n') {
            Some(n) => {
                let line = self.text(n)?;
                self.at += 1;
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
}
