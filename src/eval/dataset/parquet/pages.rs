//! The values of one column of one row group.
//!
//! In: the bytes of its pages. Out: its texts or numbers. Pages of both versions, plain or by
//! dictionary, stored or packed with Snappy: what pyarrow, and with it the hub, writes by default.

use std::borrow::Cow;

use super::hybrid;
use super::thrift::Value;
use super::{Column, Parsed, Physical};

/// Largest page, unpacked; writers make them of one megabyte.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// Most bytes of all texts of a column.
const MAX_TEXT_BYTES: usize = 256 << 20;

const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE_DICTIONARY: i64 = 8;

const SNAPPY: i64 = 1;

/// Values of one kind.
#[derive(Debug)]
pub(super) enum Values {
    Texts(Texts),
    Numbers(Vec<f64>),
}

/// Texts, and how many bytes they have together.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) texts: Vec<Vec<u8>>,
    bytes: usize,
}

/// All `n_rows` values of a column whose pages are `bytes`.
pub(super) fn read(mut bytes: &[u8], column: &Column, n_rows: usize) -> Parsed<Values> {
    let mut values = Values::none(column.physical);
    let mut dictionary = None;
    while values.len() < n_rows {
        let (header, rest) = Value::read_struct(bytes).ok_or("a page header is cut or wrong")?;
        let sizes = header.size(2).filter(|n| *n <= MAX_PAGE_BYTES).zip(header.size(3));
        let (unpacked, packed) = sizes
            .ok_or_else(|| format!("a page of no size or of more than {MAX_PAGE_BYTES} bytes"))?;
        let (body, rest) = rest.split_at_checked(packed).ok_or("a page is cut")?;
        bytes = rest;
        let page = Page { column, unpacked, body, n_left: n_rows.saturating_sub(values.len()) };
        match header.int(1) {
            Some(DICTIONARY_PAGE) => dictionary = Some(page.dictionary(&header)?),
            Some(DATA_PAGE) => page.data(&header, dictionary.as_ref(), &mut values)?,
            Some(DATA_PAGE_V2) => page.data_v2(&header, dictionary.as_ref(), &mut values)?,
            // Pages of other kinds hold no values.
            _ => {}
        }
    }
    Ok(values)
}

struct Page<'a> {
    column: &'a Column,
    /// Bytes of the body when unpacked.
    unpacked: usize,
    body: &'a [u8],
    /// Values that the column still lacks.
    n_left: usize,
}

impl<'a> Page<'a> {
    fn dictionary(&self, header: &Value<'_>) -> Parsed<Values> {
        let inner = header.field(7).ok_or("a dictionary without a header")?;
        match inner.int(2) {
            Some(PLAIN | PLAIN_DICTIONARY) => {}
            other => return Err(encoding(other)),
        }
        let body = self.unpack(self.body, self.unpacked)?;
        let mut values = Values::none(self.column.physical);
        // One with more entries than there are rows would be of no use.
        let n = inner.size(1).filter(|n| *n <= self.n_left);
        let n = n.ok_or("a dictionary with more entries than rows")?;
        values.push_plain(&body, self.column.physical, n)?;
        Ok(values)
    }

    /// Version 1: levels and values are packed together; the levels begin with their length.
    fn data(
        &self,
        header: &Value<'_>,
        dictionary: Option<&Values>,
        out: &mut Values,
    ) -> Parsed<()> {
        let inner = header.field(5).ok_or("a data page without a header")?;
        let n = self.n_values(inner)?;
        let body = self.unpack(self.body, self.unpacked)?;
        let mut rest = &body[..];
        if self.column.is_optional {
            let (len, after) = rest.split_first_chunk().ok_or("a page is cut")?;
            let len = u32::from_le_bytes(*len) as usize;
            let (levels, after) = after.split_at_checked(len).ok_or("a page is cut")?;
            no_nulls(levels, n)?;
            rest = after;
        }
        out.push(inner.int(2), rest, dictionary, self.column.physical, n)
    }

    /// Version 2: the levels stand before the values and are never packed.
    fn data_v2(
        &self,
        header: &Value<'_>,
        dictionary: Option<&Values>,
        out: &mut Values,
    ) -> Parsed<()> {
        let inner = header.field(8).ok_or("a data page without a header")?;
        let n = self.n_values(inner)?;
        let (definitions, repetitions) = (inner.size(5).unwrap_or(0), inner.size(6).unwrap_or(0));
        let split = repetitions
            .checked_add(definitions)
            .and_then(|n| Some((self.body.split_at_checked(n)?, self.unpacked.checked_sub(n)?)));
        let ((levels, packed), unpacked) = split.ok_or("levels longer than their page")?;
        if self.column.is_optional {
            no_nulls(levels.get(repetitions..).unwrap_or_default(), n)?;
        }
        let values = match inner.bool(7).unwrap_or(true) {
            true => self.unpack(packed, unpacked)?,
            false => Cow::Borrowed(packed),
        };
        out.push(inner.int(4), &values, dictionary, self.column.physical, n)
    }

    fn n_values(&self, inner: &Value<'_>) -> Parsed<usize> {
        let n = inner.size(1).filter(|n| *n <= self.n_left);
        n.ok_or_else(|| "pages with more values than the file has rows".into())
    }

    fn unpack<'b>(&self, packed: &'b [u8], unpacked: usize) -> Parsed<Cow<'b, [u8]>> {
        if self.column.codec != SNAPPY || unpacked == 0 {
            return Ok(Cow::Borrowed(packed));
        }
        // The packed bytes begin with a length of their own, for which memory is taken.
        if snap::raw::decompress_len(packed).ok() != Some(unpacked) {
            return Err("a page of another size than it says".into());
        }
        let unpacked = snap::raw::Decoder::new().decompress_vec(packed);
        unpacked.map(Cow::Owned).map_err(|e| format!("a page cannot be unpacked: {e}"))
    }
}

