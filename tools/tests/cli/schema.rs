//! Holds a report to the published JSON Schema, with as much of a validator as that schema needs.

use serde_json::Value;

/// Fails with the place of the first value that does not fit.
#[track_caller]
pub fn check(report: &str) {
    let report = serde_json::from_str(report).expect("JSON");
    if let Err(fault) = validate(&report) {
        panic!("{fault}");
    }
}

fn validate(report: &Value) -> Result<(), String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/report.schema.json");
    let root: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    fits(&root, &root, report, "report")
}

/// Keywords that constrain nothing, or nothing beyond what is checked here.
const SILENT: [&str; 7] =
    ["$schema", "$defs", "title", "description", "default", "format", "prefixItems"];

fn fits(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = schema.as_object().ok_or_else(|| format!("{at}: a schema that is no object"))?;
    for (keyword, rule) in schema {
        let holds = match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                fits(root, root.pointer(pointer).expect("a definition"), value, at)?;
                true
            }
            "anyOf" => {
                rule.as_array().unwrap().iter().any(|rule| fits(root, rule, value, at).is_ok())
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|ty| is(ty, value)),
                ty => is(ty, value),
            },
            "minimum" => value.as_f64().is_none_or(|value| value >= rule.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|v| v.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|v| v.len() as u64 <= rule.as_u64().unwrap()),
            "required" => rule.as_array().unwrap().iter().all(|name| {
                value.as_object().is_none_or(|object| object.contains_key(name.as_str().unwrap()))
            }),
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        fits(root, rule, value, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "items" => {
                for (i, value) in value.as_array().into_iter().flatten().enumerate() {
                    fits(root, rule, value, &format!("{at}[{i}]"))?;
                }
                true
            }
            "additionalProperties" => {
                assert!(!schema.contains_key("properties"), "a map alone has these");
                for (name, value) in value.as_object().into_iter().flatten() {
                    fits(root, rule, value, &format!("{at}.{name}"))?;
                }
                true
            }
            keyword => {
                assert!(SILENT.contains(&keyword), "the validator does not know {keyword:?}");
                true
            }
        };
        if !holds {
            return Err(format!("{at}: {keyword} is {rule}, found {value}"));
        }
    }
    Ok(())
}

fn is(ty: &Value, value: &Value) -> bool {
    match ty.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("type {other:?}"),
    }
}

#[test]
fn what_is_no_report_does_not_fit() {
    let fault = |json: &str| validate(&serde_json::from_str(json).unwrap()).unwrap_err();
    assert!(fault("[]").starts_with("report: type is \"object\""));
    assert!(fault("{}").contains("required"));
}

#[test]
fn the_published_reports_fit() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/study");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let reports: Vec<_> = files.filter(|path| path.extension() == Some("json".as_ref())).collect();
    assert!(!reports.is_empty(), "no reports in {folder}");
    for path in reports {
        let report = serde_json::from_slice(&std::fs::read(&path).unwrap()).expect("JSON");
        assert_eq!(validate(&report), Ok(()), "{}", path.display());
    }
}
