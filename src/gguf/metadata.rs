//! Decodes the metadata section, within a budget of memory.

use std::collections::HashSet;

use super::cursor::{malformed, unsupported, Cursor, Fault};
use super::limits;
use super::value::{Array, Metadata, Value, ARRAY};
use crate::error::shown;

/// The next `n_keys` keys with their values; keys are unique and not empty.
pub(super) fn read(at: &mut Cursor<'_>, n_keys: u64) -> Result<Metadata, Fault> {
    let mut keys = HashSet::new();
    let mut metadata = Metadata::new();
    let mut budget = limits::DECODED_BYTES;
    for i in 0..n_keys {
        let key = at.string(limits::KEY_BYTES, &format!("metadata key {i}"))?;
        if key.is_empty() {
            return malformed(format!("metadata key {i} is empty"));
        }
        if !keys.insert(key) {
            return malformed(format!("duplicate metadata key \"{}\"", shown(key)));
        }
        metadata.push((key.into(), value(at, &shown(key), &mut budget)?));
        not_too_long(at)?;
    }
    Ok(metadata)
}

/// The value of `key`, its type first.
fn value(at: &mut Cursor<'_>, key: &str, budget: &mut u64) -> Result<Value, Fault> {
    Ok(match at.u32("value type")? {
        0 => Value::U8(number(at, key, u8::from_le_bytes)?),
        1 => Value::I8(number(at, key, i8::from_le_bytes)?),
        2 => Value::U16(number(at, key, u16::from_le_bytes)?),
        3 => Value::I16(number(at, key, i16::from_le_bytes)?),
        4 => Value::U32(number(at, key, u32::from_le_bytes)?),
        5 => Value::I32(number(at, key, i32::from_le_bytes)?),
        6 => Value::F32(number(at, key, f32::from_le_bytes)?),
        7 => Value::Bool(truth(number(at, key, u8::from_le_bytes)?, key)?),
        8 => Value::String(at.string(limits::STRING_BYTES, key)?.into()),
        ARRAY => Value::Array(array(at, key, budget)?),
        10 => Value::U64(number(at, key, u64::from_le_bytes)?),
        11 => Value::I64(number(at, key, i64::from_le_bytes)?),
        12 => Value::F64(number(at, key, f64::from_le_bytes)?),
        other => return malformed(format!("{key}: unknown value type {other}")),
    })
}

/// The array of `key`, its element type and length first.
fn array(at: &mut Cursor<'_>, key: &str, budget: &mut u64) -> Result<Array, Fault> {
    let element = at.u32("array type")?;
    let len = at.u64("array length")?;
    if len > limits::ARRAY_LEN {
        let limit = limits::ARRAY_LEN;
        return malformed(format!("{key}: array length {len} exceeds limit {limit}"));
    }
    match budget.checked_sub(len.saturating_mul(limits::DECODED_BYTES_PER_ELEMENT)) {
        Some(left) => *budget = left,
        None => {
            let limit = limits::DECODED_BYTES;
            return malformed(format!("{key}: metadata would decode to more than {limit} bytes"));
        }
    }
    Ok(match element {
        0 => Array::U8(numbers(at, key, len, u8::from_le_bytes)?),
        1 => Array::I8(numbers(at, key, len, i8::from_le_bytes)?),
        2 => Array::U16(numbers(at, key, len, u16::from_le_bytes)?),
        3 => Array::I16(numbers(at, key, len, i16::from_le_bytes)?),
        4 => Array::U32(numbers(at, key, len, u32::from_le_bytes)?),
        5 => Array::I32(numbers(at, key, len, i32::from_le_bytes)?),
        6 => Array::F32(numbers(at, key, len, f32::from_le_bytes)?),
        7 => Array::Bool(
            at.take(len, key)?.iter().map(|&b| truth(b, key)).collect::<Result<_, _>>()?,
        ),
        8 => Array::String(strings(at, key, len)?),
        ARRAY => return unsupported(format!("{key}: nested arrays are not supported")),
        10 => Array::U64(numbers(at, key, len, u64::from_le_bytes)?),
        11 => Array::I64(numbers(at, key, len, i64::from_le_bytes)?),
        12 => Array::F64(numbers(at, key, len, f64::from_le_bytes)?),
        other => return malformed(format!("{key}: unknown array type {other}")),
    })
}

fn number<const N: usize, T>(
    at: &mut Cursor<'_>,
    key: &str,
    from_le: fn([u8; N]) -> T,
) -> Result<T, Fault> {
    at.array(key).map(from_le)
}

fn numbers<const N: usize, T>(
    at: &mut Cursor<'_>,
    key: &str,
    len: u64,
    from_le: fn([u8; N]) -> T,
) -> Result<Vec<T>, Fault> {
    let (elements, _) = at.take(len.saturating_mul(N as u64), key)?.as_chunks();
    Ok(elements.iter().copied().map(from_le).collect())
}

fn strings(at: &mut Cursor<'_>, key: &str, len: u64) -> Result<Vec<String>, Fault> {
    // A string takes eight bytes at least, so the file bounds what is reserved here.
    if len.saturating_mul(8) > at.left() {
        let left = at.left();
        return malformed(format!("{key}: {len} strings do not fit in the {left} bytes left"));
    }
    let mut strings = Vec::with_capacity(len as usize);
    for _ in 0..len {
        strings.push(at.string(limits::STRING_BYTES, key)?.into());
        // Here too: one array may be as long as the file.
        not_too_long(at)?;
    }
    Ok(strings)
}

fn not_too_long(at: &Cursor<'_>) -> Result<(), Fault> {
    match at.position() {
        0..=limits::METADATA_BYTES => Ok(()),
        _ => malformed(format!("metadata exceeds {} bytes", limits::METADATA_BYTES)),
    }
}

fn truth(byte: u8, key: &str) -> Result<bool, Fault> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => malformed(format!("{key}: bool is neither 0 nor 1")),
    }
}
