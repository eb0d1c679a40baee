//! Thrift's compact encoding, in which Parquet writes its headers.
//!
//! In: bytes. Out: a tree of numbers, byte strings, lists and structs. Every length is checked
//! against the bytes that are left before anything is allocated.

/// Deepest nesting; Parquet's own is below ten.
const MAX_DEPTH: usize = 24;

/// A decoded value. What Parquet's headers hold besides (floats, maps) is passed over.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Int(i64),
    Bool(bool),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Struct(Vec<(i16, Value<'a>)>),
    Other,
}

impl<'a> Value<'a> {
    /// Reads one struct from the start of `bytes`; also gives the bytes after it.
    pub(super) fn read_struct(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut reader = Reader { rest: bytes };
        let value = reader.value(STRUCT, 0)?;
        Some((value, reader.rest))
    }

    /// The field with number `id` of a struct.
    pub(super) fn field(&self, id: i16) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.iter().find(|field| field.0 == id).map(|field| &field.1),
            _ => None,
        }
    }

    /// The number in field `id`.
    pub(super) fn int(&self, id: i16) -> Option<i64> {
        match self.field(id)? {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The number in field `id`, as a size.
    pub(super) fn size(&self, id: i16) -> Option<usize> {
        self.int(id)?.try_into().ok()
    }

    /// The truth value in field `id`.
    pub(super) fn bool(&self, id: i16) -> Option<bool> {
        match self.field(id)? {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text in field `id`.
    pub(super) fn text(&self, id: i16) -> Option<&'a str> {
        self.field(id)?.as_text()
    }

    /// The list in field `id`.
    pub(super) fn list(&self, id: i16) -> Option<&[Self]> {
        match self.field(id)? {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The text itself.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// A number of seven bits a byte, the lowest first; the top bit says that more follow.
pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, kind: u8, depth: usize) -> Option<Value<'a>> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match kind {
            TRUE => Value::Bool(true),
            FALSE => Value::Bool(false),
            BYTE => Value::Int(i64::from(self.byte()? as i8)),
            4..=6 => Value::Int(self.int()?),
            DOUBLE => self.take(8).map(|_| Value::Other)?,
            BINARY => {
                let len = varint(&mut self.rest)?;
                Value::Bytes(self.take(len.try_into().ok()?)?)
            }
            LIST | SET => self.list(depth)?,
            MAP => self.map(depth)?,
            STRUCT => self.fields(depth)?,
            _ => return None,
        })
    }

    fn fields(&mut self, depth: usize) -> Option<Value<'a>> {
        let (mut fields, mut id) = (Vec::new(), 0i16);
        loop {
            let head = self.byte()?;
            let kind = head & 15;
            if kind == 0 {
                return Some(Value::Struct(fields));
            }
            id = match head >> 4 {
                0 => self.int()?.try_into().ok()?,
                delta => id.checked_add(i16::from(delta))?,
            };
            fields.push((id, self.value(kind, depth.saturating_add(1))?));
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value<'a>> {
        let head = self.byte()?;
        let n = match head >> 4 {
            15 => varint(&mut self.rest)?,
            n => n.into(),
        };
        // Each element takes a byte at least.
        let n = usize::try_from(n).ok().filter(|n| *n <= self.rest.len())?;
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.element(head & 15, depth)?);
        }
        Some(Value::List(items))
    }

    fn map(&mut self, depth: usize) -> Option<Value<'a>> {
        let n = varint(&mut self.rest)?;
        if n == 0 {
            return Some(Value::Other);
        }
        let kinds = self.byte()?;
        for _ in 0..usize::try_from(n).ok().filter(|n| *n <= self.rest.len())? {
            self.element(kinds >> 4, depth)?;
            self.element(kinds & 15, depth)?;
        }
        Some(Value::Other)
    }

    /// As [`value`](Self::value), but a truth value takes a byte here.
    fn element(&mut self, kind: u8, depth: usize) -> Option<Value<'a>> {
        match kind {
            TRUE | FALSE => Some(Value::Bool(self.byte()? == TRUE)),
            kind => self.value(kind, depth.saturating_add(1)),
        }
    }

    /// Signs alternate: 0, -1, 1, -2, ..
    fn int(&mut self) -> Option<i64> {
        let n = varint(&mut self.rest)?;
        let magnitude = (n >> 1) as i64;
        Some(if n & 1 == 0 { magnitude } else { !magnitude })
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_lists_and_signs() {
        // {1: i32 -3, 2: true, 4: list<binary> ["ab"], 5: {} }
        let bytes = [0x15, 0x05, 0x11, 0x29, 0x18, 0x02, b'a', b'b', 0x1c, 0x00, 0x00, 0xff];
        let (value, rest) = Value::read_struct(&bytes).unwrap();
        assert_eq!((value.int(1), value.bool(2), rest), (Some(-3), Some(true), &[0xff][..]));
        assert_eq!(value.list(4).unwrap()[0].as_text(), Some("ab"));
        assert_eq!(value.field(5), Some(&Value::Struct(Vec::new())));
        for n in 0..11 {
            assert_eq!(Value::read_struct(&bytes[..n]), None, "{n} bytes");
        }
    }

    #[test]
    fn lengths_beyond_the_input_allocate_nothing() {
        // A list of 2^62 structs, a text of 2^62 bytes, structs inside structs without end.
        let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
        for head in [&[0x19, 0xfc][..], &[0x18], &[0x1b]] {
            assert_eq!(Value::read_struct(&[head, &huge, &[0x55; 8]].concat()), None);
        }
        assert_eq!(Value::read_struct(&[0x1c; 1000]), None);
        assert_eq!(varint(&mut &[0xff; 20][..]), None);
    }
}
