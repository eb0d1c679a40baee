//! What is printed for programs to read.

use std::fs::File;

use serde_json::Value;

use crate::args;
use crate::bytes::GgufBytes;
use crate::workplace::{command, succeeds, Workplace};

fn json(args: Vec<std::ffi::OsString>) -> Value {
    let outcome = succeeds(args);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {}", outcome.stdout))
}

#[test]
fn the_plan_is_what_the_file_holds() {
    let place = Workplace::new();
    for preset in ["bf16", "q5_k_s"] {
        let out = place.path(&format!("{preset}.gguf"));
        let convert = args!["convert", place.path("m"), "--preset", preset, "-o", out, "--json"];
        let plan = json([convert.clone(), args!["--dry-run"]].concat());
        let plan = &plan["plans"][0];
        let done = json(convert);
        let done = &done["files"][0];
        let file = json(args!["inspect", out, "--tensors", "--hash", "--json"]);
        assert_eq!(done["file"].as_str().unwrap(), out.to_str().unwrap());
        for key in ["preset", "file", "file_bytes", "bits_per_weight", "file_type"] {
            assert_eq!(plan[key], done[key], "{key}");
        }
        assert_eq!(file["file_bytes"], plan["file_bytes"]);
        assert_eq!(file["file_bytes"].as_u64().unwrap(), out.metadata().unwrap().len());
        assert_eq!(file["bits_per_weight"].as_f64(), plan["bits_per_weight"].as_f64());
        assert_eq!(file["metadata"]["general.file_type"], plan["file_type"]);
        assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
        let (planned, found) = (list(&plan["tensors"]), list(&file["tensors"]));
        assert_eq!(planned.len(), 24 * 2 + 6);
        assert_eq!(file["n_tensors"].as_u64(), Some(planned.len() as u64));
        for (planned, found) in planned.iter().zip(found) {
            for key in ["name", "shape", "bytes", "offset"] {
                assert_eq!(planned[key], found[key], "{}: {key}", planned["name"]);
            }
            assert_eq!(planned["to"], found["type"]);
            assert!(!planned["why"].as_str().unwrap().is_empty());
        }
        let types = file["tensor_types"].as_object().unwrap();
        let n: u64 = types.values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(n, planned.len() as u64);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// What a file calls its keys and tensors neither ends a line nor steers the terminal.
#[test]
fn inspect_shows_no_control_characters() {
    let place = Workplace::new();
    let name = "\u{1b}[31mred\nkey";
    let file = GgufBytes::new(1, 1).key_u32(name, 7).tensor(name, &[8], 0, 0).data(32);
    let path = place.write("odd.gguf", file.0);
    let text = succeeds(args!["inspect", path, "--tensors"]).stdout;
    assert_eq!(text.matches("\u{fffd}[31mred\u{fffd}key").count(), 2, "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let json = succeeds(args!["inspect", path, "--tensors", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["tensors"][0]["name"], name);
}

#[test]
fn inspect_shows_header_metadata_and_tensors() {
    let (_place, model) = Workplace::with_gguf("q8_0");
    let plain = succeeds(args!["inspect", model]).stdout;
    for part in [
        "m.gguf: GGUF version 3",
        "54 tensors",
        "q8_0 x 18",
        "general.architecture = \"rwkv6\"",
        "rwkv6.block_count = 2 (u32)",
        "300 x string",
    ] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    assert!(!plain.contains("blk.1.time_mix_key.weight"));
    let tensors = succeeds(args!["inspect", model, "--tensors"]).stdout;
    assert!(tensors.contains("blk.1.time_mix_key.weight"), "{tensors}");
}

/// A full disk behind stdout is an error; a reader that has gone is not.
#[test]
fn stdout_that_takes_no_more() {
    let (_place, model) = Workplace::with_gguf("q8_0");
    let args = args!["inspect", model, "--tensors"];
    let full = File::options().write(true).open("/dev/full");
    if let Ok(full) = full {
        let output = command(&args).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{stderr}");
        assert!(stderr.starts_with("error: stdout: No space left"), "{stderr}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&args).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