impl Values {
    fn none(physical: Physical) -> Self {
        match physical {
            Physical::Text => Self::Texts(Texts::default()),
            _ => Self::Numbers(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.texts.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    /// Appends the `n` values of a data page.
    fn push(
        &mut self,
        encoded: Option<i64>,
        bytes: &[u8],
        dictionary: Option<&Self>,
        physical: Physical,
        n: usize,
    ) -> Parsed<()> {
        match (encoded, dictionary) {
            (Some(PLAIN), _) => self.push_plain(bytes, physical, n),
            (Some(PLAIN_DICTIONARY | RLE_DICTIONARY), Some(dictionary)) => {
                let (&width, bytes) = bytes.split_first().ok_or("a page is cut")?;
                let indices = hybrid::read(bytes, width.into(), n);
                let indices = indices.ok_or("the indices of a page are cut or wrong")?;
                self.push_indexed(dictionary, &indices)
            }
            (Some(PLAIN_DICTIONARY | RLE_DICTIONARY), None) => {
                Err("a dictionary is missing".into())
            }
            (other, _) => Err(encoding(other)),
        }
    }

    fn push_plain(&mut self, mut bytes: &[u8], physical: Physical, n: usize) -> Parsed<()> {
        let cut = "a page is cut";
        for _ in 0..n {
            match self {
                Self::Texts(texts) => {
                    let (len, rest) = bytes.split_first_chunk().ok_or(cut)?;
                    let len = u32::from_le_bytes(*len) as usize;
                    let (text, rest) = rest.split_at_checked(len).ok_or(cut)?;
                    texts.push(text)?;
                    bytes = rest;
                }
                Self::Numbers(numbers) => {
                    let (number, rest) = physical.number(bytes).ok_or(cut)?;
                    numbers.push(number);
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    fn push_indexed(&mut self, dictionary: &Self, indices: &[u32]) -> Parsed<()> {
        let outside = "an index outside the dictionary";
        match (self, dictionary) {
            (Self::Texts(texts), Self::Texts(known)) => {
                for &index in indices {
                    texts.push(known.texts.get(index as usize).ok_or(outside)?)?;
                }
            }
            (Self::Numbers(numbers), Self::Numbers(known)) => {
                for &index in indices {
                    numbers.push(*known.get(index as usize).ok_or(outside)?);
                }
            }
            _ => return Err("a dictionary of another kind".into()),
        }
        Ok(())
    }
}

impl Texts {
    fn push(&mut self, text: &[u8]) -> Parsed<()> {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > MAX_TEXT_BYTES {
            return Err(format!("more than {MAX_TEXT_BYTES} bytes of text"));
        }
        self.texts.push(text.to_vec());
        Ok(())
    }
}

/// Of a flat column, level 1 is a value and level 0 is none.
fn no_nulls(levels: &[u8], n: usize) -> Parsed<()> {
    let levels = hybrid::read(levels, 1, n).ok_or("the levels of a page are cut or wrong")?;
    match levels.iter().position(|level| *level == 0) {
        Some(_) => Err("a row without a value".into()),
        None => Ok(()),
    }
}

fn encoding(encoding: Option<i64>) -> String {
    let encoding = encoding.map_or("none".into(), |n| n.to_string());
    format!("encoding {encoding} is not supported; write it plain or with a dictionary")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a page in Thrift's compact encoding: its kind, the bytes of its body, and in
    /// field `inner` the number of its values and how they are encoded. All below 64, a byte each.
    fn header(kind: u8, n_bytes: u8, inner: u8, n_values: u8, encoding: u8) -> Vec<u8> {
        let int = |n: u8| [0x15, 2 * n];
        let inner = [&[(inner - 3) << 4 | 12][..], &int(n_values), &int(encoding), &[0]].concat();
        [&int(kind)[..], &int(n_bytes), &int(n_bytes), &inner, &[0]].concat()
    }

    const TEXTS: Column = Column { physical: Physical::Text, is_optional: false, codec: 0 };

    #[test]
    fn a_page_for_each_of_many_values_takes_no_longer_than_one_for_all() {
        const N: usize = if cfg!(miri) { 100 } else { 100_000 };
        let mut bytes = header(2, 6, 7, 1, 0);
        bytes.extend([2, 0, 0, 0, b'a', b'b']);
        for _ in 0..N {
            // Indices of no bits: the first of the dictionary.
            bytes.extend(header(0, 2, 5, 1, 8));
            bytes.extend([0, 2]);
        }
        let Values::Texts(Texts { texts, bytes }) = read(&bytes, &TEXTS, N).unwrap() else {
            panic!("not texts")
        };
        assert_eq!((texts.len(), bytes), (N, 2 * N));
        assert!(texts.iter().all(|text| text == b"ab"));
    }

    #[test]
    fn texts_beyond_the_limit_are_refused_however_they_are_written() {
        let expected = "more than 268435456 bytes of text";
        let full = || Values::Texts(Texts { texts: vec![], bytes: MAX_TEXT_BYTES - 1 });
        let plain = [2, 0, 0, 0, b'a', b'b'];
        assert_eq!(full().push_plain(&plain, Physical::Text, 1).unwrap_err(), expected);
        let mut dictionary = Values::none(Physical::Text);
        dictionary.push_plain(&plain, Physical::Text, 1).unwrap();
        assert_eq!(full().push_indexed(&dictionary, &[0]).unwrap_err(), expected);
    }
}
