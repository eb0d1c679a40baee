//! The JSON files beside the tensors.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::error::{shown, Error, Result};
use crate::mmap::open_regular;

/// Most bytes a configuration may have; real ones have a few hundred. Decoded it takes up to
/// seventy times as much.
const MAX_BYTES: u64 = 1 << 20;

/// The object in the file at `path`; `None` if there is no such file.
pub(super) fn optional(path: PathBuf) -> Result<Option<(PathBuf, Map<String, Json>)>> {
    match path.try_exists() {
        Ok(false) => Ok(None),
        Ok(true) => object(&path).map(|fields| Some((path, fields))),
        Err(e) => Err(Error::io(path, e)),
    }
}

/// All of the file at `path`, at most `max_bytes`.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let (file, len) = open_regular(path)?;
    if len > max_bytes {
        return Err(Error::malformed(path, format!("{len} bytes exceed the limit {max_bytes}")));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // It may grow while it is read.
    file.take(max_bytes).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes)
}

/// The error for JSON in `path` that cannot be read as `what`.
pub(super) fn bad_json(path: &Path, what: &str, e: &serde_json::Error) -> Error {
    Error::malformed(path, format!("{what}: {}", shown(&e.to_string())))
}

fn object(path: &Path) -> Result<Map<String, Json>> {
    let found = match serde_json::from_slice(&read(path, MAX_BYTES)?) {
        Ok(Json::Object(fields)) => return Ok(fields),
        Ok(Json::Array(_)) => "an array",
        Ok(Json::String(_)) => "a string",
        Ok(Json::Number(_)) => "a number",
        Ok(Json::Bool(_)) => "a bool",
        Ok(Json::Null) => "null",
        Err(e) => return Err(bad_json(path, "not valid JSON", &e)),
    };
    Err(Error::malformed(path, format!("expected a JSON object, found {found}")))
}
