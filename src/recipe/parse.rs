//! The JSON of a preset file.

use std::path::Path;

use globset::GlobBuilder;
use serde_json::{Map, Value};

use super::{Choice, LayerRange, Recipe, Rule, TensorLayout};
use crate::error::{shown, Error, Result};
use crate::ggml::TensorType;

const FIELDS: [&str; 5] = ["about", "file_type", "layout", "default", "rules"];
const RULE_FIELDS: [&str; 5] = ["tensors", "layers", "row_multiple_of", "type", "why"];

/// Most rules, and most bytes of a glob; the longest name of a tensor has 63.
const MAX_RULES: usize = 1000;
const MAX_GLOB_BYTES: usize = 256;

/// Reads a preset. Unknown fields are errors: a misspelt one must not be passed over.
pub(super) fn parse(path: &Path, name: &str, text: &str) -> Result<Recipe> {
    let value: Value =
        serde_json::from_str(text).map_err(|e| Error::malformed(path, format!("not JSON: {e}")))?;
    let reader = Reader { path, at: "preset".into() };
    let map = reader.object(&value, &FIELDS)?;
    let layout = match reader.text(map, "layout")? {
        "converter" => TensorLayout::Converter,
        "quantized" => TensorLayout::Quantized,
        other => return Err(reader.wrong("layout", "converter or quantized", other)),
    };
    let rules = map.get("rules").and_then(Value::as_array);
    let rules = rules.ok_or_else(|| reader.wrong("rules", "a list", "something else"))?;
    if rules.len() > MAX_RULES {
        let found = format!("{} rules", rules.len());
        return Err(reader.wrong("rules", &format!("at most {MAX_RULES}"), &found));
    }
    let default = reader.text(map, "default")?;
    Ok(Recipe {
        name: name.to_owned(),
        about: reader.text(map, "about")?.to_owned(),
        file_type: reader.integer(map, "file_type")?,
        layout,
        default: TensorType::from_name(default)
            .ok_or_else(|| reader.wrong("default", "a tensor type", default))?,
        rules: (1..).zip(rules).map(|(number, v)| rule(path, number, v)).collect::<Result<_>>()?,
    })
}

fn rule(path: &Path, number: usize, value: &Value) -> Result<Rule> {
    let reader = Reader { path, at: format!("rule {number}") };
    let map = reader.object(value, &RULE_FIELDS)?;
    let glob = reader.text(map, "tensors")?;
    // A longer one can be more than the crate is able to compile, which is a panic there.
    if glob.len() > MAX_GLOB_BYTES {
        let found = format!("{} bytes", glob.len());
        return Err(reader.wrong("tensors", &format!("at most {MAX_GLOB_BYTES} bytes"), &found));
    }
    let tensors = GlobBuilder::new(glob)
        .build()
        .map_err(|e| reader.wrong("tensors", "a glob", &e.to_string()))?;
    let layers = match map.get("layers") {
        None => None,
        Some(_) => {
            let text = reader.text(map, "layers")?;
            let range = LayerRange::parse(text);
            Some(range.ok_or_else(|| reader.wrong("layers", "edges/N, N or N-M", text))?)
        }
    };
    let row_multiple_of = match map.get("row_multiple_of") {
        None => None,
        Some(_) => Some(reader.integer(map, "row_multiple_of")?.max(1) as usize),
    };
    let choice = match reader.text(map, "type")? {
        "keep" => Choice::Keep,
        name => Choice::Type(
            TensorType::from_name(name)
                .ok_or_else(|| reader.wrong("type", "a tensor type or keep", name))?,
        ),
    };
    let why = reader.text(map, "why")?.to_owned();
    Ok(Rule { tensors: tensors.compile_matcher(), layers, row_multiple_of, choice, why })
}

/// Names the place in every error.
struct Reader<'a> {
    path: &'a Path,
    at: String,
}

impl Reader<'_> {
    fn object<'v>(&self, value: &'v Value, fields: &[&str]) -> Result<&'v Map<String, Value>> {
        let map = value
            .as_object()
            .ok_or_else(|| Error::malformed(self.path, format!("{}: not an object", self.at)))?;
        match map.keys().find(|key| !fields.contains(&key.as_str())) {
            Some(key) => Err(Error::malformed(
                self.path,
                format!(
                    "{}: unknown field \"{}\"; there are {}",
                    self.at,
                    shown(key),
                    fields.join(", ")
                ),
            )),
            None => Ok(map),
        }
    }

    fn text<'v>(&self, map: &'v Map<String, Value>, key: &str) -> Result<&'v str> {
        let missing = || Error::malformed(self.path, format!("{}: no {key}", self.at));
        let value = map.get(key).ok_or_else(missing)?;
        value.as_str().ok_or_else(|| self.wrong(key, "a string", &value.to_string()))
    }

    fn integer(&self, map: &Map<String, Value>, key: &str) -> Result<u32> {
        let missing = || Error::malformed(self.path, format!("{}: no {key}", self.at));
        let value = map.get(key).ok_or_else(missing)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.wrong(key, "a number from 0 to 4294967295", &value.to_string()))
    }

    fn wrong(&self, key: &str, expected: &str, found: &str) -> Error {
        Error::mismatch(self.path, format!("{}: {key}", self.at), expected, shown(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse(Path::new("p.json"), "p", text).unwrap_err().to_string()
    }

    const HEAD: &str = r#""about": "a", "file_type": 1, "layout": "quantized", "default": "q4_k""#;

    #[test]
    fn mistakes_name_the_place() {
        assert!(message("{").starts_with("p.json: not JSON"));
        assert_eq!(message("[]"), "p.json: preset: not an object");
        assert!(message(r#"{"abuot": 1}"#).starts_with("p.json: preset: unknown field \"abuot\""));
        let rule = |rule: &str| message(&format!("{{{HEAD}, \"rules\": [{rule}]}}"));
        assert!(rule(r#"{"tensors": "*", "type": "q4", "why": ""}"#)
            .starts_with("p.json: rule 1: type: expected a tensor type or keep, found q4"));
        assert!(rule(r#"{"tensors": "[", "type": "q4_k", "why": ""}"#).contains("rule 1: tensors"));
        assert!(rule(r#"{"tensors": "*", "type": "q4_k"}"#).ends_with("rule 1: no why"));
        let long = format!(r#"{{"tensors": "{}", "type": "q4_k", "why": ""}}"#, "*a".repeat(129));
        assert!(
            rule(&long).ends_with("rule 1: tensors: expected at most 256 bytes, found 258 bytes")
        );
        let many = vec![r#"{"tensors": "*", "type": "q4_k", "why": ""}"#; 1001].join(",");
        assert!(rule(&many).ends_with("rules: expected at most 1000, found 1001 rules"));
        assert!(rule(r#"{"tensors": "*", "layers": "9-2", "type": "q4_k", "why": ""}"#)
            .contains("edges/N"));
    }
}
