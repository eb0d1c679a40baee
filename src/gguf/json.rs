//! Metadata as JSON, for printing. Made from our own typed values, not by gguf-rs: as JSON only
//! the numbers' text is left, and here that is the shortest text that gives the same number back.

use serde_json::{Map, Value as Json};

use super::{Array, GgufFile, Value};

impl GgufFile {
    /// The metadata in the order of the file. A float that is NaN or infinite becomes `null`,
    /// for which JSON has no number.
    pub fn metadata_json(&self) -> Map<String, Json> {
        self.metadata().iter().map(|(key, value)| (key.clone(), json(value))).collect()
    }
}

impl Value {
    /// The value as JSON; a float that is NaN or infinite becomes `null`.
    pub fn to_json(&self) -> Json {
        json(self)
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::U8(n) => (*n).into(),
        Value::I8(n) => (*n).into(),
        Value::U16(n) => (*n).into(),
        Value::I16(n) => (*n).into(),
        Value::U32(n) => (*n).into(),
        Value::I32(n) => (*n).into(),
        Value::F32(n) => (*n).into(),
        Value::Bool(b) => (*b).into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(array) => elements(array),
        Value::U64(n) => (*n).into(),
        Value::I64(n) => (*n).into(),
        Value::F64(n) => (*n).into(),
    }
}

fn elements(array: &Array) -> Json {
    match array {
        Array::U8(n) => list(n),
        Array::I8(n) => list(n),
        Array::U16(n) => list(n),
        Array::I16(n) => list(n),
        Array::U32(n) => list(n),
        Array::I32(n) => list(n),
        Array::F32(n) => list(n),
        Array::Bool(b) => list(b),
        Array::String(texts) => list(texts),
        Array::U64(n) => list(n),
        Array::I64(n) => list(n),
        Array::F64(n) => list(n),
    }
}

fn list<T: Clone + Into<Json>>(elements: &[T]) -> Json {
    elements.iter().cloned().map(Into::into).collect()
}
